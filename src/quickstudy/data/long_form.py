"""Tables in long form, a row for each time of each series, and how series are read from them.

What stands for a value that is missing is known at its time: nothing of what comes later.

Shapes: R rows, S series, C targets.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quickstudy.data.series import Fields, Histories
from quickstudy.data.targets import missing
from quickstudy.data.times import Step, Times, found_step
from quickstudy.errors import ConfigError, DataError, brief, check_choice, closest, shown

FILLS = ("last", "zero")
_LARGEST = 1e100
"""Of numbers, whose squares are summed up."""
_ZONE = re.compile(r"(Z|[+-]\d\d:?\d\d)$")


def read_histories(
    columns: Mapping[str, NDArray[Any]],
    fields: Fields,
    frequency: str | int | Step | None = None,
    fill: str | None = None,
) -> Histories:
    """Read series of a table in long form.

    Rows may come in any order. Those at a series' end without a target are times ahead, with what is known of them.

    Args:
        columns: of the table, ``[R]`` each.
        fields: which of them are what.
        frequency: see ``Step.of``; None: the step that most times have.
        fill: what stands for targets that are missing, and at times that the table lacks: ``"last"``, the last one
            before, or ``"zero"``. None: there may be none. Whatever it is, no forecast is judged by it.

    Raises:
        ConfigError: an option is none of these.
        DataError: a column or a cell is missing or something else, a time comes twice or is not on the grid, or a
            series has no target; the message names series and row.
    """
    check_choice("fill", fill, None, *FILLS)
    for name in fields.names:
        if name not in columns:
            near = closest(name, columns)
            raise DataError(f"the table has no column '{name}'{near} It has {shown(columns)}")
    if not fields.targets:
        raise ConfigError("target_fields is missing: name the column, or the columns, to forecast")
    if len(twice := {*fields.targets} & {*fields.known, *fields.observed, *fields.static}):
        raise ConfigError(f"'{min(twice)}' is a target and a covariate: keep one of them")
    count = len(columns[fields.time])
    if not count:
        raise DataError("the table has no rows")
    times, dated = _times(columns[fields.time], fields.time)
    codes, names = _series(columns, fields, count)
    order = np.lexsort((times, codes))
    codes, times = codes[order], times[order]
    starts = np.searchsorted(codes, np.arange(len(names) + 1))
    made = Histories(
        fields,
        Step("us" if dated else "number", 1),
        dated,
        names,
        starts.astype(np.int64),
        starts[1:].astype(np.int64),
        times,
        _numbers(columns, fields.targets)[order],
        np.zeros((count, len(fields.targets)), np.bool_),
        order.astype(np.int64),
        {name: np.asarray(columns[name])[order] for name in (*fields.known, *fields.observed)},
        {},
        fill,
    )
    _check_no_time_twice(made, codes)
    made.step = _step(made, frequency)
    made.static = {name: _static(made, np.asarray(columns[name])[order], name) for name in fields.static}
    _put_on_grid(made, fill)
    made.seen = ~np.isnan(made.values)
    _end(made)
    _fill_in(made, fill)
    _check_known(made, fill)
    return made


def times_of(told: Sequence[Any], dated: bool) -> Times:
    """Return times that are written, as numbers.

    Raises:
        DataError: one is none.
    """
    return np.array([_time(one, row) if dated else int(one) for row, one in enumerate(told)], np.int64)


# ---- reading


def _times(cells: NDArray[Any], name: str) -> tuple[Times, bool]:
    """Return times as numbers, and whether they are dates."""
    lost = np.flatnonzero(missing(cells.tolist()) if cells.dtype.kind == "O" else np.isnan(cells.astype(np.float64)))
    if len(lost):
        raise DataError(f"row {lost[0]} has no time in the column '{name}': give one to each row")
    if cells.dtype.kind in "iuf":
        whole = cells.astype(np.int64)
        if (odd := np.flatnonzero(whole != cells)).size:
            raise DataError(
                f"row {odd[0]}: the time {brief(cells[odd[0]])} is neither a date nor a whole number: number the steps"
            )
        return whole, False
    texts = cells.tolist()
    if all(isinstance(cell, str) for cell in texts):
        stripped = [cell.strip() for cell in texts]
        if all(cell.lstrip("-").isdigit() for cell in stripped):
            return np.array([int(cell) for cell in stripped], np.int64), False
        if not any(_ZONE.search(cell) for cell in stripped):
            with suppress(ValueError, OverflowError):  # the one that is wrong is found below
                return np.array(stripped, "M8[us]").astype(np.int64), True
    return np.array([_time(cell, row) for row, cell in enumerate(texts)], np.int64), True


def _time(cell: Any, row: int) -> int:
    try:
        if isinstance(cell, str):
            cell = cell.strip()
            cell = datetime.datetime.fromisoformat(cell) if _ZONE.search(cell) else np.datetime64(cell, "us")
        if hasattr(cell, "to_timestamp"):  # of a period of pandas
            cell = cell.to_timestamp()
        if getattr(cell, "tzinfo", None) is not None:
            cell = cell.astimezone(datetime.UTC).replace(tzinfo=None)
        if not isinstance(cell, (datetime.date, np.datetime64)):
            raise ValueError
        given: Any = cell
        date: Any = np.datetime64(given, "us")
        if np.isnat(date):
            raise ValueError
        return int(date.astype(np.int64))
    except (ValueError, OverflowError, TypeError):
        raise DataError(
            f"row {row}: {brief(cell)} is no time: write dates as 2026-11-27, or 2026-11-27T22:30, or whole numbers"
        ) from None


def _series(
    columns: Mapping[str, NDArray[Any]], fields: Fields, count: int
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return which series each row is of, and their names, in the order in which they come first."""
    if fields.series is None:
        return np.zeros(count, np.int64), ("series",)
    cells = columns[fields.series].tolist()
    lost = np.flatnonzero(missing(cells))
    if len(lost):
        raise DataError(f"row {lost[0]} has no series in the column '{fields.series}': give one to each row")
    names = [str(int(cell)) if isinstance(cell, float) and cell % 1 == 0 else str(cell).strip() for cell in cells]
    known = {name: code for code, name in enumerate(dict.fromkeys(names))}
    return np.array([known[name] for name in names], np.int64), tuple(known)


def _numbers(columns: Mapping[str, NDArray[Any]], names: Sequence[str]) -> NDArray[np.float64]:
    """Return the targets, ``[R, C]``, NaN where one is missing."""
    found = []
    for name in names:
        cells = columns[name]
        if cells.dtype.kind in "biuf":
            own = cells.astype(np.float64)
        else:
            listed = cells.tolist()
            gone = missing([cell.strip() if isinstance(cell, str) else cell for cell in listed])
            own = np.full(len(listed), np.nan)
            for row in np.flatnonzero(~gone).tolist():
                try:
                    own[row] = float(listed[row])
                except (TypeError, ValueError):
                    if isinstance(listed[row], str) and listed[row].strip().lower() in ("na", "n/a", "null", "none"):
                        continue
                    raise DataError(
                        f"row {row}, column '{name}': {brief(listed[row])} is no number, and a target is one"
                    ) from None
        large = np.flatnonzero(np.abs(np.nan_to_num(own, posinf=np.inf, neginf=-np.inf)) > _LARGEST)
        if len(large):
            raise DataError(f"row {large[0]}, column '{name}': {own[large[0]]} is infinite, or too large for a target")
        found.append(own)
    return np.stack(found, 1)


def _static(made: Histories, cells: NDArray[Any], name: str) -> NDArray[Any]:
    """Return the one cell of each series."""
    kept = []
    for series, (start, end) in enumerate(zip(made.starts[:-1].tolist(), made.starts[1:].tolist(), strict=True)):
        own = cells[start:end].tolist()
        gone = missing(own)
        told = [row for row in range(len(own)) if not gone[row]]
        other = next((row for row in told if own[row] != own[told[0]]), None)
        if other is not None:
            raise DataError(
                f"{made.called(series)}, {made.where(start + other)}: '{name}' is {brief(own[other])} and was "
                f"{brief(own[told[0]])} before, but static_fields are the same in all rows: name it in known_fields or "
                "observed_fields"
            )
        kept.append(own[told[0]] if told else None)
    found = np.empty(len(kept), object)
    found[:] = kept
    return found if cells.dtype.kind == "O" else found.astype(cells.dtype)


def _check_no_time_twice(made: Histories, codes: NDArray[np.int64]) -> None:
    same = np.flatnonzero((np.diff(made.times) == 0) & (np.diff(codes) == 0))
    if len(same):
        one, other = sorted(int(made.places[row]) for row in (same[0], same[0] + 1))
        told = (Step("us", 1) if made.dated else Step("number", 1)).text(made.times[same[:1]])[0]
        of_several = "" if made.fields.series is not None else ", or name the column of their series by series_field"
        raise DataError(
            f"{made.called(int(codes[same[0]]))} has the time {told} twice, in rows {one} and {other}: keep one of "
            f"them{of_several}"
        )


def _step(made: Histories, frequency: str | int | Step | None) -> Step:
    """Return the step, and check that all times are on its grid."""
    own = [made.times[start:end] for start, end in zip(made.starts[:-1], made.starts[1:], strict=True)]
    if frequency is None:
        try:
            step = found_step(own, made.dated)
        except DataError as error:
            told = f"{made.called(0)} has one row alone, row {made.places[0]}; " if len(made) else ""
            raise DataError(f"{told}{error}") from None
    else:
        step = frequency if isinstance(frequency, Step) else Step.of(frequency)
    if step.dated != made.dated:
        raise ConfigError(
            f"frequency='{step}' is of {'dates' if step.dated else 'whole numbers'}, and the times in "
            f"'{made.fields.time}' are {'dates' if made.dated else 'whole numbers'}"
        )
    for series, times in enumerate(own):
        right = step.positions(times, int(times[0]))[1]
        if not right.all():
            row = int(made.starts[series]) + int(np.flatnonzero(~right)[0])
            before, off = Step("us" if made.dated else "number", 1).text(made.times[[row - 1, row]])
            raise DataError(
                f"{made.called(series)}, row {made.places[row]}: the time {off} is not on the grid of steps of "
                f"'{step}', behind {before}: give frequency= if the step is another, or bring the times to one grid"
            )
    return step


def _put_on_grid(made: Histories, fill: str | None) -> None:
    """Add rows for times that are missing."""
    bounds = list(zip(made.starts[:-1].tolist(), made.starts[1:].tolist(), strict=True))
    targets: list[NDArray[np.int64]] = []
    for series, (start, end) in enumerate(bounds):
        found = made.step.positions(made.times[start:end], int(made.times[start]))[0]
        lacking = np.flatnonzero(np.diff(found) > 1)
        if len(lacking) and fill is None:
            row, many = start + int(lacking[0]), int((np.diff(found)[lacking] - 1).sum())
            first = made.step.text(made.step.at(int(made.times[row]), np.array([1])))[0]
            raise DataError(
                f"{made.called(series)} lacks {many} times of its steps of '{made.step}', the first {first}, behind "
                f"{made.where(row)}: give fill='last' or 'zero', or add the rows"
            )
        targets.append(found)
    lengths = [int(found[-1]) + 1 for found in targets]
    if sum(lengths) == len(made.times):
        return
    starts = np.concatenate([[0], np.cumsum(lengths)])
    rows = np.concatenate([found + start for found, start in zip(targets, starts[:-1], strict=True)])
    before = np.zeros(starts[-1], np.int64)  # the row that was there at that time, or at the last one before
    before[rows] = np.arange(len(rows))
    before = np.maximum.accumulate(before)
    there = np.zeros(starts[-1], np.bool_)
    there[rows] = True
    made.times = np.concatenate(
        [
            made.step.at(int(made.times[start]), np.arange(length))
            for (start, _), length in zip(bounds, lengths, strict=True)
        ]
    )
    made.values = np.where(there[:, None], made.values[before], np.nan)
    made.places = np.where(there, made.places[before], -1)
    made.columns = {name: cells[before] for name, cells in made.columns.items()}
    made.starts = starts.astype(np.int64)


def _end(made: Histories) -> None:
    """Find where each series' targets end."""
    seen_RC = made.seen
    any_R: NDArray[np.bool_] = np.logical_or.reduce(seen_RC, axis=1)
    ends = []
    for series, (start, end) in enumerate(zip(made.starts[:-1].tolist(), made.starts[1:].tolist(), strict=True)):
        told = np.flatnonzero(any_R[start:end])
        counts = seen_RC[start:end].sum(axis=0).tolist()
        empty = [name for name, count in zip(made.fields.targets, counts, strict=True) if not count]
        if empty:
            raise DataError(
                f"{made.called(series)} has no value of '{empty[0]}' in any of its {end - start} rows, the first row "
                f"{made.places[start]}: give some, or leave the series out"
            )
        ends.append(start + int(told[-1]) + 1)
    made.ends = np.array(ends, np.int64)


def _fill_in(made: Histories, fill: str | None) -> None:
    """Put something in the place of targets that are missing."""
    before_end = np.zeros(len(made.times), np.bool_)
    for start, end in zip(made.starts[:-1].tolist(), made.ends.tolist(), strict=True):
        before_end[start:end] = True
    lost = np.argwhere(~made.seen & before_end[:, None])
    if len(lost) and fill is None:
        row, column = lost[0].tolist()
        series = int(np.searchsorted(made.starts, row, "right")) - 1
        raise DataError(
            f"{made.called(series)}, {made.where(row)}: the target '{made.fields.targets[column]}' is missing, and in "
            f"{len(lost) - 1} other places: give fill='last' or 'zero', or leave the rows out at a series' begin"
        )
    filled = np.where(made.seen, made.values, 0.0)
    if fill == "last" or not len(lost):
        rows = np.where(made.seen, np.arange(len(made.times))[:, None], -1)
        for start, end in zip(made.starts[:-1].tolist(), made.starts[1:].tolist(), strict=True):
            rows[start:end] = np.maximum.accumulate(rows[start:end], 0)
        filled = np.where(rows >= 0, np.take_along_axis(made.values, np.maximum(rows, 0), 0), 0.0)
    made.values = filled


def _check_known(made: Histories, fill: str | None) -> None:
    """Check that what is known ahead is known."""
    for name in made.fields.known:
        if name == made.fields.time:
            del made.columns[name]
            continue
        cells = made.columns[name]
        gone = (
            np.isnan(cells) if cells.dtype.kind == "f" else missing(cells.tolist()) if cells.dtype.kind == "O" else []
        )
        lost = np.flatnonzero(gone)
        if not len(lost):
            continue
        row = int(lost[0])
        series = int(np.searchsorted(made.starts, row, "right")) - 1
        if fill is None:
            raise DataError(
                f"{made.called(series)}, {made.where(row)}: '{name}' is missing, and known_fields are known at all "
                "times: fill it in, name it in observed_fields, or give fill='last'"
            )
        rows = np.where(gone, -1, np.arange(len(cells)))
        for start, end in zip(made.starts[:-1].tolist(), made.starts[1:].tolist(), strict=True):
            rows[start:end] = np.maximum.accumulate(rows[start:end])
        made.columns[name] = np.where(rows >= 0, cells[np.maximum(rows, 0)], cells)


def time_of(told: str | int, histories: Histories, option: str) -> int:
    """Return a time that an option says, as a number.

    Raises:
        ConfigError: it is none of the form that the series' times have.
    """
    try:
        if histories.dated:
            return _time(told, 0)
        return int(told)
    except (DataError, ValueError):
        form = "a date, 2026-11-27" if histories.dated else "a whole number"
        raise ConfigError(f"{option}={brief(told)} is no time of these series: give {form}") from None
