"""Rows of tables. Importing it loads nothing until a name is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quickstudy.lazy import lazily

if TYPE_CHECKING:
    from quickstudy.tabular.nets import MLP as MLP
    from quickstudy.tabular.nets import FTTransformer as FTTransformer
    from quickstudy.tabular.nets import OneHot as OneHot
    from quickstudy.tabular.nets import ResNet as ResNet
    from quickstudy.tabular.nets import TabM as TabM

__getattr__, __dir__, __all__ = lazily(
    __name__, {"MLP": "nets", "FTTransformer": "nets", "OneHot": "nets", "ResNet": "nets", "TabM": "nets"}
)
