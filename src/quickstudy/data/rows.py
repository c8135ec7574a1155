"""Rows of a table with several columns, by number: each a dict of its cells.

Shapes: N rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quickstudy.errors import DataError, brief, shown

Columns = Mapping[str, NDArray[Any]]
"""Cells by the name of their column, ``[N]`` each."""
_FINGERPRINTED = 4096


class Cells(dict[str, Any]):
    """The cells of a row by their columns' names, and which row it is."""

    row: int = -1
    """Of the table that it was read from, from 0; -1 where that is not known."""

    def __str__(self) -> str:
        return f"row {self.row}" if self.row >= 0 else super().__str__()


class Rows:
    """Rows by number. Columns are kept, and not rows, so that processes that read share their memory.

    Args:
        columns: cells by the name of their column.
        places: ``[N]``, which rows of the table they were read from these are; default: all, in their order.
    """

    def __init__(self, columns: Columns, places: NDArray[np.int64] | None = None) -> None:
        self.columns = dict(columns)
        lengths = {len(column) for column in self.columns.values()}
        if len(lengths) > 1:
            told = ", ".join(f"'{name}' {len(column)}" for name, column in self.columns.items())
            raise DataError(f"the columns of a table differ in length: {told}")
        self.places = np.arange(next(iter(lengths), 0)) if places is None else places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Cells:
        found = Cells((name, _plain(column[index])) for name, column in self.columns.items())
        found.row = int(self.places[index])
        return found

    def select(self, rows: NDArray[np.integer[Any]]) -> Rows:
        """Return these rows."""
        return Rows({name: column[rows] for name, column in self.columns.items()}, self.places[rows])

    def only(self, names: Iterable[str]) -> Rows:
        """Return the rows with these columns alone."""
        return Rows({name: self.columns[name] for name in names}, self.places)

    @cached_property
    def fingerprint(self) -> bytes:
        """A digest of the names, and of the cells or a sample of them."""
        digest = hashlib.blake2b(repr((len(self), list(self.columns))).encode(), digest_size=16)
        count = min(len(self), _FINGERPRINTED)
        rows = np.arange(count) * len(self) // max(count, 1)
        for column in self.columns.values():
            digest.update(repr(column[rows].tolist()).encode("utf-8", "surrogatepass"))
        return digest.digest()


def columns_of(table: Any) -> dict[str, NDArray[Any]]:
    """Return the columns of a table by their names.

    Args:
        table: a frame of pandas or polars, a table of pyarrow, a dict of columns, a list of dicts (or of rows of a
            frame, or named tuples), or an array ``[N, F]`` of numbers, whose columns are named by theirs.

    Raises:
        DataError: it is none of these, or two columns have one name.
    """
    if isinstance(table, Rows):
        return table.columns
    if hasattr(table, "iloc") and hasattr(table, "columns"):
        names = [str(name) for name in table.columns]
        return _named(names, [_of_pandas(table.iloc[:, place]) for place in range(len(names))])
    if hasattr(table, "to_dict") and hasattr(table, "schema"):  # of polars
        table = table.to_dict(as_series=False)
    elif hasattr(table, "to_pydict"):  # of pyarrow
        table = table.to_pydict()
    if isinstance(table, Mapping):
        return _named(map(str, table), [_array(column) for column in table.values()])
    if isinstance(table, np.ndarray) and table.ndim == 2:
        return {str(place): table[:, place] for place in range(table.shape[1])}
    if not isinstance(table, Sequence) or isinstance(table, (str, bytes)):
        lazy = ": type .collect() behind it" if hasattr(table, "collect") else ""
        expected = "a table: a data frame, a dict of columns, or a list of dicts"
        raise DataError(f"expected {expected}, not {brief(table)}{lazy}")
    rows = [cells_of(row, place) for place, row in enumerate(table)]
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: _array([row.get(name) for row in rows]) for name in names}


def cells_of(row: Any, place: int = -1) -> Cells:
    """Return a row as its cells by name.

    Args:
        row: a dict, a row of a pandas frame, or a named tuple.
        place: which it is, for messages.

    Raises:
        DataError: it is no row.
    """
    if isinstance(row, Cells):
        return row
    if hasattr(row, "_asdict"):
        row = row._asdict()
    elif hasattr(row, "index") and hasattr(row, "to_dict"):  # of pandas
        if not row.index.is_unique:
            raise DataError(f"{_which(place)} has two cells of one name: give each column a name of its own")
        row = row.to_dict()
    if not isinstance(row, Mapping):
        raise DataError(
            f"{_which(place)} is {brief(row)}: give a dict of its cells by the columns' names, {{'age': 39, ...}}"
        )
    cells = Cells((str(name), _plain(cell)) for name, cell in row.items())
    cells.row = place
    return cells


def _which(place: int) -> str:
    return "it" if place < 0 else f"row {place}"


def _named(names: Iterable[str], columns: list[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    names = list(names)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"the table has several columns {shown(twice)}: give each a name of its own")
    return dict(zip(names, columns, strict=True))


def _of_pandas(column: Any) -> NDArray[Any]:
    """Return a column as NumPy has it where its cells are numbers or bools, and else as an array of objects."""
    kind = getattr(column.dtype, "kind", "O")
    plain = isinstance(column.dtype, np.dtype) and kind in "biuf"
    found: NDArray[Any] = column.to_numpy() if plain else column.astype(object).to_numpy()
    return found


def _array(cells: Any) -> NDArray[Any]:
    """Return cells as an array that leaves each as it is."""
    if isinstance(cells, np.ndarray) and cells.ndim == 1:
        if cells.dtype.kind in "mM":  # whose nanoseconds become plain numbers, and those of other units dates
            cells = cells.astype("datetime64[us]" if cells.dtype.kind == "M" else "timedelta64[us]")
        kept: NDArray[Any] = cells if cells.dtype.kind in "biufO" else cells.astype(object)
        return kept
    cells = list(cells)
    found = np.empty(len(cells), object)
    for place, cell in enumerate(cells):
        found[place] = cell
    return found


def _plain(cell: Any) -> Any:
    """Return a cell as a value of Python, where NumPy has it as a scalar of its own."""
    return cell.item() if isinstance(cell, np.generic) and cell.dtype.kind in "biufU" else cell
