"""An answer is a class of each pixel of a picture.

Shapes: N pictures, H W pixels of the canvas that all are on, h w of a picture on it, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.batches import Batch
from quickstudy.data.annotations import Annotations, annotated
from quickstudy.data.table import Table
from quickstudy.errors import ConfigError, DataError, check_choice, check_counts, few
from quickstudy.functional.intervals import mean_interval
from quickstudy.functional.masks import in_runs
from quickstudy.functional.tiles import tile_starts, tile_weights
from quickstudy.kinds.base import KINDS, Judged
from quickstudy.kinds.class_ids import Coded, in_form
from quickstudy.kinds.coco import coco_of
from quickstudy.kinds.element_labels import (
    LabelTargets,
    asked_of,
    dice_of_labels,
    label_figures,
    label_mistakes,
    lost_by_labels,
)
from quickstudy.kinds.losses import LabelThresholds, Loss, build_loss, check_class_weights, class_weights_of
from quickstudy.kinds.parts import OfParts, Parts, RowHead
from quickstudy.kinds.predictions import plain_answer
from quickstudy.kinds.segmentation import Segmentation, of_elements, of_rectangle
from quickstudy.kinds.several_labels import SeveralLabels, check_thresholds
from quickstudy.nets import Encoder
from quickstudy.nets.decoders import DECODERS, OF_BACKBONE, MapDecoder

if TYPE_CHECKING:
    from quickstudy.kinds.metrics import Figures

_PAIRS = 6
"""Confusions of a picture that are drawn, the most frequent."""
_DIVIDED = 32
"""Sides of what a network is shown are multiples of it."""
_UNKNOWN = "unknown"
_MOST_OF = 0.5  # of a cell's pixels, which are of its class


class OfPixels(NamedTuple):
    """An answer: it tells the names of its classes, as a model may learn further ones before it is written."""

    ids: Tensor
    """``[h, w]``, those of the file's pixels, -1 where none is known; of several labels ``[h, w, C]``, 0 and 1."""
    names: Mapping[int, str]
    """Of the ids, in the order of the classes; of several labels of their places."""


@KINDS.register("semantic_segmentation")
@dataclass(frozen=True)
class SemanticSegmentation(SeveralLabels, OfParts, Segmentation):
    """A class of each pixel; the backbone makes feature maps (``Encoder.maps``), and a decoder tells of pixels by them.

    From a few masks it is learned without training: the cells of feature maps, of several strides side by side, are
    examples with a class each, which an algorithm on embeddings learns; its logits are brought to all pixels. Of an
    example a cell is learned where half of its pixels or more are of one class, and of a class without any such cell
    those that have most of it.

    A batch of targets is ``{"labels": [N, H, W], "mask": [N, H, W]}`` of codes, and where a pixel has one. The loss is
    the mean over all pixels that have one, of all pictures. In validation and test there is ``whole`` beside, the codes
    of the pixels of the files, -1 where they have none: figures are of these, and else of those that are shown.

    Inputs with a leaf ``tile`` ``[N, 2]``, side and overlap in pixels, are answered in square tiles one by one, so that
    a picture of any size takes as much memory as one of them, beside its answer. Where tiles overlap logits are
    averaged; of each tile those within a quarter of the overlap from an edge beyond which the picture goes on do not
    count, and from there on they count more and more, in a straight line (``functional.tiles``). So a network that sees
    no farther than that quarter answers as it does at once. A graph answers a canvas at once, whatever its size.

    Args:
        num_classes: C, with ids from 0; None: as ``class_names`` or the data say, or by the ids in the training data,
            each target of which is read once for that.
        class_names: names of the ids 0, 1, ...; or by id, where these have holes. Ids of one name are of one class.
        ignore_index: an id, or several, of no class, which are neither learned nor counted, such as 255.
        class_weights: ``"balanced"``, weights by class name, or in the classes' order.
        decoder: ``"unet"``, ``"unetplusplus"``, ``"fpn"``, ``"deeplabv3plus"`` or ``"segformer"``.
        width: channels of the decoder.
        dice: weight of the soft Dice loss (Milletari et al. 2016, https://arxiv.org/abs/1606.04797) beside the loss of
            single pixels; it is that of each picture, and these count by their pixels.
        strides: of the feature maps that few-shot forms stand on, in pixels; cells are those of the finest.
        rows_per_class: how many cells few-shot forms keep of each class at most, evenly from all examples.
        multi_label: whether a pixel may be of several classes, or of none: targets are ``[N, H, W, C]`` then, zeros and
            ones, each class is asked about by itself (binary cross-entropy), and ``class_weights`` weigh its presence.
        label_thresholds: with several, the probability above which one is named: ``"f1"``, those that give the largest
            F1 of validation data; one for all, or by class.
        thresholds: of the classes, C probabilities; empty: one half.
    """

    placed: ClassVar[bool] = True
    forms: ClassVar[tuple[str, ...]] = ("classes", "probabilities", "logits")
    learned: ClassVar[tuple[str, ...]] = (*Segmentation.learned, "thresholds")
    schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {
            "size": {"type": "array", "items": {"type": "integer"}},
            "masks": {"type": "array", "items": {"type": "object"}},
        },
    }

    shown_by: ClassVar[str] = "linear_probe"
    task_of_parts: ClassVar[str] = "semantic_segmentation"
    sure: ClassVar[tuple[str, ...]] = ("probabilities", "logits")
    lacking: ClassVar[str] = "the data has no masks: give some, for instance by SemanticSegmentationData.from_folders"
    usual_options: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "linear_probe": {"class_weight": "balanced", "regularization": 10.0}  # as cells of one input are much alike
    }

    hidden: int = 0
    decoder: str = "unet"
    width: int = 128
    dice: float = 0.0
    strides: tuple[int, ...] = (8, 16)
    rows_per_class: int = 5000
    multi_label: bool = False
    label_thresholds: LabelThresholds = "f1"
    thresholds: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_thresholds(self.label_thresholds, self.multi_label)
        if self.multi_label and isinstance(self.class_names, Mapping):
            raise ConfigError(
                "class_names by number are of masks with one class of each pixel: with multi_label, list them"
            )
        check_choice("decoder", self.decoder, *DECODERS)
        check_counts(width=self.width, rows_per_class=self.rows_per_class)
        object.__setattr__(self, "strides", tuple(self.strides))
        if not self.strides or any(stride not in (2, 4, 8, 16, 32) for stride in self.strides):
            raise ConfigError(f"strides={[*self.strides]}: name some of 2, 4, 8, 16 and 32, those of feature maps")
        if not self.dice >= 0:
            raise ConfigError(f"dice={self.dice}: the weight of a loss is 0 or more")

    @classmethod
    def asked(cls) -> list[str]:
        """Return the names of the fields that a user gives; the decoder stands where others have a layer."""
        return [name for name in super().asked() if name != "hidden"]

    @property
    def of_backbone(self) -> Mapping[str, Any]:  # type: ignore[override]
        """Options without which a backbone does not make what the decoder stands on."""
        return {"features_only": True, **OF_BACKBONE.get(self.decoder, {})}

    @classmethod
    def encode(cls, targets: Any, names: Sequence[str] | None = None) -> Annotations:
        """Take masks, or the files that hold them; see ``Kind.encode``."""
        return annotated(targets, resolve_name("quickstudy.image.masks:read_mask"), names)

    def meet(self, data: Any, stage: str) -> Self:
        """Take the classes, and the thresholds that were asked for; see ``Kind.meet``."""
        return super().meet(data, stage).with_asked(stage)

    def labels_seen(self, targets: Iterable[Any]) -> Iterator[int]:
        """Return the ids that pixels have; of several labels their places."""
        if not self.multi_label:
            yield from super().labels_seen(targets)
            return
        for target in targets:
            yield from range(target.shape[-1] if target.ndim == 3 else 1)
            return

    def targets_by(self, coded: Coded) -> Callable[[Any], Batch]:
        """Return what makes targets of ids, or of several labels."""
        return LabelTargets(self.classes, self.ignored) if self.multi_label else _OneClass(super().targets_by(coded))

    def weighed(self, train: Table | None) -> tuple[float, ...]:
        """Return the weight of each class, with several labels that of its presence beside its absence."""
        if not self.multi_label:
            return super().weighed(train)
        counts, pixels = None, 0
        if train is not None and self.class_weights == "balanced":
            annotations = self.to_learn(self.fitting(train).annotations)  # type: ignore[arg-type]
            found = torch.zeros(self.choices, dtype=torch.int64)
            for row in range(len(annotations)):
                labels = annotations.target(row)["labels"]
                found, pixels = found + labels.flatten(0, -2).sum(0), pixels + labels[..., 0].numel()
            counts = found.tolist()
        assert self.class_weights is not None
        return class_weights_of(self.class_weights, self.classes, counts, pixels, multi_label=True)

    # ---- the network

    def head(self, encoder: Encoder, example: Batch) -> nn.Module:
        """Make the decoder for the maps that the encoder makes of an example."""
        if "tile" in example and bool(example["tile"].any()):  # as large as all that it is shown
            side = int(example["tile"][0, 0])
            cut = example["size"].clamp(max=side)
            example = {"pixels": example["pixels"][..., :side, :side], "size": cut, "full": cut}
        padded = _padded(example)
        with torch.no_grad(), encoder.evaluating():
            maps = encoder.maps(padded)
        strides = [round(padded["pixels"].shape[-1] / one.shape[-1]) for one in maps]
        return MapDecoder(self.decoder, [one.shape[1] for one in maps], strides, self.choices, self.width)

    def head_of(self, weights: Mapping[str, Tensor], encoder: Encoder, like: Batch | None) -> nn.Module:
        """Make the head that weights are of; see ``Kind.head_of``."""
        if like is None:
            raise DataError("the form of its pictures is not known: save the model again")
        return super(Segmentation, self).head_of(weights, encoder, like)

    def outputs(self, encoder: Encoder, head: nn.Module, inputs: Batch) -> dict[str, Tensor]:
        """Return ``{"logits": [N, H, W, C], "mask": [N, H, W]}`` and the sizes: the mask says where a picture is."""
        if isinstance(head, RowHead):
            return self.answered(encoder, head, inputs)  # type: ignore[no-any-return]
        inputs, side, overlap = _tiled(inputs)
        if side:
            return self._in_tiles(encoder, head, inputs, side, overlap)
        padded = _padded(inputs)
        height, width = inputs["pixels"].shape[2:]
        logits = head(encoder.maps(padded), padded["pixels"])[:, :, :height, :width].permute(0, 2, 3, 1)
        return {"logits": logits, "mask": _there(inputs), "size": inputs["size"], "full": inputs["full"]}

    def _in_tiles(self, encoder: Encoder, head: nn.Module, inputs: Batch, side: int, overlap: int) -> dict[str, Tensor]:
        """Return what ``outputs`` does, of each picture by its own tiles, one by one."""
        logits = _blended(lambda part: self.outputs(encoder, head, part)["logits"][0], inputs, side, overlap)
        return {"logits": logits, "mask": _there(inputs), "size": inputs["size"], "full": inputs["full"]}

    def judge(self, encoder: Encoder, head: nn.Module, inputs: Batch, targets: Batch, loss: Loss) -> Judged:
        """Answer a batch, and judge the answers to the pixels that have a class; see ``Kind.judge``."""
        if self.multi_label:
            outputs = self.outputs(encoder, head, inputs)
            lost, weight = lost_by_labels(outputs, targets, self.weights, loss)
            if self.dice:
                lost = lost + self.dice * dice_of_labels(outputs, targets)
            return Judged(lost, weight, outputs, targets, self.figures(outputs, targets))
        judged = super().judge(encoder, head, inputs, targets, loss)
        if not self.dice:
            return judged
        return judged._replace(loss=judged.loss + self.dice * _dice(judged.outputs, targets, self.choices))

    def loss(self, asked: str | Loss | None, otherwise: Loss | None = None) -> Loss:
        """Return the loss of logits and codes, or of logits and zeros and ones; see ``Kind.loss``."""
        if not self.multi_label:
            return super().loss(asked, otherwise)
        check_class_weights(self.class_weights, asked, multi_label=True)
        return build_loss(asked, multi_label=True)

    def measure(self, per_example: bool, choices: int = 0) -> Figures:
        """Return the intersection over union of all and of each class; see ``Kind.measure``."""
        from quickstudy.kinds.metrics import Overlaps  # torchmetrics takes long to import, and answering needs none

        return Overlaps(self.classes, several=self.multi_label)

    def for_metrics(self, outputs: Any, targets: Any, choices: int = 0) -> tuple[Any, Any]:
        """Return of several labels logits ``[n, C]`` of all pixels, and zeros and ones, for thresholds."""
        if not self.multi_label:
            return super().for_metrics(outputs, targets, choices)
        labels, asked = asked_of(outputs, targets)
        logits = self.margins(outputs["logits"].detach()).masked_fill(~asked, -math.inf)  # which no threshold names
        return logits.flatten(0, -2), (labels * asked).flatten(0, -2)

    def fitting(self, table: Table) -> Table:
        """Return the same examples with codes of these classes, of files' pixels, too; see ``Kind.fitting``."""
        fitted = super().fitting(table)
        if fitted.annotations is None or fitted is table:
            return fitted
        told = self.to_learn(fitted.annotations)
        return replace(fitted, annotations=replace(told, read=_InFull(told.read), code=_OfFull(told.code)))

    def to_learn(self, annotations: Annotations) -> Annotations:
        """Return targets of the pixels that are shown; see ``Kind.to_learn``."""
        read, code = annotations.read, annotations.code
        read = read.read if isinstance(read, _InFull) else read
        return replace(annotations, read=read, code=code.code if isinstance(code, _OfFull) else code)

    def figures(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        """Return numbers of pixels of each picture ``[N, 3C]``, of its file where targets tell of that."""
        if "whole" not in targets and self.multi_label:
            return label_figures(self.margins(outputs["logits"].detach()), outputs, targets)
        if "whole" not in targets:
            return super().figures(outputs, targets)
        found = []
        for row, full in enumerate(outputs["full"].tolist()):
            own = of_rectangle(outputs["logits"][row].detach(), outputs["mask"][row].bool())
            codes = targets["whole"][row][: full[0], : full[1]].long()[None]
            there = torch.ones(1, *full, dtype=torch.bool, device=codes.device)
            told = {"logits": _resized(own, full)[None], "mask": there}
            found.append(self.figures(told, {"labels": codes.clamp(min=0), "mask": codes >= 0}))
        return torch.cat(found) if found else outputs["logits"].new_zeros(0, 3 * self.choices)

    # ---- learned from a few masks, cell by cell

    @property
    def most_rows(self) -> int:
        """How many cells are kept of each class at most."""
        return self.rows_per_class

    def parts(self, encoder: Encoder, inputs: Batch) -> Parts:
        """Return the cells of the feature maps that lie on pictures, row by row; see ``OfParts.parts``."""
        features, stride = self._cells(encoder, inputs)
        sizes = [(-(-height // stride), -(-width // stride)) for height, width in inputs["size"].tolist()]
        own = [features[row, :, :high, :wide].flatten(1).T for row, (high, wide) in enumerate(sizes)]
        owners = torch.arange(len(own), device=features.device)
        lengths = torch.tensor([len(one) for one in own], device=features.device)
        return Parts(torch.cat(own), owners.repeat_interleave(lengths), (stride, sizes))

    def taught(self, encoder: Encoder, inputs: Batch, targets: Mapping[str, Tensor]) -> tuple[Parts, Tensor]:
        """Return the cells that have a class; see ``OfParts.taught``."""
        self._check_parts()
        parts = self.parts(encoder, inputs)
        stride, sizes = parts.places
        codes = torch.cat(
            [
                _codes_of(targets["labels"][row], targets["mask"][row].bool(), inputs["size"][row], stride).flatten()
                for row in range(len(sizes))
            ]
        )
        known = codes >= 0
        return Parts(parts.features[known], parts.owners[known]), codes[known]

    def assembled(
        self, logits_nW: Tensor, parts: Parts, inputs: Batch, unknown_n: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the logits of all pixels, between those of cells; see ``OfParts.assembled``."""
        (stride, sizes), (height, width) = parts.places, inputs["pixels"].shape[2:]
        values_nX = logits_nW if unknown_n is None else torch.cat([logits_nW, unknown_n.to(logits_nW)[:, None]], 1)
        whole = values_nX.new_zeros(len(sizes), height, width, values_nX.shape[1])
        mask = torch.zeros(len(sizes), height, width, dtype=torch.bool, device=whole.device)
        own = torch.split(values_nX, [high * wide for high, wide in sizes])
        for row, ((high, wide), rows, size) in enumerate(zip(sizes, own, inputs["size"].tolist(), strict=True)):
            cells = rows.T.reshape(1, -1, high, wide)
            fine = F.interpolate(cells, scale_factor=stride, mode="bilinear", align_corners=False)
            shown = slice(0, size[0]), slice(0, size[1])
            whole[row][shown] = fine[0].permute(1, 2, 0)[shown]
            mask[row][shown] = True
        outputs = {"logits": whole[..., : logits_nW.shape[1]], "mask": mask}
        if unknown_n is not None:
            outputs["unknown"] = whole[..., -1] > _MOST_OF
        return {**outputs, "size": inputs["size"], "full": inputs["full"]}

    def of_table(self, table: Table, names: Any = None) -> tuple[Self, Annotations]:
        """Return it with the classes of a support set, and masks of their codes; see ``OfParts.of_table``."""
        self._check_parts()
        asked = replace(self, classes=(), ids=(), codes=(), weights=())
        if names is not None:
            asked = replace(asked, num_classes=None, class_names=in_form(names, numbers=True))
        named = asked.named_by(table)
        coded = named.fitting(table).annotations
        assert coded is not None
        return named, self.to_learn(coded)

    def _check_parts(self) -> None:
        """Check that a cell is of one class.

        Raises:
            ConfigError: it may be of several.
        """
        if self.multi_label:
            raise ConfigError("cells of feature maps are learned as of one class each: train multi_label=True by fit")

    def of_one_class(self, annotations: Annotations) -> Annotations:
        """Return masks of pixels that are of a class; see ``OfParts.of_one_class``."""
        return annotations.coded(_OfOneClass(self.ignored))

    def of_classes(self, names: Sequence[Any]) -> Self:
        """Return it with these classes; see ``OfParts.of_classes``."""
        numbers = tuple(range(len(names)))
        return replace(self, classes=tuple(names), ids=numbers, codes=numbers, weights=())

    def _cells(self, encoder: Encoder, inputs: Batch) -> tuple[Tensor, int]:
        """Return the features of the cells of canvases, ``[N, D, h, w]``, and their stride."""
        inputs, side, overlap = _tiled(inputs)
        if side:
            finest = min(self.strides)
            cells = _blended(
                lambda part: self._cells(encoder, part)[0][0].permute(1, 2, 0), inputs, side, overlap, finest
            )
            return cells.permute(0, 3, 1, 2), finest
        padded = _padded(inputs)
        maps = encoder.maps(padded)
        by_stride = {round(padded["pixels"].shape[-1] / one.shape[-1]): one for one in maps}
        if lacking := [stride for stride in self.strides if stride not in by_stride]:
            raise ConfigError(
                f"strides={[*self.strides]}: the backbone {type(encoder.backbone).__name__} has no feature map of "
                f"stride {lacking[0]}, but of {sorted(by_stride)}"
            )
        finest = min(self.strides)
        shape = by_stride[finest].shape[2:]
        chosen = [by_stride[stride] for stride in sorted(self.strides)]
        same = [one if one.shape[2:] == shape else F.interpolate(one, shape, mode="bilinear") for one in chosen]
        return torch.cat(same, 1), finest

    def mistakes(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], row: int) -> dict[str, Any] | None:
        """Return which pixels of a canvas were taken for what, the most first; see ``Kind.mistakes``."""
        if "logits" not in outputs:
            return None
        if self.multi_label:
            own = {"logits": outputs["logits"][[row]], "mask": outputs["mask"][[row]]}
            found, which = (leaf[0] for leaf in asked_of(own, _row(targets, row)))
            return label_mistakes(self.margins(own["logits"][0]), found, which, self.classes, _PAIRS)
        labels, asked = (leaf[0].cpu().numpy() for leaf in of_elements(outputs["mask"][[row]], _row(targets, row)))
        answers = outputs["logits"][row].argmax(-1).cpu().numpy()
        wrong = asked & (answers != labels)
        count = max(int(asked.sum()), 1)
        pairs, often = np.unique(np.stack([labels[wrong], answers[wrong]], 1), axis=0, return_counts=True)
        order = np.argsort(-often, kind="stable")[:_PAIRS]
        errors = [
            (
                f"{self.classes[true]} taken for {self.classes[said]} {number / count:.1%}",
                wrong & (labels == true) & (answers == said),
            )
            for (true, said), number in zip(pairs[order].tolist(), often[order].tolist(), strict=True)
        ]
        unasked = outputs["mask"][row].bool().cpu().numpy() & ~asked
        share = float(wrong.sum()) / count
        return {"wrong": share, "said": f"{share:.1%} of its pixels are wrong", "errors": errors, "unasked": unasked}

    def found_per_class(self, figures: Tensor) -> dict[str, dict[str, Any]]:
        """Return of each class how many pixels are of it, and the shares that were found and that are rightly named,
        with intervals over pictures; see ``Kind.found_per_class``."""
        from quickstudy.kinds.metrics import ratio_shares  # torchmetrics takes long to import, and answering needs none

        both, named, true = figures.double().cpu().chunk(3, 1)
        told: dict[str, dict[str, Any]] = {}
        for code, name in enumerate(self.classes):
            if true[:, code].sum() or named[:, code].sum():
                told[name] = {"pixels": int(true[:, code].sum())}
                for part, whole in (("recall", true), ("precision", named)):
                    if whole[:, code].sum():
                        value, half = mean_interval(ratio_shares(both[:, code], whole[:, code]))
                        told[name] |= {part: value, f"{part}_ci95": half if math.isfinite(half) else None}
        return told

    # ---- answers

    def answers(self, outputs: Mapping[str, Tensor], form: str) -> Any:
        """Return for each picture an answer of each of its file's pixels.

        Args:
            outputs: of the network.
            form: ``"classes"``: N tensors ``[h, w]`` of ids, as the targets have them, -1 where none is known, or of
                several labels ``[h, w, C]`` of zeros and ones; ``"probabilities"`` or ``"logits"``: N tensors
                ``[h, w, C]``.

        Raises:
            DataError: an answer is not a number.
        """
        full = outputs["full"].tolist()
        logits = super().answers(outputs, "logits")
        whole = [_resized(own, size) for own, size in zip(logits, full, strict=True)]
        if form == "logits":
            return whole
        if form == "probabilities":
            return [one.sigmoid() if self.multi_label else one.softmax(-1) for one in whole]
        if self.multi_label:
            return [(self.margins(one) > 0).to(torch.uint8) for one in whole]
        firsts = torch.tensor(self._first_ids or [0])
        found = [firsts.to(one.device)[one.argmax(-1)] for one in whole]
        if "unknown" not in outputs:
            return found
        pairs = zip(outputs["unknown"], outputs["mask"], strict=True)
        unknown = [of_rectangle(one[..., None].float(), mask) for one, mask in pairs]
        return [
            ids.masked_fill(_resized(own, size)[..., 0] > _MOST_OF, -1)
            for ids, own, size in zip(found, unknown, full, strict=True)
        ]

    @property
    def _first_ids(self) -> list[int]:
        """Of each class the id that answers have."""
        return [self.ids[self.codes.index(code)] for code in range(self.choices)]

    def written(self, answer: Any, file: str, true: Any = None, top: int = 1, unknown: bool = True) -> list[Any]:
        """Return one row, of masks in run lengths; see ``Kind.written``."""
        return [self.row(file, plain_answer(self.in_json(answer)))]

    def ranked(self, outputs: Any, count: int = 5) -> list[Any]:
        """Return the ids of all pixels of each picture, with the names of the classes; see ``Kind.ranked``."""
        names = {-1: _UNKNOWN, **dict(zip(self._first_ids, self.classes, strict=True))}
        names = dict(enumerate(self.classes)) if self.multi_label else names
        return [OfPixels(ids, names) for ids in self.answers(outputs, "classes")]

    def in_json(self, answer: Any) -> dict[str, Any]:
        """Return the size, and of each class that is there a mask in run lengths, as COCO has them; see ``in_runs``."""
        ids = answer.ids.cpu().numpy()
        planes = {name: ids[..., one] > 0 if ids.ndim == 3 else ids == one for one, name in answer.names.items()}
        masks = [
            {"label": name, "share": float(own.mean()), "counts": in_runs(own)}
            for name, own in planes.items()
            if own.any()
        ]
        return {"size": list(ids.shape[:2]), "masks": masks}

    def coco(self, answers: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
        """Return of each picture a mask of each class that is there, as COCO's JSON; see ``Kind.coco``."""
        told = [self.in_json(answer) for answer in answers]
        objects = [
            [{"label": one["label"], "mask": {"size": each["size"], "counts": one["counts"]}} for one in each["masks"]]
            for each in told
        ]
        return coco_of(self.classes, names, [each["size"] for each in told], objects)


@dataclass(frozen=True)
class _OneClass:
    """Makes targets of ids ``[h, w]``, and says so where there are several labels."""

    code: Callable[[Any], Batch]

    def __call__(self, ids: Tensor) -> Batch:
        if ids.ndim == 3:
            raise DataError(
                f"a mask has {ids.shape[-1]} labels of each pixel: set multi_label=True of the model, or give one "
                "class of each"
            )
        return self.code(ids)


@dataclass(frozen=True)
class _InFull:
    """Reads a mask twice, for the pixels that are shown and for those of the file."""

    read: Any

    def __call__(self, item: Any, example: Batch | None = None) -> dict[str, Any]:
        full = None if example is None else {"size": example["full"], "full": example["full"]}
        return {"shown": self.read(item, example), "whole": self.read(item, full)}


@dataclass(frozen=True)
class _OfFull:
    """Makes targets of both."""

    code: Any

    def __call__(self, found: Mapping[str, Any]) -> dict[str, Tensor]:
        told = self.code(found["whole"])
        whole = torch.where(told["mask"], told["labels"], -1).to(torch.int16)
        return {**self.code(found["shown"]), "whole": whole}


def _tiled(inputs: Batch) -> tuple[Batch, int, int]:
    """Return inputs without what says how they are tiled, and side and overlap of tiles; 0 where one shows all."""
    if "tile" not in inputs:
        return inputs, 0, 0
    plain = {name: leaf for name, leaf in inputs.items() if name != "tile"}
    if torch.compiler.is_compiling():  # a graph answers a canvas at once
        return plain, 0, 0
    side, overlap = inputs["tile"][0].tolist()
    return (plain, side, overlap) if max(inputs["pixels"].shape[2:]) > side else (plain, 0, 0)


def _blended(answer: Callable[[Batch], Tensor], inputs: Batch, side: int, overlap: int, stride: int = 1) -> Tensor:
    """Return answers to pictures ``[N, H / stride, W / stride, X]``, put together of those to tiles.

    Args:
        answer: returns ``[h / stride, w / stride, X]`` of one tile, a batch of one, or of the part of it on a picture.
        inputs: pictures, each of which is divided by itself.
        side: of a tile.
        overlap: of neighbours.
        stride: pixels of what has an answer.
    """
    whole: Tensor | None = None
    for row, size in enumerate(inputs["size"].tolist()):
        high, wide = (max(side, -(-length // _DIVIDED) * _DIVIDED) for length in size)
        pixels = inputs["pixels"][row, :, :high, :wide]
        pixels = F.pad(pixels, (0, wide - pixels.shape[2], 0, high - pixels.shape[1]))
        sums, counted = None, pixels.new_zeros(high // stride, wide // stride, dtype=torch.float32)
        for top, left in product(*(tile_starts(length, side, overlap) for length in (high, wide))):
            shown = (inputs["size"][row] - inputs["size"].new_tensor([top, left])).clamp(0, side)[None]
            part = {"pixels": pixels[:, top : top + side, left : left + side][None], "size": shown, "full": shown}
            answers = answer(part)
            down, across = (
                tile_weights(side, overlap, start == 0, start + side >= length)[stride // 2 :: stride].to(answers)
                for start, length in ((top, high), (left, wide))
            )
            weights = down[:, None] * across
            place = tuple(slice(start // stride, (start + side) // stride) for start in (top, left))
            sums = answers.new_zeros(*counted.shape, answers.shape[-1]) if sums is None else sums
            sums[place] += answers * weights[..., None]
            counted[place] += weights
        assert sums is not None
        if whole is None:
            sides = (-(-length // stride) for length in inputs["pixels"].shape[2:])
            whole = sums.new_zeros(len(inputs["size"]), *sides, sums.shape[-1])
        own = tuple(slice(0, -(-length // stride)) for length in size)
        whole[row][own] = sums[own] / counted[own][..., None].to(sums)
    assert whole is not None
    return whole


def _there(inputs: Batch) -> Tensor:
    """Return where on canvases pictures are, ``[N, H, W]``."""
    size, (height, width) = inputs["size"], inputs["pixels"].shape[2:]
    rows = torch.arange(height, device=size.device) < size[:, :1]
    columns = torch.arange(width, device=size.device) < size[:, 1:]
    there: Tensor = rows[:, :, None] & columns[:, None]
    return there


def _row(targets: Mapping[str, Tensor], row: int) -> dict[str, Tensor]:
    return {name: targets[name][[row]] for name in ("labels", "mask")}


def _padded(inputs: Batch) -> dict[str, Tensor]:
    """Return pictures on canvases whose sides are multiples of 32."""
    height, width = inputs["pixels"].shape[2:]
    return {**inputs, "pixels": F.pad(inputs["pixels"], (0, -width % _DIVIDED, 0, -height % _DIVIDED))}


def _resized(logits: Tensor, size: list[int]) -> Tensor:
    """Return logits ``[h, w, C]`` of as many pixels as a file has."""
    if list(logits.shape[:2]) == size:
        return logits
    moved = logits.permute(2, 0, 1)[None]
    return F.interpolate(moved, size, mode="bilinear", align_corners=False)[0].permute(1, 2, 0)


def _dice(outputs: Mapping[str, Tensor], targets: Batch, classes: int) -> Tensor:
    """Return the soft Dice loss of pictures, weighed by their pixels."""
    labels, asked = of_elements(outputs["mask"], targets)
    shares = outputs["logits"].softmax(-1) * asked[..., None]
    true = F.one_hot(labels, classes).to(shares) * asked[..., None]
    both, all_of = (shares * true).sum((1, 2)), (shares + true).sum((1, 2))
    there = true.sum((1, 2)) > 0
    lost = ((1 - (2 * both + 1) / (all_of + 1)) * there).sum(1) / there.sum(1).clamp(min=1)
    weights = asked.sum((1, 2))
    mean: Tensor = (lost * weights).sum() / weights.sum().clamp(min=1)
    return mean


def _codes_of(labels: Tensor, asked: Tensor, size: Tensor, stride: int) -> Tensor:
    """Return the code of each cell of a picture, ``[high, wide]``, -1 where it has none.

    Args:
        labels, asked: ``[H, W]`` codes of pixels, and which of them have one; at least of the picture.
        size: h and w of it.
        stride: pixels of a cell's side.
    """
    height, width = size.tolist()
    labels, asked = labels[:height, :width], asked[:height, :width]
    fill = (0, -width % stride, 0, -height % stride)

    def counted(pixels: Tensor) -> Tensor:
        cells = F.avg_pool2d(F.pad(pixels.float(), fill)[None, None], stride)
        return (cells[0, 0] * stride**2).round()

    of_picture, best = counted(torch.ones_like(asked)), None
    codes = torch.full(of_picture.shape, -1, device=labels.device)
    there = torch.unique(labels[asked]).tolist()
    for code in there:
        own = counted(asked & (labels == code))
        shares = own / of_picture
        better = shares >= _MOST_OF if best is None else (shares >= _MOST_OF) & (shares > best)
        best = shares.clone() if best is None else torch.maximum(best, shares)
        codes[better] = code
    for code in there:  # so small that no cell is mostly of it
        if not (codes == code).any():
            own = counted(asked & (labels == code))
            codes[own == own.max()] = code
    return codes


@dataclass(frozen=True)
class _OfOneClass:
    """Makes targets of masks that show one class and are 0 elsewhere, of which nothing is learned there."""

    ignored: tuple[int, ...]

    def __call__(self, ids: Tensor) -> dict[str, Tensor]:
        values = [value for value in torch.unique(ids).tolist() if value and value not in self.ignored]
        if len(values) > 1:
            raise DataError(
                f"a mask of one class is 0 where it is not, and one other value where it is; this has "
                f"{few(map(str, values))}: give (mask == {values[0]}), or learn all of them at once by fit"
            )
        return {"labels": torch.zeros_like(ids), "mask": ids == values[0] if values else torch.zeros_like(ids).bool()}
