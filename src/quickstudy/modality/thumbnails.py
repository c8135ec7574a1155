"""Pictures for eyes: a small one, and a strip of several with their captions."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

from quickstudy.errors import one_line
from quickstudy.modality.values import Tile, Values

_THUMBNAIL = 64
_STRIP = 3  # frames side by side, and below each other
_EDGE = 2  # pixels between frames
TILE = 96
"""Pixels of a side of what is shown beside others."""
LARGE_TILE = 192
"""Of what has several pictures in it."""
_FINER = 4  # times, that dots and lines are drawn larger first
_COLOURS = 64
LINE = 16
GAP = 8
TITLE = 2  # lines
LONGEST = 80  # characters of a name that are looked at


def thumbnail_of(picture: Tensor) -> bytes:
    """Return a small JPEG of a picture, uint8 ``[C, H, W]``; nothing for what is none."""
    if picture.dtype != torch.uint8 or picture.ndim != 3 or picture.shape[0] not in (1, 3):
        return b""
    image = from_tensor(picture)
    image.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BILINEAR)
    content = io.BytesIO()
    image.save(content, "JPEG", quality=80)
    return content.getvalue()


def film_strip(frames: Tensor) -> bytes:
    """Return a small JPEG of up to nine frames, uint8 ``[T, C, H, W]``, in the order in which one reads.

    Each fills its place as far as its shape lets it; what is left is white, so that dark frames have an edge.
    """
    side = min(_STRIP, math.isqrt(max(len(frames) - 1, 0)) + 1)
    chosen = torch.arange(min(len(frames), side**2)) * len(frames) // min(len(frames), side**2)
    step = _THUMBNAIL + _EDGE
    sheet = Image.new("RGB", (side * step + _EDGE, side * step + _EDGE), "white")
    for place, frame in enumerate(frames[chosen]):
        image = ImageOps.contain(from_tensor(frame).convert("RGB"), (_THUMBNAIL,) * 2, Image.Resampling.BILINEAR)
        top, left = (_EDGE + step * number for number in divmod(place, side))
        sheet.paste(image, (left + (_THUMBNAIL - image.width) // 2, top + (_THUMBNAIL - image.height) // 2))
    content = io.BytesIO()
    sheet.save(content, "JPEG", quality=80)
    return content.getvalue()


def heat_map(levels: Tensor) -> bytes:
    """Return a small square PNG of levels, uint8 ``[H, W]``, in colours; the first row is at the bottom."""
    import matplotlib  # here, as it takes a while and few look

    colours = matplotlib.colormaps["magma"](levels.flip(0).cpu().numpy(), bytes=True)[..., :3]
    image = Image.fromarray(np.ascontiguousarray(colours)).resize((TILE, TILE), Image.Resampling.BILINEAR)
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def has_several(content: bytes) -> bool:
    """Tell whether a small picture has frames or views side by side in it, which need more room than one does."""
    try:
        return max(Image.open(io.BytesIO(content)).size) > TILE
    except OSError:  # what a modality of somebody's own shows is no picture
        return False


def drawing_of(pixels: NDArray[np.uint8]) -> bytes:
    """Return a PNG of few colours of a drawing, uint8 ``[H, W, 3]``."""
    content = io.BytesIO()
    Image.fromarray(pixels).quantize(_COLOURS).save(content, "PNG")
    return content.getvalue()


def dots_and_lines(spots: NDArray[Any], lines: NDArray[np.int64], colours: Sequence[str], radius: float) -> bytes:
    """Return a small square PNG of dots, joined by lines.

    Args:
        spots: places of the dots, ``[V, 2]``; they are spread over the picture.
        lines: which two dots each joins, ``[E, 2]``.
        colours: of each dot.
        radius: of the dots, in pixels.
    """
    side, margin = TILE * _FINER, GAP * _FINER
    low, high = spots.min(0), spots.max(0)
    scale = (side - 2 * margin) / max(float((high - low).max()), 1e-9)
    places = ((spots - (low + high) / 2) * scale + side / 2).tolist()
    image = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(image)
    for one, other in lines.tolist():
        draw.line((*places[one], *places[other]), "darkgrey", _FINER)
    radius *= _FINER
    for (x, y), colour in zip(places, colours, strict=True):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), colour)
    return drawing_of(np.asarray(image.resize((TILE, TILE), Image.Resampling.LANCZOS)))


def from_tensor(picture: Tensor) -> Image.Image:
    """Return a PIL image of a uint8 tensor ``[C, H, W]`` with one or three channels."""
    pixels = picture.cpu().numpy()
    return Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))


class TiledValues(Values):
    """Of inputs that are shown side by side, as a strip of pictures."""

    tile: ClassVar[int] = TILE
    """Pixels of a side of each."""

    def beside(self, tiles: Sequence[Tile]) -> Any:
        """Return a strip with captions; see ``Values.beside``."""
        return strip_of(tiles, self.tile)


def strip_of(tiles: Sequence[Tile], side: int = TILE) -> Image.Image:
    """Return a strip of pictures with their captions: the first apart, then the others.

    Args:
        tiles: of each the picture, its title and a note.
        side: pixels of the longer side of each.
    """
    pictures = [_to_side(content, side) for content, *_ in tiles]
    high = max((picture.height for picture in pictures if picture is not None), default=side)
    strip = Image.new("RGB", (len(tiles) * (side + GAP) + 2 * GAP, high + (TITLE + 1) * LINE + 2 * GAP), "white")
    draw = ImageDraw.Draw(strip)
    letters = Letters()
    for place, (picture, (_, title, note)) in enumerate(zip(pictures, tiles, strict=True)):
        left = GAP + place * (side + GAP) + (GAP if place else 0)
        if picture is not None:
            strip.paste(picture, (left + (side - picture.width) // 2, GAP + (high - picture.height) // 2))
        else:
            draw.rectangle((left, GAP, left + side - 1, GAP + high - 1), outline="grey")
            draw.text((left + GAP, GAP + high // 2), "no picture", "grey", letters.font)
        lines = [*((line, "black") for line in letters.lines(title, side, TITLE)), (note, "dimgrey")]
        for line, (text, colour) in enumerate(lines):
            draw.text((left, GAP + high + 2 + line * LINE), text, colour, letters.font)
    draw.line((side + int(1.75 * GAP), GAP, side + int(1.75 * GAP), strip.height - GAP), "lightgrey")
    return strip


def _to_side(content: bytes, side: int) -> Image.Image | None:
    """Return a picture with its longer side of so many pixels; None of nothing."""
    if not content:
        return None
    image = Image.open(io.BytesIO(content)).convert("RGB")
    scale = side / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.BICUBIC)


class Letters:
    """The font of captions: DejaVu Sans, which matplotlib brings and which has letters of most alphabets."""

    def __init__(self) -> None:
        import matplotlib  # here, as it takes a while and few explain
        from matplotlib.ft2font import FT2Font

        path = f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf"
        self.font, self._glyphs = ImageFont.truetype(path, 11), FT2Font(path)

    def lines(self, text: str, width: int, most: int, longest: int = LONGEST) -> list[str]:
        """Return a text as lines that fit a width in pixels, cut where it takes more than so many.

        What would break a line, and what the font has no letter for, is written as its code.
        """
        rest = "".join(map(self._written, one_line(text[:longest])))
        lines: list[str] = []
        while rest and len(lines) < most:
            end = "..." if len(lines) == most - 1 else ""
            count = len(rest)
            while count > 1 and self.font.getlength(rest[:count] + end * (count < len(rest))) > width:
                count -= 1
            space = rest.rfind(" ", 1, count) if count < len(rest) and not end else -1
            count = space if space > 0 else count
            lines.append(rest[:count] + end * (count < len(rest)))
            rest = rest[count:].lstrip()
        return lines

    def _written(self, letter: str) -> str:
        drawn = letter.isspace() or self._glyphs.get_char_index(ord(letter))
        return letter if drawn else letter.encode("unicode_escape").decode()
