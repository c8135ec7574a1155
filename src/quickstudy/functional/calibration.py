"""Whether probabilities mean what they say, and how to make them.

Shapes: N examples, W classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

_BINS = 15


def best_temperature(logits_NW: Tensor, targets_N: Tensor, doubt: float | None = None) -> float:
    """Return the number to divide logits by, so that held-out examples are likeliest.

    Guo et al. 2017, "On Calibration of Modern Neural Networks", https://arxiv.org/abs/1706.04599. A few examples that
    are all right make no certainty: as likely is the temperature that holds if targets are wrong once in N + 2 times,
    after Platt 1999. Of all between the two, the one nearest 1 is returned, which is the classifier's own.

    Args:
        logits_NW: of examples that their classifier did not see.
        targets_N: their classes.
        doubt: how often targets are wrong then, where examples are less than N independent ones; None: as told above.

    >>> logits, targets = torch.tensor([[4.0, 0.0]] * 3 + [[0.0, 4.0]]), torch.tensor([0, 0, 0, 0])
    >>> round(best_temperature(logits, targets), 2)
    3.64
    >>> best_temperature(logits[:3], targets[:3])
    1.0
    """
    logits_NW = logits_NW.double() - logits_NW.double().amax(1, keepdim=True)
    trusting = _likeliest(logits_NW, targets_N, 0.0)
    doubt = 1 / (len(logits_NW) + 2) if doubt is None else doubt
    return min(max(1.0, trusting), _likeliest(logits_NW, targets_N, doubt))


def _likeliest(logits_NW: Tensor, targets_N: Tensor, doubt: float) -> float:
    scale = float(logits_NW.std()) or 1.0
    # The loss is convex in 1 / temperature: halve the interval on the sign of its derivative.
    low, high = 0.01 / scale, 100 / scale
    wanted_N = (1 - doubt) * logits_NW.gather(1, targets_N[:, None])[:, 0] + doubt * logits_NW.mean(1)
    for _ in range(60):
        middle = (low * high) ** 0.5
        expected_N = ((middle * logits_NW).softmax(1) * logits_NW).sum(1)
        if float((expected_N - wanted_N).mean()) > 0:
            high = middle
        else:
            low = middle
    return 1 / low


def expected_calibration_error(probabilities_NW: Tensor, targets_N: Tensor) -> float:
    """Return by how much confidence and accuracy differ, from 0 to 1: the mean over 15 equal bins of confidence.

    Naeini et al. 2015, "Obtaining Well Calibrated Probabilities Using Bayesian Binning",
    https://doi.org/10.1609/aaai.v29i1.9602. With few examples it is above 0 even for perfect probabilities.

    >>> expected_calibration_error(torch.tensor([[0.75, 0.25]] * 4), torch.tensor([0, 0, 0, 1]))
    0.0
    """
    confidence_N, answers_N = probabilities_NW.double().max(1)
    bins_N = (confidence_N * _BINS).ceil().long().clamp(1, _BINS) - 1
    gaps = (answers_N == targets_N).double() - confidence_N
    return float(
        torch.zeros(_BINS, dtype=torch.float64).index_add_(0, bins_N.cpu(), gaps.cpu()).abs().sum() / len(gaps)
    )


def area_under_roc(known_N: Tensor, unknown_M: Tensor) -> float:
    """Return how often a score of the known exceeds one of the unknown, ties counting half: 0.5 is chance, 1 perfect.

    >>> area_under_roc(torch.tensor([3.0, 2.0]), torch.tensor([1.0, 2.0]))
    0.875
    """
    ordered_M = unknown_M.double().sort().values
    below = torch.searchsorted(ordered_M, known_N.double().contiguous())
    up_to = torch.searchsorted(ordered_M, known_N.double().contiguous(), right=True)
    return float((below + up_to).double().mean() / (2 * len(ordered_M)))
