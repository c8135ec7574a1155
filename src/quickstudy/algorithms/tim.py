"""TIM: answers that say much about the queries, each sure of itself and all together even among the classes.

Boudiaf et al. 2020, "Transductive Information Maximization for Few-Shot Learning", https://arxiv.org/abs/2008.11297
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from quickstudy.algorithms.base import STRATEGIES, EmbeddingAlgorithm
from quickstudy.errors import check_above_zero, check_counts
from quickstudy.functional.distances import unit
from quickstudy.functional.prototypes import members


@STRATEGIES.register("tim")
class TIM(EmbeddingAlgorithm):
    """The alternating direction version, in closed form; embeddings are scaled to length 1.

    Training takes the assignments that were found as given: its gradient does not go through the iterations.

    Args:
        iterations: of the two alternating updates; the paper's 150 gain little more, and may begin to overshoot.
        scale: of half the squared distances to the class weights.
        support_weight: of the cross-entropy on the support.
        entropy_weight: of the queries' conditional entropy.
    """

    paper: ClassVar[str] = (
        "Boudiaf et al. 2020, Transductive Information Maximization for Few-Shot Learning, "
        "https://arxiv.org/abs/2008.11297"
    )
    transductive = True
    exact_gradient = False

    def __init__(
        self,
        iterations: int = 100,
        scale: float = 15.0,
        support_weight: float = 0.1,
        entropy_weight: float = 0.1,
    ) -> None:
        super().__init__()
        check_counts(iterations=iterations)
        check_above_zero(scale=scale, support_weight=support_weight, entropy_weight=entropy_weight)
        self._iterations, self._scale = iterations, scale
        self._support, self._entropy = support_weight, entropy_weight

    def fit(self, support_SD: Tensor, targets_S: Tensor, ways: int) -> tuple[Tensor, Tensor]:
        """Return the support ``[S, D]`` and which class each belongs to, ``[S, W]``."""
        return unit(support_SD), members(targets_S, ways, support_SD.dtype)

    def logits(self, state: tuple[Tensor, Tensor], query_QD: Tensor) -> Tensor:
        """Return ``[Q, W]`` logits."""
        support_SD, members_SW = state
        support, queries = len(support_SD), len(query_QD)
        # Class weights stay combinations of the N = S + Q examples, so that inner products are all it takes.
        examples_ND = torch.cat([support_SD, unit(query_QD)])
        examples_ND = examples_ND - examples_ND.detach().mean(0)  # what all share would only cost precision
        kernel_NN = examples_ND @ examples_ND.mT
        on_support = members_SW.new_full((support, 1), self._support / (1 + self._entropy))
        importance_N1 = torch.cat([on_support, members_SW.new_full((queries, 1), support / queries)])
        means_SW = members_SW / members_SW.sum(0)
        weights_NW = torch.cat([means_SW, means_SW.new_zeros(queries, means_SW.shape[1])])
        for _ in range(self._iterations):
            shares_NW = self._logits(kernel_NN.detach(), weights_NW).softmax(1)
            sharp_QW = shares_NW[support:] ** (1 + self._entropy)
            sharp_QW = sharp_QW / sharp_QW.sum(0).sqrt()
            wanted_NW = importance_N1 * torch.cat([members_SW, sharp_QW / sharp_QW.sum(1, keepdim=True)])
            shares_NW = importance_N1 * shares_NW
            weights_NW = (wanted_NW - shares_NW + shares_NW.sum(0) * weights_NW) / wanted_NW.sum(0)
        return self._logits(kernel_NN, weights_NW)[support:]

    def _logits(self, kernel_NN: Tensor, weights_NW: Tensor) -> Tensor:
        """Return minus half the squared distances, but for what all classes share."""
        products_NW = kernel_NN @ weights_NW
        return self._scale * (products_NW - (weights_NW * products_NW).sum(0) / 2)
