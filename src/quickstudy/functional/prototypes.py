"""Class means of a support set.

Shapes: S support examples, W ways, D features.
"""

from __future__ import annotations

import torch
from torch import Tensor


def members(targets_N: Tensor, ways: int, dtype: torch.dtype) -> Tensor:
    """Return ``[N, W]`` ones where an example belongs to a class: one-hot rows that pass through any transform."""
    return (targets_N[:, None] == torch.arange(ways, device=targets_N.device)).to(dtype)


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
    members_SW = members(targets_S, ways, support_SD.dtype)  # a product with a static shape passes through vmap
    return members_SW.transpose(0, 1) @ support_SD / members_SW.sum(0).clamp(min=1).unsqueeze(1)
