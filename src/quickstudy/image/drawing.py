"""What is told of places in a picture, drawn there for eyes: boxes and masks with names, points, classes of pixels."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

COLOURS = ("#ff5a36", "#2f9e44", "#1c7ed6", "#f59f00", "#ae3ec9", "#0ca678", "#e64980", "#5c940d")
"""Of classes, objects and points, in turn."""
_LARGEST, _SMALLEST = 1600, 400
"""Pixels of a drawing's longer side: larger pictures are drawn smaller, and small ones a whole number of times as
large, so that names can be read."""
_HIT, _MISS, _FALSE = "#1e8e3e", "#e08600", "#d93025"
_STATES = {"hit": (_HIT, "hit"), "miss": (_MISS, "missed (dashed)"), "false": (_FALSE, "false alarm")}
Key = tuple[str, str]
"""A colour and what it means."""


def drawing(image: Image.Image, told: Mapping[str, Any], labels: Sequence[str]) -> bytes:
    """Return a JPEG of a picture with an answer drawn into it, and below it what the colours mean.

    Args:
        image: the picture, of the file's pixels.
        told: as ``Kind.in_json`` tells it: a ``picture``, which is the drawing; or ``objects``, each with ``label``,
            ``score``, ``box``, maybe ``mask`` and ``keypoints``; or ``size`` and ``masks`` of classes in run lengths.
        labels: of all classes, which say their colours.
    """
    if "picture" in told:
        content = io.BytesIO()
        Image.open(io.BytesIO(base64.b64decode(told["picture"]))).save(content, "JPEG", quality=95, subsampling=0)
        return content.getvalue()
    canvas = Canvas(image)
    codes = {label: place for place, label in enumerate(labels)}
    if "masks" in told:
        canvas.classes(told["size"], told["masks"], codes)
    else:
        canvas.objects(told["objects"], codes)
    return canvas.jpeg()


def drawn_mistakes(image: Image.Image, told: Mapping[str, Any]) -> bytes:
    """Return a JPEG of a picture with what was found, missed and made up, and what the colours mean.

    Args:
        image: the picture as the network was fed with it.
        told: see ``Kind.mistakes``: ``objects``, each with ``state``, ``box``, ``label``, maybe ``score``, ``missing``
            and ``surplus``, masks ``[h, w]``, and ``points``, pairs of points found and true; or ``errors``, pairs of
            words and masks, and ``unasked``, a mask; and maybe a ``caption``.
    """
    canvas = Canvas(image)
    canvas.legend([("", told["caption"])] if "caption" in told else [])
    if "errors" in told:
        canvas.tint(canvas.cut(told["unasked"]), "#8a8f9c", 0.7)
        for place, (words, mask) in enumerate(told["errors"]):
            canvas.tint(canvas.cut(mask), COLOURS[place % len(COLOURS)], 0.75)
            canvas.legend([(COLOURS[place % len(COLOURS)], words)])
        canvas.legend([("#8a8f9c", "not asked")] if told["unasked"].any() else [])
        return canvas.jpeg()
    for one in told["objects"]:
        for part, colour, words in (
            ("missing", COLOURS[2], "pixels missing"),
            ("surplus", COLOURS[6], "pixels too many"),
        ):
            if part in one and one[part].any():
                canvas.tint(canvas.cut(one[part]), colour, 0.6)
                canvas.legend([(colour, words)])
    for one in told["objects"]:
        colour, words = _STATES[one["state"]]
        canvas.box(one["box"], colour, dashed=one["state"] == "miss")
        canvas.legend([(colour, words)])
    for one in told["objects"]:
        if one["state"] != "hit":
            score = f" {one['score']:.2f}" if "score" in one else ""
            canvas.tag(one["box"], _STATES[one["state"]][0], f"{one['label']}{score}")
        for found, true in one.get("points", ()):
            canvas.line_to(found, true, _FALSE)
            canvas.point(true[0], true[1], _MISS)
            canvas.point(found[0], found[1], _HIT)
            canvas.legend([(_HIT, "point found"), (_MISS, "true point")])
    return canvas.jpeg()


class Canvas:
    """A picture to draw upon, at a size that eyes can read.

    Args:
        image: the picture.
        largest: pixels of the longer side at most.
    """

    def __init__(self, image: Image.Image, largest: int = _LARGEST) -> None:
        longer = max(image.size)
        self.factor = min(1.0, largest / longer)
        if longer * 2 <= _SMALLEST:
            self.factor = float(_SMALLEST // longer)
        size = [max(1, round(side * self.factor)) for side in image.size]
        how = Image.Resampling.NEAREST if self.factor > 1 else Image.Resampling.BILINEAR
        self.image = image.convert("RGB").resize((size[0], size[1]), how, reducing_gap=2.0)
        self._draw = ImageDraw.Draw(self.image)
        self.line = max(2, round(max(size) / 300))
        self._font = font(max(11, round(max(size) / 60)))
        self._legend: list[Key] = []

    def objects(self, objects: Sequence[Mapping[str, Any]], codes: Mapping[str, int]) -> None:
        """Draw objects, each with its name and score; the surest lies on top."""
        masked = any("mask" in one for one in objects)
        colours = [_colour(place if masked else codes.get(one["label"], 0)) for place, one in enumerate(objects)]
        for one, colour in zip(objects, colours, strict=True):
            if "mask" in one:
                self.tint(mask_in(one["mask"]["size"], one["mask"]["counts"]), colour)
        points: dict[str, str] = {}
        of_each = [*zip(objects, colours, strict=True)][::-1]
        for one, colour in of_each:
            self.box(one["box"], colour)
        for one, colour in of_each:
            told = f"{one['label']} {one['score']:.2f}" if "score" in one else one["label"]
            self.tag(one["box"], colour, told)
            for place, (name, (x, y, *_)) in enumerate(one.get("keypoints", {}).items()):
                points[name] = _colour(place + 1)
                self.point(x, y, points[name])
        self.legend((colour, name) for name, colour in points.items())
        if not objects:
            self.legend([("", "nothing found")])

    def classes(self, size: Sequence[int], masks: Sequence[Mapping[str, Any]], codes: Mapping[str, int]) -> None:
        """Draw the classes of pixels; the legend has the share of each."""
        for one in masks:
            self.tint(mask_in(size, one["counts"]), _colour(codes.get(one["label"], 0)))
        self.legend((_colour(codes.get(one["label"], 0)), f"{one['label']} {one['share']:.1%}") for one in masks)

    def tint(self, mask: NDArray[np.bool_], colour: str, strength: float = 0.5) -> None:
        """Colour the pixels of a mask ``[h, w]`` of the file's pixels."""
        own = Image.fromarray(mask.astype(np.uint8) * round(255 * strength)).resize(self.image.size)
        self.image.paste(Image.new("RGB", self.image.size, colour), mask=own)

    def box(self, box: Sequence[float], colour: str, dashed: bool = False) -> None:
        """Draw a box, x and y of two corners in the file's pixels."""
        left, top, right, bottom = (round(one * self.factor) for one in box)
        right, bottom = max(right, left), max(bottom, top)
        if dashed:
            self._dashes(left, top, right, bottom, colour)
        else:
            self._draw.rectangle((left, top, right, bottom), outline=colour, width=self.line)

    def tag(self, box: Sequence[float], colour: str, told: str) -> None:
        """Write words on the upper edge of a box, or inside where there is no room above."""
        left, top = (round(one * self.factor) for one in box[:2])
        wide, high = self._size(told)
        x = max(0, min(left, self.image.width - wide))
        y = top - high if top >= high else min(max(top, 0), self.image.height - high)
        self._draw.rectangle((x, y, x + wide, y + high), fill=colour)
        self._draw.text((x + 3, y + 1), told, fill="white", font=self._font)

    def cut(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the part of a mask of a network's canvas where the picture is."""
        height, width = (round(side / self.factor) for side in self.image.size[::-1])
        return mask[:height, :width]

    def line_to(self, one: Sequence[float], other: Sequence[float], colour: str) -> None:
        """Draw a line between two points."""
        places = tuple(round(value * self.factor) for value in (*one[:2], *other[:2]))
        self._draw.line(places, fill=colour, width=self.line)

    def point(self, x: float, y: float, colour: str) -> None:
        """Draw a point with a white rim."""
        x, y, reach = x * self.factor, y * self.factor, 1.6 * self.line
        self._draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=colour, outline="white")

    def legend(self, keys: Any) -> None:
        """Say what colours mean, below the picture."""
        self._legend += [key for key in keys if key not in self._legend]

    def jpeg(self) -> bytes:
        """Return the drawing."""
        content = io.BytesIO()
        self.finished().save(content, "JPEG", quality=90, subsampling=0)
        return content.getvalue()

    def finished(self) -> Image.Image:
        """Return the drawing with its legend."""
        if not self._legend:
            return self.image
        places, x, y = [], 4, 4
        high = self._size("X")[1] + 4
        for colour, told in self._legend:
            wide = self._size(told)[0] + (high if colour else 0) + 8
            if x > 4 and x + wide > self.image.width:
                x, y = 4, y + high
            places.append((x, y, colour, told))
            x += wide
        width = max(self.image.width, max(x + self._size(told)[0] + high for x, _, _, told in places))
        whole = Image.new("RGB", (width, self.image.height + y + high + 4), "white")
        whole.paste(self.image)
        draw = ImageDraw.Draw(whole)
        for x, y, colour, told in places:
            y += self.image.height
            if colour:
                draw.rectangle((x, y + 2, x + high - 6, y + high - 4), fill=colour)
                x += high
            draw.text((x, y), told, fill="#1c2230", font=self._font)
        return whole

    def _size(self, told: str) -> tuple[int, int]:
        _, top, right, bottom = self._draw.textbbox((0, 0), told + "|", font=self._font)
        return round(right) + 4, round(bottom - min(top, 0)) + 3

    def _dashes(self, left: int, top: int, right: int, bottom: int, colour: str) -> None:
        dash = 4 * self.line
        for x in range(left, right, 2 * dash):
            for y in (top, bottom):
                self._draw.line((x, y, min(x + dash, right), y), fill=colour, width=self.line)
        for y in range(top, bottom, 2 * dash):
            for x in (left, right):
                self._draw.line((x, y, x, min(y + dash, bottom)), fill=colour, width=self.line)


def mask_in(size: Sequence[int], counts: Sequence[int]) -> NDArray[np.bool_]:
    """Return the mask ``[h, w]`` that run lengths tell; see ``functional.masks.in_runs``.

    >>> mask_in([2, 2], [1, 3]).tolist()
    [[False, True], [True, True]]
    """
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return flat.reshape(int(size[1]), int(size[0])).T


def font(size: int) -> ImageFont.FreeTypeFont:
    """Return letters of so many pixels, which matplotlib brings: Latin, Greek, Cyrillic and more."""
    import matplotlib  # which takes a while, and few draw

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def _colour(place: int) -> str:
    return COLOURS[place % len(COLOURS)]
