"""Networks for videos ``[N, C, T, H, W]``: small ones with 3-D convolutions.

Shapes: N videos, C channels, T frames, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from quickstudy.errors import ConfigError, check_counts
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
        _check_size(clips, 4, 8)
        features_ND: Tensor = self.blocks(clips).mean((2, 3, 4))
        return features_ND


def _check_size(clips: Tensor, frames: int, side: int) -> None:
    if clips.ndim != 5 or clips.shape[2] < frames or min(clips.shape[3:]) < side:
        raise ConfigError(
            f"clips [N, C, T, H, W] of at least {frames} frames of {side}x{side} pixels are needed, and these are of "
            f"shape {tuple(clips.shape[1:])}: set frames={frames} and image_size={side} of the data, or more"
        )
