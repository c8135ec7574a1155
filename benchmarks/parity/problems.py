"""The problems that both sides solve: pure functions of seeds, in numpy alone, since both environments import them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Problem:
    """A support set, and how strongly its classifiers are held back."""

    support: Array
    """``[S, D]``"""
    targets: Array
    """``[S]``"""
    ways: int
    bound: float
    """C of the support vector machine."""
    strength: float
    """Of the ridge."""


def classifiers(count: int) -> Iterator[Problem]:
    """Yield problems of 2 to 20 ways and 1 to 15 shots, of five kinds."""
    for seed in range(count):
        random = np.random.default_rng(seed)
        ways, shots = int(random.choice([2, 3, 5, 10, 20])), int(random.choice([1, 2, 5, 10, 15]))
        features = int(random.choice([2, 8, 16, 64, 640]))
        support = np.repeat(random.normal(size=(ways, features)), shots, 0) * random.choice([0.3, 1, 3])
        support += random.normal(size=support.shape)
        kind = seed % 5  # the first stays as it is
        if kind == 1:  # sizes that differ by a million
            support = support * np.logspace(0, -6, features)
        elif kind == 2:  # the same features again and again
            support = support[:, random.integers(max(1, features // 4), size=features)]
        elif kind == 3:  # the same examples again and again, under one label or several
            support = support[random.integers(len(support), size=len(support))]
        elif kind == 4:  # as after a rectifier
            support = np.maximum(support, 0) + 0.5
        support = support * random.choice([0.1, 1, 1, 10])
        bound, strength = float(random.choice([0.01, 0.1, 0.1, 1])), float(random.choice([0.1, 1, 50]))
        yield Problem(support, np.repeat(np.arange(ways), shots), ways, bound, strength)


def slopes() -> Iterator[tuple[Problem, Array, Array]]:
    """Yield problems with a direction ``[S, D]`` to move the support set in, and weights ``[W, D]`` of its classifier.

    With more examples than features there are many optimal duals, but one classifier.
    """
    for seed in range(40):
        random = np.random.default_rng(1000 + seed)
        ways, shots, features = (int(random.choice(some)) for some in ((2, 3, 5), (1, 2, 5), (4, 8, 32)))
        support = np.repeat(random.normal(size=(ways, features)), shots, 0) + random.normal(
            size=(ways * shots, features)
        )
        problem = Problem(support, np.repeat(np.arange(ways), shots), ways, 0.1, 1.0)
        towards = random.normal(size=support.shape)
        yield problem, towards / np.linalg.norm(towards), random.normal(size=(ways, features))


def tasks() -> dict[str, dict[str, Any]]:
    """Return the tasks of the meta-gradients by name."""
    made = {}
    for norm in ("batch", "group"):
        for shots, steps, second_order in ((1, 1, True), (1, 5, True), (5, 5, True), (5, 5, False)):
            order = "" if second_order else ", first order"
            name = f"maml {norm} norm, {shots}-shot, {steps} steps{order}"
            made[name] = {
                "algorithm": "maml",
                "norm": norm,
                "ways": 5,
                "shots": shots,
                "steps": steps,
                "rate": 0.1,
                "second_order": second_order,
            }
        for shots in (1, 5):
            made[f"anil {norm} norm, {shots}-shot, 5 steps"] = {
                "algorithm": "anil",
                "norm": norm,
                "ways": 5,
                "shots": shots,
                "steps": 5,
                "rate": 0.1,
                "second_order": True,
            }
    return made


def episode(task: dict[str, Any]) -> dict[str, Array]:
    """Return a task's images and targets, and the weights of Conv4-32 and its head in the order of both sides."""
    random = np.random.default_rng(task["shots"])
    ways, queries, hidden, side = task["ways"], 3, 32, 28
    arrays = {
        "support": random.random((ways * task["shots"], 1, side, side)),
        "support_targets": np.repeat(np.arange(ways), task["shots"]),
        "query": random.random((ways * queries, 1, side, side)),
        "query_targets": np.repeat(np.arange(ways), queries),
    }
    shapes: list[tuple[int, ...]] = []
    for channels in (1, hidden, hidden, hidden):
        shapes += [(hidden, channels, 3, 3), (hidden,), (hidden,), (hidden,)]  # convolution, its bias, norm, its bias
    shapes += [(ways, hidden), (ways,)]
    for place, shape in enumerate(shapes):
        spread = 1 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.1
        arrays[f"weight{place}"] = random.normal(size=shape) * spread + (place < 16 and place % 4 == 2)
    return arrays


def write(folder: Path, count: int) -> None:
    """Write the episodes; classifiers and slopes are made again on the other side."""
    for name, task in tasks().items():
        np.savez(folder / f"{name}.task.npz", **episode(task))
    random = np.random.default_rng(0)
    targets = np.repeat(np.arange(5), 5)
    np.savez(
        folder / "prototypes.npz",
        support=random.normal(size=(25, 64)),
        targets=targets,
        query=random.normal(size=(75, 64)),
    )
    (folder / "count.txt").write_text(str(count))
