"""The data's doors, from what a user has to the tensors of a step; pictures; archives; the cache; the workers."""

from __future__ import annotations

import gc
import io
import os
import random
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from quickstudy import DataModule, DataWarning
from quickstudy.data import packed
from quickstudy.data.archives import Files, Folder
from quickstudy.data.episodes import EpisodePlan
from quickstudy.data.samples import Samples, cache_budget
from quickstudy.data.table import Table
from quickstudy.data.targets import encode
from quickstudy.datamodule import STAGES
from quickstudy.files import atomic_write
from quickstudy.image import ImageClassificationData, load_image

CLASSES = ("cat", "dog", "yak")
LEVELS = {"train": 0, "val": 20, "test": 40, "predict": 60}
PLAN = EpisodePlan(ways=2, shots=1, queries=2, meta_batch_size=2, epoch_length=8, test_epoch_length=4)
SMALL = {"image_size": 8, "image_mode": "L"}


def png(level: int, size: int = 8) -> bytes:
    file = io.BytesIO()
    Image.new("L", (size, size), level).save(file, "PNG")
    return file.getvalue()


def examples(stage: str) -> list[tuple[str, int]]:
    """Name and level of a stage's pictures; a picture's level tells which it is."""
    return [(f"{CLASSES[i // 4]}/{i}.png", LEVELS[stage] + i) for i in range(12)]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for stage in STAGES:
        for name, level in examples(stage):
            (tmp_path / stage / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / stage / name).write_bytes(png(level))
    return tmp_path


def by_stage(make: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    return {key: value for stage in STAGES for key, value in make(stage).items() if key != "predict_targets"}


class Pairs(Dataset[Any]):
    """A data set of (input, target) or of dicts."""

    def __init__(self, stage: str, as_dict: bool) -> None:
        self.stage, self.as_dict = stage, as_dict

    def __len__(self) -> int:
        return 12

    def __getitem__(self, row: int) -> Any:
        name, level = examples(self.stage)[row]
        picture = Image.new("L", (8, 8), level)
        return {"input": picture, "target": name[:3]} if self.as_dict else (picture, name[:3])


class Torchvision(Pairs):
    """A data set like torchvision's: its targets are known without reading an item."""

    def __init__(self, stage: str) -> None:
        super().__init__(stage, as_dict=False)
        self.targets = [i // 4 for i in range(12)]
        self.read: list[int] = []

    def __getitem__(self, row: int) -> Any:
        self.read.append(row)
        return super().__getitem__(row)[0], self.targets[row]


def from_folders(root: Path) -> DataModule:
    return ImageClassificationData.from_folders(**{f"{stage}_folder": root / stage for stage in STAGES}, **SMALL)


def from_archives(suffix: str, kind: str) -> Callable[[Path], DataModule]:
    def door(root: Path) -> DataModule:
        paths = {
            f"{stage}_folder": shutil.make_archive(str(root / f"packed-{stage}"), kind, root / stage) for stage in STAGES
        }
        assert all(path.endswith(suffix) for path in paths.values())
        return ImageClassificationData.from_folders(**paths, **SMALL)

    return door


def from_one_archive(root: Path) -> DataModule:
    path = shutil.make_archive(str(root / "all"), "zip", root)
    return ImageClassificationData.from_folders(**{f"{stage}_folder": f"{path}/{stage}" for stage in STAGES}, **SMALL)


def from_files(root: Path) -> DataModule:
    def make(stage: str) -> dict[str, Any]:
        names = [name for name, _ in examples(stage)]
        return {f"{stage}_files": [root / stage / n for n in names], f"{stage}_targets": [n[:3] for n in names]}

    return ImageClassificationData.from_files(**by_stage(make), **SMALL)


def from_arrays(kind: Callable[[Any], Any], door: str) -> Callable[[Path], DataModule]:
    def open_door(root: Path) -> DataModule:
        def make(stage: str) -> dict[str, Any]:
            levels = np.array([level for _, level in examples(stage)], np.uint8)
            values = np.broadcast_to(levels[:, None, None, None], (12, 1, 8, 8)).copy()
            return {f"{stage}_data": kind(values), f"{stage}_targets": [name[:3] for name, _ in examples(stage)]}

        data: DataModule = getattr(DataModule, door)(**by_stage(make))
        return data

    return open_door


def from_datasets(as_dict: bool) -> Callable[[Path], DataModule]:
    def door(root: Path) -> DataModule:
        sets = {f"{stage}_dataset": Pairs(stage, as_dict) for stage in STAGES}
        return ImageClassificationData.from_datasets(**sets, **SMALL)

    return door


def frame(stage: str) -> Any:
    return pd.DataFrame({"file": [n for n, _ in examples(stage)], "kind": [n[:3] for n, _ in examples(stage)]})


def from_data_frame(root: Path) -> DataModule:
    frames = {f"{stage}_data_frame": frame(stage) for stage in STAGES}
    roots = {f"{stage}_images_root": root / stage for stage in STAGES}
    return ImageClassificationData.from_data_frame("file", "kind", **frames, **roots, **SMALL)


def from_csv(root: Path) -> DataModule:
    for stage in STAGES:
        frame(stage).to_csv(root / stage / "table.csv", index=False)
    files = {f"{stage}_file": root / stage / "table.csv" for stage in STAGES}
    return ImageClassificationData.from_csv("file", "kind", **files, **SMALL)


DOORS: dict[str, Callable[[Path], DataModule]] = {
    "folders": from_folders,
    "zip": from_archives(".zip", "zip"),
    "tar": from_archives(".tar", "tar"),
    "tar.gz": from_archives(".tar.gz", "gztar"),
    "tar.xz": from_archives(".tar.xz", "xztar"),
    "x.zip/train": from_one_archive,
    "files": from_files,
    "tensors": from_arrays(torch.from_numpy, "from_tensors"),
    "numpy": from_arrays(lambda values: values, "from_numpy"),
    "tuples": from_datasets(as_dict=False),
    "dicts": from_datasets(as_dict=True),
    "data_frame": from_data_frame,
    "csv": from_csv,
}


@pytest.mark.parametrize("door", DOORS)
def test_every_door_leads_to_the_same_steps(door: str, photos: Path) -> None:
    data = DOORS[door](photos)
    assert data.classes == CLASSES
    assert data.num_classes == 3
    loaders = (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
    for stage, loader in zip(STAGES, loaders, strict=False):
        seen = [(int(x[0, 0, 0]), CLASSES[int(y)]) for inputs, targets in loader for x, y in zip(inputs, targets, strict=True)]
        expected = [(level, name[:3]) for name, level in examples(stage)]
        assert sorted(seen) == expected
        assert (seen != expected) == (stage == "train")  # training is shuffled, the others keep their order
    batches = list(data.predict_dataloader())
    assert all(batch.shape[1:] == (1, 8, 8) and batch.dtype == torch.uint8 for batch in batches)
    # A folder's pictures come in the order of their names, listed ones as listed.
    expected = sorted(examples("predict")) if door in ("folders", "zip", "tar", "tar.gz", "tar.xz", "x.zip/train") else examples("predict")
    assert [int(level) for batch in batches for level in batch[:, 0, 0, 0]] == [level for _, level in expected]


@pytest.mark.parametrize("door", DOORS)
def test_every_door_leads_to_episodes(door: str, photos: Path) -> None:
    data = DOORS[door](photos)
    only_train = DataModule(train=data.table("train"))
    only_train._transforms, only_train.load_options = {}, data.load_options
    type(only_train).load, loader = staticmethod(load_image), None  # type: ignore[attr-defined]
    try:
        loader = only_train.episode_loader("train", PLAN)
        for episode in loader:
            assert episode.support.shape == (2, 2, 1, 8, 8)
            levels = torch.cat([episode.support, episode.query], 1)[..., 0, 0, 0].int() // 4
            targets = torch.cat([episode.support_targets, episode.query_targets], 1)
            for task in range(2):
                assert len(set(zip(levels[task].tolist(), targets[task].tolist(), strict=True))) == 2
    finally:
        del type(only_train).load
