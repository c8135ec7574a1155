"""Gradient steps on a task's support set, and the exact gradient through them, written for one task.

    theta[0] = start(meta)        theta[t + 1] = theta[t] - rates * gradient(inner_loss)(theta[t])

Finn et al. 2017, "Model-Agnostic Meta-Learning", https://arxiv.org/abs/1703.03400. Everything here is a pure function
of tensors, so that ``torch.func.vmap`` runs many tasks side by side.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.func import grad, jvp, vjp

Weights = dict[str, Tensor]
InnerLoss = Callable[[Weights], Tensor]
"""The loss on the support set, one number."""
OuterLoss = Callable[[Weights], tuple[Tensor, Any]]
"""The loss on the query set, one number, and what else is wanted of it."""

Method = Literal["adjoint", "unrolled", "first_order"]


class MetaGradient(NamedTuple):
    """What ``meta_gradient`` returns."""

    meta: Weights
    """The gradient for each meta parameter."""
    rates: Weights
    """The gradient for each learning rate."""
    loss: Tensor
    """The query loss after adapting."""
    further: Any
    """What else the outer loss returned."""


def descend(inner_loss: InnerLoss, weights: Weights, rates: Mapping[str, Tensor], steps: int) -> Weights:
    """Return the weights after some gradient steps; those without a rate stay as they are."""
    for _ in range(steps):
        weights = _step(weights, grad(inner_loss)(weights), rates)
    return weights


def meta_gradient(
    start: Callable[[Weights], Weights],
    inner_loss: InnerLoss,
    outer_loss: OuterLoss,
    meta: Weights,
    rates: Weights,
    steps: int,
    method: Method = "adjoint",
) -> MetaGradient:
    """Return the gradient of ``outer_loss`` after adapting, for the parameters that adapting starts from.

    ``"unrolled"`` differentiates the whole computation, and keeps every step's graph. ``"adjoint"`` keeps only the
    weights of each step and goes backwards through them, lambda <- lambda - H(theta[t]) (rates * lambda): the same
    gradient, in memory that hardly grows with the steps. ``"first_order"`` leaves the Hessians H out.

    Args:
        start: makes the first weights of the parameters.
        inner_loss: of weights, on the support set.
        outer_loss: of weights, on the query set.
        meta: the parameters.
        rates: a learning rate for each weight that adapts: one number, or one for each of its entries.
        steps: how many gradient steps.
        method: how.
    """
    if method == "unrolled":

        def unrolled(meta: Weights, rates: Weights) -> tuple[Tensor, tuple[Tensor, Any]]:
            loss, further = outer_loss(descend(inner_loss, start(meta), rates, steps))
            return loss, (loss.detach(), further)

        (for_meta, for_rates), (loss, further) = grad(unrolled, argnums=(0, 1), has_aux=True)(meta, rates)
        return MetaGradient(for_meta, for_rates, loss, further)

    weights, pull_back = vjp(start, meta)  # type: ignore[misc]
    path: list[tuple[Weights, Weights]] = []
    for _ in range(steps):
        gradients = grad(inner_loss)(weights)
        path.append((weights, gradients))
        weights = _step(weights, gradients, rates)

    def judged(weights: Weights) -> tuple[Tensor, tuple[Tensor, Any]]:
        loss, further = outer_loss(weights)
        return loss, (loss.detach(), further)

    adjoint, (loss, further) = grad(judged, has_aux=True)(weights)
    for_rates = {name: torch.zeros_like(rate) for name, rate in rates.items()}
    for weights, gradients in reversed(path):
        for name, so_far in for_rates.items():
            for_rates[name] = so_far - (adjoint[name] * gradients[name]).sum_to_size(so_far.shape)
        if method == "adjoint":
            scaled = {
                name: rates[name] * value if name in rates else torch.zeros_like(value)
                for name, value in adjoint.items()
            }
            curved = _hessian_product(inner_loss, weights, scaled)
            adjoint = {name: value - curved[name] for name, value in adjoint.items()}
    return MetaGradient(pull_back(adjoint)[0], for_rates, loss, further)


def _hessian_product(loss: InnerLoss, weights: Weights, direction: Weights) -> Weights:
    # Forward over reverse: at 84 pixels twice as fast as reverse over reverse on a CPU.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit.script. is deprecated", FutureWarning)  # jvp itself uses it
        product: Weights = jvp(grad(loss), (weights,), (direction,))[1]
    return product


def _step(weights: Weights, gradients: Weights, rates: Mapping[str, Tensor]) -> Weights:
    return {name: value - rates[name] * gradients[name] if name in rates else value for name, value in weights.items()}
