"""Other ways of BatchNorm, for whatever network runs within them: ``with by_episode(4): network(images)``.

They work on any network whose normalisation goes through ``torch.nn.functional.batch_norm``, as torch's and timm's do.

Ioffe & Szegedy 2015, "Batch Normalization", https://arxiv.org/abs/1502.03167
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

Statistics = list[tuple[Tensor, Tensor]]
"""Mean and variance per channel of each BatchNorm, in the order in which the network calls them."""


class Call(NamedTuple):
    """The arguments of ``torch.nn.functional.batch_norm``."""

    input: Tensor
    running_mean: Tensor | None
    running_var: Tensor | None
    weight: Tensor | None = None
    bias: Tensor | None = None
    training: bool = False
    momentum: float = 0.1
    eps: float = 1e-5


class BatchNormAs(TorchFunctionMode):
    """Within this context, ``batch_norm`` is another function of the same arguments."""

    def __init__(self, normalize: Callable[[Call], Tensor]) -> None:
        super().__init__()
        self._normalize = normalize

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Pass everything on but ``batch_norm``."""
        if function is F.batch_norm:
            return self._normalize(Call(*args, **(kwargs or {})))
        return function(*args, **(kwargs or {}))


def by_episode(tasks: int) -> BatchNormAs:
    """In training mode, normalise each of ``tasks`` episodes, stacked along the first axis, by its own statistics.

    The running statistics move once, towards the mean over the episodes. So neither the number of episodes in a pass
    nor the order of them changes a result. In evaluation mode nothing changes.
    """

    def normalize(call: Call) -> Tensor:
        if not call.training or tasks == 1:
            return F.batch_norm(*call)
        copies = [
            call._replace(input=episode, running_mean=_copy(call.running_mean), running_var=_copy(call.running_var))
            for episode in call.input.chunk(tasks)
        ]
        outputs = [F.batch_norm(*copy) for copy in copies]
        for running, moved in (
            (call.running_mean, [copy.running_mean for copy in copies]),
            (call.running_var, [copy.running_var for copy in copies]),
        ):
            if running is not None:
                running.copy_(torch.stack([copy for copy in moved if copy is not None]).mean(0))
        return torch.cat(outputs)

    return BatchNormAs(normalize)


def by_batch() -> BatchNormAs:
    """Normalise by the batch's own statistics in any mode; running statistics stay as they are."""
    return BatchNormAs(
        lambda call: F.batch_norm(_as_weights(call), None, None, call.weight, call.bias, True, 0.0, call.eps)
    )


def by_support(rows: int, kept: Statistics | None = None) -> BatchNormAs:
    """Normalise by the statistics of the first rows of the batch, which are the support set, and keep those."""

    def normalize(call: Call) -> Tensor:
        axes = [axis for axis in range(call.input.ndim) if axis != 1]
        variance, mean = torch.var_mean(_as_weights(call)[:rows], axes, correction=0)
        if kept is not None:
            kept.append((mean, variance))
        return _normalized(call, mean, variance)

    return BatchNormAs(normalize)


def by_statistics(statistics: Statistics) -> BatchNormAs:
    """Normalise by given statistics, for one pass of the network."""
    left = iter(statistics)
    return BatchNormAs(lambda call: _normalized(call, *next(left)))


def by_example() -> BatchNormAs:
    """Normalise groups of channels within each example: GroupNorm, Wu & He 2018, https://arxiv.org/abs/1803.08494."""
    return BatchNormAs(
        lambda call: F.group_norm(_as_weights(call), math.gcd(8, call.input.shape[1]), call.weight, call.bias, call.eps)
    )


def _normalized(call: Call, mean: Tensor, variance: Tensor) -> Tensor:
    """Normalise by statistics that gradients flow through."""
    scale = torch.rsqrt(variance + call.eps) * (1 if call.weight is None else call.weight)
    shift = (0 if call.bias is None else call.bias) - mean * scale
    shape = (1, -1, *(1,) * (call.input.ndim - 2))
    return _as_weights(call) * scale.view(shape) + shift.view(shape)


def _as_weights(call: Call) -> Tensor:
    """Return the input in the weights' precision: under autocast, vmap has no derivative of the two mixed."""
    return call.input if call.weight is None else call.input.to(call.weight.dtype)


def _copy(running: Tensor | None) -> Tensor | None:
    return None if running is None else running.clone()
