"""Matching networks: a query's class is what the support examples similar to it are.

Vinyals et al. 2016, "Matching Networks for One Shot Learning", https://arxiv.org/abs/1606.04080
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from quickstudy.algorithms.base import STRATEGIES, EmbeddingAlgorithm
from quickstudy.errors import check_above_zero
from quickstudy.functional.distances import cosine
from quickstudy.functional.prototypes import members


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

    def fit(self, support_SD: Tensor, targets_S: Tensor, ways: int) -> tuple[Tensor, Tensor]:
        """Return the support ``[S, D]`` and which class each belongs to, ``[S, W]``."""
        return support_SD, members(targets_S, ways, support_SD.dtype)

    def logits(self, state: tuple[Tensor, Tensor], query_QD: Tensor) -> Tensor:
        """Return ``[Q, W]`` logits."""
        support_SD, members_SW = state
        attention_QS = (self.scale * cosine(query_QD, support_SD)).log_softmax(1)
        others_SW = torch.where(members_SW.bool(), 0.0, -torch.inf).to(attention_QS.dtype)
        return (attention_QS[:, :, None] + others_SW).logsumexp(1)
