"""Baseline and Baseline++: a new head, trained on the support set by gradient descent.

Chen et al. 2019, "A Closer Look at Few-shot Classification", https://arxiv.org/abs/1904.04232
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor

from quickstudy.algorithms.base import STRATEGIES, EmbeddingAlgorithm
from quickstudy.errors import check_above_zero, check_choice, check_counts
from quickstudy.functional.distances import cosine
from quickstudy.functional.inner_loop import Weights, descend
from quickstudy.functional.prototypes import members, prototypes


@STRATEGIES.register("finetune")
class Finetune(EmbeddingAlgorithm):
    """The whole support set in each step, and a start without chance, so that the result depends on the data alone.

    Args:
        head: ``"linear"``, which starts at zero, or ``"cosine"``, which starts at the class means.
        adaptation_steps: gradient steps.
        adaptation_lr: their learning rate.
        scale: of the cosines.
    """

    paper: ClassVar[str] = (
        "Chen et al. 2019, A Closer Look at Few-shot Classification, https://arxiv.org/abs/1904.04232"
    )

    def __init__(
        self,
        head: Literal["linear", "cosine"] = "linear",
        adaptation_steps: int = 100,
        adaptation_lr: float = 0.01,
        scale: float = 10.0,
    ) -> None:
        super().__init__()
        check_choice("head", head, "linear", "cosine")
        check_counts(adaptation_steps=adaptation_steps)
        check_above_zero(adaptation_lr=adaptation_lr, scale=scale)
        self._cosine, self._scale = head == "cosine", scale
        self._steps, self._rate = adaptation_steps, adaptation_lr

    def fit(self, support_SD: Tensor, targets_S: Tensor, ways: int) -> tuple[Tensor, Tensor]:
        """Return the head: ``[W, D]`` weights and ``[W]`` biases."""
        means_WD = prototypes(support_SD, targets_S, ways)
        bias_W = support_SD.new_zeros(ways)
        start: Weights = {"weight": means_WD if self._cosine else 0 * means_WD, "bias": bias_W}
        rates = dict.fromkeys(["weight"] if self._cosine else start, self._rate)
        wanted_SW = members(targets_S, ways, support_SD.dtype)

        def loss(weights: Weights) -> Tensor:
            logits_SW = self.logits((weights["weight"], weights["bias"]), support_SD)
            return -(wanted_SW * logits_SW.log_softmax(1)).sum(1).mean()

        learned = descend(loss, start, rates, self._steps)
        return learned["weight"], learned["bias"]

    def logits(self, state: tuple[Tensor, Tensor], query_QD: Tensor) -> Tensor:
        """Return ``[Q, W]`` logits."""
        weight_WD, bias_W = state
        if self._cosine:
            return self._scale * cosine(query_QD, weight_WD)
        return F.linear(query_QD, weight_WD, bias_W)
