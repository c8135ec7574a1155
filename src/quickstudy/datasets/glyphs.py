"""Glyphs: more than 3,000 characters, each in 8 to 24 typefaces, drawn from fonts that come with matplotlib.

A stand-in for Omniglot that needs no download: a class is a Unicode character, its images are typefaces, and training,
validation and test have different scripts.

Shapes: N images, K characters, S pixels on a side.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, features

from quickstudy.data.table import Splits, Table
from quickstudy.datasets.cached import cached_tables
from quickstudy.datasets.registry import DATASETS
from quickstudy.datasets.scripts import script_of, split_of
from quickstudy.errors import ConfigError, DataError
from quickstudy.files import cache_folder

_FORMAT = 1  # count up when the same fonts give other classes or other pixels
_MIN_FACES = 8
_SIZE = 28  # the size at which look-alikes are judged, so that every image_size has the same classes

# In pixels of a 28-pixel image. One size and one baseline for all characters of a face, because fitting each character
# to the frame would make c of C, the comma of the apostrophe and the full stop a black circle. At 22 pixels per em
# capitals are 16 pixels high; the few drawings that are larger than the frame are moved, then shrunk, to fit.
_EM, _BASELINE, _MARGIN = 22.0, 21.5, 1.0

# Squared distance of two images over the sum of their squares: 0 for the same pixels, 1 for disjoint strokes.
# Twins are one drawing with two codes. In the middle one of their faces 129 pairs are within 0.0005 and 136 within
# 0.0018; the nearest letters that truly differ, O with breve and with caron, are 0.0025 apart.
_TWINS = 0.002
# No two splits share images nearer than this in any face. It costs 20 letters of Cyrillic beyond those that have a true
# double, and what is left nearest, such as a letter with and without its descender, the eye tells apart.
_ALIKE = 0.02


class _Face(NamedTuple):
    """One font file and the characters that it has."""

    path: Path
    characters: frozenset[str]


class _Drawings(NamedTuple):
    """Characters as drawn: images uint8 ``[N, S, S]``, and of each its character and its face, ``[N]``."""

    images: NDArray[np.uint8]
    characters: NDArray[np.int64]
    faces: NDArray[np.int64]

    def select(self, rows: NDArray[Any]) -> _Drawings:
        return _Drawings(self.images[rows], self.characters[rows], self.faces[rows])


@DATASETS.register("glyphs")
def glyphs(root: str | os.PathLike[str] | None = None, *, image_size: int = _SIZE) -> Splits:
    """Return characters of many scripts in many typefaces, drawn on the first call and cached.

    Classes are named ``script/Unicode name`` (``unicodedata.lookup`` turns the name into the character) and sorted by
    script and code point; symbols that belong to no alphabet go by their Unicode block. Test has the letters of
    Armenian, Georgian and Lao, validation those of Cyrillic, training all else.

    A class has one image from each font that has its character, 8 or more. In validation and test 8 or more of them
    differ; a symbol to train on may look the same in all its fonts. A character that looks like one of another split
    is left out, and so is one that looks like another of its own split in at least half of their fonts.

    Args:
        root: folder of the cached file; default: quickstudy's cache folder.
        image_size: S, pixels on a side, 8 or more.

    Returns:
        Tables of grey images uint8 ``[N, 1, S, S]``, bright on black, sorted by class.

    Raises:
        ConfigError: ``image_size`` is too small.
        DataError: matplotlib's fonts are missing.
    """
    if image_size < 8:
        raise ConfigError(f"image_size={image_size} is too small to tell characters apart: give 8 or more")
    faces = _faces()
    folder = cache_folder() if root is None else Path(root)
    path = folder / f"glyphs-{_FORMAT}-{image_size}-{_digest(faces)}.npz"
    return Splits(*cached_tables(path, "the glyphs", Splits._fields, partial(_make, faces, image_size)))


# ---- fonts


def _faces() -> list[_Face]:
    """Return the DejaVu and STIX fonts, sorted by name."""
    import matplotlib  # here, so that whoever only lists the data sets does not wait for it
    from matplotlib.ft2font import FT2Font

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    paths = sorted([*folder.glob("DejaVu*.ttf"), *folder.glob("STIX*.ttf")])
    if not paths:
        raise DataError(
            f"glyphs are drawn from the fonts that come with matplotlib, and '{folder}' has none. "
            "Type: pip install --force-reinstall matplotlib"
        )
    return [_Face(path, frozenset(map(chr, FT2Font(str(path)).get_charmap()))) for path in paths]


def _digest(faces: list[_Face]) -> str:
    """Return a digest of the font files and of the library that draws them, as its pixels differ between versions."""
    digest = hashlib.blake2b(str(features.version("freetype2")).encode(), digest_size=8)
    for face in faces:
        digest.update(face.path.name.encode() + hashlib.blake2b(face.path.read_bytes()).digest())
    return digest.hexdigest()


# ---- drawing


def _draw(faces: list[_Face], characters: list[str], image_size: int) -> _Drawings:
    """Draw every character in every face that has it, leaving out what leaves no ink."""
    over = max(1, -(-4 * _SIZE // image_size))  # drawn larger and averaged: places to a fraction of a pixel, no hinting
    images, which, whose = [], [], []
    for number, face in enumerate(faces):
        font = ImageFont.truetype(face.path, _EM * image_size / _SIZE * over, layout_engine=ImageFont.Layout.BASIC)
        for code, character in enumerate(characters):
            if character in face.characters and (image := _image(font, character, image_size, over)) is not None:
                images.append(image)
                which.append(code)
                whose.append(number)
    return _Drawings(np.stack(images), np.array(which), np.array(whose))


def _image(font: ImageFont.FreeTypeFont, character: str, image_size: int, over: int) -> NDArray[np.uint8] | None:
    """Draw one character as uint8 ``[S, S]``, or return None if no ink is left."""
    left, top, right, bottom = font.getbbox(character, anchor="ls")  # of ink and pen together; the pen starts at 0, 0
    canvas = Image.new("L", (int(right - left), int(bottom - top)))
    ImageDraw.Draw(canvas).text((-left, -top), character, fill=255, font=font, anchor="ls")
    box = canvas.getbbox()
    if box is None:
        return None
    side, margin = image_size * over, _MARGIN * image_size / _SIZE * over
    ink = canvas.crop(box)
    shrink = min(1.0, (side - 2 * margin) / max(ink.size))
    # Letters and marks stand in the middle. Boxes, blocks and braille stay where they are in their cell: there, the
    # left half and the right half are two characters.
    in_cell = unicodedata.category(character) == "So"
    middle = font.getlength(character) / 2 if in_cell else left + (box[0] + box[2]) / 2
    if shrink < 1:
        ink = ink.resize([max(1, int(length * shrink)) for length in ink.size], Image.Resampling.BOX)
    corner = (side / 2 + (left + box[0] - middle) * shrink, side * _BASELINE / _SIZE + (top + box[1]) * shrink)
    x, y = (round(min(max(at, margin), side - margin - size)) for at, size in zip(corner, ink.size, strict=True))
    image = Image.new("L", (side, side))
    image.paste(ink, (x, y))
    pixels = np.asarray(image.reduce(over))
    return pixels if pixels.any() else None


# ---- which characters


def _make(faces: list[_Face], image_size: int) -> Splits:
    counts = Counter(character for face in faces for character in face.characters)
    candidates = sorted(
        (character for character, count in counts.items() if count >= _MIN_FACES and _is_a_class(character)),
        key=lambda character: (script_of(character), character),
    )
    drawings = _draw(faces, candidates, _SIZE)
    enough = np.bincount(drawings.characters, minlength=len(candidates)) >= _MIN_FACES
    drawings = drawings.select(enough[drawings.characters])
    splits = np.array([split_of(script_of(character)) for character in candidates])
    # Of look-alikes the plain letter stays before a variant of it (mu before the micro sign), and Latin before Greek.
    ranks = [(unicodedata.normalize("NFKC", character) != character, character) for character in candidates]
    kept = _without_look_alikes(drawings, splits, ranks) & enough
    if image_size == _SIZE:
        drawings = drawings.select(kept[drawings.characters])
    else:
        chosen = np.flatnonzero(kept)
        drawings = _draw(faces, [candidates[code] for code in chosen], image_size)
        drawings = drawings._replace(characters=chosen[drawings.characters])
    return Splits(*(_table(drawings, candidates, kept & (splits == split)) for split in Splits._fields))


def _is_a_class(character: str) -> bool:
    """Return whether a character can be a class: no space, no control, no second code for another.

    OHM SIGN and GREEK CAPITAL LETTER OMEGA are the same character by Unicode's own account (NFC). Of held-out scripts
    only letters count: their accents and points are too much like those of other scripts.
    """
    kind = unicodedata.category(character)[0]
    wanted = kind not in "CZ" if split_of(script_of(character)) == "train" else kind == "L"
    return wanted and bool(unicodedata.name(character, "")) and unicodedata.is_normalized("NFC", character)


def _table(drawings: _Drawings, candidates: list[str], member: NDArray[np.bool_]) -> Table:
    """Gather the drawings of a split's characters, sorted by class, then by face."""
    rows = np.flatnonzero(member[drawings.characters])
    drawings = drawings.select(rows[np.lexsort((drawings.faces[rows], drawings.characters[rows]))])
    names = [f"{script_of(candidates[code])}/{unicodedata.name(candidates[code])}" for code in np.flatnonzero(member)]
    targets = (np.cumsum(member) - 1)[drawings.characters].astype(np.int32)
    return Table(torch.from_numpy(drawings.images[:, None]), targets, tuple(names))


def _without_look_alikes(
    drawings: _Drawings, splits: NDArray[np.str_], ranks: list[tuple[bool, str]]
) -> NDArray[np.bool_]:
    """Return which characters stay, bool ``[K]``.

    Of two that look alike the one trained on stays before the one tested on, that before the one validated on, and
    within a split the one of lower rank.
    """
    count = len(splits)
    shared = np.zeros((count, count), np.int8)  # in how many faces two characters of one split both exist
    same = np.zeros((count, count), np.int8)  # in how many of them they are twins
    alike = np.zeros((count, count), np.bool_)  # whether a held-out character resembles another in any face
    for face in np.unique(drawings.faces):
        here = drawings.select(drawings.faces == face)
        split = splits[here.characters]
        flat, middle = _flat(here.images), _flat(_in_the_middle(here.images))
        for name in Splits._fields:
            rows = split == name
            pairs = np.ix_(here.characters[rows], here.characters[rows])
            shared[pairs] += 1
            same[pairs] += _distances(flat[rows], flat[rows]) <= _TWINS
        held = split != "train"
        near = np.minimum(_distances(flat[held], flat), _distances(middle[held], middle)) <= _ALIKE
        alike[np.ix_(here.characters[held], here.characters)] |= near
    twins = (shared > 0) & (2 * same >= shared)
    kept = np.zeros(count, np.bool_)
    for name in ("train", "test", "val"):
        own = splits == name
        for code in sorted(np.flatnonzero(own), key=lambda code: ranks[code]):
            kept[code] = not (kept & np.where(own, twins[code], alike[code])).any()
    return kept


def _flat(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    flat: NDArray[np.float32] = np.divide(images.reshape(len(images), -1), 255, dtype=np.float32)
    return flat


def _in_the_middle(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Move the ink of each image to the middle by whole pixels: what looks alike may stand a little higher."""
    moved = np.empty_like(images)
    for row, image in enumerate(images):
        y, x = (np.flatnonzero((image > 63).any(axis)) for axis in (1, 0))
        shift = [(len(image) - 1 - line[0] - line[-1]) // 2 if len(line) else 0 for line in (y, x)]
        moved[row] = np.roll(image, shift, (0, 1))
    return moved


def _distances(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how far images are apart, from 0 to 1: ``[N, P]`` and ``[M, P]`` to ``[N, M]``."""
    energy = np.add.outer((first**2).sum(1), (second**2).sum(1))
    distances: NDArray[np.float32] = 1 - 2 * (first @ second.T) / energy
    return distances
