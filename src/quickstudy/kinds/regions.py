"""Objects of classes that are learned from a few boxes, without training: proposals, and an algorithm on their rows.

Zhang et al. 2023, "Detect Everything with Few Examples", https://arxiv.org/abs/2309.12969, whose network between
prototypes and classes is left out: any algorithm on embeddings tells the class of a region.

Shapes: B pictures, n regions of all, R of one, M objects of one, D features, W classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pkgutil import resolve_name
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from quickstudy.batches import Batch
from quickstudy.data.annotations import Annotations, annotated
from quickstudy.data.table import Table
from quickstudy.errors import ConfigError, DataError, check_counts, require
from quickstudy.functional.detections import box_overlaps
from quickstudy.kinds.annotated import uncoded_targets
from quickstudy.kinds.base import KINDS
from quickstudy.kinds.class_ids import in_form
from quickstudy.kinds.coco import coco_of
from quickstudy.kinds.detection import Detection, numbered, padded_to
from quickstudy.kinds.parts import OfParts, Parts, from_json
from quickstudy.nets import Encoder
from quickstudy.nets.regions import Regions

BACKGROUND = "background"
"""The class of regions in which nothing is, where a whole picture was labelled."""
_APART, _SAME = 0.3, 0.5  # intersections over union: a region of no object, and one that an object is found by


@KINDS.register("region_detection")
@dataclass(frozen=True)
class RegionDetection(OfParts, Detection):
    """Boxes around objects, by the regions that a trained detector proposes, each told by an algorithm on embeddings.

    Of a picture whose objects are given by ``fit`` all are given: regions that overlap none by more than 0.3 are of the
    class ``"background"``. The score of an object is how sure the detector is that something is there, times the
    probability of the class.

    Args:
        regions: R that are proposed in a picture at most.
        rows_per_class: rows of features that are kept of each class at most.
    """

    detectors: ClassVar[tuple[str, ...]] = ("faster_rcnn", "mask_rcnn", "keypoint_rcnn")

    marks: ClassVar[str] = "boxes"

    detector: str = "faster_rcnn"
    regions: int = 50
    rows_per_class: int = 500

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(regions=self.regions, rows_per_class=self.rows_per_class)

    @classmethod
    def encode(cls, targets: Any, names: Sequence[str] | None = None) -> Annotations:
        """Take objects, a dict for each picture; or, where all are of one class, boxes ``[M, 4]`` alone, or as JSON."""
        targets = [from_json(one, "boxes, [[4, 5, 20, 25]]") if isinstance(one, bytes) else one for one in targets]
        told = [one if isinstance(one, Mapping) else {"boxes": one, "labels": ["object"] * len(one)} for one in targets]
        return numbered(annotated(told, resolve_name("quickstudy.image.objects:objects_on_canvas"), names))

    # ---- learned from a few boxes, region by region

    @property
    def most_rows(self) -> int:
        """How many regions are kept of each class at most."""
        return self.rows_per_class

    def parts(self, encoder: Encoder, inputs: Batch) -> Parts:
        """Return the regions that are proposed; see ``OfParts.parts``."""
        network, levels = _levels(encoder, inputs)
        proposed = network.proposed(levels, inputs["size"], inputs["pixels"], self.regions)
        features = network.features(levels, proposed.boxes, inputs["size"])
        return Parts(features, _owners(proposed.boxes), proposed)

    def taught(self, encoder: Encoder, inputs: Batch, targets: Mapping[str, Tensor]) -> tuple[Parts, Tensor]:
        """Return the objects' boxes; and regions where none is, unless one class alone is shown."""
        network, levels = _levels(encoder, inputs)
        there = targets["mask"].bool() & ~targets["crowd"].bool()
        boxes = [targets["boxes"][row][own] for row, own in enumerate(there)]
        codes = [targets["labels"][row][own] for row, own in enumerate(there)]
        if "whole" in targets:
            proposed = network.proposed(levels, inputs["size"], inputs["pixels"], self.regions)
            ops = require("torchvision.ops", extra="image")
            for row, regions in enumerate(proposed.boxes):
                known = targets["boxes"][row][targets["mask"][row].bool()].to(regions)
                apart = ops.box_iou(regions, known).amax(1) < _APART if len(known) else regions[:, 0] >= 0
                boxes[row] = torch.cat([boxes[row].to(regions), regions[apart]])
                ground = codes[row].new_full((int(apart.sum()),), self.classes.index(BACKGROUND))
                codes[row] = torch.cat([codes[row], ground])
        features = network.features(levels, [own.to(inputs["size"].device).float() for own in boxes], inputs["size"])
        return Parts(features, _owners(boxes)), torch.cat(codes)

    def assembled(
        self, logits_nW: Tensor, parts: Parts, inputs: Batch, unknown_n: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the objects; see ``OfParts.assembled``. An unknown one has the number of no class, W."""
        shares_nW = logits_nW.softmax(1)
        if unknown_n is not None:
            shares_nW = torch.cat([shares_nW * ~unknown_n[:, None], unknown_n.to(shares_nW)[:, None]], 1)
        ground = [code for code, name in enumerate(self.classes) if name == BACKGROUND]
        shares_nW[:, ground] = 0
        ops = require("torchvision.ops", extra="image")
        found = list[dict[str, Tensor]]()
        counts = [len(own) for own in parts.places.boxes]
        for boxes, sure, shares in zip(*parts.places, torch.split(shares_nW, counts), strict=True):
            scores = sure[:, None] * shares
            rows, codes = (scores > 1e-3).nonzero(as_tuple=True)
            kept = ops.batched_nms(boxes[rows].float(), scores[rows, codes].float(), codes, _SAME)[: self.most]
            rows, codes = rows[kept], codes[kept]
            own = {"boxes": boxes[rows], "scores": scores[rows, codes].to(boxes), "labels": codes}
            found.append({name: padded_to(leaf, self.most) for name, leaf in own.items()})
        outputs = {name: torch.stack([own[name] for own in found]) for name in found[0]}
        proposed = torch.stack([padded_to(own, self.regions) for own in parts.places.boxes])
        return {**outputs, "proposed": proposed, "size": inputs["size"], "full": inputs["full"]}

    def of_table(self, table: Table, names: Any = None) -> tuple[Self, Annotations]:
        """Return it with the classes of a support set, the background first; see ``OfParts.of_table``."""
        asked = replace(self, classes=(), ids=(), codes=(), num_classes=None)
        asked = replace(asked, class_names=in_form(names))
        assert table.annotations is not None
        seen = {label for target in uncoded_targets(table.annotations) for label in target["labels"]}
        if BACKGROUND in seen:
            raise DataError(
                f"an object has the label '{BACKGROUND}', which is what lies beside all objects: rename it, or leave "
                "it out"
            )
        if not seen:
            raise DataError("no target has an object: give at least one picture with a box in it")
        named = asked.named_by(table)
        told = sorted({code for label, code in zip(named.ids, named.codes, strict=True) if label in seen})
        classes = (BACKGROUND, *(named.classes[code] for code in told))
        pairs = [(one, told.index(code) + 1) for one, code in zip(named.ids, named.codes, strict=True) if code in told]
        kind = replace(
            named, classes=classes, ids=tuple(one for one, _ in pairs), codes=tuple(code for _, code in pairs)
        )
        coded = kind.fitting(table).annotations
        assert coded is not None and coded.code is not None
        return kind, coded.coded(_Whole(coded.code))

    def of_one_class(self, annotations: Annotations) -> Annotations:
        """Return objects of one class, whatever their labels are; see ``OfParts.of_one_class``."""
        return annotations.coded(_OfOneClass())

    def of_classes(self, names: Sequence[Any]) -> Self:
        """Return it with these classes; labels that are numbers count as their texts. See ``OfParts.of_classes``."""
        pairs = [(name, code) for code, name in enumerate(names)]
        pairs += [(int(name), code) for name, code in pairs if str(name).isdecimal()]
        ids, codes = zip(*pairs, strict=True) if pairs else ((), ())
        return replace(self, classes=tuple(names), ids=tuple(ids), codes=tuple(codes))

    # ---- how well it does

    def figures(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        """Return those of objects, and behind them how many of them a proposal lies on, and how many there are."""
        own = super().figures({name: leaf for name, leaf in outputs.items() if name != "proposed"}, targets)
        if not outputs:
            return own
        reached = own.new_zeros(len(own), 2)
        for row, proposed in enumerate(outputs["proposed"].detach().double().cpu().numpy()):
            there = targets["mask"][row].bool()
            if "crowd" in targets:
                there = there & ~targets["crowd"][row].bool()
            true = targets["boxes"][row][there].double().cpu().numpy()
            shared = box_overlaps(proposed, true[:, :4], np.zeros(len(true), np.bool_))
            reached[row] = own.new_tensor([float((shared.max(0, initial=0) >= _SAME).sum()), float(len(true))])
        return torch.cat([own, reached], 1)

    def precisions(self, figures: Any) -> dict[str, float]:
        """Return average precisions, and ``proposal_recall``: of all objects those that a proposal lies on."""
        numbers = np.asarray(figures, np.float64)
        reached, count = numbers[:, -2:].sum(0)
        told = super().precisions(numbers[:, :-2])
        return {**told, "proposal_recall": float(reached / count) if count else 0.0}

    # ---- answers

    def answers(self, outputs: Mapping[str, Tensor], form: str) -> Any:
        """Return the objects of each picture; see ``Detection.answers``. What is like no class is ``"unknown"``."""
        known = replace(self, classes=(*self.classes, "unknown"))
        own = {name: leaf for name, leaf in outputs.items() if name != "proposed"}
        return Detection.answers(known, own, form)

    def coco(self, answers: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
        """Return the objects as COCO's JSON; see ``Kind.coco``."""
        return coco_of((*self.classes, "unknown"), names, [one.size for one in answers], answers)

    def exported(self, outputs: Any) -> Tensor:
        """Say that it is not exported; see ``Detection.exported``."""
        raise ConfigError(
            "objects of classes that were learned from a few boxes are found by code: save(folder) keeps it"
        )


@dataclass(frozen=True)
class _Whole:
    """Marks targets of pictures all of whose objects are told."""

    code: Callable[[Any], Batch]

    def __call__(self, target: Any) -> Batch:
        found = dict(self.code(target))
        return {**found, "whole": torch.ones(1, dtype=torch.bool)}


@dataclass(frozen=True)
class _OfOneClass:
    """Makes targets of objects that are all of one class."""

    def __call__(self, target: Mapping[str, Any]) -> dict[str, Tensor]:
        count = len(target["labels"])
        names = {*map(str, target["labels"])}
        if len(names) > 1:
            raise DataError(
                f"these boxes are of {len(names)} classes, and one is added: give boxes of it alone, or learn all of "
                "them by fit"
            )
        labels, mask = torch.zeros(count, dtype=torch.int64), torch.ones(count, dtype=torch.bool)
        return {"boxes": target["boxes"], "crowd": target["crowd"], "labels": labels, "mask": mask}


def _levels(encoder: Encoder, inputs: Batch) -> tuple[Regions, Any]:
    network = encoder.backbone
    if not isinstance(network, Regions):
        raise ConfigError(
            "objects are learned by the regions of a trained detector: type model.adapt(images, targets) of an "
            "ObjectDetector with detector='faster_rcnn' that was trained"
        )
    return network, network.pyramid(encoder.maps(inputs))


def _owners(boxes: Sequence[Tensor]) -> Tensor:
    counts = torch.tensor([len(own) for own in boxes])
    return torch.arange(len(boxes)).repeat_interleave(counts).to(boxes[0].device)
