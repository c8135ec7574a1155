"""A number whose gradients were computed on the way to it, handed to autograd."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from quickstudy.torch_internals import parameter_of


def known_gradient(value: Tensor, gradients: Sequence[Tensor], parameters: Sequence[Tensor]) -> Tensor:
    """Return ``value``, whose ``backward`` gives each parameter the gradient of the same place."""
    known: Tensor = _Known.apply(value, gradients, *parameters)
    return known


def once(value: Tensor, *depends_on: Tensor) -> Tensor:
    """Return ``value``, a gradient that depends on others but cannot be differentiated; it raises where it would be.

    ``once_differentiable`` of torch forgets that the others matter.
    """
    same: Tensor = _Once.apply(value, *depends_on)
    return same


class Backwards:
    """Losses that are taken backwards one by one, so that not all of their graphs coexist."""

    def __init__(self) -> None:
        self._values: list[Tensor] = []
        self._sums: dict[Tensor, Tensor] = {}

    def add(self, loss: Tensor) -> None:
        """Add a number, and take it backwards where anything depends on it."""
        self._values.append(loss.detach())
        leaves = _leaves(loss)
        for leaf, gradient in zip(leaves, torch.autograd.grad(loss, leaves), strict=True) if leaves else ():
            self._sums[leaf] = self._sums[leaf] + gradient if leaf in self._sums else gradient

    @property
    def total(self) -> Tensor:
        """The sum, whose ``backward`` hands out the gradients."""
        total = torch.stack(self._values).sum()
        return known_gradient(total, list(self._sums.values()), list(self._sums)) if self._sums else total


def _leaves(value: Tensor) -> list[Tensor]:
    """Return the tensors that ``backward`` would give a gradient: all parameters that matter, whoever's they are."""
    found: dict[Tensor, None] = {}
    seen, ahead = set(), [value.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if (parameter := parameter_of(node)) is not None:
            found[parameter] = None
        ahead.extend(further for further, _ in node.next_functions)
    return list(found)


class _Known(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: Sequence[Tensor], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Any, ...]:
        return None, None, *(scale.to(gradient.dtype) * gradient for gradient in ctx.gradients)


class _Once(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, *_: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> Any:
        raise NotImplementedError("a solver's optimum has no second derivative here")
