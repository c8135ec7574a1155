"""Tables from what users hold in memory: tensors, and lists of anything, with targets that may lack some."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.data.table import Inputs, Table
from quickstudy.data.targets import Encode, encode, in_order, is_frame, missing, numbered, of_frame
from quickstudy.errors import DataError, DataWarning

_CHUNK = 1024


def tensor_inputs(data: Any) -> Tensor:
    """Return data ``[N, ...]`` as a tensor.

    Raises:
        DataError: it is no array of numbers, has no axis of examples, or a value is not finite.
    """
    if isinstance(data, (Iterator, list, tuple)):
        data = _stacked(list(data))
    if not isinstance(data, (Tensor, np.ndarray)):
        raise DataError(f"expected a tensor or array [N, C, ...], not {type(data).__name__}")
    tensor = _from_array(data) if isinstance(data, np.ndarray) else data.detach().cpu()
    if tensor.ndim < 2:
        raise DataError(f"expected one row per example, [N, C, ...]; this has the shape {tuple(tensor.shape)}")
    if tensor.is_floating_point():
        for start in range(0, len(tensor), _CHUNK):
            bad = (~torch.isfinite(tensor[start : start + _CHUNK])).flatten(1).any(1)
            if bad.any():
                row = start + int(bad.nonzero()[0])
                raise DataError(
                    f"example {row} holds a value that is not finite (NaN or infinite): remove it, or replace such "
                    "values with torch.nan_to_num"
                )
    return tensor


def _stacked(rows: list[Any]) -> Any:
    """Return tensors or arrays of one shape as one tensor; any other list as it is."""
    if not rows or not all(isinstance(row, (Tensor, np.ndarray)) for row in rows):
        return rows
    shapes = {tuple(row.shape) for row in rows}
    if len(shapes) > 1:
        raise DataError(f"expected tensors of one shape, and these have {len(shapes)}, such as {sorted(shapes)[:3]}")
    return torch.stack([_from_array(row) if isinstance(row, np.ndarray) else row.detach().cpu() for row in rows])


def _from_array(array: NDArray[Any]) -> Tensor:
    if any(stride < 0 for stride in array.strides):
        array = np.ascontiguousarray(array)
    if array.dtype.kind in "iuf":
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*NumPy array is not writable")  # a file read in place; nothing writes
            return torch.from_numpy(array)
    except (TypeError, ValueError) as error:
        raise DataError(f"an array of {array.dtype} cannot be fed to a model: {error}") from error


def listed_table(
    inputs: Any,
    targets: Any,
    read: Callable[[Any], Inputs],
    classes: Sequence[str] | None = None,
    skip: bool = False,
    encode: Encode = encode,
    groups: Any = None,
    origins: Any = None,
) -> Table:
    """Make a table of inputs and targets, one each.

    Args:
        inputs: what ``read`` takes; a list of names may lack some.
        targets: None where there are none.
        read: makes inputs of them.
        classes: see ``Table.build``.
        skip: whether examples whose input or target is missing are left out; a warning tells.
        encode, groups, origins: see ``Table.build``.

    Raises:
        DataError: something is missing, or see ``Table.build``.
    """
    gone = missing(inputs) if isinstance(inputs, list) else np.zeros(0, np.bool_)
    if targets is not None:
        targets, classes = of_frame(targets, classes) if is_frame(targets) else (in_order(targets, "targets"), classes)
        lost = missing(targets) if hasattr(targets, "__len__") and getattr(targets, "shape", None) != () else gone
        gone = lost if not len(gone) else gone | lost if len(gone) == len(lost) else gone
    if origins is not None and len(gone) == len(lost := missing(origins)):
        gone = gone | lost
    rows = np.flatnonzero(gone)
    skipped = {f"row {row}": "its file or its label is missing" for row in rows.tolist()} if skip else {}
    if skipped and len(gone) == len(inputs):
        kept = np.flatnonzero(~gone)
        inputs, targets, groups, origins = (_taken(each, kept) for each in (inputs, targets, groups, origins))
        warnings.warn(f"left out {numbered(rows)}, where the file or the label is missing", DataWarning, 5)
    try:
        return replace(Table.build(read(inputs), targets, classes, encode, groups, origins), skipped=skipped)
    except DataError as error:
        if not len(rows) or skip:
            raise
        raise DataError(f"{error}. Fill in what is missing, or leave it out: on_error='skip'") from error


def _taken(values: Any, rows: NDArray[np.integer[Any]]) -> Any:
    if values is None or isinstance(values, (np.ndarray, Tensor)):
        return None if values is None else values[rows]
    if hasattr(values, "select"):
        return values.select(rows)
    return values.iloc[rows] if hasattr(values, "iloc") else [values[row] for row in rows.tolist()]
