"""Which examples are the same, wherever they lie and whatever they are called: by what they hold."""

from __future__ import annotations

import hashlib
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.batches import take
from quickstudy.data.content import told_by
from quickstudy.data.places import Files
from quickstudy.data.rows import Rows
from quickstudy.data.samples import seeded
from quickstudy.data.table import Inputs, count_of
from quickstudy.errors import DataWarning

MOST = 1 << 14  # examples that are remembered: 128 KB
TELLS_NOTHING = ", which tells nothing about new ones: judge it by examples that it did not learn from"
"""How a caution ends."""
_MADE = 256  # of those that must be made first, as a data set's items


def identities(inputs: Inputs, numbers: NDArray[Any] | None = None) -> Tensor:
    """Return a number for what each input holds: ``[n]``, int64, sorted.

    Where there are more than ``MOST``, evenly chosen ones. What cannot be read or compared has none.

    Args:
        inputs: a batch, files, texts, whatever tables hold.
        numbers: ``[N]``, where the same input with another number is not the same.
    """
    whole, total = isinstance(inputs, (Tensor, dict, Files, Rows, list)), count_of(inputs)
    count = min(total, MOST if whole else _MADE)
    rows = np.arange(count) * total // max(count, 1)
    if isinstance(inputs, Files):
        with ThreadPoolExecutor() as pool:
            found = list(pool.map(lambda row: _number(inputs, row, numbers), rows.tolist()))
    else:
        found = []
        for row in rows.tolist():
            with nullcontext() if whole else seeded((0,)):  # a data set's transform may draw
                found.append(_number(inputs, row, numbers))
    return torch.tensor(sorted(number for number in found if number is not None), dtype=torch.int64)


def joined(some: Tensor, more: Tensor) -> Tensor:
    """Return the numbers of both, or as many as are remembered."""
    both: Tensor = torch.unique(torch.cat([some, more]))
    count = min(len(both), MOST)
    return both.index_select(0, torch.arange(count) * len(both) // max(count, 1))


def _number(inputs: Inputs, row: int, numbers: NDArray[Any] | None = None) -> int | None:
    digest = hashlib.blake2b(digest_size=8)
    try:
        for part in told_by(take(inputs, row) if isinstance(inputs, dict) else inputs[row]):
            digest.update(part)
        if numbers is not None:
            digest.update(repr(float(numbers[row]) + 0.0).encode())
    except Exception:  # a data set may raise anything, and who trains on it will say so
        return None
    return int.from_bytes(digest.digest(), "little", signed=True)


def shared(tested: Tensor, trained: Tensor) -> int:
    """Return how many numbers of one are among those of the other."""
    found: NDArray[np.bool_] = np.isin(tested.numpy(), trained.numpy())
    return int(found.sum())


def warn_of_seen(seen: int, told: str) -> None:
    """Warn where a model is judged by examples that it learned from.

    Args:
        seen: how many they are.
        told: that they are, in words.
    """
    if seen:
        warnings.warn(f"{told}{TELLS_NOTHING}", DataWarning, 3)
