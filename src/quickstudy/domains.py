"""The domains that there are, and packages whose names are imported when they are first used. It needs no torch.

A domain is a folder beside this file. Its name is that of its modality, and of its extra in ``pyproject.toml``:

- ``__init__.py`` says what is public, by ``lazily``, and in ``TASKS``, by the names that commands know, the classes of
  its tasks and of their data: ``TASKS = {"text_classification": ("TextClassifier", "TextClassificationData")}``;
- ``modality.py`` registers what an input is;
- ``nets.py``, if there is one, registers networks, ``transforms.py`` ready-made augmentations, and ``purposes.py``
  pretrained encoders by what they are for; each may be a folder. They are imported once a name is asked for that is
  not known yet, so they import further packages by ``require`` where these are used;
- ``demo.py``, if there is one, has in ``ACT`` what ``quickstudy demo`` shows of it.

To add one: its folder, its line in ``DOMAINS``, and its extra.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

DOMAINS = (
    "image",  # the first is meant where nothing says which
    "text",
    "audio",
    "tabular",
    "graph",
    "video",
    "pointcloud",
)
FURTHER_MODALITIES = {"series": "tabular.series"}
"""By the name of a further modality of a domain, the module that registers it."""


def modules_of_domains(name: str) -> list[str]:
    """Return the modules of this name that domains have."""
    return [module for domain in DOMAINS if find_spec(module := f"quickstudy.{domain}.{name}")]


def lazily(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return ``__getattr__``, ``__dir__`` and ``__all__`` of a package.

    Args:
        package: its name.
        homes: by name, the module below it that has it.
    """
    names = sorted(homes)

    def getattribute(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)

    return getattribute, lambda: names, names
