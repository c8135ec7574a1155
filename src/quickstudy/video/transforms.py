"""Ready-made augmentation of videos, by name: ``transform="video_flip_crop"``.

Each takes and returns a clip ``[C, T, H, W]``, uint8 or floats of 0..1, or several; frames of a clip are changed alike.
They are torchvision's v2.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from quickstudy.batches import Batch, in_windows, stack, windows_of
from quickstudy.data.samples import TRANSFORMS
from quickstudy.errors import require

_NAMED = {
    "video_flip": ("flip",),
    "video_crop": ("shift",),
    "video_flip_crop": ("flip", "shift"),
    "video_zoom": ("part",),
    "video_color": ("light",),
    "video_zoom_color": ("part", "light"),
    "video_views": ("small_part", "light", "fade"),
}


def _in_turn(parts: tuple[str, ...], clip: Batch) -> Batch:
    if in_windows(clip):
        return {"windows": stack([_in_turn(parts, one) for one in windows_of(clip)])}
    frames = clip.transpose(0, 1)  # of which v2 draws once for all
    for part in parts:
        frames = _made(part, *frames.shape[-2:])(frames)
    return frames.transpose(0, 1).contiguous()


def _made(part: str, height: int, width: int) -> Any:
    v2: Any = require("torchvision.transforms.v2", extra="video")
    make: dict[str, Any] = {
        "flip": v2.RandomHorizontalFlip,
        # By up to an eighth of each side; edges are mirrored outwards.
        "shift": partial(v2.RandomCrop, (height, width), (width // 8, height // 8), padding_mode="reflect"),
        "part": partial(v2.RandomResizedCrop, (height, width), scale=(0.35, 1), antialias=True),
        "small_part": partial(v2.RandomResizedCrop, (height, width), scale=(0.2, 1), antialias=True),
        "light": partial(v2.ColorJitter, 0.4, 0.4, 0.4),
        "fade": partial(v2.RandomGrayscale, 0.2),
    }
    return make[part]()


for _name, _parts in _NAMED.items():
    TRANSFORMS.register(_name)(partial(_in_turn, _parts))
