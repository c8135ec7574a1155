"""Networks that paint a picture in a style, and what compares pictures by the features of a network.

The network is that of Johnson et al. 2016, https://arxiv.org/abs/1603.08155, with instance normalisation (Ulyanov
et al. 2016, https://arxiv.org/abs/1607.08022) and enlarging before convolutions (Odena et al. 2016,
https://doi.org/10.23915/distill.00003). Styles are compared as Gatys et al. 2016 do, https://arxiv.org/abs/1508.06576.

Shapes: N pictures, H W pixels, D features, h w places of a map.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.errors import ConfigError
from quickstudy.nets.encoder import Encoder, build_encoder
from quickstudy.nets.registry import BACKBONES

_EPSILON = 1e-8


def _convolution(inside: int, outside: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Return a convolution over a picture that is mirrored at its edges."""
    return nn.Sequential(
        nn.ReflectionPad2d(kernel // 2),
        nn.Conv2d(inside, outside, kernel, stride),
        nn.InstanceNorm2d(outside, affine=True),
        nn.ReLU(),
    )


class Residual(nn.Module):
    """Two convolutions, and beside them what they change."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _convolution(width, width, 3)
        self.second = _convolution(width, width, 3)[:-1]

    def forward(self, features: Tensor) -> Tensor:
        """Return the features, changed."""
        changed: Tensor = features + self.second(self.first(features))
        return changed


@BACKBONES.register("restyling")
class Restyling(nn.Module):
    """Features of a picture at a quarter of its pixels a side, ``[N, 4 width, H / 4, W / 4]``.

    Args:
        width: channels at the size of the picture; four times as many at a quarter.
        blocks: residual blocks at that size.
    """

    normalized_by = (0.5,) * 3, (0.25,) * 3

    def __init__(self, width: int = 16, blocks: int = 4) -> None:
        super().__init__()
        self.first = _convolution(3, width, 9)
        self.smaller = nn.Sequential(_convolution(width, 2 * width, 3, 2), _convolution(2 * width, 4 * width, 3, 2))
        self.blocks = nn.Sequential(*(Residual(4 * width) for _ in range(blocks)))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the features."""
        features: Tensor = self.blocks(self.smaller(self.first(pixels)))
        return features


class Painter(nn.Module):
    """Makes a picture ``[N, 3, H, W]`` of 0..1 of such features.

    Args:
        channels: of the features.
        enlarge: how often as large, 1, 2, 4 or another power of 2; each time with half of the channels.
    """

    def __init__(self, channels: int, enlarge: int) -> None:
        super().__init__()
        steps, width = enlarge.bit_length() - 1, channels
        layers: list[nn.Module] = []
        for _ in range(steps):
            narrower = max(8, width // 2)
            layers += [nn.Upsample(scale_factor=2), _convolution(width, narrower, 3)]
            width = narrower
        self.larger = nn.Sequential(*layers)
        self.last = nn.Sequential(nn.ReflectionPad2d(4), nn.Conv2d(width, 3, 9), nn.Sigmoid())

    def forward(self, features: Tensor) -> Tensor:
        """Return the picture."""
        picture: Tensor = self.last(self.larger(features))
        return picture


class Perception:
    """How far a picture is in content from another, and in style from one, as a network that is not trained sees it.

    Both are shares: of the squared length of the other's features, and of that of the style's Gram matrices, so that
    nothing at all, or a picture of one grey, is about 1 away.

    Args:
        network: the name of a backbone that makes feature maps.
        pretrained: load its trained weights.
        content: the stride of the map that tells of content, in pixels.
        style: the strides of those that tell of style.
        picture: the style, ``[3, H, W]`` uint8.

    Raises:
        ConfigError: the network has no map of a stride.
    """

    def __init__(self, network: str, pretrained: bool, content: int, style: Sequence[int], picture: Tensor) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self._encoder = build_encoder(network, {"features_only": True}, pretrained).eval().requires_grad_(False)
        self._content, self._style = content, tuple(style)
        _, self._aimed = self._seen(picture[None].to(torch.get_default_dtype()) / 255)

    def __call__(self, painted: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the distance in content from pictures, and in style from that which there is, ``[N]`` each.

        Args:
            painted, pixels: ``[N, 3, H, W]`` of 0..1.
        """
        self._encoder.to(painted.device, painted.dtype)
        found, grams = self._seen(painted)
        with torch.no_grad():
            wanted, _ = self._seen(pixels.to(painted))
        content = (found - wanted).square().flatten(1).mean(1) / (wanted.square().flatten(1).mean(1) + _EPSILON)
        style = [
            (own - aim.to(own)).square().flatten(1).sum(1) / (aim.to(own).square().sum() + _EPSILON)
            for own, aim in zip(grams, self._aimed, strict=True)
        ]
        return content, torch.stack(style).mean(0)

    def _seen(self, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the map of content, and the Gram matrices."""
        encoder = self._encoder
        if encoder.mean is not None and encoder.std is not None:
            pixels = (pixels - encoder.mean.to(pixels)) / encoder.std.to(pixels)
        maps = _maps_of(encoder, pixels)
        if lacking := [stride for stride in (self._content, *self._style) if stride not in maps]:
            raise ConfigError(
                f"the network {type(encoder.backbone).__name__} has no feature map of stride {lacking[0]}, but of "
                f"{sorted(maps)}"
            )
        return maps[self._content], [gram(maps[stride]) for stride in self._style]


def _maps_of(encoder: Encoder, pixels: Tensor) -> dict[int, Tensor]:
    """Return feature maps by their strides."""
    fill = -pixels.shape[-1] % 32, -pixels.shape[-2] % 32
    if any(fill):  # so that strides are whole, with what is there already
        pixels = F.pad(pixels, (0, fill[0], 0, fill[1]), mode="replicate")
    found = encoder.backbone(pixels)
    if not isinstance(found, (list, tuple)):
        raise ConfigError(f"the network {type(encoder.backbone).__name__} makes no feature maps: name one of timm's")
    return {round(pixels.shape[-1] / one.shape[-1]): one for one in found}


def gram(features: Tensor) -> Tensor:
    """Return how much each two features go together, over all places: ``[N, D, D]`` of ``[N, D, h, w]``."""
    flat = features.flatten(2)
    return flat @ flat.mT / flat.shape[2]
