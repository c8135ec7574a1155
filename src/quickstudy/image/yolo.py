"""YOLO's annotations: a text file for each picture, of a line for each object. https://docs.ultralytics.com/datasets/"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml  # type: ignore[import-untyped]

from quickstudy.data.annotations import Annotations
from quickstudy.data.places import open_source
from quickstudy.data.samples import file_content, named
from quickstudy.data.scan import files_in
from quickstudy.data.table import Table
from quickstudy.errors import DataError, brief, one_line
from quickstudy.image.objects import Degenerate, Objects, table_of
from quickstudy.image.pairs import by_key

_NAMES = ("data.yaml", "dataset.yaml", "data.yml", "classes.txt", "obj.names")
_BOX = 4  # numbers: x, y, width, height
_EDGE = 1e-3
"""Of a picture's side, by which a box may reach beyond it, as rounding has it."""


class _Told(NamedTuple):
    """What a file says of all pictures."""

    classes: Mapping[int, str] = {}
    """Names by number."""
    kpt_shape: tuple[int, int] | None = None
    """How many keypoints an object has, and how many numbers each of them; none, (0, 0); None: it is not said."""
    names: tuple[str, ...] = ()
    """Of keypoints."""
    mirror: tuple[int, ...] = ()
    """Of each keypoint the one that it becomes in a mirror."""


class _Line(NamedTuple):
    """An object, as a line of a text file has it."""

    what: str
    label: str
    numbers: list[float]


def yolo_table(
    folder: str | os.PathLike[str],
    endings: Collection[str],
    encode: Callable[..., Annotations],
    names_file: str | os.PathLike[str] | None = None,
    degenerate: Degenerate = "raise",
    kpt_shape: Sequence[int] | None = None,
) -> Table:
    """Return the pictures below a folder or archive with the objects in ``labels/`` beside ``images/``, or beside them.

    A line is a class and the middle, width and height of a box, in shares of the picture's sides, maybe with a
    confidence; or of a box and keypoints; or a class and the corners of a polygon, which the box then lies around. A
    picture without a text file, or with an empty one, has no object.

    Args:
        folder: of the pictures, or one above.
        endings: of pictures.
        encode: makes annotations of objects.
        names_file: ``data.yaml`` or ``classes.txt`` with the classes' names; None: it is sought in the folder and that
            above, and without one the numbers are their names.
        degenerate: what becomes of boxes without area.
        kpt_shape: how many keypoints an object has, and whether each is x and y, 2, or x, y and whether it is seen, 3;
            ``(0, 0)``: there are none. None: as ``data.yaml`` says; where it does not, an odd count of numbers of 7 or
            more is a box and keypoints of 3 numbers, and an even one a polygon, unless all could as well be keypoints.

    Raises:
        DataError: no text file is there, or a line is none, or could be a polygon as well as a box with keypoints.
    """
    source = open_source(folder)
    texts = [one for one in sorted(source.files()) if one.lower().endswith(".txt") and Path(one).name not in _NAMES]
    files = files_in(folder, endings)
    pictures: list[str] = files.names.tolist()
    of_key = by_key(texts, _key, "labels", {_key(one) for one in pictures})
    if not of_key:
        raise DataError(
            f"'{folder}' holds no text file that is called as one of its {len(pictures)} pictures: YOLO has "
            "labels/a.txt for images/a.jpg"
        )
    by_key(pictures, _key, "picture", of_key)
    told = _told(folder, source, names_file)
    if kpt_shape is not None:
        told = told._replace(kpt_shape=_shape_of(list(kpt_shape), "the data"))
    items = [source.item(of_key[_key(one)]) if _key(one) in of_key else None for one in pictures]
    lines = [[] if item is None else _lines_of(item, told.classes) for item in items]
    if told.kpt_shape is None:
        told = told._replace(kpt_shape=_shape_in([each.numbers for own in lines for each in own], folder))
    objects = [
        _objects("" if item is None else named(item), own, told, degenerate)
        for item, own in zip(items, lines, strict=True)
    ]
    labels = [*told.classes.values()] or sorted(
        {label for one in objects for label in one["labels"]}, key=lambda one: int(one)
    )
    return table_of(files, range(len(pictures)), objects, labels, encode)


def _lines_of(item: Any, classes: Mapping[int, str]) -> list[_Line]:
    name, found = named(item), []
    text = file_content(item, name, "annotations: the path of a text file").decode("utf-8-sig", "replace")
    for number, line in enumerate(text.split("\n"), 1):
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
        found.append(_Line(what, classes.get(code, str(code)), numbers))
    return found


def _shape_in(lines: Sequence[Sequence[float]], folder: object) -> tuple[int, int]:
    """Return the number of keypoints and of the numbers of each, by the lines of all files, where nothing else tells.

    Raises:
        DataError: they could be polygons as well as boxes with keypoints.
    """
    long = [line for line in lines if len(line) > _BOX + 1]
    counts = {len(line) for line in long}
    count = next(iter(counts)) if len(counts) == 1 else 0
    if count % 2 and (count - _BOX) % 3 == 0:  # which no polygon has, nor points of 2 numbers
        return (count - _BOX) // 3, 3
    if count and count % 2 == 0 and all(_is_box(line) for line in long):
        thirds = f", or kpt_shape=({(count - _BOX) // 3}, 3)" * ((count - _BOX) % 3 == 0)
        raise DataError(
            f"each of the {len(long)} lines below '{folder}' that are more than a box has {count} numbers behind its "
            f"class, which could be the {count // 2} corners of a polygon, or a box and keypoints: say which, "
            f"kpt_shape=(0, 0) for polygons, kpt_shape=({(count - _BOX) // 2}, 2){thirds} for keypoints, here or in "
            "data.yaml"
        )
    return 0, 0


def _is_box(numbers: Sequence[float]) -> bool:
    """Whether numbers begin with the middle, width and height of a box in its picture."""
    x, y, width, height = numbers[:_BOX]
    return all(
        side >= 0 and middle - side / 2 >= -_EDGE and middle + side / 2 <= 1 + _EDGE
        for middle, side in ((x, width), (y, height))
    )


def _objects(name: str, lines: Sequence[_Line], told: _Told, degenerate: Degenerate) -> dict[str, Any]:
    count, each = told.kpt_shape or (0, 0)
    found = Objects(name, None, degenerate, keypoint_names=told.names, mirror=told.mirror)
    for what, label, numbers in lines:
        more: dict[str, Any] = {}
        if len(numbers) in (_BOX, _BOX + 1, _BOX + count * each):
            x, y, width, height = numbers[:_BOX]
            box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            if count:
                more["keypoints"] = _keypoints(numbers[_BOX:] if len(numbers) > _BOX + 1 else [], count, each)
        elif not count and len(numbers) >= 6 and len(numbers) % 2 == 0:
            box = (min(numbers[::2]), min(numbers[1::2]), max(numbers[::2]), max(numbers[1::2]))
            more["masks"] = [numbers]
        else:
            asked = (
                f"and {count} keypoints of {each} are {count * each} more"
                if count
                else "the corners of a polygon 6 or more, x and y of each"
            )
            raise DataError(
                f"{what} of {name} has {len(numbers)} numbers behind its class: x, y, width and height of a box are 4, "
                f"{asked}"
            )
        if not min(box) >= -_EDGE or not max(box) <= 1 + _EDGE:
            raise DataError(
                f"{what} of {name} reaches from {box[0]:.4g} to {box[2]:.4g} and from {box[1]:.4g} to {box[3]:.4g} of "
                "its picture: YOLO's numbers are shares of its sides, from 0 to 1"
            )
        found.add([min(max(one, 0.0), 1.0) for one in box], label, what, **more)
    if found.more and any(len(own) != len(found.boxes) for own in found.more.values()):
        found.more = {}  # boxes beside polygons, which have no mask
    return {**found.told(), "shares": True}


def _keypoints(numbers: Sequence[float], count: int, each: int) -> list[float]:
    """Return x, y and whether it is labelled of each keypoint; those beyond the corner 0, 0, and in it, are not."""
    told = [*numbers] or [0.0] * count * each
    points = []
    for place in range(count):
        x, y, *seen = told[place * each : (place + 1) * each]
        there = seen[0] if seen else 2.0
        labelled = there > 0 and x >= 0 and y >= 0 and (x > 0 or y > 0)
        points += [x, y, there] if labelled else [0.0, 0.0, 0.0]
    return points


def _told(folder: Any, source: Any, names_file: Any) -> _Told:
    """Return what a file says of classes and keypoints; nothing where there is none."""
    item = names_file
    if item is None:
        inside = {Path(one).name: one for one in sorted(source.files(), reverse=True) if Path(one).name in _NAMES}
        above = [Path(folder).parent / one for one in _NAMES] if Path(folder).is_dir() else []
        chosen = next((one for one in _NAMES if one in inside), None)
        item = source.item(inside[chosen]) if chosen else next((one for one in above if one.is_file()), None)
    if item is None:
        return _Told()
    name = named(item)
    text = file_content(item, name, "names of classes: a path").decode("utf-8-sig", "replace")
    if not str(name).rstrip("'").endswith((".yaml", ".yml")):
        labels = [line.strip() for line in text.rstrip().split("\n")]
        if "" in labels:
            number = labels.index("")
            raise DataError(
                f"line {number + 1} of {name} is blank, and each line is the name of a class, of {number} there: "
                "write its name, or, if no class has that number, any other"
            )
        return _Told(dict(enumerate(labels)))
    try:
        told = yaml.load(text, _OnceEach)
        names = told["names"]
        pairs = [(int(one), label) for one, label in (names.items() if isinstance(names, dict) else enumerate(names))]
        if any(label is None or isinstance(label, (dict, list)) for _, label in pairs):
            raise ValueError(f"they are {brief(names)}")
        classes = {one: str(label) for one, label in pairs}
    except (yaml.YAMLError, KeyError, TypeError, ValueError, RecursionError) as error:
        told_so = one_line(str(error))
        raise DataError(f"{name} has no names of classes that can be read, names: [a, b]: {told_so}") from error
    if told.get("kpt_shape") is None:
        return _Told(classes)
    shape = _shape_of(told["kpt_shape"], name)
    points = told.get("kpt_names") or ()
    points = next(iter(points.values()), ()) if isinstance(points, dict) else points  # of each class
    mirror = told.get("flip_idx") or ()
    if points and (not isinstance(points, list) or len(points) != shape[0]):
        raise DataError(f"{name} has the kpt_names {brief(points)}, and kpt_shape tells of {shape[0]}: name each")
    if mirror and (not isinstance(mirror, list) or {*map(str, mirror)} != {*map(str, range(shape[0]))}):
        raise DataError(
            f"{name} has the flip_idx {brief(mirror)}: it holds each of 0 to {shape[0] - 1} once, of each keypoint the "
            "one that it becomes in a mirror"
        )
    return _Told(classes, shape, tuple(map(str, points)), tuple(map(int, mirror)))


def _shape_of(told: Any, name: str) -> tuple[int, int]:
    """Return a number of keypoints and how many numbers each has."""
    whole = isinstance(told, (list, tuple)) and len(told) == 2 and all(type(one) is int for one in told)
    if not whole or not (tuple(told) == (0, 0) or (told[0] > 0 and told[1] in (2, 3))):
        raise DataError(
            f"{name} has kpt_shape {brief(told)}: it is how many keypoints an object has, and 2 or 3 numbers of each, "
            "as (17, 3); or (0, 0) where it has none"
        )
    return told[0], told[1]


class _OnceEach(yaml.SafeLoader):  # type: ignore[misc]
    """Reads YAML in which no key is there twice, of which others take the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if not key.tag.endswith(":merge")]
        for place, key in enumerate(keys):
            if key in keys[:place]:
                raise ValueError(f"the key {key!r} is there twice")
        return super().construct_mapping(node, deep)


def _key(name: str) -> str:
    """Return a path without its ending and the folder that divides pictures from labels.

    >>> _key("images/train/a.jpg") == _key("labels/train/a.txt")
    True
    """
    return re.sub(r"(^|/)(images|labels)(?=/)", r"\1", str(Path(name).with_suffix("")).replace(os.sep, "/"))
