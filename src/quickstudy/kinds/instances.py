"""An answer is objects in a picture with the pixels of each, or with points of each by name.

Shapes: N pictures, M objects of one, K that are found at most, J keypoints, C classes, H W pixels of the canvas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from quickstudy.batches import Batch
from quickstudy.errors import ConfigError, check_above_zero, require
from quickstudy.functional.detections import point_likeness
from quickstudy.functional.masks import in_runs, mask_overlaps
from quickstudy.kinds.annotated import uncoded_targets
from quickstudy.kinds.base import KINDS, Judged
from quickstudy.kinds.detection import Detection
from quickstudy.kinds.losses import Loss
from quickstudy.nets import Encoder


@KINDS.register("instance_segmentation")
@dataclass(frozen=True)
class InstanceSegmentation(Detection):
    """Objects, each with its class, its box and its pixels, by Mask R-CNN (https://arxiv.org/abs/1703.06870).

    A batch of targets has ``masks`` ``[N, M, H, W]`` beside those of ``Detection``, whose options it has. Average
    precision is that of masks.
    """

    detectors: ClassVar[tuple[str, ...]] = ("mask_rcnn",)

    detector: str = "mask_rcnn"

    def judge(self, encoder: Encoder, head: nn.Module, inputs: Batch, targets: Batch, loss: Loss) -> Judged:
        """Answer a batch, and judge the answers; see ``Kind.judge``. Masks end where canvases do, whatever fills them
        up: of what lies on their edge torchvision's pooling sees whether they go on."""
        height, width = inputs["pixels"].shape[2:]
        cut = {**targets, "masks": targets["masks"][..., :height, :width]}
        return super().judge(encoder, head, inputs, cut, loss)

    def _of_object(self, target: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {**super()._of_object(target), "masks": target["masks"]}

    def _overlaps(self, told: Any, true: Any, row: int, found: Any, there: Any, crowd: Any) -> Any:
        """Return the intersection over union ``[k, m]`` of masks found and masks there in one picture."""
        masks = true["masks"][row][there] > 0
        own = pasted(told["masks"][row][found], told["boxes"][row][found], masks.shape[1:])
        return mask_overlaps(own, masks, crowd)

    def _amiss(self, told: Any, true: Any, place: int | None, own: int | None) -> dict[str, Any]:
        """Return which pixels of an object that was found are missing, and which are too many."""
        if place is None or own is None:
            return {}
        there = true["masks"][0][own] > 0
        (found,) = pasted(told["masks"][0][[place]], told["boxes"][0][[place]], there.shape)
        return {"missing": there & ~found, "surplus": found & ~there}

    def _told(self, found: Mapping[str, Tensor], factor: Tensor, full: Sequence[int]) -> dict[str, Any]:
        told = super()._told(found, factor, full)
        (mask,) = pasted(found["masks"][None].numpy(), np.array([told["box"]]), full)
        return {**told, "mask": {"size": [*full], "counts": in_runs(mask)}}


@KINDS.register("keypoints")
@dataclass(frozen=True)
class Keypoints(Detection):
    """Objects, each with its class, its box and points, by Keypoint R-CNN (https://arxiv.org/abs/1703.06870).

    A batch of targets has ``keypoints`` ``[N, M, J, 3]`` beside those of ``Detection``, whose options it has: x, y and
    whether it is labelled (above 0). Average precision is by COCO's object keypoint similarity.

    Args:
        keypoint_names: J names; None: as the data says, else numbers.
        spread: how far people who label the same point are apart, in roots of an object's area: COCO's sigma.
        points: J names.
    """

    detectors: ClassVar[tuple[str, ...]] = ("keypoint_rcnn",)
    learned: ClassVar[tuple[str, ...]] = (*Detection.learned, "points")

    detector: str = "keypoint_rcnn"
    keypoint_names: Sequence[str] | None = None
    spread: float = 0.05
    points: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_above_zero(spread=self.spread)
        if self.keypoint_names is not None:
            object.__setattr__(self, "keypoint_names", tuple(map(str, self.keypoint_names)))

    def meet(self, data: Any, stage: str) -> Self:
        """Take the classes, and how many points an object has; see ``Kind.meet``."""
        met = super().meet(data, stage)
        if met.points:
            return met
        targets = uncoded_targets(data.table("train").annotations)
        found = next((one for one in targets if len(one["boxes"])), None)
        if found is None or "keypoints" not in found:
            raise ConfigError("no object of the training data has keypoints: there is nothing to learn")
        count = found["keypoints"].shape[1]
        names = self.keypoint_names or found.get("keypoint_names") or tuple(map(str, range(count)))
        if len(names) != count:
            raise ConfigError(f"keypoint_names has {len(names)} names, and objects have {count} points")
        return replace(met, points=tuple(names))

    @property
    def _further(self) -> dict[str, Any]:
        return {"keypoints": len(self.points)}

    def _of_object(self, target: Mapping[str, Tensor]) -> dict[str, Tensor]:
        points = target["keypoints"][..., : len(self.points), :3].clone()
        points[..., 2] = (points[..., 2] > 0).to(points)
        return {**super()._of_object(target), "keypoints": points}

    def _overlaps(self, told: Any, true: Any, row: int, found: Any, there: Any, crowd: Any) -> Any:
        """Return how alike points found and points there are, ``[k, m]``, in one picture."""
        boxes = true["boxes"][row][there, :4]
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
        points = true["keypoints"][row][there][:, : len(self.points)]
        return point_likeness(told["keypoints"][row][found], points, areas, self.spread)

    def _amiss(self, told: Any, true: Any, place: int | None, own: int | None) -> dict[str, Any]:
        """Return the points found beside the true ones, of those that are labelled."""
        if place is None or own is None:
            return {}
        found, there = told["keypoints"][0][place], true["keypoints"][0][own][: len(self.points)]
        pairs = zip(found.tolist(), there.tolist(), strict=True)
        return {"points": [(one[:2], other[:2]) for one, other in pairs if other[2] > 0]}

    def _told(self, found: Mapping[str, Tensor], factor: Tensor, full: Sequence[int]) -> dict[str, Any]:
        places = (found["keypoints"][:, :2] * factor).tolist()
        sure = found["keypoints_scores"].tolist()
        points = {name: [*place, score] for name, place, score in zip(self.points, places, sure, strict=True)}
        return {**super()._told(found, factor, full), "keypoints": points}


def pasted(masks: Any, boxes: Any, size: Sequence[int]) -> Any:
    """Return masks of boxes ``[k, 1, 28, 28]`` in pictures of a size, as bool ``[k, H, W]``.

    Args:
        masks: shares, of which from one half on a pixel is of the object.
        boxes: ``[k, 4]``
        size: H and W.
    """
    heads = require("torchvision.models.detection.roi_heads", extra="image")
    if not len(masks):
        return np.zeros((0, *size), np.bool_)
    whole = heads.paste_masks_in_image(
        torch.as_tensor(masks).float(), torch.as_tensor(boxes).float(), (int(size[0]), int(size[1]))
    )
    return (whole[:, 0] >= 0.5).numpy()
