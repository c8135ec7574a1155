"""The nearest neighbour rule: a query has the class of the support example closest to it, or of most of the closest.

Cover & Hart 1967, "Nearest neighbor pattern classification", https://doi.org/10.1109/TIT.1967.1053964
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from quickstudy.algorithms.base import STRATEGIES, EmbeddingAlgorithm
from quickstudy.algorithms.held import HeldByExample
from quickstudy.errors import check_choice, check_counts
from quickstudy.functional.distances import squared_euclidean, unit
from quickstudy.functional.prototypes import counts, members, nearest_members

_SHARE = 0.9  # of the support's variance, that its principal components have together
_LITTLE = 1e-3  # of a vote, and of the mean distance


@STRATEGIES.register("nearest_neighbour")
class NearestNeighbour(EmbeddingAlgorithm):
    """Logits are minus the squared Euclidean distances to each class's closest support example.

    With several neighbours they are logarithms of votes, each weighed by the inverse of its distance.

    Args:
        neighbours: closest examples that vote.
        projection: of embeddings of length 1: ``"pca"``, onto the principal components of the support that have nine
            tenths of its variance; ``"ica"``, these scaled to one variance each. What else independent component
            analysis does is a rotation, which changes no distance.
    """

    paper: ClassVar[str] = (
        "Cover & Hart 1967, Nearest neighbor pattern classification, https://doi.org/10.1109/TIT.1967.1053964"
    )

    def __init__(self, neighbours: int = 1, projection: Literal["none", "pca", "ica"] = "none") -> None:
        super().__init__()
        check_counts(neighbours=neighbours)
        check_choice("projection", projection, "none", "pca", "ica")
        self._neighbours, self._projection = neighbours, projection

    def fit(self, support_SD: Tensor, targets_S: Tensor, ways: int) -> tuple[Tensor, ...]:
        """Return the support ``[S, D]``, the class of each ``[S]``, and how many each has, ``[W]``.

        With a projection the support is projected, and its centre ``[D]`` and the projection ``[D, R]`` are returned
        besides.
        """
        if self._projection == "none":
            return support_SD, targets_S, counts(targets_S, ways)
        unit_SD = unit(support_SD)
        centre_D = unit_SD.mean(0)
        _, scales_R, components_RD = torch.linalg.svd(unit_SD - centre_D, full_matrices=False)
        shares_R = scales_R.square() / scales_R.square().sum().clamp(min=torch.finfo(scales_R.dtype).tiny)
        kept_R = (shares_R.cumsum(0) - shares_R < _SHARE).to(scales_R.dtype)
        if self._projection == "ica":
            kept_R = kept_R / scales_R.clamp(min=_LITTLE)
        projection_DR = components_RD.mT * kept_R
        projected_SR = (unit_SD - centre_D) @ projection_DR
        return projected_SR, targets_S, counts(targets_S, ways), centre_D, projection_DR

    def hold(self, state: tuple[Tensor, ...], support: Sequence[Tensor]) -> HeldByExample | None:
        """Return rows that are added and taken out; with a projection, which all rows change, None."""
        return HeldByExample(self.fit, state) if self._projection == "none" else None

    def logits(self, state: tuple[Tensor, ...], query_QD: Tensor) -> Tensor:
        """Return ``[Q, W]`` logits."""
        support_SD, targets_S, counts_W = state[:3]
        if self._projection != "none":
            centre_D, projection_DR = state[3:]
            query_QD = (unit(query_QD) - centre_D) @ projection_DR
        distances_QS = squared_euclidean(query_QD, support_SD)
        if self._neighbours == 1:
            return -nearest_members(distances_QS, targets_S, counts_W)
        near = distances_QS.topk(min(self._neighbours, distances_QS.shape[1]), dim=1, largest=False).values
        far_Q1 = near[:, -1:]
        least_Q1 = _LITTLE * near.mean(1, keepdim=True) + torch.finfo(near.dtype).tiny
        weights_QS = torch.where(distances_QS <= far_Q1, 1 / (distances_QS.clamp(min=0) + least_Q1), 0.0)
        votes_QW = weights_QS @ members(targets_S, len(counts_W), weights_QS.dtype)
        return (votes_QW / votes_QW.sum(1, keepdim=True) + _LITTLE).log()
