"""The folder that a run leaves: what it was, its figures, its checkpoints, and a page to look at.

``run.json`` has options, versions and the data's fingerprints; ``metrics.csv`` the figures; ``best.ckpt`` the model of
the best validation, where there is validation data; ``last.ckpt`` and ``previous.ckpt`` the newest; ``test.json`` what
a test measured, ``test.safetensors`` that of each episode or example; ``curves.png`` and ``report.html`` show it all.
"""

from __future__ import annotations

import itertools
import json
import math
import shlex
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback, Checkpoint, EarlyStopping, ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from quickstudy.data.episodes import EpisodePlan, GroupPlan
from quickstudy.errors import ConfigError, DataError, DataWarning, shown
from quickstudy.files import BEST_FILE, alone, atomic_write
from quickstudy.kinds.base import ACCURACY, Score
from quickstudy.kinds.metrics import Estimate
from quickstudy.runs.loggers import Metrics, read_metrics
from quickstudy.runs.report import (
    NAMED,
    Picture,
    Row,
    class_listing,
    confusion_listing,
    confusion_picture,
    curves_picture,
    found_listing,
    parts_listing,
    write_report,
)
from quickstudy.runs.results import (
    against,
    chance,
    covers,
    estimate_of,
    in_sizes,
    measured_on,
    naming,
    of_an_episode,
    of_labels,
    score_in,
    unit_in,
    versions,
)
from quickstudy.runs.resuming import KeepLast
from quickstudy.runs.time_limit import WithinTime
from quickstudy.training.checkpoint import plain
from quickstudy.training.mistakes import Mistake
from quickstudy.training.outcome import Outcome
from quickstudy.training.processes import is_first

RUNS = Path("runs")
RECORD, MEASURED, TESTED, CURVES, REPORT = "run.json", "test.json", "test.safetensors", "curves.png", "report.html"
MISTAKES = "mistakes"
"""The folder of drawings of a test's worst answers."""
_RECORDED = ("time", "command", "versions", "trainer", "data", "model")
_DRAWN = 250  # classes of a matrix whose cells can be seen
_WORDS = 300  # letters of an error
_FEW = 6  # classes of a matrix that a narrow screen shows whole
_WEIGHTS = {
    "as trained": "'As trained' is the model as its last step left it.",
    "best": "'best' is the model after the epoch whose validation was best.",
    "last": "'last' is the model as its last step left it.",
}


def new_folder(root: Path = RUNS) -> Path:
    """Make the next free folder of ``root/1``, ``root/2``, ...; of several processes only the first does.

    Returns:
        The folder; on the other processes, which write nothing, ``root``.
    """
    if not is_first():
        return root
    root.mkdir(parents=True, exist_ok=True)
    taken = [int(path.name) for path in root.iterdir() if path.name.isdecimal()]
    for number in itertools.count(max(taken, default=0) + 1):
        try:
            (root / str(number)).mkdir()
        except FileExistsError:  # another run was faster
            continue
        return root / str(number)
    raise AssertionError


@contextmanager
def holding(folder: Path | None) -> Iterator[None]:
    """Hold a run's folder while it trains; of several processes the first does. What came to nothing is removed.

    Raises:
        ConfigError: another process holds it.
    """
    if folder is None or not is_first():
        yield
        return
    try:
        with ExitStack() as held:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                held.enter_context(alone(folder / ".lock", wait=False))
            except BlockingIOError as error:
                raise ConfigError(f"another process is training in '{folder}': name another folder") from error
            except OSError:  # a file system without locks, or one that cannot be written: the run will say so
                pass
            before = set(folder.glob("events.*"))
            try:
                yield
            finally:
                if not (folder / RECORD).exists():
                    for events in set(folder.glob("events.*")) - before:
                        events.unlink()
    finally:
        with suppress(OSError):  # which it is to be, unless it is empty
            folder.rmdir()


class KeepBest(ModelCheckpoint):
    """Keeps the model of the best validation, ``best.ckpt``, also where the folder has been moved since.

    Args:
        folder: the run's.
        score: what is best by it.
    """

    def __init__(self, folder: Path, score: Score = ACCURACY) -> None:
        name = Path(BEST_FILE).stem
        super().__init__(folder, name, monitor=f"val_{score.name}", mode=score.best, enable_version_counter=False)

    def check_monitor_top_k(self, trainer: Any, current: Any = None) -> bool:
        """Return whether it is better; a validation that was cut short is not compared with a whole one."""
        cut = any(isinstance(callback, WithinTime) and callback.cut for callback in trainer.callbacks)
        return not (cut and self.best_model_path) and super().check_monitor_top_k(trainer, current)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the best so far, which lies in the folder whatever it was called; if not, with none."""
        here = str(Path(str(self.dirpath)) / BEST_FILE)
        if not Path(here).exists():  # the run goes on in another folder
            return
        scores = dict.fromkeys([here] if state_dict["best_k_models"] else [], state_dict["best_model_score"])
        paths = {"dirpath": self.dirpath, "best_model_path": here, "kth_best_model_path": here}
        super().load_state_dict({**state_dict, **paths, "best_k_models": scores})


class Patience(EarlyStopping):
    """Stops a run that gets no better, by the patience that it is given, whatever it began with.

    Args:
        patience: validations without a better one.
        score: what is better by it.
    """

    def __init__(self, patience: int, score: Score = ACCURACY) -> None:
        super().__init__(f"val_{score.name}", mode=score.best, patience=patience)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with what was seen."""
        super().load_state_dict({**state_dict, "patience": self.patience})


def judging_by(score: Score, there: list[Callback]) -> list[Callback]:
    """Return the callbacks with those of ours that go by another score's name replaced: a run judges by one."""
    monitor = f"val_{score.name}"
    others = [each for each in there if isinstance(each, (KeepBest, Patience)) and each.monitor != monitor]
    anew: list[Callback] = [Patience(each.patience, score) for each in others if isinstance(each, Patience)]
    return [*(each for each in there if each not in others), *anew]


def checkpoints(folder: Path, validates: bool, there: list[Callback], score: Score = ACCURACY) -> list[Checkpoint]:
    """Return the callbacks that keep the best model, if it is validated, and the last, but for those that there are."""
    kept: list[Checkpoint] = []
    if validates and not any(isinstance(callback, ModelCheckpoint) for callback in there):
        kept.append(KeepBest(folder, score))
    if not any(isinstance(callback, KeepLast) for callback in there):
        kept.append(KeepLast(folder))
    return kept


class Record(Callback):
    """Writes ``run.json`` when training begins; for each further training in the folder, adds when and with what.

    Args:
        folder: the run's.
        data: the table of each stage; None where there is none.
        data_options: how it is loaded and shared out.
        options: the trainer's.
    """

    def __init__(
        self, folder: Path, data: Mapping[str, Any], data_options: Mapping[str, Any], options: Mapping[str, Any]
    ) -> None:
        self._path, self._options = folder / RECORD, dict(options)
        self._data: dict[str, Any] = {"options": dict(data_options)} | {
            stage: {"examples": len(table), "classes": len(table.classes), "fingerprint": table.fingerprint}
            for stage, table in data.items()
            if table is not None
        }

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Tell every process the folder, which the first has made."""
        trainer.run_folder = Path(trainer.strategy.broadcast(str(trainer.run_folder)))

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Write, and forget the figures of steps that are done again."""
        if not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            if isinstance(logger, Metrics):
                logger.go_on(trainer.global_step)
        now = {
            "time": _now(),
            "command": typed(),
            "versions": versions(),
            "trainer": self._options | {"processes": trainer.world_size, "precision": str(trainer.precision)},
            "data": self._data,
        }
        record = _read_or_set_aside(self._path) if self._path.exists() else None
        if record is not None:
            before, after = (data.get("val", {}).get("fingerprint") for data in (_newest_data(record), self._data))
            if before != after:
                warnings.warn(
                    f"the validation data is not what '{self._path.parent}' began with: its best.ckpt was chosen by "
                    "other data",
                    DataWarning,
                    2,
                )
            record["resumed"] = [*record.get("resumed", []), now]
        else:
            options = {name: value if plain(value) else repr(value) for name, value in dict(pl_module.hparams).items()}
            code = dict.fromkeys(getattr(pl_module, "unsaved", ()), "code")
            record = now | {"model": {"class": type(pl_module).__name__, **options, **code}}
            record |= naming(pl_module.score)
            if pl_module.kept_by != pl_module.score:
                record["kept_by"] = pl_module.kept_by._asdict()
        self._write(record)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Note why it ended."""
        self._note_end(trainer, _why_ended(trainer))

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Note what ended it."""
        if trainer.state.fn == "fit":
            self._note_end(trainer, _what_ended(exception, trainer.global_step))

    def _note_end(self, trainer: Any, reason: str) -> None:
        if not trainer.is_global_zero or not self._path.exists():
            return
        with suppress(DataError):  # of a damaged one the page tells
            record = read_json(self._path, *_RECORDED)
            [record, *record.get("resumed", ())][-1]["ended"] = reason
            self._write(record)

    def _write(self, record: Mapping[str, Any]) -> None:
        with atomic_write(self._path, "w") as file:
            json.dump(record, file, indent=1)


def typed() -> str:
    """Return what one types to run this process again, in the folder that it was run in."""
    program = Path(sys.argv[0])
    module = getattr(getattr(sys.modules.get("__main__"), "__spec__", None), "name", None)
    if module is not None:
        called = ["python", "-m", module.removesuffix(".__main__")]
    elif program.suffix == ".py":
        called = ["python", program.name if program.is_absolute() else str(program)]
    else:
        called = [program.name]
    return shlex.join([*called, *sys.argv[1:]])


def _why_ended(trainer: Any) -> str:
    """Say why a training is over that nothing interrupted."""
    callbacks: list[Any] = trainer.callbacks
    if any(isinstance(callback, WithinTime) and callback.ended for callback in callbacks):
        return "it ended since its time was up (max_time)"
    for callback in callbacks:
        if isinstance(callback, EarlyStopping) and callback.wait_count >= callback.patience:
            times = f"{callback.patience} validations" if callback.patience > 1 else "a validation"
            return f"it ended after {times} without a better {callback.monitor} (patience)"
    if -1 < trainer.max_steps <= trainer.global_step:
        return f"it ended when all {trainer.max_steps} steps were done (max_steps)"
    if trainer.max_epochs is not None and -1 < trainer.max_epochs <= trainer.current_epoch:
        return f"it ended when all {trainer.max_epochs} epochs were done (max_epochs)"
    return "it ended since a callback, or Lightning, stopped it"


def _what_ended(exception: BaseException, step: int) -> str:
    """Say what ended a training early."""
    if isinstance(exception, KeyboardInterrupt):
        return f"it was interrupted (Ctrl-C) after step {step}"
    if isinstance(exception, SIGTERMException):
        return f"it was terminated (SIGTERM) after step {step}"
    told = " ".join(str(exception).split())
    words = told if len(told) <= _WORDS else f"{told[:_WORDS]}..."
    return f"it was ended after step {step} by an error: {type(exception).__name__}{f': {words}' if words else ''}"


def write_measured(
    folder: Path,
    result: Mapping[str, Any],
    weights: str,
    options: Mapping[str, Any] | None = None,
    outcome: Outcome | None = None,
    mistakes: Sequence[Mistake] = (),
) -> None:
    """Write ``test.json`` and ``test.safetensors``, and show them on the page.

    Args:
        folder: of a run.
        result: what ``result_of`` returned.
        weights: which were tested: a checkpoint's name, or ``"as trained"``.
        options: of ``quickstudy test``, so that ``quickstudy verify`` can do the same again.
        outcome: what the test saw of each episode or example.
        mistakes: the examples with the worst answers, which are drawn on the page.
    """
    told = dict(result)
    for old in (folder / MISTAKES).glob("[0-9]*"):
        old.unlink()
    for number, mistake in enumerate(mistakes, 1):
        with atomic_write(folder / MISTAKES / f"{number}.jpg") as file:
            file.write(mistake.drawing)
    if mistakes:
        told["mistakes"] = [mistake.caption for mistake in mistakes]
    if outcome is None or not len(outcome.figures):
        (folder / TESTED).unlink(missing_ok=True)
    else:
        outcome.write(folder / TESTED)
    measured = {"time": _now(), "weights": weights, "options": options, "versions": versions(), "result": told}
    with atomic_write(folder / MEASURED, "w") as file:
        json.dump(measured, file, indent=1)
    write_page(folder)


def read_outcome(folder: Path, result: Mapping[str, Any]) -> Outcome | None:
    """Return what ``test.safetensors`` holds; None where there is none, as with tests of earlier versions.

    Raises:
        DataError: it is damaged, or of another test than ``test.json`` has the result of.
    """
    path = folder / TESTED
    if not path.is_file():
        return None
    outcome = Outcome.read(path)
    score = score_in(result)
    value = estimate_of(result, score).mean
    same = len(outcome.figures) == result.get(outcome.unit) and outcome.score == score
    if not same or not abs(outcome.value - value) <= (1e-5 if score.share else 1e-4 * abs(value)):
        raise DataError(f"'{path}' is not of the test that '{folder / MEASURED}' tells of: type quickstudy test again")
    return outcome


def write_page(folder: Path, steps: int = 0) -> None:
    """Write ``curves.png`` and ``report.html`` of what the folder holds; nothing, if training never began.

    ``steps`` is how many were done; figures tell those of whole epochs alone. Where that fails, warns: a page must not
    cost a training its result.
    """
    try:
        if (folder / RECORD).exists():
            _write_page(folder, steps)
    except Exception as error:  # what a row raises that is half known: a task of one's own logs what it likes
        why = error if isinstance(error, (OSError, DataError)) else f"{type(error).__name__}: {error}"
        warnings.warn(f"'{folder / REPORT}' was not written: {why}", DataWarning, 2)


def read_json(path: Path, *needed: str) -> dict[str, Any]:
    """Return what a file of the run's folder holds.

    Raises:
        DataError: it is damaged, or lacks something.
    """
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"'{path}' is damaged ({error}): remove it") from error
    missing = [name for name in needed if not isinstance(found, dict) or name not in found]
    if missing:
        raise DataError(f"'{path}' is damaged (it lacks '{missing[0]}'): remove it")
    return dict(found)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _read_or_set_aside(path: Path) -> dict[str, Any] | None:
    try:
        return read_json(path, *_RECORDED)
    except DataError as error:
        path.replace(path.with_name(f"{path.name}.damaged"))
        warnings.warn(f"{error}. It is set aside as '{path.name}.damaged'", DataWarning, 2)
        return None


def _newest_data(record: Mapping[str, Any]) -> Mapping[str, Any]:
    newest: Mapping[str, Any] = [record, *record.get("resumed", ())][-1].get("data", {})
    return newest


def _write_page(folder: Path, steps: int) -> None:
    rows = read_metrics(folder)
    record = read_json(folder / RECORD, *_RECORDED)
    last = max((place for place, row in enumerate(rows) if "train_loss" in row), default=-1)
    trained = rows[: last + 1]  # what comes later was measured afterwards, perhaps on other data
    score = score_in(record)
    by = Score(**record["kept_by"]) if "kept_by" in record else score
    judged = [row for row in trained if math.isfinite(row.get(f"val_{by.name}", math.nan))]
    order = max if by.best == "max" else min
    best = order(judged, key=lambda row: row[f"val_{by.name}"], default=None)
    steps = max(steps, int(trained[-1]["step"]) + 1 if trained else 0)
    newest = [record, *record.get("resumed", ())][-1]
    estimates, notes, cautions = [], [], []
    pictures, listings = [], []
    lead = f"{steps} steps. {_sentence(newest.get('ended', 'How it ended is not known: it was killed, or still runs'))}"
    plan = plan_of(record)
    if best is not None:
        unit = unit_in(best, "val_")
        count = None if unit is None else int(best[f"val_{unit}"])
        found = estimate_of(best, score, count, "val_")
        guessed = 1 / plan.span("val")[0] if plan is not None and score == ACCURACY else None
        estimates.append(Row("validation, at its best", [found], guessed))
        lead = f"{lead} Validation was best after step {int(best['step']) + 1}, in epoch {int(best['epoch']) + 1}."
        sizes = "" if plan is None or unit != "episodes" else f", {in_sizes(plan.span('val'), *plan.shape('val')[1:])}"
        on = "" if unit is None else f"Validated on {count} {unit}{sizes}. "
        over = f"The interval is of 95%, over these {unit}. " if unit and f"val_{score.name}_ci95" in best else ""
        chose = "The figure" if by == score else f"Their {by.called}, {by.text(best[f'val_{by.name}'])},"
        notes.append(
            f"{on}{over}{chose} chose the epoch, so it flatters the model: judge it by data that chose nothing "
            "(quickstudy test)."
        )
        if parts := validated_classes(best, score):
            least = next(iter(parts.values())).mean
            weakest = shown(name for name, each in parts.items() if each.mean == least)
            notes.append(f"Weakest of its {len(parts)} classes: {weakest}, with {score.text(least)}.")
            listings.append(parts_listing(parts, score))
    if (folder / MEASURED).exists():
        measured = read_json(folder / MEASURED, "time", "weights", "result")
        result = measured["result"]
        if measured["time"] < newest["time"]:
            notes.append("Training went on since it was tested: type quickstudy test again.")
        else:
            found = estimate_of(result, score, result.get(unit_in(result)))
            guessing = chance(result)
            of_classes = result.get(f"{score.name}_ci95_classes")
            also = ""
            if of_classes is not None:
                text = (lambda each: f"{100 * each:.1f}") if score.share else None
                also = f"for other classes {score.reach(found.mean, of_classes, text)}"
            weights = measured["weights"]
            estimates.append(Row(f"test, {weights}", [found], guessing and guessing.value, also))
            notes += [f"Tested {measured_on(result)}.", *of_an_episode(result)]
            notes += [f"{told.removeprefix(', ')}."] if (told := of_labels(result)) else []
            notes += [*([guessing.told] if guessing else []), *covers(result)]
            notes += [_WEIGHTS[named]] if (named := weights.removesuffix(".ckpt")) in _WEIGHTS else []
            if guessing and (no_better := against(result, guessing)):
                cautions.append(f"{guessing.told[:-1]}{no_better}.")
            cautions += result.get("notes", [])
            outcome = read_outcome(folder, result)
            if outcome is not None and 1 < len(outcome.classes) <= _DRAWN and len(outcome.confusions):
                matrix = confusion_picture(outcome.confusion_matrix(), outcome.classes)
                wide = _FEW < len(outcome.classes) <= NAMED
                pictures.append(Picture("The test: of each class, in percent, what was answered.", matrix, wide=wide))
            if found_per_class := result.get("found_per_class"):
                listings.append(found_listing(found_per_class, result.get("found_at", "")))
            pictures += _mistakes(folder, result)
            figures = result.get("per_class", result.get("per_label"))
            listings += [class_listing(figures)] if figures else []
            listings += [confusion_listing(result["confusions"])] if result.get("confusions") else []
    if any(name in row for row in trained for name in ("train_loss", "val_loss")):
        with atomic_write(folder / CURVES) as file:
            file.write(curves_picture(trained, ("loss", score.name), score))
        loss, scored = (curves_picture(trained, [what], score) for what in ("loss", score.name))
        band = any(f"val_{score.name}_ci95" in row for row in trained)
        tail = "; the band is the validation's 95% interval" if band else ""
        epochs = len({row.get("epoch") for row in trained})
        caption = f"Loss and {score.called} by step{tail}{'. One epoch gives points, no curve' * (epochs == 1)}."
        pictures.insert(0, Picture(caption, loss, [scored]))
    model = record["model"]
    backbone = "with a backbone of one's own" if model.get("backbone") == "code" else model.get("backbone")
    write_report(
        folder / REPORT,
        title=f"Run {folder.name}: {model.get('training_strategy', '')} {backbone or ''}".strip(),
        lead=lead,
        columns=[score.called],
        rows=estimates,
        notes=notes,
        pictures=pictures,
        details=_details(record),
        cautions=cautions,
        listings=listings,
        score=score,
    )


def _mistakes(folder: Path, result: Mapping[str, Any]) -> list[Picture]:
    """Return the drawings of the worst answers of a test, as far as they are there, side by side."""
    places = [folder / MISTAKES / f"{number}.jpg" for number in range(1, 1 + len(result.get("mistakes", ())))]
    drawn = [place.read_bytes() for place in places if place.is_file()]
    if not drawn:
        return []
    count = f"the {len(drawn)} examples" if len(drawn) > 1 else "the example"
    at = f" {result['found_at']}" if result.get("found_at") else ""
    caption = f"Where the test went wrong: {count} with the worst answers, the worst first.{at}"
    return [Picture(caption, drawn[0], drawn[1:])]


def validated_classes(figures: Mapping[str, float], score: Score) -> dict[str, Estimate]:
    """Return of a validation the score of each class that is logged by itself, the worst first.

    A mean over classes is called ``mean_iou`` or ``map_25``, and its parts ``iou_NAME`` or ``ap_25_NAME``.
    """
    start = f"val_{score.name.removeprefix('mean_').removeprefix('m')}_"
    if start == f"val_{score.name}_":
        return {}
    names = [name for name in figures if name.startswith(start)]
    names = [name for name in names if name.removesuffix("_ci95") == name or name.removesuffix("_ci95") not in figures]
    found = {
        name.removeprefix(start): Estimate(figures[name], figures.get(f"{name}_ci95", math.nan), 0)
        for name in sorted(names, key=figures.__getitem__)
    }
    return {name: estimate for name, estimate in found.items() if math.isfinite(estimate.mean)}


def _sentence(reason: str) -> str:
    return f"{reason[:1].upper()}{reason[1:]}."


def plan_of(record: Mapping[str, Any]) -> EpisodePlan | None:
    """Return the plan of episodes that a record's model had; None without episodes."""
    model, made = record["model"], EpisodePlan if score_in(record) == ACCURACY else GroupPlan
    if model.get("training_strategy", "default") == "default":
        return None
    options = model.get("training_strategy_kwargs") or {}
    return made(**{field.name: options[field.name] for field in fields(made) if field.name in options})


def _details(record: Mapping[str, Any]) -> dict[str, str]:
    """Return what a record says, a line for each thing."""
    lines = {"Command": record["command"], "Begun": record["time"]}
    for name in ("model", "trainer", "versions"):
        given = {key: value for key, value in record[name].items() if value is not None}
        lines[name.capitalize()] = ", ".join(f"{key} {value}" for key, value in given.items())
    for stage, table in _newest_data(record).items():
        lines[f"Data: {stage}"] = ", ".join(f"{key} {value}" for key, value in table.items())
    for number, again in enumerate(record.get("resumed", ()), 1):
        lines[f"Resumed {number}"] = f"{again['time']}: {again['command']}"
    return lines
