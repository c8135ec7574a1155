"""What a task asks of its data before it trains: an example, the inputs of a stage, how they are scaled."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from quickstudy.batches import Batch, each, take
from quickstudy.data.identity import identities, joined, shared, warn_of_seen
from quickstudy.data.loading import BatchDataset, inputs_of
from quickstudy.data.scan import folder_labels
from quickstudy.data.table import Inputs, Table, count_of
from quickstudy.data.targets import Label
from quickstudy.data.torch_sets import DatasetInputs
from quickstudy.episode import Episode
from quickstudy.errors import ConfigError, DataWarning, brief
from quickstudy.modality.values import Values, scale_of
from quickstudy.nets import Encoder
from quickstudy.training.processes import is_first
from quickstudy.training.quirks import given_loader, trainer_of


def given_head(head: str | nn.Module) -> nn.Module | None:
    """Return the head where it is a module; a linear one is made once the data is known.

    Raises:
        ConfigError: it is neither.
    """
    if isinstance(head, nn.Module):
        return head
    if head != "linear":
        raise ConfigError(f"head={brief(head)} is neither 'linear' nor a module from [B, D] to [B, C]")
    return None


def example_for(encoder: Encoder, data: Any, trainer: Any, stage: str) -> Batch:
    """Return an input as a network is fed with it, with a leading axis of 1, where its parameters are.

    Args:
        encoder: the network.
        data: a data module, or None: then the example is from the loader that the trainer was given.
        trainer: Lightning's.
        stage: ``"fit"``, ``"validate"`` or ``"test"``.

    Raises:
        ConfigError: there is neither.
    """
    if data is not None:
        example = data.example()
    else:
        loader = given_loader(trainer, stage)
        if loader is None:
            raise ConfigError("the model has no head yet: call trainer.fit first, or load a checkpoint")
        batch = next(iter(loader))
        example = take(batch.support, 0) if isinstance(batch, Episode) else inputs_of(batch)
    return each(lambda leaf: leaf[:1].to(encoder.device), example)


class Examples(NamedTuple):
    """What tells examples from others."""

    inputs: Inputs
    numbers: Any = None
    """``[N]``, where the same input with another number is another example."""


def examples_for(
    data: Any, trainer: Any, stage: str, labelled: Collection[Label] | None = None, *, by_class: bool = False
) -> list[Examples]:
    """Return the examples that a stage goes through, one for each loader whose inputs can be told apart.

    Args:
        data: a data module, where there is no trainer.
        trainer: Lightning's, which may go through loaders though it has a data module from before.
        stage: ``"fit"``, ``"val"`` (of a fit), ``"validate"``, ``"test"`` or ``"predict"``.
        labelled: only those whose labels are known, by targets or by class folders of these classes; None: all.
        by_class: whether ``val_split`` divides the classes. Equal inputs of groups are then the same examples where
            their numbers are equal too: each group has answers of its own.
    """
    sources: list[Any]  # tables, or data sets of others
    loaders = data if trainer is None else given_loader(trainer, stage)
    if hasattr(loaders, "table"):
        sources = [loaders.table({"fit": "train", "validate": "val"}.get(stage, stage), by_class=by_class)]
    else:
        listed = loaders if isinstance(loaders, (list, tuple)) else [loaders]
        datasets = [getattr(loader, "dataset", None) for loader in listed]
        sources = [each.table if isinstance(each, BatchDataset) else each for each in datasets]
    found: list[Examples] = []
    for source in sources:
        if isinstance(source, Table):
            if labelled is None or source.targets is not None or folder_labels(source.inputs, labelled):
                found.append(Examples(source.inputs, source.targets if by_class and source.numeric else None))
        elif labelled is None and hasattr(source, "__len__") and hasattr(source, "__getitem__"):
            found.append(Examples(DatasetInputs(source)))
    return found


def meet_inputs(encoder: Encoder, data: Any, stage: str, by_class: bool) -> None:
    """Note what training feeds the network with; warn where other stages feed it with something else.

    Args:
        encoder: what is trained.
        data: its data.
        stage: ``"fit"``, ``"validate"``, ``"test"`` or ``"predict"``.
        by_class: whether ``val_split`` divides the classes.
    """
    values = data.modality.values(encoder)
    if stage != "fit":
        name = {"validate": "val", "test": "test", "predict": "predict"}[stage]
        inputs = data.few(name, by_class=by_class)
        if not isinstance(inputs, Tensor):
            return
        _warn_of_dark(values, inputs, name)
        if encoder.fed and (encoder.fed == "uint8") != (inputs.dtype == torch.uint8):
            trained = "uint8, which it scales itself" if encoder.fed == "uint8" else "floats, which are fed as they are"
            _warn(
                f"the model was trained on {trained}, and the {name} data is {_kind(inputs)}: load it as the training "
                f"data was, or give its transform to this stage too, transform={{'{name}': ...}}"
            )
        return
    train, val = (data.few(name, by_class=by_class) for name in ("train", "val"))
    if isinstance(val, Tensor):
        _warn_of_dark(values, val, "val")
    if not isinstance(train, Tensor):
        return
    _warn_of_dark(values, train, "train")
    encoder.fed = scale_of(train)
    if told := values.caution(train):
        _warn(f"the training {told}")
    if not isinstance(val, Tensor):
        return
    other = train.shape[1:] != val.shape[1:] or train.dtype != val.dtype
    if other or (values.ranged and train.ndim == 4 and {encoder.fed, scale_of(val)} == {"0..1", "0..255"}):
        _warn(
            f"training feeds the network with {_kind(train)} and validation with {_kind(val)}, where it must do worse. "
            "A transform alone is for training; transform={'train': ..., 'val': ..., 'test': ...} says what each stage "
            "goes through"
        )


_JUDGING = {"val": "validation", "validate": "validation", "test": "test", "predict": "prediction"}


def compare_examples(task: Any, data: Any, stage: str) -> None:
    """Remember what trains a task and chooses its checkpoint, and warn where it is judged by such examples.

    Args:
        task: of ordinary training, or of episodes, whose classes may hold the same under other names.
        data: a data module, where there is no trainer.
        stage: ``"fit"``, ``"validate"``, ``"test"`` or ``"predict"``.
    """
    task.seen_before = task.chosen_by = 0
    if not is_first():
        return
    found = partial(examples_for, data, trainer_of(task), by_class=task.procedure.by_class)
    if stage == "fit":
        for trained in found(stage):
            task.trained_examples = joined(task.trained_examples, identities(*trained))
    if not len(task.trained_examples):
        return
    judging = "val" if stage == "fit" else stage
    labelled = task.classes if stage == "predict" else None  # without a label no figure follows
    judged = found(judging, labelled)
    examples = torch.cat([torch.empty(0, dtype=torch.int64), *(identities(*each) for each in judged)])
    task.seen_before = shared(examples, task.trained_examples)
    of_all = f"of the {sum(count_of(each.inputs) for each in judged)} examples of this {_JUDGING[judging]}"
    when = "is to be" if stage == "fit" else "was"
    warn_of_seen(task.seen_before, f"the model {when} trained on at least {task.seen_before} {of_all}")
    if stage == "fit":
        task.validated_examples = joined(task.validated_examples, examples)
    if stage == "test":
        task.chosen_by = shared(examples, task.validated_examples)
        if task.chosen_by:
            warnings.warn(
                f"at least {task.chosen_by} {of_all} chose the model's checkpoint, so that the figure flatters it: "
                "test it on examples that chose nothing",
                DataWarning,
                2,
            )


def _warn_of_dark(values: Values, inputs: Tensor, name: str) -> None:
    if told := values.dark(inputs):
        _warn(f"the {name} {values.called} are {told}")


def _kind(inputs: Tensor) -> str:
    low, high = (float(value) for value in inputs.aminmax())
    kind = str(inputs.dtype).removeprefix("torch.")
    return f"{kind} of shape {tuple(inputs.shape[1:])} from {low:.3g} to {high:.3g}"


def _warn(message: str) -> None:
    warnings.warn(message, DataWarning, 4)
