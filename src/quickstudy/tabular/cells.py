"""What stands in a cell of a table: a number, a date, the name of a category, or nothing."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.data.targets import missing
from quickstudy.errors import DataError, brief

_WORDS = {"", "na", "n/a", "nan", "nat", "null", "none", "nil", "?", "-", "missing"}
"""What stands in a column of numbers or dates where there is none."""
_LARGEST = 1e100
"""Of numbers, whose squares are summed up."""
_WHOLE = re.compile(r"^(-?\d+)\.0+$")
_SHOWN = 40


class CellError(Exception):
    """What is wrong with a cell of a column."""

    def of(self, name: str, row: str) -> DataError:
        """Return it as an error that names the column, and the row."""
        return DataError(f"{row}{row and ', '}column '{name}': {self}")


class InfiniteError(CellError):
    """A number that is not finite, or too large."""


def _infinite(cell: Any, found: float) -> CellError:
    told = "too large: write it in other units" if math.isfinite(found) else "not finite: write a number"
    return InfiniteError(f"{brief(cell)} is {told}, or leave the cell empty (None)")


def are_numbers(cells: Any) -> bool:
    """Whether NumPy has cells as numbers or bools."""
    return isinstance(cells, np.ndarray) and cells.dtype.kind in "biuf"


def empty(cells: Any) -> NDArray[np.bool_]:
    """Say which cells are empty: None, NaN, or text of blanks; ``[N]``."""
    if are_numbers(cells):
        return np.isnan(cells) if cells.dtype.kind == "f" else np.zeros(len(cells), np.bool_)
    return missing([cell.strip() if isinstance(cell, str) else cell for cell in cells])


def numbers_in(cells: NDArray[Any] | Sequence[Any]) -> NDArray[np.float64]:
    """Return the numbers in cells, NaN where one is missing; see ``number_in``."""
    if not are_numbers(cells):
        return np.array([number_in(cell) for cell in cells], np.float64)
    found = np.asarray(cells, np.float64)
    if len(wrong := found[np.abs(found) > _LARGEST]):
        raise _infinite(float(wrong[0]), float(wrong[0]))
    return found


def number_in(cell: Any) -> float:
    """Return the number in a cell, NaN where it is missing; of a duration its seconds.

    Raises:
        CellError: there is something else, or it is infinite or too large.
    """
    if type(cell) in (int, float) and -_LARGEST < cell < _LARGEST:
        return float(cell)
    if isinstance(cell, str):
        text = cell.strip()
        if text.lower() in _WORDS:
            return math.nan
        if "_" in text:
            raise _no_number(cell)
        try:
            found = float(text)
        except ValueError:
            raise _no_number(cell) from None
    elif empty([cell])[0]:
        return math.nan
    else:
        try:
            if isinstance(cell, (datetime.date, np.datetime64)):
                raise TypeError
            found = cell.total_seconds() if isinstance(cell, datetime.timedelta) else float(cell)
        except (TypeError, ValueError):
            raise _no_number(cell) from None
        except OverflowError:
            found = 10 * _LARGEST
    if not abs(found) <= _LARGEST:
        raise _infinite(cell, found)
    return found


def _no_number(cell: Any) -> CellError:
    return CellError(f"{brief(cell)} is no number, and the column has such: write one, or leave the cell empty (None)")


def date_in(cell: Any) -> datetime.datetime | None:
    """Return the date in a cell, of the time of UTC where it has a zone; None where it is missing.

    Raises:
        CellError: there is something else.
    """
    if isinstance(cell, np.datetime64):
        cell = None if np.isnat(cell) else cell.astype("datetime64[us]").item()
    if isinstance(cell, str):
        if cell.strip().lower() in _WORDS:
            return None
        try:
            cell = datetime.datetime.fromisoformat(cell.strip())
        except ValueError:
            raise _no_date(cell) from None
    elif empty([cell])[0]:
        return None
    if isinstance(cell, datetime.datetime):
        return cell.astimezone(datetime.UTC).replace(tzinfo=None) if cell.tzinfo else cell
    if isinstance(cell, datetime.date):
        return datetime.datetime(cell.year, cell.month, cell.day)
    raise _no_date(cell)


def _no_date(cell: Any) -> CellError:
    return CellError(
        f"{brief(cell)} is no date: write it as 2026-11-26, or 2026-11-26T22:30, or leave the cell empty (None)"
    )


def category_in(cell: Any) -> str:
    """Return the name of the category in a cell, the same for 1, 1.0, "1" and "1.0", as pandas writes it.

    Raises:
        CellError: there is a list or the like.
    """
    if isinstance(cell, str):
        return _WHOLE.sub(r"\1", cell.strip())
    if isinstance(cell, (bool, int)):
        return str(cell)
    if isinstance(cell, float):
        return "" if cell != cell else str(int(cell)) if cell % 1 == 0 else repr(cell)
    if isinstance(cell, (list, tuple, set, dict, bytes, Tensor, np.ndarray)):
        raise CellError(f"{brief(cell)} is no cell: give a number, a text, a date, or None")
    return "" if empty([cell])[0] else cell.isoformat() if isinstance(cell, datetime.date) else str(cell).strip()


def in_words(cell: Any) -> str:
    """Return a cell for eyes."""
    if empty([cell])[0]:
        return "?"
    text = f"{cell:.6g}" if isinstance(cell, float) else " ".join(str(cell).split())
    return text[:_SHOWN] + "..." * (len(text) > _SHOWN)
