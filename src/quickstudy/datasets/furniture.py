"""Furniture: pieces that do not exist, with the part that each point is of; and rooms of them, with their boxes.

A stand-in for data sets of labelled points that needs no download: tables, chairs, lamps and beds of boxes and
cylinders, each of other proportions, turned about its upright axis as chance has it, and measured with some noise.
Points lie on the surface of a piece as it is seen: none inside another part, nor where two parts touch.

Shapes: P points, M pieces of a room.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

PARTS = ("top", "leg", "seat", "back", "base", "pole", "shade", "mattress", "board")
"""By the number that a point has of it."""
PIECES = ("table", "chair", "lamp", "bed")
_NOISE = 0.01  # metres
_ROOM, _FLOOR, _EACH = 8.0, 500, 150  # metres of a side; points of the floor, and of each piece
Numbers = NDArray[np.float64]


class _Solid(NamedTuple):
    part: str
    half: tuple[float, float, float]
    middle: tuple[float, float, float]
    round: bool = False


def furniture(
    count: int, points: int = 512, seed: int = 0, turned: bool = True
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.int64]]]:
    """Return pieces, each kind in turn, and the parts that their points are of.

    Args:
        count: of pieces.
        points: P of each.
        seed: of all that is drawn.
        turned: whether each is turned about its upright axis; else all look ahead, as those of ShapeNet do.

    Returns:
        ``[P, 3]`` each, and ``[P]`` places in ``PARTS``.
    """
    clouds, labels = [], []
    for number in range(count):
        generator = np.random.default_rng([seed, number])
        solids = _MADE[number % len(PIECES)](generator)
        xyz, parts = _drawn(generator, solids, points)
        angle = generator.uniform(0, 2 * np.pi) if turned else 0.0
        xyz = xyz @ _turn(angle) + generator.normal(0, _NOISE, xyz.shape)
        clouds.append(xyz.astype(np.float32))
        labels.append(parts)
    return clouds, labels


def rooms(count: int, seed: int = 0) -> tuple[list[NDArray[np.float32]], list[dict[str, Any]]]:
    """Return rooms with up to six pieces on their floor, and the boxes that these fill.

    Args:
        count: of rooms.
        seed: of all that is drawn.

    Returns:
        ``[P, 3]`` each, in metres; and ``{"boxes": [M, 7], "labels": [M]}`` with names of ``PIECES``.
    """
    scenes, targets = [], []
    for number in range(count):
        generator = np.random.default_rng([1, seed, number])
        floor = np.concatenate([generator.uniform(0, _ROOM, (_FLOOR, 2)), np.zeros((_FLOOR, 1))], 1)
        parts, boxes, names, stands = [floor], list[list[float]](), list[str](), list[tuple[Numbers, float]]()
        for _ in range(generator.integers(0 if number % 10 == 0 else 1, 7)):
            kind = int(generator.integers(len(PIECES)))
            xyz, _ = _drawn(generator, _MADE[kind](generator), _EACH)
            low, high = xyz.min(0), xyz.max(0)
            reach, where = float(np.hypot(*(high - low)[:2])) / 2, generator.uniform(1, _ROOM - 1, 2)
            if any(np.hypot(*(where - other)) < reach + far for other, far in stands):
                continue  # there stands another
            angle = float(generator.uniform(-np.pi / 2, np.pi / 2))
            xyz = (xyz - (low + high) / 2 * [1, 1, 0]) @ _turn(angle) + [*where, 0]
            stands.append((where, reach))
            parts.append(xyz)
            boxes.append([*where, (low[2] + high[2]) / 2, *(high - low), angle])
            names.append(PIECES[kind])
        scene = np.concatenate(parts)
        scenes.append((scene + generator.normal(0, _NOISE, scene.shape)).astype(np.float32))
        targets.append({"boxes": np.array(boxes).reshape(-1, 7), "labels": names})
    return scenes, targets


def _turn(angle: float) -> Numbers:
    """Return the rotation about z that rows are multiplied by."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])


def _drawn(generator: np.random.Generator, solids: list[_Solid], count: int) -> tuple[Numbers, NDArray[np.int64]]:
    areas = np.array([a * b + b * c + a * c for a, b, c in (solid.half for solid in solids)])
    shares = np.sqrt(areas)  # so that what is thin is seen, too
    counts = 3 + generator.multinomial(count - 3 * len(solids), shares / shares.sum())
    xyz = [
        _seen(generator, number, solid, [one for one in solids if one is not solid])
        for solid, number in zip(solids, counts, strict=True)
    ]
    parts = np.repeat([PARTS.index(solid.part) for solid in solids], counts)
    order = generator.permutation(count)
    return np.concatenate(xyz)[order], parts[order]


def _seen(generator: np.random.Generator, count: int, solid: _Solid, others: list[_Solid]) -> Numbers:
    """Return points ``[count, 3]`` on a solid's surface, none of them within another or where it touches another."""
    draw, xyz = _round if solid.round else _square, np.empty((0, 3))
    while len(xyz) < count:
        drawn = draw(generator, count, np.array(solid.half)) * solid.half + solid.middle
        hidden = np.stack([_inside(drawn, other) for other in others])
        xyz = np.concatenate([xyz, drawn[~hidden.any(0)]])
    return xyz[:count]


def _inside(xyz: Numbers, solid: _Solid) -> NDArray[np.bool_]:
    """Return which points lie within a solid or on its surface."""
    off, half = np.abs(xyz - solid.middle), np.array(solid.half)
    if solid.round:
        off, half = np.stack([np.hypot(off[:, 0], off[:, 1]), off[:, 2]], 1), half[1:]
    within: NDArray[np.bool_] = np.all(off <= half + 1e-9, axis=1)
    return within


def _square(generator: np.random.Generator, count: int, half: Numbers) -> Numbers:
    points, areas = generator.uniform(-1, 1, (count, 3)), half.prod() / half
    axes = generator.choice(3, count, p=areas / areas.sum())
    points[np.arange(count), axes] = generator.choice([-1.0, 1.0], count)
    return points


def _round(generator: np.random.Generator, count: int, half: Numbers) -> Numbers:
    angle, up = generator.uniform(0, 2 * np.pi, count), generator.uniform(-1, 1, count)
    side = generator.random(count) < 2 * half[2] / (2 * half[2] + half[0])
    radius = np.where(side, 1.0, np.sqrt(generator.random(count)))
    up = np.where(side, up, np.sign(up))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), up], 1)


def _legs(wide: float, deep: float, high: float, thick: float) -> list[_Solid]:
    places = [(x * (wide - thick), y * (deep - thick), high / 2) for x in (-1, 1) for y in (-1, 1)]
    return [_Solid("leg", (thick, thick, high / 2), place) for place in places]


def _table(generator: np.random.Generator) -> list[_Solid]:
    wide, deep, high = generator.uniform([0.5, 0.35, 0.6], [1.0, 0.5, 0.9])
    return [_Solid("top", (wide, deep, 0.03), (0, 0, high)), *_legs(wide, deep, high, 0.04)]


def _chair(generator: np.random.Generator) -> list[_Solid]:
    wide, deep, high, back = generator.uniform([0.2, 0.2, 0.35, 0.2], [0.3, 0.3, 0.5, 0.35])
    seat = _Solid("seat", (deep, wide, 0.03), (0, 0, high))
    return [seat, _Solid("back", (0.03, wide, back), (-deep, 0, high + back)), *_legs(deep, wide, high, 0.03)]


def _lamp(generator: np.random.Generator) -> list[_Solid]:
    base, high, shade, deep = generator.uniform([0.12, 1.2, 0.15, 0.1], [0.2, 1.8, 0.25, 0.18])
    return [
        _Solid("base", (base, base, 0.02), (0, 0, 0.02), True),
        _Solid("pole", (0.025, 0.025, high / 2), (0, 0, high / 2), True),
        _Solid("shade", (shade, shade, deep), (0, 0, high + deep), True),
    ]


def _bed(generator: np.random.Generator) -> list[_Solid]:
    wide, long, high, board = generator.uniform([0.45, 0.9, 0.2, 0.2], [0.9, 1.1, 0.35, 0.4])
    mattress = _Solid("mattress", (long, wide, 0.12), (0, 0, high + 0.12))
    return [
        mattress,
        _Solid("board", (0.03, wide, board), (-long - 0.03, 0, high + board)),
        *_legs(long, wide, high, 0.05),
    ]


_MADE: tuple[Callable[[np.random.Generator], list[_Solid]], ...] = (_table, _chair, _lamp, _bed)
