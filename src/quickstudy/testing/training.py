"""Checks of the conformance suite on training: what is returned, tasks side by side, and gradients."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from quickstudy.algorithms import Algorithm, EmbeddingAlgorithm
from quickstudy.algorithms.base import Loss
from quickstudy.batches import join, take
from quickstudy.episode import Episode
from quickstudy.nets import Encoder
from quickstudy.testing.demands import Make, demand, demand_close, evaluating, trained
from quickstudy.testing.made_up import QUERIES, TASKS, WAYS, small_episodes


def _returns_loss_and_logits(make: Make) -> None:
    episodes, wanted = small_episodes(), (TASKS, WAYS * QUERIES, WAYS)
    for algorithm, encoder in (make(False), evaluating(make(False))):
        loss, logits = algorithm.judge(encoder, episodes, WAYS, _smoothed)
        demand(tuple(logits.shape) == wanted, "logits are [T, Q, W]", f"{tuple(logits.shape)} for {wanted}")
        demand(loss.ndim == 0 and bool(loss.isfinite()), "the loss is one finite number", loss.detach())
        handed = _smoothed(logits.flatten(0, 1), episodes.query_targets.flatten())
        demand_close(loss, handed, "the loss is the one that was handed over")


def _tasks_do_not_touch_each_other(make: Make, norm: bool = False) -> None:
    algorithm, encoder = make(norm)
    episodes = small_episodes(form=make.form)
    together, gradients = trained(algorithm, encoder, episodes)
    singly = [
        trained(algorithm, encoder, Episode(*(take(part, slice(task, task + 1)) for part in episodes)))
        for task in range(TASKS)
    ]
    demand_close(together, torch.cat([logits for logits, _ in singly]), "tasks side by side answer as one by one")
    mean = torch.stack([gradient for _, gradient in singly]).mean(0)
    demand_close(gradients, mean, "the gradient is the mean over the tasks")
    if isinstance(algorithm, EmbeddingAlgorithm):
        plain = []
        for task in range(TASKS):
            support, targets, query, _ = (take(part, task) for part in episodes)
            embedded = encoder(join([support, query]))
            state = algorithm.fit(embedded[: len(targets)], targets, WAYS)
            plain.append(algorithm.logits(state, embedded[len(targets) :]))
        demand_close(together, torch.stack(plain), "vmap answers as plain calls of fit and logits")
    for chunk in (2, TASKS):
        algorithm.task_chunk = chunk
        logits, chunked = trained(algorithm, encoder, episodes)
        demand_close(together, logits, f"{chunk} tasks at once answer as one by one")
        demand_close(gradients, chunked, f"{chunk} tasks at once have the gradient of one by one")


def _gradients_are_those_of_the_loss(make: Make, norm: bool = False) -> None:
    algorithm, encoder = make(norm)
    if not algorithm.exact_gradient:
        return
    # Once of a loss that the algorithm cannot know, and once of its own.
    loss = algorithm.loss if norm else _smoothed
    episodes = small_episodes(form=make.form)
    _, gradient = trained(algorithm, encoder, episodes, loss)
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn(gradient.shape, generator=generator, dtype=torch.float64)
    direction /= direction.norm()
    analytic, least = float(gradient @ direction), float(gradient.norm()) * 1e-3
    found: list[float] = []
    for step in (1e-5, 1e-4, 1e-6):  # a long one may cross a kink, and a short one shows how exact a solver is
        found.append(_slope(algorithm, encoder, episodes, loss, direction, step))
        if abs(found[-1] - analytic) < 1e-5 * max(abs(found[-1]), least, 1e-12):
            return
    demand(False, "the gradient is that of the loss", f"{analytic}; finite differences give {found}")


def _another_direction_lowers_the_loss_too(make: Make) -> None:
    for norm in (False, True):
        algorithm, encoder = make(norm)
        if algorithm.exact_gradient:
            return
        episodes = small_episodes(form=make.form)
        _, gradient = trained(algorithm, encoder, episodes)
        slope = _slope(algorithm, encoder, episodes, algorithm.loss, -gradient / gradient.norm(), 1e-4)
        demand(slope < 0, "a step against the gradient lowers the loss", f"its slope is {slope:.1e}")


def _every_parameter_has_a_gradient(make: Make) -> None:
    algorithm, encoder = make(False)
    trained(algorithm, encoder, small_episodes(form=make.form))
    for name, parameter in [*encoder.named_parameters(), *algorithm.named_parameters()]:
        found = parameter.grad is not None and bool(parameter.grad.isfinite().all())
        demand(found or not parameter.requires_grad, "every parameter has a gradient", name)
    for name, parameter in algorithm.named_parameters():
        if not parameter.requires_grad:
            continue  # frozen on purpose
        demand(parameter.grad is not None and bool(parameter.grad.any()), "every parameter of its own matters", name)


TRAINING = (
    _returns_loss_and_logits,
    _tasks_do_not_touch_each_other,
    partial(_tasks_do_not_touch_each_other, norm=True),
    _gradients_are_those_of_the_loss,
    partial(_gradients_are_those_of_the_loss, norm=True),
    _another_direction_lowers_the_loss_too,
    _every_parameter_has_a_gradient,
)
CROSSED = (
    partial(_tasks_do_not_touch_each_other, norm=True),
    partial(_gradients_are_those_of_the_loss, norm=True),
)
"""What an algorithm breaks that handles inputs as if all were tensors of one shape."""


def _smoothed(logits_NW: Tensor, targets_N: Tensor) -> Tensor:
    """A loss that is no algorithm's own."""
    return F.cross_entropy(logits_NW, targets_N, label_smoothing=0.5)


def _slope(
    algorithm: Algorithm, encoder: Encoder, episodes: Episode, loss: Loss, direction: Tensor, step: float
) -> float:
    """Return the slope of the training loss along a direction in the parameters, by a central difference."""
    parameters = [*encoder.parameters(), *algorithm.parameters()]
    parts = torch.split(direction, [parameter.numel() for parameter in parameters])

    def loss_at(step: float) -> float:
        _move(step)
        value = float(algorithm.judge(encoder, episodes, WAYS, loss)[0].detach())
        _move(-step)
        return value

    def _move(step: float) -> None:
        with torch.no_grad():
            for parameter, part in zip(parameters, parts, strict=True):
                parameter.add_(step * part.view_as(parameter))

    return (loss_at(step) - loss_at(-step)) / (2 * step)
