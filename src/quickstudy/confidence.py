"""What an adapted model may say of its own answers: how sure it is, and that it does not know.

All of it comes from examples that the classifier in question did not see: the support set's own, left out in
turn, or examples that are given for the purpose.

Shapes: N held-out examples, M strangers (examples of no known class), S support examples, W classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from quickstudy.algorithms import EmbeddingAlgorithm
from quickstudy.functional.calibration import best_temperature, expected_calibration_error
from quickstudy.functional.distances import squared_euclidean

DEFAULT_REJECT_RATE = 0.05
_MOST = 200  # examples whose familiarity is asked for, and classes that are, evenly spread over the support set
_WORK = 10_000  # examples that are learned anew in all, for answers to those that were left out
_LEAST = 20  # of which there are as many, if there can be
_AT_ONCE = 10_000_000  # numbers in the support sets that are learned side by side


class HeldOut(NamedTuple):
    """Answers to examples that their classifier did not see."""

    logits: Tensor
    """``[N, W]``"""
    targets: Tensor
    """``[N]``, their classes."""
    familiar: Tensor
    """``[N]``, how familiar they are."""
    strangers: Tensor
    """``[M]``, how familiar examples are whose class it does not know."""
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


def familiarity(embedded_ND: Tensor, means_WD: Tensor) -> Tensor:
    """Return how familiar examples are, ``[N]``: minus the squared distance to the nearest class mean.

    It does not depend on the classifier, whose logits may be large far from everything it knows.
    """
    return -squared_euclidean(embedded_ND, means_WD).amin(1)


def left_out(
    algorithm: EmbeddingAlgorithm, support: Mapping[str, Tensor], means_WD: Tensor, answers: bool = True
) -> HeldOut:
    """Answer support examples as if they had been left out, and tell how familiar they would be without their class.

    Learning anew without each may take a while; ``answers=False`` leaves that out, and has no logits.

    Args:
        algorithm: in evaluation mode.
        support: by class, its embeddings ``[n, D]``.
        means_WD: of the classes.
        answers: whether logits are wanted.
    """
    kept_S = torch.cat(list(support.values()))
    counts_W = torch.tensor([len(kept) for kept in support.values()], device=kept_S.device)
    targets_S = torch.arange(len(counts_W), device=kept_S.device).repeat_interleave(counts_W)
    rows_N = _spread(len(kept_S), _MOST).to(kept_S.device)
    targets_N = targets_S[rows_N]
    known_N = counts_W[targets_N] > 1  # without its only example a class is gone
    distances_NW = squared_euclidean(kept_S[rows_N], means_WD)
    own_N1 = targets_N[:, None]
    strangers_N = -distances_NW.scatter(1, own_N1, torch.inf).amin(1)
    # Without an example of n, the mean of the others is n / (n - 1) times as far from it.
    counts_N1 = counts_W[own_N1]
    without_N1 = distances_NW.gather(1, own_N1) * (counts_N1 / (counts_N1 - 1).clamp(min=1)) ** 2
    familiar_N = -distances_NW.scatter(1, own_N1, without_N1).amin(1)
    strangers_M = strangers_N if len(counts_W) > 1 else strangers_N[:0]
    wanted_W = counts_W if answers else torch.ones_like(counts_W)
    logits_NW, targets_N = _without_one_of_each(algorithm, kept_S, targets_S, wanted_W)
    source = "the support set, one of each class left out" if known_N.any() else "nothing: no class has two examples"
    return HeldOut(logits_NW, targets_N, familiar_N[known_N], strangers_M, source)


def _spread(count: int, most: int) -> Tensor:
    """Return at most so many of ``count`` places, evenly spread."""
    return torch.linspace(0, max(count - 1, 0), min(most, count), dtype=torch.float64).round().long()


def _without_one_of_each(
    algorithm: EmbeddingAlgorithm, kept_S: Tensor, targets_S: Tensor, counts_W: Tensor
) -> tuple[Tensor, Tensor]:
    """Return ``[N, W]`` logits and ``[N]`` classes of examples that are left out, one of each class at a time.

    Were one alone left out, its class would have fewer examples than the others, and its answer tell of that.
    """
    ways = len(counts_W)
    (more_C,) = (counts_W > 1).nonzero(as_tuple=True)  # without its only example a class is gone
    if not len(more_C):
        return kept_S.new_empty(0, ways), targets_S[:0]
    order_S = kept_S.sum(1).argsort()  # which examples are left out together must not depend on the order they came in
    kept_S = kept_S[order_S[targets_S[order_S].argsort(stable=True)]]
    rounds = min(int(counts_W.max()), max(_LEAST // ways + 1, _WORK // len(kept_S)))
    places_RC = torch.arange(rounds, device=kept_S.device)[:, None] * counts_W[more_C] // rounds
    again_RC = torch.zeros_like(places_RC, dtype=torch.bool)
    again_RC[1:] = places_RC[1:] == places_RC[:-1]
    rows_RC = (counts_W.cumsum(0) - counts_W)[more_C] + places_RC
    inside_RS = torch.ones(rounds, len(kept_S), dtype=torch.bool, device=kept_S.device).scatter(1, rows_RC, False)
    others_RS = inside_RS.nonzero()[:, 1].view(rounds, -1)
    asked = _spread(len(more_C), _MOST).to(kept_S.device)
    rows_RC, again_RC, more_C = rows_RC[:, asked], again_RC[:, asked], more_C[asked]
    together = max(1, _AT_ONCE // kept_S.numel())
    with torch.autocast(kept_S.device.type, enabled=False):
        logits = [
            algorithm.classify(kept_S[others], targets_S[others], kept_S[rows], ways)
            for others, rows in zip(torch.split(others_RS, together), torch.split(rows_RC, together), strict=True)
        ]
    logits_CRW = torch.cat(logits).transpose(0, 1)
    return logits_CRW[~again_RC.T], more_C[:, None].expand(-1, rounds)[~again_RC.T]


def confidence_of(held: HeldOut, reject_rate: float | None = None, false_accept: float | None = None) -> Confidence:
    """Return temperature and threshold that follow from held-out answers.

    Args:
        held: the answers.
        reject_rate, false_accept: see ``threshold_of``.
    """
    threshold = threshold_of(held, reject_rate, false_accept)
    if not len(held.targets):
        return Confidence(1.0, threshold, math.nan, 0, held.source)
    temperature = best_temperature(held.logits, held.targets)
    error = expected_calibration_error((held.logits / temperature).softmax(1), held.targets)
    return Confidence(temperature, threshold, error, len(held.targets), held.source)


def threshold_of(held: HeldOut, reject_rate: float | None = None, false_accept: float | None = None) -> float:
    """Return the familiarity below which an input is unknown.

    Args:
        held: the answers.
        reject_rate: the share of examples of known classes that may be called unknown; default: 0.05.
        false_accept: instead, the share of strangers that may be taken for known.
    """
    if false_accept is None:
        return _lower_limit(held.familiar, DEFAULT_REJECT_RATE if reject_rate is None else reject_rate)
    ordered = held.strangers.sort(descending=True).values
    place = math.floor(false_accept * (len(ordered) + 1))  # the first of those that may not be taken for known
    above = float(ordered[place]) if place < len(ordered) else -math.inf
    return math.nextafter(above, math.inf)


def _lower_limit(values_N: Tensor, rate: float) -> float:
    """Return what a further value lies below at the given rate.

    By rank, which holds for any distribution; where there are too few values for that, by Student's prediction limit,
    as if they were normally distributed; of fewer than three, none.
    """
    count = len(values_N)
    if rate == 0:
        return -math.inf
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
    [-2.88, -2.01, -1.74]
    """
    z = float(torch.special.ndtri(torch.tensor(rate, dtype=torch.float64)))
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def nonconformity(logits_NW: Tensor, code: int) -> Tensor:
    """Return by how much the best other class exceeds a class, ``[N]``: small where an example conforms to it."""
    others_NW = logits_NW.clone()
    others_NW[:, code] = -torch.inf
    best_N = others_NW.amax(1) if logits_NW.shape[1] > 1 else torch.zeros_like(logits_NW[:, 0])
    return best_N - logits_NW[:, code]


def in_words(sure: Confidence) -> list[str]:
    """Return a line for each figure, and one for where they come from."""
    error = f"{sure.calibration_error:.1%} over {sure.examples} examples" if sure.examples else "not measured"
    unknown = f"what is less familiar than {sure.threshold:.4g}"
    if sure.threshold == -math.inf:
        unknown = "nothing: too few examples were held out, or reject_rate is 0"
    return [
        f"Temperature of its probabilities: {sure.temperature:.3g}",
        f"Expected calibration error: {error}",
        f"Called unknown: {unknown}",
        f"Both follow from {sure.source}",
    ]
