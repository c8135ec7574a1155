"""Rows as a matrix of numbers, which estimators of scikit-learn and the like take.

Shapes: N rows, D features: numbers, whether each is missing, and a column per category.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from quickstudy.data.samples import Samples
from quickstudy.errors import ConfigError
from quickstudy.tabular.columns import CATEGORY, DATE, IGNORED, Column
from quickstudy.tabular.modality import Row
from quickstudy.tabular.nets import OneHot


def design_matrix(rows: Any, columns: Row) -> NDArray[np.float32]:
    """Return rows as numbers, ``[N, D]``, of which ``feature_names`` says what each is; none is NaN.

    Numbers are scaled, each beside a 0 or 1 that says whether it is missing; a category is a 1 in a column of its own,
    and zeros throughout where training did not see it. It is what the backbone ``"one_hot"`` gives.

    >>> import pandas
    >>> train = pandas.DataFrame({"age": [20, 30, 40], "job": ["clerk", "smith", "clerk"]})
    >>> columns = Row().fitted(train)
    >>> feature_names(columns)
    ['age', 'age is missing', 'job = clerk', 'job = smith']
    >>> design_matrix([{"age": 30, "job": "smith"}, {"age": 30, "job": "nurse"}], columns).tolist()
    [[0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]]

    Args:
        rows: a frame, dicts, or another table; or rows as tensors.
        columns: what was learned of the training rows: ``Row().fitted(train)``, or the ``modality`` of data or a model.

    Raises:
        ConfigError: nothing was learned.
        DataError: a row is none, lacks a column, or a cell is not what its column is.
    """
    if not columns.columns:
        raise ConfigError("nothing is known of the columns yet: give columns=Row().fitted(train)")
    inputs = columns.listed(rows)
    batch = inputs if isinstance(inputs, dict) else Samples(inputs, columns).batch(np.arange(len(inputs)))
    found: NDArray[np.float32] = OneHot(**columns.for_backbone())(batch).numpy()
    return found


def feature_names(columns: Row) -> list[str]:
    """Return what each column of a ``design_matrix`` is, ``[D]``."""
    numbers, categories = list[str](), list[str]()
    for column in map(Column._make, columns.columns):
        if column.kind == CATEGORY:
            categories += [f"{column.name} = {name or '(missing)'}" for name in column.facts]
        elif column.kind == DATE:
            numbers += [f"{column.name} ({part})" for part, _ in column.facts]
        elif column.kind != IGNORED:
            numbers.append(column.name)
    return [*numbers, *(f"{name} is missing" for name in numbers), *categories]
