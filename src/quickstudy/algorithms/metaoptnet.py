"""MetaOptNet: a convex classifier on top, solved to its optimum in every episode.

Lee et al. 2019, "Meta-Learning with Differentiable Convex Optimization", https://arxiv.org/abs/1904.03758
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from quickstudy.algorithms.base import STRATEGIES, EmbeddingAlgorithm
from quickstudy.algorithms.held import Held, held_ridge
from quickstudy.errors import check_above_zero, check_choice, given
from quickstudy.functional.kernels import precise
from quickstudy.functional.prototypes import members
from quickstudy.functional.ridge import ridge_classifier
from quickstudy.functional.svm import svm_dual


@STRATEGIES.register("metaoptnet")
class MetaOptNet(EmbeddingAlgorithm):
    """Logits are the classifier's values times a learned scale.

    Args:
        head: ``"svm"``, a multi-class support vector machine, or ``"ridge"``, ridge regression.
        regularization: its strength; by default 10 for the machine, whose C is 1 / strength, and 50 for the regression.
        scale: where the scale starts.
    """

    paper: ClassVar[str] = (
        "Lee et al. 2019, Meta-Learning with Differentiable Convex Optimization, https://arxiv.org/abs/1904.03758"
    )

    def __init__(
        self,
        head: Literal["svm", "ridge"] = "svm",
        regularization: float | None = None,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        check_choice("head", head, "svm", "ridge")
        check_above_zero(scale=scale, **given(regularization=regularization))
        self._svm = head == "svm"
        self._regularization = regularization or (10.0 if self._svm else 50.0)
        self.scale = nn.Parameter(torch.tensor(float(scale)))

    def fit(self, support_SD: Tensor, targets_S: Tensor, ways: int) -> Tensor:
        """Return the classifier's weights, ``[W, D]``."""
        if self._svm:
            wanted_SW = members(targets_S, ways, support_SD.dtype)
            precise_SD = precise(support_SD)
            dual_SW = svm_dual(precise_SD @ precise_SD.mT, wanted_SW, 1 / self._regularization)
            return (dual_SW.mT @ precise_SD).to(support_SD)
        return ridge_classifier(support_SD, targets_S, ways, self._regularization)

    def hold(self, state: Tensor, support: Sequence[Tensor]) -> Held | None:
        """Return weights that examples update: of a regression with more of them than features."""
        return None if self._svm else held_ridge(support, self._regularization)

    def logits(self, state: Tensor, query_QD: Tensor) -> Tensor:
        """Return ``[Q, W]`` logits."""
        return self.scale * (query_QD @ state.mT)
