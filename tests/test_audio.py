"""Sounds as a domain: how they are read, the doors of their data, tasks, and the predictor."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from quickstudy.audio import AudioClassificationData, AudioClassifier, Sound
from quickstudy.audio.nets import AudioConv4
from quickstudy.testing import check_domain, check_modality

PITCHES = {"low": 300, "middle": 900, "high": 2700}
RATE = 8000


def tone(pitch: float, seconds: float = 0.3, seed: int = 0, rate: int = RATE) -> NDArray[Any]:
    """Return a tone with some noise that swells and fades."""
    times = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(0, 0.02, len(times))
    return 0.4 * np.sin(2 * np.pi * pitch * times) * np.sin(np.pi * times / seconds) + noise


def sounds(folder: Path, each: int = 6) -> tuple[list[str], list[str]]:
    """Write files of several lengths and endings; return them and what they are."""
    files, labels = [], []
    for name, pitch in PITCHES.items():
        for number in range(each):
            file = folder / name / f"{number}.{('wav', 'flac', 'ogg')[number % 3]}"
            file.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(file, tone(pitch * 1.02**number, 0.2 + 0.02 * number, number), RATE)
            files.append(str(file))
            labels.append(name)
    return files, labels


def test_importing_it_brings_no_library() -> None:
    code = (
        "import sys, quickstudy.audio.modality, quickstudy.audio.nets, quickstudy.predictor\n"
        "assert not {'soundfile', 'torchaudio', 'scipy', 'transformers'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_sounds_conform(tmp_path: Path) -> None:
    files, labels = sounds(tmp_path)
    check_domain(AudioClassificationData, AudioClassifier, files, labels, backbone=AudioConv4(hidden=8), bands=16)


@pytest.mark.parametrize("features", ["log_mel"])
def test_reading_conforms(features: Any, tmp_path: Path) -> None:
    files, _ = sounds(tmp_path, 3)
    bad = [b"RIFF", b"hello", np.full(4000, np.nan), np.zeros((3, 3, 3)), np.array(["a"])]
    check_modality(Sound(features=features, bands=16), files, bad=bad)
