"""Models as every command names them: a run's folder, a checkpoint, a saved model's folder, or one on the Hub."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from quickstudy.cli.options import FORMS, TRAINED
from quickstudy.data.archives import is_archive
from quickstudy.data.frames import file_columns, file_frame, frame_table, is_table, rows_table, target_among
from quickstudy.data.origins import Origins
from quickstudy.data.places import open_source
from quickstudy.data.scan import class_folders
from quickstudy.data.stages import Stage
from quickstudy.data.table import Table
from quickstudy.domains import DOMAINS
from quickstudy.errors import ConfigError, DataError, MissingPackageError, closest, few, first_line, one_line
from quickstudy.files import absent, best_checkpoint, looked_in
from quickstudy.kinds.base import Kind
from quickstudy.modality import Modality, Tensors
from quickstudy.modality.recognition import domain_of_cells, domain_of_names, domain_of_words
from quickstudy.predictor import Adapted, NumberPredictor, Predictor
from quickstudy.saved import hub
from quickstudy.saved.model_folder import DESCRIPTION, instead, is_trained
from quickstudy.trained import TrainedModel

if TYPE_CHECKING:
    from quickstudy.training.task import Task

_CSV = "a CSV file of two columns: the names of files, and their classes or numbers"
_ON_THE_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/(?!\d+$)[\w.-]+")  # runs/9 is a run that is not there
_OF_FILES = (".ckpt", ".onnx", ".pt2", ".zip", ".tar", ".gz")


class Found(NamedTuple):
    """A model that is there, and not read yet."""

    path: Path
    """The folder of a saved model, or the file of a checkpoint."""
    saved: bool
    """Whether it is a saved model, which knows its classes and learns others; else it is a checkpoint."""
    typed: str
    """What it was named by."""


def model_here(typed: str) -> Found | None:
    """Return the model on this machine that is named, if there is one."""
    path = Path(typed).expanduser()
    if (path / DESCRIPTION).is_file():
        return Found(path, True, typed)
    checkpoint = path if path.is_file() else best_checkpoint(path)
    return None if checkpoint is None else Found(checkpoint, False, typed)


def named_model(typed: str) -> Found | None:
    """Return the model that is named in any of ``FORMS``; None where the name is that of a backbone.

    Raises:
        DataError: it is neither.
    """
    found = model_here(typed)
    if found is None and typed.endswith(".ckpt"):
        return find_model(typed)
    if found is None and "/" in typed:
        there = find_model(typed)
        return there if (there.path / DESCRIPTION).is_file() else None  # which an encoder of the Hub has not
    return found


def domain_of_files(support: str | None) -> str:
    """Return the domain of examples, by their files or what stands in their table; see ``modality.recognition``."""
    if support is None:
        return domain_of_words()
    path = Path(support).expanduser()
    if is_table(path):
        columns = file_columns(path, None)
        target = (target_among([*columns]) or [*columns][-1]) if len(columns) > 1 else None
        return domain_of_cells([cells.tolist() for name, cells in columns.items() if name != target], path.parent)
    single = path.is_file() and not is_archive(path)
    return domain_of_names([path] if single else open_source(path).files()) or DOMAINS[0]


def find_model(typed: str, kind: str = "checkpoint or saved model") -> Found:
    """Return the model that is named in any of ``FORMS``; one on the Hub is downloaded if needed.

    Args:
        typed: its name.
        kind: what is looked for, in a message.

    Raises:
        DataError: there is none; the message says what is there instead.
    """
    if found := model_here(typed):
        return found
    path = Path(typed).expanduser()
    if path.is_dir():
        raise DataError(
            f"there is no saved model or checkpoint in '{path}' ({looked_in(path / DESCRIPTION)}){instead(path)}"
        )
    if _ON_THE_HUB.fullmatch(typed) and path.suffix not in _OF_FILES and not path.parent.exists():
        try:
            return Found(hub.fetched(typed), True, typed)
        except MissingPackageError as error:
            told = f"{absent('folder', path)}, and to look on the Hugging Face Hub {error}"
            raise DataError(told) from error
    raise DataError(f"{absent(kind, path)}. Give {FORMS if 'saved' in kind else TRAINED}")


def find_checkpoint(typed: str) -> Path:
    """Return the checkpoint that is named, by its file or its run.

    Raises:
        DataError: there is none, or a saved model in its place.
    """
    found = find_model(typed, "checkpoint")
    if found.saved:
        raise DataError(
            f"'{typed}' is a saved model, and this takes {TRAINED}. How often a saved model is right tells: quickstudy "
            f"predict {typed} test/ --output labels.csv"
        )
    return found.path


def load_task(checkpoint: Path, device: torch.device) -> Task:
    """Read a checkpoint's model.

    Raises:
        DataError: it is damaged, or no checkpoint of quickstudy.
    """
    from quickstudy.cli.tasks import in_checkpoint, task_class

    return task_class(in_checkpoint(checkpoint)).load_from_checkpoint(checkpoint).to(device)  # which brings Lightning


class Learner(NamedTuple):
    """What learns from a few examples on the command line."""

    modality: Modality
    """What an input is."""
    kind: Kind
    """What an answer is: what the targets of examples mean."""
    learn: Callable[..., Any]
    """Makes a ``Predictor``, or a ``NumberPredictor``, of inputs and their labels or numbers, and of ``classes=``."""


def load_predictor(
    found: Found, device: torch.device, support: str | None = None, target_field: str | None = None
) -> Predictor | NumberPredictor:
    """Read a model that has learned from examples: from those it was saved with, or from those of a support set.

    Args:
        found: what ``find_model`` returned.
        device: for the model.
        support, target_field: see ``support_of``; it learns these in place of its own.

    Raises:
        DataError: it is damaged, or there are no examples.
        ConfigError: it is a checkpoint and there is no folder to learn from, or it takes tensors only.
    """
    if support is not None:
        made = learner(found, device)
        table = support_of(support, made.modality, made.kind, target_field)
        learned: Predictor | NumberPredictor = made.learn(*examples(table))
        return learned
    if found.saved:
        return _load_saved(found, device)
    raise ConfigError(
        f"'{found.path}' is a checkpoint, which has no saved classes: show it yours with --support FOLDER, a folder of "
        f"class folders with 1..n pictures each, or first type: quickstudy adapt {found.typed} --support FOLDER --out "
        "pets/"
    )


def trained(found: Found, device: torch.device) -> tuple[TrainedModel, torch.Tensor | None] | None:
    """Read a model of fixed classes, and what identifies the examples that it was trained on; None: it learns.

    Args:
        found: what ``find_model`` returned.
        device: for the model.

    Raises:
        DataError: it is damaged.
        ConfigError: it is a few-shot checkpoint, which has no classes.
    """
    if found.saved:
        return (TrainedModel.load(found.path, device), None) if is_trained(found.path) else None
    model = load_task(found.path, device)
    if model.procedure.by_class:
        raise without_classes(found.typed, model)
    return model.predictor(), model.trained_examples


def without_classes(typed: object, model: Task) -> ConfigError:
    """Build the error for a model that is asked to classify and knows no classes, or has learned no numbers."""
    return ConfigError(
        f"'{typed}' was trained with '{model.hparams['training_strategy']}' and has no fixed classes: show it yours "
        f"with --support FOLDER, a folder of class folders with 1..n pictures each, or {_CSV}"
    )


def support_of(
    typed: str,
    modality: Modality,
    kind: Kind,
    target_field: str | None = None,
    input_field: str | None = None,
    group_by: str | None = None,
    skip: bool = False,
) -> Table:
    """Return the examples that a model is shown: the files of its own inputs.

    Args:
        typed: a folder of class folders, or a table: inputs and their classes or numbers.
        modality: of the model's inputs.
        kind: what its answers are.
        target_field, input_field: the columns of the classes or numbers and of the inputs; None: by what they are
            called, else of two the first has the inputs. Where an input is a row, it is of all columns that the model
            knows.
        group_by: what each comes from: a column of a table, or a regular expression of names of files.
        skip: whether rows of a table where something is missing are left out.

    Raises:
        DataError: there are none, or they have no targets of that kind.
    """
    path = Path(typed).expanduser()
    if modality.column_names is not None:
        if input_field is not None:
            raise ConfigError("--input_field is of one column, and this model takes rows of several: leave it out")
        return _rows_of(path, modality.column_names, kind, target_field, group_by, skip)
    if is_table(path):
        frame = file_frame(path, None)
        names = list(map(str, frame.columns))
        group = group_by if group_by in names else None
        inputs, targets = _two_of(path, [name for name in names if name != group], input_field, target_field)
        read = partial(modality.column, root=path.parent, exist=not skip)
        table = frame_table(frame, read, inputs, targets, skip, kind.encode, group)
        return table if group_by == group else _grouped(table, group_by, names)
    for name, field in (("target_field", target_field), ("input_field", input_field)):
        if field is not None:
            raise ConfigError(f"--{name} is of a table, and '{path}' is none: leave it out")
    table = _grouped(class_folders(typed, modality.extensions, modality.parts), group_by)
    try:
        kind.encode(list(table.classes))
    except DataError as error:
        raise DataError(
            f"'{typed}' has the classes {few(table.classes)}, and this model learns numbers: give {_CSV}"
        ) from error
    return table


def _two_of(path: Path, names: list[str], inputs: str | None, targets: str | None) -> tuple[str, str]:
    """Return the columns of the inputs and of their classes or numbers, as they are named, or by what they are called.

    Raises:
        DataError: it cannot be told; or one stands twice, or there is none of that name.
    """
    for field in names if inputs is None or targets is None else (inputs, targets):
        if names.count(field) > 1:
            raise DataError(f"'{path}' has {names.count(field)} columns '{field}': give each a name of its own")
    for typed in (inputs, targets):
        if typed is not None and typed not in names:
            near = closest(typed, names)
            raise DataError(f"'{path}' has no column '{one_line(typed)}'{near} It has: {few(names, 30)}")
    others = [name for name in names if name not in (inputs, targets)]
    if targets is None:
        targets = target_among(others) or (others[-1] if len(others) + (inputs is not None) == 2 else None)
    if inputs is None:
        left = [name for name in others if name != targets]
        inputs = left[0] if len(left) == 1 and targets is not None else None
    if inputs is None or targets is None:
        left = [name for name in others if name != targets] or names or ["NAME"]
        first, last = left[0], left[-1]
        raise DataError(
            f"'{path}' has {len(names)} columns, {few(names)}: say which has what, --input_field {inputs or first} "
            f"--target_field {targets or last}; or give {_CSV}"
        )
    return inputs, targets


def _grouped(table: Table, pattern: str | None, names: Sequence[str] = ()) -> Table:
    """Return it with what its files come from, by their names."""
    if pattern is None:
        return table
    try:
        return replace(table, origins=Origins.named_in(table.inputs, pattern))
    except (DataError, re.error) as error:
        columns = f", and it is no column: there are {few(names)}" if names else ""
        raise DataError(f"--group_by {pattern}: {first_line(error)}{columns}") from error


def _rows_of(
    path: Path, known: tuple[str, ...], kind: Kind, target_field: str | None, group_field: str | None, skip: bool
) -> Table:
    """Return rows of a file, whose targets are in the column that is named, or the only one that a model knows not."""
    names = list(file_columns(path, None))
    if target_field is None:
        others = [name for name in names if name not in known and name != group_field] if known else names
        if len(others) != 1:
            raise DataError(
                f"'{path}' has {len(names)} columns, {few(names)}: say which of them has the classes or numbers, "
                f"--target_field {(others or names)[-1]}"
            )
        target_field = others[0]
    stage = Stage("train", skip, unlabelled=False, group_field=group_field)
    inputs = [name for name in names if name in known and name != target_field] or None
    return rows_table(file_columns(path, target_field), inputs, target_field, stage, kind.encode)


def learner(
    found: Found, device: torch.device, strategy: str | None = None, strategy_kwargs: Mapping[str, Any] | None = None
) -> Learner:
    """Return what learns with a model; what it knows itself is left behind.

    Args:
        found: what ``find_model`` returned.
        device: for the model.
        strategy: what learns, in place of the model's own.
        strategy_kwargs: its options.
    """
    if found.saved and is_trained(found.path):
        fixed = TrainedModel.load(found.path, device)  # whose head is left behind, as a checkpoint's is
        kind, modality, made = fixed.kind, fixed.modality, fixed.kind.algorithm(strategy, strategy_kwargs)
        return Learner(modality, kind, kind.learner(kind.embedding(fixed.encoder, fixed.head), made, modality).fit)
    if found.saved:
        predictor = _load_saved(found, device)
        if strategy is not None:
            predictor.set_params(algorithm=predictor.knowledge.kind.algorithm(strategy, strategy_kwargs))
        return Learner(predictor.modality, predictor.kind, predictor.fit)
    model = load_task(found.path, device)
    learn = partial(model.adapt, strategy=strategy, strategy_kwargs=strategy_kwargs)
    return Learner(model.modality.with_options(model.load_options), model.kind, learn)


def examples(table: Table) -> tuple[list[Any], list[Any]]:
    """Return the inputs and the labels, or the numbers, of a table."""
    return [table.inputs[row] for row in range(len(table))], table.told or []


def _load_saved(found: Found, device: torch.device) -> Predictor | NumberPredictor:
    predictor: Any = Adapted.load(found.path, device)
    if isinstance(predictor.modality, Tensors):
        raise ConfigError(
            f"the model in '{found.typed}' takes tensors, as it was made without a function that loads pictures: make "
            f"it with quickstudy adapt, model.adapt(...), or {type(predictor).__name__}(..., load=load_image)"
        )
    learned: Predictor | NumberPredictor = predictor
    return learned


def device_of(args: argparse.Namespace) -> torch.device:
    """Return the device that is asked for.

    Raises:
        ConfigError: there is no such device.
    """
    try:
        return torch.empty(0, device=args.device).device
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {args.device}: {first_line(error)}. Try --device cpu") from error
