"""Reptile: move towards the weights that ordinary training on a task leads to.

Nichol et al. 2018, "On First-Order Meta-Learning Algorithms", https://arxiv.org/abs/1803.02999
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import vjp

from quickstudy.algorithms.base import STRATEGIES, Loss
from quickstudy.algorithms.maml import MAML
from quickstudy.errors import ConfigError
from quickstudy.functional.inner_loop import MetaGradient, Rates, Weights, descend
from quickstudy.nets import Encoder


@STRATEGIES.register("reptile")
class Reptile(MAML):
    """The step is from the weights to those after gradient steps on all examples of the task, the queries too.

    So a training episode of 1 shot and 9 queries is one of 10 examples per class, as in the paper, and its accuracy is
    one on examples that were learned from.
    """

    paper: ClassVar[str] = (
        "Nichol et al. 2018, On First-Order Meta-Learning Algorithms, https://arxiv.org/abs/1803.02999"
    )
    exact_gradient = False

    def __init__(self, **options: Any) -> None:
        given = options.get("meta_gradient", "auto")
        if given != "auto":
            raise ConfigError(f"meta_gradient={given!r}: reptile takes no gradient through its steps; leave it out")
        super().__init__(**options)

    def task_gradient(
        self, encoder: Encoder, meta: Weights, rates: Rates, task: tuple[Tensor, ...], ways: int, loss: Loss
    ) -> MetaGradient:
        """Return the way back from the adapted weights, as an optimizer's gradient."""
        support, targets_S, query, targets_Q = task
        examples, targets = torch.cat([support, query]), torch.cat([targets_S, targets_Q])

        def start(meta: Weights) -> Weights:
            return self._started(encoder, meta, support, targets_S, ways)

        def learned(weights: Weights) -> Tensor:
            return F.cross_entropy(self._logits(encoder, weights, examples, self._norm()), targets)

        first, pull_back = vjp(start, meta)  # type: ignore[misc]
        last = descend(learned, first, rates, self.adaptation_steps)
        logits_QW = self._answers(encoder, last, support, query)
        (way_back,) = pull_back({name: value - last[name] for name, value in first.items()})
        return MetaGradient(way_back, {}, loss(logits_QW, targets_Q), logits_QW)
