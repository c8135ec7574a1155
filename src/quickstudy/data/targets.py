"""Targets as users write them (strings, integers, one-hot, lists of labels) to codes and class names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quickstudy.errors import DataError

Codes = NDArray[np.int32] | NDArray[np.bool_]
"""``[N]`` int32 class codes, or ``[N, C]`` bool for several labels per example."""


class Encoded(NamedTuple):
    """Targets as codes into ``classes``."""

    codes: Codes
    classes: tuple[str, ...]


def encode(targets: Any, classes: Sequence[str] | None = None) -> Encoded:
    """Turn targets into codes and class names.

    Args:
        targets: N labels: strings, integers (each distinct number is a class, named by it), a one-hot or
            multi-hot matrix ``[N, C]``, or N lists of strings (several labels per example). A list, NumPy array,
            torch tensor or pandas column.
        classes: names of the C columns of a matrix; default: their numbers.

    Raises:
        DataError: a target is missing, fractional, or of mixed kinds; a matrix is not made of zeros and ones.

    >>> encode(["dog", "cat", "dog"])
    Encoded(codes=array([1, 0, 1], dtype=int32), classes=('cat', 'dog'))
    >>> encode([10, 2]).classes
    ('2', '10')
    """
    if not hasattr(targets, "__len__"):
        raise DataError(f"targets must be a list, array or tensor of labels, not {type(targets).__name__}")
    if len(targets) and not hasattr(targets, "dtype") and all(isinstance(t, (list, tuple, set)) for t in targets):
        if all(isinstance(label, str) for row in targets for label in row):
            return _label_lists(targets)
    array = np.asarray(targets)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2:
        return _matrix(array, classes)
    if array.ndim != 1:
        raise DataError(f"targets must be [N] labels or a [N, C] matrix of zeros and ones, not of shape {array.shape}")
    if array.dtype.kind in "biu":
        values, codes = np.unique(array.astype(np.int64), return_inverse=True)
        return Encoded(codes.astype(np.int32), tuple(str(value) for value in values))
    if array.dtype.kind == "f":
        if not np.isfinite(array).all() or (array != np.round(array)).any():
            row = int(np.flatnonzero(~np.isfinite(array) | (array != np.round(array)))[0])
            raise DataError(f"target {row} is {array[row]}: a class label must be a whole number or a string")
        return encode(array.astype(np.int64))
    return _strings(array)


def _strings(array: NDArray[Any]) -> Encoded:
    if array.dtype.kind not in "UT":
        for row, label in enumerate(array):
            if not isinstance(label, (str, int, np.integer)) or isinstance(label, bool):
                raise DataError(f"target {row} is {label!r}: a class label must be a string or a whole number")
        array = np.asarray([str(label) for label in array], dtype=np.dtypes.StringDType())
    values, codes = np.unique(array.astype(np.dtypes.StringDType()), return_inverse=True)
    if len(values) and values[0] == "":
        raise DataError(f"target {int(np.flatnonzero(codes == 0)[0])} is an empty string: give every example a label")
    return Encoded(codes.astype(np.int32), tuple(str(value) for value in values))


def _matrix(array: NDArray[Any], classes: Sequence[str] | None) -> Encoded:
    if not np.isin(array, (0, 1)).all():
        row = int(np.flatnonzero(~np.isin(array, (0, 1)).all(axis=1))[0])
        raise DataError(f"row {row} of the target matrix is {array[row]}: one-hot and multi-hot rows hold 0 and 1 only")
    names = tuple(classes) if classes is not None else tuple(str(column) for column in range(array.shape[1]))
    if len(names) != array.shape[1]:
        raise DataError(f"{len(names)} class names for a target matrix of {array.shape[1]} columns")
    if (array.sum(axis=1) == 1).all():
        return Encoded(array.argmax(axis=1).astype(np.int32), names)
    return Encoded(array.astype(np.bool_), names)


def _label_lists(rows: Sequence[Sequence[str]]) -> Encoded:
    names = tuple(sorted({label for row in rows for label in row}))
    column = {name: index for index, name in enumerate(names)}
    codes = np.zeros((len(rows), len(names)), dtype=np.bool_)
    for index, row in enumerate(rows):
        codes[index, [column[label] for label in row]] = True
    return Encoded(codes, names)
