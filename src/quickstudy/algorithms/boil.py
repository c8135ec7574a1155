"""BOIL: only the backbone adapts, so that it must move its features, and not only what is read from them.

Oh et al. 2021, "BOIL: Towards Representation Change for Few-shot Learning", https://arxiv.org/abs/2008.08882
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from quickstudy.algorithms.base import STRATEGIES
from quickstudy.algorithms.maml import MAML
from quickstudy.errors import ConfigError, brief
from quickstudy.functional.inner_loop import Rates, Weights


@STRATEGIES.register("boil")
class BOIL(MAML):
    """MAML whose head stays as it is while a task is learned.

    Args:
        head: a weight vector per way, so the number of ways is fixed: a shared one that stays would never tell them
            apart.
        options: those of ``maml``.
    """

    paper: ClassVar[str] = (
        "Oh et al. 2021, BOIL: Towards Representation Change for Few-shot Learning, https://arxiv.org/abs/2008.08882"
    )
    for_other_ways: ClassVar[str] = (
        "choose training_strategy='protomaml', or 'maml' with 'head': 'shared' in training_strategy_kwargs"
    )

    def __init__(self, adaptation_steps: int = 5, *, head: Literal["linear"] = "linear", **options: Any) -> None:
        if head != "linear":
            raise ConfigError(
                f"head={brief(head)}: boil's head does not adapt, so it must have a weight vector for each way, "
                "'linear'; a shared one would answer the same for all of them. For numbers of ways that differ, "
                f"{self.for_other_ways}"
            )
        if options.get("adaptation_layers") == 0:
            raise ConfigError(
                "adaptation_layers=0: boil's head does not adapt, so a part of the backbone must: type 1 for its last "
                "stage, or choose training_strategy='maml'"
            )
        super().__init__(adaptation_steps, head=head, **options)

    def rates(self, weights: Weights) -> Rates:
        """Return rates for the backbone alone."""
        return {name: rate for name, rate in super().rates(weights).items() if name.startswith("backbone.")}
