"""What the checks of the conformance suite have in common: how they ask an algorithm, and how they complain."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from quickstudy.algorithms import Algorithm
from quickstudy.algorithms.base import Loss
from quickstudy.episode import Episode
from quickstudy.nets import Encoder
from quickstudy.testing.made_up import WAYS, Form
from quickstudy.trainer import Trainer

CLOSE = 1e-10
NEAR = 1e-8
"""Where sums are taken in another order."""


class Make(Protocol):
    """Makes the algorithm and a small encoder, with BatchNorm or without, in training mode and float64."""

    @property
    def form(self) -> Form:
        """Of the inputs, that ``small_episodes`` is to make."""

    def __call__(self, norm: bool, seed: int = 0) -> tuple[Algorithm, Encoder]:
        """Make both; the algorithm after torch's generator was seeded."""


class NonconformingError(AssertionError):
    """Something breaks its contract; the message names the check and the numbers."""


def demand(held: bool, what: str, found: Any) -> None:
    """Raise an error unless something holds."""
    if not held:
        raise NonconformingError(f"{what}: {found}")


def demand_close(some: Tensor, other: Tensor, what: str, within: float = CLOSE) -> None:
    """Raise an error unless two tensors are almost equal."""
    error = float(((some - other).abs().max() / some.abs().max().clamp(min=1e-12)).detach())
    demand(error < within, what, f"they differ by {error:.1e} of the largest, more than {within}")


def check_randomness(run: Callable[[int], Any], when: str, draws: bool = False) -> None:
    """Raise an error if a function moves the generators that a process has.

    Args:
        run: the function, of a seed that torch has been given.
        when: it runs.
        draws: whether it may draw from torch's generator, which a run seeds; it must never seed that itself.
    """
    after, drawn = [], set[str]()
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state(), random.getstate(), _of_numpy()
        run(seed)
        after.append(torch.get_rng_state())
        drawn |= {"torch"} if not draws and not torch.equal(before[0], after[-1]) else set()
        drawn |= {"random"} if before[1] != random.getstate() else set()
        drawn |= {"numpy"} if before[2] != _of_numpy() else set()
    demand(not torch.equal(*after), f"it does not seed torch {when}", "torch.manual_seed, or the like, was called")
    demand(not drawn, f"it draws from no generator of the process {when}", sorted(drawn))


def _of_numpy() -> str:
    return str(np.random.get_state())  # noqa: NPY002 - libraries draw from the global generator


def is_file(item: Any) -> bool:
    """Return whether an input is the name of a file that there is."""
    try:
        return isinstance(item, (str, os.PathLike)) and Path(item).is_file()
    except (OSError, ValueError):  # of a text that is too long for a name
        return False


def quiet_trainer(**options: Any) -> Trainer:
    """Return a trainer on one CPU process that shows nothing."""
    silent: dict[str, Any] = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    return Trainer(accelerator="cpu", devices=1, log_every_n_steps=1, **silent, **options)


@contextmanager
def quiet() -> Iterator[None]:
    """Have Lightning tell nothing of the machine, and leave torch's generator as it was."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        logger.setLevel(level)


def evaluating(made: tuple[Algorithm, Encoder]) -> tuple[Algorithm, Encoder]:
    """Return the algorithm and the encoder in evaluation mode."""
    algorithm, encoder = made
    return algorithm.eval(), encoder.eval()


def answers(algorithm: Algorithm, encoder: Encoder, episodes: Episode) -> Tensor:
    """Return the logits, found as in training where the algorithm is in training mode."""
    with torch.set_grad_enabled(algorithm.training):
        return algorithm.judge(encoder, episodes, WAYS, algorithm.loss)[1].detach()


def trained(
    algorithm: Algorithm, encoder: Encoder, episodes: Episode, loss: Loss | None = None
) -> tuple[Tensor, Tensor]:
    """Return the logits and the gradient of every parameter, in one vector."""
    parameters = [*encoder.parameters(), *algorithm.parameters()]
    for parameter in parameters:
        parameter.grad = None
    value, logits = algorithm.judge(encoder, episodes, WAYS, loss or algorithm.loss)
    value.backward()  # type: ignore[no-untyped-call]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    return logits.detach(), torch.cat([gradient.flatten() for gradient in gradients])
