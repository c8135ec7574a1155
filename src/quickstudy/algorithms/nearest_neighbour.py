"""The nearest neighbour rule: a query has the class of the support example closest to it.

Cover & Hart 1967, "Nearest neighbor pattern classification", https://doi.org/10.1109/TIT.1967.1053964
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from quickstudy.algorithms.base import STRATEGIES, EmbeddingAlgorithm
from quickstudy.functional.distances import squared_euclidean
from quickstudy.functional.prototypes import members


@STRATEGIES.register("nearest_neighbour")
class NearestNeighbour(EmbeddingAlgorithm):
    """Logits are minus the squared Euclidean distances to each class's closest support example."""

    paper: ClassVar[str] = (
        "Cover & Hart 1967, Nearest neighbor pattern classification, https://doi.org/10.1109/TIT.1967.1053964"
    )

    def fit(self, support_SD: Tensor, targets_S: Tensor, ways: int) -> tuple[Tensor, Tensor]:
        """Return the support ``[S, D]`` and which class each belongs to, ``[S, W]``."""
        return support_SD, members(targets_S, ways, support_SD.dtype)

    def logits(self, state: tuple[Tensor, Tensor], query_QD: Tensor) -> Tensor:
        """Return ``[Q, W]`` logits."""
        support_SD, members_SW = state
        distances_QS = squared_euclidean(query_QD, support_SD)
        others = torch.where(members_SW.bool(), 0.0, torch.inf).to(distances_QS.dtype)
        return -(distances_QS[:, :, None] + others).amin(1)
