"""Several labels of each pixel: masks as people have them, what is learned of them, thresholds, answers."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from quickstudy import ConfigError, DataError, Trainer
from quickstudy.batches import stack
from quickstudy.cli import main
from quickstudy.image import SemanticSegmentation, SemanticSegmentationData
from quickstudy.image.masks import read_masks
from quickstudy.image.whole import fitted_in, shown
from quickstudy.kinds.semantic import SemanticSegmentation as Pixels
from quickstudy.nets import Encoder
from quickstudy.testing import check_kind

NAMES = ("red", "green")
BACKBONE = "mobilenetv3_small_050"


def scene(seed: int, height: int = 48, width: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """Dark noise with a red square and a green one, which may overlap and are yellow there; and where each is."""
    generator = np.random.default_rng(seed)
    pixels, masks = generator.integers(0, 40, (height, width, 3), np.uint8), np.zeros((2, height, width), np.uint8)
    for code in range(2):
        x, y = (int(generator.integers(0, side - 24)) for side in (width, height))
        pixels[y : y + 24, x : x + 24, code], masks[code, y : y + 24, x : x + 24] = 220, 1
    return pixels, masks


class Maps(nn.Module):
    """Feature maps of strides 2 to 32, of a layer each."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.ModuleList(nn.Conv2d(one, other, 2, 2) for one, other in pairwise((3, 4, 4, 4, 4, 4)))

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        found = []
        for step in self.steps:
            pixels = step(pixels).tanh()
            found.append(pixels)
        return found


@pytest.mark.parametrize(("dice", "weights"), [(0.0, ()), (1.0, (2.0, 0.5))])
def test_the_kind_conforms(dice: float, weights: tuple[float, ...]) -> None:
    examples, targets = [], []
    for seed in range(8):
        pixels, masks = scene(seed, 30 + seed % 3, 32)
        examples.append(fitted_in(torch.from_numpy(pixels).permute(2, 0, 1), (32, 32)))
        labels = read_masks(masks, examples[-1])
        targets.append({"labels": labels, "mask": torch.rand(labels.shape) < 0.9})
    told = {"classes": NAMES, "ids": (0, 1), "codes": (0, 1), "width": 8, "dice": dice, "weights": weights}
    kind = Pixels(multi_label=True, thresholds=(0.4, 0.6), **told)  # type: ignore[arg-type]
    check_kind(kind, Encoder(Maps()), stack(examples), stack(targets))


def test_labels_are_read_in_every_form(tmp_path: Path) -> None:
    masks = scene(3, 30, 40)[1]
    one, other = (tmp_path / f"{name}.png" for name in NAMES)
    for place, file in enumerate((one, other)):
        Image.fromarray(255 * masks[place]).save(file)
    np.save(tmp_path / "a.npy", masks)
    pages = [Image.fromarray(255 * mask) for mask in masks]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    Image.fromarray(np.stack([*masks, masks[0]], -1)).save(tmp_path / "channels.png")
    example = fitted_in(torch.zeros(3, 30, 40, dtype=torch.uint8), None)
    forms: list[Any] = [masks, torch.from_numpy(masks), list(masks), [one, other], tmp_path / "a.npy"]
    forms += [str(tmp_path / "a.npy"), (tmp_path / "a.npy").read_bytes(), tmp_path / "pages.tif"]
    for item in forms:
        for size in (None, example):
            found = read_masks(item, size)
            assert found.shape == (30, 40, 2) and ((found > 0).permute(2, 0, 1).numpy() == masks).all()
    assert read_masks(tmp_path / "channels.png", example).shape == (30, 40, 3)
    named = read_masks({"green": other}, example, NAMES)
    assert not named[..., 0].any() and ((named[..., 1] > 0).numpy() == masks[1]).all()
    assert read_masks({}, example, NAMES).shape == (30, 40, 2)
    with pytest.raises(DataError, match="a mask is called 'blue', and labels are red, green"):
        read_masks({"blue": one}, example, NAMES)
    with pytest.raises(DataError, match="40x30 pixels, and its picture 20x10"):
        read_masks(masks, fitted_in(torch.zeros(3, 10, 20, dtype=torch.uint8), None))


def folder_of(path: Path, count: int) -> Path:
    """Pictures with a folder of masks for each label; the last has none of them."""
    (path / "images").mkdir(parents=True)
    for place in range(count):
        pixels, masks = scene(place)
        last = place == count - 1
        Image.fromarray(pixels // 8 if last else pixels).save(path / "images" / f"{place}.png")
        for name, mask in zip(NAMES, masks, strict=True):
            if not last:
                (path / "masks" / name).mkdir(parents=True, exist_ok=True)
                Image.fromarray(255 * mask).save(path / "masks" / name / f"{place}.png")
    return path


def test_labels_are_learned_from_folders_and_told_by_their_thresholds(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "train", 17)
    data = SemanticSegmentationData.from_folders(
        train_folder=folder, val_split=0.25, batch_size=4, image_size=48, transform="flip"
    )
    torch.manual_seed(0)
    model = SemanticSegmentation(
        backbone=BACKBONE, pretrained=False, multi_label=True, width=64, decoder="fpn", learning_rate=5e-3
    )
    trainer = Trainer(max_epochs=8, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.finetune(model, datamodule=data)
    assert model.kind.classes == ("green", "red")  # in the folders' order
    assert len(model.kind.thresholds) == 2 and {*model.kind.thresholds} != {0.5}
    (figures,) = trainer.validate(model, datamodule=data, verbose=False)
    assert figures["val_mean_iou"] > 0.7 and figures["val_f1_micro"] > figures["val_iou_red"] > 0.6
    predictor = model.predictor()
    pixels, masks = scene(40, 60, 80)
    (answer,) = predictor.predict([pixels])
    assert answer.shape == (60, 80, 2)
    assert (answer.numpy()[..., ::-1] == masks.transpose(1, 2, 0)).mean() > 0.85
    (shares,) = predictor.predict([pixels], "probabilities")
    assert bool(((shares > torch.tensor(model.kind.thresholds)) == answer.bool()).all())
    told = model.kind.in_json(predictor.rank([pixels])[0])
    assert told["size"] == [60, 80] and {one["label"] for one in told["masks"]} == {*NAMES}
    predictor.save(tmp_path / "model")
    file = tmp_path / "p.json"
    options = ["--format", "coco", "--output", str(file), "--drawings", str(tmp_path / "drawn")]
    assert main(["predict", str(tmp_path / "model"), str(folder / "images"), *options]) == 0
    found = json.loads(file.read_text())
    assert [one["name"] for one in found["categories"]] == ["green", "red"]
    mistakes = model.kind.mistakes(*judged(model, data), 0)
    assert mistakes is not None and mistakes["said"].endswith("of its labels are wrong")


def judged(model: Any, data: Any) -> tuple[Any, Any]:
    """The answers of a model to some of the training data, and the targets."""
    batch = next(iter(data.batch_loader("val", kind=model.kind)))
    model.eval()
    with torch.no_grad():
        return model.kind.outputs(model.encoder, model.head, batch["input"]), batch["target"]


def test_labels_move_with_their_picture_and_are_shown() -> None:
    pixels, masks = scene(0)
    pairs = [pixels] * 4, [masks] * 4
    for options in ({"transform": "mirror"}, {"tile": 64, "transform": "mirror"}):
        data = SemanticSegmentationData.from_images(
            train_images=pairs[0], train_targets=pairs[1], multi_label=True, image_size=48, **options
        )
        kind = Pixels(multi_label=True, class_names=NAMES, class_weights="balanced").meet(data, "fit")
        assert kind.weights == pytest.approx([3.0, 3.0])  # three pixels without for each with
        batch = next(iter(data.batch_loader("train", kind=kind)))
        labels = batch["target"]["labels"][0, :48, :48]
        assert (labels.permute(2, 0, 1).numpy() == masks[..., ::-1]).all()
        inputs = {name: leaf[0] for name, leaf in batch["input"].items()}
        assert shown({**inputs, "labels": batch["target"]["labels"][0]}).shape == (3, 48, 48)


def test_what_is_of_one_label_and_what_of_several_is_told() -> None:
    pixels, masks = scene(0)
    trainer = Trainer(max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    own: dict[str, Any] = {"backbone": BACKBONE, "pretrained": False, "class_names": NAMES}

    def fit(targets: Any, data: dict[str, Any], **options: Any) -> None:
        given = SemanticSegmentationData.from_images(train_images=[pixels], train_targets=[targets], **data)
        trainer.fit(SemanticSegmentation(**own, **options), datamodule=given)

    with pytest.raises(DataError, match="2 labels of each pixel: set multi_label=True of the model"):
        fit(masks, {"multi_label": True})
    with pytest.raises(DataError, match="say so of the data, too, multi_label=True"):
        fit(masks[0], {}, multi_label=True)
    with pytest.raises(DataError, match="a mask has 1 labels of each pixel, and there are 2: red, green"):
        fit(masks[:1], {"multi_label": True}, multi_label=True)
    with pytest.raises(ConfigError, match="colors tell one class"):
        fit(masks, {"multi_label": True, "colors": {"red": (255, 0, 0)}})
    with pytest.raises(ConfigError, match="label_thresholds are of several"):
        SemanticSegmentation(**own, label_thresholds=0.3)
    with pytest.raises(ConfigError, match="with multi_label, list them"):
        Pixels(multi_label=True, class_names={3: "red"})
    with pytest.raises(ConfigError, match="train multi_label=True by fit"):
        SemanticSegmentation(**own, multi_label=True).adapt([pixels], [masks])


def test_a_mask_of_a_label_that_is_of_no_picture_is_told(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 3)
    Image.new("L", (48, 48)).save(folder / "masks" / "red" / "77.png")
    with pytest.raises(DataError, match=r"1 masks are of no picture, such as 'masks/red/77\.png'"):
        SemanticSegmentationData.from_folders(train_folder=folder)
