"""Linear probe: logistic regression on embeddings.

Tian et al. 2020, "Rethinking Few-Shot Image Classification: a Good Embedding Is All You Need?",
https://arxiv.org/abs/2003.11539
Boehning 1992, "Multinomial logistic regression algorithm", https://doi.org/10.1007/BF00048682, for the solver.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from quickstudy.algorithms.base import STRATEGIES, EmbeddingAlgorithm
from quickstudy.errors import check_above_zero, check_counts
from quickstudy.functional.distances import unit
from quickstudy.functional.kernels import definite, precise
from quickstudy.functional.prototypes import members


@STRATEGIES.register("linear_probe")
class LinearProbe(EmbeddingAlgorithm):
    """Regularised multinomial regression on embeddings of length 1, with a constant among the features.

    Args:
        regularization: its strength, 1 / C of scikit-learn; on the constant's weights too.
        iterations: of the solver, whose every step uses one matrix that bounds the curvature; a strength far below 1
            takes more.
    """

    paper: ClassVar[str] = (
        "Tian et al. 2020, Rethinking Few-Shot Image Classification: a Good Embedding Is All You Need?, "
        "https://arxiv.org/abs/2003.11539"
    )

    def __init__(self, regularization: float = 1.0, iterations: int = 200) -> None:
        super().__init__()
        check_above_zero(regularization=regularization)
        check_counts(iterations=iterations)
        self._strength, self._iterations = regularization, iterations

    def fit(self, support_SD: Tensor, targets_S: Tensor, ways: int) -> Tensor:
        """Return the weights, ``[D + 1, W]``."""
        features_SF = precise(_lengthened(support_SD))
        # The weights are combinations of the examples: features^T a. Half the identity bounds the loss's curvature.
        kernel_SS = definite(features_SF @ features_SF.mT)
        wanted_SW = members(targets_S, ways, kernel_SS.dtype)
        identity_SS = torch.eye(len(kernel_SS), dtype=kernel_SS.dtype, device=kernel_SS.device)
        factor_SS = torch.linalg.cholesky_ex(kernel_SS / 2 + self._strength * identity_SS)[0]
        dual_SW, ahead_SW = torch.zeros_like(wanted_SW), torch.zeros_like(wanted_SW)
        for step in range(self._iterations):
            excess_SW = (kernel_SS @ ahead_SW).softmax(1) - wanted_SW + self._strength * ahead_SW
            last_SW, dual_SW = dual_SW, ahead_SW - torch.cholesky_solve(excess_SW, factor_SS)
            ahead_SW = dual_SW + step / (step + 3) * (dual_SW - last_SW)
        return (features_SF.mT @ dual_SW.to(features_SF)).to(support_SD)

    def logits(self, state: Tensor, query_QD: Tensor) -> Tensor:
        """Return ``[Q, W]`` logits."""
        return _lengthened(query_QD) @ state


def _lengthened(values_ND: Tensor) -> Tensor:
    return torch.cat([unit(values_ND), torch.ones_like(values_ND[:, :1])], 1)
