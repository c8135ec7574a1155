"""What each precision costs and gives: episodes per second, memory and accuracy of the four strategies of the mission.

    python benchmarks/precision.py                                  # a GPU where there is one: about 20 minutes
    python benchmarks/precision.py --accelerator cpu --data omniglot --jobs 2
    python benchmarks/precision.py --steps 20 --only anil           # a first look; writes nothing

Conv4, 5-way 5-shot, 500 steps of 4 episodes, 600 test episodes, each in a process of its own, from the same first
weights and on the same episodes. A loss that is no number at any step ends the run. Exit status 1: the accuracy in
bfloat16 is below float32's interval. Writes ``benchmarks/results/precision_gpu.json`` or ``..._cpu.json``.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import record
import torch
from lightning.pytorch import Callback
from rich.console import Console
from rich.table import Table as Grid

from quickstudy import Trainer
from quickstudy.image import ImageClassificationData, ImageClassifier

QUIET: dict[str, Any] = dict.fromkeys(
    ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
)
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "64-true")
DATA: dict[str, dict[str, Any]] = {"omniglot": {"rotations": True}, "cifar_fs": {}}
OPTIONS: dict[str, dict[str, Any]] = {
    "prototypicalnetworks": {},
    "maml": {"adaptation_steps": 5, "adaptation_lr": 0.1, "normalization": "transductive"},
    "anil": {"adaptation_steps": 5, "adaptation_lr": 0.1},
    "metaoptnet": {},
}
TOGETHER, WARM = 4, 10


class Clock(Callback):
    """Notes when each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())


def run(name: str, strategy: str, precision: str, args: argparse.Namespace) -> dict[str, Any]:
    """Train and test in this process."""
    data = ImageClassificationData.from_benchmark(name, args.root, **DATA[name])
    torch.manual_seed(0)
    model = ImageClassifier(
        backbone="conv4",
        backbone_kwargs={"in_channels": 1 if name == "omniglot" else 3},
        learning_rate=1e-3,
        training_strategy=strategy,
        training_strategy_kwargs={
            **{"ways": 5, "shots": 5, "queries": 15, "meta_batch_size": TOGETHER},
            **{"epoch_length": TOGETHER * args.steps, "test_epoch_length": 600},
            **OPTIONS[strategy],
        },
    )
    clock = Clock()
    how: dict[str, Any] = {"accelerator": args.accelerator, "devices": 1, "precision": precision, **QUIET}
    trainer = Trainer(max_epochs=1, limit_val_batches=0, callbacks=[clock], **how)
    trainer.fit(model, datamodule=data)
    on_gpu = trainer.strategy.root_device.type == "cuda"
    most = torch.cuda.max_memory_allocated() if on_gpu else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (found,) = trainer.test(model, datamodule=data, verbose=False)
    seconds = (clock.ends[-1] - clock.ends[WARM - 1]) / (len(clock.ends) - WARM)
    return {
        "data": name,
        "strategy": strategy,
        "precision": precision,
        "episodes_per_second": TOGETHER / seconds,
        "peak_megabytes": most / 1e6,
        "loss": float(trainer.callback_metrics.get("train_loss", torch.tensor(float("nan")))),
        "accuracy": found["test_accuracy"],
        "ci95": found["test_accuracy_ci95"],
        "transductive": bool(found["test_transductive"]),
    }


def verdicts(rows: list[dict[str, Any]]) -> list[bool | None]:
    """Say of each row whether its accuracy reaches the interval of float32's; None: there is nothing to reach."""
    full = {(row["data"], row["strategy"]): row for row in rows if row["precision"] == "32-true"}
    return [
        row["accuracy"] >= full[key]["accuracy"] - full[key]["ci95"]
        if (key := (row["data"], row["strategy"])) in full and row["precision"] != "32-true"
        else None
        for row in rows
    ]


def show(rows: list[dict[str, Any]], console: Console) -> None:
    grid = Grid("data", "strategy", "precision", "episodes/s", "MB", "accuracy %", "reaches float32's interval")
    for row, reached in zip(rows, verdicts(rows), strict=True):
        grid.add_row(
            row["data"],
            row["strategy"],
            row["precision"],
            f"{row['episodes_per_second']:.3g}",
            f"{row['peak_megabytes']:.0f}",
            f"{100 * row['accuracy']:.2f} ± {100 * row['ci95']:.2f}",
            "" if reached is None else "yes" if reached else "NO",
        )
    console.print(grid)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accelerator", default="auto", help="cpu, gpu, ...")
    parser.add_argument("--data", choices=list(DATA), nargs="+", default=list(DATA))
    parser.add_argument("--root", type=Path, help="folder with the data's archives; default: QUICKSTUDY_DATA")
    parser.add_argument("--steps", type=int, default=500, help="other than 500 writes nothing")
    parser.add_argument("--only", choices=list(OPTIONS), nargs="+", default=list(OPTIONS))
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; they share the cores")
    parser.add_argument("--here", nargs=3, help=argparse.SUPPRESS)  # run this one in this process
    args = parser.parse_args()
    if args.here:
        warnings.simplefilter("ignore")
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        print(json.dumps(run(*args.here, args)))
        return

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    gpu = torch.cuda.is_available() and args.accelerator != "cpu"
    # float16 needs a GPU: on a CPU, Lightning takes bfloat16 in its place.
    precisions = [precision for precision in PRECISIONS if gpu or precision != "16-mixed"]
    threads = str(max(1, (os.cpu_count() or 1) // args.jobs))
    handed = ["--accelerator", args.accelerator, "--steps", str(args.steps)]
    handed += ["--root", str(args.root)] if args.root else []

    def in_a_process(job: tuple[str, str, str]) -> dict[str, Any]:
        command = [sys.executable, __file__, *handed, "--here", *job]
        environment = {**os.environ, "OMP_NUM_THREADS": threads}
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
        if done.returncode:
            raise SystemExit(f"{' '.join(job)} {record.how_it_failed(done.returncode)}")
        row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        console.print(f"{' '.join(job)}: {100 * row['accuracy']:.2f} ± {100 * row['ci95']:.2f}")
        return row

    jobs = [(name, strategy, precision) for name in args.data for strategy in args.only for precision in precisions]
    with ThreadPoolExecutor(args.jobs) as pool:
        rows = list(pool.map(in_a_process, jobs))
    show(rows, console)
    if args.steps == 500 and args.only == list(OPTIONS):
        command = f"python benchmarks/precision.py --accelerator {args.accelerator} --data {' '.join(args.data)}"
        path = record.write(f"precision_{'gpu' if gpu else 'cpu'}", f"{command} --jobs {args.jobs}", rows=rows)
        console.print(f"written: {path}")
    missed = [row for row, fine in zip(rows, verdicts(rows), strict=True) if fine is False and "bf" in row["precision"]]
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
