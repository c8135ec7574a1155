"""Optimizers and learning-rate schedules by name: every one of torch's."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import Parameter
from torch.optim import Optimizer, lr_scheduler

from quickstudy.errors import ConfigError, brief, check_options
from quickstudy.registry import name_and_options

Parameters = Iterable[Parameter] | Iterable[dict[str, Any]]
OptimizerSpec = str | tuple[str, Mapping[str, Any]] | Callable[[Any], Optimizer]
SchedulerSpec = str | tuple[str, Mapping[str, Any]] | Callable[[Optimizer], Any]

_PER_STEP = {"OneCycleLR", "CyclicLR"}
_LIGHTNING_KEYS = ("interval", "frequency", "monitor")
_PARTIAL = {"Muon", "SparseAdam"}  # they take matrices only, sparse gradients only: no whole network


def available_optimizers() -> list[str]:
    """Return the names that ``optimizer=`` takes."""
    return sorted(_optimizers())


def available_schedulers() -> list[str]:
    """Return the names that ``lr_scheduler=`` takes."""
    return sorted(_classes(lr_scheduler, lr_scheduler.LRScheduler))


def grouped(parameters: list[Parameter], backbone: nn.Module, backbone_lr: float | None) -> Parameters:
    """Return parameters, those of the backbone in a group of their own if they have their own learning rate."""
    if backbone_lr is None:
        return parameters
    own = {id(parameter) for parameter in backbone.parameters()}
    groups = (
        {"params": [parameter for parameter in parameters if id(parameter) not in own]},
        {"params": [parameter for parameter in parameters if id(parameter) in own], "lr": backbone_lr},
    )
    return [group for group in groups if group["params"]]


def build_optimizer(spec: OptimizerSpec, parameters: Parameters, learning_rate: float | None) -> Optimizer:
    """Make an optimizer.

    Args:
        spec: a name of torch.optim, ``(name, options)``, or a function of the parameters.
        parameters: what it trains, or groups of them.
        learning_rate: of all but the groups that have their own; None for that of ``spec``.

    Raises:
        ConfigError: the name or an option is unknown, or the function has several learning rates of its own.
    """
    if learning_rate is not None and not 0 < learning_rate < math.inf:
        raise ConfigError(f"learning_rate={learning_rate}: it must be above 0, for instance 0.001")
    if callable(spec):
        groups = list(parameters)
        own = {id(p) for group in groups if isinstance(group, dict) and "lr" in group for p in group["params"]}
        made = spec(groups)
        others = [group for group in made.param_groups if not own.issuperset(map(id, group["params"]))]
        rates = {float(group["lr"]) for group in others if "lr" in group}
        if learning_rate is not None and len(rates) > 1:
            raise ConfigError(f"the function optimizer= has {len(rates)} learning rates of its own: leave out ours")
        for group in others if learning_rate is not None else ():
            group["lr"] = learning_rate
        return made
    known = _optimizers()
    name, options = name_and_options("optimizer", spec, known, "a function")
    if learning_rate is not None:
        options["lr"] = learning_rate
    optimizer: Optimizer = _call("optimizer", name, known, parameters, options)
    return optimizer


def build_scheduler(spec: SchedulerSpec, optimizer: Optimizer) -> dict[str, Any]:
    """Make a learning-rate schedule in Lightning's form.

    Args:
        spec: a name of torch.optim.lr_scheduler, ``(name, options)``, or a function of the optimizer. Among the
            options, ``interval="step" | "epoch"``, ``frequency`` and ``monitor`` say when it moves.
        optimizer: what it steers.

    Raises:
        ConfigError: the name or an option is unknown.
    """
    if callable(spec):
        return {"scheduler": spec(optimizer), "interval": "epoch"}
    known = _classes(lr_scheduler, lr_scheduler.LRScheduler)
    name, options = name_and_options("lr_scheduler", spec, known, "a function")
    when = {key: options.pop(key) for key in _LIGHTNING_KEYS if key in options}
    when.setdefault("interval", "step" if name in _PER_STEP else "epoch")
    if when["interval"] not in ("step", "epoch"):
        raise ConfigError(
            f"lr_scheduler '{name}' has interval={brief(when['interval'])}: it moves by 'step' or by 'epoch'"
        )
    if name == "ReduceLROnPlateau":
        when.setdefault("monitor", "val_loss")
    return {"scheduler": _call("lr_scheduler", name, known, optimizer, options), **when}


def check_specs(optimizer: OptimizerSpec, learning_rate: float | None, scheduler: SchedulerSpec | None) -> None:
    """Try both on a parameter of their own, so that a wrong option is found before any work is done.

    Raises:
        ConfigError: a name or an option is unknown, or the learning rate is given twice.
    """
    parameters = [Parameter(torch.zeros(1))]
    made = torch.optim.SGD(parameters) if callable(optimizer) else build_optimizer(optimizer, parameters, learning_rate)
    own = {} if isinstance(optimizer, str) or callable(optimizer) else dict(optimizer[1])
    if learning_rate is not None and own.get("lr", learning_rate) != learning_rate:
        raise ConfigError(f"optimizer={brief(optimizer)} and learning_rate={learning_rate} differ: leave one out")
    if scheduler is None or callable(scheduler):
        return
    schedule = build_scheduler(scheduler, made)["scheduler"]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*before `optimizer.step")
            schedule.step(*([0.0] if isinstance(schedule, lr_scheduler.ReduceLROnPlateau) else []))
    except Exception as error:
        raise ConfigError(f"lr_scheduler={brief(scheduler)} fails at its first step: {error}") from error


def _optimizers() -> dict[str, Any]:
    return {name: found for name, found in _classes(torch.optim, Optimizer).items() if name not in _PARTIAL}


def _classes(module: Any, base: type) -> dict[str, Any]:
    members = vars(module).items()
    return {
        name: member
        for name, member in members
        if inspect.isclass(member) and issubclass(member, base) and member is not base and not name.startswith("_")
    }


def _call(kind: str, name: str, known: Mapping[str, Any], first: Any, options: Mapping[str, Any]) -> Any:
    check_options(f"{kind} '{name}'", options, list(inspect.signature(known[name]).parameters)[1:])
    try:
        return known[name](first, **options)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ConfigError(f"{kind} '{name}' cannot be made with {dict(options)}: {error}") from error
