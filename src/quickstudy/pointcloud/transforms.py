"""Ready-made augmentation of point clouds, by name: ``transform="rotate_z_scale_jitter"``.

Each takes and returns a cloud, ``{"points": [P, 3 + F], "mask": [P]}``, of which x, y and z are the first three; or a
sample of one, ``{"input": cloud, "target": ...}``, of whose target what is of points that are left out goes with them.

Shapes: P points, F features beside x, y, z.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from quickstudy.batches import Batch
from quickstudy.data.samples import TRANSFORMS, of_samples
from quickstudy.errors import ConfigError
from quickstudy.pointcloud.modality import thinned

_NAMED = {
    "rotate_z": ("rotate_z",),
    "rotate_y": ("rotate_y",),
    "rotate_any": ("rotate_any",),
    "jitter": ("jitter",),
    "scale": ("scale",),
    "scale_jitter": ("scale", "jitter"),
    "scale_jitter_drop": ("scale", "jitter", "drop"),
    "rotate_z_scale_jitter": ("rotate_z", "scale", "jitter"),
    "rotate_y_scale_jitter": ("rotate_y", "scale", "jitter"),
    "rotate_z_scale_jitter_drop": ("rotate_z", "scale", "jitter", "drop"),
    "rotate_y_scale_jitter_drop": ("rotate_y", "scale", "jitter", "drop"),
    "cloud_views": ("rotate_z", "scale", "jitter", "drop_much"),
}
_LEAST, _LARGEST = 0.8, 1.25
"""Factors that a cloud is scaled by: Qi et al. 2017, https://arxiv.org/abs/1706.02413."""
_SPREAD, _FARTHEST = 0.01, 0.05
"""How far points are moved, of how far a cloud reaches from its middle, as a deviation and at most."""


def _in_turn(parts: tuple[str, ...], sample: Batch) -> Batch:
    if "points" in sample:
        cloud: Batch = _in_turn(parts, {"input": sample})["input"]
        return cloud
    for part in parts:
        sample = _PARTS[part](sample)
    return sample


def moved(sample: Batch, turn_33: Tensor, factor: float = 1.0) -> Batch:
    """Return a sample whose points were turned and scaled about 0.

    Args:
        sample: ``{"input": {"points": ...}}``
        turn_33: a rotation, that rows are multiplied by.
        factor: that they are scaled by.
    """
    points = sample["input"]["points"]
    xyz = factor * points[:, :3] @ turn_33.to(points.dtype)
    return _with_boxes(_with_points(sample, torch.cat([xyz, points[:, 3:]], 1)), turn_33, factor)


def _with_boxes(sample: Batch, turn_33: Tensor, factor: float) -> Batch:
    """Return a sample whose boxes, if there are any, were turned and scaled likewise."""
    target = sample.get("target")
    if not isinstance(target, dict) or "boxes" not in target:
        return sample
    if abs(float(turn_33[2, 2]) - 1) > 1e-6:
        raise ConfigError("boxes stand upright, and this transform turns them over: take one that turns about z")
    boxes, turn = target["boxes"], turn_33.to(target["boxes"].dtype)
    ahead = torch.stack([boxes[:, 6].cos(), boxes[:, 6].sin()], 1) @ turn[:2, :2]
    yaw = torch.atan2(ahead[:, 1:], ahead[:, :1])
    moved_boxes = torch.cat([factor * boxes[:, :3] @ turn, factor * boxes[:, 3:6], yaw], 1)
    return {**sample, "target": {**target, "boxes": moved_boxes}}


def _with_points(sample: Batch, points: Tensor) -> Batch:
    return {**sample, "input": {**sample["input"], "points": points}}


def about(axis: int, angle: float) -> Tensor:
    """Return the rotation ``[3, 3]`` of rows about an axis, 0 to 2, by an angle in radians."""
    one, other = (axis + 1) % 3, (axis + 2) % 3
    turn = torch.eye(3, dtype=torch.float64)
    turn[one, one] = turn[other, other] = math.cos(angle)
    turn[one, other], turn[other, one] = math.sin(angle), -math.sin(angle)
    return turn


def _angle() -> float:
    return 2 * math.pi * float(torch.rand(()))


def _rotated(axis: int, sample: Batch) -> Batch:
    return moved(sample, about(axis, _angle()))


def _rotated_anyhow(sample: Batch) -> Batch:
    """Turn it to any side, each of which is as likely: by a quaternion of normal numbers."""
    w, x, y, z = torch.nn.functional.normalize(torch.randn(4, dtype=torch.float64), dim=0).tolist()
    turn = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return moved(sample, torch.tensor(turn, dtype=torch.float64))


def _scaled(sample: Batch) -> Batch:
    return moved(sample, torch.eye(3), _LEAST + (_LARGEST - _LEAST) * float(torch.rand(())))


def _jittered(sample: Batch) -> Batch:
    """Move each point a little, as measured ones are."""
    points = sample["input"]["points"]
    reach = (points[:, :3] - points[:, :3].mean(0)).abs().max()
    off = (_SPREAD * torch.randn(len(points), 3, dtype=points.dtype)).clamp(-_FARTHEST, _FARTHEST) * reach
    return _with_points(sample, torch.cat([points[:, :3] + off, points[:, 3:]], 1))


def _dropped(most: float, sample: Batch) -> Batch:
    """Leave out up to a share of the points."""
    count = len(sample["input"]["mask"])
    return thinned(sample, max(math.ceil(count * (1 - most * float(torch.rand(())))), 1))


_PARTS: dict[str, Callable[[Batch], Batch]] = {
    "rotate_z": partial(_rotated, 2),
    "rotate_y": partial(_rotated, 1),
    "rotate_any": _rotated_anyhow,
    "scale": _scaled,
    "jitter": _jittered,
    "drop": partial(_dropped, 0.3),
    "drop_much": partial(_dropped, 0.7),
}

for _name, _parts in _NAMED.items():
    TRANSFORMS.register(_name)(of_samples(partial(_in_turn, _parts)))
