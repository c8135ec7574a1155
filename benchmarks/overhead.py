"""What quickstudy adds to what has to be done anyway: to gathering embeddings, where episodes of them are answered.

    python benchmarks/overhead.py --root DATA

Needs no data: the embeddings are made up. Both sides run in turns in one process of one thread, with the same
allocator, and are timed by the processor's seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import domains
import numpy as np
import torch
from peers import speed as works

from quickstudy.algorithms import STRATEGIES, EmbeddingAlgorithm
from quickstudy.data.episodes import EpisodeSampler
from quickstudy.data.table import ClassIndex
from quickstudy.functional.intervals import mean_interval

EPISODES, SHOTS, QUERIES, TURNS = 10_000, 5, 15, 15
GATHERED = 8  # episodes at once, which is quickest


def interval(figures: list[float]) -> dict[str, float]:
    """Return the mean of paired figures, and half its 95% interval."""
    mean, half = mean_interval(torch.tensor(figures, dtype=torch.float64))
    return {"mean": round(mean, 4), "ci95": round(half, 4)}


def seconds(work: Callable[[], Any]) -> float:
    """Return the processor's seconds of a piece of work."""
    began = time.process_time()
    work()
    return time.process_time() - began


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


if __name__ == "__main__":
    domains.main("overhead", __doc__, {"episodes": episodes})
