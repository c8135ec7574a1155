"""Objects in pictures as files tell of them, in one form: for each picture its boxes and their classes.

Boxes are x and y of two corners, in pixels of the file.

Shapes: M objects of a picture.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from quickstudy.batches import Batch
from quickstudy.data.annotations import Annotations
from quickstudy.data.places import Files
from quickstudy.data.table import Table
from quickstudy.errors import DataError, brief, few, require
from quickstudy.image.masks import read_mask
from quickstudy.image.whole import on_canvas
from quickstudy.kinds.detection import objects_of

Degenerate = Literal["raise", "drop"]
"""What becomes of a box that has no area: an error that names it, or it is left out."""
OBJECT = "object"
"""The class of what is told apart and not named."""
_BORDER = 255
"""In masks of objects the number of pixels around them, which are of none."""
_BEYOND = 0.05
"""Of a picture's side, by which a box may reach beyond it, as rounding and labelling have it; it is cut there."""
_FAR = 16  # sides of a picture from its corner, beyond which no polygon is meant


def objects_on_canvas(item: Any, example: Batch | None = None) -> dict[str, Any]:
    """Return the objects of a picture in the pixels of its canvas; see ``kinds.detection.objects_of``.

    Args:
        item: objects in pixels of the file; or, with ``"shares": True`` among them, in shares of its sides.
        example: the picture; None: they stay as they are.

    Raises:
        DataError: an object lies beside the picture, or they are of one of another size.
    """
    found = objects_of(item)
    if example is None:
        return found
    if item.get("shares"):  # of the picture's sides
        return {**found, "boxes": found["boxes"] * example["size"].flip(0).to(found["boxes"]).repeat(2)}
    check_size(item.get("picture_size"), example["full"].tolist(), item.get("picture", "the picture"))
    boxes, (height, width) = found["boxes"], example["full"].tolist()
    beside = (boxes[:, 0] >= width) | (boxes[:, 1] >= height) | (boxes[:, 2] <= 0) | (boxes[:, 3] <= 0)
    if bool(beside.any()):
        number = int(beside.nonzero()[0])
        raise DataError(
            f"box {number} is {boxes[number].tolist()}, beside the picture of {width}x{height}: are these pixels of "
            "another size, or of the picture before it was turned?"
        )
    return {**found, "boxes": on_canvas(boxes, example)}


def check_size(told: Sequence[float] | None, full: Sequence[float], name: str) -> None:
    """Check that annotations are of a picture as it is read: of its size, turned as its camera says.

    Args:
        told: width and height, as annotations have them; None: they have none.
        full: height and width of the file.
        name: of the picture, for messages.

    Raises:
        DataError: the annotations tell of another size; places in it are never brought to this one.
    """
    height, width = full
    if told is None or tuple(told) == (width, height):
        return
    so = f"{name} is told to be {told[0]:g}x{told[1]:g}"
    if tuple(told) == (height, width):
        raise DataError(
            f"{so}, and is {width:g}x{height:g}: were boxes drawn before it was "
            "turned? It is read as its camera says it is to be turned (EXIF). Save it upright, without that, and "
            "annotate it so, or turn the annotations"
        )
    raise DataError(
        f"{so}, and its file is {width:g}x{height:g}: boxes in pixels of another "
        "size lie elsewhere, and are not scaled. Take the picture that was annotated, or bring boxes, width and height "
        "in the annotations to the size of the file"
    )


def instances_on_canvas(item: Any, example: Batch | None = None) -> dict[str, Any]:
    """Return objects with ``masks`` uint8 ``[M, H, W]`` on the canvas; see ``objects_on_canvas``.

    Args:
        item: objects, among them ``masks``: M arrays of the picture's size, or what COCO calls a segmentation:
            polygons, or run lengths. Or a mask, an array or a file, whose numbers tell the objects apart.
        example: the picture; None: masks are left out.

    Raises:
        DataError: an object has no mask, or one that is none, or of another size than the picture.
    """
    if not isinstance(item, Mapping):
        item = _apart(item)
    found = objects_on_canvas(item, example)
    masks = [mask for mask in item.get("masks", ()) if mask is not None]
    if len(masks) != len(found["boxes"]):
        raise DataError(f"there are {len(found['boxes'])} objects and {len(masks)} masks: each needs one")
    if example is None:
        return found
    full, size = example["full"].tolist(), example["size"].tolist()
    if item.get("shares"):  # of the picture's sides
        sides = np.array(full[::-1], np.float64)
        masks = [[(np.reshape(part, (-1, 2)) * sides).ravel().tolist() for part in mask] for mask in masks]
    whole = torch.zeros(len(masks), *example["pixels"].shape[1:], dtype=torch.uint8)
    for number, mask in enumerate(masks):
        whole[number, : size[0], : size[1]] = torch.from_numpy(mask_of(mask, full, size, f"object {number}"))
    return {**found, "masks": whole}


def _apart(item: Any) -> dict[str, Any]:
    """Return the objects that the numbers of a mask tell apart; 0 is none, and see ``_without_border`` of 255."""
    ids = read_mask(item).numpy()
    numbers = _without_border([one for one in np.unique(ids).tolist() if one])
    masks = [ids == one for one in numbers]
    spans = [[np.flatnonzero(mask.any(axis)) for axis in (0, 1)] for mask in masks]
    boxes = [[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1] for columns, rows in spans]
    return {"boxes": np.array(boxes, np.float32).reshape(-1, 4), "labels": [OBJECT] * len(masks), "masks": masks}


def _without_border(numbers: list[int]) -> list[int]:
    """Return the numbers of objects, in their order.

    Beside objects 1, 2, ... without a hole 255 is the border around them, as Pascal VOC has it. It is an object where
    all numbers lie equally far apart up to it, as of masks that are made to be looked at.

    Raises:
        DataError: it could be either.

    >>> _without_border([1, 2, 255]), _without_border([127, 255]), _without_border([255])
    ([1, 2], [127, 255], [255])
    """
    *others, last = numbers or [0]
    if not others or last != _BORDER:
        return numbers
    if all(abs(one - last * place / len(numbers)) <= 1 for place, one in enumerate(numbers, 1)):
        return numbers
    if others == [*range(1, len(others) + 1)]:
        return others
    raise DataError(
        f"in a mask of the numbers {few(map(str, numbers))} 255 could be an object, or the border around objects: "
        "number objects 1, 2, ... without a hole, and set what is of none to 0"
    )


def keypoints_on_canvas(item: Any, example: Batch | None = None) -> dict[str, Any]:
    """Return objects with ``keypoints`` ``[M, J, 3]`` in pixels of the canvas; see ``objects_on_canvas``.

    Args:
        item: objects, among them ``keypoints`` ``[M, J, 3]``: x, y and whether it is labelled (0: it is not); and,
            where they are known, ``keypoint_names``, of which left and right ones take each other's place in a mirror,
            or ``mirror``, which takes the place of each there.
        example: the picture; None: they stay as they are.

    Raises:
        DataError: an object has no keypoints, or another number than the others.
    """
    found = objects_on_canvas(item, example)
    names = tuple(item.get("keypoint_names") or ())
    count = len(found["boxes"])
    try:
        told = np.asarray(item["keypoints"] if count else np.zeros((0, len(names), 3)), np.float32)
        points = torch.from_numpy(told.reshape(count, told.size // 3 // max(count, 1) or len(names), 3))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"keypoints are [M, J, 3], x, y and whether it is labelled, for {count} objects, and not "
            f"{brief(item.get('keypoints'))}"
        ) from error
    if names and len(points) and points.shape[1] != len(names):
        raise DataError(f"an object has {points.shape[1]} keypoints, and there are {len(names)} names: {few(names)}")
    if not bool(points.isfinite().all()):
        raise DataError("a keypoint is not finite: mend it, or say that it is not labelled, 0, 0, 0")
    if example is not None:
        shown = example["size"].flip(0).to(points)  # of places in shares of the picture's sides
        places = points[..., :2] * shown if item.get("shares") else on_canvas(points[..., :2], example)
        points = torch.cat([places, points[..., 2:]], -1)
    swap = torch.tensor(item.get("mirror") or mirrored(names) or [*range(points.shape[1])], dtype=torch.int64).expand(
        len(points), -1
    )
    known = {"keypoint_names": names} if names else {}
    return {**found, "keypoints": points, "swap": swap.clone(), **known}


def mirrored(names: Sequence[str]) -> list[int]:
    """Return for each keypoint the place of that which it becomes in a mirror.

    >>> mirrored(["nose", "left_eye", "right_eye", "leftEar", "rightEar"])
    [0, 2, 1, 4, 3]
    """
    lower = [name.lower() for name in names]
    swapped = [re.sub("left|right", lambda side: "right" if side[0] == "left" else "left", name) for name in lower]
    return [lower.index(other) if other in lower else place for place, other in enumerate(swapped)]


def mask_of(mask: Any, full: Sequence[int], size: Sequence[int], name: str) -> NDArray[np.uint8]:
    """Return a mask of an object in a picture that is shown at another size, ``[h, w]``.

    Args:
        mask: an array ``[H, W]``; polygons, each a list x, y, x, y, ...; or run lengths, ``{"size", "counts"}``.
        full: H and W of the file.
        size: h and w.
        name: of the object, for messages.

    Raises:
        DataError: it is none, or of another size.
        MissingPackageError: pycocotools is not installed.
    """
    lists = isinstance(mask, (list, tuple)) and mask and isinstance(mask[0], (list, tuple))
    if lists and [len(mask), len(mask[0])] != [*full]:  # which would be rows of pixels
        return _filled(mask, full, size, name)
    if isinstance(mask, Mapping):
        told = mask.get("size")
        if not isinstance(told, (list, tuple)) or list(told) != list(full):
            raise DataError(
                f"the mask of {name} has the size {brief(mask.get('size'))}, and its picture {list(full)}, height and "
                "width"
            )
        array = _decoded(dict(mask), name)
    else:
        array = np.asarray(mask)
        if array.shape != tuple(full):
            raise DataError(f"the mask of {name} has the shape {array.shape}, and its picture {tuple(full)}")
    rows, columns = (
        ((np.arange(shown) + 0.5) * (whole / shown)).astype(np.int64) for shown, whole in zip(size, full, strict=True)
    )
    shown = (array[rows][:, columns] > 0).astype(np.uint8)
    if not shown.any():  # so small that it lies between: whatever it touches is of it
        down, across = np.nonzero(array > 0)
        shown[down * size[0] // full[0], across * size[1] // full[1]] = 1
    return shown


def _filled(polygons: Sequence[Any], full: Sequence[int], size: Sequence[int], name: str) -> NDArray[np.uint8]:
    for one in polygons:
        if not isinstance(one, (list, tuple)):
            raise DataError(f"a polygon of {name} is {brief(one)}: a list of x and y of each corner is needed")
        if len(one) < 6 or len(one) % 2:
            raise DataError(f"a polygon of {name} has {len(one)} numbers: x and y of three corners or more are needed")
    try:
        corners = [np.asarray(one, np.float64) for one in polygons]
    except (TypeError, ValueError) as error:
        raise DataError(f"a polygon of {name} holds what is no number: {error}") from error
    for one in corners:  # of which pycocotools dies where they are none, or far away
        if not np.isfinite(one).all() or np.abs(one).max() > _FAR * max(full):
            beside = f"its picture of {full[1]}x{full[0]}"
            raise DataError(f"a polygon of {name} has corners far from {beside}: {brief(one.tolist())}")
    scale = np.array([size[1] / full[1], size[0] / full[0]] * (max(map(len, corners)) // 2))
    scaled = [(one * scale[: len(one)]).tolist() for one in corners]
    coco = require("pycocotools.mask", extra="detection")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of numpy's __array__ in pycocotools
        runs = coco.merge(coco.frPyObjects(scaled, int(size[0]), int(size[1])))
        shown = np.array(coco.decode(runs), np.uint8)
    if not shown.any():  # so small that it lies between: whatever it touches is of it
        for one in scaled:
            ends = np.array(one).reshape(-1, 2)
            for start, end in zip(ends, np.roll(ends, -1, 0), strict=True):
                count = 2 + int(2 * np.abs(end - start).max())
                across, down = np.floor(np.linspace(start, end, count)).astype(np.int64).T
                inside = (across >= 0) & (across < size[1]) & (down >= 0) & (down < size[0])
                shown[down[inside], across[inside]] = 1
    return shown


def _decoded(runs: dict[str, Any], name: str) -> NDArray[np.uint8]:
    coco = require("pycocotools.mask", extra="detection")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            if isinstance(runs["counts"], (list, tuple)):
                if sum(runs["counts"]) != runs["size"][0] * runs["size"][1]:
                    raise ValueError(f"they cover {sum(runs['counts'])} pixels of {runs['size'][0] * runs['size'][1]}")
                runs = coco.frPyObjects(runs, *runs["size"])
            return np.asarray(coco.decode(runs), np.uint8)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"the run lengths of {name} cannot be read: {error}") from error


@dataclass
class Objects:
    """The objects of one picture, gathered one by one.

    Args:
        name: of the picture, for messages.
        size: width and height of the picture as annotations tell them, which are compared with those of the file once
            that is read; None: not known.
        degenerate: see ``Degenerate``.
    """

    name: str
    size: tuple[float, float] | None = None
    degenerate: Degenerate = "raise"
    boxes: list[Sequence[float]] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)
    more: dict[str, list[Any]] = field(default_factory=dict)
    keypoint_names: Sequence[str] = ()
    mirror: Sequence[int] = ()

    def add(
        self,
        box: Sequence[float],
        label: str,
        what: str,
        crowd: bool = False,
        corners: bool = True,
        **more: Any,
    ) -> None:
        """Add an object.

        Args:
            box: x and y of two corners.
            label: the name of its class.
            what: it is called in messages.
            crowd: whether it is several in one, which are not learned.
            corners: whether the file tells corners; else it tells a corner, width and height.
            more: its ``masks`` and ``keypoints``.

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
            over = max(-left / width, -top / height, right / width - 1, bottom / height - 1)
            if over > _BEYOND:
                swapped = not corners and left < right - left <= width and top < bottom - top <= height
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
        for name, value in more.items():
            self.more.setdefault(name, []).append(value)

    def told(self) -> dict[str, Any]:
        """Return them as ``objects_of`` takes them."""
        boxes = np.array(self.boxes, np.float32).reshape(-1, 4)
        told = {"boxes": boxes, "labels": self.labels, "crowd": np.array(self.crowd, np.bool_), **self.more}
        if self.size is not None:
            told |= {"picture": self.name, "picture_size": tuple(self.size)}
        if self.keypoint_names:
            told["keypoint_names"] = tuple(self.keypoint_names)
        return {**told, "mirror": list(self.mirror)} if self.mirror else told


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
