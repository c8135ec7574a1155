"""Pascal VOC's annotations: an XML file for each picture. http://host.robots.ox.ac.uk/pascal/VOC/"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from quickstudy.data.annotations import Annotations
from quickstudy.data.places import open_source
from quickstudy.data.samples import file_content, named
from quickstudy.data.scan import files_in
from quickstudy.data.table import Table
from quickstudy.errors import DataError, few
from quickstudy.image.objects import Degenerate, Objects, check_found, table_of


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
    xml = {Path(one).stem: one for one in sorted(source.files()) if one.lower().endswith(".xml")}
    if not xml:
        raise DataError(f"'{folder}' holds no XML file: Pascal VOC has one for each picture")
    files = files_in(folder, endings)
    names: list[str] = files.names.tolist()
    by_stem = {Path(one).stem: row for row, one in enumerate(names)}
    wanted = [*xml]
    if split_file is not None:
        name = named(split_file)
        lines = file_content(split_file, name, "a list of names: a path").decode("utf-8-sig", "replace").split("\n")
        wanted = [line.split()[0] for line in lines if line.strip()]
        gone = [one for one in wanted if one not in xml]
        if gone:
            raise DataError(f"{name} names {len(gone)} pictures that have no XML file: {few(gone)}")
    check_found([one for one in wanted if one not in by_stem], len(wanted), folder)
    objects = [_of_file(source.item(xml[one]), degenerate) for one in wanted]
    labels = sorted({label for one in objects for label in one.labels})
    return table_of(files, [by_stem[one] for one in wanted], [one.told() for one in objects], labels, encode)


def _of_file(item: Any, degenerate: Degenerate) -> Objects:
    name = named(item)
    content = file_content(item, name, "annotations: the path of an XML file")
    if b"<!ENTITY" in content:
        raise DataError(f"{name} defines entities of its own, which no annotation needs: remove them")
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # also of an encoding that is not what it says
        raise DataError(f"{name} is no XML that can be read: {error}. Save it anew, in UTF-8") from error
    size = [root.findtext(f"size/{side}") for side in ("width", "height")]
    known = (float(size[0]), float(size[1])) if size[0] and size[1] and float(size[0]) and float(size[1]) else None
    found = Objects(name, known, degenerate)
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
