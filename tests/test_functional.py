"""Distances, prototypes and intervals against slow, obvious versions."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import pytest
import scipy.stats
import torch

from quickstudy.algorithms.base import EmbeddingAlgorithm
from quickstudy.algorithms.nearest_centroid import NearestCentroid
from quickstudy.functional.distances import cosine, squared_euclidean
from quickstudy.functional.intervals import classes_interval, mean_interval, proportion_interval, student_quantile
from quickstudy.functional.prototypes import nearest_prototypes, prototypes


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


@pytest.mark.parametrize("dtype, offset", [(torch.float64, 0.0), (torch.float32, 4096.0)])
def test_the_nearest_prototype_is_that_of_the_loop(dtype: torch.dtype, offset: float) -> None:
    centres, shots = 9.0 * torch.eye(6, 16).repeat_interleave(20, 0), 2  # far apart: no rounding moves an answer
    values = (centres + torch.randn(120, 16) + offset).to(dtype)
    rows = torch.stack([torch.randperm(20)[:5] + 20 * torch.randperm(6)[:3, None] for _ in range(70)])
    found = nearest_prototypes(values, rows, shots)
    for episode, answers in zip(rows, found, strict=True):
        means = values[episode[:, :shots]].mean(1)
        assert answers.equal(torch.cdist(values[episode[:, shots:].flatten()], means).argmin(1))
    assert found.float().mean() == 1  # each of three classes, one third of the queries
    with pytest.raises(IndexError, match="from 0 to 119, not 0 to 120"):
        nearest_prototypes(values, torch.tensor([[[0, 1, 2], [3, 4, 120]]]), shots)


@pytest.mark.parametrize("lengths", ["evened", "kept"])
@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_the_nearest_centroid_is_that_of_the_loop(lengths: Literal["evened", "kept"], offset: float) -> None:
    centres, shots = 9.0 * torch.eye(6, 16).repeat_interleave(20, 0), 2  # far apart: no rounding moves an answer
    values = centres + torch.randn(120, 16) + offset  # where all are far from 0, squares cancel
    rows = torch.stack([torch.randperm(20)[:5] + 20 * torch.randperm(6)[:3, None] for _ in range(70)])
    head = NearestCentroid(lengths).eval()
    found = head.answers(values, rows, shots)
    assert found.equal(EmbeddingAlgorithm.answers(head, values, rows, shots))
    assert found.float().mean() == 1  # each of three classes, one third of the queries
    with pytest.raises(IndexError, match="from 0 to 119, not 0 to 120"):
        head.answers(values, torch.tensor([[[0, 1, 2], [3, 4, 120]]]), shots)


def test_students_quantile_is_scipys() -> None:
    for freedom in (1, 2, 3, 4, 7, 30, 99, 300, 301, 599, 9_999, 1_000_000):
        for probability in (1e-5, 0.001, 0.025, 0.05, 0.4, 0.6, 0.975, 0.995):
            expected = scipy.stats.t.ppf(probability, freedom)
            assert student_quantile(probability, freedom) == pytest.approx(expected, rel=1e-9)


def test_mean_interval_is_standard_errors_times_students_t() -> None:
    values = torch.tensor([0.2, 0.4, 0.9, 0.5])
    mean, half = mean_interval(values)
    assert mean == pytest.approx(0.5)
    assert half == pytest.approx(3.182446 * values.double().std().item() / 2)
    assert math.isnan(mean_interval(torch.tensor([0.5]))[1])
    many = torch.rand(600, dtype=torch.float64)
    assert mean_interval(many)[1] == pytest.approx(float(scipy.stats.t.ppf(0.975, 599)) * many.std().item() / 600**0.5)


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_the_interval_of_few_episodes_covers_what_it_promises(count: int) -> None:
    pairs = [mean_interval(values) for values in 0.7 + 0.1 * torch.randn(4000, count, dtype=torch.float64)]
    covered = sum(abs(mean - 0.7) <= half for mean, half in pairs) / len(pairs)
    assert covered == pytest.approx(0.95, abs=4 * (0.95 * 0.05 / 4000) ** 0.5)


def test_shares_that_are_all_the_same_are_not_certain() -> None:
    assert mean_interval(torch.ones(20), 20 * 75) == proportion_interval(1500, 1500)
    assert mean_interval(torch.zeros(20), 20 * 75)[1] == proportion_interval(0, 1500)[1] > 0
    assert mean_interval(torch.full((20,), 0.2), 20 * 75)[1] == pytest.approx(proportion_interval(300, 1500)[1])
    assert mean_interval(torch.tensor([0.0, 1.0]), 8) == (0.5, 0.5), "a share is never beyond 0 and 1"
    assert mean_interval(torch.tensor([2.0, 2.0, 2.0])) == (2.0, 0.0), "of what is no share it is the spread alone"


def episodes_of(
    classes: int, ways: int, count: int, generator: np.random.Generator
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Draw new classes, and return which are in each episode and its accuracy: nearest class mean of a few examples."""
    centres, spread = generator.normal(size=(classes, 10)), 2 * np.exp(0.3 * generator.normal(size=classes))
    drawn = np.stack([generator.permutation(classes)[:ways] for _ in range(count)])
    noise = spread[drawn][:, :, None, None] * generator.normal(size=(count, ways, 5, 10))
    examples = centres[drawn][:, :, None] + noise
    support, query = examples[:, :, :2].mean(2), examples[:, :, 2:].reshape(count, -1, 10)
    nearest = ((query[:, :, None] - support[:, None]) ** 2).sum(-1).argmin(-1)
    return drawn, (nearest.reshape(count, ways, 3) == np.arange(ways)[:, None]).mean((1, 2))


def test_the_interval_over_classes_covers_other_classes_and_that_over_episodes_does_not() -> None:
    generator = np.random.default_rng(0)
    means, episodes, classes = [], [], []
    for _ in range(120):
        drawn, accuracies = episodes_of(20, 5, 300, generator)
        values = torch.from_numpy(accuracies)
        mean, half = mean_interval(values)
        means.append(mean)
        episodes.append(half)
        places = torch.arange(300).repeat_interleave(5)
        classes.append(classes_interval(values, places, torch.from_numpy(drawn).flatten()))
    off = np.abs(np.array(means) - np.mean(means))
    assert (off <= np.array(classes)).mean() == pytest.approx(0.95, abs=0.04)  # two standard errors of 120 draws
    assert (off <= np.array(episodes)).mean() < 0.45
    assert np.mean(classes) / np.mean(episodes) > 4


def test_the_interval_over_classes_is_that_of_a_plain_loop() -> None:
    generator = np.random.default_rng(1)
    drawn, accuracies = episodes_of(7, 3, 40, generator)
    without = np.array([accuracies[~(drawn == code).any(1)].mean() for code in range(7)])
    left = np.array([(~(drawn == code).any(1)).sum() for code in range(7)])
    spread = 6 / 7 * ((without - without.mean()) ** 2).sum()
    of_the_draw = 6 / 7 * accuracies.var(ddof=1) * (1 / left - 1 / 40).sum()
    expected = scipy.stats.t.ppf(0.975, 6) * (max(spread - of_the_draw, 0) + accuracies.var(ddof=1) / 40) ** 0.5
    given = torch.from_numpy(accuracies), torch.arange(40).repeat_interleave(3), torch.from_numpy(drawn).flatten()
    assert classes_interval(*given) == pytest.approx(expected)
    assert classes_interval(given[0], given[1], given[2] * 10) == pytest.approx(expected), "codes may have gaps"
    every = torch.arange(3).repeat(40)
    assert math.isnan(classes_interval(given[0], given[1], every)), "each episode has all classes: nothing to leave out"
    assert math.isnan(classes_interval(torch.rand(4), torch.arange(4), torch.tensor([0, 1, 0, 1])))


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
