"""What quickstudy adds to what has to be done anyway: to the training step of a plain loop, to gathering embeddings.

    python benchmarks/overhead.py --root DATA                    # all; or
    python benchmarks/overhead.py --root DATA --only episodes

DATA holds cifar-fs.zip. Both sides run in turns in one process of one thread, with the same allocator, and are timed by
the processor's seconds.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import domains
import numpy as np
import torch
from embeddings import QUIET
from peers import speed as works
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2

from quickstudy import Trainer
from quickstudy.algorithms import STRATEGIES, EmbeddingAlgorithm
from quickstudy.data.episodes import EpisodeSampler
from quickstudy.data.table import ClassIndex
from quickstudy.functional.intervals import mean_interval
from quickstudy.image import ImageClassificationData, ImageClassifier

EPISODES, SHOTS, QUERIES, TURNS = 10_000, 5, 15, 15
GATHERED = 8  # episodes at once, which is quickest
CLASSES, TRAIN, TEST, SIZE, BATCH, EPOCHS, SEEDS = 20, 100, 100, 32, 64, 2, 5
RATE = 1e-3


def interval(figures: list[float]) -> dict[str, float]:
    """Return the mean of paired figures, and half its 95% interval."""
    mean, half = mean_interval(torch.tensor(figures, dtype=torch.float64))
    return {"mean": round(mean, 4), "ci95": round(half, 4)}


def seconds(work: Callable[[], Any]) -> float:
    """Return the processor's seconds of a piece of work."""
    began = time.process_time()
    work()
    return time.process_time() - began


# ---- episodes of embeddings


def episodes(root: Path) -> dict[str, Any]:
    """Answer 5-way 5-shot episodes of kept embeddings of 640 features, beside gathering their rows alone."""
    table, targets = works.embeddings_of({"features": 640})
    values = torch.from_numpy(table)
    sampler = EpisodeSampler(ClassIndex(targets, 20), ways=works.WAYS, shots=SHOTS, queries=QUERIES)
    rows = torch.from_numpy(sampler.draw(np.arange(EPISODES)))
    prototypes: Any = STRATEGIES["prototypicalnetworks"]().eval()
    centroids: Any = STRATEGIES["nearest_centroid"]().eval()

    @torch.inference_mode()
    def gather() -> None:
        for some in rows.split(GATHERED):
            values.index_select(0, some.flatten())

    sides = {
        "gathering the rows": gather,
        "prototypicalnetworks": lambda: prototypes.answers(values, rows, SHOTS),
        "prototypicalnetworks, as any strategy": lambda: EmbeddingAlgorithm.answers(prototypes, values, rows, SHOTS),
        "nearest_centroid": lambda: centroids.answers(values, rows, SHOTS),
    }
    took = [{name: seconds(side) for name, side in sides.items()} for _ in range(TURNS)]
    apart = prototypes.answers(values, rows, SHOTS) != EmbeddingAlgorithm.answers(prototypes, values, rows, SHOTS)
    return {
        "episodes": f"{EPISODES} of 5 ways, {SHOTS} shots and {QUERIES} queries, {len(values)} x 640 embeddings",
        "turns": TURNS,
        "microseconds of an episode": {
            name: round(1e6 * median(turn[name] for turn in took) / EPISODES, 1) for name in sides
        },
        "times gathering": {
            name: interval([turn[name] / turn["gathering the rows"] for turn in took]) for name in list(sides)[1:]
        },
        "queries that rounding answers otherwise": int(apart.sum()),
    }


# ---- ordinary training of pictures


def pictures(root: Path) -> dict[str, Any]:
    """Train a network from nothing on pictures, beside a plain loop of torch with the same network and augmentation."""
    data = ImageClassificationData.from_benchmark("cifar_fs", root)
    whole = data.table("train", by_class=True)
    assert whole is not None
    samples = data.samples(whole, "train")
    own = [np.asarray(whole.index.rows(code))[: TRAIN + TEST] for code in range(CLASSES)]
    taught, asked = (
        (samples.batch(np.concatenate([rows[part] for rows in own])), torch.arange(CLASSES).repeat_interleave(count))
        for part, count in ((slice(TRAIN), TRAIN), (slice(TRAIN, None), TEST))
    )
    augment = v2.Compose([v2.RandomCrop(SIZE, padding=4), v2.RandomHorizontalFlip()])
    found: dict[str, Any] = {
        "pictures": f"{CLASSES} classes of CIFAR-FS, {TRAIN} each to train on and {TEST} to test on, {SIZE} px",
        "training": f"{EPOCHS} epochs, batches of {BATCH}, AdamW, random crops and flips",
    }
    for backbone in ("resnet18",):
        ratios, apart, steps = list[float](), list[float](), list[float]()
        for seed in range(SEEDS):
            torch.manual_seed(seed)
            model = ImageClassifier(CLASSES, backbone, pretrained=False, optimizer="AdamW", learning_rate=RATE)
            made = ImageClassificationData.from_tensors(
                train_data=taught[0],
                train_targets=taught[1],
                test_data=asked[0],
                test_targets=asked[1],
                transform=augment,
                batch_size=BATCH,
            )
            model.meet(made, "fit")
            plain = nn.Sequential(copy.deepcopy(model.encoder.backbone), nn.Flatten(), copy.deepcopy(model.head))
            turns = domains.InTurns(plain_steps(plain, model, augment, taught))
            trainer = Trainer(max_epochs=EPOCHS, limit_val_batches=0, callbacks=[turns], **QUIET)
            trainer.fit(model, datamodule=made)
            right = plain_accuracy(plain, model, asked)
            accuracy = trainer.test(model, datamodule=made, verbose=False)[0]["test_accuracy"]
            steps.append(turns.step)
            ratios.append(turns.ratio)
            apart.append(float(accuracy) - right)
            print(backbone, round(ratios[-1], 3), round(float(accuracy), 3), round(right, 3), flush=True)
        found[backbone] = {
            "milliseconds of a step": round(1000 * median(steps), 1),
            "time of quickstudy / plain torch and timm": interval(ratios),
            "accuracy, less that of plain torch and timm": interval(apart),
        }
    return found


def plain_steps(network: nn.Module, model: Any, augment: Any, taught: Any) -> Iterator[None]:
    """Train a network as one does without quickstudy, in the memory format that suits it."""

    class Augmented(TensorDataset):
        def __getitem__(self, row: int) -> Any:
            picture, target = super().__getitem__(row)
            return augment(picture), target

    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE)
    network.train()
    for _ in range(EPOCHS):
        for inputs, targets in DataLoader(Augmented(*taught), batch_size=BATCH, shuffle=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(prepared(inputs, model)), targets).backward()
            optimizer.step()
            yield


@torch.inference_mode()
def plain_accuracy(network: nn.Module, model: Any, asked: Any) -> float:
    """Return the share of pictures that a network answers rightly."""
    network.eval()
    parts = zip(*(part.split(256) for part in asked), strict=True)
    return sum(int((network(prepared(x, model)).argmax(1) == y).sum()) for x, y in parts) / len(asked[1])


def prepared(pictures: Tensor, model: Any) -> Tensor:
    """Return pictures as a network takes them."""
    scaled = pictures.float() / 255
    if model.encoder.mean is not None:
        scaled = (scaled - model.encoder.mean) / model.encoder.std
    return scaled.contiguous(memory_format=torch.channels_last)


if __name__ == "__main__":
    domains.main("overhead", __doc__, {"episodes": episodes, "pictures": pictures})
