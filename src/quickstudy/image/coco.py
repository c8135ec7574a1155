"""COCO's annotations, one JSON file of all pictures, and its results. https://cocodataset.org/#format-data"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from quickstudy.data.annotations import Annotations
from quickstudy.data.places import open_source
from quickstudy.data.samples import file_content, named
from quickstudy.data.scan import files_in
from quickstudy.data.table import Table
from quickstudy.errors import DataError, brief, few
from quickstudy.image.objects import Degenerate, Objects, table_of
from quickstudy.image.pairs import rows_named

NAMES = ("annotations.json", "_annotations.coco.json", "instances.json", "labels.json")
"""What the file is called where nobody says."""


def coco_table(
    folder: str | os.PathLike[str],
    ann_file: str | os.PathLike[str] | None,
    endings: Collection[str],
    encode: Callable[..., Annotations],
    degenerate: Degenerate = "raise",
) -> Table:
    """Return the pictures of a folder or archive with their objects.

    Args:
        folder: of the pictures, or one above.
        ann_file: the JSON file; None: it lies in the folder, as one of ``NAMES`` or the only one.
        endings: of pictures.
        encode: makes annotations of objects.
        degenerate: what becomes of boxes without area.

    Raises:
        DataError: a file is missing or is no such JSON, a picture is not there, an id is there twice or unknown, or a
            box is none.
    """
    place = _found(folder) if ann_file is None else ann_file
    name = named(place)
    told = _read(file_content(place, name, "annotations: the path of a JSON file"), name)
    categories = _by_id(told["categories"], "category", name)
    pictures = _by_id(told["images"], "image", name)
    classes = {number: _class_of(one, number, name) for number, one in categories.items()}
    points = next((_points_of(one, number, name) for number, one in categories.items() if one.get("keypoints")), ())
    files = files_in(folder, endings)
    paths = [_path_of(one, number, name) for number, one in pictures.items()]
    rows = rows_named(files.names.tolist(), paths, folder, name)
    objects = {
        number: Objects(
            f"'{Path(path).name}' in {name}", _size_of(one, number, name), degenerate, keypoint_names=points
        )
        for path, (number, one) in zip(paths, pictures.items(), strict=True)
    }
    for number, one in _by_id(told.get("annotations") or [], "annotation", name).items():
        _add(one, f"annotation {number}", objects, classes, name)
    return table_of(files, rows, [one.told() for one in objects.values()], [*classes.values()], encode)


def _add(
    one: Mapping[str, Any], what: str, objects: Mapping[Any, Objects], classes: Mapping[Any, str], name: str
) -> None:
    if not _is_among(one.get("image_id"), objects):
        raise DataError(f"{what} in {name} is of image {brief(one.get('image_id'))}, which is not among its images")
    if not _is_among(one.get("category_id"), classes):
        raise DataError(
            f"{what} in {name} is of category {brief(one.get('category_id'))}, which is not among its categories "
            f"({few([f'{number} ({label})' for number, label in classes.items()])})"
        )
    box, crowd = _numbers(one.get("bbox")), one.get("iscrowd") or 0
    if box is None or len(box) != 4:
        raise DataError(
            f"{what} in {name} has the bbox {brief(one.get('bbox'))}: x, y, width and height are needed, as numbers"
        )
    if not isinstance(crowd, int) or crowd not in (0, 1):
        raise DataError(
            f"{what} in {name} has iscrowd {brief(crowd)}: it is 0, or 1 where it is several objects in one"
        )
    x, y, width, height = box
    own, label = objects[one["image_id"]], classes[one["category_id"]]
    more: dict[str, Any] = {"masks": one.get("segmentation")}
    if own.keypoint_names:
        count = len(own.keypoint_names)
        there = _numbers(one.get("keypoints") or [0] * 3 * count)
        if there is None or len(there) != 3 * count:
            has = brief(one["keypoints"]) if there is None else f"{len(there)} numbers"
            raise DataError(f"{what} of {own.name} has {has} of keypoints: {count} of x, y and v are {3 * count}")
        more["keypoints"] = there
    own.add((x, y, x + width, y + height), label, what, bool(crowd), corners=False, **more)


def _is_among(number: Any, known: Mapping[Any, Any]) -> bool:
    return isinstance(number, (int, float, str)) and not isinstance(number, bool) and number in known


def _numbers(told: Any) -> list[float] | None:
    """Return a list of numbers; None where it is none."""
    if not isinstance(told, list) or any(isinstance(one, bool) or not isinstance(one, (int, float)) for one in told):
        return None
    return [float(one) for one in told]


def _class_of(category: Mapping[str, Any], number: Any, name: str) -> str:
    label = number if category.get("name") is None else category["name"]
    if not isinstance(label, (str, int)):
        raise DataError(f"category {number} in {name} has the name {brief(label)}: a text is needed")
    return str(label)


def _points_of(category: Mapping[str, Any], number: Any, name: str) -> tuple[str, ...]:
    points = category["keypoints"]
    if not isinstance(points, list) or not all(isinstance(one, str) for one in points):
        raise DataError(f"category {number} in {name} has the keypoints {brief(points)}: a list of names is needed")
    return tuple(points)


def _path_of(picture: Mapping[str, Any], number: Any, name: str) -> str:
    path = picture.get("file_name")
    if not isinstance(path, str) or not path.strip("/\\. "):
        raise DataError(f"image {number} in {name} has the file_name {brief(path)}: the path of a picture is needed")
    return path


def _size_of(picture: Mapping[str, Any], number: Any, name: str) -> tuple[float, float] | None:
    """Return width and height as they are told; None where they are not."""
    told = [picture.get(side) or 0 for side in ("width", "height")]
    size = _numbers(told)
    if size is None or not all(math.isfinite(one) and one >= 0 for one in size):
        raise DataError(
            f"image {number} in {name} has the width and height {brief(told)}: numbers of pixels are needed"
        )
    return (size[0], size[1]) if all(size) else None


def _found(folder: str | os.PathLike[str]) -> Any:
    """Return the file of annotations in a folder."""
    source = open_source(folder)
    there = [one for one in source.files() if one.lower().endswith(".json")]
    chosen = [one for one in there if Path(one).name.lower() in NAMES] or there
    if len(chosen) != 1:
        raise DataError(
            f"'{folder}' holds {len(chosen)} JSON files{': ' * bool(chosen)}{few(chosen)}: name that of the "
            "annotations, train_ann_file="
        )
    return source.item(chosen[0])


def _read(content: bytes, name: str) -> dict[str, Any]:
    try:
        told = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is no JSON that can be read: {error}") from error
    lacking = [
        key for key in ("images", "categories") if not isinstance(told, dict) or not isinstance(told.get(key), list)
    ]
    if lacking:
        raise DataError(f"{name} has no list {' and no list '.join(map(repr, lacking))}: are these COCO's annotations?")
    return dict(told)


def _by_id(rows: Any, what: str, name: str) -> dict[Any, Mapping[str, Any]]:
    found: dict[Any, Mapping[str, Any]] = {}
    if not isinstance(rows, list):
        raise DataError(f"'{what}s' in {name} is {brief(rows)}: a list is needed")
    for place, row in enumerate(rows):
        own = row.get("id") if isinstance(row, dict) else None
        if not isinstance(own, (int, str)) or isinstance(own, bool):
            raise DataError(f"{what} number {place} in {name} has no id: {brief(row)}")
        if own in found:
            raise DataError(f"the {what} {own!r} is twice in {name}: give each an id of its own")
        found[own] = row
    return found
