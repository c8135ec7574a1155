"""What an input holds, as bytes: two of the same are the same input, wherever they lie and whatever they are called."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from quickstudy.data.archives import Member

_PASSED = 1 << 20  # bytes of a file that are read at once
_LARGE, _PIECE = 1 << 16, 1 << 14  # bytes of a file that is not read whole, and of each of its three pieces


def told_by(item: Any) -> Iterable[bytes | memoryview]:
    """Return the bytes that tell an input from others: a text, a file, a tensor, a picture, or a row of such.

    What a domain holds in memory as an object of its own says it by ``as_bytes``.

    Raises:
        TypeError: there is no telling.
    """
    if isinstance(item, str) and not is_file(item):
        return [b"text", item.encode("utf-8", "surrogatepass")]
    if isinstance(item, (str, os.PathLike)):
        return _file(Path(item))
    if hasattr(item, "as_bytes"):
        told: list[bytes] = item.as_bytes()
        return told
    if isinstance(item, Mapping):
        return chain.from_iterable((repr(name).encode(), *_part(part)) for name, part in sorted(item.items()))
    if isinstance(item, Member):
        return _pieces(io.BytesIO(content := item.read_bytes()), len(content))
    if isinstance(item, Tensor):
        item = item.detach().cpu().contiguous()
        return [repr((item.dtype, tuple(item.shape))).encode(), item.flatten().view(torch.uint8).numpy().data]
    if isinstance(item, np.ndarray):
        return told_by(torch.from_numpy(np.array(item)))
    if hasattr(item, "tobytes") and hasattr(item, "mode"):  # of PIL
        return [repr((item.mode, item.size)).encode(), item.tobytes()]
    raise TypeError


def all_of(item: Any) -> Iterable[bytes | memoryview]:
    """Return all bytes that an input may depend on, where ``told_by`` is content with some of a large file.

    Raises:
        TypeError: there is no telling.
        OSError: a file cannot be read.
    """
    if isinstance(item, bytes):
        return [b"bytes", item]
    if isinstance(item, (str, os.PathLike)) and is_file(str(item)):
        return chain([b"file", Path(item).suffix.lower().encode()], _read(Path(item)))
    if hasattr(item, "read_bytes") and not isinstance(item, os.PathLike):  # of an archive, or sent by somebody
        return [b"file", Path(str(item)).suffix.lower().encode(), item.read_bytes()]
    if isinstance(item, Mapping):
        files = [Path(part) for part in item.values() if isinstance(part, (str, os.PathLike)) and is_file(str(part))]
        return chain(told_by(item), *map(_read, files))
    if hasattr(item, "tobytes") and hasattr(item, "getpalette"):  # of PIL
        further = repr((item.getpalette(), item.info.get("transparency"), item.info.get("exif")))
        return chain([further.encode()], told_by(item))
    return told_by(item)


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PASSED):
            yield piece


def _part(value: Any) -> Iterable[bytes | memoryview]:
    """Return what tells a part of an input, such as a cell of a row, from others."""
    return told_by(value) if isinstance(value, (Tensor, np.ndarray, Mapping)) else [repr(value).encode()]


def is_file(name: str) -> bool:
    """Whether a text names a file, which any text may be asked."""
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
