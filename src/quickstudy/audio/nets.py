"""Networks of sounds.

Shapes: N sounds, F bands, T frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from quickstudy.nets.conv4 import Conv4
from quickstudy.nets.registry import BACKBONES


@BACKBONES.register("audio_conv4")
class AudioConv4(Conv4):
    """``conv4`` on spectra ``[N, 1, F, T]``; see ``Conv4`` for the options."""

    reads: Mapping[str, Any] = {"name": "audio", "options": {"features": "log_mel"}}

    def __init__(self, hidden: int = 64, norm: Literal["batch", "group"] = "batch", pools: int = 4) -> None:
        super().__init__(in_channels=1, hidden=hidden, norm=norm, pools=pools)


class BandStatistics(nn.Module):
    """How loud each band of a spectrum is, by how much it varies, and how fast."""

    def forward(self, spectra: Tensor) -> Tensor:
        """Return ``[N, 3 * bands]``."""
        bands_NFT = spectra.flatten(1, 2)
        return torch.cat([bands_NFT.mean(2), bands_NFT.std(2), bands_NFT.diff(dim=2).abs().mean(2)], 1)
