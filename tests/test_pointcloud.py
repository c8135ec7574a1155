"""Point clouds as a domain: how they are read, the doors of their data, tasks, and the predictor."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from quickstudy.pointcloud import Cloud, PointCloudClassificationData, PointCloudClassifier
from quickstudy.pointcloud.nets import PointNet
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
