"""Heads that tell of each pixel by feature maps, segmentation-models-pytorch's decoders.

U-Net: Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597. U-Net++: Zhou et al. 2018, https://arxiv.org/abs/1807.10165.
FPN: Kirillov et al. 2019, https://arxiv.org/abs/1901.02446. DeepLabV3+: Chen et al. 2018, https://arxiv.org/abs/1802.02611.
SegFormer: Xie et al. 2021, https://arxiv.org/abs/2105.15203.

Shapes: N pictures, D channels, h w of a map, H W of the canvas, C answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pkgutil import resolve_name
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.errors import ConfigError, check_choice, require

_GROUPS = 8
_STRIDES = (2, 4, 8, 16, 32)
_UNET = (256, 128, 64, 32, 16)


def _unet(width: int) -> dict[str, Any]:
    return {"decoder_channels": [max(8, channels * width // 256) for channels in _UNET]}


_MADE: Mapping[str, tuple[str, Callable[[int], dict[str, Any]]]] = {
    "unet": ("unet.decoder:UnetDecoder", _unet),
    "unetplusplus": ("unetplusplus.decoder:UnetPlusPlusDecoder", _unet),
    "fpn": (
        "fpn.decoder:FPNDecoder",
        lambda width: {"pyramid_channels": width, "segmentation_channels": max(32, width // 64 * 32)},
    ),
    "deeplabv3plus": (
        "deeplabv3.decoder:DeepLabV3PlusDecoder",
        lambda width: {
            "encoder_depth": 5,
            "out_channels": width,
            "atrous_rates": (12, 24, 36),
            "output_stride": 16,
            "aspp_separable": True,
            "aspp_dropout": 0.5,
        },
    ),
    "segformer": ("segformer.decoder:SegformerDecoder", lambda width: {"segmentation_channels": width}),
}
DECODERS = tuple(_MADE)
OF_BACKBONE: Mapping[str, Mapping[str, Any]] = {"deeplabv3plus": {"output_stride": 16}}
"""Options of timm's networks that a decoder asks for."""


class MapDecoder(nn.Module):
    """Answers of each pixel by the feature maps of a picture.

    Args:
        name: one of ``DECODERS``.
        channels: D of each map that it is given, from the finest to the coarsest.
        strides: of each, in pixels.
        answers: C.
        width: channels of the decoder.

    Raises:
        ConfigError: the name is unknown, or the maps are not what it stands on.
        MissingPackageError: segmentation-models-pytorch is not installed.
    """

    def __init__(self, name: str, channels: Sequence[int], strides: Sequence[int], answers: int, width: int) -> None:
        super().__init__()
        check_choice("decoder", name, *DECODERS)
        require("segmentation_models_pytorch", extra="segmentation")
        place, options = _MADE[name]
        deepest = 4 if name == "deeplabv3plus" else 5
        wanted = (*_STRIDES[:4], 16) if deepest == 4 else _STRIDES
        self.places = _chosen(strides, wanted)
        """Which map is that of each stride; None: there is none, and nothing stands for it."""
        if any(own is None for own in self.places[1:]):
            raise ConfigError(
                f"decoder='{name}' stands on feature maps of strides 4 to 32, and the backbone's have {[*strides]}: "
                "choose another backbone, such as 'resnet18'"
            )
        of_maps = [0 if own is None else channels[own] for own in self.places]
        made: Any = resolve_name(f"segmentation_models_pytorch.decoders.{place}")
        self.decoder = _by_groups(made(encoder_channels=[3, *of_maps], **options(width)))
        with torch.no_grad():
            maps = [
                torch.zeros(1, own, 64 // stride, 64 // stride) for own, stride in zip(channels, strides, strict=True)
            ]
            before = self.decoder.training
            features = self.decoder.eval()(self._features(maps, torch.zeros(1, 3, 64, 64)))
            self.decoder.train(before)
        self.ask = nn.Conv2d(features.shape[1], answers, 3, padding=1)

    def forward(self, maps: Sequence[Tensor], pixels: Tensor) -> Tensor:
        """Return logits ``[N, C, H, W]``.

        Args:
            maps: of all of the backbone, ``[N, D, h, w]`` each.
            pixels: ``[N, 3, H, W]``, of which the shape alone counts.
        """
        logits = self.ask(self.decoder(self._features(maps, pixels)))
        return F.interpolate(logits, pixels.shape[2:], mode="bilinear", align_corners=False)

    def _features(self, maps: Sequence[Tensor], pixels: Tensor) -> list[Tensor]:
        first = maps[0]
        size = [side // 2 for side in pixels.shape[2:]]
        none = first.new_zeros(first.shape[0], 0, *size)  # whose number a traced graph may not know
        return [first.new_zeros(first.shape[0], 3, *pixels.shape[2:])] + [
            none if own is None else maps[own] for own in self.places
        ]


def _by_groups(network: nn.Module) -> nn.Module:
    """Put GroupNorm in place of BatchNorm, so that no picture's answer depends on those beside it, few as they are."""
    for name, child in network.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(network, name, nn.GroupNorm(math.gcd(child.num_features, _GROUPS), child.num_features))
        else:
            _by_groups(child)
    return network


def _chosen(strides: Sequence[int], wanted: Sequence[int]) -> list[int | None]:
    """Return the deepest map of each stride; of two that are wanted of one stride the last two."""
    found: list[int | None] = []
    for place, stride in enumerate(wanted):
        own = [number for number, one in enumerate(strides) if one == stride]
        later = wanted[place + 1 :].count(stride)
        found.append(own[-1 - later] if len(own) > later else None)
    return found
