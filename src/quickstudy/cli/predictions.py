"""The rows that predicting writes, as CSV or JSON, each when it is known."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from textwrap import indent
from typing import Any, NamedTuple

from quickstudy.files import atomic_write


class Prediction(NamedTuple):
    """A row of the result."""

    file: str
    label: str
    probability: float
    """Of the label; of the likeliest class where the label is unknown."""
    likeliest: str
    ranking: Sequence[Mapping[str, Any]] = ()
    """The likeliest classes: name and probability of each. JSON has it where there is one, CSV never."""


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
            rows.writerow(Prediction._fields[:_COLUMNS])
            yield lambda prediction: rows.writerow(prediction[:_COLUMNS])
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
