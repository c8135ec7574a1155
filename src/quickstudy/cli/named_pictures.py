"""Pictures named on the command line: folders, files, archives, or ``-`` for paths on standard input."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from quickstudy.batches import take
from quickstudy.data.archives import is_archive
from quickstudy.data.frames import file_columns, file_frame, is_table, target_among
from quickstudy.data.rows import Rows
from quickstudy.data.samples import ADDRESS, Loaded, Samples
from quickstudy.data.scan import any_files, folder_labels
from quickstudy.data.table import Inputs
from quickstudy.data.targets import Label, label_of, missing, read_as, type_of
from quickstudy.errors import ConfigError, DataError, closest, few
from quickstudy.kinds.base import Kind
from quickstudy.modality import Modality

AT_ONCE = 64
"""Pictures that are in memory together."""
_ONES = ("1", "1.0", "True", "true")
"""How tables write that a label is one of an example."""

Labels = list[Any]
"""Of each input its label, a list where it may have several; or None."""


class Picture(NamedTuple):
    """A picture to be read."""

    item: Any
    """What ``load_image`` reads."""
    true: Label | list[Label] | None
    """The label that its class folder gives it, or its row of a table; a list where it may have several."""


class Pictures(NamedTuple):
    """What was named."""

    each: Iterator[Picture]
    total: int | None
    """None where standard input tells."""
    labelled: bool
    """Whether some have a true label."""


def named(words: Sequence[str], kind: Kind | None, modality: Modality) -> Pictures:
    """Return the pictures that are named, or whatever a model's inputs are.

    Args:
        words: folders, files, archives, ``-``; tables where their cells hold inputs.
        kind: of a model's answers, by whose classes folders, and a table's labels, are told from others; None: no label
            is told.
        modality: of the model's inputs.

    Raises:
        DataError: nothing is there, a folder or archive holds no picture, or a table more columns than inputs and
            their labels.
        ConfigError: ``-`` stands twice.
    """
    if words.count("-") > 1:
        raise ConfigError("'-' stands twice: standard input can be read once")
    found = [source_of(word, kind, modality) for word in words if word != "-"]
    sources, labels = [source for source, _ in found], [labels for _, labels in found]
    count = None if "-" in words else sum(map(len, sources))
    return Pictures(_each(words, zip(sources, labels, strict=True)), count, any(labels))


def batches(
    pictures: Iterable[Picture], load: Callable[[Any], Any]
) -> Iterator[list[tuple[Picture, Loaded | DataError]]]:
    """Read pictures, some at a time: each with what was loaded of it, or why there is none."""

    def read(picture: Picture) -> Loaded | DataError:
        try:
            return Loaded(picture.item, take(Samples([picture.item], load).batch(np.zeros(1, np.int64)), 0))
        except DataError as error:
            return error

    rest = iter(pictures)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while some := list(islice(rest, AT_ONCE)):
            yield list(zip(some, pool.map(read, some), strict=True))


def _each(words: Sequence[str], sources: Iterator[tuple[Inputs, Labels | None]]) -> Iterator[Picture]:
    for word in words:
        if word == "-":
            yield from (Picture(path, None) for path in _lines())
        else:
            source, labels = next(sources)
            yield from (Picture(source[row], labels[row] if labels else None) for row in range(len(source)))


def source_of(word: str, kind: Kind | None, modality: Modality) -> tuple[Inputs, Labels | None]:
    """Return inputs, and their labels where these are known; of no ``kind`` of answers none are."""
    if modality.in_words and modality.looks_like_one(word) and not _exists(word):
        return [word], None  # which is an input itself, and names none
    path = Path(word).expanduser()
    if modality.in_cells and is_table(path) and path.is_file():
        return _cells(path, kind) if modality.column_names is None else _rows(path, kind, modality)
    if (path.is_file() and not is_archive(path)) or ADDRESS.match(word):  # which is then told as unreadable
        return [path], None
    source = any_files(path, modality.extensions, modality.parts).inputs
    return source, folder_labels(source, kind.labels if kind else ())


def _exists(word: str) -> bool:
    try:
        return Path(word).expanduser().exists()
    except (OSError, ValueError):  # too long for a name
        return False


def _cells(path: Path, kind: Kind | None) -> tuple[Inputs, Labels | None]:
    frame = file_frame(path, None)
    columns = {str(name): frame.iloc[:, place].tolist() for place, name in enumerate(frame.columns)}
    target = target_among(list(columns)) if len(columns) == 2 else None
    inputs = [name for name in columns if name not in _several(columns, kind) and name != target]
    if not 1 <= len(inputs) <= 1 + (len(columns) == 2) or len(columns) < len(frame.columns):
        raise DataError(
            f"'{path}' has {len(frame.columns)} columns, {few(map(str, frame.columns))}: give one with the inputs "
            "alone, or with the inputs and their labels"
        )
    return columns[inputs[0]], _labels({name: cells for name, cells in columns.items() if name != inputs[0]}, kind)


def _rows(path: Path, kind: Kind | None, modality: Modality) -> tuple[Inputs, Labels | None]:
    """Return rows, and their labels where one column alone is none of those that the model knows.

    Raises:
        DataError: they lack a column that the model uses.
    """
    columns, known = file_columns(path, None), modality.column_names or ()
    if lacking := [name for name in modality.used_columns if name not in columns]:
        what = f"column{'s' * (len(lacking) > 1)} {few((repr(name) for name in lacking), 10)}"
        near = closest(lacking[0], [name for name in columns if name not in known])
        raise DataError(
            f"'{path}' lacks the {what}{near} It has {few(map(repr, columns), 10)}: give each that training had, "
            "with empty cells where nothing is known"
        )
    if modality.several_rows:
        return modality.listed(columns), None
    others = {name: cells.tolist() for name, cells in columns.items() if name not in known}
    return Rows(columns).only([name for name in columns if name in known]), _labels(others, kind)


def _several(names: Iterable[str], kind: Kind | None) -> list[str]:
    """Return the columns of zeros and ones that stand for the labels of a model that gives several."""
    return list(kind.classes) if kind and kind.several and {*kind.classes} <= {*names} else []


def _labels(columns: Mapping[str, list[Any]], kind: Kind | None) -> Labels | None:
    """Return the labels that are in one column, or in those of zeros and ones; None where there are none."""
    if kind is None or not kind.labels:
        return None
    if ones := _several(columns, kind):
        rows = zip(*(columns[name] for name in ones), strict=True)
        return [[name for name, cell in zip(ones, row, strict=True) if str(cell) in _ONES] for row in rows]
    if len(columns) != 1:
        return None
    label_type = type_of(next(iter(kind.labels)))

    def read(cell: Any) -> Any:
        if not kind.several:
            return read_as(label_of(cell), label_type)
        if isinstance(cell, str) and cell.startswith("["):  # as predicting writes them into a table
            with suppress(ValueError):
                cell = json.loads(cell)
        return list(map(str, cell)) if isinstance(cell, (list, tuple)) else [str(cell)]

    cells = next(iter(columns.values()))
    return [None if none else read(cell) for cell, none in zip(cells, missing(cells).tolist(), strict=True)]


def _lines() -> Iterator[Path]:
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # as names of files are decoded
    for line in sys.stdin:
        if name := line.rstrip("\r\n"):
            yield Path(name)
