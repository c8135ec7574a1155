"""Questions with the texts that answer them: SQuAD's JSON, and tables with columns of both."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from pathlib import Path
from typing import Any

from quickstudy.data.targets import in_order
from quickstudy.errors import DataError, brief, few

_GZIP = b"\x1f\x8b"


def squad_questions(file: str | os.PathLike[str]) -> tuple[list[dict[str, str]], list[Any]]:
    """Return the questions of a file of SQuAD's form with their contexts, and the answers of each.

    Args:
        file: JSON, ``{"data": [{"paragraphs": [{"context", "qas": [{"question", "answers"}]}]}]}``, maybe packed by
            gzip.

    Raises:
        DataError: it cannot be read, or a part is missing; the message says which.
    """
    try:
        content = Path(file).read_bytes()
        told = json.loads(gzip.decompress(content) if content.startswith(_GZIP) else content)
    except OSError as error:
        raise DataError(f"'{file}' cannot be opened: {error.strerror or 'it is damaged'}") from error
    except (EOFError, ValueError, zlib.error) as error:
        raise DataError(f"'{file}' is no JSON: {error}") from error
    if not isinstance(told, dict) or not isinstance(told.get("data"), list):
        raise DataError(
            f"'{file}' is not of SQuAD's form, {{'data': [{{'paragraphs': ...}}]}}: give rows with the columns "
            "question, context and answers by from_json"
        )
    questions, answers = list[dict[str, str]](), list[Any]()
    for article, one in enumerate(told["data"]):
        for place, paragraph in enumerate(_part(one, "paragraphs", f"'{file}', article {article}")):
            where = f"'{file}', article {article}, paragraph {place}"
            context = _part(paragraph, "context", where)
            for number, asked in enumerate(_part(paragraph, "qas", where)):
                question = _part(asked, "question", f"{where}, question {number}")
                questions.append({"question": question, "context": context})
                answers.append([] if asked.get("is_impossible") else list(asked.get("answers", [])))
    if not questions:
        raise DataError(f"'{file}' holds no question")
    return questions, answers


def _part(told: Any, name: str, where: str) -> Any:
    if not isinstance(told, dict) or name not in told:
        raise DataError(f"{where} has no {name!r}: it is {brief(told)}")
    return told[name]


def paired(questions: Any, contexts: Any) -> list[Any]:
    """Return questions with their contexts, ``{"question", "context"}`` each.

    Args:
        questions: texts, in a list, an array or a column; or such dicts, and then no
        contexts: as many texts.

    Raises:
        DataError: there are more of the one than of the other.
    """
    listed = list(in_order(questions, "questions"))
    if contexts is None:
        return listed
    others = list(in_order(contexts, "contexts"))
    if len(listed) != len(others):
        raise DataError(f"{len(listed)} questions but {len(others)} contexts: each question needs one")
    return [{"question": one, "context": other} for one, other in zip(listed, others, strict=True)]


def framed(frame: Any, question_field: str, context_field: str, answer_field: str | None) -> tuple[list[Any], Any]:
    """Return the questions of a frame of pandas with their contexts, and their answers, None where none are asked for.

    Raises:
        DataError: a column is missing.
    """
    fields = [question_field, context_field, *([] if answer_field is None else [answer_field])]
    gone = [field for field in fields if field not in frame.columns]
    if gone:
        raise DataError(
            f"there is no column {gone[0]!r}; the columns are {few(map(str, frame.columns))}: name it, "
            "question_field=, context_field= or answer_field="
        )
    questions, contexts, *answers = (frame[field].tolist() for field in fields)
    return paired(questions, contexts), answers[0] if answers else None
