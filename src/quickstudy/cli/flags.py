"""From signatures and docstrings to flags: options are spelled in one place only, the code that they set."""

from __future__ import annotations

import argparse
import builtins
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import NoneType, UnionType
from typing import Any, Literal, NoReturn, Self, Union, Unpack, get_args, get_origin, get_type_hints

import docstring_parser
from jsonargparse import ArgumentParser

from quickstudy.cli.usage import usage_error
from quickstudy.signatures import arguments_of

_SCALARS = (str, int, float, bool, NoneType, Any)
_CONTAINERS = (list, tuple, dict, Iterable, Mapping, Sequence)


class FlagParser(ArgumentParser):
    """jsonargparse's parser: options are flags or lines of a YAML file, errors are a ``ConfigError`` of one line."""

    words: Sequence[str] = ()
    """What was typed, which may say what options there are."""

    @classmethod
    def for_command(cls, prog: str, about: str) -> Self:
        """Return a parser without options but ``--config`` and ``--print_config``."""
        parser = cls(prog=prog, usage="%(prog)s [options]", description=about, allow_abbrev=False)
        parser.add_argument("--config", action="config", help="a YAML file of options; later flags win")
        return parser

    def read(self, arguments: list[str]) -> argparse.Namespace:
        """Return the options' values, those of a group as a dict; ``yaml`` is the file that says the same.

        What is given by the name of a class is made.
        """
        if (typed := next(filter(self._asks_part_of_plain, arguments), None)) is not None:
            raise usage_error(self, f"unrecognized arguments: {typed}")
        parsed = self.parse_args(arguments)
        made = self.instantiate(parsed).as_dict()
        parsed.pop("config", None)
        text = self.dump(parsed)
        if self.parse_string(text) != parsed:  # a null that stands for something, which dump leaves out
            text = self.dump(parsed, skip_unset=False)
        return argparse.Namespace(**{"data": {}, **made, "yaml": text})

    def _asks_part_of_plain(self, word: str) -> bool:
        """Whether a word is ``--OPTION.PART`` of an option, or MODEL, that has no parts: jsonargparse takes those."""
        typed = word.split("=")[0]
        if not typed.startswith("--") or any(typed in action.option_strings for action in self._actions):
            return False
        whole = [action for action in self._actions if typed[2:].startswith(f"{action.dest}.")]
        return any(_is_plain(getattr(action, "_typehint", None)) for action in whole)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the error instead of printing it with the usage."""
        if not self.exit_on_error:  # jsonargparse tries one type of several, and goes on to the next
            super().error(message, ex)
        raise usage_error(self, message) from ex


@dataclass(frozen=True)
class Flag:
    """One option.

    Args:
        type: what text can spell of its type; None: nothing.
        default: ``SUPPRESS`` leaves the option out where it is not given.
        help: what the docstring says of it.
    """

    type: Any
    default: Any
    help: str


Flags = dict[str, Flag]


def function_flags(function: Callable[..., Any], classes: tuple[type, ...] = ()) -> Flags:
    """Return a function's arguments as options; those that only code can give are left out.

    Args:
        function: annotated, and documented in Google's style; of ``**options: Unpack[Options]`` those that the
            TypedDict ``Options`` names are its arguments, too.
        classes: what may be given by the name of a class and its options, as jsonargparse has it.
    """
    hints, told = get_type_hints(function, localns=_Names(function)), _explanations(function.__doc__)
    flags: Flags = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if get_origin(hints.get(name)) is Unpack:
            flags |= _named_flags(get_args(hints.pop(name))[0], classes)
        if name in hints and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            default = argparse.SUPPRESS if parameter.default is parameter.empty else parameter.default
            flags[name] = Flag(_plain(hints[name], classes), default, "")
    return {
        name: replace(flag, help=flag.help or told.get(name, ""))
        for name, flag in flags.items()
        if flag.type is not None
    }


class _OfCode:
    """What an annotation names that its module imports for type checkers alone: no text spells it."""


class _Names(dict[str, Any]):
    """What the names in a function's annotations stand for."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__({**vars(builtins), **getattr(inspect.unwrap(function), "__globals__", {})})

    def __missing__(self, name: str) -> type:
        return _OfCode


def _named_flags(named: Any, classes: tuple[type, ...]) -> Flags:
    """Return the options that a ``TypedDict`` names, which are left out where they are not given."""
    told = _explanations(named.__doc__)
    return {
        name: Flag(_plain(hint, classes), argparse.SUPPRESS, told.get(name, ""))
        for name, hint in get_type_hints(named).items()
    }


def class_flags(cls: type, classes: tuple[type, ...] = ()) -> Flags:
    """Return a class's arguments as options, together with what it hands on to its bases as ``**options``."""
    flags: Flags = {}
    for init, own in arguments_of(cls):
        found = function_flags(init, classes)
        flags = {one.name: found[one.name] for one in own if one.name in found} | flags
    told: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        told |= _explanations(base.__doc__)
    return {name: replace(flag, help=flag.help or told.get(name, "")) for name, flag in flags.items()}


def field_flags(cls: type, names: Sequence[str]) -> Flags:
    """Return some fields of a dataclass as options, those of its bases too; what only code can give is left out."""
    hints = get_type_hints(cls)
    told: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        told |= _explanations(base.__doc__)
    flags = {name: Flag(_plain(hints[name], ()), getattr(cls, name), told.get(name, "")) for name in names}
    return {name: flag for name, flag in flags.items() if flag.type is not None}


def optional(flags: Mapping[str, Flag]) -> Flags:
    """Return options that are left out where they are not given."""
    return {name: replace(flag, default=argparse.SUPPRESS) for name, flag in flags.items()}


def add_flags(parser: ArgumentParser, flags: Mapping[str, Flag], title: str, about: str = "", prefix: str = "") -> None:
    """Add options to a parser under a heading, named ``--PREFIX.NAME``."""
    group = parser.add_argument_group(title, about or None)
    for name, flag in flags.items():
        option = f"--{prefix}.{name}" if prefix else f"--{name}"
        group.add_argument(option, type=flag.type, default=flag.default, help=flag.help)


def _is_plain(annotation: Any) -> bool:
    """Whether a type has no parts that text could name one by one."""
    if get_origin(annotation) in (Union, UnionType):
        return all(map(_is_plain, get_args(annotation)))
    return annotation in (str, int, float, bool, NoneType) or get_origin(annotation) is Literal


def _plain(annotation: Any, classes: tuple[type, ...]) -> Any:
    """Return the part of a type that text can spell, None where there is none."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    known_class = isinstance(annotation, type) and issubclass(annotation, classes)
    if annotation in _SCALARS or origin is Literal or known_class:
        return annotation
    parts = [_plain(argument, classes) for argument in arguments if argument is not Ellipsis]
    if origin in (Union, UnionType):
        # The first type that fits is taken, and every text fits str.
        kept = sorted((part for part in parts if part is not None), key=lambda part: part is str)
        if int in kept and float in kept:  # which fits whole numbers, too, and may stand first by typing's memory
            kept.remove(int)
            kept.insert(kept.index(float), int)
        return Union[tuple(kept)] if set(kept) - {NoneType} else None  # noqa: UP007
    return annotation if origin in _CONTAINERS and None not in parts else None


def _explanations(docstring: str | None) -> dict[str, str]:
    """Return what a docstring says of each argument; ``a, b: ...`` speaks of both."""
    told = {}
    for parameter in docstring_parser.parse(docstring or "").params:
        text = re.sub(r":\w+:`~?([^`]*)`", r"\1", " ".join((parameter.description or "").split()))
        for name in parameter.arg_name.split(","):
            told[name.strip()] = text.replace("``", "")
    return told
