"""A network of pictures over the frames of a video, and what size clips have to be.

Shapes: N videos, C channels, T frames, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from quickstudy.errors import ConfigError, check_choice

_READS = {"image_size": 224, "frames": 8}


class OverFrames(nn.Module):
    """A network of pictures on each frame, and of its features over the frames their mean.

    Args:
        network: of pictures.
        made_by: its name and its options.
        pooling: ``"mean"``, which tells nothing of the order of frames, or ``"attention"``: weights of the frames by
            their features, which are learned and begin equal.
        trained: whether it has trained weights; videos are then read as few large frames.

    Raises:
        ConfigError: attention is asked of a network that does not say how many features it makes.
    """

    def __init__(
        self,
        network: nn.Module,
        made_by: tuple[str, Mapping[str, Any]],
        pooling: Literal["mean", "attention"] = "mean",
        trained: bool = False,
    ) -> None:
        super().__init__()
        check_choice("pooling", pooling, "mean", "attention")
        self.network, self.trained = network, trained
        self.made_by: dict[str, Any] = {"of": made_by[0], "options": dict(made_by[1]), "pooling": pooling}
        self.reads: Mapping[str, Any] = {"name": "video", "options": dict(_READS) if trained else {}}
        self.normalized_by: tuple[list[float], list[float]] | None = None
        """Mean and deviation of pictures' channels, where it was trained on normalised ones."""
        self.query: nn.Parameter | None = None
        if pooling == "attention":
            width = getattr(network, "num_features", None)
            if width is None:
                raise ConfigError(
                    f"pooling='attention' needs a network that says how many features it makes, as timm's do, and "
                    f"'{made_by[0]}' does not: take pooling='mean'"
                )
            self.query = nn.Parameter(torch.zeros(width))

    def forward(self, clips: Tensor) -> Tensor:
        """Embed clips ``[N, C, T, H, W]``."""
        frames = clips.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        features_NTD: Tensor = self.network(frames).flatten(1).unflatten(0, (-1, clips.shape[2]))
        if self.query is None:
            return features_NTD.mean(1)
        weights_NT = (features_NTD @ self.query / len(self.query) ** 0.5).softmax(1)
        pooled_ND: Tensor = (weights_NT[..., None] * features_NTD).sum(1)
        return pooled_ND


def check_clips(clips: Tensor, frames: int, size: int | tuple[int, int], exactly: bool = False) -> None:
    """Check the size of what a network takes.

    Args:
        clips: ``[N, C, T, H, W]``
        frames: T, or the least.
        size: H and W in pixels, or the least.
        exactly: whether nothing else is taken.

    Raises:
        ConfigError: they are of another.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if clips.ndim == 5:
        own, wanted = clips.shape[2:], (frames, height, width)
        if own == wanted or (not exactly and all(one >= least for one, least in zip(own, wanted, strict=True))):
            return
    raise ConfigError(
        f"clips [N, C, T, H, W] of {'' if exactly else 'at least '}{frames} frames of {height}x{width} pixels are "
        f"needed, and these are of shape {tuple(clips.shape[1:])}: set frames={frames} and image_size="
        f"{height if height == width else (height, width)} of the data, {'or leave both out' if exactly else 'or more'}"
    )
