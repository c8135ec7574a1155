"""Meta-SGD: MAML that also learns a learning rate, and so a direction, for every single weight.

Li et al. 2017, "Meta-SGD: Learning to Learn Quickly for Few-Shot Learning", https://arxiv.org/abs/1707.09835
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from quickstudy.algorithms.base import STRATEGIES
from quickstudy.algorithms.maml import MAML
from quickstudy.functional.inner_loop import Rates, Weights
from quickstudy.nets import Encoder


@STRATEGIES.register("metasgd")
class MetaSGD(MAML):
    """``adaptation_lr`` is where every learning rate starts; one gradient step is the paper's number.

    With ``head="shared"`` all ways answer alike until the head's weights have moved, so that the first step moves
    nothing else: where it is the only one, the other rates stay as they are.
    """

    paper: ClassVar[str] = (
        "Li et al. 2017, Meta-SGD: Learning to Learn Quickly for Few-Shot Learning, https://arxiv.org/abs/1707.09835"
    )

    def __init__(self, adaptation_steps: int = 1, **options: Any) -> None:
        super().__init__(adaptation_steps, **options)
        self.learned_rates = nn.ParameterDict()

    def build(self, encoder: Encoder, feature_shape: tuple[int, ...], ways: int) -> None:
        """Make the head and the rates."""
        super().build(encoder, feature_shape, ways)
        alone = not self.fixed_ways and self.adaptation_steps == 1
        meta = self.meta(encoder)
        for name in super().rates(meta):
            learned = name == "head.weight" or not alone
            self.learned_rates[_key(name)] = nn.Parameter(torch.full_like(meta[name], self.adaptation_lr), learned)

    def rates(self, weights: Weights) -> Rates:
        """Return the learned rates."""
        return {name: self.learned_rates[_key(name)] for name in super().rates(weights)}


def _key(name: str) -> str:
    return name.replace(".", "/")
