"""The accuracy of the strategies that learn across tasks, beside what is asked of it and what is published.

    python benchmarks/accuracy.py                      # all rows of Omniglot, one after another
    python benchmarks/accuracy.py maml anil --jobs 2   # some, two at a time with half the threads each
    python benchmarks/accuracy.py --fraction 0.05      # a first look, at the validation classes; writes nothing
    python benchmarks/accuracy.py --data mini_imagenet --accelerator gpu      # hours of one GPU

Omniglot: 28x28 pixels, Conv4, 5-way 1-shot, trained on 1200 characters with rotations in at most 30 minutes of CPU,
tested on 1000 episodes of the 323 others. miniImageNet: 84x84 pixels, Conv4, 600 episodes, as published. Each row runs
in a process of its own and goes into results/accuracy_DATA.json as soon as it is done.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shlex
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import record
import torch
from rich.console import Console
from rich.table import Table as Grid

from quickstudy import Trainer
from quickstudy.image import ImageClassificationData, ImageClassifier

QUIET = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
TEST_EPISODES = {"omniglot": 1000, "mini_imagenet": 600}
MOST_MINUTES = {"omniglot": 30}
"""Of one processor core."""


@dataclass(frozen=True)
class Row:
    """One strategy, how it is trained, and what is asked of it."""

    strategy: str
    episodes: int
    target: float
    """In percent; for miniImageNet the low end of the published interval."""
    published: str
    options: dict[str, Any] = field(default_factory=dict)
    plan: dict[str, Any] = field(default_factory=dict)
    learning_rate: float = 1e-3
    backbone: dict[str, Any] = field(default_factory=dict)


# One inner step in training and three in test, with BatchNorm over all queries, as in MAML's paper.
_ONE_STEP = {
    "adaptation_steps": 1,
    "test_adaptation_steps": 3,
    "adaptation_lr": 0.4,
    "normalization": "transductive",
}
_NARROW = {"hidden": 32}
_FIVE_WAY = {"ways": 5, "meta_batch_size": 2}
_TWENTY_WAY = {"ways": 20, "meta_batch_size": 1}
OMNIGLOT = {
    "maml": Row("maml", 58_000, 97.0, "98.7", _ONE_STEP, _FIVE_WAY, 2e-3, _NARROW),
    "maml first order": Row(
        "maml",
        52_000,
        0.0,  # within 1 of maml's
        "98.3",
        {**_ONE_STEP, "adaptation_lr": 0.1, "meta_gradient": "first_order"},
        _FIVE_WAY,
        2e-3,
        _NARROW,
    ),
    "metasgd": Row("metasgd", 50_000, 97.0, "99.5", _ONE_STEP, _FIVE_WAY, 2e-3, _NARROW),
    "reptile": Row(
        "reptile",
        40_000,
        94.0,
        "97.7",
        {"adaptation_steps": 5, "test_adaptation_steps": 50, "adaptation_lr": 0.2, "normalization": "transductive"},
        {"ways": 5, "queries": 9, "meta_batch_size": 1},
        3e-3,
        _NARROW,
    ),
    "anil": Row(
        "anil",
        20_000,
        96.0,
        "",
        {"adaptation_steps": 1, "adaptation_lr": 0.5, "head": "shared"},
        {**_TWENTY_WAY, "queries": 4},
        1.5e-3,
    ),
    "metaoptnet svm": Row("metaoptnet", 7_000, 98.5, "", {"head": "svm", "scale": 7.0}, _TWENTY_WAY),
    "metaoptnet ridge": Row("metaoptnet", 9_000, 98.5, "", {"head": "ridge"}, _TWENTY_WAY),
    "matchingnetworks": Row("matchingnetworks", 6_000, 98.0, "98.1", {}, _TWENTY_WAY),
    "relationnetworks": Row(
        "relationnetworks", 30_000, 97.0, "99.6", {}, {"ways": 5, "meta_batch_size": 4}, backbone={"pools": 2}
    ),
}


def _published(
    strategy: str, backbone: dict[str, Any], options: dict[str, Any], **rows: tuple[int, dict[str, Any], str]
) -> dict[str, Row]:
    """Return the rows of one and five shots: episodes, plan, and the published accuracy with its interval."""
    made = {}
    for shots, (episodes, plan, published) in zip((1, 5), rows.values(), strict=True):
        accuracy, interval = (float(part) for part in published.split("±"))
        name = f"{strategy} {shots}-shot"
        plan = {"test_shots": shots, "shots": shots, **plan}
        made[name] = Row(strategy, episodes, accuracy - interval, published, options, plan, backbone=backbone)
    return made


_TEN_TEST_STEPS = {"adaptation_steps": 5, "test_adaptation_steps": 10, "normalization": "transductive"}
_META_BATCH = {"ways": 5, "queries": 15, "meta_batch_size": 4}
MINI_IMAGENET = {
    **_published(
        "prototypicalnetworks",
        {},
        {},
        one=(60_000, {"ways": 30, "queries": 15, "meta_batch_size": 1}, "49.42 ± 0.78"),
        five=(60_000, {"ways": 20, "queries": 15, "meta_batch_size": 1}, "68.20 ± 0.66"),
    ),
    **_published(
        "maml",
        _NARROW,
        {**_TEN_TEST_STEPS, "adaptation_lr": 0.01},
        one=(240_000, _META_BATCH, "48.70 ± 1.84"),
        five=(240_000, _META_BATCH, "63.11 ± 0.92"),
    ),
    **_published(
        "anil",
        _NARROW,
        {"adaptation_steps": 5, "test_adaptation_steps": 10, "adaptation_lr": 0.01},
        one=(240_000, _META_BATCH, "46.7 ± 0.4"),
        five=(240_000, _META_BATCH, "61.5 ± 0.5"),
    ),
    **_published(
        "metaoptnet",
        {},
        {},
        one=(240_000, {"ways": 5, "shots": 5, "queries": 6, "meta_batch_size": 8}, "52.87 ± 0.57"),
        five=(240_000, {"ways": 5, "shots": 15, "queries": 6, "meta_batch_size": 8}, "68.76 ± 0.48"),
    ),
}
ROWS = {"omniglot": OMNIGLOT, "mini_imagenet": MINI_IMAGENET}


def run(row: Row, data_name: str, root: Path | None, accelerator: str, fraction: float) -> dict[str, Any]:
    """Train and test one row in this process."""
    grey = data_name == "omniglot"
    data = ImageClassificationData.from_benchmark(data_name, root, **({"rotations": True} if grey else {}))
    plan = {"shots": 1, "queries": 5, "test_ways": 5, "test_shots": 1, "test_queries": 15, **row.plan}
    steps = max(1, round(row.episodes * fraction) // plan["meta_batch_size"])
    torch.manual_seed(0)
    model = ImageClassifier(
        backbone="conv4",
        backbone_kwargs={"in_channels": 1 if grey else 3, **row.backbone},
        learning_rate=row.learning_rate,
        lr_scheduler=("CosineAnnealingLR", {"T_max": steps, "interval": "step"}),
        training_strategy=row.strategy,
        training_strategy_kwargs={
            **plan,
            "epoch_length": steps * plan["meta_batch_size"],
            "test_epoch_length": TEST_EPISODES[data_name],
            **row.options,
        },
    )
    trainer = Trainer(max_epochs=1, accelerator=accelerator, devices=1, limit_val_batches=0, **QUIET)
    processor, clock = time.process_time(), time.perf_counter()
    trainer.fit(model, datamodule=data)
    processor, clock = time.process_time() - processor, time.perf_counter() - clock
    # Whoever tries options must not choose them by the test classes.
    stage = "test" if fraction == 1 else "val"
    judge = trainer.test if fraction == 1 else trainer.validate
    (judged,) = judge(model, datamodule=data, verbose=False)
    return {
        "accuracy": judged[f"{stage}_accuracy"],
        "ci95": judged[f"{stage}_accuracy_ci95"],
        "episodes": judged[f"{stage}_episodes"],
        "transductive": bool(judged[f"{stage}_transductive"]),
        "training": {
            "episodes": steps * plan["meta_batch_size"],
            "cpu_minutes": processor / 60,
            "minutes": clock / 60,
            "plan": plan,
            "options": row.options,
            "learning_rate": row.learning_rate,
            "backbone": model.hparams["backbone_kwargs"],
        },
    }


def show(data_name: str, results: dict[str, Any], console: Console) -> None:
    grid = Grid("strategy", "accuracy %", "asked", "met", "published", "queries", "episodes", "CPU minutes")
    most = MOST_MINUTES.get(data_name, 0)
    for name, row in ROWS[data_name].items():
        result = results.get(name)
        target = asked(data_name, name, results)
        wanted = f"{target:.1f}" if target else ""
        if result is None:
            grid.add_row(name, "not run", wanted, "", row.published)
            continue
        accuracy, minutes = 100 * result["accuracy"], result["training"]["cpu_minutes"]
        grid.add_row(
            name,
            f"{accuracy:.2f} ± {100 * result['ci95']:.2f}",
            wanted,
            ("yes" if accuracy >= target and (minutes <= most or not most) else "NO") if target else "",
            row.published,
            "transductive" if result["transductive"] else "inductive",
            f"{result['training']['episodes']:,}",
            f"{minutes:.1f}",
        )
    console.print(grid)


def asked(data_name: str, name: str, results: dict[str, Any]) -> float:
    """Return the accuracy in percent that a row must reach."""
    if name == "maml first order":
        return 100 * results["maml"]["accuracy"] - 1 if "maml" in results else 0.0
    return ROWS[data_name][name].target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", help="names of rows; default: all")
    parser.add_argument("--data", choices=list(ROWS), default="omniglot")
    parser.add_argument("--root", type=Path, help="folder with the data's archives; default: QUICKSTUDY_DATA")
    parser.add_argument("--accelerator", default="auto", help="cpu, gpu, ...")
    parser.add_argument("--jobs", type=int, default=1, help="rows at a time; they share the cores")
    parser.add_argument("--fraction", type=float, default=1.0, help="of the training; other than 1 writes nothing")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)  # run the row in this process
    args = parser.parse_args()
    rows = ROWS[args.data]
    unknown = [name for name in args.rows if name not in rows]
    if unknown:
        parser.error(f"{unknown[0]!r} is no row of {args.data}: {', '.join(rows)}")
    names = args.rows or list(rows)

    if args.here:
        warnings.simplefilter("ignore")
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
        result = run(rows[names[0]], args.data, args.root, args.accelerator, args.fraction)
        command = shlex.join(["python", "benchmarks/accuracy.py", names[0], "--data", args.data])
        print(json.dumps({**record.circumstances(command), **result}))
        return

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    path = record.RESULTS / f"accuracy_{args.data}.json"
    results: dict[str, Any] = {}
    threads = str(max(1, (os.cpu_count() or 1) // args.jobs))
    options = [f"--{key}={value}" for key, value in vars(args).items() if key not in ("rows", "here", "jobs") and value]

    def in_a_process(name: str) -> tuple[str, dict[str, Any]]:
        command = [sys.executable, __file__, name, *options, "--here"]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": threads}
        )
        if done.returncode:
            raise SystemExit(f"{name} {record.how_it_failed(done.returncode)}")
        return name, json.loads(done.stdout.splitlines()[-1])

    with ThreadPoolExecutor(args.jobs) as pool:
        for job in as_completed([pool.submit(in_a_process, name) for name in names]):
            name, result = job.result()
            results[name] = result
            if args.fraction == 1:
                kept = json.loads(path.read_text()) if path.exists() else {}  # another run may have added to it
                results = {**kept, **results}
                record.save(path, results)
            console.print(f"{name}: {100 * result['accuracy']:.2f} ± {100 * result['ci95']:.2f}")
    show(args.data, results, console)


if __name__ == "__main__":
    main()
