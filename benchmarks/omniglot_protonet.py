"""Prototypical networks on Omniglot: the library's accuracy, and its speed beside a plain torch loop.

    python benchmarks/omniglot_protonet.py      # about 25 minutes on 2 cores; writes results/omniglot_*.json
    python benchmarks/omniglot_protonet.py --seconds 60 --blocks 3 --episodes 200      # a first look; writes nothing

Training: 60-way 1-shot with 5 queries, Adam 1e-3 halved every 2000 episodes, 28x28 pixels, 1200 characters with
rotations (Snell et al. 2017). Test: 323 characters without rotations that training never saw; inductive. Both loops
share the data, the classes, the network's shape and the allocator's settings.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import statistics
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import record
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table as Grid
from torch import Tensor, nn

from quickstudy import Trainer
from quickstudy.image import ImageClassificationData, ImageClassifier

WAYS, QUERIES, PER_CLASS = 60, 5, 20
SETTINGS = ((5, 1), (5, 5), (20, 1), (20, 5))
PUBLISHED = (98.8, 99.7, 96.0, 98.9)  # Snell et al. 2017
PLAIN = (99.2, 99.7, 96.9, 99.2)  # a plain torch loop like the one below, after 15 minutes on 2 cores; see --plain
PLAIN_CI95 = (0.2, 0.1, 0.3, 0.1)
LEAST_SPEED = 0.95
SECONDS, EPISODES, BLOCKS = 900, 1000, 9
BLOCK = 60  # episodes of one turn of a loop
QUIET: dict[str, Any] = {
    "accelerator": "auto",
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def library_model(epoch_length: int, test_episodes: int, backbone: nn.Module | None = None) -> ImageClassifier:
    torch.manual_seed(0)
    return ImageClassifier(
        backbone=backbone or "conv4",
        backbone_kwargs=None if backbone else {"in_channels": 1},
        learning_rate=1e-3,
        lr_scheduler=("StepLR", {"step_size": 2000, "gamma": 0.5, "interval": "step"}),
        training_strategy="prototypicalnetworks",
        training_strategy_kwargs={
            "ways": WAYS,
            "shots": 1,
            "queries": QUERIES,
            "meta_batch_size": 1,
            "epoch_length": epoch_length,
            "test_epoch_length": test_episodes,
        },
    )


def train(data: ImageClassificationData, seconds: float, test_episodes: int) -> tuple[ImageClassifier, int, float]:
    """Train for a time; return the model, the number of episodes and the seconds."""
    model = library_model(10_000_000, test_episodes)
    trainer = Trainer(max_epochs=1, max_time=timedelta(seconds=seconds), limit_val_batches=0, **QUIET)
    start = time.perf_counter()
    trainer.fit(model, datamodule=data)
    return model, trainer.global_step, time.perf_counter() - start


def train_plain(
    data: ImageClassificationData, seconds: float, test_episodes: int
) -> tuple[ImageClassifier, int, float]:
    """Do the same in plain torch."""
    table = data.table("train")
    assert table is not None and isinstance(table.inputs, Tensor)
    torch.manual_seed(0)
    loop, episodes, start = PlainLoop(table.inputs), 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        loop.run(1)
        episodes += 1
    return library_model(BLOCK, test_episodes, loop.net), episodes, time.perf_counter() - start


def test(model: ImageClassifier, data: ImageClassificationData) -> list[dict[str, float]]:
    results = []
    for ways, shots in SETTINGS:
        assert model.plan is not None
        model.plan = dataclasses.replace(model.plan, test_ways=ways, test_shots=shots)
        results += Trainer(**QUIET).test(model, datamodule=data, verbose=False)
    return results


class PlainLoop:
    """The same training in plain torch, without a library; ``net`` is what it trains."""

    def __init__(self, images: Tensor) -> None:
        self._data = images.view(-1, PER_CLASS, *images.shape[1:])

        def block(channels: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(channels, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2))

        self.net = nn.Sequential(block(1), block(64), block(64), block(64), nn.Flatten())
        self.net.to(memory_format=torch.channels_last)
        self._optimizer = torch.optim.Adam(self.net.parameters(), 1e-3)
        self._schedule = torch.optim.lr_scheduler.StepLR(self._optimizer, 2000, 0.5)

    def run(self, episodes: int) -> None:
        target = torch.arange(WAYS).repeat_interleave(QUERIES)
        for _ in range(episodes):
            classes = torch.randperm(len(self._data))[:WAYS]
            drawers = torch.rand(WAYS, PER_CLASS).argsort(1)[:, : 1 + QUERIES]
            x = self._data[classes[:, None], drawers].float() / 255
            z = self.net(torch.cat([x[:, 0], x[:, 1:].flatten(0, 1)]))
            prototypes, query = z[:WAYS], z[WAYS:]
            logits = 2 * query @ prototypes.T - prototypes.square().sum(1)
            loss = F.cross_entropy(logits, target)
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            self._schedule.step()


def compare_speed(data: ImageClassificationData, blocks: int) -> tuple[list[float], list[float]]:
    """Return episodes a second of the library and of the plain loop, in turn."""
    table = data.table("train")
    assert table is not None and isinstance(table.inputs, Tensor)
    plain, model = PlainLoop(table.inputs), library_model(BLOCK, 1)
    ours, theirs = [], []
    for block in range(-1, blocks):  # the first turn warms both up
        start = time.perf_counter()
        plain.run(BLOCK)
        middle = time.perf_counter()
        Trainer(max_epochs=1, limit_val_batches=0, **QUIET).fit(model, datamodule=data)
        end = time.perf_counter()
        if block >= 0:
            theirs.append(BLOCK / (middle - start))
            ours.append(BLOCK / (end - middle))
    return ours, theirs


def measure_speed(data: ImageClassificationData, blocks: int, console: Console) -> None:
    ours, theirs = compare_speed(data, blocks)
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    ratio = statistics.median(ratios)
    console.print(
        f"{statistics.median(ours):.2f} episodes a second, plain torch {statistics.median(theirs):.2f}: "
        f"{ratio:.3f} times ({blocks} turns: {min(ratios):.3f} to {max(ratios):.3f}; target: {LEAST_SPEED})"
    )
    if blocks == BLOCKS:
        figures = {"unit": "episodes a second", "ours": ours, "plain torch": theirs, "ratios": ratios, "ratio": ratio}
        path = record.write("omniglot_protonet_speed", "python benchmarks/omniglot_protonet.py --seconds 0", **figures)
        console.print(f"written: {path}")


def measure_accuracy(
    data: ImageClassificationData, seconds: float, episodes: int, plain_loop: bool, console: Console
) -> None:
    model, trained, took = (train_plain if plain_loop else train)(data, seconds, episodes)
    results = test(model, data)
    grid = Grid("", "accuracy %", "plain torch, earlier", "published", title=f"{trained} episodes in {took:.0f} s")
    for (ways, shots), result, plain, ci95, published in zip(
        SETTINGS, results, PLAIN, PLAIN_CI95, PUBLISHED, strict=True
    ):
        accuracy = f"{100 * result['test_accuracy']:.2f} ± {100 * result['test_accuracy_ci95']:.2f}"
        grid.add_row(f"{ways}-way {shots}-shot", accuracy, f"{plain} ± {ci95}", f"{published}")
    console.print(grid)
    console.print(f"{episodes} test episodes each, {QUERIES} queries per class; inductive.")
    if (seconds, episodes, plain_loop) == (SECONDS, EPISODES, False):
        figures = {f"{ways}-way {shots}-shot": result for (ways, shots), result in zip(SETTINGS, results, strict=True)}
        path = record.write(
            "omniglot_protonet_accuracy",
            "python benchmarks/omniglot_protonet.py --blocks 0",
            training={"episodes": trained, "seconds": took},
            test_episodes=episodes,
            accuracy=figures,
        )
        console.print(f"written: {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="folder with Omniglot's two zips; default: QUICKSTUDY_DATA")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of training; 0 measures the speed alone")
    parser.add_argument("--episodes", type=int, default=EPISODES, help="test episodes of each setting")
    parser.add_argument("--blocks", type=int, default=BLOCKS, help=f"turns of {BLOCK} episodes of the speed comparison")
    parser.add_argument("--plain", action="store_true", help="train the plain torch loop instead; writes nothing")
    args = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    console = Console(highlight=False)
    data = ImageClassificationData.from_benchmark("omniglot", args.root, rotations=True)

    if args.blocks:
        measure_speed(data, args.blocks, console)
    if args.seconds:
        measure_accuracy(data, args.seconds, args.episodes, args.plain, console)


if __name__ == "__main__":
    main()
