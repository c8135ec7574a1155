"""Networks of rows, in plain torch: they start from nothing and need no network.

A network is told what a row holds as ``Row.for_backbone`` tells it: ``numbers``, F, and ``categories``, by category how
many codes there are. Before the data is known these are 0 and ``()``, and it is made anew once it is.

Shapes: N rows, F numbers, K categories, D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from quickstudy.batches import Batch
from quickstudy.errors import check_counts
from quickstudy.nets.registry import BACKBONES


@BACKBONES.register("mlp")
class MLP(nn.Module):
    """A perceptron of numbers, of whether they are missing, and of categories one-hot, in which other ones are zeros.

    Args:
        numbers: F; it follows from the data.
        categories: how many codes each category has, with 0 for other ones; they follow from the data.
        width: D, of each layer.
        layers: how many there are.
        dropout: share of the features that is dropped in training.

    Raises:
        ConfigError: an option is out of range.
    """

    reads: Mapping[str, Any] = {"name": "tabular", "options": {}}

    def __init__(
        self,
        numbers: int = 0,
        categories: Sequence[int] = (),
        width: int = 128,
        layers: int = 2,
        dropout: float = 0.1,
    ) -> None:
        check_counts(width=width, layers=layers)
        super().__init__()
        self.numbers, self.categories = numbers, list(categories)
        wide = 2 * numbers + sum(count - 1 for count in self.categories)
        self.layers = nn.Sequential()
        for place in range(layers if wide else 0):
            self.layers.extend([nn.Linear(width if place else wide, width), nn.ReLU(), nn.Dropout(dropout)])

    def forward(self, rows: Batch) -> Tensor:
        """Return ``[N, D]`` of ``{"numbers": [N, F], "missing": [N, F], "codes": [N, K]}``."""
        numbers_NF, codes_NK = rows["numbers"], rows["codes"]
        parts = [numbers_NF, rows["missing"].to(numbers_NF.dtype)]
        for place, count in enumerate(self.categories):
            known = torch.arange(1, count, device=codes_NK.device)
            parts.append((codes_NK[:, place, None] == known).to(numbers_NF.dtype))
        features: Tensor = self.layers(torch.cat(parts, 1))
        return features
