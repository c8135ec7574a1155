"""What the benchmarks of domains share: texts.py, tables.py, sounds.py beside it hold what each measures.

Each measurement is a function of the folder of its data, under a name; ``results/DOMAIN.json`` keeps what each
returned, with the command, the hardware and the versions of its own run: one may be repeated without the others.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import record
import torch
from embeddings import QUIET
from lightning.pytorch import Callback
from torch import Tensor, nn

from quickstudy import Classifier, DataModule, Trainer
from quickstudy.batches import Batch, take
from quickstudy.data.episodes import EpisodePlan
from quickstudy.functional.intervals import mean_interval

Measurement = Callable[[Path], dict[str, Any]]
"""A function of the folder of the data that returns figures."""


def main(domain: str, description: str | None, measurements: Mapping[str, Measurement]) -> None:
    """Make what the command line asks for, one after another, and keep each as soon as it is there."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="the folder of the data")
    parser.add_argument(
        "--only", nargs="+", choices=list(measurements), default=list(measurements), help="what to make"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.only:
        figures = measurements[name](arguments.root)
        print(json.dumps(figures, indent=1))
        print(keep(domain, name, figures))


def keep(domain: str, name: str, figures: dict[str, Any]) -> Path:
    """Put one measurement in its place among those of ``results/DOMAIN.json``."""
    path = record.RESULTS / f"{domain}.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    command = f"python benchmarks/{domain}.py --root DATA --only {name}"
    record.save(path, {**kept, name: {**record.circumstances(command), **figures}})
    return path


# ---- episodes of test classes


def plan(ways: int, shots: int, queries: int = 10, episodes: int = 600) -> dict[str, Any]:
    """Return the options of a strategy that is tested on so many episodes."""
    return {"ways": ways, "shots": shots, "queries": queries, "meta_batch_size": 1, "test_epoch_length": episodes}


def judged(data: DataModule, episodes: dict[str, Any], strategy: str, **options: Any) -> dict[str, float]:
    """Return the share of right answers of a strategy on embeddings, and half its 95% interval, in percent."""
    options = {**episodes, **options}
    model = Classifier(backbone=nn.Flatten(), training_strategy=strategy, training_strategy_kwargs=options)
    began = time.process_time()
    (found,) = Trainer(**QUIET).test(model, datamodule=data, verbose=False)
    return told(found["test_accuracy"], found["test_accuracy_ci95"], began)


def judged_peer(data: DataModule, episodes: dict[str, Any], make: Callable[[], Any]) -> dict[str, float]:
    """Return the same of a classifier of scikit-learn, on the same episodes."""
    began, right = time.process_time(), []
    for episode in data.episode_loader("test", EpisodePlan(**episodes)):
        support, targets, query, wanted = (part[0].numpy() for part in episode)
        right.append(make().fit(support, targets).score(query, wanted))
    return told(*mean_interval(torch.tensor(right)), began)


def told(accuracy: Any, half: Any, began: float) -> dict[str, float]:
    """Return an accuracy with half its interval, in percent, and the seconds of a processor since it began."""
    figures = {"accuracy": round(100 * float(accuracy), 2), "ci95": round(100 * float(half), 2)}
    return {**figures, "cpu_seconds": round(time.process_time() - began, 1)}


# ---- steps of training


def plain_steps(
    network: nn.Module,
    inputs: Batch,
    codes: Tensor,
    batch: int,
    epochs: int,
    loss: Callable[[Tensor, Tensor], Tensor] = nn.functional.cross_entropy,
) -> Iterator[None]:
    """Train a network by Adam in a loop of plain torch, from memory, and yield after each step."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(epochs):
        for some in torch.randperm(len(codes)).split(batch):
            optimizer.zero_grad()
            loss(network(take(inputs, some)), codes[some]).backward()
            optimizer.step()
            yield


class InTurns(Callback):
    """Takes a step of a plain loop after each step of training, so that both have the machine as it is then.

    Args:
        plain: the loop, which yields after each of its steps.
    """

    def __init__(self, plain: Iterator[None]) -> None:
        self.plain = plain
        self.began = 0.0
        self.ours, self.theirs = list[float](), list[float]()

    def on_train_batch_end(self, *arguments: Any) -> None:
        ended = time.process_time()
        if self.began:
            self.ours.append(ended - self.began)
        if next(self.plain, self) is not self:
            self.theirs.append(time.process_time() - ended)
        self.began = time.process_time()

    @property
    def step(self) -> float:
        """The median of a step of training, in seconds of a processor."""
        return median(self.ours)

    @property
    def ratio(self) -> float:
        """It, as a multiple of the median of a plain one."""
        return self.step / median(self.theirs)
