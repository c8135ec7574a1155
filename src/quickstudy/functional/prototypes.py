"""Class means of a support set.

Shapes: S support examples, W ways, D features.
"""

from __future__ import annotations

import torch
from torch import Tensor

_MANY = 10_000_000  # of examples times classes


def members(targets_N: Tensor, ways: int, dtype: torch.dtype) -> Tensor:
    """Return ``[N, W]`` ones where an example belongs to a class: one-hot rows that pass through any transform."""
    return (targets_N.unsqueeze(-1) == torch.arange(ways, device=targets_N.device)).to(dtype)


def prototypes(support_SD: Tensor, targets_S: Tensor, ways: int) -> Tensor:
    """Return the mean of each class's support: ``[W, D]``; classes may have different numbers of examples.

    Args:
        support_SD: ``[S, D]`` embeddings.
        targets_S: ``[S]`` classes from 0 to ``ways - 1``, each at least once.
        ways: W.

    >>> import torch
    >>> prototypes(torch.tensor([[0.0], [2.0], [5.0]]), torch.tensor([0, 0, 1]), ways=2)
    tensor([[1.],
            [5.]])
    """
    counts_W1 = counts(targets_S, ways).clamp(min=1).to(support_SD.dtype).unsqueeze(1)
    if len(targets_S) * ways > _MANY:
        return torch.zeros(ways, support_SD.shape[1]).to(support_SD).index_add(0, targets_S, support_SD) / counts_W1
    # A product is the same on every run of a GPU, where sums by index are not.
    return members(targets_S, ways, support_SD.dtype).transpose(0, 1) @ support_SD / counts_W1


def counts(targets_S: Tensor, ways: int) -> Tensor:
    """Return how many examples each class has, ``[W]``."""
    return torch.zeros(ways, dtype=torch.long, device=targets_S.device).scatter_add(
        0, targets_S, torch.ones_like(targets_S)
    )


def nearest_members(values_QS: Tensor, targets_S: Tensor, counts_W: Tensor) -> Tensor:
    """Return the smallest of each class's values, ``[Q, W]``.

    Args:
        values_QS: of every query for every support example.
        targets_S: ``[S]`` classes.
        counts_W: ``[W]``, whose length says how many classes there are.

    >>> nearest_members(torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([0, 0, 1]), torch.tensor([2, 1]))
    tensor([[1., 2.]])
    """
    without_QW = torch.full((values_QS.shape[0], counts_W.shape[0]), torch.inf).to(values_QS)
    return without_QW.scatter_reduce(1, targets_S.expand_as(values_QS), values_QS, "amin")
