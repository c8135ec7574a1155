"""Answers as files: COCO's JSON as others read it, drawings that show what was told where it was told."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from quickstudy import ConfigError
from quickstudy.functional.masks import in_runs
from quickstudy.image import InstanceSegmentationData
from quickstudy.image.drawing import COLOURS, Canvas, drawing
from quickstudy.image.modality import Picture
from quickstudy.kinds.classification import Classification
from quickstudy.kinds.coco import coco_of
from quickstudy.kinds.detection import Detection
from quickstudy.runs.answers import Drawings, check_writable, format_of, writing

MASK = np.zeros((60, 80), np.bool_)
MASK[10:30, 20:50] = True
FOUND: dict[str, Any] = {
    "label": "bar",
    "score": 0.75,
    "box": [20.0, 10.0, 50.0, 30.0],
    "mask": {"size": [60, 80], "counts": in_runs(MASK)},
}
PICTURE = Picture()


def colour(place: int) -> list[int]:
    return [int(COLOURS[place][at : at + 2], 16) for at in (1, 3, 5)]


def drawn(told: dict[str, Any], size: tuple[int, int] = (600, 800)) -> np.ndarray:
    content = drawing(Image.fromarray(np.full((*size, 3), 100, np.uint8)), told, ["square", "bar"])
    return np.asarray(Image.open(io.BytesIO(content))).astype(int)


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # of pycocotools with numpy 2
def test_others_read_what_was_found_as_coco_and_so_does_the_data(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(tmp_path / "images" / name)
    told = coco_of(["square", "bar"], ["images/a.png", "b.png"], [(60, 80), (60, 80)], [[FOUND], []])
    path = tmp_path / "found.json"
    path.write_text(json.dumps(told))
    with contextlib.redirect_stdout(io.StringIO()):
        read = COCO(str(path))
        results = read.loadRes(told["annotations"])
    assert read.imgs[2] == {"id": 2, "file_name": "b.png", "height": 60, "width": 80}
    (one,) = results.anns.values()
    assert one["bbox"] == [20, 10, 30, 20] and one["area"] == 600 and one["category_id"] == 2
    assert (results.annToMask(one) == MASK).all()
    data = InstanceSegmentationData.from_coco(train_folder=tmp_path / "images", train_ann_file=path)
    table = data.table("train")
    assert table is not None and table.annotations is not None
    target: Any = table.annotations.target(
        0, PICTURE.with_options({"image_size": (60, 80), "resize": "fit"}).load(MASK)
    )
    assert (target["masks"][0].numpy() == MASK).all()


def test_keypoints_and_pixels_have_cocos_form() -> None:
    points = {"nose": [3.0, 4.0, 0.9], "tail": [5.0, 6.0, 0.1]}
    told = coco_of(["mouse"], ["a"], [(9, 9)], [[{**FOUND, "label": "mouse", "keypoints": points}]])
    assert told["annotations"][0]["keypoints"] == [3, 4, 2, 5, 6, 2]
    assert told["categories"] == [{"id": 1, "name": "mouse", "keypoints": ["nose", "tail"], "skeleton": []}]
    (only,) = coco_of(["bar"], ["a"], [(60, 80)], [[{"label": "bar", "mask": FOUND["mask"]}]])["annotations"]
    assert only["bbox"] == [20, 10, 30, 20] and "score" not in only


def test_objects_are_drawn_where_they_are_in_the_colour_of_their_class() -> None:
    box = [100.0, 200.0, 400.0, 500.0]
    pixels = drawn({"objects": [{"label": "bar", "score": 0.75, "box": box}]})
    assert pixels.shape == (600, 800, 3)
    for x, y in ((100, 350), (400, 350), (250, 500)):
        near = pixels[y - 3 : y + 4, x - 3 : x + 4].reshape(-1, 3)
        assert np.abs(near - colour(1)).max(1).min() < 40
    assert np.abs(pixels[350, 250] - 100).max() < 8  # inside nothing is hidden
    tag = pixels[180:198, 100:140].reshape(-1, 3)
    assert (tag.min(1) > 180).any()  # white letters


def test_masks_and_classes_tint_their_own_pixels_alone_and_colours_are_explained() -> None:
    large = {"size": [600, 800], "counts": in_runs(MASK.repeat(10, 0).repeat(10, 1))}
    half = (np.array(colour(0)) + 100) // 2
    masked = drawn({"objects": [{**FOUND, "box": [200, 100, 500, 300], "mask": large}]})
    assert np.abs(masked[200, 350] - half).max() < 12 and np.abs(masked[400, 600] - 100).max() < 8
    classes = drawn({"size": [600, 800], "masks": [{"label": "square", "share": 0.125, "counts": large["counts"]}]})
    assert np.abs(classes[200, 350] - half).max() < 12 and np.abs(classes[400, 600] - 100).max() < 8
    assert len(classes) > 600  # a legend stands below
    keys = classes[600:].reshape(-1, 3)
    assert (np.abs(keys - colour(0)).max(1) < 30).sum() > 50
    assert len(drawn({"objects": []})) > 600  # which says that nothing was found


def test_small_pictures_are_drawn_larger_and_large_ones_smaller() -> None:
    assert Canvas(Image.new("L", (60, 40))).image.size == (360, 240)
    assert Canvas(Image.new("RGB", (8000, 10_000))).image.size == (1280, 1600)
    assert Canvas(Image.new("RGB", (500, 300))).image.size == (500, 300)


def test_drawings_of_one_name_lie_beside_each_other(tmp_path: Path) -> None:
    pixels = np.zeros((60, 80, 3), np.uint8)
    drawings = Drawings(tmp_path / "drawn", Detection(classes=("bar",), ids=("bar",), codes=(0,)), PICTURE)
    names = [drawings.add(pixels, name, [FOUND]).name for name in ("x/a.png", "y/a.png", "input 3")]
    assert names == ["a.jpg", "a-2.jpg", "input 3.jpg"]


def test_what_has_no_places_says_so_before_it_is_asked() -> None:
    kind = Classification(classes=("a", "b"))
    with pytest.raises(ConfigError, match=r"COCO's form is of places, and classification .*CSV"):
        check_writable(kind, PICTURE, "coco")
    with pytest.raises(ConfigError, match="drawings are of objects"):
        check_writable(kind, PICTURE, "csv", "drawn")
    with pytest.raises(ConfigError, match=r"neither x.csv nor x.json"):
        format_of("found.txt", "objects")
    with pytest.raises(ConfigError, match="for COCO"):
        format_of("found.csv", "coco")


def test_a_csv_of_objects_has_a_row_for_each_input(tmp_path: Path) -> None:
    kind = Detection(classes=("bar",), ids=("bar",), codes=(0,))
    with writing(tmp_path / "a.csv", "csv", False, kind) as write:
        write("a.png", [FOUND], kind.written([FOUND], "a.png"))
        write("b.png", [], kind.written([], "b.png"))
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert lines[0] == "file,answer" and lines[1].startswith("a.png,") and lines[2] == "b.png,[]"
