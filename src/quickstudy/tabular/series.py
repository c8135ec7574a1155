"""What a series of a table is: from its rows up to a time to numbers, in units that fit it.

Shapes: N windows, L times that are looked back upon, H steps ahead, C targets, P covariates of the past, K of those
known ahead, T static ones, R rows.
"""

from __future__ import annotations

import csv
import io
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from quickstudy.batches import Batch, is_batch, take
from quickstudy.data.long_form import FILLS, read_histories
from quickstudy.data.rows import Rows, columns_of
from quickstudy.data.samples import Loaded, content_of, named
from quickstudy.data.series import Fields, Histories, Window, Windows, windows_at_the_end
from quickstudy.data.table import Inputs
from quickstudy.data.times import Step
from quickstudy.errors import ConfigError, DataError, DataWarning, brief, check_choice, check_counts, shown
from quickstudy.modality import MODALITIES, Modality, Wire
from quickstudy.tabular.cells import CellError
from quickstudy.tabular.columns import CATEGORY, IGNORED, KINDS, Column, learned, reader

_CATEGORIES = 50
"""Of a covariate; rarer ones are told as none."""
_LONGEST = 512
"""Times that are looked back upon where nobody says how many."""
_SHOWN = 24


class _Covariates(NamedTuple):
    """What was made of the covariates of series."""

    past: NDArray[np.float32]
    """``[R, P]``"""
    known: NDArray[np.float32]
    """``[R, K]``"""
    static: NDArray[np.float32]
    """``[S, T]``"""


@MODALITIES.register("series")
@dataclass(frozen=True)
class Series(Modality):
    """A series up to a time, as what a network looks back upon, and what it knows ahead.

    It is a dict: ``past`` float32 ``[L, C]``, the targets less the last one, in units of ``spread``, with ``seen`` bool
    ``[L, C]``, False where one is missing or the series had not begun; ``level`` and ``spread`` float64 ``[C]``;
    ``covariates`` float32 ``[L, P]``, ``future`` ``[H, K]`` and ``static`` ``[T]``; and ``origin`` int64 ``[1]``, the
    first time ahead (``data.times``). Level and spread follow from what is past alone, and covariates are scaled by the
    training rows.

    Args:
        horizon: H.
        context: L; None: three seasons, and twice the horizon, at least.
        time_field, target_fields, series_field, known_fields, observed_fields, static_fields: the columns, see
            ``data.series.Fields``.
        frequency, fill: see ``data.series.read_histories``.
        season: steps after which a series repeats itself; None: as the frequency says, 24 of hours, 12 of months.
        scaling: the unit of targets: ``"standard"``, their deviation in all training rows; ``"window"``, that in each
            window; ``"auto"``, the latter where there are several series.
        kinds: by the name of a covariate what it is, ``"number"``, ``"category"``, ``"date"`` or ``"ignored"``; of
            others it follows from the training rows.
        length, step, period: L, the step and the season that training had.
        targets: what was learned of each target: its name, mean and deviation.
        columns: what was learned of each covariate, see ``columns.Column``.
        relative: whether the unit is each window's own.

    Raises:
        ConfigError: an option is out of range.
    """

    called = "series"
    in_cells = True
    several_rows = True
    learned = ("length", "step", "period", "targets", "columns", "relative")
    shown_as = "text/plain"
    drawn_as = ".png"
    backbone = "nlinear"

    horizon: int = 1
    context: int | None = None
    time_field: str | None = None
    target_fields: tuple[str, ...] = ()
    series_field: str | None = None
    known_fields: tuple[str, ...] = ()
    observed_fields: tuple[str, ...] = ()
    static_fields: tuple[str, ...] = ()
    frequency: str | None = None
    fill: str | None = None
    season: int | None = None
    scaling: str = "auto"
    kinds: Mapping[str, str] | None = field(default=None, hash=False)
    length: int = 0
    step: str = ""
    period: int = 0
    targets: tuple[tuple[Any, ...], ...] = ()
    columns: tuple[tuple[Any, ...], ...] = field(default=(), repr=False)
    relative: bool = True

    def __post_init__(self) -> None:
        check_counts(horizon=self.horizon)
        for name, value in {"context": self.context, "season": self.season}.items():
            if value is not None:
                check_counts(**{name: value})
        check_choice("fill", self.fill, None, *FILLS)
        check_choice("scaling", self.scaling, "auto", "standard", "window")
        for name in ("target_fields", "known_fields", "observed_fields", "static_fields"):
            object.__setattr__(self, name, several(getattr(self, name)))
        if self.frequency is not None:
            Step.of(self.frequency)
        for name, kind in (self.kinds or {}).items():
            if kind not in KINDS:
                raise ConfigError(f"kinds={{{name!r}: {brief(kind)}}}: it is one of {', '.join(map(repr, KINDS))}")

    # ---- what it reads

    @property
    def fields(self) -> Fields:
        """What the columns are.

        Raises:
            ConfigError: nobody said it.
        """
        if self.time_field is None or not self.target_fields:
            raise ConfigError("which columns are the time and the targets is not known: give time_field, target_fields")
        of_rows = (self.series_field, self.known_fields, self.observed_fields, self.static_fields)
        return Fields(self.time_field, self.target_fields, *of_rows)

    def histories(self, table: Any) -> Histories:
        """Return the series of a table in long form.

        Args:
            table: a frame, a dict of columns, a list of dicts; or the bytes of a file of CSV or JSON.

        Raises:
            DataError: see ``read_histories``.
        """
        table = self.from_wire(table) if isinstance(table, bytes) else table
        frequency = self.step or self.frequency
        return read_histories(columns_of(table), self.fields, frequency, self.fill)

    def lookback(self, step: Step, most: int | None = None) -> int:
        """Return L, as it is given, or as the step and the horizon suggest.

        Args:
            step: of the series.
            most: that a series has.
        """
        if self.length or self.context:
            return self.length or self.context or 0
        usual = max(2 * self.horizon, min(3 * (self.season or step.season), _LONGEST), 8)
        return max(usual if most is None else min(usual, most), 1)

    def load(self, item: Any) -> Batch:
        """Return a series up to a time as numbers: a window, or a table of one series, up to its last target."""
        if not isinstance(item, Window):
            found = windows_at_the_end(self.histories(item))
            if len(found) > 1:
                raise DataError(
                    f"it has {len(found)} series, {shown(found.histories.names)}: give each by itself, or the table as "
                    "a whole"
                )
            item = found[0]
        return take(self._numbers(item.histories, np.array([item.series]), np.array([item.origin])), 0)

    def load_many(self, inputs: Inputs, rows: NDArray[np.int64]) -> Batch | None:
        """Return windows as one batch; None where they are none, or one cannot be read, which ``load`` tells."""
        if not isinstance(inputs, Windows):
            return None
        try:
            return self._numbers(inputs.histories, inputs.series[rows], inputs.origins[rows])
        except DataError:
            if len(rows) == 1:
                raise
            return None

    def _numbers(self, own: Histories, series_N: NDArray[np.int64], origins_N: NDArray[np.int64]) -> Batch:
        if self.targets and own.fields != self.fields:
            raise DataError(f"the series were read by the columns {own.fields}, and the model knows {self.fields}")
        length = self.lookback(own.step)
        rows_NL = origins_N[:, None] + np.arange(-length, 0)
        begin_N1 = own.starts[series_N][:, None]
        there_NL = rows_NL >= begin_N1
        rows_NL = np.maximum(rows_NL, begin_N1)
        past_NLC, level_NC = own.values[rows_NL], own.values[origins_N - 1]
        spread_NC = self._spread(past_NLC, there_NL)
        scaled_NLC = np.where(there_NL[..., None], (past_NLC - level_NC[:, None]) / spread_NC[:, None], 0)
        told = self._covariates(own)
        return {
            "past": torch.from_numpy(scaled_NLC.astype(np.float32)),
            "seen": torch.from_numpy(own.seen[rows_NL] & there_NL[..., None]),
            "level": torch.from_numpy(level_NC),
            "spread": torch.from_numpy(spread_NC),
            "covariates": torch.from_numpy(told.past[rows_NL] * there_NL[..., None].astype(np.float32)),
            "future": torch.from_numpy(self._ahead(own, told, series_N, origins_N)),
            "static": torch.from_numpy(told.static[series_N]),
            "origin": torch.from_numpy(own.step.at(own.times[origins_N - 1], np.ones(1, np.int64))[:, None]),
        }

    def _spread(self, past_NLC: NDArray[np.float64], there_NL: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the unit of each window's targets, ``[N, C]``."""
        usual_C = np.array([deviation for _, _, deviation in self.targets] or [1.0] * past_NLC.shape[-1])
        if not self.relative and self.targets:
            return np.repeat(usual_C[None], len(past_NLC), 0)
        weight_NL1, count_N1 = there_NL[..., None], there_NL.sum(1)[:, None]
        mean_NC = (past_NLC * weight_NL1).sum(1) / count_N1
        off_NLC = np.where(weight_NL1, past_NLC - mean_NC[:, None], 0)
        own_NC = np.sqrt(np.square(off_NLC).sum(1) / count_N1)
        flat = own_NC <= 1e-9 * np.abs(mean_NC) + 1e-300  # what rounding makes of a constant
        return np.where(flat, usual_C, own_NC)

    def _ahead(
        self, own: Histories, told: _Covariates, series_N: NDArray[np.int64], origins_N: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return the covariates that are known ahead, ``[N, H, K]``."""
        if not told.known.shape[1]:
            return np.zeros((len(origins_N), self.horizon, 0), np.float32)
        ends_N = own.starts[series_N + 1]
        rows_NH = origins_N[:, None] + np.arange(self.horizon)
        lacking = np.flatnonzero(rows_NH[:, -1] >= ends_N)
        found_NHK: NDArray[np.float32] = told.known[np.minimum(rows_NH, ends_N[:, None] - 1)]
        given = [name for name in own.fields.known if name != own.fields.time]
        for row in lacking.tolist():
            series, origin = int(series_N[row]), int(origins_N[row])
            if given:
                have = int(own.starts[series + 1]) - origin
                raise DataError(
                    f"{own.called(series)}: {shown(given)} must be known for the {self.horizon} steps behind "
                    f"{own.where(origin - 1)}, and {have} of them are there: add rows with these and without a target"
                )
            times = own.step.at(int(own.times[origin - 1]), np.arange(1, self.horizon + 1))
            found_NHK[row] = self._of_columns(own.fields.known, {own.fields.time: _cells_of(times, own.dated)})
        return found_NHK

    # ---- covariates

    def _covariates(self, own: Histories) -> _Covariates:
        if (key := ("covariates", self._recipe)) not in own.made:
            cells: dict[str, Any] = {**own.columns}
            if own.fields.time in own.fields.known:
                cells[own.fields.time] = _cells_of(own.times, own.dated)
            rows, fields = len(own.times), own.fields
            own.made[key] = _Covariates(
                self._of_columns((*fields.known, *fields.observed), cells, rows),
                self._of_columns(fields.known, cells, rows),
                self._of_columns(fields.static, own.static, len(own)),
            )
        return own.made[key]  # type: ignore[no-any-return]

    @cached_property
    def _recipe(self) -> str:
        return json.dumps(self.columns)

    def __getstate__(self) -> dict[str, Any]:
        """Return what is sent to other processes: its fields."""
        return self.settings

    def _of_columns(
        self, names: Sequence[str], cells: Mapping[str, Any], rows: int | None = None
    ) -> NDArray[np.float32]:
        """Return cells as numbers, ``[R, ...]``, side by side."""
        known, found = {column[0]: Column(*column) for column in self.columns}, []
        for name in names:
            if name not in known or known[name].kind == IGNORED:
                continue
            try:
                read = reader(known[name])(cells[name])
            except CellError as error:
                raise error.of(name, "") from None
            if known[name].kind == CATEGORY:
                read = read[:, None] == np.arange(1, 1 + len(known[name].facts))
                found.append(read.astype(np.float32))
            else:
                found.append(read.reshape(-1, read.shape[-1]).T.astype(np.float32))
        count = len(next(iter(cells.values()), ())) if rows is None else rows
        return np.concatenate([np.zeros((count, 0), np.float32), *found], 1)

    # ---- learning

    def fitted(self, inputs: Inputs) -> Self:
        """Return it with what there is to know of the training windows: scales, categories, the step.

        Args:
            inputs: windows, or what ``listed`` takes.

        Raises:
            DataError: a target is constant.
        """
        if self.targets or is_batch(inputs) or isinstance(inputs, torch.Tensor):
            return self
        windows = inputs if isinstance(inputs, Windows) else self.listed(inputs)
        own = windows.histories if isinstance(windows, Windows) else windows[0].histories
        if not isinstance(windows, Windows):
            series, origins = np.array([(one.series, one.origin) for one in windows]).T
            windows = Windows(own, series, origins, 0)
        most = int((windows.origins - own.starts[windows.series]).max())
        length = self.lookback(own.step, most)
        seen_R = _rows_of(windows, length)
        facts = []
        for place, name in enumerate(own.fields.targets):
            values = own.values[seen_R & own.seen[:, place], place]
            mean, deviation = float(values.mean()), float(values.std())
            constant = values.min() == values.max()
            facts.append([name, mean, 1.0 if constant else deviation])
            _check_varies(own, seen_R, place, constant)
        return self.with_options(
            {
                "length": length,
                "step": str(own.step),
                "period": self.season or own.step.season,
                "targets": facts,
                "columns": json.loads(json.dumps(self._columns(own, seen_R))),
                "relative": len(own) > 1 if self.scaling == "auto" else self.scaling == "window",
            }
        )

    def _columns(self, own: Histories, seen_R: NDArray[np.bool_]) -> list[Column]:
        """Return what each covariate is."""
        fields, asked = own.fields, dict(self.kinds or {})
        of_rows = dict.fromkeys((*fields.known, *fields.observed, *fields.static))
        if unknown := [name for name in asked if name not in of_rows]:
            raise ConfigError(f"kinds: '{unknown[0]}' is no covariate; these are {shown(of_rows) or 'none'}")
        made = []
        rows = np.flatnonzero(seen_R)
        for name in of_rows:
            if name in own.static:
                table = Rows({name: own.static[name]}, own.places[own.starts[:-1]])
            elif name == fields.time:
                cells = np.empty(len(rows), object)
                cells[:] = _cells_of(own.times[rows], own.dated)
                table = Rows({name: cells}, own.places[rows])
            else:
                table = Rows({name: own.columns[name][rows]}, own.places[rows])
            made.append(learned(name, table, asked.get(name), "standard", _CATEGORIES))
        left = [column for column in made if column.kind == IGNORED and column.name not in asked]
        if left:
            told = ", ".join(f"'{column.name}' ({column.facts[0]})" for column in left)
            warnings.warn(
                f"not used: {told}. To use it, or to say that this is right, give "
                f"kinds={{{left[0].name!r}: 'number'}}, or 'ignored'",
                DataWarning,
                4,
            )
        return made

    def listed(self, inputs: Any) -> Any:
        """Return windows: of a table in long form one for each series, up to its last target; or of a list of them.

        Raises:
            DataError: it is none of these.
        """
        if is_batch(inputs) or isinstance(inputs, Windows):
            return inputs
        inputs = content_of(inputs)
        if isinstance(inputs, Histories):
            return windows_at_the_end(inputs)
        if isinstance(inputs, (Window, Loaded)):
            return [inputs]
        if not hasattr(inputs, "__len__") and hasattr(inputs, "__iter__"):
            inputs = list(inputs)
        if isinstance(inputs, (list, tuple)) and inputs and not _is_row(inputs[0]):
            return [one for given in inputs for one in self._each(given)]
        return windows_at_the_end(self.histories(inputs.columns if isinstance(inputs, Rows) else inputs))

    def _each(self, given: Any) -> list[Any]:
        if isinstance(given, (Window, Loaded)):
            return [given]
        found = windows_at_the_end(self.histories(content_of(given)))
        return list(found)

    def column(self, values: Sequence[Any], root: Any = None, exist: bool = True) -> Inputs:
        """Return windows of a list of series."""
        return self.listed(values)  # type: ignore[no-any-return]

    @property
    def column_names(self) -> tuple[str, ...]:
        """All columns that training had."""
        return self.fields.names if self.target_fields else ()

    def for_backbone(self) -> dict[str, Any]:
        """Return L, H, C, P, K, T and the season by the names of a network's options."""
        if not self.targets:  # all that a network needs which was trained elsewhere, or needs no training
            if self.frequency is None:
                return {}
            return {"horizon": self.horizon, "period": self.season or Step.of(self.frequency).season}
        known = {column[0]: Column(*column) for column in self.columns}

        def wide(names: Sequence[str]) -> int:
            used = [known[name] for name in names if known[name].kind != IGNORED]
            return sum(len(one.facts) * (1 if one.kind == CATEGORY else 2) for one in used)

        return {
            "context": self.length,
            "horizon": self.horizon,
            "targets": len(self.targets),
            "covariates": wide((*self.known_fields, *self.observed_fields)),
            "known": wide(self.known_fields),
            "static": wide(self.static_fields),
            "period": self.period,
        }

    # ---- showing, sending

    @property
    def wire(self) -> Wire:  # type: ignore[override]
        """How a series travels: as an object of JSON, a list for each column; or as a file of CSV or JSON."""
        cells: dict[str, Any] = {"type": "array", "items": {}}
        names = self.column_names
        schema = {"type": "object", "properties": dict.fromkeys(names, cells), "required": list(names)}
        return Wire("series", ("text/csv", "application/json"), schema)

    def from_wire(self, content: Any, name: str = "") -> Any:
        """Return the columns in an object of JSON, or in the bytes of a file of one, or of CSV."""
        if not isinstance(content, bytes):
            if not isinstance(content, (Mapping, list)):
                raise DataError(f"{brief(content)} is no series: send an object with a list for each column")
            return content
        which = named(name) if name else f"a file of {len(content)} bytes"
        try:
            text = content.decode("utf-8-sig")
            if text.lstrip().startswith(("{", "[")):
                return json.loads(text)
            lines = [line for line in csv.reader(io.StringIO(text)) if line]
        except (ValueError, csv.Error) as error:
            raise DataError(f"{which} is neither JSON nor CSV: {error}") from error
        if len(lines) < 2 or len({len(line) for line in lines}) > 1:
            raise DataError(f"{which} is no table: its first line names the columns, and each further one has a row")
        cells = [np.array(column, object) for column in zip(*lines[1:], strict=True)]
        return dict(zip(lines[0], cells, strict=True))

    def show(self, item: Any, example: Batch) -> bytes:
        """Return the newest targets."""
        level, spread = (example[name].double().numpy() for name in ("level", "spread"))
        newest = example["past"][-_SHOWN:].double().numpy() * spread + level
        names = [str(fact[0]) for fact in self.targets] or [f"target {place}" for place in range(len(level))]
        told = [
            f"{name} {' '.join(f'{value:.4g}' for value in own)}" for name, own in zip(names, newest.T, strict=True)
        ]
        return f"{item if isinstance(item, Window) else 'series'}: {'; '.join(told)}"[:1000].encode("utf-8", "replace")

    def draw(self, item: Any, told: Mapping[str, Any], labels: Sequence[str]) -> bytes:
        """Return a plot of the newest targets with a forecast, and its quantiles as bands, as PNG."""
        from quickstudy.tabular.plots import forecast_png  # which imports what few need

        window = item if isinstance(item, Window) else self.listed([item])[0]
        return forecast_png(window, told)

    def raw(self) -> tuple[str, Self]:
        """Return what repeats the last season."""
        return "seasonal_naive", self

    def recipe(self) -> dict[str, Any]:
        """Return what was learned of targets and covariates."""
        told = ("horizon", "length", "step", "period", "relative", "targets", "columns")
        return json.loads(json.dumps({name: getattr(self, name) for name in told}))  # type: ignore[no-any-return]


def several(names: Any) -> tuple[str, ...]:
    """Return one name, several or none as a tuple.

    >>> several("price"), several(["price", "day"]), several(None)
    (('price',), ('price', 'day'), ())
    """
    if names is None:
        return ()
    return (names,) if isinstance(names, str) else tuple(map(str, names))


def _cells_of(times: NDArray[np.int64], dated: bool) -> list[Any]:
    return times.astype("M8[us]").tolist() if dated else times.tolist()  # type: ignore[no-any-return]


def _rows_of(windows: Windows, length: int) -> NDArray[np.bool_]:
    """Return which rows windows have in what they look back upon, or in what they are judged by; ``[R]``."""
    own = windows.histories
    change = np.zeros(len(own.times) + 1, np.int64)
    np.add.at(change, np.maximum(windows.origins - length, own.starts[windows.series]), 1)
    np.add.at(change, windows.origins + windows.horizon, -1)
    return change.cumsum()[:-1] > 0


def _check_varies(own: Histories, seen_R: NDArray[np.bool_], place: int, constant: bool) -> None:
    """Check that a target varies, in training and in each series."""
    name = own.fields.targets[place]
    for series, (start, end) in enumerate(zip(own.starts[:-1].tolist(), own.starts[1:].tolist(), strict=True)):
        values = own.values[start:end, place][seen_R[start:end] & own.seen[start:end, place]]
        if len(values) > 1 and values.min() == values.max():
            rows = np.flatnonzero(seen_R[start:end]) + start
            told = (
                f"{own.called(series)}: '{name}' is {values[0]:.6g} in all {len(values)} rows to train on, "
                f"{own.where(int(rows[0]))} to {own.where(int(rows[-1]))}"
            )
            if constant:
                raise DataError(f"{told}: there is nothing to forecast. Give rows in which it varies")
            warnings.warn(
                f"{told}: nothing is learned from it, and its figures are no scale for others", DataWarning, 6
            )
            return


def _is_row(value: Any) -> bool:
    """Whether it is one row of a table, and no table."""
    cells = value.values() if isinstance(value, Mapping) else ()
    return bool(cells) and not any(
        isinstance(cell, (list, tuple, np.ndarray)) or hasattr(cell, "iloc") for cell in cells
    )
