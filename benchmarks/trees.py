"""What batches that are dicts cost: stacking, taking and joining padded texts, beside forward and backward of a step.

python benchmarks/trees.py
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import wraps
from typing import Any
from unittest import mock

import numpy as np
import record
import torch
from torch import Tensor, nn

import quickstudy.algorithms.base
import quickstudy.algorithms.maml
import quickstudy.data.loading
import quickstudy.data.samples
from quickstudy.algorithms import STRATEGIES
from quickstudy.batches import Batch, take
from quickstudy.data.episodes import EpisodePlan, EpisodeSampler
from quickstudy.data.loading import EpisodeDataset, EpisodeSteps, Share
from quickstudy.data.samples import Samples
from quickstudy.data.table import Table
from quickstudy.nets import Encoder

WAYS, SHOTS, QUERIES, TASKS, STEPS, WARM = 5, 5, 10, 4, 7, 2
SHORTEST, LONGEST, WORDS = 5, 60, 2000
MODULES = (
    quickstudy.data.samples,
    quickstudy.data.loading,
    quickstudy.algorithms.base,
    quickstudy.algorithms.maml,
)
TIMED = ("stack", "take", "join", "fold", "unfold")


class Transformer(nn.Module):
    """Two layers over the words of a text, and their mean."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, width)
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, texts: Batch) -> Tensor:
        """Return ``[N, width]``."""
        there = texts["mask"]
        hidden = self.layers(self.embed(texts["ids"]), src_key_padding_mask=~there)
        weight = there[..., None].to(hidden.dtype)
        mean: Tensor = (hidden * weight).sum(1) / weight.sum(1)
        return mean


def text(row: int) -> dict[str, Tensor]:
    """Return some words of a text of some length."""
    generator = torch.Generator().manual_seed(row)
    count = int(torch.randint(SHORTEST, LONGEST + 1, (), generator=generator))
    return {"ids": torch.randint(WORDS, (count,), generator=generator), "mask": torch.ones(count, dtype=torch.bool)}


def measured(strategy: str) -> dict[str, float]:
    """Return the median milliseconds of a step, of its handling of trees, and that share of it."""
    torch.manual_seed(0)
    table = Table.build(list(range(400)), [str(row // 20) for row in range(400)])
    plan = EpisodePlan(ways=WAYS, shots=SHOTS, queries=QUERIES, meta_batch_size=TASKS)
    steps = EpisodeSteps(EpisodeSampler.for_stage(table, plan, "train", None), TASKS * (STEPS + WARM), TASKS, Share())
    dataset = EpisodeDataset(Samples(table.inputs, text, budget=64 << 20), SHOTS)
    encoder, spent = Encoder(Transformer()).train(), 0.0
    algorithm = STRATEGIES[strategy](
        **({"head": "shared", "adaptation_steps": 1} if strategy == "maml" else {})
    ).train()
    example = take(dataset[next(steps.starting(0))].support, (0, slice(1)))
    algorithm.meet(encoder, encoder.feature_shape(example), WAYS)

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def run(*arguments: Any, **options: Any) -> Any:
            nonlocal spent
            start = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                spent += time.perf_counter() - start

        return run

    wholes, parts = [], []
    patches = [
        mock.patch.object(module, name, timed(getattr(module, name)))
        for module in MODULES
        for name in TIMED
        if hasattr(module, name)
    ]
    for patch in patches:
        patch.start()
    for number, named in enumerate(steps.starting(0)):
        spent, start = 0.0, time.perf_counter()
        loss, _ = algorithm.judge(encoder, dataset[named], WAYS, algorithm.loss)
        loss.backward()  # type: ignore[no-untyped-call]
        if number >= WARM:
            wholes.append(time.perf_counter() - start)
            parts.append(spent)
    for patch in patches:
        patch.stop()
    share = statistics.median(np.array(parts) / np.array(wholes))
    found = {"step_ms": 1e3 * statistics.median(wholes), "trees_ms": 1e3 * statistics.median(parts), "share": share}
    print(f"{strategy}: a step takes {found['step_ms']:.0f} ms, trees {found['trees_ms']:.1f} ms of it: {share:.1%}")
    return {name: round(float(value), 4) for name, value in found.items()}


def main() -> None:
    """Measure, and write ``results/trees.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--strategies", nargs="+", default=["prototypicalnetworks", "maml"])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    shape = {"ways": WAYS, "shots": SHOTS, "queries": QUERIES, "meta_batch_size": TASKS, "words": [SHORTEST, LONGEST]}
    results = {strategy: measured(strategy) for strategy in asked.strategies}
    path = record.write("trees", f"python benchmarks/trees.py {' '.join(sys.argv[1:])}".strip(), shape=shape, **results)
    print(f"written to {path}")


if __name__ == "__main__":
    main()
