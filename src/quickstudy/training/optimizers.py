"""Optimizers and learning-rate schedules by name: every one of torch's, timm's optimizers, and those of one's own."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn
from torch.nn import Parameter
from torch.optim import Optimizer, lr_scheduler

from quickstudy.errors import ConfigError, brief, check_options, require
from quickstudy.registry import OWN, Registry, exact, name_and_options

Parameters = Iterable[Parameter] | Iterable[dict[str, Any]]
OptimizerSpec = str | tuple[str, Mapping[str, Any]] | Callable[[Any], Optimizer]
SchedulerSpec = str | tuple[str, Mapping[str, Any]] | Callable[[Optimizer], Any]

OPTIMIZERS: Registry[Callable[..., Optimizer]] = Registry("optimizer", hint=OWN)
"""By name: torch's, and one's own. An entry is called with parameters, or groups of them, and options like ``lr``."""
SCHEDULERS: Registry[Callable[..., Any]] = Registry("lr_scheduler", hint=OWN)
"""By name: torch's, and one's own. An entry is called with an optimizer and its options, as torch's are."""

_TIMM = "timm."
_PER_STEP = {"OneCycleLR", "CyclicLR"}
_LIGHTNING_KEYS = ("interval", "frequency", "monitor")
_PARTIAL = {"Muon", "SparseAdam"}  # they take matrices only, sparse gradients only: no whole network


def available_optimizers() -> list[str]:
    """Return the names that ``optimizer=`` takes."""
    return sorted([*OPTIMIZERS.names(), *_timms()])


def available_schedulers() -> list[str]:
    """Return the names that ``lr_scheduler=`` takes."""
    return SCHEDULERS.names()


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
        spec: a name of torch.optim, of timm's (``"timm.lamb"``) or of ``OPTIMIZERS``, ``(name, options)``, or a
            function of the parameters.
        parameters: what it trains, or groups of them.
        learning_rate: of all but the groups that have their own; None for that of ``spec``.

    Raises:
        ConfigError: the name or an option is unknown, or the function has several learning rates of its own.
        MissingPackageError: the name is of timm's, which is not installed.
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
    name, options = name_and_options("optimizer", spec, _exact_optimizer, "a function")
    if learning_rate is not None:
        options["lr"] = learning_rate
    made = _call("optimizer", name, OPTIMIZERS[name] if name in OPTIMIZERS else _timms()[name], parameters, options)
    if not isinstance(made, Optimizer):
        raise ConfigError(f"optimizer '{name}' made {brief(made)}, which is no torch.optim.Optimizer")
    return made


def build_scheduler(spec: SchedulerSpec, optimizer: Optimizer) -> dict[str, Any]:
    """Make a learning-rate schedule in Lightning's form.

    Args:
        spec: a name of torch.optim.lr_scheduler or of ``SCHEDULERS``, ``(name, options)``, or a function of the
            optimizer. Among the options, ``interval="step" | "epoch"``, ``frequency`` and ``monitor`` say when it
            moves.
        optimizer: what it steers.

    Raises:
        ConfigError: the name or an option is unknown.
    """
    if callable(spec):
        return {"scheduler": spec(optimizer), "interval": "epoch"}
    name, options = name_and_options("lr_scheduler", spec, _exact_scheduler, "a function")
    when = {key: options.pop(key) for key in _LIGHTNING_KEYS if key in options}
    when.setdefault("interval", "step" if name in _PER_STEP else "epoch")
    if when["interval"] not in ("step", "epoch"):
        raise ConfigError(
            f"lr_scheduler '{name}' has interval={brief(when['interval'])}: it moves by 'step' or by 'epoch'"
        )
    if name == "ReduceLROnPlateau":
        when.setdefault("monitor", "val_loss")
    return {"scheduler": _call("lr_scheduler", name, SCHEDULERS[name], optimizer, options), **when}


def check_specs(optimizer: OptimizerSpec, learning_rate: float | None, scheduler: SchedulerSpec | None) -> None:
    """Try both on a parameter of their own, so that a wrong option is found before any work is done.

    Raises:
        ConfigError: a name or an option is unknown, or the learning rate is given twice.
        MissingPackageError: the optimizer is one of timm's, which is not installed.
    """
    parameters = [Parameter(torch.zeros(1))]
    made = torch.optim.SGD(parameters) if callable(optimizer) else build_optimizer(optimizer, parameters, learning_rate)
    own = {} if isinstance(optimizer, str) or callable(optimizer) else dict(optimizer[1])
    if learning_rate is not None and own.get("lr", learning_rate) != learning_rate:
        raise ConfigError(f"optimizer={brief(optimizer)} and learning_rate={learning_rate} differ: leave one out")
    if scheduler is None or callable(scheduler):
        return
    if any(group["lr"] is None for group in made.param_groups):
        raise ConfigError(f"optimizer={brief(optimizer)} has no rate that lr_scheduler= could move: set learning_rate=")
    schedule = build_scheduler(scheduler, made)["scheduler"]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*before `optimizer.step")
            schedule.step(*([0.0] if isinstance(schedule, lr_scheduler.ReduceLROnPlateau) else []))
    except Exception as error:
        raise ConfigError(f"lr_scheduler={brief(scheduler)} fails at its first step: {error}") from error


def _exact_optimizer(name: str) -> str:
    """Return an optimizer's exact name; timm is imported only where none else is meant."""
    if own := exact(name, OPTIMIZERS.names()):
        return own
    if name.lower().startswith(_TIMM):
        require("timm", extra="image")
    if found := exact(name, _timms()):
        return found
    raise OPTIMIZERS.unknown(name, _timms())


def _exact_scheduler(name: str) -> str:
    if found := exact(name, SCHEDULERS.names()):
        return found
    raise SCHEDULERS.unknown(name)


@cache
def _timms() -> dict[str, Callable[..., Optimizer]]:
    """Return timm's, such as ``timm.lamb``, with timm's options for the name; none where it is not installed.

    Those of other packages are left out, those that need second derivatives, and Kron, which needs opt_einsum.
    """
    if not find_spec("timm"):
        return {}
    timm = require("timm.optim", extra="image")
    found = {}
    for name in timm.list_optimizers(exclude_filters=["kron*"]):
        told = timm.get_optimizer_info(name)
        if isinstance(told.opt_class, str) or told.second_order:
            continue
        make = timm.get_optimizer_class(name)
        momentum = inspect.signature(make).parameters.get("momentum")
        # timm has a momentum of 0.9 wherever there is one; its classes alone have 0, which their Nesterov refuses
        found[_TIMM + name] = partial(make, momentum=0.9) if momentum and momentum.default == 0 else make
    return found


def _classes(module: Any, base: type) -> dict[str, Any]:
    members = vars(module).items()
    return {
        name: member
        for name, member in members
        if inspect.isclass(member) and issubclass(member, base) and member is not base and not name.startswith("_")
    }


def _call(kind: str, name: str, make: Callable[..., Any], first: Any, options: Mapping[str, Any]) -> Any:
    known = list(inspect.signature(make).parameters.values())[1:]
    if all(each.kind != each.VAR_KEYWORD for each in known):
        check_options(f"{kind} '{name}'", options, [each.name for each in known])
    try:
        return make(first, **options)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ConfigError(f"{kind} '{name}' cannot be made with {dict(options)}: {error}") from error


for _name, _made in _classes(torch.optim, Optimizer).items():
    if _name not in _PARTIAL:
        OPTIMIZERS.register(_name)(_made)
for _name, _made in _classes(lr_scheduler, lr_scheduler.LRScheduler).items():
    SCHEDULERS.register(_name)(_made)
