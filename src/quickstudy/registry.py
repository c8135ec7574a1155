"""Names for things: one table per kind, filled by the file that defines the thing."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Generic, TypeVar

from quickstudy.errors import unknown

T = TypeVar("T")


def options_of(cls: type, root: type) -> list[str]:
    """Return the names of a class's arguments, with those that it hands on to its bases, up to ``root``."""
    found: dict[str, None] = {}
    for base in cls.__mro__:
        if issubclass(base, root) and "__init__" in vars(base):
            parameters = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
            rest = [option for option in parameters if option.kind is option.VAR_KEYWORD]
            found |= dict.fromkeys(option.name for option in parameters if option not in rest)
            if not rest:
                break
    return list(found)


class Registry(Generic[T]):
    """A table from public names to objects.

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

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that files its object under ``name``; a name can be taken once."""

        def add(entry: T) -> T:
            if name in self._entries and self._entries[name] is not entry:
                raise ValueError(f"the {self.kind} '{name}' exists already: choose another name")
            self._entries[name] = entry
            return entry

        return add

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            raise unknown(self.kind, name, self._entries)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def names(self) -> list[str]:
        """Return every name, sorted."""
        return sorted(self._entries)
