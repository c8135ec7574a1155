"""Published data sets: small archives of the same layout, and the real ones where QUICKSTUDY_DATA names them."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

import quickstudy.datasets.omniglot as module
from quickstudy.data.splitting import check_disjoint
from quickstudy.data.table import Splits, Table
from quickstudy.datasets import DATASETS, available_datasets
from quickstudy.datasets.cached import cached_tables
from quickstudy.errors import ConfigError, DataError, DataWarning
from quickstudy.image.modality import load_image

omniglot, mini_imagenet, cifar_fs = (DATASETS[name] for name in ("omniglot", "mini_imagenet", "cifar_fs"))
PARTS = ("images_background", "images_evaluation")


def counts(splits: Splits) -> list[tuple[int, int]]:
    return [(len(table.classes), len(table)) for table in splits]


def check(splits: Splits) -> None:
    """Check what holds for every data set: no class in two splits, rows sorted by class, no class empty."""
    check_disjoint({split: table.classes for split, table in splits._asdict().items()})
    for table in splits:
        assert table.targets is not None
        assert (np.diff(table.targets) >= 0).all()
        assert (table.index.counts > 0).all()


def pixels(table: Table) -> torch.Tensor:
    assert isinstance(table.inputs, torch.Tensor)
    return table.inputs


def test_all_are_registered() -> None:
    assert {"omniglot", "mini_imagenet", "cifar_fs"} <= set(available_datasets())


# ---- Omniglot in small: as many characters, two drawings of 4 pixels each


def png(ink: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(~ink).convert("1").save(file, "png")
    return file.getvalue()


def drawings(alphabet: int, character: int) -> np.ndarray:
    """Two images bool [2, 4, 4]: a number in binary, different for every character, and the same turned over."""
    bits = np.array([(alphabet * 40 + character) >> bit & 1 for bit in range(16)], bool).reshape(4, 4)
    return np.stack([bits, ~bits])


def write_omniglot(
    folder: Path, part: str, alphabets: range, characters: int, replace: dict[str, bytes] | None = None
) -> None:
    with zipfile.ZipFile(folder / f"{part}.zip", "w") as archive:
        archive.writestr(f"{part}/", "")
        left = characters
        for alphabet in alphabets:
            for character in range(1, min(40, left) + 1):
                for number, ink in enumerate(drawings(alphabet, character), 1):
                    name = f"A{alphabet:02}/character{character:02}/0001_{number:02}.png"
                    archive.writestr(f"{part}/{name}", (replace or {}).get(name) or png(ink))
            left -= min(40, left)
        archive.writestr(f"__MACOSX/{part}/._A00", "junk")


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("omniglot")
    write_omniglot(folder, PARTS[0], range(30), 964)
    write_omniglot(folder, PARTS[1], range(50, 70), 659)
    return folder


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QUICKSTUDY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_omniglot_has_bright_strokes_sorted_by_class(small: Path) -> None:
    splits = omniglot(small, image_size=4)
    check(splits)
    assert counts(splits) == [(1200, 2400), (100, 200), (323, 646)]
    assert pixels(splits.train).shape == (2400, 1, 4, 4)
    assert pixels(splits.train).dtype == torch.uint8
    for table in splits:
        for code, name in enumerate(table.classes):
            alphabet, character = int(name[1:3]), int(name.removeprefix(f"{name[:3]}/character"))
            expected = drawings(alphabet, character).astype(np.uint8) * 255
            np.testing.assert_array_equal(pixels(table)[table.index.rows(code), 0], expected)


def test_omniglot_pixels_are_means_of_those_they_cover(small: Path) -> None:
    large, half = omniglot(small, image_size=4), omniglot(small, image_size=2)
    means = torch.nn.functional.avg_pool2d(pixels(large.test).double(), 2)
    assert (pixels(half.test).double() - means).abs().max() < 1  # Pillow rounds after each axis


def test_omniglot_rotations_are_more_training_classes(small: Path) -> None:
    plain, turned = omniglot(small, image_size=4), omniglot(small, image_size=4, rotations=True)
    check(turned)
    assert counts(turned) == [(4800, 9600), (100, 200), (323, 646)]
    assert turned.val.classes == plain.val.classes
    assert turned.test.classes == plain.test.classes
    for turns in range(4):
        suffix = f"/rot{90 * turns}" if turns else ""
        assert turned.train.classes[1200 * turns : 1200 * (turns + 1)] == tuple(n + suffix for n in plain.train.classes)
        rows = pixels(turned.train)[2400 * turns : 2400 * (turns + 1)]
        np.testing.assert_array_equal(rows, np.rot90(pixels(plain.train), turns, (2, 3)))


def test_omniglot_original_split_shares_no_alphabet(small: Path) -> None:
    splits = omniglot(small, image_size=4, split="original")
    check(splits)
    alphabets = [{name.split("/")[0] for name in table.classes} for table in splits]
    assert alphabets[2] == {f"A{alphabet}" for alphabet in range(50, 67)}
    assert alphabets[1] == {"A00", "A06", "A12", "A18", "A24"}
    assert not alphabets[0] & alphabets[1]
    assert len(splits.train.classes) + len(splits.val.classes) == 964
    assert list(splits.train.classes) == sorted(splits.train.classes)


def test_omniglot_is_decoded_once(small: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = omniglot(small, image_size=4)
    (file,) = own_cache.iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(module, "_decode", lambda *_: pytest.fail("decoded again"))
        again = omniglot(small, image_size=4, rotations=True)
        assert again.test.fingerprint == first.test.fingerprint
    content = file.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    for damaged in (content[:middle], flipped):
        file.write_bytes(damaged)
        assert omniglot(small, image_size=4).test.fingerprint == first.test.fingerprint
        assert file.read_bytes() == content


def test_omniglot_of_other_archives_is_decoded_anew(small: Path, own_cache: Path, tmp_path: Path) -> None:
    first = omniglot(small, image_size=4, split="original")
    (tmp_path / f"{PARTS[1]}.zip").write_bytes((small / f"{PARTS[1]}.zip").read_bytes())
    name = "A00/character01/0001_01.png"
    write_omniglot(tmp_path, PARTS[0], range(30), 964, {name: png(np.ones((4, 4), bool))})
    second = omniglot(tmp_path, image_size=4, split="original")
    assert (pixels(second.val)[0] == 255).all()
    assert (pixels(first.val)[0] == 0).any()
    assert len(list(own_cache.iterdir())) == 2


def test_omniglot_works_without_a_cache(small: Path, own_cache: Path) -> None:
    own_cache.write_text("a file where the folder should be")
    with pytest.warns(DataWarning, match=r"images of Omniglot cannot be kept in '.*cache'.*QUICKSTUDY_CACHE") as caught:
        assert counts(omniglot(small, image_size=4))[2] == (323, 646)
    assert len(caught) == 1


def test_omniglot_says_what_is_wrong(small: Path, own_cache: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown split of Omniglot 'vinyal'; did you mean 'vinyals'"):
        omniglot(small, split="vinyal")
    with pytest.raises(ConfigError, match="image_size=0"):
        omniglot(small, image_size=0)
    (tmp_path / f"{PARTS[1]}.zip").write_bytes((small / f"{PARTS[1]}.zip").read_bytes())
    write_omniglot(tmp_path, PARTS[0], range(30), 963)
    with pytest.raises(DataError, match=r"images_background\.zip' has 963 characters .* instead of 964"):
        omniglot(tmp_path, image_size=4)
    name = "A00/character01/0001_01.png"
    write_omniglot(tmp_path, PARTS[0], range(30), 964, {name: b"no image"})
    with pytest.raises(DataError, match=f"{PARTS[0]}/{name}' is a damaged image"):
        omniglot(tmp_path, image_size=4)
    write_omniglot(tmp_path, PARTS[0], range(30), 964, {name: png(np.ones((4, 4), bool))[:-25]})
    with pytest.raises(DataError, match=f"{PARTS[0]}/{name}' is a damaged image"):
        omniglot(tmp_path, image_size=4)
    (tmp_path / f"{PARTS[0]}.zip").write_bytes(b"half an archive")
    with pytest.raises(DataError, match="Is the file complete"):
        omniglot(tmp_path, image_size=4)
    assert not own_cache.exists()


def test_cached_tables_are_whole_or_made_again(tmp_path: Path) -> None:
    one = Table(torch.arange(6, dtype=torch.uint8).view(3, 2), np.array([0, 0, 1], np.int32), ("é", "b"))
    empty = Table(torch.empty(0, 2), np.empty(0, np.int32), ("a",))
    path = tmp_path / "deep" / "file.npz"

    def tables() -> list[Table]:
        return cached_tables(path, "they", ["one", "empty"], lambda: [one, empty])

    tables()
    assert [entry.name for entry in path.parent.iterdir()] == ["file.npz"]
    content = path.read_bytes()
    random = np.random.default_rng(0)
    for position in [None, *random.choice(len(content), 40, replace=False)]:
        if position is not None:
            damaged = bytearray(content)
            damaged[position] ^= int(random.integers(1, 256))
            path.write_bytes(damaged)
        for found, made in zip(tables(), (one, empty), strict=True):
            assert found.fingerprint == made.fingerprint  # classes, targets, types, shapes and values


# ---- folders of classes in small


def write_classes(path: Path, splits: dict[str, int]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for split, count in splits.items():
            for number in range(count):
                for image in range(2):
                    archive.writestr(f"{split}/{split[:2]}{number:02}/{image}.jpg", "not decoded here")


SIZES = {"train": 64, "val": 16, "test": 20}


@pytest.mark.parametrize("name", ["mini_imagenet", "cifar_fs"])
def test_class_folders_are_read_in_place(name: str, tmp_path: Path) -> None:
    if name == "cifar_fs":
        write_classes(tmp_path / "cifar-fs.zip", SIZES)
    else:
        for split, size in SIZES.items():
            write_classes(tmp_path / f"mini-imagenet-{split}.zip", {split: size})
    splits = DATASETS[name](tmp_path)
    check(splits)
    assert counts(splits) == [(64, 128), (16, 32), (20, 40)]
    assert splits.val.classes[:2] == ("va00", "va01")
    assert str(splits.val.inputs[0]).endswith("val/va00/0.jpg")
    assert splits.val.inputs[0].read_bytes() == b"not decoded here"


def test_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    write_classes(tmp_path / "cifar-fs.zip", SIZES | {"val": 15})
    with pytest.raises(DataError, match=r"cifar-fs\.zip/val' has 15 class folders; the val classes are 16"):
        cifar_fs(tmp_path)
    write_classes(tmp_path / "cifar-fs.zip", {"train": 64, "test": 20})
    with pytest.raises(DataError, match="holds no folder 'val'"):
        cifar_fs(tmp_path)


def test_missing_archives_are_named_with_their_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_classes(tmp_path / "mini-imagenet-val.zip", {"val": 16})
    with pytest.raises(DataError) as caught:
        mini_imagenet(tmp_path)
    message = str(caught.value)
    assert f"Put into '{tmp_path}'" in message
    assert "  mini-imagenet-train.zip\n    train/n01234567/0001.jpg: 64 classes of 600 images\n" in message
    assert "mini-imagenet-test.zip" in message
    assert "mini-imagenet-val.zip" not in message
    monkeypatch.setenv("QUICKSTUDY_DATA", str(tmp_path))
    with pytest.raises(DataError, match=rf"CIFAR-FS is incomplete[^$]*Put into '{tmp_path}':\n  cifar-fs\.zip"):
        cifar_fs()


# ---- the real ones


def present(folder: Path, *names: str) -> None:
    absent = [name for name in names if not (folder / name).is_file()]
    if absent:
        pytest.skip(f"{folder} (QUICKSTUDY_DATA) has no {', '.join(absent)}")


def test_omniglot_is_that_of_the_plain_script(data_folder: Path) -> None:
    """Bit for bit, in the same order: what benchmarks compare is the same data. Of pixels, every fifth class."""
    present(data_folder, *(f"{part}.zip" for part in PARTS))
    by_class: dict[str, list[np.ndarray]] = {}
    for part in PARTS:
        with zipfile.ZipFile(data_folder / f"{part}.zip") as archive:
            for name in sorted(name for name in archive.namelist() if name.endswith(".png")):
                drawn = by_class.setdefault(name.rsplit("/", 1)[0], [])
                if len(by_class) % 5 == 1:
                    image = ImageOps.invert(Image.open(io.BytesIO(archive.read(name))).convert("L"))
                    drawn.append(np.asarray(image.resize((28, 28), Image.Resampling.BOX)))
    names = [name.split("/", 1)[1] for name in by_class]
    images = torch.from_numpy(np.stack([np.stack(drawn) for drawn in by_class.values() if drawn]))
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(1))

    splits = omniglot(data_folder, rotations=True)
    check(splits)
    ours = torch.cat([pixels(splits.train)[: 1200 * 20], pixels(splits.val), pixels(splits.test)]).view(-1, 20, 28, 28)
    assert [*splits.train.classes[:1200], *splits.val.classes, *splits.test.classes] == [names[code] for code in order]
    chosen = order % 5 == 0
    assert torch.equal(ours[chosen], images[order[chosen] // 5])
    turned = torch.cat([torch.rot90(ours[:1200], turns, (2, 3)) for turns in range(4)])
    assert torch.equal(pixels(splits.train).view(4800, 20, 28, 28), turned)


def test_omniglot_divisions_stay(data_folder: Path) -> None:
    """A result names its split, so a split never changes, whatever torch does to its generator."""
    present(data_folder, *(f"{part}.zip" for part in PARTS))
    digests = {}
    for split in ("vinyals", "original"):
        splits = omniglot(data_folder, split=split)
        check(splits)
        sizes = {"vinyals": [1200, 100, 323], "original": [787, 177, 659]}[split]
        assert counts(splits) == [(size, 20 * size) for size in sizes]
        digests[split] = [hashlib.sha256("\n".join(table.classes).encode()).hexdigest()[:16] for table in splits]
    assert digests == DIGESTS


DIGESTS = {  # of the class names of train, val and test
    "vinyals": ["a3aee11fc8228c6d", "ceabdfa6b6551d07", "7d098e3119aebe7b"],
    "original": ["84fd8076492592e2", "663507da8184ccc2", "74ef7f7b66c3873a"],
}


@pytest.mark.parametrize(
    ("name", "size", "first"),
    [("mini_imagenet", 84, ("n01532829", "n01855672", "n01930112")), ("cifar_fs", 32, ("apple", "beaver", "baby"))],
)
def test_class_folders_of_the_real_ones(data_folder: Path, name: str, size: int, first: tuple[str, ...]) -> None:
    mini = [f"mini-imagenet-{split}.zip" for split in SIZES]
    present(data_folder, *(mini if name == "mini_imagenet" else ["cifar-fs.zip"]))
    splits = DATASETS[name](data_folder)
    check(splits)
    assert counts(splits) == [(64, 38400), (16, 9600), (20, 12000)]
    assert tuple(table.classes[0] for table in splits) == first
    for table in splits:
        assert (table.index.counts == 600).all()
        assert load_image(table.inputs[len(table) - 1]).shape == (3, size, size)
