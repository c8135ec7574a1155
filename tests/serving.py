"""A served model for tests: made-up pictures of colours, and the real command in a process of its own."""

from __future__ import annotations

import io
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
import torch
from PIL import Image

from quickstudy import Predictor
from quickstudy.pictures import load_image

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

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """End it politely and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@contextmanager
def running(folder: Path, *options: str, **environment: str) -> Iterator[Server]:
    """Serve a folder at a free port."""
    command = [sys.executable, "-m", "quickstudy", "serve", str(folder), "--port", "0", *options]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}
    )
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        found = re.search(r"http://\S+:\d+", line)
        assert found, line + process.stderr.read()
        yield Server(process, found[0])
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


class Writer(threading.Thread):
    """Changes classes of its own one after the other, and notes what was acknowledged."""

    def __init__(self, url: str, number: int, turn: int, known: dict[str, int]) -> None:
        super().__init__()
        self.url, self.random, self.known = url, random.Random(1000 * turn + number), known
        self.underway: dict[str, int] = known
        self.prefix = f"w{number}-"
        self.acknowledged = 0

    def run(self) -> None:
        with httpx.Client(base_url=self.url, timeout=10) as client:
            while True:
                own = [name for name in self.known if name.startswith(self.prefix)]
                kind = self.random.choice(["add", "add", "more", "remove", "rename"]) if own else "add"
                name = self.random.choice(own) if own and kind != "add" else f"{self.prefix}{self.random.random()}"
                new = f"{self.prefix}{self.random.random()}"
                after = dict(self.known)
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
                self.underway = after
                try:
                    assert client.send(request).is_success
                except httpx.TransportError:
                    return
                self.known = after
                self.acknowledged += 1


class Reader(threading.Thread):
    """Asks for what the service knew from the start, and counts the right answers."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url, self.right, self.wrong = url, 0, 0

    def run(self) -> None:
        asked = {colour: [("images", ("x.png", picture(colour, 9)))] for colour in ("red", "green")}
        with httpx.Client(base_url=self.url, timeout=10) as client:
            while True:
                for colour, files in asked.items():
                    try:
                        answer = client.post("/predict", params={"top": 1}, files=files)
                    except httpx.TransportError:
                        return
                    right = answer.is_success and answer.json()["predictions"][0]["ranking"][0]["name"] == colour
                    self.right, self.wrong = self.right + right, self.wrong + (not right)


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
        AssertionError: an acknowledged change was lost, half a change was seen, or an answer was wrong.
    """
    chance, acknowledged, answers = random.Random(seed), 0, 0
    known: list[dict[str, int]] = [{}, {}]
    for turn in range(kills):
        with running(folder) as server:
            reader = Reader(server.url)
            writers = [Writer(server.url, number, turn, known[number]) for number in (0, 1)]
            for thread in (reader, *writers):
                thread.start()
            time.sleep(chance.uniform(*seconds))
            server.kill()
            for thread in (reader, *writers):
                thread.join()
        assert reader.wrong == 0
        answers += reader.right
        found = Predictor.load(folder).counts_
        for number, writer in enumerate(writers):
            own = {name: count for name, count in found.items() if name.startswith(writer.prefix)}
            assert own in (writer.known, writer.underway), "an acknowledged change is lost, or a half one is there"
            known[number] = own
            acknowledged += writer.acknowledged
        assert Predictor.load(folder).score([picture("red", 9)], ["red"]) == 1
    return Kept(kills, acknowledged, answers)
