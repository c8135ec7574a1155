"""Objects in files: COCO's, Pascal VOC's and YOLO's forms come to the same boxes, and what is wrong is named."""

from __future__ import annotations

import copy
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from quickstudy import DataError
from quickstudy.functional.masks import in_runs
from quickstudy.image import (
    InstanceSegmentationData,
    KeypointDetectionData,
    KeypointDetector,
    ObjectDetectionData,
    Picture,
)
from quickstudy.image.coco import detections_to_coco
from quickstudy.image.masks import read_mask
from quickstudy.image.objects import instances_on_canvas, keypoints_on_canvas, mask_of, objects_on_canvas

WIDTH, HEIGHT = 64, 48
CLASSES = ("cat", "dog")
OBJECTS: dict[str, list[tuple[str, tuple[int, int, int, int]]]] = {
    "a.jpg": [("cat", (4, 6, 20, 30)), ("dog", (30, 10, 60, 40))],
    "b.jpg": [],
    "c.jpg": [("dog", (0, 0, 64, 48))],
}


def pictures(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in OBJECTS:
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), 90, np.uint8)).save(folder / name)


def coco() -> dict[str, Any]:
    annotations = [
        {
            "id": 10 * place + number,
            "image_id": place,
            "category_id": {"cat": 3, "dog": 17}[label],
            "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
            "iscrowd": 0,
        }
        for place, objects in enumerate(OBJECTS.values())
        for number, (label, box) in enumerate(objects)
    ]
    images = [{"id": place, "file_name": name, "width": WIDTH, "height": HEIGHT} for place, name in enumerate(OBJECTS)]
    categories = [{"id": 3, "name": "cat"}, {"id": 17, "name": "dog"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def in_coco(folder: Path) -> None:
    pictures(folder / "images")
    (folder / "annotations.json").write_text(json.dumps(coco()))


def in_voc(folder: Path) -> None:
    pictures(folder / "JPEGImages")
    (folder / "Annotations").mkdir()
    for name, objects in OBJECTS.items():
        told = "".join(
            f"<object><name>{label}</name><bndbox><xmin>{box[0] + 1}</xmin><ymin>{box[1] + 1}</ymin>"
            f"<xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
            for label, box in objects
        )
        size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
        (folder / "Annotations" / f"{Path(name).stem}.xml").write_text(f"<annotation>{size}{told}</annotation>")


def in_yolo(folder: Path) -> None:
    pictures(folder / "images")
    (folder / "labels").mkdir()
    (folder / "data.yaml").write_text("names: [cat, dog]\n")
    for name, objects in OBJECTS.items():
        lines = [
            f"{CLASSES.index(label)} {(x + right) / 2 / WIDTH} {(y + low) / 2 / HEIGHT} {(right - x) / WIDTH} "
            f"{(low - y) / HEIGHT}"
            for label, (x, y, right, low) in objects
        ]
        if lines:
            (folder / "labels" / f"{Path(name).stem}.txt").write_text("\n".join(lines))


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("write", [in_coco, in_voc, in_yolo])
def test_every_form_comes_to_the_same(tmp_path: Path, write: Callable[[Path], None], zipped: bool) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder)
    place = folder
    if zipped:
        place = tmp_path / "data.zip"
        with zipfile.ZipFile(place, "w") as archive:
            for path in sorted(folder.rglob("*.*")):
                archive.write(path, path.relative_to(folder))
    data = ObjectDetectionData.from_folders(train_folder=place, image_size=32)
    table = data.table("train")
    assert table is not None and table.annotations is not None
    assert table.annotations.names == CLASSES
    found = {Path(str(table.inputs[row])).name: row for row in range(len(table))}
    assert [*found] == [*OBJECTS]
    for name, objects in OBJECTS.items():
        example = data.modality.load(table.inputs[found[name]])
        assert example["size"].tolist() == [24, 32]
        target: Any = replace(table.annotations, code=None).target(found[name], example)
        assert target["labels"] == [label for label, _ in objects]
        wanted = np.array([box for _, box in objects], np.float32).reshape(-1, 4) / 2
        assert target["boxes"].numpy() == pytest.approx(wanted, abs=1e-4)


def changed(**change: Any) -> dict[str, Any]:
    """COCO's annotations with something else in the first of a list, or without it."""
    told = copy.deepcopy(coco())
    for name, value in change.items():
        part, _, key = name.partition("__")
        told[part][0][key] = value
    return told


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (changed(annotations__bbox=[4, 6, 0, 24]), r"annotation 0 of 'a.jpg'.*no area.*degenerate='drop'"),
        (changed(annotations__bbox=[30, 10, 60, 40]), r"beyond the picture of 64x48.*other corner"),
        (changed(annotations__bbox=[4, 6, 10]), "x, y, width and height"),
        (changed(annotations__bbox=[4, 6, 10, float("nan")]), "four finite numbers"),
        (changed(annotations__image_id=77), "annotation 0 .* is of image 77"),
        (changed(annotations__category_id=1), r"category 1.*3 \(cat\)"),
        (changed(annotations__id=1), "the annotation 1 is twice"),
        (changed(images__id=1), "the image 1 is twice"),
        (changed(images__file_name="z.jpg"), r"speak of 3 pictures, and of 1 .*z\.jpg"),
        ({"images": []}, "no list 'categories'"),
        ([], "no list 'images' and no list 'categories'"),
    ],
)
def test_what_is_wrong_with_coco_is_named(tmp_path: Path, told: Any, message: str) -> None:
    pictures(tmp_path / "images")
    (tmp_path / "annotations.json").write_text(json.dumps(told))
    with pytest.raises(DataError, match=message):
        ObjectDetectionData.from_coco(train_folder=tmp_path)


def test_boxes_without_area_are_left_out_on_request(tmp_path: Path) -> None:
    pictures(tmp_path)
    file = tmp_path / "some.json"
    file.write_text(json.dumps(changed(annotations__bbox=[4, 6, 0, 24])))
    data = ObjectDetectionData.from_coco(train_folder=tmp_path, train_ann_file=file, degenerate="drop")
    table = data.table("train")
    assert table is not None and table.annotations is not None
    target: Any = replace(table.annotations, code=None).target(0)
    assert target["labels"] == ["dog"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.2", "4, the corners"),
        ("cat 0.5 0.5 0.2 0.2", "a class and numbers"),
        ("7 0.5 0.5 0.2 0.2", "of class 7"),
        ("0 30 20 10 10", "shares of its sides"),
        ("0 0.5 0.5 0 0.2", "no area"),
    ],
)
def test_what_is_wrong_with_yolo_is_named(tmp_path: Path, line: str, message: str) -> None:
    in_yolo(tmp_path)
    (tmp_path / "labels" / "c.txt").write_text(line)
    with pytest.raises(DataError, match=rf"line 1 of.*c\.txt.*{message}"):
        ObjectDetectionData.from_yolo(train_folder=tmp_path)


def test_a_polygon_of_yolo_has_a_box_around_it(tmp_path: Path) -> None:
    in_yolo(tmp_path)
    (tmp_path / "labels" / "c.txt").write_text("1 0.1 0.2 0.6 0.3 0.4 0.9")
    data = ObjectDetectionData.from_yolo(train_folder=tmp_path, image_size=64)
    table = data.table("train")
    assert table is not None and table.annotations is not None
    target: Any = replace(table.annotations, code=None).target(2, data.modality.load(table.inputs[2]))
    assert target["boxes"][0].tolist() == pytest.approx([6.4, 9.6, 38.4, 43.2], abs=1e-3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<annotation>", "no XML"),
        ("<annotation>ä</annotation>".encode("utf-16")[3:], "no XML.*UTF-8"),
        (b"<annotation><object><name>cat</name></object></annotation>", "xmin, ymin, xmax and ymax are needed"),
        (b"<!DOCTYPE a [<!ENTITY b 'c'>]><annotation/>", "entities"),
    ],
)
def test_what_is_wrong_with_voc_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    in_voc(tmp_path)
    (tmp_path / "Annotations" / "c.xml").write_bytes(content)
    with pytest.raises(DataError, match=message) as told:
        ObjectDetectionData.from_voc(train_folder=tmp_path)
    assert "c.xml" in str(told.value)


def test_a_split_of_voc(tmp_path: Path) -> None:
    in_voc(tmp_path)
    split = tmp_path / "train.txt"
    split.write_text("c\na 1\n")
    table = ObjectDetectionData.from_voc(train_folder=tmp_path, train_split_file=split).table("train")
    assert table is not None and [Path(str(table.inputs[row])).name for row in range(2)] == ["c.jpg", "a.jpg"]
    split.write_text("nobody\n")
    with pytest.raises(DataError, match="1 pictures that have no XML file: nobody"):
        ObjectDetectionData.from_voc(train_folder=tmp_path, train_split_file=split)


def shaped(folder: Path) -> dict[str, Any]:
    """COCO's annotations with masks in each of its forms, and three keypoints; written, and returned."""
    told = coco()
    whole = np.zeros((HEIGHT, WIDTH), np.uint8)
    for place, one in enumerate(told["annotations"]):
        left, top, width, height = one["bbox"]
        right, bottom = left + width, top + height
        mask = whole.copy()
        mask[top:bottom, left:right] = 1
        polygon = [[left, top, right, top, right, bottom, left, bottom]]
        one["segmentation"] = [polygon, {"size": [HEIGHT, WIDTH], "counts": in_runs(mask > 0)}][place % 2]
        one["keypoints"] = [left, top, 2, right - 1, top, 1, 0, 0, 0]
    told["categories"][0]["keypoints"] = ["left_ear", "right_ear", "tail"]
    pictures(folder)
    (folder / "annotations.json").write_text(json.dumps(told))
    return told


def test_masks_and_keypoints_of_coco(tmp_path: Path) -> None:
    shaped(tmp_path)
    data: Any = InstanceSegmentationData.from_folders(train_folder=tmp_path, image_size=32)
    table = data.table("train")
    example = data.modality.load(table.inputs[0])
    masks = table.annotations.target(0, example)["masks"]
    assert masks.shape == (2, 32, 32) and masks.dtype == torch.uint8
    for mask, (_, box) in zip(masks, OBJECTS["a.jpg"], strict=True):
        left, top, right, bottom = (side // 2 for side in box)
        assert int(mask.sum()) == pytest.approx((right - left) * (bottom - top), rel=0.15)
        assert mask[top + 1 : bottom - 1, left + 1 : right - 1].all()
    assert table.annotations.target(1, data.modality.load(table.inputs[1]))["masks"].shape == (0, 32, 32)
    data = KeypointDetectionData.from_folders(train_folder=tmp_path, image_size=32)
    table = data.table("train")
    target = table.annotations.target(0, data.modality.load(table.inputs[0]))
    assert target["keypoints"][0].tolist() == [[2, 3, 2], [9.5, 3, 1], [0, 0, 0]]
    assert target["swap"].tolist() == [[1, 0, 2]] * 2
    model = KeypointDetector(backbone="mobilenetv3_small_050", pretrained=False)
    met = model.kind.meet(data, "fit")
    assert met.points == model.kind.recalled(met.memory()).points == ("left_ear", "right_ear", "tail")


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ([[1, 2, 3, 4]], "object 0 has 4 numbers: x and y of three corners"),
        ({"size": [4, 4], "counts": [16]}, r"size \[4, 4\], and its picture \[48, 64\]"),
        ({"size": [48, 64], "counts": [5, 5]}, "cover 10 pixels of 3072"),
        (np.zeros((4, 4), np.uint8), r"shape \(4, 4\), and its picture \(48, 64\)"),
    ],
)
def test_masks_that_are_none_are_told(mask: Any, message: str) -> None:
    example = Picture(32, resize="fit").load(np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    item = {"boxes": [[1, 2, 30, 40]], "labels": ["cat"], "masks": [mask]}
    with pytest.raises(DataError, match=message):
        instances_on_canvas(item, example)
    with pytest.raises(DataError, match="1 objects and 0 masks"):
        instances_on_canvas({**item, "masks": []}, example)


def test_a_polygon_may_have_as_many_numbers_as_its_picture_is_wide() -> None:
    polygon = [[2.0, 4.0] * 30 + [30.0, 4.0, 30.0, 40.0]]
    assert len(polygon[0]) == WIDTH
    example = Picture(32, resize="fit").load(np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    found = instances_on_canvas({"boxes": [[2, 4, 30, 40]], "labels": ["cat"], "masks": [polygon]}, example)
    assert 60 < int(found["masks"].sum()) < 180


def test_keypoints_of_another_count_are_told(tmp_path: Path) -> None:
    told = shaped(tmp_path)
    told["annotations"][1]["keypoints"] = [1, 2, 2]
    (tmp_path / "annotations.json").write_text(json.dumps(told))
    with pytest.raises(DataError, match=r"annotation 1 of 'a\.jpg'.*3 numbers of keypoints: 3 of x, y and v are 9"):
        KeypointDetectionData.from_folders(train_folder=tmp_path)
    with pytest.raises(DataError, match="2 keypoints, and there are 1 names"):
        keypoints_on_canvas(
            {"boxes": [[1, 2, 3, 4]], "labels": ["a"], "keypoints": [[1, 2, 2, 3, 4, 2]], "keypoint_names": ["a"]}
        )


def test_a_folder_without_annotations_is_told(tmp_path: Path) -> None:
    pictures(tmp_path)
    with pytest.raises(DataError, match="holds no annotations: a JSON file"):
        ObjectDetectionData.from_folders(train_folder=tmp_path)


def test_what_is_found_is_written_as_pycocotools_reads_it() -> None:
    from pycocotools.coco import COCO

    whole, ids = COCO(), {"cat": 3, "dog": 17}
    whole.dataset = {**coco(), "info": {}}
    whole.createIndex()
    answers = [
        [{"label": label, "score": 0.5, "box": [*map(float, box)]} for label, box in objects]
        for objects in OBJECTS.values()
    ]
    read = whole.loadRes(json.loads(json.dumps(detections_to_coco(answers, [0, 1, 2], ids))))
    told = {(row["image_id"], row["category_id"], *row["bbox"]) for row in read.dataset["annotations"]}
    assert told == {(row["image_id"], row["category_id"], *row["bbox"]) for row in coco()["annotations"]}
    with pytest.raises(DataError, match="no id of 'dog'; it has cat"):
        detections_to_coco(answers, [0, 1, 2], {"cat": 3})
    with pytest.raises(DataError, match="3 pictures and 1 image_ids"):
        detections_to_coco(answers, [0], ids)


@pytest.mark.parametrize("corner", [float("nan"), 1e9, "a"])
def test_a_polygon_far_away_is_named(corner: object) -> None:
    with pytest.raises(DataError, match="a polygon of it h"):
        mask_of([[0, 0, corner, 3, 3, 3]], (4, 4), (4, 4), "it")


def test_a_box_beside_its_picture_is_named() -> None:
    picture = Picture(32, resize="fit")(np.zeros((20, 30, 3), np.uint8))
    with pytest.raises(DataError, match=r"box 0 is .* beside the picture of 30x20"):
        objects_on_canvas({"boxes": [[40, 2, 50, 9]], "labels": ["a"]}, picture)


def test_a_damaged_array_is_named() -> None:
    content = io.BytesIO()
    np.save(content, np.zeros((40, 40), np.uint8))
    with pytest.raises(DataError, match="is a damaged array"):
        read_mask(content.getvalue()[:-900])
