"""Whether our gradients, logits and optima are those of learn2learn, easyfsl, scikit-learn and cvxpy.

    python benchmarks/parity/run.py             # nine minutes on 2 cores; writes benchmarks/results/parity.json
    python benchmarks/parity/run.py --quick     # a tenth of the problems; writes nothing

``benchmarks/peers/setup.sh`` installs the peers, into an environment of their own. Both sides read the same weights,
episodes and problems from files, in float64. Where a peer departs from its paper, ours follows the paper, and the line
says what was done to the peer's answer before comparing. Exit status 1: something differs by more than it may.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import problems
import torch
import torch.nn.functional as F
from problems import Problem
from rich.console import Console
from rich.table import Table as Grid
from torch import Tensor

from quickstudy.algorithms.anil import ANIL
from quickstudy.algorithms.maml import MAML
from quickstudy.algorithms.prototypicalnetworks import PrototypicalNetworks
from quickstudy.episode import Episode
from quickstudy.functional.ridge import ridge
from quickstudy.functional.svm import svm_dual
from quickstudy.nets import Encoder
from quickstudy.nets.conv4 import Conv4

HERE = Path(__file__).parent
PEERS = HERE.parents[1] / ".venv-peers/bin/python"
sys.path.insert(0, str(HERE.parent))
import record  # noqa: E402


@dataclass
class Line:
    """One comparison: the differences found, and what they may be."""

    what: str
    peer: str
    differences: list[float]
    limit: float
    note: str = ""

    @property
    def largest(self) -> float:
        return float(np.max(self.differences))  # nan where one is

    @property
    def met(self) -> bool:
        return self.largest <= self.limit


def our_gradients(task: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """Return the meta-gradient by each of our methods, as one vector, backbone first."""
    found = {}
    methods = ("unrolled", "adjoint") if task["second_order"] else ("first_order",)
    for method in methods if task["algorithm"] == "maml" else ("exact",):
        torch.manual_seed(0)
        backbone = Conv4(in_channels=arrays["support"].shape[1], hidden=32, norm=task["norm"]).double()
        encoder = Encoder(backbone)
        options = {"adaptation_steps": task["steps"], "adaptation_lr": task["rate"]}
        if task["algorithm"] == "maml":
            algorithm: Any = MAML(**options, meta_gradient=method, normalization="transductive")
        else:
            algorithm = ANIL(**options)
        support, query = torch.tensor(arrays["support"]), torch.tensor(arrays["query"])
        algorithm.meet(encoder, encoder.feature_shape(support[:1]), task["ways"])
        algorithm.double()
        parameters = [*backbone.parameters(), algorithm.head.weight, algorithm.head.bias]
        with torch.no_grad():
            for place, parameter in enumerate(parameters):
                parameter.copy_(torch.tensor(arrays[f"weight{place}"]))
        targets_S, targets_Q = torch.tensor(arrays["support_targets"]), torch.tensor(arrays["query_targets"])
        episode = Episode(support[None], targets_S[None], query[None], targets_Q[None])
        loss, _ = algorithm.judge(encoder, episode, task["ways"], algorithm.loss)
        loss.backward()
        found[method] = torch.cat([parameter.grad.flatten() for parameter in parameters])
    return found


def compare_gradients(folder: Path) -> list[Line]:
    lines = []
    for name, task in problems.tasks().items():
        with np.load(folder / f"{name}.task.npz") as file:
            arrays = dict(file)
        theirs = torch.tensor(np.load(folder / f"{name}.task.answer.npy"))
        for method, ours in our_gradients(task, arrays).items():
            difference = float((ours - theirs).norm() / theirs.norm())
            lines.append(Line(f"{name}: meta-gradient, {method}", "learn2learn", [difference], 1e-6))
    return lines


def compare_prototypes(folder: Path) -> list[Line]:
    with np.load(folder / "prototypes.npz") as file:
        support, targets, query = (torch.tensor(file[name]) for name in ("support", "targets", "query"))
    with np.load(folder / "prototypes.answer.npz") as file:
        theirs = {name: torch.tensor(file[name]) for name in file.files}
    algorithm = PrototypicalNetworks()
    ours = algorithm.logits(algorithm.fit(support, targets, int(targets.max()) + 1), query)

    def apart(other: Tensor) -> list[float]:
        return [float((ours - other).abs().max() / ours.abs().max())]

    return [
        Line("prototypical logits", "learn2learn", apart(theirs["learn2learn"]), 1e-10),
        Line("prototypical logits", "easyfsl", apart(-theirs["easyfsl"].square()), 1e-10, "its distance, squared"),
    ]


def objective(problem: Problem, dual: Tensor) -> float:
    support, wanted = torch.tensor(problem.support), wanted_of(problem)
    return float(0.5 * (support.mT @ dual).square().sum() - (dual * wanted).sum())


def wanted_of(problem: Problem) -> Tensor:
    return F.one_hot(torch.tensor(problem.targets), problem.ways).double()


def compare_classifiers(folder: Path, count: int) -> list[Line]:
    svm: dict[str, list[float]] = {"cvxpy": [], "scikit-learn": []}
    regression: dict[str, list[float]] = {"cvxpy": [], "scikit-learn": []}
    gave_up = unsolved = 0
    for number, problem in enumerate(problems.classifiers(count)):
        with np.load(folder / f"{number}.answer.npz") as file:
            theirs = {name: float(file[name]) for name in file.files}
        support = torch.tensor(problem.support)
        ours = objective(problem, svm_dual(support @ support.mT, wanted_of(problem), problem.bound))
        if np.isfinite(theirs["svm_cvxpy"]):
            svm["cvxpy"].append(abs(ours - theirs["svm_cvxpy"]) / abs(ours))
        else:
            unsolved += 1
        # Its primal objective, which at the optimum is the dual's with the other sign.
        if np.isfinite(theirs["svm_sklearn"]):
            svm["scikit-learn"].append(abs(ours + theirs["svm_sklearn"]) / abs(ours))
        else:
            gave_up += 1
        weights = ridge(support, wanted_of(problem), problem.strength)
        left = (support @ weights.mT - wanted_of(problem)).square().sum()
        ours = float(left + problem.strength * weights.square().sum())
        for peer, name in (("cvxpy", "ridge_cvxpy"), ("scikit-learn", "ridge_sklearn")):
            regression[peer].append(abs(ours - theirs[name]) / abs(ours))
    notes = {
        "cvxpy": f"it solved all but {unsolved}" if unsolved else "",
        "scikit-learn": f"liblinear reached its tolerance in {count - gave_up} of {count}",
    }
    return [
        *(Line(f"SVM optimum, {count} problems", peer, found, 1e-5, notes[peer]) for peer, found in svm.items()),
        *(Line(f"ridge optimum, {count} problems", peer, found, 1e-5) for peer, found in regression.items()),
    ]


def compare_implicit_gradients(folder: Path) -> list[Line]:
    """Compare slopes of a random function of the classifier along random directions of the support set."""
    with np.load(folder / "slopes.answer.npz") as file:
        slopes = file["slopes"]
    found = []
    for slope, (problem, towards, weights) in zip(slopes, problems.slopes(), strict=True):
        support = torch.tensor(problem.support, requires_grad=True)
        dual = svm_dual(support @ support.mT, wanted_of(problem), problem.bound)
        (gradient,) = torch.autograd.grad((dual.mT @ support * torch.tensor(weights)).sum(), support)
        found.append(abs(float((gradient * torch.tensor(towards)).sum()) - slope) / float(gradient.norm()))
    return [Line(f"SVM implicit gradient, {len(found)} problems", "cvxpy, finite differences", found, 1e-4)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the problems; writes nothing")
    quick = parser.parse_args().quick
    if not PEERS.exists():
        raise SystemExit("the peers are not installed: run benchmarks/peers/setup.sh")
    count = 50 if quick else 500
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        problems.write(folder, count)
        one_thread = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}  # it solves in parallel
        subprocess.run([str(PEERS), str(HERE / "peers.py"), made], check=True, env={**os.environ, **one_thread})
        versions = (folder / "versions.txt").read_text().split()
        lines = [
            *compare_gradients(folder),
            *compare_prototypes(folder),
            *compare_classifiers(folder, count),
            *compare_implicit_gradients(folder),
        ]

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
    grid = Grid("what", "peer", "median", "largest difference", "at most", "met", "")
    for line in lines:
        median, most = np.median(line.differences), line.largest
        met = "yes" if line.met else "NO"
        grid.add_row(line.what, line.peer, f"{median:.1e}", f"{most:.1e}", f"{line.limit:.0e}", met, line.note)
    console.print(grid)
    if not quick:
        figures = [{**asdict(line), "largest": line.largest, "met": line.met} for line in lines]
        path = record.write("parity", "python benchmarks/parity/run.py", peers=versions, lines=figures)
        console.print(f"written: {path}")
    sys.exit(0 if all(line.met for line in lines) else 1)


if __name__ == "__main__":
    main()
