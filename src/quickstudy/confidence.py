"""What an adapted model may say of its own answers: how sure it is, and that it does not know.

All of it comes from examples that the classifier in question did not see: the support set's own, each left out in its
turn, or examples that are given for the purpose.

Shapes: N held-out examples, M strangers (examples of no known class), S support examples, W classes.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from quickstudy.algorithms import EmbeddingAlgorithm
from quickstudy.functional.calibration import best_temperature, expected_calibration_error
from quickstudy.nets import Encoder

DEFAULT_REJECT_RATE = 0.05
_MOST = 200  # examples that are left out, evenly spread over the support set
_WORK = 2_000_000  # of that many embedded examples, summed over all refits


class HeldOut(NamedTuple):
    """Answers to examples that their classifier did not see."""

    logits_NW: Tensor
    targets_N: Tensor
    """Their classes."""
    strangers_M: Tensor
    """Familiarity of examples whose class it does not know."""
    source: str
    """Where they come from, in words."""


class Confidence(NamedTuple):
    """What follows from held-out answers."""

    temperature: float
    """Logits are divided by it before they become probabilities."""
    threshold: float
    """Of the familiarity; what is below it is unknown. Minus infinity: nothing is."""
    calibration_error: float
    """The expected calibration error of the held-out probabilities, from 0 to 1; NaN without any."""
    examples: int
    source: str


NOTHING_KNOWN = Confidence(1.0, -math.inf, math.nan, 0, "nothing: no class has two examples")


def familiarity(logits_NW: Tensor) -> Tensor:
    """Return how much each example is like any class: its largest logit, ``[N]``."""
    return logits_NW.amax(1)


def left_out(algorithm: EmbeddingAlgorithm, encoder: Encoder, support: dict[str, Tensor], state: Any) -> HeldOut:
    """Answer support examples as if each had been left out, and as if its whole class had been.

    Args:
        algorithm: in evaluation mode.
        encoder: likewise.
        support: by class, its embeddings ``[n, ...]``.
        state: what was learned of all of them.
    """
    kept_S = torch.cat(list(support.values()))
    counts_W = torch.tensor([len(kept) for kept in support.values()], device=kept_S.device)
    targets_S = torch.arange(len(counts_W), device=kept_S.device).repeat_interleave(counts_W)
    most = max(20, min(_MOST, _WORK // len(kept_S)))
    rows = torch.linspace(0, len(kept_S) - 1, min(most, len(kept_S)), dtype=torch.float64, device=kept_S.device)
    rows_N = rows.round().long().unique()
    both = _of_each_class if algorithm.by_class else _of_all_classes
    logits_NW, strangers_M = both(algorithm, encoder, kept_S, targets_S, rows_N, counts_W, state)
    known_N = counts_W[targets_S[rows_N]] > 1  # without its only example a class is gone
    return HeldOut(logits_NW[known_N], targets_S[rows_N][known_N], strangers_M, "the support set, one left out each")


def _of_each_class(
    algorithm: EmbeddingAlgorithm,
    encoder: Encoder,
    kept_S: Tensor,
    targets_S: Tensor,
    rows_N: Tensor,
    counts_W: Tensor,
    state: Any,
) -> tuple[Tensor, Tensor]:
    """Only an example's own class changes when it is left out."""
    logits_NW = algorithm.answer(encoder, state, kept_S[rows_N]).clone()
    targets_N = targets_S[rows_N]
    strangers_M = familiarity(_without(logits_NW, targets_N)) if logits_NW.shape[1] > 1 else logits_NW.new_empty(0)
    for place, (row, target) in enumerate(zip(rows_N.tolist(), targets_N.tolist(), strict=True)):
        others = targets_S == target
        others[row] = False
        if others.any():
            alone = algorithm.adapt(encoder, kept_S[others], targets_S.new_zeros(int(others.sum())), 1)
            logits_NW[place, target] = algorithm.answer(encoder, alone, kept_S[row : row + 1])[0, 0]
    return logits_NW, strangers_M


def _of_all_classes(
    algorithm: EmbeddingAlgorithm,
    encoder: Encoder,
    kept_S: Tensor,
    targets_S: Tensor,
    rows_N: Tensor,
    counts_W: Tensor,
    state: Any,
) -> tuple[Tensor, Tensor]:
    """Learn anew for every example that is left out, and for every class."""
    ways = len(counts_W)
    logits = []
    for row in rows_N.tolist():
        others = torch.arange(len(kept_S), device=kept_S.device) != row
        if counts_W[targets_S[row]] > 1:
            learned = algorithm.adapt(encoder, kept_S[others], targets_S[others], ways)
            logits.append(algorithm.answer(encoder, learned, kept_S[row : row + 1]))
        else:
            logits.append(kept_S.new_zeros(1, ways))
    strangers = [kept_S.new_empty(0)]
    for target in targets_S[rows_N].unique().tolist() if ways > 1 and not algorithm.fixed_ways else ():
        others = targets_S != target
        codes = targets_S[others] - (targets_S[others] > target).long()
        learned = algorithm.adapt(encoder, kept_S[others], codes, ways - 1)
        asked = rows_N[targets_S[rows_N] == target]
        strangers.append(familiarity(algorithm.answer(encoder, learned, kept_S[asked])))
    return torch.cat(logits), torch.cat(strangers)


def _without(logits_NW: Tensor, targets_N: Tensor) -> Tensor:
    """Return the logits of the other classes, ``[N, W - 1]``."""
    others_NW = torch.ones_like(logits_NW, dtype=torch.bool).scatter_(1, targets_N[:, None], False)
    return logits_NW[others_NW].view(len(logits_NW), -1)


def confidence_of(held: HeldOut, reject_rate: float | None = None, false_accept: float | None = None) -> Confidence:
    """Return temperature and threshold that follow from held-out answers.

    Args:
        held: the answers.
        reject_rate: the share of examples of known classes that may be called unknown; default: 0.05.
        false_accept: instead, the share of strangers that may be taken for known.
    """
    if not len(held.targets_N):
        known = NOTHING_KNOWN
    else:
        temperature = best_temperature(held.logits_NW, held.targets_N)
        probabilities = (held.logits_NW / temperature).softmax(1)
        error = expected_calibration_error(probabilities, held.targets_N)
        known = Confidence(temperature, -math.inf, error, len(held.targets_N), held.source)
    if false_accept is not None:
        ordered = held.strangers_M.sort(descending=True).values
        place = math.floor(false_accept * (len(ordered) + 1))  # the first of those that may be taken for known
        above = ordered[place] if place < len(ordered) else ordered.new_tensor(-math.inf)
        return known._replace(threshold=math.nextafter(float(above), math.inf))
    if not len(held.targets_N):
        return known
    rate = DEFAULT_REJECT_RATE if reject_rate is None else reject_rate
    return known._replace(threshold=_lower_limit(familiarity(held.logits_NW), rate))


def _lower_limit(values_N: Tensor, rate: float) -> float:
    """Return what a further value lies below at the given rate.

    By rank, which holds for any distribution; where there are too few values for that, by Student's prediction limit,
    as if they were normally distributed; of fewer than three, none.
    """
    count = len(values_N)
    place = math.floor(rate * (count + 1))
    if place >= 1:
        return float(values_N.sort().values[min(place, count) - 1])
    if count < 3:
        return -math.inf
    spread = float(values_N.double().std()) * math.sqrt(1 + 1 / count)
    return float(values_N.double().mean()) + _student_quantile(rate, count - 1) * spread


def _student_quantile(rate: float, freedom: int) -> float:
    """Return the quantile of Student's distribution, by its expansion about the normal one (error below 2%).

    >>> [round(_student_quantile(0.05, freedom), 2) for freedom in (2, 5, 17)]  # exactly -2.92, -2.02, -1.74
    [-2.87, -2.01, -1.74]
    """
    z = float(torch.special.ndtri(torch.tensor(rate, dtype=torch.float64)))
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def nonconformity(logits_NW: Tensor, code: int) -> Tensor:
    """Return by how much the best other class exceeds a class, ``[N]``: small where an example conforms to it."""
    targets_N = torch.full((len(logits_NW),), code, device=logits_NW.device)
    others = _without(logits_NW, targets_N).amax(1) if logits_NW.shape[1] > 1 else 0
    return others - logits_NW[:, code]

