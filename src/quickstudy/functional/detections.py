"""Which of the objects found are right, and their average precision, as COCO counts them.

An object found is right where its class is, and its intersection over union with one that is there, and was not found
by a surer one, reaches a threshold. A crowd may be found by any number, which then do not count (Lin et al. 2014,
https://arxiv.org/abs/1405.0312; the same figures as pycocotools).

Shapes: K objects found in a picture, the surest first, M that are there, T thresholds, n of all pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
THRESHOLDS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0, 1, 101)


def box_overlaps(found: Numbers, there: Numbers, crowd: NDArray[np.bool_]) -> Numbers:
    """Return the intersection over union ``[K, M]`` of boxes ``x, y, x, y``; of crowds over the found box's area."""
    low, high = np.maximum(found[:, None, :2], there[None, :, :2]), np.minimum(found[:, None, 2:], there[None, :, 2:])
    both = (high - low).clip(0).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (found, there)]
    whole = np.where(crowd, areas[0][:, None], areas[0][:, None] + areas[1] - both)
    shares: Numbers = both / np.maximum(whole, np.finfo(np.float64).tiny)
    return shares


def point_likeness(found: Numbers, there: Numbers, areas: Numbers, spread: float | Numbers) -> Numbers:
    """Return how alike keypoints are, ``[K, M]``, as COCO's object keypoint similarity has it.

    Args:
        found: ``[K, J, 3]``, x and y.
        there: ``[M, J, 3]``, x, y and whether it is labelled.
        areas: ``[M]``, of the objects.
        spread: by how much people differ, in roots of areas, ``[J]``: COCO's sigmas.
    """
    square = ((found[:, None, :, :2] - there[None, :, :, :2]) ** 2).sum(-1)
    seen = there[None, :, :, 2] > 0
    scale = 2 * (2 * np.asarray(spread)) ** 2 * np.maximum(areas, np.finfo(np.float64).tiny)[None, :, None]
    alike: Numbers = (np.exp(-square / scale) * seen).sum(-1) / np.maximum(seen.sum(-1), 1)
    return alike


def matched(overlaps: Numbers, crowd: NDArray[np.bool_], least: Sequence[float] | Numbers = THRESHOLDS) -> Any:
    """Return at which thresholds each object found in one picture is right, and at which it does not count, ``[K]``
    each: whole numbers whose bit t is of threshold t.

    Args:
        overlaps: ``[K, M]``, of the surest first; 0 where the classes differ, and so all classes are matched at once.
        crowd: ``[M]``
        least: T overlaps above 0 from which on an object counts as found, the smallest first.

    >>> [bits.tolist() for bits in matched(np.array([[0.6], [0.9]]), np.array([False]), [0.5, 0.75])]
    [[1, 2], [0, 0]]
    """
    limits = np.minimum(least, 1 - 1e-10)
    reached = (1 << np.searchsorted(limits, overlaps, side="right")) - 1
    right, spare = (np.zeros(len(overlaps), np.int64) for _ in range(2))
    free = [(1 << len(limits)) - 1] * len(crowd)
    rows, columns = np.nonzero(reached)
    order = np.lexsort((-columns, -overlaps[rows, columns], crowd[columns], rows))  # of equal ones the last
    rows, columns = rows[order], columns[order]
    single = ~crowd[columns]
    row, open_bits = -1, 0
    for own, column, bits, alone in zip(
        rows.tolist(), columns.tolist(), reached[rows, columns].tolist(), single.tolist(), strict=True
    ):
        if own != row:
            row, open_bits = own, -1  # every bit: at no threshold has it found any
        bits &= open_bits & free[column] if alone else open_bits
        open_bits &= ~bits
        if alone:
            free[column] &= ~bits
            right[own] |= bits
        else:
            spare[own] |= bits
    return right, spare


def partners(overlaps: Numbers, crowd: NDArray[np.bool_], least: float) -> NDArray[np.int64]:
    """Return which object each of those found in one picture has found, ``[K]``; -1: none. See ``matched``.

    Args:
        overlaps: ``[K, M]``, of the surest first; 0 where the classes differ.
        crowd: ``[M]``; any number may find the same crowd.
        least: the overlap from which on an object counts as found.

    >>> partners(np.array([[0.6, 0.0], [0.9, 0.5]]), np.array([False, False]), 0.5).tolist()
    [0, 1]
    """
    chosen, free = np.full(len(overlaps), -1, np.int64), np.ones(len(crowd), np.bool_)
    for row, own in enumerate(overlaps):
        for among in (free & ~crowd, crowd):
            places = np.flatnonzero(among & (own >= min(least, 1 - 1e-10)) & (own > 0))
            if len(places):
                best = places[np.flatnonzero(own[places] == own[places].max())[-1]]
                chosen[row], free[best] = best, free[best] & crowd[best]
                break
    return chosen


def average_precision(scores: Numbers, right: NDArray[np.bool_], spare: NDArray[np.bool_], count: int) -> float:
    """Return the area below the curve of precision over recall, at 101 recalls, of one class in all pictures.

    Args:
        scores: ``[n]`` of all found, in the pictures' order.
        right, spare: ``[n]``, see ``matched``.
        count: how many there are.
    """
    order = np.argsort(-scores, kind="stable")
    kept = order[~spare[order]]
    hits = np.cumsum(right[kept])
    precision = hits / np.arange(1, len(kept) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(hits / count, _RECALLS, side="left")
    reached = places < len(kept)
    return float(precision[places[reached]].sum() / len(_RECALLS)) if reached.any() else 0.0


def without_each(
    told: Callable[[Any], Mapping[str, float]], figures: Any, groups: int = 50
) -> list[Mapping[str, float]]:
    """Return what is told of figures ``[n, ...]`` without each of some groups of rows (the jackknife)."""
    own = np.arange(len(figures)) % min(len(figures), groups)
    if len(figures) < 2:
        return [told(figures)]
    return [told(figures[np.flatnonzero(own != group)]) for group in range(int(own.max()) + 1)]


def shares_of_each(
    told: Callable[[Any], Mapping[str, float]],
    name: str,
    figures: Any,
    rests: Sequence[Mapping[str, float]] | None = None,
) -> Numbers:
    """Return what each of n rows adds to a figure of all of them, ``[n]``, whose mean that is, by the jackknife.

    Args:
        told: returns figures of rows, by name.
        name: of the one.
        figures: ``[n, ...]``
        rests: what ``without_each`` returned of them; None: it is asked.
    """
    count, whole = len(figures), told(figures)[name]
    rests = without_each(told, figures) if rests is None else rests
    moved = np.array([whole - rest.get(name, whole) for rest in rests]) * (len(rests) - 1)
    own = moved[np.arange(count) % len(rests)]
    shares: Numbers = whole + (own - own.mean()) * np.sqrt(count / len(rests))
    return shares
