"""k-fold cross-validation: every example is judged once, by a model that learned from the other folds."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.utilities.seed import isolate_rng
from numpy.typing import NDArray

from quickstudy.data.folds import fingerprint_of, folds_of
from quickstudy.data.table import Table
from quickstudy.errors import ConfigError, DataError, brief
from quickstudy.runs.folder import write_measured
from quickstudy.runs.results import result_of, sentence
from quickstudy.trainer import Trainer
from quickstudy.training.datamodule import DataModule
from quickstudy.training.finetuning import Strategy
from quickstudy.training.outcome import Difference, Outcome, difference
from quickstudy.training.task import Task


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """What the models of k folds were right in, each on the fold that it did not learn from."""

    outcome: Outcome
    """Of all examples, or of the episodes of all classes, as if of one test; ``value``, ``ci95()``, ``per_class()``."""
    test_score: tuple[float, ...]
    """Of each fold."""
    test_indices: tuple[NDArray[np.int64], ...]
    """Of each fold the rows of the training data that were held out."""
    fit_time: tuple[float, ...]
    """Seconds of each fold's training."""
    result: dict[str, Any]
    """The figures in plain values, as ``test.json`` has them."""
    model: Task | None = None
    """What was trained on all examples, with ``refit=True``."""

    @property
    def value(self) -> float:
        """The score of all held-out examples together."""
        return self.outcome.value

    @property
    def ci95(self) -> float:
        """The half-width of its 95% interval: over the examples, or over their groups, or over episodes."""
        return self.outcome.ci95()

    @property
    def fingerprint(self) -> str:
        """What tells these folds of these examples from others."""
        return self.outcome.drawn

    def against(self, other: CrossValidation) -> Difference:
        """Return by how much this score differs from another's, paired over the very same examples.

        Raises:
            DataError: the folds are not the same.
        """
        return difference(other.outcome, self.outcome)

    def __str__(self) -> str:
        """Return the score with its interval, and that of each fold."""
        told = self.outcome.score.text
        folds = ", ".join(told(score) for score in self.test_score)
        return f"{sentence(self.result)}; {len(self.test_score)} folds: {folds}"


def cross_validate(
    make_model: Callable[[], Task],
    data: DataModule,
    folds: int = 5,
    *,
    strategy: Strategy = "no_freeze",
    train_bn: bool = True,
    seed: int = 0,
    refit: bool = False,
    out: str | Path | None = None,
    **trainer_options: Any,
) -> CrossValidation:
    """Train a model on all folds but one, judge it on that one, and so on in turn.

    The training data is divided; test data, and the share of ``test_split``, is left alone. Folds are stratified, and
    groups (``group_by``, ``group_field``) never straddle two; they follow from the data and its ``seed`` alone, so that
    all models have the same. A few-shot strategy has folds of classes, and is judged on episodes of those held out.
    What inputs teach (vocabulary, means) is learned in each fold anew. Where the data has ``val_split`` or validation
    data, that chooses the checkpoint which is judged, within each fold.

    The interval covers which examples there are. That of other training sets of this size is somewhat wider: folds
    share most of their training examples, and nothing tells it without a bias (Bengio and Grandvalet 2004,
    https://jmlr.org/papers/v5/grandvalet04a.html).

    Args:
        make_model: returns a new model, ``lambda: ImageClassifier(backbone="resnet18")``.
        data: what there is to learn from.
        folds: how many.
        strategy, train_bn: what of the model trains; see ``Trainer.finetune``.
        seed: of the first weights and of what is dropped out: each fold starts the same.
        refit: whether to train a model on all examples as well, ``result.model``.
        out: a folder for the runs, ``fold_1`` and so on, and ``all``, with ``test.json`` of all folds together for
            ``quickstudy compare``; None: nothing is left.
        trainer_options: those of ``Trainer``: ``max_epochs=20``.

    Raises:
        DataError: there are too few examples, groups or classes for so many folds.
        ConfigError: ``make_model`` is no function of nothing that makes a task, or makes the same twice.

    >>> from quickstudy.image import ImageClassificationData, ImageClassifier  # doctest: +SKIP
    >>> data = ImageClassificationData.from_folders(train_folder="photos/")  # doctest: +SKIP
    >>> print(cross_validate(lambda: ImageClassifier(), data, max_epochs=5))  # doctest: +SKIP
    """
    make = _starting(make_model, seed)
    first = make()
    by_class = first.procedure.by_class
    whole = data.with_tables({}, val_split=None).table("train", by_class=by_class)
    if whole is None or whole.targets is None:
        raise DataError("cross-validation divides training data that has targets, and there is none: give train_...=")
    fold_N = folds_of(whole, folds, data.options.get("seed", 0), by_class=by_class)
    fingerprint = fingerprint_of(whole, fold_N)
    outcomes: list[Outcome] = []
    rows: list[NDArray[np.int64]] = []
    times: list[float] = []
    model, extra = first, {}
    with ExitStack() as held:
        folder = Path(out or held.enter_context(tempfile.TemporaryDirectory()))
        validates = data.table("val", by_class=by_class) is not None
        options = {**({} if out else {"logger": False, "enable_checkpointing": validates}), **trainer_options}

        def fit(name: str, model: Task, data: DataModule) -> Trainer:
            trainer = Trainer(**copy.deepcopy(options))
            trainer.run_folder = folder / name
            with isolate_rng():
                L.seed_everything(seed, verbose=False)
                trainer.finetune(model, data, strategy=strategy, train_bn=train_bn)
            return trainer

        for fold in range(folds):
            rows.append(np.flatnonzero(fold_N == fold))
            train, test = (_part(whole, each, by_class) for each in (np.flatnonzero(fold_N != fold), rows[-1]))
            part = data.with_tables({"train": train, "test": test})
            model = first if fold == 0 else make()
            if fold and model is first:
                raise ConfigError(
                    "make_model returned one model twice: it must make a new one, lambda: ImageClassifier()"
                )
            began = time.perf_counter()
            trainer = fit(f"fold_{fold + 1}", model, part)
            times.append(time.perf_counter() - began)
            best: Any = trainer.checkpoint_callback
            chosen = getattr(best, "best_model_path", "") or None
            (found,) = trainer.test(model, part, ckpt_path=chosen, verbose=False)
            extra = {name: value for name, value in found.items() if name == "test_transductive"}
            assert trainer.outcome is not None
            outcomes.append(trainer.outcome)
        examples = outcomes[0].unit == "examples"
        outcome = Outcome.joined(
            outcomes,
            [held_out[each.numbers] for held_out, each in zip(rows, outcomes, strict=True)] if examples else None,
            fingerprint,
        )
        model.outcome = outcome
        extra |= {} if examples else {f"test_{outcome.score.name}_ci95_classes": outcome.classes_ci95()}
        result = {**result_of(model, extra), "data": fingerprint, "folds": folds}
        final = None
        if refit:
            final = make()
            fit("all", final, data.with_tables({"train": whole, "test": None}, test_split=None))
        if out:
            write_measured(folder, result, f"of {folds} folds", None, outcome)
    scores = tuple(each.value for each in outcomes)
    return CrossValidation(outcome, scores, tuple(rows), tuple(times), result, final)


def _starting(make_model: Any, seed: int) -> Callable[[], Task]:
    if isinstance(make_model, Task) or not callable(make_model):
        raise ConfigError(
            f"make_model={brief(make_model)}: give a function that makes a new model for each fold, "
            "lambda: ImageClassifier(...)"
        )

    def make() -> Task:
        with isolate_rng():
            L.seed_everything(seed, verbose=False)
            model = make_model()
        if not isinstance(model, Task):
            raise ConfigError(f"make_model returned {brief(model)}, which is no task such as ImageClassifier")
        return model

    return make


def _part(whole: Table, rows: NDArray[np.int64], by_class: bool) -> Table:
    part = whole.select(rows)
    return part.without_empty_classes() if by_class else part
