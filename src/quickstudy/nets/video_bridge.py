"""Encoders of videos of transformers: VideoMAE, TimeSformer, ViViT, V-JEPA 2.

https://github.com/huggingface/transformers

Shapes: N videos, C channels, T frames, P places, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from quickstudy.nets.frames import check_clips
from quickstudy.nets.sequences import Pooling, pooled


class _Kind(NamedTuple):
    """What such models do not say of themselves."""

    pooling: Pooling
    """What their own classifiers look at."""
    frames: str = "num_frames"
    side: str = "image_size"
    any_length: bool = False
    """Whether they know the places of more and fewer frames, too; of frames of another size none does."""


_KINDS = {
    "videomae": _Kind("mean"),
    "timesformer": _Kind("cls"),
    "vivit": _Kind("cls"),
    "vjepa2": _Kind("mean", "frames_per_clip", "crop_size", any_length=True),
}
VIDEOS = tuple(_KINDS)
"""Types of models that read videos, as a ``config.json`` has them."""


class VideoEncoder(nn.Module):
    """An encoder of transformers that reads clips, and how its states become one vector.

    Tong et al. 2022, "VideoMAE", https://arxiv.org/abs/2203.12602; Bertasius et al. 2021, "TimeSformer",
    https://arxiv.org/abs/2102.05095; Arnab et al. 2021, "ViViT", https://arxiv.org/abs/2103.15691; Assran et al. 2025,
    "V-JEPA 2", https://arxiv.org/abs/2506.09985

    Args:
        model: of one of the types ``VIDEOS``.
        extractor: what its processor was set to, as its ``preprocessor_config.json`` has it; without, pixels of 0..1
            are fed.
        pooling: what the vector is; None: of VideoMAE and V-JEPA 2 the mean of all places, of the others the first.
    """

    adaptation_layers: int | Literal["all"] = "all"
    """What MAML and its family adapt of it, unless they are told: as their option of that name."""

    def __init__(self, model: Any, extractor: Mapping[str, Any] | None = None, pooling: Pooling | None = None) -> None:
        super().__init__()
        self.config = model.config
        """Of the whole model, which makes it again."""
        self.extractor = dict(extractor or {})
        kind = _KINDS[self.config.model_type]
        if getattr(model, "pooler", None) is not None:
            model.pooler = None  # without weights in most files
        self.network = model.encoder if self.config.model_type == "vjepa2" else model  # without what guesses the hidden
        self.pooling: Pooling = pooling or kind.pooling
        self.frames = int(getattr(self.config, kind.frames))
        side = getattr(self.config, kind.side)
        self.size: tuple[int, int] = (side, side) if isinstance(side, int) else tuple(side)
        self._any_length = kind.any_length
        self.normalized_by = _normalized_by(self.extractor)
        self.reads: Mapping[str, Any] = {"name": "video", "options": {"frames": self.frames, "image_size": side}}

    @property
    def blocks_of_layers(self) -> nn.ModuleList:
        """Its layers of attention, from the bottom to the top."""
        return max((module for module in self.network.modules() if isinstance(module, nn.ModuleList)), key=len)

    def forward(self, clips: Tensor) -> Tensor:
        """Return ``[N, D]`` of clips ``[N, C, T, H, W]``.

        Raises:
            ConfigError: it takes no clips of that size.
        """
        frames = clips.shape[2] if self._any_length and clips.ndim == 5 else self.frames
        check_clips(clips, frames, self.size, exactly=True)
        states_NPD = self.network(clips.transpose(1, 2)).last_hidden_state
        everything_NP = torch.ones(states_NPD.shape[:2], dtype=torch.bool, device=clips.device)
        return pooled(states_NPD, everything_NP, self.pooling)


def _normalized_by(extractor: Mapping[str, Any]) -> tuple[list[float], list[float]] | None:
    """Return mean and deviation of channels in units of 0..1; None: there are none."""
    mean, std = extractor.get("image_mean"), extractor.get("image_std")
    if not extractor.get("do_normalize", True) or mean is None or std is None:
        return None
    white = 255 * float(extractor.get("rescale_factor", 1 / 255))  # what it makes of a white pixel, before the offset
    offset = float(bool(extractor.get("offset")))  # of ViViT, whose pixels are of -1..1 before they are normalised
    return [(one + offset) / white for one in mean], [one / white for one in std]
