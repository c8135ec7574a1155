"""Which arguments a class takes: its own, and those that it hands on to its bases."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import Field
from inspect import Parameter, Signature
from typing import Any, get_args

_MANY = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


def arguments_of(cls: type, root: type = object) -> Iterator[tuple[Callable[..., Any], list[Parameter]]]:
    """Yield each ``__init__`` of a class and its bases that the class's arguments reach, with those that may reach it.

    ``**options`` are handed on to the next base, and ``*arguments`` too; of ``**options: Unpack[Options]`` only what
    the TypedDict ``Options`` names.

    Args:
        cls: the class.
        root: the last base that counts; if it takes ``**options`` without naming them, these are yielded too.
    """
    handed_on: set[str] | None = None
    in_order = True
    for base in cls.__mro__:
        if not issubclass(base, root) or "__init__" not in vars(base):
            continue
        init = vars(base)["__init__"]
        _, *parameters = inspect.signature(init).parameters.values()
        named = [one for one in parameters if one.kind not in _MANY]
        own = [one for one in named if handed_on is None or one.name in handed_on]
        own = own if in_order else [one.replace(kind=Parameter.KEYWORD_ONLY) for one in own]
        rest = next((one for one in parameters if one.kind is Parameter.VAR_KEYWORD), None)
        yield init, [*own, rest] if rest is not None and base is root and handed_on is None else own
        if rest is None:
            return
        in_order = in_order and any(one.kind is Parameter.VAR_POSITIONAL for one in parameters)
        if "Unpack" in str(rest.annotation):
            with suppress(NameError):  # of what is imported for static checkers alone
                told = eval(rest.annotation, init.__globals__) if isinstance(rest.annotation, str) else rest.annotation
                handed_on = set(get_args(told)[0].__annotations__)


def signature_of(cls: type, root: type, further: Iterable[Field[Any]] = ()) -> Signature:
    """Return a class's arguments as a signature, with those that it hands on to its bases, up to ``root``.

    Args:
        cls: the class.
        root: the last base that counts.
        further: fields of a dataclass that are its arguments, too.
    """
    found: dict[str, Parameter] = {}
    for _, own in arguments_of(cls, root):
        found |= {one.name: one for one in own if one.name not in found}
    for field in further:
        own_way = Parameter(field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type)
        found.setdefault(field.name, own_way)
    return Signature(sorted(found.values(), key=lambda one: one.kind))


def options_of(cls: type, root: type) -> list[str]:
    """Return the names of a class's arguments, with those that it hands on to its bases, up to ``root``."""
    return [name for name, one in signature_of(cls, root).parameters.items() if one.kind not in _MANY]
