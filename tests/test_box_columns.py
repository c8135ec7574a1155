"""Boxes in the rows of tables, in VIA's files in a folder, and objects that the numbers of a mask tell apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from quickstudy import DataError
from quickstudy.errors import DataWarning
from quickstudy.image import InstanceSegmentationData, ObjectDetectionData
from quickstudy.image.modality import Picture
from quickstudy.kinds.detection import objects_of

ROWS = [
    ("a.png", 4, 5, 20, 25, "cat"),
    ("b.png", 0, 0, 10, 10, "dog"),
    ("a.png", 30, 5, 60, 25, "dog"),
    ("c.png", "", "", "", "", ""),
]
COLUMNS = ["filename", "xmin", "ymin", "xmax", "ymax", "class"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in "abc":
        Image.fromarray(np.full((40, 80, 3), 50, np.uint8)).save(tmp_path / f"{name}.png")
    return tmp_path


def frame(rows: Any = ROWS, columns: list[str] = COLUMNS) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=columns)


def objects(data: ObjectDetectionData) -> dict[str, tuple[Any, Any]]:
    table = data.table("train")
    assert table is not None and table.annotations is not None
    items = [table.annotations.items[row] for row in range(len(table))]
    names = [Path(table.inputs[row]).name for row in range(len(table))]
    return {name: (item["boxes"].tolist(), item["labels"]) for name, item in zip(names, items, strict=True)}


EXPECTED = {
    "a.png": ([[4, 5, 20, 25], [30, 5, 60, 25]], ["cat", "dog"]),
    "b.png": ([[0, 0, 10, 10]], ["dog"]),
    "c.png": ([], []),
}


def test_a_row_for_each_box_makes_a_picture_of_its_rows(folder: Path) -> None:
    frame().to_csv(folder / "boxes.csv", index=False)
    sized = frame([(*row[:3], *([row[3] - row[1], row[4] - row[2]] if row[5] else ["", ""]), row[5]) for row in ROWS])
    sized.columns = ["Image", "x", "y", "w", "h", "label"]
    own = frame(columns=["p", "l", "t", "r", "b", "k"])
    options = {"input_field": "p", "target_fields": "k", "box_fields": ["l", "t", "r", "b"]}
    for data in (
        ObjectDetectionData.from_csv(train_file=folder / "boxes.csv"),
        ObjectDetectionData.from_folders(train_folder=folder),
        ObjectDetectionData.from_data_frame(train_data_frame=frame(), train_images_root=folder),
        ObjectDetectionData.from_data_frame(train_data_frame=sized, train_images_root=folder),
        ObjectDetectionData.from_data_frame(train_data_frame=own, train_images_root=folder, **options),
    ):
        assert objects(data) == EXPECTED
        table = data.table("train")
        assert table is not None and table.annotations is not None and table.annotations.names == ("cat", "dog")
    asked = ObjectDetectionData.from_data_frame(predict_data_frame=frame(), predict_images_root=folder).table("predict")
    assert asked is not None and len(asked) == 3


@pytest.mark.parametrize(
    ("rows", "options", "told"),
    [
        ([("a.png", 40, 20, 30, 10, "cat")] * 3, {}, r"3 of 3 rows .* width and height\? Say so, box_format='size'"),
        (
            [("a.png", 40, 10, 75, 38, "cat")],
            {"box_format": "size"},
            r"row 0 .*beyond .* of 80x40.*other corner",
        ),
        ([("a.png", 4, 5, 200, 25, "cat")], {}, r"row 0 .*beyond the picture of 80x40"),
        ([*ROWS[:2], ("a.png", 4, 5, 4, 25, "cat")], {}, r"row 2 of 'a.png' has no area.*degenerate='drop'"),
        ([("a.png", 4, "x", 20, 25, "cat")], {}, "row 0 has the box .*four numbers"),
        ([("a.png", 4, 5, 20, 25, "")], {}, "row 0 has a box and no class in column 'class'"),
        ([("gone.png", 4, 5, 20, 25, "cat")], {}, "gone.png"),
        (ROWS, {"box_fields": ["xmin", "ymin", "xmax"]}, "3 columns: a box has four"),
        (ROWS, {"target_fields": "clas"}, r"no column 'clas'; did you mean 'class'\?"),
        (ROWS, {"input_field": "image"}, "no column 'image'"),
    ],
)
def test_bad_rows_are_named_with_what_to_do(folder: Path, rows: Any, options: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=told):
        ObjectDetectionData.from_data_frame(train_data_frame=frame(rows), train_images_root=folder, **options)


def test_pictures_of_which_something_is_not_told_are_left_out_on_request(folder: Path) -> None:
    (folder / "e.png").write_bytes(b"rubbish")
    rows = [*ROWS, ("c.png", 4, 5, 20, 25, ""), ("b.png", 4, "x", 20, 25, "cat"), ("", 4, 5, 20, 25, "cat")]
    rows += [("d.png", 4, 5, 20, 25, "cat"), ("e.png", 4, 5, 20, 25, "cat")]
    with pytest.warns(DataWarning, match=r"row 6: it names no picture, c.png: row 4 .*, b.png: row 5"):
        data = ObjectDetectionData.from_data_frame(
            train_data_frame=frame(rows), train_images_root=folder, on_error="skip"
        )
    with pytest.warns(DataWarning, match="skipped 2 of 3 train examples"):
        assert objects(data) == {"a.png": EXPECTED["a.png"]}
    assert {one.split(" of the ")[0] for one in data.skipped} >= {"row 6", "b.png", "c.png"}


def test_columns_that_are_called_otherwise_are_asked_for(folder: Path) -> None:
    with pytest.raises(DataError, match="box_fields="):
        ObjectDetectionData.from_data_frame(
            train_data_frame=frame(columns=["file", "a", "b", "c", "d", "label"]), train_images_root=folder
        )
    with pytest.raises(DataError, match="input_field="):
        ObjectDetectionData.from_data_frame(
            train_data_frame=frame(columns=["p", *COLUMNS[1:]]), train_images_root=folder
        )


@pytest.mark.parametrize("form", ["json", "csv"])
def test_a_folder_with_vias_file_is_known(folder: Path, form: str) -> None:
    shape = {"name": "rect", "x": 4, "y": 5, "width": 16, "height": 20}
    if form == "json":
        region = {"shape_attributes": shape, "region_attributes": {"kind": "cat"}}
        told = {"a.png1": {"filename": "a.png", "size": 1, "regions": [region], "file_attributes": {}}}
        (folder / "via.json").write_text(json.dumps(told))
    else:
        row = {"filename": "a.png", "region_shape_attributes": json.dumps(shape)}
        row["region_attributes"] = '{"kind": "cat"}'
        pd.DataFrame([row]).to_csv(folder / "via.csv", index=False)
    assert objects(ObjectDetectionData.from_folders(train_folder=folder)) == {"a.png": ([[4, 5, 20, 25]], ["cat"])}


@pytest.mark.parametrize("names", [("images", "instances", ""), ("PNGImages", "PedMasks", "_mask")])
def test_numbers_of_a_mask_tell_objects_apart(tmp_path: Path, names: tuple[str, str, str]) -> None:
    """Masks whose numbers are classes may lie beside them, as in a folder for both."""
    pictures, masks, ending = names
    ids = np.zeros((40, 80), np.uint8)
    ids[5:25, 4:20], ids[10:30, 30:60], ids[0, 0] = 1, 2, 255
    for part, array, name in ((pictures, np.full((40, 80, 3), 9, np.uint8), "a"), (masks, ids, f"a{ending}")):
        (tmp_path / part).mkdir()
        Image.fromarray(array).save(tmp_path / part / f"{name}.png")
    if not ending:
        (tmp_path / "masks").mkdir()
        Image.fromarray((ids > 0).astype(np.uint8)).save(tmp_path / "masks" / "a.png")
    table = InstanceSegmentationData.from_folders(train_folder=tmp_path).table("train")
    assert table is not None and table.annotations is not None
    example = Picture((20, 40), resize="fit").load(table.inputs[0])
    target: Any = table.annotations.target(0, example)
    assert target["boxes"].tolist() == [[2, 2.5, 10, 12.5], [15, 5, 30, 15]]
    assert target["masks"].sum((1, 2)).tolist() == [80, 150]


def test_pictures_of_another_size_than_a_table_tells_are_named(folder: Path) -> None:
    columns = [*COLUMNS, "width", "height"]
    for sides, message in (((80, 40), ""), ((160, 80), "told to be 160x80, and its file is 80x40.*not scaled")):
        told = frame([(*row, *sides) for row in ROWS], columns)
        if not message:
            ObjectDetectionData.from_data_frame(train_data_frame=told, train_images_root=folder)
            continue
        with pytest.raises(DataError, match=rf"'a\.png' in row 0 is {message}"):
            ObjectDetectionData.from_data_frame(train_data_frame=told, train_images_root=folder)
    of_boxes = [(*row, 16 if row[1] else "", 20 if row[2] else "") for row in ROWS]  # which are passed over
    ObjectDetectionData.from_data_frame(train_data_frame=frame(of_boxes, columns), train_images_root=folder)


def test_boxes_in_shares_of_the_picture_are_told(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    (tmp_path / "boxes.csv").write_text("file,xmin,ymin,xmax,ymax,label\na.png,0.1,0.2,0.5,0.9,cat\n")
    with pytest.raises(DataError, match=r"no number in 'xmin', .* is above 1: are these shares of the pictures' width"):
        ObjectDetectionData.from_csv(train_file=tmp_path / "boxes.csv")
    with pytest.raises(DataError, match="within one pixel: are these shares"):
        objects_of({"boxes": [[0.1, 0.2, 0.5, 0.9]], "labels": ["cat"]})


def test_coco_given_as_a_table_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"images": [], "annotations": [], "categories": []}')
    with pytest.raises(DataError, match=r"COCO's JSON, and no table: .*annotations\.json"):
        ObjectDetectionData.from_csv(train_file=tmp_path / "a.json")
