"""Boxes of a scene: from memory, from JSON, from KITTI's labels and calibration.

Shapes: M boxes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quickstudy.batches import Batch
from quickstudy.data.annotations import Annotations
from quickstudy.data.places import Files
from quickstudy.data.samples import Sent, file_content, named
from quickstudy.data.scan import any_files
from quickstudy.data.table import Table
from quickstudy.errors import DataError, first_line
from quickstudy.kinds.detection3d import boxes_of

NOTHING = "DontCare"
"""What KITTI calls boxes that are not asked about."""


class Kitti(NamedTuple):
    """The files of a scene in KITTI's form."""

    label: Any
    """``label_2/000000.txt``: boxes as the camera sees them."""
    calib: Any
    """``calib/000000.txt``: where the camera is."""


def read_boxes(item: Any, example: Batch | None = None) -> dict[str, Any]:
    """Return boxes ``[M, 7]`` and their labels.

    Args:
        item: what ``boxes_of`` takes; a JSON file of that; or ``Kitti``, the files of labels and of calibration.
        example: the scene.

    Raises:
        DataError: it cannot be read, or a box is none; the message names the file.
    """
    if isinstance(item, Kitti):
        return _named(named(item.label), lambda: _of_camera(item))
    if isinstance(item, (str, bytes, os.PathLike, Sent)) or hasattr(item, "read_bytes"):
        name = "the file" if isinstance(item, bytes) else named(item)
        content = file_content(item, name, "boxes: a path of JSON, or boxes in memory")
        return _named(name, lambda: boxes_of(json.loads(content)))
    return boxes_of(item)


def _named(name: str, read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return read()
    except (DataError, ValueError, IndexError, KeyError, RecursionError) as error:
        raise DataError(f"{name}: {first_line(error)}") from error


def _of_camera(files: Kitti) -> dict[str, Any]:
    lines = file_content(files.label, named(files.label), "KITTI's labels").decode("utf-8", "replace").splitlines()
    rows = [line.split() for line in lines if line.strip()]
    calib = file_content(files.calib, named(files.calib), "KITTI's calibration").decode("utf-8", "replace")
    matrices = {
        name.strip(): np.array(numbers.split(), np.float64)
        for name, _, numbers in (line.partition(":") for line in calib.splitlines())
        if numbers.strip()
    }
    turn = np.eye(4)
    turn[:3] = matrices["Tr_velo_to_cam"].reshape(3, 4)
    even = np.eye(4)
    even[:3, :3] = matrices["R0_rect"].reshape(3, 3)
    back = np.linalg.inv(even @ turn)
    rows = [row for row in rows if row[0] != NOTHING]
    for number, row in enumerate(rows):
        if len(row) < 15:
            raise DataError(f"row {number} has {len(row)} words, and 15 are a box: {' '.join(row)[:60]}")
    boxes: list[NDArray[np.float64]] = []
    for row in rows:
        height, width, length, x, y, z, around = map(float, row[8:15])
        middle = (back @ [x, y - height / 2, z, 1])[:3]
        ahead = back[:3, :3] @ [np.cos(around), 0, -np.sin(around)]
        boxes.append(np.array([*middle, length, width, height, np.arctan2(ahead[1], ahead[0])]))
    return boxes_of({"boxes": np.array(boxes).reshape(-1, 7), "labels": [row[0] for row in rows]})


def scenes_folder(
    path: str | os.PathLike[str], endings: Collection[str], encode: Callable[[Any], Annotations]
) -> Table:
    """Return the scenes of a folder with their boxes: ``velodyne/``, ``label_2/`` and ``calib/``, or JSON beside each.

    Args:
        path: of a folder or archive.
        endings: of clouds.
        encode: makes annotations of what is read.

    Raises:
        DataError: there is no scene, or one has no boxes; a scene without any has a file that says so.
    """
    everything = any_files(path, ())
    files = everything.inputs
    assert isinstance(files, Files)
    names = [str(files[row]) for row in range(len(files))]
    places = {name: row for row, name in enumerate(names)}
    clouds = [row for row, name in enumerate(names) if Path(name).suffix.lower() in {*endings} - {".txt"}]
    if not clouds:
        raise DataError(f"'{path}' holds no scene: files that end in {', '.join(sorted({*endings} - {'.txt'}))}")
    items: list[Any] = []
    for row in clouds:
        name = names[row].replace(os.sep, "/")
        parts, stem = name.split("/"), Path(name).stem
        above = "/".join(parts[:-2])
        label, calib = (places.get(f"{above}/{folder}/{stem}.txt") for folder in ("label_2", "calib"))
        beside = places.get(f"{'/'.join(parts[:-1])}/{stem}.json")
        if label is not None and calib is not None:
            items.append(Kitti(files[label], files[calib]))
        elif beside is not None:
            items.append(files[beside])
        else:
            raise DataError(
                f"{named(name)} has no boxes: give '{stem}.json' beside it, or label_2/{stem}.txt and calib/{stem}.txt "
                "beside its folder"
            )
    return replace(everything, inputs=files.select(np.array(clouds, np.int64)), annotations=encode(items))
