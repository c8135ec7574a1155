"""Pictures named on the command line: folders, files, archives, or ``-`` for paths on standard input."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from quickstudy.batches import take
from quickstudy.data.archives import is_archive
from quickstudy.data.frames import file_columns, file_frame, is_table
from quickstudy.data.rows import Rows
from quickstudy.data.samples import ADDRESS, Loaded, Samples
from quickstudy.data.scan import any_files, folder_labels
from quickstudy.data.table import Inputs
from quickstudy.data.targets import Label, label_of, missing, read_as, type_of
from quickstudy.errors import ConfigError, DataError, few
from quickstudy.modality import Modality

AT_ONCE = 64
"""Pictures that are in memory together."""


class Picture(NamedTuple):
    """A picture to be read."""

    item: Any
    """What ``load_image`` reads."""
    true: Label | None
    """The label that its class folder gives it."""


class Pictures(NamedTuple):
    """What was named."""

    each: Iterator[Picture]
    total: int | None
    """None where standard input tells."""
    labelled: bool
    """Whether some have a true label."""


def named(words: Sequence[str], classes: Collection[Label], modality: Modality) -> Pictures:
    """Return the pictures that are named, or whatever a model's inputs are.

    Args:
        words: folders, files, archives, ``-``; tables where their cells hold inputs.
        classes: that a model knows, by which class folders, and a table's labels, are told from others.
        modality: of the model's inputs.

    Raises:
        DataError: nothing is there, a folder or archive holds no picture, or a table more columns than inputs and
            their labels.
        ConfigError: ``-`` stands twice.
    """
    if words.count("-") > 1:
        raise ConfigError("'-' stands twice: standard input can be read once")
    found = [source_of(word, classes, modality) for word in words if word != "-"]
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


def _each(words: Sequence[str], sources: Iterator[tuple[Inputs, list[Label | None] | None]]) -> Iterator[Picture]:
    for word in words:
        if word == "-":
            yield from (Picture(path, None) for path in _lines())
        else:
            source, labels = next(sources)
            yield from (Picture(source[row], labels[row] if labels else None) for row in range(len(source)))


def source_of(word: str, classes: Collection[Label], modality: Modality) -> tuple[Inputs, list[Label | None] | None]:
    """Return inputs, and their labels where these are known."""
    path = Path(word).expanduser()
    if modality.in_cells and is_table(path) and path.is_file():
        return _cells(path, classes) if modality.column_names is None else _rows(path, classes, modality.column_names)
    if (path.is_file() and not is_archive(path)) or ADDRESS.match(word):  # which is then told as unreadable
        return [path], None
    source = any_files(path, modality.extensions).inputs
    return source, folder_labels(source, classes)


def _cells(path: Path, classes: Collection[Label]) -> tuple[Inputs, list[Label | None] | None]:
    frame = file_frame(path, None)
    columns = list(frame.columns)
    if len(columns) > 2:
        raise DataError(
            f"'{path}' has {len(columns)} columns, {few(map(str, columns))}: give one with the inputs alone, or with "
            "the inputs and their labels"
        )
    cells = frame[columns[0]].tolist()
    return cells, _labels(frame[columns[1]].tolist(), classes) if len(columns) > 1 and classes else None


def _rows(path: Path, classes: Collection[Label], known: tuple[str, ...]) -> tuple[Inputs, list[Label | None] | None]:
    """Return rows, and their labels where one column alone is none of those that the model knows."""
    columns = file_columns(path, None)
    others = [name for name in columns if name not in known]
    labels = _labels(columns[others[0]].tolist(), classes) if len(others) == 1 and classes else None
    return Rows(columns).only([name for name in columns if name in known]), labels


def _labels(cells: list[Any], classes: Collection[Label]) -> list[Label | None]:
    label_type = type_of(next(iter(classes)))

    def read(cell: Any) -> Label:
        several = isinstance(cell, (list, tuple))  # all in one text, as a table tells them
        return ", ".join(sorted(map(str, cell))) if several else read_as(label_of(cell), label_type)

    return [None if none else read(cell) for cell, none in zip(cells, missing(cells).tolist(), strict=True)]


def _lines() -> Iterator[Path]:
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # as names of files are decoded
    for line in sys.stdin:
        if name := line.rstrip("\r\n"):
            yield Path(name)
