"""Texts of CoNLL's form: a word and its tag in a line, and a blank line behind each text."""

from __future__ import annotations

import gzip
import os
import re
import zlib
from pathlib import Path

from quickstudy.errors import DataError
from quickstudy.kinds.entities import check_tag

_GZIP = b"\x1f\x8b"
_DOCUMENT = "-DOCSTART-"
_TAG = re.compile("O$|[BIESLU]-.")
_LINE = re.compile("\r\n|\n|\r")


def conll_texts(file: str | os.PathLike[str], tagged: bool = True) -> tuple[list[list[str]], list[list[str]] | None]:
    """Return the words of the texts of a file, and their tags.

    A word is the first of a line's columns, which blanks or tabs part (a no-break space does not), and its tag the last
    one. Lines that tell of a document are left out, as are words of blanks alone, and comments such as ``# id = 3``:
    they begin with ``#`` and end in no tag.

    Args:
        file: of UTF-8, maybe packed by gzip.
        tagged: whether words have tags.

    Raises:
        DataError: the file cannot be read, has no text, or a line has no tag, or one of an unknown scheme; the message
            has its number.
    """
    try:
        content = Path(file).read_bytes()
        text = (gzip.decompress(content) if content.startswith(_GZIP) else content).decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"'{file}' cannot be opened: {error.strerror or 'it is damaged'}") from error
    except (EOFError, zlib.error) as error:
        raise DataError(f"'{file}' is damaged: {error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"'{file}' is not UTF-8 text ({error}): save it as that") from error
    texts: list[list[tuple[str, str]]] = [[]]
    known: set[str] = set()
    for number, line in enumerate(_LINE.split(text), 1):
        columns = [column.strip(" ") for column in re.split("\t" if "\t" in line.strip(" \t") else "[ \t]+", line)]
        columns = [column for column in columns if column] if line.strip() else []
        if not columns or columns[0] == _DOCUMENT:
            texts.append([])
        elif _comments(line, columns, tagged):
            continue
        elif tagged and len(columns) < 2:
            raise DataError(f"'{file}', line {number}: {line.strip()!r} has no tag: a word, a tab, and its tag")
        elif columns[0].isspace():
            continue
        else:
            if tagged and columns[-1] not in known:
                _check(columns[-1], f"'{file}', line {number}")
                known.add(columns[-1])
            texts[-1].append((columns[0], columns[-1]))
    texts = [text for text in texts if text]
    if not texts:
        raise DataError(f"'{file}' holds no text: a word and its tag in a line")
    words = [[word for word, _ in text] for text in texts]
    return words, [[tag for _, tag in text] for text in texts] if tagged else None


def _check(tag: str, where: str) -> None:
    try:
        check_tag(tag)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


def _comments(line: str, columns: list[str], tagged: bool) -> bool:
    """Whether a line is a comment, and no word."""
    if not columns[0].startswith("#") or len(columns) < 2:
        return False
    if not tagged:
        return columns[0] == "#"
    return not _TAG.match(columns[-1]) and ("\t" not in line.strip() or columns[0] == "#")
