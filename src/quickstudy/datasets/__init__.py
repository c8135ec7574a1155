"""Published data sets with their published class splits. A file that is put here registers itself."""

import importlib
import pkgutil

from quickstudy.datasets.registry import DATASETS

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def available_datasets() -> list[str]:
    """Return the names that ``from_benchmark`` takes."""
    return DATASETS.names()


__all__ = ["DATASETS", "available_datasets"]
