"""How fast the algorithms are, and how much memory they need, beside learn2learn, qpth and easyfsl in the same run.

    python benchmarks/speed.py            # about 55 minutes; writes benchmarks/results/speed.json
    python benchmarks/speed.py --quick    # under 10 minutes: fewer sizes and repeats; writes nothing
    python benchmarks/speed.py --only maml
    python benchmarks/speed.py --gpu      # MAML on one GPU; writes benchmarks/results/speed_gpu.json

One thread and the same allocator settings on both sides; ``benchmarks/peers/setup.sh`` installs the peers. Steps are
forward, backward and, in training, the optimizer's, without Lightning. Exit status 1: a target was missed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import record
import torch
from peers import speed as works
from peers.speed import Work, named
from rich.console import Console
from sides import Line, Peers, peers_are_installed, show
from torch import Tensor

from quickstudy.algorithms import STRATEGIES
from quickstudy.algorithms.base import EmbeddingAlgorithm
from quickstudy.algorithms.metaoptnet import MetaOptNet
from quickstudy.data.episodes import EpisodeSampler
from quickstudy.data.table import ClassIndex
from quickstudy.episode import Episode
from quickstudy.nets import Encoder
from quickstudy.nets.conv4 import Conv4
from quickstudy.runs.allocator import keep_memory_mapped, kept_mapped

REPEATS, PROCESSES = 5, 3  # the latter of each measurement of memory
QUICK_REPEATS, QUICK_PROCESSES = 3, 1
LEAST_SECONDS = 0.3  # of one repeat
EPISODES = 2000  # of one evaluation
SAME_ALLOCATOR = {f"MALLOC_{name}_": str(value % 2**62) for name, value in kept_mapped().items()}
HEAD_TARGETS = {"svm": {1: 3.0, 5: 8.0, 15: 20.0}, "ridge": {1: 10.0, 5: 30.0, 15: 60.0}}
EVALUATION_TARGETS = {"prototypicalnetworks": 50.0, "linear_probe": 10.0, "tim": 10.0}
TRAINING_TARGETS = {"float32": 1.4, "bfloat16": 2.5}
GPU_TARGET = 8.0
MOST_MEMORY = 1.5  # of 20 inner steps over that of 1


def our_step(work: Work) -> Callable[[], Any]:
    """Return the same work by this library."""
    return {"head": head, "evaluation": evaluation}.get(work["kind"], training_step)(work)


def head(work: Work) -> Callable[[], Tensor]:
    algorithm = MetaOptNet(head=work["head"])
    support, query = (torch.tensor(part) for part in works.features_of(work))
    targets = torch.tensor(works.targets_of(work["shots"])).expand(work["tasks"], -1)

    def step() -> Tensor:
        s, q = support.clone().requires_grad_(), query.clone().requires_grad_()
        logits = algorithm.classify(s, targets, q, works.WAYS)
        logits.square().sum().backward()
        return logits.detach()

    return step


def training_step(work: Work) -> Callable[[], None]:
    device = work.get("device", "cpu")
    support, query = (torch.tensor(part, device=device) for part in works.images_of(work))
    of_support, of_query = (
        torch.tensor(works.targets_of(count), device=device).expand(work["tasks"], -1)
        for count in (work["shots"], works.QUERIES)
    )
    episode = Episode(support, of_support, query, of_query)
    torch.manual_seed(0)
    meta = work["kind"] == "maml"
    encoder = Encoder(Conv4(in_channels=support.shape[2], hidden=32 if meta else 64)).to(device)
    options = {"adaptation_steps": work["steps"], "normalization": "transductive"} if meta else {}
    algorithm = STRATEGIES[work["kind"]](**options)
    algorithm.meet(encoder, encoder.feature_shape(support[0, :1]), works.WAYS)
    algorithm.to(device)
    optimizer = torch.optim.Adam([*encoder.parameters(), *algorithm.parameters()])
    half = work.get("precision") == "bfloat16"

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=half):
            loss, _ = algorithm.judge(encoder, episode, works.WAYS, algorithm.loss)
        loss.backward()
        optimizer.step()

    return step


def evaluation(work: Work) -> Callable[[], float]:
    values, targets = works.embeddings_of(work)
    embeddings = torch.tensor(values)
    sampler = EpisodeSampler(ClassIndex(targets, 20), ways=works.WAYS, shots=work["shots"], queries=works.QUERIES)
    algorithm = STRATEGIES[work["method"]]().eval()
    assert isinstance(algorithm, EmbeddingAlgorithm)
    of_query = torch.tensor(works.targets_of(works.QUERIES))

    def step() -> float:
        rows_TWK = torch.from_numpy(sampler.draw(np.arange(EPISODES)))
        return float((algorithm.answers(embeddings, rows_TWK, work["shots"]) == of_query).double().mean())

    return step


def units(work: Work, ours: bool) -> int:
    """Return how many tasks or episodes one step of a side takes."""
    if work["kind"] == "evaluation":
        return EPISODES if ours else works.EASYFSL_EPISODES
    return int(work["tasks"])


def compare(work: Work, peers: Peers, repeats: int) -> list[Line]:
    """Time both sides in turn, and set the targets."""
    step, lines = our_step(work), []
    step()
    names = list(works.PEERS[work["kind"]])
    ours: list[float] = []
    theirs: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(repeats):
        ours.append(units(work, True) / works.seconds(step, LEAST_SECONDS, work.get("device", "cpu")))
        for name in names:
            taken = peers.ask(json.dumps({"time": work, "peer": name, "least": LEAST_SECONDS}))
            theirs[name].append(units(work, False) / taken)
    for name in names:
        # On a CPU the peers know no other precision.
        half = ", float32" if work.get("precision") == "bfloat16" and "device" not in work else ""
        line = Line(named(work), ours, "/s", name + half, theirs[name])
        line.at_least(target_of(work))
        lines.append(line)
    return lines


def target_of(work: Work) -> float:
    if work["kind"] == "head":
        return HEAD_TARGETS[work["head"]][work["shots"]]
    if work["kind"] == "evaluation":
        return EVALUATION_TARGETS[work["method"]]
    if work["kind"] == "maml":
        return GPU_TARGET if "device" in work else 1.0
    return TRAINING_TARGETS[work["precision"]]


def memory_of(work: Work, peer: str | None, processes: int) -> list[float]:
    """Return the megabytes that a step adds at most, in fresh processes side by side.

    One of them says little: where glibc finds room for a tensor depends on where the others came to lie.
    """

    def once(_: int) -> float:
        if peer:
            with Peers("speed.py", environment=SAME_ALLOCATOR) as peers:
                return float(peers.ask(json.dumps({"memory": work, "peer": peer})))
        command = [sys.executable, __file__, "--memory", json.dumps(work)]
        return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(once, range(processes)))


def compare_memory(work: Work, processes: int) -> Line:
    """Compare a meta-step's memory with the peer's."""
    ours, theirs = memory_of(work, None, processes), memory_of(work, "learn2learn", processes)
    line = Line(f"memory of {named(work)}", ours, "MB", "learn2learn", theirs)
    line.target, line.met = "no more", median(ours) <= median(theirs)
    return line


def compare_long_loops(processes: int) -> list[Line]:
    short, long = works.long_inner_loops()
    lines = []
    for name, peer in (("quickstudy", None), ("learn2learn", "learn2learn")):
        few, many = memory_of(short, peer, processes), memory_of(long, peer, processes)
        line = Line(f"memory of maml, 84 px, 5-shot: 20 inner steps ({name})", many, "MB", "1 inner step", few)
        if peer is None:
            line.target, line.met = f"<= {MOST_MEMORY} x", median(many) <= MOST_MEMORY * median(few)
        lines.append(line)
    return lines


def compare_errors(quick: bool) -> list[Line]:
    """Compare both sides' logits in float32 with our solution in float64, as shares of the largest logit."""
    lines = []
    for work in works.heads(quick):
        if work["head"] == "svm" and work["tasks"] == 8:
            support, query = (torch.tensor(part).double() for part in works.features_of(work))
            targets = torch.tensor(works.targets_of(work["shots"])).expand(work["tasks"], -1)
            with tempfile.TemporaryDirectory() as folder, Peers("speed.py") as peers:
                path = str(Path(folder) / "logits.npy")
                peers.ask(json.dumps({"logits": work, "peer": "qpth", "path": path}))
                theirs = torch.tensor(np.load(path))
            algorithm = MetaOptNet(head="svm").double()
            exact = algorithm.classify(support, targets, query, works.WAYS).detach()
            # learn2learn adds 1 to the kernel's diagonal, as if every example had a feature of its own.
            own = torch.eye(support.shape[1], dtype=torch.float64).expand(work["tasks"], -1, -1)
            none = query.new_zeros(*query.shape[:2], support.shape[1])
            theirs_exact = algorithm.classify(
                torch.cat([support, own], 2), targets, torch.cat([query, none], 2), works.WAYS
            ).detach()
            ours = head(work)()
            errors = [
                float((found - wanted).abs().max() / wanted.abs().max())
                for found, wanted in ((ours, exact), (theirs, theirs_exact))
            ]
            line = Line(f"error of {named(work)}", [1e6 * errors[0]], "ppm", "qpth", [1e6 * errors[1]])
            line.target, line.met = "no larger", errors[0] <= errors[1]
            lines.append(line)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer sizes; writes nothing")
    parser.add_argument("--only", help="works whose names contain this; writes nothing")
    parser.add_argument("--gpu", action="store_true", help="MAML on one GPU alone")
    parser.add_argument("--memory", type=json.loads, help=argparse.SUPPRESS)  # of our side, in a process of its own
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory_mapped()
    if args.memory:
        print(works.megabytes(our_step(args.memory)))
        return
    console = Console(width=None if sys.stdout.isatty() else 170)
    if not peers_are_installed(console):
        sys.exit(1)

    def wanted(work: Work) -> bool:
        return not args.only or args.only in named(work)

    repeats, processes = (QUICK_REPEATS, QUICK_PROCESSES) if args.quick else (REPEATS, PROCESSES)
    on_cpu = (works.heads, works.meta_steps, works.training_steps, works.evaluations)
    kinds = (works.gpu_steps,) if args.gpu else on_cpu
    lines: list[Line] = []
    with Peers("speed.py", environment=SAME_ALLOCATOR) as peers:
        for work in (work for kind in kinds for work in kind(args.quick) if wanted(work)):
            lines += compare(work, peers, repeats)
            show(lines[-1:], console)
        versions = peers.hello
    if not args.gpu and args.only in (None, "memory"):
        lines += [compare_memory(work, processes) for work in works.meta_steps(args.quick)]
        lines += compare_long_loops(processes)
    if not args.gpu and args.only in (None, "error"):
        lines += compare_errors(args.quick)
    show(lines, console)
    console.print(f"Medians of {repeats} repeats in turn; of {processes} processes for memory.")
    console.print(f"Seconds of {'the clock' if args.gpu else 'one processor core'}; float32 unless said.")
    if not args.quick and not args.only:
        figures = [line.plain() for line in lines]
        name, command = ("speed_gpu", "speed.py --gpu") if args.gpu else ("speed", "speed.py")
        path = record.write(name, f"python benchmarks/{command}", peers=versions, lines=figures)
        console.print(f"written: {path}")
    sys.exit(0 if all(line.met is not False for line in lines) else 1)


if __name__ == "__main__":
    main()
