"""Answers about places in pictures as COCO's JSON, which labelling tools and pycocotools read.

https://cocodataset.org/#format-data
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from quickstudy.errors import require


def coco_of(
    labels: Sequence[str],
    names: Sequence[str],
    sizes: Sequence[Sequence[int]],
    objects: Sequence[Sequence[Mapping[str, Any]]],
) -> dict[str, Any]:
    """Return COCO's ``{"images", "annotations", "categories"}`` of what was found in N pictures.

    Ids count from 1; ``annotations`` is a list of results, too, as pycocotools' ``loadRes`` takes it.

    Args:
        labels: names of all classes, in the order of their ids.
        names: of the pictures' files.
        sizes: height and width of each picture.
        objects: of each picture: ``label``, maybe ``score``, ``box``, x and y of two corners, ``mask``, run lengths,
            or ``keypoints``, x, y and score by name.

    Raises:
        MissingPackageError: there are masks, and pycocotools is not installed.
    """
    ids = {label: number for number, label in enumerate(labels, 1)}
    pictures: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    points: Mapping[str, Any] = {}
    for number, (name, (height, width), found) in enumerate(zip(names, sizes, objects, strict=True), 1):
        pictures.append({"id": number, "file_name": name, "height": int(height), "width": int(width)})
        for one in found:
            place = {"id": len(rows) + 1, "image_id": number, "category_id": ids[one["label"]]}
            rows.append({**place, **_entry(one)})
            points = one.get("keypoints", points)
    categories = [{"id": ids[label], "name": label} for label in labels]
    if points:
        categories = [{**one, "keypoints": [*points], "skeleton": []} for one in categories]
    return {"images": pictures, "annotations": rows, "categories": categories}


def _entry(one: Mapping[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = {"iscrowd": 0}
    if "box" in one:
        left, top, right, bottom = one["box"]
        entry |= {"bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top)}
    if "mask" in one:
        entry |= _of_mask(one["mask"], "bbox" in entry)
    if "keypoints" in one:
        flat = [number for x, y, _ in one["keypoints"].values() for number in (x, y, 2)]
        entry |= {"keypoints": flat, "num_keypoints": len(one["keypoints"])}
    return {**entry, "score": one["score"]} if "score" in one else entry


def _of_mask(mask: Mapping[str, Any], has_box: bool) -> dict[str, Any]:
    """Return run lengths as COCO compresses them, their area and the box around them."""
    coco = require("pycocotools.mask", extra="detection")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of numpy's __array__ in pycocotools
        runs = coco.frPyObjects(dict(mask), *mask["size"])
        box = {} if has_box else {"bbox": coco.toBbox(runs).tolist()}
        area = int(coco.area(runs))
    return {"segmentation": {"size": [*mask["size"]], "counts": runs["counts"].decode()}, "area": area, **box}
