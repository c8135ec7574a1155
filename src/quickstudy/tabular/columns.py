"""What the columns of a table are, by training rows, and how their cells become numbers and codes.

Shapes: N rows, P parts of a column: one of a number, several of a date.
"""

from __future__ import annotations

import datetime
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quickstudy.data.rows import Rows
from quickstudy.errors import brief
from quickstudy.tabular.cells import (
    CellError,
    InfiniteError,
    are_numbers,
    category_in,
    date_in,
    empty,
    number_in,
    numbers_in,
)

NUMBER, CATEGORY, DATE, IGNORED = KINDS = ("number", "category", "date", "ignored")
"""What a column may be."""
OTHER = 0
"""The code of a category that training did not see."""
_MANY = 50
"""Rows from which a column of text is no category where most of its cells are others."""
_KNOTS = 128
"""Of a column's distribution."""
_FAR, _FARTHEST = 6.0, 10.0
"""Deviations from the mean: beyond the first tails are heavy, and what lies beyond the second is taken for it."""
_IDENTIFIER = re.compile(r"(?i:unnamed\b.*|index|row|(.*[\s_-])?id)|.*[a-z]I[dD]")
_TRIED = 1000
"""Cells that are looked at before a column is taken for one that has no numbers, or no dates."""
_OTHER_FORMS = {
    re.compile(r"\d{1,4}([./-])\d{1,2}\1\d{1,4}([ T].*)?"): "write dates as 2026-11-26, pandas.to_datetime does",
    re.compile(r"[-+]?[$€£]? ?\d[\d., '’]*[%$€£]?"): "write numbers as 1234.5, without commas, blanks and units",
}
_EPOCH = datetime.datetime(2000, 1, 1)


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
    ends: tuple[float, ...] = ()
    """The least and the largest that are told apart; none in models of before, for which 10 deviations are."""


class Column(NamedTuple):
    """What was learned of a column."""

    name: str
    kind: str
    """One of ``KINDS``."""
    facts: tuple[Any, ...]
    """Of a number ``(Number,)``; of a category their names, in the order of their codes from 1; of a date
    ``((part, Number), ...)``; of what is ignored ``(why,)``."""


def learned(name: str, rows: Rows, asked: str | None, scaling: str, most_categories: int) -> Column:
    """Return what a column is, by rows to train on.

    Args:
        name: of the column.
        rows: those.
        asked: what it shall be; None: that follows from its cells.
        scaling, most_categories: see ``Row``.

    Raises:
        DataError: a cell is not what the column is.
    """
    cells, places = rows.columns[name], rows.places
    if asked == IGNORED:
        return Column(name, IGNORED, ("as was asked for",))
    there = ~empty(cells)
    try:
        kind, found = (asked, None) if asked else _kind_of(name, cells, there, places)
        if kind == IGNORED:
            return Column(name, IGNORED, (found,))
        if kind == NUMBER:
            return Column(name, NUMBER, (_scaled(_each(number_in, name, cells, places), scaling),))
        if kind == DATE:
            return Column(name, DATE, _date_facts(_each(date_in, name, cells, places), scaling))
        _each(category_in, name, cells, places)
    except CellError as error:
        raise error.of(name, "a row") from None
    counts = Counter[str]({"": int((~there).sum())})
    for cell, count in Counter(cells[there].tolist()).items():
        counts[category_in(cell)] += count
    counts = +counts
    kept = sorted(counts, key=lambda category: (-counts[category], category))[:most_categories]
    return Column(name, CATEGORY, tuple(sorted(kept)))


def in_another_form(cells: NDArray[Any], kind: str) -> str:
    """Say of cells that are taken for names that they look like numbers or dates, and what to write; else nothing."""
    if kind in (NUMBER, DATE):
        return ""
    texts = {cell.strip(): cell for cell in cells[:_TRIED].tolist() if isinstance(cell, str) and cell.strip()}
    for form, advice in _OTHER_FORMS.items():
        if len(texts) > 2 and all(map(form.fullmatch, texts)) and _readable(number_in, dict.fromkeys(texts, 1))[1] < 3:
            return f"{brief(next(iter(texts)))} and the others are taken for names: {advice}"
    return ""


def _each(read: Callable[[Any], Any], name: str, cells: NDArray[Any], places: NDArray[Any]) -> list[Any]:
    """Read cells, and say of a bad one in which row it is."""
    found = []
    for cell, place in zip(cells.tolist(), places.tolist(), strict=True):
        try:
            found.append(read(cell))
        except CellError as error:
            if not isinstance(error, InfiniteError):
                error = CellError(f"{error}; or, to take its cells for names, give kinds={{{name!r}: 'category'}}")
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
        _each(category_in, name, cells, places)
        raise
    names = {category_in(value) for value in counts}
    if len(names) == 1:
        return (IGNORED, "one value alone") if there.all() else (CATEGORY, None)
    if all(isinstance(value, bool) for value in values):
        return CATEGORY, None
    for kind, read in ((NUMBER, number_in), (DATE, date_in)):
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
        except InfiniteError:
            many += count
        except CellError:
            continue
    return found, many


def _consecutive(numbers: list[float]) -> bool:
    return len(numbers) > 2 and set(np.diff(numbers).tolist()) == {1.0}


# ---- numbers


def _scaled(numbers: Sequence[float] | NDArray[np.float64], scaling: str) -> Number:
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
    # A network answers wildly where it has never been: a 0 for "unknown" is enough. Few rows tell less of the range.
    margin = float(there.max() - there.min()) / len(there) ** 0.5
    ends = (float(there.min()) - margin, float(there.max()) + margin)
    return Number(float(np.median(there)), mean, deviation or 1.0, len(there) < len(values), knots, ends)


def _knots(values: NDArray[np.float64]) -> tuple[tuple[float, float], ...]:
    """Return numbers, and where a normal distribution has as large a part below it as lies below each of them."""
    found, counts = np.unique(values, return_counts=True)
    below = (np.cumsum(counts) - counts / 2) / len(values)
    if len(found) > _KNOTS:
        rows = np.unique(np.searchsorted(below, np.linspace(below[0], below[-1], _KNOTS)))
        found, below = found[rows], below[rows]
    normal = NormalDist()
    return tuple((float(value), normal.inv_cdf(float(part))) for value, part in zip(found, below, strict=True))


def _scale(number: Number) -> Callable[[NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.bool_]]]:
    """Return what scales numbers ``[N]``, and says which are missing, where training had such."""
    median, mean, deviation, gaps, knots, ends = number
    least, most = ends or (-math.inf, math.inf)
    values, ranks = np.array(knots).T if knots else ((), ())

    def scale(numbers: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        lost = np.isnan(numbers)
        numbers = np.where(lost, median, numbers).clip(least, most)
        if knots:
            numbers = np.interp(numbers, values, ranks)
        return ((numbers - mean) / deviation).clip(-_FARTHEST, _FARTHEST), lost & gaps

    return scale


def unscaled(number: Number, value: float, lost: bool) -> float | None:
    """Return the number that was scaled to a value; None where it is missing."""
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


def _numbers_of(
    dates: Sequence[datetime.datetime | None], part: Callable[[datetime.datetime], float]
) -> NDArray[np.float64]:
    return np.array([math.nan if date is None else part(date) for date in dates], np.float64)


def _date_facts(dates: Sequence[datetime.datetime | None], scaling: str) -> tuple[Any, ...]:
    parts = {name: _numbers_of(dates, part) for name, part in _PARTS.items()}
    varying = [name for name, numbers in parts.items() if len(np.unique(numbers[~np.isnan(numbers)])) > 1]
    return tuple((name, _scaled(parts[name], scaling)) for name in varying or ["days"])


Cells = NDArray[Any] | Sequence[Any]
"""Of a column, ``[N]``."""


def reader(column: Column) -> Callable[[Cells], NDArray[Any]]:
    """Return what reads cells of a column: as codes, int64 ``[N]``; or as numbers, float64 ``[2, P, N]``.

    Of those the first are scaled, and the second are 1 where the first are missing. It raises ``CellError``.
    """
    if column.kind == CATEGORY:
        codes = {name: code for code, name in enumerate(column.facts, OTHER + 1)}

        def code(cell: Any) -> int:
            known = codes.get(cell) if type(cell) is str else None  # a name is the name of itself
            return codes.get(category_in(cell), OTHER) if known is None else known

        def coded(cells: Cells) -> NDArray[np.int64]:
            if are_numbers(cells):
                distinct, places = np.unique(cells, return_inverse=True)
                return coded(distinct.tolist())[places]
            return np.fromiter(map(code, cells), np.int64, len(cells))

        return coded
    if column.kind == NUMBER:
        scale = _scale(Number(*column.facts[0]))
        return lambda cells: np.stack(scale(numbers_in(cells)))[:, None]
    parts = [(_PARTS[name], _scale(Number(*number))) for name, number in column.facts]

    def dated(cells: Cells) -> NDArray[np.float64]:
        dates = [date_in(cell) for cell in cells]
        return np.stack([scale(_numbers_of(dates, part)) for part, scale in parts], 1)

    return dated


def schema_of(column: Column) -> dict[str, Any]:
    """Return what JSON schema says of a cell: an example of a number or a date, and of categories the names."""
    if column.kind == NUMBER:
        median = Number(*column.facts[0]).median
        return {"title": column.name, "type": ["number", "null"], "examples": [median]}
    if column.kind == CATEGORY:
        names = [name for name in column.facts if name]
        return {"title": column.name, "type": ["string", "number", "boolean", "null"], "examples": names}
    parts = {name: Number(*number) for name, number in column.facts}
    timed = "hour" in parts
    date = _EPOCH + datetime.timedelta(days=parts["days"].median) if "days" in parts else _EPOCH
    example = (date if timed else date.date()).isoformat()
    return {
        "title": column.name,
        "type": ["string", "null"],
        "format": "date-time" if timed else "date",
        "examples": [example],
    }
