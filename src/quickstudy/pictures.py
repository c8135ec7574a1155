"""From a picture in any form to a tensor."""

from __future__ import annotations

import io
import re
import stat
from numbers import Integral
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError, features
from torch import Tensor

from quickstudy.data.archives import MAX_FILE_BYTES
from quickstudy.data.samples import LOADS
from quickstudy.errors import ConfigError, DataError, meant

IMAGE_EXTENSIONS = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
    + ((".avif",) if features.check("avif") else ())
    + ((".jp2", ".j2k", ".jpx") if features.check("jpg_2000") else ())
    + tuple(ending for ending in (".heic", ".heif") if ending in Image.EXTENSION)  # once a plugin is registered
)
ADDRESS = re.compile(r"[a-z][a-z0-9]+:/")
"""How one on the internet begins, also one that a path was made of; a drive has one letter."""
MAX_PIXELS = 80_000_000
"""A picture that claims more pixels is refused before it is decoded: it would take over 240 MB."""
IMAGE_SIZE = 224
"""Pixels of a side where neither the user nor a trained model says otherwise."""
_THUMBNAIL = 64


def load_image(
    item: Any,
    image_size: int | tuple[int, int] | None = None,
    image_mode: Literal["RGB", "L"] = "RGB",
    max_pixels: int = MAX_PIXELS,
) -> Tensor:
    """Return a picture as a uint8 tensor ``[C, H, W]``.

    It is turned as its camera says, converted to ``image_mode``, resized so that it covers ``image_size``, and cut to
    the centre. What is transparent becomes white. A uint8 array ``[H, W, 3]`` (RGB) or ``[H, W]`` is a picture like any
    other; a tensor or another array is taken for ``[C, H, W]`` and returned as it is, also where its shape could be
    either, as ``[3, 3, 3]`` or ``[1, W, 3]``.

    Args:
        item: a path, bytes of an image file, a file of an archive, a PIL image, an array or a tensor.
        image_size: pixels, one number for a square or (height, width); None keeps the picture's own.
        image_mode: ``"RGB"`` for three channels or ``"L"`` for one.
        max_pixels: a file that claims more is refused before it is decoded.

    Raises:
        DataError: the file is missing, truncated, no image, or has more than ``max_pixels`` pixels.
        ConfigError: the size or the mode is none.
    """
    if isinstance(item, Tensor):
        return item
    if isinstance(item, np.ndarray) and _is_picture(item):
        item = Image.fromarray(item)
    if isinstance(item, np.ndarray):
        return torch.from_numpy(item if item.flags.writeable else item.copy())
    if image_mode not in ("RGB", "L"):
        raise ConfigError(f"image_mode={image_mode!r} is neither 'RGB' nor 'L'")
    size = None if image_size is None else height_width(image_size)
    if isinstance(item, Image.Image):
        return _to_tensor(item, size, image_mode)
    name = f"the picture of {len(item)} bytes" if isinstance(item, bytes) else f"'{item}'"
    content = _content(item, name)
    try:
        with Image.open(io.BytesIO(content)) as image:
            _check_pixels(name, image.width, image.height, max_pixels)
            if size is not None and image.format == "JPEG":
                image.draft(image_mode, (2 * size[1], 2 * size[0]))  # decodes a large photograph at a part of its size
            return _to_tensor(image, size, image_mode)
    except (DataError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise DataError(f"{name} is no image that can be read (or its beginning is damaged)") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{name} claims too many pixels: {error}. Make the picture smaller first") from error
    except Exception as error:  # damage makes decoders raise almost anything
        told = f"{name} is a damaged image, or of a kind that cannot be decoded: {error}. Replace it"
        raise DataError(told) from error


LOADS.register("image")(load_image)


def thumbnail_of(picture: Tensor) -> bytes:
    """Return a small JPEG of a picture, uint8 ``[C, H, W]``; nothing for what is none."""
    if picture.dtype != torch.uint8 or picture.ndim != 3 or picture.shape[0] not in (1, 3):
        return b""
    image = from_tensor(picture)
    image.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BILINEAR)
    content = io.BytesIO()
    image.save(content, "JPEG", quality=80)
    return content.getvalue()


def from_tensor(picture: Tensor) -> Image.Image:
    """Return a PIL image of a uint8 tensor ``[C, H, W]`` with one or three channels."""
    pixels = picture.cpu().numpy()
    return Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def _is_picture(array: NDArray[Any]) -> bool:
    colours_last = array.ndim == 3 and array.shape[2] == 3 and array.shape[0] not in (1, 3)
    return array.dtype == np.uint8 and (array.ndim == 2 or colours_last)


def _content(item: Any, name: str) -> bytes:
    if isinstance(item, bytes):
        return item
    if not isinstance(item, str) and not hasattr(item, "read_bytes"):
        raise DataError(f"expected a picture: a path, bytes, a PIL image, an array or a tensor, not {item!r}")
    path = Path(item) if isinstance(item, str) else item
    try:
        if isinstance(path, Path):
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise DataError(f"{name} is no file (a folder, a pipe or a device)")
            if status.st_size > MAX_FILE_BYTES:
                raise DataError(f"{name} has {status.st_size:,} bytes; more than {MAX_FILE_BYTES:,} are refused")
        content: bytes = path.read_bytes()
    except OSError as error:
        why = "addresses are not read, download it first" if ADDRESS.match(str(item)) else error.strerror
        raise DataError(f"{name} cannot be opened: {why}") from error
    return content


def height_width(image_size: object) -> tuple[int, int]:
    """Return (height, width) in pixels.

    Raises:
        ConfigError: it is neither one number nor two, or more than ``MAX_PIXELS``.
    """
    pair = (image_size, image_size) if isinstance(image_size, Integral) else image_size
    whole = isinstance(pair, (tuple, list)) and all(isinstance(n, Integral) and not isinstance(n, bool) for n in pair)
    if not isinstance(pair, (tuple, list)) or not whole or len(pair) != 2 or min(pair) < 1:
        what = f"image_size={image_size!r} is neither a number of pixels nor (height, width)"
        raise ConfigError(what + meant("image_size", image_size))
    if pair[0] * pair[1] > MAX_PIXELS:
        raise ConfigError(f"image_size={image_size!r} is more than {MAX_PIXELS:,} pixels")
    return int(pair[0]), int(pair[1])


def _check_pixels(name: str, width: int, height: int, most: int) -> None:
    if width * height > most:
        raise DataError(
            f"{name} claims {width}x{height} pixels; more than {most:,} are refused. Make the picture smaller first"
        )


def _to_tensor(image: Image.Image, size: tuple[int, int] | None, image_mode: str) -> Tensor:
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed black and white; from_tensors takes them as they are")
    if image.mode.startswith("I"):  # 16 bits, whatever the name
        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    image = image.convert(image_mode)
    if size is not None and image.size != (size[1], size[0]):
        image = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(image, np.uint8))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous()
