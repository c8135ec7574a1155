"""Networks of sounds.

Shapes: N sounds, F bands, T frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from quickstudy.errors import check_choice
from quickstudy.nets.conv4 import Conv4
from quickstudy.nets.registry import BACKBONES


@BACKBONES.register("audio_conv4")
class AudioConv4(Conv4):
    """``conv4`` on spectra ``[N, 1, F, T]``; see ``Conv4`` for the other options.

    Args:
        pooling: ``"mean_max"`` makes of each feature's values over time their mean and the largest, so that when
            something is heard does not matter (Kong et al. 2020, https://arxiv.org/abs/1912.10211); ``"none"`` keeps
            them all.
    """

    reads: Mapping[str, Any] = {"name": "audio", "options": {"features": "log_mel"}}

    def __init__(
        self,
        hidden: int = 64,
        norm: Literal["batch", "group"] = "batch",
        pools: int = 4,
        pooling: Literal["none", "mean_max"] = "none",
    ) -> None:
        super().__init__(in_channels=1, hidden=hidden, norm=norm, pools=pools)
        check_choice("pooling", pooling, "none", "mean_max")
        self._pooling = pooling

    def forward(self, inputs: Tensor) -> Tensor:
        """Embed spectra."""
        features_NCFT = super().forward(inputs)
        if self._pooling == "none":
            return features_NCFT
        return torch.cat([features_NCFT.mean(3), features_NCFT.amax(3)], 1)


class BandStatistics(nn.Module):
    """How loud each band of a spectrum is, by how much it varies, and how fast."""

    def forward(self, spectra: Tensor) -> Tensor:
        """Return ``[N, 3 * bands]``."""
        bands_NFT = spectra.flatten(1, 2)
        return torch.cat([bands_NFT.mean(2), bands_NFT.std(2), bands_NFT.diff(dim=2).abs().mean(2)], 1)
