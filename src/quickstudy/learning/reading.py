"""What callers hand over, as batches that a model takes: listed, loaded, and in the scale of what it learned from.

Shapes: N inputs, ``...`` the shape of one input.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.batches import Batch, each
from quickstudy.data.samples import Samples, listed
from quickstudy.errors import DataError, DataWarning
from quickstudy.learning.knowledge import Knowledge
from quickstudy.pictures import (
    WHITER,
    Scale,
    almost_black,
    as_taught,
    load_image,
    of_one_scale,
    scale_of,
    scale_together,
    separated,
    thumbnail_of,
    together,
    whole_numbers,
)
from quickstudy.torch_internals import tree_leaves

_AT_ONCE = 64
_SEEN = 16  # examples that tell the scale of all


def listed_for(knowledge: Knowledge, inputs: Any) -> Any:
    """Return a batch ``[N, ...]`` that is fed as it is, or a list of items, whatever the axes of pictures."""
    found, encoder = as_listed(inputs), knowledge.encoder
    if not encoder.sees_pictures:
        return found
    if isinstance(found, Tensor) and encoder.in_channels is not None:
        found = separated(found, encoder.in_channels)
    return of_one_scale(found) if isinstance(found, Tensor) or _reads_pictures(knowledge) else found


def as_listed(inputs: Any) -> Any:
    """Return what ``data.samples.listed`` does, and a dict of tensors, which is a batch, as it is."""
    leaves = tree_leaves(inputs) if isinstance(inputs, dict) else []
    return inputs if leaves and all(isinstance(leaf, Tensor) for leaf in leaves) else listed(inputs)


def scale_for(knowledge: Knowledge, inputs: Any) -> str:
    """Return the scale that examples have, or are brought to: floats may be pictures where files may be."""
    trained: str = knowledge.encoder.fed
    samples = Samples(inputs, knowledge.load)
    if trained or not len(samples):
        return trained
    first = samples.batch(np.arange(min(len(samples), _SEEN)))
    if not isinstance(first, Tensor):
        return ""
    if not knowledge.encoder.sees_pictures:
        return scale_of(first)
    reads = _reads_pictures(knowledge)
    scale = scale_of(whole_numbers(first))
    scale = scale if scale == "uint8" else together((scale, scale_together(inputs) if reads else ""))
    return "uint8" if _function(knowledge) is load_image and scale in ("0..1", "0..255") else scale


def parts_of(knowledge: Knowledge, inputs: Any, shown: list[bytes] | None = None) -> Iterator[Batch]:
    """Yield inputs in parts ``[n, ...]``, loaded, in the scale of what the model learned from, and on its device.

    Args:
        knowledge: of the model.
        inputs: what ``listed_for`` returned.
        shown: what small pictures of them are put into, if it is given.
    """
    samples = Samples(inputs, knowledge.load)
    groups = np.split(np.arange(len(samples)), range(_AT_ONCE, len(samples), _AT_ONCE))
    scale, black = _scale_of_call(knowledge, inputs, samples, groups), True
    for rows in groups:
        part = _loaded(knowledge, samples, rows)
        black = black and _almost_black(knowledge, part)
        if isinstance(part, Tensor):
            part = _as_taught(knowledge, part, samples.name(int(rows[0])), scale)
        if shown is not None:
            shown += map(thumbnail_of, part) if isinstance(part, Tensor) else [b""] * len(rows)
        yield each(lambda leaf: leaf.to(knowledge.device), part)
    if black:
        warnings.warn(f"the pictures, {samples.name(0)} the first, are {WHITER}", DataWarning, 4)


def feature_shape(knowledge: Knowledge, inputs: Any) -> tuple[int, ...]:
    """Return the shape of what the backbone makes of the first input."""
    one = _loaded(knowledge, Samples(inputs, knowledge.load), np.array([0]))
    shape: tuple[int, ...] = knowledge.encoder.feature_shape(each(lambda leaf: leaf.to(knowledge.device), one))
    return shape


def name_of_input(knowledge: Knowledge, inputs: Any, row: int) -> str:
    """Return the name of an input for messages."""
    return Samples(inputs, knowledge.load).name(row)


@contextmanager
def explained(knowledge: Knowledge, inputs: Any) -> Iterator[None]:
    """Say of inputs that do not fit what they are and what was learned."""
    try:
        yield
    except RuntimeError as error:
        shape, known = feature_shape(knowledge, inputs), knowledge.algorithm.feature_shape
        if shape == known:
            raise
        raise DataError(
            f"inputs like {name_of_input(knowledge, inputs, 0)} become features of shape {shape}, and the model "
            f"was trained on {known}: give inputs of the size that it was trained on"
        ) from error


def _function(knowledge: Knowledge) -> Any:
    return knowledge.load.func if isinstance(knowledge.load, partial) else knowledge.load


def _reads_pictures(knowledge: Knowledge) -> bool:
    """Whether pictures in memory are taken by their values."""
    return _function(knowledge) in (load_image, torch.as_tensor)


def _scale_of_call(knowledge: Knowledge, inputs: Any, samples: Samples, groups: Sequence[NDArray[Any]]) -> Scale:
    """Return the scale of all floats of a call together; nothing where none can differ from the others."""
    if not knowledge.encoder.sees_pictures or isinstance(inputs, Tensor) or _reads_pictures(knowledge):
        return scale_together(inputs) if knowledge.encoder.sees_pictures else ""
    if len(groups) == 1 or knowledge.taught not in ("uint8", "0..255"):
        return ""
    return together(scale_of(_loaded(knowledge, samples, rows)) for rows in groups)  # own floats, read twice


def _loaded(knowledge: Knowledge, samples: Samples, rows: NDArray[Any]) -> Batch:
    part = samples.batch(rows)
    return whole_numbers(part) if knowledge.encoder.sees_pictures else part


def _almost_black(knowledge: Knowledge, part: Batch) -> bool:
    pictures = isinstance(part, Tensor) and (knowledge.encoder.sees_pictures or part.ndim == 4)
    return pictures and almost_black(part)


def _as_taught(knowledge: Knowledge, part: Tensor, name: str, scale: Scale) -> Tensor:
    fitting = as_taught(part, knowledge.taught, scale)
    if fitting is not None:
        return fitting
    low, high = (float(value) for value in part.aminmax())
    if not math.isfinite(high - low) or "other" == scale != scale_of(part):
        return part  # what becomes of it, or of those that go beyond, is told elsewhere
    kind = str(part.dtype).removeprefix("torch.")
    told = (
        "uint8 pictures, which it scales itself: floats of 0..1 or 0..255 are taken for them, and these go beyond"
        if knowledge.taught == "uint8"
        else "floats that were prepared outside of it: prepare these as those were, for they are fed as they are"
    )
    warnings.warn(f"{name} is {kind} of {low:.3g} to {high:.3g}, and the model learned from {told}", DataWarning, 4)
    return part
