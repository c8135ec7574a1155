"""A small transformer of texts, in plain torch: it starts from nothing and needs no network.

Shapes: N texts, L tokens, D features, H heads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.batches import Batch
from quickstudy.errors import ConfigError, check_counts
from quickstudy.nets.registry import BACKBONES
from quickstudy.nets.sequences import attention_bias, pooled

_SLOWEST = 10_000.0


@BACKBONES.register("small_transformer")
class SmallTransformer(nn.Module):
    """The mean of a text's tokens after a few layers of attention.

    Each layer normalises what it takes in (Xiong et al. 2020, https://arxiv.org/abs/2002.04745); places are told by
    sines, so that a text may have any length.

    Args:
        vocabulary_size: tokens that it has room for.
        width: D.
        layers: of attention, each with a perceptron behind it.
        heads: H, which divide D.
        dropout: share of the numbers that a layer adds that is dropped in training.

    Raises:
        ConfigError: an option is out of range.
    """

    reads: Mapping[str, Any] = {"name": "text", "options": {}}

    def __init__(
        self, vocabulary_size: int = 8192, width: int = 128, layers: int = 2, heads: int = 4, dropout: float = 0.1
    ) -> None:
        check_counts(vocabulary_size=vocabulary_size, width=width, layers=layers, heads=heads)
        if width % (2 * heads):
            raise ConfigError(f"width={width} is no multiple of 2 * heads={2 * heads}: type width={2 * heads * 16}")
        super().__init__()
        self.vocabulary_size = vocabulary_size
        self.tokens = nn.Embedding(vocabulary_size, width)
        self.layers = nn.ModuleList(_Layer(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    @property
    def blocks_of_layers(self) -> nn.ModuleList:
        """Its layers of attention, from the bottom to the top."""
        return self.layers

    def forward(self, texts: Batch) -> Tensor:
        """Return ``[N, D]`` of ``{"ids": [N, L], "mask": [N, L]}``."""
        ids_NL, mask_NL = texts["ids"], texts["mask"]
        states_NLD = self.tokens(ids_NL)
        states_NLD = states_NLD + _sines(ids_NL.shape[1], states_NLD)
        bias = attention_bias(mask_NL, states_NLD.dtype)
        for layer in self.layers:
            states_NLD = layer(states_NLD, bias)
        return pooled(self.norm(states_NLD), mask_NL, "mean")


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.other_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.asked, self.answered = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wider, self.narrower = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states_NLD: Tensor, bias: Tensor) -> Tensor:
        parts = self.asked(self.norm(states_NLD)).unflatten(-1, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=bias).transpose(1, 2).flatten(2)
        states_NLD = states_NLD + self.dropout(self.answered(seen))
        inner = F.gelu(self.wider(self.other_norm(states_NLD)))
        added: Tensor = states_NLD + self.dropout(self.narrower(inner))
        return added


def _sines(length: int, like: Tensor) -> Tensor:
    """Return ``[L, D]`` of Vaswani et al. 2017, https://arxiv.org/abs/1706.03762."""
    width = like.shape[-1]
    speeds = torch.exp(torch.arange(0, width, 2, device=like.device) * (-math.log(_SLOWEST) / width))
    angles = torch.arange(length, device=like.device)[:, None] * speeds
    return torch.cat([angles.sin(), angles.cos()], 1).to(like.dtype)
