"""The table of backbones that quickstudy itself defines."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from quickstudy.registry import Registry

BACKBONES: Registry[Callable[..., nn.Module]] = Registry(
    "backbone", homes={"small_transformer": "quickstudy.text.nets", "mlp": "quickstudy.tabular.nets"}
)
