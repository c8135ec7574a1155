"""Plain values for algorithms, functions and learned states, so that a file needs no code."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import quickstudy.pictures  # noqa: F401  (registers its load)
from quickstudy.algorithms import STRATEGIES, Algorithm
from quickstudy.data.samples import LOADS, Load
from quickstudy.errors import ConfigError


def name_of(algorithm: Algorithm) -> str:
    """Return the name that an algorithm is registered by."""
    if name := STRATEGIES.name_of(type(algorithm)):
        return name
    raise ConfigError(
        f"{type(algorithm).__name__} has no name to be found by: register it, @STRATEGIES.register('my_algorithm')"
    )


def named_load(load: Load) -> dict[str, Any] | None:
    """Return a domain's function by its name, with its options; others' code has none. None: tensors as they are."""
    function, options = (load.func, load.keywords) if isinstance(load, partial) else (load, {})
    for name in LOADS.names():
        if LOADS[name] is function:
            return {"name": name, "options": dict(options)}
    return None if function is torch.as_tensor else {"name": None, "options": {}}


def found_load(entry: Mapping[str, Any] | None, place: Path) -> Load:
    """Return what ``named_load`` named."""
    if entry is None:
        return torch.as_tensor
    if entry["name"] is None:
        raise ConfigError(
            f"the model in '{place}' loads its inputs by code that is not quickstudy's: give the same function again, "
            "Predictor.load(folder, load=...)"
        )
    return partial(LOADS[entry["name"]], **entry["options"])


def taken_apart(value: Any, tensors: dict[str, Tensor], name: str) -> Any:
    """Move the tensors of a state into ``tensors``, and return what joins them again."""
    if value is None:
        return None
    if isinstance(value, Tensor):
        tensors[name] = value
        return name
    if isinstance(value, Mapping):
        return {"mapping": {key: taken_apart(each, tensors, f"{name}.{key}") for key, each in value.items()}}
    kind = "tuple" if isinstance(value, tuple) else "list"
    return {kind: [taken_apart(each, tensors, f"{name}.{number}") for number, each in enumerate(value)]}


def joined(skeleton: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Put together what ``taken_apart`` took apart."""
    if skeleton is None:
        return None
    if isinstance(skeleton, str):
        return tensors[skeleton]
    ((kind, parts),) = skeleton.items()
    if kind == "mapping":
        return {key: joined(each, tensors) for key, each in parts.items()}
    values = [joined(each, tensors) for each in parts]
    return tuple(values) if kind == "tuple" else values
