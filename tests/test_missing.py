"""Lists, frames and CSV files as they come: one after the other, with numbers for names, with cells missing."""

from __future__ import annotations

import enum
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from quickstudy import DataError, DataModule, DataWarning
from quickstudy.data.table import Table
from quickstudy.data.targets import encode
from quickstudy.image import ImageClassificationData as Images

LABELS = ["cat", "cat", "dog", "dog"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for n in range(4):
        for name in (f"{n}.png", f"{n}"):
            (tmp_path / name).touch()
    return tmp_path


def names(table: Table | None) -> list[str]:
    assert table is not None
    return [Path(str(table.inputs[row])).name for row in range(len(table))]


def labels(table: Table | None) -> list[str]:
    assert table is not None and table.targets is not None
    return [table.classes[code] for code in table.targets]


# ---- what comes one by one


@pytest.mark.parametrize(
    "of",
    [
        lambda files: (file for file in files),
        lambda files: map(str, files),
        lambda files: dict(enumerate(files)).values(),
        lambda files: np.array([str(file) for file in files]),
        lambda files: np.array(files, object),
        pd.Series,
        lambda files: pd.Series(map(str, files)),
        pd.Index,
        tuple,
    ],
)
def test_files_and_targets_of_every_kind(of: Callable[[Any], Any], folder: Path) -> None:
    files = [folder / f"{n}.png" for n in range(4)]
    data = Images.from_files(of(files), of(LABELS), predict_files=of(files))
    assert names(data.table("train")) == names(data.table("predict")) == [file.name for file in files]
    assert labels(data.table("train")) == LABELS


def test_targets_in_a_frame() -> None:
    inputs = torch.zeros(4, 1, 2)
    for targets in (pd.DataFrame({"y": LABELS}), pd.get_dummies(pd.Series(LABELS))):
        assert labels(DataModule.from_tensors(inputs, targets).table("train")) == LABELS
        assert encode(targets).codes.tolist() == [0, 0, 1, 1]
    square = pd.DataFrame({"a": [0, 1], "b": [1, 0]})  # as many columns as rows
    assert labels(DataModule.from_tensors(inputs[:2], square).table("train")) == ["b", "a"]
    holes = pd.DataFrame({"y": [*LABELS[:3], None]})
    with pytest.warns(DataWarning, match="left out row 3"):
        assert labels(DataModule.from_tensors(inputs, holes, on_error="skip").table("train")) == LABELS[:3]


def test_members_of_enumerations_are_the_text_that_they_equal() -> None:
    class Animal(str, enum.Enum):  # noqa: UP042 - as code before Python 3.11 has it
        CAT = "cat"
        DOG = "dog"

    found = encode([Animal.DOG, "cat", Animal.CAT])
    assert (found.classes, found.codes.tolist()) == (("cat", "dog"), [1, 0, 0])


def test_arrays_of_another_machine() -> None:
    values = np.arange(8, dtype=">f4").reshape(4, 1, 2)
    table = DataModule.from_numpy(values, LABELS).table("train")
    assert table is not None and torch.equal(table.inputs[:], torch.arange(8.0).reshape(4, 1, 2))  # type: ignore[index]


def test_keys_of_a_mapping_are_a_list_of_files(folder: Path) -> None:
    known = {folder / "1.png": "cat", folder / "2.png": "cat"}
    assert names(Images.from_files(known.keys(), known.values()).table("train")) == ["1.png", "2.png"]


def test_a_glob_is_a_list_of_files(folder: Path) -> None:
    assert sorted(names(Images.from_files(predict_files=folder.glob("*.png")).table("predict"))) == [
        f"{n}.png" for n in range(4)
    ]


def test_what_has_no_order_is_refused(folder: Path) -> None:
    file = folder / "1.png"
    for files in ({file}, frozenset([file])):
        with pytest.raises(DataError, match=r"the files are a set, which has no order: give a list, .* sorted\(...\)"):
            Images.from_files(predict_files=files)
    with pytest.raises(DataError, match=r"the files are a mapping: give lists, of its keys list\(...\) and"):
        Images.from_files({file: "cat"}, ["cat"])
    for targets in ({"cat"}, frozenset(["cat"])):
        with pytest.raises(DataError, match="the targets are a set"):
            Images.from_files([file], targets)


def test_tensors_one_by_one() -> None:
    rows = [torch.full((1, 2, 2), float(n)) for n in range(3)]
    for given in (rows, tuple(rows), iter(rows), (row.numpy() for row in rows)):
        table = DataModule.from_tensors(given, (name for name in "aab"[:3].replace("b", "a"))).table("train")
        assert table is not None
        assert torch.equal(torch.as_tensor(table.inputs), torch.stack(rows))
    with pytest.raises(DataError, match=r"in the train data, expected tensors of one shape, and these have 2, such as"):
        DataModule.from_tensors([torch.zeros(1, 2), torch.zeros(1, 3)], ["a", "a"])
    with pytest.raises(DataError, match=r"expected a tensor or array \[N, C, ...\], not list"):
        DataModule.from_tensors((row for row in [[1.0]]), ["a"])


# ---- columns


@pytest.mark.parametrize("fields", [(0, 1), ("0", "1"), (np.int64(0), np.int64(1))], ids=repr)
def test_columns_that_are_numbers(fields: Any, folder: Path) -> None:
    frame = pd.DataFrame([["1.png", "cat"], ["2.png", "dog"]])
    data = Images.from_data_frame(*fields, train_data_frame=frame, train_images_root=folder)
    assert labels(data.table("train")) == ["cat", "dog"]
    several = pd.DataFrame([["1.png", 0, 1], ["2.png", 1, 1]])
    data = Images.from_data_frame(fields[0], [1, 2], train_data_frame=several, train_images_root=folder)
    assert data.classes == ("1", "2")


@pytest.mark.parametrize("numbers", [[1, 2], [1.0, 2.0], ["1", "2"], np.array([1, 2], np.uint8)], ids=repr)
def test_files_that_are_named_by_numbers(numbers: Any, folder: Path) -> None:
    frame = pd.DataFrame({"file": numbers, "label": ["cat", "dog"]})
    data = Images.from_data_frame("file", "label", train_data_frame=frame, train_images_root=folder)
    assert names(data.table("train")) == ["1", "2"]


def test_a_column_that_stands_twice(folder: Path) -> None:
    told = r"in the train data, the table has 2 columns 'label': give each a name of its own"
    frame = pd.DataFrame([["1.png", "cat", "dog"]], columns=["file", "label", "label"])
    with pytest.raises(DataError, match=told):
        Images.from_data_frame("file", "label", train_data_frame=frame, train_images_root=folder)
    (folder / "t.csv").write_text("file,label,label\n1.png,cat,dog\n", "utf-8")
    with pytest.raises(DataError, match=told):
        Images.from_csv("file", "label", train_file=folder / "t.csv")


# ---- CSV files of everybody


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"file;label\n1.png;cat\n", r"no column 'file', since its cells are separated by ';' .*sep=';'"),
        (b"file\tlabel\n1.png\tcat\n", r"no column 'file', since its cells are separated by '\\t'"),
        (b"1.png,cat\n2.png,dog\n", r"no column 'file'. It has: 1.png, cat. Its first line looks like an ex"),
        (b"sep=;\nfile;label\n1.png;cat\n", r"no column 'file', since its cells are separated by ';'"),
        (b",label\n1.png,cat\n", r"no column 'file'. It has: \(one without a name\), label$"),
        ("file,label\n1.png,café\n".encode("latin-1"), r"t.csv' cannot be .* not UTF-8 text .* encoding='cp1252'"),
        (b"PK\x03\x04\xff\xfe a spreadsheet", "t.csv' cannot be read as a CSV file"),
        (b"file,label\n1.png,cat,x\n2.png,dog,y\n", "t.csv' cannot be read as a CSV file: Length of header"),
        (b"file,label\n1.png,cat\n2.png,dog,x\n", "t.csv' cannot be read as a CSV file: .*line 3"),
        (b"file,label\n", "the train data is empty"),
    ],
    ids=lambda value: "" if isinstance(value, str) else repr(value),
)
def test_csv_files_that_cannot_serve(content: bytes, told: str, folder: Path) -> None:
    (folder / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=told):
        Images.from_csv("file", "label", train_file=folder / "t.csv")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_csv_files_in_every_unicode(encoding: str, folder: Path) -> None:
    text = 'file,label\r\n1.png,café\r\n\r\n2.png,"a, b"\r\n'
    (folder / "t.csv").write_bytes(text.encode(encoding))
    data = Images.from_csv("file", "label", train_file=folder / "t.csv")
    assert labels(data.table("train")) == ["café", "a, b"]


# ---- what is missing


def frame_of(files: Any, targets: Any) -> Callable[..., DataModule]:
    def door(root: Path, **options: Any) -> DataModule:
        frame = pd.DataFrame({"file": files, "label": targets})
        return Images.from_data_frame("file", "label", train_data_frame=frame, train_images_root=root, **options)

    return door


def csv_of(lines: str) -> Callable[..., DataModule]:
    def door(root: Path, **options: Any) -> DataModule:
        (root / "t.csv").write_text(lines, "utf-8")
        return Images.from_csv("file", "label", train_file=root / "t.csv", **options)

    return door


FILES = [f"{n}.png" for n in range(4)]
HOLES: dict[str, tuple[Callable[..., DataModule], str]] = {
    "None": (frame_of(FILES, ["cat", None, "cat", "dog"]), "target 1 is .* missing in row 1"),
    "NaN": (frame_of(FILES, [1, np.nan, 1, 2]), "target 1 is nan: .* missing in row 1"),
    "NA": (frame_of(FILES, pd.array([1, None, 1, 2], "Int64")), "target 1 is (nan|<NA>): .* missing in row 1"),
    "NaT": (frame_of(FILES, ["cat", pd.NaT, "cat", "dog"]), "target 1 is .* missing in row 1"),
    "category": (frame_of(FILES, pd.Categorical(["cat", None, "cat", "dog"])), "target 1 is .* missing in row 1"),
    "empty": (frame_of(FILES, ["cat", "", "cat", "dog"]), "target 1 is '': .* missing in row 1"),
    "blank": (frame_of(FILES, ["cat", " ", "cat", "dog"]), "target 1 is '': .* missing in row 1"),
    "file": (frame_of(["0.png", None, "2.png", "3.png"], ["cat", "x", "cat", "dog"]), "file 1 is .* missing in row 1"),
    "number": (frame_of([0, np.nan, 2, 3], ["cat", "x", "cat", "dog"]), "file 1 is nan: .* missing in row 1"),
    "csv label": (csv_of("file,label\n0.png,cat\n1.png,\n2.png,cat\n3.png,dog\n"), "target 1 is '': .* in row 1"),
    "csv file": (csv_of("file,label\n0.png,cat\n,x\n2.png,cat\n3.png,dog\n"), "file 1 is '': .* missing in row 1"),
    "csv number": (csv_of("file,label\n0.png,10\n1.png,\n2.png,10\n3.png,2\n"), "target 1 is '': .* in row 1"),
    "short row": (csv_of("file,label\n0.png,cat\n1.png\n2.png,cat\n3.png,dog\n"), "target 1 is .* missing in row 1"),
    "list": (
        lambda root, **options: Images.from_files(
            [root / name for name in FILES], ["cat", None, "cat", "dog"], **options
        ),
        "target 1 is None: .* missing in row 1",
    ),
    "tensors": (
        lambda root, **options: DataModule.from_tensors(torch.zeros(4, 1), np.array([1, np.nan, 1, 2]), **options),
        "target 1 is nan: .* missing in row 1",
    ),
}


@pytest.mark.parametrize("hole", HOLES)
def test_what_is_missing_is_named_or_left_out(hole: str, folder: Path) -> None:
    door, told = HOLES[hole]
    advice = "Fill in what is missing, or leave it out: on_error='skip'"
    with pytest.raises(DataError, match=f"in the train data, {told}.*{advice}"):
        door(folder)
    with pytest.warns(DataWarning) as warned:
        data = door(folder, on_error="skip")
    assert "left out row 1, where the file or the label is missing" in [str(each.message) for each in warned]
    assert data.skipped == {"row 1 of the train data": "its file or its label is missing"}
    table = data._tables["train"]
    assert table.targets is not None and table.targets.tolist() in ([0, 0, 1], [1, 1, 0])
    if hole == "csv number":
        assert table.classes == ("2", "10")
    if hole not in ("tensors", "number"):
        assert names(table) == ["0.png", "2.png", "3.png"]


def test_several_columns_with_holes(folder: Path) -> None:
    frame = pd.DataFrame({"file": FILES, "red": [0, 1, np.nan, 1], "big": [1, 1, 0, None]})
    with pytest.raises(DataError, match=r"target 2 is .* missing in 2 rows: 2, 3"):
        Images.from_data_frame("file", ["red", "big"], train_data_frame=frame, train_images_root=folder)
    (folder / "t.csv").write_text("file,red,big\n0.png,0,1\n1.png,1,\n2.png,1,1\n", "utf-8")
    with pytest.warns(DataWarning, match="left out row 1"):
        data = Images.from_csv("file", ["red", "big"], train_file=folder / "t.csv", on_error="skip")
    assert data._tables["train"].targets.tolist() == [[0, 1], [1, 1]]  # type: ignore[union-attr]


def test_files_that_are_not_there_are_skipped_too(folder: Path) -> None:
    from PIL import Image

    Image.new("L", (4, 4)).save(folder / "0.png")
    data = Images.from_files([folder / "0.png", folder / "gone.png"], ["cat", "cat"], on_error="skip")
    with pytest.warns(DataWarning, match="skipped 1 of 2 train examples that cannot be read, the first: '.*gone.png'"):
        assert len(data.table("train") or ()) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [name.split("/")[-1] for name in data.skipped] == ["gone.png'"]
