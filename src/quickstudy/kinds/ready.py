"""Objects of one class that networks find which are ready, and are not trained here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import nn

from quickstudy.batches import Batch
from quickstudy.errors import ConfigError
from quickstudy.kinds.annotated import uncoded_targets
from quickstudy.kinds.base import Judged
from quickstudy.kinds.detection import Detection
from quickstudy.kinds.losses import Loss
from quickstudy.nets import Encoder


@dataclass(frozen=True)
class ReadyObjects(Detection):
    """Objects of one class; all objects of data are taken for such, but for those that ``ignore`` names."""

    of_backbone: ClassVar[Mapping[str, Any]] = {}
    untrainable: ClassVar[str]
    """Why it is not trained, and what is in its place, for a message."""
    source: ClassVar[str]
    """What gives data with such objects, for a message."""

    def meet(self, data: Any, stage: str) -> Self:
        """Take all labels for those of its class; see ``Kind.meet``.

        Raises:
            ConfigError: it is to be trained, or the data has no objects.
        """
        if stage == "fit":
            raise ConfigError(self.untrainable)
        table = None if data is None else data.table({"validate": "val"}.get(stage, stage))
        if table is None:
            return self
        if table.annotations is None:
            raise ConfigError(f"the data has no {self.classes[0]}s: give some, for instance by {self.source}")
        seen = self.labels_seen(uncoded_targets(table.annotations))
        ids = tuple(sorted({*seen} - {*self.ignored}, key=str))
        return replace(self, ids=ids, codes=(0,) * len(ids))

    def judge(self, encoder: Encoder, head: nn.Module, inputs: Batch, targets: Batch, loss: Loss) -> Judged:
        """Answer a batch, and judge the answers; there is no loss. See ``Kind.judge``."""
        outputs = self.outputs(encoder, head, inputs)
        nothing = outputs["scores"].new_full((), torch.nan)
        return Judged(nothing, len(inputs["size"]), outputs, targets, self.figures(outputs, targets))
