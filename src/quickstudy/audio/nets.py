"""Networks of sounds.

Shapes: N sounds, F bands, T frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from quickstudy.nets.conv4 import Conv4
from quickstudy.nets.registry import BACKBONES


@BACKBONES.register("audio_conv4")
class AudioConv4(Conv4):
    """``conv4`` on spectra ``[N, 1, F, T]``; see ``Conv4`` for the options."""

    reads: Mapping[str, Any] = {"name": "audio", "options": {"features": "log_mel"}}

    def __init__(self, hidden: int = 64, norm: Literal["batch", "group"] = "batch", pools: int = 4) -> None:
        super().__init__(in_channels=1, hidden=hidden, norm=norm, pools=pools)
