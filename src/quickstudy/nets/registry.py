"""The table of backbones that quickstudy itself defines."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from quickstudy.domains import modules_of_domains
from quickstudy.registry import Registry

BACKBONES: Registry[Callable[..., nn.Module]] = Registry("backbone", further=modules_of_domains("nets"))
