"""A small transformer of texts, in plain torch: it starts from nothing and needs no network.

Shapes: N texts, L tokens, D features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from quickstudy.batches import Batch
from quickstudy.errors import ConfigError, check_counts
from quickstudy.nets.registry import BACKBONES
from quickstudy.nets.sequences import AttentionLayer, attention_bias, by_window, pooled
from quickstudy.text.modality import VOCABULARY_SIZE

_SLOWEST = 10_000.0


@BACKBONES.register("small_transformer")
class SmallTransformer(nn.Module):
    """The mean of a text's tokens after a few layers of attention.

    Places are told by sines, so that a text may have any length.

    Args:
        vocabulary_size: tokens that it has room for; more follow from the data.
        width: D.
        layers: of attention, each with a perceptron behind it.
        heads: of each layer; half of D is a multiple of them.
        dropout: share of the numbers that a layer adds that is dropped in training.

    Raises:
        ConfigError: an option is out of range.
    """

    reads: Mapping[str, Any] = {"name": "text", "options": {}}

    def __init__(
        self,
        vocabulary_size: int = VOCABULARY_SIZE,
        width: int = 128,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
    ) -> None:
        check_counts(vocabulary_size=vocabulary_size, width=width, layers=layers, heads=heads)
        if width % (2 * heads):
            raise ConfigError(f"width={width} is no multiple of 2 * heads={2 * heads}: type width={2 * heads * 16}")
        super().__init__()
        self.vocabulary_size = vocabulary_size
        self.tokens = nn.Embedding(vocabulary_size, width)
        self.layers = nn.ModuleList(AttentionLayer(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    @property
    def blocks_of_layers(self) -> nn.ModuleList:
        """Its layers of attention, from the bottom to the top."""
        return self.layers

    def forward(self, texts: Batch) -> Tensor:
        """Return ``[N, D]`` of ``{"ids": [N, L], "mask": [N, L]}``, or of windows ``[N, W, L]``."""
        return by_window(self._embedded, texts)

    def elements(self, texts: Batch) -> tuple[Tensor, Tensor]:
        """Return the state of each token, ``[N, L, D]``, and which of them are asked for."""
        return self._states(texts), texts.get("asked", texts["mask"])

    def _embedded(self, texts: Batch) -> Tensor:
        return pooled(self._states(texts), texts["mask"], "mean")

    def _states(self, texts: Batch) -> Tensor:
        ids_NL, mask_NL = texts["ids"], texts["mask"]
        states_NLD = self.tokens(ids_NL)
        states_NLD = states_NLD + _sines(ids_NL.shape[1], states_NLD)
        bias = attention_bias(mask_NL, states_NLD.dtype)
        for layer in self.layers:
            states_NLD = layer(states_NLD, bias)
        normed: Tensor = self.norm(states_NLD)
        return normed


class TokenCounts(nn.Module):
    """How often each token stands in a text, of length 1: what texts have in common.

    Args:
        known: how many tokens there are.
    """

    def __init__(self, known: int = VOCABULARY_SIZE) -> None:
        super().__init__()
        self.known = known

    def forward(self, texts: Batch) -> Tensor:
        """Return ``[N, known]``."""
        ids_NL, mask_NL = texts["ids"], texts["mask"]
        counts = torch.zeros(len(ids_NL), self.known).scatter_add_(1, ids_NL, mask_NL.float())
        return nn.functional.normalize(counts)


def _sines(length: int, like: Tensor) -> Tensor:
    """Return ``[L, D]`` of Vaswani et al. 2017, https://arxiv.org/abs/1706.03762."""
    width = like.shape[-1]
    speeds = torch.exp(torch.arange(0, width, 2, device=like.device) * (-math.log(_SLOWEST) / width))
    angles = torch.arange(length, device=like.device)[:, None] * speeds
    return torch.cat([angles.sin(), angles.cos()], 1).to(like.dtype)
