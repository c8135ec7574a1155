"""Tables from what users hold in memory: tensors, torch data sets, data frames."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.data.scan import listed_files
from quickstudy.data.table import Table
from quickstudy.errors import DataError, closest, require

_CHUNK = 1024


def tensor_inputs(data: Any) -> Tensor:
    """Return data ``[N, ...]`` as a tensor.

    Raises:
        DataError: it is no array of numbers, has no axis of examples, or a value is not finite.
    """
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


def _from_array(array: NDArray[Any]) -> Tensor:
    if any(stride < 0 for stride in array.strides):
        array = np.ascontiguousarray(array)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*NumPy array is not writable")  # a file read in place; nothing writes
            return torch.from_numpy(array)
    except (TypeError, ValueError) as error:
        raise DataError(f"an array of {array.dtype} cannot be fed to a model: {error}") from error


class DatasetInputs:
    """The inputs of a torch data set of ``(input, target)`` or of dicts with ``"input"``.

    Raises:
        DataError: the data set has no length.
    """

    def __init__(self, dataset: Any, rows: NDArray[np.integer[Any]] | None = None) -> None:
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise DataError(f"{type(dataset).__name__} must be a torch Dataset with a length and numbered items")
        self.dataset = dataset
        self.rows = np.arange(len(dataset)) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return _parts(self.dataset[int(self.rows[index])])[0]

    def select(self, rows: NDArray[np.integer[Any]]) -> DatasetInputs:
        """Return the inputs of these rows."""
        return DatasetInputs(self.dataset, self.rows[rows])


def dataset_table(dataset: Any) -> Table:
    """Make a table of a torch data set with targets.

    Raises:
        DataError: it has no length, or an item has no target.
    """
    inputs = DatasetInputs(dataset)
    targets = getattr(dataset, "targets", None)
    if targets is None or len(targets) != len(dataset) or getattr(dataset, "target_transform", None) is not None:
        targets = [_parts(dataset[row])[1] for row in range(len(dataset))]
        for row, target in enumerate(targets):
            if target is None:
                raise DataError(f"item {row} of the data set has no target: items must be (input, target)")
    return Table.build(inputs, targets)


def csv_frame(path: str | os.PathLike[str]) -> Any:
    """Read a CSV file into a pandas frame.

    Raises:
        DataError: it is missing or no CSV file.
        MissingPackageError: pandas is not installed.
    """
    pandas = require("pandas", extra="tabular")
    if not Path(path).is_file():
        raise DataError(f"there is no file '{path}' (looked in {Path.cwd()})")
    try:
        frame = pandas.read_csv(path, keep_default_na=False, dtype=str)  # "NA" and "None" are names like others
    except (ValueError, OSError) as error:
        raise DataError(f"'{path}' cannot be read as a CSV file: {error}") from error
    for column in frame.columns:
        numbers = pandas.to_numeric(frame[column], errors="coerce")
        if numbers.notna().all() and not frame[column].str.match(r"0\d").any():  # "007" is a name
            frame[column] = numbers
    return frame


def frame_table(
    frame: Any,
    root: str | os.PathLike[str] | None,
    input_field: str,
    target_fields: str | Sequence[str] | None,
) -> Table:
    """Make a table of a data frame: a column of file names and, where asked for, labels.

    Raises:
        DataError: a column or a file is missing.
    """
    if not hasattr(frame, "iloc"):
        raise DataError(f"expected a pandas DataFrame, not {type(frame).__name__}")
    fields = [target_fields] if isinstance(target_fields, str) else list(target_fields or [])
    columns = [str(column) for column in frame.columns]
    for field in [input_field, *fields]:
        if field not in columns:
            raise DataError(f"the table has no column '{field}'{closest(field, columns)} It has: {', '.join(columns)}")
    files = listed_files(frame[input_field].tolist(), root)
    if not fields:
        return Table(files)
    if len(fields) == 1:
        return Table.build(files, frame[fields[0]].to_numpy())
    return Table.build(files, frame[fields].to_numpy(), fields)


def _parts(item: Any) -> tuple[Any, Any]:
    if isinstance(item, Mapping):
        if "input" not in item:
            raise DataError(f"a data set's dict needs the keys 'input' and 'target'; this one has {sorted(item)}")
        return item["input"], item.get("target")
    if isinstance(item, (tuple, list)):
        return item[0], (item[1] if len(item) > 1 else None)
    return item, None
