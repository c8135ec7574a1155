"""The rows that predicting writes, as CSV or JSON, each when it is known; and the line that closes them."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from textwrap import indent
from typing import Any

from quickstudy.data.identity import TELLS_NOTHING
from quickstudy.files import atomic_write
from quickstudy.kinds.base import Kind
from quickstudy.learning.changes import UNKNOWN


@contextmanager
def writing(output: str | None, form: str, labelled: bool, row: type[Any]) -> Iterator[Callable[[Any], None]]:
    """Give a function that writes a row.

    Args:
        output: the file, which is whole or absent; None: standard output.
        form: ``"csv"``, in whose cells lists and dicts stand as JSON; or ``"json"``, which alone has the ranking, where
            there is one.
        labelled: whether rows have the true label, too.
        row: what one holds, a ``NamedTuple``.
    """
    columns = [name for name in row._fields if name not in ("ranking", *(() if labelled else ("true",)))]
    with atomic_write(output, "w") if output else nullcontext(sys.stdout) as file:
        if form == "csv":
            rows = csv.writer(file, lineterminator="\n")
            quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
            rows.writerow(columns)

            def write_row(said: Any) -> None:
                cells = [getattr(said, name) for name in columns]
                cells = [_cell(value) for value in cells]
                odd = any("\r" in str(value) for value in cells)  # which Python before 3.13 does not quote by itself
                (quoted if odd else rows).writerow(cells)

            yield write_row
            return
        between = "["

        def write(said: Any) -> None:
            nonlocal between
            kept = [*columns, "ranking"] if getattr(said, "ranking", ()) else columns
            fields = {name: value for name, value in said._asdict().items() if name in kept}
            file.write(f"{between}\n{indent(json.dumps(fields, indent=1), ' ')}")
            between = ","

        yield write
        file.write("[]\n" if between == "[" else "\n]\n")


def _cell(value: Any) -> Any:
    told = json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else value
    return storable(told) if isinstance(told, str) else told


def storable(words: object) -> str:
    """Return text that UTF-8 can hold, whatever bytes a file's name is made of."""
    return str(words).encode("utf-8", "backslashreplace").decode()


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
        called = self._called if self.pictures != 1 else self._called.removesuffix("s")
        parts = [f"{self.pictures:,} {called}: {self._unknown:,} {'without a label' if self._several else 'unknown'}"]
        parts.append(f"{self.unreadable:,} unreadable")
        if self._labelled:
            share = self._right / self._labelled
            parts.append(f"{self._right:,} of {self._labelled:,} as their labels say ({share:.1%})")
        if self._learned:
            parts.append(f"at least {self._learned:,} of which it learned from")
        return ", ".join(parts)

    def compare(self, learned: int, pictures: int = 1) -> None:
        """Count pictures with a label, and how many of them the model learned from."""
        self._compared += pictures
        self._learned += learned

    @property
    def caution(self) -> str:
        """What to know where the model learned from pictures that it might be judged by; empty where it did not."""
        of_all = f"at least {self._learned:,} of these {self._compared:,} {self._called} with a label"
        return f"warning: the model learned from {of_all}{TELLS_NOTHING}" if self._learned else ""
