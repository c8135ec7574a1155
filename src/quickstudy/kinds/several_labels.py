"""Several labels of an example, or of a pixel: each is named by itself, above a threshold of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from quickstudy.errors import ConfigError, brief, unknown
from quickstudy.kinds.base import Kind, Score
from quickstudy.kinds.losses import LabelThresholds

if TYPE_CHECKING:
    from torchmetrics import Metric

F1 = Score("f1", share=True)
"""Of several labels, of all together, at the thresholds; those that validation data chooses flatter it a little."""


class SeveralLabels(Kind):
    """A kind of answer that may be of several labels, where ``multi_label`` says so; its fields are the kind's own."""

    multi_label: bool
    label_thresholds: LabelThresholds
    thresholds: tuple[float, ...]

    def with_asked(self, stage: str) -> Self:
        """Return it with the thresholds that were asked for, once its classes are known."""
        if not self.multi_label or (stage != "fit" and self.thresholds):
            return self
        return self._above(thresholds_of(self.label_thresholds, self.classes))

    def recalled(self, memory: Mapping[str, Any]) -> Self:
        """Return it with what ``memory`` returned; thresholds that were asked for stay."""
        known = super().recalled(memory)
        asked = thresholds_of(self.label_thresholds, known.classes) if self.multi_label else ()
        return known._above(asked) if asked else known

    def _above(self, thresholds: tuple[float, ...]) -> Self:
        kind: Any = self  # whose fields are the subclass's
        made: Self = replace(kind, thresholds=thresholds)
        return made

    def tuner(self) -> Metric | None:
        """Return what finds the thresholds of several labels; see ``Kind.tuner``."""
        from quickstudy.kinds.metrics import Cuts  # torchmetrics takes long to import, and answering needs none

        return Cuts(self.choices) if self.multi_label and self.label_thresholds == "f1" and self.choices else None

    def tuned(self, found: Tensor) -> Self:
        """Return it with the thresholds of these logits ``[C]``; see ``Kind.tuned``."""
        return self._above(tuple(round(float(chance), 6) for chance in found.double().sigmoid()))

    def untuned(self) -> Self:
        """Return it with thresholds of one half, where validation data chooses others; see ``Kind.untuned``."""
        return self._above(()) if self.thresholds and self.label_thresholds == "f1" else self

    @property
    def kept_by(self) -> Score:
        """The score; of several labels F1 at their thresholds, as naming nothing is right where labels are rare."""
        return F1 if self.multi_label else self.score

    def choosing(self, found: Mapping[str, Any], tuner: Any) -> dict[str, Any]:
        """Return F1 of several labels; see ``Kind.choosing``."""
        if not self.multi_label:
            return {}
        return {F1.name: found.get("f1_micro", 0.0) if tuner is None else tuner.f1}

    def margins(self, outputs: Tensor) -> Tensor:
        """Return logits ``[..., C]``; of several labels by how much they are above the thresholds, so named above 0."""
        if not self.thresholds:
            return outputs
        outputs = outputs if outputs.dtype == torch.float64 else outputs.float()  # half precision would round them
        return outputs - torch.tensor(self.thresholds, dtype=torch.float64).logit().to(outputs)


def check_thresholds(asked: LabelThresholds, multi_label: bool) -> None:
    """Check what can be checked of ``label_thresholds`` before the labels are known.

    Raises:
        ConfigError: an example has one label, or they are no probabilities between 0 and 1.
    """
    if asked == "f1":
        return
    if not multi_label:
        raise ConfigError("label_thresholds are of several labels per example: set multi_label=True, or leave them out")
    numbers = asked.values() if isinstance(asked, Mapping) else [asked]
    if not all(isinstance(number, (int, float)) and 0 < number < 1 for number in numbers):
        raise ConfigError(
            f"label_thresholds={brief(asked)}: it must be 'f1', a probability between 0 and 1, or some by label"
        )


def thresholds_of(asked: LabelThresholds, classes: Sequence[str]) -> tuple[float, ...]:
    """Return the threshold of each label that was asked for; nothing where validation data is to choose them.

    Raises:
        ConfigError: a label is unknown.
    """
    if isinstance(asked, str):
        return ()
    if not isinstance(asked, Mapping):
        return (float(asked),) * len(classes)
    for name in asked:
        if name not in classes:
            raise unknown("label in label_thresholds", name, classes)
    return tuple(float(asked.get(name, 0.5)) for name in classes)
