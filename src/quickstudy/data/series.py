"""Series, and the windows that are cut of them: what is past, and what is forecast behind it.

Rows of all series lie one behind the other, in the order of their times, at the same distance from each other; so a
window is a range of rows.

Shapes: R rows, S series, N windows, C targets, H steps of a horizon.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.batches import Batch, take
from quickstudy.data.annotations import Annotations
from quickstudy.data.origins import Origins
from quickstudy.data.table import Table
from quickstudy.data.times import Step, Times
from quickstudy.errors import DataError, DataWarning, brief

_MANY_SERIES = 10
"""From so many on an interval is over series, and else over blocks of times within each."""


class Fields(NamedTuple):
    """What the columns of a table in long form are, by their names."""

    time: str
    targets: tuple[str, ...]
    series: str | None = None
    """Of the name of each row's series; None: all rows are of one."""
    known: tuple[str, ...] = ()
    """Covariates that are known ahead, such as a price that is planned; that of the times may be one."""
    observed: tuple[str, ...] = ()
    """Covariates that are known once they are past, such as the weather."""
    static: tuple[str, ...] = ()
    """What is the same in all rows of a series."""

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        alone = () if self.series is None else (self.series,)
        return tuple(dict.fromkeys((*alone, self.time, *self.targets, *self.known, *self.observed, *self.static)))


@dataclass(eq=False)
class Histories:
    """S series.

    Args:
        fields: what the columns are.
        step: from one time to the next.
        dated: whether times are dates.
        names: S of them.
        starts: ``[S + 1]``, the first row of each.
        ends: ``[S]``, the row behind the last one with a target: those from there on are known covariates ahead.
        times: ``[R]``
        values: ``[R, C]`` the targets, with something in place of what is missing.
        seen: ``[R, C]``, whether a target is there.
        places: ``[R]``, the rows of the table; -1: a time that it lacks.
        columns: the covariates, ``[R]`` each.
        static: ``[S]`` each.
    """

    fields: Fields
    step: Step
    dated: bool
    names: tuple[str, ...]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    times: Times
    values: NDArray[np.float64]
    seen: NDArray[np.bool_]
    places: NDArray[np.int64]
    columns: dict[str, NDArray[Any]]
    static: dict[str, NDArray[Any]]
    fill: str | None = None
    """What was asked to stand for what is missing."""
    made: dict[Any, Any] = field(default_factory=dict, repr=False)
    """What was made of them, by whatever it depends on."""

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, series: int) -> Window:
        return Window(self, series, int(self.ends[series]))

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "made": {}}

    def called(self, series: int) -> str:
        """Return what a series is called in messages."""
        return f"series '{self.names[series]}'" if self.fields.series is not None else "the series"

    def where(self, row: int) -> str:
        """Return in words which row of the table one is, and its time."""
        place = int(self.places[row])
        told = self.text(self.times[row : row + 1])[0]
        return f"row {place} ({told})" if place >= 0 else f"the time {told}"

    def text(self, times: Times) -> list[str]:
        """Return times as they are written."""
        return self.step.text(times)

    def naive_errors(self, season: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return sums up to each row of how far targets are from those a season before, and how many; ``[R + 1, C]``.

        Only pairs within a series count, of which both are there.
        """
        key = ("naive", season)
        if key not in self.made:
            apart, there = np.zeros_like(self.values), np.zeros_like(self.values)
            if season < len(self.values):
                which = np.repeat(np.arange(len(self)), np.diff(self.starts))
                both = self.seen[season:] & self.seen[:-season] & (which[season:] == which[:-season])[:, None]
                apart[season:] = np.where(both, np.abs(self.values[season:] - self.values[:-season]), 0)
                there[season:] = both
            zero = np.zeros((1, self.values.shape[1]))
            self.made[key] = tuple(np.concatenate([zero, part.cumsum(0)]) for part in (apart, there))
        sums, counts = self.made[key]
        return sums, counts

    def scales(self, series: NDArray[np.int64], origins: NDArray[np.int64], season: int) -> NDArray[np.float64]:
        """Return what MASE divides by: the mean error of the seasonal naive forecast before each origin, ``[N, C]``.

        Hyndman and Koehler 2006, https://doi.org/10.1016/j.ijforecast.2006.03.001. Where that is none, or nothing is
        known of it, it is that of the last value; and else 1.
        """
        found = np.zeros((len(origins), self.values.shape[1]))
        for lag in dict.fromkeys((season, 1)):
            sums, counts = self.naive_errors(lag)
            begin = self.starts[series]
            total, many = sums[origins] - sums[begin], counts[origins] - counts[begin]
            own = total / np.maximum(many, 1)
            found = np.where(found > 1e-12 * np.abs(self.values[origins - 1]), found, own)
        return np.where(found > 0, found, 1.0)


class Window:
    """A series up to a time, from which on it is forecast."""

    def __init__(self, histories: Histories, series: int, origin: int) -> None:
        self.histories, self.series, self.origin = histories, series, origin

    def __str__(self) -> str:
        return self.histories.names[self.series]

    def __repr__(self) -> str:
        return f"<{self.histories.called(self.series)} up to {self.histories.where(self.origin - 1)}>"

    def as_bytes(self) -> list[bytes | memoryview]:
        """Return what tells it from others: the targets before it and behind it."""
        own = self.histories
        begin, end = max(int(own.starts[self.series]), self.origin - 64), int(own.starts[self.series + 1])
        rows = slice(begin, min(self.origin + 64, end))
        told = np.ascontiguousarray(own.values[rows]).tobytes() + np.ascontiguousarray(own.times[rows]).tobytes()
        return [repr((str(self), self.origin - begin)).encode(), told]


class Windows:
    """N windows, by number; ``Table.inputs`` of series.

    Args:
        histories: that they are of.
        series: ``[N]``, which of them each is of.
        origins: ``[N]``, the row that each forecast begins with.
        horizon: H, steps of the forecasts that they are judged by; 0: they are not judged.
    """

    def __init__(
        self, histories: Histories, series: NDArray[np.int64], origins: NDArray[np.int64], horizon: int
    ) -> None:
        self.histories, self.series, self.origins, self.horizon = histories, series, origins, horizon

    def __len__(self) -> int:
        return len(self.origins)

    def __getitem__(self, row: int) -> Window:
        return Window(self.histories, int(self.series[row]), int(self.origins[row]))

    def __iter__(self) -> Iterator[Window]:
        return (self[row] for row in range(len(self)))

    def select(self, rows: NDArray[np.integer[Any]]) -> Windows:
        """Return these of them."""
        return Windows(self.histories, self.series[rows], self.origins[rows], self.horizon)

    def called(self, row: int) -> str:
        """Return the name of a window's series."""
        return self.histories.names[int(self.series[row])]

    @property
    def fingerprint(self) -> bytes:
        """A digest of the targets, and of where the windows are."""
        key = "fingerprint"
        if key not in self.histories.made:
            digest = hashlib.blake2b(repr((self.histories.fields, self.histories.step)).encode(), digest_size=16)
            for part in (self.histories.values, self.histories.seen, self.histories.times):
                digest.update(np.ascontiguousarray(part).data)
            self.histories.made[key] = digest.digest()
        digest = hashlib.blake2b(self.histories.made[key], digest_size=16)
        for rows in (self.series, self.origins, np.array([self.horizon])):
            digest.update(np.ascontiguousarray(rows, np.int64).data)
        return digest.digest()

    # ---- in time

    def blocks(self) -> NDArray[np.int64]:
        """Return which windows are not independent of each other, as numbers, ``[N]``.

        Those of one series; of fewer than ten series only those within twice the horizon, since a mean over so few
        would have no interval. Windows that overlap but for those at the borders are then in one block.
        """
        if len(np.unique(self.series)) >= _MANY_SERIES:
            return self.series.astype(np.int64)
        position = (self.origins - self.histories.starts[self.series]) // (2 * max(self.horizon, 1))
        return self.series * (1 << 32) + position

    def block_names(self) -> list[str]:
        """Return the names of the blocks: of the series, and of the first time in it."""
        blocks, own = self.blocks(), self.histories
        first: dict[int, str] = {}
        for block, series, origin in zip(blocks.tolist(), self.series.tolist(), self.origins.tolist(), strict=True):
            if block not in first:
                first[block] = f"{own.names[series]} from {own.text(own.times[origin : origin + 1])[0]}"
        return [first[block] for block in blocks.tolist()]

    def thinned(self, stride: int) -> Windows:
        """Return of so many windows of a series only one, the last of all among them."""
        last = np.zeros(len(self.histories), np.int64)
        np.maximum.at(last, self.series, self.origins)
        return self.select(np.flatnonzero((last[self.series] - self.origins) % stride == 0))

    def at(self, time: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the windows whose forecasts end before a time, and those that begin then or later."""
        begins = self.histories.times[self.origins]
        ends = self.histories.times[self.origins + max(self.horizon, 1) - 1]
        return np.flatnonzero(ends < time), np.flatnonzero(begins >= time)

    def divided(self, share: float, option: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return which windows are left, and which are about the last share of them, by time.

        No forecast of those that are left reaches into what the others are judged by.

        Raises:
            DataError: a side would be empty.
        """
        begins = np.sort(self.histories.times[self.origins])
        moved = min(max(round(share * len(begins)), 1), len(begins) - 1)
        time = int(begins[len(begins) - moved]) if len(begins) > 1 else int(begins[0])
        rest, part = self.at(time)
        if not len(rest) or not len(part):
            raise DataError(
                f"{option}={share:.3g} of {len(self)} windows leaves a side empty, since the forecasts of one may not "
                f"reach into the other: with horizon={self.horizon} give more rows, or a smaller share or horizon"
            )
        return rest, part


class Judged(Windows):
    """Windows with what their forecasts are judged by; an item is one window of them.

    Args:
        windows: some.
        season: steps after which a series repeats itself.
        block: ``[N]``, see ``Windows.blocks``.
    """

    def __init__(self, windows: Windows, season: int, block: NDArray[np.int64]) -> None:
        super().__init__(windows.histories, windows.series, windows.origins, windows.horizon)
        self.season, self.block = season, block

    def __getitem__(self, row: int) -> Judged:  # type: ignore[override]
        return self.select(np.array([row]))

    def select(self, rows: NDArray[np.integer[Any]]) -> Judged:
        """Return these of them."""
        return Judged(super().select(rows), self.season, self.block[rows])

    def as_bytes(self) -> list[bytes]:
        """Return what tells one from others."""
        return [self.truth()["values"].numpy().tobytes()]

    def truth(self) -> dict[str, Tensor]:
        """Return ``{"values": float64 [N, H, C], "seen": bool [N, H, C], "scale": float64 [N, C], "block": [N, 1]}``.

        The last two are what MASE divides by, and what is not independent of each other.
        """
        ahead, own = self.origins[:, None] + np.arange(self.horizon), self.histories
        return {
            "values": torch.from_numpy(own.values[ahead]),
            "seen": torch.from_numpy(own.seen[ahead]),
            "scale": torch.from_numpy(own.scales(self.series, self.origins, self.season)),
            "block": torch.from_numpy(self.block[:, None].astype(np.int64)),
        }


def truth_of(item: Any, example: Batch | None = None) -> Batch:
    """Return what one window is judged by; see ``annotations.Read``.

    Raises:
        DataError: it is no window.
    """
    if not isinstance(item, Judged):
        raise DataError(f"a forecast is judged by what came after a series, and this is {brief(item)}")
    return take(item.truth(), 0)


def truths_of(items: Any, rows: NDArray[np.int64]) -> Batch:
    """Return what several windows are judged by; see ``annotations.Annotations``."""
    return cast(Judged, items).select(rows).truth()


# ---- cutting


def windows_at_the_end(histories: Histories) -> Windows:
    """Return of each series one window, whose forecast begins behind its last target."""
    return Windows(histories, np.arange(len(histories)), histories.ends.copy(), 0)


def cut(histories: Histories, horizon: int, context: int) -> Windows:
    """Cut windows out of series: forecasts of ``horizon`` steps that are known, each behind what came before.

    They begin where ``context`` rows are before them, or, where a series has fewer, as late as they can.

    Args:
        histories: the series.
        horizon: H.
        context: rows that a model looks back upon.

    Raises:
        DataError: no series is long enough; the message names one.
    """
    series, origins, short = [], [], []
    for which, (start, end) in enumerate(zip(histories.starts[:-1].tolist(), histories.ends.tolist(), strict=True)):
        last = end - horizon
        if last <= start:
            short.append(which)
            continue
        own = np.arange(start + min(context, last - start), last + 1)
        origins.append(own)
        series.append(np.full(len(own), which))
    if short:
        which = short[0]
        rows = int(histories.ends[which] - histories.starts[which])
        first, last = (histories.where(row) for row in (histories.starts[which], histories.ends[which] - 1))
        told = (
            f"{histories.called(which)} has {rows} row{'s' * (rows > 1)} with targets, {first} to {last}, and "
            f"horizon={horizon} needs {horizon + 1} or more: what is forecast, and what comes before"
        )
        if not origins:
            raise DataError(f"{told}. Give more rows (of a test those before it, too), or a smaller horizon")
        warnings.warn(f"left out {len(short)} of {len(histories)} series: {told}", DataWarning, 4)
    found = Windows(
        histories, np.concatenate(series).astype(np.int64), np.concatenate(origins).astype(np.int64), horizon
    )
    seen = np.concatenate([np.zeros((1, histories.seen.shape[1]), np.int64), histories.seen.cumsum(0)])
    ahead = (seen[found.origins + horizon] - seen[found.origins]).any(1)
    begin = np.maximum(found.origins - context, histories.starts[found.series])
    behind = (seen[found.origins] - seen[begin]).all(1)
    kept = np.flatnonzero(ahead & behind)
    if not len(kept):
        raise DataError(f"no window of horizon={horizon} has targets behind and ahead of it: too many are missing")
    return found.select(kept)


def judged_table(windows: Windows, season: int, grouped: bool) -> Table:
    """Return a table of windows with what their forecasts are judged by.

    Args:
        windows: some.
        season: steps after which a series repeats itself.
        grouped: whether figures of them have their intervals over ``Windows.blocks``, as in a test.
    """
    blocks = windows.blocks()
    annotations = Annotations(Judged(windows, season, blocks), truth_of, read_many=truths_of)
    several = grouped and 1 < len(np.unique(blocks)) < len(blocks)
    return Table(windows, annotations=annotations, origins=Origins.of(windows.block_names()) if several else None)


def divided_in_time(table: Table, share: float, option: str) -> tuple[Table, Table]:
    """Return a table of windows without the last share of them by time, and that, as it is judged; see ``Windows``.

    Raises:
        DataError: a side would be empty.
    """
    windows: Windows = table.inputs  # type: ignore[assignment]
    rest, part = windows.divided(share, option)
    season = table.annotations.items.season if table.annotations is not None else 1
    return judged_table(windows.select(rest), season, False), judged_table(windows.select(part), season, True)
