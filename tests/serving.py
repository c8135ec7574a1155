"""A served model for tests: made-up pictures of colours, and the real command in a process of its own."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

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
