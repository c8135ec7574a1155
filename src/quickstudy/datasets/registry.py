"""The table of published data sets."""

from __future__ import annotations

from collections.abc import Callable

from quickstudy.data.table import Splits
from quickstudy.registry import Registry

DATASETS: Registry[Callable[..., Splits]] = Registry("data set")
