"""An answer is objects in a picture, any number of them: where each is, how sure that is, and of which class.

Shapes: N pictures, M objects of one, K that are found at most, C classes, H W pixels of the canvas that all are on.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pkgutil import resolve_name
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.algorithms import Algorithm
from quickstudy.batches import Batch
from quickstudy.data.annotations import Annotations, annotated
from quickstudy.errors import ConfigError, DataError, brief, check_choice, check_counts, check_shares, require
from quickstudy.functional.detections import (
    THRESHOLDS,
    average_precision,
    box_overlaps,
    matched,
    partners,
)
from quickstudy.functional.intervals import proportion_interval
from quickstudy.kinds.annotated import FoundObjects, kept_objects, labels_of_boxes
from quickstudy.kinds.base import KINDS, Judged, Score
from quickstudy.kinds.class_ids import Coded, class_ids
from quickstudy.kinds.coco import coco_of
from quickstudy.kinds.losses import Loss
from quickstudy.kinds.predictions import check_finite
from quickstudy.nets import Encoder
from quickstudy.nets.batch_norm import statistics_kept
from quickstudy.nets.detection_transformer import RtDetr
from quickstudy.nets.detectors import BY_PICTURE, GROUPS, Detector, Found, check_classifier
from quickstudy.nets.ready_detectors import READY, DetectorMaps
from quickstudy.nets.regions import of_regions

MAP = Score("map", share=True)
_OVERLAP = 0.5
"""Intersection over union from which on an object counts as found, where hits and misses are told one by one."""


@KINDS.register("detection")
@dataclass(frozen=True)
class Detection(FoundObjects):
    """Boxes around objects, each of a class; the backbone makes feature maps (``Encoder.maps``).

    A batch of targets is ``{"boxes": [N, M, 4], "labels": [N, M], "mask": [N, M]}``, in pixels of the canvas, x and y
    of two corners. The loss is that of the detector, a mean over pictures with RetinaNet; with the others it depends on
    which pictures share a batch, and so on the number of processes.

    Args:
        num_classes: C; None: as ``class_names`` or the data say.
        class_names: names of the ids 0, 1, ... or by id, where labels are numbers; labels that are names need none.
        ignore: a label, or several, whose objects are left out.
        detector: ``"retinanet"``, ``"fcos"``, ``"faster_rcnn"``, ``"rt_detr"``, which needs transformers, or
            ``"rt_detr_v2"`` or ``"rf_detr"``, which have a backbone of their own.
        width: channels of the feature pyramid, or of the transformer.
        most: objects that are found in a picture at most.
        min_score: of objects that an answer has; figures go through all.
        freeze_norms: whether the backbone's BatchNorms keep their means and deviations while it trains, which batches
            of few pictures tell badly; None: where it has trained weights.
        classifier: of regions, ``"linear"``, or ``"cosine"``: by directions, with boxes that do not depend on the
            class, for classes to come (Wang et al. 2020, https://arxiv.org/abs/2003.06957).
        classes, ids, codes: the classes, the labels that there are, and the code of each.
    """

    score: ClassVar[Score] = MAP
    forms: ClassVar[tuple[str, ...]] = ("objects",)
    schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {"objects": {"type": "array", "items": {"type": "object"}}},
    }
    objects: ClassVar[str] = "objects"
    instead_of_episodes: ClassVar[str] = "classes of whole pictures, and no objects"
    lacking: ClassVar[str] = "the data has no objects: give some, for instance by ObjectDetectionData.from_coco"
    placed: ClassVar[bool] = True
    of_backbone: ClassVar[Mapping[str, Any]] = {"features_only": True}
    detectors: ClassVar[tuple[str, ...]] = ("retinanet", "fcos", "faster_rcnn", "rt_detr", "rt_detr_v2", "rf_detr")
    shown_by: ClassVar[str] = "prototypes"
    task_of_parts: ClassVar[str] = "object_detection"
    usual_options: ClassVar[Mapping[str, Mapping[str, Any]]] = {"prototypes": {"k": 1}}

    detector: str = "retinanet"
    width: int = 64
    most: int = 100
    min_score: float = 0.3
    freeze_norms: bool | None = None
    classifier: str = "linear"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("detector", self.detector, *self.detectors)
        if self.width % (group := GROUPS.get(self.detector, 1)):
            raise ConfigError(f"width={self.width}: {self.detector} takes a multiple of {group}")
        check_classifier(self.detector, self.classifier)
        check_counts(width=self.width, most=self.most)
        check_shares(min_score=self.min_score)

    @property
    def shares(self) -> bool:  # type: ignore[override]
        """Whether a batch's gradient is the mean of its pictures'; else it depends on how processes share batches."""
        return self.detector in BY_PICTURE

    @property
    def exported_places(self) -> int:  # type: ignore[override]
        """Numbers of the box of an exported answer, see ``to_export``."""
        return 4 if self.detector == "retinanet" else 0

    @property
    def whole_gradient(self) -> bool:  # type: ignore[override]
        """Whether training follows all of the loss's gradient; where there are proposals, not that by their places."""
        return not self.detector.endswith("rcnn")

    @classmethod
    def encode(cls, targets: Any, names: Sequence[str] | None = None) -> Annotations:
        """Take objects, a dict for each picture; see ``objects_of`` and ``Kind.encode``."""
        return numbered(annotated(targets, objects_of, names))

    def with_classes(self, names: Sequence[str], seen: Iterable[Any]) -> Self:
        """Return it with classes; where labels are names, those of classes say which there are."""
        labels, told = {*seen}, self.class_names or names or None
        if told is not None and not isinstance(told, Mapping) and any(isinstance(label, str) for label in labels):
            told = {name: name for name in told}
        return replace(self, **class_ids(told, self.num_classes, names, labels, self.ignored)._asdict())

    def targets_by(self, coded: Coded) -> Callable[[Any], Batch]:
        """Return what makes targets of objects with labels."""
        return ToObjects(coded)

    # ---- the network

    def head(self, encoder: Encoder, example: Batch) -> nn.Module:
        """Make the detector for the maps that the encoder makes of an example, or take the one that has these maps."""
        if (own := self._own_maps(encoder)) is not None:
            return RtDetr.of_ready(own, self.classes, self.most)
        if self.detector in READY and self.detector != "rt_detr":
            raise ConfigError(
                f"detector='{self.detector}' has a backbone of its own: name it, such as "
                "backbone='Roboflow/rf-detr-base', or the folder of one; over other backbones take detector='rt_detr'"
            )
        with torch.no_grad(), encoder.evaluating():
            maps = encoder.maps(example)
        side = example["pixels"].shape[-1]
        strides = [round(side / one.shape[-1]) for one in maps]
        return self._detector([one.shape[1] for one in maps], strides)

    def ready(self, encoder: Encoder) -> tuple[Self, nn.Module] | None:
        """Return the detector that has the encoder's maps, if it is trained, and its classes; see ``Kind.ready``."""
        own = self._own_maps(encoder)
        if own is None or not own.ready:
            return None
        kind = replace(self, classes=own.names, ids=own.names, codes=tuple(range(len(own.names))))
        return kind, RtDetr.of_ready(own, own.names, self.most)

    def head_of(self, weights: Mapping[str, Tensor], encoder: Encoder, like: Batch | None) -> nn.Module:
        """Make the head that weights are of; one that has the encoder's maps knows their form. See ``Kind.head_of``."""
        if self._own_maps(encoder) is not None:
            return self.head(encoder, {})
        return super().head_of(weights, encoder, like)

    def _own_maps(self, encoder: Encoder) -> DetectorMaps | None:
        """Return the encoder's network where it is that of such a detector of transformers."""
        maps = encoder.backbone
        return maps if isinstance(maps, DetectorMaps) and maps.detector == self.detector else None

    def _detector(self, channels: Sequence[int], strides: Sequence[int]) -> Detector | RtDetr:
        if self.detector == "rt_detr":
            return RtDetr(channels, strides, self.choices, self.width, self.most)
        options = {"most": self.most, "classifier": self.classifier, **self._further}
        return Detector(self.detector, channels, strides, self.choices, self.width, **options)

    @property
    def _further(self) -> dict[str, Any]:
        """Further arguments of the detector."""
        return {}

    def _by_regions(self, head: nn.Module, what: str) -> Detector:
        """Return a detector that looks at regions, which something needs: ``what``, for the message of the error."""
        if not isinstance(head, Detector) or not head.by_regions:
            raise ConfigError(
                f"{what} regions, and {self.detector} has none: train a model with detector='faster_rcnn' "
                "(--model.detector faster_rcnn)"
            )
        return head

    def embedding(self, encoder: Encoder, head: nn.Module | None) -> Encoder:
        """Return the encoder with the detector that proposes regions; see ``Kind.embedding``."""
        if head is None:
            raise ConfigError(
                "objects of further classes are learned by the regions of a trained detector: train it first, on any "
                "classes, trainer.finetune(model, datamodule=...)"
            )
        head = self._by_regions(head, "objects of further classes are learned by")
        return of_regions(encoder, copy.deepcopy(head))

    def learner(self, encoder: Encoder, algorithm: Algorithm, load: Callable[[Any], Any]) -> Any:
        """Return a ``PartPredictor`` of regions; see ``Kind.learner``."""
        kind = resolve_name("quickstudy.kinds.regions:RegionDetection")
        options = {name: getattr(self, name) for name in ("detector", "width", "most", "min_score", "classifier")}
        return kind(**options).learner(encoder, algorithm, load)

    def second_stage(self, head: nn.Module | None, data: Any) -> tuple[Self, list[nn.Module]]:
        """Give a detector the classes of further data, and return what is to train: see ``Kind.second_stage``."""
        if head is None:
            raise ConfigError(
                "strategy='tfa' is the second of two stages: train the detector first, on classes of which there is "
                "much, trainer.finetune(model, datamodule=...)"
            )
        head = self._by_regions(head, "strategy='tfa' trains the last layers of")
        fresh = replace(self, num_classes=None, class_names=None, classes=(), ids=(), codes=())
        told = fresh.meet(data, "fit")
        if told.classes == self.classes:
            return self, [head.last]
        places = {name: code for code, name in enumerate(self.classes)}
        head.become(len(told.classes), {new: places[name] for new, name in enumerate(told.classes) if name in places})
        return told, [head.last]

    def outputs(self, encoder: Encoder, head: nn.Module, inputs: Batch) -> dict[str, Tensor]:
        """Return ``{"boxes": [N, K, 4], "scores": [N, K], "labels": [N, K]}`` and the sizes; scores of 0 fill up."""
        if torch.compiler.is_exporting():
            self.exported(None)
        return self._found(head, encoder.maps(inputs), inputs)

    def _found(self, head: nn.Module, maps: Sequence[Tensor], inputs: Batch) -> dict[str, Tensor]:
        found: list[Found] = head(maps, inputs["size"], inputs["pixels"])
        filled = {name: torch.stack([padded_to(own[name], self.most) for own in found]) for name in found[0]}
        return {**filled, "size": inputs["size"], "full": inputs["full"]}

    def to_export(self, encoder: Encoder, head: nn.Module, inputs: Batch) -> Tensor:
        """Return all that RetinaNet says, before it is chosen among: of each of A anchors the two corners of a box, in
        shares of the canvas's sides and cut at the picture's, and a probability of each class, ``[N, A, 4 + C]``.

        Raises:
            ConfigError: it is another, which chooses among proposals, or has none such.
        """
        if not isinstance(head, Detector) or head.name != "retinanet":
            return self.exported(None)
        image_list = require("torchvision.models.detection.image_list", extra="image")
        pixels, network = inputs["pixels"], head.network
        height, width = pixels.shape[2:]
        levels = list(head.pyramid_of(encoder.maps(inputs)).values())
        told = network.head(levels)
        (anchors,) = network.anchor_generator(image_list.ImageList(pixels[:1], [(height, width)]), levels)
        moved = told["bbox_regression"]
        boxes = network.box_coder.decode_single(moved.flatten(0, 1), anchors.repeat(moved.shape[0], 1)).view_as(moved)
        limits = inputs["size"].flip(-1).repeat(1, 2)[:, None].to(boxes)
        boxes = torch.minimum(boxes.clamp(min=0), limits) / boxes.new_tensor([width, height] * 2)
        return torch.cat([boxes, told["cls_logits"].sigmoid()], -1)

    # ---- how well it does

    def judge(self, encoder: Encoder, head: nn.Module, inputs: Batch, targets: Batch, loss: Loss) -> Judged:
        """Answer a batch, and judge the answers; while it trains there are none. See ``Kind.judge``."""
        frozen = encoder.trained if self.freeze_norms is None else self.freeze_norms
        with statistics_kept(encoder) if frozen else nullcontext():
            maps = encoder.maps(inputs)
        assert isinstance(head, (Detector, RtDetr))
        parts = head.losses(maps, inputs["size"], inputs["pixels"], self._objects(targets, maps[0].dtype))
        lost = torch.stack(list(parts.values())).sum()
        if head.training:
            return Judged(lost, len(inputs["size"]), {}, targets, self.figures({}, targets))
        outputs = self._found(head, maps, inputs)
        return Judged(lost, len(inputs["size"]), outputs, targets, self.figures(outputs, targets))

    def _objects(self, targets: Batch, dtype: torch.dtype) -> list[dict[str, Tensor]]:
        """Return the objects to learn of each picture: those that are there, and no crowds."""
        there = targets["mask"].bool()
        if "crowd" in targets:
            there = there & ~targets["crowd"].bool()
        leaves = self._of_object(targets)
        leaves = {name: leaf.to(dtype) if leaf.is_floating_point() else leaf for name, leaf in leaves.items()}
        return [{name: leaf[row][own] for name, leaf in leaves.items()} for row, own in enumerate(there)]

    def _of_object(self, target: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what a detector learns of objects ``[..., M]``, without what fills it up."""
        return {"boxes": target["boxes"][..., :4], "labels": target["labels"]}

    def figures(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        """Return ``[N, 4K + C]``: of each object found its score, class, at which thresholds it is right, and at which
        it does not count, as bits; and how many there are of each class."""
        if not outputs:  # of a step of training, where nothing is looked for
            return targets["labels"].new_empty(0, dtype=torch.float32)
        told = {name: leaf.detach().double().cpu().numpy() for name, leaf in outputs.items()}
        true = {name: leaf.detach().double().cpu().numpy() for name, leaf in targets.items()}
        count, crowds = len(told["scores"]), true.get("crowd", np.zeros_like(true["mask"]))
        rows = np.zeros((count, self.most, 4))
        rows[..., 1] = -1
        counts = np.zeros((count, self.choices))
        sound = (told["scores"] > 0) & np.isfinite(told["boxes"]).all(2)
        for row in range(count):
            there, found = np.flatnonzero(true["mask"][row] > 0), np.flatnonzero(sound[row])
            scores, codes, wanted = told["scores"][row], told["labels"][row], true["labels"][row][there]
            found = found[np.argsort(-scores[found], kind="stable")]
            crowd = crowds[row][there] > 0
            counts[row] = np.bincount(wanted[~crowd].astype(np.int64), minlength=self.choices)
            shared = self._overlaps(told, true, row, found, there, crowd)
            right, spare = matched(np.where(codes[found][:, None] == wanted, shared, 0.0), crowd)
            rows[row, found] = np.stack([scores[found], codes[found], right, spare], 1)
        flat = np.concatenate([rows.reshape(count, -1), counts], 1)
        return torch.from_numpy(flat).to(outputs["scores"].device, torch.float32)

    def _overlaps(self, told: Any, true: Any, row: int, found: Any, there: Any, crowd: Any) -> Any:
        """Return the intersection over union ``[k, m]`` of objects found and objects there in one picture."""
        return box_overlaps(told["boxes"][row][found], true["boxes"][row][there, :4], crowd)

    def precisions(self, figures: Any) -> dict[str, float]:
        """Return ``map``, ``map_50`` and ``map_75``, and ``ap_NAME`` of each class that is there."""
        numbers = np.asarray(figures, np.float64)
        counts = numbers[:, 4 * self.most :].sum(0).astype(int)
        found = numbers[:, : 4 * self.most].reshape(-1, 4)
        found = found[found[:, 1] >= 0]
        found = found[np.lexsort((-found[:, 0], found[:, 1]))]  # by class, the surest first
        edges = np.searchsorted(found[:, 1], np.arange(self.choices + 1))
        right, spare = (found[:, column].astype(np.int64) for column in (2, 3))
        each: dict[str, list[float]] = {}
        for code, name in enumerate(self.classes):
            if counts[code]:
                own = slice(edges[code], edges[code + 1])
                each[name] = [
                    average_precision(found[own, 0], right[own] & bit > 0, spare[own] & bit > 0, counts[code])
                    for bit in 1 << np.arange(len(THRESHOLDS))
                ]
        if not each:
            return {"map": 0.0, "map_50": 0.0, "map_75": 0.0}
        mean = np.mean([*each.values()], 0)
        whole = {"map": float(mean.mean()), "map_50": float(mean[0]), "map_75": float(mean[5])}
        return whole | {f"ap_{name}": float(np.mean(own)) for name, own in each.items()}

    def mistakes(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], row: int) -> dict[str, Any] | None:
        """Return hits, misses and false alarms of a picture, at ``min_score`` and an overlap of 0.5 or more, on its
        canvas; see ``Kind.mistakes``."""
        told = {name: leaf[row : row + 1].detach().double().cpu().numpy() for name, leaf in outputs.items()}
        true = {name: leaf[row : row + 1].detach().double().cpu().numpy() for name, leaf in targets.items()}
        there = np.flatnonzero(true["mask"][0] > 0)
        crowd = true.get("crowd", np.zeros_like(true["mask"]))[0][there] > 0
        scores = told["scores"][0]
        found = np.flatnonzero((scores >= max(self.min_score, 1e-9)) & np.isfinite(told["boxes"][0]).all(1))
        found = found[np.argsort(-scores[found], kind="stable")]
        codes, wanted = told["labels"][0][found], true["labels"][0][there]
        shared = np.where(codes[:, None] == wanted, self._overlaps(told, true, 0, found, there, crowd), 0.0)
        whose = partners(shared, crowd, _OVERLAP)
        objects: list[dict[str, Any]] = []
        for place, other in zip(found.tolist(), whose.tolist(), strict=True):
            if other >= 0 and crowd[other]:
                continue
            own = there[other] if other >= 0 else None
            one = {"state": "false" if own is None else "hit", "score": float(scores[place])}
            name, box = self.classes[int(told["labels"][0][place])], told["boxes"][0][place].tolist()
            objects.append({**one, "label": name, "box": box, **self._amiss(told, true, place, own)})
        for other in sorted({*range(len(there))} - {*whose.tolist()}):
            if not crowd[other]:
                own = there[other]
                name, box = self.classes[int(wanted[other])], true["boxes"][0][own, :4].tolist()
                objects.append({"state": "miss", "label": name, "box": box, **self._amiss(told, true, None, own)})
        missed, alarms = (sum(one["state"] == state for one in objects) for state in ("miss", "false"))
        hits = len(objects) - missed - alarms
        said = f"{hits} of {hits + missed} found, {alarms} false alarm{'s' * (alarms != 1)}"
        return {"wrong": float(missed + alarms), "said": said, "objects": objects}

    def _amiss(self, told: Any, true: Any, place: int | None, own: int | None) -> dict[str, Any]:
        """Return what else is to be drawn of an object found, of one that is there, or of both, in one picture."""
        return {}

    @property
    def found_at(self) -> str:
        """Say what is a hit; see ``Kind.found_at``."""
        return (
            f"A hit has a score of {self.min_score:g} or more, the right class and an overlap of {_OVERLAP:g} or more. "
            "Intervals of recall and precision take objects for independent."
        )

    def found_per_class(self, figures: Tensor) -> dict[str, dict[str, Any]]:
        """Return how many objects of each class were hit and missed, and how many false alarms there were, at
        ``min_score`` and an overlap of 0.5 or more, with Wilson's intervals; see ``Kind.found_per_class``."""
        numbers = figures.double().cpu().numpy()
        counts = numbers[:, 4 * self.most :].sum(0).astype(int)
        found = numbers[:, : 4 * self.most].reshape(-1, 4)
        found = found[(found[:, 1] >= 0) & (found[:, 0] >= max(self.min_score, 1e-9))]
        right, spare = (found[:, column].astype(np.int64) & 1 > 0 for column in (2, 3))
        told = {}
        for code, name in enumerate(self.classes):
            own = found[:, 1] == code
            hits, alarms = int((own & right).sum()), int((own & ~right & ~spare).sum())
            if counts[code] + alarms:
                shares = {"recall": (hits, int(counts[code])), "precision": (hits, hits + alarms)}
                of_each = {
                    part: dict(zip((part, f"{part}_ci95"), proportion_interval(*pair), strict=True)) if pair[1] else {}
                    for part, pair in shares.items()
                }
                numbers_of = {"objects": int(counts[code]), "hits": hits, "misses": int(counts[code]) - hits}
                told[name] = {**numbers_of, "false_alarms": alarms, **of_each["recall"], **of_each["precision"]}
        return told

    # ---- answers

    def answers(self, outputs: Mapping[str, Tensor], form: str) -> Any:
        """Return for each picture its objects, the surest first: ``label``, ``score``, and ``box``, x and y of two
        corners in pixels of the file.

        Raises:
            DataError: an answer is not a number.
        """
        told = {name: leaf.detach().float().cpu() for name, leaf in outputs.items()}
        check_finite(told["boxes"].isfinite().flatten(1).all(1) & told["scores"].isfinite().all(1))
        full, rows = told.pop("full"), range(len(told["scores"]))
        factors, sizes = (full / told.pop("size")).flip(-1), full.long().tolist()
        named = told["scores"] >= max(self.min_score, 1e-9)
        return [
            InPicture(
                (
                    self._told({name: leaf[row][place] for name, leaf in told.items()}, factors[row], sizes[row])
                    for place in named[row].nonzero().flatten().tolist()
                ),
                sizes[row],
            )
            for row in rows
        ]

    def _told(self, found: Mapping[str, Tensor], factor: Tensor, full: Sequence[int]) -> dict[str, Any]:
        """Return one object found, in pixels of a file of ``full`` height and width."""
        box = (found["boxes"] * factor.repeat(2)).tolist()
        return {"label": self.classes[int(found["labels"])], "score": float(found["scores"]), "box": box}

    def coco(self, answers: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
        """Return the objects as COCO's JSON; see ``Kind.coco``."""
        return coco_of(self.classes, names, [one.size for one in answers], answers)


class InPicture(list[dict[str, Any]]):
    """The objects of a picture, and its height and width."""

    def __init__(self, objects: Iterable[dict[str, Any]], size: Sequence[int]) -> None:
        super().__init__(objects)
        self.size = size


def padded_to(leaf: Tensor, count: int) -> Tensor:
    """Return a leaf ``[k, ...]`` of one picture as ``[count, ...]``."""
    return F.pad(leaf, [0, 0] * (leaf.ndim - 1) + [0, count - len(leaf)])


@dataclass(frozen=True)
class ToObjects:
    """Makes targets of objects and their labels, without those of no class; with no codes all are 0."""

    coded: Coded | None

    def __call__(self, target: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the target of what ``objects_of`` returned."""
        labels = target["labels"]
        return kept_objects(target, [0] * len(labels) if self.coded is None else self.coded.listed(labels))


def numbered(annotations: Annotations) -> Annotations:
    """Return objects with numbers for their labels, by the names that the data has; before a model meets them."""
    names = annotations.names
    return annotations.coded(ToObjects(Coded(names, names, tuple(range(len(names)))) if names else None))


def objects_of(item: Any, example: Batch | None = None) -> dict[str, Any]:
    """Return the objects of a picture: ``boxes`` ``[M, 4]``, x and y of two corners, and a list of M ``labels``.

    Args:
        item: ``{"boxes": [M, 4], "labels": [M]}`` in pixels of the file, maybe with ``crowd`` ``[M]``; with ``"shares":
            True`` among them in shares of its sides.
        example: see ``annotations.Read``.

    Raises:
        DataError: it is no such dict, or a box is none; the message has its number.
    """
    if not isinstance(item, Mapping) or not {"boxes", "labels"} <= item.keys():
        raise DataError(f"objects are given as {{'boxes': [M, 4], 'labels': [M]}}, and not {brief(item)}")
    try:
        boxes = torch.as_tensor(np.asarray(item["boxes"], np.float32))
    except (TypeError, ValueError) as error:
        raise DataError(f"boxes must be rows of 4 numbers, and these are {brief(item['boxes'])}") from error
    boxes = boxes.reshape(-1, 4) if not boxes.numel() else boxes
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise DataError(f"a box has 4 numbers, x and y of two corners, and these are of shape {tuple(boxes.shape)}")
    labels = labels_of_boxes(item["labels"], len(boxes))
    wrong = ((boxes[:, 2:] <= boxes[:, :2]).any(1) | ~boxes.isfinite().all(1)).nonzero().flatten().tolist()
    if wrong:
        raise DataError(
            f"box {wrong[0]} is {boxes[wrong[0]].tolist()}: x and y of the upper left corner, then those of the lower "
            "right one, which are larger. Of boxes of x, y, width, height add the first two to the others"
        )
    if len(boxes) and not item.get("shares") and bool(((boxes >= 0) & (boxes <= 1)).all()):
        raise DataError(
            f"the boxes, such as {boxes[0].tolist()}, are within one pixel: are these shares of the picture's width "
            "and height? Multiply them by those"
        )
    crowd = torch.as_tensor(np.asarray(item.get("crowd", [False] * len(boxes)), np.bool_))
    if crowd.shape != (len(boxes),):
        raise DataError(
            f"there are {len(boxes)} boxes, and crowd={brief(item['crowd'])}: say of each whether it is one"
        )
    return {"boxes": boxes, "labels": labels, "crowd": crowd}
