"""An answer, and what explains it: the support examples nearest to an input, as values and as a picture.

Shapes: N inputs, S support examples, D features.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from quickstudy.data.targets import Label
from quickstudy.errors import one_line
from quickstudy.functional.distances import squared_euclidean

_TILE = 96
_LINE = 16
_GAP = 8


class Answer(NamedTuple):
    """What a predictor says of an input."""

    label: Label
    """The likeliest class, or ``"unknown"``."""
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


def nearest(
    query_ND: Tensor, support: Mapping[Label, Tensor], thumbnails: Mapping[Label, tuple[bytes, ...]], count: int
) -> list[list[Neighbour]]:
    """Return for each of N inputs the support examples that are nearest, the nearest first.

    Args:
        query_ND: their embeddings.
        support: by class, its examples' embeddings ``[n, D]``.
        thumbnails: of each class's examples.
        count: of neighbours.
    """
    kept_S, names = torch.cat(list(support.values())), list(support)
    first_W = np.cumsum([0, *map(len, support.values())])
    found = squared_euclidean(query_ND, kept_S).sqrt().topk(min(count, len(kept_S)), 1, largest=False)

    def neighbour(row: int, distance: float) -> Neighbour:
        code = int(np.searchsorted(first_W, row, "right")) - 1
        name, number = names[code], row - int(first_W[code])
        return Neighbour(name, number, distance, thumbnails[name][number])

    return [
        [neighbour(row, distance) for row, distance in zip(rows, distances, strict=True)]
        for rows, distances in zip(found.indices.tolist(), found.values.tolist(), strict=True)
    ]


def drawn(picture: bytes, answer: str, neighbours: Sequence[Neighbour]) -> Image.Image:
    """Return a strip: the input with its answer, then its neighbours with classes and distances.

    Args:
        picture: a thumbnail of the input.
        answer: what was answered.
        neighbours: the nearest first.
    """
    tiles = [(picture, answer, "given")]
    tiles += [(each.thumbnail, one_line(each.name), f"{each.distance:.3g} away") for each in neighbours]
    strip = Image.new("RGB", (len(tiles) * (_TILE + _GAP) + 2 * _GAP, _TILE + 2 * _LINE + 2 * _GAP), "white")
    draw = ImageDraw.Draw(strip)
    font = ImageFont.load_default(12)
    for place, (content, title, note) in enumerate(tiles):
        left = _GAP + place * (_TILE + _GAP) + (_GAP if place else 0)
        if content:
            image = Image.open(io.BytesIO(content)).convert("RGB")
            scale = _TILE / max(image.size)
            image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
            strip.paste(image, (left + (_TILE - image.width) // 2, _GAP + (_TILE - image.height) // 2))
        else:
            draw.rectangle((left, _GAP, left + _TILE - 1, _GAP + _TILE - 1), outline="grey")
            draw.text((left + _GAP, _GAP + _TILE // 2), "no picture", "grey", font)
        for line, (text, colour) in enumerate(((title, "black"), (note, "dimgrey"))):
            draw.text((left, _GAP + _TILE + 2 + line * _LINE), _fitting(text, draw, font), colour, font)
    draw.line((_TILE + int(1.75 * _GAP), _GAP, _TILE + int(1.75 * _GAP), strip.height - _GAP), "lightgrey")
    return strip


def _fitting(text: str, draw: ImageDraw.ImageDraw, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    """Return a text cut to the width of a tile."""
    if draw.textlength(text, font) <= _TILE:
        return text
    while text and draw.textlength(text + "...", font) > _TILE:
        text = text[:-1]
    return text + "..."
