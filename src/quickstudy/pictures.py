"""Former home of ``image.modality``, for as long as files here import it."""

import torch
from torch import Tensor

from quickstudy.data.samples import LOADS
from quickstudy.image.modality import (
    ADDRESS,
    IMAGE_EXTENSIONS,
    IMAGE_SIZE,
    MAX_PIXELS,
    from_tensor,
    height_width,
    load_image,
    of_one_scale,
    scale_together,
    separated,
    thumbnail_of,
    whole_numbers,
)
from quickstudy.modality import Scale, as_uint8, scale_of
from quickstudy.modality import rescaled as as_taught
from quickstudy.modality import widest as together

__all__ = [
    "ADDRESS",
    "IMAGE_EXTENSIONS",
    "IMAGE_SIZE",
    "MAX_PIXELS",
    "WHITER",
    "Scale",
    "almost_black",
    "as_taught",
    "as_uint8",
    "from_tensor",
    "height_width",
    "load_image",
    "of_one_scale",
    "scale_of",
    "scale_together",
    "separated",
    "thumbnail_of",
    "together",
    "whole_numbers",
]

WHITER = "whole numbers of 0 and 1, almost black where 255 is white: multiply them by 255, or give pictures > 0"
"""What such pictures are, and what helps."""

LOADS.register("image")(load_image)


def almost_black(pixels: Tensor) -> bool:
    """Whether pictures are bytes of 0 and 1, which are almost black where 255 is white."""
    return pixels.dtype == torch.uint8 and pixels.ndim > 2 and pixels.numel() > 0 and int(pixels.max()) == 1
