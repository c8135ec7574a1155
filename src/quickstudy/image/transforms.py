"""Ready-made augmentation of pictures, by name: ``transform="flip_crop"``.

Each takes and returns a tensor ``[C, H, W]``, uint8 or floats of 0..1, of one size and type. They are torchvision's v2.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

from quickstudy.data.samples import TRANSFORMS, Transform
from quickstudy.data.samples import available_transforms as available_transforms
from quickstudy.errors import require

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


def _in_turn(parts: tuple[str, ...], pixels: Any) -> Any:
    for part in parts:
        pixels = _made(part, *pixels.shape[-2:])(pixels)
    return pixels


@cache
def _made(part: str, height: int, width: int) -> Transform:
    v2 = require("torchvision.transforms.v2", extra="image")
    make: dict[str, Any] = {
        "flip": v2.RandomHorizontalFlip,
        "mirror": partial(v2.RandomHorizontalFlip, 1.0),
        # By up to an eighth of each side; edges are mirrored outwards.
        "shift": partial(v2.RandomCrop, (height, width), (width // 8, height // 8), padding_mode="reflect"),
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
    TRANSFORMS.register(_name)(partial(_in_turn, _parts))
