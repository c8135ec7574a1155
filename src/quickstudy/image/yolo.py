"""YOLO's annotations: a text file for each picture, of a line for each object. https://docs.ultralytics.com/datasets/"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from quickstudy.data.annotations import Annotations
from quickstudy.data.places import open_source
from quickstudy.data.samples import file_content, named
from quickstudy.data.scan import files_in
from quickstudy.data.table import Table
from quickstudy.errors import DataError
from quickstudy.image.objects import Degenerate, Objects, table_of

_NAMES = ("data.yaml", "dataset.yaml", "data.yml", "classes.txt", "obj.names")
_EDGE = 1e-3
"""Of a picture's side, by which a box may reach beyond it, as rounding has it."""


def yolo_table(
    folder: str | os.PathLike[str],
    endings: Collection[str],
    encode: Callable[..., Annotations],
    names_file: str | os.PathLike[str] | None = None,
    degenerate: Degenerate = "raise",
) -> Table:
    """Return the pictures below a folder or archive with the objects in ``labels/`` beside ``images/``, or beside them.

    A line is a class and the middle, width and height of a box, in shares of the picture's sides; or a class and the
    corners of a polygon, which the box then lies around. A picture without a text file, or with an empty one, has no
    object.

    Args:
        folder: of the pictures, or one above.
        endings: of pictures.
        encode: makes annotations of objects.
        names_file: ``data.yaml`` or ``classes.txt`` with the classes' names; None: it is sought in the folder and that
            above, and without one the numbers are their names.
        degenerate: what becomes of boxes without area.

    Raises:
        DataError: no text file is there, or a line is none.
    """
    source = open_source(folder)
    texts = {_key(one): one for one in source.files() if one.lower().endswith(".txt") and Path(one).name not in _NAMES}
    files = files_in(folder, endings)
    pictures: list[str] = files.names.tolist()
    if not any(_key(one) in texts for one in pictures):
        raise DataError(
            f"'{folder}' holds no text file that is called as one of its {len(pictures)} pictures: YOLO has "
            "labels/a.txt for images/a.jpg"
        )
    classes = _classes(folder, source, names_file)
    objects = []
    for row, one in enumerate(pictures):
        item = texts.get(_key(one))
        objects.append(_of_file(None if item is None else source.item(item), files[row], classes, degenerate))
    labels = [*classes.values()] or sorted(
        {label for one in objects for label in one["labels"]}, key=lambda one: int(one)
    )
    return table_of(files, range(len(pictures)), objects, labels, encode)


def _of_file(item: Any, picture: Any, classes: Mapping[int, str], degenerate: Degenerate) -> dict[str, Any]:
    if item is None:
        return Objects("").told()
    name = named(item)
    found = Objects(name, None, degenerate)
    lines = file_content(item, name, "annotations: the path of a text file").decode("utf-8-sig", "replace").split("\n")
    for number, line in enumerate(lines, 1):
        parts = line.split()
        if not parts:
            continue
        what = f"line {number}"
        try:
            code, numbers = int(parts[0]), [float(part) for part in parts[1:]]
        except ValueError as error:
            raise DataError(f"{what} of {name} is '{line.strip()[:80]}': a class and numbers are needed") from error
        if classes and code not in classes:
            raise DataError(f"{what} of {name} is of class {code}, and there are {len(classes)}, from 0: mend names")
        if len(numbers) == 4 or (len(numbers) > 4 and len(numbers) % 2):
            x, y, width, height = numbers[:4]
            box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        elif len(numbers) >= 6:
            box = (min(numbers[::2]), min(numbers[1::2]), max(numbers[::2]), max(numbers[1::2]))
        else:
            raise DataError(
                f"{what} of {name} has {len(numbers)} numbers behind its class: x, y, width and height of a box are 4, "
                "the corners of a polygon 6 or more"
            )
        if min(box) < -_EDGE or max(box) > 1 + _EDGE:
            raise DataError(
                f"{what} of {name} reaches from {box[0]:.4g} to {box[2]:.4g} and from {box[1]:.4g} to {box[3]:.4g} of "
                "its picture: YOLO's numbers are shares of its sides, from 0 to 1"
            )
        found.add([min(max(one, 0.0), 1.0) for one in box], classes.get(code, str(code)), what)
    return {**found.told(), "shares": True}


def _classes(folder: Any, source: Any, names_file: Any) -> dict[int, str]:
    """Return the names of classes by number; none where no file tells them."""
    item = names_file
    if item is None:
        inside = {Path(one).name: one for one in sorted(source.files(), reverse=True) if Path(one).name in _NAMES}
        above = [Path(folder).parent / one for one in _NAMES] if Path(folder).is_dir() else []
        chosen = next((one for one in _NAMES if one in inside), None)
        item = source.item(inside[chosen]) if chosen else next((one for one in above if one.is_file()), None)
    if item is None:
        return {}
    name = named(item)
    text = file_content(item, name, "names of classes: a path").decode("utf-8-sig", "replace")
    if not str(name).rstrip("'").endswith((".yaml", ".yml")):
        return dict(enumerate(line.strip() for line in text.split("\n") if line.strip()))
    try:
        told = yaml.safe_load(text)
        names = told["names"]
        return {int(one): str(label) for one, label in (names.items() if isinstance(names, dict) else enumerate(names))}
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{name} has no names of classes that can be read, names: [a, b]: {error}") from error


def _key(name: str) -> str:
    """Return a path without its ending and the folder that divides pictures from labels.

    >>> _key("images/train/a.jpg") == _key("labels/train/a.txt")
    True
    """
    return re.sub(r"(^|/)(images|labels)(?=/)", r"\1", str(Path(name).with_suffix("")).replace(os.sep, "/"))
