"""Networks of point clouds: PointNet, and the trivial baseline.

Shapes: N clouds, P points, C numbers of each, D features.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from quickstudy.batches import Batch
from quickstudy.errors import check_counts
from quickstudy.nets.registry import BACKBONES


def perceptron(*widths: int) -> nn.Sequential:
    """Return layers that take each point by itself; what is normalised is so by its own features.

    BatchNorm, as in the papers, would let padding and other clouds have a part in an answer.
    """
    layers = [
        nn.Sequential(nn.Linear(before, after, bias=False), nn.LayerNorm(after), nn.ReLU())
        for before, after in itertools.pairwise(widths)
    ]
    return nn.Sequential(*layers)


def most(features_NPD: Tensor, mask_NP: Tensor) -> Tensor:
    """Return the largest of each feature among the points of each cloud that are there, ``[N, D]``."""
    lowest = torch.finfo(features_NPD.dtype).min
    return features_NPD.masked_fill(~mask_NP[..., None], lowest).amax(1)


@BACKBONES.register("pointnet")
class PointNet(nn.Module):
    """Layers that see each point by itself, and the largest of each feature: Qi et al. 2017.

    https://arxiv.org/abs/1612.00593, without its transformers of inputs and features.

    Args:
        channels: numbers of a point beside x, y, z.
        widths: of the layers; the last is D.
    """

    def __init__(self, channels: int = 0, widths: Sequence[int] = (64, 64, 128, 256)) -> None:
        super().__init__()
        check_counts(0, channels=channels)
        check_counts(**{f"widths[{place}]": width for place, width in enumerate(widths)})
        self.layers = perceptron(3 + channels, *widths)

    def forward(self, clouds: Batch) -> Tensor:
        """Embed ``{"points": [N, P, C], "mask": [N, P]}``: ``[N, D]``."""
        return most(self.layers(clouds["points"]), clouds["mask"])

    def per_point(self, clouds: Batch) -> Tensor:
        """Return what is known of each point, ``[N, P, 2 D]``: its own features, and those of its cloud."""
        own_NPD = self.layers(clouds["points"])
        whole_ND = most(own_NPD, clouds["mask"])
        return torch.cat([own_NPD, whole_ND[:, None].expand_as(own_NPD)], -1)


class DistanceHistogram(nn.Module):
    """How often points of a cloud are how far from each other, the shape distribution D2: Osada et al. 2002.

    https://doi.org/10.1145/571647.571648

    Args:
        bins: D, of the distances from 0 to 2 in a cloud that is normalised.
        points: of a cloud that are compared with one another at most, the first.
    """

    def __init__(self, bins: int = 64, points: int = 256) -> None:
        super().__init__()
        self.bins, self.points = bins, points

    def forward(self, clouds: Batch) -> Tensor:
        """Return shares of distances, ``[N, D]``."""
        points_NP3 = clouds["points"][:, : self.points, :3]
        mask_NP = clouds["mask"][:, : self.points]
        pairs_NPP = (mask_NP[:, :, None] & mask_NP[:, None]).to(points_NP3.dtype)
        apart_NPP = squares(points_NP3, points_NP3).clamp_min(0).sqrt()
        bin_NPP = (apart_NPP * (self.bins / 2)).long().clamp(max=self.bins - 1)
        counts_ND = pairs_NPP.new_zeros(points_NP3.shape[0], self.bins)
        counts_ND = counts_ND.scatter_add(1, bin_NPP.flatten(1), pairs_NPP.flatten(1))
        shares_ND: Tensor = counts_ND / counts_ND.sum(1, keepdim=True)
        return shares_ND


def squares(one_NP3: Tensor, other_NQ3: Tensor) -> Tensor:
    """Return the squared distances of points from others, ``[N, P, Q]``, by a product, which is written as a graph."""
    lengths = one_NP3.square().sum(-1)[..., :, None] + other_NQ3.square().sum(-1)[..., None, :]
    return lengths - 2 * one_NP3 @ other_NQ3.transpose(-1, -2)
