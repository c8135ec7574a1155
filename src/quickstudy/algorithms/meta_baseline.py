"""Meta-Baseline: an encoder from ordinary training, then episodes on cosines with its class means.

Chen et al. 2021, "Meta-Baseline: Exploring Simple Meta-Learning for Few-Shot Learning",
https://arxiv.org/abs/2003.04390
"""

from __future__ import annotations

from typing import ClassVar

from quickstudy.algorithms.base import STRATEGIES
from quickstudy.algorithms.prototypicalnetworks import PrototypicalNetworks


@STRATEGIES.register("meta_baseline")
class MetaBaseline(PrototypicalNetworks):
    """The second stage; the first is ``training_strategy="default"``, whose ``encoder.backbone`` this starts from.

    Args:
        scale: where the learned scale of the cosines starts.
    """

    paper: ClassVar[str] = (
        "Chen et al. 2021, Meta-Baseline: Exploring Simple Meta-Learning for Few-Shot Learning, "
        "https://arxiv.org/abs/2003.04390"
    )

    def __init__(self, scale: float = 10.0) -> None:
        super().__init__("cosine", scale)
