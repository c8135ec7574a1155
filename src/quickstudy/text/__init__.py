"""Texts: classification and regression. Importing it loads nothing until a name is used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quickstudy.text.modality import Text as Text
    from quickstudy.text.nets import SmallTransformer as SmallTransformer
    from quickstudy.text.tasks import TextClassificationData as TextClassificationData
    from quickstudy.text.tasks import TextClassifier as TextClassifier
    from quickstudy.text.tasks import TextRegressionData as TextRegressionData
    from quickstudy.text.tasks import TextRegressor as TextRegressor

_HOMES = {
    "SmallTransformer": "nets",
    "Text": "modality",
    "TextClassificationData": "tasks",
    "TextClassifier": "tasks",
    "TextRegressionData": "tasks",
    "TextRegressor": "tasks",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'quickstudy.text' has no attribute '{name}'")
    return getattr(importlib.import_module(f"quickstudy.text.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
