"""How much memory a training takes at most on a CPU, by strategy, beside plain torch loops, learn2learn and easyfsl.

    python benchmarks/memory.py            # about 20 minutes on two cores; writes benchmarks/results/memory.json
    python benchmarks/memory.py --only anil        # writes nothing

Conv4-64 on 3,200 pictures of 84 pixels as float32 tensors, 5-way 5-shot, 15 queries, ``meta_batch_size=4``: the peak
of a fresh process, all that it imports and the pictures included. The plain loops are what one writes by hand, with the
system's allocator: they go backwards after every episode, and that of MAML differentiates through its steps. A strategy
is held to the loop of its kind. Exit status 1: one takes more than 1.3 times the loop's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import record
import torch
import torch.nn.functional as F
from peers import speed as works
from rich.console import Console
from sides import Line, Peers, peers_are_installed, show
from torch import Tensor
from torch.func import functional_call

from quickstudy.algorithms import STRATEGIES
from quickstudy.algorithms.maml import MAML

WAYS, SHOTS, QUERIES, TASKS, STEPS = 5, 5, 15, 4, 4
WORK = {"side": 84, "shots": SHOTS, "tasks": TASKS, "hidden": 64, "precision": "float32"}
CLASSES, EACH, PIXELS = 64, 50, 84
INNER_STEPS, INNER_RATE = 5, 0.01
MOST = 1.3  # times the plain loop's
PROCESSES = 2  # of each: where glibc finds room depends on chance
LOOPS = ("prototypes", "maml")


def pictures() -> tuple[Tensor, Tensor]:
    """Return made-up pictures ``[N, 3, 84, 84]``, their values as normalised ones, and their classes."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(CLASSES * EACH, 3, PIXELS, PIXELS, generator=generator)
    return inputs, torch.arange(CLASSES).repeat_interleave(EACH)


def plain_loop(kind: str) -> None:
    """Train as one would by hand: an episode forwards, backwards, and the next."""
    inputs, _ = pictures()
    network, size = works.network({"kind": kind, **WORK})
    head = torch.nn.Linear(size, WAYS)
    optimizer = torch.optim.Adam([*network.parameters(), *head.parameters()], 1e-3)
    generator = torch.Generator().manual_seed(1)
    of_support = torch.arange(WAYS).repeat_interleave(SHOTS)
    of_query = torch.arange(WAYS).repeat_interleave(QUERIES)
    for _ in range(STEPS):
        optimizer.zero_grad()
        for _ in range(TASKS):
            classes = torch.randperm(CLASSES, generator=generator)[:WAYS]
            rows = [EACH * code + torch.randperm(EACH, generator=generator)[: SHOTS + QUERIES] for code in classes]
            support = inputs[torch.cat([row[:SHOTS] for row in rows])]
            query = inputs[torch.cat([row[SHOTS:] for row in rows])]
            if kind == "prototypes":
                features_ND = network(torch.cat([support, query]))
                means_WD = features_ND[: len(support)].unflatten(0, (WAYS, SHOTS)).mean(1)
                logits_QW = -torch.cdist(features_ND[len(support) :], means_WD).square()
            else:
                weights = {**dict(network.named_parameters()), "w": head.weight, "b": head.bias}
                for _ in range(INNER_STEPS):
                    loss = F.cross_entropy(_logits(network, weights, support), of_support)
                    gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
                    moved = zip(weights.items(), gradients, strict=True)
                    weights = {name: value - INNER_RATE * gradient for (name, value), gradient in moved}
                logits_QW = _logits(network, weights, query)
            (F.cross_entropy(logits_QW, of_query) / TASKS).backward()
        optimizer.step()


def _logits(network: torch.nn.Module, weights: dict[str, Tensor], inputs: Tensor) -> Tensor:
    own = {name: value for name, value in weights.items() if name not in ("w", "b")}
    return F.linear(functional_call(network, own, (inputs,)), weights["w"], weights["b"])


def library(strategy: str) -> None:
    """Train as a user does, by the Trainer."""
    from quickstudy import Trainer
    from quickstudy.image import ImageClassificationData, ImageClassifier

    warnings.simplefilter("ignore")  # the made-up pictures look like no real ones
    inputs, targets = pictures()
    options: dict[str, Any] = {"adaptation_steps": INNER_STEPS} if issubclass(STRATEGIES[strategy], MAML) else {}
    plan = {"ways": WAYS, "shots": SHOTS, "queries": QUERIES, "meta_batch_size": TASKS, "epoch_length": TASKS * STEPS}
    model = ImageClassifier(
        backbone="conv4", training_strategy=strategy, training_strategy_kwargs=plan | options, learning_rate=1e-3
    )
    parts = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    quiet: dict[str, Any] = dict.fromkeys(parts, False)
    data = ImageClassificationData.from_tensors(inputs, targets)
    Trainer(accelerator="cpu", max_epochs=1, **quiet).fit(model, datamodule=data)


def measured(name: str, **environment: str) -> list[float]:
    """Return the peaks of fresh processes that train so."""

    def once(_: int) -> float:
        command = [sys.executable, __file__, "--train", name]
        done = subprocess.run(
            command, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}, capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(f"{done.stderr}\n{name} {record.how_it_failed(done.returncode)}")
        return float(done.stdout.splitlines()[-1])

    return several(once)


def several(once: Callable[[int], float]) -> list[float]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(once, range(PROCESSES)))


def of_peer(kind: str, peer: str) -> list[float]:
    """Return the peaks of fresh processes in which a peer takes the same steps."""
    request = json.dumps({"peak": {"kind": kind, **WORK}, "peer": peer, "steps": STEPS})

    def once(_: int) -> float:
        with Peers("speed.py") as peers:
            return float(peers.ask(request))

    return several(once)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="strategies whose names contain this; writes nothing")
    parser.add_argument("--train", help=argparse.SUPPRESS)  # in a process of its own
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.train:
        plain_loop(args.train.partition(" ")[2]) if args.train.startswith("plain ") else library(args.train)
        print(works.memory("VmHWM"))
        return
    console = Console(width=None if sys.stdout.isatty() else 170)
    if not peers_are_installed(console):
        sys.exit(1)
    plain = {loop: measured(f"plain {loop}", QUICKSTUDY_ALLOCATOR="system") for loop in LOOPS}
    lines: list[Line] = []
    for name in (name for name in STRATEGIES.names() if args.only in name):
        loop = "maml" if issubclass(STRATEGIES[name], MAML) else "prototypes"
        ours = measured(name)
        line = Line(f"peak of training {name}", ours, "MB", f"plain loop, {loop}", plain[loop])
        line.target, line.met = f"<= {MOST} x", sum(ours) <= MOST * sum(plain[loop])
        peers = [Line(line.work, ours, "MB", peer, of_peer(name, peer)) for peer in works.PEERS.get(name, {})]
        show([line, *peers], console)
        lines += [line, *peers]
    if not args.only:
        command = "python benchmarks/memory.py"
        console.print(f"written: {record.write('memory', command, lines=[line.plain() for line in lines])}")
    sys.exit(0 if all(line.met is not False for line in lines) else 1)


if __name__ == "__main__":
    main()
