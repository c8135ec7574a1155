"""An answer, and what explains it: the support examples nearest to an input, as values and as a picture.

Shapes: N inputs, S support examples, D features.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from quickstudy.data.targets import Label
from quickstudy.errors import one_line
from quickstudy.functional.distances import squared_euclidean
from quickstudy.learning.changes import Support

_AT_ONCE = 10_000_000  # distances
_TILE = 96
_LINE = 16
_GAP = 8
_TITLE = 2  # lines
_LONGEST = 80  # characters of a name that are looked at


class Answer(NamedTuple):
    """What a predictor says of an input."""

    label: Label | list[Label]
    """The likeliest class, or ``"unknown"``; of a model that gives several labels those above one half."""
    ranking: list[tuple[Label, float]]
    """The likeliest classes with their probabilities."""
    nearest: list[Neighbour]
    """The support examples nearest to the input, as many as were asked for."""


class Neighbour(NamedTuple):
    """A support example near an input."""

    name: Label
    """Of its class."""
    number: int
    """Among the examples of its class, from 0."""
    distance: float
    """Euclidean, between the embeddings."""
    thumbnail: bytes
    """A small JPEG; empty where the example is no picture, or was learned by a quickstudy that kept none."""
    same: bool = False
    """Whether the input is this very example, as far as rounding lets its embedding tell."""


def nearest(query_ND: Tensor, kept_SD: Tensor, support: Support, count: int, rounding: float) -> list[list[Neighbour]]:
    """Return for each of N inputs the support examples that are nearest, the nearest first.

    Args:
        query_ND: their embeddings.
        kept_SD: those of the support set, class by class.
        support: its classes.
        count: of neighbours.
        rounding: by what share of its length the embedding of one input may differ.
    """
    names = list(support)
    first_W = np.cumsum([0, *(kept.examples for kept in support.values())])
    parts = torch.split(query_ND, max(1, _AT_ONCE // len(kept_SD)))
    most = min(count, len(kept_SD))
    found = [squared_euclidean(part, kept_SD).topk(most, 1, largest=False).indices for part in parts]
    rows_NK = torch.cat(found)
    # Products of matrices cancel close to an example: from the few, the distance is that of the difference.
    away_NK = torch.stack([(query_ND - kept_SD[rows_N]).norm(dim=1) for rows_N in rows_NK.T], 1)
    away_NK, order_NK = away_NK.sort(dim=1, stable=True)
    rows_NK = rows_NK.gather(1, order_NK)
    lengths_NK = kept_SD.norm(dim=1)[rows_NK]
    same_NK = (away_NK <= rounding * lengths_NK) & (lengths_NK > 0)  # an embedding of zeros tells nothing

    def neighbour(row: int, distance: float, same: bool) -> Neighbour:
        code = int(np.searchsorted(first_W, row, "right")) - 1
        name, number = names[code], row - int(first_W[code])
        return Neighbour(name, number, distance, support[name].shown[number], same)

    columns = (each_NK.tolist() for each_NK in (rows_NK, away_NK, same_NK))
    return [list(map(neighbour, *each)) for each in zip(*columns, strict=True)]


def drawn(picture: bytes, answer: Label, neighbours: Sequence[Neighbour]) -> Image.Image:
    """Return a strip: the input with its answer, then its neighbours with classes and distances.

    Args:
        picture: a thumbnail of the input.
        answer: what was answered.
        neighbours: the nearest first.
    """
    tiles = [(picture, f"predicted {answer}", "given")]
    tiles += [(each.thumbnail, str(each.name), f"{each.distance:.3g} away") for each in neighbours]
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
