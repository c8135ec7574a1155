"""The one form in which a few-shot task travels from the data to an algorithm."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from quickstudy.errors import ConfigError, DataError

Unit = Literal["episodes", "examples"]
"""What one figure is of, all of which are independent of each other."""
UNITS: tuple[Unit, ...] = get_args(Unit)


class Episode(NamedTuple):
    """T few-shot tasks side by side: learn from the support, be judged on the query.

    Shapes: T tasks, S support and Q query examples per task, ``...`` the shape of one input.
    Targets count from 0 within each task; rows are ordered by class.
    """

    support: Tensor
    """``[T, S, ...]``"""
    support_targets: Tensor
    """``[T, S]``, int64; or floats, where they are numbers"""
    query: Tensor
    """``[T, Q, ...]``"""
    query_targets: Tensor
    """``[T, Q]``, likewise"""


def as_episode(batch: object) -> Episode:
    """Return a batch that is an episode.

    Raises:
        ConfigError: it is something else.
    """
    if not isinstance(batch, Episode):
        raise ConfigError(
            f"a few-shot strategy takes batches of quickstudy.Episode, not {type(batch).__name__}: give datamodule=, "
            "or a loader of episodes"
        )
    return batch


def check_episode(batch: object, ways: int) -> Episode:
    """Return a batch that is an episode with targets that can be learned.

    Raises:
        ConfigError: it is something else.
        DataError: a target is not from 0 to ``ways - 1``, or a task has no support of a class.
    """
    batch = as_episode(batch)
    if batch.support_targets.is_floating_point():
        raise DataError("an episode's targets are numbers, and classes are asked: use a task of numbers")
    classes_W = torch.arange(ways, device=batch.support_targets.device)
    lacking_TW = (batch.support_targets[..., None] != classes_W).all(1)
    targets = torch.cat([batch.support_targets.flatten(), batch.query_targets.flatten()])
    lowest, highest, lacking = torch.stack([*targets.aminmax(), lacking_TW.any()]).tolist()  # a GPU is asked once
    if lowest < 0 or highest >= ways:
        wrong = lowest if lowest < 0 else highest
        raise DataError(f"an episode has the target {wrong}: with {ways} ways they count from 0 to {ways - 1}")
    if lacking:
        task, code = lacking_TW.nonzero()[0].tolist()
        raise DataError(f"task {task} of an episode has no support example of class {code}, and {ways} ways")
    return batch
