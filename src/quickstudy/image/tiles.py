"""Pictures that are shown in their own pixels, however many: training is shown tiles of them.

Shapes: C H W pixels of the canvas, h w those of the picture on it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from quickstudy.batches import Batch, each
from quickstudy.errors import ConfigError, check_counts

MULTIPLE = 32
"""A tile's side, and the overlap, are multiples of it: so feature maps of a tile lie where those of the whole do."""


def check_tile(tile: int, overlap: float) -> None:
    """Check the side of tiles in pixels, and the share of it in which neighbours overlap.

    Raises:
        ConfigError: one is none.
    """
    check_counts(2 * MULTIPLE, tile=tile)
    if tile % MULTIPLE:
        near = round(tile / MULTIPLE) * MULTIPLE
        raise ConfigError(f"tile={tile}: the side of a tile is a multiple of {MULTIPLE} pixels; type tile={near}")
    if not isinstance(overlap, (int, float)) or isinstance(overlap, bool) or not 0 <= overlap <= 0.5:
        raise ConfigError(f"tile_overlap={overlap!r}: neighbours overlap in a share of their sides from 0 to 0.5")


def for_tiles(example: Mapping[str, Tensor], tile: int, overlap: float) -> dict[str, Tensor]:
    """Return a picture that is to be shown in tiles: on a canvas of one at least, with ``tile`` ``[2]``.

    Args:
        example: ``{"pixels": [C, h, w], "size", "full"}``, in its own pixels.
        tile: side of a tile, in pixels.
        overlap: of neighbours, as a share of the side; it is rounded up to a multiple of 32 pixels.
    """
    pixels = example["pixels"]
    spare = [max(0, tile - side) for side in pixels.shape[1:]]
    reach = math.ceil(overlap * tile / MULTIPLE) * MULTIPLE
    return {**example, "pixels": F.pad(pixels, (0, spare[1], 0, spare[0])), "tile": torch.tensor([tile, reach])}


def one_tile(sample: Mapping[str, Batch]) -> dict[str, Batch]:
    """Return a sample of one tile of a picture, anywhere in it, by torch's generator.

    Args:
        sample: ``{"input": ...}`` as ``for_tiles`` returns it, maybe with a ``target`` of leaves ``[h, w, ...]``.
    """
    whole: Any = sample["input"]
    side = int(whole["tile"][0])
    places = [int(torch.randint(max(0, length - side) + 1, ())) for length in whole["size"].tolist()]
    top, left = places
    size = torch.minimum(whole["size"], whole["tile"][:1])
    made = {**whole, "pixels": whole["pixels"][:, top : top + side, left : left + side], "size": size, "full": size}
    found = {**sample, "input": made}
    if "target" in sample:
        found["target"] = each(lambda leaf: leaf[top : top + side, left : left + side], sample["target"])
    return found
