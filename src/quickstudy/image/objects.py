"""Objects in pictures: from the pixels of a file to those of the canvas that a network is shown."""

from __future__ import annotations

from typing import Any

from quickstudy.batches import Batch
from quickstudy.image.whole import on_canvas
from quickstudy.kinds.detection import objects_of


def objects_on_canvas(item: Any, example: Batch | None = None) -> dict[str, Any]:
    """Return the objects of a picture in the pixels of its canvas; see ``kinds.detection.objects_of``.

    Args:
        item: objects in pixels of the file.
        example: the picture; None: they stay as they are.
    """
    found = objects_of(item)
    return found if example is None else {**found, "boxes": on_canvas(found["boxes"], example)}
