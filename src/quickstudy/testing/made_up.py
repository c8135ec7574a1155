"""Small made-up encoders and episodes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from quickstudy.episode import Episode
from quickstudy.nets import Encoder

WAYS, SHOTS, QUERIES, TASKS = 3, 2, 4, 3


class Places(nn.Module):
    """Normalises features ``[N, C, H, W]`` as rows ``[N * H * W, C]``, as LeViT does: places are folded into rows."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        """Return maps of the same shape."""
        rows_NHWC = maps_NCHW.movedim(1, -1)
        normalized: Tensor = self.norm(rows_NHWC.flatten(0, 2)).view(rows_NHWC.shape).movedim(-1, 1)
        return normalized


def small_encoder(norm: bool = False, fold: bool = False) -> Encoder:
    """Return an encoder of images ``[1, 8, 8]`` in float64, without BatchNorm unless asked for.

    Args:
        norm: whether it has BatchNorm.
        fold: whether it has one that sees every place of an image as a row.
    """
    torch.manual_seed(0)
    layers: list[nn.Module] = [
        nn.Conv2d(1, 4, 3, padding=1),
        nn.Tanh(),
        nn.AvgPool2d(4),
        nn.Flatten(),
        nn.Linear(16, 6),
    ]
    if norm:
        layers.insert(1, nn.BatchNorm2d(4))
    if fold:
        layers.insert(1, Places(4))
    return Encoder(nn.Sequential(*layers)).double()


def small_episodes(
    tasks: int = TASKS,
    ways: int = WAYS,
    shots: int = SHOTS,
    queries: int = QUERIES,
    noise: float = 0.5,
    seed: int | None = None,
) -> Episode:
    """Return episodes of images ``[1, 8, 8]`` in float64: noise around a pattern per class."""
    generator = torch.Generator().manual_seed(tasks if seed is None else seed)

    def draw(each: int) -> Tensor:
        drawn = torch.randn(tasks, ways * each, 1, 8, 8, generator=generator, dtype=torch.float64)
        return patterns.repeat_interleave(each, 1) + noise * drawn

    patterns = torch.randn(tasks, ways, 1, 8, 8, generator=generator, dtype=torch.float64)
    codes = torch.arange(ways)
    return Episode(
        draw(shots),
        codes.repeat_interleave(shots).expand(tasks, -1),
        draw(queries),
        codes.repeat_interleave(queries).expand(tasks, -1),
    )
