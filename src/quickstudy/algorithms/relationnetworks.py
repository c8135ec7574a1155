"""Relation networks: a small network learns to compare a query with a class.

Sung et al. 2018, "Learning to Compare: Relation Network for Few-Shot Learning", https://arxiv.org/abs/1711.06025
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.algorithms.base import STRATEGIES, EmbeddingAlgorithm
from quickstudy.functional.prototypes import prototypes
from quickstudy.nets import Encoder


@STRATEGIES.register("relationnetworks")
class RelationNetworks(EmbeddingAlgorithm):
    """Logits are relation scores, from 0 to 1, of the class mean's and the query's feature maps side by side.

    The loss is the paper's, squared error to 1 for the true class and 0 for others. Its comparing network has
    GroupNorm where the paper's has BatchNorm, which would make each answer depend on the other queries.

    Args:
        hidden: filters of the comparing network.
    """

    paper: ClassVar[str] = (
        "Sung et al. 2018, Learning to Compare: Relation Network for Few-Shot Learning, "
        "https://arxiv.org/abs/1711.06025"
    )

    def __init__(self, hidden: int = 64) -> None:
        super().__init__()
        self._hidden = hidden
        self.compare = nn.Sequential()

    def build(self, encoder: Encoder, feature_shape: tuple[int, ...], ways: int) -> None:
        """Make the comparing network: convolutions for feature maps, linear layers for vectors."""
        channels, hidden = feature_shape[0], self._hidden
        if len(feature_shape) == 3 and min(feature_shape[1:]) > 1:
            layers: list[nn.Module] = [nn.Unflatten(1, (2 * channels, *feature_shape[1:]))]
            for width in (2 * channels, hidden):
                layers += [nn.Conv2d(width, hidden, 3, padding=1), nn.GroupNorm(min(8, hidden), hidden), nn.ReLU()]
            layers += [nn.Flatten(), nn.Linear(hidden * feature_shape[1] * feature_shape[2], 8)]
        else:
            size = 2 * math.prod(feature_shape)
            layers = [nn.Linear(size, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Linear(hidden, 8)]
        self.compare = nn.Sequential(*layers, nn.ReLU(), nn.Linear(8, 1), nn.Sigmoid())

    def fit(self, support_SD: Tensor, targets_S: Tensor, ways: int) -> Tensor:
        """Return the class means, ``[W, D]``."""
        return prototypes(support_SD, targets_S, ways)

    def logits(self, state: Tensor, query_QD: Tensor) -> Tensor:
        """Return ``[Q, W]`` relation scores."""
        queries, ways = len(query_QD), len(state)
        width = state.shape[1] // self.feature_shape[0]
        pair = (queries, ways, self.feature_shape[0], width)
        # Channels of the class first, then those of the query, each with its places.
        classes = state.reshape(1, ways, self.feature_shape[0], width).expand(pair)
        asked = query_QD.reshape(queries, 1, self.feature_shape[0], width).expand(pair)
        scores: Tensor = self.compare(torch.cat([classes, asked], 2).reshape(queries * ways, -1))
        return scores.reshape(queries, ways)

    def loss(self, logits_NW: Tensor, targets_N: Tensor) -> Tensor:
        """Return the squared error."""
        wanted_NW = F.one_hot(targets_N, logits_NW.shape[1]).to(logits_NW.dtype)
        return F.mse_loss(logits_NW, wanted_NW)
