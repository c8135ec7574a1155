"""Names for things: one table per kind, filled by the file that defines the thing."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, Generic, TypeVar

from quickstudy.errors import ConfigError, brief, first_line, unknown

T = TypeVar("T")
OWN = "One of your own is known once its module is imported; on the command line: --import my_file.py"
"""What a message says of names that are not known where anybody may register further ones."""


def exact(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is this one, or is but for its case; None where none is.

    >>> exact("sgd", ["SGD", "Adam"]), exact("adam", ["Adam", "adam"]), exact("lion", ["SGD"])
    ('SGD', 'adam', None)
    """
    names = list(known)
    return name if name in names else {each.lower(): each for each in names}.get(name.lower())


def name_and_options(
    kind: str, spec: object, known: Iterable[str] | Callable[[str], str], *further: str
) -> tuple[str, dict[str, Any]]:
    """Return the exact name, whatever its case was, and the options of a name or of ``(name, options)``.

    Args:
        kind: what is named, in messages.
        spec: what was given.
        known: the names; or a function of what was given that returns the exact name, or raises.
        further: what else might have been given.

    Raises:
        ConfigError: it is neither, or the name is unknown.

    >>> name_and_options("optimizer", ("sgd", {"lr": 0.1}), ["SGD", "Adam"])
    ('SGD', {'lr': 0.1})
    """
    if isinstance(spec, str):
        spec = (spec, {})
    if isinstance(spec, (tuple, list)) and len(spec) == 2 and isinstance(spec[0], str) and isinstance(spec[1], Mapping):
        if callable(known):
            return known(spec[0]), dict(spec[1])
        found = exact(spec[0], known)
        if found is None:
            raise unknown(kind, spec[0], known)
        return found, dict(spec[1])
    choices = ", ".join(("a name", "a (name, {option: value}) pair", *further))
    raise ConfigError(f"{kind}={brief(spec)} is none of: {choices}")


class Registry(Generic[T]):
    """A table from public names to objects.

    Args:
        kind: what they are, in messages.
        group: of entry points by which installed packages offer further ones; each is imported when it is asked for.
        hint: what a message says of names that are not known.
        homes: by name, quickstudy's own modules that register it; each is imported when it is asked for.
        further: its modules that register further ones, which are imported once a name is not known without them.

    >>> greetings = Registry[str]("greeting")
    >>> greetings.register("hello")("Hello!")
    'Hello!'
    >>> greetings["hello"]
    'Hello!'
    >>> greetings["helo"]
    Traceback (most recent call last):
    ...
    quickstudy.errors.ConfigError: unknown greeting 'helo'; did you mean 'hello'? Known: hello.
    """

    def __init__(
        self,
        kind: str,
        group: str | None = None,
        hint: str = "",
        homes: Mapping[str, str] | None = None,
        further: Iterable[str] = (),
    ) -> None:
        self.kind, self._group, self._hint = kind, group, hint
        self._homes, self._further = dict(homes or {}), list(further)
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that files its object under ``name``; a name can be taken once."""

        def add(entry: T) -> T:
            if name in self._entries and self._entries[name] is not entry:
                raise ValueError(f"the {self.kind} '{name}' exists already: choose another name")
            self._entries[name] = entry
            return entry

        return add

    @contextmanager
    def meanwhile(self, name: str, entry: T) -> Iterator[None]:
        """File an object under a free name for as long as the context takes."""
        self.register(name)(entry)
        try:
            yield
        finally:
            del self._entries[name]

    def __getitem__(self, name: str) -> T:
        if name not in self._entries and name in self._homes:
            importlib.import_module(self._homes[name])
        if name not in self._entries:
            self._import_further()
        if name not in self._entries:
            self._import(name, [point for point in self._offered() if point.name == name])
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        if name in self._entries or name in self._homes:
            return True
        self._import_further()
        return name in self._entries or any(point.name == name for point in self._offered())

    def names(self) -> list[str]:
        """Return every name, sorted; those that packages offer too, though some may fail."""
        self._import_further()
        return sorted({*self._entries, *self._homes, *(point.name for point in self._offered())})

    def registered(self) -> list[str]:
        """Return the names of what is here already, sorted."""
        return sorted(self._entries)

    def name_of(self, entry: object) -> str | None:
        """Return the name that something is registered by, None where it has none."""
        return next((name for name in self.registered() if self._entries[name] is entry), None)

    def unknown(self, name: str, further: Iterable[str] = ()) -> ConfigError:
        """Build the error for a name that is neither here nor one of some further ones."""
        error = unknown(self.kind, name, [*self.names(), *further])
        return ConfigError(f"{error} {self._hint}") if self._hint else error

    def _import_further(self) -> None:
        for module in self._further:
            importlib.import_module(module)

    def _offered(self) -> Iterable[EntryPoint]:
        return entry_points(group=self._group) if self._group else ()

    def _import(self, name: str, points: list[EntryPoint]) -> None:
        if not points:
            raise self.unknown(name)
        packages = [point.dist.name if point.dist else point.module for point in points]
        if len(points) > 1:
            raise ConfigError(f"several packages offer the {self.kind} '{name}': keep one of {', '.join(packages)}")
        offer = f"the package {packages[0]} offers the {self.kind} '{name}' ({points[0].value})"
        try:
            found = points[0].load()
        except Exception as error:  # whatever code of others raises
            raise ConfigError(f"{offer}, which fails: {type(error).__name__}: {first_line(error)}") from error
        if name not in self._entries and isinstance(found, ModuleType):
            raise ConfigError(f"{offer}, which registers none of that name")
        self._entries.setdefault(name, found)
