"""Zip and tar archives, read in place: members are named and read, never unpacked."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from quickstudy.errors import DataError, closest
from quickstudy.files import atomic_write, cache_folder

MAX_FILE_BYTES = 1 << 30
"""An archive's member that unpacks to more than this is refused: it is a bomb or no example."""
_MAX_RATIO = 100  # pictures hardly shrink; an archive that grows more than this, beyond MAX_FILE_BYTES, is a bomb

_ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:")
_SAYS_UTF8 = 0x800  # of a zip member's flags
_TAR_BLOCK = 512  # a tar ends with blocks of zeros

_ZIP = (".zip",)
_TAR = (".tar",)
_TAR_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")


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


class _Found(NamedTuple):
    name: str
    is_folder: bool
    fault: str  # why it is refused, or ""
    size: int  # of its content, as the archive states it
    place: Any


class Archive(ABC):
    """A zip or tar archive, read in place by any number of processes and threads.

    Args:
        path: the archive.
        prefix: the folder inside it that names are relative to, such as ``"train/"``.

    Raises:
        DataError: it cannot be read, or a member's name leads out of it, or a member is a link, a device or encrypted.
    """

    def __init__(self, path: Path, prefix: str = "") -> None:
        self.path = path
        self._place = path.absolute()  # where it is found after a change of folder
        self.prefix = prefix
        self._files: dict[str, _Found] = {}
        self._folders: set[str] = set()
        try:
            for member in self._members():
                self._add(member)
        except DataError:
            raise
        except Exception as error:  # damage makes the readers raise almost anything
            raise DataError(f"'{path}' cannot be read as an archive: {error}. Is the file complete?") from error

    def __str__(self) -> str:
        return f"{self.path}/{self.prefix}".rstrip("/")

    def __reduce__(self) -> tuple[type[Archive], tuple[Path, str], dict[str, Path]]:
        return type(self), (self._place, self.prefix), {"path": self.path}

    @property
    def identity(self) -> tuple[int, int]:
        """What the system knows the archive by, whatever its name."""
        status = self._place.stat()
        return status.st_dev, status.st_ino

    @abstractmethod
    def _members(self) -> Iterator[_Found]:
        """Yield every member."""

    @abstractmethod
    def _content(self, member: _Found) -> bytes:
        """Return the content of a member."""

    def _add(self, member: _Found) -> None:
        parts = [part for part in member.name.replace("\\", "/").split("/") if part not in ("", ".")]
        if _ABSOLUTE.match(member.name) or ".." in parts:
            raise DataError(f"'{self.path}' holds the name '{member.name}', which leads out of the archive: refused")
        if member.fault:
            raise DataError(f"'{self.path}' holds '{member.name}', which is {member.fault}: refused")
        if parts and not any(hidden(part) for part in parts):
            if member.is_folder:
                self._folders.add("/".join(parts) + "/")
            else:
                self._files["/".join(parts)] = member

    def files(self) -> list[str]:
        """Return the names of all files below the prefix, relative to it, sorted; hidden ones left out."""
        return sorted(name[len(self.prefix) :] for name in self._files if name.startswith(self.prefix))

    def folders(self) -> set[str]:
        """Return the names of the folders directly below the prefix."""
        names = (name for some in (self._folders, self._files) for name in some if name.startswith(self.prefix))
        below = (name[len(self.prefix) :] for name in names)
        return {name.split("/")[0] for name in below if "/" in name}

    def item(self, name: str) -> Member:
        """Return one file."""
        return Member(self, self.prefix + name)

    def below(self, name: str) -> list[Member]:
        """Return the files of a folder with this full name, sorted; none where there is no such folder."""
        return [Member(self, file) for file in sorted(self._files) if file.startswith(f"{name}/")]

    def read(self, name: str) -> bytes:
        """Return the content of the member with this full name.

        Raises:
            DataError: there is no such member, it is damaged, or it is larger than ``MAX_FILE_BYTES``.
        """
        member = self._files.get(name)
        if member is None:
            raise DataError(f"'{self.path}' holds no file '{name}'{closest(name, self._files)}")
        size = member.size
        if size > MAX_FILE_BYTES:
            raise DataError(f"'{self.path}/{name}' unpacks to {size:,} bytes; more than {MAX_FILE_BYTES:,} is refused")
        try:
            content = self._content(member)
        except MemoryError:
            raise
        except Exception as error:
            raise DataError(f"'{self.path}/{name}' cannot be read: {error}") from error
        if len(content) != size:
            raise DataError(f"'{self.path}/{name}' ends after {len(content):,} of {size:,} bytes: the archive is cut")
        return content


class Zip(Archive):
    """A zip archive."""

    _pid = -1
    _zip: zipfile.ZipFile

    def _opened(self) -> zipfile.ZipFile:
        # A forked worker shares the parent's file position: every process opens the archive for itself.
        if self._pid != os.getpid():
            self._zip, self._pid = zipfile.ZipFile(self._place), os.getpid()
        return self._zip

    def _members(self) -> Iterator[_Found]:
        for info in self._opened().infolist():
            link = "a link, not a file" if stat.S_ISLNK(info.external_attr >> 16) else ""
            encrypted = "encrypted (unpack the archive with its password first)" if info.flag_bits & 1 else ""
            yield _Found(_name(info), info.is_dir(), link or encrypted, info.file_size, info)

    def _content(self, member: _Found) -> bytes:
        return self._opened().read(member.place)


def _name(info: zipfile.ZipInfo) -> str:
    """Return a member's name: macOS and many a tool write UTF-8 without saying so, which zipfile takes for DOS's."""
    if info.flag_bits & _SAYS_UTF8 or info.filename.isascii():
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


class Tar(Archive):
    """A tar archive; a compressed one is unpacked to a plain one in the cache folder, once."""

    _plain: Path

    def _members(self) -> Iterator[_Found]:
        packed = self.path.name.lower().endswith(_TAR_COMPRESSED)
        self._plain = _decompressed(self.path) if packed else self._place
        with tarfile.open(self._plain, "r:") as tar:
            for info in tar:
                whole = info.isdir() or (info.isreg() and not info.issparse())
                fault = "" if whole else "a link or a device, not a file"
                yield _Found(info.name, info.isdir(), fault, info.size, info.offset_data)
        with self._plain.open("rb") as file:
            file.seek(-_TAR_BLOCK, os.SEEK_END)
            if file.read().strip(b"\0"):
                raise EOFError("its last block is missing")  # tarfile overlooks a cut between two members

    def _content(self, member: _Found) -> bytes:
        with self._plain.open("rb") as file:
            file.seek(member.place)
            return file.read(member.size)


_SYSTEMS = {
    *("__macosx", "@eadir", "#recycle", "@recycle", "$recycle.bin", "lost+found", "system volume information"),
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "__pycache__"),
}
"""What systems and network storage put beside users' files; names with a dot before them are hidden as well."""


def hidden(name: str) -> bool:
    """Whether a file or folder is the system's own and no example."""
    return name.startswith(".") or name.lower() in _SYSTEMS


def _decompressed(path: Path) -> Path:
    """Return a plain tar of a compressed one, made once: only that can be read at any place."""
    status = path.stat()
    identity = f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}"
    plain = cache_folder() / "archives" / f"{hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()}.tar"
    if plain.exists():
        return plain
    suffix = path.name.lower()
    opener: Any = bz2.open if "bz2" in suffix else lzma.open if suffix.endswith("xz") else gzip.open
    try:
        with opener(path, "rb") as packed, atomic_write(plain) as unpacked:
            room = min(max(MAX_FILE_BYTES, _MAX_RATIO * status.st_size), shutil.disk_usage(plain.parent).free * 9 // 10)
            while block := packed.read(1 << 20):
                if unpacked.tell() + len(block) > room:
                    raise DataError(
                        f"'{path}' ({status.st_size:,} bytes) unpacks to more than {room:,} bytes: it is no archive of "
                        f"examples, or {plain.parent} has no room. Unpack it yourself and give the folder"
                    )
                unpacked.write(block)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"'{path}' cannot be unpacked into {plain.parent}: {error}. Is the file complete?") from error
    return plain


def is_archive(path: Path) -> bool:
    """Whether a file's name has the ending of an archive."""
    return path.name.lower().endswith(_ZIP + _TAR + _TAR_COMPRESSED)


def open_archive(path: Path, inner: str = ".") -> Archive:
    """Open an archive, or a folder inside it.

    Raises:
        DataError: its name has no ending of an archive, it cannot be read, or it holds no such folder.
    """
    if not is_archive(path):
        kinds = ", ".join(_ZIP + _TAR + _TAR_COMPRESSED)
        raise DataError(f"'{path}' is a file, and neither a folder nor an archive ({kinds})")
    source = Zip(path) if path.name.lower().endswith(_ZIP) else Tar(path)
    if inner != ".":
        known = source.folders()
        source.prefix = f"{inner}/"
        if not source.files() and not source.folders():
            raise DataError(f"'{path}' holds no folder '{inner}'{closest(inner, known)} It has: {sorted(known)}")
    return source
