"""Proto-MAML: MAML whose head starts as prototypical networks would classify, for any number of ways.

Triantafillou et al. 2020, "Meta-Dataset", https://arxiv.org/abs/1903.03096
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from quickstudy.algorithms.base import STRATEGIES
from quickstudy.algorithms.maml import MAML, Embed
from quickstudy.batches import Batch
from quickstudy.functional.inner_loop import Rates, Weights
from quickstudy.functional.prototypes import prototypes
from quickstudy.nets import Encoder


@STRATEGIES.register("protomaml")
class ProtoMAML(MAML):
    """The head starts at twice each prototype, with minus its square as the bias; then all weights adapt."""

    paper: ClassVar[str] = "Triantafillou et al. 2020, Meta-Dataset, https://arxiv.org/abs/1903.03096"

    numbers: ClassVar[bool] = False  # which have no prototypes

    def __init__(
        self,
        adaptation_steps: int = 5,
        test_adaptation_steps: int | None = None,
        adaptation_lr: float = 0.01,
        meta_gradient: Literal["auto", "adjoint", "unrolled", "first_order"] = "auto",
        normalization: Literal["support", "transductive", "group"] = "support",
        task_chunk: int | None = None,
        adaptation_layers: int | Literal["all"] | Sequence[str] | None = None,
    ) -> None:
        super().__init__(
            adaptation_steps,
            test_adaptation_steps,
            adaptation_lr,
            meta_gradient,
            normalization,
            "shared",
            task_chunk,
            adaptation_layers,
        )

    def build(self, encoder: Encoder, feature_shape: tuple[int, ...], ways: int) -> None:
        """Make nothing: the head comes from the support set."""
        self.suit(encoder)

    def start(self, meta: Weights, embed: Embed, support: Batch, targets_S: Tensor, ways: int) -> Weights:
        """Make the head of the prototypes."""
        features_SD = embed(meta, support)
        with torch.autocast(features_SD.device.type, enabled=False):
            means_WD = prototypes(features_SD, targets_S, ways)
        return {**meta, "head.weight": 2 * means_WD, "head.bias": -means_WD.square().sum(1)}

    def rates(self, weights: Weights) -> Rates:
        """Return rates for the head too, which is no parameter."""
        return {**super().rates(weights), "head.weight": self.adaptation_lr, "head.bias": self.adaptation_lr}
