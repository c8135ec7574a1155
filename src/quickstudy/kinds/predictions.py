"""What a model says of its inputs, in rows with their names."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.data.loading import BatchDataset, Steps
from quickstudy.data.samples import file_of
from quickstudy.data.scan import folder_labels
from quickstudy.data.table import Table
from quickstudy.data.targets import Label, as_label

Named = Iterable[tuple[str, Any]]
"""Of each input what it is called, and its label or number where the data has one, else None."""


class Prediction(NamedTuple):
    """What a model says of one input."""

    file: str
    """Its file; or its number, as in ``"input 3"``."""
    label: Label
    """As the training data has it."""
    probability: float
    """Of the label; of the likeliest class where the label is unknown."""
    likeliest: Label
    true: Label | None = None
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
    labels: Sequence[Any] | None = None
    if table.targets is None:
        labels = folder_labels(table.inputs, classes)
    elif table.numeric:
        labels = table.targets.tolist()
    elif table.multi_label:
        labels = [", ".join(table.classes[code] for code in np.flatnonzero(own)) for own in table.targets]
    else:
        labels = [as_label(table.classes[code], table.label_type) for code in table.targets]
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
    dataset, sampler = getattr(source, "dataset", None), getattr(source, "sampler", None)
    if not isinstance(dataset, BatchDataset) or not isinstance(sampler, Steps):
        return ((f"input {row}", None) for row in range(count))
    rows = np.concatenate([np.empty(0, np.int64), *(rows for _, rows in sampler.starting(0))])
    return named(dataset.table, rows[:count], classes)


def rows_of(
    chances_NC: Tensor, classes: Sequence[Label], inputs: Named, several: bool = False
) -> Iterator[list[Prediction]]:
    """Return for each of N inputs its row; with several labels per input, one for each label above one half.

    Args:
        chances_NC: probabilities.
        classes: C names.
        inputs: what each is called, and its label where that is known.
        several: whether an input may have several labels.
    """
    for chances_C, (file, true) in zip(chances_NC.cpu(), inputs, strict=True):
        best = int(chances_C.argmax())
        codes = (chances_C > 0.5).nonzero().flatten().tolist() if several else [best]
        yield [Prediction(file, classes[code], round(float(chances_C[code]), 6), classes[best], true) for code in codes]


def answers(kind: Any, batches: Sequence[Tensor], output: str, source: Any = None) -> Any:
    """Return raw answers in another form.

    Args:
        kind: of the answers.
        batches: ``[B, ...]``
        output: see ``Trainer.predict``.
        source: the table that they are of, or the loader, for the names in rows.

    Raises:
        DataError: an answer is not a number.
    """
    outputs = torch.cat(list(batches)) if batches else torch.empty(0, max(kind.options, 1))
    if output != "rows":
        return kind.answers(outputs, output)
    return kind.rows(outputs, named_from(source, len(outputs), kind.labels))
