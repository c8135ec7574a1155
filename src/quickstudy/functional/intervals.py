"""Confidence intervals of accuracies.

Shapes: n independent figures, such as the accuracies of n episodes; R pairs of a figure and a class that it rests on;
P pairs of a draw and an example that was asked in it.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import torch
from torch import Tensor

Z95 = 1.959963984540054
"""The 97.5% quantile of the normal distribution."""
FEWEST = 3
"""Draws that tell an interval: the difference of two alone says next to nothing of how draws differ."""
_LARGEST = 10.0  # of a logarithm's half-width, beyond which nothing is known: a factor of 22,000
_COMMON = 4  # examples that two draws were asked both, from which on they tell anything of the draws
_SERIES = 300  # degrees of freedom up to which the series is summed; beyond, its expansion errs by less than 1e-11


def mean_interval(values: Tensor, trials: int | None = None) -> tuple[float, float]:
    """Return the mean and the half-width of its 95% interval: standard errors times Student's t.

    For 600 values that is the field's 1.96 standard errors, for 10 it is 2.26, for 2 it is 12.7.

    Args:
        values: ``[n]``, one independent figure each, such as an episode's accuracy.
        trials: how many right or wrong answers the values are shares of, all together; None: they are no shares. Where
            all shares are the same, such as 1.0, their spread says nothing: the half-width is then that of Wilson's
            interval, as if the answers were independent of each other, which is the least that can be doubted. That
            of shares reaches no further than from 0 to 1.

    Returns:
        (mean, half-width); the half-width of fewer than two values is not a number.

    >>> mean_interval(torch.tensor([0.0, 1.0, 1.0, 1.0]))
    (0.75, 0.795...)
    >>> mean_interval(torch.ones(20), trials=20 * 75)
    (1.0, 0.00255...)
    """
    values = values.detach().to("cpu", torch.float64)
    count = len(values)
    if count < 2:
        return (float(values.mean()) if count else math.nan), math.nan
    mean = float(values.mean())
    if trials and bool((values == values[0]).all()):
        return mean, proportion_interval(mean * trials, trials)[1]
    half = student_quantile(0.975, count - 1) * float(values.std(unbiased=True)) / math.sqrt(count)
    return mean, min(half, max(mean, 1 - mean)) if trials else half


def clusters_interval(values: Tensor, clusters: Tensor) -> float:
    """Return the half-width of the 95% interval of a mean whose values are alike within clusters, as of one patient.

    The spread is that of the clusters' sums of deviations (Liang and Zeger 1986, https://doi.org/10.1093/biomet/73.1.13,
    for a mean); Student's t has one degree of freedom less than there are clusters.

    Args:
        values: ``[n]``
        clusters: ``[n]``, the number of each one's cluster.

    Returns:
        The half-width; not a number of fewer than two clusters.

    >>> clusters_interval(torch.tensor([1.0, 1.0, 0.0, 0.0]), torch.tensor([0, 0, 1, 1]))  # that of two values
    6.35...
    """
    values = values.detach().to("cpu", torch.float64)
    places = torch.unique(clusters.cpu(), return_inverse=True)[1]
    count = int(places.max()) + 1 if len(places) else 0
    if count < 2:
        return math.nan
    sums = torch.bincount(places, values - values.mean(), count)
    spread = math.sqrt(count / (count - 1) * float(sums.square().sum())) / len(values)
    return student_quantile(0.975, count - 1) * spread


def proportion_interval(successes: float, trials: int) -> tuple[float, float]:
    """Return a proportion and how far at most its 95% Wilson score interval (Wilson 1927) reaches from it.

    The interval is not centred on the proportion; what is returned covers it on both sides. Unlike 1.96 standard
    errors it does not shrink to nothing when every trial succeeds.

    >>> proportion_interval(10, 10)
    (1.0, 0.277...)
    """
    if trials == 0:
        return math.nan, math.nan
    rate = successes / trials
    shrink = 1 + Z95**2 / trials
    centre = (rate + Z95**2 / (2 * trials)) / shrink
    half = Z95 * math.sqrt(max(rate * (1 - rate), 0) / trials + Z95**2 / (4 * trials**2)) / shrink
    return rate, half + abs(rate - centre)


def classes_interval(values: Tensor, places: Tensor, classes: Tensor) -> float:
    """Return the half-width of the 95% interval of a mean over episodes, for classes like those that were drawn.

    The jackknife over classes: how far the mean moves when a class is left out, with all episodes that it is in, tells
    how far it would have been with other classes. What the draw of episodes moves by itself is taken off, and added
    once for the mean itself; Student's t has one degree of freedom less than there are classes, or episodes if they are
    fewer: it is never narrower than the interval over the episodes.

    Args:
        values: ``[n]``, a figure of each episode, such as its accuracy or the difference of two models' accuracies.
        places: ``[R]``, for each class of each episode, the episode's place among the values.
        classes: ``[R]``, and its class, from 0 on.

    Returns:
        The half-width; not a number where fewer than three classes were drawn, or one is in every episode.

    >>> accuracies = torch.tensor([0.9, 0.5, 0.9, 0.5, 0.7, 0.7])  # of six episodes of two classes each
    >>> classes = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 0, 2, 1, 3])
    >>> round(classes_interval(accuracies, torch.arange(6).repeat_interleave(2), classes), 3)
    0.657
    """
    values_n = values.detach().to("cpu", torch.float64)
    places_R, codes_R = places.cpu(), torch.unique(classes.cpu(), return_inverse=True)[1]
    count, known = len(values_n), int(codes_R.max()) + 1 if len(codes_R) else 0
    episodes_C = torch.bincount(codes_R, minlength=known).double()
    if known < 3 or bool((episodes_C >= count).any()):
        return math.nan
    sums_C = torch.bincount(codes_R, values_n[places_R], known).double()
    without_C = (values_n.sum() - sums_C) / (count - episodes_C)
    share = (known - 1) / known
    spread = share * float((without_C - without_C.mean()).square().sum())
    variance = float(values_n.var(unbiased=True))
    of_the_draw = share * variance * float((1 / (count - episodes_C) - 1 / count).sum())
    return student_quantile(0.975, min(known, count) - 1) * math.sqrt(max(spread - of_the_draw, 0) + variance / count)


def draws_interval(
    values: Tensor,
    draws: Tensor,
    examples: Tensor,
    strata: Tensor,
    taught: float,
    origins: Tensor | None = None,
    teaching: float | None = None,
    shares: bool = True,
) -> tuple[float, float]:
    """Return the mean of answers over draws of a support set, and the half-width of its 95% interval for new examples.

    The draws share examples, so that their means are not independent, and their spread tells too little (Nadeau &
    Bengio 2003, Inference for the Generalization Error). There are two parts instead. Which examples were asked: each
    counts once, by the mean of what was answered to it, within its class. Which were learned from: ``teaching``, of
    which the share ``taught`` remains however many draws there are, as they are all drawn from the same data. An odd
    example is answered wrongly and teaches badly, so that the two go together: their correlation is taken for a half.
    Student's t has degrees of freedom by Satterthwaite. Where nearly all answers are alike, their spread says little of
    those to come: the interval of a share reaches further by what Wilson's of as many right and wrong answers as there
    are examples does beyond 1.96 standard errors, and where a difference is the same in all examples, by what Wilson's
    of as many failures does. In simulations it covers the truth in 90 to 100% of cases (``benchmarks/ladder.py``).

    Args:
        values: ``[P]``, 1 for a right answer and 0 for a wrong one, or the difference of two such.
        draws: ``[P]``, which draw each is of.
        examples: ``[P]``, which example was asked.
        strata: ``[P]``, its class.
        taught: the share of all examples that a draw learns from.
        origins: ``[P]``, what each comes from, where examples of one origin go together: each origin counts once then,
            in place of each example within its class.
        teaching: what ``teaching_variance`` returned of other draws; None: of these.
        shares: whether values lie between 0 and 1; False: differences, between -1 and 1.

    Returns:
        (mean, half-width); the half-width is not a number with fewer than three draws, or two examples or origins. By
        two draws it would be narrow or as wide as can be, as chance has it, and hold the truth too rarely.

    >>> values = torch.tensor([1.0, 1, 0, 1, 1, 1, 0, 0, 1, 1, 0, 1, 1, 1, 0, 0, 1, 1])  # of six in three draws
    >>> examples, draws = torch.arange(6).repeat(3), torch.arange(3).repeat_interleave(6)
    >>> mean, half = draws_interval(values, draws, examples, 0 * draws, 0.2)
    >>> round(mean, 3), round(half, 3)
    (0.667, 0.221)
    """
    values_P = values.detach().to("cpu", torch.float64)
    units_P = torch.unique((examples if origins is None else origins).cpu(), return_inverse=True)[1]
    strata_P = torch.unique(strata.cpu(), return_inverse=True)[1]
    several, units = len(torch.unique(draws)), len(torch.unique(units_P))
    mean = float(values_P.mean()) if len(values_P) else math.nan
    if units < 2 or several < FEWEST:
        return mean, math.nan
    of_asked, freedom = _variance_of_asked(values_P, units_P, strata_P if origins is None else 0 * strata_P)
    if teaching is None:
        teaching = teaching_variance(values, draws, examples, taught)
    of_taught = teaching * ((1 - taught) / several + taught)
    variance = of_asked + of_taught + math.sqrt(of_asked * of_taught)
    freedoms = (of_asked + of_taught) ** 2 / (of_asked**2 / freedom + of_taught**2 / (several - 1)) if variance else 1
    half = student_quantile(0.975, max(1, int(freedoms))) * math.sqrt(variance)
    if shares:
        by_spread = Z95 * math.sqrt(max(mean * (1 - mean), 0) / units)
        return mean, half + max(0.0, proportion_interval(mean * units, units)[1] - by_spread)
    return mean, half if of_asked else half + proportion_interval(0, units)[1]


def teaching_variance(values: Tensor, draws: Tensor, examples: Tensor, taught: float) -> float:
    """Return by how much it varies how well one support set teaches, and another that shares nothing with it.

    It is taken from pairs of draws, on the examples that both were asked, less what chance in single answers makes of
    it; draws from the same data differ less, by what they share.

    Args:
        values, draws, examples, taught: see ``draws_interval``.
    """
    values_P = values.detach().to("cpu", torch.float64)
    draws_P, examples_P = (torch.unique(each.cpu(), return_inverse=True)[1] for each in (draws, examples))
    asked_RN, found_RN = torch.zeros(2, int(draws_P.max()) + 1, int(examples_P.max()) + 1, dtype=torch.float64)
    asked_RN[draws_P, examples_P], found_RN[draws_P, examples_P] = 1.0, values_P
    common_RR = asked_RN @ asked_RN.mT
    # Of a pair, on the examples that both have: the sums of one's answers, and of the squares of differences.
    sums_RR, squares_RR = found_RN @ asked_RN.mT, found_RN.square() @ asked_RN.mT
    off_RR = (sums_RR - sums_RR.mT) / common_RR
    square_RR = (squares_RR + squares_RR.mT - 2 * found_RN @ found_RN.mT) / common_RR
    noise_RR = (square_RR - off_RR.square()) / (common_RR - 1)
    pairs = torch.ones_like(common_RR).triu(1).bool() & (common_RR >= _COMMON)
    if not bool(pairs.any()):  # they were asked others: the spread of their means, less chance in these
        means_R = found_RN.sum(1) / asked_RN.sum(1)
        chance_R = (found_RN.square().sum(1) / asked_RN.sum(1) - means_R.square()) / (asked_RN.sum(1) - 1).clamp(min=1)
        return max(0.0, float(means_R.var(unbiased=True) - chance_R.mean())) / (1 - taught)
    weights = common_RR[pairs]
    between = float(((off_RR.square() - noise_RR)[pairs] / 2 * weights).sum() / weights.sum())
    return max(0.0, between) / (1 - taught)


def _variance_of_asked(values_P: Tensor, units_P: Tensor, strata_P: Tensor) -> tuple[float, int]:
    """Return the variance of the mean of units, drawn within their strata, and its degrees of freedom."""
    asked_N = torch.bincount(units_P).double()
    means_N = torch.bincount(units_P, values_P) / asked_N
    strata_N = torch.zeros(len(means_N), dtype=torch.long)
    strata_N[units_P] = strata_P
    weights_N = asked_N / asked_N.sum()
    centres_C = torch.bincount(strata_N, weights_N * means_N) / torch.bincount(strata_N, weights_N)
    freedom = max(1, len(means_N) - len(centres_C))
    off_N = weights_N * (means_N - centres_C[strata_N])
    return float(off_N.square().sum()) * len(means_N) / freedom, freedom


def upper_reach(value: float, half: float) -> float:
    """Return the half-width of an interval of a figure above 0 by its logarithm: how far its upper end reaches.

    Of a mean of squared errors, whose spread is small where it happens to be small itself, this covers the truth more
    often than the half-width on the scale of the figure, by which it is never smaller.

    >>> upper_reach(2.0, 1.0)
    1.297...
    """
    return value * math.expm1(min(half / value, _LARGEST)) if value > 0 and math.isfinite(half) else half


def student_quantile(probability: float, freedom: int) -> float:
    """Return the quantile of Student's t distribution, with a relative error below 1e-6.

    Args:
        probability: between 0 and 1.
        freedom: degrees of freedom, a whole number from 1 on.

    >>> [round(student_quantile(0.05, freedom), 3) for freedom in (1, 2, 5, 17)]
    [-6.314, -2.92, -2.015, -1.74]
    >>> round(student_quantile(0.975, 599), 4)
    1.9639
    """
    if probability > 0.5:
        return -student_quantile(1 - probability, freedom)
    if freedom > _SERIES:
        return _expanded(NormalDist().inv_cdf(probability), freedom)
    low, high = -math.pi / 2, 0.0  # of the angle whose tangent is the quantile over the root of the freedom
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _student_below(middle, freedom) < probability else (low, middle)
    return math.tan(low) * math.sqrt(freedom)


def _student_below(angle: float, freedom: int) -> float:
    """Return the share of Student's distribution below an angle (Abramowitz & Stegun, 26.7.3 and 26.7.4)."""
    odd, square = freedom % 2, math.cos(angle) ** 2
    term = total = math.cos(angle) if odd else 1.0
    for number in range(2 + odd, freedom - 1, 2):
        term *= square * (number - 1) / number
        total += term
    within = (angle + math.sin(angle) * total * (freedom > 1)) * 2 / math.pi if odd else math.sin(angle) * total
    return (1 + within) / 2


def _expanded(z: float, freedom: int) -> float:
    """Return the quantile for many degrees of freedom (Abramowitz & Stegun, 26.7.5)."""
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / freedom**power for power, term in enumerate(terms, 1))
