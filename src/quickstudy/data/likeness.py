"""Which examples are nearly the same: copies in another size or format, a sentence in other case, a row twice.

Of each there is a sketch, see ``Modality.sketch``: bytes, which are equal where examples are nearly the same, or a
small picture. Pictures are compared by 64 bits of their coarse pattern first (which frequencies are above the median,
https://www.phash.org), and those that are close by their pixels.

Shapes: N examples, M pairs.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.batches import take
from quickstudy.data.places import Files
from quickstudy.data.samples import Loaded, seeded
from quickstudy.data.table import Inputs, count_of

Sketch = bytes | Tensor | None
"""Of what is compared by nothing, None."""

SIDE = 16
"""Pixels of a small picture's side."""
_DRAWN = 3 * SIDE**2  # bytes of one
_BITS = 6  # in which two of 64 may differ
_BLOCKS = _BITS + 3  # of which three are then equal
_WINDOW = 16  # neighbours that each is compared with
_LIKE = 0.2  # of the contrast, what two pictures differ by at most
_FLAT = 8.0  # levels of 255: the least contrast that this is taken of
_BRIGHTER = 48.0  # levels
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_CHUNK = 1 << 13
_SOME = 16  # of a list, that tell what all are


def digest(*parts: bytes | memoryview) -> bytes:
    """Return 16 bytes that stand for all of these."""
    made = hashlib.blake2b(digest_size=16)
    for part in parts:
        made.update(part)
    return made.digest()


def small(pixels: Tensor) -> Tensor:
    """Return a picture, uint8 ``[C, H, W]`` of one channel or three, as uint8 ``[3, SIDE, SIDE]``."""
    made = F.interpolate(pixels[None].float(), (SIDE, SIDE), mode="bilinear", antialias=True)[0]
    return made.round().clamp(0, 255).to(torch.uint8).expand(3, SIDE, SIDE)


def sketches(inputs: Inputs, sketch: Callable[[Any], bytes | Tensor]) -> list[Sketch]:
    """Return the sketch of each of N inputs; None of what cannot be read or compared, as who uses it will say.

    Args:
        inputs: a batch, files, texts, whatever tables hold.
        sketch: of one, ``modality.sketch``.
    """

    def of(row: int) -> Sketch:
        try:
            item = take(inputs, row) if isinstance(inputs, dict) else inputs[row]
            return sketch(item.item if isinstance(item, Loaded) else item)
        except Exception:  # a data set may raise anything
            return None

    rows = range(count_of(inputs))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are told where it is read to be used
        files = isinstance(inputs, Files) or (isinstance(inputs, list) and all(map(_is_file, inputs[:_SOME])))
        if files:
            with ThreadPoolExecutor() as pool:
                return list(pool.map(of, rows))
        with seeded((0,)):  # a data set's transform may draw
            return [of(row) for row in rows]


def _is_file(item: Any) -> bool:
    return hasattr(item, "read_bytes")


def near_pairs(found: Sequence[Sketch]) -> NDArray[np.int64]:
    """Return pairs of examples that are nearly the same, ``[M, 2]``, the smaller row first, sorted.

    They join all that are nearly the same, and are not every pair of them. It takes a time that N sorted takes, and
    no more where many are alike: of pictures each is then compared with its nearest neighbours in the order alone.

    Args:
        found: N sketches.
    """
    by_bytes: dict[bytes, int] = {}
    pairs: list[tuple[int, int]] = []
    drawn: list[int] = []
    for row, one in enumerate(found):
        if isinstance(one, bytes):
            last = by_bytes.get(one)
            if last is not None:
                pairs.append((last, row))
            by_bytes[one] = row
        elif one is not None:
            drawn.append(row)
    made = np.array(pairs, np.int64).reshape(-1, 2)
    if len(drawn) > 1:
        sketches = torch.stack([found[row] for row in drawn]).numpy()  # type: ignore[misc]
        made = np.concatenate([made, np.array(drawn, np.int64)[_alike(sketches)]])
    return made[np.lexsort((made[:, 1], made[:, 0]))]


def in_bytes(sketch: Sketch) -> bytes:
    """Return a sketch in as few bytes as ``known_again`` compares; none of what is compared by nothing."""
    if isinstance(sketch, Tensor):
        return sketch.numpy().tobytes()
    return digest(sketch) if sketch else b""


def known_again(found: Sequence[bytes], known: Sequence[bytes]) -> list[int]:
    """Return of each of N examples the place of a known one that it is nearly the same as; -1 where there is none.

    Args:
        found: N sketches ``in_bytes``.
        known: likewise.
    """
    by_bytes = {one: place for place, one in enumerate(known) if one}
    places = [by_bytes.get(one, -1) for one in found]
    drawn = [place for place, one in enumerate(known) if len(one) == _DRAWN]
    asked = [row for row, one in enumerate(found) if len(one) == _DRAWN and places[row] < 0]
    if not (drawn and asked):
        return places
    old, new = _pictures([known[place] for place in drawn]), _pictures([found[row] for row in asked])
    old_words, new_words = (np.packbits(_patterns(some), axis=1).view(np.uint64)[:, 0] for some in (old, new))
    for row, picture, word in zip(asked, new, new_words, strict=True):
        near = np.flatnonzero(np.bitwise_count(old_words ^ word) <= _BITS)
        for start in range(0, len(near), _CHUNK):
            part = near[start : start + _CHUNK]
            like = part[_look_alike(old[part], picture[None])]
            if len(like):
                places[row] = drawn[like[0]]
                break
    return places


def _pictures(sketches: Sequence[bytes]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(sketches), np.uint8).reshape(-1, 3, SIDE, SIDE)


def joined(pairs: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return by example the first row that pairs join it with, through however many others; ``[N]``.

    >>> joined(np.array([[0, 3], [3, 4], [1, 2]]), 6).tolist()
    [0, 1, 1, 0, 0, 5]
    """
    first = np.arange(count)
    one, other = pairs.reshape(-1, 2).T
    while (first[one] != first[other]).any():
        ends = np.sort(np.stack([first[one], first[other]]), axis=0)
        to = np.arange(count)
        np.minimum.at(to, ends[1], ends[0])
        while (to[to] != to).any():
            to = to[to]
        first = to[first]
    return first


def _alike(sketches: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return pairs of drawn sketches ``[N, 3, SIDE, SIDE]`` that look alike."""
    pairs = _close(_patterns(sketches))
    keep = np.zeros(len(pairs), np.bool_)
    for start in range(0, len(pairs), _CHUNK):
        part = slice(start, start + _CHUNK)
        keep[part] = _look_alike(*(sketches[rows] for rows in pairs[part].T))
    return pairs[keep]


def _look_alike(sketches: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return whether sketches ``[M, 3, SIDE, SIDE]`` are like others by their pixels, ``[M]``."""
    one, other = (each.reshape(-1, _DRAWN).astype(np.float32) for each in (sketches, others))
    means, other_means = one.mean(1, keepdims=True), other.mean(1, keepdims=True)
    contrast = np.sqrt(one.std(1) * other.std(1)).clip(_FLAT)
    apart = np.sqrt(np.square((one - means) - (other - other_means)).mean(1))
    alike: NDArray[np.bool_] = (apart <= _LIKE * contrast) & (np.abs(means - other_means)[:, 0] <= _BRIGHTER)
    return alike


def _patterns(sketches: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return of each sketch which of the 8 by 8 lowest frequencies of its brightness are above their median."""
    places = np.arange(SIDE) + 0.5
    waves = np.cos(np.pi / SIDE * np.arange(8)[:, None] * places).astype(np.float32)
    found = []
    for start in range(0, len(sketches), _CHUNK):
        grey = np.einsum("nchw,c->nhw", sketches[start : start + _CHUNK].astype(np.float32), _LUMA)
        levels = (waves @ grey @ waves.T).reshape(-1, 64)
        above = levels > np.median(levels[:, 1:], axis=1, keepdims=True)
        above[:, 0] = False  # the mean
        found.append(above)
    bits: NDArray[np.uint8] = np.concatenate(found).astype(np.uint8)
    return bits


def _close(bits: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return pairs of rows of 64 bits that differ in a few: such agree in three of nine blocks of bits, whichever."""
    blocks = np.array_split(np.arange(64), _BLOCKS)
    count = len(bits)
    found = [np.empty(0, np.int64)]
    for kept in combinations(range(_BLOCKS), 3):
        of_key = np.concatenate([blocks[block] for block in kept])
        columns = np.concatenate([of_key, np.setdiff1d(np.arange(64), of_key)])
        words = np.ascontiguousarray(np.packbits(bits[:, columns], axis=1)).view(">u8")[:, 0].astype(np.uint64)
        order = np.argsort(words, kind="stable")
        words = words[order]
        key = words >> np.uint64(64 - len(of_key))
        for apart in range(1, min(_WINDOW, count - 1) + 1):
            at = np.flatnonzero(key[apart:] == key[:-apart])
            if not len(at):
                break
            at = at[np.bitwise_count(words[at] ^ words[at + apart]) <= _BITS]
            ends = np.sort(np.stack([order[at], order[at + apart]]), axis=0)
            found.append(ends[0] * count + ends[1])
    pairs = np.unique(np.concatenate(found))
    return np.stack([pairs // count, pairs % count], axis=1)
