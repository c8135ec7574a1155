"""The conformance suite of a domain: from its data to a saved model, what must hold of the whole.

from quickstudy.testing import check_domain
check_domain(SignalData, SignalClassifier, ["a/1.wav", "a/2.wav", ...], ["a", "a", ...])
"""

from __future__ import annotations

import copy
import math
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from quickstudy.batches import stack
from quickstudy.data.sources import listed_table
from quickstudy.data.table import Table
from quickstudy.data.targets import Encoded
from quickstudy.errors import ConfigError, DataWarning, brief
from quickstudy.files import LAST
from quickstudy.kinds.predictions import plain_answer
from quickstudy.learning.changes import UNKNOWN
from quickstudy.nets.registry import BACKBONES
from quickstudy.predictor import Predictor
from quickstudy.testing.demands import NonconformingError, demand, quiet, quiet_trainer
from quickstudy.testing.served import check_served, near
from quickstudy.trained import TrainedModel
from quickstudy.trainer import Trainer
from quickstudy.training.datamodule import DataModule
from quickstudy.training.task import Task

_FEW_SHOT: dict[str, dict[str, Any]] = {"prototypicalnetworks": {}, "maml": {"head": "shared"}}
_PLAN = {"ways": 2, "shots": 1, "queries": 1, "meta_batch_size": 2, "epoch_length": 4, "test_epoch_length": 4}
_EXPORTED = "prototypicalnetworks"
_EPOCHS, _STEPS = 2, 2
_STOPS_AFTER = 3
_LEAST = 4
"""Examples of a class: half of them are trained on, and an episode needs two."""
_ALIKE, _ROUNDED = 1e-4, 1e-5
"""Of float32: answers to other batches, whose sums are taken in another order; and of weights that lie otherwise in
memory, as those that a loop has found do once they are saved."""


def check_domain(
    data: type[DataModule],
    tasks: type[Task] | Sequence[type[Task]],
    items: Sequence[Any],
    labels: Sequence[Any],
    *,
    backbone: str | nn.Module | None = None,
    exports: bool = True,
    **options: Any,
) -> None:
    """Check a domain against the contract: it trains, tests, resumes, learns, answers, is saved, exported and served.

    It takes seconds.

    Args:
        data: the domain's data.
        tasks: one of its tasks or several, which all take these labels.
        items: some inputs as users have them: files, or whatever else the modality reads.
        labels: of each; of two classes or more, each with four items or more. Or numbers, where a task answers such.
        backbone: the network; default: the domain's own, without trained weights.
        exports: whether the network can be written as a graph; False for one that torch cannot trace, as those whose
            shapes follow from values.
        options: of the data.

    Raises:
        NonconformingError: a check failed; the message names the task, the strategy and the check.
        ConfigError: there are too few items to check by.
        MissingPackageError: a package that exporting or serving needs is not installed.
    """
    for task in [tasks] if isinstance(tasks, type) else tasks:
        told = task.answers.encode(labels)
        names = isinstance(told, Encoded) and bool(told.classes) and all(isinstance(one, (str, int)) for one in labels)
        train, test = _halves(items, [str(label) for label in labels] if names else labels, names)
        for strategy in ("default", *(_FEW_SHOT if names else ())):
            with (
                tempfile.TemporaryDirectory() as folder,
                _told_of(task, strategy),
                quiet(),
                _by_name(backbone) as network,
            ):
                _check(_Run(data, task, strategy, train, test, names, network, exports, options, Path(folder)))


@contextmanager
def _by_name(backbone: str | nn.Module | None) -> Iterator[str | None]:
    """Give a network a name meanwhile, by which files and the service know it."""
    if not isinstance(backbone, nn.Module):
        yield backbone
        return
    network, name = backbone, f"the {type(backbone).__name__} that is checked"

    def build() -> nn.Module:
        return copy.deepcopy(network)

    build.reads = getattr(network, "reads", {})  # type: ignore[attr-defined]
    with BACKBONES.meanwhile(name, build):
        yield name


_Examples = tuple[list[Any], list[Any]]


def _halves(items: Sequence[Any], labels: Sequence[Any], names: bool) -> tuple[_Examples, _Examples]:
    if len(items) != len(labels):
        raise ConfigError(f"{len(items)} items but {len(labels)} labels: each needs one")
    rows: dict[Any, list[int]] = {}
    for row, label in enumerate(labels):
        rows.setdefault(label if names else None, []).append(row)
    if (names and len(rows) < _PLAN["ways"]) or min(map(len, rows.values()), default=0) < _LEAST:
        counts = {name: len(some) for name, some in rows.items()}
        raise ConfigError(f"the checks need two classes or more, each with {_LEAST} items or more; these are {counts}")
    halves = [[row for some in rows.values() for row in some[begin::2]] for begin in (0, 1)]
    train, test = (([items[row] for row in half], [labels[row] for row in half]) for half in halves)
    return train, test


@dataclass(frozen=True)
class _Run:
    """One task, trained by one strategy, as often as is asked for."""

    kind: type[DataModule]
    task: type[Task]
    strategy: str
    train: _Examples
    test: _Examples
    names: bool
    """Whether answers are classes."""
    backbone: str | None
    exports: bool
    options: Mapping[str, Any]
    folder: Path

    @property
    def fixed(self) -> bool:
        """Whether what is trained answers by itself."""
        return self.strategy == "default"

    def data(self) -> DataModule:
        items, labels = self.test
        # Who learns from episodes is judged on classes that it never saw: these are called by other names.
        labels = labels if self.fixed else [f"new {label}" for label in labels]
        at_once = math.ceil(len(self.train[0]) / _STEPS)
        return self.kind(
            train=self._table(*self.train),
            test=self._table(items, labels),
            batch_size=at_once,
            **self.options,
        )

    def asked(self) -> DataModule:
        """Return what to answer alone, which is read as the model says."""
        return self.kind(predict=self._table(self.test[0], None), **self.options)

    def _table(self, items: list[Any], labels: list[Any] | None) -> Table:
        modality = self.kind.modality
        named = modality.in_cells or all(isinstance(item, (str, os.PathLike)) for item in items)
        return listed_table(items, labels, modality.column if named else list, encode=self.kind.encode)

    def model(self) -> Task:
        torch.manual_seed(0)
        return self.task(
            backbone=self.backbone,
            pretrained=False,
            learning_rate=1e-3,
            training_strategy=self.strategy,
            training_strategy_kwargs=None if self.fixed else {**_PLAN, **_FEW_SHOT[self.strategy]},
        )

    def fitted(self, name: str, **options: Any) -> tuple[Trainer, Task]:
        options = {"max_epochs": _EPOCHS, "default_root_dir": self.folder / name, "resume": "auto", **options}
        trainer, model = quiet_trainer(**options), self.model()
        trainer.finetune(model, datamodule=self.data())
        return trainer, model


def _check(run: _Run) -> None:
    with _demanded("it trains on a few examples"):
        trainer, model = run.fitted("whole")
    _is_tested(run, trainer, model)
    _resumes(run, model)
    with _demanded("a checkpoint is read"):
        read = run.task.load_from_checkpoint(run.folder / "whole" / LAST)
    if run.fixed:
        _answers_by_itself(run, model, read)
    if not model.kind.annotates:
        _learns_from_a_few(run, model, read)


def _is_tested(run: _Run, trainer: Trainer, model: Task) -> None:
    with _demanded("it is tested"):
        (figures,) = trainer.test(model, datamodule=run.data(), verbose=False)
    name = f"test_{model.score.name}"
    for needed in (name, f"{name}_ci95"):
        value = figures.get(needed, math.nan)
        demand(math.isfinite(value), "a test gives the score and its interval", f"'{needed}' is {value}: {figures}")


def _resumes(run: _Run, whole: Task) -> None:
    with _demanded("a run that was stopped goes on"):
        run.fitted("stopped", max_steps=_STOPS_AFTER)
        trainer, model = run.fitted("stopped")
    steps = _EPOCHS * _STEPS
    demand(trainer.global_step == steps, "a run that was stopped goes on to its end", f"step {trainer.global_step}")
    one, other = whole.state_dict(), model.state_dict()
    differing = [name for name in one if name not in other or not torch.equal(one[name], other[name])]
    demand(one.keys() == other.keys() and not differing, "a run that goes on ends with the same weights", differing[:3])


# ---- fixed answers


def _answers_by_itself(run: _Run, model: Task, read: Task) -> None:
    items, forms = run.test[0], model.kind.forms
    form = next((form for form in forms if form == "logits"), forms[0])

    def ask(asked: TrainedModel, inputs: Any) -> Any:
        return asked.predict(inputs, form)

    with _demanded("it answers without Lightning"):
        trained = model.predictor()
        trained.predict(items)
    _one_several_and_batches(trained, items, ask)
    for form in forms:
        with _demanded("it predicts"):
            found = quiet_trainer().predict(model, datamodule=run.asked(), output=form)
            again = quiet_trainer().predict(read, datamodule=run.asked(), output=form)
            alone = trained.predict(items, form)
        demand(_same(found, again), "a checkpoint answers as the model did", _differing(form, found, again))
        demand(_alike(found, alone), "it answers alike without Lightning", _differing(form, found, alone))
    with _demanded("a trained model is saved and read"):
        trained.save(run.folder / "trained")
        kept = TrainedModel.load(run.folder / "trained")
        one, other = ask(trained, items), ask(kept, items)
    demand(_same(one, other), "a saved model answers as it did", _differing(form, one, other))
    with _demanded("a trained model is served"):
        check_served(run.folder / "trained", trained, items, _ALIKE)
    if run.exports:
        with _demanded("a trained model is exported"):
            trained.export(run.folder / "trained.pt2", inputs=items)


def _one_several_and_batches(model: Any, items: list[Any], ask: Any) -> None:
    with _demanded("it takes a list of items, single ones, and a batch"):
        together = ask(model, items)
        backwards = _plain(ask(model, items[::-1]))[::-1]
        apart = [ask(model, [item])[0] for item in items]
        batch = ask(model, stack([model.modality(item) for item in items]))
        bare = not isinstance(items[0], (Tensor, np.ndarray, list, tuple))  # which may be batches
        alone = ask(model, items[0])[:1] if bare else together[:1]
    for what, wanted, found in (
        ("an item is answered alike wherever it stands in a list", together, backwards),
        ("an item is answered alike in a list of its own", together, apart),
        ("an item is answered alike in a batch", together, batch),
        ("an item is answered alike by itself", together[:1], alone),
    ):
        demand(_alike(wanted, found), what, _differing("answers", wanted, found))


# ---- answers to come


def _learns_from_a_few(run: _Run, model: Task, read: Task) -> None:
    (support, names), (asked, truth) = run.test, run.train
    with _demanded("it adapts to a few examples"):
        predictor, again = (one.adapt(support, names) for one in (model, read))
    if not run.names:
        with _demanded("an adapted model answers"):
            one, other = predictor.predict(asked), again.predict(asked)
        demand(_same(one, other), "a checkpoint adapts as the model did", _differing("answers", one, other))
        with _demanded("an adapted model is saved and read"):
            predictor.save(run.folder / "adapted")
            kept = type(predictor).load(run.folder / "adapted")
            other = kept.predict(asked)
        demand(_same(one, other), "a saved model answers as it did", _differing("answers", one, other))
        _goes_elsewhere(run, kept, asked)
        return
    with _demanded("an adapted model answers"):
        before, other = predictor.predict_proba(asked), again.predict_proba(asked)
    demand(_same(before, other), "a checkpoint adapts as the model did", _differing("probabilities", before, other))
    _one_several_and_batches(predictor, asked, lambda one, inputs: one.predict_proba(inputs))
    _changes(predictor, asked, truth, before)
    with _demanded("an adapted model is saved and read"):
        predictor.save(run.folder / "adapted")
        kept = Predictor.load(run.folder / "adapted")
        other = kept.predict_proba(asked)
    equal = _alike(before, other, _ROUNDED)
    demand(equal, "a saved model answers as it did", _differing("probabilities", before, other))
    _goes_elsewhere(run, kept, asked)


def _goes_elsewhere(run: _Run, kept: Any, asked: list[Any]) -> None:
    with _demanded("an adapted model is served"):
        check_served(run.folder / "adapted", kept, asked, _ALIKE)
    if run.exports and run.strategy == (_EXPORTED if run.names else "default"):
        for ending in (".pt2", ".onnx"):
            with _demanded(f"an adapted model is exported as {ending}"):
                kept.export(run.folder / f"adapted{ending}", **{"images" if run.names else "inputs": asked})


def _changes(predictor: Predictor, asked: list[Any], truth: list[Any], before: Any) -> None:
    known = list(predictor.classes_)
    with _demanded("an adapted model learns a class and forgets it"):
        with warnings.catch_warnings():  # they are of another class, too
            warnings.filterwarnings("ignore", ".* nearly the same as examples of other classes", DataWarning)
            predictor.add_class("a further class", asked[: len(asked) // 2])
        after = predictor.predict_proba(asked)
        answers = {*predictor.predict(asked), *predictor.predict(asked, may_be_unknown=False)}
        classes = list(predictor.classes_)
        predictor.remove_class("a further class")
        again = predictor.predict_proba(asked)
    demand(classes == [*known, "a further class"], "a class that is learned is the last", classes)
    told = f"they are {sorted(answers)}"
    demand(answers <= {*classes, UNKNOWN}, "answers are classes, or unknown", told)
    sums = after.sum(1) if after.shape[1:] == (len(classes),) else after
    demand(bool((abs(sums - 1) < _ALIKE).all()), "there is a probability of each class", sums)
    demand(_same(before, again), "a class that is forgotten leaves nothing", _differing("answers", before, again))
    with _demanded("what is unknown is found"):
        strict = copy.deepcopy(predictor).calibrate(asked, truth, reject_rate=0.99).predict(asked)
    demand(UNKNOWN in strict, "a model that is hard to convince calls something unknown", brief(strict))


# ---- comparing


def _plain(answers: Any) -> Any:
    return answers.tolist() if isinstance(answers, (Tensor, np.ndarray)) else list(answers)


def _same(one: Any, other: Any) -> bool:
    return repr(_plain(one)) == repr(_plain(other))  # where NaN equals NaN


def _alike(one: Any, other: Any, within: float = _ALIKE) -> bool:
    try:
        first, second = (torch.tensor(np.array([np.asarray(answer) for answer in each])) for each in (one, other))
    except (TypeError, ValueError):  # of what is no number, or has some within
        return near(plain_answer(_plain(one)), plain_answer(_plain(other)), within)
    return first.shape == second.shape and torch.allclose(first.double(), second.double(), within, within)


def _differing(what: str, one: Any, other: Any) -> str:
    first, second = _plain(one), _plain(other)
    at = next((at for at, (a, b) in enumerate(zip(first, second, strict=False)) if repr(a) != repr(b)), 0)
    return f"{what} of item {at}: {brief(first[at : at + 1])}, then {brief(second[at : at + 1])}"


# ---- complaining


@contextmanager
def _demanded(what: str) -> Iterator[None]:
    """Complain of whatever is raised within."""
    try:
        yield
    except NonconformingError:
        raise
    except Exception as error:  # a domain's own code may raise anything
        raise NonconformingError(f"{what}: {type(error).__name__}: {error}") from error


@contextmanager
def _told_of(task: type[Task], strategy: str) -> Iterator[None]:
    """Say of a complaint whose it is."""
    try:
        yield
    except NonconformingError as error:
        raise NonconformingError(f"{task.__name__}, {strategy}: {error}") from error.__cause__
