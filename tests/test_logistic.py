"""The linear probe's solver against scikit-learn's, and the strength that it chooses by itself."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from quickstudy import Predictor
from quickstudy.algorithms import STRATEGIES
from quickstudy.algorithms.linear_probe import LinearProbe
from quickstudy.functional import logistic as solver
from quickstudy.functional.distances import unit
from quickstudy.functional.logistic import STRENGTHS, USUAL, chosen_strength, logistic
from quickstudy.functional.prototypes import members
from quickstudy.nets import Encoder
from quickstudy.training.checkpoint import read_checkpoint


def task(ways: int, shots: int, features: int, spread: float, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Return support, its classes, and queries, around means of length 1."""
    generator = torch.Generator().manual_seed(seed)
    means = F.normalize(torch.randn(ways, features, generator=generator, dtype=torch.float64))
    targets = torch.arange(ways).repeat_interleave(shots)
    support, query = (
        means[targets] + spread / features**0.5 * torch.randn(len(targets), features, generator=generator).double()
        for _ in range(2)
    )
    return support, targets, query


def lengthened(rows: Tensor) -> Tensor:
    return torch.cat([unit(rows), torch.ones_like(rows[:, :1])], 1)


@pytest.mark.parametrize("strength", [1.0, 0.1, 0.001])
@pytest.mark.parametrize(("ways", "shots", "features"), [(2, 3, 40), (5, 30, 12), (40, 4, 30)])
def test_the_optimum_is_scikit_learns(ways: int, shots: int, features: int, strength: float) -> None:
    support, targets, query = task(ways, shots, features, spread=2)
    weights = LinearProbe(regularization=strength).fit(support, targets, ways)
    rows, wanted = lengthened(support), members(targets, ways, torch.float64)
    gradient = rows.mT @ ((rows @ weights).softmax(1) - wanted) + strength * weights
    # What was promised, and a product's rounding, of as many numbers as there are examples.
    first, rounding = (rows.mT @ (1 / ways - wanted)).norm(), torch.finfo(torch.float64).eps * len(rows)
    assert gradient.norm() < (1e-10 + rounding) * first + rounding * rows.norm() * wanted.norm()
    # The constant is a feature, and penalised like any other.
    peer = LogisticRegression(C=1 / strength, fit_intercept=False, tol=1e-9, max_iter=10000).fit(rows, targets)
    logits = lengthened(query) @ weights
    if ways > 2:
        chances = torch.from_numpy(peer.predict_proba(lengthened(query)))
        torch.testing.assert_close(logits.softmax(1), chances, rtol=0, atol=1e-4)
        assert (logits.argmax(1) == torch.from_numpy(peer.predict(lengthened(query)))).double().mean() >= 0.995


def test_a_strength_is_the_first_that_the_next_does_not_better() -> None:
    for seed, spread in enumerate((0.3, 5.0)):
        support, targets, _ = task(4, 6, 10, spread, seed)
        rows, scores = lengthened(support), []
        held = solver._held_out(rows, targets, 4, 5).bool()
        assert (held.sum(1) == 1).all() and (members(targets, 4, torch.long).mT @ held.long() >= 1).all()
        for strength in STRENGTHS:
            likely = torch.zeros(9, dtype=torch.float64)
            for out in held.mT:
                logits = rows[out] @ logistic(rows[~out], targets[~out], 4, strength)
                for power in range(9):  # how sure the answers are is not what is judged
                    likely[power] -= F.cross_entropy(2.0 ** (power - 1) * logits, targets[out], reduction="sum")
            scores.append(float(likely.max()) - 2 * math.log10(strength / USUAL) ** 2)
        best = next((at for at in range(8) if scores[at + 1] <= scores[at]), 8)
        assert float(chosen_strength(rows, targets, 4)) == STRENGTHS[best]


def test_the_strength_follows_from_the_data() -> None:
    rows, targets, _ = task(5, 10, 20, 1.0)
    # What all examples share leaves less of a vector of length 1 to tell them by.
    shared = torch.stack([lengthened(rows + offset) for offset in (0.0, 30.0)])
    chosen = chosen_strength(shared, targets.expand(2, -1), 5)
    assert chosen[0] > chosen[1]
    assert [float(chosen_strength(one, targets, 5)) for one in shared] == chosen.tolist()
    first = torch.arange(5) * 10
    assert float(chosen_strength(shared[0, first], targets[first], 5)) == USUAL  # nothing can be held out
    held = solver._held_out(shared[0, :6], torch.tensor([0, 1, 1, 1, 2, 2]), 3, 2)
    assert held.sum(1).tolist() == [0, 1, 1, 1, 1, 1]  # without its only example a class is gone


def test_the_solver_passes_on_what_is_no_number_and_has_one_derivative() -> None:
    support, targets, _ = task(3, 3, 5, 1.0)
    both = torch.stack([support, torch.full_like(support, torch.nan)]).requires_grad_()
    weights = torch.func.vmap(lambda rows: logistic(rows, targets, 3))(both)
    assert weights[0].isfinite().all() and weights[1].isnan().all()
    (gradient,) = torch.autograd.grad(weights[0].square().sum(), both, create_graph=True)
    with pytest.raises(NotImplementedError, match="no second derivative"):
        torch.autograd.grad(gradient[0].sum(), both)


def test_what_was_saved_before_strengths_were_chosen_keeps_its_own(tmp_path: Path) -> None:
    support, targets, query = task(3, 4, 6, 1.0)
    saved = {}
    for name, options in {"before": {"regularization": 1.0}, "now": {}}.items():
        predictor = Predictor(Encoder(nn.Flatten()).double(), STRATEGIES["linear_probe"](**options), torch.as_tensor)
        saved[name] = predictor.fit(support, targets.tolist())
        predictor.save(tmp_path / name)
    path = tmp_path / "before" / "predictor.json"
    description = json.loads(path.read_text())
    del description["algorithm"]["options"]["regularization"]  # as earlier versions wrote
    path.write_text(json.dumps(description))
    for name, strength in (("before", 1.0), ("now", "auto")):
        read = Predictor.load(tmp_path / name, load=torch.as_tensor, backbone=nn.Flatten())
        assert read.knowledge.algorithm.options == {"regularization": strength}
        for predictor in (read, saved[name]):
            predictor.add_class(3, query[:2])
        torch.testing.assert_close(*(torch.as_tensor(one.predict_proba(query)) for one in (read, saved[name])))
    hparams = {"training_strategy": "linear_probe", "training_strategy_kwargs": {"ways": 5}}
    for memory, kwargs in (({}, {"regularization": 1.0, "ways": 5}), ({"options": {}}, {"ways": 5})):
        torch.save({"quickstudy": memory, "hyper_parameters": hparams}, tmp_path / "one.ckpt")
        assert read_checkpoint(tmp_path / "one.ckpt")["hyper_parameters"]["training_strategy_kwargs"] == kwargs
