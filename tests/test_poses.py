"""Points of persons by a ViTPose of transformers: the package's own answers, of whole pictures and by boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn

from quickstudy import ConfigError, DataError, Trainer
from quickstudy.image import KeypointDetectionData, PoseEstimator
from quickstudy.trained import TrainedModel

POINTS = {0: "nose", 1: "left_eye", 2: "right_eye", 3: "left_hip"}
BOXES = [[[4, 6, 40, 58], [20.5, 10, 60, 50]], [], [[0, 0, 30, 44]]]
QUIET: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    torch.manual_seed(0)
    backbone = {"image_size": [64, 48], "patch_size": [16, 16], "hidden_size": 16, "num_hidden_layers": 1}
    backbone |= {"num_attention_heads": 2, "out_indices": [1], "intermediate_size": 32}
    config = transformers.VitPoseConfig(
        backbone_config=transformers.VitPoseBackboneConfig(**backbone), id2label=POINTS, num_labels=4
    )
    made = transformers.VitPoseForPoseEstimation(config).eval()
    for layer in made.modules():  # as if it had learned something: its maps have peaks
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.2)
    folder = tmp_path_factory.mktemp("vitpose")
    made.save_pretrained(folder)
    transformers.VitPoseImageProcessor(size={"height": 64, "width": 48}).save_pretrained(folder)
    return folder, made


def pictures() -> list[Any]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, shape, np.uint8) for shape in ((64, 80, 3), (50, 50, 3), (90, 40, 3))]


def theirs(folder: Path, made: Any, picture: Any, boxes: Any) -> list[Any]:
    """The package's own answers by boxes of two corners."""
    processor = transformers.VitPoseImageProcessor.from_pretrained(folder)
    sized = [[[x, y, right - x, bottom - y] for x, y, right, bottom in boxes]]
    with torch.no_grad():
        outputs = made(**processor(picture, boxes=sized, return_tensors="pt"))
    (found,) = processor.post_process_pose_estimation(outputs, boxes=sized)
    return list(found)


def check_same(own: Any, expected: Any, size: tuple[int, int]) -> None:
    assert list(own["keypoints"]) == list(POINTS.values())
    told = torch.tensor(list(own["keypoints"].values()))
    largest = max(size)
    torch.testing.assert_close(told[:, :2] / largest, expected["keypoints"].float() / largest, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(told[:, 2], expected["scores"].float(), rtol=1e-5, atol=1e-5)


def test_answers_are_those_of_the_package(ready: tuple[Path, Any], tmp_path: Path) -> None:
    folder, made = ready
    model = PoseEstimator(backbone=str(folder), min_score=1e-6)
    for picture, boxes, own in zip(pictures(), BOXES, model.estimate(pictures(), BOXES), strict=True):
        assert len(own) == len(boxes) and [one["box"] for one in own] == [pytest.approx(box) for box in boxes]
        for one, expected in zip(own, theirs(folder, made, picture, boxes) if boxes else [], strict=True):
            check_same(one, expected, picture.shape[:2])
    predictor = model.predictor()
    found = predictor.predict(pictures())
    for picture, (own,) in zip(pictures(), found, strict=True):
        height, width = picture.shape[:2]
        check_same(own, theirs(folder, made, picture, [[0, 0, width, height]])[0], (height, width))
        assert own["label"] == "person" and own["box"] == [0, 0, width, height]
    predictor.save(tmp_path / "model")
    assert TrainedModel.load(tmp_path / "model").predict(pictures()) == found


def test_it_is_tested_and_not_trained(ready: tuple[Path, Any]) -> None:
    model = PoseEstimator(backbone=str(ready[0]), min_score=1e-6)
    shown = [np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8) for seed in range(3)]
    targets = []
    for (one,) in model.predictor().predict(shown):
        points = [[*place[:2], 2] for place in one["keypoints"].values()]
        targets.append({"boxes": [one["box"]], "labels": ["human"], "keypoints": [points]})
    stages = {"test_images": shown, "test_targets": targets, "train_images": shown, "train_targets": targets}
    data = KeypointDetectionData.from_images(**stages, image_size=64, batch_size=2)
    (told,) = Trainer(**QUIET).test(model, datamodule=data, verbose=False)
    assert told["test_map"] == pytest.approx(1)  # as they are its own answers
    with pytest.raises(ConfigError, match="PoseEstimator is ready, and is not trained here"):
        Trainer(max_epochs=1, **QUIET).fit(model, datamodule=data)


def test_what_is_amiss_is_told(ready: tuple[Path, Any]) -> None:
    model = PoseEstimator(backbone=str(ready[0]))
    with pytest.raises(DataError, match="3 pictures and 1 lists of boxes"):
        model.estimate(pictures(), [[]])
    with pytest.raises(DataError, match=r"box 0 is \[9"):
        model.estimate(pictures()[:1], [[[9, 1, 1, 9]]])
    with pytest.raises(ConfigError, match="takes a ViTPose of transformers by its name or folder"):
        PoseEstimator(backbone="mobilenetv3_small_050", pretrained=False).predictor()
