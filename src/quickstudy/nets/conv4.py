"""The four-block convolutional encoder of the few-shot literature.

Vinyals et al. 2016, "Matching Networks for One Shot Learning", https://arxiv.org/abs/1606.04080
"""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor, nn

from quickstudy.errors import ConfigError, brief, check_counts
from quickstudy.nets.pooling import MaxPool2x2
from quickstudy.nets.registry import BACKBONES


@BACKBONES.register("conv4")
class Conv4(nn.Module):
    """Four blocks of 3x3 convolution, normalisation, ReLU and, all or the first of them, 2x2 max pooling.

    Args:
        in_channels: channels of the images, 3 for colour and 1 for grey.
        hidden: filters of each block.
        norm: ``"batch"``, or ``"group"`` for normalisation that depends on no other image.
        pools: how many blocks pool; relation networks, which compare maps, are published with 2.

    Input ``[N, in_channels, H, W]`` of at least 16x16 (``2 ** pools``), output ``[N, hidden, H // 2 ** pools,
    W // 2 ** pools]``.
    """

    def __init__(
        self, in_channels: int = 3, hidden: int = 64, norm: Literal["batch", "group"] = "batch", pools: int = 4
    ) -> None:
        super().__init__()
        check_counts(in_channels=in_channels, hidden=hidden)
        if pools not in range(5):
            raise ConfigError(f"conv4 has pools=0 to pools=4, not {brief(pools)}")
        if norm not in ("batch", "group"):
            raise ConfigError(f"conv4 has norm='batch' or norm='group', not {brief(norm)}")

        def block(channels: int, pool: bool) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(channels, hidden, 3, padding=1),
                nn.BatchNorm2d(hidden) if norm == "batch" else nn.GroupNorm(math.gcd(8, hidden), hidden),
                # Pooling first is the same function, of a quarter of the values to rectify.
                MaxPool2x2() if pool else nn.Identity(),
                nn.ReLU(inplace=True),
            )

        widths = (in_channels, hidden, hidden, hidden)
        self.blocks = nn.Sequential(*(block(width, place < pools) for place, width in enumerate(widths)))
        self._pools = pools

    def forward(self, inputs: Tensor) -> Tensor:
        """Embed inputs."""
        height, width = inputs.shape[-2:]
        least = 2**self._pools
        if min(height, width) < least:
            raise ConfigError(
                f"conv4 halves an image {self._pools} times and needs at least {least}x{least} pixels; "
                f"these have {height}x{width}. Set image_size={least} or more"
            )
        features: Tensor = self.blocks(inputs)
        return features
