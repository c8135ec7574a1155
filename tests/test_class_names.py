"""Which class is which: names of data sets' numbers, labels as they are written, two forms of one name."""

from __future__ import annotations

import shutil
import unicodedata
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import ConcatDataset, Dataset, Subset, random_split

from quickstudy import DataError, DataModule, DataWarning
from quickstudy.data.frames import csv_frame
from quickstudy.data.splitting import check_disjoint
from quickstudy.data.table import Table
from quickstudy.data.targets import encode
from quickstudy.data.torch_sets import dataset_table
from quickstudy.errors import closest
from quickstudy.image import ImageClassificationData as Images

COMPOSED, SPLIT = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


class Folder(Dataset[Any]):
    """A data set like torchvision's ``ImageFolder``: numbers for targets, their names in an attribute."""

    def __init__(self, targets: Any, known: bool = True, **attributes: Any) -> None:
        self._targets = list(targets)
        self.read = 0
        if known:
            self.targets = targets
        for name, value in attributes.items():
            setattr(self, name, value)

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, row: int) -> Any:
        self.read += 1
        target = self._targets[row]
        change = getattr(self, "target_transform", None)
        return torch.full((1, 2, 2), row, dtype=torch.uint8), change(target) if change else target


def table(dataset: Any) -> Table:
    return dataset_table(dataset)


def named(dataset: Any) -> list[str]:
    found = table(dataset)
    assert found.targets is not None
    return [found.classes[code] for code in found.targets.tolist()]


# ---- torch data sets


@pytest.mark.parametrize(
    "attributes",
    [
        {"classes": ["yak", "ant"]},
        {"classes": ("yak", "ant")},
        {"classes": np.array(["yak", "ant"])},
        {"classes": {0: "yak", 1: "ant"}},
        {"class_to_idx": {"ant": 1, "yak": 0}},
        {"classes": ["of no", "use"], "class_to_idx": {"ant": 1, "yak": 0}},
    ],
    ids=repr,
)
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_numbers_are_named_by_the_data_set(attributes: dict[str, Any], known: bool, kind: Any) -> None:
    dataset = Folder(kind([1, 0, 1, 1, 0]), known, **attributes)
    found = table(dataset)
    assert found.classes == ("yak", "ant")  # as the data set counts them
    assert found.targets is not None and found.targets.tolist() == [1, 0, 1, 1, 0]
    assert found.label_type == "str"
    assert dataset.read == (0 if known else 5)


def test_a_class_without_examples_keeps_its_number_and_makes_no_episodes() -> None:
    found = table(Folder([2, 0, 2, 0], classes=["a", "b", "c"]))
    assert found.classes == ("a", "b", "c")
    assert found.without_empty_classes().classes == ("a", "c")


def test_a_test_set_that_lacks_a_class_is_judged_by_names() -> None:
    data = DataModule.from_datasets(
        Folder([0, 0, 1, 1, 2, 2], classes=["a", "b", "c"]), None, Folder([0, 0, 1, 1], classes=["a", "c"])
    )
    test = data.table("test")
    assert test is not None
    assert test.with_classes(data.classes).targets.tolist() == [0, 0, 2, 2]  # type: ignore[union-attr]


def test_data_sets_of_other_classes_share_none() -> None:
    plan = {"train": ["a", "b"], "val": ["c", "d"]}
    tables = {split: table(Folder([0, 0, 1, 1], classes=classes)) for split, classes in plan.items()}
    check_disjoint({split: found.classes for split, found in tables.items()})


def test_parts_of_data_sets_are_looked_through() -> None:
    whole = Folder([0, 1, 2, 0, 1, 2, 0, 1], classes=["c", "b", "a"])
    assert named(Subset(whole, [2, 0, 4])) == ["a", "c", "b"]
    assert named(Subset(Subset(whole, [1, 3, 5, 7]), [2, 0, 1])) == ["a", "b", "c"]  # in its order
    some, rest = random_split(whole, [5, 3], torch.Generator().manual_seed(0))
    assert named(some) == ["cba"[code] for code in np.array(whole.targets)[some.indices]]
    assert len(named(rest)) == 3
    other = Folder([1, 0, 1], classes=["b", "d"])
    both = ConcatDataset([Subset(whole, [0, 1, 2]), other])
    assert named(both) == ["c", "b", "a", "d", "b", "d"]
    assert table(both).classes == ("c", "b", "a", "d")
    assert named(Subset(both, [5, 0, 3])) == ["d", "c", "d"]
    assert whole.read == other.read == 0
    assert table(both).inputs[3][0, 0, 0] == 0


def test_targets_that_items_do_not_have_are_told_when_they_are_read() -> None:
    stale = Folder([0, 1, 2, 0], classes=["c", "b", "a"])
    stale._targets = [0, 1, 0, 0]  # as of an ImageFolder whose ``samples`` were changed, and not its ``targets``
    for dataset, row in (
        (stale, 2),
        (Subset(stale, [0, 2]), 1),
        (ConcatDataset([Folder([1], classes=["a", "b"]), stale]), 3),
    ):
        inputs = table(dataset).inputs
        assert inputs[0].shape == (1, 2, 2)
        with pytest.raises(DataError, match=f"item {row} .* the target 0, and the attribute 'targets' has 2"):
            inputs[row]
        with pytest.raises(DataError, match="the attribute 'targets' has 2"):
            table(dataset).select(np.array([row])).inputs[0]
    assert table(ConcatDataset([Folder([1], False, classes=["a", "b"]), stale])).inputs[0].shape == (1, 2, 2)
    stale.targets = None
    assert named(stale) == ["c", "b", "c", "c"]
    assert table(stale).inputs[2][0, 0, 0] == 2


def test_only_what_belongs_to_a_part_is_read() -> None:
    whole = Folder([0, 1, 2, 0, 1, 2], known=False, classes=["c", "b", "a"])
    assert named(Subset(whole, [5, 0])) == ["a", "c"]
    assert whole.read == 2


def test_numbers_without_names_are_counted_as_before() -> None:
    for dataset in (Folder([10, 2, 10]), ConcatDataset([Folder([10, 2]), Folder([10])]), [(0, 10), (1, 2), (2, 10)]):
        found = table(dataset)
        assert found.classes == ("2", "10")
        assert found.targets is not None and found.targets.tolist() == [1, 0, 1]
        assert found.label_type == "int"


def test_what_is_no_list_of_names_is_left_alone() -> None:
    for attributes in ({"classes": 3}, {"classes": [7, 8]}, {"class_to_idx": {"a": "b"}}, {"classes": None}):
        assert table(Folder([0, 1, 1, 0], **attributes)).classes == ("0", "1")
    assert table(Folder(["x", "y"], classes=["a", "b"])).classes == ("x", "y")  # they are names already
    changed = Folder([0, 1, 1, 0], classes=["a", "b"], target_transform=lambda target: target + 5)
    assert table(changed).classes == ("5", "6")


@pytest.mark.parametrize("name", ["_target_types", "target_types", "target_type", "_target_type"])
def test_names_are_those_of_the_kind_of_targets_that_were_asked_for(name: str) -> None:
    breeds = {
        "classes": ["Abyssinian", "Beagle", "Birman"],
        "class_to_idx": {"Abyssinian": 0, "Beagle": 1, "Birman": 2},
    }
    pets = {**breeds, "bin_classes": ["Cat", "Dog"], "bin_class_to_idx": {"Cat": 0, "Dog": 1}}
    for kind, names in (
        ("category", ("Abyssinian", "Beagle", "Birman")),
        ("binary-category", ("Cat", "Dog")),
        ("identity", ("0", "1")),
    ):
        for given in (kind, [kind]):
            assert table(Folder([1, 0, 1], known=False, **pets, **{name: given})).classes == names
    without = table(Folder([1, 0, 1], known=False, **breeds, **{name: ["binary-category"]}))
    assert without.classes == ("0", "1")
    pet = Folder([1, 0, 1], known=False, **pets, **{name: ["binary-category"]})
    assert named(ConcatDataset([Subset(pet, [0, 2]), pet])) == ["Dog", "Dog", "Dog", "Cat", "Dog"]


def test_columns_of_several_labels_are_named() -> None:
    matrix = torch.tensor([[1, 1, 0], [0, 1, 1]])
    assert table(Folder(matrix, classes=["red", "round", "big"])).classes == ("red", "round", "big")
    lists = [["red"], ["big", "red"]]
    assert table(Folder(lists, classes=["red", "round", "big"])).classes == ("big", "red")


def test_targets_in_a_tensor_of_one(tmp_path: Path) -> None:
    targets = [torch.tensor([1]), torch.tensor([0]), torch.tensor([1])]
    assert named(Folder(targets, known=False, classes=["a", "b"])) == ["b", "a", "b"]
    assert encode(torch.tensor([2.0, 1.0]).bfloat16()).classes == ("1", "2")


def test_names_of_imagenet() -> None:
    dataset = Folder([0, 1, 2, 2], classes=[("crane",), ("great white", "shark"), ("crane",)])
    dataset.class_to_idx = {"crane": 2, "great white": 1, "shark": 1}  # type: ignore[attr-defined]
    assert table(dataset).classes == ("crane (0)", "great white, shark", "crane (2)")


def test_a_number_without_a_name() -> None:
    told = r"item 1 of the data set has the target 3, and its classes have the numbers 0 to 1"
    with pytest.raises(DataError, match=f"in the train data, {told}"):
        DataModule.from_datasets(Folder([0, 3], classes=["a", "b"]))
    with pytest.raises(DataError, match="item 1 of the data set has no target"):
        table([(0, 1), (1, None)])


# ---- text


@pytest.mark.parametrize(
    "labels",
    [
        ["5E1", "50"],
        ["1", "01", "1.0", "1e0", "+1", "0x1"],
        ["9007199254740993", "9007199254740992.0"],
        ["9007199254740993", "9007199254740992"],
        ["99999999999999999999999", "99999999999999999999998"],
        ["True", "FALSE_", "false"],
        ["NaN", "None", "null", "NA", "<NA>", "inf", "-inf"],
        ["-0", "0", "00"],
        ["1_000", "1000"],
        ["١", "1"],
        ["2020-01-02", "2020-1-2"],
    ],
    ids=repr,
)
@pytest.mark.parametrize("door", ["csv", "frame"])
def test_labels_are_named_as_they_are_written(labels: list[str], door: str, tmp_path: Path) -> None:
    files = [f"{n}.png" for n in range(2 * len(labels))]
    for file in files:
        (tmp_path / file).touch()
    frame = pd.DataFrame({"file": files, "label": labels * 2})
    frame.to_csv(tmp_path / "t.csv", index=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "classes differ in case, blanks or width alone")  # an Arabic 1 and ours
        if door == "csv":
            data = Images.from_csv("file", "label", train_file=tmp_path / "t.csv")
        else:
            data = Images.from_data_frame("file", "label", train_data_frame=frame, train_images_root=tmp_path)
    found = data.table("train")
    assert found is not None and found.targets is not None
    assert [found.classes[code] for code in found.targets] == labels * 2


def test_plain_numbers_of_a_csv_file_are_in_their_order(tmp_path: Path) -> None:
    for n in range(4):
        (tmp_path / f"{n}").touch()
    (tmp_path / "t.csv").write_text("file,label\n0,10\n1,-3\n2,2\n3,10\n", "utf-8")
    data = Images.from_csv("file", "label", test_file=tmp_path / "t.csv")  # files that are named by numbers
    assert data.classes == ("-3", "2", "10")
    (tmp_path / "t.csv").write_text("file,red,round\n0,1,0\n1,TRUE,false\n2,1.0,1\n3,0,0\n", "utf-8")
    data = Images.from_csv("file", ["red", "round"], train_file=tmp_path / "t.csv")
    assert data.table("train").targets.tolist() == [[1, 0], [1, 0], [1, 1], [0, 0]]  # type: ignore[union-attr]


def test_a_number_in_two_forms_is_one_class_between_splits(tmp_path: Path) -> None:
    for n in range(6):
        (tmp_path / f"{n}").touch()
    (tmp_path / "plain.csv").write_text("file,label\n0,10\n1,2\n2,10\n3,2\n", "utf-8")
    (tmp_path / "gaps.csv").write_text("file,label\n4,2.0\n5,10.0\n", "utf-8")
    data = Images.from_csv("file", "label", train_file=tmp_path / "plain.csv", test_file=tmp_path / "gaps.csv")
    assert data.classes == ("2", "10")
    assert data.table("test").classes == ("2", "10")  # type: ignore[union-attr]
    assert data.table("test").label_type == "int"  # type: ignore[union-attr]
    (tmp_path / "gaps.csv").write_text("file,label\n4,2.0\n5,10.0\n1,\n", "utf-8")  # as pandas writes it
    assert csv_frame(tmp_path / "gaps.csv", "label")["label"].tolist() == [2, 10, ""]
    for numbers in (np.array([2, 10]), np.array([2.0, 10.0]), pd.Series([2.0, 10.0]), torch.tensor([2.0, 10.0])):
        assert encode(numbers).classes == ("2", "10")
    assert encode(pd.DataFrame({1.0: [0, 1], 2.0: [1, 0]})).classes == ("1", "2")
    assert encode(pd.DataFrame({"1.0": [0, 1], "2.0": [1, 0]})).classes == ("1.0", "2.0")  # as they are written


@pytest.mark.parametrize(("some", "other"), [("1", "1.0"), ("1.0", "1"), ("-3.", "-3.00"), ("0", "0.0")])
def test_texts_that_write_one_number_are_one_class_between_splits(some: str, other: str) -> None:
    told = f"train and val data share classes .1.: '{other}'; '{some}' there is '{other}' here, one number written in"
    with pytest.raises(DataError, match=told):
        check_disjoint({"train": ("a", some), "val": (other, "b")})
    check_disjoint({"train": (some, other), "val": ("1.10", "v1.0", "1.01", "01")})
    asked = Table([0, 1, 2], *encode([other, "cat", other])[:2])
    assert asked.with_classes(("cat", some)).targets.tolist() == [1, 0, 1]  # type: ignore[union-attr]
    several = Table([0, 1], *encode([[other, "cat"], ["cat"]])[:2])
    assert several.with_classes(("cat", some)).targets.tolist() == [[1, 1], [1, 0]]  # type: ignore[union-attr]
    both = Table([0, 1, 2], *encode([other, "cat", some])[:2])
    assert both.with_classes(("cat", some, other)).targets.tolist() == [2, 0, 1]  # type: ignore[union-attr]
    with pytest.raises(DataError, match=f"classes '{other}' are not among the 2 classes of the training data"):
        both.with_classes(("cat", some))
    with pytest.raises(DataError, match="are not among"):
        asked.with_classes(("cat", some, some + "0" if "." in some else some + ".00"))


# ---- two forms of one name


def test_two_forms_of_one_name_are_one_class(tmp_path: Path) -> None:
    assert encode([SPLIT, COMPOSED, "ant"]).classes == ("ant", COMPOSED)
    assert encode([SPLIT, COMPOSED, "ant"]).codes.tolist() == [1, 1, 0]
    assert encode([[SPLIT], [COMPOSED, "ant"]]).classes == ("ant", COMPOSED)
    assert encode(np.eye(2), [SPLIT, "ant"]).classes == (COMPOSED, "ant")
    assert table(Folder([0, 1, 0], classes=["ant", SPLIT])).classes == ("ant", COMPOSED)
    for name in (SPLIT, COMPOSED, "ant"):
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / f"{len(name)}.png").touch()
    if len(list((tmp_path / "in").iterdir())) < 3:
        return  # this system has one form only
    packed = [shutil.make_archive(str(tmp_path / "a"), kind, tmp_path / "in") for kind in ("zip", "tar")]
    for path in (tmp_path / "in", *packed):
        found = Images.from_folders(path).table("train")
        assert found is not None
        assert found.classes == ("ant", COMPOSED)
        assert found.index.counts.tolist() == [1, 2]


def test_leaks_and_fixed_classes_know_both_forms() -> None:
    with pytest.raises(DataError, match=f"the train and val data share classes .1.: '{SPLIT}'"):
        check_disjoint({"train": (COMPOSED, "a"), "val": ("b", SPLIT)})
    written = Table([0, 1, 2], np.array([0, 1, 0], np.int32), (COMPOSED, "ant"))
    old = ("ant", SPLIT)  # as an older checkpoint may have it
    assert written.with_classes(old).targets.tolist() == [1, 0, 1]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["cat", "Cat"], "'Cat' and 'cat'"),
        (["cat", " cat"], "' cat' and 'cat'"),
        (["polar bear", "polar  bear", "polarbear"], "'polar  bear' and 'polar bear' and 'polarbear'"),
        (["straße", "STRASSE"], "'STRASSE' and 'straße'"),
        (["cat", "ｃａｔ"], "'cat' and 'ｃａｔ'"),
        (["cat", "cat\N{NO-BREAK SPACE}"], "'cat' and 'cat.xa0'"),
        (["cat", "cat\N{ZERO WIDTH SPACE}"], "'cat' and 'cat.u200b'"),
        (["x1", "1", " 1"], "' 1' and '1'"),
    ],
    ids=repr,
)
def test_names_that_look_alike_are_told(names: list[str], told: str) -> None:
    with pytest.warns(DataWarning, match=f"classes differ in case, blanks or width alone.*: {told}. If they are one"):
        data = DataModule.from_tensors(torch.zeros(2 * len(names), 1, 2), names * 2)
    assert set(data.classes) == set(names)
    with pytest.warns(DataWarning, match="classes differ in case, blanks or width alone"):  # in two stages as well
        DataModule.from_tensors(
            torch.zeros(2, 1, 2), names[:1] * 2, test_data=torch.zeros(len(names) - 1, 1, 2), test_targets=names[1:]
        )


def test_classes_of_one_example_are_told() -> None:
    with pytest.warns(DataWarning, match="2 of 4 classes of the train data have one example alone: 'ca', 'dgo'. Are"):
        DataModule.from_tensors(torch.zeros(7, 1, 2), ["cat", "dog", "ca", "cat", "dgo", "dog", "cat"])
    DataModule.from_tensors(torch.zeros(3, 1, 2), ["cat", "dog", "yak"])  # one-shot on purpose
    DataModule.from_tensors(test_data=torch.zeros(3, 1, 2), test_targets=["cat", "dog", "dog"])


def test_all_names_that_have_a_word_are_meant() -> None:
    tasks = ["face_detection", "object_detection", "image_classification"]
    assert closest("detection", tasks) == "; did you mean 'face_detection' or 'object_detection'?"
    assert closest("imageclassification", tasks) == "; did you mean 'image_classification'?"
    assert closest("lr", ["learning_rate", "lr_scheduler"]) == "; did you mean 'learning_rate'?"
