"""Prototypical networks: each class is the mean of its support embeddings.

Snell et al. 2017, "Prototypical Networks for Few-shot Learning", https://arxiv.org/abs/1703.05175
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from quickstudy.algorithms.base import STRATEGIES, EmbeddingAlgorithm
from quickstudy.algorithms.held import HeldByClass
from quickstudy.errors import check_above_zero, check_choice
from quickstudy.functional.distances import cosine, squared_euclidean
from quickstudy.functional.prototypes import nearest_prototypes, prototypes


@STRATEGIES.register("prototypicalnetworks")
class PrototypicalNetworks(EmbeddingAlgorithm):
    """Logits are minus the squared Euclidean distances to the class means, or scaled cosines with them.

    Args:
        metric: ``"euclidean"``, or ``"cosine"`` with a learned scale (Gidaris & Komodakis 2018,
            https://arxiv.org/abs/1804.09458).
        scale: where the scale of the cosines starts.
    """

    paper: ClassVar[str] = (
        "Snell et al. 2017, Prototypical Networks for Few-shot Learning, https://arxiv.org/abs/1703.05175"
    )

    def __init__(self, metric: Literal["euclidean", "cosine"] = "euclidean", scale: float = 10.0) -> None:
        super().__init__()
        check_choice("metric", metric, "euclidean", "cosine")
        check_above_zero(scale=scale)
        self.scale = nn.Parameter(torch.tensor(float(scale))) if metric == "cosine" else None

    def fit(self, support_SD: Tensor, targets_S: Tensor, ways: int) -> Tensor:
        """Return the prototypes, ``[W, D]``."""
        return prototypes(support_SD, targets_S, ways)

    def hold(self, state: Tensor, support: Sequence[Tensor]) -> HeldByClass:
        """Return rows that a class updates alone."""
        return HeldByClass(self.fit, state)

    def logits(self, state: Tensor, query_QD: Tensor) -> Tensor:
        """Return ``[Q, W]`` logits."""
        if self.scale is None:
            return -squared_euclidean(query_QD, state)
        return self.scale * cosine(query_QD, state)

    def answers(self, values_ND: Tensor, rows_TWK: Tensor, shots: int) -> Tensor:
        """Return the class of the nearest prototype, ``[T, W * (K - shots)]``."""
        on_cpu = values_ND.device.type == "cpu" and values_ND.dtype in (torch.float32, torch.float64)
        if on_cpu and self.scale is None and type(self) is PrototypicalNetworks:
            return nearest_prototypes(values_ND, rows_TWK, shots)
        return super().answers(values_ND, rows_TWK, shots)
