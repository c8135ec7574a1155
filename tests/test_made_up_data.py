"""Data sets that are made and not downloaded: the same everywhere, and hard for the reason that is claimed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quickstudy.data.splitting import check_disjoint
from quickstudy.data.table import Splits
from quickstudy.datasets.families import families
from quickstudy.datasets.herbarium import herbarium
from quickstudy.datasets.timbres import SAMPLE_RATE, timbres
from quickstudy.datasets.wishes import wishes
from quickstudy.errors import ConfigError

PLANT = (
    "{'height': 34.32, 'stem': 0.44, 'leaf_length': 5.14, 'leaf_width': 2.05, 'petal_length': 1.09, 'peta"
    "l_width': 0.8, 'petals': 4, 'colour': 'yellow', 'edge': 'smooth', 'habitat': 'rock', 'altitude': 137"
    ", 'found': '2023-07-30', 'collector': 'Adler'}"
)
MADE = pytest.mark.parametrize("make", [families, wishes, herbarium, timbres])


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    return timbres(tmp_path_factory.mktemp("timbres"), examples=4)


@MADE
def test_classes_are_disjoint_sorted_and_full(make: Callable[..., Splits], tmp_path: Path) -> None:
    splits = make(tmp_path, examples=1)
    check_disjoint({split: table.classes for split, table in splits._asdict().items()})
    assert len(splits.train.classes) > len(splits.test.classes) > len(splits.val.classes) >= 16
    for table in splits:
        assert table.targets is not None and table.targets.tolist() == list(range(len(table.classes)))


@MADE
def test_a_wrong_number_of_examples_is_told(make: Callable[..., Splits], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="examples=0"):
        make(tmp_path, examples=0)


@pytest.mark.parametrize(
    ("make", "first"),
    [(wishes, "hi there, stop the visit on Friday from going ahead, before noon"), (herbarium, PLANT)],
)
def test_it_is_the_same_on_every_machine(make: Callable[..., Splits], first: str) -> None:
    assert str(make(examples=2).test.inputs[0]) == first


def test_texts_of_a_class_differ_and_share_few_words() -> None:
    """Nearest neighbours by words in common are right in few of the 5-way 1-shot episodes: words must be learned."""
    test = wishes().test
    assert test.targets is not None
    words = [set(text.replace(",", "").split()) for text in test.inputs]
    by_class = [[words[row] for row in test.index.rows(code)] for code in range(len(test.classes))]
    assert all(len(set(map(frozenset, texts))) > 12 for texts in by_class)
    generator, right, count = np.random.default_rng(0), 0, 0
    for _ in range(200):
        codes = generator.choice(len(by_class), 5, replace=False)
        shown = [[by_class[code][row] for row in generator.choice(24, 2, replace=False)] for code in codes]
        for way, (_, query) in enumerate(shown):
            alike = [len(query & support) / len(query | support) for support, _ in shown]
            right, count = right + (int(np.argmax(alike)) == way), count + 1
    assert 0.25 < right / count < 0.6


def test_a_plants_age_scales_its_lengths_together() -> None:
    """One number explains most of how plants of a species differ: no length by itself tells species apart."""
    train = herbarium().train
    rows: list[dict[str, Any]] = [row for row in train.inputs if None not in list(row.values())[:6]]  # type: ignore[attr-defined]
    logs = np.log([[row[name] for name in list(row)[:6]] for row in rows])
    values = np.linalg.svd(logs - logs.mean(0), compute_uv=False) ** 2
    assert values[0] > 0.7 * values.sum()
    assert sum(cell is None for row in train.inputs for cell in row.values()) > 1000


def test_loudness_and_pitch_tell_nothing(notes: Splits) -> None:
    """Each is drawn alike for all instruments: none is louder than another by more than chance has it."""
    waves = torch.stack([torch.from_numpy(note["array"]) for table in notes for note in table.inputs]).double()
    assert waves.shape[1] == SAMPLE_RATE // 2 and waves.abs().max() <= 1
    loudness = waves.square().mean(1).sqrt().log().view(-1, 4).numpy()
    assert np.log(0.01) - 1e-6 < loudness.min() and loudness.max() < np.log(0.1) + 1e-6
    count, between, within = len(loudness), 4 * loudness.mean(1).var(ddof=1), loudness.var(1, ddof=1).mean()
    assert abs(between / within - 1) < 4 * np.sqrt(2 / count + 2 / (3 * count))  # the F statistic is 1 by chance alone


def test_notes_are_kept(tmp_path: Path) -> None:
    first = timbres(tmp_path, examples=1)
    again = timbres(tmp_path, examples=1)
    assert len(list(tmp_path.iterdir())) == 1
    for note, other in zip(first.test.inputs, again.test.inputs, strict=True):
        assert (note["array"] == other["array"]).all()
