"""Tiles that cover a plane and overlap, and how much each of their answers counts where several are."""

from __future__ import annotations

import torch
from torch import Tensor

UNHEARD = 4
"""Of the overlap this part beside an inner edge does not count: it sees too little of what is beyond."""


def tile_starts(length: int, side: int, overlap: int) -> list[int]:
    """Return where tiles begin that cover a length; all lie within it, where one has room there.

    Args:
        length: of the plane along an axis.
        side: of a tile.
        overlap: of neighbours, at least.

    >>> tile_starts(100, 40, 10), tile_starts(30, 40, 10)
    ([0, 30, 60], [0])
    >>> tile_starts(90, 40, 10)
    [0, 30, 50]
    """
    last = max(0, length - side)
    return [*range(0, last, side - overlap), last]


def tile_weights(side: int, overlap: int, first: bool, last: bool) -> Tensor:
    """Return how much the answers of a tile count along an axis, ``[side]``, 0 to 1.

    Towards the edges that have a neighbour beyond them it falls in a straight line to 0, over half of the overlap: the
    quarter beside the edge counts nothing, and the quarter farthest from it whole.

    Args:
        side: of the tile.
        overlap: of neighbours.
        first, last: whether the plane ends with it before, and behind.

    >>> tile_weights(8, 4, True, False).tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0, 0.75, 0.25, 0.0]
    """
    unheard = overlap // UNHEARD
    places = torch.arange(side) + 0.5
    rise = max(1, overlap - 2 * unheard)
    before, behind = ((far - unheard) / rise for far in (places, side - places))
    whole = torch.ones(side)
    weights = torch.minimum(whole if first else before, whole if last else behind)
    return weights.clamp(0, 1)
