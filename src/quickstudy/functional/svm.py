"""The multi-class support vector machine of Crammer and Singer, in its dual form, with the gradient of its optimum.

    minimise over a  1/2 trace(a^T K a) - trace(a^T Y)   where   a <= C Y   and every row of a sums to 0

Crammer & Singer 2001, "On the Algorithmic Implementation of Multiclass Kernel-based Vector Machines",
https://www.jmlr.org/papers/v2/crammer01a.html
Mehrotra 1992, "On the Implementation of a Primal-Dual Interior Point Method", https://doi.org/10.1137/0802028

The Newton system of all S * W variables falls apart into W systems of S, tied by the rows' sums through one more.

Shapes: S support examples, W ways; ``torch.func.vmap`` solves many tasks side by side.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from quickstudy.errors import DataWarning, check_above_zero
from quickstudy.functional.kernels import definite, raised
from quickstudy.functional.known_gradient import once

_MOST_STEPS = 50  # 8 to 20 are usual
# Between the two sides of the optimum, relative to its value. Solutions are as exact as its root, where bounds matter.
_GAP = 1e-13
_GAP_TO_MENTION = 1e-6
# Of the kernel's mean diagonal: with more examples than features the gradient's system is singular but for this.
_RAISED_FOR_GRADIENT = 1e-10
_CACHE = 1 << 21  # bytes, for the systems of tasks that are solved side by side


def svm_dual(kernel_SS: Tensor, wanted_SW: Tensor, bound: float = 0.1) -> Tensor:
    """Return the dual variables ``[S, W]`` at the optimum, found in float64; the gradient is that of the optimum.

    Args:
        kernel_SS: K, inner products of the support examples, ``[S, S]``.
        wanted_SW: Y, one-hot targets, ``[S, W]``; no gradient goes to them.
        bound: C, the largest influence of an example.

    Raises:
        ConfigError: ``bound`` is no number above 0.
    """
    check_above_zero(bound=bound)
    lifted_SS = definite(kernel_SS)
    solution_SW: Tensor = _Optimum.apply(lifted_SS, wanted_SW.to(lifted_SS), bound)[0]
    return solution_SW.to(kernel_SS)


class _Optimum(torch.autograd.Function):
    """Takes any leading axes of tasks, each of which takes the steps it would take alone."""

    @staticmethod
    def forward(kernel_SS: Tensor, wanted_SW: Tensor, bound: float) -> tuple[Tensor, Tensor]:
        """Return the solution, and how hard its bounds press: what the gradient needs."""
        parts = [_optimum(kernels, wanted, bound) for kernels, wanted in _side_by_side(kernel_SS, wanted_SW)]
        solutions, pressures = zip(*parts, strict=True)
        return _joined(solutions), _joined(pressures)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        """Keep what the gradient needs."""
        solution_SW, pressure_SW = output
        ctx.mark_non_differentiable(pressure_SW)
        ctx.save_for_backward(inputs[0], solution_SW, pressure_SW)

    @staticmethod
    def backward(ctx: Any, gradient_SW: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        """Differentiate the conditions of the optimum, which hold whatever way led there."""
        kernel_SS, solution_SW, pressure_SW = ctx.saved_tensors
        raised_SS = raised(kernel_SS, _RAISED_FOR_GRADIENT)
        parts = _side_by_side(raised_SS, pressure_SW, gradient_SW)
        moved_SW = _joined([_newton(kernels, pressure)(gradient, 2) for kernels, pressure, gradient in parts])
        for_kernel_SS = -(moved_SW @ solution_SW.mT)
        for_kernel_SS = (for_kernel_SS + for_kernel_SS.mT) / 2
        return once(for_kernel_SS, kernel_SS, gradient_SW), None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[tuple[Tensor, Tensor], int]:
        """Put the tasks' axis first."""
        kernel_SS, wanted_SW = (
            value.expand(info.batch_size, *value.shape) if axis is None else value.movedim(axis, 0)
            for value, axis in zip(inputs[:2], in_dims[:2], strict=True)
        )
        return _Optimum.apply(kernel_SS, wanted_SW, *inputs[2:]), 0


def _optimum(kernel_SS: Tensor, wanted_SW: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """Return the solution, and how hard its bounds press."""
    # Inside all bounds from the start: the slack below them and their multipliers stay above 0.
    solution_SW = bound * (wanted_SW - 1 / wanted_SW.shape[-1])
    slack_SW = bound * wanted_SW - solution_SW
    slope_SW = kernel_SS @ solution_SW - wanted_SW
    highest_S1, lowest_S1 = slope_SW.amax(-1, keepdim=True), slope_SW.amin(-1, keepdim=True)
    multiplier_SW = highest_S1 - slope_SW + 1 + (highest_S1 - lowest_S1).mean((-2, -1), keepdim=True)
    for _ in range(_MOST_STEPS):
        product_SW = slack_SW * multiplier_SW
        value = (solution_SW * (kernel_SS @ solution_SW / 2 - wanted_SW)).sum((-2, -1), keepdim=True)
        gap = product_SW.sum((-2, -1), keepdim=True) / value.abs()
        done = ~(gap > _GAP)  # what is not a number stays none
        if done.all():
            break
        mean = product_SW.mean((-2, -1), keepdim=True)
        unmet_SW = wanted_SW - kernel_SS @ solution_SW - multiplier_SW
        unmet_SW = unmet_SW - unmet_SW.mean(-1, keepdim=True)  # what rows share counts for nothing
        solve = _newton(kernel_SS, multiplier_SW / slack_SW)

        towards_SW = solve(unmet_SW + multiplier_SW, 1)
        pull_SW = multiplier_SW / slack_SW * towards_SW - multiplier_SW
        length = torch.minimum(_room(slack_SW, -towards_SW), _room(multiplier_SW, pull_SW))
        after = (slack_SW - length * towards_SW) * (multiplier_SW + length * pull_SW)
        centring = (after.mean((-2, -1), keepdim=True) / mean) ** 3

        aim_SW = centring * mean + towards_SW * pull_SW - product_SW
        towards_SW = solve(unmet_SW - aim_SW / slack_SW, 2)
        pull_SW = (aim_SW + multiplier_SW * towards_SW) / slack_SW
        length = 0.99 * torch.minimum(_room(slack_SW, -towards_SW), _room(multiplier_SW, pull_SW))
        step_SW = torch.where(done, 0, length * towards_SW)
        solution_SW, slack_SW = solution_SW + step_SW, slack_SW - step_SW
        multiplier_SW = torch.where(done, multiplier_SW, multiplier_SW + length * pull_SW)
    else:
        if (gap > _GAP_TO_MENTION).any():
            warnings.warn(
                f"a support vector machine is still {gap.max():.0e} from its optimum after {_MOST_STEPS} steps: "
                "raise regularization, or scale the features down",
                DataWarning,
                stacklevel=3,
            )
    return solution_SW.masked_fill(gap.isnan(), torch.nan), multiplier_SW / slack_SW


def _side_by_side(kernel_SS: Tensor, *values_SW: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield as many tasks at a time as a processor's cache holds the systems of; all of them on a GPU."""
    if kernel_SS.ndim < 3 or kernel_SS.is_cuda or any(value.ndim != kernel_SS.ndim for value in values_SW):
        yield kernel_SS, *values_SW
        return
    one = kernel_SS[0].numel() * values_SW[0].shape[-1] * kernel_SS.element_size()
    together = max(1, _CACHE // max(one, 1))
    yield from zip(*(torch.split(value, together) for value in (kernel_SS, *values_SW)), strict=True)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _newton(kernel_SS: Tensor, pressure_SW: Tensor) -> Callable[[Tensor, int], Tensor]:
    """Return what finds x with rows that sum to 0, and n equal within rows, so that ``K x + pressure * x + n = r``.

    Its second argument is how often the rows' sums are brought to 0; after the first time only rounding is left.
    """
    systems_WSS = kernel_SS.unsqueeze(-3) + torch.diag_embed(pressure_SW.mT)
    # On a CPU the upper factor is the faster one, and so are sums of what lies row by row; transposed it is the same.
    factors_WSS = torch.linalg.cholesky_ex(systems_WSS, upper=True)[0]
    inverses_WSS = torch.cholesky_inverse(factors_WSS, upper=True).mT
    tie_SS = torch.linalg.cholesky_ex(inverses_WSS.sum(-3))[0]

    def solve(right_SW: Tensor, times: int) -> Tensor:
        found_WS1 = inverses_WSS @ right_SW.mT.unsqueeze(-1)
        for _ in range(times):
            shared_S1 = torch.cholesky_solve(found_WS1.sum(-3), tie_SS)
            found_WS1 = found_WS1 - inverses_WSS @ shared_S1.unsqueeze(-3)
        return found_WS1.squeeze(-1).mT

    return solve


def _room(values_SW: Tensor, towards_SW: Tensor) -> Tensor:
    """Return how far a task's values may go before one falls below 0: 1 at most."""
    lengths_SW = torch.where(towards_SW < 0, -values_SW / towards_SW, 1)
    return lengths_SW.amin((-2, -1), keepdim=True).clamp(max=1)
