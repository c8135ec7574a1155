"""Boxes that stand upright in space: corners, overlaps, the best of those that overlap, average precision.

A box is ``x, y, z, length, width, height, yaw``: its middle, its sizes along its own axes, and by how much it is turned
about z, in radians.

Shapes: M and K boxes, D detections.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
_EDGE = 1e-9
"""By how much a corner may lie outside and count as within, in units of a box."""


def corners(boxes: Numbers) -> Numbers:
    """Return the corners on the ground, ``[M, 4, 2]``, against the clock.

    >>> corners(np.array([[0, 0, 0, 4, 2, 1, 0.0]])).tolist()
    [[[2.0, 1.0], [-2.0, 1.0], [-2.0, -1.0], [2.0, -1.0]]]
    """
    signs = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) / 2
    return boxes[:, None, :2] + _turned(signs * boxes[:, None, 3:5], boxes[:, None, 6])


def overlaps(one: Numbers, other: Numbers) -> Numbers:
    """Return the intersection over union of each two boxes, ``[M, K]``, exactly: of polygons on the ground and heights.

    >>> overlaps(np.array([[0, 0, 0, 2, 2, 2, 0.0]]), np.array([[1, 0, 0, 2, 2, 2, np.pi / 2]])).round(6).tolist()
    [[0.333333]]
    """
    one, other = np.asarray(one, np.float64).reshape(-1, 7), np.asarray(other, np.float64).reshape(-1, 7)
    found = np.zeros((len(one), len(other)))
    reach = [np.hypot(boxes[:, 3], boxes[:, 4]) / 2 for boxes in (one, other)]
    apart = np.hypot(*(one[:, None, axis] - other[None, :, axis] for axis in (0, 1)))
    tops = [boxes[:, 2] + boxes[:, 5] / 2 for boxes in (one, other)]
    lows = [boxes[:, 2] - boxes[:, 5] / 2 for boxes in (one, other)]
    height = np.minimum(tops[0][:, None], tops[1]) - np.maximum(lows[0][:, None], lows[1])
    rows, columns = np.nonzero((apart < reach[0][:, None] + reach[1]) & (height > 0))  # the others cannot meet
    if len(rows):
        shared = _shared_area(one[rows], other[columns]) * height[rows, columns]
        volumes = [boxes[:, 3:6].prod(1) for boxes in (one, other)]
        found[rows, columns] = shared / (volumes[0][rows] + volumes[1][columns] - shared)
    return found


def _turned(points: Numbers, angle: Numbers) -> Numbers:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([points[..., 0] * cos - points[..., 1] * sin, points[..., 0] * sin + points[..., 1] * cos], -1)


def _shared_area(one: Numbers, other: Numbers) -> Numbers:
    """Return the area that each two rectangles on the ground share, ``[M]``.

    The polygon has as its corners those of each that lie within the other, and where their sides cross.
    """
    first, second = corners(one), corners(other)
    sides = [np.roll(each, -1, 1) - each for each in (first, second)]
    start, along = first[:, :, None], sides[0][:, :, None]
    begin, across = second[:, None], sides[1][:, None]

    def product(left: Numbers, right: Numbers) -> Numbers:
        crossed: Numbers = left[..., 0] * right[..., 1] - left[..., 1] * right[..., 0]
        return crossed

    turn = product(along, across)
    parallel: NDArray[np.bool_] = np.abs(turn) < 1e-12 * np.linalg.norm(along, axis=-1) * np.linalg.norm(
        across, axis=-1
    )
    turn = np.where(parallel, 1.0, turn)
    here, there = product(begin - start, across) / turn, product(begin - start, along) / turn
    crossing = ~parallel & (here >= 0) & (here <= 1) & (there >= 0) & (there <= 1)
    points = np.concatenate([first, second, (start + here[..., None] * along).reshape(len(one), 16, 2)], 1)
    valid = np.concatenate([_within(first, other), _within(second, one), crossing.reshape(len(one), 16)], 1)
    count = valid.sum(1)
    middle = (points * valid[..., None]).sum(1) / count.clip(1)[:, None]
    off = np.where(valid[..., None], points - middle[:, None], 0.0)
    angle = np.where(valid, np.arctan2(off[..., 1], off[..., 0]), np.inf)
    order = np.argsort(angle, 1)
    ring = np.take_along_axis(off, order[..., None], 1)
    last = np.take_along_axis(valid, order, 1)
    ring = np.where(last[..., None], ring, ring[:, :1])  # which adds nothing
    area: Numbers = np.abs(product(ring, np.roll(ring, -1, 1)).sum(1)) / 2
    return np.where(count > 2, area, 0.0)


def _within(points: Numbers, boxes: Numbers) -> NDArray[np.bool_]:
    own = _turned(points - boxes[:, None, :2], -boxes[:, None, 6])
    inside: Any = (np.abs(own) <= boxes[:, None, 3:5] * (0.5 + _EDGE)).all(-1)
    return cast(NDArray[np.bool_], inside)


def best_of(boxes: Numbers, scores: Numbers, labels: NDArray[np.int64], most: float) -> NDArray[np.int64]:
    """Return which boxes are kept, the best first: none that overlaps a better one of its class by more than that.

    Args:
        boxes: ``[M, 7]``
        scores, labels: ``[M]``
        most: intersection over union.
    """
    order = np.argsort(-scores, kind="stable")
    shared = overlaps(boxes[order], boxes[order]) > most
    shared &= labels[order][:, None] == labels[order]
    kept: list[int] = []
    for place in range(len(order)):
        if not shared[place, kept].any():
            kept.append(place)
    return order[np.array(kept, np.int64)]


def hits(found: Numbers, wanted: Numbers, least: float) -> NDArray[np.bool_]:
    """Return which detections are right, ``[D]``: each box that is there is found once, by the best that overlaps it.

    Args:
        found: ``[D, 7]``, the surest first.
        wanted: ``[K, 7]``, of the same class.
        least: intersection over union, above 0.
    """
    right, free = np.zeros(len(found), np.bool_), np.ones(len(wanted), np.bool_)
    shared = overlaps(found, wanted)
    for place, row in enumerate(shared if len(wanted) else ()):
        open_row = np.where(free, row, -1.0)
        best = int(open_row.argmax())
        if open_row[best] >= least:
            right[place], free[best] = True, False
    return right


def average_precision(scores: Numbers, right: NDArray[np.bool_], count: int) -> float:
    """Return the area below the precision at each recall, where it is the best at this recall or a greater one.

    Args:
        scores: ``[D]``
        right: ``[D]``, see ``hits``.
        count: boxes that are there, 1 or more.

    >>> average_precision(np.array([0.9, 0.8, 0.7]), np.array([True, False, True]), 2)
    0.8333333333333333
    """
    order = np.argsort(-scores, kind="stable")
    true = np.cumsum(right[order])
    precision = true / np.arange(1, len(order) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(best[right[order]].sum() / count)
