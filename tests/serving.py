"""A served model for tests: made-up pictures of colours, and the real command in a process of its own."""

from __future__ import annotations

import io
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
import torch
from PIL import Image

from quickstudy import Predictor
from quickstudy.image.modality import load_image

HANGS = 300
"""Seconds after which a process hangs for good, on the slowest machine and under any load."""
GONE = httpx.NetworkError, httpx.RemoteProtocolError
"""What a request to a service that was killed ends with; a service that only hangs is another matter."""
HALF_A_PICTURE = (
    "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {}\r\nContent-Length: 1000\r\n\r\n"
    '--x\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\nabc'
)
"""A request that stops half-way, to a path, of a kind."""
COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200), "yellow": (200, 200, 30)}


def picture(colour: str | tuple[int, int, int], seed: int = 0, size: int = 20) -> bytes:
    """Return a PNG of a colour with a little noise."""
    base = np.array(COLOURS[colour] if isinstance(colour, str) else colour)
    noise = np.random.default_rng(seed).integers(-20, 21, (size, size, 3))
    content = io.BytesIO()
    Image.fromarray((base + noise).clip(0, 255).astype(np.uint8)).save(content, "PNG")
    return content.getvalue()


def save_model(
    folder: Path, colours: tuple[str, ...] = ("red", "green"), strategy: str = "prototypicalnetworks"
) -> Path:
    """Save a small predictor that knows some colours, five pictures each."""
    torch.manual_seed(0)
    inputs = [picture(colour, seed) for colour in colours for seed in range(5)]
    labels = [colour for colour in colours for _ in range(5)]
    load = partial(load_image, image_size=16)
    made = Predictor.from_backbone("conv4", inputs, labels, backbone_kwargs={"hidden": 8}, strategy=strategy, load=load)
    made.calibrate(reject_rate=0.001).save(folder)
    return folder


class Server:
    """A running ``quickstudy serve``."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process, self.url = process, url
        self._lines: list[str] = []
        self._listener = threading.Thread(target=self._listen, daemon=True)  # else its log would fill the pipe
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        self._lines.extend(self.process.stderr)

    @property
    def said(self) -> str:
        """On standard error, from its first answer to its end, which it waits for."""
        self.hang_up()
        return "".join(self._lines)

    def hang_up(self) -> None:
        """Wait until all was heard that it said."""
        self._listener.join(HANGS)

    def get(self, path: str) -> tuple[int, str]:
        """Return the status and the text of a path, which is asked for as it is: other clients resolve dots in it."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=HANGS) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def send(self, text: str) -> socket.socket:
        """Open a connection and send the beginning of a request, or all of one."""
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        connection = socket.create_connection((host, int(port)), timeout=HANGS)
        connection.sendall(text.encode())
        return connection

    def takes_connections(self) -> bool:
        """Say whether it still listens."""
        try:
            self.send("").close()
        except ConnectionError:
            return False
        return True

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """End it politely and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(HANGS)
        return self.process.returncode


@contextmanager
def running(folder: Path, *options: str, **environment: str) -> Iterator[Server]:
    """Serve a folder at a free port."""
    command = [sys.executable, "-m", "quickstudy", "serve", str(folder), "--port", "0", *options]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}
    )
    assert process.stderr is not None
    server = None
    try:
        line = process.stderr.readline()
        found = re.search(r"http://\S+:\d+", line)
        assert found, line + process.stderr.read()
        server = Server(process, found[0])
        yield server
        server.stop()  # politely: the page has files to remove
    finally:
        process.kill()
        process.wait()
        if server is not None:
            server.hang_up()
        process.stderr.close()


def write(url: str, known: dict[str, int], chance: random.Random, prefix: str) -> Written:
    """Change classes of its own one after the other, until the service is gone."""
    acknowledged = 0
    with httpx.Client(base_url=url, timeout=HANGS) as client:
        while True:
            kind = chance.choice(["add", "add", "more", "remove", "rename"]) if known else "add"
            new = f"{prefix}{chance.random()}"
            name = chance.choice(list(known)) if kind != "add" else new
            after = dict(known)
            if kind in ("add", "more"):
                after[name] = after.get(name, 0) + 2
                files = [("images", ("x.png", picture("blue", seed))) for seed in range(2)]
                request = client.build_request("POST", f"/classes/{name}/examples", files=files)
            elif kind == "remove":
                del after[name]
                request = client.build_request("DELETE", f"/classes/{name}")
            else:
                after[new] = after.pop(name)
                request = client.build_request("PATCH", f"/classes/{name}", json={"name": new})
            try:
                answer = client.send(request)
            except GONE:
                return Written(acknowledged, known, after)
            assert answer.is_success, answer.text
            known = after
            acknowledged += 1


def read(url: str) -> int:
    """Ask for what the service knew from the start, until it is gone; return how many answers came, all right."""
    asked = {colour: [("images", ("x.png", picture(colour, 9)))] for colour in ("red", "green")}
    answers = 0
    with httpx.Client(base_url=url, timeout=HANGS) as client:
        while True:
            for colour, files in asked.items():
                try:
                    answer = client.post("/predict", params={"top": 1}, files=files)
                except GONE:
                    return answers
                assert answer.is_success, answer.text
                assert answer.json()["predictions"][0]["ranking"][0]["name"] == colour
                answers += 1


class Written(NamedTuple):
    """What came of changing classes."""

    acknowledged: int
    """Changes."""
    known: dict[str, int]
    """The classes after them."""
    under_way: dict[str, int]
    """The classes after the change that got no answer."""


class Kept(NamedTuple):
    """What came of killing a service."""

    kills: int
    changes: int
    """That were acknowledged; none was lost."""
    answers: int
    """All of them right."""


def killed_again_and_again(folder: Path, kills: int, seed: int, seconds: tuple[float, float] = (0.2, 1.5)) -> Kept:
    """Kill a service at random moments while two write to it and one reads.

    Raises:
        AssertionError: an acknowledged change was lost, half a change was seen, an answer was wrong or a refusal, or
            there was nothing to lose.
    """
    chance, changes, answers = random.Random(seed), 0, 0
    known: list[dict[str, int]] = [{}, {}]
    for turn in range(kills):
        with ThreadPoolExecutor(3) as threads, running(folder) as server:
            reader = threads.submit(read, server.url)
            writers = [
                threads.submit(write, server.url, own, random.Random(1000 * turn + number), f"w{number}-")
                for number, own in enumerate(known)
            ]
            time.sleep(chance.uniform(*seconds))
            server.kill()
            answers += reader.result()
            written = [writer.result() for writer in writers]
        found = Predictor.load(folder).counts_
        for number, (acknowledged, before, after) in enumerate(written):
            known[number] = {name: count for name, count in found.items() if name.startswith(f"w{number}-")}
            assert known[number] in (before, after), "an acknowledged change is lost, or a half one is there"
            changes += acknowledged
        assert Predictor.load(folder).predict([picture("red", 9)], may_be_unknown=False) == ["red"]
    assert changes, "nothing was changed"
    assert answers, "nothing was answered"
    return Kept(kills, changes, answers)
