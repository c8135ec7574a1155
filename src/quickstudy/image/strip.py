"""A picture beside the examples that are nearest to it."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from quickstudy.errors import one_line
from quickstudy.modality import Tile

_TILE = 96
_LINE = 16
_GAP = 8
_TITLE = 2  # lines
_LONGEST = 80  # characters of a name that are looked at


def strip_of(tiles: Sequence[Tile]) -> Image.Image:
    """Return a strip of pictures with their captions: the first apart, then the others."""
    height = _TILE + (_TITLE + 1) * _LINE + 2 * _GAP
    strip = Image.new("RGB", (len(tiles) * (_TILE + _GAP) + 2 * _GAP, height), "white")
    draw = ImageDraw.Draw(strip)
    letters = _Letters()
    for place, (content, title, note) in enumerate(tiles):
        left = _GAP + place * (_TILE + _GAP) + (_GAP if place else 0)
        if content:
            image = Image.open(io.BytesIO(content)).convert("RGB")
            scale = _TILE / max(image.size)
            size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
            image = image.resize(size, Image.Resampling.BICUBIC)
            strip.paste(image, (left + (_TILE - image.width) // 2, _GAP + (_TILE - image.height) // 2))
        else:
            draw.rectangle((left, _GAP, left + _TILE - 1, _GAP + _TILE - 1), outline="grey")
            draw.text((left + _GAP, _GAP + _TILE // 2), "no picture", "grey", letters.font)
        lines = [*((line, "black") for line in letters.lines(title, _TILE, _TITLE)), (note, "dimgrey")]
        for line, (text, colour) in enumerate(lines):
            draw.text((left, _GAP + _TILE + 2 + line * _LINE), text, colour, letters.font)
    draw.line((_TILE + int(1.75 * _GAP), _GAP, _TILE + int(1.75 * _GAP), strip.height - _GAP), "lightgrey")
    return strip


class _Letters:
    """The font of captions: DejaVu Sans, which matplotlib brings and which has letters of most alphabets."""

    def __init__(self) -> None:
        import matplotlib  # here, as it takes a while and few explain
        from matplotlib.ft2font import FT2Font

        path = f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf"
        self.font, self._glyphs = ImageFont.truetype(path, 11), FT2Font(path)

    def lines(self, text: str, width: int, most: int) -> list[str]:
        """Return a text as lines that fit a width in pixels, cut where it takes more than so many.

        What would break a line, and what the font has no letter for, is written as its code.
        """
        rest = "".join(map(self._written, one_line(text[:_LONGEST])))
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
