"""R2-D2: ridge regression as the classifier, solved exactly, with a learned strength of regularisation.

Bertinetto et al. 2019, "Meta-learning with differentiable closed-form solvers", https://arxiv.org/abs/1805.08136
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.algorithms.base import STRATEGIES, EmbeddingAlgorithm
from quickstudy.algorithms.held import Held, held_ridge
from quickstudy.errors import check_above_zero
from quickstudy.functional.ridge import ridge, ridge_classifier


@STRATEGIES.register("r2d2")
class R2D2(EmbeddingAlgorithm):
    """Logits are the regression's values times a learned scale.

    The paper adds a learned constant to all logits, which changes neither cross-entropy nor its gradient.

    Args:
        regularization: where its strength starts; the logarithm is learned.
        scale: where the scale starts.
    """

    paper: ClassVar[str] = (
        "Bertinetto et al. 2019, Meta-learning with differentiable closed-form solvers, "
        "https://arxiv.org/abs/1805.08136"
    )

    numbers: ClassVar[bool] = True

    def __init__(self, regularization: float = 1.0, scale: float = 1.0) -> None:
        super().__init__()
        check_above_zero(regularization=regularization, scale=scale)
        self.log_strength = nn.Parameter(torch.tensor(math.log(regularization)))
        self.scale = nn.Parameter(torch.tensor(float(scale)))

    def fit(self, support_SD: Tensor, targets_S: Tensor, ways: int) -> Tensor:
        """Return the regression's weights, ``[W, D]``; onto numbers ``[1, D + 1]``, with the intercept as the last."""
        if targets_S.is_floating_point():
            with_one_SD = F.pad(support_SD, (0, 1), value=1.0)
            return ridge(with_one_SD, targets_S[:, None].to(support_SD), self.log_strength.exp())
        return ridge_classifier(support_SD, targets_S, ways, self.log_strength.exp())

    def hold(self, state: Tensor, support: Sequence[Tensor]) -> Held | None:
        """Return weights that examples update, where there are more of them than features."""
        return held_ridge(support, float(self.log_strength.exp()))

    def logits(self, state: Tensor, query_QD: Tensor) -> Tensor:
        """Return ``[Q, W]`` logits."""
        if state.shape[-1] > query_QD.shape[-1]:
            query_QD = F.pad(query_QD, (0, 1), value=1.0)
        return self.scale * (query_QD @ state.mT)
