"""Losses of quantiles, and what a distribution of which some are known is judged by.

Shapes: M answers, Q quantiles.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def pinball(predicted_MQ: Tensor, targets_M: Tensor, quantiles: Sequence[float]) -> Tensor:
    """Return the loss of each quantile, ``[M, Q]``, in the targets' units, least on average at the true ones.

    Koenker and Bassett 1978, https://doi.org/10.2307/1913643

    >>> pinball(torch.tensor([[1.0, 1.0]]), torch.tensor([3.0]), (0.5, 0.9))
    tensor([[1.0000, 1.8000]])
    """
    levels_Q = torch.as_tensor(quantiles, dtype=predicted_MQ.dtype, device=predicted_MQ.device)
    off_MQ = targets_M[..., None] - predicted_MQ
    return torch.maximum(levels_Q * off_MQ, (levels_Q - 1) * off_MQ)


def crps(predicted_MQ: Tensor, targets_M: Tensor, quantiles: Sequence[float]) -> Tensor:
    """Return the continuous ranked probability score, ``[M]``, by some quantiles; of the median the absolute error.

    It is twice the mean of the quantiles' losses (Gneiting and Ranjan 2011,
    https://doi.org/10.1198/jbes.2010.08110), which the integral is over all.
    """
    return 2 * pinball(predicted_MQ, targets_M, quantiles).mean(-1)
