"""VGG Image Annotator's annotations: one JSON or CSV file of all pictures. https://www.robots.ox.ac.uk/~vgg/software/via/"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from quickstudy.data.annotations import Annotations
from quickstudy.data.samples import file_content, named
from quickstudy.data.scan import files_in
from quickstudy.data.table import Table
from quickstudy.errors import DataError, brief, few
from quickstudy.image.objects import Degenerate, Objects, table_of
from quickstudy.image.pairs import rows_named

_HEADER = 4096  # bytes in which the first line of a CSV file ends
Region = tuple[Mapping[str, Any], Mapping[str, Any]]
"""The shape of an object, and what is said of it."""


def via_table(
    folder: str | os.PathLike[str],
    ann_file: str | os.PathLike[str],
    endings: Collection[str],
    encode: Callable[..., Annotations],
    label_field: str | None = None,
    degenerate: Degenerate = "raise",
) -> Table:
    """Return the pictures of a folder or archive with the boxes around their rectangles, polygons and ellipses.

    Args:
        folder: of the pictures, or one above.
        ann_file: the JSON or CSV file, or a project's JSON.
        endings: of pictures.
        encode: makes annotations of objects.
        label_field: the attribute of regions that is their class; None: the only one that they have.
        degenerate: what becomes of boxes without area.

    Raises:
        DataError: a file is missing or damaged, a picture is not there or there twice, or a region is no object.
    """
    name = named(ann_file)
    content = file_content(ann_file, name, "annotations: the path of a JSON or CSV file")
    try:
        text = content.decode("utf-8-sig")
        told = _of_csv(text) if _is_csv(ann_file) else _of_json(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{name} is not of VIA's form, or damaged: {error!r}. Export the annotations anew") from error
    files = files_in(folder, endings)
    rows = rows_named(files.names.tolist(), [*told], folder, name)
    field = label_field or _only_field(told, name)
    objects = [_objects(regions, f"'{one}' in {name}", field, degenerate) for one, regions in told.items()]
    labels = sorted({label for one in objects for label in one.labels})
    return table_of(files, rows, [one.told() for one in objects], labels, encode)


def via_file(source: Any, files: Iterable[str]) -> Any:
    """Return the only JSON or CSV file among those of a folder that is of VIA's form; None where there is not one.

    Args:
        source: of the folder or archive.
        files: in it.
    """
    found = []
    for one in sorted(files):
        ending = Path(one).suffix.lower()
        if ending not in (".json", ".csv"):
            continue
        item = source.item(one)
        content = file_content(item, named(item), "annotations: the path of a JSON or CSV file")
        if ending == ".csv":
            beginning = content[:_HEADER]
            marked = b"region_shape_attributes" in beginning.split(b"\n")[0]
        else:
            marked = b'"shape_attributes"' in content or b'"_via_img_metadata"' in content
        if marked:
            found.append(item)
    return found[0] if len(found) == 1 else None


def _is_csv(file: Any) -> bool:
    return Path(str(getattr(file, "name", file))).suffix.lower() == ".csv"


def _of_json(told: Any) -> dict[str, list[Region]]:
    found: dict[str, list[Region]] = {}
    for one in told.get("_via_img_metadata", told).values():
        regions = one.get("regions") or []
        regions = regions.values() if isinstance(regions, dict) else regions  # of version 1
        own = found.setdefault(str(one["filename"]), [])
        own += [(region["shape_attributes"], region.get("region_attributes") or {}) for region in regions]
    return found


def _of_csv(text: str) -> dict[str, list[Region]]:
    found: dict[str, list[Region]] = {}
    for row in csv.DictReader(io.StringIO(text)):
        own = found.setdefault(row.get("filename") or row["#filename"], [])
        shape = json.loads(row["region_shape_attributes"] or "{}")
        if shape:  # of a picture without objects there is a row, too
            own.append((shape, json.loads(row["region_attributes"] or "{}")))
    return found


def _only_field(told: Mapping[str, list[Region]], name: str) -> str:
    fields = list(dict.fromkeys(field for regions in told.values() for _, about in regions for field in about))
    if len(fields) == 1 or not any(told.values()):
        return fields[0] if fields else ""
    has = few(fields) or "none"
    raise DataError(f"{name} has not one attribute of regions ({has}): name that with the classes, label_field=")


def _objects(regions: list[Region], name: str, field: str, degenerate: Degenerate) -> Objects:
    found = Objects(name, None, degenerate)
    for number, (shape, about) in enumerate(regions):
        what = f"region {number}"
        label = about.get(field)
        if isinstance(label, dict):  # of boxes to tick
            ticked = [one for one, is_so in label.items() if is_so]
            label = ticked[0] if len(ticked) == 1 else None
        if label in (None, ""):
            raise DataError(f"{what} of {name} has no class, '{field}' ({brief(about)}): say what it is")
        found.add(_box(shape, f"{what} of {name}"), str(label), what)
    return found


def _box(shape: Mapping[str, Any], told: str) -> tuple[float, float, float, float]:
    """Return the box around a region."""
    kind = shape.get("name")
    try:
        if kind == "rect":
            x, y, width, height = (float(shape[part]) for part in ("x", "y", "width", "height"))
            return x, y, x + width, y + height
        if kind in ("polygon", "polyline"):
            across, down = ([float(one) for one in shape[f"all_points_{axis}"]] for axis in "xy")
            if len(across) != len(down) or len(across) < 3:
                raise DataError(
                    f"{told} is a {kind} of {len(across)} and {len(down)} numbers: 3 points or more are one"
                )
            return min(across), min(down), max(across), max(down)
        if kind in ("circle", "ellipse"):
            x, y = float(shape["cx"]), float(shape["cy"])
            wide, high = (float(shape[part]) for part in (("r", "r") if kind == "circle" else ("rx", "ry")))
            turn = float(shape.get("theta") or 0)  # in radians
            reach = [math.hypot(wide * math.cos(angle), high * math.sin(angle)) for angle in (turn, turn + math.pi / 2)]
            return x - reach[0], y - reach[1], x + reach[0], y + reach[1]
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{told} is {brief(dict(shape))}, which lacks a number of a {kind}: draw it anew") from error
    raise DataError(f"{told} is a {kind}, and a rect, polygon, polyline, circle or ellipse is an object: remove it")
