"""A point cloud as a picture: from three sides, nearer points over those behind them.

Shapes: P points.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.functional.boxes import corners
from quickstudy.modality.thumbnails import drawing_of

_SIDE = 96
"""Pixels of a view's side."""
_MARGIN = 0.92
_DOT = 1
"""Pixels that a point reaches to each side."""
_FROM = ((0, 1, 2), (2, 1, 0), (0, 2, 1))
"""Of each view the axis to the right, that upwards, and that towards who looks: the front, the right, from above."""
_FAR, _NEAR = np.array([178, 197, 219]), np.array([24, 60, 110])


_PARTS = np.array(
    [[0, 114, 178], [230, 159, 0], [0, 158, 115], [204, 121, 167], [213, 94, 0], [86, 180, 233], [120, 120, 120]]
)
"""Colours of labels, in turn, which the colour-blind tell apart: Okabe and Ito 2008."""


_BOX, _ALONG = np.array([213, 94, 0]), 96
"""The colour of the edges of boxes, and how many dots make one."""


def three_views(points: Tensor, labels: Tensor | None = None, boxes: Tensor | None = None) -> bytes:
    """Return a PNG of three views of a cloud, one beside the other.

    Args:
        points: ``[P, 3 + F]``; of three features or more, the first three of 0..1 are taken for its colours.
        labels: ``[P]`` codes, which it is coloured by in their place; those below 0 are of no class.
        boxes: ``[M, 7]``, whose edges are drawn over it; those without a size fill a batch up.
    """
    numbers = points.detach().double().cpu().numpy()
    if labels is not None:
        codes = labels.cpu().numpy()
        colours = np.where(codes[:, None] < 0, [225, 225, 225], _PARTS[codes % len(_PARTS)]) / 255
        numbers = np.concatenate([numbers[:, :3], colours], 1)
    edges = np.empty((0, 3)) if boxes is None else _edges(boxes.detach().double().cpu().numpy())
    views = [_view(numbers, edges, *axes) for axes in _FROM]
    return drawing_of(np.concatenate(views, 1))


def _edges(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return points ``[E, 3]`` along the edges of boxes that have a size."""
    boxes = boxes[(boxes[:, 3:6] > 0).all(1)]
    ground, share = corners(boxes), np.linspace(0, 1, _ALONG)[:, None]
    low, high = (boxes[:, 2] + sign * boxes[:, 5] / 2 for sign in (-1, 1))
    ends = np.stack(
        [np.concatenate([ground, np.broadcast_to(z[:, None, None], (*ground.shape[:2], 1))], 2) for z in (low, high)]
    )
    around = np.roll(ends, -1, 2)  # the next corner on the same height
    lines = [(ends[0], around[0]), (ends[1], around[1]), (ends[0], ends[1])]
    return np.concatenate(
        [(one[..., None, :] * (1 - share) + other[..., None, :] * share).reshape(-1, 3) for one, other in lines]
    )


def _view(
    points: NDArray[np.float64], edges: NDArray[np.float64], across: int, up: int, near: int
) -> NDArray[np.uint8]:
    xyz, further = points[:, :3], points[:, 3:6]
    both = np.concatenate([xyz, edges])
    middle = (both.min(0) + both.max(0)) / 2
    reach = max(float(np.abs(both - middle).max()), 1e-12)
    places = ((both - middle) / reach * _MARGIN + 1) / 2  # 0..1
    lines, places = places[len(xyz) :], places[: len(xyz)]
    depth = places[:, near]
    if further.shape[1] == 3 and 0 <= further.min() <= further.max() <= 1:
        colours = further * 255
    else:
        colours = _FAR + (_NEAR - _FAR) * depth[:, None]
    order = np.argsort(depth, kind="stable")
    columns = (places[order, across] * (_SIDE - 1)).round().astype(int)
    rows = ((1 - places[order, up]) * (_SIDE - 1)).round().astype(int)
    view = np.full((_SIDE, _SIDE, 3), 255, np.uint8)
    for right in range(-_DOT, _DOT + 1):
        for down in range(-_DOT, _DOT + 1):
            if abs(right) + abs(down) <= _DOT:
                view[(rows + down).clip(0, _SIDE - 1), (columns + right).clip(0, _SIDE - 1)] = colours[order]
    columns, rows = ((one * (_SIDE - 1)).round().astype(int) for one in (lines[:, across], 1 - lines[:, up]))
    view[rows, columns] = _BOX
    return view
