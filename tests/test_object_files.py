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
        (changed(images__file_name=None), "image 0 in .* has the file_name None"),
        (changed(images__file_name="elsewhere/a.jpg"), r"a\.jpg \('images/a\.jpg' is called so, in another folder\)"),
        (changed(images__file_name="b.jpg"), r"speaks of 'images/b\.jpg' twice"),
        (changed(images__width="64"), r"image 0 in .* has the width and height \['64', 48\]"),
        (changed(images__id=None), "image number 0 .* has no id"),
        (changed(images__id=True), "image number 0 .* has no id"),
        (changed(annotations__bbox=[4, 6, 10, None]), "annotation 0 .* as numbers"),
        (changed(annotations__bbox=["4", 6, 10, 10]), "annotation 0 .* as numbers"),
        (changed(annotations__bbox=None), "annotation 0 .* has the bbox None"),
        (changed(annotations__image_id=[0]), r"annotation 0 .* is of image \[0\]"),
        (changed(annotations__category_id={}), r"annotation 0 .* is of category \{\}"),
        (changed(annotations__iscrowd="0"), "iscrowd '0'"),
        (changed(categories__name=["cat"]), r"category 3 .* has the name \['cat'\]"),
        (changed(categories__keypoints=7), "category 3 .* has the keypoints 7"),
        ({**coco(), "annotations": {"id": 1}}, "'annotations' in .* a list is needed"),
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
        (b"<annotation><size><width>abc</width><height>4</height></size></annotation>", "width and height .'abc'"),
        (b"<annotation><size><width>nan</width><height>4</height></size></annotation>", "width and height .'nan'"),
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


def first_target(data: Any, row: int = 0) -> Any:
    table = data.table("train")
    return replace(table.annotations, code=None).target(row, data.modality.load(table.inputs[row]))


@pytest.mark.parametrize("form", ["coco", "voc"])
def test_boxes_of_a_picture_that_was_resized_are_not_taken(tmp_path: Path, form: str) -> None:
    (in_coco if form == "coco" else in_voc)(tmp_path)
    shown = next(tmp_path.rglob("a.jpg"))
    data = ObjectDetectionData.from_folders(train_folder=tmp_path, image_size=32)
    assert len(first_target(data)["boxes"]) == 2
    Image.fromarray(np.full((HEIGHT // 2, WIDTH // 2, 3), 90, np.uint8)).save(shown)
    with pytest.raises(DataError, match=r"a\.(jpg|xml)'?.* is told to be 64x48, and its file is 32x24.*not scaled"):
        first_target(data)


def test_pictures_masks_and_boxes_are_turned_alike(tmp_path: Path) -> None:
    in_coco(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6  # it is to be turned to the right
    Image.fromarray(np.full((HEIGHT, WIDTH, 3), 90, np.uint8)).save(tmp_path / "images" / "a.jpg", exif=exif)
    with pytest.raises(DataError, match="told to be 64x48, and is 48x64: were boxes drawn before it was turned"):
        first_target(ObjectDetectionData.from_folders(train_folder=tmp_path, image_size=32))
    upright = changed(images__width=HEIGHT, images__height=WIDTH)
    upright["annotations"][0]["bbox"], upright["annotations"][1]["bbox"] = [2, 4, 10, 20], [20, 30, 10, 20]
    (tmp_path / "annotations.json").write_text(json.dumps(upright))
    found = first_target(ObjectDetectionData.from_folders(train_folder=tmp_path, image_size=32))
    assert found["boxes"][0].tolist() == [1, 2, 6, 12]
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[0, 5] = 7
    Image.fromarray(ids).save(tmp_path / "mask.png", exif=exif)
    turned = read_mask(tmp_path / "mask.png", Picture(resize="fit").load(tmp_path / "images" / "a.jpg"))
    assert turned.nonzero().tolist() == [[5, HEIGHT - 1]]
    Image.fromarray(ids).save(tmp_path / "mask.png")
    with pytest.raises(DataError, match="before the picture was turned"):
        read_mask(tmp_path / "mask.png", Picture(resize="fit").load(tmp_path / "images" / "a.jpg"))


def test_pictures_of_voc_that_are_called_alike_are_told_by_their_folders(tmp_path: Path) -> None:
    for place, name in enumerate(("train", "val")):
        in_voc(tmp_path / name)
        (tmp_path / name / "SegmentationClass").mkdir()
        Image.new("L", (WIDTH, HEIGHT), place).save(tmp_path / name / "SegmentationClass" / "a.png")
    table = ObjectDetectionData.from_voc(train_folder=tmp_path).table("train")
    assert table is not None and len(table) == 2 * len(OBJECTS)
    names = [str(table.inputs[row]) for row in range(len(table))]
    assert [Path(one).parts[-3:] for one in names if one.endswith(("a.jpg", "a.png"))] == [
        (name, "JPEGImages", "a.jpg") for name in ("train", "val")
    ]
    split = tmp_path / "train.txt"
    split.write_text("a\n")
    with pytest.raises(DataError, match=r"names 'a', and that could be 'train/Annotations/a\.xml'"):
        ObjectDetectionData.from_voc(train_folder=tmp_path, train_split_file=split)
    for name in ("train", "val"):
        (tmp_path / name / "SegmentationClass" / "a.png").unlink()
    (tmp_path / "val" / "JPEGImages" / "a.jpg").unlink()
    with pytest.raises(DataError, match=r"speak of 6 pictures, and of 1 .*a\.xml"):
        ObjectDetectionData.from_voc(train_folder=tmp_path)


POSES = ["0 0.5 0.5 0.4 0.4 0.4 0.4 2 0.6 0.6 1", "1 0.3 0.5 0.2 0.4 0.25 0.45 2 0 0 0"]
"""Boxes with two keypoints of three numbers each, as many as five corners have."""


def poses(folder: Path, lines: list[str], told: str = "") -> Path:
    in_yolo(folder)
    (folder / "labels" / "c.txt").write_text("\n".join(lines))
    (folder / "data.yaml").write_text(f"names: [cat, dog]\n{told}")
    return folder


def test_keypoints_of_yolo_are_no_polygons(tmp_path: Path) -> None:
    told = "kpt_shape: [2, 3]\nkpt_names:\n  0: [left_ear, right_ear]\nflip_idx: [1, 0]\n"
    data = KeypointDetectionData.from_yolo(train_folder=poses(tmp_path, POSES, told), image_size=64)
    found = first_target(data, 2)
    assert found["boxes"].numpy() == pytest.approx(
        np.array([[19.2, 14.4, 44.8, 33.6], [12.8, 14.4, 25.6, 33.6]]), abs=1e-4
    )
    wanted = [[[25.6, 19.2, 2], [38.4, 28.8, 1]], [[16, 21.6, 2], [0, 0, 0]]]
    assert found["keypoints"].numpy() == pytest.approx(np.array(wanted), abs=1e-4)
    assert found["swap"].tolist() == [[1, 0]] * 2 and found["keypoint_names"] == ("left_ear", "right_ear")
    assert first_target(data)["keypoints"].tolist() == [[[0, 0, 0]] * 2] * 2  # of boxes alone


def test_lines_of_yolo_that_could_be_either_are_told(tmp_path: Path) -> None:
    folder = poses(tmp_path, POSES)
    with pytest.raises(DataError, match=r"kpt_shape=\(0, 0\) for polygons, kpt_shape=\(3, 2\), or kpt_shape=\(2, 3\)"):
        ObjectDetectionData.from_yolo(train_folder=folder)
    data = ObjectDetectionData.from_yolo(train_folder=folder, image_size=64, kpt_shape=[2, 3])
    assert first_target(data, 2)["boxes"][1].numpy() == pytest.approx([12.8, 14.4, 25.6, 33.6], abs=1e-4)
    (folder / "labels" / "c.txt").write_text("0 0.5 0.5 0.4 0.4 0.4 0.4 2")  # which no polygon has
    found = first_target(KeypointDetectionData.from_yolo(train_folder=folder, image_size=64), 2)
    assert found["keypoints"].numpy() == pytest.approx(np.array([[[25.6, 19.2, 2]]]), abs=1e-4)
    with pytest.raises(DataError, match=r"7 numbers behind its class.*and 2 keypoints of 3 are 6 more"):
        ObjectDetectionData.from_yolo(train_folder=folder, kpt_shape=[2, 3])
    with pytest.raises(DataError, match=r"kpt_shape \[2, 4\]"):
        ObjectDetectionData.from_yolo(train_folder=folder, kpt_shape=[2, 4])


def test_polygons_of_yolo_are_masks(tmp_path: Path) -> None:
    folder = poses(tmp_path, ["1 0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75"])
    data = InstanceSegmentationData.from_yolo(train_folder=folder, image_size=64)
    (mask,) = first_target(data, 2)["masks"]
    assert mask[:48].float().mean() == pytest.approx(0.25, abs=0.03) and bool(mask[24, 32])


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("classes.txt", "cat\n\ndog\n", "line 2 of .*classes.txt.* is blank"),
        ("data.yaml", "names: {0: cat, 0: dog, 1: cow}\n", "the key 0 is there twice"),
        ("data.yaml", "names: [cat, dog]\nnames: [dog, cat]\n", "the key 'names' is there twice"),
        ("data.yaml", "names: [cat, ~]\n", "no names of classes"),
        ("data.yaml", "names: [cat, dog]\nkpt_shape: 17\n", "kpt_shape 17"),
        ("data.yaml", "names: [cat, dog]\nkpt_shape: [2, 3]\nflip_idx: [0, 0]\n", "holds each of 0 to 1 once"),
        ("data.yaml", "names: [cat, dog]\nkpt_shape: [2, 3]\nkpt_names: {0: [ear]}\n", "kpt_names"),
    ],
)
def test_what_is_wrong_with_yolos_names_is_told(tmp_path: Path, file: str, content: str, message: str) -> None:
    in_yolo(tmp_path)
    (tmp_path / "data.yaml").unlink()
    (tmp_path / file).write_text(content)
    with pytest.raises(DataError, match=message):
        ObjectDetectionData.from_yolo(train_folder=tmp_path)


def test_blank_lines_behind_the_names_of_classes_are_none(tmp_path: Path) -> None:
    in_yolo(tmp_path)
    (tmp_path / "data.yaml").unlink()
    (tmp_path / "classes.txt").write_text("cat\r\ndog\r\n\r\n")
    table = ObjectDetectionData.from_yolo(train_folder=tmp_path).table("train")
    assert table is not None and table.annotations is not None and table.annotations.names == CLASSES


def test_two_pictures_of_one_text_are_told(tmp_path: Path) -> None:
    in_yolo(tmp_path)
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "images" / "a.png")
    with pytest.raises(DataError, match=r"'images/a\.jpg' and 'images/a\.png' could both be the picture of"):
        ObjectDetectionData.from_yolo(train_folder=tmp_path)


def dot(form: str) -> Any:
    """A mask of one pixel, or a line as thin, that lies between those that are shown."""
    mask = np.zeros((48, 64), np.uint8)
    mask[9, 9 : 30 if form == "line" else 10] = 1
    if form == "runs":
        return {"size": [48, 64], "counts": in_runs(mask > 0)}
    if form == "polygon":
        return [[9.1, 9.1, 9.4, 9.1, 9.4, 9.4]]
    return mask


@pytest.mark.parametrize("form", ["array", "runs", "polygon", "line"])
def test_the_mask_of_an_object_does_not_vanish(form: str) -> None:
    shown = mask_of(dot(form), (48, 64), (6, 8), "it")
    wanted = {(1, 1), (1, 2), (1, 3)} if form == "line" else {(1, 1)}
    assert {*zip(*map(list, np.nonzero(shown)), strict=True)} == wanted
    assert not mask_of(np.zeros((48, 64), np.uint8), (48, 64), (6, 8), "it").any()


@pytest.mark.parametrize(
    ("numbers", "count"), [((1, 2, 255), 2), ((127, 255), 2), ((128, 255), 2), ((85, 170, 255), 3), ((255,), 1)]
)
def test_numbers_of_a_mask_are_objects_or_the_border_around_them(numbers: tuple[int, ...], count: int) -> None:
    mask = np.zeros((20, 20), np.uint8)
    for place, number in enumerate(numbers):
        mask[5 * place : 5 * place + 3, 4:9] = number
    example = Picture(resize="fit").load(np.zeros((20, 20, 3), np.uint8))
    assert len(instances_on_canvas(mask, example)["boxes"]) == count
    mask[mask == numbers[0]] = 100
    if len(numbers) > 1:
        with pytest.raises(DataError, match="255 could be an object, or the border"):
            instances_on_canvas(mask, example)


@pytest.mark.parametrize("shape", [(1, 10**12), (10_000, 10_000), (10_000, 10_000, 3), (60_000, 60_000, 1)])
def test_an_array_that_claims_too_much_is_refused(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": "|u1", "fortran_order": False, "shape": shape})
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("there is no memory for it"))
    with pytest.raises(DataError, match=r"claims .* pixels, more than"):
        read_mask(content.getvalue())


def test_a_mask_of_two_files_is_told(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / folder / "a.png")
    np.save(tmp_path / "masks" / "a.npy", np.zeros((8, 8), np.uint8))
    with pytest.raises(DataError, match=r"'masks/a\.npy' and 'masks/a\.png' could both be the mask of 'a'"):
        InstanceSegmentationData.from_folders(train_folder=tmp_path)
