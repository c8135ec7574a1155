"""Distances, prototypes and intervals against slow, obvious versions."""

from __future__ import annotations

import math

import pytest
import torch

from quickstudy.functional.distances import cosine, squared_euclidean
from quickstudy.functional.intervals import mean_interval, proportion_interval
from quickstudy.functional.prototypes import prototypes


def test_squared_euclidean_equals_the_loop_and_is_never_negative() -> None:
    query, points = torch.randn(7, 5, dtype=torch.float64), torch.randn(4, 5, dtype=torch.float64)
    loop = torch.stack([torch.stack([((q - p) ** 2).sum() for p in points]) for q in query])
    torch.testing.assert_close(squared_euclidean(query, points), loop)
    far = torch.full((3, 5), 1e4)
    assert (squared_euclidean(far, far) >= 0).all()


def test_squared_euclidean_is_exact_far_from_the_origin() -> None:
    query, points = torch.randn(7, 5), torch.randn(4, 5)
    torch.testing.assert_close(
        squared_euclidean(query + 4096, points + 4096), squared_euclidean(query, points), rtol=1e-2, atol=1e-2
    )


def test_cosine_is_torchs_and_survives_zeros() -> None:
    query, points = torch.randn(7, 5, dtype=torch.float64), torch.randn(4, 5, dtype=torch.float64)
    expected = torch.nn.functional.cosine_similarity(query[:, None], points[None], dim=-1)
    torch.testing.assert_close(cosine(query, points), expected)
    assert torch.isfinite(cosine(torch.zeros(1, 5), points.float())).all()


def test_prototypes_are_class_means_with_unequal_shots_under_vmap_too() -> None:
    support, targets = torch.randn(2, 6, 3, dtype=torch.float64), torch.tensor([[0, 0, 0, 1, 1, 2], [2, 1, 1, 0, 2, 2]])
    batched = torch.func.vmap(lambda z, y: prototypes(z, y, 3))(support, targets)
    for task in range(2):
        for way in range(3):
            torch.testing.assert_close(batched[task, way], support[task][targets[task] == way].mean(0))


def test_mean_interval_is_1_96_standard_errors() -> None:
    values = torch.tensor([0.2, 0.4, 0.9, 0.5])
    mean, half = mean_interval(values)
    assert mean == pytest.approx(0.5)
    assert half == pytest.approx(1.959964 * values.double().std().item() / 2)
    assert math.isnan(mean_interval(torch.tensor([0.5]))[1])


@pytest.mark.parametrize(("trials", "rate"), [(40, 0.9), (40, 0.95), (100, 0.98), (200, 0.5)])
def test_the_printed_interval_of_a_proportion_covers_what_it_promises(trials: int, rate: float) -> None:
    chances = [math.comb(trials, k) * rate**k * (1 - rate) ** (trials - k) for k in range(trials + 1)]
    estimates = [proportion_interval(k, trials) for k in range(trials + 1)]
    covered = sum(p for p, (mean, half) in zip(chances, estimates, strict=True) if abs(mean - rate) <= half)
    assert covered > 0.94  # 95% on average: counts are discrete, and Wilson's coverage swings around it
    assert proportion_interval(trials, trials)[1] > 0


def test_directions_of_nothing_have_finite_derivatives() -> None:
    values = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(cosine(values, torch.ones(1, 4).double()).sum(), values, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), values)
    assert slope.isfinite().all()
    assert curvature.isfinite().all()
