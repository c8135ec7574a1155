"""Scenes: characters on pictures, with the box and the pixels of each, known exactly.

A stand-in for data sets of labelled objects that needs no download. Characters are those of ``glyphs``, whose classes
of training, validation and test are of different scripts: what is learned of the one is asked of the other. Each is
turned a little, of some size and one colour that stands out; none covers another. They lie on photographs, where some
are given, else on clouds of colour with shapes in them.

Shapes: M objects of a picture, H W pixels, n images of a character, S pixels of a side of one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from quickstudy.datasets.glyphs import glyphs
from quickstudy.errors import ConfigError, DataError, brief, check_choice, check_counts, closest

Pixels = NDArray[np.uint8]
_TILT, _CONTRAST, _TRIES = 15.0, 80.0, 30  # degrees; grey levels between a character and its ground; places tried


def scenes(
    count: int,
    split: Literal["train", "val", "test"] = "train",
    *,
    classes: int | Sequence[str] | None = None,
    objects: tuple[int, int] = (1, 4),
    sides: tuple[int, int] = (28, 56),
    size: tuple[int, int] = (192, 192),
    grounds: Sequence[Any] | None = None,
    masks: bool = True,
    seed: int = 0,
    root: str | os.PathLike[str] | None = None,
) -> tuple[list[Pixels], list[dict[str, Any]]]:
    """Return pictures with characters on them, the same for the same seed.

    Classes come in turn, so that each is there equally often, to one. A picture may have fewer objects than it was
    drawn to have, where there is no room.

    Args:
        count: of pictures.
        split: whose characters; those of no two splits are of one script.
        classes: names of characters, as ``glyphs`` has them; or how many, drawn by the seed; None: all.
        objects: in a picture, the least and the greatest number.
        sides: the least and the greatest longer side of a character, in pixels, to one or two, as edges are soft.
        size: H and W.
        grounds: photographs ``[h, w, 3]`` of 0..255, of which each picture has a part for its ground; None: made-up
            ones.
        masks: whether the pixels of each object are told.
        seed: of all that is drawn.
        root: folder of the file that ``glyphs`` keeps.

    Returns:
        Pictures uint8 ``[H, W, 3]``, and of each ``{"boxes": [M, 4], "labels": [M], "masks": [M, H, W]}``: x and y of
        two corners around the pixels, and names. The number of a mask is that of its object.

    Raises:
        ConfigError: a number is out of range, a class unknown, or there are not as many.
        DataError: a ground is no picture in colours.
    """
    check_counts(count=count, **dict(zip(("height", "width"), size, strict=True)))
    check_choice("split", split, "train", "val", "test")
    for name, (low, high), least in (("objects", objects, 0), ("sides", sides, 8)):
        if not least <= low <= high:
            raise ConfigError(f"{name}=({low}, {high}): give the least, {least} or more, and the greatest")
    if sides[1] > min(size):
        raise ConfigError(
            f"sides=({sides[0]}, {sides[1]}) and size={tuple(size)}: a character is larger than a picture"
        )
    for number, ground in enumerate(grounds or ()):
        if np.ndim(ground) != 3 or np.shape(ground)[2] != 3:
            raise DataError(
                f"ground {number} has the shape {np.shape(ground)}: photographs are [h, w, 3], by "
                "np.asarray(Image.open(file).convert('RGB'))"
            )
    table = getattr(glyphs(root), split)
    assert isinstance(table.inputs, Tensor) and table.targets is not None
    codes = _codes(table.classes, classes, seed)
    images, targets = table.inputs[:, 0].numpy(), table.targets
    drawn = {code: images[targets == code] for code in codes}
    pictures, told, turn = list[Pixels](), list[dict[str, Any]](), list[int]()
    for number in range(count):
        generator = np.random.default_rng([2, seed, number])
        wanted = int(generator.integers(objects[0], objects[1] + 1))
        while len(turn) < wanted:
            turn += np.random.default_rng([3, seed, number, len(turn)]).permutation(codes).tolist()
        picture = _made_up(generator, size) if not grounds else _part(generator, grounds, size)
        boxes, labels, inks = list[list[int]](), list[str](), list[NDArray[np.bool_]]()
        for code in turn[:wanted]:
            ink = _turned(generator, drawn[code], sides)
            if (corner := _room(generator, ink.shape, size, boxes)) is None:
                continue
            top, left = corner
            _paint(generator, picture[top : top + ink.shape[0], left : left + ink.shape[1]], ink)
            inks.append(np.zeros(size, np.bool_))
            inks[-1][top : top + ink.shape[0], left : left + ink.shape[1]] = ink >= 128
            boxes.append([left, top, left + ink.shape[1], top + ink.shape[0]])
            labels.append(table.classes[code])
        turn = turn[wanted:]
        pictures.append(picture)
        own: dict[str, Any] = {"boxes": np.array(boxes, np.float32).reshape(-1, 4), "labels": labels}
        told.append({**own, "masks": np.array(inks).reshape(-1, *size)} if masks else own)
    return pictures, told


def _codes(names: Sequence[str], classes: int | Sequence[str] | None, seed: int) -> list[int]:
    """Return the numbers of the characters that are asked for."""
    if classes is None:
        return [*range(len(names))]
    if isinstance(classes, int):
        if not 1 <= classes <= len(names):
            raise ConfigError(f"classes={classes}: there are {len(names)} characters in this split, and 1 is the least")
        return [int(code) for code in np.random.default_rng([4, seed]).permutation(len(names))[:classes]]
    unknown = [name for name in classes if name not in names]
    if unknown or not classes:
        hint = closest(unknown[0], names) if unknown else ""
        raise ConfigError(
            f"classes={brief(list(classes))}: {f'{unknown[0]!r} is no character of this split' if unknown else 'none'}"
            f"{hint or ': '}glyphs() has their names"
        )
    places = {name: code for code, name in enumerate(names)}
    return [places[name] for name in dict.fromkeys(classes)]


def _turned(generator: np.random.Generator, images: Pixels, sides: tuple[int, int]) -> Pixels:
    """Return one of a character's images, turned, brought to a size and cut to its ink: ``[h, w]``."""
    image = Image.fromarray(images[generator.integers(len(images))])
    side = int(generator.integers(sides[0], sides[1] + 1))
    image = image.crop(image.getbbox())
    over = 4 * side / max(image.size)  # turned when large, then made small: edges to a fraction of a pixel
    large = image.resize([max(1, round(over * length)) for length in image.size])
    large = large.rotate(generator.uniform(-_TILT, _TILT), Image.Resampling.BICUBIC, expand=True)
    large = large.crop(large.getbbox())
    factor = side / max(large.size)
    small = large.resize([max(1, round(factor * length)) for length in large.size], Image.Resampling.BOX)
    inked = np.asarray(small)
    ink: Pixels = np.where(inked >= min(128, int(inked.max())), np.maximum(inked, 128), inked)  # however thin it is
    rows, columns = (np.flatnonzero((ink >= 128).any(axis)) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _room(
    generator: np.random.Generator, shape: tuple[int, ...], size: tuple[int, int], boxes: Sequence[Sequence[int]]
) -> tuple[int, int] | None:
    """Return the upper and left edge of a place where nothing lies, if one is found."""
    height, width = shape
    for _ in range(_TRIES):
        top, left = (int(generator.integers(0, whole - own + 1)) for whole, own in zip(size, shape, strict=True))
        apart = (
            left + width <= x or right <= left or top + height <= y or bottom <= top for x, y, right, bottom in boxes
        )
        if all(apart):
            return top, left
    return None


def _paint(generator: np.random.Generator, part: Pixels, ink: Pixels) -> None:
    """Paint a character on a part of a picture, in a colour that stands out from it."""
    there = part[ink >= 128].mean(0)
    colour = generator.uniform(0, 255, 3)
    while abs(float((colour - there) @ (0.3, 0.59, 0.11))) < _CONTRAST:
        colour = generator.uniform(0, 255, 3)
    share = ink[..., None] / 255
    part[:] = np.round(part * (1 - share) + colour * share).astype(np.uint8)


def _part(generator: np.random.Generator, grounds: Sequence[Any], size: tuple[int, int]) -> Pixels:
    """Return a part of a photograph, which is enlarged where it is too small, mirrored half of the time."""
    whole = np.asarray(grounds[int(generator.integers(len(grounds)))]).astype(np.uint8)
    factor = max(size[0] / whole.shape[0], size[1] / whole.shape[1])
    if factor > 1:
        wide, high = (max(int(np.ceil(factor * whole.shape[axis])), size[axis]) for axis in (1, 0))
        whole = np.asarray(Image.fromarray(whole).resize((wide, high)))
    top, left = (int(generator.integers(0, whole.shape[axis] - size[axis] + 1)) for axis in (0, 1))
    part = whole[top : top + size[0], left : left + size[1]]
    return part[:, :: -1 if generator.random() < 0.5 else 1].copy()


def _made_up(generator: np.random.Generator, size: tuple[int, int]) -> Pixels:
    """Return clouds of colour, of coarse and of fine grain, with a few shapes in them."""
    whole = np.zeros((*size, 3))
    for cells, weight in ((2, 60.0), (6, 35.0), (24, 15.0)):
        grain = generator.uniform(0, 255, (cells, cells, 3)).astype(np.uint8)
        whole += weight / 128 * (np.asarray(Image.fromarray(grain).resize(size[::-1]), np.float64) - 128)
    image = Image.fromarray(np.clip(whole + generator.uniform(70, 190, 3), 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for _ in range(int(generator.integers(2, 7))):
        x, y = np.sort(generator.uniform(0, 1, (2, 2)) * size[::-1], 0).T
        box, colour = [x[0], y[0], x[1], y[1]], tuple(generator.integers(0, 256, 3).tolist())
        draw = (pen.rectangle, pen.ellipse, pen.line)[int(generator.integers(3))]
        draw(box, fill=colour)
    return np.array(image)
