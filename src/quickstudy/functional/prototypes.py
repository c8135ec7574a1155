"""Class means of a support set.

Shapes: S support examples, W ways, D features, T episodes, K examples of a class in one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

_MANY = 10_000_000  # of examples times classes
_BLOCK, _AT_ONCE = 64, 4  # episodes: whose prototypes, whose queries a processor's cache holds
_CANCELS = 1e-3  # of a sum of squares: what is less of it has lost three digits
_LEAST = 1e-12  # of a square, as that of ``distances.unit``


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


@torch.inference_mode()
def nearest_prototypes(values_ND: Tensor, rows_TWK: Tensor, shots: int) -> Tensor:
    """Return the class whose mean is nearest to each query of many episodes: ``[T, W * (K - shots)]``.

    It takes less than twice the time of gathering the rows alone.

    Args:
        values_ND: embeddings, on a CPU, in float32 or float64.
        rows_TWK: rows of them; of each class the first ``shots`` make the mean, the others are queries.
        shots: of each class.

    Raises:
        IndexError: there is no such row.

    >>> import torch
    >>> nearest_prototypes(torch.tensor([[0.0], [5.0], [4.0], [1.0]]), torch.tensor([[[0, 2], [1, 3]]]), shots=1)
    tensor([[1, 0]])
    """
    _check_rows(rows_TWK, len(values_ND))
    _, ways, each = rows_TWK.shape
    asked, size, table_ND = ways * (each - shots), values_ND.shape[1], values_ND.detach().numpy()
    room_QD, nearest = np.empty((_AT_ONCE * asked, size), table_ND.dtype), []
    for block_TWK in torch.split(rows_TWK, _BLOCK):
        means_TWD = F.embedding_bag(block_TWK[:, :, :shots].reshape(-1, shots), values_ND, mode="mean")
        means_TWD = means_TWD.view(-1, ways, size)
        # |q - p|^2 = |q - c|^2 - 2 (q d - (p + c) d / 2) with d = p - c: the first is the same for all p.
        centre_T1D = means_TWD.mean(1, keepdim=True)
        apart_TWD = means_TWD - centre_T1D
        offset_TW1 = torch.linalg.vecdot(apart_TWD, means_TWD + centre_T1D)[..., None].numpy() / 2
        rows_TQ = block_TWK[:, :, shots:].flatten(1).numpy()
        scores_TWQ = np.empty((len(rows_TQ), ways, asked), table_ND.dtype)
        for start in range(0, len(rows_TQ), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            query_tQD = _taken(table_ND, rows_TQ[some], room_QD)
            # NumPy's library multiplies matrices of few rows three times as fast as torch's.
            np.matmul(apart_TWD.numpy()[some], query_tQD.swapaxes(1, 2), scores_TWQ[some])
        nearest.append((scores_TWQ - offset_TW1).argmax(1))
    return torch.from_numpy(np.concatenate(nearest))


@torch.inference_mode()
def nearest_centroids(values_ND: Tensor, rows_TWK: Tensor, shots: int, even_lengths: bool) -> Tensor:
    """Return the same of means of embeddings that are centred in each episode and scaled to length 1, as queries are.

    Args:
        values_ND, rows_TWK, shots: see ``nearest_prototypes``.
        even_lengths: whether their lengths are evened before, see ``NearestCentroid``.

    Raises:
        IndexError: there is no such row.

    >>> import torch
    >>> values = torch.tensor([[2.0, 1.0], [1.0, 2.0], [1.0, 3.0], [3.0, 1.0]])
    >>> nearest_centroids(values, torch.tensor([[[0, 2], [1, 3]]]), shots=1, even_lengths=True)
    tensor([[1, 0]])
    """
    _check_rows(rows_TWK, len(values_ND))
    _, ways, each = rows_TWK.shape
    asked, size, table_ND = ways * (each - shots), values_ND.shape[1], values_ND.detach().numpy()
    squares_N, nearest = torch.linalg.vecdot(values_ND.detach(), values_ND.detach()).numpy(), []
    room_SD, room_QD = (np.empty((count * _AT_ONCE, size), table_ND.dtype) for count in (ways * shots, asked))
    evenly_1S = np.full((1, ways * shots), 1 / (ways * shots), table_ND.dtype)
    for block_TWK in torch.split(rows_TWK, _BLOCK):
        support_TS, query_TQ = (part.flatten(1).numpy() for part in (block_TWK[..., :shots], block_TWK[..., shots:]))
        tasks = len(support_TS)
        typical_T1 = squares_N[support_TS].mean(1, keepdims=True) / 4 + _LEAST
        by_TS, by_TQ = (
            1 / np.sqrt(squares_N[rows] + typical_T1) if even_lengths else np.ones(rows.shape, table_ND.dtype)
            for rows in (support_TS, query_TQ)
        )
        # The centre is one more row: what a query has in common with it tells how long it is, once it is centred.
        told_TPD = np.empty((tasks, ways + 1, size), table_ND.dtype)
        told_TPQ = np.empty((tasks, ways + 1, asked), table_ND.dtype)
        means_TWD, centre_T1D = told_TPD[:, :-1], told_TPD[:, -1:]
        for start in range(0, tasks, _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            support_tSD = _taken(table_ND, support_TS[some], room_SD)
            support_tSD *= by_TS[some, :, None]
            np.matmul(evenly_1S, support_tSD, centre_T1D[some])  # which takes a third of the time of their mean
            support_tSD -= centre_T1D[some]
            weights_tS = 1 / np.sqrt(np.vecdot(support_tSD, support_tSD) + _LEAST) / shots
            shape = (-1, ways, 1, shots)
            np.matmul(weights_tS.reshape(shape), support_tSD.reshape(-1, ways, shots, size), means_TWD[some, :, None])
            query_tQD = _taken(table_ND, query_TQ[some], room_QD)
            np.matmul(told_TPD[some], query_tQD.swapaxes(1, 2), told_TPQ[some])
        told_TPQ *= by_TQ[:, None]
        centre_T1 = np.square(centre_T1D).sum(2)
        own_TQ = squares_N[query_TQ] * by_TQ**2 + centre_T1
        square_TQ = own_TQ - 2 * told_TPQ[:, -1]
        apart_TWQ = told_TPQ[:, :-1] - means_TWD @ centre_T1D.swapaxes(1, 2)
        for task in np.flatnonzero((square_TQ < _CANCELS * own_TQ).any(1)):  # so near the centre that squares cancel
            centred_QD = table_ND[query_TQ[task]] * by_TQ[task, :, None] - centre_T1D[task]
            square_TQ[task], apart_TWQ[task] = np.vecdot(centred_QD, centred_QD), means_TWD[task] @ centred_QD.T
        cosines_TWQ = apart_TWQ / np.sqrt(square_TQ.clip(0) + _LEAST)[:, None]
        nearest.append((cosines_TWQ - np.square(means_TWD).sum(2, keepdims=True) / 2).argmax(1))
    return torch.from_numpy(np.concatenate(nearest))


def _taken(table_ND: NDArray[Any], rows_TR: NDArray[np.int64], room_RD: NDArray[Any]) -> NDArray[Any]:
    """Return rows ``[T, R, D]`` of a table, which all are there, in room that is at hand: the quick way."""
    return table_ND.take(rows_TR.ravel(), 0, room_RD[: rows_TR.size], "clip").reshape(*rows_TR.shape, -1)


def typical_square(support_SD: Tensor) -> Tensor:
    """Return a quarter of the mean square of the lengths of embeddings: one number."""
    return support_SD.square().sum(-1).mean() / 4


def _check_rows(rows: Tensor, count: int) -> None:
    if rows.numel() and not 0 <= int(rows.min()) <= int(rows.max()) < count:
        raise IndexError(f"rows are from 0 to {count - 1}, not {int(rows.min())} to {int(rows.max())}")


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
