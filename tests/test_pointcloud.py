"""Point clouds as a domain: how they are read, the doors of their data, tasks, and the predictor."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

import quickstudy
from quickstudy.cli import adapt
from quickstudy.errors import DataError
from quickstudy.ladder.examples import usual_backbone
from quickstudy.modality.thumbnails import LARGE_TILE
from quickstudy.nets import purposes
from quickstudy.pointcloud import Cloud, PointCloudClassificationData, PointCloudClassifier
from quickstudy.pointcloud.nets import PointNet
from quickstudy.predictor import Predictor
from quickstudy.testing import check_domain, check_modality

SMALL = PointNet(widths=(16, 16))


def ball(count: int = 60, seed: int = 0) -> NDArray[Any]:
    """Return points on a ball, ``[count, 3]``."""
    points = np.random.default_rng(seed).normal(size=(count, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def rod(count: int = 60, seed: int = 0) -> NDArray[Any]:
    """Return points in a rod, ``[count, 3]``."""
    return np.random.default_rng(seed).uniform(-1, 1, (count, 3)) * [0.1, 0.1, 2]


def clouds(folder: Path, each: int = 6) -> tuple[list[str], list[str]]:
    """Write files of several lengths; return them and what they are."""
    files, labels = [], []
    for name, make in (("ball", ball), ("rod", rod)):
        for number in range(each):
            file = folder / name / f"{number}.xyz"
            file.parent.mkdir(parents=True, exist_ok=True)
            np.savetxt(file, make(30 + 7 * number, number))
            files.append(str(file))
            labels.append(name)
    return files, labels


def test_importing_it_brings_no_library() -> None:
    code = (
        "import sys, quickstudy.pointcloud.modality, quickstudy.pointcloud.nets, quickstudy.predictor\n"
        "assert not {'trimesh', 'scipy', 'pandas', 'transformers'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.dear("pointcloud", "modality", "testing")
def test_point_clouds_conform(tmp_path: Path) -> None:
    files, labels = clouds(tmp_path)
    check_domain(PointCloudClassificationData, PointCloudClassifier, files, labels, backbone=SMALL, points=48)


@pytest.mark.dear("pointcloud", "modality", "testing")
def test_reading_conforms(tmp_path: Path) -> None:
    files, _ = clouds(tmp_path, 3)
    bad = [b"OFF", np.full((9, 3), np.nan), np.zeros((3, 3, 3)), np.zeros((1, 3)), "no such file.ply"]
    check_modality(Cloud(points=40), files, bad=bad, backbone=SMALL)


def test_a_cloud_is_the_same_in_any_form(tmp_path: Path) -> None:
    points = rod(40)
    np.save(tmp_path / "a.npy", points)
    cloud = Cloud(points=32, channels=0)
    wanted = cloud.load(tmp_path / "a.npy")["points"]
    assert wanted.shape == (32, 3) and wanted.dtype == torch.float32
    assert float(wanted.norm(dim=1).max()) == pytest.approx(1) and float(wanted.mean(0).abs().max()) < 1e-6
    alike = {
        "bytes": (tmp_path / "a.npy").read_bytes(),
        "an array": points,
        "a tensor": torch.from_numpy(points),
        "rows": points.tolist(),
        "elsewhere": 7 * points + 3,
        "with colours": np.concatenate([points, np.ones((40, 3))], 1),
    }
    for what, item in alike.items():
        torch.testing.assert_close(cloud.load(item)["points"], wanted, atol=1e-6, rtol=1e-6, msg=what)
    assert len(cloud.listed(points)) == 1 and len(cloud.listed(np.stack([points, points]))) == 2
    shuffled = 2 * np.random.default_rng(0).permutation(points) - 1
    assert cloud.sketch(points) == cloud.sketch(shuffled) != cloud.sketch(ball(40))
    network, plain = cloud.raw()
    assert network({name: leaf[None] for name, leaf in plain.load(points).items()}).shape == (1, 64)
    scene = Cloud(points=None, normalize=False).load(points)["points"]
    torch.testing.assert_close(scene, torch.from_numpy(points).float())


def test_every_door_reads_the_same(tmp_path: Path) -> None:
    files, labels = clouds(tmp_path / "train", 3)
    with zipfile.ZipFile(tmp_path / "train.zip", "w") as archive:
        for file in files:
            archive.write(file, Path(file).relative_to(tmp_path))
    arrays = [np.loadtxt(file) for file in files]
    frame = pd.DataFrame({"file": [str(Path(file).relative_to(tmp_path)) for file in files], "kind": labels})
    frame.to_csv(tmp_path / "t.csv", index=False)
    same = np.stack([array[:30] for array in arrays])
    data, few = PointCloudClassificationData, {"points": 30}
    rows = [{"input": array, "target": label} for array, label in zip(arrays, labels, strict=True)]
    found = {
        "folders": data.from_folders(tmp_path / "train", **few),
        "zip": data.from_folders(tmp_path / "train.zip", **few),
        "files": data.from_files(files, labels, **few),
        "csv": data.from_csv("file", "kind", train_file=tmp_path / "t.csv", **few),
        "arrays": data.from_arrays(arrays, labels, **few),
        "tensors": data.from_tensors(torch.from_numpy(same), labels, **few),
        "rows": data.from_datasets(rows, **few),
    }
    for name, one in found.items():
        assert set(one.classes) == {"ball", "rod"}, name
        batch, _ = next(iter(one.batch_loader("train")))
        assert batch["points"].shape[1:] == (30, 3) and batch["mask"].all(), name
        assert one.load_options == {"points": 30, "channels": 0}, name
    several, _ = next(iter(data.from_arrays(arrays, labels, batch_size=6).batch_loader("train")))
    assert sorted(several["mask"].sum(1).tolist()) == [30, 30, 37, 37, 44, 44]
    with pytest.raises(DataError, match="6 inputs but 5 targets"):
        data.from_arrays(arrays, labels[1:])


def test_shapes_need_no_download_and_know_the_solids_of_points(tmp_path: Path) -> None:
    from quickstudy.datasets.shapes import SOLIDS, labelled_shapes, shapes

    labelled, plain = labelled_shapes(tmp_path, examples=2), shapes(tmp_path, examples=2)
    assert [len(table.classes) for table in plain] == [48, 12, 20]
    names = [name for table in plain for name in table.classes]
    assert len(set(names)) == 80  # no class is in two tables
    assert plain.train.inputs.shape == (96, 256, 3) and labelled.train.inputs.shape == (96, 256, 4)  # type: ignore[attr-defined]
    assert set(labelled.train.inputs[:, :, 3].unique().tolist()) == set(range(len(SOLIDS)))  # type: ignore[call-overload]
    data = PointCloudClassificationData.from_benchmark("shapes", tmp_path, examples=2)
    assert data.example()["points"].shape == (1, 256, 3)


def test_a_ladder_embeds_by_the_network_of_the_domain_where_none_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    purposes._SAID.clear()
    assert usual_backbone(Cloud()) == "pointnet"
    told = capsys.readouterr().err
    assert told.startswith("no backbone is named: point clouds are embedded by pointnet, whose weights are random; ")
    points = [rod(20), ball(20)] * 6
    data = PointCloudClassificationData.from_arrays(train_arrays=points, train_targets=["rod", "ball"] * 6)
    found = quickstudy.ladder(data, rungs=["nearest_centroid"], shots=(1,), draws=2, episodes=0)
    assert [*found.record.asked.backbones] == ["pointnet"]


def test_adapting_offers_no_tiles() -> None:
    assert {*Cloud.of_elements} <= {each.name for each in dataclasses.fields(Cloud)}
    assert "points" in adapt._READING and not {*Cloud.of_elements} & {*adapt._READING}


def test_clouds_are_explained_at_a_size_that_shows_three_views() -> None:
    clouds = [np.random.default_rng(seed).normal(size=(64, 3)) for seed in (0, 1)]
    seen = Predictor.from_backbone("pointnet", clouds, ["a", "b"]).explain(clouds[0], 2)
    assert seen.width > 3 * LARGE_TILE
