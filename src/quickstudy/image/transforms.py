"""Ready-made augmentation of pictures, by name: ``transform="flip_crop"``.

Each takes and returns a tensor ``[C, H, W]``, uint8 or floats of 0..1, of one size and type. They are torchvision's v2.
Of a sample of a whole picture and what there is in it, both move together: boxes, masks, keypoints, the class of each
pixel. What a crop leaves nearly nothing of is left out, with all that is told of it; a flip changes the names of left
and right keypoints.

Shapes: C H W pixels, h w those of a whole picture on its canvas, M objects, K keypoints.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from quickstudy.batches import Batch
from quickstudy.data.samples import TRANSFORMS, Transform, of_samples
from quickstudy.data.samples import available_transforms as available_transforms
from quickstudy.errors import ConfigError, require
from quickstudy.image.whole import part_shown

LEFT_OVER = 0.1
"""Of an object's area, the least that a crop must leave of it."""
_CORNERS = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
"""By which it is seen whether a transform mirrors."""
_OF_CLASSES_ALONE = "trivial", "rand"
"""Parts that torchvision has for pictures without places."""

_NAMED = {
    "flip": ("flip",),
    "mirror": ("mirror",),
    "crop": ("shift",),
    "flip_crop": ("flip", "shift"),
    "zoom": ("flip", "part"),
    "color": ("light",),
    "zoom_color": ("flip", "part", "light"),
    "turn": ("rotate",),
    "trivial_augment": ("trivial",),
    "rand_augment": ("rand",),
    "views": ("flip", "small_part", "tint", "fade"),
}


def _in_turn(parts: tuple[str, ...], sample: Batch) -> Batch:
    """Return a sample, or its input alone, through parts of an augmentation."""
    if isinstance(sample, Tensor):
        for part in parts:
            sample = _made(part, *sample.shape[-2:])(sample)
        return sample
    if "input" not in sample:
        return _in_turn(parts, {"input": sample})["input"]
    if isinstance(sample["input"], Tensor):
        return {**sample, "input": _in_turn(parts, sample["input"])}
    return moved(partial(_each_in_turn, parts), sample)


def _each_in_turn(parts: tuple[str, ...], *places: Any) -> tuple[Any, ...]:
    height, width = places[0].shape[-2:]
    for part in parts:
        if part in _OF_CLASSES_ALONE and len(places) > 1:
            raise ConfigError(
                f"transform='{next(name for name, own in _NAMED.items() if own == parts)}' moves pictures, and not "
                "what is told of places in them: take 'flip', 'crop', 'zoom', 'color', 'zoom_color' or 'turn'"
            )
        whole = part == "shift" and len(places) > 1
        made: Any = _made("shift_into_black" if whole else part, height, width)
        found = made(*places)
        places = found if isinstance(found, tuple) else (found,)
    return places


def moved(transform: Any, sample: Mapping[str, Batch]) -> dict[str, Batch]:
    """Return a sample of a whole picture through a transform of torchvision's v2, with what is told of its places.

    Args:
        transform: called with the picture ``[C, h, w]`` and ``tv_tensors`` of its target, returns as many of that size.
        sample: ``{"input": {"pixels", "size", "full"}, "target": ...}``, as ``image.whole`` has it, or without a
            target; of the target, ``boxes`` ``[M, 4]``, ``masks`` ``[M, H, W]`` and ``keypoints`` ``[M, K, 3]`` move,
            of which ``swap`` ``[M, K]`` says which takes the place of which in a mirror; all other leaves are of
            objects, too, and go with them. Or it is ``labels`` and ``mask`` ``[H, W]``, or ``[H, W, C]``.
    """
    tv = require("torchvision.tv_tensors", extra="image")
    whole, told = sample["input"], sample.get("target")
    if isinstance(told, Tensor):  # ids, which no model has met
        ids = {"labels": told, "mask": torch.ones_like(told, dtype=torch.bool)}
        masked = moved(transform, {**sample, "target": ids})
        return {**masked, "target": masked["target"]["labels"]}
    target = dict(told or {})
    pixels = part_shown(whole)
    height, width = pixels.shape[1:]
    given: dict[str, Any] = {}
    if "boxes" in target:
        given["boxes"] = _unclamped(tv.BoundingBoxes, (height, width))(target["boxes"], format="XYXY")
    if "masks" in target:
        given["masks"] = tv.Mask(target["masks"][:, :height, :width])
    if "keypoints" in target:
        points = torch.cat([_CORNERS, target["keypoints"][..., :2].flatten(0, 1)])
        given["keypoints"] = _unclamped(tv.KeyPoints, (height, width))(points)
    if "boxes" not in target and "labels" in target:  # 0 is of no class, and fills
        coded = (target["labels"] + 1) * target["mask"]
        given["labels"] = tv.Mask(_first(coded)[:, :height, :width])
    found = transform(tv.Image(pixels), *given.values())
    found = found if isinstance(found, tuple) else (found,)
    canvas = whole["pixels"].clone()
    canvas[:, :height, :width] = found[0].as_subclass(Tensor)
    placed = {name: part.as_subclass(Tensor) for name, part in zip(given, found[1:], strict=True)}
    made: dict[str, Batch] = {**sample, "input": {**whole, "pixels": canvas}}
    if "labels" in placed:
        coded = torch.zeros_like(target["labels"])
        moved_labels = placed["labels"]
        coded[:height, :width] = moved_labels.permute(1, 2, 0) if coded.ndim == 3 else moved_labels[0]
        return {**made, "target": {**target, "labels": (coded - 1).clamp(min=0), "mask": coded > 0}}
    if "boxes" in placed:
        made["target"] = _of_objects(target, placed, pixels.shape[1:])
    return made


def _first(coded: Tensor) -> Tensor:
    """Return classes of pixels ``[H, W]``, or several labels ``[H, W, C]``, as planes, ``[1 or C, H, W]``."""
    return coded.permute(2, 0, 1) if coded.ndim == 3 else coded[None]


def _of_objects(target: Mapping[str, Tensor], placed: Mapping[str, Tensor], size: Sequence[int]) -> dict[str, Tensor]:
    """Return the target of objects that were moved, without those that hardly anything is left of."""
    height, width = size
    boxes = placed["boxes"].clone()
    whole = _area(boxes)
    made = {**target}
    if "masks" in placed:  # whose boxes are known exactly
        masks = torch.zeros_like(target["masks"])
        masks[:, :height, :width] = placed["masks"]
        before, after = (one.flatten(1).sum(1) for one in (target["masks"], masks))
        left = after > LEFT_OVER * before
        made["masks"] = masks
        boxes[left] = _around(masks[left]).to(boxes.dtype)
    boxes[:, 0::2], boxes[:, 1::2] = boxes[:, 0::2].clamp(0, width), boxes[:, 1::2].clamp(0, height)
    kept = (_area(boxes) > LEFT_OVER * whole) & (boxes[:, 2] - boxes[:, 0] >= 1) & (boxes[:, 3] - boxes[:, 1] >= 1)
    if "masks" in placed:
        kept &= left
    made["boxes"] = boxes
    if "keypoints" in placed:
        (right, down), points = placed["keypoints"][1:3] - placed["keypoints"][0], placed["keypoints"][3:]
        points = points.view(len(boxes), -1, 2).to(target["keypoints"].dtype)
        inside = (points >= 0).all(-1) & (points[..., 0] < width) & (points[..., 1] < height)
        told = target["keypoints"][..., 2:]
        points = torch.cat([points, told], -1) * (inside[..., None] & (told > 0))
        if "swap" in target and right[0] * down[1] < right[1] * down[0]:  # a mirror
            points = points.gather(1, target["swap"][..., None].expand(-1, -1, 3))
        made["keypoints"] = points
    return {name: leaf[kept] for name, leaf in made.items()}


def _unclamped(kind: Any, size: tuple[int, int]) -> Any:
    """Return what makes places that are not cut at the picture's edges, where torchvision can do so."""
    free = {"clamping_mode": None} if "clamping_mode" in inspect.signature(kind.__new__).parameters else {}
    return partial(kind, canvas_size=size, **free)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _around(masks: Tensor) -> Tensor:
    """Return the boxes ``[M, 4]`` around masks ``[M, H, W]``, each with a pixel, up to the far sides of pixels."""
    ops = require("torchvision.ops", extra="image")
    found: Tensor = ops.masks_to_boxes(masks)
    return found + torch.tensor([0, 0, 1, 1])


@cache
def _made(part: str, height: int, width: int) -> Transform:
    v2 = require("torchvision.transforms.v2", extra="image")
    make: dict[str, Any] = {
        "flip": v2.RandomHorizontalFlip,
        "mirror": partial(v2.RandomHorizontalFlip, 1.0),
        # By up to an eighth of each side; edges are mirrored outwards.
        "shift": partial(v2.RandomCrop, (height, width), (width // 8, height // 8), padding_mode="reflect"),
        "shift_into_black": partial(v2.RandomCrop, (height, width), (width // 8, height // 8)),
        "part": partial(v2.RandomResizedCrop, (height, width), scale=(0.35, 1), antialias=True),
        "small_part": partial(v2.RandomResizedCrop, (height, width), scale=(0.2, 1), antialias=True),
        "tint": lambda: v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8),
        "fade": partial(v2.RandomGrayscale, 0.2),
        "light": partial(v2.ColorJitter, 0.4, 0.4, 0.4),
        "rotate": partial(v2.RandomRotation, 15, interpolation=v2.InterpolationMode.BILINEAR),
        "trivial": v2.TrivialAugmentWide,
        "rand": v2.RandAugment,
    }
    made: Transform = make[part]()
    return made


for _name, _parts in _NAMED.items():
    TRANSFORMS.register(_name)(of_samples(partial(_in_turn, _parts)))
