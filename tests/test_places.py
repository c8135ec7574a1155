"""Where the data is: roots of data sets, one folder for all, links, a change of folder, what systems leave behind."""

from __future__ import annotations

import io
import os
import pickle
import re
import shutil
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, features

from quickstudy import ConfigError, DataError, DataModule, DataWarning
from quickstudy.cli.fit import command_to_test
from quickstudy.data.episodes import EpisodePlan, EpisodeSampler
from quickstudy.data.places import Files, Folder
from quickstudy.data.scan import class_folders
from quickstudy.data.table import Table
from quickstudy.image import ImageClassificationData as Images
from quickstudy.image import ImageClassifier
from quickstudy.image.modality import IMAGE_EXTENSIONS, Picture

SMALL: Any = {"image_size": 8, "image_mode": "L"}


def png(level: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("L", (8, 8), level).save(file, "PNG")
    return file.getvalue()


def write(root: Path, *names: str) -> Path:
    for level, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(level))
    return root


def root_of(root: Path, *splits: str, classes: str = "ab") -> Path:
    """Write ``root/train/a/train0.png`` and so on."""
    return write(root, *(f"{split}/{name}/{split}{n}.png" for split in splits for name in classes for n in range(2)))


def names(data: DataModule, stage: Any) -> list[str] | None:
    table = data.table(stage)
    return (
        None
        if table is None
        else sorted({Path(str(table.inputs[row])).parent.parent.name for row in range(len(table))})
    )


# ---- the root of a data set


@pytest.mark.parametrize(
    ("folders", "stages"),
    [
        (("train", "val", "test"), ("train", "val", "test")),
        (("train", "valid", "test"), ("train", "valid", "test")),
        (("Training", "Validation", "Testing"), ("Training", "Validation", "Testing")),
        (("train", "dev"), ("train", "dev", None)),
        (("train", "test"), ("train", None, "test")),
        (("train", "eval"), ("train", "eval", None)),
        (("train", "val", "eval"), ("train", "val", "eval")),
        (("train",), ("train", None, None)),
        (("train", "val", "test", "other"), ("train", "val", "test")),
        (("train", "validate"), ("train", "validate", None)),
        (("Training Set", "val_images", "testset"), ("Training Set", "val_images", "testset")),
        (("train2017", "val2017"), ("train2017", "val2017", None)),
    ],
    ids=repr,
)
def test_the_root_of_a_data_set_is_its_splits(folders: Any, stages: Any, tmp_path: Path) -> None:
    root = root_of(tmp_path / "dataset", *folders)
    places: list[Any] = [root]
    if len(folders) > 1:  # an archive of one folder is entered
        places += [shutil.make_archive(str(tmp_path / "flat"), "zip", root)]
        places += [shutil.make_archive(str(tmp_path / "deep"), "tar", tmp_path, "dataset")]
    for place in places:
        data = Images.from_folders(folder=place, **SMALL)
        assert data.classes == ("a", "b")
        assert [names(data, stage) for stage in ("train", "val", "test")] == [name and [name] for name in stages]
        told = f"is no folder of classes but the root .*, for instance '.*/{folders[0]}'. All of them are read now, as"
        for given in ((place,), ()):
            with pytest.warns(DataWarning, match=told):
                data = Images.from_folders(*given, **({} if given else {"train_folder": place}), **SMALL)
            assert [names(data, stage) for stage in ("train", "val", "test")] == [name and [name] for name in stages]
        with pytest.raises(DataError, match=f"is no folder of classes but the root .* for instance '.*/{folders[0]}'"):
            class_folders(place, IMAGE_EXTENSIONS)  # as quickstudy adapt --support does
        with pytest.raises(DataError, match="is no folder of classes but the root"):
            Images.from_folders(place, test_folder=root / folders[0])
        with pytest.raises(DataError, match="is no folder of classes but the root"):
            Images.from_folders(test_folder=place)


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_splits_below_one_outer_folder(kind: str, tmp_path: Path) -> None:
    root_of(tmp_path / "dataset/images", "train", "val")
    path = (
        tmp_path / "dataset"
        if kind == "folder"
        else shutil.make_archive(str(tmp_path / "d"), "zip", tmp_path, "dataset")
    )
    data = Images.from_folders(folder=path, **SMALL)
    assert data.classes == ("a", "b")
    assert names(data, "val") == ["val"]
    with pytest.raises(DataError, match=r"with the folders 'train', 'val': give one of them, .*images/train'$"):
        class_folders(path, IMAGE_EXTENSIONS)


def test_a_test_folder_without_classes_is_to_be_predicted(tmp_path: Path) -> None:
    root = write(root_of(tmp_path, "train"), "test/1.png", "test/2.png")
    data = Images.from_folders(folder=root, **SMALL)
    assert data.table("test") is None
    assert len(data.table("predict") or ()) == 2
    other = write(tmp_path / "more", "3.png")
    assert len(Images.from_folders(folder=root, predict_folder=other).table("predict") or ()) == 1


@pytest.mark.parametrize(
    "files",
    [
        ("train/1.png", "car/1.png", "bus/1.png"),
        ("train/steam/1.png", "car/red/1.png", "bus/1.png"),  # among others, train is a class
        ("train/1.png", "test/1.png"),
        ("train/a/1.png", "train/2.png", "val/a/1.png"),
        ("training/1.png", "validation/a/1.png"),
        ("test bench/a/1.png", "train station/a/1.png"),
    ],
    ids=repr,
)
def test_classes_may_be_called_train(files: Any, tmp_path: Path) -> None:
    data = Images.from_folders(write(tmp_path, *files))
    assert data.classes == tuple(sorted({file.split("/")[0] for file in files}))


def test_one_folder_that_may_be_no_class_is_told(tmp_path: Path) -> None:
    write(tmp_path, "photos/a/1.png", "photos/b/1.png")
    with pytest.warns(DataWarning, match=f"one folder, 'photos', taken for one class, .* give '{tmp_path}/photos'"):
        assert class_folders(tmp_path, IMAGE_EXTENSIONS).classes == ("photos",)


# ---- one folder for all


def photos(root: Path, classes: int, each: int) -> Path:
    return write(root / "photos", *(f"{code}/{n}.png" for code in range(classes) for n in range(each)))


@pytest.mark.parametrize("by_class", [True, False])
def test_one_folder_of_classes_is_divided(by_class: bool, tmp_path: Path) -> None:
    folder = photos(tmp_path, 10, 10)
    stages: Any = ("train", "val", "test")

    def parts(**options: Any) -> list[set[str]]:
        data = Images.from_folders(folder=folder, **options)
        tables = [data.table(stage, by_class=by_class) for stage in stages]
        return [{str(table.inputs[row]) for row in range(len(table))} for table in tables if table is not None]

    found = parts()
    assert [len(part) for part in found] == [60, 20, 20]
    assert len(set.union(*found)) == 100
    owners = [{Path(file).parent.name for file in part} for part in found]
    assert [len(own) for own in owners] == ([6, 2, 2] if by_class else [10, 10, 10])
    assert parts() == found
    assert parts(seed=1) != found
    assert parts(val_split=0.4)[2] == found[2]  # the test data is that of the seed and its share alone
    assert [len(part) for part in parts(val_split=0.1, test_split=0.3)] == ([50, 20, 30] if by_class else [60, 10, 30])


def test_a_training_folder_is_training_data_still(tmp_path: Path) -> None:
    folder = photos(tmp_path, 2, 5)
    for data in (Images.from_folders(folder), Images.from_folders(train_folder=folder)):
        assert len(data.table("train") or ()) == 10
        assert data.table("val") is None and data.table("test") is None
        with pytest.raises(DataError, match=r"or take a part of the training data: test_split=0.2$"):
            data.test_dataloader()
    data = Images.from_folders(folder, val_split=0.2, test_split=0.2)
    assert [len(data.table(stage) or ()) for stage in ("train", "val", "test")] == [6, 2, 2]  # type: ignore[arg-type]


def test_what_is_divided_is_told_by_its_parts_once_it_is(tmp_path: Path) -> None:
    for by_class in (True, False):
        data = Images.from_folders(folder=photos(tmp_path / str(by_class), 10, 5))
        assert "val: 0.2 of the train data" in str(data)
        data.table("train", by_class=by_class)
        classes = [6, 2, 2] if by_class else [10, 10, 10]
        for stage, count, of in zip(("train", "val", "test"), (30, 10, 10), classes, strict=True):
            assert f"{stage}: {count} examples of {of} classes" in str(data)


def test_shares_that_cannot_be(tmp_path: Path) -> None:
    folder = photos(tmp_path, 5, 5)
    for options, told in (
        ({"test_split": 0.0}, "test_split=0.0: it must lie between 0 and 1"),
        ({"test_split": "0.2"}, "test_split='0.2': it must lie between 0 and 1"),
        ({"val_split": 0.5, "test_split": 0.5}, "are shares of one whole, and leave nothing to train on"),
        ({"train_folder": folder}, "folder= stands for train_folder=, val_folder= and test_folder=: leave these out"),
    ):
        with pytest.raises(ConfigError, match=told):
            Images.from_folders(folder=folder, **options)  # type: ignore[arg-type]
    with pytest.raises(
        ConfigError, match="test_split takes test data from the training data: give train data and no t"
    ):
        Images.from_folders(folder, test_folder=photos(tmp_path / "more", 2, 2), test_split=0.2)
    with pytest.raises(DataError, match=r"val_split=0\.25 of 3 classes leaves fewer than 2 on a side"):
        Images.from_folders(folder=folder).table("train", by_class=True)


@pytest.mark.parametrize(
    ("classes", "strategy", "ways", "test_ways"),
    [(10, "prototypicalnetworks", 5, 2), (6, "prototypicalnetworks", 2, 2), (10, "maml", 2, 2)],
)
def test_of_one_folder_episodes_have_no_more_ways_than_its_parts_have_classes(
    classes: int, strategy: str, ways: int, test_ways: int, tmp_path: Path
) -> None:
    data = Images.from_folders(folder=photos(tmp_path, classes, 16))
    made = partial(ImageClassifier, backbone="conv4", training_strategy=strategy)
    model = made()
    with pytest.warns(DataWarning, match=rf"training has {ways}-way and validation and test have {test_ways}-way epis"):
        model.procedure.check(model, data)
    assert model.plan is not None and (model.plan.span("train"), model.plan.span("test")) == (
        (ways,) * 2,
        (test_ways,) * 2,
    )
    assert model.hparams["training_strategy_kwargs"] == {"ways": ways, "test_ways": test_ways}, "as a checkpoint has it"
    asked = made(training_strategy_kwargs={"ways": 5})
    with pytest.raises(DataError, match="5-way episodes need at least 5 classes"):
        asked.procedure.check(asked, data)


def test_the_command_that_tests_names_the_folder_and_its_seed() -> None:
    data = {"folder": "photos/", "seed": 3, "val_split": 0.1, "test_split": 0.3, "image_size": 84, "batch_size": None}
    assert command_to_test(Path("best.ckpt"), data).endswith(
        "--checkpoint best.ckpt --data.folder photos/ --data.seed 3 --data.test_split 0.3"
    )
    assert "seed" not in command_to_test(Path("best.ckpt"), {"train_folder": "train/", "seed": 3})


# ---- links


@pytest.mark.parametrize("link", [os.symlink, os.link], ids=["symbolic", "hard"])
def test_a_link_to_a_file_of_another_split(link: Callable[..., None], tmp_path: Path) -> None:
    write(tmp_path, "train/a/1.png", "train/a/2.png", "test/a/3.png", "other/a/4.png")
    link(tmp_path / "train/a/2.png", tmp_path / "test/a/5.png")
    told = (
        r"1 files are both in the train and the test data, for example '.*train/a/2.png' \(which is '.*test/a/5.png'\)"
    )
    with pytest.raises(DataError, match=told):
        Images.from_folders(tmp_path / "train", test_folder=tmp_path / "test")
    with pytest.raises(DataError, match=told):
        Images.from_files(
            [tmp_path / "train/a/2.png"], ["a"], test_files=[tmp_path / "test/a/5.png"], test_targets=["a"]
        )
    Images.from_folders(tmp_path / "train", test_folder=tmp_path / "other")


@pytest.mark.parametrize("said", [True, False])
def test_names_of_a_zip_that_are_utf8_whether_it_says_so_or_not(said: bool, tmp_path: Path) -> None:
    plain = io.BytesIO()
    with zipfile.ZipFile(plain, "w") as archive:
        for name in ("caf\u00e9/1.png", "\u732b/1.png"):
            archive.writestr(name, png())
    content = plain.getvalue()
    if not said:  # as macOS writes it
        for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            for found in list(re.finditer(re.escape(mark), content)):
                at = found.start() + flags + 1
                content = content[:at] + bytes([content[at] & ~0x08]) + content[at + 1 :]
    (tmp_path / "a.zip").write_bytes(content)
    table = class_folders(tmp_path / "a.zip", IMAGE_EXTENSIONS)
    assert table.classes == ("caf\u00e9", "\u732b")
    assert table.inputs[1].read_bytes() == png()


def test_names_of_a_zip_in_the_letters_of_dos(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("cafX/1.png", png())
        archive.writestr("b/1.png", png())
    content = (tmp_path / "a.zip").read_bytes().replace(b"cafX/", b"caf\x82/")
    (tmp_path / "a.zip").write_bytes(content)
    assert class_folders(tmp_path / "a.zip", IMAGE_EXTENSIONS).classes == ("b", "caf\u00e9")


def test_one_archive_in_two_splits(tmp_path: Path) -> None:
    path = shutil.make_archive(str(tmp_path / "one"), "zip", root_of(tmp_path / "in", "train", "test"))
    os.link(path, tmp_path / "two.zip")
    Images.from_folders(f"{path}/train", test_folder=tmp_path / "two.zip/test")
    with pytest.raises(DataError, match="4 files are both in the train and the test data"):
        Images.from_folders(f"{path}/train", test_folder=tmp_path / "two.zip/train")


# ---- a change of folder


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "tar.gz", "files", "csv"])
def test_a_relative_place_is_found_after_a_change_of_folder(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write(tmp_path / "in", "train/a/1.png", "train/b/2.png")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    (root / "t.csv").write_text("file,label\ntrain/a/1.png,a\ntrain/b/2.png,b\n")
    if kind == "folder":
        data = Images.from_folders("in/train", **SMALL, cache=False)
    elif kind == "files":
        data = Images.from_files(["in/train/a/1.png", "in/train/b/2.png"], ["a", "b"], **SMALL, cache=False)
    elif kind == "csv":
        data = Images.from_csv("file", "label", train_file="in/t.csv", **SMALL, cache=False)
    else:
        shutil.make_archive("packed", {"tar.gz": "gztar"}.get(kind, kind), root / "train")
        data = Images.from_folders(f"packed.{kind}", **SMALL, cache=False)
    table = data.table("train")
    assert table is not None
    before = str(table.inputs[0])
    if kind in ("folder", "zip", "tar", "tar.gz"):
        assert not Path(before).is_absolute()  # as it was given
    sent = pickle.dumps(table.inputs)
    monkeypatch.chdir("elsewhere")
    (inputs, _), *_ = data.train_dataloader()
    assert sorted(inputs[:, 0, 0, 0].tolist()) == [0, 1]
    again = pickle.loads(sent)  # as a worker process has it
    assert [data.modality(again[row])[0, 0, 0].item() for row in range(2)] == [0, 1]
    if kind == "folder":
        gone = tmp_path / "elsewhere"
        shutil.rmtree(gone)
        assert str(table.inputs[0]) == str(tmp_path / before)


# ---- what systems leave behind


JUNK = (
    *(
        "@eaDir/1.png",
        "a/@eaDir/1.png/THUMB_M.jpg",
        "a/deep/@EADIR/x.jpg",
        "b/.AppleDouble/1.png",
        "a/.thumbnails/1.png",
    ),
    *(
        "__MACOSX/a/._1.png",
        "a/._1.png",
        "a/Thumbs.db",
        ".ipynb_checkpoints/1.png",
        "a/.ipynb_checkpoints/1-checkpoint.png",
    ),
    *(
        "$RECYCLE.BIN/x/1.png",
        "lost+found/1.png",
        "a/lost+found/1.png",
        "#recycle/a/1.png",
        "System Volume Information/1.png",
    ),
    *("b/desktop.ini", "b/ehthumbs.db", "__pycache__/a.pyc"),
)


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_helpers_of_systems_are_no_examples_at_any_depth(kind: str, tmp_path: Path) -> None:
    root = write(tmp_path / "in", "a/1.png", "a/deep/2.png", "b/3.png", *JUNK)
    path = root if kind == "folder" else shutil.make_archive(str(tmp_path / "packed"), kind, root)
    table = Images.from_folders(path).table("train")
    assert table is not None
    assert table.classes == ("a", "b")
    assert len(table) == 3
    assert len(Images.from_folders(predict_folder=path).table("predict") or ()) == 3


def test_pictures_of_every_ending(tmp_path: Path) -> None:
    kinds = {".jfif": "JPEG", ".jpe": "JPEG", ".JPG": "JPEG", ".webp": "WEBP", ".tiff": "TIFF"}
    kinds |= {".avif": "AVIF"} if features.check("avif") else {}
    kinds |= {".jp2": "JPEG2000", ".j2k": "JPEG2000"} if features.check("jpg_2000") else {}
    (tmp_path / "a").mkdir()
    for ending, kind in kinds.items():
        Image.new("RGB", (16, 16), (200, 10, 10)).save(tmp_path / f"a/1{ending}", kind)
    data = Images.from_folders(predict_folder=tmp_path, image_size=8, batch_size=len(kinds))
    (batch,) = data.predict_dataloader()
    assert len(batch) == len(kinds)
    assert (batch[:, 0].float() - 200).abs().max() < 12


# ---- what there is, in words


def test_data_says_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, *(f"train/{name}/{n}.png" for name, count in (("a", 5), ("b", 3), ("c", 4)) for n in range(count)))
    write(tmp_path, "new/1.png")
    monkeypatch.setattr(Picture, "load", lambda *_: pytest.fail("read"))
    data = Images.from_folders(tmp_path / "train", predict_folder=tmp_path / "new", test_split=0.25)
    assert str(data) == repr(data)
    assert str(data).splitlines() == [
        "ImageClassificationData",
        "  train: 12 examples of 3 classes, 3 to 5 of each (median 4): 'a', 'b', 'c'",
        "  test: 0.25 of the train data",
        "  predict: 1 examples without classes",
    ]
    with pytest.warns(DataWarning, match="left out row 1"):
        data = DataModule.from_tensors(torch.zeros(5, 1), ["a", None, "b", "a", "b"], on_error="skip")
    assert str(data).splitlines() == [
        "DataModule",
        "  train: 4 examples of 2 classes, 2 of each: 'a', 'b'",
        "  left out: 1, such as row 1 of the train data (see skipped)",
    ]
    (tmp_path / "new/notes.txt").touch()
    with pytest.warns(DataWarning, match="left out 1 files"):
        data = Images.from_folders(predict_folder=tmp_path / "new")
    assert data.skipped == {f"'{tmp_path}/new/notes.txt' of the predict data": "its ending is that of no example"}
    assert (
        str(data).splitlines()[-1]
        == f"  left out: 1, such as '{tmp_path}/new/notes.txt' of the predict data (see skipped)"
    )
    tags = DataModule.from_tensors(torch.zeros(3, 1), [["x"], ["x", "y"], []])
    assert "3 examples of 2 classes, 1 to 2 of each (median 1.5): 'x', 'y'" in str(tags)


# ---- one list of episodes for the features of two encoders


def test_an_episode_key_gives_other_values_the_same_episodes() -> None:
    plan = EpisodePlan(ways=2, shots=1, queries=1, meta_batch_size=1, epoch_length=4, test_epoch_length=4)
    targets = np.arange(48) % 6

    def drawn(encoder: int, stage: Any = "train", names: Any = targets, **options: Any) -> list[list[int]]:
        values = torch.rand(48, 3, generator=torch.Generator().manual_seed(encoder))
        table = DataModule.from_tensors(values, names, **options).table(stage, by_class=True)
        assert table is not None
        return EpisodeSampler.for_stage(table, plan, stage).draw(np.arange(8)).tolist()  # type: ignore[no-any-return]

    key: Any = {"episode_key": "birds"}
    assert drawn(0) != drawn(1)
    assert drawn(0, **key) == drawn(1, **key)
    assert drawn(0, **key) != drawn(0, episode_key="fish")
    assert drawn(0, **key) != drawn(0, names=(targets + 1) % 6, **key)
    for stage in ("train", "val"):
        assert drawn(0, stage, val_split=0.4, **key) == drawn(1, stage, val_split=0.4, **key)
    assert drawn(0, "val", val_split=0.4, **key) != drawn(0, "val", val_split=0.4, seed=1, **key)
    with_key = DataModule.from_tensors(torch.zeros(4, 1), list("abab"), **key).table("train")
    without = DataModule.from_tensors(torch.zeros(4, 1), list("abab")).table("train")
    assert with_key is not None and without is not None
    assert with_key.fingerprint == without.fingerprint == without.episode_fingerprint  # whether it is the same data
    for wrong in (3, ""):
        with pytest.raises(ConfigError, match=r"episode_key=.*: it must be a name, for instance episode_key='birds'"):
            DataModule.from_tensors(torch.zeros(4, 1), list("abab"), episode_key=wrong)


def test_files_keep_their_fingerprint_wherever_they_lie(tmp_path: Path) -> None:
    one, other = (Table(Files(Folder(tmp_path / name), ["a/1"])) for name in ("x", "y"))
    assert one.fingerprint == other.fingerprint


@pytest.mark.parametrize("link", ["folder", "file", "hard", "listed"])
def test_one_file_of_two_classes_is_told(link: str, tmp_path: Path) -> None:
    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
        for number in range(2):
            (tmp_path / name / f"{number}.png").write_bytes(b"")
    first, again = tmp_path / "ant" / "0.png", tmp_path / "cow" / "0.png"
    told = r"{} files of the train data are examples of two classes, for example '.*ant/0.png' of 'ant' and{} of '{}'"
    if link == "listed":
        files = [first, tmp_path / "ant" / "1.png", first]
        listed = pytest.warns(DataWarning, match="listed more than once")
        with listed, pytest.warns(DataWarning, match=told.format(1, "", "bee")):
            Images.from_files(files, ["ant", "ant", "bee"])
        return
    if link == "folder":
        again.parent.symlink_to(first.parent, target_is_directory=True)
    else:
        again.parent.mkdir()
        again.symlink_to(first) if link == "file" else again.hardlink_to(first)
    with pytest.warns(DataWarning, match=told.format(2 if link == "folder" else 1, ", as '.*cow/0.png'", "cow")):
        data = Images.from_folders(tmp_path)
    assert data.classes == ("ant", "bee", "cow")
    Images.from_folders(predict_folder=tmp_path)  # has no classes
