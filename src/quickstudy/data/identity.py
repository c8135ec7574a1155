"""Which examples are the same, wherever they lie and whatever they are called: by what they hold."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.batches import take
from quickstudy.data.archives import Member
from quickstudy.data.places import Files
from quickstudy.data.samples import seeded
from quickstudy.data.table import Inputs, count_of
from quickstudy.errors import DataWarning

MOST = 1 << 14  # examples that are remembered: 128 KB
TELLS_NOTHING = ", which tells nothing about new ones: judge it by examples that it did not learn from"
"""How a caution ends."""
_MADE = 256  # of those that must be made first, as a data set's items
_LARGE, _PIECE = 1 << 16, 1 << 14  # bytes of a file that is not read whole, and of each of its three pieces


def identities(inputs: Inputs) -> Tensor:
    """Return a number for what each input holds: ``[n]``, int64, sorted.

    Where there are more than ``MOST``, evenly chosen ones. What cannot be read or compared has none.

    Args:
        inputs: a batch, files, texts, whatever tables hold.
    """
    whole, total = isinstance(inputs, (Tensor, dict, Files, list)), count_of(inputs)
    count = min(total, MOST if whole else _MADE)
    rows = np.arange(count) * total // max(count, 1)
    if isinstance(inputs, Files):
        with ThreadPoolExecutor() as pool:
            found = list(pool.map(lambda row: _number(inputs, row), rows.tolist()))
    else:
        found = []
        for row in rows.tolist():
            with seeded((0,)):  # a data set's transform may draw
                found.append(_number(inputs, row))
    return torch.tensor(sorted(number for number in found if number is not None), dtype=torch.int64)


def joined(some: Tensor, more: Tensor) -> Tensor:
    """Return the numbers of both, or as many as are remembered."""
    both: Tensor = torch.unique(torch.cat([some, more]))
    count = min(len(both), MOST)
    return both.index_select(0, torch.arange(count) * len(both) // max(count, 1))


def _number(inputs: Inputs, row: int) -> int | None:
    digest = hashlib.blake2b(digest_size=8)
    try:
        for part in _content(take(inputs, row) if isinstance(inputs, dict) else inputs[row]):
            digest.update(part)
    except Exception:  # a data set may raise anything, and who trains on it will say so
        return None
    return int.from_bytes(digest.digest(), "little", signed=True)


def _content(item: Any) -> Iterable[bytes | memoryview]:
    if isinstance(item, str) and not _is_file(item):
        return [b"text", item.encode("utf-8", "surrogatepass")]
    if isinstance(item, (str, os.PathLike)):
        return _file(Path(item))
    if isinstance(item, Mapping):
        return chain.from_iterable((repr(name).encode(), *_part(part)) for name, part in sorted(item.items()))
    if isinstance(item, Member):
        return _pieces(io.BytesIO(content := item.read_bytes()), len(content))
    if isinstance(item, Tensor):
        item = item.detach().cpu().contiguous()
        return [repr((item.dtype, tuple(item.shape))).encode(), item.flatten().view(torch.uint8).numpy().data]
    if isinstance(item, np.ndarray):
        return _content(torch.from_numpy(np.array(item)))
    if hasattr(item, "tobytes") and hasattr(item, "mode"):  # of PIL
        return [repr((item.mode, item.size)).encode(), item.tobytes()]
    raise TypeError


def _part(value: Any) -> Iterable[bytes | memoryview]:
    """Return what tells a part of an input, such as a cell of a row, from others."""
    return _content(value) if isinstance(value, (Tensor, np.ndarray, Mapping)) else [repr(value).encode()]


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except (OSError, ValueError):  # a text that is too long for a name, or holds what no name may
        return False


def _file(path: Path) -> Iterable[bytes]:
    with path.open("rb") as file:
        return _pieces(file, path.stat().st_size)


def _pieces(file: BinaryIO, size: int) -> list[bytes]:
    """Return what tells a file of so many bytes from others, wherever it lies."""
    if size <= _LARGE:
        return [file.read()]
    pieces = [str(size).encode()]
    for start in (0, (size - _PIECE) // 2, size - _PIECE):
        file.seek(start)
        pieces.append(file.read(_PIECE))
    return pieces


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
