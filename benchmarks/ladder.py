"""The ladder: its time and accuracy on pictures and texts, and how often its intervals cover the truth.

``python benchmarks/ladder.py`` writes ``benchmarks/results/ladder.json``; ``QUICKSTUDY_DATA`` names the data's folder.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from record import RESULTS, write
from torch import Tensor, nn

import quickstudy
from quickstudy.algorithms import STRATEGIES
from quickstudy.data.places import open_source, unwrapped
from quickstudy.ladder import Ladder, Record
from quickstudy.ladder.comparing import accuracy, column, difference
from quickstudy.ladder.record import ALL, Key
from quickstudy.training.datamodule import DataModule

PICTURES, EACH = "mini-imagenet-test.zip", 30
TEXTS = "text/banking77_train.csv.gz"
SETFIT = {"accuracy": 79.9, "cpu_seconds": 210}
"""Of SetFit 1.2.0 after 200 steps at 8 shots on banking77's test sentences, measured once; see docs/benchmarks.md."""
TRAINED, SOME = ("finetune_last", "finetune", "lora"), (10, 20)
"""Rungs that train the encoder for each draw; and the classes, and examples of each, that they are measured on."""
HEADS = ("nearest_centroid", "nearest_neighbour")
_POPULATION = 400  # examples of each class that stand for all there are
_TRUTHS = 200  # support sets that the truth is the mean over


class Same(nn.Module):
    """Embeds numbers as they are."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return them."""
        return inputs


def pictures(root: Path) -> dict[str, Any]:
    """Climb the quick rungs on 20 classes of 30 pictures, at 1 and 5 shots, embedding included."""
    with tempfile.TemporaryDirectory() as folder:
        source, counts = unwrapped(open_source(root / PICTURES)), Counter[str]()
        for name in source.files():
            owner = name.rsplit("/", 1)[0]
            counts[owner] += 1
            if counts[owner] <= EACH:
                place = Path(folder, name)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(source.item(name).read_bytes())
        os.environ["QUICKSTUDY_CACHE"] = str(Path(folder, ".cache"))  # so that nothing is found again
        return timed(folder, shots=(1, 5))


def texts(root: Path) -> dict[str, Any]:
    """Climb the quick rungs on 77 intents at 8 shots, embedding all 10,003 training sentences included."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["QUICKSTUDY_CACHE"] = folder
        return {**timed(root / TEXTS, shots=(8,), draws=5), "setfit": SETFIT}


def trained(root: Path) -> dict[str, Any]:
    """Climb the rungs that train the encoder, each with its seconds of the processor: 10 classes of 20 examples."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        source, shown = unwrapped(open_source(root / "cifar-fs.zip")), Path(folder, "pictures")
        owners = sorted({name.rsplit("/", 1)[0] for name in source.files() if name.startswith("test/")})[: SOME[0]]
        for name in sorted(source.files()):
            owner = name.rsplit("/", 1)[0]
            place = shown / name
            if owner in owners and len(list(place.parent.glob("*"))) < SOME[1]:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(source.item(name).read_bytes())
        frame = pd.read_csv(root / TEXTS, keep_default_na=False)
        some = frame[frame["label"].isin(sorted({*frame["label"]})[: SOME[0]])].groupby("label").head(SOME[1])
        some.to_csv(Path(folder, "texts.csv"), index=False)
        for what, data in (("pictures", shown / "test"), ("texts", Path(folder, "texts.csv"))):
            rungs: list[str] = []
            found[what] = {}
            for name in ("linear_probe", *TRAINED, *(("contrastive",) if what == "texts" else ())):
                rungs.append(name)
                told = timed(data, rungs=rungs, shots=(5,), draws=3, episodes=0, out=Path(folder, f"ladder of {what}"))
                found[what][name] = {"cpu_seconds": told["cpu_seconds"], **told["rungs"][name]}
            found[what]["sentence"] = told["sentence"]
    return found


def timed(data: Any, **options: Any) -> dict[str, Any]:
    """Return what a ladder found, and the seconds of the processor that it took."""
    began = time.process_time()
    found: Ladder = quickstudy.ladder(data, **options)
    seconds = time.process_time() - began
    record = found.record
    return {
        "cpu_seconds": round(seconds, 1),
        "sentence": found.sentence,
        "rungs": {key.rung: dict(accuracies(record, key)) for key in record.steps},
    }


def accuracies(record: Record, key: Key) -> Iterator[tuple[str, list[float]]]:
    """Yield the number of shots, and the accuracy in percent with its half-width."""
    for shots in record.asked.shots:
        estimate = accuracy(record, key, shots)
        yield column(record, shots), [round(100 * estimate.mean, 2), round(100 * estimate.ci95, 2)]


def coverage(classes: int, each: int, spread: float, noise: float, draws: int, repeats: int) -> dict[str, Any]:
    """Return how often intervals of ladders on data drawn anew cover the accuracy on all there is.

    Args:
        classes: Gaussians in 8 dimensions, whose examples differ in their spread.
        each: examples of a class.
        spread: of the classes' means.
        noise: the share of labels that are drawn by chance.
        draws: of each ladder.
        repeats: ladders.
    """
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(classes, 8, generator=generator) * spread

    def sample(count: int) -> tuple[Tensor, Tensor]:
        codes = torch.arange(classes).repeat_interleave(count)
        wide = 1 + 2 * torch.rand(len(codes), 1, generator=generator)
        inputs = means[codes] + wide * torch.randn(len(codes), 8, generator=generator)
        wrong = torch.rand(len(codes), generator=generator) < noise
        return inputs, torch.where(wrong, torch.randint(classes, codes.shape, generator=generator), codes)

    shots = tuple(number for number in (1, 5, 20) if 3 * number <= 2 * each)
    asked, targets = sample(_POPULATION)
    heads: list[Any] = [STRATEGIES[name]() for name in HEADS]
    truths = {}
    for number in (*shots, ALL):
        right = []
        while len(right) < _TRUTHS:
            support, known = sample(number or round(0.8 * each))
            if len(known.unique()) == classes:
                states = [head.fit(support, known, classes) for head in heads]
                answers = [head.logits(state, asked).argmax(1) for head, state in zip(heads, states, strict=True)]
                right.append([float((answer == targets).float().mean()) for answer in answers])
        truths[number] = np.mean(right, axis=0)
    covered: dict[int, list[tuple[bool, bool]]] = {}
    keys = [Key(name, "Same") for name in HEADS]
    for seed in range(repeats):
        inputs, codes = sample(each)
        data = DataModule.from_tensors(
            train_data=inputs, train_targets=[f"class {code:02d}" for code in codes.tolist()]
        )
        record = quickstudy.ladder(
            data, backbones=[Same()], rungs=HEADS, shots=shots, draws=draws, episodes=0, seed=seed
        ).record
        for number in record.asked.shots:
            alone, apart = accuracy(record, keys[0], number), difference(record, keys[0], keys[1], number)
            true = truths[number]
            off = abs(alone.mean - true[0]), abs(apart.mean - (true[0] - true[1]))
            covered.setdefault(number, []).append((off[0] <= alone.ci95, off[1] <= apart.ci95))
    return {
        "all" if number == ALL else str(number): dict(
            zip(("accuracy", "difference"), np.mean(found, axis=0).round(3).tolist(), strict=True)
        )
        for number, found in covered.items()
    }


CASES = {
    "5 classes x 30": (5, 30, 1.0, 0.0, 10),
    "5 classes x 30, a tenth of labels by chance": (5, 30, 1.0, 0.1, 10),
    "20 classes x 30": (20, 30, 1.2, 0.0, 10),
    "4 classes x 12, 6 draws": (4, 12, 1.0, 0.0, 6),
    "4 classes x 12, far apart": (4, 12, 3.0, 0.0, 6),
    "3 classes x 6": (3, 6, 1.0, 0.0, 10),
}


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=100, help="ladders of each case of the simulation")
    parser.add_argument("--root", type=Path, default=Path(os.environ.get("QUICKSTUDY_DATA", ".")), help="of the data")
    parser.add_argument("--only", nargs="+", default=[], help="sections to measure; the others keep their figures")
    args = parser.parse_args()
    sections: dict[str, Callable[[], Any]] = {
        "pictures": lambda: pictures(args.root),
        "texts": lambda: texts(args.root),
        "trained": lambda: trained(args.root),
        "coverage": lambda: {name: coverage(*case, args.repeats) for name, case in CASES.items()},
    }
    there = RESULTS / "ladder.json"
    before = json.loads(there.read_text("utf-8")) if args.only and there.is_file() else {}
    found = {name: before[name] for name in sections if name in before}
    found |= {name: measure() for name, measure in sections.items() if not args.only or name in args.only}
    only = f" --only {' '.join(args.only)}" if args.only else ""
    print(write("ladder", f"python benchmarks/ladder.py --repeats {args.repeats}{only}", **found))


if __name__ == "__main__":
    main()
