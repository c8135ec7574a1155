"""Folders of sounds and what is said in them."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from quickstudy.data.annotations import Annotations
from quickstudy.data.places import Files
from quickstudy.data.samples import named
from quickstudy.data.scan import any_files
from quickstudy.data.table import Table
from quickstudy.errors import DataError

_LISTS = ".trans.txt"
"""The end of the names of LibriSpeech's files, a sound's name and its transcript in a line."""


def transcribed_folder(
    path: str | os.PathLike[str], endings: Collection[str], encode: Callable[[Any], Annotations]
) -> Table:
    """Return the sounds of a folder or archive with their transcripts: ``a.txt`` beside ``a.wav``, or LibriSpeech's.

    Args:
        path: of the folder.
        endings: of sounds.
        encode: makes annotations of texts.

    Raises:
        DataError: there is no sound, or one has no transcript.
    """
    both = any_files(path, (*endings, ".txt"))
    files = both.inputs
    assert isinstance(files, Files)
    names = [str(files[row]) for row in range(len(files))]
    sounds = [row for row, name in enumerate(names) if not name.lower().endswith(".txt")]
    if not sounds:
        raise DataError(f"'{path}' holds no sound that ends in one of {', '.join(sorted(endings))}")
    said: dict[str, str] = {}
    beside = {str(Path(names[row]).with_suffix("")) for row in sounds}
    for row, name in enumerate(names):
        if not name.endswith(_LISTS) and (
            not name.lower().endswith(".txt") or str(Path(name).with_suffix("")) not in beside
        ):
            continue  # a sound, or a text on all of them, such as readme.txt
        try:
            text = _content(files[row]).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(f"{named(name)} is not UTF-8 text ({error}): save it as that") from error
        if name.endswith(_LISTS):
            pairs = (line.split(maxsplit=1) for line in text.splitlines() if line.strip())
            said |= {str(Path(name).parent / pair[0]): pair[1] if len(pair) > 1 else "" for pair in pairs}
        else:
            said[str(Path(name).with_suffix(""))] = text.strip()
    for row in sounds:
        if str(Path(names[row]).with_suffix("")) not in said:
            raise DataError(
                f"{named(names[row])} has no transcript: write what is said into '{Path(names[row]).stem}.txt' beside "
                "it, or remove the sound"
            )
    texts = [said[str(Path(names[row]).with_suffix(""))] for row in sounds]
    return replace(both, inputs=files.select(np.array(sounds, np.int64)), annotations=encode(texts))


def _content(file: Any) -> bytes:
    content: bytes = (Path(file) if isinstance(file, str) else file).read_bytes()
    return content
