"""An answer is a class of each pixel of a picture.

Shapes: N pictures, H W pixels of the canvas that all are on, h w of a picture on it, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.batches import Batch
from quickstudy.errors import ConfigError, DataError, check_choice, check_counts
from quickstudy.functional.masks import in_runs
from quickstudy.kinds.base import KINDS, Judged
from quickstudy.kinds.coco import coco_of
from quickstudy.kinds.losses import Loss
from quickstudy.kinds.predictions import plain_answer
from quickstudy.kinds.segmentation import Segmentation, of_elements
from quickstudy.nets import Encoder
from quickstudy.nets.decoders import DECODERS, OF_BACKBONE, MapDecoder

_DIVIDED = 32
"""Sides of what a network is shown are multiples of it."""


@KINDS.register("semantic_segmentation")
@dataclass(frozen=True)
class SemanticSegmentation(Segmentation):
    """A class of each pixel; the backbone makes feature maps (``Encoder.maps``), and a decoder tells of pixels by them.

    A batch of targets is ``{"labels": [N, H, W], "mask": [N, H, W]}`` of codes, and where a pixel has one. The loss is
    the mean over all pixels that have one, of all pictures.

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
    """

    placed: ClassVar[bool] = True
    forms: ClassVar[tuple[str, ...]] = ("classes", "probabilities", "logits")
    schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {
            "size": {"type": "array", "items": {"type": "integer"}},
            "masks": {"type": "array", "items": {"type": "object"}},
        },
    }

    hidden: int = 0
    decoder: str = "unet"
    width: int = 128
    dice: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("decoder", self.decoder, *DECODERS)
        check_counts(width=self.width)
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

    # ---- the network

    def head(self, encoder: Encoder, example: Batch) -> nn.Module:
        """Make the decoder for the maps that the encoder makes of an example."""
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
        padded = _padded(inputs)
        height, width = inputs["pixels"].shape[2:]
        logits = head(encoder.maps(padded), padded["pixels"])[:, :, :height, :width].permute(0, 2, 3, 1)
        size = inputs["size"]
        rows = torch.arange(height, device=size.device) < size[:, :1]
        columns = torch.arange(width, device=size.device) < size[:, 1:]
        return {"logits": logits, "mask": rows[:, :, None] & columns[:, None], "size": size, "full": inputs["full"]}

    def judge(self, encoder: Encoder, head: nn.Module, inputs: Batch, targets: Batch, loss: Loss) -> Judged:
        """Answer a batch, and judge the answers to the pixels that have a class; see ``Kind.judge``."""
        judged = super().judge(encoder, head, inputs, targets, loss)
        if not self.dice:
            return judged
        return judged._replace(loss=judged.loss + self.dice * _dice(judged.outputs, targets, self.choices))

    # ---- answers

    def answers(self, outputs: Mapping[str, Tensor], form: str) -> Any:
        """Return for each picture an answer of each of its file's pixels.

        Args:
            outputs: of the network.
            form: ``"classes"``: N tensors ``[h, w]`` of ids, as the targets have them; ``"probabilities"`` or
                ``"logits"``: N tensors ``[h, w, C]``.

        Raises:
            DataError: an answer is not a number.
        """
        full = outputs["full"].tolist()
        logits = super().answers(outputs, "logits")
        whole = [_resized(own, size) for own, size in zip(logits, full, strict=True)]
        if form == "logits":
            return whole
        if form == "probabilities":
            return [one.softmax(-1) for one in whole]
        firsts = torch.tensor([self.ids[self.codes.index(code)] for code in range(self.choices)] or [0])
        return [firsts.to(one.device)[one.argmax(-1)] for one in whole]

    def written(self, answer: Any, file: str, true: Any = None, top: int = 1, unknown: bool = True) -> list[Any]:
        """Return one row, of masks in run lengths; see ``Kind.written``."""
        return [self.row(file, plain_answer(self.in_json(answer)))]

    def in_json(self, answer: Any) -> dict[str, Any]:
        """Return the size, and of each class that is there a mask in run lengths, as COCO has them; see ``in_runs``."""
        by_id = dict(zip(self.ids, self.codes, strict=True))
        codes = np.vectorize(by_id.__getitem__, otypes=[np.int64])(answer.cpu().numpy()) if answer.numel() else answer
        there = np.unique(np.asarray(codes)).tolist()
        masks = [
            {"label": self.classes[code], "share": float((codes == code).mean()), "counts": in_runs(codes == code)}
            for code in there
        ]
        return {"size": list(answer.shape), "masks": masks}

    def coco(self, answers: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
        """Return of each picture a mask of each class that is there, as COCO's JSON; see ``Kind.coco``."""
        told = [self.in_json(answer) for answer in answers]
        objects = [
            [{"label": one["label"], "mask": {"size": each["size"], "counts": one["counts"]}} for one in each["masks"]]
            for each in told
        ]
        return coco_of(self.classes, names, [each["size"] for each in told], objects)


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
