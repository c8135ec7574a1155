"""Where files lie, a folder or an archive, and files by number."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quickstudy.data.archives import Archive, Member, hidden, open_archive
from quickstudy.errors import DataError, brief
from quickstudy.files import absent


@dataclass(frozen=True)
class Folder:
    """A folder on disk, found again after a change of the current folder."""

    root: Path
    seen_from: Path = field(default_factory=Path.cwd)
    """The current folder when it was made: a relative ``root`` is relative to this one."""

    def __str__(self) -> str:
        return str(self.root)

    def files(self) -> list[str]:
        """Return the relative names of all files below, sorted; hidden ones and link loops left out."""
        try:
            return sorted(self._walk(self.root, "", frozenset()))
        except OSError as error:
            raise DataError(f"the folder '{error.filename}' cannot be read: {error.strerror}") from error

    def _walk(self, folder: Path, prefix: str, above: frozenset[tuple[int, int]]) -> Iterator[str]:
        status = folder.stat()
        here = (status.st_dev, status.st_ino)
        if here in above:
            return
        with os.scandir(folder) as entries:
            for entry in entries:
                if hidden(entry.name):
                    continue
                if entry.is_dir():
                    yield from self._walk(folder / entry.name, f"{prefix}{entry.name}/", above | {here})
                else:
                    yield prefix + entry.name

    def folders(self) -> set[str]:
        """Return the names of the folders directly below."""
        with os.scandir(self.root) as entries:
            return {entry.name for entry in entries if entry.is_dir() and not hidden(entry.name)}

    def item(self, name: str) -> Path:
        """Return the path of one file: as the root was given, or whole where that leads elsewhere by now."""
        path = self.root / name
        return path if path.is_absolute() or _current() == self.seen_from else self.seen_from / path

    @property
    def place(self) -> Path:
        """The whole path."""
        return self.seen_from / self.root


def _current() -> Path | None:
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


Item = Path | Member
"""One file, with ``read_bytes``; ``str(item)`` names it in messages."""
Source = Folder | Archive
"""A place with files under relative names, such as ``"cat/1.jpg"``."""


def open_source(path: str | os.PathLike[str]) -> Source:
    """Open a folder, an archive, or a folder inside an archive (``photos.zip/train``).

    Raises:
        DataError: nothing is there (the message names what is), or it is neither a folder nor an archive.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        return Folder(path)
    for archive in (path, *path.parents):
        if archive.is_file():
            return open_archive(archive, path.relative_to(archive).as_posix())
    raise DataError(absent("folder or archive", path))


def unwrapped(source: Source) -> Source:
    """Enter the one outer folder that an archive may wrap everything in: ``photos/cat/1.jpg`` has the class ``cat``."""
    while isinstance(source, Archive) and len(folders := source.folders()) == 1:
        outside, source.prefix = source.prefix, f"{source.prefix}{folders.pop()}/"
        if not source.folders():
            source.prefix = outside
            break
    return source


class Files:
    """Files of one source, by number. Names are kept in one array, so that workers share its memory."""

    def __init__(self, source: Source, names: Sequence[str] | NDArray[np.str_]) -> None:
        self.source = source
        try:
            self.names = np.asarray(names, dtype=np.dtypes.StringDType())
        except UnicodeEncodeError as error:
            utf8 = sys.getfilesystemencoding() == "utf-8"
            what = "rename the file" if utf8 else "set PYTHONUTF8=1 in the environment, or rename the file"
            raise DataError(f"the file name {brief(error.object)} of '{source}' is not UTF-8: {what}") from error

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Item:
        return self.source.item(str(self.names[index]))

    def select(self, rows: NDArray[np.integer[Any]]) -> Files:
        """Return the files of these rows."""
        return Files(self.source, self.names[rows])

    def identities(self) -> list[tuple[tuple[Any, ...], str]]:
        """Return by what the system knows each file, nothing where it has none, and its path.

        All links to a file lead to one.
        """
        if isinstance(self.source, Archive):
            archive = self.source.identity
            return [
                ((*archive, f"{self.source.prefix}{name}"), f"{self.source}/{name}") for name in self.names.tolist()
            ]
        found: list[tuple[tuple[Any, ...], str]] = []
        root = str(self.source.place)
        for name in self.names.tolist():
            path = os.path.join(root, name)  # noqa: PTH118 - a Path for each of millions of names would be slow
            try:
                status = os.stat(path)  # noqa: PTH116
            except OSError:  # which reading it will tell
                found.append(((), path))
                continue
            found.append(((status.st_dev, status.st_ino) if status.st_ino else (os.path.realpath(path),), path))
        return found

    @property
    def fingerprint(self) -> bytes:
        """A digest of the relative names."""
        return hashlib.blake2b("\0".join(self.names).encode(), digest_size=16).digest()
