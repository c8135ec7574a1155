"""Rungs of other packages, made as scikit-learn's classifiers are, for rows of tables; nothing saves them here.

Shapes: S support, Q query, W classes, D features.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quickstudy.ladder.examples import Embedded
from quickstudy.ladder.rung import Rung

_RARE = 1e-6  # of a probability, below which none is told
_TABICL, _WEIGHTS = "jingang/TabICL", "QUICKSTUDY_TABICL"
"""On the hub of Hugging Face; in the environment, the path of a file of weights."""


@dataclass(frozen=True)
class Estimator(Rung):
    """A classifier that is made as scikit-learn's are; nothing saves it here.

    Args:
        package: that has it, as it is imported.
        name: of its class.
        options: of that.
    """

    package: str = "sklearn.ensemble"
    name: str = "RandomForestClassifier"
    options: Mapping[str, Any] = field(default_factory=dict)

    def lacks(self, examples: Embedded, domain: str) -> str:
        """Return what is missing: it is for rows of tables, and its package may not be installed."""
        if examples.knowledge.modality.column_names is None:
            return "it is for rows of tables"
        top = self.package.split(".")[0]
        return "" if find_spec(top) else f"the package '{top}' is not installed"

    def settings(self, examples: Embedded) -> dict[str, Any]:
        """Return the options that it is made with."""
        return dict(self.options)

    def logits(self, examples: Embedded, support: Tensor, queries: Tensor) -> Tensor:
        """Fit and answer."""
        made = getattr(importlib.import_module(self.package), self.name)(**self.settings(examples))
        values_ND = examples.values.cpu().numpy()
        made.fit(values_ND[support], examples.targets[support].numpy())
        chances_QW = np.full((len(queries), len(examples.table.classes)), _RARE)
        chances_QW[:, made.classes_] = np.maximum(made.predict_proba(values_ND[queries]), _RARE)
        return torch.from_numpy(chances_QW).log()


@dataclass(frozen=True)
class TabICL(Estimator):
    """A transformer that was trained on made-up tables, and learns a table as it reads it; nothing saves it here.

    Qu et al. 2025, https://arxiv.org/abs/2502.05564. It downloads nothing: its weights are those of its option
    ``model_path``, of ``QUICKSTUDY_TABICL`` in the environment, or what the cache of Hugging Face's hub has.
    """

    package: str = "tabicl"
    name: str = "TabICLClassifier"

    def lacks(self, examples: Embedded, domain: str) -> str:
        """Return what is missing: it is for rows of tables; its package, or its weights."""
        if lacking := super().lacks(examples, domain):
            return f"{lacking}: pip install 'quickstudy[tabicl]'" if lacking.endswith("installed") else lacking
        found, version = self._weights()
        if found is None:
            return (
                f"its weights are not here: type hf download {_TABICL} {version}, or copy that file and set "
                f"{_WEIGHTS}=PATH in the environment"
            )
        return "" if found.is_file() else f"there is no file '{found}' ({_WEIGHTS} names it, or its model_path)"

    def settings(self, examples: Embedded) -> dict[str, Any]:
        """Return the options that it is made with."""
        own = {"model_path": self._weights()[0], "allow_auto_download": False, "device": str(examples.encoder.device)}
        return {**self.options, **own}

    def _weights(self) -> tuple[Path | None, str]:
        """Return the file of the weights, None where none is known; and what the hub calls it."""
        made = getattr(importlib.import_module(self.package), self.name)
        version = str(signature(made).parameters["checkpoint_version"].default)
        if named := self.options.get("model_path") or os.environ.get(_WEIGHTS):
            return Path(named).expanduser(), version
        cached = importlib.import_module("huggingface_hub").try_to_load_from_cache(_TABICL, version)
        return Path(cached) if isinstance(cached, str) else None, version
