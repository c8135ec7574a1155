"""The line that closes what predicting wrote: how many inputs, how many of them unknown, unreadable, right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quickstudy.data.identity import TELLS_NOTHING
from quickstudy.kinds.base import Kind
from quickstudy.learning.changes import UNKNOWN
from quickstudy.modality import one_of


class Tally:
    """Counts what was predicted, for the line that closes it.

    Args:
        kind: of the answers. A picture of a class that it has not is rightly unknown; several labels are right where
            they are all of the true ones that it has, and no others.
        called: what several inputs are called.
    """

    def __init__(self, kind: Kind, called: str) -> None:
        self._called = called
        # Where a row has no label, classes are of parts of an input.
        self._classes = set(kind.labels) if "label" in kind.row._fields else set()
        self._several = kind.several
        self.pictures = self.unreadable = self._unknown = self._labelled = self._right = 0
        self._compared = self._learned = 0

    def add(self, rows: Sequence[Any] | None) -> None:
        """Count a picture by its rows; None: it cannot be read."""
        self.pictures += 1
        self.unreadable += rows is None
        if not rows or not self._classes:
            return
        label, true = rows[0].label, rows[0].true
        self._labelled += true is not None
        if self._several:
            self._unknown += not label
            self._right += true is not None and set(label) == self._classes.intersection(true)
        else:
            self._unknown += label == UNKNOWN
            self._right += true is not None and label == (true if true in self._classes else UNKNOWN)

    def __str__(self) -> str:
        called = self._called if self.pictures != 1 else one_of(self._called)
        parts = [f"{self._unknown:,} {'without a label' if self._several else 'unknown'}"] if self._classes else []
        parts.append(f"{self.unreadable:,} unreadable")
        if self._labelled:
            share = self._right / self._labelled
            parts.append(f"{self._right:,} of {self._labelled:,} as their labels say ({share:.1%})")
        if self._learned:
            parts.append(f"at least {self._learned:,} of which it learned from")
        return f"{self.pictures:,} {called}: {', '.join(parts)}"

    def compare(self, learned: int, pictures: int = 1) -> None:
        """Count pictures with a label, and how many of them the model learned from."""
        self._compared += pictures
        self._learned += learned

    @property
    def caution(self) -> str:
        """What to know where the model learned from pictures that it might be judged by; empty where it did not."""
        of_all = f"at least {self._learned:,} of these {self._compared:,} {self._called} with a label"
        return f"warning: the model learned from {of_all}{TELLS_NOTHING}" if self._learned else ""
