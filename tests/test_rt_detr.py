"""RT-DETR over a backbone's maps: its loss and answers are the package's, every weight has one owner, and it learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from quickstudy import ConfigError, MissingPackageError, Trainer
from quickstudy.image import ObjectDetectionData, ObjectDetector
from quickstudy.nets import detection_transformer
from quickstudy.nets.detection_transformer import RtDetr
from quickstudy.trained import TrainedModel
from test_detection import NAMES, SIDE, Maps, scenes

CHANNELS, STRIDES = (8, 12, 16, 20), (4, 8, 16, 32)


def head() -> RtDetr:
    torch.manual_seed(0)
    return RtDetr(CHANNELS, STRIDES, classes=2, width=16, most=12)


def maps(side: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(2, channels, -(-side // stride), -(-side // stride), generator=generator)
        for channels, stride in zip(CHANNELS, STRIDES, strict=True)
    ]


OBJECTS = [
    {"boxes": torch.tensor([[5.0, 5, 50, 60], [30, 10, 70, 40]]), "labels": torch.tensor([1, 0])},
    {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
]
SIZE, PIXELS = torch.tensor([[100, 80], [60, 100]]), torch.zeros(2, 3, 100, 100)


@pytest.mark.parametrize("side", [96, 100])
def test_answers_are_those_of_the_package(side: int) -> None:
    from transformers.models.rt_detr.image_processing_rt_detr import RTDetrImageProcessor

    made, given = head().eval(), maps(side)
    with torch.no_grad():
        found = made(given, SIZE, PIXELS)
        outputs, extent = made._asked(given, None)
        sizes = [(int(extent[1]), int(extent[0]))] * 2
        wanted = RTDetrImageProcessor().post_process_object_detection(outputs, threshold=0.0, target_sizes=sizes)
    assert sizes[0][0] == -(-side // 32) * 32
    for own, theirs, (height, width) in zip(found, wanted, SIZE.tolist(), strict=True):
        limit = torch.tensor([width, height, width, height], dtype=torch.float32)
        assert torch.equal(own["scores"], theirs["scores"]) and torch.equal(own["labels"], theirs["labels"])
        torch.testing.assert_close(own["boxes"], theirs["boxes"].clamp(min=0).minimum(limit))


def test_the_loss_falls_and_moves_every_weight() -> None:
    made, given = head().train(), maps(96)
    optimizer = torch.optim.Adam(made.parameters(), 3e-3)
    lost = []
    for _ in range(16):
        torch.manual_seed(0)  # the noise on boxes that it learns to take away
        loss = made.losses(given, SIZE, PIXELS, OBJECTS)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lost.append(loss.item())
    assert lost[-1] < 0.7 * lost[0]
    assert all(parameter.grad is not None for parameter in made.parameters())


@pytest.mark.dear("nets", "kinds", "image")
def test_it_finds_what_it_learned_over_a_backbone_of_its_own(tmp_path: Path) -> None:
    pictures, targets = scenes(12)
    data = ObjectDetectionData.from_images(
        train_images=pictures[:8],
        train_targets=targets[:8],
        val_images=pictures[8:],
        val_targets=targets[8:],
        batch_size=4,
        image_size=SIDE,
    )
    torch.manual_seed(0)
    model = ObjectDetector(
        backbone=Maps(), detector="rt_detr", width=16, most=8, learning_rate=3e-3, backbone_lr=1e-3, class_names=NAMES
    )
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    Trainer(max_epochs=1, **quiet).finetune(model, datamodule=data, strategy="freeze")
    assert isinstance(model.head, RtDetr)
    own = {id(one) for one in model.encoder.parameters()}
    assert own and not own & {id(one) for one in model.head.parameters()}
    assert model.head.strides == [8, 16]
    trainer = Trainer(max_epochs=30, **quiet)
    (before,) = trainer.validate(model, datamodule=data, verbose=False)
    trainer.fit(model, datamodule=data)
    (after,) = trainer.validate(model, datamodule=data, verbose=False)
    assert after["val_loss"] < before["val_loss"] and after["val_map_50"] > before["val_map_50"]
    predictor = model.predictor()
    predictor.save(tmp_path / "model")
    again = TrainedModel.load(tmp_path / "model", backbone=Maps())
    assert again.predict(pictures) == predictor.predict(pictures)


def test_what_it_needs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="multiple of 8"):
        ObjectDetector(backbone=Maps(), detector="rt_detr", width=20)

    def absent(package: str, extra: str) -> Any:
        raise MissingPackageError(f"{package}: quickstudy[{extra}]")

    monkeypatch.setattr(detection_transformer, "require", absent)
    with pytest.raises(MissingPackageError, match="rt_detr"):
        head()
