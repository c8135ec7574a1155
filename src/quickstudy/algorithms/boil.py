"""BOIL: only the backbone adapts, so that it must move its features, and not only what is read from them.

Oh et al. 2021, "BOIL: Towards Representation Change for Few-shot Learning", https://arxiv.org/abs/2008.08882
"""

from __future__ import annotations

from typing import ClassVar

from quickstudy.algorithms.base import STRATEGIES
from quickstudy.algorithms.maml import MAML
from quickstudy.functional.inner_loop import Rates, Weights


@STRATEGIES.register("boil")
class BOIL(MAML):
    """MAML whose head stays as it is while a task is learned."""

    paper: ClassVar[str] = (
        "Oh et al. 2021, BOIL: Towards Representation Change for Few-shot Learning, https://arxiv.org/abs/2008.08882"
    )

    def rates(self, weights: Weights) -> Rates:
        """Return rates for the backbone alone."""
        return {name: rate for name, rate in super().rates(weights).items() if name.startswith("backbone.")}
