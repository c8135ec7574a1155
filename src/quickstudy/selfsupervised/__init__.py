"""Self-supervised methods: one paper, one file. A file that is put here registers itself."""

import importlib
import pkgutil

from quickstudy.selfsupervised.base import METHODS, Method, available_methods, mlp

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["METHODS", "Method", "available_methods", "mlp"]
