"""Where files lie: a folder, or a zip or tar archive read in place. Members are named, never unpacked."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from quickstudy.errors import DataError, closest
from quickstudy.files import atomic_write, cache_folder

MAX_FILE_BYTES = 1 << 30
"""An archive's member that unpacks to more than this is refused: it is a bomb or no example."""

_ZIP = (".zip",)
_TAR = (".tar",)
_TAR_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")


class Item(Protocol):
    """One file: a ``pathlib.Path``, or a member of an archive. ``str(item)`` names it in messages."""

    def read_bytes(self) -> bytes: ...


class Source(Protocol):
    """A place with files under relative names, such as ``"cat/1.jpg"``."""

    def files(self) -> list[str]: ...
    def folders(self) -> set[str]: ...
    def item(self, name: str) -> Item: ...


@dataclass(frozen=True)
class Folder:
    """A folder on disk."""

    root: Path

    def __str__(self) -> str:
        return str(self.root)

    def files(self) -> list[str]:
        """Return the relative names of all files below, sorted; hidden ones and link loops left out."""
        return sorted(self._walk(self.root, "", frozenset()))

    def _walk(self, folder: Path, prefix: str, above: frozenset[tuple[int, int]]) -> Iterator[str]:
        status = folder.stat()
        here = (status.st_dev, status.st_ino)
        if here in above:
            return
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    yield from self._walk(folder / entry.name, f"{prefix}{entry.name}/", above | {here})
                else:
                    yield prefix + entry.name

    def folders(self) -> set[str]:
        """Return the names of the folders directly below."""
        return {entry.name for entry in os.scandir(self.root) if entry.is_dir() and not entry.name.startswith(".")}

    def item(self, name: str) -> Path:
        """Return the path of one file."""
        return self.root / name


@dataclass(frozen=True)
class Member:
    """A file inside an archive."""

    archive: Archive
    name: str

    def __str__(self) -> str:
        return f"{self.archive.path}/{self.name}"

    def read_bytes(self) -> bytes:
        """Return the file's content."""
        return self.archive.read(self.name)


class Archive:
    """A zip or tar archive, read in place by any number of processes.

    Raises:
        DataError: the archive cannot be read, or a member's name is absolute or climbs out with ``..``.
    """

    def __init__(self, path: Path, prefix: str = "") -> None:
        self.path = path
        self.prefix = prefix
        self._pid = -1
        self._names: dict[str, zipfile.ZipInfo | tarfile.TarInfo] = {}
        self._open()

    def __str__(self) -> str:
        return f"{self.path}/{self.prefix}".rstrip("/")

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "prefix": self.prefix, "_pid": -1, "_names": {}}

    def _open(self) -> None:
        # A forked worker shares the parent's file position: every process opens the archive for itself.
        if self._pid == os.getpid():
            return
        try:
            if self.path.name.lower().endswith(_ZIP):
                self._zip: zipfile.ZipFile | None = zipfile.ZipFile(self.path)
                infos = [(info.filename, info) for info in self._zip.infolist() if not info.is_dir()]
                self._folders = [info.filename for info in self._zip.infolist() if info.is_dir()]
            else:
                self._zip = None
                plain = self.path
                if plain.name.lower().endswith(_TAR_COMPRESSED):
                    plain = _decompressed(plain)
                with tarfile.open(plain, "r:") as tar:
                    members = tar.getmembers()
                    infos = [(member.name.removeprefix("./"), member) for member in members if not member.isdir()]
                    self._folders = [member.name.removeprefix("./") for member in members if member.isdir()]
                self._tar: BinaryIO = plain.open("rb", buffering=0)
        except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError) as error:
            raise DataError(f"'{self.path}' cannot be read as an archive: {error}. Is the file complete?") from error
        self._names = {}
        for name, info in infos:
            pure = PurePosixPath(name.replace("\\", "/"))
            if pure.is_absolute() or ".." in pure.parts or (pure.parts and pure.parts[0].endswith(":")):
                raise DataError(f"'{self.path}' holds the file name '{name}', which leads out of the archive: refused")
            if isinstance(info, tarfile.TarInfo) and not info.isreg():
                raise DataError(f"'{self.path}' holds '{name}', which is a link or device, not a file: refused")
            if name.startswith(self.prefix) and not _hidden(name):
                self._names[name] = info
        self._pid = os.getpid()

    def files(self) -> list[str]:
        """Return the names of all files below the prefix, relative to it, sorted; hidden ones left out."""
        return sorted(name[len(self.prefix) :] for name in self._names)

    def folders(self) -> set[str]:
        """Return the names of the folders directly below the prefix."""
        names = [*self._folders, *self._names]
        below = [name[len(self.prefix) :] for name in names if name.startswith(self.prefix) and not _hidden(name)]
        return {name.split("/")[0] for name in below if "/" in name}

    def item(self, name: str) -> Member:
        """Return one file."""
        return Member(self, self.prefix + name)

    def read(self, name: str) -> bytes:
        """Return the content of the member with this full name.

        Raises:
            DataError: there is no such member, it is damaged, encrypted, or larger than ``MAX_FILE_BYTES``.
        """
        self._open()
        info = self._names.get(name)
        if info is None:
            raise DataError(f"'{self.path}' holds no file '{name}'{closest(name, self._names)}")
        size = info.file_size if isinstance(info, zipfile.ZipInfo) else info.size
        if size > MAX_FILE_BYTES:
            raise DataError(f"'{self.path}/{name}' unpacks to {size:,} bytes; more than {MAX_FILE_BYTES:,} is refused")
        try:
            if isinstance(info, zipfile.ZipInfo):
                assert self._zip is not None
                return self._zip.read(info)
            self._tar.seek(info.offset_data)
            content = self._tar.read(size)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError, EOFError) as error:
            raise DataError(f"'{self.path}/{name}' cannot be read: {error}") from error
        if len(content) != size:
            raise DataError(f"'{self.path}/{name}' ends after {len(content):,} of {size:,} bytes: the archive is cut")
        return content


def _hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _decompressed(path: Path) -> Path:
    """Return a plain tar of a compressed one, made once: only that can be read at any place."""
    status = path.stat()
    key = hashlib.blake2b(f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}".encode(), digest_size=16).hexdigest()
    plain = cache_folder() / "archives" / f"{key}.tar"
    if not plain.exists():
        import bz2
        import gzip
        import lzma

        suffix = path.name.lower()
        opener = bz2.open if "bz2" in suffix else lzma.open if suffix.endswith("xz") else gzip.open
        try:
            with opener(path, "rb") as packed, atomic_write(plain) as unpacked:
                shutil.copyfileobj(packed, unpacked, 1 << 20)
        except (OSError, EOFError, lzma.LZMAError) as error:
            raise DataError(f"'{path}' cannot be unpacked into {plain.parent}: {error}") from error
    return plain


def open_source(path: str | os.PathLike[str]) -> Source:
    """Open a folder, an archive, or a folder inside an archive (``photos.zip/train``).

    An archive that wraps everything in one outer folder is entered: ``photos.zip`` with ``photos/cat/1.jpg`` has
    the class ``cat``.

    Raises:
        DataError: nothing is there (the message names what is), or it is neither a folder nor an archive.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        return Folder(path)
    for archive in (path, *path.parents):
        if archive.is_file():
            if not archive.name.lower().endswith(_ZIP + _TAR + _TAR_COMPRESSED):
                kinds = ", ".join(_ZIP + _TAR + _TAR_COMPRESSED)
                raise DataError(f"'{archive}' is a file, and neither a folder nor an archive ({kinds})")
            inner = path.relative_to(archive).as_posix()
            if inner != ".":
                source = Archive(archive, f"{inner}/")
                if not source.files():
                    known = Archive(archive).folders()
                    raise DataError(f"'{archive}' holds no folder '{inner}'{closest(inner, known)} It has: {sorted(known)}")
                return source
            source = Archive(archive)
            while len(folders := source.folders()) == 1 and all(name.count("/") >= 2 for name in source.files()):
                source = Archive(archive, f"{source.prefix}{folders.pop()}/")
            return source
    near = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    raise DataError(f"there is no folder or archive '{path}'{closest(path.name, near)} (looked in {Path.cwd()})")


class Files:
    """Files of one source, by number. Names are kept in one array, so that workers share its memory."""

    def __init__(self, source: Source, names: Sequence[str] | NDArray[np.str_]) -> None:
        self.source = source
        self.names = np.asarray(names, dtype=np.dtypes.StringDType())

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Item:
        return self.source.item(str(self.names[index]))

    def take(self, rows: NDArray[np.integer]) -> Files:
        """Return the files of these rows."""
        return Files(self.source, self.names[rows])

    @property
    def fingerprint(self) -> bytes:
        """A digest of the relative names."""
        return hashlib.blake2b("\0".join(self.names).encode(), digest_size=16).digest()
