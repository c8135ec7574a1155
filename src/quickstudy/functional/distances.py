"""Distances and similarities between rows, by matrix products: they export, vmap, and differentiate twice.

Shapes: Q queries, P points, D features.
"""

from __future__ import annotations

from torch import Tensor


def squared_euclidean(query_QD: Tensor, points_PD: Tensor) -> Tensor:
    """Return the squared Euclidean distance of every query to every point.

    Args:
        query_QD: ``[Q, D]``
        points_PD: ``[P, D]``

    Returns:
        ``[Q, P]``, in squared units of the features.

    >>> import torch
    >>> squared_euclidean(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0], [1.0, 0.0]]))
    tensor([[25.,  1.]])
    """
    # Squares of large numbers cancel: distances are those from a centre near all points.
    centre_D = points_PD.detach().mean(0)
    query_QD, points_PD = query_QD - centre_D, points_PD - centre_D
    squares_Q1 = query_QD.square().sum(-1, keepdim=True)
    squares_P = points_PD.square().sum(-1)
    return (squares_Q1 - query_QD @ (2 * points_PD).transpose(-1, -2) + squares_P).clamp(min=0)


def cosine(query_QD: Tensor, points_PD: Tensor) -> Tensor:
    """Return the cosine of the angle between every query and every point: ``[Q, P]``, from -1 to 1."""
    similarity: Tensor = unit(query_QD) @ unit(points_PD).transpose(-1, -2)
    return similarity


def evened(values_ND: Tensor, square: Tensor) -> Tensor:
    """Return rows scaled so that those much longer than the root of ``square`` have length 1, and shorter ones less.

    Args:
        values_ND: ``[N, D]``
        square: one number, of squared units of the values.
    """
    return values_ND / (values_ND.square().sum(-1, keepdim=True) + square + 1e-12).sqrt()


def unit(values_ND: Tensor) -> Tensor:
    """Return rows scaled to length 1; those much shorter than 1e-6 shrink to 0, with derivatives that stay finite."""
    lengths_N1 = (values_ND.square().sum(-1, keepdim=True) + 1e-12).sqrt()
    return values_ND / lengths_N1
