"""Pictures that are shown as a whole, and places in them: from the file's pixels to those of the network and back.

Whoever tells of places needs all of a picture in its own shape. It is brought to the corner of a canvas of one size, so
that no answer depends on the pictures beside it; the rest is black.

Shapes: C H W pixels of the canvas, h w those of the picture on it, M objects, K keypoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ImageDraw
from torch import Tensor

from quickstudy.batches import Batch
from quickstudy.errors import DataError
from quickstudy.image.drawing import COLOURS
from quickstudy.modality.thumbnails import from_tensor
from quickstudy.modality.values import as_uint8


def fitted_in(
    pixels: Tensor,
    canvas: tuple[int, int] | None,
    interpolation: Literal["bicubic", "bilinear"] = "bicubic",
    *,
    enlarge: bool = True,
) -> dict[str, Tensor]:
    """Return ``{"pixels": uint8 [C, H, W], "size": [2], "full": [2]}`` of a picture.

    Args:
        pixels: ``[C, h, w]``, uint8, or floats of 0..1 or 0..255.
        canvas: H and W, which it is scaled to fit into; None: as large as it is.
        interpolation: over all pixels that become one.
        enlarge: whether one that is smaller is scaled, too.

    Raises:
        DataError: it is no picture, or has values beyond.

    >>> fitted_in(torch.zeros(3, 100, 50, dtype=torch.uint8), (60, 60))["size"].tolist()
    [60, 30]
    """
    drawn = pixels if pixels.dtype == torch.uint8 else as_uint8(pixels)
    if drawn is None or drawn.ndim != 3 or 0 in drawn.shape:
        raise DataError(
            f"a picture here is uint8 [C, H, W], or floats of 0..1 or 0..255, and not {pixels.dtype} of shape "
            f"{tuple(pixels.shape)}"
        )
    full = drawn.shape[1:]
    height, width = canvas or full
    factor = min(height / full[0], width / full[1])
    factor = factor if enlarge else min(factor, 1.0)
    size = [min(most, max(1, round(side * factor))) for side, most in zip(full, (height, width), strict=True)]
    if size != list(full):
        drawn = F.interpolate(drawn[None], size, mode=interpolation, antialias=True)[0]
    if size != [height, width]:
        drawn = F.pad(drawn, (0, width - size[1], 0, height - size[0]))
    return {"pixels": drawn, "size": torch.tensor(size), "full": torch.tensor(full)}


def part_shown(example: Mapping[str, Tensor]) -> Tensor:
    """Return the pixels ``[C, h, w]`` of the picture alone."""
    height, width = example["size"].tolist()
    return example["pixels"][:, :height, :width]


def scale_of(example: Mapping[str, Tensor]) -> Tensor:
    """Return by how much file's pixels are multiplied to be those of the canvas, ``[..., 2]``, of x and y."""
    return (example["size"] / example["full"]).flip(-1)


def on_canvas(boxes: Tensor, example: Mapping[str, Tensor]) -> Tensor:
    """Return boxes ``[M, 4]``, or points ``[..., 2]``, of a file's pixels in those of the canvas."""
    return boxes * scale_of(example).to(boxes.dtype).repeat(boxes.shape[-1] // 2)


def shown(example: Batch) -> Tensor:
    """Return the picture of an example ``[3, h, w]`` with what its target tells of it.

    Args:
        example: with ``pixels`` and ``size``; of the target ``objects``, with ``boxes`` ``[M, 4]``, ``labels`` and
            ``mask`` ``[M]``, and maybe ``masks`` ``[M, H, W]`` and ``keypoints`` ``[M, J, 3]``; or ``labels``
            ``[H, W]``, the class of each pixel, -1 where there is none, or ``[H, W, C]``, several.
    """
    pixels = part_shown(example)
    pixels = pixels.expand(3, -1, -1)
    height, width = pixels.shape[1:]
    objects = example.get("objects")
    if "labels" in example:
        labels = example["labels"][:height, :width]
        if labels.ndim == 3:  # of several the first
            labels = torch.where(labels.any(-1), labels.argmax(-1) + 1, 0)
        return _tinted(pixels, labels - 1, labels > 0).contiguous()
    if objects is None:
        return pixels.contiguous()
    there = objects["mask"].bool()
    if "masks" in objects:
        for place, mask in enumerate(objects["masks"][there, :height, :width] > 0):
            pixels = _tinted(pixels, torch.full((height, width), place), mask)
    image = from_tensor(pixels.contiguous()).convert("RGB")
    draw, line = ImageDraw.Draw(image), max(1, round(max(image.size) / 100))
    for box, code in zip(objects["boxes"][there].tolist(), objects["labels"][there].tolist(), strict=True):
        draw.rectangle(box[:4], outline=COLOURS[code % len(COLOURS)], width=line)
    for place, own in enumerate(objects["keypoints"][there].unbind(1) if "keypoints" in objects else ()):
        for x, y, seen in own.tolist():
            if seen:
                draw.ellipse((x - line, y - line, x + line, y + line), fill=COLOURS[(place + 1) % len(COLOURS)])
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def _tinted(pixels: Tensor, codes: Tensor, there: Tensor) -> Tensor:
    """Return a picture ``[3, h, w]`` half in the colours of codes ``[h, w]``, where there is something."""
    table = torch.tensor([[int(one[place : place + 2], 16) for place in (1, 3, 5)] for one in COLOURS])
    tint = table[codes % len(COLOURS)].permute(2, 0, 1)
    return torch.where(there, (pixels.long() + tint) // 2, pixels.long()).to(torch.uint8)
