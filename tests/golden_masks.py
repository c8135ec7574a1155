"""A small Mask R-CNN with what it answers, in tests/golden/masks-1: ``python tests/golden_masks.py`` writes it.

Run once, by the version that first wrote such files: later versions must read them, so that nobody writes them again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from quickstudy.batches import stack, take
from quickstudy.image import Picture
from quickstudy.kinds.instances import InstanceSegmentation
from quickstudy.nets import Encoder
from quickstudy.trained import TrainedModel

FOLDER = Path(__file__).parent / "golden" / "masks-1"
NAMES, SIDE = ("square", "bar"), 64
_STEPS = 150


class Maps(nn.Module):
    """Feature maps of strides 8 and 16, of a few layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 16, 4, 4), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU())

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Return the maps."""
        fine = self.first(pixels)
        return [fine, self.second(fine)]


def pictures(count: int) -> tuple[Tensor, list[tuple[str, tuple[int, int, int, int]]]]:
    """Return dark pictures uint8 ``[N, 3, 64, 64]`` with a bright square or bar each, and what and where it is."""
    generator, shown, told = torch.Generator().manual_seed(0), [], []
    for number in range(count):
        wide, high = ((24, 24), (30, 12))[number % 2]
        x, y = (int(torch.randint(SIDE - side, (), generator=generator)) for side in (wide, high))
        picture = torch.full((3, SIDE, SIDE), 30, dtype=torch.uint8)
        picture[number % 2, y : y + high, x : x + wide] = 240
        shown.append(picture)
        told.append((NAMES[number % 2], (x, y, x + wide, y + high)))
    return torch.stack(shown), told


def trained() -> TrainedModel:
    """Return a model that learned some pictures."""
    torch.manual_seed(0)
    shown, told = pictures(24)
    modality = Picture(SIDE, resize="fit")
    inputs = stack([modality(picture) for picture in shown])
    boxes = torch.tensor([[box] for _, box in told], dtype=torch.float32)
    rows, columns = torch.arange(SIDE)[:, None], torch.arange(SIDE)
    left, top, right, bottom = (side[..., None, None] for side in boxes.unbind(-1))
    masks = (columns >= left) & (columns < right) & (rows >= top) & (rows < bottom)
    labels = torch.tensor([[NAMES.index(name)] for name, _ in told])
    targets = {"boxes": boxes, "labels": labels, "masks": masks.to(torch.uint8), "mask": torch.ones_like(labels).bool()}
    kind = InstanceSegmentation(classes=NAMES, ids=NAMES, codes=(0, 1), width=8, most=5, min_score=0.5)
    encoder = Encoder(Maps())
    head = kind.head(encoder, take(inputs, slice(1)))
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=5e-3)
    for _ in range(_STEPS):
        optimizer.zero_grad()
        kind.judge(encoder, head, inputs, targets, kind.loss(None)).loss.backward()
        optimizer.step()
    return TrainedModel(encoder.eval(), head.eval(), kind, modality, take(inputs, slice(1)))


def answers(model: TrainedModel, asked: Tensor) -> list[list[dict[str, Any]]]:
    """Return what it finds in pictures, in plain values."""
    found: list[list[dict[str, Any]]] = model.predict(list(asked))
    return found


if __name__ == "__main__":
    FOLDER.mkdir(parents=True)
    made, some = trained(), pictures(4)[0]
    made.save(FOLDER / "mask_rcnn")
    safetensors.torch.save_file({"asked": some}, FOLDER / "pictures.safetensors")
    expected = json.dumps(answers(made, some), indent=1)
    (FOLDER / "mask_rcnn" / "expected.json").write_text(expected + "\n", encoding="utf-8")
