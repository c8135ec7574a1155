"""Relation networks: a small network learns to compare a query with a class.

Sung et al. 2018, "Learning to Compare: Relation Network for Few-Shot Learning", https://arxiv.org/abs/1711.06025
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.algorithms.base import STRATEGIES, EmbeddingAlgorithm
from quickstudy.algorithms.held import HeldByClass
from quickstudy.errors import check_counts
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
        check_counts(hidden=hidden)
        self._hidden = hidden
        self.first: nn.Conv2d | nn.Linear
        self.further: nn.Sequential

    def build(self, encoder: Encoder, feature_shape: tuple[int, ...], ways: int) -> None:
        """Make the comparing network: convolutions for feature maps, linear layers for vectors."""
        hidden = self._hidden
        if len(feature_shape) == 3 and min(feature_shape[1:]) > 1:

            def block() -> list[nn.Module]:
                return [nn.GroupNorm(math.gcd(8, hidden), hidden), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)]

            self.first = nn.Conv2d(2 * feature_shape[0], hidden, 3, padding=1)
            places = math.prod(-(-length // 4) for length in feature_shape[1:])
            layers = [*block(), nn.Conv2d(hidden, hidden, 3, padding=1), *block(), nn.Flatten()]
        else:
            self.first = nn.Linear(2 * math.prod(feature_shape), hidden)
            places = 1
            layers = [nn.LayerNorm(hidden), nn.ReLU()]
        self.further = nn.Sequential(*layers, nn.Linear(hidden * places, 8), nn.ReLU(), nn.Linear(8, 1), nn.Sigmoid())

    def fit(self, support_SD: Tensor, targets_S: Tensor, ways: int) -> Tensor:
        """Return what the first layer makes of the classes, with a leading axis of W."""
        return self._first_layer(prototypes(support_SD, targets_S, ways), 0)

    def hold(self, state: Tensor, support: Sequence[Tensor]) -> HeldByClass:
        """Return rows that a class updates alone."""
        return HeldByClass(self.fit, state)

    def logits(self, state: Tensor, query_QD: Tensor) -> Tensor:
        """Return ``[Q, W]`` relation scores."""
        # The first layer is linear, so that a query and a class pass it once each, and not once for each pair.
        pairs = self._first_layer(query_QD, 1)[:, None] + state
        scores: Tensor = self.further(pairs.flatten(0, 1))
        return scores.reshape(pairs.shape[:2])

    def _first_layer(self, features_ND: Tensor, side: int) -> Tensor:
        half = self.first.weight.shape[1] // 2
        weight = self.first.weight.narrow(1, side * half, half)
        bias = self.first.bias if side == 0 else None
        if isinstance(self.first, nn.Linear):
            return F.linear(features_ND, weight, bias)
        return F.conv2d(features_ND.reshape(-1, *self.feature_shape), weight, bias, padding=1)

    def loss(self, logits_NW: Tensor, targets_N: Tensor) -> Tensor:
        """Return the squared error."""
        wanted_NW = F.one_hot(targets_N, logits_NW.shape[1]).to(logits_NW.dtype)
        return F.mse_loss(logits_NW, wanted_NW)
