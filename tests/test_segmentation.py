"""Targets as large as their inputs: how they are read, moved, filled up, counted and judged, up to a trained model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quickstudy import ConfigError, DataError, DataModule, Trainer
from quickstudy.batches import Batch
from quickstudy.data.samples import of_samples
from quickstudy.data.table import Table
from quickstudy.kinds.metrics import Overlaps
from quickstudy.kinds.segmentation import Segmentation
from quickstudy.modality import Modality
from quickstudy.testing.demands import quiet_trainer
from quickstudy.trained import TrainedModel
from quickstudy.training.task import Task


@dataclass(frozen=True)
class Points(Modality):
    """Points ``[P, 3]``, of any number."""

    def load(self, item: Any) -> Batch:
        return {"points": torch.as_tensor(item).float(), "mask": torch.ones(len(item), dtype=torch.bool)}


class Net(nn.Module):
    """A layer for each point, and the largest of all points."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 16)

    def elements(self, inputs: Batch) -> tuple[Tensor, Tensor]:
        features = self.first(inputs["points"]).relu()
        whole = features.masked_fill(~inputs["mask"][..., None], 0).amax(1, keepdim=True)
        return torch.cat([features, whole.expand_as(features)], -1), inputs["mask"]

    def forward(self, inputs: Batch) -> Tensor:
        return self.elements(inputs)[0].amax(1)


class PointData(DataModule):
    modality = Points()
    answers = Segmentation


class Segmenter(Task):
    modality = Points()
    answers = Segmentation


def clouds(count: int, seed: int = 0) -> tuple[list[Any], list[Any]]:
    """Points, and whether each is above or below, by ids with a hole; that of the lowest is none."""
    generator = np.random.default_rng(seed)
    points = [generator.uniform(-1, 1, (generator.integers(5, 12), 3)).astype(np.float32) for _ in range(count)]
    return points, [np.where(each[:, 2] < -0.8, 255, np.where(each[:, 2] > 0, 7, 3)) for each in points]


def data(count: int = 8, **options: Any) -> PointData:
    table = Table.build(*clouds(count), encode=PointData.encode)
    return PointData(train=table, test=Table.build(*clouds(count, 1), encode=PointData.encode), **options)


def test_targets_come_with_their_inputs_filled_up_and_coded() -> None:
    kind = Segmentation(class_names={3: "below", 7: "above"}, ignore_index=255)
    made = data(batch_size=3)
    kind = kind.meet(made, "fit")
    assert (kind.classes, kind.ids, kind.codes) == (("below", "above"), (3, 7), (0, 1))
    batch = next(iter(made.batch_loader("test", kind=kind)))
    points, ids = clouds(8, 1)
    for row in range(3):
        count = len(points[row])
        assert torch.equal(batch["input"]["points"][row, :count], torch.from_numpy(points[row]))
        asked = torch.from_numpy(ids[row] != 255)
        assert torch.equal(batch["target"]["mask"][row, :count], asked)
        assert not batch["target"]["mask"][row, count:].any()
        labels = torch.from_numpy((ids[row] == 7).astype(np.int64))
        assert torch.equal(batch["target"]["labels"][row, :count][asked], labels[asked])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("cache", ["auto", False])
def test_a_transform_moves_targets_along_the_same_whoever_reads(workers: int, cache: Any) -> None:
    @of_samples
    def some(sample: Mapping[str, Batch]) -> dict[str, Batch]:
        rows = torch.randperm(len(sample["input"]["mask"]))[:4]
        return {name: {key: leaf[rows] for key, leaf in part.items()} for name, part in sample.items()}

    def shifted(example: Batch) -> Batch:
        return {**example, "points": example["points"] + torch.tensor([5.0, 0, 0])}

    made = data(batch_size=4, num_workers=workers, cache=cache, transform={"train": some, "test": shifted})
    kind = Segmentation(ignore_index=255).meet(made, "fit")
    for batch in made.batch_loader("train", kind=kind):
        points, target = batch["input"]["points"], batch["target"]
        assert points.shape == (4, 4, 3)
        assert torch.equal(target["mask"], points[..., 2] >= -0.8)
        assert torch.equal(target["labels"].bool() & target["mask"], points[..., 2] > 0)
    (first, *_), (again, *_) = (list(made.batch_loader("train", kind=kind)) for _ in range(2))
    assert torch.equal(first["input"]["points"], again["input"]["points"])
    assert next(iter(made.batch_loader("test", kind=kind)))["input"]["points"][..., 0].max() > 4
    alone = next(iter(PointData(predict=Table(clouds(4)[0]), transform={"predict": some}).batch_loader("predict")))
    assert alone["points"].shape == (4, 4, 3)


def test_classes_are_those_of_the_training_data_unless_they_are_named() -> None:
    assert Segmentation().meet(data(), "fit").classes == ("3", "7", "255")
    assert Segmentation(ignore_index=[255, 3]).meet(data(), "fit").classes == ("7",)
    named = Table.build(*clouds(2), ["zero", "one"], PointData.encode)
    assert Segmentation().meet(PointData(train=named), "fit").classes == ("zero", "one")
    several = Segmentation(class_names={3: "thing", 7: "thing", 255: "other"}).meet(data(), "fit")
    assert (several.classes, several.codes) == (("thing", "other"), (0, 0, 1))
    with pytest.raises(ConfigError, match="has 2 names and num_classes=3"):
        Segmentation(num_classes=3, class_names=["a", "b"]).meet(data(), "fit")
    balanced = Segmentation(ignore_index=255, class_weights="balanced").meet(data(), "fit")
    ids = np.concatenate(clouds(8)[1])
    counts = np.array([(ids == 3).sum(), (ids == 7).sum()])
    assert balanced.weights == pytest.approx((counts.sum() / (2 * counts)).tolist())


def test_bad_labels_are_named() -> None:
    points, ids = clouds(3)
    kind = Segmentation(num_classes=8).meet(PointData(train=Table.build(points, ids, encode=PointData.encode)), "fit")

    def read(wrong: Any) -> Any:
        table = Table.build(points, [*ids[:2], wrong], encode=PointData.encode)
        return next(iter(PointData(test=table).batch_loader("test", kind=replace(kind, ignore_index=255))))

    with pytest.raises(DataError, match=r"target of input 2: the label 9 is of none of the 8 classes"):
        read(np.full(len(points[2]), 9))
    with pytest.raises(DataError, match=r"target of input 2: labels must be whole numbers.* not NaN"):
        read(np.full(len(points[2]), np.nan))
    with pytest.raises(DataError, match="3 inputs but 2 targets"):
        Table.build(points, ids[:2], encode=PointData.encode)
    with pytest.raises(ConfigError, match="one label of each example, or none"):
        Segmentation().meet(PointData(train=Table.build(points, [0, 1, 1])), "fit")


def test_the_score_is_the_ratio_of_sums_over_examples_and_so_is_its_interval() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (40, 50), generator=generator)
    mask = torch.rand(40, 50, generator=generator) > 0.2
    wrong = torch.rand(40, 50, generator=generator) > torch.rand(40, 1, generator=generator)
    answers = torch.where(wrong, torch.randint(3, (40, 50), generator=generator), labels)
    outputs = {"logits": nn.functional.one_hot(answers, 4).double(), "mask": torch.ones_like(mask)}
    kind = Segmentation(classes=("a", "b", "c", "d"), ids=(0, 1, 2, 3), codes=(0, 1, 2, 3))
    figures = kind.figures(outputs, {"labels": labels, "mask": mask})

    def overlap(code: int, rows: Any) -> float:
        one, other, asked = answers[rows] == code, labels[rows] == code, mask[rows]
        return float((one & other & asked).sum() / ((one | other) & asked).sum())

    measure = Overlaps(kind.classes)
    measure.update(figures)
    found = measure.estimates()
    expected = [overlap(code, slice(None)) for code in range(3)]
    assert [found[f"iou_{name}"].mean for name in "abc"] == pytest.approx(expected)
    assert "iou_d" not in found
    assert found["mean_iou"].mean == pytest.approx(float(np.mean(expected)))
    assert found["element_accuracy"].mean == pytest.approx(float((answers == labels)[mask].double().mean()))
    drawn = torch.randint(40, (2000, 40), generator=generator)
    spread = np.std([np.mean([overlap(code, rows) for code in range(3)]) for rows in drawn[:500]])
    assert found["mean_iou"].ci95 == pytest.approx(2.02 * spread, rel=0.15)
    assert float(kind.settled(figures).mean()) == pytest.approx(found["mean_iou"].mean)


def test_it_trains_tests_goes_on_and_answers_without_lightning(tmp_path: Path) -> None:
    def model() -> Segmenter:
        torch.manual_seed(0)
        return Segmenter(backbone=Net(), ignore_index=255, class_names={3: "below", 7: "above"}, learning_rate=0.05)

    def trainer(folder: str, **options: Any) -> Trainer:
        return quiet_trainer(default_root_dir=tmp_path / folder, resume="auto", **options)

    made, whole = data(16, batch_size=8), model()
    trainer("whole", max_epochs=15).finetune(whole, datamodule=made)
    (figures,) = quiet_trainer().test(whole, datamodule=made, verbose=False)
    assert figures["test_mean_iou"] > 0.8
    assert 0 < figures["test_mean_iou_ci95"] < 0.3
    assert {"test_iou_above", "test_iou_below"} < figures.keys()
    trainer("parts", max_epochs=15, max_steps=13).finetune(model(), datamodule=data(16, batch_size=8))
    rest = model()
    trainer("parts", max_epochs=15).finetune(rest, datamodule=data(16, batch_size=8))
    for one, other in zip(whole.state_dict().values(), rest.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    points, ids = clouds(5, 2)
    trained = whole.predictor()
    trained.save(tmp_path / "model")
    read = TrainedModel.load(tmp_path / "model", backbone=Net(), load=Points())
    assert read.predict(points) == trained.predict(points)
    assert [len(one) for one in trained.predict(points)] == list(map(len, points))
    assert {*trained.predict(points, "classes")[0].tolist()} <= {3, 7}
    assert trained.predict(points, "probabilities")[1].shape == (len(points[1]), 2)
    json.dumps(trained.kind.in_json(trained.rank(points)[0]))
    right = np.concatenate(
        [one.numpy() == own for one, own in zip(trained.predict(points, "classes"), ids, strict=True)]
    )
    assert right[np.concatenate(ids) != 255].mean() > 0.85


def test_few_shot_strategies_say_that_they_learn_whole_examples() -> None:
    with pytest.raises(ConfigError, match="learns a class of whole examples"):
        Segmenter(backbone=Net(), training_strategy="prototypicalnetworks")
