"""Glyphs: enough characters in enough faces, no look-alikes across splits, and a cache that survives anything."""

from __future__ import annotations

import unicodedata
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.ft2font import FT2Font
from numpy.typing import NDArray

from quickstudy.data.table import Splits, Table
from quickstudy.datasets import DATASETS
from quickstudy.datasets import glyphs as module
from quickstudy.datasets.glyphs import glyphs
from quickstudy.datasets.scripts import script_of, split_of
from quickstudy.errors import ConfigError, DataError, DataWarning

LOOK_ALIKE = 0.02  # squared distance over the sum of squares; the pairs left nearest to it were looked at by eye


@pytest.fixture(scope="session")
def splits() -> Splits:
    return glyphs()  # into the test run's own cache folder, where the other workers find it


def pictures(table: Table) -> NDArray[np.float32]:
    """Return the images as ``[N, S, S]`` from 0 to 1."""
    return table.inputs[:, 0].numpy().astype(np.float32) / 255


def character(name: str) -> str:
    return unicodedata.lookup(name.split("/", 1)[1])


def characters(splits: Splits) -> list[str]:
    return [character(name) for table in splits for name in table.classes]


@pytest.fixture
def only() -> Callable[..., Splits]:
    """Return a function that draws only a few characters, as if the fonts had no others."""

    def draw(wanted: str, image_size: int = 28) -> Splits:
        faces = [face._replace(characters=face.characters & set(wanted)) for face in module._faces()]
        return module._make(faces, image_size)

    return draw


# ---- what it holds


def test_it_is_registered() -> None:
    assert DATASETS["glyphs"] is glyphs


def test_there_are_enough_characters_in_enough_faces(splits: Splits) -> None:
    counts = [np.bincount(table.targets, minlength=len(table.classes)) for table in splits]
    assert min(count.min() for count in counts) >= 8
    assert sum(map(len, counts)) > 3000
    assert len(counts[1]) >= 100
    assert len(counts[2]) >= 200
    assert len(set(characters(splits))) == sum(map(len, counts))


def test_tables_are_sorted_grey_images(splits: Splits) -> None:
    for table in splits:
        assert table.inputs.dtype == torch.uint8
        assert table.inputs.shape == (len(table.targets), 1, 28, 28)
        assert np.all(np.diff(table.targets) >= 0)
        scripts = [name.split("/", 1)[0] for name in table.classes]
        assert scripts == sorted(scripts)


def test_strokes_are_bright_and_keep_a_margin(splits: Splits) -> None:
    for table in splits:
        images = pictures(table)
        border = np.ones((28, 28), bool)
        border[1:-1, 1:-1] = False
        assert not images[:, border].any()
        assert images.max((1, 2)).min() > 0.1  # a thin dot, averaged over its pixel
        assert np.median(images.max((1, 2))) == 1


def test_held_out_scripts_are_alphabets_of_their_own(splits: Splits) -> None:
    scripts = [Counter(name.split("/")[0] for name in table.classes) for table in splits]
    assert not scripts[0].keys() & scripts[1].keys() | scripts[0].keys() & scripts[2].keys()
    assert not scripts[1].keys() & scripts[2].keys()
    assert scripts[1]["Cyrillic"] >= 100
    assert scripts[2]["Armenian"] >= 50
    assert scripts[2]["Georgian"] >= 100
    assert scripts[2]["Lao"] >= 25


def test_every_image_comes_from_a_font_that_has_the_character(splits: Splits) -> None:
    fonts = Path(matplotlib.get_data_path(), "fonts", "ttf")
    counts = Counter(
        code
        for path in fonts.glob("*.ttf")
        if path.name[:4] in ("Deja", "STIX")
        for code in FT2Font(str(path)).get_charmap()
    )
    for table in splits:
        drawn = np.bincount(table.targets)
        # Fewer only where a font has the character and draws nothing.
        missing = [counts[ord(character(name))] - n for name, n in zip(table.classes, drawn, strict=True)]
        assert min(missing) >= 0
        assert sum(missing) <= 1


def test_held_out_characters_look_different_in_eight_faces(splits: Splits) -> None:
    for table in (splits.val, splits.test):
        images = table.inputs.flatten(1).numpy()
        for code in range(len(table.classes)):
            assert len(np.unique(images[table.targets == code], axis=0)) >= 8


# ---- look-alikes


@pytest.mark.parametrize(("one", "other"), [("val", "train"), ("test", "train"), ("val", "test")])
def test_no_two_characters_of_different_splits_look_alike(splits: Splits, one: str, other: str) -> None:
    tables = splits._asdict()
    first, second = pictures(tables[one]), pictures(tables[other])
    # Summing 2x2 pixels never adds distance, so what is far at 14 pixels is far at 28, at a quarter of the cost.
    coarse = [images.reshape(-1, 14, 2, 14, 2).sum((2, 4)).reshape(-1, 196) / 2 for images in (first, second)]
    energy = [(images**2).sum((1, 2)) for images in (first, second)]
    norms = [(images**2).sum(1) for images in coarse]
    suspects = 0
    for start in range(0, len(first), 500):
        rows = slice(start, start + 500)
        distances = np.add.outer(norms[0][rows], norms[1]) - 2 * coarse[0][rows] @ coarse[1].T
        for left, right in np.argwhere(distances <= LOOK_ALIKE * np.add.outer(energy[0][rows], energy[1])):
            apart = ((first[start + left] - second[right]) ** 2).sum()
            assert apart > LOOK_ALIKE * (energy[0][start + left] + energy[1][right]), tables[one].classes[
                tables[one].targets[start + left]
            ]
            suspects += 1
    assert suspects or (one, other) == ("val", "test")  # else the sieve above is broken


def test_no_character_is_a_variant_of_one_in_another_split(splits: Splits) -> None:
    home = {character(name): split for split, table in splits._asdict().items() for name in table.classes}
    for own, split in home.items():
        for base in unicodedata.normalize("NFKD", own):
            accent = unicodedata.category(base) == "Mn"
            assert accent or home.get(base, split) == split, f"{own} in {split}, {base} in {home[base]}"


def test_no_two_classes_of_a_split_are_one_drawing(splits: Splits) -> None:
    for table in splits:
        classes = [Counter[bytes]() for _ in table.classes]
        homes = defaultdict(set)
        for image, code in zip(table.inputs.numpy(), table.targets.tolist(), strict=True):
            classes[code][image.tobytes()] += 1
            homes[image.tobytes()].add(code)
        pairs = {(a, b) for codes in homes.values() for a in codes for b in codes if a < b}
        for a, b in pairs:
            same = (classes[a] & classes[b]).total()
            assert same < min(classes[a].total(), classes[b].total()), (table.classes[a], table.classes[b])


def test_of_look_alikes_the_plainest_stays(only: Callable[..., Splits]) -> None:
    latin, greek, cyrillic, armenian = "AO", "ΑΟΩ", "АОБ", "ՕՖ"
    variants = "\u00b5\u03bc\u2160I\u2126"  # micro and mu, Roman one and I, the sign for ohm
    kept = characters(only(latin + greek + cyrillic + armenian + variants))
    assert kept == [*"ΩμAIO", "Б", "Ֆ"]


# ---- how it is drawn


def test_sizes_and_places_tell_characters_apart(only: Callable[..., Splits]) -> None:
    splits = only("Oo,'▌▐ÂA")
    ink = {}
    for code, name in enumerate(splits.train.classes):
        first = pictures(splits.train)[splits.train.targets == code][0] > 0.5
        y, x = np.flatnonzero(first.any(1)), np.flatnonzero(first.any(0))
        ink[character(name)] = (y[0], y[-1] + 1, x[0], x[-1] + 1)
    assert ink["O"][0] < ink["o"][0]
    assert ink["'"][1] < ink[","][0]
    assert ink["▌"][3] <= 14 <= ink["▐"][2]
    assert ink["Â"][0] < ink["A"][0]
    assert 14 <= ink["A"][1] - ink["A"][0] <= 20
    assert ink["A"][2] + ink["A"][3] == pytest.approx(28, abs=1)


def test_the_same_fonts_give_the_same_bytes(splits: Splits, only: Callable[..., Splits]) -> None:
    few = only("წჯ")
    again = only("წჯ")
    assert torch.equal(few.test.inputs, again.test.inputs)
    codes = [splits.test.classes.index(name) for name in few.test.classes]
    assert torch.equal(few.test.inputs, splits.test.only(codes).inputs)


def test_every_size_has_the_same_classes_and_faces(only: Callable[..., Splits]) -> None:
    small, large = only("gβЖԱფ∑▖", 28), only("gβЖԱფ∑▖", 84)
    for one, other in zip(small, large, strict=True):
        assert one.classes == other.classes
        assert np.array_equal(one.targets, other.targets)
        assert other.inputs.shape[1:] == (1, 84, 84)
        shrunk = torch.nn.functional.avg_pool2d(other.inputs.float(), 3)
        assert (shrunk - one.inputs.float()).abs().mean() < 8  # of 255: half a pixel's shift at the edges


@pytest.mark.parametrize("image_size", [0, -28, 7])
def test_too_small_is_said(image_size: int) -> None:
    with pytest.raises(ConfigError, match=f"image_size={image_size} is too small"):
        glyphs(image_size=image_size)


def test_missing_fonts_are_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(matplotlib, "get_data_path", lambda: str(tmp_path))
    with pytest.raises(DataError, match="pip install --force-reinstall matplotlib"):
        glyphs(tmp_path)


# ---- the cached file


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, only: Callable[..., Splits]) -> list[int]:
    """Make drawing quick; return the list of sizes that were drawn, as it grows."""
    calls: list[int] = []
    few = only("აბAБ")

    def make(_faces: object, image_size: int) -> Splits:
        calls.append(image_size)
        return few

    monkeypatch.setattr(module, "_make", make)
    return calls


def same(first: Splits, second: Splits) -> bool:
    return all(
        torch.equal(one.inputs, other.inputs)
        and one.inputs.dtype == other.inputs.dtype
        and np.array_equal(one.targets, other.targets)
        and one.targets.dtype == other.targets.dtype
        and one.classes == other.classes
        for one, other in zip(first, second, strict=True)
    )


def test_what_was_drawn_is_read(drawn: list[int], tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    first = glyphs(folder)
    assert same(first, glyphs(folder))
    assert drawn == [28]
    glyphs(folder, image_size=32)
    assert drawn == [28, 32]
    assert len(list(folder.iterdir())) == 2


def test_other_fonts_are_drawn_again(drawn: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    glyphs(tmp_path)
    faces = module._faces()
    monkeypatch.setattr(module, "_faces", lambda: faces[:-1])
    glyphs(tmp_path)
    assert drawn == [28, 28]


def test_a_damaged_file_is_made_again(drawn: list[int], tmp_path: Path) -> None:
    whole = glyphs(tmp_path)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[300] ^= 255
    for damaged in (b"", content[:10], content[: len(content) // 2], content[:-1], bytes(flipped), b"junk" * 999):
        drawn.clear()
        path.write_bytes(damaged)
        assert same(whole, glyphs(tmp_path))
        assert drawn == [28]
        assert path.read_bytes() == content


def test_a_folder_that_cannot_be_written_is_a_warning(drawn: list[int], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.warns(DataWarning, match="cannot be kept in .*QUICKSTUDY_CACHE") as caught:
        splits = glyphs(tmp_path / "file" / "folder")
    assert caught[0].filename == __file__
    assert [len(table.classes) for table in splits] == [1, 1, 2]


def test_many_at_once_do_no_harm(drawn: list[int], tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        every = list(pool.map(lambda _: glyphs(tmp_path), range(16)))
    assert all(same(every[0], one) for one in every)
    assert len(list(tmp_path.iterdir())) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(every[0], glyphs(tmp_path))


# ---- scripts


@pytest.mark.parametrize(
    ("letter", "script", "split"),
    [
        ("a", "Latin", "train"),
        ("ǆ", "Latin", "train"),
        ("ℂ", "Latin", "train"),
        ("Ⅻ", "Latin", "train"),
        ("ﬁ", "Latin", "train"),
        ("ŉ", "Latin", "train"),
        ("ᾧ", "Greek", "train"),
        ("\u00b5", "Greek", "train"),
        ("Ж", "Cyrillic", "val"),
        ("ᵸ", "Cyrillic", "val"),
        ("և", "Armenian", "test"),
        ("ჼ", "Georgian", "test"),
        ("ⴀ", "Georgian", "test"),
        ("ໜ", "Lao", "test"),
        ("✝", "Dingbats", "train"),
        ("7", "Basic Latin", "train"),
        ("⠿", "Braille Patterns", "train"),
        ("\u0301", "Combining Diacritical Marks", "train"),
        ("฿", "Other", "train"),
    ],
)
def test_scripts(letter: str, script: str, split: str) -> None:
    assert script_of(letter) == script
    assert split_of(script) == split
