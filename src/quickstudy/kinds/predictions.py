"""What a model says of its inputs, in rows with their names."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.batches import Batch, join, size
from quickstudy.data.loading import BatchDataset, Steps
from quickstudy.data.samples import file_of
from quickstudy.data.scan import folder_labels
from quickstudy.data.table import Table
from quickstudy.data.targets import Label
from quickstudy.errors import DataError

Named = Iterable[tuple[str, Any]]
"""Of each input what it is called, and its label or number where the data has one, else None."""

_LEAST, _WHOLE = 0.001, 1000  # distances that are told as less than it; from which on they are told as whole numbers


class Answer(NamedTuple):
    """What a model says of an input whose answers are classes."""

    label: Label | list[Label]
    """The likeliest class, or ``"unknown"``; of a model that gives several labels those above their thresholds."""
    ranking: list[tuple[Label, float]]
    """The likeliest classes with their probabilities."""
    nearest: list[Neighbour]
    """The support examples nearest to the input, as many as were asked for."""


class Neighbour(NamedTuple):
    """A support example near an input."""

    name: Label
    """Of its class."""
    number: int
    """Among the examples of its class, from 0."""
    distance: float
    """Euclidean, between the embeddings."""
    thumbnail: bytes
    """Something small for eyes, of a picture a JPEG; empty where there is nothing to see, or none was kept."""
    same: bool = False
    """Whether the input is this very example, as far as rounding lets its embedding tell."""


def how_far(distance: float, same: bool) -> str:
    """Return in words how far an example is, without an exponent.

    >>> how_far(2.2754, False), how_far(3.8e-6, True), how_far(3.8e-6, False), how_far(12345.6, False)
    ('2.28 away', 'the same', '< 0.001 away', '12,346 away')
    """
    if same:
        return "the same"
    if distance < _LEAST:
        return f"< {_LEAST} away"
    return f"{distance:.3g} away" if distance < _WHOLE else f"{distance:,.0f} away"


class Said(NamedTuple):
    """What a model says of one input, whatever that is."""

    file: str
    """Its file; or its number, as in ``"input 3"``."""
    answer: Any
    """In values that JSON has."""


class Prediction(NamedTuple):
    """What a model says of the class of one input."""

    file: str
    """Its file; or its number, as in ``"input 3"``."""
    label: Label | list[Label]
    """As the training data has it; where an input may have several, all of them, the likeliest first."""
    probability: float | list[float]
    """Of the label, or of each of several; of the likeliest class where the label is unknown."""
    likeliest: Label
    true: Label | list[Label] | None = None
    """The label that the data gives it, if any; of several, all of them."""
    ranking: Sequence[Mapping[str, Any]] = ()
    """The likeliest classes, name and probability of each, where they were asked for."""


class Estimated(NamedTuple):
    """The number that a model tells of one input."""

    file: str
    """Its file; or its number, as in ``"input 3"``."""
    number: float
    true: float | None = None
    """The number that the data gives it, if any."""


def named(table: Table, rows: NDArray[np.integer[Any]], classes: Collection[Label]) -> Named:
    """Return the names of a table's examples, and their labels: their targets, or what their class folders say.

    Args:
        table: of examples.
        rows: ``[N]``, of it.
        classes: that a model knows.
    """
    labels = folder_labels(table.inputs, classes) if table.targets is None else table.told
    for row in rows.tolist():
        yield file_of(table.inputs, row) or f"input {row}", None if labels is None else labels[row]


def named_from(source: Any, count: int, classes: Collection[Label]) -> Named:
    """Return the names and labels of the first inputs of a table, or that a loader of batches went through.

    Args:
        source: a table; or a loader of ``DataModule``, or any other, of which nothing is known.
        count: N.
        classes: that a model knows.
    """
    if isinstance(source, Table):
        return named(source, np.arange(count), classes)
    found = _gone_through(source, count)
    if found is None:
        return ((f"input {row}", None) for row in range(count))
    return named(*found, classes)


def inputs_of(source: Any, count: int) -> list[Any] | None:
    """Return the first inputs that a loader of batches went through, as they were handed over; None: it tells none.

    Args:
        source: see ``named_from``.
        count: N.
    """
    found = (source, np.arange(count)) if isinstance(source, Table) else _gone_through(source, count)
    return None if found is None else [found[0].inputs[row] for row in found[1].tolist()]


def _gone_through(source: Any, count: int) -> tuple[Table, NDArray[np.integer[Any]]] | None:
    """Return the table that a loader reads, and which rows of it it went through."""
    dataset, sampler = getattr(source, "dataset", None), getattr(source, "sampler", None)
    if not isinstance(dataset, BatchDataset) or not isinstance(sampler, Steps):
        return None
    rows = np.concatenate([np.empty(0, np.int64), *(rows for _, rows in sampler.starting(0))])
    return dataset.table, rows[:count]


def check_finite(sound_N: Tensor, what: str = "a number") -> None:
    """Check answers.

    Args:
        sound_N: of each whether it is what it should be.
        what: that it should be.

    Raises:
        DataError: one is not; the message names the first.
    """
    wrong = (~sound_N).nonzero().flatten().tolist()
    if wrong:
        raise DataError(
            f"the model's answer to input {wrong[0]} is not {what}: does it hold NaN or infinite values, or was the "
            "model trained until it diverged?"
        )


def plain_answer(answer: Any) -> Any:
    """Return an answer in values that JSON has: tensors and arrays become lists.

    >>> plain_answer({"boxes": torch.ones(1, 2), "names": ("cat",)})
    {'boxes': [[1.0, 1.0]], 'names': ['cat']}
    """
    if isinstance(answer, (Tensor, np.ndarray, np.generic)):
        return answer.tolist()
    if isinstance(answer, Mapping):
        return {name: plain_answer(part) for name, part in answer.items()}
    return [plain_answer(part) for part in answer] if isinstance(answer, (list, tuple)) else answer


def joined(kind: Any, batches: Sequence[Batch]) -> Any:
    """Return the raw answers to all batches, ``[N, ...]``.

    Args:
        kind: of the answers.
        batches: ``[B, ...]``
    """
    return join(batches) if batches else torch.empty(0, max(kind.choices, 1))


def in_form(kind: Any, batches: Sequence[Batch], output: str, source: Any = None) -> Any:
    """Return raw answers in another form.

    Args:
        kind: of the answers.
        batches: ``[B, ...]``
        output: see ``Trainer.predict``.
        source: the table that they are of, or the loader, for the names in rows.

    Raises:
        DataError: an answer is not a number.
    """
    if not batches and kind.annotates:  # whose raw answers have no form without an input
        return []
    outputs = joined(kind, batches)
    if output in kind.forms:
        return kind.answers(outputs, output)
    names = named_from(source, size(outputs), kind.labels)
    if output == "rows":
        return kind.rows(outputs, names)
    return kind.coco(kind.ranked(outputs), [name for name, _ in names])
