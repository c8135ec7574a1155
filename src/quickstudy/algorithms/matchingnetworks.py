"""Matching networks: a query's class is what the support examples similar to it are.

Vinyals et al. 2016, "Matching Networks for One Shot Learning", https://arxiv.org/abs/1606.04080
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from quickstudy.algorithms.base import STRATEGIES, EmbeddingAlgorithm
from quickstudy.algorithms.held import HeldByExample
from quickstudy.errors import check_above_zero
from quickstudy.functional.distances import cosine
from quickstudy.functional.prototypes import counts, nearest_members


@STRATEGIES.register("matchingnetworks")
class MatchingNetworks(EmbeddingAlgorithm):
    """Attention over the support by cosines; logits are the logarithms of each class's share of it.

    Without full-context embeddings, which read the support in an order that has no meaning. The cosines have a learned
    scale; the paper's is 1, from which attention can hardly leave uniformity.

    Args:
        scale: where the scale of the cosines starts.
    """

    paper: ClassVar[str] = (
        "Vinyals et al. 2016, Matching Networks for One Shot Learning, https://arxiv.org/abs/1606.04080"
    )

    def __init__(self, scale: float = 10.0) -> None:
        super().__init__()
        check_above_zero(scale=scale)
        self.scale = nn.Parameter(torch.tensor(float(scale)))

    def fit(self, support_SD: Tensor, targets_S: Tensor, ways: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the support ``[S, D]``, the class of each ``[S]``, and how many each has, ``[W]``."""
        return support_SD, targets_S, counts(targets_S, ways)

    def hold(self, state: tuple[Tensor, Tensor, Tensor], support: Sequence[Tensor]) -> HeldByExample:
        """Return rows that are added and taken out."""
        return HeldByExample(self.fit, state)

    def logits(self, state: tuple[Tensor, Tensor, Tensor], query_QD: Tensor) -> Tensor:
        """Return ``[Q, W]`` logits."""
        support_SD, targets_S, counts_W = state
        attention_QS = (self.scale * cosine(query_QD, support_SD)).log_softmax(1)
        # The logarithm of a sum of exponentials, class by class: the largest is taken out first.
        most_QW = -nearest_members(-attention_QS.detach(), targets_S, counts_W)
        targets_QS = targets_S.expand_as(attention_QS)
        shares_QS = (attention_QS - most_QW.gather(1, targets_QS)).exp()
        return most_QW + torch.zeros_like(most_QW).scatter_add(1, targets_QS, shares_QS).log()
