"""How series go on: the task, and its data in long form."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from quickstudy.data.frames import file_columns
from quickstudy.data.long_form import read_histories, time_of
from quickstudy.data.rows import columns_of
from quickstudy.data.series import (
    Fields,
    Histories,
    Windows,
    cut,
    judged_table,
    windows_at_the_end,
)
from quickstudy.data.stages import STAGES, Stage, StageName, door
from quickstudy.data.table import Table
from quickstudy.errors import ConfigError, DataError, check_counts, given
from quickstudy.kinds.base import Kind
from quickstudy.kinds.forecasting import QUANTILES, ForecastHead, Forecasting
from quickstudy.tabular.series import Series, several
from quickstudy.training.datamodule import DataModule
from quickstudy.training.task import Task

Path = str | os.PathLike[str]
Names = str | Sequence[str] | None
_TIMES = ("time", "date", "datetime", "timestamp", "ds", "month", "day", "hour", "week", "year")
"""What a column of times is called, in lower case, where nobody says which it is."""
_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
_AT_ONCE = 512
_RESIDUALS = 20_000  # windows of which these are looked at


class TabularForecastingData(DataModule):
    """Series, from tables in long form: a row for each time of each series. See ``DataModule`` for further options.

    Training learns all windows of ``context`` times and the ``horizon`` behind them. To predict, each series is
    forecast from behind its last target on. Rows there may tell what is known ahead. ``val_split`` and ``test_split``
    take the last part of the windows by time, so that no forecast of training reaches into it; or say from which time
    on by ``val_from`` and ``test_from``. Where stages are tables of their own, those to judge by begin ``context`` rows
    before the first forecast.

    Args:
        train, val, test, predict: the examples of each stage; the ``from_*`` doors make them.
        horizon: steps to forecast.
        context: times that are looked back upon; default: three seasons, and twice the horizon, at least.
        season: steps after which a series repeats itself; default: as its frequency says, 24 of hours, 12 of months.
        scaling: the unit that targets are learned in: ``"standard"``, their deviation in all training rows;
            ``"window"``, that in each window; ``"auto"``, the latter where there are several series.
        kinds: by the name of a covariate what it is, ``"number"``, ``"category"``, ``"date"`` or ``"ignored"``; of
            others it follows from the training rows.
        stride, judged_stride: of so many windows of a series only one is trained on, or judged by.
        val_from, test_from: the time of the first step that is judged; training ends before.
        options: see ``DataOptions``.
    """

    modality = Series()
    answers: ClassVar[type[Kind]] = Forecasting

    def __init__(
        self,
        train: Table | None = None,
        val: Table | None = None,
        test: Table | None = None,
        predict: Table | None = None,
        horizon: int | None = None,
        context: int | None = None,
        season: int | None = None,
        scaling: str | None = None,
        kinds: Mapping[str, str] | None = None,
        stride: int = 1,
        judged_stride: int = 1,
        val_from: str | int | None = None,
        test_from: str | int | None = None,
        **options: Any,
    ) -> None:
        check_counts(stride=stride, judged_stride=judged_stride)
        options |= given(horizon=horizon, context=context, season=season, scaling=scaling, kinds=kinds)
        stages: tuple[tuple[StageName, Table | None], ...] = tuple(
            zip(STAGES, (train, val, test, predict), strict=True)
        )
        tables: dict[StageName, Table] = {name: table for name, table in stages if table is not None}
        read = [table.inputs for table in tables.values() if isinstance(table.inputs, Histories)]
        if read:
            options |= _told_by(read)
            if horizon is None and {*tables} - {"predict"}:
                raise ConfigError("horizon is missing: how many steps to forecast")
            own = Series().with_options({name: options[name] for name in Series().settings if name in options})
            since = given(val=val_from, test=test_from)
            tables = _windows(tables, own, {"train": stride, "val": judged_stride, "test": judged_stride}, since)
        super().__init__(**tables, **options)  # type: ignore[arg-type]

    @classmethod
    def folder_table(cls, path: Path, labelled: bool) -> Table:
        """Say that series come as tables.

        Raises:
            DataError: always.
        """
        raise DataError(f"'{path}' is a folder, and series come as tables: from_csv(train_file='sales.csv', ...)")

    @door
    def from_data_frame(  # type: ignore[override]  # a row has several columns
        cls,
        stage: Stage,
        data_frame: Any,
        *,
        time_field: str | None = None,
        target_fields: Names = None,
        series_field: str | None = None,
        known_fields: Names = None,
        observed_fields: Names = None,
        static_fields: Names = None,
        frequency: str | None = None,
        fill: str | None = None,
    ) -> Table:
        """Take a table in long form from memory.

        Args:
            time_field: the column of the times: dates, or whole numbers; default: one that is called so.
            target_fields: the column, or the columns, to forecast.
            series_field: the column that names each row's series; default: all rows are of one.
            known_fields: covariates that are known ahead; that of the times may be one, for its weekday and month.
            observed_fields: covariates that are known once they are past.
            static_fields: what is the same in all rows of a series.
            frequency: the step from one time to the next, such as ``"15min"``, ``"h"``, ``"D"``, ``"B"``, ``"W"``,
                ``"MS"``, ``"ME"``, ``"QS"``; default: the one that most times have.
            fill: what stands for targets that are missing, and at times that are: ``"last"`` or ``"zero"``; default:
                there may be none. No forecast is judged by it.
            data_frame: a frame of pandas or polars, a table of pyarrow, a dict of columns, or a list of dicts, per
                stage.
            options: see the class.

        Raises:
            ConfigError: it is not said what to forecast, or how far.
            DataError: a column or a cell is missing, a time comes twice or is not on the grid, or there are too few
                rows; the message names series and row.
        """
        columns = columns_of(data_frame)
        fields = fields_of(
            columns, time_field, target_fields, series_field, known_fields, observed_fields, static_fields
        )
        return Table(read_histories(columns, fields, frequency, fill))

    @door
    def from_csv(  # type: ignore[override]
        cls,
        stage: Stage,
        file: Path,
        *,
        time_field: str | None = None,
        target_fields: str | Sequence[str] | None = None,
        series_field: str | None = None,
        known_fields: str | Sequence[str] | None = None,
        observed_fields: str | Sequence[str] | None = None,
        static_fields: str | Sequence[str] | None = None,
        frequency: str | None = None,
        fill: str | None = None,
    ) -> Table:
        """Read a table in long form from a file: CSV, ``.jsonl``, ``.json`` or ``.parquet``; see ``from_data_frame``.

        Args:
            time_field: the column of the times: dates, or whole numbers; default: one that is called so.
            target_fields: the column, or the columns, to forecast.
            series_field: the column that names each row's series; default: all rows are of one.
            known_fields: covariates that are known ahead; that of the times may be one.
            observed_fields: covariates that are known once they are past.
            static_fields: what is the same in all rows of a series.
            frequency: the step from one time to the next, such as 15min, h, D, B, W, MS; default: as most times have.
            fill: what stands for what is missing, last or zero; default: nothing may be.
            file: comma-separated UTF-8 text whose first line names the columns, which may be compressed, ``.csv.gz``,
                per stage.
            options: see the class.

        Raises:
            DataError: a file is no such table, or see ``from_data_frame``.
        """
        columns = file_columns(file, None)
        fields = fields_of(
            columns, time_field, target_fields, series_field, known_fields, observed_fields, static_fields
        )
        try:
            return Table(read_histories(columns, fields, frequency, fill))
        except DataError as error:
            raise DataError(f"'{file}': {error} (rows are counted from 0)") from error

    from_json = from_csv


def fields_of(
    columns: Mapping[str, Any],
    time: str | None,
    targets: Names,
    series: str | None = None,
    known: Names = None,
    observed: Names = None,
    static: Names = None,
) -> Fields:
    """Return what the columns of a table are.

    Raises:
        ConfigError: there is no target, or no column is called as one of times is.
    """
    if not several(targets):
        raise ConfigError("target_fields is missing: name the column, or the columns, to forecast")
    if time is None:
        time = next((name for called in _TIMES for name in columns if name.lower() == called), None)
        if time is None:
            raise ConfigError("time_field is missing: name the column of the times")
    return Fields(time, several(targets), series, several(known), several(observed), several(static))


def _told_by(read: Sequence[Histories]) -> dict[str, Any]:
    """Return the options of ``Series`` that tables were read by, all alike."""
    first = read[0]
    for other in read[1:]:
        if other.step != first.step:
            raise DataError(f"the stages differ in the step of their times, '{first.step}' and '{other.step}'")
    names = ("time_field", "target_fields", "series_field", "known_fields", "observed_fields", "static_fields")
    told = dict(zip(names, first.fields, strict=True))
    return given(**told, frequency=str(first.step), fill=first.fill)


def _windows(
    tables: Mapping[StageName, Table], own: Series, strides: Mapping[str, int], since: Mapping[str, Any]
) -> dict[StageName, Table]:
    """Return the windows of each stage."""
    made: dict[StageName, Table] = {}
    found: dict[StageName, Windows] = {}
    for stage, table in tables.items():
        histories = table.inputs
        if not isinstance(histories, Histories):
            made[stage] = table
        elif stage == "predict":
            made[stage] = Table(windows_at_the_end(histories))
        else:
            try:
                found[stage] = cut(histories, own.horizon, own.lookback(histories.step))
            except DataError as error:
                raise DataError(f"in the {stage} data, {error}") from error
    for stage in ("test", "val"):
        if stage not in since:
            continue
        if stage in found or "train" not in found:
            raise ConfigError(
                f"{stage}_from takes {stage} data from the training data: give train data and no {stage} data"
            )
        whole = found["train"]
        rest, part = whole.at(time_of(since[stage], whole.histories, f"{stage}_from"))
        if not len(rest) or not len(part):
            raise DataError(
                f"{stage}_from={since[stage]!r} leaves {'no window to train on' if not len(rest) else 'nothing'} "
                f"{'before' if not len(rest) else 'from'} it: the first forecast begins with "
                f"{whole.histories.where(int(whole.origins[0]))}, the last with "
                f"{whole.histories.where(int(whole.origins[-1]))}, and horizon={own.horizon}"
            )
        found["train"], found[stage] = whole.select(rest), whole.select(part)
    for stage, windows in found.items():
        season = own.season or windows.histories.step.season
        made[stage] = judged_table(windows.thinned(strides[stage]), season, stage != "train")
    return {stage: made[stage] for stage in STAGES if stage in made}


class TabularForecaster(Task):
    """Forecasts series; see ``Task`` for the arguments.

    Those of the answers are the options of ``kinds.forecasting.Forecasting``. The default backbone, ``"nlinear"``, is a
    linear map of what is past; ``"nhits"`` sees it at several rates. ``"seasonal_naive"`` needs no training, and is
    what others must surpass.
    """

    modality = Series()
    answers: ClassVar[type[Kind]] = Forecasting
    kind: Forecasting

    @classmethod
    def closed_form(
        cls,
        data: TabularForecastingData,
        penalty: float | Sequence[float] = _PENALTIES,
        quantiles: Sequence[float] = QUANTILES,
    ) -> Self:
        """Return the linear forecaster of the least squares, at once: ridge regression of what follows on what is past.

        It is what training of ``backbone="nlinear"`` by the mean squared error comes to. Quantiles are those of what
        the validation data leaves unexplained, or the training data where there is none, at each step ahead.

        Args:
            data: to train on, and to validate by.
            penalty: of the weights, in parts of the windows; of several, the one of the least squared error on the
                validation data; without any, the largest.
            quantiles: that are told; none: the mean alone.

        Raises:
            DataError: there is nothing to train on.
        """
        model = cls(backbone="nlinear", quantiles=tuple(quantiles))
        model.meet(data, "fit")
        assert isinstance(model.head, ForecastHead)
        gram, product = _normal_equations(model, data)
        judging: StageName = "train" if data.table("val") is None else "val"
        penalties = sorted([penalty] if isinstance(penalty, (int, float)) else penalty)
        best: tuple[float, Tensor, Tensor] | None = None
        for one in penalties if judging == "val" else penalties[-1:]:
            weight = _solved(gram, product, one)
            off = _residuals(model, data, judging, weight)
            error = float(off.square().mean())
            if best is None or error < best[0]:
                best = error, weight, off
        assert best is not None
        _, weight, off = best
        levels = torch.tensor(quantiles or (0.0,), dtype=torch.float64)
        shifts = torch.quantile(off, levels, 0).T if quantiles else torch.zeros(off.shape[1], 1, dtype=torch.float64)
        with torch.no_grad():
            rows = weight.T.repeat_interleave(len(levels), 0)
            model.head.linear.weight.copy_(rows[:, :-1])
            model.head.linear.bias.copy_(rows[:, -1] + shifts.flatten())
        return model


def _features(model: TabularForecaster, batch: Any) -> tuple[Tensor, Tensor]:
    """Return the features and a one of each target, and what follows, in its units: ``[M, D + 1]``, ``[M, H]``."""
    inputs, targets = batch["input"], batch["target"]
    features = model.encoder(inputs).unflatten(1, (len(model.kind.targets), -1)).double().flatten(0, 1)
    values = (targets["values"] - inputs["level"][:, None]) / inputs["spread"][:, None]
    whole = targets["seen"].all(1).flatten()
    return torch.cat([features, features.new_ones(len(features), 1)], 1)[whole], values.transpose(1, 2).flatten(0, 1)[
        whole
    ]


@torch.no_grad()
def _normal_equations(model: TabularForecaster, data: TabularForecastingData) -> tuple[Tensor, Tensor]:
    gram = product = None
    many = 0
    for batch in _batches(data, "train"):
        features, values = _features(model, batch)
        many += len(features)
        own, other = features.T @ features, features.T @ values
        gram, product = (own, other) if gram is None or product is None else (gram + own, product + other)
    if gram is None or product is None or not many:
        raise DataError("there is no window without missing targets to learn from: give more rows")
    return gram / many, product / many


def _batches(data: TabularForecastingData, stage: StageName) -> Any:
    """Return batches of a stage, each window once."""
    table = data.table(stage)
    assert table is not None
    samples = data.samples(table, stage, table.annotations)
    at_once = 512
    return (
        samples.batch(np.arange(start, min(start + at_once, len(table)))) for start in range(0, len(table), at_once)
    )


def _solved(gram: Tensor, product: Tensor, penalty: float) -> Tensor:
    """Return the weights, ``[D + 1, H]``, the last of which, the constant, is not held small."""
    scale = gram.diagonal()[:-1].mean().clamp(min=1e-12)
    held = torch.full_like(gram.diagonal(), max(penalty, 1e-12)) * scale  # the last value less itself is always 0
    held[-1] = 1e-12
    weight: Tensor = torch.linalg.solve(gram + torch.diag(held), product)
    return weight


@torch.no_grad()
def _residuals(model: TabularForecaster, data: TabularForecastingData, stage: StageName, weight: Tensor) -> Tensor:
    """Return what is unexplained of some windows, ``[M, H]``."""
    found, many = [], 0
    for batch in _batches(data, stage):
        features, values = _features(model, batch)
        found.append(values - features @ weight)
        many += len(values)
    joined = torch.cat(found)
    return joined if many <= _RESIDUALS else joined[torch.linspace(0, many - 1, _RESIDUALS).long()]
