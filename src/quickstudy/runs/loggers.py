"""Where figures are logged: into the run's folder, and to services by name."""

from __future__ import annotations

import csv
import io
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from quickstudy.errors import ConfigError, DataError, DataWarning, brief, require, unknown
from quickstudy.files import atomic_write

METRICS = "metrics.csv"
PROJECT = "quickstudy"

Asked = bool | str | Logger | Sequence[str | Logger] | None


def check_loggers(asked: Any) -> list[str | Logger]:
    """Return the loggers that were asked for, each a known name or a logger; True asks for TensorBoard.

    Raises:
        ConfigError: a name is unknown, or it is no logger.
        MissingPackageError: the logger's package is not installed.
    """
    if asked is None or isinstance(asked, bool):
        return ["tensorboard"] if asked else []
    listed = list(asked) if isinstance(asked, (list, tuple)) else [asked]
    for one in listed:
        if isinstance(one, str):
            if one not in _NAMED and one != "csv":
                raise unknown("logger", one, ("csv", *_NAMED))
            if one in _SERVICES:
                require(one, one)
        elif not isinstance(one, Logger):
            raise ConfigError(f"logger={brief(one)} is no logger: give True, False, a Logger, or one of csv, {_NAMES}")
    return listed


def build_loggers(asked: Sequence[str | Logger], folder: Path) -> list[Logger]:
    """Make the loggers of a run: ``metrics.csv`` in its folder, and what ``check_loggers`` returned."""
    named = [_NAMED[one](folder) if isinstance(one, str) else one for one in asked if one != "csv"]
    return [Metrics(folder), *named]


class Metrics(Logger):
    """Writes ``metrics.csv``: a row at once for whatever is logged together, with its epoch and step."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._path = folder / METRICS
        self._columns: list[str] = []  # of the file, once this process wrote it

    @property
    def name(self) -> str:
        """Nothing: the folder has the name."""
        return ""

    @property
    def version(self) -> str:
        """Nothing either."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run's folder."""
        return str(self._path.parent)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Write nothing: ``run.json`` has them."""

    @rank_zero_only
    def go_on(self, step: int) -> None:
        """Forget the rows of the steps from one on, which are done again; a damaged file is set aside."""
        try:
            before = read_metrics(self._path.parent)
        except DataError as error:
            self._path.replace(self._path.with_name(f"{METRICS}.damaged"))
            warnings.warn(f"{error}. It is set aside as '{METRICS}.damaged'", DataWarning, 2)
            before = []
        self._write([row for row in before if row.get("step", 0) < step])

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write a row."""
        row = {"step": step, **metrics}
        if set(row) <= set(self._columns):
            with self._path.open("a", encoding="utf-8", newline="") as file:
                file.write(self._text(row))
        else:  # with more columns, or without having read the file
            self._write([*read_metrics(self._path.parent), row])

    def _write(self, rows: list[dict[str, Any]]) -> None:
        self._columns = list(dict.fromkeys(name for row in rows for name in row))
        with atomic_write(self._path, "w") as file:
            file.write(self._text(self._columns, *rows) if rows else "")

    def _text(self, *rows: Mapping[str, Any] | list[str]) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        for row in rows:
            writer.writerow(row if isinstance(row, list) else [row.get(name, "") for name in self._columns])
        return text.getvalue()


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """Return the rows of a run's ``metrics.csv``, each with the figures that it has; none where there is no file.

    Raises:
        DataError: the file is damaged.
    """
    path = folder / METRICS
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines(True)
        whole = [line for line in lines if line.endswith("\n")]  # a killed process may have left part of one
        return [{name: _number(name, text) for name, text in row.items() if text} for row in csv.DictReader(whole)]
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"'{path}' is damaged ({error}): remove it") from error


def _number(name: str, text: str) -> float:
    return int(float(text)) if name in ("step", "epoch") else float(text)


class Events(TensorBoardLogger):
    """TensorBoard's events, in the run's folder itself: ``tensorboard --logdir runs`` compares runs."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, name="", version="", default_hp_metric=False)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Write nothing: ``run.json`` has them."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write the figures that are numbers: one of a class that no example is of is none, and has no curve."""
        super().log_metrics({name: value for name, value in metrics.items() if math.isfinite(value)}, step)

    def save(self) -> None:
        """Write no file of options either."""


class TrackioLogger(Logger):
    """Hugging Face's trackio, a local dashboard: https://huggingface.co/docs/trackio."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._name = folder.name
        self._run: Any = None
        self._options: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """The project's."""
        return os.environ.get("TRACKIO_PROJECT", PROJECT)

    @property
    def version(self) -> str:
        """The run's name."""
        return self._name

    def log_hyperparams(self, params: Any = None, *args: Any, **kwargs: Any) -> None:
        """Keep the options, with which the run begins."""
        self._options = dict(params or {})

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log figures."""
        if self._run is None:
            trackio = require("trackio", "trackio")
            self._run = trackio.init(project=self.name, name=self._name, config=self._options, resume="allow")
        self._run.log(dict(metrics), step=step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End the run."""
        if self._run is not None:
            self._run.finish()
            self._run = None


def _wandb(folder: Path) -> Logger:
    return WandbLogger(name=folder.name, save_dir=folder, project=os.environ.get("WANDB_PROJECT", PROJECT))


def _mlflow(folder: Path) -> Logger:
    place = require("mlflow", "mlflow").get_tracking_uri()  # Lightning's own default is one that mlflow has given up
    return MLFlowLogger(os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT), run_name=folder.name, tracking_uri=place)


_NAMED = {"tensorboard": Events, "wandb": _wandb, "mlflow": _mlflow, "trackio": TrackioLogger}
_SERVICES = ("wandb", "mlflow", "trackio")
_NAMES = ", ".join(_NAMED)
