"""What a model answers, how familiar what it is asked is, and which of its examples are nearest.

Shapes: N inputs, W classes, D features.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from quickstudy.algorithms.base import EmbeddingAlgorithm, exact
from quickstudy.batches import size, take
from quickstudy.errors import DataError, check_counts
from quickstudy.learning.changes import UNKNOWN
from quickstudy.learning.confidence import familiarity
from quickstudy.learning.explaining import Neighbour, nearest
from quickstudy.learning.knowledge import Knowledge


class Answered(NamedTuple):
    """What is answered to N inputs."""

    logits: Tensor
    """``[N, W]``"""
    familiar: Tensor
    """``[N]``, how familiar each input is."""
    embedded: Tensor | None
    """``[N, D]``; None where the algorithm has no embeddings."""


@torch.inference_mode()
def answered(knowledge: Knowledge, examples: Any) -> Answered:
    """Return what a model answers.

    Args:
        knowledge: of the model.
        examples: N inputs, as ``Reader.listed`` returned them.

    Raises:
        DataError: it has learned nothing, an input cannot be read or does not fit, or an answer is not a number.
    """
    if not knowledge.support:
        if not knowledge.kind.by_class:
            raise DataError("it has learned no example yet: type fit(inputs, numbers)")
        raise DataError("it knows no class yet: type fit(images, labels) or add_class(name, images)")
    if not len(knowledge.reader.samples(examples)):
        return Answered(torch.empty((0, len(knowledge.support))), torch.empty(0), None)
    encoder, algorithm = knowledge.encoder, knowledge.algorithm
    embedded_ND: Tensor | None = None
    with knowledge.reader.explained(examples, algorithm.feature_shape):
        if isinstance(algorithm, EmbeddingAlgorithm):
            embedded_ND = algorithm.keep(encoder, knowledge.reader.parts(examples))
            logits_NW = algorithm.answer(encoder, knowledge.learned, embedded_ND)
        else:
            logits_NW = algorithm.predict(encoder, knowledge.learned, knowledge.reader.parts(examples))
        if embedded_ND is None or knowledge.means is None:
            familiar_N = logits_NW.amax(1)
        else:
            familiar_N = familiarity(embedded_ND, knowledge.means.used)
    wrong = logits_NW.isnan().any(1).nonzero().flatten().tolist()
    if wrong:
        name = knowledge.reader.samples(examples).name(wrong[0])
        raise DataError(f"the model's answer to {name} is not a number: does it hold NaN or infinite values?")
    return Answered(logits_NW, familiar_N, embedded_ND)


def named(knowledge: Knowledge, answers: Answered, may_be_unknown: bool = True) -> list[Any]:
    """Return the likeliest class of each of N inputs, or ``"unknown"``, if it may be, for what is like none of them."""
    known, below = list(knowledge.support), knowledge.unknown_below() if may_be_unknown else -math.inf
    codes = zip(answers.logits.argmax(1).tolist(), (answers.familiar < below).tolist(), strict=True)
    return [UNKNOWN if unknown else known[code] for code, unknown in codes]


@torch.inference_mode()
def neighbours(knowledge: Knowledge, examples: Any, embedded_ND: Tensor | None, count: int) -> list[list[Neighbour]]:
    """Return for each of N inputs the support examples whose embeddings are nearest, the nearest first.

    Args:
        knowledge: of the model.
        examples: N inputs, as ``Reader.listed`` returned them.
        embedded_ND: what ``answered`` made of them.
        count: of examples.
    """
    check_counts(count=count)
    kept_S = knowledge.kept()
    if embedded_ND is None:  # it keeps the inputs themselves
        if not len(knowledge.reader.samples(examples)):
            return []
        encoder = knowledge.encoder
        embedded_ND = exact(torch.cat([encoder(part) for part in knowledge.reader.parts(examples)]))
        rows = range(0, size(kept_S), 64)
        kept_S = exact(torch.cat([encoder(take(kept_S, slice(row, row + 64))) for row in rows]))
    return nearest(embedded_ND, kept_S, knowledge.support, count, knowledge.rounding_now())
