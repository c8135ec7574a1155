"""BatchNorm over a meta batch: each episode normalised by its own statistics, whatever shares the pass.

Ioffe & Szegedy 2015, "Batch Normalization", https://arxiv.org/abs/1502.03167
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class EpisodeStatistics(TorchFunctionMode):
    """Within this context, a training-mode BatchNorm sees ``tasks`` episodes stacked along its first axis.

    Every episode is normalised by its own mean and variance; the running statistics move once, towards the mean
    over the episodes. So neither the number of episodes in a pass nor the order of them changes a result. It works
    on any network whose normalisation goes through ``torch.nn.functional.batch_norm``, as torch's and timm's do.
    """

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self._tasks = tasks

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Pass everything on but ``batch_norm`` in training mode."""
        if function is F.batch_norm:
            return self._batch_norm(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))

    def _batch_norm(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        if not training or self._tasks == 1:
            return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
        means, variances = self._copies(running_mean), self._copies(running_var)
        outputs = [
            F.batch_norm(episode, mean, variance, weight, bias, True, momentum, eps)
            for episode, mean, variance in zip(input.chunk(self._tasks), means, variances, strict=True)
        ]
        for running, moved in ((running_mean, means), (running_var, variances)):
            if running is not None:
                running.copy_(torch.stack([copy for copy in moved if copy is not None]).mean(0))
        return torch.cat(outputs)

    def _copies(self, running: Tensor | None) -> list[Tensor | None]:
        return [None if running is None else running.clone() for _ in range(self._tasks)]
