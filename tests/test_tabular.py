"""Rows of tables as a domain: what a column is, bad cells told by row and column, doors, and the whole."""

from __future__ import annotations

import datetime
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quickstudy import Predictor
from quickstudy.tabular import Row, TabularClassificationData, TabularClassifier
from quickstudy.testing import check_domain, check_modality


def people(count: int = 12) -> tuple[list[dict[str, Any]], list[str]]:
    """Return rows of every kind of cell, some of them missing, and whether somebody earns much."""
    generator = np.random.default_rng(0)
    rows, labels = [], []
    for place in range(count):
        age, job = int(generator.integers(20, 60)), str(generator.choice(["clerk", "smith"]))
        gain = None if place % 5 == 2 else round(float(generator.lognormal(2, 2)), 2)
        since = datetime.date(2020, 1, 1) + datetime.timedelta(days=int(generator.integers(900)))
        rows.append({"age": age, "job": None if place == 3 else job, "gain": gain, "since": since.isoformat()})
        labels.append("much" if age + 20 * (job == "smith") > 50 else "little")
    return rows, labels


def test_importing_it_brings_no_library() -> None:
    code = (
        "import sys, quickstudy.tabular.modality, quickstudy.tabular.nets, quickstudy.predictor\n"
        "assert not {'transformers', 'pandas', 'scipy', 'sklearn'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.dear
def test_a_row_conforms() -> None:
    rows, _ = people(6)
    bad = [{**rows[0], "age": "old"}, {**rows[0], "gain": float("inf")}, {"age": 3}, {}, None, 5, "age", b"", b"a,b\n1"]
    check_modality(Row(), rows, bad=bad)


@pytest.mark.dear
def test_classes_of_rows_conform() -> None:
    check_domain(TabularClassificationData, TabularClassifier, *people(20))


def test_a_network_is_made_for_the_columns_that_are_shown_first(tmp_path: Path) -> None:
    rows, labels = people()
    torch.manual_seed(0)
    predictor = TabularClassifier(backbone="one_hot", training_strategy="prototypicalnetworks").adapt(rows, labels)
    name, told = predictor.knowledge.encoder.made_by
    assert name == "one_hot" and told == predictor.modality.for_backbone() and told["numbers"] > 1
    predictor.save(tmp_path / "model")
    again = Predictor.load(tmp_path / "model")
    assert again.knowledge.encoder.made_by == (name, told)
    np.testing.assert_array_equal(again.predict_proba(rows), predictor.predict_proba(rows))
    other = Predictor.from_backbone("one_hot", rows, labels, strategy="prototypicalnetworks")
    np.testing.assert_allclose(other.predict_proba(rows), predictor.predict_proba(rows), atol=1e-6)
