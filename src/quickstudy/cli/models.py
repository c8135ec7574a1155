"""Models as every command names them: a run's folder, a checkpoint, a saved model's folder, or one on the Hub."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from quickstudy.algorithms import STRATEGIES
from quickstudy.cli.options import FORMS, TRAINED
from quickstudy.data.samples import Load
from quickstudy.data.scan import class_folders
from quickstudy.data.table import Table
from quickstudy.errors import ConfigError, DataError, MissingPackageError, first_line
from quickstudy.files import absent, best_checkpoint
from quickstudy.image.modality import IMAGE_EXTENSIONS
from quickstudy.modality import as_modality
from quickstudy.predictor import Predictor
from quickstudy.saved import hub
from quickstudy.saved.model_folder import DESCRIPTION, instead, is_trained
from quickstudy.trained import TrainedModel

if TYPE_CHECKING:
    from quickstudy.training.task import Task

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
        raise DataError(f"there is no saved model or checkpoint in '{path}' (looked in {Path.cwd()}){instead(path)}")
    if _ON_THE_HUB.fullmatch(typed) and path.suffix not in _OF_FILES and not path.parent.exists():
        try:
            return Found(hub.fetched(typed), True, typed)
        except MissingPackageError as error:
            told = f"there is no folder '{typed}' (looked in {Path.cwd()}), and to look on the Hugging Face Hub {error}"
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


def load_predictor(found: Found, device: torch.device, support: str | None = None) -> Predictor:
    """Read a model that knows classes: those it was saved with, or those of a support folder.

    Args:
        found: what ``find_model`` returned.
        device: for the model.
        support: a folder of class folders, whose classes it learns in place of its own.

    Raises:
        DataError: it is damaged, or the folder has no class folders.
        ConfigError: it is a checkpoint and there is no folder to learn from, or it takes tensors only.
    """
    if support is not None:
        load, learn = learner(found, device)
        return learn(*examples(support_of(support, load)))
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
    """Build the error for a model that is asked to classify and knows no classes."""
    return ConfigError(
        f"'{typed}' was trained with '{model.hparams['training_strategy']}' and has no fixed classes: show it yours "
        "with --support FOLDER, a folder of class folders with 1..n pictures each"
    )


def support_of(folder: str, load: Load) -> Table:
    """Return the examples of a folder of class folders: the files of a model's own inputs.

    Args:
        folder: of class folders.
        load: what reads an input for the model.

    Raises:
        DataError: there are none.
    """
    return class_folders(folder, as_modality(load).extensions or IMAGE_EXTENSIONS)


def learner(found: Found, device: torch.device) -> tuple[Load, Callable[[Any, Any], Predictor]]:
    """Return what reads an input for a model, and what makes a predictor of inputs and labels with it."""
    if found.saved and is_trained(found.path):
        fixed = TrainedModel.load(found.path, device)  # whose head is left behind, as a checkpoint's is
        return fixed.modality, Predictor(fixed.encoder, STRATEGIES["prototypicalnetworks"](), fixed.modality).fit
    if found.saved:
        predictor = _load_saved(found, device)
        return predictor.knowledge.load, predictor.fit
    model = load_task(found.path, device)
    return model.modality.with_options(model.load_options), model.adapt


def examples(table: Table) -> tuple[list[Any], list[str]]:
    """Return the inputs and the labels of a table of class folders."""
    assert table.targets is not None
    return [table.inputs[row] for row in range(len(table))], [table.classes[code] for code in table.targets.tolist()]


def _load_saved(found: Found, device: torch.device) -> Predictor:
    predictor = Predictor.load(found.path, device)
    if predictor.knowledge.load is torch.as_tensor:
        raise ConfigError(
            f"the model in '{found.typed}' takes tensors, as it was made without a function that loads pictures: make "
            "it with quickstudy adapt, model.adapt(...), or Predictor(..., load=load_image)"
        )
    return predictor


def device_of(args: argparse.Namespace) -> torch.device:
    """Return the device that is asked for.

    Raises:
        ConfigError: there is no such device.
    """
    try:
        return torch.empty(0, device=args.device).device
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {args.device}: {first_line(error)}. Try --device cpu") from error
