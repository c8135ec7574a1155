"""How much answers rest on each column: how much worse they become once its cells are those of other rows.

Breiman 2001, "Random Forests", https://doi.org/10.1023/A:1010933404324
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from quickstudy.data.rows import Rows, columns_of
from quickstudy.errors import DataError, brief, check_counts
from quickstudy.functional.intervals import mean_interval


class Importance(NamedTuple):
    """How much answers rest on a column."""

    column: str
    rise: float
    """Of the share of wrong answers; of numbers, of the mean absolute error, in the targets' units."""
    ci95: float
    """Half-width of its 95% interval over rows like these."""


def permutation_importance(
    predict: Callable[[Any], Sequence[Any]], rows: Any, targets: Sequence[Any], repeats: int = 5, seed: int = 0
) -> list[Importance]:
    """Return how much worse answers become once a column is shuffled among the rows, the column of the most first.

    Judge by rows that trained nothing. Of columns that tell the same each may seem of no use, as the others stay; and a
    shuffled column may make rows that there are not.

    Args:
        predict: what answers, such as ``model.predictor().predict`` or ``predictor.predict``.
        rows: N, a frame, or dicts of cells by the columns' names.
        targets: N labels, or numbers.
        repeats: how often a column is shuffled.
        seed: of the shuffling.

    Raises:
        DataError: there are more rows than targets, or fewer, or less than two.
    """
    check_counts(repeats=repeats)
    whole = rows if isinstance(rows, Rows) else Rows(columns_of(rows))
    wanted = list(targets)
    if len(whole) != len(wanted) or len(wanted) < 2:
        raise DataError(f"{len(whole)} rows but {len(wanted)} targets: give as many of each, two or more")
    usual = _errors(predict(whole), wanted)
    found = []
    for place, (name, column) in enumerate(whole.columns.items()):
        rises = np.zeros(len(wanted))
        for repeat in range(repeats):
            order = np.random.default_rng([seed, place, repeat]).permutation(len(wanted))
            rises += _errors(predict(Rows({**whole.columns, name: column[order]})), wanted) - usual
        found.append(Importance(name, *mean_interval(torch.from_numpy(rises / repeats))))
    return sorted(found, key=lambda one: -one.rise)


def importance_picture(importances: Sequence[Importance], most: int = 20) -> bytes:
    """Draw them as bars with their intervals.

    Args:
        importances: what ``permutation_importance`` returns.
        most: columns that are drawn at most, the first.

    Returns:
        A PNG.
    """
    from quickstudy.runs.report import bars_picture  # matplotlib takes long to import

    return bars_picture(importances[:most], "rise of the error once the column is shuffled")


def _errors(answers: Sequence[Any], wanted: Sequence[Any]) -> NDArray[np.float64]:
    """Return by how much each answer is off: 0 or 1; of numbers, which are floats, the absolute difference.

    Raises:
        DataError: answers are of another type than what is wanted, so that none could be right.
    """
    given, asked = ({"text" if isinstance(one, str) else "number" for one in some} for some in (answers, wanted))
    if not given & asked:
        raise DataError(
            f"the answers are such as {brief(answers[0])}, and the targets such as {brief(wanted[0])}, which none can "
            "equal: give the targets in the type of the answers"
        )
    if all(isinstance(answer, float | np.floating) for answer in answers):
        off: NDArray[np.float64] = np.abs(np.array(answers) - np.array(wanted, np.float64))
        return off
    return np.array([answer != want for answer, want in zip(answers, wanted, strict=True)], np.float64)
