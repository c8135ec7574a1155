"""Tables with a row for each box: the file of its picture, four numbers, and its class."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from quickstudy.data.annotations import Annotations
from quickstudy.data.frames import target_among
from quickstudy.data.rows import columns_of
from quickstudy.data.table import Inputs, Table
from quickstudy.data.targets import label_of, missing
from quickstudy.errors import DataError, DataWarning, brief, closest, few
from quickstudy.image.objects import Degenerate, Objects, check_size

BoxFormat = Literal["corners", "size"]
"""What the last two numbers of a box are: the other corner, or width and height."""
_CORNERS = (("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"), ("left", "top", "right", "bottom"))
_SIZES = (("x", "y", "w", "h"), ("x", "y", "width", "height"), ("xmin", "ymin", "width", "height"))
_FILES = ("file", "filename", "file_name", "path", "image", "image_path", "image_name", "img", "picture")
_TURNED = range(5, 9)  # of a camera that lay on its side


def is_box_header(names: Sequence[str]) -> bool:
    """Whether columns are those of a table of boxes, by what they are called."""
    lower = {_plain(name) for name in names}
    return bool(lower & {_plain(one) for one in _FILES}) and any(set(own) <= lower for own in (*_CORNERS, *_SIZES))


def box_file(folder: str | os.PathLike[str]) -> Path | None:
    """Return the only CSV file of a folder whose columns are those of boxes; None where there is not one."""
    place = Path(folder).expanduser()
    found = []
    for path in sorted(place.glob("*.csv")) if place.is_dir() else ():
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            if is_box_header([name.strip().strip('"') for name in file.readline().split(",")]):
                found.append(path)
    return found[0] if len(found) == 1 else None


def boxes_table(
    frame: Any,
    read: Callable[[Sequence[Any]], Inputs],
    encode: Callable[..., Annotations],
    input_field: str | int | None = None,
    target_field: str | int | None = None,
    box_fields: Sequence[str | int] | None = None,
    box_format: BoxFormat | None = None,
    degenerate: Degenerate = "raise",
    unlabelled: bool = False,
    skip: bool = False,
) -> Table:
    """Return the pictures that a table names, each once, with their boxes.

    A row whose four numbers are empty says that its picture has no object.

    Args:
        frame: of pandas, or columns by name.
        read: makes inputs of the pictures' names.
        encode: makes annotations of objects.
        input_field: the column of the pictures' files; None: the one that is called so, such as ``file``.
        target_field: the column of classes; None: the one that is called so, such as ``label``.
        box_fields: the four columns of a box; None: xmin, ymin, xmax, ymax, or x, y, w, h, or their like.
        box_format: what they are; None: as they are called, and corners where that says nothing.
        degenerate: what becomes of boxes without area.
        unlabelled: whether the pictures alone are wanted.
        skip: whether a picture is left out, with a warning, that lacks a number or the class of one of its boxes, as
            what is not told of it would be learned as nothing; ``read`` then takes files that are not there.

    Raises:
        DataError: a column or a cell is missing, a picture is not there, or a box is none; the message has the row.
    """
    columns = {str(name): cells.tolist() for name, cells in columns_of(frame).items()}
    names = list(columns)
    file = _named(names, input_field, "the pictures' files", "input_field", _FILES)
    nameless = set(np.flatnonzero(missing(columns[file])).tolist()) if skip else set[int]()
    skipped = {f"row {row}": "it names no picture" for row in sorted(nameless)}
    pictures = list(dict.fromkeys(cell for row, cell in enumerate(columns[file]) if row not in nameless))
    if unlabelled:
        return Table(read(pictures), skipped=skipped)
    chosen, form = _box(names, box_fields, box_format)
    target = (
        str(target_field) if target_field is not None else target_among([one for one in names if one not in chosen])
    )
    target = _named(names, target, "the classes of boxes", "target_fields", ())
    boxes = list(zip(*(columns[one] for one in chosen), strict=True))
    _check_form(boxes, chosen, form)
    sides = _sides(columns, boxes, chosen, form)
    gone = missing(columns[target]).tolist()
    told: dict[Any, list[tuple[int, list[float]]]] = {picture: [] for picture in pictures}
    for row, (picture, box) in enumerate(zip(columns[file], boxes, strict=True)):
        if row in nameless or all(map(_empty, box)):
            continue
        numbers = [number for number in map(_number, box) if number is not None]
        why = ""
        if len(numbers) < len(box):
            why = f"row {row} has the box {brief(box)} in {few(map(repr, chosen))}: four numbers are needed"
        elif gone[row]:
            why = f"row {row} has a box and no class in column '{target}': say what it is"
        if why and not skip:
            raise DataError(f"{why}, or leave out such pictures, on_error='skip'")
        if why:
            skipped.setdefault(str(picture), why)
        else:
            told[picture].append((row, numbers))
    pictures = [picture for picture in pictures if str(picture) not in skipped]
    if skipped:
        warnings.warn(f"left out {few(f'{name}: {why}' for name, why in skipped.items())}", DataWarning, 2)
    inputs = read(pictures)
    objects = []
    for place, picture in enumerate(pictures):
        size, name = _size_of(inputs[place]), f"'{Path(str(picture)).name}'"
        own = Objects(name, size, degenerate)
        for row, (left, top, right, bottom) in told[picture]:
            if size is not None and sides:
                check_size(sides[row], size[::-1], f"{name} in row {row}")
            if form == "size":
                right, bottom = left + right, top + bottom
            label = str(label_of(columns[target][row]))
            own.add((left, top, right, bottom), label, f"the box in row {row}", corners=form == "corners")
        objects.append(own)
    labels = sorted({label for one in objects for label in one.labels})
    return Table(inputs, skipped=skipped, annotations=encode([one.told() for one in objects], labels))


def _box(
    names: Sequence[str], box_fields: Sequence[str | int] | None, box_format: BoxFormat | None
) -> tuple[list[str], BoxFormat]:
    """Return the four columns of a box, and what they are."""
    if box_fields is not None:
        chosen = [_named(names, one, "a box", "box_fields", ()) for one in box_fields]
        if len(chosen) != 4:
            raise DataError(f"box_fields names {len(chosen)} columns: a box has four, such as xmin, ymin, xmax, ymax")
    else:
        by_name = {_plain(name): name for name in names}
        known = [*_CORNERS, *_SIZES] if box_format != "size" else [*_SIZES, *_CORNERS]
        found = next((own for own in known if set(own) <= by_name.keys()), None)
        if found is None:
            raise DataError(
                f"there are no columns called as those of boxes, xmin, ymin, xmax, ymax or x, y, w, h: name four, "
                f"box_fields=. There are {few(map(repr, names))}"
            )
        chosen = [by_name[one] for one in found]
    sized = tuple(map(_plain, chosen)) in _SIZES
    return chosen, box_format or ("size" if sized else "corners")


def _check_form(boxes: Sequence[Sequence[Any]], chosen: Sequence[str], form: BoxFormat) -> None:
    """Check that corners are such, and no width and height.

    Raises:
        DataError: many of them are not.
    """
    told = [[_number(one) for one in box] for box in boxes]
    whole = [box for box in told if None not in box]
    wrong = sum(box[2] <= box[0] or box[3] <= box[1] for box in whole)  # type: ignore[operator]
    if whole and all(0 <= number <= 1 for box in whole for number in box):  # type: ignore[operator]
        raise DataError(
            f"no number in {few(map(repr, chosen))} is above 1: are these shares of the pictures' width and height? "
            "Multiply them by those, or write YOLO's files"
        )
    if form == "corners" and wrong > max(1, len(whole) // 10):
        raise DataError(
            f"in {wrong} of {len(whole)} rows the second corner, {few(map(repr, chosen[2:]))}, lies left of the first "
            "or above it: are these width and height? Say so, box_format='size'"
        )


def _sides(
    columns: Mapping[str, Sequence[Any]], boxes: Sequence[Sequence[Any]], chosen: Sequence[str], form: BoxFormat
) -> list[tuple[float, float]]:
    """Return of each row the width and height of its picture; none where the table does not tell them.

    The columns ``width`` and ``height`` of a table of corners are those of pictures where each corner lies within them;
    else they may be those of boxes.

    Args:
        columns: by name.
        boxes: of each row.
        chosen: the columns of boxes.
        form: of them.
    """
    own = {_plain(name): name for name in columns if name not in chosen}
    if form != "corners" or not {"width", "height"} <= own.keys():
        return []
    pairs = zip(columns[own["width"]], columns[own["height"]], strict=True)
    told = [(_number(width) or 0.0, _number(height) or 0.0) for width, height in pairs]
    ends = [[_number(one) or 0.0 for one in box[2:]] for box in boxes]
    within = all(width >= right and height >= low for (width, height), (right, low) in zip(told, ends, strict=True))
    return told if within else []


def _named(names: Sequence[str], given: str | int | None, what: str, option: str, known: Sequence[str]) -> str:
    """Return which column one is, as it was given or by what it is called."""
    if given is None:
        by_name = {_plain(name): name for name in names}
        found = next((by_name[_plain(one)] for one in known if _plain(one) in by_name), None)
        if found is None and {"images", "annotations", "categories"} <= set(names):
            raise DataError(
                "this is COCO's JSON, and no table: put it beside its pictures as annotations.json and give their "
                "folder (--data.train_folder on the command line), or in Python take from_coco"
            )
        if found is None:
            raise DataError(
                f"which column has {what} is not known: name it, {option}=. There are {few(map(repr, names))}"
            )
        return found
    if str(given) not in names:
        raise DataError(f"there is no column '{given}'{closest(str(given), names)} There are {few(map(repr, names))}")
    return str(given)


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace(" ", "").removeprefix("bbox")


def _empty(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell)) or str(cell).strip() == ""


def _number(cell: Any) -> float | None:
    try:
        number = float(cell)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _size_of(item: Any) -> tuple[float, float] | None:
    """Return width and height of a picture file, as its camera says it is turned; None where that takes reading it."""
    if not isinstance(item, (str, os.PathLike)):
        return None
    try:
        with Image.open(item) as image:
            turned = image.getexif().get(0x0112) in _TURNED
            return image.size[::-1] if turned else image.size
    except Exception:  # damage makes decoders raise almost anything, and whoever reads it tells of it
        return None
