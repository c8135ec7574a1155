"""Pascal VOC's annotations: an XML file for each picture. http://host.robots.ox.ac.uk/pascal/VOC/"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from quickstudy.data.annotations import Annotations
from quickstudy.data.places import open_source
from quickstudy.data.samples import file_content, named
from quickstudy.data.scan import files_in
from quickstudy.data.table import Table
from quickstudy.errors import DataError, few
from quickstudy.image.objects import Degenerate, Objects, table_of
from quickstudy.image.pairs import by_stem, check_found

_ASIDE = ("jpegimages", "annotations", "images", "imgs", "img", "xmls", "xml", "labels")
"""Folders that divide pictures from annotations."""


def voc_table(
    folder: str | os.PathLike[str],
    endings: Collection[str],
    encode: Callable[..., Annotations],
    split_file: str | os.PathLike[str] | None = None,
    degenerate: Degenerate = "raise",
) -> Table:
    """Return the pictures below a folder or archive that an XML file of the same name tells of.

    Args:
        folder: above ``JPEGImages`` and ``Annotations``, or of pictures and XML files beside each other.
        endings: of pictures.
        encode: makes annotations of objects.
        split_file: of names without endings, one in a line, as ``ImageSets/Main/train.txt``; None: all.
        degenerate: what becomes of boxes without area.

    Raises:
        DataError: there is no XML file, one is damaged or tells of no picture that is there, or a box is none.
    """
    source = open_source(folder)
    texts = sorted(one for one in source.files() if one.lower().endswith(".xml"))
    if not texts:
        raise DataError(f"'{folder}' holds no XML file: Pascal VOC has one for each picture")
    files = files_in(folder, endings)
    names: list[str] = files.names.tolist()
    wanted = texts if split_file is None else _of_split(texts, split_file)
    pictures = by_stem(names, texts, _ASIDE, "the XML file")
    check_found([one for one in wanted if pictures[one] is None], len(wanted), folder)
    objects = [_of_file(source.item(one), degenerate) for one in wanted]
    labels = sorted({label for one in objects for label in one.labels})
    row_of = {name: row for row, name in enumerate(names)}
    rows = [row_of[pictures[one] or ""] for one in wanted]
    return table_of(files, rows, [one.told() for one in objects], labels, encode)


def _of_split(texts: Sequence[str], split_file: str | os.PathLike[str]) -> list[str]:
    """Return the XML files that a list of names without endings speaks of."""
    name = named(split_file)
    lines = file_content(split_file, name, "a list of names: a path").decode("utf-8-sig", "replace").split("\n")
    wanted = [line.split()[0] for line in lines if line.strip()]
    known: dict[str, list[str]] = {}
    for one in texts:
        known.setdefault(Path(one).stem, []).append(one)
    gone = [one for one in wanted if one not in known]
    if gone:
        raise DataError(f"{name} names {len(gone)} pictures that have no XML file: {few(gone)}")
    for one in wanted:
        if len(known[one]) > 1:
            raise DataError(
                f"{name} names '{one}', and that could be {few(map(repr, known[one]))}: give the folder of one of them"
            )
    return [known[one][0] for one in wanted]


def _of_file(item: Any, degenerate: Degenerate) -> Objects:
    name = named(item)
    content = file_content(item, name, "annotations: the path of an XML file")
    if b"<!ENTITY" in content:
        raise DataError(f"{name} defines entities of its own, which no annotation needs: remove them")
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # also of an encoding that is not what it says
        raise DataError(f"{name} is no XML that can be read: {error}. Save it anew, in UTF-8") from error
    size = [(root.findtext(f"size/{side}") or "").strip() for side in ("width", "height")]
    try:
        width, height = (float(side or 0) for side in size)
        if not (math.isfinite(width + height) and min(width, height) >= 0):
            raise ValueError
    except ValueError as error:
        raise DataError(f"{name} has the width and height {size}: numbers of pixels are needed, or none") from error
    found = Objects(name, (width, height) if width and height else None, degenerate)
    for number, one in enumerate(root.iter("object")):
        what = f"object {number}"
        label = (one.findtext("name") or "").strip()
        told = [one.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
        try:
            left, top, right, bottom = (float(value or "") for value in told)
        except ValueError as error:
            raise DataError(f"{what} of {name} has the box {told}: xmin, ymin, xmax and ymax are needed") from error
        if not label:
            raise DataError(f"{what} of {name} has no name: say what it is")
        if right > left and bottom > top:  # pixels count from 1 there, and a box has those on its edges, too
            left, top = left - 1, top - 1
        found.add((left, top, right, bottom), label, what)
    return found
