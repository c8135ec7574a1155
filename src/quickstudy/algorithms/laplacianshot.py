"""LaplacianShot: nearest prototypes, and like answers for queries that lie side by side.

Ziko et al. 2020, "Laplacian Regularized Few-Shot Learning", https://arxiv.org/abs/2006.15486
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from quickstudy.algorithms.base import STRATEGIES, EmbeddingAlgorithm
from quickstudy.errors import check_above_zero, check_counts
from quickstudy.functional.distances import squared_euclidean, unit
from quickstudy.functional.prototypes import prototypes


@STRATEGIES.register("laplacianshot")
class LaplacianShot(EmbeddingAlgorithm):
    """Embeddings are centred on their task and scaled to length 1; prototypes are those of the support.

    Args:
        neighbours: how many of a query's nearest queries it listens to.
        strength: of listening.
        iterations: of the bound optimization.
    """

    paper: ClassVar[str] = "Ziko et al. 2020, Laplacian Regularized Few-Shot Learning, https://arxiv.org/abs/2006.15486"
    transductive = True

    def __init__(self, neighbours: int = 3, strength: float = 1.0, iterations: int = 20) -> None:
        super().__init__()
        check_counts(neighbours=neighbours, iterations=iterations)
        check_above_zero(strength=strength)
        self._neighbours, self._strength, self._iterations = neighbours, strength, iterations

    def fit(self, support_SD: Tensor, targets_S: Tensor, ways: int) -> tuple[Tensor, Tensor]:
        """Return the support's centre, ``[D]``, and the prototypes around it, ``[W, D]``."""
        centre_D = prototypes(support_SD, targets_S, ways).mean(0)
        return centre_D, prototypes(unit(support_SD - centre_D), targets_S, ways)

    def logits(self, state: tuple[Tensor, Tensor], query_QD: Tensor) -> Tensor:
        """Return ``[Q, W]`` logits."""
        centre_D, means_WD = state
        # The queries' own mean in place of the support's corrects the shift between the two; fewer queries than classes
        # say nothing of it.
        query_QD = unit(query_QD - (query_QD.mean(0) if len(query_QD) >= len(means_WD) else centre_D))
        distances_QW = squared_euclidean(query_QD, means_WD)
        apart_QQ = squared_euclidean(query_QD, query_QD)
        count = len(query_QD)
        itself_QQ = torch.eye(count, dtype=torch.bool, device=query_QD.device)
        nearest_QK = apart_QQ.masked_fill(itself_QQ, torch.inf).topk(min(self._neighbours, count - 1), largest=False)[1]
        edges_QQ = F.one_hot(nearest_QK, count).sum(1).to(query_QD.dtype)
        logits_QW = -distances_QW
        for _ in range(self._iterations):
            logits_QW = -distances_QW + self._strength * (edges_QQ @ logits_QW.softmax(1))
        return logits_QW
