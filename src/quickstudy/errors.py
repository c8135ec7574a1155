"""Errors that say what was given, what is needed and what to type."""

from __future__ import annotations

import difflib
import importlib
import reprlib
import sys
import unicodedata
from collections.abc import Iterable
from itertools import islice
from numbers import Integral, Real
from types import ModuleType
from typing import TypeVar

T = TypeVar("T")
_LONGEST = 200  # characters of a name that are compared
_MOST_MEANT = 4  # names that a message asks about
_BRIEF = reprlib.Repr()
_BRIEF.maxstring, _BRIEF.maxother, _BRIEF.maxlong = 80, 200, 80
_BRIEF.maxdict = _BRIEF.maxlist = _BRIEF.maxtuple = 10
_BREAKS = ("Cc", "Cs", "Zl", "Zp")  # control characters, halves of characters, ends of lines and paragraphs
_TURNS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # of the direction of writing


class QuickstudyError(Exception):
    """Base of every error that quickstudy raises on purpose."""


class DataError(QuickstudyError, ValueError):
    """The data cannot serve: missing, unreadable, too few, or at odds with itself.

    Args:
        message: what was given, what is needed, what to do with the data.
        option: how the message ends for who chooses how data is read: which option to set.
    """

    def __init__(self, message: str = "", option: str = "") -> None:
        super().__init__(message + option)
        self.plain = message
        """The message for who only sends data, such as a visitor of a service, and sets no option."""


class UnknownClassError(DataError):
    """There is no class of that name."""


class TakenError(DataError):
    """There is another class of that name."""


class ConfigError(QuickstudyError, ValueError):
    """An option is misspelled, out of range, or does not go with another."""


class TrainingError(QuickstudyError, RuntimeError):
    """A run cannot go on: its loss is no number."""


class MissingPackageError(QuickstudyError, ImportError):
    """An optional package is not installed."""


class DataWarning(UserWarning):
    """Data was left out or looks wrong, and the run goes on without it."""


# What other libraries and papers call it.
_ALSO_CALLED = {
    "adaptation_lr": ("inner_lr", "fast_lr", "alpha", "step_size", "learning_rate"),
    "adaptation_steps": ("inner_steps", "num_inner_steps", "num_steps", "update_step", "steps"),
    "iterations": ("steps", "num_steps", "max_iter"),
    "max_epochs": ("epochs", "num_epochs", "n_epochs"),
    "meta_gradient": ("first_order", "second_order"),
    "meta_batch_size": ("tasks_per_batch", "num_tasks_per_batch"),
    "prototypicalnetworks": ("protonet", "protonets", "proto"),
    "regularization": ("c", "c_reg", "l2"),
    "scale": ("temperature", "tau"),
}


def closest(name: str, known: Iterable[str], otherwise: str = ".") -> str:
    """Return ``"; did you mean 'x'?"`` for the known name nearest to ``name``, or else the end of a sentence."""
    found = _meant(name, known)
    if not found:
        return otherwise
    *others, last = map(repr, found[:_MOST_MEANT])
    return f"; did you mean {' or '.join([', '.join(others), last] if others else [last])}?"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that was probably meant by ``name``; None where none is like it."""
    return next(iter(_meant(name, known)), None)


def _meant(name: str, known: Iterable[str]) -> list[str]:
    """Return the known names that may be meant: one, or those that have it as one of their words."""
    lowered = {option.lower(): option for option in known}
    typed = str(name)[:_LONGEST].lower()
    words = [option for option in lowered if typed in option.replace(".", "_").split("_")]  # epochs: max_epochs
    initials = [option for option in lowered if typed == "".join(word[:1] for word in option.split("_"))]  # lr
    aliases = [option for option in lowered if typed in _ALSO_CALLED.get(option, ())]
    near = difflib.get_close_matches(typed, lowered, n=1, cutoff=0.6)
    return [lowered[one] for one in aliases[:1] or initials[:1] or words or near]


def unknown(kind: str, name: object, known: Iterable[str]) -> ConfigError:
    """Build the error for a name that is not among the known ones."""
    options = sorted(known)
    shown = ", ".join(options[:30]) + (f", ... ({len(options)} in all)" if len(options) > 30 else "")
    return ConfigError(f"unknown {kind} '{one_line(name)}'{closest(str(name), options)} Known: {shown}.")


def check_options(owner: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Check the names of options.

    Raises:
        ConfigError: ``owner`` has no option of a name; the message has the nearest and all there are.
    """
    options = list(known)
    for name in given:
        if name not in options:
            near = closest(name, options)
            raise ConfigError(f"{owner} has no option '{one_line(name)}'{near} It has: {', '.join(options)}")


def check_choice(name: str, given: object, *known: object) -> None:
    """Check an option that is one of a few values.

    Raises:
        ConfigError: it is another.
    """
    if given not in known:
        raise ConfigError(f"{name}={brief(given)} is none of {', '.join(map(repr, known))}")


def check_above_zero(**options: float) -> None:
    """Check options that are numbers above 0.

    Raises:
        ConfigError: one is not; the message names it.
    """
    for name, number in options.items():
        if not isinstance(number, int | float) or isinstance(number, bool) or not 0 < number <= sys.float_info.max:
            raise ConfigError(f"{name}={brief(number)}: it must be an int or a float above 0")


def check_counts(least: int = 1, /, **options: int) -> None:
    """Check options that are whole numbers of at least ``least``.

    Raises:
        ConfigError: one is not; the message names it, and what to type for a number that was written otherwise.
    """
    for name, number in options.items():
        if not isinstance(number, Integral) or isinstance(number, bool) or number < least:
            what = f"{name}={brief(number)}: it must be a whole number of at least {least}"
            raise ConfigError(what + meant(name, number, least))


def meant(name: str, number: object, least: int = 1) -> str:
    """Return the end of a message that says what to type for a whole number that was written otherwise.

    >>> meant("batch_size", "4"), meant("batch_size", 4.0), meant("batch_size", None)
    ('; type batch_size=4', '; type batch_size=4', '')
    """
    written = str(number).strip().removesuffix(".0")
    return f"; type {name}={written}" if written.isdecimal() and int(written) >= least else ""


def check_shares(**options: float) -> None:
    """Check options that are parts of a whole.

    Raises:
        ConfigError: one does not lie between 0 and 1, or is no number; the message names it.
    """
    for name, number in options.items():
        if not isinstance(number, Real) or isinstance(number, bool) or not 0 < number < 1:
            raise ConfigError(f"{name}={brief(number)}: it must lie between 0 and 1, for instance 0.2")


def given(**options: T | None) -> dict[str, T]:
    """Return the options that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def brief(value: object) -> str:
    """Return a value for a message, in one line of bounded length.

    >>> brief("x" * 5_000_000)
    "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'"
    >>> brief(["cat", 7])
    "['cat', 7]"
    """
    if isinstance(value, bytes | bytearray | memoryview) and len(value) > _BRIEF.maxstring:
        return f"{type(value).__name__} of length {len(value)}"
    if hasattr(value, "dtype") and hasattr(value, "shape") and len(value.shape):
        return f"{type(value).__name__} of {value.dtype} and shape {tuple(value.shape)}"
    return one_line(_BRIEF.repr(value))


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its kind, without a full stop, as the sentence goes on.

    >>> first_line(OSError("no network.\\nmore")), first_line(OSError())
    ('no network', 'OSError')
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def one_line(text: object, most: int = 200) -> str:
    """Return a text with what would break its line, or turn it round, written out; a long one is cut.

    >>> one_line("a\\nb"), one_line("été"), one_line(2), one_line("abcdef", 3)
    ('a\\\\nb', 'été', '2', 'abc...')
    """
    words = str(text)
    return "".join(
        each.encode("unicode_escape").decode() if unicodedata.category(each) in _BREAKS or each in _TURNS else each
        for each in words[:most]
    ) + "..." * (len(words) > most)


def few(words: Iterable[str], most: int = 5, between: str = ", ") -> str:
    """Return the first few words of a list, for a message.

    >>> few(["a", "b", "c"]), few(["a", "b", "c"], 2)
    ('a, b, c', 'a, b, ...')
    """
    first = list(islice(words, most + 1))
    return between.join([*first[:most], "..."] if len(first) > most else first)


def shown(names: Iterable[object]) -> str:
    """Return the first few names, for a message.

    >>> shown(["cat", "a\\nb"])
    "'cat', 'a\\\\nb'"
    """
    return few(f"'{one_line(name)}'" for name in names)


def require(package: str, extra: str) -> ModuleType:
    """Import an optional package, or a module of one.

    Raises:
        MissingPackageError: it is not installed; the message holds the pip command.
    """
    name = package.split(".")[0]
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != name:
            raise
        raise MissingPackageError(
            f"this needs the package '{name}', which is not installed. Type: pip install 'quickstudy[{extra}]', or in "
            f"its clone: pip install '.[{extra}]'"
        ) from error
