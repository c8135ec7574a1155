"""COCO's annotations, one JSON file of all pictures, and its results. https://cocodataset.org/#format-data"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from quickstudy.data.annotations import Annotations
from quickstudy.data.places import open_source
from quickstudy.data.samples import file_content, named
from quickstudy.data.scan import files_in
from quickstudy.data.table import Table
from quickstudy.errors import DataError, brief, few
from quickstudy.image.objects import Degenerate, Objects, check_found, table_of

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
    classes = {number: str(one.get("name", number)) for number, one in categories.items()}
    points = next((tuple(one["keypoints"]) for one in categories.values() if one.get("keypoints")), ())
    files = files_in(folder, endings)
    names: list[str] = files.names.tolist()
    by_path, by_name = (
        {one: row for row, one in enumerate(names)},
        _single({Path(one).name: one for one in names}, names),
    )
    rows, lacking, objects = [], [], {}
    for number, one in pictures.items():
        path = str(one.get("file_name", "")).replace("\\", "/")
        row = by_path.get(path, by_path.get(by_name.get(Path(path).name, "")))
        if row is None:
            lacking.append(path or f"of image {number}")
            continue
        rows.append(row)
        size = (one["width"], one["height"]) if one.get("width") and one.get("height") else None
        objects[number] = Objects(f"'{Path(path).name}' in {name}", size, degenerate, keypoint_names=points)
    check_found(lacking, len(pictures), folder)
    for number, one in _by_id(told.get("annotations") or [], "annotation", name).items():
        _add(one, f"annotation {number}", objects, classes, name)
    return table_of(files, rows, [one.told() for one in objects.values()], [*classes.values()], encode)


def _add(
    one: Mapping[str, Any], what: str, objects: Mapping[Any, Objects], classes: Mapping[Any, str], name: str
) -> None:
    if one.get("image_id") not in objects:
        raise DataError(f"{what} in {name} is of image {one.get('image_id')!r}, which is not among its images")
    if one.get("category_id") not in classes:
        raise DataError(
            f"{what} in {name} is of category {one.get('category_id')!r}, which is not among its categories "
            f"({few([f'{number} ({label})' for number, label in classes.items()])})"
        )
    box = one.get("bbox")
    if not isinstance(box, (list, tuple)) or len(box) != 4:
        raise DataError(f"{what} in {name} has the bbox {brief(box)}: x, y, width and height are needed")
    x, y, width, height = (float(value) for value in box)
    own, label = objects[one["image_id"]], classes[one["category_id"]]
    more: dict[str, Any] = {"masks": one.get("segmentation")}
    if own.keypoint_names:
        count, there = len(own.keypoint_names), one.get("keypoints") or [0] * 3 * len(own.keypoint_names)
        if len(there) != 3 * count:
            raise DataError(
                f"{what} of {own.name} has {len(there)} numbers of keypoints: {count} of x, y and v are {3 * count}"
            )
        more["keypoints"] = there
    own.add((x, y, x + width, y + height), label, what, bool(one.get("iscrowd")), corners=False, **more)


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
    for place, row in enumerate(rows):
        if not isinstance(row, dict) or not isinstance(row.get("id"), (int, str)):
            raise DataError(f"{what} number {place} in {name} has no id: {brief(row)}")
        if row["id"] in found:
            raise DataError(f"the {what} {row['id']!r} is twice in {name}: give each an id of its own")
        found[row["id"]] = row
    return found


def _single(by_name: dict[str, str], names: list[str]) -> dict[str, str]:
    """Return the paths of names that only one file has."""
    counts: dict[str, int] = {}
    for one in names:
        counts[Path(one).name] = counts.get(Path(one).name, 0) + 1
    return {name: path for name, path in by_name.items() if counts[name] == 1}


def detections_to_coco(
    answers: Sequence[Sequence[Mapping[str, Any]]], image_ids: Sequence[int], category_ids: Mapping[str, int]
) -> list[dict[str, Any]]:
    """Return objects found as COCO's list of results, which ``json.dumps`` writes and pycocotools' ``loadRes`` reads.

    Args:
        answers: of each picture its objects, as a predictor of an ``ObjectDetector`` tells them.
        image_ids: of each picture.
        category_ids: by name of class.

    Raises:
        DataError: there are more of the one than of the other, or a class has no id.

    >>> found = [{"label": "cat", "score": 0.5, "box": [1.0, 2.0, 4.0, 6.0]}]
    >>> detections_to_coco([found], [9], {"cat": 3})
    [{'image_id': 9, 'category_id': 3, 'bbox': [1.0, 2.0, 3.0, 4.0], 'score': 0.5}]
    """
    if len(answers) != len(image_ids):
        raise DataError(
            f"there are answers to {len(answers)} pictures and {len(image_ids)} image_ids: give one for each"
        )
    rows = []
    for number, objects in zip(image_ids, answers, strict=True):
        for one in objects:
            if one["label"] not in category_ids:
                raise DataError(f"category_ids has no id of '{one['label']}'; it has {few(category_ids)}: add it")
            left, top, right, bottom = one["box"]
            box = [left, top, right - left, bottom - top]
            rows.append(
                {"image_id": number, "category_id": category_ids[one["label"]], "bbox": box, "score": one["score"]}
            )
    return rows
