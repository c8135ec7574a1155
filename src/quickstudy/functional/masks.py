"""Masks: which pixels are of an object. How far two overlap, and in run lengths.

Shapes: K masks found in a picture, M that are there, H W pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


def mask_overlaps(found: NDArray[np.bool_], there: NDArray[np.bool_], crowd: NDArray[np.bool_]) -> Numbers:
    """Return the intersection over union ``[K, M]`` of masks ``[K, H, W]`` and ``[M, H, W]``; of crowds as of boxes."""
    pixels = found.shape[1] * found.shape[2]
    one, other = (masks.reshape(len(masks), pixels).astype(np.float32) for masks in (found, there))
    both = (one @ other.T).astype(np.float64)
    areas = [masks.sum(1, dtype=np.float64) for masks in (one, other)]
    whole = np.where(crowd, areas[0][:, None], areas[0][:, None] + areas[1] - both)
    shares: Numbers = both / np.maximum(whole, 1)
    return shares


def in_runs(mask: NDArray[np.bool_]) -> list[int]:
    """Return how many pixels in turn are not of a mask ``[h, w]`` and are, column by column (COCO's uncompressed RLE).

    >>> in_runs(np.array([[False, True], [True, True]]))
    [1, 3]
    >>> in_runs(np.array([[True, False]]))
    [0, 1, 1]
    """
    flat = np.concatenate([[False], mask.T.ravel()])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    runs: list[int] = np.diff(np.concatenate([[0], changes, [len(flat) - 1]])).tolist()
    return runs
