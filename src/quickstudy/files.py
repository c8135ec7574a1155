"""Files that are either whole or absent, what they may hold, and the folder of what quickstudy can make again."""

from __future__ import annotations

import contextlib
import os
import sys
import uuid
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import platformdirs

from quickstudy.errors import nearest

BEST_FILE, LAST = "best.ckpt", "last.ckpt"
"""A run's checkpoints: of its best validation, and of its end."""
_UNITS = {"KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}


def best_checkpoint(run: Path) -> Path | None:
    """Return the checkpoint of a run's best model, or else its last, or None."""
    return next((run / name for name in (BEST_FILE, LAST) if (run / name).is_file()), None)


def absent(what: str, path: str | os.PathLike[str]) -> str:
    """Return the beginning of a message on what is not there: its name, one like it beside it, and where was looked."""
    path = Path(path)
    there = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    return f"there is no {what} '{path}'{meant_among(path, there)} ({looked_in(path)})"


def meant_among(path: Path, names: Iterable[str]) -> str:
    """Return ``"; did you mean 'runs/3'?"`` for the name beside ``path`` that is nearest to its own, or nothing."""
    near = nearest(path.name, names)
    return "" if near is None else f"; did you mean '{path.parent / near}'?"


def looked_in(path: Path) -> str:
    """Return where was looked for what is not there: in its folder, or the last one on the way to it."""
    folders = path.absolute().parents
    return f"looked in {next((folder for folder in folders if folder.is_dir()), folders[0])}"


def plain(value: object) -> bool:
    """Whether a value is made of numbers, strings, lists and mappings only."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and plain(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(plain(item) for item in value)
    return value is None or isinstance(value, (bool, int, float, str))


def bytes_in(size: str) -> int | None:
    """Return how many bytes a size is; None where it is none.

    >>> bytes_in("4GB"), bytes_in("1.5 kb"), bytes_in("4"), bytes_in("much")
    (4294967296, 1536, None, None)
    """
    text = size.upper().replace(" ", "")
    number, unit = text[:-2], text[-2:]
    known = unit in _UNITS and number.replace(".", "", 1).isdigit()
    return int(float(number) * _UNITS[unit]) if known else None


def cache_folder() -> Path:
    """Return the cache folder: ``QUICKSTUDY_CACHE`` where set, else the user's cache folder of this system."""
    chosen = os.environ.get("QUICKSTUDY_CACHE") or platformdirs.user_cache_dir("quickstudy", appauthor=False)
    return Path(chosen).expanduser()


@contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a file that takes its name only once it is complete and on the disk.

    Whoever reads ``path`` sees the old content or the new, never a part, whatever moment the process dies at.

    Args:
        path: the file to write; its folder is made if needed.
        mode: ``"wb"`` or ``"w"`` (UTF-8).

    Raises:
        OSError: the folder cannot be written; no file is left behind.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with unfinished.open(mode.replace("w", "x"), encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(target)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    if os.name == "posix":
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


_held: weakref.WeakSet[IO[Any]] = weakref.WeakSet()


def _close_held() -> None:
    for file in _held:
        file.close()


if sys.platform != "win32":
    # A forked process shares its parent's locks, and would hold them when the parent is dead.
    os.register_at_fork(after_in_child=_close_held)


@contextmanager
def alone(path: Path, wait: bool = True) -> Iterator[None]:
    """Let one thread of one process at a time into the block; the lock ends with its process, however that dies.

    Args:
        path: an empty file, there while the lock is held.
        wait: for whoever holds it.

    Raises:
        BlockingIOError: another holds it, and ``wait`` is False.
    """
    while True:
        with path.open("ab") as file:
            _lock(file, wait)
            if not _is_at(file, path):
                continue  # whoever had it before removed the file: that lock binds nobody
            _held.add(file)
            try:
                yield
            finally:
                with contextlib.suppress(OSError):  # Windows removes no open file; it is empty and does no harm
                    path.unlink()
            return


def _lock(file: IO[Any], wait: bool) -> None:
    if sys.platform == "win32":
        import msvcrt

        while True:
            try:
                msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
                return
            except OSError as error:  # gives up after ten seconds
                if not wait:
                    raise BlockingIOError(str(error)) from error
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def _is_at(file: IO[Any], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
