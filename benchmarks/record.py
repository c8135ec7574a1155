"""Results as JSON, with all that is needed to repeat them."""

from __future__ import annotations

import datetime
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def write(name: str, command: str, **figures: Any) -> Path:
    """Write ``results/NAME.json``: the figures with the command, the date, the hardware and the versions."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    packages = ("quickstudy", "torch", "numpy", "lightning")
    record = {
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "hardware": {
            "cpu": processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "versions": {"python": platform.python_version(), **{package: version(package) for package in packages}},
        **figures,
    }
    path.write_text(json.dumps(record, indent=1) + "\n")
    return path


def processor() -> str:
    """Return the processor's name."""
    info = Path("/proc/cpuinfo")
    named = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return named[0].split(":", 1)[1].strip() if named else platform.processor()
