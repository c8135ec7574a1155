"""Downloads, from a server on this machine that misbehaves on demand."""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from quickstudy.datasets import download
from quickstudy.datasets.download import Published, data_folder, published_files
from quickstudy.errors import DataError

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"


@dataclass
class Server:
    """What the server does, and what it was asked for."""

    url: str = ""
    ranges: bool = True
    length: bool = True
    cuts: list[int] = field(default_factory=list)  # bytes after which it hangs up, for one request each
    statuses: list[int] = field(default_factory=list)  # answers for one request each
    shift: int = 0  # sends another range than asked for
    pause: float = 0.0
    asked: list[str | None] = field(default_factory=list)  # the Range of each request
    paths: list[str] = field(default_factory=list)

    def file(self, name: str = "data.zip", checksum: str = SHA256) -> Published:
        return Published(name, "a/b.png: two classes", f"{self.url}/{name}", checksum)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    behaviour = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            behaviour.asked.append(self.headers["Range"])
            behaviour.paths.append(self.path)
            time.sleep(behaviour.pause)
            if behaviour.statuses and (status := behaviour.statuses.pop(0)) != 200:
                self.send_error(status)
                return
            start = 0
            if behaviour.ranges and self.headers["Range"]:
                start = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1]) - behaviour.shift
                if start >= len(CONTENT):
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
            else:
                self.send_response(200)
            if behaviour.length:
                self.send_header("Content-Length", str(len(CONTENT) - start))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # who asked may have given up
                self.wfile.write(CONTENT[start:][: behaviour.cuts.pop(0) if behaviour.cuts else None])

        def log_message(self, *arguments: object) -> None:
            pass

    monkeypatch.setattr(download, "_PAUSE", 0.001)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        behaviour.url = f"http://127.0.0.1:{listener.server_port}"
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield behaviour
        listener.shutdown()
        thread.join()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("checksum", [SHA256, MD5], ids=["sha256", "md5"])
@pytest.mark.parametrize("length", [True, False])
def test_a_missing_file_is_downloaded_once(server: Server, tmp_path: Path, checksum: str, length: bool) -> None:
    server.length = length
    folder = tmp_path / "new" / "folder"
    for _ in range(2):
        (path,) = published_files("Set", [server.file(checksum=checksum)], folder)
        assert path == folder / "data.zip"
        assert path.read_bytes() == CONTENT
    assert names(folder) == ["data.zip"]
    assert server.asked == [None]


def test_a_file_that_is_there_is_taken_as_it_is(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.zip").write_bytes(b"packed anew")
    published_files("Set", [server.file()], tmp_path)
    assert server.asked == []
    assert (tmp_path / "data.zip").read_bytes() == b"packed anew"


def test_a_cut_connection_is_taken_up_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.cuts = [100_000, 50_000]
    (path,) = published_files("Set", [server.file()], tmp_path)
    assert path.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=100000-", "bytes=150000-"]


def test_the_next_call_goes_on_after_all_attempts_failed(server: Server, tmp_path: Path) -> None:
    server.cuts = [1000, 1000]
    with pytest.raises(DataError, match=r"ended after 2,000 of 300,000 bytes; what has come is kept"):
        published_files("Set", [server.file()], tmp_path, attempts=2)
    assert names(tmp_path) == ["data.zip.part"]
    (path,) = published_files("Set", [server.file()], tmp_path)
    assert path.read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=2000-"


def test_a_server_without_ranges_sends_all_again(server: Server, tmp_path: Path) -> None:
    server.ranges, server.cuts = False, [100_000]
    (path,) = published_files("Set", [server.file()], tmp_path)
    assert path.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=100000-"]


def test_another_range_than_asked_for_is_not_appended(server: Server, tmp_path: Path) -> None:
    server.shift, server.cuts = 7, [100_000]
    (path,) = published_files("Set", [server.file()], tmp_path)
    assert path.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=100000-", None]


@pytest.mark.parametrize(
    ("part", "asked"),
    [
        (CONTENT, ["bytes=300000-"]),  # complete: the process died before it could be renamed
        (CONTENT + b"more", ["bytes=300004-", None]),
        (b"x" * 1000, ["bytes=1000-", None]),  # damaged
        (b"", [None]),
    ],
)
def test_the_part_of_an_earlier_run(server: Server, tmp_path: Path, part: bytes, asked: list[str | None]) -> None:
    (tmp_path / "data.zip.part").write_bytes(part)
    (path,) = published_files("Set", [server.file()], tmp_path)
    assert path.read_bytes() == CONTENT
    assert server.asked == asked
    assert names(tmp_path) == ["data.zip"]


def test_a_wrong_checksum_deletes_what_came(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"300,000 bytes\) has the md5 \w{32} and not 0123, and was deleted"):
        published_files("Set", [server.file(checksum="md5:0123")], tmp_path)
    assert names(tmp_path) == []
    assert len(server.asked) == 1


def test_a_missing_address_is_not_asked_again(server: Server, tmp_path: Path) -> None:
    server.statuses = [404]
    with pytest.raises(DataError, match="the server answered 404 Not Found"):
        published_files("Set", [server.file()], tmp_path)
    assert len(server.asked) == 1
    assert names(tmp_path) == []


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.statuses = [503, 429]
    published_files("Set", [server.file()], tmp_path)
    assert len(server.asked) == 3
    server.statuses = [500, 500]
    with pytest.raises(DataError, match="the server answered 500"):
        published_files("Set", [server.file("other.zip")], tmp_path, attempts=2)


def test_a_silent_server_is_given_up(server: Server, tmp_path: Path) -> None:
    server.pause = 0.3
    with pytest.raises(DataError, match="timed out"):
        published_files("Set", [server.file()], tmp_path, timeout=0.05, attempts=2)
    assert len(server.asked) == 2


def test_offline_says_which_files_to_put_where(server: Server, tmp_path: Path) -> None:
    (tmp_path / "here.zip").touch()
    address = "http://127.0.0.1:9"  # nothing listens at the discard port
    files = [Published(f"{name}.zip", f"{name} inside", f"{address}/{name}.zip", SHA256) for name in ("here", "a", "b")]
    with pytest.raises(DataError) as caught:
        published_files("Set", files, tmp_path)
    message = str(caught.value)
    assert f"Set is incomplete. Downloading {address}/a.zip failed: the server cannot be reached" in message
    assert f"Put into '{tmp_path}':\n  a.zip from {address}/a.zip\n    a inside\n  b.zip from" in message
    assert "root=... or in the environment variable QUICKSTUDY_DATA" in message
    assert "here" not in message
    assert names(tmp_path) == ["here.zip"]


def test_a_file_without_address_says_what_to_bring(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no lasting public address[^$]*data\.zip\n    a/1\.png: two classes"):
        published_files("Set", [Published("data.zip", "a/1.png: two classes")], tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


def test_a_folder_that_cannot_be_written_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"failed: \[Errno \d+\] .*file"):
        published_files("Set", [server.file()], tmp_path / "file")


def test_many_at_once_download_once(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".data.zip.lock").touch()  # of a process that was killed
    server.pause = 0.05
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: published_files("Set", [server.file()], tmp_path)[0], range(8)))
    assert {path.read_bytes() for path in paths} == {CONTENT}
    assert server.asked == [None]
    assert names(tmp_path) == ["data.zip"]


def test_proxies_of_the_environment_are_used(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setattr(urllib.request, "_opener", None)  # urllib reads the environment once
    file = Published("data.zip", "", "http://nowhere.invalid/data.zip", SHA256)
    (path,) = published_files("Set", [file], tmp_path)
    assert path.read_bytes() == CONTENT
    assert server.paths == ["http://nowhere.invalid/data.zip"]


def test_progress_is_lines_in_a_pipe_and_a_bar_on_a_terminal(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(download, "_LINE_EVERY", -1.0)
    published_files("Set", [server.file()], tmp_path)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "downloading data.zip: 0.0 of 0.3 MB"
    assert lines[-1] == "downloading data.zip: 0.3 of 0.3 MB"
    assert len(lines) > 3
    monkeypatch.setenv("FORCE_COLOR", "1")
    published_files("Set", [server.file("other.zip")], tmp_path)
    shown = capsys.readouterr().err
    assert "downloading" not in shown
    assert "other.zip" in shown


def test_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUICKSTUDY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("QUICKSTUDY_DATA", str(tmp_path / "data"))
    assert data_folder(tmp_path / "own") == tmp_path / "own"
    assert data_folder() == tmp_path / "data"
    assert data_folder("~") == Path.home()
    monkeypatch.delenv("QUICKSTUDY_DATA")
    assert data_folder() == tmp_path / "cache" / "datasets"
