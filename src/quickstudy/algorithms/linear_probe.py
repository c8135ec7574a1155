"""Linear probe: logistic regression on embeddings.

Tian et al. 2020, "Rethinking Few-Shot Image Classification: a Good Embedding Is All You Need?",
https://arxiv.org/abs/2003.11539
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from quickstudy.algorithms.base import STRATEGIES, EmbeddingAlgorithm
from quickstudy.errors import check_above_zero, check_choice, check_counts
from quickstudy.functional.distances import unit
from quickstudy.functional.kernels import double
from quickstudy.functional.logistic import chosen_strength, logistic


@STRATEGIES.register("linear_probe")
class LinearProbe(EmbeddingAlgorithm):
    """Regularised multinomial regression on embeddings of length 1, with a constant among the features.

    Args:
        regularization: its strength, 1 / C of scikit-learn; on the constant's weights too. ``"auto"`` chooses it, by
            the likelihood of examples of the support set that are held out in turn: 0.1 where each class has one.
        iterations: of the solver at most, which stops at the optimum.
        class_weight: ``"balanced"``, as scikit-learn's: each class counts the same, however many examples it has. None:
            each example does.
    """

    paper: ClassVar[str] = (
        "Tian et al. 2020, Rethinking Few-Shot Image Classification: a Good Embedding Is All You Need?, "
        "https://arxiv.org/abs/2003.11539"
    )
    former: ClassVar[dict[str, Any]] = {"regularization": 1.0}

    def __init__(
        self,
        regularization: float | Literal["auto"] = "auto",
        iterations: int = 200,
        class_weight: Literal["balanced"] | None = None,
    ) -> None:
        super().__init__()
        if isinstance(regularization, str):
            check_choice("regularization", regularization, "auto")
        else:
            check_above_zero(regularization=regularization)
        check_counts(iterations=iterations)
        if class_weight is not None:
            check_choice("class_weight", class_weight, "balanced")
        self._strength = None if regularization == "auto" else float(regularization)
        self._iterations, self._weight = iterations, class_weight

    def fit(self, support_SD: Tensor, targets_S: Tensor, ways: int) -> Tensor:
        """Return the weights, ``[D + 1, W]``."""
        features_SF = _lengthened(support_SD)
        balanced = self._weight is not None
        return logistic(features_SF, targets_S, ways, self._strength, self._iterations, balanced)

    def settled(self, support_SD: Tensor, targets_S: Tensor, ways: int) -> LinearProbe:
        """Return one with the strength that this support set asks for."""
        if self._strength is not None:
            return self
        features_SF = double(_lengthened(support_SD))
        strength = chosen_strength(features_SF, targets_S.to(features_SF.device), ways)
        return LinearProbe(float(strength), self._iterations, self._weight).train(self.training)

    def logits(self, state: Tensor, query_QD: Tensor) -> Tensor:
        """Return ``[Q, W]`` logits."""
        return _lengthened(query_QD) @ state


def _lengthened(values_ND: Tensor) -> Tensor:
    return torch.cat([unit(values_ND), torch.ones_like(values_ND[:, :1])], 1)
