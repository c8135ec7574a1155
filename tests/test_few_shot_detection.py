"""Objects of classes that a detector was not trained on, in two stages; the second trains the last layers alone."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quickstudy import ConfigError, DataError, PartPredictor, Trainer
from quickstudy.batches import stack
from quickstudy.image import ImageClassifier, ObjectDetectionData, ObjectDetector
from quickstudy.kinds.parts import Parts
from quickstudy.model import saved_model
from quickstudy.nets.cosine import CosinePredictor, of_other_classes
from quickstudy.nets.regions import Proposed

QUIET: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
COLOURS = {"red": 0, "green": 1, "blue": 2}


class Maps(nn.Module):
    """Feature maps of strides 4 and 8."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 16, 4, 4), nn.BatchNorm2d(16), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU())

    def forward(self, pixels: Tensor) -> list[Tensor]:
        fine = self.first(pixels)
        return [fine, self.second(fine)]


def squares(count: int, *names: str, seed: int = 0) -> tuple[list[Any], list[Any]]:
    """Dark pictures with a square of some colour each, in turn, and where it is."""
    generator = np.random.default_rng(seed)
    pictures, targets = [], []
    for number in range(count):
        name, (x, y) = names[number % len(names)], generator.integers(0, 36, 2)
        picture = np.full((64, 64, 3), 30, np.uint8)
        picture[y : y + 28, x : x + 28, COLOURS[name]] = 250
        pictures.append(picture)
        targets.append({"boxes": [[x, y, x + 28, y + 28]], "labels": [name]})
    return pictures, targets


def data(count: int, *names: str, seed: int = 0) -> ObjectDetectionData:
    pictures, targets = squares(count, *names, seed=seed)
    return ObjectDetectionData.from_images(
        train_images=pictures, train_targets=targets, batch_size=4, image_size=64, seed=0
    )


@pytest.fixture(scope="module")
def base() -> ObjectDetector:
    """A detector of red and green squares."""
    torch.manual_seed(0)
    options: dict[str, Any] = {
        "detector": "faster_rcnn",
        "width": 16,
        "most": 10,
        "classifier": "cosine",
        "min_score": 1e-3,
    }
    model = ObjectDetector(backbone=Maps(), learning_rate=3e-3, **options)
    Trainer(max_epochs=1, **QUIET).finetune(model, datamodule=data(8, "red", "green"))
    return model


def test_the_second_stage_trains_the_last_layers_alone_and_keeps_known_classes(
    base: ObjectDetector, tmp_path: Path
) -> None:
    model = copy.deepcopy(base)
    Trainer(max_epochs=0, **QUIET).finetune(model, datamodule=data(4, "green", "blue"), strategy="tfa")
    assert model.classes == ("blue", "green")
    rows, before = (one.head.last.cls_score.weight for one in (model, base))  # type: ignore[union-attr]
    assert torch.equal(rows[[0, 2]], before[[0, 1]]) and not torch.equal(rows[1], before[2])  # ground; blue is new
    trainer = Trainer(max_epochs=1, **QUIET)
    trainer.finetune(model, datamodule=data(4, "green", "blue", seed=1), strategy="tfa")
    changed = [
        name
        for name, value in model.state_dict().items()
        if name in base.state_dict() and not torch.equal(value, base.state_dict()[name])
    ]
    assert changed and all("box_predictor" in name for name in changed)
    assert all(parameter.requires_grad for parameter in model.parameters())
    pictures, _ = squares(2, "green", "blue", seed=2)
    path = tmp_path / "model.ckpt"
    trainer.save_checkpoint(path)
    read = ObjectDetector.load_from_checkpoint(path, backbone=Maps())
    assert read.classes == ("blue", "green")
    assert read.predictor().predict(pictures) == model.predictor().predict(pictures)


@pytest.mark.parametrize("kind", ["cosine", "linear"])
def test_last_layers_of_other_classes_answer_for_those_that_stay_as_before(kind: str) -> None:
    detection = pytest.importorskip("torchvision.models.detection.faster_rcnn")
    before = CosinePredictor(6, 4) if kind == "cosine" else detection.FastRCNNPredictor(6, 4)
    features = torch.randn(5, 6)
    after = of_other_classes(before, 5, {2: 3, 5: 1})
    (logits, boxes), (known, moved) = after(features), before(features)
    assert logits.shape == (5, 6) and boxes.shape == (5, 24)
    torch.testing.assert_close(logits[:, [0, 2, 5]], known[:, [0, 3, 1]])
    torch.testing.assert_close(boxes.view(5, 6, 4)[:, [0, 2, 5]], moved.view(5, 4, 4)[:, [0, 3, 1]])


def test_cosines_do_not_depend_on_lengths() -> None:
    predictor, features = CosinePredictor(6, 3, scale=10.0), torch.randn(4, 6)
    logits = predictor(features)[0]
    torch.testing.assert_close(predictor(3 * features)[0], logits)
    assert logits.abs().max() <= 10


def test_what_has_no_second_stage_is_told(base: ObjectDetector) -> None:
    few, trainer = data(4, "blue"), Trainer(max_epochs=1, **QUIET)
    with pytest.raises(ConfigError, match="train the detector first"):
        trainer.finetune(ObjectDetector(backbone=Maps(), detector="faster_rcnn"), datamodule=few, strategy="tfa")
    with pytest.raises(ConfigError, match=r"classifier='cosine' is of the regions.*detector='faster_rcnn'"):
        ObjectDetector(backbone=Maps(), classifier="cosine")
    dense = ObjectDetector(backbone=Maps(), detector="retinanet", width=16, learning_rate=1e-3)
    trainer.finetune(dense, datamodule=few)
    with pytest.raises(ConfigError, match=r"trains the last layers of regions, and retinanet has none"):
        trainer.finetune(dense, datamodule=few, strategy="tfa")
    with pytest.raises(ConfigError, match="is of objects, by"):
        trainer.finetune(ImageClassifier(2, backbone="conv4"), datamodule=few, strategy="tfa")


def test_a_class_is_added_without_training_and_forgotten(base: ObjectDetector) -> None:
    pictures, targets = squares(4, "green", "blue", seed=3)
    predictor = base.adapt(pictures, targets)
    assert [*predictor.classes_] == ["background", "blue", "green"]
    before = predictor.predict(pictures)
    red, boxes = squares(2, "red", seed=4)
    predictor.add_class("red", red, [one["boxes"] for one in boxes])
    assert [*predictor.classes_] == ["background", "blue", "green", "red"] and predictor.counts_["red"] == 2
    assert predictor.kind.classes == ("background", "blue", "green", "red")
    assert predictor.remove_class("red").predict(pictures) == before
    told = predictor.scores(pictures, targets)
    assert 0 <= told["map_50"] <= told["proposal_recall"] <= 1


def test_regions_of_objects_are_told_by_what_they_show(base: ObjectDetector) -> None:
    """Given the boxes, colours that the detector never saw are told apart."""
    predictor = base.adapt(*squares(6, "blue", "red", seed=5))
    kind, encoder = predictor.kind, predictor.knowledge.encoder
    pictures, targets = squares(6, "red", "blue", seed=6)
    inputs = stack([predictor.modality(picture) for picture in pictures])
    boxes = [torch.tensor(one["boxes"]).float() for one in targets]
    levels = encoder.backbone.pyramid(encoder.maps(inputs))
    features = encoder.backbone.features(levels, boxes, inputs["size"])
    logits = predictor.knowledge.algorithm.answer(encoder, predictor.knowledge.learned, features)
    assert [kind.classes[code] for code in logits.argmax(1).tolist()] == [one["labels"][0] for one in targets]
    torch.testing.assert_close(features.norm(dim=1), torch.ones(6, dtype=features.dtype))


def test_what_was_learned_of_regions_is_saved_with_the_detector(tmp_path: Path) -> None:
    options: dict[str, Any] = {"detector": "faster_rcnn", "width": 16, "most": 5, "min_score": 1e-3}
    model = ObjectDetector(backbone="mobilenetv3_small_050", pretrained=False, **options)
    Trainer(max_epochs=0, **QUIET).finetune(model, datamodule=data(4, "green", "blue"))
    pictures, targets = squares(3, "green", "blue", "red", seed=3)
    predictor = model.adapt(pictures, targets)
    predictor.save(tmp_path / "model")
    read = saved_model(tmp_path / "model")
    assert isinstance(read, PartPredictor) and read.predict(pictures) == predictor.predict(pictures)
    told = read.kind.in_json(read.rank(pictures[:1])[0])
    assert {"label", "score", "box"} <= told["objects"][0].keys()
    coco = read.kind.coco(read.rank(pictures), ["a.png", "b.png", "c.png"])
    assert len(coco["annotations"]) == sum(map(len, read.predict(pictures)))


def test_regions_of_nothing_known_are_unknown(base: ObjectDetector) -> None:
    kind = base.adapt(*squares(4, "green", "blue", seed=3)).kind
    boxes = [torch.tensor([[0.0, 0, 20, 20], [30, 30, 50, 50], [0, 30, 20, 50]])]
    parts = Parts(torch.zeros(3, 2), torch.zeros(3), Proposed(boxes, [torch.ones(3)]))
    shown = torch.tensor([[64, 64]])
    logits = torch.tensor([[0.0, 9, 0], [0, 9, 0], [9, 0, 0]])
    outputs = kind.assembled(logits, parts, {"size": shown, "full": shown}, torch.tensor([False, True, False]))
    (answer,) = kind.answers(outputs, "objects")
    assert sorted((one["label"], one["box"][0]) for one in answer if one["score"] > 0.5) == [
        ("blue", 0.0),
        ("unknown", 30.0),
    ]


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([{"boxes": [[1, 1, 9, 9]], "labels": ["background"]}], "is what lies beside all objects"),
        ([{"boxes": [], "labels": []}], "no target has an object"),
        ([{"boxes": [[9, 1, 1, 9]], "labels": ["a"]}], r"box 0 is \[9"),
        ([{"boxes": [[1, 1, 9, 9]], "labels": 5}], "labels of boxes are a list with one for each box, and not 5"),
        ([{"boxes": [[1, 1, 9, 9]], "labels": [["a"]]}], "a label of a box is a name or a whole number"),
        ([{"boxes": [[1, 1, 9, 9]], "labels": ["a", "b"]}], "1 boxes and 2 labels: each needs one"),
        ([{"boxes": [[1, 1, 9, 9]], "labels": ["a"], "crowd": [0, 1]}], r"1 boxes, and crowd=\[0, 1\]"),
    ],
)
def test_boxes_that_cannot_be_learned_are_told(base: ObjectDetector, targets: Any, message: str) -> None:
    pictures, _ = squares(1, "red")
    with pytest.raises(DataError, match=message):
        base.adapt(pictures, targets)


def test_boxes_of_one_class_are_asked_for(base: ObjectDetector) -> None:
    predictor = base.adapt(*squares(2, "green", "blue"))
    pictures, _ = squares(1, "red")
    two = [{"boxes": [[1, 1, 9, 9], [20, 20, 30, 30]], "labels": ["a", "b"]}]
    with pytest.raises(DataError, match="these boxes are of 2 classes"):
        predictor.add_class("a", pictures, two)
    with pytest.raises(ConfigError, match="train it first"):
        ObjectDetector(backbone=Maps(), detector="faster_rcnn").adapt(pictures, two)
