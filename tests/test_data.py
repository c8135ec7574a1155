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
from quickstudy.data import archives
from quickstudy.data.episodes import EpisodePlan
from quickstudy.data.loading import Share
from quickstudy.data.places import Files, Folder
from quickstudy.data.samples import Samples, cache_budget
from quickstudy.data.stages import STAGES
from quickstudy.data.table import Table
from quickstudy.data.targets import encode
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
    return [(f"{CLASSES[i // 4]}/{i:02}.png", LEVELS[stage] + i) for i in range(12)]


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
            f"{stage}_folder": shutil.make_archive(str(root / f"packed-{stage}"), kind, root / stage)
            for stage in STAGES
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
        seen = [
            (int(x[0, 0, 0]), CLASSES[int(y)])
            for inputs, targets in loader
            for x, y in zip(inputs, targets, strict=True)
        ]
        expected = [(level, name[:3]) for name, level in examples(stage)]
        assert sorted(seen) == expected
        assert (seen != expected) == (stage == "train")  # training is shuffled, the others keep their order
    batches = list(data.predict_dataloader())
    assert all(batch.shape[1:] == (1, 8, 8) and batch.dtype == torch.uint8 for batch in batches)
    assert [int(level) for batch in batches for level in batch[:, 0, 0, 0]] == [
        level for _, level in examples("predict")
    ]


# ---- archives


@pytest.mark.parametrize("wrapped", [False, True])
def test_folder_zip_and_tar_hold_the_same_episodes(wrapped: bool, photos: Path) -> None:
    where = {"root_dir": photos, "base_dir": "train"} if wrapped else {"root_dir": photos / "train"}
    paths = [photos / "train"]
    for kind in ("zip", "tar", "gztar", "bztar"):
        paths.append(Path(shutil.make_archive(str(photos / f"a-{kind}"), kind, **where)))
    drawn = []
    for path in paths:
        data = ImageClassificationData.from_folders(path, **SMALL)
        assert data.classes == CLASSES
        drawn.append([episode.query[..., 0, 0] for episode in data.episode_loader("train", PLAN)])
    assert all(torch.equal(torch.cat(other), torch.cat(drawn[0])) for other in drawn[1:])


def test_an_archive_with_a_readme_beside_the_classes_is_entered(photos: Path) -> None:
    path = photos / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("LICENSE", "free")
        for name, level in examples("train"):
            archive.writestr(f"photos-1.0/images/{name}", png(level))
    data = ImageClassificationData.from_folders(path, **SMALL)
    assert data.classes == CLASSES
    assert len(data.table("train") or ()) == 12


def test_what_the_system_leaves_behind_is_no_example(photos: Path) -> None:
    path = photos / "mac.zip"
    junk = ["__MACOSX/cat/._0.png", "__MACOSX/._cat", ".DS_Store", "cat/.DS_Store", "dog/Thumbs.db", "cat/._0.png"]
    with zipfile.ZipFile(path, "w") as archive:
        for name, level in examples("train"):
            archive.writestr(name, png(level))
            (photos / "mac" / name).parent.mkdir(parents=True, exist_ok=True)
            (photos / "mac" / name).write_bytes(png(level))
        for name in junk:
            archive.writestr(name, b"junk")
            (photos / "mac" / name).parent.mkdir(parents=True, exist_ok=True)
            (photos / "mac" / name).write_bytes(b"junk")
    for source in (path, photos / "mac"):
        table = ImageClassificationData.from_folders(source).table("train")
        assert table is not None
        assert table.classes == CLASSES
        assert len(table) == 12


def test_slashes_of_windows_and_dots_in_names(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "windows.zip", "w") as archive:
        for name, level in examples("train"):
            archive.writestr(name.replace("/", "\\"), png(level))
    with tarfile.open(tmp_path / "dots.tar", "w") as tar:
        for name, level in examples("train"):
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(png(level))
            tar.addfile(info, io.BytesIO(png(level)))
    for path in ("windows.zip", "dots.tar"):
        assert ImageClassificationData.from_folders(tmp_path / path).classes == CLASSES


def test_a_compressed_tar_is_unpacked_once(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shutil.make_archive(str(photos / "once"), "gztar", photos / "train")
    ImageClassificationData.from_folders(path)
    monkeypatch.setattr(archives.gzip, "open", lambda *_: pytest.fail("unpacked again"))
    assert ImageClassificationData.from_folders(path).classes == CLASSES


def test_prediction_takes_files_at_any_depth(photos: Path) -> None:
    (photos / "predict" / "zebra.png").write_bytes(png(99))
    path = shutil.make_archive(str(photos / "deep"), "zip", photos, "predict")
    for source in (photos / "predict", path):
        data = ImageClassificationData.from_folders(predict_folder=source, **SMALL)
        levels = [int(level) for batch in data.predict_dataloader() for level in batch[:, 0, 0, 0]]
        assert levels == [*(level for _, level in sorted(examples("predict"))), 99]


@pytest.mark.parametrize("name", ["with space", "Ünï—코드", "🦊🐙", "a.b.c", "x" * 200, "NaN", "null", "-1", "#%?&=+"])
def test_class_names_of_every_kind(name: str, tmp_path: Path) -> None:
    for folder in (name, "other"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        (tmp_path / "in" / folder / "1 ü.png").write_bytes(png(1))
    paths = [
        tmp_path / "in",
        *(shutil.make_archive(str(tmp_path / kind), kind, tmp_path / "in") for kind in ("zip", "tar")),
    ]
    for path in paths:
        data = ImageClassificationData.from_folders(path, **SMALL)
        assert data.classes == tuple(sorted((name, "other")))
        assert len(list(data.train_dataloader())) == 1


def test_links_among_folders_are_followed_and_loops_end(photos: Path) -> None:
    (photos / "train" / "emu").symlink_to(photos / "val" / "cat")
    (photos / "train" / "cat" / "again").symlink_to(photos / "train")
    table = ImageClassificationData.from_folders(photos / "train").table("train")
    assert table is not None
    assert table.classes == ("cat", "dog", "emu", "yak")
    assert table.index.counts.tolist() == [4, 4, 4, 4]


# ---- targets


@pytest.mark.parametrize(
    ("targets", "classes", "codes"),
    [
        (["b", "a", "b"], ("a", "b"), [1, 0, 1]),
        (np.array(["b", "a"]), ("a", "b"), [1, 0]),
        (pd.Series(["b", "a"], index=[7, 9]), ("a", "b"), [1, 0]),
        (pd.Series(["b", "a"], dtype="category"), ("a", "b"), [1, 0]),
        ([10, 2, 10], ("2", "10"), [1, 0, 1]),
        (torch.tensor([-1, 5]), ("-1", "5"), [0, 1]),
        ([np.int64(3), np.int64(1)], ("1", "3"), [1, 0]),
        (pd.Series([10, 2], dtype="Int64"), ("2", "10"), [1, 0]),
        ([1.0, 0.0], ("0", "1"), [1, 0]),
        ([True, False], ("0", "1"), [1, 0]),
        (np.eye(3)[[2, 0]], ("0", "1", "2"), [2, 0]),
        ([[0, 1], [1, 0]], ("0", "1"), [1, 0]),
        ([torch.tensor([0, 1]), torch.tensor([1, 0])], ("0", "1"), [1, 0]),
        (np.array([[4], [2]]), ("2", "4"), [1, 0]),
        ([[1, 1], [0, 1]], ("0", "1"), [[True, True], [False, True]]),
        (torch.tensor([[1, 1], [0, 0]]), ("0", "1"), [[True, True], [False, False]]),
        ([["b", "a"], ["b"], []], ("a", "b"), [[True, True], [False, True], [False, False]]),
        ([{"a"}, {"b"}], ("a", "b"), [[True, False], [False, True]]),
        (["x", "İ", "é", "東"], ("x", "é", "İ", "東"), [0, 2, 1, 3]),
    ],
    ids=repr,
)
def test_targets_as_users_have_them(targets: Any, classes: tuple[str, ...], codes: list[Any]) -> None:
    encoded = encode(targets)
    assert encoded.classes == classes
    assert encoded.codes.tolist() == codes
    assert encoded.codes.dtype == (np.bool_ if encoded.codes.ndim == 2 else np.int32)


@pytest.mark.parametrize(
    ("targets", "labels"),
    [
        (["b", "a"], ("a", "b")),
        (np.array(["10", "2"]), ("10", "2")),
        (pd.Series([10, 2], dtype="category"), (2, 10)),
        (pd.Series([True, False], dtype="boolean"), (False, True)),
        (torch.tensor([True, False]), (False, True)),
        ([np.bool_(True)], (True,)),
        ([np.uint8(3), 1], (1, 3)),
        ([1.0, 0.0], (0, 1)),
        (np.eye(2), (0, 1)),
        ([["a"], []], ("a",)),
    ],
    ids=repr,
)
def test_labels_come_back_in_the_type_of_the_targets(targets: Any, labels: tuple[Any, ...]) -> None:
    table = Table.build(torch.zeros(len(targets), 1), targets)
    assert encode(targets).labels == labels
    assert [type(label) for label in encode(targets).labels] == [type(label) for label in labels]
    rows = table.select(np.arange(len(table))).with_classes((*table.classes, "more"))
    assert rows.label_type == table.label_type == type(labels[0]).__name__


def test_several_target_columns_of_a_frame_name_the_classes(photos: Path) -> None:
    table = frame("train").assign(red=[0, 1] * 6, round=[1] * 12)
    data = ImageClassificationData.from_data_frame(
        "file", ["red", "round"], train_data_frame=table, train_images_root=photos / "train", batch_size=12, **SMALL
    )
    assert data.classes == ("red", "round")
    assert data.multi_label
    ((_, targets),) = data.train_dataloader()
    assert targets.shape == (12, 2)
    assert sorted(targets.tolist()) == [[0, 1]] * 6 + [[1, 1]] * 6


def test_leading_zeros_in_a_csv_file_are_kept(photos: Path) -> None:
    for labels, classes in ((["007", "7", "10"], ("007", "10", "7")), (["2", "10", "2"], ("2", "10"))):
        table = pd.DataFrame({"file": [name for name, _ in examples("train")[:3]], "kind": labels})
        table.to_csv(photos / "train" / "t.csv", index=False)
        data = ImageClassificationData.from_csv("file", "kind", train_file=photos / "train" / "t.csv")
        assert data.classes == classes


def test_a_class_called_na_in_a_csv_file_is_a_class(photos: Path) -> None:
    table = frame("train").replace({"kind": {"cat": "NA", "dog": "None"}})
    table.to_csv(photos / "train" / "t.csv", index=False)
    assert ImageClassificationData.from_csv("file", "kind", train_file=photos / "train" / "t.csv").classes == (
        "NA",
        "None",
        "yak",
    )


def test_unused_columns_of_one_hot_targets_make_no_episodes() -> None:
    values, used = torch.rand(24, 1, 4, 4), np.repeat([0, 2, 5], 8)
    halves = {"train": used, "val": used + 1}
    given = {f"{stage}_targets": np.eye(8)[codes] for stage, codes in halves.items()}
    data = DataModule.from_tensors(train_data=values, val_data=values, **given)
    assert data.num_classes == 8  # a fixed head keeps a place for each
    for stage, names in (("train", ("0", "2", "5")), ("val", ("1", "3", "6"))):
        table = data.table(stage, by_class=True)  # type: ignore[arg-type]
        assert table is not None
        assert table.classes == names
        assert len(list(data.episode_loader(stage, PLAN))) > 0  # type: ignore[arg-type]


def test_data_sets_that_know_their_targets_are_not_read_for_them() -> None:
    dataset = Torchvision("train")
    data = ImageClassificationData.from_datasets(dataset, **SMALL, cache=False)
    assert data.classes == ("0", "1", "2")
    assert dataset.read == []
    dataset.target_transform = lambda target: target  # type: ignore[attr-defined]
    ImageClassificationData.from_datasets(dataset)
    assert dataset.read == list(range(12))


# ---- tensors


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.float16])
def test_tensors_are_fed_as_they_are(channels: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quickstudy.image.modality.Image", None)
    values = (torch.rand(6, channels, 5, 7) * 255).to(dtype)
    data = ImageClassificationData.from_tensors(values, range_of(6), test_data=values, test_targets=range_of(6))
    got = torch.cat([inputs for inputs, _ in data.test_dataloader()])
    assert got.dtype == dtype
    assert torch.equal(got, values)


def range_of(count: int) -> list[int]:
    return list(range(count))


def test_arrays_of_every_layout() -> None:
    values = np.arange(6 * 4 * 5 * 3, dtype=np.uint8).reshape(6, 4, 5, 3)
    values.setflags(write=False)
    views = {"read-only": values, "transposed": values.transpose(0, 3, 1, 2), "reversed": values[..., ::-1]}
    for view in views.values():
        data = DataModule.from_numpy(predict_data=view, batch_size=6)
        (got,) = data.predict_dataloader()
        assert np.array_equal(got.numpy(), view)


def test_a_gradient_does_not_come_along() -> None:
    data = DataModule.from_tensors(predict_data=torch.rand(4, 1, 2, 2, requires_grad=True))
    (got,) = data.predict_dataloader()
    assert not got.requires_grad


# ---- validation split


@pytest.mark.parametrize("by_class", [True, False])
def test_val_split(by_class: bool, photos: Path) -> None:
    for name in ("ant", "bee"):
        (photos / "train" / name).mkdir()
        for i in range(5):
            (photos / "train" / name / f"{i}.png").write_bytes(png(100 + i))
    data = ImageClassificationData.from_folders(photos / "train", val_split=0.4, seed=4)
    train, val = (data.table(stage, by_class=by_class) for stage in ("train", "val"))  # type: ignore[arg-type]
    assert train is not None
    assert val is not None
    names = [{str(table.inputs[row]) for row in range(len(table))} for table in (train, val)]
    assert not names[0] & names[1]
    assert len(names[0] | names[1]) == 22
    if by_class:
        assert len(train.classes) == 3
        assert len(val.classes) == 2
        assert not set(train.classes) & set(val.classes)
        assert (train.index.counts >= 4).all()
    else:
        assert train.classes == val.classes == ("ant", "bee", *CLASSES)
        assert val.index.counts.tolist() == [2, 2, 2, 2, 2]
    for table in (train, val):
        assert table.targets is not None
        for row in range(len(table)):
            assert Path(str(table.inputs[row])).parent.name == table.classes[table.targets[row]]
    again = ImageClassificationData.from_folders(photos / "train", val_split=0.4, seed=4).table(
        "val", by_class=by_class
    )
    other = ImageClassificationData.from_folders(photos / "train", val_split=0.4, seed=5).table(
        "val", by_class=by_class
    )
    assert again is not None
    assert other is not None
    assert again.fingerprint == val.fingerprint != other.fingerprint


def test_a_split_leaves_every_class_an_example_to_train_on() -> None:
    with pytest.warns(DataWarning, match="1 of 2 classes of the train data have one example alone: 'a'. Are they"):
        data = DataModule.from_tensors(torch.rand(5, 1, 2, 2), ["a", "b", "b", "b", "b"], val_split=0.9)
    train = data.table("train")
    assert train is not None
    assert train.index.counts.tolist() == [1, 1]


def test_many_classes_in_turn_are_sorted() -> None:
    found = encode([f"c{number % 1000}" for number in range(2000)])  # of which NumPy's quicksort ends the process
    assert found.classes == tuple(sorted({f"c{number}" for number in range(1000)}))
    assert [found.classes[code] for code in found.codes[[0, 999, 1000, 1999]]] == ["c0", "c999", "c0", "c999"]


def test_several_labels_are_split_by_examples() -> None:
    data = DataModule.from_tensors(torch.rand(10, 1, 2, 2), [["a", "b"], ["b"]] * 5, val_split=0.3)
    assert [len(data.table(stage) or ()) for stage in ("train", "val")] == [7, 3]  # type: ignore[arg-type]


# ---- the cache


class Counting:
    """A ``load`` that counts its calls, per process and, through a file, over all of them."""

    def __init__(self, log: Path | None = None) -> None:
        self.calls, self.log = 0, log

    def __call__(self, item: Any) -> torch.Tensor:
        self.calls += 1
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(f"{item}\n")
        return torch.full((3, 4, 4), int(item), dtype=torch.uint8)


def test_a_second_read_does_not_load_again() -> None:
    load = Counting()
    samples = Samples(list(range(10)), load, budget=480)
    first = samples.batch(np.array([3, 0, 3, 9]))
    assert load.calls == 3
    assert torch.equal(samples.batch(np.array([3, 0, 3, 9])), first)
    assert load.calls == 3
    assert first[:, 0, 0, 0].tolist() == [3, 0, 3, 9]
    first.zero_()
    assert samples.batch(np.array([9]))[0, 0, 0, 0] == 9
    assert samples.cached_bytes == 480


@pytest.mark.parametrize("budget", [0, 479])
def test_what_does_not_fit_is_loaded_each_time(budget: int) -> None:
    load = Counting()
    samples = Samples(list(range(10)), load, budget=budget)
    assert samples.cached_bytes == 0
    before = load.calls
    for _ in range(2):
        assert samples.batch(np.array([3, 3]))[:, 0, 0, 0].tolist() == [3, 3]
    assert load.calls - before == 4


def test_the_stages_share_one_budget(photos: Path) -> None:
    one = 12 * 8 * 8
    folders = {f"{stage}_folder": photos / stage for stage in ("train", "val", "test")}
    data = ImageClassificationData.from_folders(**folders, **SMALL, cache=2 * one)
    sizes = []
    for stage in ("train", "val", "test"):
        table = data.table(stage)  # type: ignore[arg-type]
        assert table is not None
        sizes.append(data.samples(table, stage).cached_bytes)  # type: ignore[arg-type]
        assert data.samples(table, stage) is data.samples(table, stage)  # type: ignore[arg-type]
    assert sizes == [one, one, 0]


def test_transforms_come_after_the_cache() -> None:
    load = Counting()
    samples = Samples(
        list(range(4)), load, budget=1000, transform=lambda x: x.add_(torch.randint(100, (1,), dtype=torch.uint8))
    )
    one, same, other = (samples.batch(np.array([2]), [(seed,)]) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert load.calls == 2  # the first, for its shape, and the one asked for


def test_a_transform_may_draw_from_any_generator_and_disturbs_none() -> None:
    def noise(x: torch.Tensor) -> torch.Tensor:
        return torch.tensor([random.random(), np.random.rand(), torch.rand(()).item()])  # noqa: NPY002

    samples = Samples(torch.zeros(1, 1), torch.as_tensor, transform=noise)
    before = random.getstate(), torch.get_rng_state()
    first, again = (samples.batch(np.array([0]), [(7, 1, 2)]) for _ in range(2))
    assert torch.equal(first, again)
    assert len(first.unique()) == 3
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


@pytest.mark.parametrize(
    ("cache", "size"),
    [(False, 0), (None, 0), (0, 0), (4096, 4096), ("4GB", 4 << 30), ("1.5 kb", 1536), ("auto", None), (True, None)],
)
def test_budgets(cache: Any, size: int | None) -> None:
    budget = cache_budget(cache)
    assert budget == size if size is not None else 0 < budget < 1 << 44


# ---- workers


def noisy(x: torch.Tensor) -> torch.Tensor:
    return x + torch.randint(0, 5, (1,), dtype=torch.uint8)


@pytest.mark.parametrize("door", ["zip", "tar.gz", "tensors"])
@pytest.mark.parametrize("transform", [None, noisy], ids=["plain", "random"])
def test_any_number_of_workers_makes_the_same_steps(door: str, transform: Any, photos: Path) -> None:
    def steps(workers: int, cache: Any) -> list[torch.Tensor]:
        made = DOORS[door](photos)
        options: Any = {"num_workers": workers, "transform": transform, "cache": cache, **made.load_options}
        data = type(made)(train=made.table("train"), **options)
        episodes = [torch.cat([episode.support, episode.query], 1) for episode in data.episode_loader("train", PLAN)]
        loader = data.train_dataloader()
        return [*episodes, *(inputs for _ in range(2) for inputs, _ in loader)]

    reference = steps(0, False)
    assert len(reference) == 4 + 6
    for other in (steps(0, "auto"), steps(2, "auto"), steps(2, False)):
        assert all(torch.equal(a, b) for a, b in zip(reference, other, strict=True))


def test_workers_share_the_decoded_copies(tmp_path: Path) -> None:
    class Numbers(DataModule):
        load = staticmethod(Counting(tmp_path / "log"))

    table = Table.build(list(range(24)), np.arange(24) % 3)
    data = Numbers(train=table, num_workers=2, batch_size=3)
    loader = data.train_dataloader()
    for _ in range(4):
        seen = [int(level) for inputs, _ in loader for level in inputs[:, 0, 0, 0]]
        assert sorted(seen) == list(range(24))
    log = (tmp_path / "log").read_text().split()
    assert sorted(set(log), key=int) == [str(i) for i in range(24)]
    assert len(log) <= 24 + 24  # at worst each of the two workers decodes each once; later epochs decode nothing
    size = len(log)
    assert sorted(int(level) for inputs, _ in data.train_dataloader() for level in inputs[:, 0, 0, 0]) == list(
        range(24)
    )
    assert len((tmp_path / "log").read_text().split()) == size
    del loader
    gc.collect()


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_workers_read_one_archive_at_the_same_time(kind: str, tmp_path: Path) -> None:
    for i in range(64):
        (tmp_path / "in" / str(i % 2)).mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / str(i % 2) / f"{i:02}.bin").write_bytes(bytes([i]) * 100_000)

    class Bytes(DataModule):
        load = staticmethod(lambda item: np.frombuffer(item.read_bytes(), np.uint8))

    path = shutil.make_archive(str(tmp_path / "packed"), kind, tmp_path / "in")
    data = Bytes.from_folders(predict_folder=path, num_workers=2, batch_size=1, cache=False)
    read = torch.cat(list(data.predict_dataloader()))
    assert torch.equal(read.amin(1), read.amax(1))
    assert read[:, 0].tolist() == [*range(0, 64, 2), *range(1, 64, 2)]


# ---- pictures


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def test_palette_alpha_and_transparent_pictures_lie_on_white() -> None:
    clear, red = (0, 0, 0, 0), (255, 0, 0, 255)
    rgba = Image.new("RGBA", (4, 4), clear)
    rgba.paste(red, (0, 0, 2, 4))
    palette = rgba.convert("RGB").quantize(4)
    key = palette.getpixel((3, 3))
    for content in (
        encoded(rgba, "PNG"),
        encoded(rgba, "WEBP", lossless=True),
        encoded(palette, "PNG", transparency=key),
        encoded(rgba.convert("RGB"), "PNG", transparency=(0, 0, 0)),
    ):
        pixels = load_image(content)
        assert pixels[:, 0, 0].tolist() == [255, 0, 0]
        assert pixels[:, 0, 3].tolist() == [255, 255, 255]
    assert load_image(encoded(Image.new("LA", (2, 2), (0, 0)), "PNG"), image_mode="L").tolist() == [[[255] * 2] * 2]
    half = load_image(encoded(Image.new("LA", (2, 2), (0, 128)), "PNG"), image_mode="L")
    assert abs(int(half[0, 0, 0]) - 127) <= 1
    assert load_image(encoded(palette, "PNG"))[:, 0, 3].tolist() == [0, 0, 0]
    assert load_image(encoded(Image.new("1", (2, 2), 1), "PNG"), image_mode="L").tolist() == [[[255] * 2] * 2]


def test_sixteen_bits_keep_their_upper_eight() -> None:
    ramp = np.array([[0, 255, 256], [32768, 65279, 65535]], np.uint16)
    image = Image.fromarray(ramp)
    expected = [[0, 0, 1], [128, 254, 255]]
    for content in (encoded(image, "PNG"), encoded(image, "TIFF"), b"P5 3 2 65535\n" + ramp.astype(">u2").tobytes()):
        assert load_image(content, image_mode="L").tolist() == [expected]
        assert load_image(content).tolist() == [expected] * 3


def test_the_camera_says_what_is_up() -> None:
    upright = Image.new("L", (40, 20), 0)
    upright.paste(255, (0, 0, 40, 10))  # white above
    for orientation, turned in ((1, upright), (3, upright.rotate(180)), (6, upright.rotate(90, expand=True))):
        exif = Image.Exif()
        exif[0x0112] = orientation
        pixels = load_image(encoded(turned, "JPEG", exif=exif), image_mode="L")
        assert pixels.shape == (1, 20, 40)
        assert pixels[0, :8].float().mean() > 240 > 10 > pixels[0, 12:].float().mean()


def test_jpegs_of_every_colour_space() -> None:
    for mode, colour in (("L", 200), ("RGB", (200, 200, 200)), ("CMYK", (0, 0, 0, 55))):
        content = encoded(Image.new(mode, (64, 48), colour), "JPEG", quality=95)
        for image_mode, channels in (("L", 1), ("RGB", 3)):
            pixels = load_image(content, 16, image_mode)  # type: ignore[arg-type]
            assert pixels.shape == (channels, 16, 16)
            assert (pixels.int() - 200).abs().max() <= 2


def test_a_large_photograph_is_decoded_at_a_part_of_its_size_and_looks_the_same() -> None:
    stripes = Image.fromarray(np.tile(np.repeat(np.uint8([60, 190]), 12), (600, 33)))
    by_draft = load_image(encoded(stripes, "JPEG", quality=95), 100, "L")
    assert (by_draft.float() - load_image(stripes, 100, "L").float()).abs().mean() < 4
    assert stripes.size == (792, 600)


def test_of_a_moving_picture_the_first_frame_counts() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime", "blue")]
    for content in (
        encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True),
    ):
        assert load_image(content)[:, 0, 0].tolist() == [255, 0, 0]


def test_sizes() -> None:
    wide = Image.new("RGB", (40, 20), "red")
    wide.paste("lime", (0, 0, 10, 20))
    wide.paste("blue", (30, 0, 40, 20))
    assert load_image(wide).shape == (3, 20, 40)
    assert load_image(wide, (10, 30)).shape == (3, 10, 30)
    square = load_image(wide, 20)
    assert square.shape == (3, 20, 20)
    assert (square[0] == 255).all()  # the centre: the sides are cut
    assert load_image(wide, 60).shape == (3, 60, 60)


def test_pictures_come_in_every_form(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(7))
    forms = [tmp_path / "a.png", str(tmp_path / "a.png"), png(7), Image.open(tmp_path / "a.png")]
    for form in forms:
        assert load_image(form, image_mode="L").unique().tolist() == [7]
    array = np.zeros((1, 4, 4), np.uint8)
    array.setflags(write=False)
    assert load_image(array).shape == (1, 4, 4)
    assert load_image(torch.ones(5, 2, 2), image_size=99).shape == (5, 2, 2)


# ---- tables and files


def test_selecting_rows_keeps_what_belongs_together(photos: Path) -> None:
    data = ImageClassificationData.from_folders(photos / "train")
    table = data.table("train")
    assert table is not None
    chosen = table.select(np.array([9, 0, 5]))
    assert isinstance(chosen.inputs, Files)
    assert [Path(str(chosen.inputs[row])).name for row in range(3)] == [
        Path(str(table.inputs[row])).name for row in (9, 0, 5)
    ]
    assert chosen.targets is not None
    assert table.targets is not None
    assert chosen.targets.tolist() == table.targets[[9, 0, 5]].tolist()
    only = table.only([2, 0])
    assert only.classes == ("yak", "cat")
    assert only.index.counts.tolist() == [4, 4]
    assert {Path(str(only.inputs[row])).parent.name for row in only.index.rows(0)} == {"yak"}
    whole = Table(torch.arange(6).view(6, 1), np.array([0, 1, 2, 0, 1, 2], np.int32), ("a", "b", "c"))
    assert whole.select(np.array([5, 1])).inputs[0] == 5
    renamed = whole.with_classes(("c", "x", "b", "a"))
    assert renamed.targets is not None
    assert renamed.targets.tolist() == [3, 2, 0, 3, 2, 0]
    assert renamed.inputs is whole.inputs


def test_lists_are_told_apart_by_what_they_hold() -> None:
    codes = [0, 1]
    drawn = Image.new("L", (2, 2), 7)
    lists: list[list[Any]] = [["a", "b"], ["a", "c"], [{"x": 1}, {"x": 2}], [{"x": 1}, {"x": 3}], [drawn, drawn]]
    prints = [Table.build(inputs, codes).fingerprint for inputs in lists]
    assert len(set(prints)) == len(lists)
    assert Table.build(["a", "b"], codes).fingerprint == prints[0]


def test_fingerprints_tell_data_apart() -> None:
    values, codes = torch.zeros(10, 1, 4, 4), [0, 1] * 5
    other = values.clone()
    other[7] = 1
    tables = [
        Table.build(values, codes),
        Table.build(other, codes),
        Table.build(values.double(), codes),
        Table.build(values.view(10, 1, 2, 8), codes),
        Table.build(values, [1, 0] * 5),
        Table.build(values, ["a", "b"] * 5),
        Table.build(values),
        Table.build(Files(Folder(Path("x")), [f"{i}" for i in range(10)]), codes),
        Table.build(Files(Folder(Path("x")), [f"{i}." for i in range(10)]), codes),
        Table.build(list(range(10)), codes),
        Table.build(values[:0], codes[:0]),
        Table.build(torch.zeros(20_000, 1, dtype=torch.bfloat16), [0, 1] * 10_000),
    ]
    prints = [table.fingerprint for table in tables]
    assert len(set(prints)) == len(prints)
    assert Table.build(values.clone(), codes).fingerprint == prints[0]
    assert Table.build(Files(Folder(Path("y")), [f"{i}" for i in range(10)]), codes).fingerprint == prints[7]


def test_a_file_is_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    with atomic_write(path, "w") as file:
        file.write("é")
        assert not path.exists()
    assert path.read_text(encoding="utf-8") == "é"
    with pytest.raises(ZeroDivisionError), atomic_write(path) as file:
        file.write(b"half")
        1 / 0  # noqa: B018
    assert path.read_text(encoding="utf-8") == "é"
    assert os.listdir(path.parent) == ["file"]  # noqa: PTH208
    (tmp_path / "ordinary").touch()
    assert path.stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_a_file_is_on_the_disk_before_it_takes_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names_at_sync: list[list[str]] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        names_at_sync.append([path.name for path in tmp_path.iterdir() if not path.name.startswith(".")])
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    with atomic_write(tmp_path / "file") as file:
        file.write(b"whole")
    assert names_at_sync == [[], ["file"]]  # the content, then the folder


def test_one_input_to_learn_the_shape_from(photos: Path) -> None:
    (photos / "train" / "cat" / "00.png").write_bytes(b"no picture")
    with pytest.warns(DataWarning, match="skipped 1 of 12"):
        data = ImageClassificationData.from_folders(photos / "train", on_error="skip", **SMALL)
        assert data.example().shape == (1, 1, 8, 8)
    cropped = ImageClassificationData.from_folders(photos / "val", transform={"val": noisy}, **SMALL)
    assert cropped.example().shape == (1, 1, 8, 8)
    data = DataModule.from_tensors(torch.rand(4, 3, 8, 8), range_of(4), transform=lambda x: x[:, :5, :6])
    assert data.example().shape == (1, 3, 5, 6)


def moved(example: torch.Tensor) -> torch.Tensor:
    return example + torch.rand(1)


def test_random_transforms_of_a_step_are_those_of_any_number_of_processes() -> None:
    inputs = torch.arange(30.0).view(30, 1)

    def batches(batch_size: int, share: Share) -> list[torch.Tensor]:
        data = DataModule.from_tensors(inputs, [0, 1] * 15, batch_size=batch_size, transform=moved)
        return [batch[0] for batch in data.batch_loader("train", share)]

    alone, two = batches(8, Share()), [batches(4, Share(rank, 2)) for rank in range(2)]
    assert not torch.equal(torch.cat(alone).sort(dim=0).values, inputs)
    for step, whole in enumerate(alone):
        assert torch.equal(whole[0::2], two[0][step]) and torch.equal(whole[1::2], two[1][step])


def test_parts_of_data_that_are_taken_for_classes_are_told(tmp_path: Path) -> None:
    for part in ("fold1", "fold2"):
        for name in ("cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            (tmp_path / part / name / f"{part}.jpg").touch()
    with pytest.warns(DataWarning, match=r"the same folders, 'cat', 'dog': .* give a part for each stage, '.*fold1'"):
        ImageClassificationData.from_folders(tmp_path)
    (tmp_path / "fold2" / "dog" / "fold2.jpg").rename(tmp_path / "fold2" / "3.jpg")  # and no warning
    (tmp_path / "fold2" / "dog").rmdir()
    assert ImageClassificationData.from_folders(tmp_path).classes == ("fold1", "fold2")
