"""Results as JSON, with all that is needed to repeat them."""

from __future__ import annotations

import datetime
import json
import os
import platform
import signal
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from quickstudy.files import atomic_write

RESULTS = Path(__file__).parent / "results"


def how_it_failed(code: int) -> str:
    """Return how a process ended that ended with that code, not 0; what it printed stands above."""
    if code > 0:
        return "failed; its error is above"
    name = signal.Signals(-code).name
    likely = ", most often by the kernel as memory ran out: give it more, or run fewer at a time" * (name == "SIGKILL")
    return f"was ended by {name}{likely}"


def write(name: str, command: str, **figures: Any) -> Path:
    """Write ``results/NAME.json``: the figures with the command, the date, the hardware and the versions."""
    path = RESULTS / f"{name}.json"
    save(path, {**circumstances(command), **figures})
    return path


def circumstances(command: str) -> dict[str, Any]:
    """Return what is needed to repeat a measurement made by this process."""
    packages = ("quickstudy", "torch", "numpy", "lightning")

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=RESULTS.parent, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/", f":(exclude){RESULTS}")
    return {
        "command": command,
        "commit": git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else ""),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "hardware": {
            "cpu": processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "versions": {"python": platform.python_version(), **{package: version(package) for package in packages}},
    }


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    path.parent.mkdir(exist_ok=True)
    with atomic_write(path) as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())


def processor() -> str:
    """Return the processor's name."""
    info = Path("/proc/cpuinfo")
    named = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return named[0].split(":", 1)[1].strip() if named else platform.processor()
