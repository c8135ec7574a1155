"""Class means of a support set.

Shapes: S support examples, W ways, D features, T episodes, K examples of a class in one.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_MANY = 10_000_000  # of examples times classes
_BLOCK, _AT_ONCE = 64, 4  # episodes: whose prototypes, whose queries a processor's cache holds


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
    if rows_TWK.numel() and not 0 <= int(rows_TWK.min()) <= int(rows_TWK.max()) < len(values_ND):
        raise IndexError(f"rows are from 0 to {len(values_ND) - 1}, not {int(rows_TWK.min())} to {int(rows_TWK.max())}")
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
            taken_Q = rows_TQ[some].ravel()
            query_QD = table_ND.take(taken_Q, 0, room_QD[: len(taken_Q)], "clip")  # no row is: the quick way
            # NumPy's library multiplies matrices of few rows three times as fast as torch's.
            np.matmul(apart_TWD.numpy()[some], query_QD.reshape(-1, asked, size).swapaxes(1, 2), scores_TWQ[some])
        nearest.append((scores_TWQ - offset_TW1).argmax(1))
    return torch.from_numpy(np.concatenate(nearest))


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
