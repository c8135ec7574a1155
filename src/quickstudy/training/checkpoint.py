"""Checkpoints hold tensors and plain values: reading one runs no code from it."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from quickstudy.algorithms import STRATEGIES, algorithm_of
from quickstudy.batches import form_of, of_form
from quickstudy.data.identity import joined
from quickstudy.data.targets import plain_number
from quickstudy.errors import ConfigError, DataError, DataWarning, brief, first_line
from quickstudy.files import absent, best_checkpoint
from quickstudy.files import plain as plain
from quickstudy.nets.lora import adapter_rank, merged_weights
from quickstudy.selfsupervised import METHODS
from quickstudy.training.quirks import trainer_of

FORMAT = 1
"""Of what a task adds to a checkpoint; counted up when an older quickstudy could not read it."""

_REMEMBERED = ("trained_classes", "validated_classes", "trained_on")


def read_checkpoint(path: Any, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint.

    Args:
        path: a file that a trainer wrote.
        map_location: the device for its tensors.

    Raises:
        DataError: the file is missing, damaged, holds code, or is no checkpoint of quickstudy.
    """
    if not Path(path).is_file():
        inside = best_checkpoint(Path(path))
        meant = f"there is no checkpoint '{path}'; did you mean '{inside}'?"
        raise DataError(meant if inside else absent("checkpoint", path))
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(f"'{path}' is no checkpoint of tensors and plain values; nothing was run from it") from error
    except Exception as error:  # damage makes unpickling raise almost anything
        raise DataError(
            f"the checkpoint '{path}' is damaged or cut ({first_line(error)}): use an earlier one"
        ) from error
    if isinstance(checkpoint, dict) and checkpoint.get("quickstudy", {}).get("format", 0) > FORMAT:
        raise DataError(f"'{path}' was written by a newer quickstudy. Type: pip install -U quickstudy")
    if not isinstance(checkpoint, dict) or "quickstudy" not in checkpoint:
        raise DataError(f"'{path}' is no checkpoint of a quickstudy task")
    _keep_former_defaults(checkpoint)
    return checkpoint


def _keep_former_defaults(checkpoint: dict[str, Any]) -> None:
    """Write down the defaults that an earlier version trained with, where a strategy has others now."""
    hparams, options = checkpoint["hyper_parameters"], "training_strategy_kwargs"
    strategy = hparams.get("training_strategy")
    if "options" not in checkpoint["quickstudy"] and strategy in STRATEGIES and STRATEGIES[strategy].former:
        hparams[options] = {**STRATEGIES[strategy].former, **(hparams.get(options) or {})}


def load_checkpoint(
    path: Any, map_location: Any = "cpu", given: Mapping[str, Any] = MappingProxyType({})
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a checkpoint to make a model of it.

    Args:
        path: a file that a trainer wrote.
        map_location: the device for its tensors.
        given: arguments for the model instead of those in the file, which holds no code. Options of the same strategy
            are changed one by one.

    Returns:
        The checkpoint, and the model's arguments.

    Raises:
        DataError: the file is missing, damaged, holds code, or is no checkpoint of quickstudy.
        ConfigError: an argument that was code is not given again, or its algorithm is not known here.
    """
    checkpoint = read_checkpoint(path, map_location)
    missing = [name for name in checkpoint["quickstudy"]["unsaved"] if name not in given]
    if missing:
        named = ", ".join(f"{name}=..." for name in missing)
        raise ConfigError(
            f"the model was made with {', '.join(missing)} given as code, which a checkpoint does not hold: give the "
            f"same again, load_from_checkpoint(path, {named})"
        )
    saved = checkpoint["hyper_parameters"]
    # The checkpoint's weights replace the pretrained ones, which need not be downloaded or lie in their file.
    arguments = {**_without_weights(saved), "pretrained": False, **given}
    if arguments["training_strategy"] not in ("default", *METHODS.names()):
        algorithm_of(arguments["training_strategy"], path)
    options = "training_strategy_kwargs"
    if options in given and arguments["training_strategy"] == saved["training_strategy"]:
        arguments[options] = {**(saved[options] or {}), **(given[options] or {})}
    return checkpoint, arguments


def _without_weights(hparams: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model's arguments without the file that its backbone's first weights came from."""
    kwargs = hparams.get("backbone_kwargs")
    if not kwargs or "checkpoint_path" not in kwargs:
        return dict(hparams)
    return {**hparams, "backbone_kwargs": {key: kwargs[key] for key in kwargs if key != "checkpoint_path"} or None}


def check_strategy(checkpoint: Mapping[str, Any], strategy: str, task: str) -> None:
    """Check that a checkpoint fits a model: heads for fixed answers, episodes and views have different weights.

    Raises:
        ConfigError: one is of another strategy than the other, and not both are of episodes.
    """
    theirs = checkpoint["hyper_parameters"]["training_strategy"]
    if theirs != strategy and not {theirs, strategy}.isdisjoint(("default", *METHODS.names())):
        raise ConfigError(
            f"the checkpoint was trained with training_strategy='{theirs}', and this model has '{strategy}': take its "
            f"encoder, trained = {task}.load_from_checkpoint(path), and start with backbone=trained.encoder.backbone"
        )


def check_goes_on(task: Any, checkpoint: Mapping[str, Any]) -> None:
    """Check that a run goes on with the model that it began with; warn of what changed, and what comes too late for it.

    Raises:
        ConfigError: the backbone, the strategy, the optimizer or the schedule is another.
    """
    then, now = _without_weights(checkpoint["hyper_parameters"]), _without_weights(task.hparams)
    for name in ("backbone", "backbone_kwargs", "training_strategy"):
        if then.get(name) != now.get(name):
            raise ConfigError(
                f"the run began with {name}={brief(then.get(name))} and cannot go on with {name}="
                f"{brief(now.get(name))}: give the same, or train anew in another folder"
            )
    classes = of_kind(checkpoint["quickstudy"]).get("classes", ())
    if task.classes and classes and {*map(plain_number, task.classes)} != {*map(plain_number, classes)}:
        raise ConfigError(
            f"the run began with the classes {brief(list(classes))} and cannot go on with "
            f"{brief(list(task.classes))}: give the same, or train anew in another folder"
        )
    options = [dict(hparams.get("training_strategy_kwargs") or {}) for hparams in (then, now)]
    other = [name for name in {**options[0], **options[1]} if options[0].get(name) != options[1].get(name)]
    if any(not name.startswith("test_") for name in other):
        raise ConfigError(
            f"the run began with training_strategy_kwargs={options[0]} and cannot go on with {options[1]}: give the "
            "same, or train anew in another folder"
        )
    late = [name for name in ("learning_rate", "backbone_lr") if then.get(name) != now.get(name)]
    for name in ("optimizer", "lr_scheduler"):
        if name in task.unsaved or name not in then:
            continue
        (kind, kept), (wanted, new) = (_kind(hparams[name]) for hparams in (then, now))
        if kind != wanted:
            raise ConfigError(
                f"the run began with {name}={brief(then[name])}, whose state {name}={brief(now[name])} cannot take up: "
                "give the same, or train anew in another folder"
            )
        if kept != new:
            late.append(name)
    if late:
        asked, first = (", ".join(f"{name}={options.get(name)}" for name in late) for options in (now, then))
        warnings.warn(f"{asked} comes too late: the run goes on with {first}, as it began", DataWarning, 2)
        task.hparams.update({name: then.get(name) for name in late})
    memory = checkpoint["quickstudy"]
    losses = ("loss_fn", "class_weights", "mix")
    began = {**{name: then.get(name) for name in losses}, **memory["load_options"], **memory.get("trained_with", {})}
    goes_on = {**{name: now.get(name) for name in losses}, **task.load_options, **task.trained_with}
    changed = [name for name, value in began.items() if name in goes_on and goes_on[name] != value]
    if changed:
        before, after = (", ".join(f"{name}={_said(told[name])}" for name in changed) for told in (began, goes_on))
        task.changed = f"the run began with {before} and goes on with {after}"  # unless its loader refuses it


def _said(value: object) -> str:
    """Return a value for a message, texts without quotes; a tokenizer is a long one."""
    return brief(value)[1:-1] if isinstance(value, str) else brief(value)


def _kind(spec: Any) -> tuple[str | None, dict[str, Any]]:
    """Return the name, in small letters, and the options of an optimizer or a schedule; None where there is none."""
    name, options = (spec, {}) if spec is None or isinstance(spec, str) else spec
    return name and name.lower(), dict(options)


def load_weights(module: nn.Module, weights: Mapping[str, Any], path: Any, given: Iterable[str] = ()) -> None:
    """Put a checkpoint's weights into a module.

    Args:
        module: what they belong to.
        weights: by name.
        path: of the file.
        given: names of the arguments that are not the saved ones.

    Raises:
        DataError: their names or shapes are not the module's.
    """
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        other = f" with another {' and '.join(given)}" if given else ""
        raise DataError(f"the weights in '{path}' are not those of this model{other}: {error}") from error


def memory_of(task: Any) -> dict[str, Any]:
    """Return what a task knows beside its weights, in plain values."""
    return {
        "format": FORMAT,
        "task": type(task).__name__,
        "unsaved": task.unsaved,
        "options": {}
        if task.algorithm is None
        else {key: task.algorithm.options[key] for key in task.algorithm.former},
        "feature_shape": list(task.algorithm.feature_shape if task.algorithm is not None else ()),
        **{name: list(getattr(task, name)) for name in _REMEMBERED},
        "trained_examples": task.trained_examples,
        "validated_examples": task.validated_examples,
        "kind": task.kind.memory(),
        "load_options": task.load_options,
        "inputs": task.encoder.fed,
        "input": task.like if task.like is None else form_of(task.like),
        "trained_with": task.trained_with,
        "lora": adapter_rank(task.encoder.backbone),
        "lora_of_head": 0 if task.head is None else adapter_rank(task.head),
    }


def of_kind(memory: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the kind of answer learned, of what ``memory_of`` returned; older files have it among all else."""
    own: Mapping[str, Any] = memory.get("kind", memory)
    return own


def restore_memory(task: Any, checkpoint: dict[str, Any]) -> None:
    """Give a task what ``memory_of`` returned; weights of low-rank additions become part of the layers.

    Args:
        task: whose additions, if it has any, are those of the run that goes on.
        checkpoint: whose weights may be replaced.
    """
    trainer = trainer_of(task)
    goes_on = trainer is not None and trainer.state.fn == "fit"
    if goes_on:
        check_goes_on(task, checkpoint)
    memory = checkpoint["quickstudy"]
    now, then = task.trained_on, tuple(memory.get("trained_on", ()))
    if now and then and now != then:
        warnings.warn(
            f"the training data is not that of the checkpoint, which had {then[0]} examples; now there are {now[0]} "
            f"(fingerprints {then[1]} and {now[1]}): the run goes on with other episodes",
            DataWarning,
            2,
        )
    weights = {name for name, _ in task.named_parameters()}
    if any(value.dtype == torch.float64 for name, value in checkpoint["state_dict"].items() if name in weights):
        task.double()  # Lightning makes it so only after the weights were put in, which would round them
    if memory.get("lora") and not adapter_rank(task.encoder.backbone):
        backbone, weights = task.encoder.backbone, checkpoint["state_dict"]
        checkpoint["state_dict"] = merged_weights(backbone, memory["lora"], weights, "encoder.backbone.")
    if memory.get("lora_of_head") and task.head is not None and not adapter_rank(task.head):
        rank, weights = memory["lora_of_head"], checkpoint["state_dict"]
        checkpoint["state_dict"] = merged_weights(task.head, rank, weights, "head.")
    known = {name: getattr(task, name) for name in ("trained_classes", "validated_classes")}
    for name in _REMEMBERED:
        setattr(task, name, tuple(dict.fromkeys([*memory.get(name, ()), *known.get(name, ())])))
    task.trained_on = now or then
    for name in ("trained_examples", "validated_examples"):  # of which an older file has none
        setattr(task, name, joined(memory.get(name, getattr(task, name)).cpu(), getattr(task, name)))
    task.kind = task.kind.recalled(of_kind(memory))
    if not (goes_on and task.load_options):  # of data that is loaded otherwise from now on
        task.load_options = dict(memory["load_options"])
    task.trained_with = (goes_on and task.trained_with) or dict(memory.get("trained_with", {}))
    if task.like is None and (form := memory.get("input")):
        task.like = of_form(form)
    task.encoder.fed = task.encoder.fed or memory.get("inputs", "")
