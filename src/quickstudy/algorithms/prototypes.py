"""Several prototypes of each class, the centres that k-means finds in its support embeddings.

Liu et al. 2020, "Part-aware Prototype Network for Few-shot Semantic Segmentation", https://arxiv.org/abs/2007.06309
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from quickstudy.algorithms.base import STRATEGIES, EmbeddingAlgorithm
from quickstudy.errors import check_above_zero, check_counts
from quickstudy.functional.distances import squared_euclidean, unit
from quickstudy.functional.prototypes import members


@STRATEGIES.register("prototypes")
class Prototypes(EmbeddingAlgorithm):
    """Logits are minus the squared distance to the nearest prototype of a class, of embeddings of length 1.

    For classes of several looks, such as the pixels of a background. The first prototype starts at the example nearest
    to the class mean, each further one at the example farthest from those before it; Lloyd's algorithm moves them.
    Nothing is drawn. A class of fewer examples has as many prototypes as it has examples.

    Args:
        k: prototypes of each class; 1: its mean, as of prototypical networks.
        iterations: of Lloyd's algorithm.
        scale: of the logits.
    """

    paper: ClassVar[str] = (
        "Liu et al. 2020, Part-aware Prototype Network for Few-shot Semantic Segmentation, "
        "https://arxiv.org/abs/2007.06309"
    )

    def __init__(self, k: int = 5, iterations: int = 20, scale: float = 10.0) -> None:
        super().__init__()
        check_counts(k=k, iterations=iterations)
        check_above_zero(scale=scale)
        self._k, self._iterations, self._scale = k, iterations, scale

    def fit(self, support_SD: Tensor, targets_S: Tensor, ways: int) -> Tensor:
        """Return the prototypes, ``[W, k, D]``."""
        support_SD = unit(support_SD)
        own_SW = members(targets_S, ways, support_SD.dtype)
        means_WD = own_SW.mT @ support_SD / own_SW.sum(0).clamp(min=1)[:, None]
        elsewhere_SW = torch.zeros_like(own_SW).masked_fill(own_SW == 0, torch.inf)
        near_SW = squared_euclidean(support_SD, means_WD) + elsewhere_SW
        centres = [support_SD[near_SW.argmin(0)]]
        far_SW = torch.full_like(own_SW, torch.inf)
        for _ in range(1, self._k):
            far_SW = torch.minimum(far_SW, squared_euclidean(support_SD, centres[-1]))
            centres.append(support_SD[(far_SW - elsewhere_SW).argmax(0)])
        centres_WkD = torch.stack(centres, 1)
        for _ in range(self._iterations):
            nearest_S = self._to_own(support_SD, targets_S, centres_WkD).argmin(1)
            places_SX = members(targets_S * self._k + nearest_S, ways * self._k, support_SD.dtype)
            counts_X1 = places_SX.sum(0)[:, None]
            moved_XD = places_SX.mT @ support_SD / counts_X1.clamp(min=1)
            centres_WkD = torch.where(counts_X1 > 0, moved_XD, centres_WkD.flatten(0, 1)).view_as(centres_WkD)
        return centres_WkD

    def logits(self, state: Tensor, query_QD: Tensor) -> Tensor:
        """Return ``[Q, W]`` logits."""
        distances_QX = squared_euclidean(unit(query_QD), state.flatten(0, 1))
        return -self._scale * distances_QX.view(-1, *state.shape[:2]).amin(2)

    def _to_own(self, support_SD: Tensor, targets_S: Tensor, centres_WkD: Tensor) -> Tensor:
        """Return the squared distances of examples to the prototypes of their class, ``[S, k]``."""
        distances_SX = squared_euclidean(support_SD, centres_WkD.flatten(0, 1))
        distances_SWk = distances_SX.view(-1, *centres_WkD.shape[:2])
        places = targets_S[:, None, None].expand(-1, 1, distances_SWk.shape[2])
        own_Sk: Tensor = distances_SWk.gather(1, places).squeeze(1)
        return own_Sk
