"""What a row of a table is: from cells by their columns' names to numbers and codes.

Shapes: N rows, F numbers, K categories of a row.
"""

from __future__ import annotations

import csv
import datetime
import io
import json
import math
import re
import warnings
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import NormalDist
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.batches import Batch
from quickstudy.data.likeness import digest
from quickstudy.data.rows import Cells, Rows, cells_of, columns_of
from quickstudy.data.samples import Loaded, content_of, named
from quickstudy.data.table import Inputs
from quickstudy.data.targets import missing
from quickstudy.errors import (
    ConfigError,
    DataError,
    DataWarning,
    brief,
    check_choice,
    check_counts,
    closest,
    few,
    shown,
)
from quickstudy.modality import MODALITIES, Modality, Wire
from quickstudy.torch_internals import tree_leaves

NUMBER, CATEGORY, DATE, IGNORED = KINDS = ("number", "category", "date", "ignored")
"""What a column may be."""
MOST_CATEGORIES = 1000
"""Of a column; rarer ones than these are the same as those that training did not see."""
OTHER = 0
"""The code of a category that training did not see."""
_LEARNED_FROM = 100_000
"""Rows that are looked at, at most."""
_MANY = 50
"""Rows from which a column of text is no category where most of its cells are others."""
_KNOTS = 128
"""Of a column's distribution."""
_FAR, _FARTHEST = 6.0, 10.0
"""Deviations from the mean: beyond the first tails are heavy, and what lies beyond the second is taken for it."""
_WORDS = {"", "na", "n/a", "nan", "nat", "null", "none", "nil", "?", "-", "missing"}
"""What stands in a column of numbers or dates where there is none."""
_IDENTIFIER = re.compile(r"(?i:unnamed\b.*|index|row|(.*[\s_-])?id)|.*[a-z]I[dD]")
_LARGEST = 1e300
_TRIED = 1000
"""Cells that are looked at before a column is taken for one that has no numbers, or no dates."""
_WHOLE = re.compile(r"^(-?\d+)\.0+$")
_EPOCH = datetime.datetime(2000, 1, 1)
_SHOWN, _SHOWN_CELL = 500, 40


class Number(NamedTuple):
    """How a number is scaled."""

    median: float
    """Which stands for a missing one."""
    mean: float
    deviation: float
    gaps: bool
    """Whether it was missing in training, sometimes: that is told then."""
    knots: tuple[tuple[float, float], ...] = ()
    """Of heavy tails: numbers, and where a normal distribution has as large a part below; mean and deviation are of
    these then."""


class Column(NamedTuple):
    """What was learned of a column."""

    name: str
    kind: str
    """One of ``KINDS``."""
    facts: tuple[Any, ...]
    """Of a number ``(Number,)``; of a category their names, in the order of their codes from 1; of a date
    ``((part, Number), ...)``; of what is ignored ``(why,)``."""


@MODALITIES.register("tabular")
@dataclass(frozen=True)
class Row(Modality):
    """A row of a table as ``{"numbers": float32 [F], "missing": bool [F], "codes": int64 [K]}``.

    Numbers have mean 0 and deviation 1 in training, those of heavy tails by their ranks; a missing one is the median,
    and ``missing`` says so where training had such. A date is several numbers. The code of a category is from 1 on, and
    0 is any that training did not see. ``for_backbone`` tells F and how many codes each category has.

    Args:
        kinds: by the name of a column what it is, ``"number"``, ``"category"``, ``"date"`` or ``"ignored"``; of others
            it follows from the training rows.
        scaling: of numbers: ``"auto"`` takes ranks where tails are heavy, ``"standard"`` never, ``"quantile"`` always.
        most_categories: of a column; rarer ones than these are code 0.
        columns: what was learned of each column, see ``Column``; columns that are not named are not read.

    Raises:
        ConfigError: an option is out of range.
    """

    called = "rows"
    in_cells = True
    learned = ("columns",)
    shown_as = "text/plain"
    backbone = "mlp"
    kinds: Mapping[str, str] | None = field(default=None, hash=False)
    scaling: str = "auto"
    most_categories: int = MOST_CATEGORIES
    columns: tuple[tuple[Any, ...], ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        for name, kind in (self.kinds or {}).items():
            if kind not in KINDS:
                known = ", ".join(map(repr, KINDS))
                raise ConfigError(f"kinds={{{name!r}: {brief(kind)}}}: what a column is, is one of {known}")
        check_choice("scaling", self.scaling, "auto", "standard", "quantile")
        check_counts(2, most_categories=self.most_categories)

    # ---- reading

    def load(self, item: Any) -> Batch:
        """Return the numbers and codes of a row: of a dict, a row of a pandas frame, or a named tuple."""
        cells = cells_of(self.from_wire(item) if isinstance(item := content_of(item), bytes) else item)
        if not self.columns:
            return _unlearned(cells)
        lacking = [column.name for column, _ in self._plan if column.name not in cells]
        if lacking:
            have = f"; it has {shown(cells)}" if cells else ""
            raise DataError(
                f"{_place(cells) or 'it'} lacks {_columns(lacking)}{have}. Give each column that training had, with "
                "None where a cell is not known"
            )
        numbers: list[float] = []
        gone: list[bool] = []
        codes: list[int] = []
        for column, read in self._plan:
            try:
                found = read(cells[column.name])
            except _CellError as error:
                raise error.of(column.name, _place(cells)) from None
            if isinstance(found, int):
                codes.append(found)
            else:
                for value, lost in found:
                    numbers.append(value)
                    gone.append(lost)
        return _tree(numbers, gone, codes)

    def __getstate__(self) -> dict[str, Any]:
        """Return what is sent to other processes: its fields."""
        return self.settings

    @cached_property
    def _plan(self) -> list[tuple[Column, Callable[[Any], Any]]]:
        """What reads a cell of each column that is used: a code; or numbers, each with whether it is missing."""
        known = (Column(*column) for column in self.columns)
        return [(column, _reader(column)) for column in known if column.kind != IGNORED]

    def listed(self, inputs: Any) -> Any:
        """Return rows of a frame, of a list, or one alone; a batch of tensors stays as it is.

        Raises:
            DataError: it is no such, or two columns have one name.
        """
        if isinstance(inputs, dict) and inputs and all(isinstance(leaf, Tensor) for leaf in tree_leaves(inputs)):
            return inputs
        inputs = content_of(inputs)
        if isinstance(inputs, bytes):
            inputs = [self.from_wire(inputs)]
        elif _is_row(inputs):
            inputs = [inputs]
        elif not hasattr(inputs, "__len__") and hasattr(inputs, "__iter__"):
            inputs = list(inputs)
        if isinstance(inputs, (list, tuple)):
            return [one if isinstance(one, (Loaded, bytes)) else cells_of(one, row) for row, one in enumerate(inputs)]
        return inputs if isinstance(inputs, Rows) else Rows(columns_of(inputs))

    def column(self, values: Sequence[Any], root: Any = None, exist: bool = True) -> Inputs:
        """Return rows, each a dict or a row of a frame.

        Raises:
            DataError: one is none; the message has its place.
        """
        rows = self.listed(values)
        return rows if isinstance(rows, Rows) or any(isinstance(row, bytes) for row in rows) else Rows(columns_of(rows))

    # ---- learning

    def fitted(self, inputs: Inputs) -> Self:
        """Return it with what each column is, by the training rows; and warn of those that are of no use."""
        if self.columns or isinstance(inputs, (Tensor, dict)):
            return self
        rows = (
            inputs if isinstance(inputs, Rows) else Rows(columns_of([_item(inputs, at) for at in range(len(inputs))]))
        )
        if len(rows) > _LEARNED_FROM:
            rows = rows.select(np.linspace(0, len(rows) - 1, _LEARNED_FROM).astype(np.int64))
        asked = dict(self.kinds or {})
        for name in asked:
            if name not in rows.columns:
                near = closest(name, rows.columns)
                raise ConfigError(f"kinds: there is no column '{name}'{near} There are {shown(rows.columns)}")
        made = tuple(self._learned(name, rows, asked.get(name)) for name in rows.columns)
        left = [column for column in made if column.kind == IGNORED and column.name not in asked]
        told = few((f"'{column.name}' ({column.facts[0]})" for column in left), 10)
        if all(column.kind == IGNORED for column in made):
            raise DataError(f"no column tells anything: {told or shown(rows.columns)}. Give others, or say by kinds=")
        if left:
            what = f"{len(left)} columns are" if len(left) > 1 else "1 column is"
            warnings.warn(
                f"{what} not used: {told}. To use one, or to say that this is right, give kinds="
                f"{{{left[0].name!r}: 'category'}}, or 'ignored'",
                DataWarning,
                4,
            )
        return self.with_options({"columns": _plain(made)})

    def _learned(self, name: str, rows: Rows, asked: str | None) -> Column:
        cells, places = rows.columns[name], rows.places
        if asked == IGNORED:
            return Column(name, IGNORED, ("as was asked for",))
        there = ~_missing(cells)
        try:
            kind, found = (asked, None) if asked else _kind_of(name, cells, there, places)
            if kind == IGNORED:
                return Column(name, IGNORED, (found,))
            if kind == NUMBER:
                return Column(name, NUMBER, (_scaled(_each(_number, name, cells, places), self.scaling),))
            if kind == DATE:
                return Column(name, DATE, _date_facts(_each(_date, name, cells, places), self.scaling))
            _each(_category, name, cells, places)
        except _CellError as error:
            raise error.of(name, "a row") from None
        counts = Counter[str]({"": int((~there).sum())})
        for cell, count in Counter(cells[there].tolist()).items():
            counts[_category(cell)] += count
        counts = +counts
        kept = sorted(counts, key=lambda category: (-counts[category], category))[: self.most_categories]
        return Column(name, CATEGORY, tuple(sorted(kept)))

    @property
    def column_names(self) -> tuple[str, ...]:
        """All columns that training rows had; see ``Modality.column_names``."""
        return tuple(column[0] for column in self.columns)

    def for_backbone(self) -> dict[str, Any]:
        """Return how many numbers a row has, and of each category how many codes there are, with 0."""
        if not self.columns:
            return {}
        used = [column for column, _ in self._plan]
        return {
            "numbers": sum(len(column.facts) for column in used if column.kind != CATEGORY),
            "categories": [1 + len(column.facts) for column in used if column.kind == CATEGORY],
        }

    # ---- showing, sending

    @property
    def wire(self) -> Wire:  # type: ignore[override]
        """How rows travel: as objects of JSON; or as files of one, or of CSV of two lines."""
        properties: dict[str, Any] = {column.name: {"title": column.name} for column, _ in self._plan}
        return Wire("rows", ("text/csv",), {"type": "object", "properties": properties, "required": list(properties)})

    def from_wire(self, content: Any, name: str = "") -> Any:
        """Return the cells in an object of JSON; or in the bytes of a file of one, or of CSV of two lines."""
        if not isinstance(content, bytes):
            return content
        which = named(name) if name else f"a file of {len(content)} bytes"
        try:
            text = content.decode("utf-8-sig")
            if text.lstrip().startswith("{"):
                return cells_of(json.loads(text))
            lines = [line for line in csv.reader(io.StringIO(text)) if line]
        except (ValueError, csv.Error) as error:
            raise DataError(f"{which} is neither an object of JSON nor CSV: {error}") from error
        if len(lines) == 2 and (twice := sorted(name for name, count in Counter(lines[0]).items() if count > 1)):
            raise DataError(f"{which} has several columns {shown(twice)}: give each a name of its own")
        if len(lines) != 2 or len(lines[0]) != len(lines[1]):
            raise DataError(
                f"{which} is no row: give an object of JSON, {{...}}, or CSV of two lines, the columns' names and "
                "their cells"
            )
        return Cells(zip(*lines, strict=True))

    def show(self, item: Any, example: Batch) -> bytes:
        """Return the cells of the columns that are used, with their names."""
        if isinstance(item, dict) and _is_batch(item):
            cells: Mapping[str, Any] = self._told(example)
            names = list(cells)
        else:
            cells = cells_of(self.from_wire(item) if isinstance(item, bytes) else item)
            names = [column.name for column, _ in self._plan if column.name in cells] or list(cells)
        text = ", ".join(f"{name} {_in_words(cells[name])}" for name in names)
        return (text[:_SHOWN] + "..." * (len(text) > _SHOWN)).encode("utf-8", "replace")

    def sketch(self, item: Any) -> bytes | Tensor:
        """Return the cells of the columns that are used, however they are written: 1, 1.0 and "1" are the same."""
        if isinstance(item, dict) and _is_batch(item):
            return super().sketch(item)
        cells = cells_of(self.from_wire(item) if isinstance(item, bytes) else item)
        names = [column.name for column, _ in self._plan if column.name in cells] or sorted(cells)
        try:
            return digest(*(f"{name}={_category(cells[name])}\0".encode("utf-8", "surrogatepass") for name in names))
        except _CellError as error:
            raise TypeError from error

    def _told(self, example: Batch) -> dict[str, Any]:
        """Return in cells what numbers and codes are of, as far as they tell."""
        numbers, gone = iter(example["numbers"].tolist()), iter(example["missing"].tolist())
        codes, cells = iter(example["codes"].tolist()), {}
        for column, _ in self._plan:
            if column.kind == CATEGORY:
                code = int(next(codes))
                cells[column.name] = column.facts[code - 1] if 0 < code <= len(column.facts) else "another"
            elif column.kind == NUMBER:
                cells[column.name] = _unscaled(Number(*column.facts[0]), next(numbers), next(gone))
            else:
                for part, number in column.facts:
                    cells[f"{column.name} ({part})"] = _unscaled(Number(*number), next(numbers), next(gone))
        return cells

    def made_up(self, count: int, generator: torch.Generator, like: Batch | None = None) -> Batch:
        """Return rows of chance."""
        sizes = self.for_backbone()
        if not sizes and like is None:
            return super().made_up(count, generator, like)
        wide = sizes["numbers"] if like is None else like["numbers"].shape[1]
        most = sizes.get("categories") or [1] * (0 if like is None else like["codes"].shape[1])
        return {
            "numbers": torch.randn(count, wide, generator=generator),
            "missing": torch.rand(count, wide, generator=generator) < 0.1,
            "codes": torch.stack([torch.randint(one, (count,), generator=generator) for one in most], 1)
            if most
            else torch.zeros(count, 0, dtype=torch.int64),
        }

    def recipe(self) -> dict[str, Any]:
        """Return what each column is, and how its cells become numbers and codes."""
        return {"columns": _plain(self.columns)}


def _plain(columns: Any) -> Any:
    """Return columns as JSON has them."""
    return json.loads(json.dumps(columns))


# ---- rows


def _item(inputs: Inputs, row: int) -> Any:
    item = inputs[row]
    item = item.item if isinstance(item, Loaded) else item
    return cells_of(item, row)


def _place(cells: Cells) -> str:
    return "" if cells.row < 0 else f"row {cells.row}"


def _columns(names: Sequence[str]) -> str:
    return f"the column{'s' * (len(names) > 1)} {shown(names)}"


def _is_column(values: Any) -> bool:
    return isinstance(values, (list, tuple, np.ndarray)) or (hasattr(values, "__len__") and hasattr(values, "dtype"))


def _is_row(inputs: Any) -> bool:
    """Whether it is one row alone, and no table: a named tuple, a row of a frame, or a dict of cells."""
    if isinstance(inputs, Mapping):
        return not any(map(_is_column, inputs.values()))
    return hasattr(inputs, "_asdict") or (hasattr(inputs, "to_dict") and not hasattr(inputs, "columns"))


def _is_batch(item: Any) -> bool:
    return bool(item) and all(isinstance(leaf, Tensor) for leaf in tree_leaves(item))


def _tree(numbers: list[float], gone: list[bool], codes: list[int]) -> Batch:
    return {
        "numbers": torch.tensor(numbers, dtype=torch.float32),
        "missing": torch.tensor(gone, dtype=torch.bool),
        "codes": torch.tensor(codes, dtype=torch.int64),
    }


def _unlearned(cells: Cells) -> Batch:
    """Return the finite numbers of a row as they are, before anything is known of its columns."""
    numbers = []
    for name, cell in cells.items():
        try:
            _category(cell)
            numbers += [float(cell)] if isinstance(cell, (int, float)) and not _missing([cell])[0] else []
            if numbers and not math.isfinite(numbers[-1]):
                raise _infinite(cell)
        except _CellError as error:
            raise error.of(name, _place(cells)) from None
    return _tree(numbers, [False] * len(numbers), [])


def _in_words(cell: Any) -> str:
    if _missing([cell])[0]:
        return "?"
    text = f"{cell:.6g}" if isinstance(cell, float) else " ".join(str(cell).split())
    return text[:_SHOWN_CELL] + "..." * (len(text) > _SHOWN_CELL)


# ---- cells


class _CellError(Exception):
    """What is wrong with a cell of a column."""

    def of(self, name: str, row: str) -> DataError:
        """Return it as an error that names the column, and the row."""
        return DataError(f"{row}{row and ', '}column '{name}': {self}")


class _InfiniteError(_CellError):
    """A number that is not finite."""


def _infinite(cell: Any) -> _CellError:
    return _InfiniteError(f"{brief(cell)} is not finite: write a number, or leave the cell empty (None)")


def _missing(cells: Any) -> NDArray[np.bool_]:
    """Say which cells are empty: None, NaN, or text of blanks; ``[N]``."""
    if isinstance(cells, np.ndarray) and cells.dtype.kind in "biuf":
        return np.isnan(cells) if cells.dtype.kind == "f" else np.zeros(len(cells), np.bool_)
    listed = [cell.strip() if isinstance(cell, str) else cell for cell in cells]
    return missing(listed)


def _number(cell: Any) -> float:
    """Return the number in a cell, NaN where it is missing."""
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
    elif _missing([cell])[0]:
        return math.nan
    else:
        try:
            if isinstance(cell, (datetime.date, np.datetime64)):
                raise TypeError
            found = float(cell)
        except (TypeError, ValueError):
            raise _no_number(cell) from None
        except OverflowError:
            found = math.inf
    if not math.isfinite(found):
        raise _infinite(cell)
    return found


def _no_number(cell: Any) -> _CellError:
    return _CellError(f"{brief(cell)} is no number, and the column has such: write one, or leave the cell empty (None)")


def _date(cell: Any) -> datetime.datetime | None:
    """Return the date in a cell, of the time of UTC where it has a zone; None where it is missing."""
    if isinstance(cell, np.datetime64):
        cell = None if np.isnat(cell) else cell.astype("datetime64[us]").item()
    if isinstance(cell, str):
        if cell.strip().lower() in _WORDS:
            return None
        try:
            cell = datetime.datetime.fromisoformat(cell.strip())
        except ValueError:
            raise _no_date(cell) from None
    elif _missing([cell])[0]:
        return None
    if isinstance(cell, datetime.datetime):
        return cell.astimezone(datetime.UTC).replace(tzinfo=None) if cell.tzinfo else cell
    if isinstance(cell, datetime.date):
        return datetime.datetime(cell.year, cell.month, cell.day)
    raise _no_date(cell)


def _no_date(cell: Any) -> _CellError:
    return _CellError(
        f"{brief(cell)} is no date: write it as 2026-11-26, or 2026-11-26T22:30, or leave the cell empty (None)"
    )


def _category(cell: Any) -> str:
    """Return the name of the category in a cell, the same for 1, 1.0, "1" and "1.0", as pandas writes it."""
    if isinstance(cell, str):
        return _WHOLE.sub(r"\1", cell.strip())
    if isinstance(cell, (bool, int)):
        return str(cell)
    if isinstance(cell, float):
        return "" if cell != cell else str(int(cell)) if cell % 1 == 0 else repr(cell)
    if isinstance(cell, (list, tuple, set, dict, bytes, Tensor, np.ndarray)):
        raise _CellError(f"{brief(cell)} is no cell: give a number, a text, a date, or None")
    return "" if _missing([cell])[0] else cell.isoformat() if isinstance(cell, datetime.date) else str(cell).strip()


def _each(read: Callable[[Any], Any], name: str, cells: NDArray[Any], places: NDArray[Any]) -> list[Any]:
    """Read cells, and say of a bad one in which row it is."""
    found = []
    for cell, place in zip(cells.tolist(), places.tolist(), strict=True):
        try:
            found.append(read(cell))
        except _CellError as error:
            if not isinstance(error, _InfiniteError):
                error = _CellError(f"{error}; or, to take its cells for names, give kinds={{{name!r}: 'category'}}")
            raise error.of(name, f"row {place}") from None
    return found


# ---- what columns are


def _kind_of(name: str, cells: NDArray[Any], there: NDArray[Any], places: NDArray[Any]) -> tuple[str, str | None]:
    """Return what a column is, and why where it is ignored."""
    values = cells[there].tolist()
    if not values:
        return IGNORED, "nothing in it"
    try:
        counts = Counter(values)
    except TypeError:  # of a list, for instance
        _each(_category, name, cells, places)
        raise
    names = {_category(value) for value in counts}
    if len(names) == 1:
        return (IGNORED, "one value alone") if there.all() else (CATEGORY, None)
    if all(isinstance(value, bool) for value in values):
        return CATEGORY, None
    for kind, read in ((NUMBER, _number), (DATE, _date)):
        right, many = _readable(read, counts)
        told = [found for found in right if found is not None and found == found]
        if many == len(values) and told:
            whole = kind == NUMBER and all(found % 1 == 0 for found in told)
            if whole and len(names) == len(cells) > 2 and (_IDENTIFIER.fullmatch(name) or _consecutive(told)):
                return IGNORED, "another number in each row, as identifiers have"
            return kind, None
        if many > len(values) / 2:
            _each(read, name, cells, places)  # which raises, and says which is none
    if len(names) == len(cells) > 2 or (len(cells) >= _MANY and len(names) > len(values) / 2):
        return IGNORED, "another text in most rows, as names and identifiers have"
    return CATEGORY, None


def _readable(read: Callable[[Any], Any], counts: Mapping[Any, int]) -> tuple[list[Any], int]:
    """Return what is read of those cells that can be, each once; and how many they are."""
    found, many = [], 0
    for place, (value, count) in enumerate(counts.items()):
        if place >= _TRIED and not many:
            break
        try:
            found.append(read(value))
            many += count
        except _InfiniteError:
            many += count
        except _CellError:
            continue
    return found, many


def _consecutive(numbers: list[float]) -> bool:
    return len(numbers) > 2 and set(np.diff(numbers).tolist()) == {1.0}


# ---- numbers


def _scaled(numbers: Sequence[float], scaling: str) -> Number:
    values = np.asarray(numbers, np.float64)
    there = values[~np.isnan(values)]
    if not len(there):
        return Number(0.0, 0.0, 1.0, True)
    mean, deviation = float(there.mean()), float(there.std())
    knots: tuple[tuple[float, float], ...] = ()
    heavy = deviation > 0 and float(np.abs(there - mean).max()) > _FAR * deviation
    if deviation > 0 and (scaling == "quantile" or (scaling == "auto" and heavy)):
        knots = _knots(there)
        ranked = np.interp(there, *np.array(knots).T)
        mean, deviation = float(ranked.mean()), float(ranked.std())
    return Number(float(np.median(there)), mean, deviation or 1.0, len(there) < len(values), knots)


def _knots(values: NDArray[np.float64]) -> tuple[tuple[float, float], ...]:
    """Return numbers, and where a normal distribution has as large a part below it as lies below each of them."""
    found, counts = np.unique(values, return_counts=True)
    below = (np.cumsum(counts) - counts / 2) / len(values)
    if len(found) > _KNOTS:
        rows = np.unique(np.searchsorted(below, np.linspace(below[0], below[-1], _KNOTS)))
        found, below = found[rows], below[rows]
    normal = NormalDist()
    return tuple((float(value), normal.inv_cdf(float(part))) for value, part in zip(found, below, strict=True))


def _scale(number: Number) -> Callable[[float], tuple[float, bool]]:
    """Return what scales a number, and says whether it is missing, where training had such."""
    median, mean, deviation, gaps, knots = number
    values, ranks = (list(part) for part in zip(*knots, strict=True)) if knots else ([], [])

    def scale(value: float) -> tuple[float, bool]:
        lost = value != value
        value = median if lost else value
        if values:
            at = min(max(bisect(values, value), 1), len(values) - 1)
            below, above = values[at - 1], values[at]
            part = max(0.0, min(1.0, (value - below) / (above - below)))
            value = ranks[at - 1] + part * (ranks[at] - ranks[at - 1])
        return max(-_FARTHEST, min(_FARTHEST, (value - mean) / deviation)), lost and gaps

    return scale


def _unscaled(number: Number, value: float, lost: bool) -> float | None:
    value = value * number.deviation + number.mean
    if number.knots:
        values, ranks = np.array(number.knots).T
        value = float(np.interp(value, ranks, values))
    return None if lost else value


_PARTS: dict[str, Callable[[datetime.datetime], float]] = {
    "days": lambda date: (date - _EPOCH) / datetime.timedelta(days=1),
    "year": lambda date: date.year,
    "month": lambda date: date.month,
    "day": lambda date: date.day,
    "weekday": lambda date: date.isoweekday(),
    "hour": lambda date: date.hour + date.minute / 60,
}
"""Numbers that a date is."""


def _date_facts(dates: Sequence[datetime.datetime | None], scaling: str) -> tuple[Any, ...]:
    parts = {name: [math.nan if date is None else part(date) for date in dates] for name, part in _PARTS.items()}
    varying = [name for name, numbers in parts.items() if len({number for number in numbers if number == number}) > 1]
    return tuple((name, _scaled(parts[name], scaling)) for name in varying or ["days"])


def _reader(column: Column) -> Callable[[Any], Any]:
    """Return what reads a cell of a column: its code; or numbers, each with whether it is missing."""
    if column.kind == CATEGORY:
        codes = {name: code for code, name in enumerate(column.facts, OTHER + 1)}
        return lambda cell: codes.get(_category(cell), OTHER)
    if column.kind == NUMBER:
        scale = _scale(Number(*column.facts[0]))
        return lambda cell: [scale(_number(cell))]
    parts = [(_PARTS[name], _scale(Number(*number))) for name, number in column.facts]

    def read(cell: Any) -> list[tuple[float, bool]]:
        date = _date(cell)
        return [scale(math.nan if date is None else part(date)) for part, scale in parts]

    return read
