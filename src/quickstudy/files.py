"""Files that are either whole or absent, and the folder where quickstudy keeps what it can make again."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import platformdirs


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
