"""A scene of any size in tiles, each as large as a network is shown at once.

Shapes: P points, W tiles, M points of one at most, F features beside x, y, z.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from quickstudy.batches import Batch
from quickstudy.errors import DataError

MOST = 50_000_000
"""Points that all tiles of a scene have room for."""
_MANY = 100
"""Points of a scene whose tiles must not be more than them."""


def in_tiles(
    xyz: NDArray[np.float64], further: NDArray[np.float32], side: float, most: int, name: str = "the scene"
) -> Batch:
    """Return a scene as ``{"windows": {"points", "mask"}, "places": [W, M], "mask": [P]}``.

    Each point is in two tiles, of two grids on the ground that are half a tile apart. A tile's points are counted from
    its middle, and from the lowest point of the scene, in units of half its side. One with too many points is several,
    each with some of them from all over it.

    Args:
        xyz: ``[P, 3]``, in the units of the side, z upwards.
        further: ``[P, F]``, features.
        side: of a tile.
        most: points of a tile.
        name: of the scene, for messages.

    Raises:
        DataError: so few points fall into some tiles, and so many into others, that they do not fit into memory.
    """
    low, generator = xyz.min(0), np.random.default_rng(0)
    tiles, middles = list[NDArray[np.int64]](), list[NDArray[np.float64]]()
    for shift in (0.0, 0.5):
        cells = np.floor((xyz[:, :2] - low[:2]) / side + shift)
        corners, owners = np.unique(cells, axis=0, return_inverse=True)
        owners = owners.ravel()
        order = np.argsort(owners, kind="stable")
        for corner, rows in zip(corners, np.split(order, np.flatnonzero(np.diff(owners[order])) + 1), strict=True):
            middle = np.append(low[:2] + (corner + 0.5 - shift) * side, low[2])
            parts = -(-len(rows) // most)
            rows = generator.permutation(rows) if parts > 1 else rows
            for part in range(parts):
                tiles.append(rows[part::parts])
                middles.append(middle)
    widest = max(map(len, tiles))
    if len(tiles) * widest > MOST:
        raise DataError(
            f"{name} falls into {len(tiles):,} tiles, of which one has {widest:,} points: no memory holds them all so "
            f"wide. Set a larger tile than {side:g}, or fewer tile_points than {most:,}"
        )
    if len(xyz) >= _MANY and len(tiles) > len(xyz):
        x, y = np.ptp(xyz[:, :2], axis=0)
        raise DataError(
            f"{name} of {len(xyz):,} points is {x:.4g} by {y:.4g}, and would be {len(tiles):,} tiles of side {side:g}, "
            "most of one point: is tile= in the units of its points? Set it higher"
        )
    places = np.zeros((len(tiles), widest), np.int64)
    mask = np.zeros((len(tiles), widest), np.bool_)
    points = np.zeros((len(tiles), widest, 3 + further.shape[1]), np.float32)
    for place, (rows, middle) in enumerate(zip(tiles, middles, strict=True)):
        places[place, : len(rows)], mask[place, : len(rows)] = rows, True
        points[place, : len(rows), :3] = (xyz[rows] - middle) * (2 / side)
        points[place, : len(rows), 3:] = further[rows]
    windows = {"points": torch.from_numpy(points), "mask": torch.from_numpy(mask)}
    return {"windows": windows, "places": torch.from_numpy(places), "mask": torch.ones(len(xyz), dtype=torch.bool)}
