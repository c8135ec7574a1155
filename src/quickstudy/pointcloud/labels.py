"""Labels of points: from files of their own, or a column of the clouds' files.

Shapes: P points.
"""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.batches import Batch
from quickstudy.data.annotations import Annotations
from quickstudy.data.places import Files
from quickstudy.data.samples import Sent, file_content, named
from quickstudy.data.scan import any_files
from quickstudy.data.table import Table
from quickstudy.errors import DataError, few, first_line
from quickstudy.kinds.segmentation import ids_of
from quickstudy.pointcloud.files import EXTENSIONS
from quickstudy.pointcloud.modality import Cloud

COLUMNS = (
    "label",
    "labels",
    "class",
    "classification",
    "segmentation",
    "part",
    "semantic",
    "sem_class",
    "scalar_label",
)
"""What columns of labels are called, the first that is there."""
ENDINGS = (".label", ".labels", ".seg")
"""Of files that hold labels alone."""
_WHOLE = Cloud(points=None, normalize=False, surface=False)
_ROOMS = re.compile(r"(^|/)(velodyne|points|clouds|labels)(?=/)")


def read_labels(item: Any, example: Batch | None = None) -> Tensor:
    """Return the ids of the points of one cloud, ``[P]``.

    Args:
        item: an array; the path, bytes or archive's file of labels; or the cloud that holds them.
        example: the cloud that they are of, as it was read.

    Raises:
        DataError: it cannot be read, or holds none, or others than the cloud has points.
    """
    is_file = isinstance(item, (str, bytes, os.PathLike, Sent)) or hasattr(item, "read_bytes")
    name = named(item) if is_file and not isinstance(item, bytes) else "they"
    ids = ids_of(_of_file(item, name, 0 if example is None else len(example["mask"])) if is_file else item)
    if ids.ndim == 2 and ids.shape[1] == 1:
        ids = ids[:, 0]
    if ids.ndim != 1:
        raise DataError(f"{name} have the shape {tuple(ids.shape)}, and labels are one number of each point")
    if example is not None and len(ids) != (count := len(example["mask"])):
        told = f"{name} holds {len(ids)} labels" if is_file else f"there are {len(ids)} labels"
        raise DataError(f"{told}, and the cloud has {count} points: each needs one, in the order of the points")
    return ids


def _of_file(item: Any, name: str, count: int) -> NDArray[Any]:
    content = file_content(item, name, "labels of points: a path, or an array")
    ending = "" if isinstance(item, bytes) else Path(str(item)).suffix.lower()
    try:
        if ending == ".label":
            if len(content) % 4:
                raise DataError(f"{name} has {len(content):,} bytes, and 4 are a label: it is damaged. Replace it")
            return np.frombuffer(content, "<u4") & 0xFFFF  # above are the numbers of single things
        if content.startswith(b"\x93NUMPY"):
            array: NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
            if array.ndim == 1 or array.shape[1:] == (1,):
                return array
        if content.startswith(b"PK\x03\x04"):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                parts = [one.removesuffix(".npy") for one in archive.namelist()]
                key = next((one for one in COLUMNS if one in parts), None)
                if key is None:
                    raise DataError(f"{name} holds {few(parts) or 'nothing'}, and no array 'labels': name it so")
                found: NDArray[Any] = np.load(io.BytesIO(archive.read(f"{key}.npy")), allow_pickle=False)
                return found
        if ending not in EXTENSIONS or (ending == ".txt" and _one_a_line(content)):
            return np.loadtxt(io.BytesIO(content), ndmin=1)
    except (ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{name} holds no labels that can be read: {first_line(error)}. Replace it") from error
    scan = replace(_WHOLE, max_points=max(count, _WHOLE.max_points)).scan(item)
    column = next((scan.columns[one] for one in COLUMNS if one in scan.columns), None)
    if column is None:
        has = few(scan.columns) or "none beside x, y, z"
        raise DataError(
            f"{name} has no column of labels (its columns: {has}): call it label, or give labels of their own, targets="
        )
    return np.asarray(column)


def _one_a_line(content: bytes) -> bool:
    return len(content.split(b"\n", 1)[0].split()) == 1


def labelled_folder(
    path: str | os.PathLike[str], endings: Collection[str], encode: Callable[[Any], Annotations]
) -> Table:
    """Return the clouds of a folder or archive, with the files of labels that are called as they are.

    Args:
        path: of the folder.
        endings: of clouds.
        encode: makes annotations of files.

    Raises:
        DataError: there is no cloud, or only some have a file of labels.
    """
    both = any_files(path, (*endings, *ENDINGS))
    files = both.inputs
    assert isinstance(files, Files)
    names = [str(files[row]) for row in range(len(files))]
    labels = {_bare(name): row for row, name in enumerate(names) if name.lower().endswith(ENDINGS)}
    clouds = [row for row, name in enumerate(names) if not name.lower().endswith(ENDINGS)]
    if not clouds:
        raise DataError(f"'{path}' holds labels and no cloud that ends in one of {few(sorted(endings), len(endings))}")
    table = replace(both, inputs=files.select(np.array(clouds, np.int64)))
    if not labels:
        return table  # whose files hold them
    for row in clouds:
        if _bare(names[row]) not in labels:
            raise DataError(
                f"{named(names[row])} has no file of labels, where others have one: name it "
                f"'{Path(names[row]).stem}.label', or remove the cloud"
            )
    rows = [labels[_bare(names[row])] for row in clouds]
    return replace(table, annotations=encode(files.select(np.array(rows, np.int64))))


def _bare(name: str) -> str:
    """Return a path without its ending, and without the folders that divide clouds from labels.

    >>> _bare("00/velodyne/000001.bin") == _bare("00/labels/000001.label")
    True
    """
    return _ROOMS.sub(r"\1", str(Path(name).with_suffix("")).replace(os.sep, "/"))
