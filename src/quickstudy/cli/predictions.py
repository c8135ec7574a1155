"""The rows that predicting writes, as CSV or JSON, each when it is known."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from textwrap import indent
from typing import Any, NamedTuple

from quickstudy.data.targets import Label
from quickstudy.files import atomic_write


class Prediction(NamedTuple):
    """A row of the result."""

    file: str
    label: Label
    """In the type that the class was taught in: JSON has numbers and true as such."""
    probability: float
    """Of the label; of the likeliest class where the label is unknown."""
    likeliest: Label
    ranking: Sequence[Mapping[str, Any]] = ()
    """The likeliest classes: name and probability of each. JSON has it where there is one, CSV never."""


def storable(words: object) -> str:
    """Return text that UTF-8 can hold, whatever bytes a file's name is made of."""
    return str(words).encode("utf-8", "backslashreplace").decode()


_COLUMNS = Prediction._fields.index("ranking")


@contextmanager
def writing(output: str | None, form: str) -> Iterator[Callable[[Prediction], None]]:
    """Give a function that writes a row.

    Args:
        output: the file, which is whole or absent; None: standard output.
        form: ``"csv"`` or ``"json"``.
    """
    with atomic_write(output, "w") if output else nullcontext(sys.stdout) as file:
        if form == "csv":
            rows = csv.writer(file, lineterminator="\n")
            quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
            rows.writerow(Prediction._fields[:_COLUMNS])

            def write_row(prediction: Prediction) -> None:
                row = [storable(each) if isinstance(each, str) else each for each in prediction[:_COLUMNS]]
                odd = any("\r" in str(each) for each in row)  # which Python before 3.13 does not quote by itself
                (quoted if odd else rows).writerow(row)

            yield write_row
            return
        between = "["

        def write(prediction: Prediction) -> None:
            nonlocal between
            fields = prediction._asdict()
            if not prediction.ranking:
                del fields["ranking"]
            file.write(f"{between}\n{indent(json.dumps(fields, indent=1), ' ')}")
            between = ","

        yield write
        file.write("[]\n" if between == "[" else "\n]\n")
