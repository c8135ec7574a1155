"""ANIL, almost no inner loop: only the head adapts, by gradient steps on embeddings that are computed once.

Raghu et al. 2020, "Rapid Learning or Feature Reuse? Towards Understanding the Effectiveness of MAML",
https://arxiv.org/abs/1909.09157
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor

from quickstudy.algorithms.base import STRATEGIES, EmbeddingAlgorithm
from quickstudy.algorithms.learned_head import LearnedHead
from quickstudy.errors import check_above_zero, check_counts, given
from quickstudy.functional.prototypes import members
from quickstudy.nets import Encoder


@STRATEGIES.register("anil")
class ANIL(EmbeddingAlgorithm):
    """A linear head, learned across tasks, that takes gradient steps on the support set of each.

    Args:
        adaptation_steps: gradient steps in training.
        test_adaptation_steps: in validation, test and use; default: as many.
        adaptation_lr: their learning rate.
        head: ``"linear"`` starts from a weight vector per way, so the number of ways is fixed; ``"shared"`` starts all
            ways from one, so that it may differ.
    """

    paper: ClassVar[str] = (
        "Raghu et al. 2020, Rapid Learning or Feature Reuse? Towards Understanding the Effectiveness of MAML, "
        "https://arxiv.org/abs/1909.09157"
    )

    numbers: ClassVar[bool] = True
    for_other_ways: ClassVar[str] = "add 'head': 'shared' to training_strategy_kwargs"

    def __init__(
        self,
        adaptation_steps: int = 5,
        test_adaptation_steps: int | None = None,
        adaptation_lr: float = 0.1,
        head: Literal["linear", "shared"] = "linear",
    ) -> None:
        super().__init__()
        check_counts(adaptation_steps=adaptation_steps, **given(test_adaptation_steps=test_adaptation_steps))
        check_above_zero(adaptation_lr=adaptation_lr)
        self.adaptation_steps, self.test_adaptation_steps = adaptation_steps, test_adaptation_steps
        self.adaptation_lr = adaptation_lr
        self.head = LearnedHead(head, self.for_other_ways)
        self.fixed_ways = self.head.fixed_ways

    def build(self, encoder: Encoder, feature_shape: tuple[int, ...], ways: int) -> None:
        """Make the head."""
        self.head.build(feature_shape, ways)

    def fit(self, support_SD: Tensor, targets_S: Tensor, ways: int) -> tuple[Tensor, Tensor]:
        """Return the adapted head: ``[W, D]`` weights and ``[W]`` biases."""
        weight_WD, bias_W = self.head.start(ways)
        numbers = targets_S.is_floating_point()
        wanted_SW = targets_S[:, None].to(support_SD) if numbers else members(targets_S, ways, support_SD.dtype)
        steps = self.adaptation_steps if self.training else self.test_adaptation_steps or self.adaptation_steps
        for _ in range(steps):
            # The gradient of the mean loss, written down: it vectorises and differentiates further. Of cross-entropy
            # it is what the probabilities have too much, of the squared error twice what the numbers have.
            answers_SW = F.linear(support_SD, weight_WD, bias_W)
            answers_SW = 2 * answers_SW if numbers else answers_SW.softmax(-1)
            excess_WS = (answers_SW - (2 if numbers else 1) * wanted_SW).mT / len(targets_S)
            weight_WD = weight_WD - self.adaptation_lr * excess_WS @ support_SD
            bias_W = bias_W - self.adaptation_lr * excess_WS.sum(1)
        return weight_WD, bias_W

    def logits(self, state: tuple[Tensor, Tensor], query_QD: Tensor) -> Tensor:
        """Return ``[Q, W]`` logits."""
        weight_WD, bias_W = state
        return F.linear(query_QD, weight_WD, bias_W)
