"""Few-shot algorithms: one paper, one file. A file that is put here registers itself."""

import importlib
import pkgutil

from quickstudy.algorithms.base import (
    STRATEGIES,
    EmbeddingAlgorithm,
    available_strategies,
    episode_logits,
    is_transductive,
)

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["STRATEGIES", "EmbeddingAlgorithm", "available_strategies", "episode_logits", "is_transductive"]
