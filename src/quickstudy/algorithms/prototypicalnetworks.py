"""Prototypical networks: each class is the mean of its support embeddings.

Snell et al. 2017, "Prototypical Networks for Few-shot Learning", https://arxiv.org/abs/1703.05175
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from quickstudy.algorithms.base import STRATEGIES, EmbeddingAlgorithm
from quickstudy.functional.distances import squared_euclidean
from quickstudy.functional.prototypes import prototypes


@STRATEGIES.register("prototypicalnetworks")
class PrototypicalNetworks(EmbeddingAlgorithm):
    """Logits are minus the squared Euclidean distances to the class means."""

    paper: ClassVar[str] = (
        "Snell et al. 2017, Prototypical Networks for Few-shot Learning, https://arxiv.org/abs/1703.05175"
    )

    def fit(self, support_SD: Tensor, targets_S: Tensor, ways: int) -> Tensor:
        """Return the prototypes, ``[W, D]``."""
        return prototypes(support_SD, targets_S, ways)

    def logits(self, state: Tensor, query_QD: Tensor) -> Tensor:
        """Return ``[Q, W]`` logits."""
        return -squared_euclidean(query_QD, state)
