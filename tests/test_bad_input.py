"""Bad input: each message says what was given, what is needed and what to type."""

from __future__ import annotations

import inspect
import io
import os
import re
import shutil
import signal
import struct
import sys
import tarfile
import traceback
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torchmetrics
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, get_worker_info

from quickstudy import ConfigError, DataError, DataModule, DataWarning, MissingPackageError, Trainer
from quickstudy.data import archives
from quickstudy.data.episodes import EpisodePlan
from quickstudy.data.readable import readable, without_lost_classes
from quickstudy.data.samples import Samples, cache_budget
from quickstudy.data.table import Table
from quickstudy.data.targets import encode
from quickstudy.episode import Episode
from quickstudy.files import absent
from quickstudy.image import ImageClassificationData, ImageClassifier, load_image
from quickstudy.image.modality import MAX_PIXELS, Picture

Images = ImageClassificationData
SMALL = {"image_size": 16, "image_mode": "L"}
EPISODES = {"ways": 2, "shots": 1, "queries": 2, "meta_batch_size": 1, "epoch_length": 1, "test_epoch_length": 2}


def png(level: int = 0, size: int = 16) -> bytes:
    file = io.BytesIO()
    Image.new("L", (size, size), level).save(file, "PNG")
    return file.getvalue()


def noise(size: int = 64) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (size, size), np.uint8)).save(file, "PNG")
    return file.getvalue()


def bomb() -> bytes:
    """A PNG of a few hundred bytes that claims 30,000 x 30,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    end = chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + end


def write(root: Path, classes: dict[str, int], split: str = "train") -> Path:
    for code, (name, count) in enumerate(classes.items()):
        (root / split / name).mkdir(parents=True)
        for i in range(count):
            (root / split / name / f"{i}.png").write_bytes(png(20 * code + i))
    return root / split


@pytest.fixture
def train(tmp_path: Path) -> Path:
    return write(tmp_path, {"cat": 4, "dog": 4, "yak": 4})


def trainer(**options: Any) -> Trainer:
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return Trainer(accelerator="cpu", max_epochs=1, **{**quiet, **options})


def classifier(**options: Any) -> ImageClassifier:
    small = {"in_channels": 1, "hidden": 4}
    return ImageClassifier(**{"backbone": "conv4", "backbone_kwargs": small, **options})


def episodic(**options: Any) -> ImageClassifier:
    return classifier(training_strategy="prototypicalnetworks", training_strategy_kwargs={**EPISODES, **options})


# ---- folders


def test_a_missing_folder_suggests_its_neighbour(train: Path) -> None:
    with pytest.raises(DataError, match=r"no folder or archive '.*/trian'; did you mean '.*/train'\? \(looked in"):
        Images.from_folders(train.with_name("trian"))


def test_what_is_not_there_is_meant_by_its_whole_path_and_looked_for_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "3").mkdir(parents=True)
    near = f"there is no run 'runs/33'; did you mean '{Path('runs/3')}'? (looked in {tmp_path / 'runs'})"
    assert absent("run", "runs/33") == near
    assert absent("run", "walks/33") == f"there is no run 'walks/33' (looked in {tmp_path})"


def test_a_missing_folder_inside_an_archive_suggests_its_neighbour(train: Path) -> None:
    path = shutil.make_archive(str(train.parent / "all"), "zip", train.parent, "train")
    with pytest.raises(DataError, match=r"all.zip' holds no folder 'trian'; did you mean 'train'\?.*\['train'\]"):
        Images.from_folders(f"{path}/trian")


def test_a_file_that_is_no_archive(train: Path) -> None:
    for path in (train / "cat" / "0.png", train / "cat" / "0.png" / "more"):
        with pytest.raises(DataError, match=r"0.png' is a file, and neither a folder nor an archive \(.zip, .tar"):
            Images.from_folders(path)


def test_a_name_that_breaks_lines_breaks_no_message(tmp_path: Path) -> None:
    values = torch.rand(4, 1)
    data = Images.from_tensors(
        values, ["a\nb", "c\x1b[31m", "a\nb", "c\x1b[31m"], val_data=values, val_targets=["a\nb"] * 4
    )
    with pytest.raises(DataError, match="share classes") as caught:
        data.episode_loader("train", EpisodePlan())
    assert r"'a\nb'" in str(caught.value) and "\n" not in str(caught.value)


def test_an_empty_class(train: Path) -> None:
    (train / "emu").mkdir()
    message = r"1 class folder of '.*train' without any example: 'emu'. Add files ending in .*.bmp, .* or remove"
    with pytest.raises(DataError, match=message):
        Images.from_folders(train)
    path = shutil.make_archive(str(train.parent / "empty"), "zip", train)
    with pytest.raises(DataError, match="without any example: 'emu'"):
        Images.from_folders(path)


def test_a_folder_without_class_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no class folders; it is empty. .*/cat/1\.jpg"):
        Images.from_folders(tmp_path)
    (tmp_path / "a.png").write_bytes(png())
    with pytest.raises(DataError, match=r"has no class folders; it has 1 files such as 'a.png'. Put each class"):
        Images.from_folders(tmp_path)


def test_a_class_folder_in_place_of_its_parent(train: Path, tmp_path: Path) -> None:
    told = rf"/cat/1\.jpg; or, if it is a class itself, give its parent folder '{train}'$"
    with pytest.raises(DataError, match=told):
        Images.from_folders(train / "cat")
    (tmp_path / "alone" / "cat").mkdir(parents=True)
    (tmp_path / "alone" / "cat" / "a.png").write_bytes(png())
    with pytest.raises(DataError, match=r"/cat/1\.jpg$"):
        Images.from_folders(tmp_path / "alone" / "cat")


def test_files_that_are_no_pictures_are_left_out_with_a_warning(train: Path) -> None:
    (train / "cat" / "notes.txt").write_text("meow")
    with pytest.warns(DataWarning, match=r"left out 1 files of '.*train' that do not end in .*.bmp.*: cat/notes.txt"):
        data = Images.from_folders(train)
    assert len(data.table("train") or ()) == 12


def test_files_outside_class_folders_are_left_out_with_a_warning(train: Path) -> None:
    (train / "stray.png").write_bytes(png())
    with pytest.warns(DataWarning, match=r"left out 1 files that lie outside every class folder .*: stray.png"):
        data = Images.from_folders(train)
    assert data.classes == ("cat", "dog", "yak")


def test_nothing_to_predict(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no file ending in .*.bmp, .gif"):
        Images.from_folders(predict_folder=tmp_path)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions do not hold back the administrator")
def test_a_folder_that_may_not_be_read(train: Path) -> None:
    (train / "cat").chmod(0)
    try:
        with pytest.raises(DataError, match=r"the folder '.*cat' cannot be read: Permission denied"):
            Images.from_folders(train)
    finally:
        (train / "cat").chmod(0o755)


def test_a_folder_that_cannot_be_read(train: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("quickstudy.data.places.os.scandir", refuse)
    with pytest.raises(DataError, match=r"the folder '.*train' cannot be read: Permission denied"):
        Images.from_folders(train)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_not_utf8(train: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkdir(os.fsencode(train) + b"/caf\xe9")  # noqa: PTH102
    Path(os.fsdecode(os.fsencode(train) + b"/caf\xe9/1.png")).write_bytes(png())
    with pytest.raises(DataError, match=r"the file name .*caf.* is not UTF-8: rename the file"):
        Images.from_folders(train)
    monkeypatch.setattr("sys.getfilesystemencoding", lambda: "ascii")
    with pytest.raises(DataError, match=r"is not UTF-8: set PYTHONUTF8=1 in the environment, or rename the file"):
        Images.from_folders(train)


# ---- episodes


def test_a_class_with_too_few_images(tmp_path: Path) -> None:
    data = Images.from_folders(write(tmp_path, {"cat": 9, "lynx": 7}), **SMALL)
    message = (
        r"2-way 5-shot with 15 queries needs 20 examples per class; 'lynx' of the train data has 7. Set queries to 2,"
    )
    with pytest.raises(DataError, match=message):
        trainer().fit(episodic(shots=5, queries=15), datamodule=data)


def test_fewer_classes_than_ways(train: Path) -> None:
    with pytest.raises(
        DataError, match=r"5-way episodes need at least 5 classes; the train data has 3. Set ways to 3, or"
    ):
        trainer().fit(episodic(ways=5), datamodule=Images.from_folders(train, **SMALL))
    with pytest.raises(DataError, match=r"the test data has 3. Set ways, or test_ways alone, to 3"):
        trainer().test(episodic(ways=5), datamodule=Images.from_folders(test_folder=train, **SMALL), verbose=False)


def test_classes_shared_by_splits(train: Path) -> None:
    val = write(train.parent, {"yak": 4, "zebu": 4}, "val")
    message = r"the train and val data share classes \(1\): 'yak'. Few-shot training is judged on classes it never saw"
    with pytest.raises(DataError, match=message):
        trainer().fit(episodic(), datamodule=Images.from_folders(train, val, **SMALL))
    values, labels = torch.rand(8, 1, 16, 16), [0, 1] * 4
    data = Images.from_tensors(values, labels, test_data=values, test_targets=labels)
    with pytest.raises(
        DataError, match=r"the train and test data share classes \(2\): '0', '1'.*Integer labels that count"
    ):
        trainer().test(episodic(), datamodule=data, verbose=False)


def test_episodes_of_several_labels() -> None:
    data = Images.from_tensors(torch.rand(4, 1, 16, 16), [["a", "b"], ["a"], ["b"], ["b"]])
    with pytest.raises(DataError, match="few-shot episodes need exactly one label per example"):
        trainer().fit(episodic(), datamodule=data)


def test_a_meta_batch_that_does_not_divide_the_epoch() -> None:
    with pytest.raises(ConfigError, match=r"epoch_length=10 is no multiple of meta_batch_size=4: set epoch_length=12"):
        episodic(meta_batch_size=4, epoch_length=10)


def test_a_split_that_leaves_too_few_classes(train: Path) -> None:
    data = Images.from_folders(train, val_split=0.2, **SMALL)
    with pytest.raises(
        DataError, match=r"val_split=0.2 of 3 classes leaves fewer than 2 on a side: add classes or give"
    ):
        trainer().fit(episodic(), datamodule=data)


# ---- pictures


def truncated() -> bytes:
    return noise()[:-500]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no image that can be read"),
        (b"<html>not found</html>", "is no image that can be read"),
        (truncated(), "is a damaged image.*truncated"),
        (noise()[:60] + b"\0" * 40 + noise()[100:], "is a damaged image"),
        (bomb(), "claims too many pixels: Image size .900000000 pixels. .* Make the picture smaller"),
    ],
    ids=["empty", "page", "cut", "overwritten", "bomb"],
)
def test_a_picture_that_cannot_be_read_is_named(content: bytes, message: str, train: Path) -> None:
    assert len(content) < 10_000
    bad = train / "dog" / "2.png"
    bad.write_bytes(content)
    with pytest.raises(DataError, match=f"dog/2.png' {message}.*. To leave such examples out, set on_error='skip'"):
        list(Images.from_folders(train, **SMALL).train_dataloader())
    with pytest.raises(DataError, match=f"the picture of {len(content)} bytes {message}") as told:
        load_image(content)
    assert "on_error" not in str(told.value)  # which only data for training has
    for kind in ("zip", "tar"):
        path = shutil.make_archive(str(train.parent / f"bad-{kind}"), kind, train)
        with pytest.raises(DataError, match=f"bad-{kind}.{kind}/dog/2.png' {message}"):
            list(Images.from_folders(path, **SMALL).train_dataloader())
    with pytest.warns(DataWarning, match=f"skipped 1 of 12 train examples that cannot be read, the first: .*{message}"):
        data = Images.from_folders(train, on_error="skip", **SMALL)
        assert sum(len(targets) for _, targets in data.train_dataloader()) == 11
    assert list(data.skipped) == [f"'{bad}'"]
    assert re.search(message, data.skipped[f"'{bad}'"]) and "on_error" not in data.skipped[f"'{bad}'"]


def test_addresses_are_not_read() -> None:
    for item in ("https://example.com/a.jpg", Path("https://example.com/a.jpg")):
        with pytest.raises(DataError, match=r"a.jpg' cannot be opened: addresses are not read, download it first$"):
            load_image(item)


def test_a_bomb_below_pillows_own_limit() -> None:
    assert inspect.signature(load_image).parameters["max_pixels"].default == MAX_PIXELS
    assert load_image(png(size=17), max_pixels=300).shape == (3, 17, 17)
    with pytest.raises(DataError, match=r"claims 18x18 pixels; more than 300 are refused. Make the picture smaller"):
        load_image(png(size=18), max_pixels=300)


@pytest.mark.parametrize("workers", [0, 2])
def test_training_stops_at_a_corrupt_picture_or_goes_on_without_it(workers: int, train: Path) -> None:
    (train / "cat" / "1.png").write_bytes(truncated())
    options: Any = {**SMALL, "num_workers": workers}
    with pytest.raises(DataError, match=r"cat/1.png' is a damaged image.*Replace it. To leave such .*on_error='skip'"):
        trainer().fit(classifier(), datamodule=Images.from_folders(train, **options))
    data = Images.from_folders(train, on_error="skip", val_split=0.25, **options)
    with pytest.warns(DataWarning, match="skipped 1 of 12 train examples"):
        trainer().fit(classifier(), datamodule=data)
    assert len(data.skipped) == 1
    assert len(data.table("train") or ()) + len(data.table("val") or ()) == 11


@pytest.mark.parametrize("workers", [0, 2])
def test_a_transform_that_fails_names_its_input(workers: int, train: Path) -> None:
    def transform(picture: torch.Tensor) -> torch.Tensor:
        raise ValueError("boom")

    data = Images.from_folders(train, transform=transform, num_workers=workers, **SMALL)
    with pytest.raises(ValueError, match="boom") as caught:
        trainer().fit(classifier(), datamodule=data)
    told = "".join(traceback.format_exception(caught.value))
    assert re.search(r"This was the transform of '.*\.png'\.", told)


def test_a_worker_that_dies_is_no_riddle(train: Path) -> None:
    def transform(picture: torch.Tensor) -> torch.Tensor:
        if get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return picture

    data = Images.from_folders(train, transform=transform, num_workers=1, **SMALL)
    with pytest.raises(DataError, match=r"process that loads data died .* about to load batch 0: '.*\.png'"):
        trainer().fit(classifier(), datamodule=data)


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "most often because memory ran out: fewer num_workers"),
        (lambda: os.kill(os.getpid(), signal.SIGBUS), r"shared memory ran out: .*--shm-size"),
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "since a library crashed in it"),
        (lambda: os._exit(1), "by an error that stands above: with num_workers=0 it shows here"),
    ],
    ids=["killed", "shared memory", "crashed", "failed"],
)
def test_why_a_worker_died_is_told_by_how_it_did(end: Callable[[], object], words: str) -> None:
    def transform(picture: torch.Tensor) -> torch.Tensor:
        if get_worker_info() is not None:
            end()
        return picture

    data = Images.from_tensors(torch.zeros(4, 3, 8, 8), [0, 1, 0, 1], transform=transform, num_workers=1)
    with pytest.raises(DataError, match=rf"process that loads data died .*{words}.* about to load batch 0: input "):
        list(data.train_dataloader())


def test_spawned_processes_need_a_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    def transform(picture: torch.Tensor) -> torch.Tensor:
        if get_worker_info() is not None:
            os._exit(1)
        return picture

    data = Images.from_tensors(torch.zeros(4, 3, 8, 8), [0, 1, 0, 1], transform=transform, num_workers=1)
    guard = 'each runs the script anew, so put what it does below `if __name__ == "__main__":`; or set num_workers=0'
    with monkeypatch.context() as patched:  # a stand-in for what macOS and Windows have, as to spawn takes seconds
        patched.setattr(torch.multiprocessing, "get_start_method", lambda: "spawn")
        with pytest.raises(DataError, match=re.escape(guard)):
            list(data.train_dataloader())
    for raised in (RuntimeError("... has finished its bootstrapping phase."), BrokenPipeError()):  # in and of a child

        def start(self: object, raised: Exception = raised) -> Any:
            raise raised

        monkeypatch.setattr(DataLoader, "__iter__", start)
        with pytest.raises(ConfigError, match=re.escape(guard)):
            list(data.train_dataloader())


def test_what_cannot_be_sent_to_spawned_processes_is_named() -> None:
    data = Images.from_tensors(torch.zeros(4, 3, 8, 8), [0, 1, 0, 1], transform=lambda picture: picture, num_workers=1)
    loader = data.train_dataloader()
    loader.multiprocessing_context = "spawn"
    with pytest.raises(
        ConfigError, match=r"num_workers=1 sends .*lambda.*: define functions and .* or set num_workers=0"
    ):
        list(loader)


def test_skipping_is_done_once_and_counts_for_episodes(train: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    unreadable = Samples.unreadable
    monkeypatch.setattr(Samples, "unreadable", lambda samples: tried.append(len(samples)) or unreadable(samples))
    (train / "cat" / "0.png").write_bytes(b"")
    (train / "cat" / "1.png").write_bytes(b"")
    data = Images.from_folders(train, on_error="skip", **SMALL)
    with pytest.warns(DataWarning) as caught:
        assert len(data.table("train") or ()) == 10
        with pytest.raises(DataError, match=r"needs 3 examples per class; 'cat' of the train data has 2"):
            trainer().fit(episodic(), datamodule=data)
    assert len(caught) == 1
    assert tried == [12]
    assert len(data.skipped) == 2


def test_nothing_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.png").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"none of the 1 train examples can be read, the first: '.*cat/1.png' is no image"
    ):
        Images.from_folders(tmp_path, on_error="skip").table("train")


def test_skipping_items_of_a_data_set_that_fails() -> None:
    class Broken:
        targets = (0, 1, 0)

        def __len__(self) -> int:
            return 3

        def __getitem__(self, row: int) -> Any:
            if row == 1:
                raise OSError("disk on fire")
            return torch.zeros(1, 2, 2), 0

    with pytest.raises(DataError, match="input 1 cannot be read: disk on fire"):
        list(DataModule.from_datasets(Broken()).train_dataloader())
    data = DataModule.from_datasets(Broken(), on_error="skip")
    lost = pytest.warns(DataWarning, match="left out 1 of 2 classes of the train examples, .*: '1'")
    with pytest.warns(DataWarning, match="skipped 1 of 3 train examples"), lost:
        assert len(data.table("train") or ()) == 2
    assert data.classes == ("0",)
    assert data.skipped == {"input 1": "input 1 cannot be read: disk on fire"}


def test_pictures_of_different_sizes() -> None:
    sizes = [torch.zeros(1, 4, 4), torch.zeros(1, 4, 5)]
    for budget in (0, 1000):
        with pytest.raises(
            DataError, match=r"input 1 has shape \(1, 4, 5\) .* where another has \(1, 4, 4\).*image_size="
        ):
            Samples(sizes, Picture(), budget=budget).batch(np.array([0, 1]))


@pytest.mark.parametrize("item", [None, 3, ["a.png"]])
def test_what_is_no_picture(item: Any) -> None:
    with pytest.raises(DataError, match="expected a picture: a path, bytes, a PIL image, an array or a tensor, not "):
        load_image(item)


def test_a_missing_picture(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone.png' cannot be opened: No such file or directory"):
        load_image(tmp_path / "gone.png")
    with pytest.raises(DataError, match=r"is no file .a folder, a pipe or a device"):
        load_image(str(tmp_path))


@pytest.mark.parametrize("size", [0, -3, (8,), (8, 0), 8.0, "8"])
def test_sizes_that_are_none(size: Any) -> None:
    with pytest.raises(ConfigError, match=r"image_size=.* is neither a number of pixels nor \(height, width\)"):
        load_image(png(), size)


def test_modes_that_are_none() -> None:
    with pytest.raises(ConfigError, match="image_mode='rgb' is none of 'RGB', 'L'"):
        load_image(png(), image_mode="rgb")  # type: ignore[arg-type]


# ---- archives


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def make_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    "name", ["../cat/1.png", "cat/../../1.png", "/etc/cat/1.png", "C:/cat/1.png", "..\\cat\\1.png"]
)
@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_an_archive_with_names_that_lead_out(make: Callable[..., Path], name: str, tmp_path: Path) -> None:
    path = make(tmp_path / f"evil.{make.__name__[5:]}", {"cat/0.png": png(), name: png()})
    with pytest.raises(
        DataError, match=f"evil.*holds the name '{re.escape(name)}', which leads out of the archive: ref"
    ):
        Images.from_folders(path)


def test_an_archive_with_links(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "link.tar", "w") as tar:
        info = tarfile.TarInfo("cat/1.png")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    link = zipfile.ZipInfo("cat/1.png")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    for name in ("link.tar", "link.zip"):
        with pytest.raises(DataError, match=r"holds 'cat/1.png', which is a link.*not a file: refused"):
            Images.from_folders(tmp_path / name)


@pytest.mark.parametrize("size", [4608, 5000], ids=["between members", "within a member"])
@pytest.mark.parametrize("suffix", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_an_archive_cut_in_half(suffix: str, size: int, tmp_path: Path) -> None:
    members = {f"{name}/{i}.png": np.random.default_rng(i).bytes(size) for name in ("cat", "dog") for i in range(4)}
    mode = f"w:{suffix[4:]}" if "." in suffix else "w"
    path = tmp_path / f"half.{suffix}"
    make_zip(path, members) if suffix == "zip" else make_tar(path, members, mode)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=rf"half.{suffix}' cannot be .*\. Is the file complete\?"):
        Images.from_folders(path)


def test_an_archive_that_is_none(tmp_path: Path) -> None:
    for name in ("a.zip", "a.tar", "a.tar.gz", "a.txz"):
        (tmp_path / name).write_bytes(b"<html>404</html>" * 100)
        with pytest.raises(DataError, match=rf"{name}' cannot be .*Is the file complete\?"):
            Images.from_folders(tmp_path / name)


def test_an_encrypted_zip(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "secret.zip", {"cat/1.png": png()})
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    path.write_bytes(content)
    with pytest.raises(
        DataError, match=r"holds 'cat/1.png', which is encrypted \(unpack the archive with its password"
    ):
        Images.from_folders(path)


def test_a_damaged_member_of_a_zip(tmp_path: Path) -> None:
    path = tmp_path / "rotten.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cat/1.png", noise())
    content = bytearray(path.read_bytes())
    content[200:260] = bytes(60)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"rotten.zip/cat/1.png' cannot be read: "):
        list(Images.from_folders(path, **SMALL).train_dataloader())


def test_a_member_that_is_a_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 1 << 20)
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cat/1.png", bytes(2 << 20))
    with pytest.raises(
        DataError, match=r"bomb.zip/cat/1.png' unpacks to 2,097,152 bytes; more than 1,048,576 is refused"
    ):
        list(Images.from_folders(path, **SMALL).train_dataloader())


def test_a_tar_that_is_a_bomb_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUICKSTUDY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 1 << 20)
    path = make_tar(tmp_path / "bomb.tar.gz", {"cat/1.png": bytes(4 << 20)}, "w:gz")
    with pytest.raises(DataError, match=r"bomb.tar.gz' .* unpacks to more than 1,048,576 bytes.* Unpack it yourself"):
        Images.from_folders(path)
    assert not [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]


def test_a_full_disk_leaves_nothing_behind(train: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUICKSTUDY_CACHE", str(train.parent / "cache"))
    path = shutil.make_archive(str(train.parent / "big"), "gztar", train)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 100, 0))  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="has no room"):
        Images.from_folders(path)
    monkeypatch.undo()
    monkeypatch.setenv("QUICKSTUDY_CACHE", str(train / "cat" / "0.png"))
    with pytest.raises(DataError, match=r"cannot be unpacked into .*0.png"):
        Images.from_folders(path)
    assert not [file for file in (train.parent / "cache").rglob("*") if file.is_file()]


# ---- arrays, files, frames


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_not_finite(value: float) -> None:
    values = torch.zeros(3000, 1, 2, 2)
    values[2500, 0, 1, 1] = value
    with pytest.raises(
        DataError, match=r"in the train data, example 2500 holds a value that is not finite .*nan_to_num"
    ):
        DataModule.from_tensors(values, [0] * 3000)
    with pytest.raises(DataError, match="example 2500 holds a value that is not finite"):
        DataModule.from_numpy(predict_data=values.numpy())


def test_mismatched_lengths() -> None:
    with pytest.raises(DataError, match=r"in the val data, 3 inputs but 4 targets: each input needs one target"):
        DataModule.from_tensors(val_data=torch.zeros(3, 1), val_targets=[0, 1, 0, 1])
    with pytest.raises(DataError, match=r"2 examples but 3 labels"):
        episodic().adapt(torch.zeros(2, 1, 16, 16), ["a", "b", "a"])


def test_one_of_a_pair() -> None:
    with pytest.raises(DataError, match="the train data has train_data but no train_targets: give both"):
        DataModule.from_tensors(torch.zeros(3, 1))
    with pytest.raises(DataError, match="the test data has test_targets but no test_files: give both"):
        Images.from_files(test_targets=[1, 2])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([[1.0]], r"expected a tensor or array \[N, C, ...\], not list"),
        (torch.zeros(3), r"one row per example, \[N, C, ...\]; this has the shape \(3,\)"),
        (np.array([["a", "b"]]), "an array of <U1 cannot be fed to a model"),
        (np.zeros((2, 2), object), "an array of object cannot be fed to a model"),
    ],
)
def test_data_that_is_no_tensor(data: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        DataModule.from_tensors(predict_data=data)


def test_empty_data() -> None:
    with pytest.raises(DataError, match="the train data is empty: it needs at least one example"):
        DataModule.from_tensors(torch.zeros(0, 1), [])
    with pytest.raises(DataError, match="the predict data is empty"):
        Images.from_files(predict_files=[])
    with pytest.raises(DataError, match="no data was given: name at least one of train_"):
        Images.from_folders()


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([0, None], "target 1 is None: a class label must be a whole number or a string"),
        (["a", None], "target 1 is None: a class label"),
        (["a", 1], "target 0 is 'a' and target 1 is 1: labels must all be strings or all be numbers"),
        ([1, True], "target 0 is 1 and target 1 is True: labels must all be True or False, or all be numbers"),
        (["a", float("nan")], "target 1 is nan: a class label .* missing in row 1$"),
        (["a", "", None, pd.NA, pd.NaT, "b"], "target 1 is '': a class label .* missing in 4 rows: 1, 2, 3, 4$"),
        ({"1.png": "cat"}, "targets must be a list, array or tensor of labels, not {'1.png': 'cat'}"),
        ([["a", ""], ["b"]], "each must be a string, and no empty one; an example without labels has the empty list"),
        (["a", "b\udce9"], r"the label 'b\\udce9' holds half a character"),
        ([{"a": 1}, {"b": 2}], "target 0 is {'a': 1}: a class label"),
        ([1.5, 2.0], "target 0 is 1.5: a class label must be a whole number or a string"),
        (np.array([1.0, np.nan]), "target 1 is nan: a class label"),
        (pd.Series([1, None]), "target 1 is nan: a class label"),
        (pd.Series(["a", None]), "target 1 is "),
        (pd.Series([1, None], dtype="Int64"), "target 1 is "),
        (np.array([b"a"]), "target 0 is b'a': a class label"),
        (["a", ""], "target 1 is '': a class label"),
        (np.array([1.0, 1e300]), "target 1 is 1e\\+300: a class label"),
        (np.array([1, 2**63], np.uint64), "target 1 is 9223372036854775808: a class label"),
        (
            [[0, 1], [1]],
            "the targets are lists of different lengths: for several labels per example give lists of strings",
        ),
        ([["a", 1], ["b"]], r"target 0 is \['a', 1\]: where examples have several labels, each must be a string"),
        (
            [[0.5, 0.5], [1, 0]],
            r"row 0 of the target matrix is \[0.5 0.5\]: one-hot and multi-hot rows hold 0 and 1 only",
        ),
        (np.zeros((2, 2, 2)), r"targets must be \[N\] labels or a \[N, C\] matrix .* not of shape \(2, 2, 2\)"),
        ("cat", "targets must be a list, array or tensor of labels, not 'cat'"),
        ({"a"}, "targets must be a list, array or tensor of labels"),
        (torch.tensor(1), "targets must be a list, array or tensor of labels"),
        (5, "targets must be a list, array or tensor of labels, not 5"),
    ],
    ids=repr,
)
def test_targets_that_are_none(targets: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        encode(targets)


def test_tables_at_odds_with_themselves() -> None:
    codes = np.array([0, 2], np.int32)
    with pytest.raises(DataError, match="targets must be codes from 0 to 1, one per class name"):
        Table([1, 2], codes, ("a", "b"))
    with pytest.raises(DataError, match="the class name 'a' stands more than once"):
        Table([1, 2], codes, ("a", "b", "a"))
    with pytest.raises(DataError, match="targets have 2 columns for 1 class names"):
        Table([1], np.ones((1, 2), np.bool_), ("a",))


def test_classes_that_a_fixed_head_does_not_have() -> None:
    values = torch.rand(6, 1, 16, 16)
    data = Images.from_tensors(values, list("ababab"), val_data=1 - values, val_targets=list("abcabc"))
    with pytest.raises(DataError, match=r"classes 'c' are not among the 2 classes of the training data.* few-shot"):
        trainer().fit(classifier(), datamodule=data)


def test_files_that_do_not_exist(train: Path) -> None:
    with pytest.raises(DataError, match=r"in the train data, 2 of 3 files do not exist, the first is '.*cat/x.png'"):
        Images.from_files([train / "cat/x.png", train / "cat/0.png", train / "y.png"], [0, 1, 2])
    with pytest.raises(DataError, match=r"expected a list of files, not 'a.png'"):
        Images.from_files(predict_files="a.png")
    with pytest.raises(DataError, match="file 1 is None: a file must be a string or a path"):
        Images.from_files(predict_files=[train / "cat/0.png", None])  # type: ignore[list-item]


def test_frames_with_holes(train: Path) -> None:
    frame = pd.DataFrame({"file": ["cat/0.png", "dog/0.png"], "label": ["cat", "dog"]})

    def read(table: Any, label: str | None = "label", root: Path = train) -> None:
        Images.from_data_frame("file", label, train_data_frame=table, train_images_root=root)

    read(frame)
    with pytest.raises(DataError, match=r"no column 'lable'; did you mean 'label'\? It has: file, label"):
        read(frame, "lable")
    with pytest.raises(DataError, match="target_fields is missing: name the column with the labels"):
        read(frame, None)
    with pytest.raises(DataError, match=r"file 1 is (nan|None): a file must be a string or a path"):
        read(frame.assign(file=["cat/0.png", None]))
    with pytest.raises(DataError, match="target 1 is nan: a class label"):
        read(frame.assign(label=[1, None]))
    with pytest.raises(DataError, match=r"there is no folder '.*gone'"):
        read(frame, root=train / "gone")
    with pytest.raises(DataError, match="expected a pandas DataFrame, not dict"):
        read({"file": []})


def test_csv_files_with_holes(train: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file '.*gone.csv' \(looked in"):
        Images.from_csv("file", "label", train_file=train / "gone.csv")
    for content, message in ((b"", "cannot be read as a CSV file"), (b"\xff\xfe\x00", "cannot be read as a CSV file")):
        (train / "t.csv").write_bytes(content)
        with pytest.raises(DataError, match=message):
            Images.from_csv("file", "label", train_file=train / "t.csv")
    (train / "t.csv").write_text("file,label\ncat/0.png,1\ndog/0.png,\n")
    with pytest.raises(DataError, match="target 1 is ''"):
        Images.from_csv("file", "label", train_file=train / "t.csv")


def test_data_sets_without_length_or_targets() -> None:
    with pytest.raises(DataError, match="generator must be a torch Dataset with a length and numbered items"):
        DataModule.from_datasets(x for x in [1])
    with pytest.raises(DataError, match="generator must be a torch Dataset"):
        DataModule.from_datasets(predict_dataset=(x for x in [1]))
    with pytest.raises(DataError, match=r"item 1 of the data set has no target: items must be \(input, target\)"):
        DataModule.from_datasets([(torch.zeros(1), 0), torch.zeros(1)])
    with pytest.raises(DataError, match=r"needs the keys 'input' and 'target'; this one has \['image', 'label'\]"):
        DataModule.from_datasets([{"image": 1, "label": 2}])


# ---- options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_wokers": 2}, r"unknown data option 'num_wokers'; did you mean 'num_workers'\?"),
        ({"image_sise": 2}, r"unknown data option 'image_sise'; did you mean 'image_size'\?"),
        ({"val_foldr": "x"}, r"unknown data option 'val_foldr'; did you mean 'val_folder'\?"),
        ({"val_split": 1.5}, "val_split=1.5: it must lie between 0 and 1, for instance 0.2"),
        ({"on_error": "ignore"}, "on_error='ignore' is neither 'raise' nor 'skip'"),
        ({"transform": 3}, "transform=3 is neither a function of a tensor, nor a name, nor a mapping"),
        ({"transform": {"trian": torch.neg}}, "unknown stage of transform 'trian'; did you mean 'train'"),
        ({"cache": "lots"}, "cache='lots' is none of 'auto', False, a number of bytes, or a size such as '4GB'"),
        ({"cache": -1}, "cache=-1 is none of"),
        ({"seed": -1}, "seed=-1: it must be a whole number of at least 0"),
        ({"num_workers": -1}, "num_workers=-1: it must be a whole number of at least 0"),
        ({"num_workers": "2"}, "num_workers='2': it must be a whole number of at least 0; type num_workers=2$"),
        ({"num_workers": None}, "num_workers=None: it must be a whole number of at least 0$"),
        ({"seed": 1.5}, "seed=1.5: it must be a whole number of at least 0$"),
        ({"seed": True}, "seed=True: it must be a whole number"),
        ({"batch_size": 0}, "batch_size=0: it must be a whole number of at least 1$"),
        ({"batch_size": "4"}, "batch_size='4': it must be a whole number of at least 1; type batch_size=4$"),
        ({"batch_size": 4.0}, "batch_size=4.0: it must be a whole number of at least 1; type batch_size=4$"),
        ({"batch_size": None}, "batch_size=None: it must be a whole number of at least 1$"),
        ({"batch_size": True}, "batch_size=True: it must be a whole number of at least 1$"),
        ({"batch_size": np.nan}, "batch_size=nan: it must be a whole number of at least 1$"),
        ({"val_split": "0.2"}, "val_split='0.2': it must lie between 0 and 1"),
        ({"val_split": True}, "val_split=True: it must lie between 0 and 1"),
        ({"val_split": np.nan}, "val_split=nan: it must lie between 0 and 1"),
        ({"pin_memory": "yes"}, "pin_memory='yes' is none of True, False, None"),
        ({"cache": 0.5}, "cache=0.5 is none of 'auto', False, a number of bytes"),
        ({"image_size": 0}, "image_size=0 is neither a number of pixels"),
        ({"image_size": True}, "image_size=True is neither a number of pixels"),
        (
            {"image_size": "84"},
            r"image_size='84' is neither a number of pixels nor \(height, width\); type image_size=84$",
        ),
        ({"image_size": 84.0}, r"image_size=84.0 is neither .*; type image_size=84$"),
        ({"image_mode": "rgb"}, "image_mode='rgb' is none of 'RGB', 'L'"),
        ({"image_size": 10**6}, "image_size=1000000 is more than 80,000,000 pixels"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_data_options(options: dict[str, Any], message: str, train: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        Images.from_folders(train, **options)


def test_data_options_that_show_later(train: Path) -> None:
    with pytest.raises(
        ConfigError, match="val_split takes validation data from the training data: give train data and no"
    ):
        Images.from_folders(train, train, val_split=0.2)
    with pytest.raises(
        DataError, match=r"there is no test data: name it .* ImageClassificationData.from_folders\(test_folder=\.\.\.\)"
    ):
        Images.from_folders(train).test_dataloader()
    with pytest.raises(ConfigError, match="cache"):
        cache_budget("GB")


def option(where: str, name: str, **more: Any) -> dict[str, Any]:
    return {where: (name, more)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"training_strategy": "prototypical"},
            r"unknown training_strategy 'prototypical'; did you mean 'prototypicalnetw",
        ),
        (
            {"training_strategy": "prototypicalnetworks", "training_strategy_kwargs": {"shot": 1}},
            r"'prototypicalnetworks' has no option 'shot'; did you mean 'shots'\?",
        ),
        ({"training_strategy_kwargs": {"ways": 5}}, "takes no training_strategy_kwargs.*prototypicalnetworks"),
        (
            {"training_strategy": "maml", "training_strategy_kwargs": {"inner_lr": 0.1}},
            r"no option 'inner_lr'; did you mean 'adaptation_lr'\? It has: adaptation_steps, ",
        ),
        (
            {"training_strategy": "tim", "training_strategy_kwargs": {"steps": 10}},
            r"no option 'steps'; did you mean 'iterations'\?",
        ),
        (
            {"training_strategy": "prototypicalnetworks", "num_classes": 3},
            "num_classes, multi_label, head, class_weights and mix belong to training_strategy='default'",
        ),
        ({"backbone": "conv5"}, r"unknown backbone 'conv5'; did you mean 'conv4'\?"),
        ({"backbone": "resnet2"}, r"unknown backbone 'resnet2'; did you mean 'resnet"),
        ({"backbone": 3}, "backbone must be a name or an nn.Module, not 3"),
        ({"backbone_kwargs": {"in_chanels": 1}}, r"conv4 has no option 'in_chanels'; did you mean 'in_channels'\?"),
        ({"backbone_kwargs": {"norm": "layer"}}, "norm='batch' or norm='group', not 'layer'"),
        ({"backbone": nn.Identity(), "backbone_kwargs": {"a": 1}}, "belong to a backbone given by name"),
        ({"optimizer": "Adem"}, r"unknown optimizer 'Adem'; did you mean 'Adam'\?"),
        ({"optimizer": "Adan"}, r"unknown optimizer 'Adan'; did you mean 'timm.adan'\?"),
        (option("optimizer", "timm.lamb", beta=1), r"'timm.lamb' has no option 'beta'; did you mean 'betas'\?"),
        (
            option("optimizer", "SGD", momentun=0.9),
            r"optimizer 'SGD' has no option 'momentun'; did you mean 'momentum'\?",
        ),
        ({"optimizer": 5}, "optimizer=5 is none of: a name, a"),
        ({"lr_scheduler": "StepLr2"}, r"unknown lr_scheduler 'StepLr2'; did you mean 'StepLR'\?"),
        (
            option("lr_scheduler", "StepLR", stepsize=1),
            r"'StepLR' has no option 'stepsize'; did you mean 'step_size'\?",
        ),
        (option("lr_scheduler", "StepLR"), "lr_scheduler 'StepLR' cannot be made with {}: .*step_size"),
        ({"loss_fn": "cross_entropi"}, r"loss_fn='cross_entropi' is neither .*; did you mean 'cross_entropy'\?"),
        ({"loss_fn": "cosine_embedding_loss"}, "nor one of cross_entropy, multi_margin_loss.*function of .logits"),
        ({"head": "liner"}, "head='liner'.*'linear'"),
        ({"learning_rate": -1}, "learning_rate=-1: it must be above 0"),
        ({"learning_rate": float("nan")}, "learning_rate=nan: it must be above 0"),
        ({"optimizer": "Muon"}, "unknown optimizer 'Muon'"),
        (option("optimizer", "Adam", betas=(2, 2)), "optimizer 'Adam' cannot be made with .*Invalid beta"),
        (option("lr_scheduler", "StepLR", step_size=0), "lr_scheduler.* fails at its first step: .*zero"),
        (option("lr_scheduler", "StepLR", step_size=1, interval="foo"), "interval='foo': it moves by 'step' or by"),
        ({"backbone_kwargs": {"in_channels": -1}}, "in_channels=-1: it must be a whole number of at least 1"),
        ({"lr": 0.1}, "no option 'lr'; did you mean 'learning_rate'"),
        ({"ways": 5, "shots": 1}, r"few-shot strategy: training_strategy_kwargs=\{'ways': 5, 'shots': 1\}"),
    ],
    ids=str,
)
def test_model_options(options: dict[str, Any], message: str) -> None:
    defaults: dict[str, Any] = {} if "backbone" in options else {"backbone_kwargs": {"in_channels": 1}}
    with pytest.raises(ConfigError, match=message):
        ImageClassifier(**{"backbone": "conv4", "pretrained": False, **defaults, **options})


def test_a_misspelled_metric(train: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown metric 'F1Scor'; did you mean 'F1Score'\?"):
        trainer().fit(classifier(metrics="F1Scor"), datamodule=Images.from_folders(train, **SMALL))


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("ConfusionMatrix", "the metric 'ConfusionMatrix' is not one number"),
        ({"error": torchmetrics.MeanSquaredError()}, "the metric 'error' does not take logits"),
    ],
    ids=str,
)
def test_metrics_that_cannot_be_logged(metric: Any, message: str, train: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        trainer().fit(classifier(metrics=metric), datamodule=Images.from_folders(train, **SMALL))


def test_overfitting_a_few_batches_has_its_own_option() -> None:
    with pytest.raises(ConfigError, match="set num_tasks=8 among its options, otherwise limit_train_batches=8"):
        Trainer(overfit_batches=2)


def test_a_misspelled_model_option() -> None:
    with pytest.raises(ConfigError, match=r"ImageClassifier has no option 'backbon'; did you mean 'backbone'\?"):
        ImageClassifier(backbon="conv4")  # type: ignore[call-arg]


def test_a_misspelled_finetuning_strategy(train: Path) -> None:
    with pytest.raises(ConfigError, match=r"'freez'; did you mean 'freeze'\?"):
        trainer().finetune(classifier(), datamodule=Images.from_folders(train, **SMALL), strategy="freez")


def test_a_misspelled_benchmark() -> None:
    with pytest.raises(ConfigError, match=r"unknown data set 'glyph'; did you mean 'glyphs'\?"):
        Images.from_benchmark("glyph")


@pytest.mark.parametrize(
    ("package", "use", "extra"),
    [
        ("pandas", lambda: Images.from_csv("file", "label", train_file="t.csv"), "tabular"),
        ("timm", lambda: ImageClassifier(backbone="resnet18", pretrained=False), "image"),
        ("torchvision", lambda: ImageClassifier(backbone="resnet12"), "image"),
    ],
)
def test_an_absent_package(package: str, use: Callable[[], Any], extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (package, f"{package}.ops"):
        monkeypatch.setitem(sys.modules, module, None)
    message = (
        rf"this needs the package '{package}', which is not installed. Type: pip install 'quickstudy\[{extra}\]', or "
        rf"in its clone: pip install '\.\[{extra}\]'"
    )
    with pytest.raises(MissingPackageError, match=message):
        use()


# ---- models and data that do not fit


def test_channels_that_do_not_fit(train: Path) -> None:
    data = Images.from_folders(train, image_size=16)
    for model in (classifier(), episodic()):
        with pytest.raises(
            ConfigError, match=r"takes 1 channels, and the data has 3 .*'in_channels': 3.*image_mode='L'"
        ):
            trainer().fit(model, datamodule=data)


def test_images_too_small_for_conv4(train: Path) -> None:
    data = Images.from_folders(train, image_size=12, image_mode="L")
    with pytest.raises(ConfigError, match=r"needs at least 16x16 pixels; these have 12x12. Set image_size=16 or more"):
        trainer().fit(episodic(), datamodule=data)


def test_a_wrong_number_of_classes(train: Path) -> None:
    with pytest.raises(ConfigError, match="num_classes=5, and the data has 3 classes: leave num_classes out"):
        trainer().fit(classifier(num_classes=5), datamodule=Images.from_folders(train, **SMALL))


def test_several_labels_want_a_model_for_them() -> None:
    data = Images.from_tensors(torch.rand(4, 1, 16, 16), [["a", "b"], ["a"], ["b"], ["b"]])
    with pytest.raises(ConfigError, match="the data has several labels per example: set multi_label=True"):
        trainer().fit(classifier(), datamodule=data)


def test_predicting_without_fixed_classes(train: Path) -> None:
    data = Images.from_folders(predict_folder=train, **SMALL)
    with pytest.raises(ConfigError, match=r"no fixed classes: show it examples of yours, predictor = model.adapt\("):
        trainer().predict(episodic(), datamodule=data)
    with pytest.raises(ConfigError, match=r"was not trained yet: call trainer.fit, or load a checkpoint"):
        trainer().predict(classifier(), datamodule=data)


def test_predicting_into_an_unknown_form(train: Path) -> None:
    with pytest.raises(ConfigError, match=r"output='label' is none of 'labels', 'probabilities', 'logits', 'classes'"):
        trainer().predict(classifier(), datamodule=Images.from_folders(predict_folder=train), output="label")  # type: ignore[arg-type]


def test_an_episodic_model_and_ordinary_batches() -> None:
    loader = [(torch.zeros(2, 1, 16, 16), torch.zeros(2, dtype=torch.int64))]
    with pytest.raises(ConfigError, match=r"takes batches of quickstudy.Episode, not (tuple|list): give datamodule="):
        trainer().fit(episodic(), train_dataloaders=loader)


def test_adapting_to_nothing() -> None:
    with pytest.raises(DataError, match="no examples were given: adapting needs at least one per class"):
        episodic().adapt([], [])
    with pytest.raises(DataError, match=r"gone.png' cannot be opened"):
        episodic().adapt(["gone.png"], ["a"])


# ---- checkpoints


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.ckpt"
    data = Images.from_tensors(torch.rand(4, 1, 16, 16), [0, 1, 0, 1])
    fitted = trainer()
    fitted.fit(classifier(), datamodule=data)
    fitted.save_checkpoint(path)
    return path


def test_a_checkpoint_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no checkpoint '.*gone.ckpt' \(looked in"):
        ImageClassifier.load_from_checkpoint(tmp_path / "gone.ckpt")


def test_a_checkpoint_cut_in_half(checkpoint: Path, tmp_path: Path) -> None:
    whole = checkpoint.read_bytes()
    for size in (len(whole) // 2, 100, 0):
        (tmp_path / "half.ckpt").write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"half.ckpt' is (damaged or cut|no checkpoint)"):
            ImageClassifier.load_from_checkpoint(tmp_path / "half.ckpt")
    assert ImageClassifier.load_from_checkpoint(checkpoint).classes == ("0", "1")


def test_a_file_that_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "text.ckpt").write_text("hello")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    for name in ("text.ckpt", "other.ckpt"):
        with pytest.raises(DataError, match=rf"{name}' is (no checkpoint|damaged)"):
            ImageClassifier.load_from_checkpoint(tmp_path / name)


class Payload:
    def __reduce__(self) -> Any:
        return os.system, ("echo never",)


def test_a_checkpoint_with_code_is_refused(tmp_path: Path) -> None:
    torch.save({"quickstudy": Payload()}, tmp_path / "evil.ckpt")
    with pytest.raises(DataError, match=r"evil.ckpt' is no checkpoint of tensors and plain values"):
        ImageClassifier.load_from_checkpoint(tmp_path / "evil.ckpt")


def test_prediction_keeps_its_order_without_what_cannot_be_read(train: Path) -> None:
    (train / "dog" / "1.png").write_bytes(b"")
    data = Images.from_folders(predict_folder=train, on_error="skip", batch_size=5, **SMALL)
    with pytest.warns(DataWarning, match="skipped 1 of 12 predict examples"):
        levels = [int(level) for batch in data.predict_dataloader() for level in batch[:, 0, 0, 0]]
    assert levels == [0, 1, 2, 3, 20, 22, 23, 40, 41, 42, 43]


def test_a_file_in_two_splits(train: Path) -> None:
    with pytest.raises(
        DataError, match=r"12 files are both in the train and the test data, for example '.*/cat/0.png'"
    ):
        Images.from_folders(train, test_folder=train)


def test_a_file_listed_twice(train: Path) -> None:
    file = train / "cat" / "0.png"
    with pytest.warns(DataWarning, match="1 files are listed more than once"):
        Images.from_files([file, file], ["cat", "cat"])


def test_a_folder_in_two_splits_under_two_names(train: Path, tmp_path: Path) -> None:
    (tmp_path / "again").symlink_to(train, target_is_directory=True)
    with pytest.raises(DataError, match=r"files are both in the train and the val data, for example '.*png'"):
        Images.from_folders(train, tmp_path / "again")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_that_is_named_like_a_picture(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match=r"pipe.png' is no file"):
        load_image(str(tmp_path / "pipe.png"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"support_targets": torch.tensor([[0, 1, 3]])}, "the target 3: with 3 ways they count from 0 to 2"),
        ({"query_targets": torch.tensor([[0, -1, 2]])}, "the target -1: with 3 ways"),
        ({"support_targets": torch.tensor([[0, 1, 1]])}, "task 0 of an episode has no support example of class 2"),
    ],
    ids=str,
)
def test_episodes_of_somebody_else(change: dict[str, torch.Tensor], message: str) -> None:
    targets = torch.tensor([[0, 1, 2]])
    episode = Episode(torch.rand(1, 3, 4), targets, torch.rand(1, 3, 4), targets)._replace(**change)
    model = ImageClassifier(
        backbone=nn.Linear(4, 4), training_strategy="maml", training_strategy_kwargs={"ways": 3, "epoch_length": 4}
    )
    with pytest.raises(DataError, match=message):
        trainer().fit(model, DataLoader([episode], batch_size=None))


def test_what_is_no_number_is_not_right() -> None:
    targets = torch.tensor([[0, 1, 2]])
    episode = Episode(torch.rand(1, 3, 4), targets, torch.full((1, 3, 4), torch.nan), targets)
    model = ImageClassifier(
        backbone=nn.Flatten(), training_strategy="prototypicalnetworks", training_strategy_kwargs={"ways": 3}
    )
    (found,) = trainer().test(model, DataLoader([episode, episode], batch_size=None), verbose=False)
    assert found["test_accuracy"] == 0


def test_embeddings_that_are_not_finite() -> None:
    model = ImageClassifier(backbone=nn.Flatten(), training_strategy="prototypicalnetworks")
    good = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    with pytest.raises(DataError, match="what was learned is not finite: an example holds NaN"):
        model.adapt(torch.tensor([[1.0, 0.0], [torch.nan, 0.0]]), ["a", "b"])
    predictor = model.adapt(good, ["a", "b"])
    with pytest.raises(DataError, match="the model's answer to input 1 is not a number"):
        predictor.predict(torch.tensor([[1.0, 1.0], [torch.inf, 1.0]]))


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        (
            nn.Sequential(nn.Flatten(), nn.Linear(7, 2)),
            r"Sequential cannot take inputs of shape \(1, 4, 4\): .*image_size",
        ),
        (nn.Sequential(nn.Flatten(2), nn.LSTM(16, 2)), "Sequential returns a tuple, not a tensor"),
    ],
    ids=["size", "tuple"],
)
def test_backbones_that_do_not_suit(backbone: nn.Module, message: str) -> None:
    model = ImageClassifier(backbone=backbone, training_strategy="prototypicalnetworks")
    with pytest.raises(ConfigError, match=message):
        model.adapt(torch.rand(2, 1, 4, 4), ["a", "b"])


def test_checkpoints_of_another_kind_of_strategy(checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match=r"trained with training_strategy=.*backbone=trained.encoder.backbone"):
        ImageClassifier.load_from_checkpoint(checkpoint, training_strategy="nearest_neighbour")


def test_weights_of_another_network(checkpoint: Path) -> None:
    with pytest.raises(DataError, match="are not those of this model with another backbone and backbone_kwargs: "):
        ImageClassifier.load_from_checkpoint(checkpoint, backbone="resnet12", backbone_kwargs=None)


def test_training_goes_on_from_whole_checkpoints_only(train: Path, tmp_path: Path) -> None:
    model, data = classifier(), Images.from_folders(train, **SMALL)
    first = trainer()
    first.fit(model, datamodule=data)
    first.save_checkpoint(tmp_path / "whole.ckpt")
    content = (tmp_path / "whole.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"the checkpoint '.*cut.ckpt' is damaged or cut"):
        trainer().fit(model, datamodule=data, ckpt_path=tmp_path / "cut.ckpt")


def test_a_class_of_which_nothing_can_be_read_is_left_out_by_name(tmp_path: Path) -> None:
    for name in ("ant", "bee", "cow"):
        (tmp_path / name).mkdir()
        for number in range(1 if name == "bee" else 3):
            picture = Image.fromarray(np.full((8, 8, 3), 40 * number + len(name), np.uint8))
            picture.save(tmp_path / name / f"{name}{number}.png")
    (tmp_path / "bee" / "bee0.png").write_bytes(b"")
    with pytest.warns(DataWarning, match="have one example alone: 'bee'"):
        data = Images.from_folders(tmp_path, on_error="skip", **SMALL)
    told = "left out 1 of 3 classes of the train examples, of which no example can be read: 'bee'"
    with pytest.warns(DataWarning, match="skipped 1 of 7 train examples"), pytest.warns(DataWarning, match=told):
        assert data.classes == ("ant", "cow")
    table = data.table("train")
    assert table is not None and table.targets is not None
    assert table.classes == ("ant", "cow") and table.targets.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.num_classes == 2 and list(data.skipped) == [f"'{tmp_path}/bee/bee0.png'"]
    with pytest.warns(DataWarning), pytest.raises(DataError, match="leaves fewer than 2 on a side"):
        Images.from_folders(tmp_path, on_error="skip", val_split=0.5, **SMALL).table("train", by_class=True)
    columns = Table([0, 1, 2], np.array([0, 1, 0], np.int32), ("a", "b", "never"))

    def load(item: int) -> Any:
        if item == 1:
            raise DataError("no")
        return torch.zeros(1)

    with pytest.warns(DataWarning, match="skipped 1 of 3"):
        kept, _ = readable(columns, load, "some")
    with pytest.warns(DataWarning, match="left out 1 of 3 classes of the some, .*: 'b'"):
        assert without_lost_classes(kept, columns, "some").classes == ("a", "never")  # as its data set has it
