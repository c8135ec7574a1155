"""Objects in pictures as files tell of them, in one form: for each picture its boxes and their classes.

Boxes are x and y of two corners, in pixels of the file.

Shapes: M objects of a picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from quickstudy.batches import Batch
from quickstudy.data.annotations import Annotations
from quickstudy.data.places import Files
from quickstudy.data.table import Table
from quickstudy.errors import DataError, few
from quickstudy.image.whole import on_canvas
from quickstudy.kinds.detection import objects_of

Degenerate = Literal["raise", "drop"]
"""What becomes of a box that has no area: an error that names it, or it is left out."""
_BEYOND = 1.0
"""Pixels that a box may reach beyond its picture, as rounding has it; it is cut there."""


def objects_on_canvas(item: Any, example: Batch | None = None) -> dict[str, Any]:
    """Return the objects of a picture in the pixels of its canvas; see ``kinds.detection.objects_of``.

    Args:
        item: objects in pixels of the file; or, with ``"shares": True`` among them, in shares of its sides.
        example: the picture; None: they stay as they are.
    """
    found = objects_of(item)
    if example is None:
        return found
    if isinstance(item, Mapping) and item.get("shares"):  # of the picture's sides
        return {**found, "boxes": found["boxes"] * example["size"].flip(0).to(found["boxes"]).repeat(2)}
    return {**found, "boxes": on_canvas(found["boxes"], example)}


@dataclass
class Objects:
    """The objects of one picture, gathered one by one.

    Args:
        name: of the picture, for messages.
        size: width and height of the picture; None: not known.
        degenerate: see ``Degenerate``.
    """

    name: str
    size: tuple[float, float] | None = None
    degenerate: Degenerate = "raise"
    boxes: list[Sequence[float]] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)

    def add(self, box: Sequence[float], label: str, what: str, crowd: bool = False, corners: bool = True) -> None:
        """Add an object.

        Args:
            box: x and y of two corners.
            label: the name of its class.
            what: it is called in messages.
            crowd: whether it is several in one, which are not learned.
            corners: whether the file tells corners; else it tells a corner, width and height.

        Raises:
            DataError: the box has no area, or lies beyond the picture.
        """
        told = f"{what} of {self.name}"
        if len(box) != 4 or not np.isfinite(box).all():
            raise DataError(f"{told} is {[*box]}: a box is four finite numbers. Mend or remove it")
        left, top, right, bottom = box
        if right <= left or bottom <= top:
            if self.degenerate == "drop":
                return
            raise DataError(
                f"{told} has no area: it reaches from {left:g} to {right:g} and from {top:g} to {bottom:g}. Mend it, "
                "or leave such objects out, degenerate='drop'"
            )
        if self.size is not None:
            width, height = self.size
            if min(left, top) < -_BEYOND or right > width + _BEYOND or bottom > height + _BEYOND:
                swapped = not corners and right - left <= width and bottom - top <= height
                hint = " Are width and height those of the other corner (x, y, x, y for x, y, width, height)?" * swapped
                raise DataError(
                    f"{told} reaches from {left:g} to {right:g} and from {top:g} to {bottom:g}, beyond the picture of "
                    f"{width:g}x{height:g} pixels.{hint} Mend or remove it"
                )
            left, right = (min(max(one, 0), width) for one in (left, right))
            top, bottom = (min(max(one, 0), height) for one in (top, bottom))
        self.boxes.append((left, top, right, bottom))
        self.labels.append(label)
        self.crowd.append(crowd)

    def told(self) -> dict[str, Any]:
        """Return them as ``objects_of`` takes them."""
        boxes = np.array(self.boxes, np.float32).reshape(-1, 4)
        return {"boxes": boxes, "labels": self.labels, "crowd": np.array(self.crowd, np.bool_)}


def table_of(
    files: Files,
    rows: Sequence[int],
    objects: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    encode: Callable[..., Annotations],
) -> Table:
    """Return a table of pictures with their objects.

    Args:
        files: pictures.
        rows: which of them.
        objects: of each, as ``Objects.told`` returns them.
        names: of all classes that there are, in their order.
        encode: makes annotations of them.
    """
    chosen = files.select(np.array(rows, np.int64))
    return Table(chosen, annotations=encode(list(objects), list(dict.fromkeys(names))))


def check_found(lacking: Sequence[str], count: int, folder: object, what: str = "is not there") -> None:
    """Check that no picture is missing that annotations speak of.

    Raises:
        DataError: one is; the message names the first.
    """
    if lacking:
        raise DataError(
            f"the annotations speak of {count} pictures, and of {len(lacking)} the file {what} below '{folder}': "
            f"{few([Path(one).name for one in lacking])}. Name the folder that they lie in, or remove them from the "
            "annotations"
        )
