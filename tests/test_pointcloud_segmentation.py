"""A label of each point of a cloud: files, tiles, transforms, and the whole domain."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from quickstudy import ConfigError, DataError
from quickstudy.batches import join, over_windows, stack
from quickstudy.cli import main
from quickstudy.data.samples import TRANSFORMS, seeded
from quickstudy.nets import Encoder
from quickstudy.pointcloud import (
    Cloud,
    PointCloudClassificationData,
    PointCloudObjectDetectionData,
    PointCloudSegmentation,
    PointCloudSegmentationData,
)
from quickstudy.pointcloud.labels import read_labels
from quickstudy.pointcloud.nets import PointNet
from quickstudy.testing import check_domain

SMALL = PointNet(widths=(16, 16))


def pin(count: int = 60, seed: int = 0) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return points of a ball on a rod, ``[count, 3]``, and which of the two each is of."""
    generator = np.random.default_rng(seed)
    labels = (np.arange(count) % 2).astype(np.int64)
    ball = generator.normal(size=(count, 3))
    ball = ball / np.linalg.norm(ball, axis=1, keepdims=True) * 0.5 + [0, 0, 1]
    rod = generator.uniform(-1, 1, (count, 3)) * [0.1, 0.1, 1]
    return np.where(labels[:, None] == 1, ball, rod).astype(np.float32), labels


def files(folder: Path, count: int = 12) -> tuple[list[str], list[NDArray[Any]]]:
    clouds, labels = [], []
    for number in range(count):
        points, own = pin(30 + 7 * number, number)
        np.savetxt(folder / f"{number:02}.xyz", points)
        clouds.append(str(folder / f"{number:02}.xyz"))
        labels.append(own)
    return clouds, labels


@pytest.mark.dear("pointcloud", "testing", "kinds")
def test_segmentation_of_clouds_conforms(tmp_path: Path) -> None:
    check_domain(PointCloudSegmentationData, PointCloudSegmentation, *files(tmp_path), backbone=SMALL)


def test_the_command_writes_what_is_said_of_each_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    clouds, labels = files(tmp_path, 3)
    data = PointCloudSegmentationData.from_files(train_files=clouds, train_targets=labels)
    model = PointCloudSegmentation(backbone="pointnet", class_names=("rod", "ball"))
    model.meet(data, "fit")
    model.predictor().save("model")
    expected = model.predictor().predict(clouds)
    assert main(["predict", "model", *clouds, "--output", "said.csv"]) == 0
    with Path("said.csv").open(newline="") as file:
        assert [json.loads(row["answer"]) for row in csv.DictReader(file)] == expected
    assert main(["predict", "model", *clouds, "--format", "json", "--output", "said.json"]) == 0
    assert [row["answer"] for row in json.loads(Path("said.json").read_text())] == expected


def test_labels_are_read_from_files_of_their_own_and_from_those_of_clouds(tmp_path: Path) -> None:
    points, labels = pin(20)
    np.savez(tmp_path / "a.npz", points=points, labels=labels)
    np.save(tmp_path / "a.npy", labels)
    (tmp_path / "a.label").write_bytes((labels.astype("<u4") + (7 << 16)).tobytes())
    np.savetxt(tmp_path / "a.txt", labels, fmt="%d")
    rows = "\n".join(f"{x} {y} {z} {label}" for (x, y, z), label in zip(points.tolist(), labels.tolist(), strict=True))
    head = "ply\nformat ascii 1.0\nelement vertex 20\nproperty float x\nproperty float y\nproperty float z\n"
    (tmp_path / "a.ply").write_text(f"{head}property int label\nend_header\n{rows}\n")
    for file in sorted(tmp_path.iterdir()):
        assert read_labels(str(file)).tolist() == labels.tolist(), file
    np.savetxt(tmp_path / "b.xyz", points)
    with pytest.raises(DataError, match=r"b\.xyz' has no column of labels"):
        read_labels(str(tmp_path / "b.xyz"))
    example = Cloud(points=None).load(points[:19])
    with pytest.raises(DataError, match=r"a\.label' holds 20 labels, and the cloud has 19 points"):
        read_labels(str(tmp_path / "a.label"), example)
    (tmp_path / "c.label").write_bytes(b"12345")
    with pytest.raises(DataError, match=r"c\.label' has 5 bytes"):
        read_labels(tmp_path / "c.label")


def test_a_folder_of_scans_finds_its_labels(tmp_path: Path) -> None:
    for name in ("velodyne", "labels"):
        (tmp_path / "00" / name).mkdir(parents=True)
    for number in range(3):
        points, labels = pin(20, number)
        rows = np.concatenate([points, np.ones((20, 1), np.float32)], 1)
        (tmp_path / f"00/velodyne/{number}.bin").write_bytes(rows.tobytes())
        (tmp_path / f"00/labels/{number}.label").write_bytes((10 * labels.astype("<u4")).tobytes())
    model = PointCloudSegmentation(class_names={0: "rod", 10: "ball"})
    data = PointCloudSegmentationData.from_folders(str(tmp_path), channels=0, batch_size=3)
    model.meet(data, "fit")
    batch = next(iter(data.batch_loader("train", kind=model.kind)))
    assert batch["target"]["labels"].sum() == 30
    assert data.show_batch().size[0] > 90
    (tmp_path / "00/labels/1.label").unlink()
    with pytest.raises(DataError, match=r"1\.bin' has no file of labels"):
        PointCloudSegmentationData.from_folders(str(tmp_path))
    with pytest.raises(ConfigError, match="drawn="):
        PointCloudSegmentationData.from_arrays([pin()[0]], [pin()[1]], points=10)


@pytest.mark.parametrize("name", ["rotate_z_scale_jitter_drop", "cloud_views"])
def test_transforms_leave_out_labels_with_their_points(name: str) -> None:
    points, labels = pin(200)
    marked = np.concatenate([points, labels[:, None]], 1)
    cloud = {"points": torch.from_numpy(marked).float(), "mask": torch.ones(200, dtype=torch.bool)}
    with seeded((1,)):
        moved = TRANSFORMS[name]({"input": cloud, "target": torch.from_numpy(labels)})
    with seeded((1,)):
        alone = TRANSFORMS[name](cloud)
    assert len(moved["target"]) < 200
    assert torch.equal(moved["input"]["points"][:, 3].long(), moved["target"])
    assert torch.equal(moved["input"]["points"], alone["points"])


def test_a_scene_in_tiles_is_answered_point_by_point() -> None:
    generator = np.random.default_rng(0)
    scene = generator.uniform(0, 20, (3000, 3)) + np.array([500_000, 4_000_000, 0])
    cloud = Cloud(points=None, tile=5, tile_points=64)
    example = cloud.load(scene)
    places, there = example["places"], example["windows"]["mask"]
    assert places.shape[1] <= 64
    assert torch.equal(torch.bincount(places[there], minlength=3000), torch.full((3000,), 2))
    assert example["windows"]["points"][there][:, :2].abs().max() <= 1 + 1e-6
    for tile in range(0, len(places), 7):
        rows, own = places[tile][there[tile]], example["windows"]["points"][tile][there[tile]][:, :3].double()
        apart = torch.from_numpy(scene)[rows] - own * 2.5
        assert (apart - apart[0]).abs().max() < 1e-5

    torch.manual_seed(0)
    encoder = Encoder(PointNet(widths=(8, 8))).double()
    small = cloud.load(scene[:100])
    features, mask = encoder.elements(stack([example, small]))
    assert mask.sum(1).tolist() == [3000, 100]
    windows = encoder.backbone.elements({"points": example["windows"]["points"].double(), "mask": there})
    sums = torch.zeros(3000, 16, dtype=torch.float64).index_add(0, places[there], windows[there])
    torch.testing.assert_close(features[0], sums / 2)
    torch.testing.assert_close(encoder.elements(join([stack([small])]))[0][0], features[1, :100])


def test_windows_that_fill_up_do_not_count() -> None:
    few, many = ({"points": torch.full((tiles, 4, 3), 1.0), "mask": torch.ones(tiles, 4).bool()} for tiles in (1, 3))
    batch = stack([{"windows": few}, {"windows": many}])
    found = over_windows(lambda one: one["points"].sum((1, 2)) + torch.where(one["mask"].any(1), 0.0, torch.nan), batch)
    assert found.tolist() == [12, 12]


@pytest.mark.parametrize(
    ("cls", "option"),
    [
        (PointCloudClassificationData, {"tile": 4.0}),
        (PointCloudObjectDetectionData, {"tile": 4.0}),
        (PointCloudObjectDetectionData, {"normalize": True}),
        (PointCloudObjectDetectionData, {"load_options": {"points": 9}}),
        (PointCloudSegmentationData, {"surface": True}),
    ],
)
def test_what_a_task_cannot_read_is_no_option_of_its_data(cls: Any, option: dict[str, Any]) -> None:
    target: Any = {"boxes": [], "labels": []} if cls is PointCloudObjectDetectionData else 0
    with pytest.raises(ConfigError, match=r"leave it out|read all"):
        cls.from_arrays([pin()[0]], [target if cls is not PointCloudSegmentationData else pin()[1]], **option)


def test_boxes_are_not_found_in_clouds_that_a_model_was_shown_scaled() -> None:
    data = PointCloudObjectDetectionData.from_arrays([pin()[0]], [{"boxes": [], "labels": []}])
    data.follow({"normalize": True, "channels": 0}, tells=False)
    assert not data.load_options.get("normalize", True)


def test_training_is_shown_a_tile_with_its_labels() -> None:
    generator = np.random.default_rng(0)
    scenes = [generator.uniform(0, 20, (500, 3)) for _ in range(2)]
    labels = [(scene[:, 0] > 10).astype(int) for scene in scenes]
    marked = [np.concatenate([scene, own[:, None]], 1) for scene, own in zip(scenes, labels, strict=True)]
    data = PointCloudSegmentationData.from_arrays(
        train_arrays=marked,
        train_targets=labels,
        test_arrays=marked,
        test_targets=labels,
        tile=8,
        tile_points=50,
        drawn=20,
    )
    model = PointCloudSegmentation(backbone="pointnet", backbone_kwargs={"widths": (8, 8)})
    model.meet(data, "fit")
    batch = next(iter(data.batch_loader("train", kind=model.kind)))
    assert batch["input"]["points"].shape[1] <= 20
    assert torch.equal(batch["input"]["points"][..., 3].long(), batch["target"]["labels"])
    whole = next(iter(data.batch_loader("test", kind=model.kind)))
    with torch.no_grad():
        assert model(whole["input"])["logits"].shape == (2, 500, 2)


def test_tiles_that_no_memory_holds_are_refused() -> None:
    """One of many points, and many of one, were all as wide as the widest."""
    apart = np.stack([np.arange(13_000) * 4.0, np.zeros(13_000), np.zeros(13_000)], 1)
    points = np.concatenate([np.random.default_rng(0).random((4096, 3)), apart]).astype(np.float32)
    with pytest.raises(DataError, match=r"falls into [\d,]+ tiles, of which one has 2,049 points: .* Set a larger"):
        Cloud(tile=1).load(points)
