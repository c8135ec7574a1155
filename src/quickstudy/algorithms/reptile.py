"""Reptile: move towards the weights that ordinary training on a task leads to.

Nichol et al. 2018, "On First-Order Meta-Learning Algorithms", https://arxiv.org/abs/1803.02999
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import vjp

from quickstudy.algorithms.base import STRATEGIES, Loss
from quickstudy.algorithms.maml import MAML
from quickstudy.batches import Batch, join, take
from quickstudy.errors import ConfigError, brief, check_counts
from quickstudy.functional.inner_loop import MetaGradient, Rates, Weights
from quickstudy.nets import Encoder


@STRATEGIES.register("reptile")
class Reptile(MAML):
    """The step is from the weights to those after gradient steps on all examples of the task, the queries too.

    So a training episode of 1 shot and 9 queries is one of 10 examples per class, as in the paper, and its accuracy is
    one on examples that were learned from. In training every step sees other examples, as many of each class as of the
    others where they divide evenly; that gradients on one batch help on the next is what Reptile learns. In test, a
    step sees the whole support set.

    Args:
        inner_batch_size: examples of a training step, the task's in turn; all of them where there are fewer.
        meta_gradient: no choice, as it takes no gradient through its steps.
        options: those of ``maml``.
    """

    paper: ClassVar[str] = (
        "Nichol et al. 2018, On First-Order Meta-Learning Algorithms, https://arxiv.org/abs/1803.02999"
    )
    exact_gradient = False

    def __init__(self, inner_batch_size: int = 10, *, meta_gradient: Literal["auto"] = "auto", **options: Any) -> None:
        if meta_gradient != "auto":
            raise ConfigError(
                f"meta_gradient={brief(meta_gradient)}: reptile takes no gradient through its steps; leave it out"
            )
        super().__init__(**options)
        check_counts(inner_batch_size=inner_batch_size)
        self.inner_batch_size = inner_batch_size

    def task_gradient(
        self, encoder: Encoder, meta: Weights, rates: Rates, task: tuple[Batch, ...], ways: int, loss: Loss
    ) -> MetaGradient:
        """Return the way back from the adapted weights, as an optimizer's gradient."""
        support, targets_S, query, targets_Q = task
        examples, targets = join([support, query]), torch.cat([targets_S, targets_Q])

        def start(meta: Weights) -> Weights:
            return self._started(encoder, meta, rates, support, targets_S, ways)

        first, pull_back = vjp(start, meta)  # type: ignore[misc]
        last = first
        for batch in in_turn(targets, ways, self.inner_batch_size, self.adaptation_steps):
            last = self._descended(encoder, last, rates, take(examples, batch), targets[batch], 1)
        logits_QW = self._answers(encoder, last, support, query)
        (way_back,) = pull_back({name: value - last[name] for name, value in first.items()})
        return MetaGradient(way_back, {}, loss(logits_QW, targets_Q), logits_QW)


def in_turn(targets: Tensor, ways: int, size: int, steps: int) -> Tensor:
    """Return the rows of each step's batch: one of every class after another, and from the start again at the end.

    Args:
        targets: ``[N]``; numbers are of one class.
        ways: W.
        size: of a batch.
        steps: how many batches.

    Returns:
        ``[steps, min(size, N)]``
    """
    codes = torch.zeros_like(targets, dtype=torch.long) if targets.is_floating_point() else targets
    one_hot = F.one_hot(codes, ways)
    rank = (one_hot.cumsum(0) * one_hot).sum(1)  # the first of its class, the second, ...
    order = rank.argsort(stable=True)
    size = min(size, len(targets))
    places = torch.arange(steps * size, device=targets.device) % len(targets)
    return order[places].view(steps, size)
