"""Gradient steps on a task's support set, and the exact gradient through them, written for one task.

    theta[0] = start(meta)        theta[t + 1] = theta[t] - rates * gradient(inner_loss)(theta[t])

Finn et al. 2017, "Model-Agnostic Meta-Learning", https://arxiv.org/abs/1703.03400. ``descend`` and ``meta_gradient``
are pure functions of tensors, so that ``torch.func.vmap`` runs many tasks side by side; ``meta_gradient_of_one`` is for
one task at a time, by autograd itself, which on a CPU is up to three times as fast.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.func import grad, jvp, vjp

Weights = dict[str, Tensor]
Rates = Mapping[str, Tensor | float]
"""A learning rate for each weight that adapts; those that are tensors are learned."""
InnerLoss = Callable[[Weights], Tensor]
"""The loss on the support set, one number."""
OuterLoss = Callable[[Weights], tuple[Tensor, Any]]
"""The loss on the query set, one number, and what else is wanted of it."""

Method = Literal["adjoint", "unrolled", "first_order"]


class Adaptation(NamedTuple):
    """How a task is adapted to, and judged after."""

    start: Callable[[Weights], Weights]
    """Makes the first weights of the parameters."""
    inner_loss: InnerLoss
    """Of weights, on the support set."""
    outer_loss: OuterLoss
    """Of weights, on the query set."""
    meta: Weights
    """The parameters."""
    rates: Rates
    """A learning rate for each weight that adapts: one number, or one for each of its entries."""
    steps: int
    """How many gradient steps."""
    method: Method
    """How the gradient through them is made."""


class MetaGradient(NamedTuple):
    """What ``meta_gradient`` returns."""

    meta: Weights
    """The gradient for each meta parameter."""
    rates: Weights
    """The gradient for each learning rate that is a tensor."""
    loss: Tensor
    """The query loss after adapting."""
    further: Any
    """What else the outer loss returned."""


def descend(inner_loss: InnerLoss, weights: Weights, rates: Rates, steps: int) -> Weights:
    """Return the weights after some gradient steps; those without a rate stay as they are."""
    with _differentiable():
        for _ in range(steps):
            weights = _step(weights, _inner_gradient(inner_loss, weights, rates), rates)
    return weights


@contextmanager
def _differentiable() -> Iterator[None]:
    """Leave inference mode, in which torch before 2.12 says that every gradient is 0 (pytorch issue 177318)."""
    if not torch.is_inference_mode_enabled():
        yield
        return
    with torch.inference_mode(False), torch.no_grad():
        yield


def meta_gradient(adaptation: Adaptation) -> MetaGradient:
    """Return the gradient of the outer loss after adapting, for the parameters that adapting starts from.

    ``"unrolled"`` differentiates the whole computation, and keeps every step's graph. ``"adjoint"`` keeps only the
    weights of each step and goes backwards through them, lambda <- lambda - H(theta[t]) (rates * lambda): the same
    gradient, in memory that hardly grows with the steps. ``"first_order"`` leaves the Hessians H out.
    """
    start, inner_loss, outer_loss, meta, rates, steps, method = adaptation
    learned = _learned(rates)
    if method == "unrolled":

        def unrolled(meta: Weights, learned: Weights) -> tuple[Tensor, tuple[Tensor, Any]]:
            loss, further = outer_loss(descend(inner_loss, start(meta), {**rates, **learned}, steps))
            return loss, (loss.detach(), further)

        (for_meta, for_rates), (loss, further) = grad(unrolled, argnums=(0, 1), has_aux=True)(meta, learned)
        return MetaGradient(for_meta, for_rates, loss, further)

    weights, pull_back = vjp(start, meta)  # type: ignore[misc]
    path: list[tuple[Weights, Weights]] = []
    for _ in range(steps):
        gradients = _inner_gradient(inner_loss, weights, rates)
        path.append((weights, gradients))
        weights = _step(weights, gradients, rates)

    def judged(weights: Weights) -> tuple[Tensor, tuple[Tensor, Any]]:
        loss, further = outer_loss(weights)
        return loss, (loss.detach(), further)

    adjoint, (loss, further) = grad(judged, has_aux=True)(weights)

    def curved(weights: Weights, direction: Weights) -> Weights:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*torch.jit.script. is deprecated", FutureWarning)  # jvp itself uses it
            product: Weights = jvp(grad(inner_loss), (weights,), (direction,))[1]
        return product

    adjoint, for_rates = _backwards(path, adjoint, rates, curved if method == "adjoint" else None)
    return MetaGradient(pull_back(adjoint)[0], for_rates, loss, further)


def meta_gradient_of_one(adaptation: Adaptation) -> MetaGradient:
    """Return what ``meta_gradient`` does; does not pass through ``torch.func.vmap``."""
    start, inner_loss, outer_loss, meta, rates, steps, method = adaptation
    with torch.enable_grad():
        meta = _leaves(meta)
        weights = start(meta)
        if method == "unrolled":
            learned = _leaves(_learned(rates))
            # One may come of another, or be a constant.
            weights = {name: (v.view_as(v) if v.requires_grad else _leaf(v)) for name, v in weights.items()}
            for _ in range(steps):
                # Of these alone: the way to one that stays leads through all steps before, which are kept again for it.
                gradients = _gradient(inner_loss(weights), _moving(weights, rates), create_graph=True)
                weights = _step(weights, gradients, {**rates, **learned})
            loss, further = outer_loss(weights)
            found = _gradient(loss, {**meta, **{f"rate of {name}": rate for name, rate in learned.items()}})
            for_meta = {name: found[name] for name in meta}
            return MetaGradient(for_meta, {name: found[f"rate of {name}"] for name in learned}, loss.detach(), further)

        first, path = weights, []
        weights = _leaves(weights)
        for _ in range(steps):
            gradients = _gradient(inner_loss(weights), _moving(weights, rates))
            path.append((weights, gradients))
            weights = _leaves(_step(weights, gradients, rates))
        loss, further = outer_loss(weights)

        def curved(weights: Weights, direction: Weights) -> Weights:
            gradients = _gradient(inner_loss(weights), weights, create_graph=True)
            return _gradient(gradients, weights, along=direction)

        adjoint, for_rates = _backwards(path, _gradient(loss, weights), rates, curved if method == "adjoint" else None)
        return MetaGradient(_gradient(first, meta, along=adjoint), for_rates, loss.detach(), further)


def _backwards(
    path: list[tuple[Weights, Weights]],
    adjoint: Weights,
    rates: Rates,
    curved: Callable[[Weights, Weights], Weights] | None,
) -> tuple[Weights, Weights]:
    """Take the gradient for the last weights back to the first, and collect that for the rates.

    Args:
        path: the weights and gradients of every step.
        adjoint: the gradient for the weights after the last.
        rates: of the steps.
        curved: returns the inner loss's Hessian at given weights times a direction; without it Hessians count as 0.
    """
    for_rates = {name: torch.zeros_like(rate) for name, rate in _learned(rates).items()}
    for weights, gradients in reversed(path):
        for name, so_far in for_rates.items():
            for_rates[name] = so_far - (adjoint[name] * gradients[name]).sum_to_size(so_far.shape)
        if curved is not None:
            scaled = {
                name: rates[name] * value if name in rates else torch.zeros_like(value)
                for name, value in adjoint.items()
            }
            product = curved(weights, scaled)
            adjoint = {name: value - product[name] for name, value in adjoint.items()}
    return adjoint, for_rates


def _step(weights: Weights, gradients: Weights, rates: Rates) -> Weights:
    return {name: value - rates[name] * gradients[name] if name in rates else value for name, value in weights.items()}


def _moving(weights: Weights, rates: Rates) -> Weights:
    return {name: weights[name] for name in rates}


def _inner_gradient(inner_loss: InnerLoss, weights: Weights, rates: Rates) -> Weights:
    """Return the gradient for the weights that have a rate."""
    gradients: Weights = grad(lambda moving: inner_loss({**weights, **moving}))(_moving(weights, rates))
    return gradients


def _learned(rates: Rates) -> Weights:
    return {name: rate for name, rate in rates.items() if isinstance(rate, Tensor)}


def _leaf(value: Tensor) -> Tensor:
    return value.detach().requires_grad_()


def _leaves(weights: Weights) -> Weights:
    return {name: _leaf(value) for name, value in weights.items()}


def _gradient(
    of: Tensor | Weights, weights: Weights, along: Weights | None = None, create_graph: bool = False
) -> Weights:
    """Return the gradient of a number, or of values along a direction; 0 for weights that do not matter."""
    named = {"": of} if isinstance(of, Tensor) else of
    depending = [name for name, value in named.items() if value.requires_grad]  # others are constants
    if not depending:
        return {name: torch.zeros_like(value) for name, value in weights.items()}
    outputs = [named[name] for name in depending]
    directions = None if along is None else [along[name] for name in depending]
    found = torch.autograd.grad(
        outputs, list(weights.values()), directions, create_graph=create_graph, materialize_grads=True
    )
    return dict(zip(weights, found, strict=True))
