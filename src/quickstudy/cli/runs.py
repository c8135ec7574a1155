"""What runs have in common: data, models and trainers, from flags to objects."""

from __future__ import annotations

import inspect
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from jsonargparse import ArgumentParser
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger

from quickstudy.cli.flags import FlagParser, Flags, add_flags, class_flags, field_flags, function_flags, optional
from quickstudy.cli.models import find_checkpoint
from quickstudy.cli.tasks import MEANT, TASKS, asked_for, data_class, in_checkpoint, task_class
from quickstudy.data.episodes import EpisodePlan
from quickstudy.data.options import DataOptions
from quickstudy.data.stages import STAGES
from quickstudy.datasets import DATASETS
from quickstudy.errors import ConfigError, given
from quickstudy.modality import MODALITIES
from quickstudy.nets.encoder import starts_from_nothing
from quickstudy.nets.weights import WHEELS
from quickstudy.trainer import Trainer
from quickstudy.training.datamodule import DataModule
from quickstudy.training.processes import is_first
from quickstudy.training.task import Task

_DOORS = ("from_folders", "from_csv", "from_benchmark")
PARTS = ("test_split", "test_from")
"""Options of data by which its test data is a part of its training data."""
COLUMNS = ("input_field", "input_fields", "target_fields")
"""Options of data that name the columns of its tables."""
CONFIG = "config.yaml"
"""The file in a run's folder that has what was typed."""
_FEW = 50  # examples of a class


def add_task(parser: FlagParser) -> str:
    """Add the option that says what is learned, and return what it says, as further options depend on it."""
    parser.add_argument("--task", type=str, default=MEANT, help=f"what is learned: {', '.join(TASKS)}")
    return asked_for(parser.words)


def add_data(parser: ArgumentParser, stages: Sequence[str], task: str) -> None:
    """Add the options of the data of some stages of a task."""
    cls = data_class(task)
    for door in _DOORS:
        flags = {name: flag for name, flag in _door_flags(task, door).items() if _serves(name, stages)}
        if door == "from_benchmark" and "predict" in stages:
            continue  # published data sets have nothing to predict
        about = (inspect.getdoc(getattr(cls, door)) or "").split("\n\n")[0].replace("``", "")
        add_flags(parser, optional(flags), f"data {door.replace('_', ' ')}", about, "data")
    shared = {name: flag for name, flag in _data_flags(task).items() if _serves(name, stages)}
    add_flags(parser, optional(shared), "data from anywhere", prefix="data")


def build_data(
    options: Mapping[str, Any],
    defaults: Mapping[str, Any] | None = None,
    task: str = MEANT,
    of_run: Mapping[str, Any] | None = None,
) -> DataModule:
    """Open the door whose arguments are given.

    Args:
        options: the arguments of one door of the task's data, and the data's options; None counts as not given.
        defaults: options for what is not given.
        task: its name.
        of_run: the options of the data that a run was trained with: what columns are called there they are called in
            what is given, and where nothing is, the run's own data is meant if it has some to test.

    Raises:
        ConfigError: the arguments are those of no door or of two, or one is missing.
        DataError: the data cannot serve.
    """
    told, cls = given(**options), data_class(task)
    own = {name: value for name, value in given(**(of_run or {})).items() if name not in known_by_model(task)}

    def named() -> dict[str, str]:
        return {door: name for door in _DOORS for name in reversed(told) if name in _door_flags(task, door)}

    first = named()
    if not first and names_test_data(own):
        learned_from = () if own.keys() & {*PARTS} else ("train_", "val_")
        told = {**{name: value for name, value in own.items() if not name.startswith(learned_from)}, **told}
        first = named()
    elif len(first) == 1:
        columns = [name for name in COLUMNS if name in own and name in _door_flags(task, next(iter(first)))]
        told = {**{name: own[name] for name in columns}, **told}
    if len(first) != 1:
        both = " and ".join(f"--data.{name} ({door.replace('_', ' ')})" for door, name in first.items())
        raise ConfigError(
            f"{both} are two ways to give data: keep one"
            if first
            else "no data was given: name it, for instance with --data.train_folder, --data.test_folder or --data.name"
        )
    door = getattr(cls, next(iter(first)))
    for parameter in inspect.signature(door).parameters.values():
        required = parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
        if required and parameter.name not in told:
            raise ConfigError(f"--data.{next(iter(first.values()))} needs --data.{parameter.name} too")
    data: DataModule = door(**{**(defaults or {}), **told})
    for stage, origins in data.origins.items() if is_first() else ():
        print(f"{stage} data: {origins}", file=sys.stderr)
    return data


def data_of_run(checkpoint: Path) -> dict[str, Any]:
    """Return the options of the data that the run of a checkpoint was trained with; none where its folder has none."""
    return _config(checkpoint).get("data") or {}


def _config(checkpoint: Path) -> dict[str, Any]:
    try:
        told = yaml.safe_load((checkpoint.parent / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return told if isinstance(told, dict) else {}


def known_by_model(task: str) -> tuple[str, ...]:
    """Return the options of a task's data that a checkpoint knows by itself."""
    return (*data_class(task).modality.settings, "transform")


def names_test_data(options: Mapping[str, Any]) -> bool:
    """Whether options of data name some to test, or a part of the training data."""
    return bool(options.keys() & {"name", "folder"}) or any(
        name.startswith("test_") and not name.startswith("test_time_") for name in options
    )


def add_model(parser: ArgumentParser, task: str) -> None:
    """Add the options of a new model of a task."""
    cls = task_class(task)
    own = class_flags(cls)
    flags = own | field_flags(cls.answers, [name for name in cls.answers.asked() if name not in own])
    add_flags(parser, {name: flag for name, flag in flags.items() if name != "kind"}, "model", prefix="model")


def load_model(
    typed: str | None, strategy_kwargs: Mapping[str, Any] | None = None, strategy: str | None = None
) -> tuple[Path, Task]:
    """Return a checkpoint and its model, with other values for some of its strategy's options, or another strategy.

    Args:
        typed: the checkpoint, or its run's folder.
        strategy_kwargs: the other values; of another strategy all that are not as by default.
        strategy: the other one; None: its own.

    Raises:
        ConfigError: none is named.
        DataError: there is none, or it is damaged.
    """
    if typed is None:
        raise ConfigError("MODEL or --checkpoint is missing: a run's folder, such as runs/1, or a checkpoint")
    checkpoint = find_checkpoint(typed)
    task = task_class(in_checkpoint(checkpoint))
    if strategy is not None:
        return checkpoint, task.load_from_checkpoint(checkpoint).with_strategy(strategy, strategy_kwargs)
    changed = {"training_strategy_kwargs": strategy_kwargs} if strategy_kwargs else {}
    return checkpoint, task.load_from_checkpoint(checkpoint, **changed)


def advice(model: Task, checkpoint: Path) -> list[str]:
    """Return what is likely to do better than a network that learned few pictures of each class from the beginning.

    Args:
        model: that was trained.
        checkpoint: in the folder of its run, which tells what from.
    """
    each = len(model.trained_examples) / max(len(model.classes), 1)
    (backbone, _), domain = model.encoder.made_by or ("", {}), MODALITIES.name_of(type(model.modality))
    options = model.hparams.get("backbone_kwargs") or {}
    random = starts_from_nothing(backbone) and "checkpoint_path" not in options
    better = [name for name, wheel in WHEELS.items() if wheel.extra == domain]
    if model.procedure.by_class or not random or not better or not model.classes or not 0 < each < _FEW:
        return []
    told = f"{each:.0f} {model.modality.called} of each class are few for a network that begins with random weights. "
    if model.kind.several:
        again = ["quickstudy", "fit", "--config", str(checkpoint.parent / CONFIG), "--model.backbone", better[0]]
        again += ["--model.backbone_kwargs", "{}"] * bool(model.hparams.get("backbone_kwargs"))
        return [f"{told}Begin with a pretrained one: {shlex.join([*again, '--strategy', 'freeze'])}"]
    data = data_of_run(checkpoint)
    support = ["--support", str(data.get("train_folder") or data.get("train_file") or "train/")]
    for name, field in (("input_field", "input_field"), ("target_field", "target_fields")):
        support += [f"--{name}", str(data[field])] if isinstance(data.get(field), str) else []
    command = shlex.join(["quickstudy", "adapt", better[0], *support, "--out", "model/"])
    return [f"{told}A pretrained one needs no training: {command}"]


def load_options(model: Task) -> dict[str, Any]:
    """Return how the model's training data was loaded, as options of data."""
    options = dict(model.load_options)
    size = options.get("image_size")
    if isinstance(size, (tuple, list)) and size[0] == size[1]:
        options["image_size"] = size[0]  # published data sets that draw their images know squares only
    return options


def add_episodes(parser: ArgumentParser) -> None:
    """Add the options of test episodes."""
    flags = {name: flag for name, flag in class_flags(EpisodePlan).items() if of_a_test(name)}
    add_flags(parser, optional(flags), "episodes", "of a few-shot strategy; default: as the checkpoint was trained")


def of_a_test(name: str) -> bool:
    """Whether an option of ``EpisodePlan`` says which episodes a test has."""
    return name.startswith("test_") or name == "seed"


def add_trainer(parser: ArgumentParser, only: Sequence[str] = ()) -> None:
    """Add Lightning's options, or only some of them."""
    chosen = {name: flag for name, flag in _trainer_flags().items() if not only or name in only}
    add_flags(parser, chosen, "trainer", "Lightning's options", "trainer")


def build_trainer(options: Mapping[str, Any], **fixed: Any) -> Trainer:
    """Make a trainer.

    Raises:
        ConfigError: an option is out of range, or this machine lacks what it asks for.
    """
    try:
        return Trainer(**{**trainer_options(options), **fixed})
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise ConfigError(f"--trainer: {' '.join(str(error).split())}") from error


def trainer_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a trainer's options that are not as by default."""
    flags = _trainer_flags()
    return {name: value for name, value in options.items() if name not in flags or value != flags[name].default}


@cache
def _data_flags(task: str) -> Flags:
    flags = class_flags(DataOptions) | class_flags(data_class(task))
    flags.pop("load_options", None)  # image_size and image_mode are these
    return flags


@cache
def _door_flags(task: str, door: str) -> Flags:
    flags = function_flags(getattr(data_class(task), door))
    if door == "from_benchmark":
        for name in DATASETS.names():
            for key, flag in function_flags(DATASETS[name]).items():
                flags.setdefault(key, replace(flag, help=f"{name}: {flag.help}"))
    return {name: flag for name, flag in flags.items() if name not in _data_flags(task)}


@cache
def _trainer_flags() -> Flags:
    flags = class_flags(Trainer, (Callback, Logger))
    flags.pop("use_distributed_sampler")  # the data's own samplers share the work
    return flags


def _serves(name: str, stages: Sequence[str]) -> bool:
    if name.startswith("test_time_"):
        return bool({"test", "predict"} & {*stages})
    stage = name.split("_")[0]
    return (stage in stages or stage not in STAGES) and (name != "folder" or "test" in stages)
