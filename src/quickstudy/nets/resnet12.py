"""The twelve-layer residual encoder of MetaOptNet, with DropBlock.

Lee et al. 2019, "Meta-Learning with Differentiable Convex Optimization", https://arxiv.org/abs/1904.03758
Ghiasi et al. 2018, "DropBlock: A regularization method for convolutional networks", https://arxiv.org/abs/1810.12890
"""

from __future__ import annotations

from torch import Tensor, nn

from quickstudy.errors import require
from quickstudy.nets.registry import BACKBONES


class _Block(nn.Module):
    def __init__(self, in_channels: int, channels: int, drop_rate: float, drop_block: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for position in range(3):
            layers += [
                nn.Conv2d(in_channels if position == 0 else channels, channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(channels),
            ]
            if position < 2:
                layers.append(nn.LeakyReLU(0.1, inplace=True))
        self.residual = nn.Sequential(*layers)
        self.shortcut = nn.Sequential(nn.Conv2d(in_channels, channels, 1, bias=False), nn.BatchNorm2d(channels))
        self.activation = nn.LeakyReLU(0.1, inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.drop: nn.Module = _DropBlock(drop_rate, drop_block) if drop_block > 1 else nn.Dropout(drop_rate)

    def forward(self, inputs: Tensor) -> Tensor:
        pooled: Tensor = self.pool(self.activation(self.residual(inputs) + self.shortcut(inputs)))
        dropped: Tensor = self.drop(pooled)
        return dropped


class _DropBlock(nn.Module):
    def __init__(self, rate: float, side: int) -> None:
        super().__init__()
        self.rate, self.side = rate, side
        self._drop = require("torchvision.ops", extra="image").drop_block2d

    def forward(self, inputs: Tensor) -> Tensor:
        side = min(self.side, *inputs.shape[-2:])
        side -= 1 - side % 2  # a square has a centre; small images have maps of even sides
        dropped: Tensor = self._drop(inputs, self.rate, side, training=self.training)
        return dropped


@BACKBONES.register("resnet12")
class ResNet12(nn.Module):
    """Four residual blocks of three convolutions each: 64, 160, 320 and 640 filters.

    Args:
        in_channels: channels of the images.
        pool: average over the places, which gives 640 features; False flattens them, as MetaOptNet does
            (16,000 features at 84 pixels).
        drop_rate: share of the activations that training drops; 0 for none.
        drop_block: side of the squares that are dropped in the last two blocks; the first two drop single values.

    Input ``[N, in_channels, H, W]`` of at least 16x16, output ``[N, 640, 1, 1]`` or ``[N, 640, H // 16, W // 16]``.
    """

    def __init__(self, in_channels: int = 3, pool: bool = True, drop_rate: float = 0.1, drop_block: int = 5) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            _Block(in_channels, 64, drop_rate, 1),
            _Block(64, 160, drop_rate, 1),
            _Block(160, 320, drop_rate, drop_block),
            _Block(320, 640, drop_rate, drop_block),
        )
        self.pool = nn.AdaptiveAvgPool2d(1) if pool else nn.Identity()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="leaky_relu")

    def forward(self, inputs: Tensor) -> Tensor:
        """Embed inputs."""
        features: Tensor = self.pool(self.blocks(inputs))
        return features
