"""Examples as a network is fed with them, on a sheet for eyes: pictures side by side, words as rows of a table."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw
from torch import Tensor

from quickstudy.batches import Batch
from quickstudy.errors import one_line
from quickstudy.modality import Modality, Tensors
from quickstudy.modality.thumbnails import GAP, LINE, LONGEST, TITLE, Letters, from_tensor
from quickstudy.modality.values import as_uint8

_PICTURE, _COLUMNS = 128, 8  # pixels, and so many in a row


class Cell(NamedTuple):
    """An example: what it is, and what it is called."""

    content: Image.Image | str
    label: str


class Section(NamedTuple):
    """Some examples under a title."""

    title: str
    cells: Sequence[Cell]


def sheet_of(sections: Sequence[Section]) -> Image.Image:
    """Return sections one below the other: pictures side by side with their labels, words as rows of a table."""
    letters = Letters()
    drawn = [_rows_of(section, letters) if _in_words(section) else _tiles_of(section, letters) for section in sections]
    width, height = max(each.width for each in drawn), sum(each.height for each in drawn)
    sheet, top = Image.new("RGB", (width, height), "white"), 0
    for each in drawn:
        sheet.paste(each, (0, top))
        top += each.height
    return sheet


def _in_words(section: Section) -> bool:
    return any(isinstance(cell.content, str) for cell in section.cells)


def _tiles_of(section: Section, letters: Letters) -> Image.Image:
    step, line = _PICTURE + GAP, _PICTURE + TITLE * LINE + GAP
    rows = -(-len(section.cells) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * step + GAP, LINE + 2 * GAP + rows * line), "white")
    draw = ImageDraw.Draw(sheet)
    _write_title(draw, section.title, letters, sheet.width)
    for place, (content, label) in enumerate(section.cells):
        left, top = GAP + place % _COLUMNS * step, LINE + 2 * GAP + place // _COLUMNS * line
        assert not isinstance(content, str)
        scale = _PICTURE / max(content.size)
        side = max(1, round(content.width * scale)), max(1, round(content.height * scale))
        # Small ones as they are, pixel by pixel: what a network is fed with is to be seen.
        how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BICUBIC
        small = content.convert("RGB").resize(side, how)
        sheet.paste(small, (left + (_PICTURE - small.width) // 2, top + (_PICTURE - small.height) // 2))
        for number, text in enumerate(letters.lines(label, _PICTURE, TITLE)):
            draw.text((left, top + _PICTURE + 2 + number * LINE), text, "black", letters.font)
    return sheet


def _rows_of(section: Section, letters: Letters) -> Image.Image:
    width = _COLUMNS * (_PICTURE + GAP) + GAP
    labels = max([_PICTURE, *(round(letters.font.getlength(cell.label[:LONGEST])) for cell in section.cells)])
    labels = min(labels, width // 4)
    left, top = labels + 3 * GAP, LINE + 2 * GAP
    texts = [letters.lines(str(cell.content), width - left - GAP, 3, 1000) for cell in section.cells]
    heights = [max(1, len(lines)) * LINE + 4 for lines in texts]
    sheet = Image.new("RGB", (width, top + sum(heights) + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    _write_title(draw, section.title, letters, width)
    for cell, lines, height in zip(section.cells, texts, heights, strict=True):
        draw.line((GAP, top - 2, width - GAP, top - 2), "lightgrey")
        for label in letters.lines(cell.label, labels, 1):
            draw.text((GAP, top), label, "black", letters.font)
        for number, text in enumerate(lines):
            draw.text((left, top + number * LINE), text, "dimgrey", letters.font)
        top += height
    return sheet


def _write_title(draw: ImageDraw.ImageDraw, title: str, letters: Letters, width: int) -> None:
    (line,) = letters.lines(title, width - 2 * GAP, 1, 300)
    draw.text((GAP, GAP), line, "black", letters.font)


def shown_of(modality: Modality, example: Batch) -> Image.Image | str:
    """Return an example, as a network is fed with it, as a picture or in words.

    Args:
        modality: what it is.
        example: without an axis of examples.
    """
    pictures = modality.shown_as == "image/jpeg" or isinstance(modality, Tensors)
    if isinstance(example, Tensor):
        if pictures and example.ndim == 3 and example.shape[0] in (1, 3) and min(example.shape[1:]) > 1:
            return from_tensor(_in_bytes(example))
        example = example if example.ndim != 3 else _in_bytes(example)
    content = modality.show(example, example)
    if content and modality.shown_as.startswith("image/"):
        return Image.open(io.BytesIO(content)).convert("RGB")
    if content:
        return one_line(content.decode("utf-8", "replace"))
    return f"{example.dtype} of shape {tuple(example.shape)}" if isinstance(example, Tensor) else _form_of_one(example)


def _form_of_one(example: Batch) -> str:
    return ", ".join(f"{name} {tuple(leaf.shape)}" for name, leaf in example.items() if isinstance(leaf, Tensor))


def _in_bytes(example: Tensor) -> Tensor:
    """Return uint8 of floats: of 0..1 or 0..255 as they are, others from their least to their largest."""
    known = example if not example.is_floating_point() else as_uint8(example)
    if known is not None and known.dtype.itemsize == 1:
        return known
    floats = example.float()
    low, high = floats.min(), floats.max()
    return ((floats - low) / (high - low).clamp(min=1e-12) * 255).byte()
