"""Several labels of each element of an input, or none: each label is asked about by itself.

Shapes: N examples, P their elements (of one axis or several), C labels; n elements of all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from quickstudy.errors import DataError
from quickstudy.kinds.losses import Loss
from quickstudy.kinds.segmentation import of_elements


@dataclass(frozen=True)
class LabelTargets:
    """Makes ``{"labels": [P, C], "mask": [P, C]}`` of numbers ``[P, C]`` that are above 0 where a label is.

    Args:
        classes: C names.
        ignored: numbers of what is not known.
    """

    classes: tuple[str, ...]
    ignored: tuple[int, ...] = ()

    def __call__(self, told: Tensor) -> dict[str, Tensor]:
        """Return them.

        Raises:
            DataError: there are other numbers of labels.
        """
        if told.ndim != 3:
            raise DataError(
                "a mask has one class of each pixel, and multi_label=True has several: give [C, H, W], or C masks, and "
                "say so of the data, too, multi_label=True"
            )
        if told.shape[-1] != len(self.classes):
            raise DataError(
                f"a mask has {told.shape[-1]} labels of each pixel, and there are {len(self.classes)}: "
                f"{', '.join(self.classes)}. Give one of each, in this order, or set class_names"
            )
        known = torch.ones_like(told, dtype=torch.bool)
        for number in self.ignored:
            known &= told != number
        return {"labels": ((told > 0) & known).long(), "mask": known}


def asked_of(outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the labels that there are, ``[N, P, C]``, and which of them are asked about."""
    there = outputs["mask"].bool()[..., None].expand(outputs["logits"].shape)
    return of_elements(there, targets)


def lost_by_labels(
    outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], weights: Sequence[float], loss: Loss
) -> tuple[Tensor, int]:
    """Return the loss, the mean over all labels that are asked about, and how many these are.

    Args:
        outputs: ``logits`` ``[N, P, C]`` and ``mask`` ``[N, P]``.
        targets: ``labels`` and ``mask`` ``[N, P, C]``.
        weights: of the presence of each label beside its absence; none: all the same.
        loss: of logits and zeros and ones, which is not asked where there are weights.
    """
    labels, asked = asked_of(outputs, targets)
    logits, wanted = outputs["logits"][asked], labels[asked].to(outputs["logits"])
    if not len(logits):
        return outputs["logits"].sum() * 0.0, 0
    if weights:
        each = logits.new_tensor(weights).expand(outputs["logits"].shape)[asked]
        return F.binary_cross_entropy_with_logits(logits, wanted, pos_weight=each), len(logits)
    return loss(logits, wanted), len(logits)


def dice_of_labels(outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
    """Return the soft Dice loss of labels that are in an example, a mean over examples, by what is asked of each."""
    labels, asked = asked_of(outputs, targets)
    axes = tuple(range(1, labels.ndim - 1))
    shares, true = outputs["logits"].sigmoid() * asked, labels.to(outputs["logits"]) * asked
    both, all_of = (shares * true).sum(axes), (shares + true).sum(axes)
    there = true.sum(axes) > 0
    lost = ((1 - (2 * both + 1) / (all_of + 1)) * there).sum(1) / there.sum(1).clamp(min=1)
    weights = asked.flatten(1).sum(1)
    mean: Tensor = (lost * weights).sum() / weights.sum().clamp(min=1)
    return mean


def label_figures(margins: Tensor, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
    """Return ``[N, 3C]`` numbers of elements of each example that have a label and are named so, are named, have it.

    Args:
        margins: ``[N, P, C]``, above 0 where a label is named; one that is no number names none.
        outputs, targets: see ``lost_by_labels``.
    """
    labels, asked = asked_of(outputs, targets)
    named, true = (margins > 0) & asked, labels.bool() & asked
    axes = tuple(range(1, labels.ndim - 1))
    return torch.cat([part.sum(axes).float() for part in (named & true, named, true)], 1)


def label_mistakes(margins: Tensor, labels: Tensor, asked: Tensor, classes: Sequence[str], most: int) -> dict[str, Any]:
    """Return which elements of an example lack a label or have it wrongly, the most first; see ``Kind.mistakes``.

    Args:
        margins: ``[P, C]``, above 0 where a label is named.
        labels, asked: ``[P, C]``
        classes: C names.
        most: how many sorts of mistakes are told.
    """
    named, true, known = ((one > 0).cpu().numpy() for one in (margins, labels, asked))
    count = max(int(known.sum()), 1)
    found = []
    for code, name in enumerate(classes):
        for word, which in (("missed", true & ~named), ("made up", named & ~true)):
            wrong = which[..., code] & known[..., code]
            found.append((int(wrong.sum()), f"{name} {word} {wrong.sum() / count:.1%}", wrong))
    found.sort(key=lambda one: -one[0])
    share = sum(number for number, _, _ in found) / count
    errors = [(told, wrong) for number, told, wrong in found[:most] if number]
    return {"wrong": share, "said": f"{share:.1%} of its labels are wrong", "errors": errors, "unasked": ~known.any(-1)}
