"""Whole pictures: all is shown, places move with the picture, and come back in the file's pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from quickstudy.data.samples import TRANSFORMS, of_samples
from quickstudy.errors import ConfigError, DataError
from quickstudy.image.modality import Picture
from quickstudy.image.transforms import moved
from quickstudy.image.whole import fitted_in, on_canvas
from quickstudy.nets import build_encoder
from quickstudy.testing import check_modality

HEIGHT, WIDTH, CANVAS = 60, 80, 80


class Mapped(nn.Module):
    """Turns the picture of a dict into a vector, of what is shown alone."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(3))

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        return inputs["pixels"].to(self.weights).mean((2, 3)) * self.weights


def sample() -> dict[str, Any]:
    """A white rectangle on black, whose box, mask, corners and labels are known."""
    pixels = torch.zeros(3, HEIGHT, WIDTH, dtype=torch.uint8)
    pixels[:, 10:30, 30:60] = 255
    example = fitted_in(pixels, (CANVAS, CANVAS))
    mask = example["pixels"][:1] > 127
    target = {
        "boxes": torch.tensor([[30.0, 10, 60, 30]]),
        "labels": torch.tensor([2]),
        "masks": mask.to(torch.uint8),
        "keypoints": torch.tensor([[[30.0, 20, 2], [59.0, 20, 1], [0.0, 0, 0]]]),
        "swap": torch.tensor([[1, 0, 2]]),
    }
    return {"input": example, "target": target}


def test_a_whole_picture_conforms(tmp_path: Path) -> None:
    for place, size in enumerate([(40, 30), (30, 40), (20, 64), (64, 64)]):
        pixels = np.random.default_rng(place).integers(0, 255, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{place}.png")
    files = sorted(map(str, tmp_path.iterdir()))
    check_modality(Picture(32, resize="fit"), files, bad=[b"GIF89a"], backbone=Mapped())


def test_all_of_a_picture_is_shown_in_its_shape() -> None:
    pixels = torch.full((100, 50, 3), 200, dtype=torch.uint8)
    example = Picture(64, resize="fit").load(pixels)
    assert example["size"].tolist() == [64, 32] and example["full"].tolist() == [100, 50]
    assert bool((example["pixels"][:, :64, :32] == 200).all()) and not example["pixels"][:, :, 32:].any()
    box = torch.tensor([[10.0, 20.0, 50.0, 100.0]])
    there = on_canvas(box, example)
    assert there[0].tolist() == pytest.approx([6.4, 12.8, 32, 64])


def test_floats_that_are_no_picture_are_told() -> None:
    with pytest.raises(DataError, match="uint8"):
        fitted_in(torch.full((3, 8, 8), -1.0), None)


@pytest.mark.parametrize("name", ["flip", "mirror", "crop", "flip_crop", "zoom", "color", "zoom_color"])
@pytest.mark.parametrize("seed", range(4))
def test_what_is_told_moves_with_the_picture(name: str, seed: int) -> None:
    torch.manual_seed(seed)
    found: Any = TRANSFORMS[name](sample())  # type: ignore[arg-type]
    pixels, target = found["input"]["pixels"][0], found["target"]
    assert pixels.shape == (CANVAS, CANVAS) and not pixels[HEIGHT:].any()
    white = pixels > 100
    if not len(target["boxes"]):
        assert white.sum() < 100  # hardly anything is left
        return
    rows, columns = white.nonzero().unbind(1)
    box = [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]
    assert target["boxes"][0].tolist() == pytest.approx(box, abs=1.01)
    assert (target["masks"][0].bool() != white).sum() < 0.02 * white.sum() + 150
    left, right, absent = target["keypoints"][0]
    assert absent.tolist() == [0, 0, 0]
    for point in (left, right):
        if point[2]:
            assert white[int(point[1]), min(int(point[0].round()), WIDTH - 1)]
    assert not (left[2] and right[2]) or left[0] < right[0]  # a mirror changes their names


def test_what_a_crop_leaves_nothing_of_goes_with_all_that_is_told_of_it() -> None:
    start = sample()
    start["target"] = {
        name: torch.cat([leaf, torch.zeros_like(leaf)]) for name, leaf in start["target"].items() if name != "swap"
    }
    start["target"]["boxes"][1] = torch.tensor([70.0, 40, 80, 60])
    start["target"]["masks"][1, 40:60, 70:80] = 1

    def left_half(*places: Any) -> Any:
        from torchvision.transforms.v2 import functional as F

        return tuple(F.resized_crop(place, 0, 0, HEIGHT, 40, [HEIGHT, WIDTH]) for place in places)

    target = moved(left_half, start)["target"]
    assert [len(leaf) for leaf in target.values()] == [1] * 4
    assert target["boxes"][0].tolist() == pytest.approx([60, 10, 80, 30])
    assert target["keypoints"][0, 1].tolist() == [0, 0, 0]  # beyond the edge


def test_the_class_of_each_pixel_moves_too() -> None:
    example = sample()["input"]
    labels, mask = (example["pixels"][0] > 127).long(), torch.zeros(CANVAS, CANVAS, dtype=torch.bool)
    mask[:HEIGHT] = True
    for seed in range(4):
        torch.manual_seed(seed)
        found: Any = TRANSFORMS["zoom"](  # type: ignore[arg-type]
            {"input": example, "target": {"labels": labels, "mask": mask}}
        )
        white = found["input"]["pixels"][0] > 127
        assert ((found["target"]["labels"] == 1) != white).sum() < 150
        assert found["target"]["mask"].equal(mask)
        torch.manual_seed(seed)
        bare: Any = TRANSFORMS["zoom"]({"input": example, "target": labels})  # type: ignore[arg-type]
        assert bare["target"].equal(found["target"]["labels"])


def test_augmentation_of_classes_alone_is_refused_where_there_are_places() -> None:
    with pytest.raises(ConfigError, match="take 'flip'"):
        TRANSFORMS["trivial_augment"](sample())  # type: ignore[arg-type]


def test_a_picture_alone_is_moved_as_before() -> None:
    pixels = torch.randint(0, 255, (3, 32, 32), dtype=torch.uint8)
    torch.manual_seed(0)
    one = TRANSFORMS["flip_crop"](pixels)
    torch.manual_seed(0)
    other: Any = of_samples(TRANSFORMS["flip_crop"])({"input": pixels})  # type: ignore[arg-type]
    assert one.equal(other["input"])


def test_feature_maps_do_not_see_what_lies_beside_a_picture() -> None:
    encoder = build_encoder("mobilenetv3_small_050", {"features_only": True}, pretrained=False).eval()
    pixels = torch.randint(0, 255, (1, 3, 64, 64), dtype=torch.uint8)
    other = pixels.clone()
    other[..., 48:] = 255
    size = torch.tensor([[64, 48]])
    maps = encoder.maps({"pixels": pixels, "size": size})
    assert [one.shape[-1] for one in maps] == [32, 16, 8, 4, 2]
    for one, again in zip(maps, encoder.maps({"pixels": other, "size": size}), strict=True):
        assert one.equal(again)


@pytest.mark.parametrize("backbone", ["conv4", nn.Flatten()])
def test_a_network_without_feature_maps_is_told(backbone: Any) -> None:
    with pytest.raises(ConfigError, match="as a whole"):
        options = {"features_only": True} if isinstance(backbone, str) else None
        encoder = build_encoder(backbone, options, pretrained=False)
        encoder.maps({"pixels": torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "size": torch.tensor([[8, 8]])})
