"""The nearest neighbour rule: a query has the class of the support example closest to it.

Cover & Hart 1967, "Nearest neighbor pattern classification", https://doi.org/10.1109/TIT.1967.1053964
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from quickstudy.algorithms.base import STRATEGIES, EmbeddingAlgorithm
from quickstudy.algorithms.held import HeldByExample
from quickstudy.functional.distances import squared_euclidean
from quickstudy.functional.prototypes import counts, nearest_members


@STRATEGIES.register("nearest_neighbour")
class NearestNeighbour(EmbeddingAlgorithm):
    """Logits are minus the squared Euclidean distances to each class's closest support example."""

    paper: ClassVar[str] = (
        "Cover & Hart 1967, Nearest neighbor pattern classification, https://doi.org/10.1109/TIT.1967.1053964"
    )

    def fit(self, support_SD: Tensor, targets_S: Tensor, ways: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the support ``[S, D]``, the class of each ``[S]``, and how many each has, ``[W]``."""
        return support_SD, targets_S, counts(targets_S, ways)

    def hold(self, state: tuple[Tensor, Tensor, Tensor], support: Sequence[Tensor]) -> HeldByExample:
        """Return rows that are added and taken out."""
        return HeldByExample(self.fit, state)

    def logits(self, state: tuple[Tensor, Tensor, Tensor], query_QD: Tensor) -> Tensor:
        """Return ``[Q, W]`` logits."""
        support_SD, targets_S, counts_W = state
        return -nearest_members(squared_euclidean(query_QD, support_SD), targets_S, counts_W)
