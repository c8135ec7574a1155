"""Other ways of BatchNorm, for whatever network runs within them: ``with by_episode(4): network(images)``.

They work on any network whose normalisation goes through ``torch.nn.functional.batch_norm``, as torch's and timm's do.

Ioffe & Szegedy 2015, "Batch Normalization", https://arxiv.org/abs/1502.03167
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from quickstudy.batches import Batch, fold, size, take
from quickstudy.errors import ConfigError
from quickstudy.torch_internals import BatchNorm, keystr, tree_flatten_with_path, tree_leaves

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


class FoldedRows:
    """Which rows of a BatchNorm are whose: several of each example where a network has folded places into rows.

    Args:
        batch: the examples ``[N, ...]`` that pass through the network, or how many they are.
        layouts: how the network lays their rows out (``layouts_of``); none: one example's after the other's.
    """

    def __init__(self, batch: Batch | int, layouts: Iterable[str] = ()) -> None:
        self._batch = batch
        self._examples = batch if isinstance(batch, int) else size(batch)
        self.layouts = frozenset(layouts)

    def of(self, call: Call) -> tuple[list[int], bool]:
        """Return how many rows each example has, and whether they are strided: the first of each, the second of each.

        Raises:
            ConfigError: it cannot be told.
        """
        rows, found = call.input.shape[0], set[tuple[tuple[int, ...], bool]]()
        if rows == self._examples and UNCLEAR not in self.layouts:
            return [1] * rows, False
        for layout in self.layouts - {ONE} or {ADJACENT}:
            if layout in (ADJACENT, STRIDED):
                each, rest = divmod(rows, self._examples)
                counts = [each] * self._examples if each and not rest else []
            else:
                counts = [] if layout == UNCLEAR else _listed(_counts(self._batch)[layout])
            if sum(counts) == rows:
                found.add((tuple(counts), layout == STRIDED))
        if len(found) != 1 or UNCLEAR in self.layouts:
            raise ConfigError(
                f"a BatchNorm of the backbone sees {rows} rows of {self._examples} examples, so that it cannot be told "
                "which are whose: let it see as many of each, one example's after the other's, or as many as a leaf of "
                "whole numbers says, or take a backbone without BatchNorm, such as conv4 with "
                "backbone_kwargs={'norm': 'group'}"
            )
        ((counted, strided),) = found
        return list(counted), strided


ONE, ADJACENT, STRIDED, UNCLEAR = "one", "adjacent", "strided", "unclear"


def layouts_of(network: Callable[[Batch], Any], batch: Batch) -> frozenset[str] | None:
    """Find out how a network lays the rows of its BatchNorms out: three examples pass, and then another in their midst.

    Args:
        network: in evaluation mode.
        batch: examples ``[N, ...]``.

    Returns:
        ``ONE`` (a row of each), ``ADJACENT``, ``STRIDED``, ``UNCLEAR``, and the names of leaves that count the rows of
        each; None where all examples are alike, which tells nothing.
    """
    other = next((row for row in range(1, size(batch)) if _differ(take(batch, 0), take(batch, row))), None)
    if other is None:
        return None
    seen: list[list[Tensor]] = []
    three = take(batch, [0, other, 0])
    for passing in (take(batch, [0, 0, 0]), three):
        inputs: list[Tensor] = []
        with torch.no_grad(), BatchNormAs(partial(_noted, inputs)):
            network(passing)
        seen.append(inputs)
    if len(seen[0]) != len(seen[1]):
        return frozenset({UNCLEAR})
    return frozenset(_layout(one, other, _counts(three)) for one, other in zip(*seen, strict=True)) - {""}


def _noted(inputs: list[Tensor], call: Call) -> Tensor:
    """Note what a BatchNorm sees, and normalise each row by itself."""
    rows = call.input.detach()
    inputs.append(rows)
    return call.input if rows[0].numel() == 1 else F.layer_norm(call.input, call.input.shape[1:])


def _layout(before: Tensor, after: Tensor, counts: Mapping[str, Tensor]) -> str:
    """Return how rows of three examples are laid out, of which the second is another in ``after``; "": untold."""
    least = 1e-5 * float(after.abs().max())

    def stay(*parts: slice) -> bool:
        return all(float((before[part] - after[part]).abs().max()) <= least for part in parts)

    rows, each = len(after), len(after) // 3
    if rows == len(before) == 3:
        return ONE if stay(slice(0, 1), slice(2, 3)) else UNCLEAR
    if len(before) == rows and stay(slice(None)):
        return ""
    for name, count in counts.items():
        first, second, _ = count.tolist()
        sizes = 3 * first, 2 * first + second
        if first > 0 and sizes == (len(before), rows) and stay(slice(first), slice(-first, None)):
            return name
    if len(before) != rows or rows % 3:
        return UNCLEAR
    if stay(slice(each), slice(2 * each, None)):
        return ADJACENT
    return STRIDED if stay(slice(0, None, 3), slice(2, None, 3)) else UNCLEAR


def _counts(batch: Batch) -> dict[str, Tensor]:
    """Return by its leaf what may say how many rows each example has: whole numbers ``[N]``, or a mask ``[N, L]``."""
    if isinstance(batch, (int, Tensor)):
        return {}
    return {
        keystr(path): leaf if leaf.ndim == 1 else (leaf != 0).sum(1)
        for path, leaf in tree_flatten_with_path(batch)[0]
        if leaf.ndim in (1, 2) and not leaf.is_floating_point()
    }


def _listed(counts: Tensor) -> list[int]:
    try:
        listed: list[int] = counts.tolist()
    except RuntimeError:  # within torch.func.grad, where older versions of torch tell one number at a time
        return [int(count) for count in counts]
    return listed


def _differ(one: Batch, other: Batch) -> bool:
    return any(not torch.equal(*leaves) for leaves in zip(tree_leaves(one), tree_leaves(other), strict=True))


def by_episode(tasks: int, examples: FoldedRows | int | None = None) -> BatchNormAs:
    """In training mode, normalise each of ``tasks`` episodes, stacked along the first axis, by its own statistics.

    The running statistics move once, towards the mean over the episodes. So neither the number of episodes in a pass
    nor the order of them changes a result. In evaluation mode nothing changes.

    Args:
        tasks: how many.
        examples: which rows are whose, or how many examples pass through the network in all, of which it may make
            several rows each, one example's after the other's; None: one row each, or as many of each task.

    Raises:
        ConfigError: when it normalises, where it cannot be told which rows are whose.
    """

    def normalize(call: Call) -> Tensor:
        if not call.training or tasks == 1:
            return F.batch_norm(*call)
        counts, strided = _rows(examples or tasks).of(call)
        each = len(counts) // tasks
        sizes = [sum(counts[at : at + each]) for at in range(0, len(counts), each)]
        episodes = torch.split(_adjacent(call.input, counts, strided), sizes)
        copies = [
            call._replace(input=episode, running_mean=_copy(call.running_mean), running_var=_copy(call.running_var))
            for episode in episodes
        ]
        outputs = [F.batch_norm(*copy) for copy in copies]
        for running, moved in (
            (call.running_mean, [copy.running_mean for copy in copies]),
            (call.running_var, [copy.running_var for copy in copies]),
        ):
            if running is not None:
                running.copy_(torch.stack([copy for copy in moved if copy is not None]).mean(0))
        return _as_given(torch.cat(outputs), counts, strided)

    return BatchNormAs(normalize)


def pass_by_pass(network: nn.Module, tasks: int, size: int) -> Iterator[slice]:
    """Yield which of ``tasks`` episodes to pass through a network next, ``size`` at a time.

    All passes start from the same running statistics, which in the end are the mean over the episodes, and count as
    moved once: as if all had passed together, ``by_episode``.
    """
    if size >= tasks:
        yield slice(tasks)
        return
    norms = _moving(network)
    counts = [norm.num_batches_tracked for norm in norms if norm.num_batches_tracked is not None]
    buffers = [*_running(norms), *counts]
    before = [buffer.clone() for buffer in buffers]
    sums = [torch.zeros_like(running) for running in _running(norms)]
    for start in range(0, tasks, size):
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)
        passing = slice(start, min(start + size, tasks))
        yield passing
        for total, running in zip(sums, buffers, strict=False):
            total.add_(running, alpha=(passing.stop - start) / tasks)
    for total, running in zip(sums, buffers, strict=False):
        running.copy_(total)


def by_batch() -> BatchNormAs:
    """Normalise by the batch's own statistics in any mode; running statistics stay as they are."""
    return BatchNormAs(
        lambda call: F.batch_norm(_as_weights(call), None, None, call.weight, call.bias, True, 0.0, call.eps)
    )


def by_support(support: int, kept: Statistics | None = None, examples: FoldedRows | int | None = None) -> BatchNormAs:
    """Normalise by the statistics of the first examples of the batch, which are the support set, and keep those.

    Args:
        support: how many they are.
        kept: what the statistics are added to.
        examples: which rows are whose, or how many there are in all, of which the network may make several rows each,
            one example's after the other's; None: one row each.

    Raises:
        ConfigError: when it normalises, where it cannot be told which rows are whose.
    """

    def normalize(call: Call) -> Tensor:
        axes = [axis for axis in range(call.input.ndim) if axis != 1]
        inputs, rows = _as_weights(call), support
        if examples is not None:
            counts, strided = _rows(examples).of(call)
            inputs, rows = _adjacent(inputs, counts, strided), sum(counts[:support])
        variance, mean = torch.var_mean(inputs[:rows], axes, correction=0)
        if kept is not None:
            kept.append((mean, variance))
        return _normalized(call, mean, variance)

    return BatchNormAs(normalize)


def by_statistics(statistics: Statistics) -> BatchNormAs:
    """Normalise by given statistics, for one pass of the network."""
    left = iter(statistics)
    return BatchNormAs(lambda call: _normalized(call, *next(left)))


def by_example(examples: FoldedRows | int | None = None) -> BatchNormAs:
    """Normalise groups of channels within each example: GroupNorm, Wu & He 2018, https://arxiv.org/abs/1803.08494.

    Args:
        examples: which rows are whose, or how many examples there are, of which the network may make several rows each,
            one example's after the other's; None: one row each.

    Raises:
        ConfigError: when it normalises, where it cannot be told which rows are whose.
    """

    def normalize(call: Call) -> Tensor:
        inputs, groups = _as_weights(call), math.gcd(8, call.input.shape[1])
        counts, strided = ([1] * len(inputs), False) if examples is None else _rows(examples).of(call)
        if max(counts) == 1:
            return F.group_norm(inputs.contiguous(), groups, call.weight, call.bias, call.eps)  # torch 2.8 takes views
        inputs = _adjacent(inputs, counts, strided)
        if len(set(counts)) == 1:  # all at once
            parts = [inputs.reshape(-1, counts[0], *inputs.shape[1:])]
        else:
            parts = [part[None] for part in torch.split(inputs, counts)]
        normalized = [
            F.group_norm(part.transpose(1, 2), groups, call.weight, call.bias, call.eps).transpose(1, 2).flatten(0, 1)
            for part in parts
        ]
        return _as_given(torch.cat(normalized), counts, strided)

    return BatchNormAs(normalize)


def by_all_processes() -> BatchNormAs:
    """In training mode, normalise by the statistics of the batches of all processes, which may differ in size.

    All processes must pass through the same layers. In evaluation mode nothing changes.
    """

    def normalize(call: Call) -> Tensor:
        if not call.training:
            return F.batch_norm(*call)
        inputs = _as_weights(call)
        inputs = inputs if inputs.dtype == torch.float64 else inputs.float()  # half precision cannot count that far
        axes = [axis for axis in range(inputs.ndim) if axis != 1]
        own = inputs.new_full((1,), inputs.numel() // inputs.shape[1])
        total, sums = _over_all(torch.cat([own, inputs.sum(axes)])).tensor_split([1])
        mean = sums / total
        shape = (1, -1, *(1,) * (inputs.ndim - 2))
        squares = _over_all((inputs - mean.view(shape)).square().sum(axes))
        if call.running_mean is not None and call.running_var is not None:
            with torch.no_grad():
                call.running_mean.lerp_(mean.to(call.running_mean.dtype), call.momentum)
                call.running_var.lerp_((squares / (total - 1)).to(call.running_var.dtype), call.momentum)
        kind = _as_weights(call).dtype
        return _normalized(call, mean.to(kind), (squares / total).to(kind))

    return BatchNormAs(normalize)


@contextmanager
def statistics_kept(network: nn.Module) -> Iterator[None]:
    """Let a network's BatchNorms normalise by what they know for a while, as in evaluation, and learn nothing of it."""
    norms = [module for module in network.modules() if isinstance(module, BatchNorm) and module.training]
    for module in norms:
        module.training = False
    try:
        yield
    finally:
        for module in norms:
            module.training = True


@contextmanager
def of_several(remedy: str) -> Iterator[None]:
    """Say what to do where BatchNorm is to normalise one value by itself.

    Args:
        remedy: what gives it more examples.

    Raises:
        ConfigError: it was; torch's own words tell only a size.
    """
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ConfigError(
            f"BatchNorm cannot learn from one example alone, whose features are one number each: {remedy}, or take a "
            "backbone without BatchNorm, such as conv4 with backbone_kwargs={'norm': 'group'}"
        ) from error


def move_statistics(
    norms: Sequence[BatchNorm],
    network: Callable[[Batch], Tensor],
    inputs: Batch,
    together: int,
    rows_of: Callable[[Batch], FoldedRows | int] = size,
) -> None:
    """Move running statistics once, towards the mean over episodes, as a training pass of them all would.

    Args:
        norms: whose statistics move; where there are none, nothing is done.
        network: what passes inputs ``[N, ...]`` through them.
        inputs: of episodes, ``[T, S, ...]``.
        together: how many episodes go through the network side by side.
        rows_of: says of examples ``[N, ...]`` which rows are whose.
    """
    if not _running(norms):
        return
    training = [norm.training for norm in norms]
    try:
        for norm in norms:
            norm.training = True
        for some in pass_by_pass(nn.ModuleList(norms), size(inputs), together):
            episodes = take(inputs, some)
            passing = fold(episodes)
            with torch.no_grad(), by_episode(size(episodes), rows_of(passing)):
                network(passing)
    finally:
        for norm, mode in zip(norms, training, strict=True):
            norm.training = mode


def average_statistics(module: nn.Module) -> None:
    """Set the running statistics of BatchNorm to their mean over all processes."""
    running = _running(_moving(module))
    if running:
        flat = torch.cat([statistic.flatten() for statistic in running])
        torch.distributed.all_reduce(flat)
        flat /= torch.distributed.get_world_size()
        sizes = [statistic.numel() for statistic in running]
        for statistic, mean in zip(running, torch.split(flat, sizes), strict=True):
            statistic.copy_(mean.view_as(statistic))


class _Sum(torch.autograd.Function):
    """The sum over all processes, whose losses together are differentiated."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        summed = values.clone()
        torch.distributed.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        summed = gradient.contiguous().clone()
        torch.distributed.all_reduce(summed)
        return summed


def _over_all(values: Tensor) -> Tensor:
    summed: Tensor = _Sum.apply(values)
    return summed


def _rows(examples: FoldedRows | int) -> FoldedRows:
    return FoldedRows(examples) if isinstance(examples, int) else examples


def _adjacent(inputs: Tensor, counts: list[int], strided: bool) -> Tensor:
    """Return rows one example's after the other's."""
    if not strided:
        return inputs
    return inputs.reshape(counts[0], len(counts), *inputs.shape[1:]).transpose(0, 1).flatten(0, 1)


def _as_given(rows: Tensor, counts: list[int], strided: bool) -> Tensor:
    """Return such rows in the order in which the network had laid them out."""
    return _adjacent(rows, [len(counts)] * counts[0], True) if strided else rows


def _normalized(call: Call, mean: Tensor, variance: Tensor) -> Tensor:
    """Normalise by statistics that gradients flow through."""
    scale = torch.rsqrt(variance + call.eps) * (1 if call.weight is None else call.weight)
    shift = (0 if call.bias is None else call.bias) - mean * scale
    shape = (1, -1, *(1,) * (call.input.ndim - 2))
    return _as_weights(call) * scale.view(shape) + shift.view(shape)


def _as_weights(call: Call) -> Tensor:
    """Return the input in the weights' precision: under autocast, vmap has no derivative of the two mixed."""
    return call.input if call.weight is None else call.input.to(call.weight.dtype)


def _moving(module: nn.Module) -> list[BatchNorm]:
    return [norm for norm in module.modules() if isinstance(norm, BatchNorm) and norm.training]


def _running(norms: Sequence[BatchNorm]) -> list[Tensor]:
    both = (statistic for norm in norms for statistic in (norm.running_mean, norm.running_var))
    return [statistic for statistic in both if statistic is not None]


def _copy(running: Tensor | None) -> Tensor | None:
    return None if running is None else running.clone()
