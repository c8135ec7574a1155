"""The class of each pixel: masks as people have them, decoders, answers of as many pixels as the file has."""

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
from quickstudy.functional.masks import in_runs
from quickstudy.image import SemanticSegmentation, SemanticSegmentationData
from quickstudy.image.masks import masked_folder, read_mask
from quickstudy.image.whole import fitted_in
from quickstudy.kinds.semantic import SemanticSegmentation as Pixels
from quickstudy.nets import Encoder, build_encoder
from quickstudy.nets.decoders import DECODERS, OF_BACKBONE, MapDecoder
from quickstudy.testing import check_kind

NAMES = ("ground", "square", "bar")
BACKBONE = "mobilenetv3_small_050"


def scene(seed: int, height: int = 40, width: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """A dark picture with a bright square or a red bar, and the class of each pixel."""
    generator = np.random.default_rng(seed)
    pixels, labels = np.full((height, width, 3), 30, np.uint8), np.zeros((height, width), np.uint8)
    x, y = int(generator.integers(0, width - 24)), int(generator.integers(0, height - 20))
    if generator.random() < 0.5:
        pixels[y : y + 20, x : x + 20], labels[y : y + 20, x : x + 20] = 240, 1
    else:
        pixels[y : y + 10, x : x + 24], labels[y : y + 10, x : x + 24] = (240, 20, 20), 2
    return pixels, labels


def folder_of(path: Path, count: int) -> Path:
    for place in range(count):
        pixels, labels = scene(place)
        for name, array in (("images", pixels), ("masks", labels)):
            (path / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path / name / f"{place}.png")
    return path


class Maps(nn.Module):
    """Feature maps of strides 2 to 32, of a layer each."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (3, 4, 4, 4, 4, 4)
        self.steps = nn.ModuleList(nn.Conv2d(one, other, 2, 2) for one, other in pairwise(sizes))

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        found = []
        for step in self.steps:
            pixels = step(pixels).tanh()
            found.append(pixels)
        return found


@pytest.mark.parametrize("dice", [0.0, 1.0])
def test_the_kind_conforms(dice: float) -> None:
    examples, targets = [], []
    for seed in range(8):
        pixels, labels = scene(seed, 24 + seed % 3, 32)
        pixels += np.random.default_rng(seed).integers(0, 15, pixels.shape, np.uint8)  # no plane lies on a kink
        examples.append(fitted_in(torch.from_numpy(pixels).permute(2, 0, 1), (32, 32)))
        ids = read_mask(labels, examples[-1])
        targets.append({"labels": ids, "mask": ids != 2})
    kind = Pixels(classes=NAMES, ids=(0, 1, 2), codes=(0, 1, 2), decoder="unet", width=8, dice=dice)
    check_kind(kind, Encoder(Maps()), stack(examples), stack(targets))


@pytest.mark.parametrize("name", DECODERS)
def test_each_decoder_answers_each_pixel(name: str) -> None:
    encoder = build_encoder(BACKBONE, {"features_only": True, **OF_BACKBONE.get(name, {})}, pretrained=False)
    pixels = torch.randint(0, 255, (2, 3, 96, 64), dtype=torch.uint8)
    maps = encoder.maps({"pixels": pixels, "size": torch.tensor([[96, 64], [96, 64]])})
    decoder = MapDecoder(name, [one.shape[1] for one in maps], [64 // one.shape[-1] for one in maps], 5, 32)
    assert decoder(maps, pixels).shape == (2, 5, 96, 64)
    assert decoder([one[:1] for one in maps], pixels[:1]).isfinite().all()  # of one picture while it trains


def test_maps_that_a_decoder_cannot_stand_on_are_told() -> None:
    with pytest.raises(ConfigError, match="strides 4 to 32"):
        MapDecoder("unet", [8, 8], [16, 16], 2, 32)


def test_squares_and_bars_are_told_from_a_folder_to_the_files_pixels(tmp_path: Path) -> None:
    data = SemanticSegmentationData.from_folders(
        train_folder=folder_of(tmp_path / "train", 24), val_split=0.25, batch_size=6, image_size=48, transform="flip"
    )
    torch.manual_seed(0)
    model = SemanticSegmentation(
        backbone=BACKBONE, pretrained=False, class_names=NAMES, width=64, decoder="fpn", learning_rate=5e-3
    )
    trainer = Trainer(max_epochs=12, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.finetune(model, datamodule=data)
    (figures,) = trainer.validate(model, datamodule=data, verbose=False)
    assert figures["val_mean_iou"] > 0.5 and figures["val_iou_square"] > 0.4
    predictor = model.predictor()
    pixels, labels = scene(0)
    twice = pixels.repeat(2, 0).repeat(2, 1)
    (answer,) = predictor.predict([twice])
    assert answer.shape == (80, 96)
    assert (answer.numpy() == labels.repeat(2, 0).repeat(2, 1)).mean() > 0.8
    (shares,) = predictor.predict([twice], "probabilities")
    assert shares.shape == (80, 96, 3) and shares.sum(-1) == pytest.approx(torch.ones(80, 96))
    told = model.kind.in_json(predictor.rank([twice])[0])
    assert told["size"] == [80, 96]
    assert all(sum(one["counts"]) == 80 * 96 for one in told["masks"])
    predictor.save(tmp_path / "model")
    assert (
        main(["predict", str(tmp_path / "model"), str(tmp_path / "train/images"), "--output", str(tmp_path / "p.csv")])
        == 0
    )
    assert '""counts""' in (tmp_path / "p.csv").read_text()
    exported = predictor.export(tmp_path / "x.onnx")  # which compares the graph's answers to the model's
    assert exported.flips == 0 and exported.difference < 1e-2
    images, file, drawings = tmp_path / "train/images", tmp_path / "p.json", tmp_path / "drawn"
    options = ["--format", "coco", "--output", str(file), "--drawings", str(drawings)]
    assert main(["predict", str(tmp_path / "model"), str(images), *options]) == 0
    found = json.loads(file.read_text())
    assert [one["name"] for one in found["categories"]] == [*NAMES]
    assert sum(one["area"] for one in found["annotations"]) == 24 * 40 * 48  # each pixel is of one class
    assert {one.stem for one in drawings.iterdir()} == {one.stem for one in images.iterdir()}


def test_masks_are_read_in_every_form(tmp_path: Path) -> None:
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4) % 3
    grey, palette, deep = (tmp_path / f"{name}.png" for name in ("grey", "palette", "deep"))
    Image.fromarray(ids).save(grey)
    own = Image.fromarray(ids, "P")
    own.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    own.save(palette)
    Image.fromarray(ids.astype(np.uint16) * 300).save(deep)
    np.save(tmp_path / "a.npy", ids)
    for item in (grey, palette, tmp_path / "a.npy", ids, torch.from_numpy(ids), grey.read_bytes(), Image.open(grey)):
        assert (read_mask(item).numpy() == ids).all()
    assert (read_mask(deep).numpy() == ids.astype(int) * 300).all()
    colours = np.array([[128, 64, 128], [244, 35, 232], [1, 2, 3]], np.uint8)[ids]
    table = {"road": (128, 64, 128), "walk": (244, 35, 232)}
    assert (read_mask(colours, colors=table).numpy() == np.where(ids == 2, 255, ids)).all()
    with pytest.raises(DataError, match=r"in colours, \(1, 2, 3\).*colors="):
        read_mask(colours)


def test_a_mask_is_of_its_picture() -> None:
    example = fitted_in(torch.zeros(3, 40, 60, dtype=torch.uint8), (20, 20))
    labels = np.zeros((40, 60), np.uint8)
    labels[:, 30:] = 1
    shown = read_mask(labels, example)
    assert shown.shape == (13, 20) and shown[:, :10].sum() == 0 and bool((shown[:, 10:] == 1).all())
    with pytest.raises(DataError, match="40x60 pixels, and its picture 60x40"):
        read_mask(labels.T, example)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"GIF89a", "cannot be decoded|no image|damaged"), (b"", "empty|no image"), (b"not a mask", "no image")],
)
def test_what_is_no_mask_is_told(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=message) as told:
        read_mask(tmp_path / "a.png")
    assert "a.png" in str(told.value)


def test_jpeg_masks_are_refused(tmp_path: Path) -> None:
    Image.fromarray(scene(0)[1]).save(tmp_path / "a.jpg")
    with pytest.raises(DataError, match="save masks as PNG"):
        read_mask(tmp_path / "a.jpg")


def test_a_folder_that_lacks_a_mask_is_told(tmp_path: Path) -> None:
    folder_of(tmp_path, 3)
    (tmp_path / "masks" / "1.png").unlink()
    with pytest.raises(DataError, match=r"1 of 3 pictures have no mask: 1\.png"):
        masked_folder(tmp_path, (".png",), lambda items: items)
    beside = tmp_path / "beside"
    beside.mkdir()
    for place in range(2):
        for ending, array in zip(("", "_mask"), scene(place), strict=True):
            Image.fromarray(array).save(beside / f"{place}{ending}.png")
    table: Any = masked_folder(beside, (".png",), list)
    assert [Path(str(one)).name for one in table.inputs] == ["0.png", "1.png"]
    assert [Path(str(one)).name for one in table.annotations] == ["0_mask.png", "1_mask.png"]
    with pytest.raises(DataError, match="no masks"):
        masked_folder(tmp_path / "images", (".png",), list)  # type: ignore[arg-type]


def test_a_label_of_no_class_is_told_with_what_helps() -> None:
    pixels, labels = scene(1)
    labels[0, 0] = 255
    data = SemanticSegmentationData.from_images(train_images=[pixels] * 2, train_targets=[labels] * 2, image_size=48)
    model = SemanticSegmentation(backbone=BACKBONE, pretrained=False, class_names=NAMES)
    trainer = Trainer(max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    with pytest.raises(DataError, match="Set ignore_index"):
        trainer.finetune(model, datamodule=data)


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # of pycocotools, in numpy 2
def test_runs_are_those_of_pycocotools() -> None:
    from pycocotools import mask as coco

    mask = np.random.default_rng(0).random((7, 5)) < 0.4
    told = coco.frPyObjects({"size": [7, 5], "counts": in_runs(mask)}, 7, 5)
    assert (coco.decode(told).astype(bool) == mask).all()


def test_thresholds_that_were_asked_for_stay_when_a_checkpoint_is_loaded() -> None:
    known = {"classes": ["red", "big"], "thresholds": [0.2, 0.3]}
    assert Pixels(2, multi_label=True).recalled(known).thresholds == (0.2, 0.3)
    asked = Pixels(2, multi_label=True, label_thresholds=0.7)
    assert asked.recalled(known).thresholds == (0.7, 0.7)
