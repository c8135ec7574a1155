"""Embeddings in files: segments that are written once, found by what was embedded, and mapped into memory.

Each encoder has a folder, in which every call that embeds something new leaves a segment. Nothing is changed in place:
a segment takes its name once it is whole, so that any number of processes write and read at once, and none waits.

Shapes: n embeddings of a segment, N asked for, D features.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import time
import uuid
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quickstudy.errors import ConfigError, DataWarning, brief
from quickstudy.files import atomic_write, bytes_in, cache_folder

KEY = np.dtype("S16")
"""What tells an input from all others, 16 bytes."""
ABOUT = "about.json"
LIMIT = "QUICKSTUDY_CACHE_SIZE"
"""The environment variable that says how much embeddings may take."""
_LIMIT = "10GB"
_HEADER = struct.Struct("<8s4sQQII")
"""What it is, the type of numbers, n, D, and the sums of the keys and of the features."""
_MAGIC, _ENDING, _START = b"qsembed1", ".embeddings", 64
_PIECE = 1 << 24  # bytes that are summed or copied at once
_DAY = 86_400
Array = NDArray[Any]


class Segment(NamedTuple):
    """Embeddings that were written together; or that only this process has, where they could not be."""

    keys: Array
    """``[n]``, of their inputs."""
    features: Array
    """``[n, D]``"""
    file: Path | None = None
    sum: int = 0
    """Of the features, as the file has it."""


class Stored(NamedTuple):
    """What is kept of one encoder."""

    folder: Path
    about: Mapping[str, Any]
    """Its ``backbone``, and the ``inputs`` with their ``options``."""
    embeddings: int
    """How many."""
    size: int
    """Bytes."""
    used: float
    """When, in seconds since 1970."""


def home(folder: str | os.PathLike[str] | None = None) -> Path:
    """Return where embeddings are kept: a folder, by default a part of the cache folder (``QUICKSTUDY_CACHE``)."""
    return cache_folder() / "embeddings" if folder is None else Path(folder).expanduser()


def segments_of(folder: Path) -> list[Segment]:
    """Return the segments in an encoder's folder, largest first; what cannot be read is left out."""
    found = []
    for file in _files(folder):
        try:
            found.append(_opened(file))
        except FileNotFoundError:  # another process has replaced it since
            continue
        except (OSError, ValueError) as error:
            _discard(file, error)
    return sorted(found, key=lambda segment: -len(segment.keys))


def sound(segment: Segment) -> bool:
    """Whether the features are as they were written; a file where they are not is removed, with a warning."""
    if segment.file is None:
        return True
    try:
        with segment.file.open("rb") as file:
            file.seek(_features_at(len(segment.keys)))
            total = 0
            while piece := file.read(_PIECE):
                total = zlib.crc32(piece, total)
        if total == segment.sum:
            return True
        _discard(segment.file, ValueError("its sum differs"))
    except OSError:
        pass
    return False


def written(folder: Path, about: Mapping[str, Any], keys: Array, parts: Iterable[Array]) -> Segment:
    """Write a segment, whole or not at all, and return it as it lies in the file.

    Args:
        folder: of the encoder, made if needed.
        about: what is told of the encoder.
        keys: ``[n]``, of one input each.
        parts: of the features, ``[n, D]`` together.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    if not (folder / ABOUT).is_file():
        with atomic_write(folder / ABOUT, "w") as told:
            json.dump(about, told, indent=1)
    path = folder / f"{uuid.uuid4().hex}{_ENDING}"
    total, width, kind = 0, 0, b""
    with atomic_write(path) as file:
        file.seek(_START)
        file.write(keys.tobytes())
        file.seek(_features_at(len(keys)))
        for part in parts:
            part = np.ascontiguousarray(part)
            width, kind = part.shape[1], part.dtype.str.encode()
            total = zlib.crc32(part.data, total)
            file.write(part.data)
        file.seek(0)
        head = _MAGIC, kind, len(keys), width
        file.write(_HEADER.pack(*head, _sum_of(head, keys), total))
    return _opened(path)


def located(segments: Sequence[Segment], keys: Array) -> tuple[Array, Array]:
    """Return where embeddings are: ``[N]`` numbers of segments, -1 of those that are in none, and ``[N]`` rows there.

    Where one segment has all of them, one after the other, they are found so.
    """
    which, rows = np.full(len(keys), -1), np.zeros(len(keys), np.int64)
    for number, segment in enumerate(segments):
        for start in np.flatnonzero(segment.keys == keys[0]).tolist() if len(segment.keys) >= len(keys) else ():
            if np.array_equal(segment.keys[start : start + len(keys)], keys):
                return np.full(len(keys), number), np.arange(start, start + len(keys))
    for number, segment in enumerate(segments):
        missing = np.flatnonzero(which < 0)
        if not len(missing) or not len(segment.keys):
            continue
        own, asked = _halves(segment.keys), _halves(keys[missing])
        order = np.argsort(own)
        place = order[np.searchsorted(own, asked, sorter=order).clip(max=len(own) - 1)]
        right = segment.keys[place] == keys[missing]
        which[missing[right]], rows[missing[right]] = number, place[right]
    return which, rows


def gathered(segments: Sequence[Segment], which: Array, rows: Array) -> Array:
    """Return embeddings ``[N, D]`` that are all there: a part of a file where they lie together, else a copy."""
    assert (which >= 0).all()
    first = segments[which[0]]
    if (which == which[0]).all() and (np.diff(rows) == 1).all():
        together: Array = first.features[rows[0] : rows[0] + len(rows)]
        return together
    found = np.empty((len(rows), first.features.shape[1]), first.features.dtype)
    for number in np.unique(which).tolist():
        own = which == number
        found[own] = segments[number].features[rows[own]]
    return found


def merged(folder: Path, about: Mapping[str, Any], segments: Sequence[Segment], keys: Array) -> list[Segment]:
    """Write embeddings that lie apart into one segment, in the order asked for; those that it covers are removed.

    Args:
        folder: of the encoder.
        about: what is told of the encoder.
        segments: all there are.
        keys: ``[N]``, which all are in one of the segments.

    Returns:
        The segments there are then.

    Raises:
        OSError: it cannot be written.
    """
    which, rows = located(segments, keys)
    width = segments[which[0]].features[:1].nbytes
    step = max(_PIECE // max(width, 1), 1)
    parts = (gathered(segments, which[at : at + step], rows[at : at + step]) for at in range(0, len(keys), step))
    made, left = written(folder, about, keys, parts), []
    for segment in segments:
        if segment.file is not None and np.isin(_halves(segment.keys), _halves(keys)).all():
            with suppress(OSError):  # Windows removes no open file: what is there twice does no harm
                segment.file.unlink()
        else:
            left.append(segment)
    return [made, *left]


# ---- what there is, and clearing it


def stored(folder: Path) -> list[Stored]:
    """Return what is kept of each encoder, the one used last first.

    Args:
        folder: of all encoders, as ``home`` returns it.
    """
    found = []
    for own in sorted(folder.iterdir()) if folder.is_dir() else ():
        with suppress(OSError, ValueError):
            about = json.loads((own / ABOUT).read_text(encoding="utf-8"))
            files = list(_files(own))
            count = sum(len(_opened(file).keys) for file in files)
            size = sum(file.stat().st_size for file in files)
            found.append(Stored(own, about, count, size, (own / ABOUT).stat().st_mtime))
    return sorted(found, key=lambda each: -each.used)


def clear(kept: Iterable[Stored]) -> None:
    """Remove what is kept of encoders; a process that uses it goes on with what it has open.

    Raises:
        OSError: a folder cannot be removed.
    """
    for each in kept:
        shutil.rmtree(each.folder)


def size_limit() -> int:
    """Return how many bytes embeddings may take together: ``QUICKSTUDY_CACHE_SIZE``, such as ``4GB``; else 10 GB.

    Raises:
        ConfigError: it is no size.
    """
    given = os.environ.get(LIMIT) or _LIMIT
    size = int(given) if given.isdecimal() else bytes_in(given)
    if size is None:
        raise ConfigError(f"the environment variable {LIMIT}={brief(given)} is no size: a number of bytes, or 4GB")
    return size


def make_room(folder: Path, limit: int, used: Iterable[Path | None]) -> None:
    """Remove the files that were used longest ago, of whichever encoder, until all together take no more than a limit.

    Other processes do so at the same time: what one has open it keeps, and what it does not find it computes anew.

    Args:
        folder: of all encoders, as ``home`` returns it.
        limit: bytes.
        used: files that were used now, which stay.
    """
    kept = {file for file in used if file is not None}
    for file in kept:
        with suppress(OSError):
            os.utime(file)
    found = []
    for file in folder.glob(f"*/*{_ENDING}"):
        with suppress(OSError):  # another process has removed it
            found.append((file.stat().st_mtime, file.stat().st_size, file))
    total = sum(size for _, size, _ in found)
    for _, size, file in sorted(found):
        if total <= limit:
            return
        if file not in kept:
            with suppress(OSError):
                file.unlink()
            total -= size


def touch(folder: Path) -> None:
    """Note that an encoder's embeddings were used now, and remove what a process that died left unfinished."""
    with suppress(OSError):
        os.utime(folder / ABOUT)
        for file in folder.glob(".*.part"):
            if time.time() - file.stat().st_mtime > _DAY:
                file.unlink()


def _files(folder: Path) -> Iterator[Path]:
    with suppress(OSError):
        yield from sorted(folder.glob(f"*{_ENDING}"))


def _opened(path: Path) -> Segment:
    """Open a segment.

    Raises:
        ValueError: it is cut or damaged.
        OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        packed = file.read(_HEADER.size)
        if len(packed) < _HEADER.size or not packed.startswith(_MAGIC):
            raise ValueError("it is none")
        magic, kind, count, width, of_keys, of_features = _HEADER.unpack(packed)
        kind, at = kind.rstrip(b"\0"), _features_at(count)
        if (
            kind not in (b"<f4", b"<f8")
            or at + count * width * np.dtype(kind.decode()).itemsize != os.fstat(file.fileno()).st_size
        ):
            raise ValueError("it is cut")
        file.seek(_START)
        keys = np.frombuffer(file.read(count * KEY.itemsize), KEY)
    if of_keys != _sum_of((magic, kind, count, width), keys):
        raise ValueError("its sum differs")
    if not count * width:
        return Segment(keys, np.empty((count, width), kind.decode()), path, of_features)
    features = np.memmap(path, kind.decode(), "c", at, (count, width))  # who writes to it changes no file
    return Segment(keys, features, path, of_features)


def _discard(file: Path, error: Exception) -> None:
    warnings.warn(
        f"the embeddings in '{file}' are damaged ({error}): they are left out, and made anew", DataWarning, stacklevel=4
    )
    with suppress(OSError):
        file.unlink()


def _features_at(count: int) -> int:
    return -(-(_START + count * KEY.itemsize) // _START) * _START


def _sum_of(head: tuple[Any, ...], keys: Array) -> int:
    return zlib.crc32(keys.tobytes(), zlib.crc32(repr(head).encode()))


def _halves(keys: Array) -> Array:
    """Return the first 8 of 16 bytes as numbers, which are sorted ten times as fast."""
    halves: Array = np.ascontiguousarray(keys).view(np.uint64)[::2]
    return halves
