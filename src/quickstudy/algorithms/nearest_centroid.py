"""Nearest centroid after centring and scaling to length 1: the baseline that many methods do not beat.

Wang et al. 2019, "SimpleShot: Revisiting Nearest-Neighbor Classification for Few-Shot Learning",
https://arxiv.org/abs/1911.04623
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from quickstudy.algorithms.base import STRATEGIES, EmbeddingAlgorithm
from quickstudy.errors import check_choice
from quickstudy.functional.distances import evened, squared_euclidean, unit
from quickstudy.functional.prototypes import nearest_centroids, prototypes, typical_square

State = tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]


@STRATEGIES.register("nearest_centroid")
class NearestCentroid(EmbeddingAlgorithm):
    """Centred on the mean of the class means, so that it needs no training data, whose mean is the paper's centre.

    A mean of few embeddings is that of the longest among them, which costs points where a class has one example (four
    of 5-way 1-shot on miniImageNet). Their lengths are evened before it is taken: ``x / sqrt(|x|^2 + m^2 / 4)``, where
    m is the typical length in the support set, so that those near m or longer come out nearly equally long, and shorter
    ones, as of few numbers that are embedded as they are, keep their order.

    Args:
        lengths: ``"evened"``, or ``"kept"``: they are centred as they are.
    """

    paper: ClassVar[str] = (
        "Wang et al. 2019, SimpleShot: Revisiting Nearest-Neighbor Classification for Few-Shot Learning, "
        "https://arxiv.org/abs/1911.04623"
    )
    former: ClassVar[dict[str, Any]] = {"lengths": "kept"}

    def __init__(self, lengths: Literal["evened", "kept"] = "evened") -> None:
        super().__init__()
        check_choice("lengths", lengths, "evened", "kept")
        self._even = lengths == "evened"

    def fit(self, support_SD: Tensor, targets_S: Tensor, ways: int) -> State:
        """Return the centre ``[D]`` and the centroids ``[W, D]``, and what lengths are evened by."""
        if not self._even:
            return _centred(support_SD, targets_S, ways)
        square = typical_square(support_SD)
        return *_centred(evened(support_SD, square), targets_S, ways), square

    def logits(self, state: State, query_QD: Tensor) -> Tensor:
        """Return ``[Q, W]`` logits."""
        centre_D, centroids_WD, *square = state
        query_QD = evened(query_QD, *square) if square else query_QD
        return -squared_euclidean(unit(query_QD - centre_D), centroids_WD)

    def answers(self, values_ND: Tensor, rows_TWK: Tensor, shots: int) -> Tensor:
        """Return the class of the nearest centroid, ``[T, W * (K - shots)]``."""
        on_cpu = values_ND.device.type == "cpu" and values_ND.dtype in (torch.float32, torch.float64)
        if on_cpu and type(self) is NearestCentroid:
            return nearest_centroids(values_ND, rows_TWK, shots, self._even)
        return super().answers(values_ND, rows_TWK, shots)


def _centred(support_SD: Tensor, targets_S: Tensor, ways: int) -> tuple[Tensor, Tensor]:
    centre_D = prototypes(support_SD, targets_S, ways).mean(0)
    return centre_D, prototypes(unit(support_SD - centre_D), targets_S, ways)
