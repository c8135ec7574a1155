"""The folder that a run leaves: what it was, its figures, its checkpoints, and a page to look at.

``run.json`` has options, versions and the data's fingerprints; ``metrics.csv`` the figures; ``best.ckpt`` the model of
the best validation, where there is validation data; ``last.ckpt`` and ``previous.ckpt`` the newest; ``test.json`` what
a test measured; ``curves.png`` and ``report.html`` show it all.
"""

from __future__ import annotations

import itertools
import json
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback, Checkpoint, ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only

from quickstudy.checkpoint import plain
from quickstudy.files import atomic_write
from quickstudy.loggers import read_metrics
from quickstudy.metrics import Estimate
from quickstudy.report import Picture, Row, curves_picture, write_report
from quickstudy.results import measured_on, versions
from quickstudy.resuming import LAST, KeepLast

RUNS = Path("runs")
RECORD, MEASURED, CURVES, REPORT = "run.json", "test.json", "curves.png", "report.html"
BEST = "val_accuracy"


def new_folder(root: Path = RUNS) -> Path:
    """Make the next free folder of ``root/1``, ``root/2``, ...; of several processes only the first does.

    Returns:
        The folder; on the other processes, which write nothing, ``root``.
    """
    if getattr(rank_zero_only, "rank", 0) != 0:
        return root
    root.mkdir(parents=True, exist_ok=True)
    taken = [int(path.name) for path in root.iterdir() if path.name.isdigit()]
    for number in itertools.count(max(taken, default=0) + 1):
        try:
            (root / str(number)).mkdir()
        except FileExistsError:  # another run was faster
            continue
        return root / str(number)
    raise AssertionError


def checkpoints(folder: Path, validates: bool, there: list[Callback]) -> list[Checkpoint]:
    """Return the callbacks that keep the best model, if it is validated, and the last, but for those that there are."""
    best = ModelCheckpoint(folder, "best", monitor=BEST, mode="max", enable_version_counter=False)
    kept: list[Checkpoint] = []
    if validates and not any(isinstance(callback, ModelCheckpoint) for callback in there):
        kept.append(best)
    if not any(isinstance(callback, KeepLast) for callback in there):
        kept.append(KeepLast(folder))
    return kept


def best_checkpoint(folder: Path) -> Path | None:
    """Return the best model's checkpoint, or else the last, or None."""
    return next((folder / name for name in ("best.ckpt", LAST) if (folder / name).exists()), None)


class Record(Callback):
    """Writes ``run.json`` when training begins; of a run that goes on, adds when, and with what, it did.

    Args:
        folder: the run's.
        data: the table of each stage; None where there is none.
        options: the trainer's.
    """

    def __init__(self, folder: Path, data: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        self._path, self._options = folder / RECORD, dict(options)
        self._data = {
            stage: {"examples": len(table), "classes": len(table.classes), "fingerprint": table.fingerprint}
            for stage, table in data.items()
            if table is not None
        }

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Write."""
        if not trainer.is_global_zero:
            return
        now = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "versions": versions(),
            "trainer": self._options | {"processes": trainer.world_size, "precision": str(trainer.precision)},
        }
        if self._path.exists():
            record = json.loads(self._path.read_text(encoding="utf-8"))
            record["resumed"] = [*record.get("resumed", []), now]
        else:
            options = {name: value if plain(value) else repr(value) for name, value in dict(pl_module.hparams).items()}
            code = dict.fromkeys(getattr(pl_module, "unsaved", ()), "code")
            record = now | {"model": {"class": type(pl_module).__name__, **options, **code}, "data": self._data}
        with atomic_write(self._path, "w") as file:
            json.dump(record, file, indent=1)


def write_measured(folder: Path, result: Mapping[str, Any], options: Mapping[str, Any] | None = None) -> None:
    """Write ``test.json`` and show it on the page.

    Args:
        folder: of a run.
        result: what ``result_of`` returned.
        options: of ``quickstudy test``, so that ``quickstudy verify`` can do the same again.
    """
    with atomic_write(folder / MEASURED, "w") as file:
        json.dump({"options": options, "versions": versions(), "result": dict(result)}, file, indent=1)
    write_page(folder)


def write_page(folder: Path) -> None:
    """Write ``curves.png`` and ``report.html`` of what the folder holds; nothing, if training never began."""
    if not (folder / RECORD).exists():
        return
    rows = read_metrics(folder)
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    judged = [row for row in rows if BEST in row]
    best = max(judged, key=lambda row: row[BEST], default=None)
    trained = [row for row in rows if not any(name.startswith("test_") for name in row)]
    estimates, notes, lead = [], [], f"{len(trained) and int(trained[-1]['step']) + 1} steps."
    if best is not None:
        units = "episodes" if "val_episodes" in best else "examples"
        count = int(best[f"val_{units}"])
        estimates.append(Row("validation, at its best", [Estimate(best[BEST], best[f"{BEST}_ci95"], count)]))
        lead = f"{lead} Validation was best after step {int(best['step']) + 1}, in epoch {int(best['epoch']) + 1}."
        notes.append(
            f"The interval is of 95%, over {count} {units} of the validation data. That figure chose the epoch, so it "
            "flatters the model: judge it by data that chose nothing (quickstudy test)."
        )
    if (folder / MEASURED).exists():
        result = json.loads((folder / MEASURED).read_text(encoding="utf-8"))["result"]
        ci95 = float("nan") if result["accuracy_ci95"] is None else result["accuracy_ci95"]
        estimates.append(Row("test", [Estimate(result["accuracy"], ci95, 0)]))
        notes.append(f"Tested {measured_on(result)}.")
    pictures = []
    if any(name in row for row in trained for name in ("train_loss", "val_loss")):
        picture = curves_picture(trained)
        with atomic_write(folder / CURVES) as file:
            file.write(picture)
        pictures.append(Picture("Loss and accuracy by step; the band is the validation's 95% interval.", picture))
    model = record["model"]
    write_report(
        folder / REPORT,
        title=f"Run {folder.name}: {model.get('training_strategy', '')} {model.get('backbone') or ''}".strip(),
        lead=lead,
        columns=["accuracy"],
        rows=estimates,
        notes=notes,
        pictures=pictures,
        details=_details(record),
    )


def _details(record: Mapping[str, Any]) -> dict[str, str]:
    """Return what a record says, a line for each thing."""
    lines = {"Command": record["command"], "Begun": record["time"]}
    for name in ("model", "trainer", "versions"):
        given = {key: value for key, value in record[name].items() if value is not None}
        lines[name.capitalize()] = ", ".join(f"{key} {value}" for key, value in given.items())
    for stage, table in record["data"].items():
        lines[f"Data, {stage}"] = ", ".join(f"{key} {value}" for key, value in table.items())
    for number, again in enumerate(record.get("resumed", ()), 1):
        lines[f"Resumed {number}"] = f"{again['time']}: {again['command']}"
    return lines
