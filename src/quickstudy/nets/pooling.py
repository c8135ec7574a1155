"""2x2 max pooling, fast on a CPU with channels first too, and without keeping what it pooled.

Shapes: N images, C channels, H height, W width.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

_LARGE = 2**17  # numbers in all; measured with a first and with a second derivative, on one core


class MaxPool2x2(nn.MaxPool2d):
    """torch's ``MaxPool2d(2)``, which for its gradients keeps the places of the largest values and not the maps too.

    With channels first, as for second derivatives in MAML, it is about twice as fast. Small maps are left to torch,
    whose one call takes less time than our several, as are graphs that are exported, which then hold one node.
    """

    def __init__(self) -> None:
        super().__init__(2)

    def forward(self, maps: Tensor) -> Tensor:
        """Pool maps ``[N, C, H, W]`` to ``[N, C, H // 2, W // 2]``."""
        ours = not torch.compiler.is_compiling() and maps.device.type == "cpu" and _gains(maps)
        pooled: Tensor = _Pooled.apply(maps)[0] if ours else super().forward(maps)
        return pooled


def _gains(maps: Tensor) -> bool:
    # Of maps that become single places torch hands gradients on in another layout, and what follows rounds otherwise.
    return maps.numel() >= _LARGE or min(maps.shape[-2:]) < 4


class _Pooled(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(maps: Tensor) -> tuple[Tensor, Tensor]:
        """Return the largest values, and their places among the H * W."""
        if maps.is_contiguous():
            return _largest(maps)
        pooled, places = torch.ops.aten.max_pool2d_with_indices(maps, [2, 2], [2, 2])
        return pooled, places

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        """Keep the places, and the size of the maps."""
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])
        ctx.save_for_forward(output[1])
        ctx.size = inputs[0].shape[-2:]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> Tensor:
        """Hand each gradient to the place of its value."""
        back: Tensor = _Placed.apply(gradient, *ctx.saved_tensors, ctx.size)
        return back

    @staticmethod
    def jvp(ctx: Any, tangents: Tensor) -> tuple[Tensor, None]:
        """Take the tangents at the places."""
        return _taken(tangents, *ctx.saved_tensors), None


class _Placed(torch.autograd.Function):
    """Maps of a size with values at their places and 0 elsewhere. (torch's own loops under vmap, and says so.)"""

    @staticmethod
    def forward(values: Tensor, places: Tensor, size: torch.Size) -> Tensor:
        maps: Tensor
        if places.is_contiguous():  # this is faster with channels first
            maps = values.new_zeros(*places.shape[:-2], math.prod(size))
            maps.scatter_(-1, places.flatten(-2), values.flatten(-2))
            return maps.view(*places.shape[:-2], *size)
        maps = torch.ops.aten.max_unpool2d(values, places, size)
        return maps

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, torch.Size], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])
        ctx.save_for_forward(inputs[1])
        ctx.size = inputs[2]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _taken(gradient, *ctx.saved_tensors), None, None

    @staticmethod
    def jvp(ctx: Any, tangents: Tensor, *_: None) -> Tensor:
        placed: Tensor = _Placed.apply(tangents, *ctx.saved_tensors, ctx.size)
        return placed

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], values: Tensor, places: Tensor, size: torch.Size
    ) -> tuple[Tensor, int]:
        """Place the maps of all together."""
        stacks = (
            tensor.expand(info.batch_size, *tensor.shape) if axis is None else tensor.movedim(axis, 0)
            for tensor, axis in zip((values, places), in_dims[:2], strict=True)
        )
        placed = _Placed.apply(*(stack.flatten(0, 1) for stack in stacks), size)
        return placed.unflatten(0, (info.batch_size, -1)), 0


def _taken(maps: Tensor, places: Tensor) -> Tensor:
    """Return the values of maps at places."""
    return maps.flatten(-2).gather(-1, places.flatten(-2)).reshape(places.shape)


def _largest(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Find the largest by whole-tensor comparisons, where torch goes place by place."""
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
