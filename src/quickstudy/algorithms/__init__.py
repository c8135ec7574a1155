"""Few-shot algorithms: one paper, one file. A file that is put here registers itself."""

import importlib
import pkgutil

from quickstudy.algorithms.base import (
    STRATEGIES,
    Algorithm,
    EmbeddingAlgorithm,
    algorithm_of,
    available_strategies,
)
from quickstudy.algorithms.held import Held

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["STRATEGIES", "Algorithm", "EmbeddingAlgorithm", "Held", "algorithm_of", "available_strategies"]
