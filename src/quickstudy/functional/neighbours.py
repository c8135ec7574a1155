"""How well features tell classes apart by themselves: what the nearest others of an example are.

Shapes: N examples, Q queries, k nearest, D features, C classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from quickstudy.errors import ConfigError, check_choice, check_counts
from quickstudy.functional.distances import cosine, squared_euclidean, unit

_ROWS = 1024  # that are compared with all others at once
_COMPARED = 1 << 14  # or with so many of a file


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


def nearest_rows(
    queries_QD: ArrayLike, features_ND: ArrayLike, count: int, metric: str = "cosine"
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the rows ``[Q, k]`` that are nearest to each query among N, nearest first, and how near ``[Q, k]``.

    All are compared, some at a time, so that an array that is mapped from a file is never read as a whole.

    Args:
        queries_QD: some.
        features_ND: among which to look.
        count: k, of rows for each query; fewer where there are not so many.
        metric: ``"cosine"``, where 1 is nearest, or ``"euclidean"``, where 0 is.

    Raises:
        ConfigError: the metric is another, or the two differ in their features.

    >>> nearest_rows([[1.0, 0.1]], [[0.0, 1.0], [2.0, 0.0], [1.0, 1.0]], 2)[0].tolist()
    [[1, 2]]
    """
    check_counts(count=count)
    check_choice("metric", metric, "cosine", "euclidean")
    queries, features = np.asarray(queries_QD), np.asarray(features_ND)
    if queries.ndim != 2 or features.ndim != 2 or queries.shape[1] != features.shape[1]:
        raise ConfigError(
            f"features of the shape {features.shape} cannot be compared with queries of {queries.shape}: give [N, D] "
            "and [Q, D], by one model"
        )
    count, found = min(count, len(features)), []
    for start in range(0, len(queries), _ROWS):
        asked = _ready(queries[start : start + _ROWS], metric)
        near, rows = torch.empty(len(asked), 0), torch.empty(len(asked), 0, dtype=torch.int64)
        for at in range(0, len(features), _COMPARED):
            others = _ready(features[at : at + _COMPARED], metric)
            values = asked @ others.T if metric == "cosine" else -squared_euclidean(asked, others)
            here, places = values.topk(min(count, len(others)), 1)
            near, best = torch.cat([near, here], 1).topk(min(count, near.shape[1] + here.shape[1]), 1)
            rows = torch.cat([rows, places + at], 1).gather(1, best)
        found.append((rows, near if metric == "cosine" else (-near).clamp(min=0).sqrt()))
    if not found:
        return np.empty((0, count), np.int64), np.empty((0, count), np.float32)
    return torch.cat([rows for rows, _ in found]).numpy(), torch.cat([near for _, near in found]).numpy()


def _ready(rows: NDArray[Any], metric: str) -> Tensor:
    values = torch.tensor(rows, dtype=torch.float32)
    return unit(values) if metric == "cosine" else values


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
