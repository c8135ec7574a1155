"""Texts and those that are to be made of them, in two files: a text in each line, and its target in the same of the
other."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path

from quickstudy.errors import DataError
from quickstudy.files import absent

_GZIP = b"\x1f\x8b"
SOURCE, TARGET = ".source", ".target"
"""Endings of such files in a folder."""


def parallel_texts(
    file: str | os.PathLike[str], target_file: str | os.PathLike[str] | None, skip: bool = False
) -> tuple[list[str], list[str] | None]:
    """Return the texts of a file, and their targets.

    Args:
        file, target_file: of UTF-8, maybe packed by gzip; None: there are no targets.
        skip: whether lines that are blank in either file are left out.

    Raises:
        DataError: a file cannot be read, a line is blank, or one file has more lines than the other.
    """
    texts = _lines(file)
    targets = None if target_file is None else _lines(target_file)
    if targets is not None and len(texts) != len(targets):
        raise DataError(
            f"'{file}' has {len(texts)} lines and '{target_file}' {len(targets)}: line by line they must be text and "
            "target"
        )
    files = {str(file): texts, **({} if targets is None else {str(target_file): targets})}
    blank = {row: name for name, lines in files.items() for row, line in enumerate(lines) if not line.strip()}
    if blank and not skip:
        row = min(blank)
        raise DataError(
            f"'{blank[row]}', line {row + 1}, is blank: remove that line from both files, or set on_error='skip'"
        )
    kept = [row for row in range(len(texts)) if row not in blank]
    if not kept:
        raise DataError(f"'{file}' holds no text: write one in each line")
    return [texts[row] for row in kept], None if targets is None else [targets[row] for row in kept]


def parallel_folder(path: str | os.PathLike[str]) -> tuple[list[str], list[str]]:
    """Return the texts and targets of a folder: of each file that ends in ``.source`` and the ``.target`` beside it.

    Raises:
        DataError: there is no folder, or no such file in it, or one has no other beside it.
    """
    if not Path(path).exists():
        raise DataError(absent("folder", path))
    files = sorted(one for one in Path(path).rglob("*") if one.name.removesuffix(".gz").endswith(SOURCE))
    if not files:
        raise DataError(
            f"'{path}' holds no file that ends in {SOURCE}, a text in each line, beside one that ends in {TARGET}; "
            "of a table name the file, train_file=, input_field= and target_fields="
        )
    texts, targets = list[str](), list[str]()
    for file in files:
        other = file.with_name(TARGET.join(file.name.rsplit(SOURCE, 1)))
        if not other.is_file():
            raise DataError(f"'{file}' has no '{other.name}' beside it, with the target of each line")
        own, wanted = parallel_texts(file, other)
        texts += own
        targets += wanted or ()
    return texts, targets


def _lines(file: str | os.PathLike[str]) -> list[str]:
    try:
        content = Path(file).read_bytes()
        text = (gzip.decompress(content) if content.startswith(_GZIP) else content).decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"'{file}' cannot be opened: {error.strerror or 'it is damaged'}") from error
    except (EOFError, zlib.error) as error:
        raise DataError(f"'{file}' is damaged: {error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"'{file}' is not UTF-8 text ({error}): save it as that") from error
    lines = text.replace("\r\n", "\n").split("\n")  # no other character ends a line, as some do for splitlines
    return lines[:-1] if lines and not lines[-1] else lines
