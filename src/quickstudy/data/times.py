"""Times of series: dates or whole numbers, and the step from one to the next.

A date is the number of microseconds since 1970, of UTC where it has a zone, so that all times are whole numbers.

Shapes: R rows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quickstudy.errors import ConfigError, DataError, brief

Times = NDArray[np.int64]

_SECOND = 1_000_000
_DAY = 86_400 * _SECOND
_LONGEST_MONTH, _SHORTEST_MONTH = 31 * _DAY, 28 * _DAY
_UNITS = {
    "us": ("us", 1),
    "ms": ("us", 1000),
    "s": ("us", _SECOND),
    "S": ("us", _SECOND),
    "min": ("us", 60 * _SECOND),
    "T": ("us", 60 * _SECOND),
    "h": ("us", 3600 * _SECOND),
    "H": ("us", 3600 * _SECOND),
    "D": ("us", _DAY),
    "d": ("us", _DAY),
    "B": ("business", 1),
    "W": ("us", 7 * _DAY),
    "MS": ("month", 1),
    "M": ("month", 1),
    "ME": ("month_end", 1),
    "QS": ("month", 3),
    "Q": ("month", 3),
    "QE": ("month_end", 3),
    "YS": ("month", 12),
    "Y": ("month", 12),
    "YE": ("month_end", 12),
}
"""By the names that pandas has for them."""
_TOLD = ("W", "D", "h", "min", "s", "ms", "us")


class Step(NamedTuple):
    """From one time of a series to the next.

    >>> Step.of("15min"), str(Step.of("QS")), Step.of("h").season, Step.of("MS").season
    (Step(unit='us', size=900000000), '3MS', 24, 12)
    """

    unit: str
    """``"number"``, ``"us"``, ``"month"`` (of one day in each), ``"month_end"`` or ``"business"`` (days)."""
    size: int

    @classmethod
    def of(cls, text: str | int) -> Step:
        """Return what a frequency says: ``"15min"``, ``"h"``, ``"D"``, ``"B"``, ``"W"``, ``"MS"`` and the like.

        Args:
            text: as pandas writes it, or as this class does; or a whole number, where times are such.

        Raises:
            ConfigError: it is none.
        """
        found = re.fullmatch(r"(\d*)([A-Za-z]*)(-[A-Z]{3})?", str(text))
        many = int(found[1] or 1) if found else 0
        if found and many > 0 and not found[2] and found[1]:
            return cls("number", many)
        if not found or many < 1 or found[2] not in _UNITS:
            raise ConfigError(
                f"frequency={brief(text)}: give '15min', 'h', 'D', 'B' (business days), 'W', 'MS' (months), 'ME' "
                "(their ends), 'QS', 'YS', or a whole number where times are such"
            )
        unit, count = _UNITS[found[2]]
        return cls(unit, many * count)

    def __str__(self) -> str:
        if self.unit == "number":
            return str(self.size)
        if self.unit in ("month", "month_end"):
            return f"{self.size if self.size > 1 else ''}{'MS' if self.unit == 'month' else 'ME'}"
        if self.unit == "business":
            return f"{self.size if self.size > 1 else ''}B"
        name = next(name for name in _TOLD if self.size % _UNITS[name][1] == 0)
        many = self.size // _UNITS[name][1]
        return f"{many if many > 1 else ''}{name}"

    @property
    def dated(self) -> bool:
        """Whether times are dates."""
        return self.unit != "number"

    @property
    def season(self) -> int:
        """After how many steps a series is likely to repeat itself: 24 of hours, 12 of months; 1: there is none."""
        if self.unit in ("month", "month_end"):
            return 12 // self.size if 12 % self.size == 0 else 1
        if self.unit == "business":
            return 5 if self.size == 1 else 1
        if self.unit != "us":
            return 1
        if self.size == 7 * _DAY:
            return 52
        whole = 7 * _DAY if self.size >= _DAY else _DAY if self.size >= 60 * _SECOND else 60 * _SECOND
        return whole // self.size if whole % self.size == 0 else 1

    def positions(self, times_R: Times, first: int) -> tuple[Times, NDArray[np.bool_]]:
        """Return how many steps times lie behind the first, and whether they lie on its grid; ``[R]`` each."""
        if self.unit in ("number", "us"):
            found, rest = np.divmod(times_R - first, self.size)
            return found, rest == 0
        if self.unit == "business":
            days, begin = _as(times_R, "D"), _as(first, "D")
            apart = np.busday_count(begin, days).astype(np.int64)
            at_work = np.is_busday(days) & (times_R - _us(days) == first - int(_us(begin)))
            return apart // self.size, at_work & (apart % self.size == 0)
        months, rest = self._in_months(times_R)
        begin, beyond = self._in_months(np.array([first]))
        found, over = np.divmod(months - begin[0], self.size)
        return found, (over == 0) & (rest == beyond[0])

    def at(self, first: int | Times, positions: Times) -> Times:
        """Return the times so many steps behind a first one, or behind one each."""
        found: Times
        if self.unit in ("number", "us"):
            found = first + self.size * positions
        elif self.unit == "business":
            day = _as(first, "D")
            found = _us(np.busday_offset(day, self.size * positions, roll="forward")) + (first - _us(day))
        else:
            months, rest = self._in_months(np.asarray(first, np.int64))
            wanted = (months + self.size * positions).astype("M8[M]")
            found = _us(wanted + np.timedelta64(int(self.unit == "month_end"), "M")) + rest
        return found

    def _in_months(self, times_R: Times) -> tuple[Times, Times]:
        """Return the months, and what times lie behind their begin, or behind their end."""
        months = _as(times_R, "M")
        return months.astype(np.int64), times_R - _us(months + np.timedelta64(int(self.unit == "month_end"), "M"))

    def text(self, times: Times) -> list[str]:
        """Return times as they are written: ``2026-11-27``, with the time of the day where one has it; or numbers."""
        if not self.dated:
            return [str(time) for time in times.tolist()]
        dates = times.astype("M8[us]")
        unit = "D" if not (times % _DAY).any() else "s" if not (times % _SECOND).any() else "us"
        return [str(date) for date in dates.astype(f"M8[{unit}]")]


def _as(times: Any, unit: str) -> Any:
    return np.asarray(times, np.int64).astype("M8[us]").astype(f"M8[{unit}]")


def _us(dates: Any) -> Any:
    return np.asarray(dates).astype("M8[us]").astype(np.int64)


def found_step(times: Sequence[Times], dated: bool) -> Step:
    """Return the step that most times have; of months, business days and the like these.

    Args:
        times: of each series, in order.
        dated: whether they are dates.

    Raises:
        DataError: no series has two times.
    """
    apart = np.concatenate([np.diff(own) for own in times] or [np.empty(0, np.int64)])
    if not len(apart):
        raise DataError("no series has two times, so that the step from one to the next is not known: give frequency=")
    values, counts = np.unique(apart, return_counts=True)
    usual = int(values[counts.argmax()])
    if not dated:
        return Step("number", usual)
    together = np.concatenate(list(times))
    if usual >= _SHORTEST_MONTH:
        for unit in ("month", "month_end"):
            months, rest = Step(unit, 1)._in_months(together)
            fixed = len(np.unique(rest)) == 1 and (unit == "month_end" or int(rest[0]) < _SHORTEST_MONTH)
            if fixed:
                series = np.repeat(np.arange(len(times)), [len(own) for own in times])
                gaps = np.diff(months)[np.diff(series) == 0]
                many, often = np.unique(gaps, return_counts=True)
                return Step(unit, max(int(many[often.argmax()]), 1))
    if usual == _DAY and (values > _DAY).any() and bool(np.is_busday(_as(together, "D")).all()):
        return Step("business", 1)
    return Step("us", usual)
