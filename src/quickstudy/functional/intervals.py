"""Confidence intervals of accuracies."""

from __future__ import annotations

import math

import torch
from torch import Tensor

Z95 = 1.959963984540054
"""The 97.5% quantile of the normal distribution."""


def mean_interval(values: Tensor) -> tuple[float, float]:
    """Return the mean and the half-width of its 95% interval, 1.96 standard errors: the field's convention.

    Args:
        values: ``[n]``, one independent figure each, such as an episode's accuracy.

    Returns:
        (mean, half-width); the half-width of fewer than two values is not a number.

    >>> mean_interval(torch.tensor([0.0, 1.0, 1.0, 1.0]))
    (0.75, 0.489...)
    """
    values = values.detach().to("cpu", torch.float64)
    if len(values) < 2:
        return (float(values.mean()) if len(values) else math.nan), math.nan
    return float(values.mean()), Z95 * float(values.std(unbiased=True)) / math.sqrt(len(values))


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
    half = Z95 * math.sqrt(rate * (1 - rate) / trials + Z95**2 / (4 * trials**2)) / shrink
    return rate, half + abs(rate - centre)
