"""2x2 max pooling, fast on a CPU with channels first too.

Shapes: N images, C channels, H height, W width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class MaxPool2x2(nn.MaxPool2d):
    """torch's ``MaxPool2d(2)``: with channels first, as MAML's second derivatives want them, about twice as fast."""

    def __init__(self) -> None:
        super().__init__(2)

    def forward(self, maps: Tensor) -> Tensor:
        """Pool maps ``[N, C, H, W]`` to ``[N, C, H // 2, W // 2]``."""
        first = maps.device.type == "cpu" and maps.is_contiguous()
        pooled: Tensor = _Pooled.apply(maps)[0] if first else super().forward(maps)
        return pooled


class _Pooled(torch.autograd.Function):
    """Finds the largest by whole-tensor comparisons, where torch's goes place by place; the rest is torch's."""

    generate_vmap_rule = True

    @staticmethod
    def forward(maps: Tensor) -> tuple[Tensor, Tensor]:
        """Return the largest values, and their places among the H * W."""
        height, width = maps.shape[-2] // 2, maps.shape[-1] // 2
        left, right = (maps[..., : 2 * height, side : 2 * width : 2] for side in (0, 1))
        is_right, highest = right > left, torch.maximum(left, right)
        upper, lower = highest[..., 0::2, :], highest[..., 1::2, :]
        is_lower = lower > upper
        upper_is_right = is_right[..., 0::2, :]
        is_right = upper_is_right ^ ((upper_is_right ^ is_right[..., 1::2, :]) & is_lower)  # torch.where takes longer
        corners = 2 * (torch.arange(height)[:, None] * maps.shape[-1] + torch.arange(width))
        further = is_lower.to(torch.int32) * maps.shape[-1] + is_right  # few operations on 64 bits: they take longest
        return torch.maximum(upper, lower), corners + further

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        """Keep what torch's backward takes."""
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(inputs[0], output[1])
        ctx.save_for_forward(output[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> Tensor:
        """Hand each gradient to the place of its value."""
        maps, places = ctx.saved_tensors
        back: Tensor = torch.ops.aten.max_pool2d_with_indices_backward(
            gradient, maps, [2, 2], [2, 2], [0, 0], [1, 1], False, places
        )
        return back

    @staticmethod
    def jvp(ctx: Any, tangents: Tensor) -> tuple[Tensor, None]:
        """Take the tangents at the places."""
        (places,) = ctx.saved_tensors
        return tangents.flatten(-2).gather(-1, places.flatten(-2)).reshape(places.shape), None
