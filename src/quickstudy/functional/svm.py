"""The multi-class support vector machine of Crammer and Singer, in its dual form, with the gradient of its optimum.

    minimise over a  1/2 trace(a^T K a) - trace(a^T Y)   where   a <= C Y   and every row of a sums to 0

Crammer & Singer 2001, "On the Algorithmic Implementation of Multiclass Kernel-based Vector Machines",
https://www.jmlr.org/papers/v2/crammer01a.html
Boyd et al. 2011, "Distributed Optimization and Statistical Learning via the Alternating Direction Method of
Multipliers", https://doi.org/10.1561/2200000016

Shapes: S support examples, W ways. Written for one task; ``torch.func.vmap`` solves many side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_CONJUGATE_STEPS = 60


def svm_dual(kernel_SS: Tensor, wanted_SW: Tensor, bound: float = 0.1, iterations: int = 100) -> Tensor:
    """Return the dual variables ``[S, W]`` at the optimum; the gradient is that of the optimum, not of the iterations.

    Args:
        kernel_SS: K, inner products of the support examples, ``[S, S]``.
        wanted_SW: Y, one-hot targets, ``[S, W]``.
        bound: C, the largest influence of an example.
        iterations: of the alternating direction method; the error shrinks by a factor with each.
    """
    solution: Tensor = _Optimum.apply(kernel_SS, wanted_SW, bound, iterations)
    return solution


class _Optimum(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(kernel_SS: Tensor, wanted_SW: Tensor, bound: float, iterations: int) -> Tensor:
        count = kernel_SS.shape[0]
        identity = torch.eye(count, dtype=kernel_SS.dtype, device=kernel_SS.device)
        # The step that works from one-shot to fifteen: the kernel's mean size, once what all examples share is out.
        step = (kernel_SS.diagonal().mean() - kernel_SS.mean()).clamp(min=1e-12)
        factor = torch.linalg.cholesky(kernel_SS + step * identity)
        upper_SW = bound * wanted_SW
        feasible_SW, slack_SW = torch.zeros_like(wanted_SW), torch.zeros_like(wanted_SW)
        for _ in range(iterations):
            free_SW = torch.cholesky_solve(wanted_SW + step * (feasible_SW - slack_SW), factor)
            relaxed_SW = 1.6 * free_SW - 0.6 * feasible_SW
            feasible_SW = _projected(relaxed_SW + slack_SW, upper_SW)
            slack_SW = slack_SW + relaxed_SW - feasible_SW
        return feasible_SW

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        kernel_SS, wanted_SW, bound, _ = inputs
        ctx.save_for_backward(kernel_SS, wanted_SW, output)
        ctx.bound = bound

    @staticmethod
    def backward(ctx: Any, gradient_SW: Tensor) -> tuple[Tensor, Tensor, None, None]:
        kernel_SS, wanted_SW, solution_SW = ctx.saved_tensors
        along = _free_directions(solution_SW, ctx.bound * wanted_SW)
        moved_SW = _conjugate_gradient(lambda values_SW: along(kernel_SS @ values_SW), along(gradient_SW))
        for_kernel = -(moved_SW @ solution_SW.mT)
        symmetric: Tensor = (for_kernel + for_kernel.mT) / 2
        return symmetric, moved_SW, None, None


def _free_directions(solution_SW: Tensor, upper_SW: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the projection onto what may move: nothing where a bound holds, and the rest so that rows sum to 0."""
    free_SW = (solution_SW < upper_SW - 1e-6 * upper_SW.max()).to(solution_SW.dtype)
    counts_S1 = free_SW.sum(1, keepdim=True).clamp(min=1)

    def along(values_SW: Tensor) -> Tensor:
        values_SW = values_SW * free_SW
        return (values_SW - values_SW.sum(1, keepdim=True) / counts_S1) * free_SW

    return along


def _projected(values_SW: Tensor, upper_SW: Tensor) -> Tensor:
    """Return the nearest point below ``upper_SW`` whose rows sum to 0: ``min(values - shift, upper)``, row by row."""
    # The sum falls as the shift grows, with corners where an entry meets its bound; between them it is a line.
    corners_SW, order_SW = (values_SW - upper_SW).sort(1, descending=True)
    sorted_values, sorted_upper = values_SW.gather(1, order_SW), upper_SW.gather(1, order_SW)
    places_W = torch.arange(1, values_SW.shape[1] + 1, device=values_SW.device)
    # With the first k entries at their bounds, and the others below: the shift that makes the sum 0.
    bounded_SW = sorted_upper.cumsum(1) - sorted_upper
    below_SW = sorted_values.flip(1).cumsum(1).flip(1)
    shifts_SW = (bounded_SW + below_SW) / (places_W.flip(0)).to(values_SW.dtype)
    # k is the first for which the next corner lies no higher than the shift.
    first_S1 = (shifts_SW >= corners_SW).to(torch.int64).argmax(1, keepdim=True)
    nearest: Tensor = torch.minimum(values_SW - shifts_SW.gather(1, first_S1), upper_SW)
    return nearest


def _conjugate_gradient(apply: Callable[[Tensor], Tensor], wanted: Tensor) -> Tensor:
    """Solve a symmetric system that may be singular, within the span of ``wanted``; no step is taken once solved."""
    solution, residual = torch.zeros_like(wanted), wanted
    direction, size = residual, residual.square().sum()
    least = size * torch.finfo(wanted.dtype).eps ** 2
    for _ in range(_CONJUGATE_STEPS):
        image = apply(direction)
        curvature = (direction * image).sum()
        going = (size > least) & (curvature > 0)
        length = torch.where(going, size / torch.where(going, curvature, torch.ones_like(curvature)), 0.0)
        solution, residual = solution + length * direction, residual - length * image
        after = residual.square().sum()
        turn = torch.where(going, after / torch.where(going, size, torch.ones_like(size)), 0.0)
        direction, size = residual + turn * direction, torch.where(going, after, size)
    return solution
