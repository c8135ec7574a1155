"""TIM: answers that say much about the queries, each sure of itself and all together even among the classes.

Boudiaf et al. 2020, "Transductive Information Maximization for Few-Shot Learning", https://arxiv.org/abs/2008.11297
"""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from quickstudy.algorithms.base import STRATEGIES, EmbeddingAlgorithm
from quickstudy.functional.distances import squared_euclidean
from quickstudy.functional.prototypes import members


@STRATEGIES.register("tim")
class TIM(EmbeddingAlgorithm):
    """The alternating direction version, in closed form; embeddings are scaled to length 1.

    Args:
        iterations: of the two alternating updates.
        temperature: scale of half the squared distances.
        support_weight: of the cross-entropy on the support.
        entropy_weight: of the queries' conditional entropy.
    """

    paper: ClassVar[str] = (
        "Boudiaf et al. 2020, Transductive Information Maximization for Few-Shot Learning, "
        "https://arxiv.org/abs/2008.11297"
    )
    transductive = True

    def __init__(
        self,
        iterations: int = 150,
        temperature: float = 15.0,
        support_weight: float = 0.1,
        entropy_weight: float = 0.1,
    ) -> None:
        super().__init__()
        self._iterations, self._scale = iterations, temperature
        self._support, self._entropy = support_weight, entropy_weight

    def fit(self, support_SD: Tensor, targets_S: Tensor, ways: int) -> tuple[Tensor, Tensor]:
        """Return the support ``[S, D]`` and which class each belongs to, ``[S, W]``."""
        return F.normalize(support_SD, dim=1), members(targets_S, ways, support_SD.dtype)

    def logits(self, state: tuple[Tensor, Tensor], query_QD: Tensor) -> Tensor:
        """Return ``[Q, W]`` logits."""
        support_SD, members_SW = state
        query_QD = F.normalize(query_QD, dim=1)
        on_support = self._support / (1 + self._entropy)
        on_query = len(support_SD) / len(query_QD)
        weights_WD = members_SW.mT @ support_SD / members_SW.sum(0)[:, None]
        for _ in range(self._iterations):
            known_SW, asked_QW = self._shares(support_SD, weights_WD), self._shares(query_QD, weights_WD)
            sharp_QW = asked_QW ** (1 + self._entropy)
            sharp_QW = sharp_QW / sharp_QW.sum(0).sqrt()
            sharp_QW = sharp_QW / sharp_QW.sum(1, keepdim=True)
            pulled_WD = on_support * _pull(members_SW, known_SW, support_SD, weights_WD)
            pulled_WD = pulled_WD + on_query * _pull(sharp_QW, asked_QW, query_QD, weights_WD)
            total_W = on_support * members_SW.sum(0) + on_query * sharp_QW.sum(0)
            weights_WD = pulled_WD / total_W[:, None]
        return -self._scale / 2 * squared_euclidean(query_QD, weights_WD)

    def _shares(self, examples_ND: Tensor, weights_WD: Tensor) -> Tensor:
        return (-self._scale / 2 * squared_euclidean(examples_ND, weights_WD)).softmax(1)


def _pull(wanted_NW: Tensor, shares_NW: Tensor, examples_ND: Tensor, weights_WD: Tensor) -> Tensor:
    """Return the sum over examples of ``wanted * z + shares * (w - z)``, ``[W, D]``."""
    return (wanted_NW - shares_NW).mT @ examples_ND + shares_NW.sum(0)[:, None] * weights_WD
