"""A head of boxes in space: features of points in cells on the ground, pillars, and what each cell tells of a box.

Lang et al. 2019, https://arxiv.org/abs/1812.05784; what is asked is that of Yin et al. 2021,
https://arxiv.org/abs/2006.11275.

Shapes: N examples, P points, D features, C classes, H W cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NUMBERS = 8
"""What a cell tells of a box: where in the cell, how high, three sizes, sine and cosine of twice its turn."""


class Pillars(nn.Module):
    """Gathers the features of points in cells on the ground, and asks each cell of boxes.

    Args:
        features: D.
        width: channels.
        classes: C.
        extent: where middles of boxes are, x and y of two corners.
        side: of a cell, in the units of the points.
        cells: how many there are along y and x.
    """

    def __init__(
        self,
        features: int,
        width: int,
        classes: int,
        extent: Sequence[float],
        side: float,
        cells: tuple[int, int],
    ) -> None:
        super().__init__()
        self.corner, self.side, self.cells = tuple(extent[:2]), side, cells
        self.point = nn.Sequential(nn.Linear(features + 4, width), nn.LayerNorm(width), nn.ReLU())
        self.near = nn.Sequential(_layer(width, width), _layer(width, width))
        self.wide = nn.Sequential(_layer(width, 2 * width, 2), _layer(2 * width, 2 * width), _layer(2 * width, width))
        self.ask = nn.Sequential(_layer(2 * width, width), nn.Conv2d(width, classes + NUMBERS, 1))
        with torch.no_grad():
            last: Any = self.ask[-1]
            last.bias[:classes] = -3.0  # most cells have none

    def forward(self, features: Tensor, xyz: Tensor, mask: Tensor) -> Tensor:
        """From features ``[N, P, D]`` of points ``[N, P, 3]`` to maps ``[N, C + 8, H, W]``."""
        height, width = self.cells
        u, v = ((xyz[..., axis] - self.corner[axis]) / self.side for axis in (0, 1))
        inside = mask & (u >= 0) & (u < width) & (v >= 0) & (v < height)
        column, row = u.floor(), v.floor()
        off = torch.stack([u - column - 0.5, v - row - 0.5, xyz[..., 2], torch.ones_like(u)], -1)
        known = self.point(torch.cat([features, off], -1))
        cell = (row * width + column).where(inside, 0).long()
        cell = cell + height * width * torch.arange(len(cell), device=cell.device)[:, None]
        ground = known.new_zeros(len(cell) * height * width, known.shape[-1])
        places = cell[inside][:, None].expand(-1, known.shape[-1])
        ground = ground.scatter_reduce(0, places, known[inside], "amax")
        canvas = ground.view(len(cell), height, width, -1).permute(0, 3, 1, 2)
        near = self.near(canvas)
        wide = F.interpolate(self.wide(near), size=(height, width), mode="nearest")
        maps: Tensor = self.ask(torch.cat([near, wide], 1))
        return maps


def _layer(before: int, after: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.GroupNorm(4, after), nn.ReLU())
