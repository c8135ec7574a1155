"""What explains an answer: the support examples nearest to an input.

Shapes: N inputs, S support examples, D features.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from quickstudy.functional.distances import squared_euclidean
from quickstudy.kinds.predictions import Answer as Answer
from quickstudy.kinds.predictions import Neighbour as Neighbour
from quickstudy.learning.changes import Support

_AT_ONCE = 10_000_000  # distances


def nearest(query_ND: Tensor, kept_SD: Tensor, support: Support, count: int, rounding: float) -> list[list[Neighbour]]:
    """Return for each of N inputs the support examples that are nearest, the nearest first.

    Args:
        query_ND: their embeddings.
        kept_SD: those of the support set, class by class.
        support: its classes.
        count: of neighbours.
        rounding: by what share of its length the embedding of one input may differ.
    """
    names = list(support)
    first_W = np.cumsum([0, *(kept.examples for kept in support.values())])
    parts = torch.split(query_ND, max(1, _AT_ONCE // len(kept_SD)))
    most = min(count, len(kept_SD))
    found = [squared_euclidean(part, kept_SD).topk(most, 1, largest=False).indices for part in parts]
    rows_NK = torch.cat(found)
    # Products of matrices cancel close to an example: from the few, the distance is that of the difference.
    away_NK = torch.stack([(query_ND - kept_SD[rows_N]).norm(dim=1) for rows_N in rows_NK.T], 1)
    away_NK, order_NK = away_NK.sort(dim=1, stable=True)
    rows_NK = rows_NK.gather(1, order_NK)
    lengths_NK = kept_SD.norm(dim=1)[rows_NK]
    same_NK = (away_NK <= rounding * lengths_NK) & (lengths_NK > 0)  # an embedding of zeros tells nothing

    def neighbour(row: int, distance: float, same: bool) -> Neighbour:
        code = int(np.searchsorted(first_W, row, "right")) - 1
        name, number = names[code], row - int(first_W[code])
        return Neighbour(name, number, distance, support[name].shown[number], same)

    columns = (each_NK.tolist() for each_NK in (rows_NK, away_NK, same_NK))
    return [list(map(neighbour, *each)) for each in zip(*columns, strict=True)]
