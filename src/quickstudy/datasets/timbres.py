"""Timbres: notes of instruments that do not exist, synthesised. A class is an instrument.

A stand-in for a data set of sounds that needs no download. An instrument is a body with resonances that stay where they
are whatever note is played, a balance of odd and even partials, a stiffness that draws its partials apart, an attack, a
decay, a vibrato and a breath of noise; those of a family have much of it in common. Each clip is another note, as long
and as loud as chance has it: pitch and loudness tell nothing, and which differences are the instrument's can be learned
from other instruments. Families of validation and test are none of training's.

Shapes: N clips, L samples, P partials.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quickstudy.data.table import Splits, Table
from quickstudy.datasets.cached import cached_tables
from quickstudy.datasets.registry import DATASETS
from quickstudy.errors import check_counts
from quickstudy.files import cache_folder

SAMPLE_RATE = 16_000
"""Samples of a second."""

_FORMAT = 1  # count up when other sounds are made
_SECONDS = 0.5
_FAMILIES = {"train": 16, "val": 4, "test": 8}
_MEMBERS = 4  # instruments of a family
_APART = 0.05  # how far instruments of a family are from each other, of how far families are
_LOWEST, _HIGHEST = 110.0, 440.0  # Hz, of the notes
_PARTIALS = 40
_LOUDNESS = (0.01, 0.1)  # root mean square, of a clip: no peak comes near 1


@DATASETS.register("timbres")
def timbres(root: str | os.PathLike[str] | None = None, *, examples: int = 20) -> Splits:
    """Return notes of 112 instruments, made on the first call and cached.

    Args:
        root: folder of the cached file; default: quickstudy's cache folder.
        examples: notes of each instrument.

    Returns:
        Tables of ``{"array": float32 [L], "sampling_rate": 16000}``, half a second each, sorted by instrument: 64 to
        train on, 16 to validate, 32 to test.

    Raises:
        ConfigError: ``examples`` is below 1.
    """
    check_counts(examples=examples)
    folder = cache_folder() if root is None else Path(root)
    path = folder / f"timbres-{_FORMAT}-{examples}.npz"
    return Splits(*map(_with_rate, cached_tables(path, "the timbres", Splits._fields, partial(_make, examples))))


def _with_rate(table: Table) -> Table:
    assert isinstance(table.inputs, torch.Tensor)
    return replace(table, inputs=[{"array": wave, "sampling_rate": SAMPLE_RATE} for wave in table.inputs.numpy()])


def _make(examples: int) -> list[Table]:
    tables, first = [], 0
    for families in _FAMILIES.values():
        count = families * _MEMBERS
        numbers = range(first, first + count)
        waves = np.concatenate([_notes(number, examples) for number in numbers])
        targets = np.repeat(np.arange(count, dtype=np.int32), examples)
        tables.append(Table(torch.from_numpy(waves), targets, tuple(f"instrument {number:03}" for number in numbers)))
        first += count
    return tables


def _notes(instrument: int, count: int) -> NDArray[np.float32]:
    """Return notes of one instrument, float32 ``[count, L]``."""
    family, generator = np.random.default_rng([0, instrument // _MEMBERS]), np.random.default_rng([1, instrument])

    def near(low: float, high: float, count: int | None = None) -> Any:
        """Draw what is spread by factors: the family's, and a little beside it."""
        usual = np.exp(family.uniform(np.log(low), np.log(high), count))
        return usual * np.exp(generator.normal(0, _APART * np.log(high / low), count))

    resonances, heights = near(250, 6000, 4), near(0.3, 1, 4)  # Hz
    widths = resonances * near(0.1, 0.3, 4)
    even = family.choice([0.05, 0.4, 1.0])
    stiffness, attack, decay = near(1e-5, 1e-3), near(0.005, 0.1), near(0.5, 8)  # the latter in and per second
    depth, rate = family.choice([0.0, 0.004, 0.012]), near(4, 7)  # of the pitch; Hz
    breath = family.choice([0.0, 0.02, 0.1])
    time = np.arange(int(_SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    number = np.arange(1, _PARTIALS + 1)
    notes = np.empty((count, len(time)), np.float32)
    for row in range(count):
        pitch = _LOWEST * (_HIGHEST / _LOWEST) ** generator.random()
        partials = pitch * number * np.sqrt(1 + stiffness * number**2)
        heard = partials < 0.45 * SAMPLE_RATE
        gain = (heights / (1 + ((partials[:, None] - resonances) / widths) ** 2)).sum(1) * heard
        gain *= np.where(number % 2, 1, even) * np.exp(generator.normal(0, 0.15, _PARTIALS))
        swing = depth / (2 * np.pi * rate) * np.sin(2 * np.pi * (rate * time + generator.random()))
        phase = 2 * np.pi * partials[:, None] * (time + swing) + 2 * np.pi * generator.random((_PARTIALS, 1))
        fading = np.exp(-np.outer(decay * (1 + 0.05 * number), time))  # high partials die first
        note = (gain[:, None] * fading * np.sin(phase)).sum(0)
        note += breath * np.abs(note).max() * generator.normal(size=len(time)) * np.exp(-decay * time / 2)
        start = generator.uniform(0, 0.1)
        rising = np.clip((time - start) / attack, 0, 1)
        notes[row] = note * rising * np.clip((_SECONDS - time) / 0.01, 0, 1)
        low, high = np.log(_LOUDNESS)
        notes[row] *= np.exp(generator.uniform(low, high)) / np.sqrt(np.mean(notes[row] ** 2))
    return notes
