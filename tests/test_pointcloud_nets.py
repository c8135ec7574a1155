"""Networks of point clouds: who is near whom, padding, derivatives, vmap, and transforms."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quickstudy.batches import Batch
from quickstudy.data.samples import TRANSFORMS, seeded
from quickstudy.pointcloud import Cloud
from quickstudy.pointcloud.modality import chosen
from quickstudy.pointcloud.nets import (
    DGCNN,
    DistanceHistogram,
    PointNet,
    PointNet2,
    farthest,
    interpolated,
    nearest,
    within,
)

SMALL: dict[str, Any] = {
    "pointnet": lambda: PointNet(1, (8, 16)),
    "pointnet2": lambda: PointNet2(1, (12, 6), (0.6, 1.2), 5, ((8,), (8,), (16,))),
    "dgcnn": lambda: DGCNN(1, 4, (8, 8, 16)),
}


def batch(count: int = 4, points: int = 24, wide: int = 4, seed: int = 0) -> Batch:
    """Return clouds of 3 to ``points`` points in float64, filled up with zeros."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.rand(count, points, wide, generator=generator, dtype=torch.float64) * 2 - 1
    lengths = torch.tensor([points, 3, *torch.randint(4, points, (count,), generator=generator).tolist()])[:count]
    mask = torch.arange(points) < lengths[:, None]
    return {"points": numbers * mask[..., None], "mask": mask}


def test_farthest_points_are_those_of_a_loop() -> None:
    clouds = batch()
    points, mask = clouds["points"][..., :3], clouds["mask"]
    found = farthest(points, mask, 6)
    for row in range(4):
        there = points[row][mask[row]]
        wanted = [int((there - there.mean(0)).norm(dim=1).argmax())]
        while len(wanted) < min(6, len(there)):
            least = torch.stack([(there - there[one]).norm(dim=1) for one in wanted]).amin(0)
            wanted.append(int(least.argmax()))
        assert found[row].tolist()[: len(wanted)] == wanted
        assert bool(mask[row][found[row]].all())  # nobody takes what fills up


def test_neighbours_are_those_of_loops() -> None:
    clouds = batch(wide=5)
    points, mask, features = clouds["points"][..., :3], clouds["mask"], clouds["points"]
    inside, near, alike = within(points, mask, points, 0.8, 5), nearest(points, mask, 5), nearest(features, mask, 5)
    for row in range(4):
        count = int(mask[row].sum())
        for place in range(count):
            away = (points[row, :count] - points[row, place]).square().sum(1)
            some = [one for one in away.argsort().tolist() if float(away[one]) <= 0.8**2][:5]
            assert inside[row, place].tolist() == some + [place] * (5 - len(some))
            for found, values in ((near, points), (alike, features)):
                order = (values[row, :count] - values[row, place]).square().sum(1).argsort().tolist()[:5]
                assert found[row, place].tolist() == order + [place] * (5 - len(order))
    centres = points[:, :2]
    known = interpolated(points, centres, torch.ones(4, 2, dtype=torch.bool), features[:, :2])
    torch.testing.assert_close(known[:, :2], features[:, :2], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", SMALL)
def test_neither_padding_nor_neighbours_nor_copies_change_anything(name: str) -> None:
    torch.manual_seed(0)
    network, clouds = SMALL[name]().double(), batch()
    together, each = network(clouds), network.elements(clouds)
    wider = {
        "points": nn.functional.pad(clouds["points"], (0, 0, 0, 7)),
        "mask": nn.functional.pad(clouds["mask"], (0, 7)),
    }
    torch.testing.assert_close(network(wider), together, atol=1e-10, rtol=1e-10)
    mask = clouds["mask"]
    torch.testing.assert_close(network.elements(wider)[:, :24][mask], each[mask], atol=1e-10, rtol=1e-10)
    for row in range(4):
        alone = {key: leaf[row : row + 1, : int(mask[row].sum())] for key, leaf in clouds.items()}
        torch.testing.assert_close(network(alone)[0], together[row], atol=1e-10, rtol=1e-10)
        torch.testing.assert_close(network.elements(alone)[0], each[row][mask[row]], atol=1e-10, rtol=1e-10)
    if name == "pointnet":  # whose answer is the same, with as many points twice
        twice = {key: torch.cat([leaf, leaf], 1) for key, leaf in clouds.items()}
        torch.testing.assert_close(network(twice), together)
        slopes = [torch.autograd.grad(network(some).sum(), list(network.parameters())) for some in (twice, clouds)]
        for one, other in zip(*slopes, strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", SMALL)
def test_the_order_of_points_changes_nothing(name: str) -> None:
    torch.manual_seed(0)
    network, clouds = SMALL[name]().double(), batch(points=60)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    other = {key: leaf[:, order] for key, leaf in clouds.items()}
    torch.testing.assert_close(network(other), network(clouds), atol=1e-5, rtol=0)
    mask = other["mask"]
    torch.testing.assert_close(
        network.elements(other)[mask], network.elements(clouds)[:, order][mask], atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("name", SMALL)
def test_second_derivatives_are_those_of_finite_differences_and_of_vmap(name: str) -> None:
    torch.manual_seed(0)
    network, clouds = SMALL[name]().double(), batch(6)
    weights = {key: value.detach() for key, value in network.named_parameters()}

    def loss(now: dict[str, Tensor], inputs: Batch) -> Tensor:
        logits = torch.func.functional_call(network, now, (inputs,))[:, :2]
        return nn.functional.cross_entropy(logits, torch.tensor([0, 1, 0]))

    def after(start: dict[str, Tensor], task: Batch) -> Tensor:
        slopes = torch.func.grad(loss)(start, task)
        return loss({key: start[key] - 0.1 * slopes[key] for key in start}, task)

    tasks = {key: leaf.view(2, 3, *leaf.shape[1:]) for key, leaf in clouds.items()}
    together = torch.func.vmap(torch.func.grad(after), (None, 0))(weights, tasks)
    for place in range(2):
        task = {key: leaf[place] for key, leaf in tasks.items()}
        exact = torch.func.grad(after)(weights, task)
        for key, value in exact.items():
            torch.testing.assert_close(together[key][place], value, atol=1e-10, rtol=1e-8)
        towards = {key: torch.randn_like(value) for key, value in weights.items()}
        ends = [after({key: weights[key] + step * towards[key] for key in weights}, task) for step in (1e-7, -1e-7)]
        along = sum(float((exact[key] * towards[key]).sum()) for key in weights)
        assert math.isclose(along, float(ends[0] - ends[1]) / 2e-7, rel_tol=1e-4, abs_tol=1e-6)


@pytest.mark.parametrize("name", SMALL)
def test_how_far_points_are_is_seen(name: str) -> None:
    """What is normalised loses its length, but for a bias."""
    torch.manual_seed(0)
    network, clouds = SMALL[name]().double(), batch()
    other = {**clouds, "points": clouds["points"] * 0.9}
    assert float((network(clouds) - network(other)).detach().abs().max()) > 1e-3


def test_the_histogram_of_distances_is_that_of_a_loop() -> None:
    clouds = batch()
    found = DistanceHistogram(bins=8, partners=12)(clouds)
    for row in range(4):
        there = clouds["points"][row][clouds["mask"][row]][:, :3]
        count = len(there)
        steps = [1 + count // 2 * place // 12 for place in range(12)]
        away = [float((there[one] - there[(one + step) % count]).norm()) for one in range(count) for step in steps]
        mean = sum(away) / len(away)
        wanted = torch.bincount(torch.tensor([min(int(one / mean * 8 / 3), 7) for one in away]), minlength=8).double()
        torch.testing.assert_close(found[row], wanted / len(away))


def test_the_histogram_takes_clouds_of_any_scale_in_any_order() -> None:
    torch.manual_seed(0)
    line = torch.linspace(0, 1, 400).pow(2)[:, None] * torch.tensor([1.0, 2.0, 0.0])
    mask = torch.ones(1, 400, dtype=torch.bool)
    told = [
        DistanceHistogram()({"points": one[None], "mask": mask})
        for one in (line, 5 * line, line[torch.randperm(400)], torch.rand(400, 3))
    ]
    off = [float((one - told[0]).abs().sum()) for one in told[1:]]
    assert off[0] < 0.01 and off[1] < 0.1 and off[2] > 0.5


def test_transforms_turn_scale_and_thin_clouds_and_what_is_told_of_points_goes_along() -> None:
    clouds = batch(1)
    sample = {"points": clouds["points"][0], "mask": clouds["mask"][0], "part": torch.arange(24), "box": torch.ones(2)}
    before = sample["points"][:, :3]
    for name, kept in (("rotate_z", [2]), ("rotate_y", [1]), ("rotate_any", [])):
        with seeded((1,)):
            after = TRANSFORMS[name](sample)
        turned = after["points"][:, :3]
        torch.testing.assert_close(torch.cdist(turned, turned), torch.cdist(before, before), atol=1e-7, rtol=1e-6)
        assert torch.equal(turned[:, kept], before[:, kept]) and not torch.allclose(turned, before)
        assert torch.equal(after["points"][:, 3], sample["points"][:, 3])
        assert torch.linalg.det(torch.linalg.lstsq(before, turned).solution) > 0  # no mirror
    with seeded((2,)):
        scaled = TRANSFORMS["scale"](sample)["points"][:, :3]
        jittered = TRANSFORMS["jitter"](sample)["points"]
        thin = TRANSFORMS["rotate_z_scale_jitter_drop"](sample)
    assert 0.8 <= float((scaled / before).mean()) <= 1.25 and float((scaled / before).std()) < 1e-6
    assert 0 < float((jittered - sample["points"]).abs().max()) <= 0.05 * float(before.abs().max())
    assert 16 <= len(thin["mask"]) == len(thin["points"]) == len(thin["part"]) < 24 and len(thin["box"]) == 2


def test_training_is_shown_other_points_each_time() -> None:
    cloud = Cloud(points=20, drawn=8)
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(0))
    example = cloud.load(points)
    draw = cloud.draws()
    assert draw is not None and Cloud().draws() is None
    assert torch.equal(
        example["points"], cloud.load(torch.rand(50, 3, generator=torch.Generator().manual_seed(0)))["points"]
    )
    rows = set(map(tuple, example["points"].tolist()))
    drawn = [set(map(tuple, draw({"input": example})["input"]["points"].tolist())) for _ in range(3)]
    assert all(len(one) == 8 and one <= rows for one in drawn) and drawn[0] != drawn[1]
    assert sorted(chosen(50, 20).tolist()) == sorted(set(chosen(50, 20).tolist())) and len(chosen(5, 20)) == 5
