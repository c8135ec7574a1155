"""Motions: characters that move, as clips. A class is a motion, and never what moves.

A stand-in for a data set of videos that needs no download. Each clip shows another character, from another place, at
another size, by more or less of the motion. Each motion has its opposite, of which the same frames come in the other
order: a single frame, or the mean of all, tells nothing of which it is. Motions of validation and test are none of
training's, and neither are their characters.

Shapes: N clips, T frames, S pixels of a side, M motions.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from quickstudy.data.table import Splits, Table
from quickstudy.datasets.cached import cached_tables
from quickstudy.datasets.glyphs import glyphs
from quickstudy.datasets.registry import DATASETS
from quickstudy.errors import check_counts
from quickstudy.files import cache_folder

_FORMAT = 1  # count up when other clips are made
_FRAMES, _SIDE = 16, 32

Pose = dict[str, Tensor]
"""Where a character is, ``x`` and ``y`` of -1..1, its ``angle``, and its ``width`` and ``height`` beside its own."""
Motion = Callable[[Tensor], Pose]
"""From time, 0..1, to a pose, of which what is not said stays."""


def _line(degrees: float, time: Tensor) -> Pose:
    turn = math.radians(degrees)
    return {"x": math.cos(turn) * (time - 0.5), "y": math.sin(turn) * (time - 0.5)}


def _arc(height: float, time: Tensor) -> Pose:
    return {"x": time - 0.5, "y": height * (4 * time * (1 - time) - 0.5)}


def _circle(turns: float, time: Tensor) -> Pose:
    angle = 2 * math.pi * turns * time
    return {"x": 0.4 * angle.cos(), "y": 0.4 * angle.sin()}


def _turn(turns: float, time: Tensor) -> Pose:
    return {"angle": 2 * math.pi * turns * (time - 0.5)}


def _size(time: Tensor, wide: float = 1.0, high: float = 1.0) -> Pose:
    return {"width": 2 ** (wide * (2 * time - 1)), "height": 2 ** (high * (2 * time - 1))}


def _spiral(time: Tensor) -> Pose:
    angle = 3 * math.pi * time
    return {"x": 0.6 * time * angle.cos(), "y": 0.6 * time * angle.sin()}


def _steps(time: Tensor) -> Pose:
    return {"x": (2 * time).clamp(max=1) - 0.5, "y": (2 * time - 1).clamp(min=0) - 0.5}


def _opposite(motion: Motion, time: Tensor) -> Pose:
    return motion(1 - time)


_PAIRS: dict[str, dict[tuple[str, str], Motion]] = {
    "train": {
        ("right", "left"): partial(_line, 0),
        ("down and right", "up and left"): partial(_line, 45),
        ("over a hill to the right", "over a hill to the left"): partial(_arc, -0.8),
        ("a turn clockwise", "a turn counterclockwise"): partial(_turn, 0.4),
        ("growing", "shrinking"): _size,
        ("growing wide", "shrinking thin"): partial(_size, high=0.0),
        ("round clockwise", "round counterclockwise"): partial(_circle, 1),
        ("right, then down", "up, then left"): _steps,
    },
    "val": {
        ("up and right", "down and left"): partial(_line, -45),
        ("a half round clockwise", "a half round counterclockwise"): partial(_circle, 0.5),
        ("growing tall, thin", "growing flat, wide"): partial(_size, wide=-1.0),
    },
    "test": {
        ("down", "up"): partial(_line, 90),
        ("through a valley to the right", "through a valley to the left"): partial(_arc, 0.8),
        ("growing tall", "shrinking flat"): partial(_size, wide=0.0),
        ("a spiral outwards", "a spiral inwards"): _spiral,
        ("two rounds clockwise", "two rounds counterclockwise"): partial(_circle, 2),
    },
}


@DATASETS.register("motions")
def motions(root: str | os.PathLike[str] | None = None, *, examples: int = 40) -> Splits:
    """Return clips of 32 motions, made on the first call and cached.

    Args:
        root: folder of the cached file; default: quickstudy's cache folder.
        examples: clips of each motion.

    Returns:
        Tables of grey clips uint8 ``[N, 1, 16, 32, 32]``, bright on black, sorted by motion: 16 to train on, 6 to
        validate, 10 to test.

    Raises:
        ConfigError: ``examples`` is below 1.
        DataError: matplotlib's fonts, which the characters are drawn in, are missing.
    """
    check_counts(examples=examples)
    folder = cache_folder() if root is None else Path(root)
    path = folder / f"motions-{_FORMAT}-{examples}.npz"
    return Splits(*cached_tables(path, "the motions", Splits._fields, partial(_make, root, examples)))


def _make(root: str | os.PathLike[str] | None, examples: int) -> list[Table]:
    tables = []
    for seed, (characters, pairs) in enumerate(zip(glyphs(root), _PAIRS.values(), strict=True)):
        generator = torch.Generator().manual_seed(seed)
        named = {names[0]: motion for names, motion in pairs.items()}
        named |= {names[1]: partial(_opposite, motion) for names, motion in pairs.items()}
        assert isinstance(characters.inputs, Tensor)
        clips = [_clips(motion, characters.inputs, examples, generator) for _, motion in sorted(named.items())]
        targets = torch.arange(len(named), dtype=torch.int32).repeat_interleave(examples).numpy()
        tables.append(Table(torch.cat(clips), targets, tuple(sorted(named))))
    return tables


def _clips(motion: Motion, characters: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return clips of one motion, uint8 ``[count, 1, T, S, S]``."""

    def drawn(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, generator=generator, dtype=torch.float64)

    chosen = characters[torch.randint(len(characters), (count,), generator=generator)].double()
    extent, size, tilt = drawn(0.6, 1.0), drawn(0.45, 0.65), drawn(-0.4, 0.4)
    time = 0.5 + extent * (torch.linspace(0, 1, _FRAMES, dtype=torch.float64) - 0.5)  # more or less of the motion
    still = torch.zeros_like(time)
    pose = {"x": still, "y": still, "angle": still, "width": still + 1, "height": still + 1, **motion(time)}
    x, y, angle = pose["x"] + drawn(-0.3, 0.3), pose["y"] + drawn(-0.3, 0.3), pose["angle"] + tilt
    cos, sin = angle.cos(), angle.sin()
    wide, high = size * pose["width"], size * pose["height"]
    # From a place of the frame to one of the character: moved, turned, then scaled, each the other way round.
    rows = [
        torch.stack([cos / wide, sin / wide, -(cos * x + sin * y) / wide], 2),
        torch.stack([-sin / high, cos / high, (sin * x - cos * y) / high], 2),
    ]
    maps = torch.stack(rows, 2).flatten(0, 1)
    places = F.affine_grid(maps, [count * _FRAMES, 1, _SIDE, _SIDE], align_corners=False)
    frames = F.grid_sample(chosen.repeat_interleave(_FRAMES, 0), places, align_corners=False)
    clips = frames.round().clamp(0, 255).to(torch.uint8).view(count, _FRAMES, 1, _SIDE, _SIDE)
    return clips.transpose(1, 2).contiguous()
