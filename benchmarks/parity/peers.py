"""The peers' answers to the problems in a folder; runs in the environment that ``benchmarks/peers/setup.sh`` makes."""

from __future__ import annotations

import os
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cvxpy as cp
import learn2learn as l2l
import numpy as np
import problems
import torch
from easyfsl.methods import PrototypicalNetworks
from problems import Array, Problem
from sklearn.linear_model import Ridge
from sklearn.svm import LinearSVC
from torch import nn

EXACT = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-12)


def network(task: dict[str, Any], channels: int) -> tuple[nn.Module, nn.Module]:
    def block(width: int) -> list[nn.Module]:
        norm = nn.BatchNorm2d(32) if task["norm"] == "batch" else nn.GroupNorm(8, 32)
        return [nn.Conv2d(width, 32, 3, padding=1), norm, nn.ReLU(), nn.MaxPool2d(2)]

    features = nn.Sequential(*block(channels), *block(32), *block(32), *block(32), nn.Flatten())
    return features.double(), nn.Linear(32, task["ways"]).double()


def meta_gradient(task: dict[str, Any], arrays: dict[str, Array]) -> Array:
    """Return learn2learn's gradient, as its examples (maml) and its Lightning module (anil) compute it."""
    support, query = torch.tensor(arrays["support"]), torch.tensor(arrays["query"])
    targets_S, targets_Q = torch.tensor(arrays["support_targets"]), torch.tensor(arrays["query_targets"])
    features, head = network(task, support.shape[1])
    parameters = [*features.parameters(), *head.parameters()]
    with torch.no_grad():
        for place, parameter in enumerate(parameters):
            parameter.copy_(torch.tensor(arrays[f"weight{place}"]))
    loss = nn.CrossEntropyLoss()
    whole = task["algorithm"] == "maml"
    model = nn.Sequential(features, head) if whole else head
    learner = l2l.algorithms.MAML(model, lr=task["rate"], first_order=not task["second_order"]).clone()
    if not whole:
        embedded = features(torch.cat([support, query]))
        support, query = embedded[: len(support)], embedded[len(support) :]
    for _ in range(task["steps"]):
        learner.adapt(loss(learner(support), targets_S))
    loss(learner(query), targets_Q).backward()
    return torch.cat([parameter.grad.flatten() for parameter in parameters]).numpy()


def prototypical_logits(support: Array, targets: Array, query: Array) -> dict[str, Array]:
    support_SD, targets_S, query_QD = torch.tensor(support), torch.tensor(targets), torch.tensor(query)
    theirs = l2l.nn.PrototypicalClassifier(support_SD, targets_S)(query_QD)
    easy = PrototypicalNetworks()
    easy.process_support_set(support_SD, targets_S)
    return {"learn2learn": theirs.numpy(), "easyfsl": easy(query_QD).numpy()}


def wanted(problem: Problem) -> Array:
    return np.eye(problem.ways)[problem.targets]


def reduced(problem: Problem) -> Array:
    """Return the examples in as many features as they span: their inner products, and so the optimum, stay."""
    left, sizes, _ = np.linalg.svd(problem.support, full_matrices=False)
    return left * sizes


def svm_by_cvxpy(problem: Problem, **options: Any) -> tuple[float, Array]:
    """Return the dual's value and its variables ``[S, W]``."""
    dual, known = cp.Variable((len(problem.targets), problem.ways)), wanted(problem)
    value = 0.5 * cp.sum_squares(reduced(problem).T @ dual) - cp.sum(cp.multiply(dual, known))
    task = cp.Problem(cp.Minimize(value), [dual <= problem.bound * known, cp.sum(dual, axis=1) == 0])
    task.solve(solver=cp.CLARABEL, **options)
    return float(task.value), dual.value


def ridge_by_cvxpy(problem: Problem) -> float:
    features = reduced(problem)
    weights = cp.Variable((features.shape[1], problem.ways))
    left = cp.sum_squares(features @ weights - wanted(problem))
    task = cp.Problem(cp.Minimize(left + problem.strength * cp.sum_squares(weights)))
    task.solve(solver=cp.CLARABEL)
    return float(task.value)


def svm_by_sklearn(problem: Problem) -> float:
    """Return the primal's value, or nan where liblinear gives up before its tolerance."""
    features = reduced(problem)
    machine = LinearSVC(
        multi_class="crammer_singer", C=problem.bound, fit_intercept=False, tol=1e-12, max_iter=50_000, random_state=0
    )
    machine.fit(features, problem.targets)
    if machine.n_iter_ >= machine.max_iter:
        return np.nan
    weights = machine.coef_
    if problem.ways == 2:  # it returns the difference of the two
        weights = np.concatenate([-weights, weights]) / 2
    values, known = features @ weights.T, wanted(problem)
    slack = (values + 1 - known).max(1) - (values * known).sum(1)
    return float(0.5 * np.square(weights).sum() + problem.bound * slack.sum())


def ridge_by_sklearn(problem: Problem) -> float:
    features, known = problem.support, wanted(problem)
    weights = Ridge(problem.strength, fit_intercept=False, solver="svd").fit(features, known).coef_
    return float(np.square(features @ weights.T - known).sum() + problem.strength * np.square(weights).sum())


def solve(folder: Path, number: int, problem: Problem) -> None:
    try:
        svm, _ = svm_by_cvxpy(problem, **EXACT)  # its own tolerance is absolute, and optima go down to 1e-5
    except cp.error.SolverError:
        svm = np.nan
    answers = {
        "svm_cvxpy": svm,
        "svm_sklearn": svm_by_sklearn(problem),
        "ridge_cvxpy": ridge_by_cvxpy(problem),
        "ridge_sklearn": ridge_by_sklearn(problem),
    }
    np.savez(folder / f"{number}.answer.npz", **answers)


def slope(problem: Problem, towards: Array, weights: Array, step: float = 1e-4) -> float:
    """Return the slope of the weighted classifier by finite differences."""
    ends = []
    for side in (step, -step):
        moved = Problem(
            problem.support + side * towards, problem.targets, problem.ways, problem.bound, problem.strength
        )
        ends.append(float((svm_by_cvxpy(moved, **EXACT)[1].T @ moved.support * weights).sum()))
    return (ends[0] - ends[1]) / (2 * step)


def main() -> None:
    warnings.simplefilter("ignore")
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    for name, task in problems.tasks().items():
        with np.load(folder / f"{name}.task.npz") as file:
            np.save(folder / f"{name}.task.answer.npy", meta_gradient(task, dict(file)))
    with np.load(folder / "prototypes.npz") as file:
        np.savez(folder / "prototypes.answer.npz", **prototypical_logits(**dict(file)))
    count = int((folder / "count.txt").read_text())
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(partial(solve, folder), range(count), problems.classifiers(count)))
        found = list(pool.map(slope, *zip(*problems.slopes(), strict=True)))
    np.savez(folder / "slopes.answer.npz", slopes=np.array(found))
    names = ("torch", "learn2learn", "easyfsl", "scikit-learn", "cvxpy", "clarabel")
    (folder / "versions.txt").write_text("\n".join(f"{name}=={version(name)}" for name in names))


if __name__ == "__main__":
    main()
