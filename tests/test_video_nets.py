"""Networks of clips: those of transformers and torchvision, as their packages have them, and differentiated twice."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quickstudy import Predictor, Trainer
from quickstudy.errors import ConfigError
from quickstudy.nets import Encoder, build_encoder
from quickstudy.video import VideoClassificationData, VideoClassifier
from quickstudy.video.nets import C3D, R2Plus1D

LAYERS = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
FAMILIES: dict[str, dict[str, Any]] = {
    "videomae": {"image_size": 16, "patch_size": 8, "num_frames": 4, "tubelet_size": 2, "use_mean_pooling": False},
    "timesformer": {"image_size": 16, "patch_size": 8, "num_frames": 4},
    "vivit": {"image_size": 16, "num_frames": 4, "tubelet_size": [2, 8, 8]},
    "vjepa2": {
        **{"crop_size": 16, "patch_size": 8, "frames_per_clip": 4, "tubelet_size": 2, "hidden_size": 24},
        **{"pred_hidden_size": 12, "pred_num_hidden_layers": 1, "pred_num_attention_heads": 2, "mlp_ratio": 2},
    },
}
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]


def saved(family: str, folder: Path) -> Any:
    """Save a small encoder of transformers with random weights, and return it."""
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.for_model(family, **{**LAYERS, **FAMILIES[family]})
    torch.manual_seed(0)
    made = transformers.AutoModel.from_config(config).eval()
    made.save_pretrained(folder)
    return made


@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_of_transformers_is_as_its_package_has_it(family: str, tmp_path: Path) -> None:
    theirs = saved(family, tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": MEAN, "image_std": STD}))
    encoder = build_encoder(str(tmp_path), domain="video").eval()
    assert encoder.reads == {"name": "video", "options": {"frames": 4, "image_size": 16}} and encoder.trained
    clips = torch.randint(0, 256, (2, 3, 4, 16, 16), dtype=torch.uint8)
    mean, std = (torch.tensor(some)[:, None, None, None] for some in (MEAN, STD))
    pixels_NTCHW = ((clips / 255 - mean) / std).transpose(1, 2)
    with torch.no_grad():
        states = (theirs.encoder if family == "vjepa2" else theirs)(pixels_NTCHW).last_hidden_state
        wanted = states.mean(1) if family in ("videomae", "vjepa2") else states[:, 0]
        torch.testing.assert_close(encoder(clips), wanted, atol=1e-6, rtol=1e-6)
        assert encoder.made_by is not None
        again = build_encoder(*encoder.made_by, pretrained=False, domain="video").eval()
        again.load_state_dict(encoder.state_dict())  # as a saved model comes back, with neither the hub nor the folder
        assert torch.equal(again(clips), encoder(clips))
        with pytest.raises(
            ConfigError, match=r"of 4 frames of 16x16 .* set frames=4 and image_size=16 of the data, or"
        ):
            encoder(torch.rand(2, 3, 4, 24, 24))
        if family == "vjepa2":  # which knows the places of more frames, too
            assert encoder(torch.rand(2, 3, 6, 16, 16)).shape == encoder(clips).shape
        else:
            with pytest.raises(ConfigError, match=r"of 4 frames .* set frames=4"):
                encoder(torch.rand(2, 3, 6, 16, 16))
    blocks = encoder.backbone.blocks_of_layers
    assert len(blocks) == 2 and all(parameter.requires_grad for parameter in encoder.parameters())
    last = build_encoder(str(tmp_path), {"pooling": "last"}, domain="video").eval()
    torch.testing.assert_close(last(clips), states[:, -1], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("family", ["videomae", "vivit"])
def test_pixels_are_normalised_as_by_the_processor(family: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = saved(family, tmp_path)
    processor = {"videomae": "VideoMAEImageProcessor", "vivit": "VivitImageProcessor"}[family]
    size = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
    prepare = getattr(transformers, processor)(image_mean=MEAN, image_std=STD, **size)
    prepare.save_pretrained(tmp_path)
    encoder = build_encoder(str(tmp_path), domain="video").eval()
    frames = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
    pixels = prepare(list(frames), return_tensors="pt")["pixel_values"]
    clip = torch.from_numpy(frames).permute(3, 0, 1, 2)[None]
    torch.testing.assert_close(encoder.prepared(clip), pixels.transpose(1, 2), atol=1e-5, rtol=1e-5)
    assert theirs.config.model_type == family


def shown(count: int = 8, frames: int = 9, size: int = 20) -> tuple[list[Any], list[str]]:
    """Return videos ``[T, H, W, 3]`` of two brightnesses, and which."""
    draw = np.random.default_rng(0)
    labels = ["dark", "light"] * (count // 2)
    return [
        draw.integers(150 * (name == "light"), 100 + 150 * (name == "light"), (frames, size, size, 3), np.uint8)
        for name in labels
    ], labels


def test_videomae_by_its_folder_is_trained_and_the_data_is_read_as_it_was(tmp_path: Path) -> None:
    saved("videomae", tmp_path)
    videos, labels = shown()
    pairs = list(zip(videos, labels, strict=True))
    others = [(255 - video[::-1], f"{label}er") for video, label in pairs]
    data = VideoClassificationData.from_datasets(pairs, test_dataset=others)
    plan = {"ways": 2, "shots": 1, "queries": 2, "meta_batch_size": 1, "epoch_length": 30, "test_epoch_length": 5}
    model = VideoClassifier(
        backbone=str(tmp_path),
        training_strategy="prototypicalnetworks",
        training_strategy_kwargs=plan,
        learning_rate=1e-3,
    )
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    trainer = Trainer(max_epochs=1, limit_val_batches=0, accelerator="cpu", default_root_dir=tmp_path, **quiet)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer.fit(model, datamodule=data)
    assert next(iter(data.batch_loader("test")))[0].shape[1:] == (3, 4, 16, 16)  # the data follows the network
    assert any(not torch.equal(value, before[name]) for name, value in model.state_dict().items() if name in before)
    (figures,) = trainer.test(model, datamodule=data, verbose=False)
    assert figures["test_accuracy"] > 0.9
    predictor = Predictor.from_backbone(str(tmp_path), videos[:4], labels[:4])
    assert predictor.predict(videos[4:]) == labels[4:]


def test_a_name_of_the_hub_without_a_network_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")

    def offline(*_: Any, **__: Any) -> Any:
        raise OSError("no network")

    monkeypatch.setattr(hub, "snapshot_download", offline)
    monkeypatch.setattr(hub, "model_info", offline)
    monkeypatch.setattr("quickstudy.nets.transformers_bridge.check_hub_answers", lambda: None)
    with pytest.raises(
        ConfigError, match=r"'owner/videomae' could not be loaded: no network.*of videos 'efficientnet_lite0'"
    ):
        build_encoder("owner/videomae", domain="video")


def differentiated_twice(encoder: nn.Module, clips: Tensor) -> None:
    """Hold a gradient through a gradient step against finite differences, in float64."""
    weights = {name: value.detach() for name, value in encoder.named_parameters()}

    buffers = dict(encoder.named_buffers())

    def loss(now: dict[str, Tensor], inputs: Tensor) -> Tensor:
        counted = {name: value.clone() for name, value in buffers.items()}  # which a pass changes
        logits = torch.func.functional_call(encoder, {**now, **counted}, (inputs,))[:, :2]
        return nn.functional.cross_entropy(logits, torch.arange(len(inputs)) % 2)

    def after(start: dict[str, Tensor]) -> Tensor:
        slopes = torch.func.grad(loss)(start, clips[:2])
        return loss({name: start[name] - 0.1 * slopes[name] for name in start}, clips[2:])

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        exact = torch.func.grad(after)(weights)
        towards = {name: torch.randn_like(value) for name, value in weights.items()}
        ends = [after({name: weights[name] + step * towards[name] for name in weights}) for step in (1e-8, -1e-8)]
    along = sum(float((exact[name] * towards[name]).sum()) for name in weights)
    assert abs(along) > 1e-3
    assert math.isclose(along, float(ends[0] - ends[1]) / 2e-8, rel_tol=1e-5)


@pytest.mark.parametrize("make", [C3D, R2Plus1D])
def test_second_derivatives_of_3d_convolutions_are_those_of_finite_differences(make: Callable[..., nn.Module]) -> None:
    torch.manual_seed(0)
    differentiated_twice(Encoder(make(hidden=2)).double(), torch.rand(4, 3, 4, 16, 16, dtype=torch.float64))


@pytest.mark.parametrize("family", FAMILIES)
def test_second_derivatives_of_attention_are_those_of_finite_differences(family: str, tmp_path: Path) -> None:
    saved(family, tmp_path)
    encoder = build_encoder(str(tmp_path), domain="video").eval().double()
    torch.manual_seed(0)
    differentiated_twice(encoder, torch.rand(4, 3, 4, 16, 16, dtype=torch.float64))


TORCHVISION = {
    "r3d_18": (4, 16, 512),
    "mc3_18": (4, 16, 512),
    "r2plus1d_18": (4, 32, 512),  # of 16 pixels its last norms see two numbers, and one step makes it diverge
    "s3d": (13, 209, 1024),
    "mvit_v2_s": (16, 224, 768),
    "swin3d_t": (4, 32, 768),
}


def of_torchvision(name: str) -> None:
    """Train a network of torchvision for a step, and let it learn and tell two classes."""
    pytest.importorskip("torchvision")
    frames, size, width = TORCHVISION[name]
    torch.manual_seed(0)
    model = VideoClassifier(backbone=name, pretrained=False, learning_rate=1e-4, optimizer="sgd")
    videos, labels = shown(4, frames, size)
    clips = torch.stack([torch.from_numpy(one).permute(3, 0, 1, 2) for one in videos])
    data = VideoClassificationData.from_tensors(clips, labels, batch_size=2)
    options: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    Trainer(max_epochs=1, limit_train_batches=1, accelerator="cpu", **options).fit(model, datamodule=data)
    assert model.encoder.eval()(clips[:1]).shape == (1, width)
    assert model.adapt(clips[:2], labels[:2]).predict(clips[2:]) == labels[2:]


def test_the_smallest_network_of_torchvision_is_trained_and_learns() -> None:
    of_torchvision("mc3_18")


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCHVISION)
def test_every_network_of_torchvision_is_trained_and_learns(name: str) -> None:
    of_torchvision(name)


@pytest.mark.parametrize(
    ("name", "shape", "told"),
    [
        ("s3d", (12, 224, 224), "at least 13 frames of 209x209 .* set frames=13 and image_size=209"),
        ("s3d", (16, 112, 112), "at least 13 frames of 209x209 .* set frames=13 and image_size=209"),
        (
            "mvit_v2_s",
            (8, 112, 112),
            "of 16 frames of 224x224 .*set frames=16 and image_size=224 of the data, or leave",
        ),
    ],
)
def test_clips_too_small_for_a_network_of_torchvision(name: str, shape: tuple[int, ...], told: str) -> None:
    pytest.importorskip("torchvision")
    with torch.device("meta"):
        network = build_encoder(name, pretrained=False).backbone
    with pytest.raises(ConfigError, match=told):
        network(torch.empty(1, 3, *shape, device="meta"))
