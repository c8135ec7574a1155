"""What networks of sequences have in common: masks of attention, and one vector of many.

Shapes: N sequences, L places, D features.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Pooling = Literal["mean", "cls", "last", "mean_std"]
"""The vector of a sequence: the mean of its places, the first, the last, or mean and deviation of each feature."""
_LEAST = 1e-6  # below which the root of a variance has no gradient to speak of


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
