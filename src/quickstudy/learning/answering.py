"""What a model answers, how familiar what it is asked is, and which of its examples are nearest.

Shapes: N inputs, W classes, D features.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from quickstudy.algorithms.base import exact
from quickstudy.batches import size, take
from quickstudy.data.samples import Samples
from quickstudy.errors import DataError, check_counts
from quickstudy.learning.confidence import familiarity
from quickstudy.learning.explaining import Neighbour, nearest
from quickstudy.learning.knowledge import Knowledge
from quickstudy.learning.reading import explained, listed_for, name_of_input, parts_of


class Answered(NamedTuple):
    """What is answered to N inputs."""

    logits: Tensor
    """``[N, W]``"""
    familiar: Tensor
    """``[N]``, how familiar each input is."""
    embedded: Tensor | None
    """``[N, D]``; None where the algorithm has no embeddings."""


@torch.inference_mode()
def answered(knowledge: Knowledge, inputs: Any) -> Answered:
    """Return what a model answers.

    Raises:
        DataError: it knows no class, an input cannot be read or does not fit, or an answer is not a number.
    """
    if not knowledge.support:
        raise DataError("it knows no class yet: type fit(images, labels) or add_class(name, images)")
    examples = listed_for(knowledge, inputs)
    if not len(Samples(examples, knowledge.load)):
        return Answered(torch.empty((0, len(knowledge.support))), torch.empty(0), None)
    encoder, algorithm = knowledge.encoder, knowledge.algorithm
    embedded_ND: Tensor | None = None
    with explained(knowledge, examples):
        if knowledge.means is None:
            logits_NW = algorithm.predict(encoder, knowledge.learned, parts_of(knowledge, examples))
            familiar_N = logits_NW.amax(1)
        else:
            embedded_ND = algorithm.keep(encoder, parts_of(knowledge, examples))
            logits_NW = algorithm.answer(encoder, knowledge.learned, embedded_ND)
            familiar_N = familiarity(embedded_ND, knowledge.means.used)
    wrong = logits_NW.isnan().any(1).nonzero().flatten().tolist()
    if wrong:
        name = name_of_input(knowledge, examples, wrong[0])
        raise DataError(f"the model's answer to {name} is not a number: does it hold NaN or infinite values?")
    return Answered(logits_NW, familiar_N, embedded_ND)


@torch.inference_mode()
def neighbours(knowledge: Knowledge, inputs: Any, embedded_ND: Tensor | None, count: int) -> list[list[Neighbour]]:
    """Return for each of N inputs the support examples whose embeddings are nearest, the nearest first.

    Args:
        knowledge: of the model.
        inputs: what was asked.
        embedded_ND: what ``answered`` made of them.
        count: of examples.
    """
    check_counts(count=count)
    kept_S = knowledge.values()
    if embedded_ND is None:  # it keeps the inputs themselves
        examples = listed_for(knowledge, inputs)
        if not len(Samples(examples, knowledge.load)):
            return []
        encoder = knowledge.encoder
        embedded_ND = exact(torch.cat([encoder(part) for part in parts_of(knowledge, examples)]))
        rows = range(0, size(kept_S), 64)
        kept_S = exact(torch.cat([encoder(take(kept_S, slice(row, row + 64))) for row in rows]))
    return nearest(embedded_ND, kept_S, knowledge.support, count, knowledge.rounding_now())
