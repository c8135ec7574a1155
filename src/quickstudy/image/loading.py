"""From a picture in any form to a tensor."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from quickstudy.errors import ConfigError, DataError

IMAGE_EXTENSIONS = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"))
MAX_PIXELS = 100_000_000
"""A picture that claims more pixels is refused before it is decoded: it would take over 300 MB."""


def load_image(item: Any, image_size: int | tuple[int, int] | None = None, image_mode: Literal["RGB", "L"] = "RGB") -> Tensor:
    """Return a picture as a uint8 tensor ``[C, H, W]``.

    It is turned as its camera says, converted to ``image_mode``, resized so that it covers ``image_size``, and cut to
    the centre. A tensor or an array ``[C, H, W]`` is returned as it is.

    Args:
        item: a path, bytes of an image file, an open file of an archive, a PIL image, an array or a tensor.
        image_size: pixels, one number for a square or (height, width); None keeps the picture's own.
        image_mode: ``"RGB"`` for three channels or ``"L"`` for one.

    Raises:
        DataError: the file is missing, truncated, no image, or has more than ``MAX_PIXELS`` pixels.
    """
    if isinstance(item, Tensor):
        return item
    if isinstance(item, np.ndarray):
        return torch.from_numpy(item)
    if image_mode not in ("RGB", "L"):
        raise ConfigError(f"image_mode={image_mode!r} is neither 'RGB' nor 'L'")
    if isinstance(item, Image.Image):
        return _to_tensor(item, image_size, image_mode)
    name = f"{len(item)} bytes" if isinstance(item, bytes) else os.fspath(item) if isinstance(item, os.PathLike) else str(item)
    try:
        content = item if isinstance(item, bytes) else Path(item).read_bytes() if isinstance(item, str) else item.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # judged by our own limit below
            with Image.open(io.BytesIO(content)) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise DataError(
                        f"'{name}' claims {image.width}x{image.height} pixels; more than {MAX_PIXELS:,} are refused. "
                        "Make the picture smaller first"
                    )
                return _to_tensor(image, image_size, image_mode)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise DataError(f"'{name}' cannot be opened: {error.strerror}") from error
    except UnidentifiedImageError as error:
        raise DataError(f"'{name}' is no image that can be read (or its beginning is damaged)") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"'{name}' claims too many pixels: {error}") from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise DataError(f"'{name}' is a damaged image: {error}") from error


def _to_tensor(image: Image.Image, image_size: int | tuple[int, int] | None, image_mode: str) -> Tensor:
    if image_size is not None and image.format == "JPEG":
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        image.draft(image_mode, (2 * width, 2 * height))  # decodes a large photograph at a fraction of its size
    image = ImageOps.exif_transpose(image)
    if image.mode in ("P", "PA", "LA", "RGBA", "RGBa", "La"):
        rgba = image.convert("RGBA")  # what is transparent is white, as a viewer shows it
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image = image.convert(image_mode)
    if image_size is not None:
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        if image.size != (width, height):
            image = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(image, np.uint8))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous()
