"""The solvers where they are pressed: optima that are not unique, problems too hard, input that is none."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from quickstudy import ConfigError
from quickstudy.errors import DataWarning
from quickstudy.functional import svm
from quickstudy.functional.kernels import precise
from quickstudy.functional.ridge import ridge
from quickstudy.functional.svm import svm_dual


def examples(ways: int, shots: int, features: int) -> tuple[Tensor, Tensor]:
    """Return noisy classes in float64: ``[S, D]`` and their one-hot targets ``[S, W]``."""
    torch.manual_seed(2)
    wanted = torch.eye(ways, dtype=torch.float64).repeat_interleave(shots, 0)
    return wanted @ torch.randn(ways, features).double() + torch.randn(ways * shots, features).double(), wanted


def classifier(support: Tensor, wanted: Tensor, bound: float) -> Tensor:
    precise_SD = precise(support)
    return (svm_dual(precise_SD @ precise_SD.mT, wanted, bound).mT @ precise_SD).to(support)


@pytest.mark.parametrize("bound", [0.1, 10.0])
@pytest.mark.parametrize(("ways", "shots", "features"), [(3, 3, 4), (5, 5, 8), (5, 5, 64), (3, 1, 12)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_svm_has_the_gradient_of_its_optimum(
    ways: int, shots: int, features: int, bound: float, dtype: torch.dtype
) -> None:
    support, wanted = examples(ways, shots, features)
    weights = torch.randn(ways, features, dtype=torch.float64)
    given = support.to(dtype, copy=True).requires_grad_()
    (classifier(given, wanted, bound) * weights.to(dtype)).sum().backward()
    assert given.grad is not None
    for towards in torch.randn(3, *support.shape, dtype=torch.float64):
        found, errors = float((given.grad.double() * towards).sum()), []
        for step in (1e-4, 1e-5, 1e-6):  # a long one may cross a kink, and a short one meets rounding
            ends = [(classifier(support + side * towards, wanted, bound) * weights).sum() for side in (step, -step)]
            errors.append(abs(float(ends[0] - ends[1]) / (2 * step) - found))
        assert min(errors) < 1e-4 * float(given.grad.norm())


def test_tasks_that_are_solved_in_parts_are_those_solved_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    examples = torch.randn(7, 6, 9, dtype=torch.float64)
    wanted = torch.eye(3, dtype=torch.float64).repeat_interleave(2, 0).expand(7, -1, -1)
    found = []
    for cache in (1 << 30, 3000, 1):  # all seven, two at a time and a last one, each alone
        monkeypatch.setattr(svm, "_CACHE", cache)
        kernel = (examples @ examples.mT).requires_grad_()
        solution = torch.func.vmap(svm.svm_dual)(kernel, wanted)
        (gradient,) = torch.autograd.grad(solution.square().sum(), kernel)
        found.append((solution.detach(), gradient))
    for parts in found[1:]:
        for one, other in zip(parts, found[0], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-10)


def test_the_svm_refuses_a_second_derivative() -> None:
    support, wanted = examples(3, 3, 4)
    support.requires_grad_()
    (gradient,) = torch.autograd.grad(classifier(support, wanted, 1.0).square().sum(), support, create_graph=True)
    with pytest.raises(NotImplementedError, match="no second derivative"):
        torch.autograd.grad(gradient.sum(), support)


def test_the_svm_says_where_it_gave_up() -> None:
    support, wanted = examples(20, 15, 8)
    with pytest.warns(DataWarning, match="from its optimum after 50 steps: raise regularization"):
        svm_dual(1e8 * support @ support.mT, wanted, 1e8)


def test_the_svm_passes_on_what_is_no_number() -> None:
    support, wanted = examples(3, 3, 4)
    both = torch.stack([support, torch.full_like(support, torch.nan)])
    good, bad = torch.func.vmap(lambda support: svm_dual(support @ support.mT, wanted))(both)
    torch.testing.assert_close(good, svm_dual(support @ support.mT, wanted))
    assert bad.isnan().all()


@pytest.mark.parametrize("bound", [0, -1.0, torch.tensor(0.1)])
def test_the_svm_takes_no_other_bound(bound: float) -> None:
    support, wanted = examples(3, 3, 4)
    with pytest.raises(ConfigError, match=r"bound=.*above 0"):
        svm_dual(support @ support.mT, wanted, bound)


@pytest.mark.parametrize("size", [1.0, 100.0, 1000.0])
@pytest.mark.parametrize("strength", [1e-3, 1.0, 50.0])
def test_single_precision_regresses_as_double_does(size: float, strength: float) -> None:
    support, wanted = examples(20, 15, 8)
    single = size * support.float()
    exact = single.double() @ ridge(single.double(), wanted, strength).mT
    torch.testing.assert_close(single @ ridge(single, wanted.float(), strength).mT, exact.float(), rtol=0, atol=1e-5)


def test_ridge_passes_on_what_is_no_number() -> None:
    support, wanted = examples(3, 3, 4)
    support[2, 1] = torch.nan
    assert ridge(support, wanted, 1.0).isnan().any(1).all()
