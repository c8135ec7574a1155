"""Nearest centroid after centring and scaling to length 1: the baseline that many methods do not beat.

Wang et al. 2019, "SimpleShot: Revisiting Nearest-Neighbor Classification for Few-Shot Learning",
https://arxiv.org/abs/1911.04623
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from quickstudy.algorithms.base import STRATEGIES, EmbeddingAlgorithm
from quickstudy.functional.distances import squared_euclidean, unit
from quickstudy.functional.prototypes import prototypes


@STRATEGIES.register("nearest_centroid")
class NearestCentroid(EmbeddingAlgorithm):
    """Centred on the mean of the class means, so that it needs no training data, whose mean is the paper's centre."""

    paper: ClassVar[str] = (
        "Wang et al. 2019, SimpleShot: Revisiting Nearest-Neighbor Classification for Few-Shot Learning, "
        "https://arxiv.org/abs/1911.04623"
    )

    def fit(self, support_SD: Tensor, targets_S: Tensor, ways: int) -> tuple[Tensor, Tensor]:
        """Return the centre ``[D]`` and the centroids ``[W, D]``."""
        centre_D = prototypes(support_SD, targets_S, ways).mean(0)
        return centre_D, prototypes(unit(support_SD - centre_D), targets_S, ways)

    def logits(self, state: tuple[Tensor, Tensor], query_QD: Tensor) -> Tensor:
        """Return ``[Q, W]`` logits."""
        centre_D, centroids_WD = state
        return -squared_euclidean(unit(query_QD - centre_D), centroids_WD)
