"""Shapes: point clouds of things that do not exist, put together from a few solids. A class is a way of doing that.

A stand-in for a data set of point clouds that needs no download. A class says which solids stand where, how large each
is and which is there twice, on both sides; each example varies these a little, stands turned about its upright axis as
chance has it, and is measured with some noise. Classes of validation and test are none of training's. What solid a
point was drawn from is known, too (``labelled_shapes``).

Shapes: N clouds, P points.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from quickstudy.data.table import Splits, Table
from quickstudy.datasets.cached import cached_tables
from quickstudy.datasets.registry import DATASETS
from quickstudy.errors import check_counts
from quickstudy.files import cache_folder

SOLIDS = ("box", "cylinder", "cone", "ball", "ring")
"""What shapes are made of, by the number that a point has of it."""
_FORMAT = 1  # count up when other shapes are made
_CLASSES = {"train": 48, "val": 12, "test": 20}
_POINTS = 256
_NOISE, _APART, _VARIED = 0.01, 0.05, 0.12  # of a point, of where a solid stands, of its sizes


@DATASETS.register("shapes")
def shapes(root: str | os.PathLike[str] | None = None, *, examples: int = 20) -> Splits:
    """Return point clouds of 80 classes, made on the first call and cached.

    Args:
        root: folder of the cached file; default: quickstudy's cache folder.
        examples: clouds of each class.

    Returns:
        Tables of float32 ``[N, 256, 3]``, sorted by class: 48 classes to train on, 12 to validate, 20 to test.

    Raises:
        ConfigError: ``examples`` is below 1.
    """
    labelled = labelled_shapes(root, examples=examples)
    return Splits(*(replace(table, inputs=table.inputs[:, :, :3]) for table in labelled))  # type: ignore[index]


def labelled_shapes(root: str | os.PathLike[str] | None = None, *, examples: int = 20) -> Splits:
    """Return the same with the number of each point's solid in ``SOLIDS`` behind x, y, z: ``[N, 256, 4]``.

    Raises:
        ConfigError: ``examples`` is below 1.
    """
    check_counts(examples=examples)
    folder = cache_folder() if root is None else Path(root)
    path = folder / f"shapes-{_FORMAT}-{examples}.npz"
    return Splits(*cached_tables(path, "the shapes", Splits._fields, partial(_make, examples)))


def _make(examples: int) -> list[Table]:
    tables, first = [], 0
    for count in _CLASSES.values():
        numbers = range(first, first + count)
        clouds = np.stack([_cloud(number, example) for number in numbers for example in range(examples)])
        targets = np.repeat(np.arange(count, dtype=np.int32), examples)
        tables.append(Table(torch.from_numpy(clouds), targets, tuple(f"shape {number:02}" for number in numbers)))
        first += count
    return tables


class _Part(NamedTuple):
    """A solid of a shape."""

    solid: int
    half: NDArray[np.float64]
    """Its sizes along x, y and z."""
    middle: NDArray[np.float64]
    twice: bool
    """Whether there is another on the other side."""


def _parts(number: int) -> list[_Part]:
    """Return what shapes of a class are made of: a body, and one to three solids at its sides."""
    generator = np.random.default_rng([0, number])
    body = _Part(int(generator.integers(len(SOLIDS))), generator.uniform(0.3, 1, 3), np.zeros(3), False)
    parts = [body]
    for _ in range(generator.integers(1, 4)):
        half, axis, side = generator.uniform(0.12, 0.6, 3), int(generator.integers(3)), generator.choice([-1.0, 1.0])
        middle = generator.uniform(-0.6, 0.6, 3) * body.half
        middle[axis] = side * (body.half[axis] + 0.8 * half[axis])
        parts.append(_Part(int(generator.integers(len(SOLIDS))), half, middle, bool(generator.random() < 0.5)))
    return parts


def _cloud(number: int, example: int) -> NDArray[np.float32]:
    """Return an example of a class, ``[P, 4]``."""
    generator = np.random.default_rng([1, number, example])
    solids = []
    for part in _parts(number):
        half = part.half * np.exp(generator.normal(0, _VARIED, 3))
        middle = part.middle + generator.normal(0, _APART, 3)
        places = [middle, middle * [-1, 1, 1]] if part.twice else [middle]
        solids += [(part.solid, half, place) for place in places]
    areas = np.array([half[0] * half[1] + half[1] * half[2] + half[0] * half[2] for _, half, _ in solids])
    counts = generator.multinomial(_POINTS, areas / areas.sum())
    drawn = [
        np.column_stack([_DRAWN[solid](generator, count, half) + place, np.full(count, solid)])
        for (solid, half, place), count in zip(solids, counts, strict=True)
    ]
    cloud = np.concatenate(drawn)
    angle = generator.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    cloud[:, :2] = cloud[:, :2] @ turn
    cloud[:, :3] += generator.normal(0, _NOISE, (_POINTS, 3))
    return cloud[generator.permutation(_POINTS)].astype(np.float32)


_Draw = Callable[[np.random.Generator, int, NDArray[np.float64]], NDArray[np.float64]]


def _box(generator: np.random.Generator, count: int, half: NDArray[np.float64]) -> NDArray[np.float64]:
    points = generator.uniform(-1, 1, (count, 3))
    areas = half.prod() / half
    axes = generator.choice(3, count, p=areas / areas.sum())
    points[np.arange(count), axes] = np.sign(points[np.arange(count), axes])
    return points * half


def _turned(generator: np.random.Generator, count: int, half: NDArray[np.float64], top: float) -> NDArray[np.float64]:
    """Draw from what is round about z, with a radius of 1 below and of ``top`` above."""
    wide = half[:2].mean()
    areas = np.array([2 * half[2] * (1 + top), wide, wide * top**2])
    where = generator.choice(3, count, p=areas / areas.sum())  # on the side, below, above
    up = np.where(where == 0, generator.uniform(-1, 1, count), np.where(where == 1, -1.0, 1.0))
    rim = 1 + (top - 1) * (up + 1) / 2
    radius = np.where(where == 0, rim, rim * np.sqrt(generator.random(count)))
    angle = generator.uniform(0, 2 * np.pi, count)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), up], 1) * half


def _ball(generator: np.random.Generator, count: int, half: NDArray[np.float64]) -> NDArray[np.float64]:
    points = generator.normal(size=(count, 3))
    rounded: NDArray[np.float64] = points / np.linalg.norm(points, axis=1, keepdims=True).clip(1e-9) * half
    return rounded


def _ring(generator: np.random.Generator, count: int, half: NDArray[np.float64]) -> NDArray[np.float64]:
    around, across = generator.uniform(0, 2 * np.pi, (2, count))
    radius = 0.75 + 0.25 * np.cos(across)
    return np.stack([radius * np.cos(around), radius * np.sin(around), np.sin(across)], 1) * half


_DRAWN: tuple[_Draw, ...] = (_box, partial(_turned, top=1.0), partial(_turned, top=0.0), _ball, _ring)
