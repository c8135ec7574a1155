"""How much answers rest on columns, against what is known of a model that is known."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from quickstudy import DataError
from quickstudy.data.rows import Rows
from quickstudy.tabular import Importance, importance_picture, permutation_importance


def test_numbers_become_worse_by_what_a_column_adds() -> None:
    generator = np.random.default_rng(0)
    frame = {name: generator.normal(size=400) for name in ("little", "none", "much")}
    asked: list[Rows] = []

    def predict(rows: Rows) -> list[float]:
        asked.append(rows)
        return [3 * row["much"] + row["little"] for row in map(rows.__getitem__, range(len(rows)))]

    targets = 3 * frame["much"] + frame["little"]
    found = permutation_importance(predict, frame, targets, repeats=20)
    assert [one.column for one in found] == ["much", "little", "none"]
    for one, factor in zip(found, (3, 1, 0), strict=True):
        column = frame[one.column]
        expected = factor * np.abs(column[:, None] - column).mean()  # over all pairs
        assert abs(one.rise - expected) <= one.ci95
        assert one.ci95 < 0.3 * factor or factor == one.ci95 == 0
    assert len(asked) == 1 + 3 * 20
    for before, after in itertools.pairwise(asked[1:21]):
        assert not np.array_equal(before.columns["little"], after.columns["little"])
        assert np.array_equal(np.sort(before.columns["little"]), np.sort(after.columns["little"]))


def test_labels_become_wrong() -> None:
    rows = [{"letter": "ab"[row % 2], "other": row % 3} for row in range(60)]

    def predict(rows: Any) -> list[str]:
        return [rows[place]["letter"] for place in range(len(rows))]

    found = permutation_importance(predict, rows, [row["letter"] for row in rows], repeats=30)
    assert [one.column for one in found] == ["letter", "other"]
    assert found[0].rise == pytest.approx(0.5, abs=0.1)
    assert found[1] == Importance("other", 0.0, 0.0)
    assert importance_picture(found).startswith(b"\x89PNG")
    with pytest.raises(DataError, match="60 rows but 1 targets"):
        permutation_importance(predict, rows, ["a"])
    with pytest.raises(DataError, match="give the targets in the type of the answers"):
        permutation_importance(predict, rows, list(range(60)))
