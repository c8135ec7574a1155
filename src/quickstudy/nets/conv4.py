"""The four-block convolutional encoder of the few-shot literature.

Vinyals et al. 2016, "Matching Networks for One Shot Learning", https://arxiv.org/abs/1606.04080
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from quickstudy.errors import ConfigError
from quickstudy.nets.registry import BACKBONES

_SMALLEST = 16


@BACKBONES.register("conv4")
class Conv4(nn.Module):
    """Four blocks of 3x3 convolution, normalisation, ReLU and 2x2 max pooling.

    Args:
        in_channels: channels of the images, 3 for colour and 1 for grey.
        hidden: filters of each block.
        norm: ``"batch"``, or ``"group"`` for normalisation that depends on no other image.

    Input ``[N, in_channels, H, W]`` of at least 16x16, output ``[N, hidden, H // 16, W // 16]``.
    """

    def __init__(self, in_channels: int = 3, hidden: int = 64, norm: Literal["batch", "group"] = "batch") -> None:
        super().__init__()
        if norm not in ("batch", "group"):
            raise ConfigError(f"conv4 has norm='batch' or norm='group', not {norm!r}")

        def block(channels: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(channels, hidden, 3, padding=1),
                nn.BatchNorm2d(hidden) if norm == "batch" else nn.GroupNorm(min(8, hidden), hidden),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
            )

        self.blocks = nn.Sequential(block(in_channels), block(hidden), block(hidden), block(hidden))

    def forward(self, images: Tensor) -> Tensor:
        """Embed images."""
        height, width = images.shape[-2:]
        if min(height, width) < _SMALLEST:
            raise ConfigError(
                f"conv4 halves an image four times and needs at least {_SMALLEST}x{_SMALLEST} pixels; "
                f"these have {height}x{width}. Set image_size={_SMALLEST} or more"
            )
        features: Tensor = self.blocks(images)
        return features
