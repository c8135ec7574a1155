"""Detectors of transformers with their weights: the same answers as the package's, other classes, what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn

from quickstudy import ConfigError, Trainer
from quickstudy.image import ObjectDetectionData, ObjectDetector
from quickstudy.nets.detection_transformer import RtDetr
from quickstudy.nets.ready_detectors import READY
from quickstudy.trained import TrainedModel

SIDE, NAMES = 64, {0: "person", 1: "cat", 2: "dog"}
QUIET: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
SMALL: dict[str, Any] = {"d_model": 16, "decoder_ffn_dim": 16, "decoder_layers": 2, "num_queries": 8}


def whole(detector: str) -> Any:
    """A small detector of random weights."""
    torch.manual_seed(0)
    if detector != "rf_detr":
        backbone = {"embedding_size": 8, "hidden_sizes": [8, 8, 8, 8], "depths": [1] * 4, "layer_type": "basic"}
        config = getattr(transformers, READY[detector].replace("ForObjectDetection", "Config"))(
            backbone_config=transformers.RTDetrResNetConfig(**backbone, out_indices=[2, 3, 4]),
            encoder_hidden_dim=16,
            encoder_in_channels=[8, 8, 8],
            encoder_ffn_dim=16,
            decoder_in_channels=[16] * 3,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            id2label=NAMES,
            **SMALL,
        )
        return getattr(transformers, READY[detector])(config)
    backbone = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "patch_size": 8,
    }
    config = transformers.RfDetrConfig(
        backbone_config=transformers.RfDetrDinov2Config(**backbone, num_windows=2, out_indices=[1, 2]),
        decoder_self_attention_heads=2,
        decoder_cross_attention_heads=2,
        group_detr=2,
        id2label=NAMES,
        **SMALL,
    )
    return transformers.RfDetrForObjectDetection(config)


@pytest.fixture(scope="module", params=[name for name, of in READY.items() if hasattr(transformers, of)])
def ready(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Any]:
    made = whole(request.param).eval()
    folder = tmp_path_factory.mktemp(request.param)
    with torch.no_grad():  # as if it had learned something, so that answers differ
        for name, layer in made.named_modules():
            if isinstance(layer, nn.Linear) and "class" in name:
                nn.init.normal_(layer.weight)
    made.save_pretrained(folder)
    of = getattr(transformers, "RfDetrImageProcessor" if request.param == "rf_detr" else "RTDetrImageProcessor")
    of(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return request.param, folder, made


def pictures(count: int = 3) -> list[Any]:
    return [*np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)]


def model(detector: str, folder: Path, **options: Any) -> ObjectDetector:
    return ObjectDetector(backbone=str(folder), detector=detector, min_score=1e-9, most=8, **options)


def test_answers_are_those_of_the_package(ready: tuple[str, Path, Any], tmp_path: Path) -> None:
    detector, folder, made = ready
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    with torch.no_grad():
        outputs = made(**processor(images=pictures(), return_tensors="pt"))
    wanted = processor.post_process_object_detection(outputs, threshold=0.0, target_sizes=[(SIDE, SIDE)] * 3)
    predictor = model(detector, folder).predictor()
    assert predictor.classes == tuple(NAMES.values())
    found = predictor.predict(pictures())
    for own, theirs in zip(found, wanted, strict=True):
        assert [one["label"] for one in own] == [NAMES[code] for code in theirs["labels"][:8].tolist()]
        torch.testing.assert_close(
            torch.tensor([one["score"] for one in own]), theirs["scores"][:8], rtol=1e-5, atol=1e-5
        )
        limited = theirs["boxes"][:8].clamp(0, SIDE) / SIDE
        torch.testing.assert_close(torch.tensor([one["box"] for one in own]) / SIDE, limited, rtol=1e-5, atol=1e-5)
    predictor.save(tmp_path / "model")
    assert TrainedModel.load(tmp_path / "model").predict(pictures()) == found


def test_it_goes_on_with_classes_of_ones_own(ready: tuple[str, Path, Any], tmp_path: Path) -> None:
    detector, folder, made = ready
    targets = [{"boxes": [[4, 4, 40, 50]], "labels": [name]} for name in ("lynx", "dog", "lynx")]
    stages = {"train_images": pictures(), "train_targets": targets}
    data = ObjectDetectionData.from_images(**stages, image_size=SIDE, batch_size=3)
    task = model(detector, folder, learning_rate=1e-3)
    assert task.predictor().classes == tuple(NAMES.values())  # and yet
    Trainer(max_epochs=0, **QUIET).finetune(task, datamodule=data)
    assert task.classes == ("dog", "lynx") and isinstance(task.head, RtDetr)
    layer = "class_embed" if detector == "rf_detr" else "model.decoder.class_embed.1"
    own, theirs = (one.get_submodule(layer).weight for one in (task.head.network, made))
    assert own.shape == (2, 16) and torch.equal(own[0], theirs[2]) and not torch.isin(own[1], theirs).any()
    assert not {id(one) for one in task.encoder.parameters()} & {id(one) for one in task.head.parameters()}
    trainer = Trainer(max_epochs=1, **QUIET)
    trainer.fit(task, datamodule=data)
    assert not torch.equal(task.head.network.get_submodule(layer).weight[0], theirs[2])
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    predictor = task.predictor()
    read = ObjectDetector.load_from_checkpoint(tmp_path / "a.ckpt").predictor()
    assert read.classes == ("dog", "lynx") and read.predict(pictures()) == predictor.predict(pictures())
    predictor.save(tmp_path / "model")
    again = TrainedModel.load(tmp_path / "model")
    assert again.classes == ("dog", "lynx") and again.predict(pictures()) == predictor.predict(pictures())


def test_pictures_of_any_size_are_taken(ready: tuple[str, Path, Any]) -> None:
    detector, folder, _ = ready
    task = model(detector, folder)
    assert task.load_options == {"image_size": SIDE}
    (wide,) = task.predictor().predict([pictures(1)[0][:40].repeat(2, 1)])
    assert wide and all(0 <= one["box"][0] <= one["box"][2] <= 128 and one["box"][3] <= 40 for one in wide)


def test_what_cannot_be_had_is_told(ready: tuple[str, Path, Any], tmp_path: Path, monkeypatch: Any) -> None:
    detector, folder, _ = ready
    with pytest.raises(ConfigError, match="is no detector that is known"):
        transformers.BertConfig(hidden_size=8, num_attention_heads=2).save_pretrained(tmp_path / "bert")
        ObjectDetector(backbone=str(tmp_path / "bert"))
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(ConfigError, match=r"cannot be read.*name the folder of a model that was downloaded"):
        ObjectDetector(backbone=str(tmp_path / "cut"), detector=detector)
    monkeypatch.setattr("quickstudy.nets.transformers_bridge.check_hub_answers", refused)
    with pytest.raises(ConfigError, match=r"PekingU/.*does not answer.*backbone='efficientnet_lite0', detector='rt"):
        ObjectDetector(backbone="PekingU/rtdetr_r18vd_never", detector=detector)
    with pytest.raises(ConfigError, match="has a backbone of its own: name it"):
        Trainer(max_epochs=0, **QUIET).finetune(
            ObjectDetector(backbone="mobilenetv3_small_050", pretrained=False, detector="rf_detr"),
            datamodule=ObjectDetectionData.from_images(
                train_images=pictures(1), train_targets=[{"boxes": [[1, 1, 9, 9]], "labels": ["a"]}], image_size=SIDE
            ),
        )


def refused() -> None:
    raise OSError("it does not answer")
