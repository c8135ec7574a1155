"""Plain values for algorithms, functions and learned states, so that a file needs no code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from quickstudy.algorithms import STRATEGIES, Algorithm
from quickstudy.errors import ConfigError
from quickstudy.kinds.base import Kind


def name_of(algorithm: Algorithm) -> str:
    """Return the name that an algorithm is registered by."""
    if name := STRATEGIES.name_of(type(algorithm)):
        return name
    raise ConfigError(
        f"{type(algorithm).__name__} has no name to be found by: register it, @STRATEGIES.register('my_algorithm')"
    )


def named_kind(kind: Kind) -> dict[str, Any]:
    """Return what a saved model holds of what an answer is: the name that it is registered by, and its options."""
    if (described := kind.described())["name"] is not None:
        return described
    raise ConfigError(f"{type(kind).__name__} has no name to be found by: register it, @KINDS.register('my_kind')")


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
