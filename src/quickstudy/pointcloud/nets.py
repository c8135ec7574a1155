"""Networks of point clouds: PointNet, PointNet++, DGCNN, and the trivial baseline.

Each embeds clouds, and says by ``elements`` what is known of each point, by the same weights. What finds neighbours is
chosen without gradients, and by the places of points, so that it is the same in any batch.

Shapes: N clouds, P points, C numbers of each, D features, S centres, K neighbours.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.batches import Batch
from quickstudy.errors import ConfigError, check_counts
from quickstudy.nets.registry import BACKBONES

READS: Mapping[str, Any] = {"name": "pointcloud", "options": {}}


def perceptron(*widths: int) -> nn.Sequential:
    """Return layers that take each point by itself; what is normalised is so by its own features.

    BatchNorm, as in the papers, would let padding and other clouds have a part in an answer. Without a bias the first
    layer would see directions alone, since to be normalised is to lose how far from 0 a point is.
    """
    layers = [
        nn.Sequential(nn.Linear(before, after), nn.LayerNorm(after), nn.ReLU())
        for before, after in itertools.pairwise(widths)
    ]
    return nn.Sequential(*layers)


def most(features_NPD: Tensor, mask_NP: Tensor) -> Tensor:
    """Return the largest of each feature among the points of each cloud that are there, ``[N, D]``."""
    lowest = torch.finfo(features_NPD.dtype).min
    return features_NPD.masked_fill(~mask_NP[..., None], lowest).amax(1)


def _beside_whole(own_NPD: Tensor, mask_NP: Tensor) -> Tensor:
    return torch.cat([own_NPD, most(own_NPD, mask_NP)[:, None].expand_as(own_NPD)], -1)


@BACKBONES.register("pointnet")
class PointNet(nn.Module):
    """Layers that see each point by itself, and the largest of each feature: Qi et al. 2017.

    https://arxiv.org/abs/1612.00593, without its transformers of inputs and features.

    Args:
        channels: numbers of a point beside x, y, z.
        widths: of the layers; the last is D.
    """

    reads = READS

    def __init__(self, channels: int = 0, widths: Sequence[int] = (64, 64, 128, 256)) -> None:
        super().__init__()
        check_counts(0, channels=channels)
        check_counts(**{f"widths[{place}]": width for place, width in enumerate(widths)})
        self.layers = perceptron(3 + channels, *widths)

    def forward(self, clouds: Batch) -> Tensor:
        """Embed ``{"points": [N, P, C], "mask": [N, P]}``: ``[N, D]``."""
        return most(self.layers(clouds["points"]), clouds["mask"])

    def elements(self, clouds: Batch) -> Tensor:
        """Return what is known of each point, ``[N, P, 2 D]``: its own features, and those of its cloud."""
        return _beside_whole(self.layers(clouds["points"]), clouds["mask"])


@BACKBONES.register("pointnet2")
class PointNet2(nn.Module):
    """PointNet on the surroundings of some points, and again on those of fewer: PointNet++, Qi et al. 2017.

    https://arxiv.org/abs/1706.02413, with one radius at each level. Where more points than ``neighbours`` are
    within it, the nearest are taken, so that an answer does not depend on the order of points, as it does by the
    paper's code, which takes the first.

    Args:
        channels: numbers of a point beside x, y, z.
        centres: points of each level, which are the farthest from each other.
        radii: of their surroundings, in units of the cloud.
        neighbours: K, that are looked at in these at most: the nearest.
        widths: of the layers of each level, and at last of those that see the whole; their last is D.
    """

    reads = READS

    def __init__(
        self,
        channels: int = 0,
        centres: Sequence[int] = (128, 32),
        radii: Sequence[float] = (0.25, 0.5),
        neighbours: int = 16,
        widths: Sequence[Sequence[int]] = ((32, 32, 64), (64, 64, 128), (128, 256)),
    ) -> None:
        super().__init__()
        check_counts(0, channels=channels)
        check_counts(neighbours=neighbours)
        if not len(centres) == len(radii) == len(widths) - 1:
            raise ConfigError(
                f"{len(centres)} centres, {len(radii)} radii, {len(widths)} widths: each level has one of each, and "
                "there are widths of one more, of the whole"
            )
        self.centres, self.radii, self.neighbours = tuple(centres), tuple(radii), neighbours
        before = [channels, *(some[-1] for some in widths)]
        self.levels = nn.ModuleList(perceptron(3 + wide, *some) for wide, some in zip(before, widths, strict=False))

    def forward(self, clouds: Batch) -> Tensor:
        """Embed ``{"points": [N, P, C], "mask": [N, P]}``: ``[N, D]``."""
        return self._levels(clouds)[-1][-1][:, 0]

    def elements(self, clouds: Batch) -> Tensor:
        """Return what is known of each point, ``[N, P, ...]``: of the three nearest centres of each level, and all."""
        points_NP3 = clouds["points"][..., :3]
        levels = self._levels(clouds)
        known = [interpolated(points_NP3, *level) for level in levels[:-1]]
        whole_N1D = levels[-1][-1].expand(-1, points_NP3.shape[1], -1)
        return torch.cat([clouds["points"][..., 3:], *known, whole_N1D], -1)

    def _levels(self, clouds: Batch) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return of each level, and of the whole, centres ``[N, S, 3]``, which are there, and ``[N, S, D]`` of each."""
        points, mask, features = clouds["points"][..., :3], clouds["mask"], clouds["points"][..., 3:]
        found = []
        for count, radius, layers in zip(self.centres, self.radii, self.levels, strict=False):
            places = farthest(points, mask, count)
            centres = at(points, places)
            around = within(points, mask, centres, radius, self.neighbours)
            near = at(points, around) - centres[:, :, None]
            parts = torch.cat([near / radius, at(features, around)], -1)
            features = layers(parts).amax(2)
            mask = torch.arange(count, device=mask.device) < mask.sum(1, keepdim=True)
            points = centres
            found.append((points, mask, features))
        whole_ND = most(self.levels[-1](torch.cat([points, features], -1)), mask)
        return [*found, (points[:, :1], mask[:, :1], whole_ND[:, None])]


@BACKBONES.register("dgcnn")
class DGCNN(nn.Module):
    """Layers that see each point beside its nearest, by what the layer before made of them: Wang et al. 2019.

    https://arxiv.org/abs/1801.07829

    Args:
        channels: numbers of a point beside x, y, z.
        neighbours: K, the nearest points, itself among them.
        widths: of the layers; the last sees what all others made of each point, and is D.
    """

    reads = READS

    def __init__(self, channels: int = 0, neighbours: int = 12, widths: Sequence[int] = (32, 32, 64, 256)) -> None:
        super().__init__()
        check_counts(0, channels=channels)
        check_counts(neighbours=neighbours)
        check_counts(2, widths=len(widths))
        self.neighbours = neighbours
        *edges, last = widths
        self.own = nn.ModuleList(nn.Linear(*pair) for pair in itertools.pairwise((3 + channels, *edges)))
        self.other = nn.ModuleList(nn.Linear(*pair, bias=False) for pair in itertools.pairwise((3 + channels, *edges)))
        self.norms = nn.ModuleList(map(nn.LayerNorm, edges))
        self.last = perceptron(sum(edges), last)

    def forward(self, clouds: Batch) -> Tensor:
        """Embed ``{"points": [N, P, C], "mask": [N, P]}``: ``[N, D]``."""
        return most(self._points(clouds), clouds["mask"])

    def elements(self, clouds: Batch) -> Tensor:
        """Return what is known of each point, ``[N, P, 2 D]``: of itself, and of its cloud."""
        return _beside_whole(self._points(clouds), clouds["mask"])

    def _points(self, clouds: Batch) -> Tensor:
        features, mask, made = clouds["points"], clouds["mask"], list[Tensor]()
        for place, (own, other, norm) in enumerate(zip(self.own, self.other, self.norms, strict=True)):
            near_NPK = nearest(features if place else features[..., :3], mask, self.neighbours)
            # A layer of a point and its differences from another is the sum of a layer of each: of P points, not P K.
            there = at(other(features), near_NPK)
            features = F.leaky_relu(norm(own(features)[:, :, None] + there), 0.2).amax(2)
            made.append(features)
        last: Tensor = self.last(torch.cat(made, -1))
        return last


class DistanceHistogram(nn.Module):
    """How often points of a cloud are how far from each other, the shape distribution D2: Osada et al. 2002.

    https://doi.org/10.1145/571647.571648, where distances are in units of their mean, too, so that no single far point
    has a part in the scale.

    Args:
        bins: D, of the distances from 0 to 3 times their mean.
        points: of a cloud that are compared, the first.
        partners: with how many others each of them is. What counts is how many points there are, as few say little of
            a shape: 64 partners of each of 1,024 are as good as all, and better than all pairs of 256.
    """

    def __init__(self, bins: int = 64, points: int = 1024, partners: int = 64) -> None:
        super().__init__()
        check_counts(bins=bins, points=points, partners=partners)
        self.bins, self.points, self.partners = bins, points, partners

    def forward(self, clouds: Batch) -> Tensor:
        """Return shares of distances, ``[N, D]``."""
        points_NP3, mask_NP = clouds["points"][:, : self.points, :3], clouds["mask"][:, : self.points]
        count_N = mask_NP.sum(1).clamp(min=1)
        # A point and the one so many places further: half of all such steps make each pair, and some of them a part.
        place_K = torch.arange(self.partners, device=mask_NP.device)
        step_NK = 1 + (count_N // 2)[:, None] * place_K // self.partners
        row_P = torch.arange(points_NP3.shape[1], device=mask_NP.device)
        other_NPK = (row_P[:, None] + step_NK[:, None]) % count_N[:, None, None]
        away_NPK = (points_NP3[:, :, None] - at(points_NP3, other_NPK)).square().sum(-1).sqrt()
        pairs_NPK = mask_NP[..., None].to(away_NPK.dtype).expand_as(away_NPK)
        usual_N = (away_NPK * pairs_NPK).flatten(1).sum(1) / (count_N * self.partners)
        scale_N = self.bins / 3 / usual_N.clamp(min=torch.finfo(usual_N.dtype).tiny)
        bin_NPK = (away_NPK * scale_N[:, None, None]).long().clamp(max=self.bins - 1)
        counts_ND = pairs_NPK.new_zeros(len(count_N), self.bins)
        counts_ND = counts_ND.scatter_add(1, bin_NPK.flatten(1), pairs_NPK.flatten(1))
        shares_ND: Tensor = counts_ND / (count_N * self.partners)[:, None]
        return shares_ND


# ---- neighbours


def at(values_NPD: Tensor, rows: Tensor) -> Tensor:
    """Return rows of each cloud, ``[N, R, D]`` of ``[N, R]`` of their numbers, ``[N, S, K, D]`` of ``[N, S, K]``."""
    wide = values_NPD.shape[-1]
    found_NRD = values_NPD.gather(1, rows.flatten(1)[..., None].expand(-1, -1, wide))
    return found_NRD.view(*rows.shape, wide)


def apart(one_NP3: Tensor, other_NQ3: Tensor) -> Tensor:
    """Return the squared distances of points from others, ``[N, P, Q]``, each the same whatever stands beside it."""
    first, *others = ((one_NP3[..., axis, None] - other_NQ3[..., None, :, axis]).square() for axis in range(3))
    distances: Tensor = first + others[0] + others[1]
    return distances


@torch.no_grad()
def farthest(points_NP3: Tensor, mask_NP: Tensor, count: int) -> Tensor:
    """Return points that are far from each other, ``[N, count]``: each is the farthest from all before it.

    The first is the farthest from the mean. Where there are fewer points than that, the last ones repeat others.
    """
    weights = mask_NP[..., None].to(points_NP3.dtype)
    last_N13 = (points_NP3 * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True)
    least_NP, found = torch.full_like(points_NP3[..., 0], torch.inf), list[Tensor]()
    for place in range(count):
        distance_NP = apart(points_NP3, last_N13)[..., 0]
        least_NP = distance_NP if place < 2 else torch.minimum(least_NP, distance_NP)
        row_N1 = least_NP.masked_fill(~mask_NP, -1).argmax(1, keepdim=True)
        last_N13 = at(points_NP3, row_N1)
        found.append(row_N1)
    return torch.cat(found, 1)


@torch.no_grad()
def within(points_NP3: Tensor, mask_NP: Tensor, centres_NS3: Tensor, radius: float, count: int) -> Tensor:
    """Return the nearest points within a radius of each centre, ``[N, S, count]``, itself again where they are fewer.

    Args:
        points_NP3, mask_NP: points, and which are there.
        centres_NS3: some of these.
        radius: that is reached.
        count: K.
    """
    distances_NSP = apart(centres_NS3, points_NP3)
    inside_NSP = (distances_NSP <= radius**2) & mask_NP[:, None]
    # As many more that are none, as there may be fewer points than are asked for.
    padded = F.pad(distances_NSP.masked_fill(~inside_NSP, torch.inf), (0, count), value=torch.inf)
    found, places_NSK = padded.topk(count, -1, largest=False)
    return torch.where(found == torch.inf, places_NSK[..., :1], places_NSK)


@torch.no_grad()
def nearest(features_NPD: Tensor, mask_NP: Tensor, count: int) -> Tensor:
    """Return the nearest points of each, ``[N, P, count]``, itself first; where there are fewer, itself again."""
    if features_NPD.shape[-1] == 3:
        distances_NPP = apart(features_NPD, features_NPD)
    else:
        lengths_NP = features_NPD.square().sum(-1)
        distances_NPP = lengths_NP[:, :, None] + lengths_NP[:, None] - 2 * features_NPD @ features_NPD.transpose(1, 2)
    rows_P = torch.arange(features_NPD.shape[1], device=features_NPD.device)
    itself_PP = rows_P[:, None] == rows_P
    distances_NPP = distances_NPP.masked_fill(~mask_NP[:, None], torch.inf).masked_fill(itself_PP, -torch.inf)
    padded = F.pad(distances_NPP, (0, count), value=torch.inf)
    found, places_NPK = padded.topk(count, -1, largest=False)
    return torch.where(found == torch.inf, rows_P[:, None], places_NPK)


def interpolated(points_NP3: Tensor, centres_NS3: Tensor, mask_NS: Tensor, features_NSD: Tensor) -> Tensor:
    """Return the features of the three centres next to each point, ``[N, P, D]``, by how near they are."""
    with torch.no_grad():
        distances_NPS = apart(points_NP3, centres_NS3).masked_fill(~mask_NS[:, None], torch.inf)
        padded = F.pad(distances_NPS, (0, 3), value=torch.inf)
        found, places_NPK = padded.topk(3, -1, largest=False)
        nearness = 1 / (found + 1e-8)  # 0 of what is not there
        shares_NPK = nearness / nearness.sum(-1, keepdim=True)
        places_NPK = places_NPK.clamp(max=centres_NS3.shape[1] - 1)
    there = at(features_NSD, places_NPK)
    mean: Tensor = (there * shares_NPK[..., None]).sum(2)
    return mean
