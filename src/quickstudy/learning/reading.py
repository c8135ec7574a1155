"""What callers hand over, as batches that a model takes: listed, loaded, and in the scale of what it learned from.

Shapes: N inputs, ``...`` the shape of one input.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.batches import Batch, each, take
from quickstudy.data.samples import Samples
from quickstudy.errors import DataError, DataWarning
from quickstudy.learning.knowledge import Knowledge
from quickstudy.torch_internals import tree_leaves

_AT_ONCE = 64
_SEEN = 16  # examples that tell the scale of all


def listed_for(knowledge: Knowledge, inputs: Any) -> Any:
    """Return a batch ``[N, ...]`` that is fed as it is, or a list of items; what comes one by one is listed."""
    leaves = tree_leaves(inputs) if isinstance(inputs, dict) else []
    batch = leaves and all(isinstance(leaf, Tensor) for leaf in leaves)
    return inputs if batch else knowledge.rules.listed(inputs)


def samples_of(knowledge: Knowledge, examples: Any) -> Samples:
    """Return how to read them.

    Args:
        knowledge: of the model.
        examples: here and below, what ``listed_for`` returned.
    """
    return Samples(examples, knowledge.modality)


def scale_for(knowledge: Knowledge, examples: Any) -> str:
    """Return the scale that examples have, or are brought to: that of the training where there was one."""
    trained: str = knowledge.encoder.fed
    samples = samples_of(knowledge, examples)
    if trained or not len(samples):
        return trained
    return knowledge.rules.scale(examples, samples.batch(np.arange(min(len(samples), _SEEN))))


def parts_of(knowledge: Knowledge, examples: Any, shown: list[bytes] | None = None) -> Iterator[Batch]:
    """Yield inputs in parts ``[n, ...]``, loaded, in the scale of what the model learned from, and on its device.

    Args:
        knowledge: of the model.
        examples: the inputs.
        shown: something small of each is put into it, where it is given.
    """
    samples, rules = samples_of(knowledge, examples), knowledge.rules
    groups = np.split(np.arange(len(samples)), range(_AT_ONCE, len(samples), _AT_ONCE))
    scale = rules.scale_of_call(
        examples, [partial(_loaded, knowledge, samples, rows) for rows in groups], knowledge.taught
    )
    dark: set[str] = set()
    for rows in groups:
        part = _loaded(knowledge, samples, rows)
        dark.add(rules.dark(part))
        part = rules.as_taught(part, knowledge.taught, scale, samples.name(int(rows[0])))
        if shown is not None:
            shown += (rules.show(_item(examples, row), take(part, place)) for place, row in enumerate(rows.tolist()))
        yield _placed(knowledge, part)
    if all(dark):
        warnings.warn(f"the {rules.called}, {samples.name(0)} the first, are {dark.pop()}", DataWarning, 4)


def feature_shape(knowledge: Knowledge, examples: Any) -> tuple[int, ...]:
    """Return the shape of what the backbone makes of the first input."""
    one = _loaded(knowledge, samples_of(knowledge, examples), np.array([0]))
    shape: tuple[int, ...] = knowledge.encoder.feature_shape(_placed(knowledge, one))
    return shape


@contextmanager
def explained(knowledge: Knowledge, examples: Any) -> Iterator[None]:
    """Say of inputs that do not fit what they are and what was learned."""
    try:
        yield
    except RuntimeError as error:
        shape, known = feature_shape(knowledge, examples), knowledge.algorithm.feature_shape
        if shape == known:
            raise
        raise DataError(
            f"inputs like {samples_of(knowledge, examples).name(0)} become features of shape {shape}, and the model "
            f"was trained on {known}: give inputs of the size that it was trained on"
        ) from error


def _loaded(knowledge: Knowledge, samples: Samples, rows: NDArray[Any]) -> Batch:
    return knowledge.rules.loaded(samples.batch(rows))


def _placed(knowledge: Knowledge, part: Batch) -> Batch:
    return each(lambda leaf: leaf.to(knowledge.device), part)


def _item(examples: Any, row: int) -> Any:
    return take(examples, row) if isinstance(examples, dict) else examples[row]
