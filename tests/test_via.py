"""Objects in VIA's files: each shape's box, both forms, and what is wrong is named."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from quickstudy import DataError
from quickstudy.image import ObjectDetectionData

SHAPES: list[tuple[dict[str, Any], list[float]]] = [
    ({"name": "rect", "x": 4, "y": 6, "width": 16, "height": 24}, [4, 6, 20, 30]),
    ({"name": "polygon", "all_points_x": [5, 30, 12], "all_points_y": [7, 9, 40]}, [5, 7, 30, 40]),
    ({"name": "circle", "cx": 20, "cy": 21, "r": 5}, [15, 16, 25, 26]),
    ({"name": "ellipse", "cx": 20, "cy": 20, "rx": 8, "ry": 3, "theta": math.pi / 2}, [17, 12, 23, 28]),
]


def written(folder: Path, shapes: list[dict[str, Any]], form: str, about: Any = None) -> Path:
    for name in ("a.png", "b.png"):
        Image.fromarray(np.full((48, 64, 3), 90, np.uint8)).save(folder / name)
    said = {"kind": "cell"} if about is None else about
    if form == "csv":
        with (folder / "via.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["filename", "region_count", "region_shape_attributes", "region_attributes"])
            writer.writerows(["a.png", len(shapes), json.dumps(shape), json.dumps(said)] for shape in shapes)
            writer.writerow(["b.png", 0, "{}", "{}"])
        return folder / "via.csv"
    regions = [{"shape_attributes": shape, "region_attributes": said} for shape in shapes]
    told: Any = {"a.png9": {"filename": "a.png", "regions": regions}, "b.png9": {"filename": "b.png", "regions": []}}
    (folder / "via.json").write_text(json.dumps({"_via_img_metadata": told} if form == "project" else told))
    return folder / "via.json"


@pytest.mark.parametrize("form", ["json", "project", "csv"])
def test_each_shape_has_the_box_around_it(tmp_path: Path, form: str) -> None:
    file = written(tmp_path, [shape for shape, _ in SHAPES], form)
    table = ObjectDetectionData.from_via(train_folder=tmp_path, train_ann_file=file).table("train")
    assert table is not None and table.annotations is not None and table.annotations.names == ("cell",)
    first: Any = table.annotations.target(0)
    assert first["boxes"].numpy() == pytest.approx(np.array([box for _, box in SHAPES]), abs=1e-4)
    empty: Any = table.annotations.target(1)
    assert empty["boxes"].shape == (0, 4)


@pytest.mark.parametrize(
    ("shape", "about", "message"),
    [
        ({"name": "polygon", "all_points_x": [1, 2], "all_points_y": [1, 2]}, None, "region 0 of 'a.png'.*3 points"),
        ({"name": "rect", "x": 1, "y": 1, "width": 0, "height": 4}, None, "region 0 of 'a.png'.*degenerate='drop'"),
        ({"name": "rect", "x": 1}, None, "lacks a number of a rect"),
        ({"name": "point", "cx": 1, "cy": 2}, None, "is a point"),
        (SHAPES[0][0], {"kind": ""}, "region 0 of 'a.png'.*has no class, 'kind'"),
        (SHAPES[0][0], {"kind": "cell", "sure": "yes"}, r"kind, sure.*label_field="),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, shape: dict[str, Any], about: Any, message: str) -> None:
    file = written(tmp_path, [shape], "json", about)
    with pytest.raises(DataError, match=message):
        ObjectDetectionData.from_via(train_folder=tmp_path, train_ann_file=file)


def test_a_missing_picture_and_a_damaged_file_are_named(tmp_path: Path) -> None:
    file = written(tmp_path, [SHAPES[0][0]], "json")
    (tmp_path / "b.png").unlink()
    with pytest.raises(DataError, match=r"speak of 2 pictures, and of 1 .*b\.png"):
        ObjectDetectionData.from_via(train_folder=tmp_path, train_ann_file=file)
    file.write_text("[1")
    with pytest.raises(DataError, match=r"via\.json.*not of VIA's form"):
        ObjectDetectionData.from_via(train_folder=tmp_path, train_ann_file=file)
