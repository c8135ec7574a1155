"""Answers as files: rows as CSV or JSON, each when it is known; COCO's JSON; and a drawing of each input."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from textwrap import indent
from typing import Any

from quickstudy.errors import ConfigError
from quickstudy.files import atomic_write
from quickstudy.kinds.base import Kind
from quickstudy.kinds.predictions import inputs_of, joined, named_from
from quickstudy.modality import Modality

Write = Callable[[str, Any, Sequence[Any]], None]
"""Writes an answer: what its input is called, the answer, and its rows."""
FORMATS = ("csv", "json", "coco")


def check_writable(kind: Kind, modality: Modality, form: str, drawings: object = None) -> None:
    """Check that answers can be written so.

    Args:
        kind: of the answers.
        modality: of the inputs.
        form: ``"csv"``, ``"json"`` or ``"coco"``.
        drawings: the folder of drawings; None: there are none.

    Raises:
        ConfigError: they tell of no places in inputs, which have COCO's form and can be drawn.
    """
    if form == "coco" and not kind.placed:
        kind.coco([], [])
    if drawings is not None and not (kind.drawn and modality.drawn_as):
        raise ConfigError(
            f"drawings are of objects, or classes of pixels, and {type(kind).__name__.lower()} tells of whole "
            f"{modality.called}: leave them out"
        )


@contextmanager
def writing(output: str | os.PathLike[str] | None, form: str, labelled: bool, kind: Kind) -> Iterator[Write]:
    """Give a function that writes an answer.

    Args:
        output: the file, which is whole or absent; None: standard output.
        form: ``"csv"``, in whose cells lists and dicts stand as JSON; ``"json"``, which alone has the ranking, where
            there is one; or ``"coco"``.
        labelled: whether rows have the true label, too.
        kind: of the answers.
    """
    columns = [name for name in kind.row._fields if name not in ("ranking", *(() if labelled else ("true",)))]
    with atomic_write(output, "w") if output else nullcontext(sys.stdout) as file:
        if form == "coco":
            names: list[str] = []
            answers: list[Any] = []

            def gather(name: str, answer: Any, rows: Sequence[Any]) -> None:
                names.append(storable(name))
                answers.append(answer)

            yield gather
            json.dump(kind.coco(answers, names), file)
            file.write("\n")
            return
        if form == "csv":
            lines = csv.writer(file, lineterminator="\n")
            quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
            lines.writerow(columns)

            def write_cells(name: str, answer: Any, rows: Sequence[Any]) -> None:
                for said in rows:
                    cells = [_cell(getattr(said, column)) for column in columns]
                    odd = any("\r" in str(value) for value in cells)  # which Python before 3.13 does not quote itself
                    (quoted if odd else lines).writerow(cells)

            yield write_cells
            return
        between = "["

        def write(name: str, answer: Any, rows: Sequence[Any]) -> None:
            nonlocal between
            for said in rows:
                kept = [*columns, "ranking"] if getattr(said, "ranking", ()) else columns
                fields = {column: value for column, value in said._asdict().items() if column in kept}
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


class Drawings:
    """Draws answers into their inputs, in a file of a folder for each, which is called as the input's.

    Args:
        folder: for the files; it is made if needed.
        kind: of the answers.
        modality: of the inputs.
    """

    def __init__(self, folder: str | os.PathLike[str], kind: Kind, modality: Modality) -> None:
        self.folder, self._kind, self._modality = Path(folder), kind, modality
        self._taken: set[str] = set()

    def add(self, item: Any, name: str, answer: Any) -> Path:
        """Draw an answer, and return the file.

        Args:
            item: the input.
            name: what it is called.
            answer: as ``rank`` of a model gives it.
        """
        stem = Path(name).stem or "input"
        number = 1
        while (own := stem if number == 1 else f"{stem}-{number}") in self._taken:
            number += 1
        self._taken.add(own)
        path = self.folder / f"{own}{self._modality.drawn_as}"
        with atomic_write(path) as file:
            file.write(self._modality.draw(item, self._kind.in_json(answer), [*map(str, self._kind.labels)]))
        return path


def format_of(file: str | os.PathLike[str], output: str) -> str:
    """Return the form of answers that a file is to hold, by its ending.

    Args:
        file: its name.
        output: ``"coco"`` or another form of answers.

    Raises:
        ConfigError: the ending is another.
    """
    ending = Path(file).suffix.lower()
    if ending not in (".csv", ".json") or (ending == ".csv" and output == "coco"):
        raise ConfigError(
            f"file='{file}' is neither x.csv nor x.json{' for COCO' * (output == 'coco')}: rows are written as either, "
            "and output='coco' as JSON"
        )
    return "coco" if output == "coco" else ending[1:]


def write_answers(
    kind: Kind,
    modality: Modality,
    batches: Sequence[Any],
    source: Any,
    file: str | os.PathLike[str] | None,
    form: str | None,
    drawings: str | os.PathLike[str] | None,
) -> None:
    """Write raw answers to a file, and a drawing of each input to a folder.

    Args:
        kind: of the answers.
        modality: of the inputs.
        batches: ``[B, ...]``
        source: the loader of the inputs.
        file: for the answers; None: none.
        form: of the file, see ``writing``.
        drawings: the folder; None: there are no drawings.

    Raises:
        ConfigError: the loader does not tell which inputs it has, which drawings need.
        OSError: they cannot be written.
    """
    outputs = joined(kind, batches)
    answers = kind.ranked(outputs)
    told = [(storable(name), true) for name, true in named_from(source, len(answers), kind.labels)]
    rows = [kind.written(answer, name, true) for answer, (name, true) in zip(answers, told, strict=True)]
    if file is not None and form is not None:
        with writing(file, form, any(true is not None for _, true in told), kind) as write:
            for (name, _), answer, own in zip(told, answers, rows, strict=True):
                write(name, answer, own)
    if drawings is not None:
        items = inputs_of(source, len(answers))
        if items is None:
            raise ConfigError("drawings= needs the inputs of a datamodule, and this loader does not tell which it has")
        drawn = Drawings(drawings, kind, modality)
        for item, (name, _), answer in zip(items, told, answers, strict=True):
            drawn.add(item, name, answer)
