"""Pictures in tiles, and figures of the pixels that files have."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy import ConfigError, Trainer
from quickstudy.batches import stack
from quickstudy.functional.tiles import tile_starts, tile_weights
from quickstudy.image import ImageClassificationData, Picture, SemanticSegmentation, SemanticSegmentationData
from quickstudy.kinds.semantic import SemanticSegmentation as Pixels
from quickstudy.nets import Encoder
from quickstudy.trained import TrainedModel

NAMES = ("ground", "square")
BACKBONE = "mobilenetv3_small_050"


def scene(seed: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A dark picture of noise with bright squares, and the class of each pixel."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 60, (height, width, 3), np.uint8)
    labels = np.zeros((height, width), np.uint8)
    for _ in range(4):
        x, y = int(generator.integers(0, width - 20)), int(generator.integers(0, height - 20))
        pixels[y : y + 20, x : x + 20], labels[y : y + 20, x : x + 20] = 230, 1
    return pixels, labels


class Maps(nn.Module):
    """Feature maps of strides 2 to 32, whose cells see no farther than themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.ModuleList(nn.Conv2d(one, other, 2, 2) for one, other in pairwise((3, 4, 4, 4, 4, 4)))

    def forward(self, pixels: Tensor) -> list[Tensor]:
        found = []
        for step in self.steps:
            pixels = step(pixels).tanh()
            found.append(pixels)
        return found


class Near(nn.Module):
    """Answers by all maps, of which each pixel sees some around it; it notes how much it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = nn.Conv2d(20, 2, 9, padding=4)
        self.shown: list[tuple[int, ...]] = []

    def forward(self, maps: list[Tensor], pixels: Tensor) -> Tensor:
        self.shown.append(tuple(pixels.shape[2:]))
        found: Tensor = self.ask(torch.cat([F.interpolate(one, pixels.shape[2:]) for one in maps], 1))
        return found


@pytest.fixture
def network() -> tuple[Pixels, Encoder, Near]:
    torch.manual_seed(0)
    return Pixels(classes=NAMES, ids=(0, 1), codes=(0, 1)), Encoder(Maps()).double(), Near().double()


@pytest.mark.parametrize("overlap", [0, 32, 64])
@pytest.mark.parametrize("length", [64, 128, 160, 416])
def test_tiles_cover_all_and_those_of_the_middle_count_whole(length: int, overlap: int) -> None:
    counted = torch.zeros(length)
    starts = tile_starts(length, 128, overlap)
    for start in starts:
        weights = tile_weights(128, overlap, start == 0, start + 128 >= length)
        counted[start : start + 128] += weights[: length - start]
        assert weights[64] == 1 and weights.min() >= 0
    assert bool((counted > 0).all()) and all(start % 32 == 0 for start in starts)
    assert starts[-1] + 128 == max(length, 128)


def test_tiles_answer_as_the_whole_where_a_network_sees_no_farther(network: tuple[Pixels, Encoder, Near]) -> None:
    kind, encoder, head = network
    picture = scene(0, 300, 211)[0]
    tiled, whole = Picture(resize="fit", tile=128)(picture), Picture(resize="fit")(picture)
    with torch.no_grad():
        found = kind.outputs(encoder, head, stack([tiled]))
        assert {*head.shown} == {(128, 128)} and len(head.shown) == 3 * 2
        wanted = kind.outputs(encoder, head, stack([whole]))
    assert found["logits"].shape == (1, 300, 211, 2) and bool(found["mask"].all())
    torch.testing.assert_close(found["logits"], wanted["logits"], rtol=0, atol=1e-5)  # float32 on its way in
    (answer,) = kind.answers(found, "classes")
    assert torch.equal(answer, kind.answers(wanted, "classes")[0])


def test_a_picture_in_tiles_is_answered_alike_beside_others(network: tuple[Pixels, Encoder, Near]) -> None:
    kind, encoder, head = network
    modality = Picture(resize="fit", tile=64)
    sizes = [(150, 70), (40, 50), (64, 200)]
    pictures = [modality(scene(seed, *size)[0]) for seed, size in enumerate(sizes)]
    with torch.no_grad():
        together = kind.answers(kind.outputs(encoder, head, stack(pictures)), "logits")
        for one, size, picture in zip(together, sizes, pictures, strict=True):
            (alone,) = kind.answers(kind.outputs(encoder, head, stack([picture])), "logits")
            assert one.shape == (*size, 2)
            torch.testing.assert_close(one, alone, rtol=0, atol=1e-6)


def iou(predictor: TrainedModel, pictures: list[np.ndarray], masks: list[np.ndarray]) -> float:
    """The mean intersection over union of the files' pixels, counted one by one."""
    pairs = [(one.numpy(), mask) for one, mask in zip(predictor.predict(pictures), masks, strict=True)]
    found = []
    for code in range(2):
        both = sum(int(((one == code) & (mask == code)).sum()) for one, mask in pairs)
        either = sum(int(((one == code) | (mask == code)).sum()) for one, mask in pairs)
        found.append(both / either)
    return float(np.mean(found))


@pytest.mark.parametrize("options", [{"image_size": 48}, {"tile": 64}])
def test_figures_are_of_the_files_pixels(options: dict[str, Any], tmp_path: Any) -> None:
    pictures, masks = map(list, zip(*(scene(seed, 96 + 7 * seed, 120) for seed in range(4)), strict=True))
    data = SemanticSegmentationData.from_images(
        train_images=pictures[:2],
        train_targets=masks[:2],
        val_images=pictures[2:],
        val_targets=masks[2:],
        batch_size=2,
        transform="flip",
        **options,
    )
    torch.manual_seed(0)
    model = SemanticSegmentation(
        backbone=BACKBONE, pretrained=False, class_names=NAMES, width=32, decoder="fpn", learning_rate=5e-3
    )
    trainer = Trainer(max_epochs=6, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.finetune(model, datamodule=data)
    (figures,) = trainer.validate(model, datamodule=data, verbose=False)
    predictor = model.predictor()
    predictor.save(tmp_path / "model")
    for own in (predictor, TrainedModel.load(tmp_path / "model")):  # which reads in tiles, too
        assert figures["val_mean_iou"] == pytest.approx(iou(own, pictures[2:], masks[2:]), abs=1e-6)
    assert [one.shape for one in predictor.predict(pictures, "probabilities")] == [
        (*one.shape[:2], 2) for one in pictures
    ]


def test_training_is_shown_tiles_with_their_labels() -> None:
    pictures, masks = map(list, zip(*(scene(seed, 90, 150) for seed in range(3)), strict=True))
    data = SemanticSegmentationData.from_images(train_images=pictures, train_targets=masks, batch_size=3, tile=64)
    kind = Pixels(class_names=NAMES).meet(data, "fit")
    batch: Any = next(iter(data.batch_loader("train", kind=kind)))
    inputs, target = batch["input"], batch["target"]
    assert inputs["pixels"].shape == (3, 3, 64, 64) and target["labels"].shape == (3, 64, 64)
    assert bool(((inputs["pixels"][:, 0] > 200) == target["labels"].bool()).all())
    assert data.example()["pixels"].shape == (1, 3, 64, 64)


def test_tiles_that_are_none_are_told() -> None:
    with pytest.raises(ConfigError, match="multiple of 32 pixels; type tile=96"):
        Picture(resize="fit", tile=100)
    with pytest.raises(ConfigError, match="set resize='fit'"):
        Picture(tile=64)
    with pytest.raises(ConfigError, match=r"tile_overlap=0\.7"):
        Picture(resize="fit", tile=64, tile_overlap=0.7)
    with pytest.raises(ConfigError, match="tiles are of tasks that answer each pixel"):
        ImageClassificationData.from_images(predict_images=[np.zeros((9, 9, 3), np.uint8)], tile=64)


def test_pictures_in_tiles_are_shown_and_drawn() -> None:
    modality, picture = Picture(resize="fit", tile=64), scene(0, 90, 99)[0]
    for drawn in (modality.show(None, modality(picture)), modality.draw(picture, {"objects": []}, ())):
        assert drawn.startswith(b"\xff\xd8")
    assert modality.sketch(picture).shape == Picture().sketch(picture).shape  # type: ignore[union-attr]
    made = modality.made_up(2, torch.Generator().manual_seed(0))
    assert made["pixels"].shape == (2, 3, 64, 64) and made["tile"].tolist() == [[64, 32]] * 2


def test_cells_of_few_masks_are_seen_in_tiles(network: tuple[Pixels, Encoder, Near]) -> None:
    kind, encoder, _ = network
    picture = scene(0, 300, 211)[0]
    tiled, whole = stack([Picture(resize="fit", tile=128)(picture)]), stack([Picture(resize="fit")(picture)])
    with torch.no_grad():
        found, wanted = (kind.parts(encoder, one) for one in (tiled, whole))
    assert found.places == wanted.places
    torch.testing.assert_close(found.features, wanted.features, rtol=0, atol=1e-5)
