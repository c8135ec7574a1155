"""Small made-up encoders and episodes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from quickstudy.episode import Episode
from quickstudy.nets import Encoder

WAYS, SHOTS, QUERIES, TASKS = 3, 2, 4, 3


def small_encoder(norm: bool = False) -> Encoder:
    """Return an encoder of images ``[1, 8, 8]`` in float64, without BatchNorm unless asked for."""
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
