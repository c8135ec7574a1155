"""BD-CSPN: prototypes corrected by the queries.

Liu et al. 2020, "Prototype Rectification for Few-Shot Learning", https://arxiv.org/abs/1911.10713
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from quickstudy.algorithms.base import STRATEGIES, EmbeddingAlgorithm
from quickstudy.errors import check_above_zero
from quickstudy.functional.distances import cosine
from quickstudy.functional.prototypes import members


@STRATEGIES.register("bdcspn")
class BDCSPN(EmbeddingAlgorithm):
    """The queries are shifted onto the support's mean; then each counts for the classes that it is similar to.

    Args:
        scale: of the cosines.
    """

    paper: ClassVar[str] = (
        "Liu et al. 2020, Prototype Rectification for Few-Shot Learning, https://arxiv.org/abs/1911.10713"
    )
    transductive = True

    def __init__(self, scale: float = 10.0) -> None:
        super().__init__()
        check_above_zero(scale=scale)
        self._scale = scale

    def fit(self, support_SD: Tensor, targets_S: Tensor, ways: int) -> tuple[Tensor, Tensor]:
        """Return the support ``[S, D]`` and which class each belongs to, ``[S, W]``."""
        return support_SD, members(targets_S, ways, support_SD.dtype)

    def logits(self, state: tuple[Tensor, Tensor], query_QD: Tensor) -> Tensor:
        """Return ``[Q, W]`` logits."""
        support_SD, members_SW = state
        if len(query_QD) >= members_SW.shape[1]:  # fewer than classes say nothing of a shift
            query_QD = query_QD + support_SD.mean(0) - query_QD.mean(0)
        means_WD = members_SW.mT @ support_SD / members_SW.sum(0)[:, None]
        examples_ND = torch.cat([support_SD, query_QD])
        shares_NW = (self._scale * cosine(examples_ND, means_WD)).softmax(1)
        known_NW = torch.cat([members_SW, torch.ones_like(query_QD[:, :1]).expand(-1, members_SW.shape[1])])
        weights_NW = shares_NW * known_NW  # a support example counts for its own class alone
        corrected_WD = (weights_NW / weights_NW.sum(0)).mT @ examples_ND
        return self._scale * cosine(query_QD, corrected_WD)
