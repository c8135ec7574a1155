"""Files of published data sets: where they lie, and how one that is missing comes there."""

from __future__ import annotations

import hashlib
import http.client
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from quickstudy.errors import DataError
from quickstudy.files import alone, cache_folder

_CHUNK = 1 << 16
_PAUSE = 1.0  # seconds before the second attempt; doubles with each further one
_LINE_EVERY = 10.0  # seconds between lines of progress where there is no terminal
_CUT = (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError)


class Published(NamedTuple):
    """A file of a data set, as its authors published it."""

    name: str
    """File name in the data folder."""
    content: str
    """What is inside and how it is laid out, for whoever has to bring it."""
    url: str | None = None
    """Public address, where there is a lasting one."""
    checksum: str = ""
    """With a ``url``: ``"sha256:..."`` or ``"md5:..."`` as published."""


def data_folder(root: str | os.PathLike[str] | None = None) -> Path:
    """Return where published data sets lie: ``root``, else ``QUICKSTUDY_DATA``, else a part of the cache folder."""
    named = root if root is not None else os.environ.get("QUICKSTUDY_DATA")
    return Path(named).expanduser() if named else cache_folder() / "datasets"


def published_files(
    title: str,
    files: Sequence[Published],
    root: str | os.PathLike[str] | None = None,
    *,
    timeout: float = 30.0,
    attempts: int = 5,
) -> list[Path]:
    """Return the paths of a data set's files, after downloading those that are missing and have an address.

    A file that lies there already is taken as it is, whatever its checksum: people pack archives anew, and the data
    set's own reader judges what is in them. A download keeps what has come in ``NAME.part``, goes on from there after a
    cut, now or in a later run, and takes its name only once its checksum is right. Proxies are those of the
    environment (``https_proxy``). Processes that want the same file wait for the one that fetches it.

    Args:
        title: the data set's name in messages.
        files: what it consists of.
        root: see ``data_folder``.
        timeout: seconds without an answer after which a connection counts as cut.
        attempts: how often a file is asked for before giving up; a server that cannot be reached is asked once.

    Raises:
        DataError: a file is missing and has no address or cannot be had from there, what came has a wrong checksum
            (it is deleted), or the folder cannot be written. The message says which files to put where.
    """
    folder = data_folder(root)
    for file in files:
        target = folder / file.name
        if target.is_file():
            continue
        if file.url is None:
            raise _missing(title, files, folder, "It has no lasting public address to download it from. ")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with alone(folder / f".{file.name}.lock"):
                failure = "" if target.is_file() else _bring(file, target, timeout, attempts)
        except OSError as error:
            failure = str(error)  # names the file that cannot be written
        if failure:
            raise _missing(title, files, folder, f"Downloading {file.url} failed: {failure}. ")
    return [folder / file.name for file in files]


def _missing(title: str, files: Sequence[Published], folder: Path, reason: str) -> DataError:
    absent = [file for file in files if not (folder / file.name).is_file()]
    lines = [f"  {file.name}{f' from {file.url}' if file.url else ''}\n    {file.content}\n" for file in absent]
    return DataError(
        f"{title} is incomplete. {reason}Put into '{folder}':\n{''.join(lines)}"
        "Or name the folder that has all of its files, as root=... or in the environment variable QUICKSTUDY_DATA"
    )


def _bring(file: Published, target: Path, timeout: float, attempts: int) -> str:
    """Download a file, and return ``""`` or why it did not succeed."""
    assert file.url is not None
    part = target.with_name(f"{file.name}.part")
    algorithm, _, published = file.checksum.partition(":")
    failure = ""
    for attempt in range(attempts):
        if attempt:
            time.sleep(_PAUSE * 2 ** (attempt - 1))
        resumed = part.exists()
        try:
            _receive(file.url, part, timeout)
        except urllib.error.HTTPError as error:
            error.close()
            failure = f"the server answered {error.code} {error.reason}"
            if error.code < 500 and error.code not in (408, 429):
                return failure
            continue
        except urllib.error.URLError as error:
            return f"the server cannot be reached ({error.reason})"
        except _CUT as error:
            failure = f"{error or type(error).__name__}; what has come is kept, and the next call goes on from there"
            continue
        with part.open("rb+") as received:
            found = hashlib.file_digest(received, algorithm).hexdigest()
            os.fsync(received.fileno())
        if found == published:
            part.replace(target)
            return ""
        size = part.stat().st_size
        part.unlink()
        failure = f"what came ({size:,} bytes) has the {algorithm} {found} and not {published}, and was deleted"
        if not resumed:  # a part from an earlier run may be to blame; a whole file is the server's
            return failure
    return failure


def _receive(url: str, part: Path, timeout: float) -> None:
    """Append to ``part`` what it lacks, or write it anew where the server sends the whole file.

    Raises:
        urllib.error.URLError: the server cannot be reached or refuses.
        http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError: the transfer broke off.
    """
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "quickstudy"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing is left to send: the checksum will tell whether that is so
            error.close()
            return
        raise
    with response:
        appends = response.status == 206
        if appends and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink(missing_ok=True)
            raise http.client.HTTPException("the server sent another part of the file than was asked for")
        length = response.headers.get("Content-Length")
        done = have if appends else 0
        total = done + int(length) if length else None
        with part.open("ab" if appends else "wb") as file, _progress(url.rsplit("/", 1)[-1], done, total) as advance:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                advance(done)
    if total is not None and done < total:
        raise ConnectionError(f"the connection ended after {done:,} of {total:,} bytes")


@contextmanager
def _progress(name: str, done: int, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show how far a download is: a bar on a terminal, else a line now and then. Yields what takes the bytes so far."""
    from rich.console import Console  # here, because most who import this download nothing
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True)
    if console.is_terminal:
        columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        with Progress(TextColumn("{task.description}"), *columns, console=console) as bar:
            task = bar.add_task(name, completed=done, total=total)
            yield lambda now: bar.update(task, completed=now)
        return
    size = "" if total is None else f" of {total / 1e6:.1f}"

    def line(now: int) -> None:
        print(f"downloading {name}: {now / 1e6:.1f}{size} MB", file=sys.stderr, flush=True)

    spoke = time.monotonic()

    def advance(now: int) -> None:
        nonlocal spoke
        if now == total or time.monotonic() - spoke > _LINE_EVERY:
            spoke = time.monotonic()
            line(now)

    line(done)
    yield advance
