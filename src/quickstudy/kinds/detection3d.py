"""An answer is boxes in space, any number of them: where each is, how large, how turned, and of which class.

The backbone tells the features of each point (``elements``), and the head, ``nets.pillars``, gathers them in cells on
the ground and asks each cell whether the middle of a box is there, and which (Yin et al. 2021,
https://arxiv.org/abs/2006.11275).

Shapes: N examples, P points, D features, C classes, M boxes of an example, K that are found at most, H W cells.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.batches import Batch
from quickstudy.data.annotations import Annotations, annotated
from quickstudy.errors import (
    ConfigError,
    DataError,
    DataWarning,
    brief,
    check_above_zero,
    check_counts,
    check_shares,
    given,
)
from quickstudy.functional.boxes import average_precision, best_of, hits
from quickstudy.kinds.annotated import FoundObjects, kept_objects, labels_of_boxes, uncoded_targets
from quickstudy.kinds.base import KINDS, Judged, Score
from quickstudy.kinds.class_ids import Coded
from quickstudy.kinds.losses import Loss
from quickstudy.kinds.predictions import check_finite
from quickstudy.nets import Encoder
from quickstudy.nets.pillars import NUMBERS, Pillars

if TYPE_CHECKING:
    pass

MAP_25 = Score("map_25", share=True)
OVERLAPS = (0.25, 0.5)
"""From which intersection over union on a box counts as found."""
_CELLS, _FINE = 160, 3
"""Cells of a side at most, and of the shorter side of a usual box."""
_COARSE = 4
"""By how much cells may be larger than a usual box asks for without a word."""
_GROUPS = 50
"""Of examples, each of which is left out in turn for the interval."""


@KINDS.register("detection3d")
@dataclass(frozen=True)
class Detection3d(FoundObjects):
    """Boxes ``x, y, z, length, width, height, yaw`` that stand upright, each of a class.

    A batch of targets is ``{"boxes": [N, M, 7], "labels": [N, M], "mask": [N, M]}``. The yaw of an answer is from -pi/2
    to pi/2, as a box and the same turned about by half look alike. The loss is the mean over examples: of each that of
    the cells' scores and of the numbers of its boxes, by how many these are.

    Args:
        num_classes: C; None: as ``class_names`` or the data say.
        class_names: names of the ids 0, 1, ... or by id, where labels are numbers; labels that are names need none.
        ignore: a label, or several, whose boxes are left out.
        cell: the side of a cell on the ground; None: a third of the shorter side of a usual box.
        width: channels of the head.
        most: boxes that are found in an example at most.
        min_score: of boxes that an answer has; figures go through all.
        classes, ids, codes: the classes, the labels that there are, and the code of each.
        extent: where middles of boxes are, x and y of two corners.
        side: of a cell.
        usual: the mean height of a middle, and its deviation, and the logarithms of usual sizes.
    """

    score: ClassVar[Score] = MAP_25
    forms: ClassVar[tuple[str, ...]] = ("boxes",)
    schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {"boxes": {"type": "array", "items": {"type": "object"}}},
    }
    learned: ClassVar[tuple[str, ...]] = (*FoundObjects.learned, "extent", "side", "usual")
    objects: ClassVar[str] = "boxes"
    instead_of_episodes: ClassVar[str] = "classes of whole examples, and no boxes"
    lacking: ClassVar[str] = "the data has no boxes: give some, for instance by PointCloudObjectDetectionData"

    cell: float | None = None
    width: int = 32
    most: int = 48
    min_score: float = 0.3
    extent: tuple[float, ...] = ()
    side: float = 0.0
    usual: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(width=self.width, most=self.most)
        check_above_zero(**given(cell=self.cell))
        check_shares(min_score=self.min_score)

    @classmethod
    def encode(cls, targets: Any, names: Sequence[str] | None = None) -> Annotations:
        """Take lists of boxes, one for each example; see ``boxes_of`` and ``Kind.encode``."""
        return annotated(targets, boxes_of, names).coded(_BARE)

    def meet(self, data: Any, stage: str) -> Self:
        """Take the classes, and where boxes are and how large; see ``Kind.meet``."""
        table = self.annotated_table(data)
        if self.extent:
            return self
        if table is None or table.annotations is None:
            raise ConfigError("where boxes are is not known: give datamodule=, whose training data tells it")
        targets = [*uncoded_targets(table.annotations)]
        met = self.with_classes(table.annotations.names, self.labels_seen(targets))
        boxes = np.concatenate([target["boxes"] for target in targets])
        if not len(boxes):
            raise ConfigError("no example of the training data has a box: there is nothing to learn")
        reach = float(boxes[:, 3:5].max())
        low, high = boxes[:, :2].min(0) - reach, boxes[:, :2].max(0) + reach
        asked = self.cell or float(np.median(boxes[:, 3:5].min(1))) / _FINE
        side = max(asked, float((high - low).max()) / _CELLS)
        if side > _COARSE * asked:
            warnings.warn(
                f"boxes of the training data lie {(high - low).max():.4g} apart or are as large, and so cells are "
                f"{side:.3g} wide, where a usual box asks for {asked:.3g}: does one have other units?",
                DataWarning,
                stacklevel=2,
            )
        spread = max(float(boxes[:, 2].std()), 1e-3 * reach)
        usual = (float(boxes[:, 2].mean()), spread, *np.log(boxes[:, 3:6]).mean(0).tolist())
        return replace(met, extent=(*low.tolist(), *high.tolist()), side=side, usual=usual)

    def targets_by(self, coded: Coded) -> Callable[[Any], Batch]:
        """Return what makes targets of boxes with labels."""
        return ToBoxes(coded)

    # ---- the network

    @property
    def cells(self) -> tuple[int, int]:
        """How many cells there are along y and x."""
        x, y, right, top = self.extent
        return max(1, math.ceil((top - y) / self.side)), max(1, math.ceil((right - x) / self.side))

    def head(self, encoder: Encoder, example: Batch) -> nn.Module:
        """Make what gathers features of points in cells, and asks these."""
        return Pillars(encoder.element_width(example), self.width, self.choices, self.extent, self.side, self.cells)

    def outputs(self, encoder: Encoder, head: nn.Module, inputs: Batch) -> dict[str, Tensor]:
        """Return ``{"boxes": [N, K, 7], "scores": [N, K], "labels": [N, K]}``, the surest first, overlapping or not."""
        return self._found(self._maps(encoder, head, inputs))

    def _maps(self, encoder: Encoder, head: nn.Module, inputs: Batch) -> Tensor:
        features, mask = encoder.elements(inputs)
        maps: Tensor = head(features, inputs["points"][..., :3].to(features.dtype), mask)
        return maps

    def _found(self, maps: Tensor) -> dict[str, Tensor]:
        """Return the boxes that maps ``[N, C + 8, H, W]`` tell of."""
        sure, told = maps[:, : self.choices].sigmoid(), maps[:, self.choices :]
        peak = F.max_pool2d(sure, 3, 1, 1) == sure
        height, width = maps.shape[-2:]
        scores, places = (sure * peak).flatten(1).topk(min(self.most, sure[0].numel()), 1)
        labels, cell = places // (height * width), places % (height * width)
        numbers = told.flatten(2).gather(2, cell[:, None].expand(-1, NUMBERS, -1)).transpose(1, 2)
        x = self.extent[0] + self.side * (cell % width + 0.5 + numbers[..., 0])
        y = self.extent[1] + self.side * (cell // width + 0.5 + numbers[..., 1])
        z = self.usual[0] + self.usual[1] * numbers[..., 2]
        sizes = (numbers[..., 3:6].clamp(-4, 4) + numbers.new_tensor(self.usual[2:])).exp()
        yaw = torch.atan2(numbers[..., 6], numbers[..., 7]) / 2
        boxes = torch.cat([torch.stack([x, y, z], -1), sizes, yaw[..., None]], -1)
        return {"boxes": boxes, "scores": scores, "labels": labels}

    # ---- how well it does

    def judge(self, encoder: Encoder, head: nn.Module, inputs: Batch, targets: Batch, loss: Loss) -> Judged:
        """Answer a batch, and judge the answers; see ``Kind.judge``."""
        maps = self._maps(encoder, head, inputs)
        boxes = targets["boxes"][..., :7]  # what follows fills up
        lost = self._lost(maps, boxes.to(maps.dtype), targets["labels"], targets["mask"].bool())
        outputs = {name: leaf.detach() for name, leaf in self._found(maps).items()}
        return Judged(lost.mean(), len(lost), outputs, targets, self.figures(outputs, targets))

    def _lost(self, maps: Tensor, boxes: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        """Return the loss of each example, ``[N]``."""
        height, width = maps.shape[-2:]
        u, v = ((boxes[..., axis] - self.extent[axis]) / self.side for axis in (0, 1))
        mask = mask & (u >= 0) & (u < width) & (v >= 0) & (v < height)
        u, v = u.where(mask, 0), v.where(mask, 0)
        column, row = u.floor(), v.floor()
        sizes = boxes[..., 3:6].where(mask[..., None], 1)
        spread = (sizes[..., :2].amin(-1) / self.side / 3).clamp(min=0.7)
        across = torch.arange(width, device=maps.device) - column[..., None]
        along = torch.arange(height, device=maps.device) - row[..., None]
        away = along.square()[..., :, None] + across.square()[..., None, :]  # [N, M, H, W]
        near = (-away / (2 * spread.square())[..., None, None]).exp() * mask[..., None, None]
        heat = torch.zeros_like(maps[:, : self.choices])
        for code in range(self.choices):
            own = near * (labels == code)[..., None, None]
            heat[:, code] = own.amax(1) if own.shape[1] else 0
        logits, middle = maps[:, : self.choices], heat == 1
        found = F.logsigmoid(logits) * (1 - logits.sigmoid()).square()
        empty = F.logsigmoid(-logits) * logits.sigmoid().square() * (1 - heat) ** 4
        focal = -torch.where(middle, found, empty).flatten(1).sum(1)
        cell = (row * width + column).long()
        told = maps[:, self.choices :].flatten(2).gather(2, cell[:, None].expand(-1, NUMBERS, -1)).transpose(1, 2)
        high = (boxes[..., 2] - self.usual[0]) / self.usual[1]
        sized = sizes.log() - boxes.new_tensor(self.usual[2:])
        turned = 2 * boxes[..., 6:7]
        where = torch.stack([u - column - 0.5, v - row - 0.5, high], -1)
        wanted = torch.cat([where, sized, turned.sin(), turned.cos()], -1)
        off = ((told - wanted).abs().sum(-1) * mask).sum(1)
        return (focal + off) / mask.sum(1).clamp(min=1)

    def figures(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        """Return ``[N, 4 K + C]``: of each box found its score, class, and whether it is right; how many there are."""
        found = [leaf.detach().double().cpu().numpy() for leaf in (outputs["boxes"], outputs["scores"])]
        labels = outputs["labels"].cpu().numpy()
        wanted, codes, mask = (targets[name].cpu().double().numpy() for name in ("boxes", "labels", "mask"))
        rows = np.full((len(labels), 4 * self.most + self.choices), -1.0)
        for row in range(len(labels)):
            there = mask[row] > 0
            rows[row, 4 * self.most :] = np.bincount(codes[row][there].astype(int), minlength=self.choices)
            kept = self._kept(found[0][row], found[1][row], labels[row])
            right = np.zeros((len(OVERLAPS), len(kept)), np.bool_)
            for code in range(self.choices):
                own, true = labels[row][kept] == code, wanted[row][there & (codes[row] == code)]
                for place, least in enumerate(OVERLAPS):
                    right[place, own] = hits(found[0][row][kept][own], true[:, :7], least)
            told = np.stack([found[1][row][kept], labels[row][kept], *right], 1)
            rows[row, : 4 * len(kept)] = told.ravel()
        return torch.from_numpy(rows).to(outputs["boxes"].device, torch.float32)

    def _kept(self, boxes: Any, scores: Any, labels: Any, least: float = 0.01) -> Any:
        """Return which boxes of one example are told, without those that overlap better ones."""
        sound = np.flatnonzero(np.isfinite(boxes).all(1) & (scores >= least))
        return sound[best_of(boxes[sound], scores[sound], labels[sound], 0.1)]

    def precisions(self, figures: Any) -> dict[str, float]:
        """Return the average precision of each class that is there, at each of ``OVERLAPS``, and their means."""
        numbers = np.asarray(figures, np.float64)
        counts = numbers[:, 4 * self.most :].sum(0)
        found = numbers[:, : 4 * self.most].reshape(-1, 4)
        found = found[found[:, 0] >= 0]
        told: dict[str, float] = {}
        for place, least in enumerate(OVERLAPS):
            each = {
                name: average_precision(own[:, 0], own[:, 2 + place] > 0, int(counts[code]))
                for code, name in enumerate(self.classes)
                if counts[code] and (own := found[found[:, 1] == code]) is not None
            }
            told[f"map_{100 * least:.0f}"] = float(np.mean([*each.values()])) if each else 0.0
            told |= {f"ap_{100 * least:.0f}_{name}": value for name, value in each.items()}
        return told

    # ---- answers

    def answers(self, outputs: Mapping[str, Tensor], form: str) -> Any:
        """Return for each input a list of boxes: ``label``, ``score``, ``center``, ``size`` and ``yaw``, surest first.

        Raises:
            DataError: an answer is not a number.
        """
        boxes, scores = (outputs[name].detach().double().cpu() for name in ("boxes", "scores"))
        labels = outputs["labels"].cpu().numpy()
        check_finite(boxes.isfinite().flatten(1).all(1) & scores.isfinite().all(1))
        found = []
        for row in range(len(labels)):
            own, sure = boxes[row].numpy(), scores[row].numpy()
            kept = self._kept(own, sure, labels[row], self.min_score)
            found.append([self._told(own[one].tolist(), float(sure[one]), int(labels[row][one])) for one in kept])
        return found

    def _told(self, box: list[float], score: float, code: int) -> dict[str, Any]:
        return {"label": self.classes[code], "score": score, "center": box[:3], "size": box[3:6], "yaw": box[6]}


@dataclass(frozen=True)
class ToBoxes:
    """Makes targets of boxes and their labels; without codes the boxes alone."""

    coded: Coded | None = None

    def __call__(self, target: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the target of what ``boxes_of`` returned, without boxes of no class."""
        boxes = torch.as_tensor(np.asarray(target["boxes"], np.float32)).view(-1, 7)
        codes = [0] * len(boxes) if self.coded is None else self.coded.listed(target["labels"])
        return kept_objects({"boxes": boxes}, codes)


_BARE = ToBoxes()


def boxes_of(item: Any, example: Batch | None = None) -> dict[str, Any]:
    """Return boxes ``[M, 7]`` in float64 and their M labels.

    Args:
        item: ``{"boxes": [M, 7], "labels": [M]}``; or a list of ``{"center", "size", "yaw", "label"}``, which may be
            empty.
        example: see ``annotations.Read``.

    Raises:
        DataError: it is neither, or a box is none; the message has its number.
    """
    if isinstance(item, Mapping) and "boxes" in item:
        boxes, labels = item["boxes"], item.get("labels")
        boxes = boxes.detach().cpu() if isinstance(boxes, Tensor) else boxes
    elif isinstance(item, (list, tuple)) and all(isinstance(one, Mapping) for one in item):
        try:
            for number, one in enumerate(item):
                if (len(one["center"]), len(one["size"])) != (3, 3):
                    raise DataError(
                        f"box {number} has a center of {len(one['center'])} numbers and a size of {len(one['size'])}: "
                        "each has 3"
                    )
            boxes = [[*one["center"], *one["size"], one.get("yaw", 0.0)] for one in item]
            labels = [one["label"] for one in item]
        except (KeyError, TypeError) as error:
            raise DataError(f"a box has center, size, yaw and label, and one of these lacks {error}") from error
    else:
        raise DataError(f"boxes are given as {{'boxes': [M, 7], 'labels': [M]}}, or as dicts, and not {brief(item)}")
    try:
        found = np.asarray(boxes, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"boxes must be rows of 7 numbers, and these are {brief(boxes)}") from error
    if found.ndim == 1 and len(found):
        raise DataError(f"boxes are rows of 7 numbers, [M, 7], and these are one row, {brief(boxes)}: give [box]")
    if len(found) and (found.ndim != 2 or found.shape[1] != 7):
        raise DataError(
            f"a box has 7 numbers, x, y, z, length, width, height, yaw, and these have {found.shape[-1]}"
            + ": give a yaw of 0 to those that are not turned, numpy.pad(boxes, ((0, 0), (0, 1)))"
            * (found.shape[-1] == 6)
        )
    found = found.reshape(-1, 7)
    names = labels_of_boxes(labels, len(found))
    for number, box in enumerate(found):
        if not np.isfinite(box).all():
            raise DataError(f"box {number} holds numbers that are not finite: {box.tolist()}. Remove it")
        if (box[3:6] <= 0).any():
            raise DataError(f"box {number} has the size {box[3:6].tolist()}: length, width and height are above 0")
    found[:, 6] = np.remainder(found[:, 6] + np.pi, 2 * np.pi) - np.pi  # float32 tells no part of many turns
    return {"boxes": found, "labels": names}
