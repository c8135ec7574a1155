"""Pictures named on the command line: folders, files, archives, or ``-`` for paths on standard input."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from quickstudy.data.archives import is_archive
from quickstudy.data.samples import Samples
from quickstudy.data.scan import any_files
from quickstudy.data.table import Inputs
from quickstudy.errors import ConfigError, DataError
from quickstudy.pictures import ADDRESS, IMAGE_EXTENSIONS

AT_ONCE = 64
"""Pictures that are in memory together."""


def named(words: Sequence[str]) -> tuple[Iterator[Any], int | None]:
    """Return the pictures, and how many they are; None where standard input tells.

    Raises:
        DataError: nothing is there, or a folder or archive holds no picture.
        ConfigError: ``-`` stands twice.
    """
    if words.count("-") > 1:
        raise ConfigError("'-' stands twice: standard input can be read once")
    sources = [_source(word) for word in words if word != "-"]
    count = None if "-" in words else sum(map(len, sources))
    return _items(words, iter(sources)), count


def batches(items: Iterable[Any], load: Callable[[Any], Any]) -> Iterator[list[tuple[Any, Tensor | DataError]]]:
    """Read pictures, some at a time: each with its tensor, or why there is none."""

    def read(item: Any) -> Tensor | DataError:
        try:
            return Samples([item], load).batch(np.zeros(1, np.int64))[0]
        except DataError as error:
            return error

    rest = iter(items)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while some := list(islice(rest, AT_ONCE)):
            yield list(zip(some, pool.map(read, some), strict=True))


def _items(words: Sequence[str], sources: Iterator[Inputs]) -> Iterator[Any]:
    for word in words:
        if word == "-":
            yield from _lines()
        else:
            source = next(sources)
            yield from (source[row] for row in range(len(source)))


def _source(word: str) -> Inputs:
    path = Path(word).expanduser()
    if (path.is_file() and not is_archive(path)) or ADDRESS.match(word):  # which is then told as unreadable
        return [path]
    return any_files(path, IMAGE_EXTENSIONS).inputs


def _lines() -> Iterator[Path]:
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # as names of files are decoded
    for line in sys.stdin:
        if name := line.rstrip("\r\n"):
            yield Path(name)
