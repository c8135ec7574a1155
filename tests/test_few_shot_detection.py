"""Objects of classes that a detector was not trained on, in two stages; the second trains the last layers alone."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quickstudy import ConfigError, Trainer
from quickstudy.image import ImageClassifier, ObjectDetectionData, ObjectDetector
from quickstudy.nets.cosine import CosinePredictor, of_other_classes

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
    options: dict[str, Any] = {"detector": "faster_rcnn", "width": 16, "most": 10, "classifier": "cosine"}
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
