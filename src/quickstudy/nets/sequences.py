"""What networks of sequences have in common: layers and masks of attention, and one vector of many.

Shapes: N sequences, W windows, L places, D features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.batches import Batch, fold

Pooling = Literal["mean", "cls", "last", "mean_std"]
"""The vector of a sequence: the mean of its places, the first, the last, or mean and deviation of each feature."""
_LEAST = 1e-6  # below which the root of a variance has no gradient to speak of


class AttentionLayer(nn.Module):
    """Attention and a perceptron behind it, each of which normalises what it takes in and adds to it.

    Xiong et al. 2020, "On Layer Normalization in the Transformer Architecture", https://arxiv.org/abs/2002.04745

    Args:
        width: D.
        heads: which divide D.
        dropout: share of the numbers that are added that is dropped in training.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.other_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.asked, self.answered = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wider, self.narrower = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states_NLD: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return states ``[N, L, D]``; ``bias`` is what ``attention_bias`` returns, where not all look at all."""
        parts = self.asked(self.norm(states_NLD)).unflatten(-1, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=bias).transpose(1, 2).flatten(2)
        states_NLD = states_NLD + self.dropout(self.answered(seen))
        inner = F.gelu(self.wider(self.other_norm(states_NLD)))
        added: Tensor = states_NLD + self.dropout(self.narrower(inner))
        return added


def attention_bias(mask_NL: Tensor, dtype: torch.dtype, causal: bool = False) -> Tensor:
    """Return what is added to attention's scores, ``[N, 1, L, L]``, so that nobody looks at what is masked.

    Added, and of four axes, since libraries ask of a mask ``[N, L]`` whether all of it is set, which ``vmap`` cannot,
    and take a boolean one of four axes for numbers.

    Args:
        mask_NL: what is there.
        dtype: of the scores.
        causal: whether a place looks back alone.
    """
    seen_NQL = mask_NL[:, None, :].expand(-1, mask_NL.shape[1], -1)
    if causal:
        places_L = torch.arange(mask_NL.shape[1], device=mask_NL.device)
        seen_NQL = seen_NQL & (places_L[:, None] >= places_L)
    nothing = torch.zeros((), dtype=dtype, device=mask_NL.device)
    return torch.where(seen_NQL, nothing, torch.finfo(dtype).min)[:, None]


def pooled(states_NLD: Tensor, mask_NL: Tensor, pooling: Pooling) -> Tensor:
    """Return a vector per sequence, ``[N, D]``; nothing of it depends on what is masked."""
    if pooling == "cls":
        return states_NLD[:, 0]
    if pooling == "last":
        last_N = mask_NL.sum(1) - 1
        return states_NLD.take_along_dim(last_N[:, None, None], 1).squeeze(1)
    weights_NL1 = mask_NL[..., None].to(states_NLD.dtype)
    count_N1 = weights_NL1.sum(1)
    mean_ND = (states_NLD * weights_NL1).sum(1) / count_N1
    if pooling == "mean":
        return mean_ND
    off_NLD = (states_NLD - mean_ND[:, None]) * weights_NL1
    return torch.cat([mean_ND, (off_NLD.square().sum(1) / count_N1 + _LEAST).sqrt()], 1)


def by_window(embed: Callable[[Batch], Tensor], texts: Batch) -> Tensor:
    """Return ``[N, D]``: what ``embed`` makes of sequences, and of those in windows the mean over their windows.

    Args:
        embed: makes ``[N, D]`` of ``{"ids": [N, L], "mask": [N, L]}``.
        texts: such, or ``[N, W, L]``; a window that is masked as a whole fills up, and has no part in the mean.
    """
    mask = texts["mask"]
    if mask.ndim == 2:
        return embed(texts)
    there_NW = mask.any(-1)
    first_L = torch.arange(mask.shape[-1], device=mask.device) == 0  # or an empty window would have no vector
    rows = fold({"ids": texts["ids"], "mask": mask | (first_L & ~there_NW[..., None])})
    vectors_VD = embed(rows)
    weights_V1 = there_NW.flatten()[:, None].to(vectors_VD.dtype)
    # Not by a view [N, W, D], which binds a graph to texts of two windows or more.
    of_text_V = torch.arange(vectors_VD.shape[0], device=mask.device) // mask.shape[1]
    sums_ND = vectors_VD.new_zeros(mask.shape[0], vectors_VD.shape[1]).index_add(0, of_text_V, vectors_VD * weights_V1)
    mean_ND: Tensor = sums_ND / there_NW.sum(1)[:, None].to(sums_ND.dtype)
    return mean_ND
