"""How well features tell classes apart by themselves: what the nearest others of an example are.

Shapes: N examples, D features, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from quickstudy.functional.distances import cosine, unit

_ROWS = 1024  # that are compared with all others at once


def votes_of_nearest(features_ND: Tensor, targets_N: Tensor, count: int, temperature: float = 0.07) -> Tensor:
    """Return the class ``[N]`` that the nearest others of each example vote for, -1 where there is none.

    The weight of a vote is ``exp(cosine / temperature)``. Wu et al. 2018, "Unsupervised Feature Learning via
    Non-Parametric Instance Discrimination", https://arxiv.org/abs/1805.01978

    Args:
        features_ND: a row that holds what is no number gets no vote, and has none.
        targets_N: codes of classes.
        count: how many vote.
        temperature: what cosines are divided by.

    >>> votes_of_nearest(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]), torch.tensor([0, 0, 1]), 1).tolist()
    [0, 0, 0]
    """
    if not len(targets_N):
        return targets_N
    known_N = features_ND.isfinite().all(1)
    units_ND = unit(features_ND.masked_fill(~known_N[:, None], 0))
    count, classes = min(count, len(units_ND) - 1), int(targets_N.max()) + 1
    votes = []
    for rows in torch.split(torch.arange(len(units_ND), device=units_ND.device), _ROWS):
        near_RN = (units_ND[rows] @ units_ND.T).masked_fill(~known_N, -torch.inf)
        near_RN[torch.arange(len(rows)), rows] = -torch.inf
        values, places = near_RN.topk(count, 1)
        weights = (values / temperature).softmax(1).nan_to_num(0)
        cast_RC = weights.new_zeros(len(rows), classes).scatter_add(1, targets_N[places], weights)
        votes.append(cast_RC.argmax(1).masked_fill((cast_RC.sum(1) == 0) | ~known_N[rows], -1))
    return torch.cat(votes)


def neighbourhood_loss(features_ND: Tensor, targets_N: Tensor, temperature: float = 0.1) -> Tensor:
    """Return how unlikely it is that a neighbour, drawn by its nearness, is of an example's own class.

    That is minus the mean logarithm of its probability, of those examples that are not alone of their class. Wu et al.
    2018, "Improving Generalization via Scalable Neighborhood Component Analysis", https://arxiv.org/abs/1808.04699

    Args:
        features_ND: of a batch.
        targets_N: codes of classes.
        temperature: what cosines are divided by.
    """
    others_NN = ~torch.eye(len(targets_N), dtype=torch.bool, device=targets_N.device)
    own_NN = (targets_N[:, None] == targets_N) & others_NN
    some_N = own_NN.any(1)
    if not some_N.any():
        return features_ND.sum() * 0  # nothing to learn from, and still a number with a gradient
    near_NN = (cosine(features_ND, features_ND) / temperature).masked_fill(~others_NN, -torch.inf)
    logs_NN = near_NN.log_softmax(1)[some_N].masked_fill(~own_NN[some_N], -torch.inf)
    return -logs_NN.logsumexp(1).mean()
