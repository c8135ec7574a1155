"""What is kept of examples, by class or with a number each, and a change of it, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from quickstudy.batches import Batch, join, size, take
from quickstudy.data.targets import Label, class_name
from quickstudy.errors import DataError, brief

UNKNOWN = "unknown"
"""What is answered for an input that is like none of the examples; no class can have that name."""
NUMBERS = "numbers"
"""What all examples are under that have a number and no class."""


class Change(NamedTuple):
    """A change of one class; who has the same encoder can make it without the examples."""

    kind: Literal["add", "remove", "rename"]
    name: Label
    new_name: Label = ""
    kept: Batch | None = None
    """``[n, ...]``: what the algorithm keeps of the examples that are added."""
    thumbnails: tuple[bytes, ...] = ()
    """Of these examples."""
    numbers: tuple[float, ...] = ()
    """Of these examples, where answers are numbers."""
    origins: tuple[int, ...] = ()
    """Of these examples, see ``Kept``."""
    named: tuple[bool, ...] = ()
    """Whether each of these examples is the name of the class; nothing where none is."""
    sketches: tuple[bytes, ...] = ()
    """Of these examples, see ``Kept``."""
    warnings: tuple[str, ...] = ()
    """What looks wrong with these examples, in sentences, for who makes the change; nobody keeps them."""

    @property
    def examples(self) -> int:
        """How many are added."""
        return 0 if self.kept is None else size(self.kept)


class Kept(NamedTuple):
    """What is kept of the examples of one class, or of all those with numbers."""

    values: Batch
    """``[n, ...]``: what the algorithm needs of them."""
    shown: tuple[bytes, ...]
    """A small picture of each; empty where it is no picture, or was kept without one."""
    numbers: tuple[float, ...] = ()
    """Of each, in its own units; none where answers are classes."""
    origins: tuple[int, ...] = ()
    """Of each what it comes from, in a number: of copies and of one group the same; 0: from nothing that others do.
    None: nobody looked."""
    named: tuple[bool, ...] = ()
    """Whether each is the name of the class; nothing where none is."""
    sketches: tuple[bytes, ...] = ()
    """Of each what further examples are compared with, for copies of it (``data.likeness.in_bytes``); empty where there
    is no telling. None: nobody looked, or an older quickstudy kept none."""

    @property
    def examples(self) -> int:
        """How many there are, n."""
        return len(self.shown)

    @property
    def names(self) -> tuple[bool, ...]:
        """Whether each is the name of the class."""
        return self.named or (False,) * self.examples

    @property
    def sources(self) -> tuple[int, ...]:
        """What each comes from, in a number."""
        return self.origins or (0,) * self.examples

    @property
    def sketched(self) -> tuple[bytes, ...]:
        """What further examples are compared with, of each."""
        return self.sketches or (b"",) * self.examples

    def some(self, rows: Sequence[int]) -> Kept:
        """Return what is kept of some of them."""

        def part(of_all: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(of_all[row] for row in rows) if of_all else ()

        return Kept(take(self.values, list(rows)), *map(part, self[1:]))

    def beside(self, other: Kept) -> Kept:
        """Return this and what is kept of further examples behind it."""
        named = self.names + other.names if self.named or other.named else ()
        origins = self.sources + other.sources if self.origins or other.origins else ()
        sketches = self.sketched + other.sketched if self.sketches or other.sketches else ()
        values = join([self.values, other.values])
        return Kept(values, self.shown + other.shown, self.numbers + other.numbers, origins, named, sketches)


Support = Mapping[Label, Kept]
"""By class, in the order of the classes."""


def changed(support: Support, change: Change) -> Support:
    """Return what there is after a change; what is given stays as it is.

    Raises:
        DataError: it is of a class that there is not, or gives two classes one name.
    """
    kind, name, new_name, values, shown, numbers, origins, named, sketches, _ = change
    if kind != "add" and name not in support:
        raise DataError(f"a change is of the class {brief(name)}, which there is not")
    if kind == "rename" and new_name in support and new_name != name:
        raise DataError(f"a change gives the class {brief(name)} the name of another, {brief(new_name)}")
    if kind == "rename":
        return {new_name if other == name else other: kept for other, kept in support.items()}
    if kind == "remove":
        return {other: kept for other, kept in support.items() if other != name}
    added = Kept(values, shown or (b"",) * size(values), numbers, origins, named, sketches)
    return {**support, name: support[name].beside(added) if name in support else added}


def check_name(name: object) -> None:
    """Raise ``DataError`` unless a class may be called so."""
    if not isinstance(name, (str, int)) or name in ("", UNKNOWN):
        raise DataError(f"a class needs a name, and one that is not {brief(UNKNOWN)}; this is {brief(name)}")


def composed(name: Label) -> Label:
    """Return a class's name in the form in which names are compared; an older quickstudy kept what it was given."""
    return class_name(name) if isinstance(name, str) else name
