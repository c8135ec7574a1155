"""Doors: each reads one stage and takes the arguments of four, as users, flags and static checkers know them."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import quickstudy
from quickstudy import DataError, DataModule
from quickstudy.cli.describing import doors_stub
from quickstudy.cli.flags import function_flags
from quickstudy.data.sources import listed_table
from quickstudy.data.stages import Stage, door
from quickstudy.data.table import Table
from quickstudy.image import ImageClassificationData, ImageRegressionData
from quickstudy.training import doors

ROOTS = "train_{0} train_images_root val_{0} val_images_root test_{0} test_images_root predict_{0} predict_images_root"
DATA = "train_data train_targets val_data val_targets test_data test_targets predict_data"
DOORS = {
    "from_folders": "train_folder val_folder test_folder predict_folder folder",
    "from_files": "train_files train_targets val_files val_targets test_files test_targets predict_files",
    "from_tensors": DATA,
    "from_numpy": DATA,
    "from_groups": "train_groups val_groups test_groups predict_groups",
    "from_datasets": "train_dataset val_dataset test_dataset predict_dataset input_field target_fields",
    "from_data_frame": f"input_field target_fields {ROOTS.format('data_frame')}",
    "from_csv": f"input_field target_fields {ROOTS.format('file')}",
    "from_json": f"input_field target_fields {ROOTS.format('file')}",
    "from_benchmark": "name root",
    "from_images": "train_images train_targets val_images val_targets test_images test_targets predict_images",
}
"""Public names, in the order in which they may be given without their names."""


class Lists(DataModule):
    """Made up: lists of numbers."""

    @door
    def from_lists(
        cls, stage: Stage, rows: Sequence[Any], targets: Any, scale: float = 1.0, *, shift: float = 0
    ) -> Table:
        """Read lists.

        Args:
            rows, targets: numbers, and as many targets, per stage.
            scale: what they are multiplied by.
            shift: what is added to all.
        """
        return listed_table([float(row) * scale + shift for row in rows], targets, list, skip=stage.skip)


@pytest.mark.parametrize("name", DOORS)
def test_the_arguments_are_the_published_ones(name: str) -> None:
    parameters = inspect.signature(getattr(ImageClassificationData, name)).parameters
    assert list(parameters) == [*DOORS[name].split(), "options"]
    required = [one.name for one in parameters.values() if one.default is one.empty and one.kind is not one.VAR_KEYWORD]
    assert required == [word for word in ("input_field", "name") if next(iter(parameters)) == word]
    assert {one.kind for one in parameters.values()} == {
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_KEYWORD,
    }


def test_no_door_is_missing() -> None:
    assert [name for name in vars(doors.Doors) if name.startswith("from_")] == [
        name for name in DOORS if name != "from_images"
    ]


def test_static_checkers_are_told_the_same() -> None:
    assert Path(doors.__file__).with_name("door_signatures.pyi").read_text() == doors_stub(), "run scripts/docs"


def test_static_checkers_read_the_bodies_of_all_files() -> None:
    stubs = [path for path in Path(quickstudy.__file__).parent.rglob("*.pyi") if path.with_suffix(".py").exists()]
    assert not stubs, "a stub beside a file is read in its place: no body in the file is checked"


def test_a_table_of_json_is_read_as_one_of_csv(tmp_path: Path) -> None:
    for name in ("1.png", "2.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    rows = ['{"file": "1.png", "kind": 10}', '{"file": "2.png", "kind": 9}']
    tables = {
        "t.csv": "file,kind\n1.png,10\n2.png,9\n",
        "t.jsonl": "\n\n".join(rows),
        "t.json": f"\ufeff[{rows[0]},\n{rows[1]}]",
    }
    found = []
    for name, content in tables.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
        table = ImageClassificationData.from_csv("file", "kind", train_file=tmp_path / name).table("train")
        assert table is not None
        found.append((table.told, table.classes, [str(table.inputs[row]) for row in range(len(table))]))
    assert found[0] == found[1] == found[2]
    for content, message in (
        (b'{"file": "1.png"}\n{"file": \n', "line 2 of '.*t.jsonl' is no JSON: "),
        (b"[1, 2]", "holds no rows: write one object per line"),
        (b"", "holds no rows"),
        (b"\xff", "cannot be read as JSON: it is not UTF-8 text"),
    ):
        (tmp_path / "t.jsonl").write_bytes(content)
        with pytest.raises(DataError, match=message):
            ImageClassificationData.from_json("file", "kind", train_file=tmp_path / "t.jsonl")
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"t\.parquet' cannot be read as Parquet: "):
        ImageClassificationData.from_csv("file", "kind", train_file=tmp_path / "t.parquet")


def test_a_door_of_one_stage_takes_four() -> None:
    data = Lists.from_lists(10, [1, 2], ["a", "b"], 3, test_rows=[5], test_targets=["b"], predict_rows=[7], seed=4)
    found = {stage: list(data.table(stage).inputs) for stage in ("train", "test", "predict")}
    assert found == {"train": [13, 16], "test": [15], "predict": [17]}
    assert data.table("val") is None and data.table("predict").targets is None and data.options == {"seed": 4}
    assert isinstance(data, Lists)


def test_a_door_is_documented_and_has_flags() -> None:
    flags = function_flags(Lists.from_lists)
    assert flags["train_rows"].help == flags["train_targets"].help == "numbers, and as many targets, per stage."
    assert flags["train_scale"].help == "what they are multiplied by."
    assert flags["shift"].default == 0 and flags["predict_scale"].default is None and "predict_targets" not in flags
    assert Lists.from_lists.__doc__.count("train_rows, train_targets, ...: numbers") == 1


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"train_rows": [1]}, "the train data has train_rows but no train_targets: give both"),
        ({"val_targets": [1]}, "the val data has val_targets but no val_rows: give both"),
        ({"train_rows": [1, 2], "train_targets": ["a"]}, "in the train data, 2 inputs but 1 targets"),
        ({"train_rows": [], "train_targets": []}, "in the train data|the train data is empty"),
    ],
)
def test_an_error_names_the_stage(options: dict[str, Any], error: str) -> None:
    with pytest.raises(DataError, match=error):
        Lists.from_lists(**options)


def test_a_missing_argument_is_pythons_error() -> None:
    with pytest.raises(TypeError, match=r"from_csv\(\): missing a required argument: 'input_field'"):
        ImageClassificationData.from_csv(train_file="train.csv")


def test_only_what_is_missing_is_left_out() -> None:
    with pytest.warns(match="left out"):
        data = Lists.from_lists(train_rows=[1, 2, 3], train_targets=["a", None, "b"], on_error="skip")
    np.testing.assert_array_equal(data.table("train").targets, [0, 1])


def test_pictures_in_memory_have_a_door() -> None:
    pixels = [np.full((size, size, 3), 10 * size, np.uint8) for size in (4, 6, 8)]
    pictures = [Image.fromarray(pixels[0]), pixels[1], pixels[2]]
    data = ImageClassificationData.from_images(pictures, ["a", "b", "a"], predict_images=pictures[:1], image_size=5)
    loaded = next(iter(data.predict_dataloader()))
    assert loaded.shape == (1, 3, 5, 5) and loaded.unique().tolist() == [40]
    assert data.classes == ("a", "b") and sorted(data.table("train").targets.tolist()) == [0, 0, 1]
    numbers = ImageRegressionData.from_images(pictures, [0.5, 1.5, 2.5], image_size=5)
    assert numbers.table("train").targets.tolist() == [0.5, 1.5, 2.5]
