"""What a picture is: from any form of one to a tensor."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from types import MappingProxyType
from typing import Any, Literal, Self

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError, features
from torch import Tensor, nn

from quickstudy.batches import Batch
from quickstudy.data.likeness import SIDE, small
from quickstudy.data.samples import ADDRESS as ADDRESS
from quickstudy.data.samples import Sent, content_of, file_content, named, of_samples, tensor_of
from quickstudy.errors import ConfigError, DataError, DataWarning, brief, check_choice, check_counts, meant
from quickstudy.image.drawing import drawing, drawn_mistakes
from quickstudy.image.tiles import check_tile, for_tiles, one_tile
from quickstudy.image.whole import fitted_in, part_shown, shown
from quickstudy.modality import MODALITIES, Modality, Wire
from quickstudy.modality.pixels import by_network, channels_last, whole_numbers
from quickstudy.modality.thumbnails import from_tensor, thumbnail_of
from quickstudy.modality.values import Sighted, Values, as_uint8

IMAGE_EXTENSIONS = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
    + ((".avif",) if "avif" in features.modules and features.check("avif") else ())
    + ((".jp2", ".j2k", ".jpx") if features.check("jpg_2000") else ())
    + tuple(ending for ending in (".heic", ".heif") if ending in Image.EXTENSION)  # once a plugin is registered
)
MAX_PIXELS = 80_000_000
"""A picture that claims more pixels is refused before it is decoded: it would take over 240 MB."""
_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
IMAGE_SIZE = 224
"""Pixels of a side where neither the user nor a trained model says otherwise."""
_RAW_SIZE = 32
"""Pixels of a side where they are compared as they are."""


def load_image(
    item: Any,
    image_size: int | tuple[int, int] | None = None,
    image_mode: Literal["RGB", "L"] = "RGB",
    max_pixels: int = MAX_PIXELS,
    image_depth: Literal["auto", 8, 10, 12, 16] = "auto",
    resize: int | Literal["cover", "shortest", "squash", "fit", "shrink"] = "cover",
    interpolation: Literal["bicubic", "bilinear"] = "bicubic",
) -> Batch:
    """Return a picture as a uint8 tensor ``[C, H, W]``; with ``resize="fit"`` or ``"shrink"`` in a dict with its sizes.

    It is turned as its camera says, converted to ``image_mode``, resized so that it covers ``image_size``, and cut to
    the centre. What is transparent becomes white. An array or tensor ``[H, W]``, ``[H, W, 3]`` (RGB), ``[H, W, 4]``
    (with alpha), ``[H, W, 1]`` or ``[H, W, 2]`` is a picture like any other, of whole numbers 0..255, or floats of 0..1
    or 0..255; floats beyond stay as they are. All else is taken for ``[C, H, W]`` and keeps its size and its values,
    also where its shape could be either, as ``[3, 3, 3]`` or ``[1, W, 3]``.

    Args:
        item: a path, bytes of an image file, an open file, a file of an archive, a PIL image, an array or a tensor.
        image_size: pixels, one number for a square or (height, width); None keeps the picture's own.
        image_mode: ``"RGB"`` for three channels or ``"L"`` for one.
        max_pixels: a file that claims more is refused before it is decoded.
        image_depth: bits of a pixel where a file has room for 16: 8, 10, 12 or 16; ``"auto"`` takes 16, and warns where
            a picture uses 12 or fewer, which comes out almost black.
        resize, interpolation: how it comes to its size, see ``Picture``.

    Raises:
        DataError: the file is missing, truncated, no image, or has more than ``max_pixels`` pixels.
        ConfigError: the size, the mode or the depth is none.
    """
    return Picture(image_size, image_mode, max_pixels, image_depth, resize, interpolation).load(item)


@MODALITIES.register("image")
@dataclass(frozen=True)
class Picture(Modality):
    """A picture, as a uint8 tensor ``[C, H, W]``; see ``load_image``.

    Args:
        image_size: pixels, one number for a square or (height, width); None keeps the picture's own.
        image_mode: ``"RGB"`` for three channels or ``"L"`` for one.
        max_pixels: a file that claims more is refused before it is decoded.
        image_depth: bits of a pixel where a file has room for 16: 8, 10, 12 or 16; ``"auto"`` takes 16, and warns where
            a picture uses 12 or fewer, which comes out almost black.
        resize: how it comes to ``image_size``. ``"cover"``: the largest part of its middle that has that shape is taken
            to that size at once. ``"shortest"``: its shorter side is brought to that of ``image_size``, and the centre
            cut out, as torchvision does; a number: to so many pixels, as transformers does. ``"squash"``: all of it is
            brought to that size, whatever its shape. A backbone that was trained so says so. ``"fit"``: all of it is
            shown in its own shape, as large as there is room for, in the corner of black pixels; an example is then
            ``{"pixels": [C, H, W], "size": [2], "full": [2]}``, where ``size`` is the height and width of what is
            shown, and ``full`` that of the file. Tasks that tell of places in a picture read so. ``"shrink"``:
            likewise, and a picture for which there is room keeps its own pixels.
        interpolation: ``"bicubic"`` or ``"bilinear"``, either over all pixels that become one.
        tile: with ``"fit"`` or ``"shrink"``, the side in pixels of square tiles, in which a picture is shown in its own
            pixels, whatever ``image_size`` is: training is shown one of them, anywhere, others all; None: it is shown
            at once.
        tile_overlap: of tiles beside each other, as a share of their sides.

    Raises:
        ConfigError: the size, the mode or the depth is none.
    """

    called = "pictures"
    on_hub = True
    extensions = IMAGE_EXTENSIONS
    wire = Wire("images", ("image/*",), {"type": "string", "contentEncoding": "base64", "contentMediaType": "image/*"})
    drawn_as = ".jpg"
    shown_as = "image/jpeg"
    backbone = "resnet18"
    views = "views"
    usual = MappingProxyType({"image_size": IMAGE_SIZE})
    of_network = ("image_size", "resize", "interpolation")
    of_elements = ("tile", "tile_overlap")
    advice = (
        "For images give the data image_size=84, say; a model that saw no data takes model.load_options = "
        "{'image_size': 84}"
    )
    makes_bytes = True
    function = staticmethod(load_image)

    image_size: int | tuple[int, int] | None = None
    image_mode: Literal["RGB", "L"] = "RGB"
    max_pixels: int = MAX_PIXELS
    image_depth: Literal["auto", 8, 10, 12, 16] = "auto"
    resize: int | Literal["cover", "shortest", "squash", "fit", "shrink"] = "cover"
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    tile: int | None = None
    tile_overlap: float = 0.25

    def __post_init__(self) -> None:
        check_choice("image_mode", self.image_mode, "RGB", "L")
        check_choice("image_depth", self.image_depth, "auto", 8, 10, 12, 16)
        check_choice("interpolation", self.interpolation, *_FILTERS)
        if isinstance(self.resize, int):
            check_counts(resize=self.resize)
        else:
            check_choice("resize", self.resize, "cover", "shortest", "squash", "fit", "shrink")
        if self.tile is not None:
            check_tile(self.tile, self.tile_overlap)
            if not self.whole:
                raise ConfigError(f"tile={self.tile} is of pictures that are shown whole: set resize='fit'")
        if self.image_size is not None:
            pair = height_width(self.image_size)
            object.__setattr__(self, "image_size", pair[0] if isinstance(self.image_size, Integral) else pair)

    @property
    def options(self) -> dict[str, Any]:
        """Its fields by name; those that nobody needs to know are left out where they are as by default."""
        return {"image_size": self.image_size, "image_mode": self.image_mode, **self._set}

    def load(self, item: Any) -> Batch:
        """Return a picture as ``load_image`` does."""
        if not self.whole:
            return self._pixels(item)
        pixels = replace(self, image_size=None, resize="cover", tile=None)._pixels(item)
        if self.tile is not None:
            return for_tiles(fitted_in(pixels, None), self.tile, self.tile_overlap)
        return fitted_in(pixels, self._size, self.interpolation, enlarge=self.resize == "fit")

    def draws(self) -> Callable[[Batch], Batch] | None:
        """Return what draws a tile of a picture in tiles."""
        return None if self.tile is None else of_samples(one_tile)

    @property
    def whole(self) -> bool:
        """Whether all of a picture is shown in its own shape."""
        return self.resize in ("fit", "shrink")

    def _pixels(self, item: Any) -> Tensor:
        if isinstance(item, np.ndarray | Tensor):
            pixels = whole_numbers(item if isinstance(item, Tensor) else tensor_of(item))
            if pixels.ndim != 2 and not channels_last(pixels.shape):
                return pixels
            drawn = pixels if pixels.dtype == torch.uint8 else as_uint8(pixels)
            if drawn is None:
                return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)
            item = Image.fromarray((drawn[..., 0] if drawn.shape[2:] == (1,) else drawn).numpy())
        if isinstance(item, Image.Image):
            return self._drawn(item, "a picture")
        if isinstance(item, bytearray | memoryview) or hasattr(item, "read"):
            item = content_of(item)
        name = f"the picture of {len(item)} bytes" if isinstance(item, bytes) else named(item)
        content = file_content(item, name, "a picture: a path, bytes, a PIL image, an array or a tensor")
        try:
            with Image.open(io.BytesIO(content)) as image:
                _check_pixels(name, image.width, image.height, self.max_pixels)
                if (
                    self._size is not None and self.resize == "cover" and image.format == "JPEG"
                ):  # a large one is decoded at a part of its size
                    height, width = self._size
                    image.draft(self.image_mode, (2 * width, 2 * height))
                return self._drawn(image, name)
        except (DataError, MemoryError):
            raise
        except UnidentifiedImageError as error:
            raise DataError(f"{name} is no image that can be read (or its beginning is damaged)") from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise DataError(f"{name} claims too many pixels: {error}. Make the picture smaller first") from error
        except Exception as error:  # damage makes decoders raise almost anything
            told = f"{name} is a damaged image, or of a kind that cannot be decoded: {error}. Replace it"
            raise DataError(told) from error

    @property
    def _size(self) -> tuple[int, int] | None:
        """Height and width in pixels."""
        return None if self.image_size is None else height_width(self.image_size)

    def _drawn(self, image: Image.Image, name: str) -> Tensor:
        depth = self.image_depth
        # A file's own layout of pixels, before it is decoded: Pillow says no more of it afterwards.
        deep = any(";16" in str(tile.args) for tile in getattr(image, "tile", ()))
        image = ImageOps.exif_transpose(image)
        if image.mode == "F":
            raise ValueError(
                "floating-point pixels have no agreed black and white. Bring them to 0..1, and give the array [H, W] "
                "in place of the file, or from_tensors all of them"
            )
        if image.mode.startswith("I"):  # 16 bits, whatever the name
            levels = np.asarray(image)
            lowest, highest = int(levels.min(initial=0)), int(levels.max(initial=0))
            if lowest < 0 or highest >= 1 << 16:
                warnings.warn(
                    f"{name} has pixels from {lowest} to {highest}, and those outside of 0..65535 are cut off, to "
                    "black and white: bring them to 0..65535 first, or to 0..255",
                    DataWarning,
                    3,
                )
            elif depth == "auto":
                _warn_of_depth(highest, name)
            bits = 16 if depth == "auto" else depth
            image = Image.fromarray((levels.clip(0, (1 << bits) - 1) >> (bits - 8)).astype(np.uint8))
        elif deep:  # the upper 8 of 16 bits are all that is read of colours
            if depth == "auto":
                extrema = image.getextrema()
                _warn_of_depth(max(int(high) for _, high in extrema[:3]) << 8 | 255, name)  # type: ignore[misc]
            else:
                alpha = [*range(256)] * (image.mode in ("RGBA", "LA"))
                scaled = [min(level << (16 - depth), 255) for level in range(256)]
                image = image.point(scaled * (len(image.getbands()) - bool(alpha)) + alpha)
        if image.has_transparency_data:
            rgba = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
        image = image.convert(self.image_mode)
        image = self._resized(image)
        pixels = torch.from_numpy(np.array(image, np.uint8))
        return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous()

    def _resized(self, image: Image.Image) -> Image.Image:
        if self._size is None:
            return image
        wanted, how = self._size[::-1], _FILTERS[self.interpolation]
        if self.resize == "squash":
            return image.resize(wanted, how)
        if self.resize == "cover":
            return image if image.size == wanted else ImageOps.fit(image, wanted, how)
        edge, shorter = self.resize if isinstance(self.resize, int) else min(wanted), min(image.size)
        width, height = (edge if side == shorter else int(edge * side / shorter) for side in image.size)
        image = image.resize((width, height), how)
        cut = round if self.resize == "shortest" else int  # which differ by one pixel at most
        left, top = cut((width - wanted[0]) / 2), cut((height - wanted[1]) / 2)
        return image.crop((left, top, left + wanted[0], top + wanted[1]))

    def show(self, item: Any, example: Batch) -> bytes:
        """Return a small JPEG, with what there is in it as far as the example tells."""
        return thumbnail_of(example if isinstance(example, Tensor) else shown(example))

    def draw(self, item: Any, told: Mapping[str, Any], labels: Sequence[str]) -> bytes:
        """Return a JPEG of the picture with objects or classes of pixels drawn into it; see ``Modality.draw``."""
        whole = replace(self, image_size=None, resize="cover", image_mode="RGB", tile=None)
        return drawing(from_tensor(whole._pixels(item)), told, labels)

    def draw_mistakes(self, example: Batch, told: Mapping[str, Any]) -> bytes:
        """Return a JPEG of what was found, missed and made up; see ``Modality.draw_mistakes``."""
        assert isinstance(example, dict)
        return drawn_mistakes(from_tensor(part_shown(example).cpu()), told)

    def sketch(self, item: Any) -> bytes | Tensor:
        """Return it at a few pixels, by which copies in other sizes, formats and brightness are found."""
        way = "cover" if self.whole else self.resize
        pixels = replace(self, image_size=SIDE, image_mode="RGB", resize=way, tile=None)._pixels(item)
        if pixels.dtype != torch.uint8 or pixels.ndim != 3 or len(pixels) not in (1, 3):
            return super().sketch(item)
        return pixels if pixels.shape == (3, SIDE, SIDE) else small(pixels)

    def from_wire(self, content: Any, name: str = "") -> Any:
        """Return what reads like a file of that name."""
        return Sent(content, name)

    def raw(self) -> tuple[nn.Module, Self]:
        """Return its pixels, of few."""
        way = "squash" if self.whole else self.resize
        return nn.Flatten(), replace(self, image_size=_RAW_SIZE, resize=way, tile=None)

    def within(self, most: int) -> Self:
        """Return it with a limit on the pixels that a file may claim."""
        return replace(self, max_pixels=most)

    def made_up(self, count: int, generator: torch.Generator, like: Any = None) -> Any:
        """Return noise of all brightnesses, of the size that pictures are brought to."""
        sized = isinstance(like, dict) or (like is None and self.whole)
        like = like["pixels"] if isinstance(like, dict) else like
        sides = self.tile or self.image_size
        if like is None and sides is not None:
            channels = 1 if self.image_mode == "L" else 3
            like = torch.empty(0, channels, *height_width(sides), dtype=torch.uint8)
        pixels = super().made_up(count, generator, like)
        if not sized:
            return pixels
        size = torch.tensor(pixels.shape[2:]).expand(count, 2)
        made = {"pixels": pixels, "size": size, "full": size.clone()}
        if self.tile is None:
            return made
        tile = for_tiles({"pixels": pixels[0]}, self.tile, self.tile_overlap)["tile"]
        return {**made, "tile": tile.expand(count, 2)}

    def recipe(self) -> dict[str, Any]:
        """Return the mode, and how the size comes about."""
        ways = {
            "cover": "cover",
            "shortest": "shorter side",
            "squash": "squash",
            "fit": "fit into the upper left",
            "shrink": "shrink into the upper left",
        }
        way = f"shorter side to {self.resize}" if isinstance(self.resize, int) else ways[self.resize]
        cut = ", cut out the centre" * (self.resize != "squash" and not self.whole)
        resize = f"{way}, {self.interpolation}{cut}" if self.image_size else None
        if self.tile is not None:
            resize = f"none, in tiles of {self.tile} pixels"
        return {"image_mode": self.image_mode, "resize": resize}

    def values(self, encoder: Sighted) -> Values:
        """Return how their numbers are taken: as a network of pictures takes them; with their sizes, as they are."""
        return Values(self, encoder) if self.whole else by_network(self, encoder)


def height_width(image_size: object) -> tuple[int, int]:
    """Return (height, width) in pixels.

    Raises:
        ConfigError: it is neither one number nor two, or more than ``MAX_PIXELS``.
    """
    pair = (image_size, image_size) if isinstance(image_size, Integral) else image_size
    whole = isinstance(pair, (tuple, list)) and all(isinstance(n, Integral) and not isinstance(n, bool) for n in pair)
    if not isinstance(pair, (tuple, list)) or not whole or len(pair) != 2 or min(pair) < 1:
        what = f"image_size={brief(image_size)} is neither a number of pixels nor (height, width)"
        raise ConfigError(what + meant("image_size", image_size))
    if pair[0] * pair[1] > MAX_PIXELS:
        raise ConfigError(f"image_size={brief(image_size)} is more than {MAX_PIXELS:,} pixels")
    return int(pair[0]), int(pair[1])


def _check_pixels(name: str, width: int, height: int, most: int) -> None:
    if width * height > most:
        raise DataError(
            f"{name} claims {width}x{height} pixels; more than {most:,} are refused. Make the picture smaller first"
        )


def _warn_of_depth(highest: int, name: str) -> None:
    used = next((bits for bits in (8, 10, 12, 16) if highest < 1 << bits), 16)
    if used < 16:
        warnings.warn(
            f"{name} has room for 16 bits and its brightest pixel is {highest}: it comes out almost black. If its "
            f"pixels have {used} bits, set image_depth={used}, and if it is so dark, image_depth=16",
            DataWarning,
            4,
        )
