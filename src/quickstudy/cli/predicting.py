"""One way from a model and pictures to rows, whoever names them: the columns mean the same everywhere."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rich.console import Console
from torch import Tensor

from quickstudy.cli.bar import bar
from quickstudy.cli.named_pictures import Picture, batches
from quickstudy.cli.predictions import Tally
from quickstudy.data.identity import identities, shared
from quickstudy.data.samples import Loaded, Samples
from quickstudy.errors import DataError
from quickstudy.kinds.base import Kind
from quickstudy.model import Model
from quickstudy.runs.answers import Drawings, check_writable, storable, writing

_ROWS = 5
"""Rows of a table of which it is told why they cannot be read; of files all are named."""
Answered = Iterable[tuple[Picture, Any]]
"""Pictures with what is said of them, as the kind of answer has it; or the ``DataError`` why they cannot be read."""


@dataclass(frozen=True)
class Asked:
    """A model, and how it is asked."""

    model: Model
    seen: Tensor | None = None
    """What identifies the pictures that it was trained on; None: its answers tell whether it learned from theirs."""
    top: int = 1
    """How many of the likeliest classes a row may name."""
    unknown: bool = True
    """Whether a label may be "unknown"; else it is the likeliest class."""
    cautions: bool = True
    """Whether to say at the end that it learned from what it was asked; False where others have."""

    @cached_property
    def kind(self) -> Kind:
        """What an answer is."""
        return self.model.kind

    @property
    def count(self) -> int:
        """How many of the likeliest classes to ask for: all of them where several may be an input's labels."""
        return max(len(self.kind.labels), 1) if self.kind.several else self.top

    def rank(self, inputs: Sequence[Any]) -> list[Any]:
        """Return the answer to each input."""
        return self.model.rank(list(inputs), self.count, nearest=1)

    def learned(self, picture: Picture, answer: Any) -> bool:
        """Whether a picture is one of those that it learned from."""
        if self.seen is None:
            return any(near.same for near in getattr(answer, "nearest", ()))
        return shared(identities([picture.item]), self.seen) > 0

    def rows(self, picture: Picture, answer: Any) -> list[Any]:
        """Return the row of a picture; with several labels all of them in it."""
        return self.kind.written(answer, storable(picture.item), picture.true, self.top, self.unknown)


def answered(asked: Asked, pictures: Iterator[Picture]) -> Answered:
    """Read pictures and ask a model, some at a time; one that cannot be answered costs the others nothing."""
    if asked.model.transductive:
        yield from _together(asked, list(pictures))
        return
    for batch in batches(pictures, asked.model.modality):
        read = {row: found for row, (_, found) in enumerate(batch) if isinstance(found, Loaded)}
        found = dict(zip(read, _each(asked.rank, list(read.values())), strict=True))
        for row, (picture, why) in enumerate(batch):
            yield picture, why if isinstance(why, DataError) else found[row]


def write_rows(
    asked: Asked,
    said: Answered,
    total: int | None,
    output: str | None,
    form: str,
    labelled: bool,
    shows: bool = True,
    drawings: str | None = None,
) -> int:
    """Write a row for each picture as its answer comes, and say on standard error what did not go well.

    Args:
        asked: the model.
        said: its answers.
        total: pictures; None: nobody knows.
        output: the file to write; None: standard output.
        form: ``"csv"``, ``"json"`` or ``"coco"``.
        labelled: whether some pictures have a true label.
        shows: whether a bar shows how far it is.
        drawings: the folder of a drawing for each picture; None: there are none.

    Returns:
        The exit status: 1 where a picture could not be read.

    Raises:
        ConfigError: the answers have no such form.
    """
    check_writable(asked.kind, asked.model.modality, form, drawings)
    drawn = None if drawings is None else Drawings(drawings, asked.kind, asked.model.modality)
    tally = Tally(asked.kind, asked.model.modality.called)
    errors = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
    shows = shows and not (output is None and sys.stdout.isatty())
    most = math.inf if asked.model.modality.column_names is None else _ROWS
    with writing(output, form, labelled, asked.kind) as write, bar("predicting", total, shows) as advance:
        for picture, found in said:
            if isinstance(found, DataError):
                tally.add(None)
                if tally.unreadable <= most:
                    errors.print(storable(f"unreadable: {_about(picture.item, found)}"))
            else:
                rows = asked.rows(picture, found)
                tally.add(rows)
                if picture.true is not None:
                    tally.compare(asked.learned(picture, found))
                write(storable(picture.item), found, rows)
                if drawn is not None:
                    drawn.add(picture.item, storable(picture.item), found)
            advance(1)
    if tally.unreadable:
        some = f"; the first {most} are told above" if tally.unreadable > most else ""
        errors.print(f"{tally.unreadable} of {tally.pictures} {asked.model.modality.called} could not be read{some}")
    if tally.caution and asked.cautions:
        errors.print(tally.caution)
    if output:
        errors.print(f"{tally}; written to {output}")
    if drawn is not None:
        errors.print(f"drawings are in '{drawn.folder}'")
    return 1 if tally.unreadable else 0


def _each(rank: Callable[[Sequence[Any]], list[Any]], inputs: Sequence[Loaded]) -> Sequence[Any]:
    try:
        return rank(inputs) if inputs else []
    except DataError as error:
        return [error] if len(inputs) == 1 else [_each(rank, [one])[0] for one in inputs]


def _together(asked: Asked, pictures: list[Picture]) -> Answered:
    """Classify all pictures in one call; they are read twice, so that they need not lie in memory."""
    unreadable = Samples([picture.item for picture in pictures], asked.model.modality).unreadable()
    readable = [picture.item for row, picture in enumerate(pictures) if row not in unreadable]
    print(
        f"this model classifies all {len(readable)} {asked.model.modality.called} together: each answer depends on the "
        "others",
        file=sys.stderr,
    )
    found = iter(asked.rank(readable) if readable else [])
    for row, picture in enumerate(pictures):
        yield picture, DataError(unreadable[row]) if row in unreadable else next(found)


def _about(item: Any, error: DataError) -> str:
    return str(error) if str(item) in str(error) else f"'{item}': {error}"
