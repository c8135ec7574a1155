"""Boxes in space: how far they overlap, how well they are found, and how they are read and moved."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quickstudy import ConfigError, DataError
from quickstudy.data.samples import TRANSFORMS, of_samples, seeded
from quickstudy.data.table import Table
from quickstudy.errors import DataWarning
from quickstudy.functional.boxes import average_precision, best_of, corners, hits, overlaps
from quickstudy.kinds.detection3d import Detection3d, boxes_of
from quickstudy.nets import Encoder
from quickstudy.pointcloud import Cloud, PointCloudObjectDetectionData, PointCloudObjectDetector
from quickstudy.pointcloud.boxes import Kitti, read_boxes
from quickstudy.pointcloud.drawing import three_views
from quickstudy.pointcloud.nets import PointNet
from quickstudy.testing import check_domain, check_kind


def some(count: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.concatenate(
        [
            generator.uniform(-1, 1, (count, 3)),
            generator.uniform(1, 3, (count, 3)),
            generator.uniform(-4, 4, (count, 1)),
        ],
        1,
    )


def test_overlaps_are_those_of_points_drawn_at_random() -> None:
    one, other = some(6), some(5, 1)
    points = np.random.default_rng(2).uniform(-4, 4, (200_000, 3))

    def inside(box: np.ndarray) -> np.ndarray:
        off = points - box[:3]
        cos, sin = np.cos(box[6]), np.sin(box[6])
        own = np.stack([off[:, 0] * cos + off[:, 1] * sin, off[:, 1] * cos - off[:, 0] * sin, off[:, 2]], 1)
        return (np.abs(own) <= box[3:6] / 2).all(1)

    found = overlaps(one, other)
    for row, box in enumerate(one):
        for column, wanted in enumerate(other):
            both = inside(box) & inside(wanted)
            drawn = both.sum() / (inside(box) | inside(wanted)).sum()
            assert found[row, column] == pytest.approx(drawn, abs=0.02)


def test_overlaps_of_equal_turned_and_distant_boxes() -> None:
    boxes = some(20)
    assert np.diag(overlaps(boxes, boxes)) == pytest.approx(1)
    assert overlaps(boxes, boxes) == pytest.approx(overlaps(boxes, boxes).T)
    half = boxes + np.array([0, 0, 0, 0, 0, 0, np.pi])
    assert np.diag(overlaps(boxes, half)) == pytest.approx(1)
    assert (overlaps(boxes, boxes + np.array([9, 0, 0, 0, 0, 0, 0])) == 0).all()
    assert (overlaps(boxes, boxes + np.array([0, 0, 9, 0, 0, 0, 0])) == 0).all()
    assert overlaps(boxes, np.empty((0, 7))).shape == (20, 0)
    inner = boxes * np.array([1, 1, 1, 0.5, 0.5, 0.5, 1])
    assert np.diag(overlaps(boxes, inner)) == pytest.approx(1 / 8)
    assert corners(boxes).shape == (20, 4, 2)


def test_each_box_is_found_once() -> None:
    box = np.array([[0, 0, 0, 2, 2, 2, 0.0]])
    near = box + np.array([0.2, 0, 0, 0, 0, 0, 0])
    assert best_of(np.concatenate([near, box]), np.array([0.5, 0.9]), np.array([0, 0]), 0.1).tolist() == [1]
    assert best_of(np.concatenate([near, box]), np.array([0.5, 0.9]), np.array([0, 1]), 0.1).tolist() == [1, 0]
    assert hits(np.concatenate([box, near]), box, 0.25).tolist() == [True, False]
    assert hits(box, np.empty((0, 7)), 0.25).tolist() == [False]
    assert average_precision(np.array([]), np.array([], np.bool_), 3) == 0
    right = np.array([True, False, True, True])  # of precisions 1, 1/2, 2/3, 3/4: the last is the best from there on
    assert average_precision(np.array([4.0, 3, 2, 1]), right, 3) == pytest.approx((1 + 3 / 4 + 3 / 4) / 3)


def test_bad_boxes_are_named() -> None:
    good = [0, 0, 0, 1, 1, 1, 0]
    with pytest.raises(DataError, match=r"box 1 has the size \[1.0, -1.0, 1.0\]"):
        boxes_of({"boxes": [good, [0, 0, 0, 1, -1, 1, 0]], "labels": ["car", "car"]})
    with pytest.raises(DataError, match="box 0 holds numbers that are not finite"):
        boxes_of({"boxes": [[np.nan, *good[1:]]], "labels": ["car"]})
    with pytest.raises(DataError, match="2 boxes and 1 labels"):
        boxes_of({"boxes": [good, good], "labels": ["car"]})
    with pytest.raises(
        DataError, match=r"these have 6: give a yaw of 0 .* numpy\.pad\(boxes, \(\(0, 0\), \(0, 1\)\)\)"
    ):
        boxes_of({"boxes": [good[:6]], "labels": ["car"]})
    with pytest.raises(DataError, match=r"rows of 7 numbers, \[M, 7\], and these are one row, .*: give \[box\]"):
        boxes_of({"boxes": good, "labels": ["car"]})
    named = {"center": [0, 0, 0], "size": [1, 1, 1], "label": "car"}
    for item, told in (
        ([{**named, "center": [0, 0], "size": [1, 1, 1, 1]}], "box 0 has a center of 2 numbers and a size of 4"),
        ([{**named, "size": [10**400, 1, 1]}], "boxes must be rows of 7 numbers"),
        ({"boxes": [good], "labels": 5}, "labels of boxes are a list .* and not 5"),
        ({"boxes": [good], "labels": [None]}, "a label of a box is a name or a whole number, and not None"),
        ({"boxes": [good, good], "labels": ["car", 1]}, "all names, or all numbers"),
    ):
        with pytest.raises(DataError, match=told):
            boxes_of(item)
    assert float(boxes_of({"boxes": [[*good[:6], 1e9]], "labels": ["a"]})["boxes"][0, 6]) == pytest.approx(
        np.arctan2(np.sin(1e9), np.cos(1e9))
    )
    assert boxes_of([])["boxes"].shape == (0, 7)
    assert Detection3d(ignore="Van").ignore == ("Van",)
    with pytest.raises(DataError, match=r"label 'tram' is of none of the 1 classes 'car'.*Set ignore for"):
        kind = Detection3d(classes=("car",), ids=("car",), codes=(0,))
        made = kind.fitting(Table.build([0], [{"boxes": [good], "labels": ["tram"]}], encode=Detection3d.encode))
        assert made.annotations is not None
        made.annotations.target(0)


def test_the_score_of_perfect_answers_is_one_and_its_figures_are_of_scenes() -> None:
    kind = Detection3d(classes=("a", "b"), ids=("a", "b"), codes=(0, 1))
    boxes = torch.from_numpy(some(12)).view(4, 3, 7)
    boxes[..., 0] += 10 * torch.arange(3)
    labels = torch.tensor([[0, 1, 0]] * 4)
    targets = {"boxes": boxes, "labels": labels, "mask": torch.ones(4, 3, dtype=torch.bool)}
    outputs = {"boxes": boxes, "scores": torch.full((4, 3), 0.9), "labels": labels}
    figures = kind.figures(outputs, targets)
    assert kind.precisions(figures) == {
        "map_25": 1,
        "ap_25_a": 1,
        "ap_25_b": 1,
        "map_50": 1,
        "ap_50_a": 1,
        "ap_50_b": 1,
    }
    missed = kind.figures({**outputs, "scores": torch.tensor([[0.9, 0.9, 0.0]] * 4)}, targets)
    assert kind.precisions(missed)["ap_25_a"] == 0.5
    assert float(kind.settled(missed).mean()) == pytest.approx(kind.precisions(missed)["map_25"])
    empty = {**targets, "mask": torch.zeros(4, 3, dtype=torch.bool)}
    assert kind.precisions(kind.figures(outputs, empty))["map_25"] == 0


def small_net() -> PointNet:
    torch.manual_seed(0)
    return PointNet(widths=(8, 8))


def small_rooms(count: int, seed: int = 0) -> tuple[list[Any], list[Any]]:
    """Return scenes of one or two blocks on the ground, the last without any."""
    generator, scenes, targets = np.random.default_rng(seed), [], []
    for number in range(count):
        boxes = [
            [2 + 3 * place + generator.uniform(-0.5, 0.5), generator.uniform(1.5, 6.5), 0.5, 2, 1, 1, 0.4]
            for place in range(1 + number % 2)
        ]
        boxes = [] if number == count - 1 else boxes
        blocks = [generator.uniform(-0.5, 0.5, (40, 3)) * box[3:6] + box[:3] for box in boxes]
        scenes.append(np.concatenate([generator.uniform(0, 8, (60, 3)) * [1, 1, 0], *blocks]))
        targets.append({"boxes": boxes, "labels": ["block"] * len(boxes)})
    return scenes, targets


def test_the_kind_conforms() -> None:
    scenes, targets = small_rooms(10)
    data = PointCloudObjectDetectionData.from_arrays(
        train_arrays=scenes, train_targets=targets, batch_size=10, channels=0
    )
    kind = Detection3d(cell=1.0, width=4).meet(data, "fit")
    batch = next(iter(data.batch_loader("train", kind=kind)))
    check_kind(kind, Encoder(small_net()), batch["input"], batch["target"])


@pytest.mark.dear("pointcloud", "testing", "kinds")
def test_detection_in_clouds_conforms() -> None:
    class Detector(PointCloudObjectDetector):
        def __init__(self, **options: Any) -> None:
            super().__init__(**{"cell": 1.0, "width": 4, "min_score": 0.01, **options})

    check_domain(PointCloudObjectDetectionData, Detector, *small_rooms(8), backbone=small_net(), exports=False)


def test_a_box_in_other_units_is_told() -> None:
    scenes, targets = small_rooms(4)
    targets[0]["boxes"][0] = [1000 * number for number in targets[0]["boxes"][0][:6]] + [0]
    data = PointCloudObjectDetectionData.from_arrays(train_arrays=scenes, train_targets=targets)
    with pytest.warns(DataWarning, match="does one have other units"):
        Detection3d().meet(data, "fit")


def test_jitter_does_not_depend_on_where_0_is() -> None:
    points = torch.rand(50, 3, dtype=torch.float64)
    moved = []
    for away in (0, 1000):
        with seeded((1,)):
            found = TRANSFORMS["jitter"]({"points": points + away, "mask": torch.ones(50).bool()})["points"]
        moved.append(found - away)
    torch.testing.assert_close(moved[0], moved[1])


def test_boxes_turn_with_their_points() -> None:
    _, targets = small_rooms(3)
    box = torch.tensor(targets[0]["boxes"], dtype=torch.float32)
    edges = torch.from_numpy(corners(box.double().numpy())).float()[0]
    points = torch.cat([edges, torch.full((4, 1), 0.5)], 1)
    target = {"boxes": box, "labels": torch.zeros(1).long(), "mask": torch.ones(1, dtype=torch.bool)}
    sample = {"input": {"points": points, "mask": torch.ones(4, dtype=torch.bool)}, "target": target}
    with seeded((3,)):
        turned = TRANSFORMS["rotate_z"](sample)
    with seeded((4,)):
        scaled = of_samples(TRANSFORMS["scale"])(turned)
    for moved in (turned, scaled):
        found = torch.from_numpy(corners(moved["target"]["boxes"].double().numpy()))[0]
        torch.testing.assert_close(found.float(), moved["input"]["points"][:, :2], rtol=0, atol=1e-4)
    with seeded((5,)), pytest.raises(ConfigError, match="stand upright"):
        TRANSFORMS["rotate_any"](sample)


def test_kitti_and_json_are_read(tmp_path: Path) -> None:
    for folder in ("velodyne", "label_2", "calib"):
        (tmp_path / folder).mkdir()
    (tmp_path / "velodyne/0.bin").write_bytes(np.ones((5, 4), "<f4").tobytes())
    (tmp_path / "label_2/0.txt").write_text(
        "Car 0 0 0 0 0 0 0 1.5 1.6 4.0 2.0 1.0 10.0 0.0\nDontCare -1 -1 -10 0 0 0 0 -1 -1 -1 -1000 -1000 -1000 -10\n"
    )
    (tmp_path / "calib/0.txt").write_text(
        "R0_rect: 1 0 0 0 1 0 0 0 1\nTr_velo_to_cam: 0 -1 0 0 0 0 -1 0 1 0 0 0\n"  # ahead is z, left is -x, up is -y
    )
    data = PointCloudObjectDetectionData.from_folders(str(tmp_path))
    table = data.table("train")
    assert table is not None
    assert table.annotations is not None
    target = replace(table.annotations, code=None).target(0)
    assert target["labels"] == ["Car"]
    assert target["boxes"][0] == pytest.approx([10, -2, -0.25, 4, 1.6, 1.5, -np.pi / 2])
    (tmp_path / "label_2/0.txt").write_text("Car 0 0\n")
    with pytest.raises(DataError, match=r"0\.txt.*row 0 has 3 words"):
        read_boxes(Kitti(str(tmp_path / "label_2/0.txt"), str(tmp_path / "calib/0.txt")))
    (tmp_path / "a.json").write_text('[{"center": [1, 2, 3], "size": [1, 1, 0], "yaw": 0, "label": "car"}]')
    with pytest.raises(DataError, match=r"a\.json.*box 0 has the size"):
        read_boxes(str(tmp_path / "a.json"))


def test_the_kitti_frame_has_its_points_in_its_box() -> None:
    root = Path(os.environ.get("QUICKSTUDY_DATA", "")) / "points" / "kitti-frame.zip"
    if not root.is_file():
        pytest.skip("KITTI's frame is not given away: QUICKSTUDY_DATA names a folder that has it")
    data = PointCloudObjectDetectionData.from_folders(f"{root}/training")
    table = data.table("train")
    assert table is not None
    assert table.annotations is not None
    (box,) = replace(table.annotations, code=None).target(0)["boxes"]
    points = Cloud(points=None, normalize=False).load(table.inputs[0])["points"][:, :3].double().numpy()
    off = points - box[:3]
    cos, sin = np.cos(box[6]), np.sin(box[6])
    own = np.stack([off[:, 0] * cos + off[:, 1] * sin, off[:, 1] * cos - off[:, 0] * sin, off[:, 2]], 1)
    assert (np.abs(own) < box[3:6] / 2 + 0.05).all(1).sum() > 100


def test_a_batch_is_shown_with_its_boxes(tmp_path: Path) -> None:
    """Each box is drawn, and what fills a batch up is not."""
    scenes, targets = small_rooms(3)
    drawn = []
    for known in (targets, [{"boxes": [], "labels": []}] * 3):
        data = PointCloudObjectDetectionData.from_arrays(train_arrays=scenes, train_targets=known, batch_size=3)
        red, _, blue = np.moveaxis(np.asarray(data.show_batch("train", path=tmp_path / "a.png"), np.int64), 2, 0)
        drawn.append(int((red > blue + 40).sum()))  # edges, which are orange; points are blue
    assert drawn[0] > 100 and drawn[1] == 0
    box = torch.tensor([[0.0, 0, 0, 2, 1, 1, 0.5], [0, 0, 0, 0, 0, 0, 0]])
    points = torch.rand(9, 3)
    assert three_views(points, boxes=box) == three_views(points, boxes=box[:1]) != three_views(points)
