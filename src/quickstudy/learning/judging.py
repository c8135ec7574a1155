"""How sure a model may be and how often it is right, by examples that it is given for that.

Shapes: N inputs, W classes, D features.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from quickstudy.batches import Batch, join, size
from quickstudy.data.identity import warn_of_seen
from quickstudy.data.targets import Encoded, encode, type_of
from quickstudy.errors import ConfigError, DataError, DataWarning, brief, given
from quickstudy.learning.answering import answered, neighbours
from quickstudy.learning.confidence import HeldOut
from quickstudy.learning.knowledge import TYPES, Knowledge, lengths_of
from quickstudy.torch_internals import tree_leaves

_PAIRS = 1 << 16  # of an input and an example that may be the same, which are looked at one by one


def calibrated(
    knowledge: Knowledge,
    inputs: Any = None,
    labels: Any = None,
    reject_rate: float | None = None,
    false_accept: float | None = None,
) -> Knowledge:
    """Return it with a rate of what is called unknown, judged by further examples or by the support set's own.

    See ``Predictor.calibrate``, whose arguments these are.
    """
    rates = given(reject_rate=reject_rate, false_accept=false_accept)
    if len(rates) == 2:
        raise ConfigError("reject_rate and false_accept each set the threshold: give one of them")
    for name, rate in rates.items():
        if not 0 <= rate < 1:
            raise ConfigError(f"{name}={brief(rate)}: it must be a share, from 0 to below 1")
    held = None
    if inputs is not None:
        knowledge = replace(knowledge, rounding=knowledge.rounding_now())
        held = _answers_to(knowledge, inputs, labels)
    knowledge = replace(knowledge, rates=rates, calibrated=held)
    found = knowledge.held_out(0)
    if not len(found.strangers if false_accept is not None else found.familiar):
        kind = "strangers" if false_accept is not None else "known classes with two examples or more"
        raise DataError(f"there are no held-out examples of {kind}: give images and labels")
    return knowledge


def _answers_to(knowledge: Knowledge, inputs: Any, labels: Any) -> HeldOut:
    """Return the answers to examples given to calibrate by; those of a label that it does not know are strangers.

    Warns where the model learned from some of them.

    Raises:
        DataError: each example needs one label, or an example cannot be read.
    """
    codes, *_ = encoded = encode(labels)
    examples = knowledge.reader.listed(inputs)
    logits_NW, familiar_N, embedded_ND = answered(knowledge, examples)
    if codes.ndim != 1 or len(codes) != len(logits_NW):
        raise DataError(f"{len(logits_NW)} examples but {len(codes)} labels: each example needs one label")
    place = {name: code for code, name in enumerate(knowledge.support)}
    places = [place.get(knowledge.as_class(label), -1) for label in encoded.labels]
    targets_N = torch.tensor([places[code] for code in codes], device=logits_NW.device)
    known_N = targets_N >= 0
    _warn_of_learned(knowledge, examples, embedded_ND)
    source = f"{len(codes)} examples given to calibrate"
    return HeldOut(logits_NW[known_N], targets_N[known_N], familiar_N[known_N], familiar_N[~known_N], source)


def share_right(knowledge: Knowledge, inputs: Any, labels: Any) -> float:
    """Return the share of N inputs whose likeliest class is that of their label, from 0 to 1.

    Warns where the model learned from some of them.

    Raises:
        DataError: each input needs one label, of the type of the classes; or an input cannot be read.
    """
    examples = knowledge.reader.listed(inputs)
    logits_NW, _, embedded_ND = answered(knowledge, examples)
    known = list(knowledge.support)
    predicted = [known[code] for code in logits_NW.argmax(1).tolist()]
    codes, *_ = encoded = encode(labels)
    if len(predicted) != len(codes):
        raise DataError(f"{len(predicted)} inputs but {len(codes)} labels: each input needs one label")
    classes = [knowledge.as_class(label) for label in encoded.labels]
    for label in classes:
        if type_of(label) != knowledge.label_type:
            kind = TYPES[knowledge.label_type]
            raise DataError(f"the classes are {kind}, and the label {brief(label)} is none of them")
    _warn_of_learned(knowledge, examples, embedded_ND)
    return float(np.mean([name == classes[code] for name, code in zip(predicted, codes, strict=True)]))


def explained(knowledge: Knowledge, inputs: Any, numbers: Any) -> float:
    """Return the share of the variance of N numbers that the answers to as many inputs explain, R2.

    Warns where the model learned from some of them, and where it is not defined, and returns what scikit-learn does.

    Raises:
        DataError: there are none, or more of the one than of the other; an input cannot be read, or a number is none.
    """
    examples = knowledge.reader.listed(inputs)
    found = answered(knowledge, examples)
    answers = knowledge.kind.answers(found.logits, "numbers")
    numbers_N = cast(Encoded, knowledge.kind.encode(numbers)).codes
    if len(answers) != len(numbers_N) or not len(answers):
        raise DataError(f"{len(answers)} inputs but {len(numbers_N)} numbers: give one or more, each with its number")
    _warn_of_learned(knowledge, examples, found.embedded)
    off_N = np.array(answers) - numbers_N
    if (numbers_N != numbers_N[0]).any():
        return float(1 - np.square(off_N).sum() / np.square(numbers_N - numbers_N.mean()).sum())
    share = math.nan if len(answers) == 1 else float(not off_N.any())
    which = f"all {len(answers)} numbers are {numbers_N[0]:g}" if len(answers) > 1 else "there is one number"
    warnings.warn(
        f"{which}, so R2 is not defined: {share:g} stands for it. Give numbers that differ, or compare predict(inputs)",
        DataWarning,
        3,
    )
    return share


def _warn_of_learned(knowledge: Knowledge, examples: Any, embedded_ND: Tensor | None) -> None:
    """Warn where inputs that it is judged by are among those that it learned from."""
    count = len(knowledge.reader.samples(examples))
    seen = 0
    if count:
        seen = _as_shown(knowledge, examples) if embedded_ND is None else _as_embedded(knowledge, examples, embedded_ND)
    warn_of_seen(seen, f"the model learned from {seen} of these {count} examples")


def _as_shown(knowledge: Knowledge, examples: Any) -> int:
    """Return how many inputs it learned from, of which it keeps the inputs themselves: they are the same numbers."""
    kept, asked = knowledge.kept(), join(knowledge.reader.parts(examples))
    if isinstance(kept, Tensor) and kept.shape[1:] != asked.shape[1:]:
        return 0
    rows = _bytes_of_rows(join([kept, asked]))  # of one length
    known = set(rows[: size(kept)])
    return sum(row in known for row in rows[size(kept) :])


def _bytes_of_rows(batch: Batch) -> list[bytes]:
    leaves = (leaf.cpu().reshape(len(leaf), -1).contiguous() for leaf in tree_leaves(batch))
    columns = [leaf.view(torch.uint8).numpy() for leaf in leaves]
    return [b"".join(column[row].tobytes() for column in columns) for row in range(size(batch))]


@torch.inference_mode()
def _as_embedded(knowledge: Knowledge, examples: Any, embedded_ND: Tensor) -> int:
    """Return how many inputs it learned from, as far as rounding lets their embeddings tell.

    One that lies within a share of an example's length of it is about as long: of each length there are few.
    """
    (lengths_S, rows_S), share = knowledge.lengths, knowledge.rounding_now()
    own_N = lengths_of(embedded_ND)
    first_N = torch.searchsorted(lengths_S, own_N / (1 + share))
    counts_N = torch.searchsorted(lengths_S, own_N / (1 - share), right=True) - first_N
    pairs = int(counts_N.sum())
    if pairs > _PAIRS:
        return sum(near[0].same for near in neighbours(knowledge, examples, embedded_ND, 1))
    if not pairs:
        return 0
    asked_P = torch.arange(len(own_N)).repeat_interleave(counts_N)
    places_P = torch.arange(pairs) - (counts_N.cumsum(0) - counts_N - first_N)[asked_P]
    kept_PD = knowledge.kept()[rows_S[places_P].to(embedded_ND.device)]
    away_P = (embedded_ND[asked_P.to(embedded_ND.device)] - kept_PD).norm(dim=1).cpu()
    same_P = (away_P <= share * lengths_S[places_P]) & (lengths_S[places_P] > 0)  # zeros tell nothing
    return len(set(asked_P[same_P].tolist()))
