"""How many episodes a second one process trains on, and two: what the second one adds, and what it waits for.

    python benchmarks/scaling.py            # about 25 minutes; writes benchmarks/results/scaling.json
    python benchmarks/scaling.py --quick    # one strategy, one repeat; writes nothing

Processes of this machine over gloo, one thread each, a step of 8 episodes whatever their number. A lone process has
the machine to itself; beside it, "two alone" are two that train apart, so that what processes share (memory, caches,
clock) is told from what they say to each other.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import time
import warnings
from statistics import median
from typing import Any

import record
import torch
from lightning.pytorch import Callback
from rich.console import Console
from sides import Line, show

from quickstudy import Trainer
from quickstudy.image import ImageClassificationData, ImageClassifier

QUIET: dict[str, Any] = dict.fromkeys(
    ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
)
STRATEGIES = ("prototypicalnetworks", "maml", "anil", "metaoptnet")
TOGETHER, WARM, STEPS, REPEATS = 8, 2, 8, 3
LEAST = 0.9  # of two processes' speed apart


class Clock(Callback):
    """Notes when each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.ends.append(time.perf_counter())


def train(strategy: str, processes: int) -> float:
    """Return the episodes per second of this run, all its processes together."""
    images = torch.randint(0, 256, (400, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    data = ImageClassificationData.from_tensors(images, [str(code) for code in range(20) for _ in range(20)])
    model = ImageClassifier(
        backbone="conv4",
        backbone_kwargs={"in_channels": 1},
        training_strategy=strategy,
        training_strategy_kwargs={
            **{"ways": 5, "shots": 5, "queries": 15, "meta_batch_size": TOGETHER},
            "epoch_length": TOGETHER * (WARM + STEPS),
        },
    )
    clock = Clock()
    across: dict[str, Any] = {"strategy": "ddp", "devices": processes} if processes > 1 else {"devices": 1}
    Trainer(accelerator="cpu", max_epochs=1, limit_val_batches=0, callbacks=[clock], **across, **QUIET).fit(
        model, datamodule=data
    )
    return TOGETHER * STEPS / (clock.ends[-1] - clock.ends[WARM - 1])


def started(strategy: str, processes: int) -> subprocess.Popen[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *(launcher if processes > 1 else []), __file__, "--here", strategy]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)


def speed_of(run: subprocess.Popen[str]) -> float:
    told = run.communicate()[0]
    if run.returncode:
        raise SystemExit(f"{run.args} failed")
    return float(json.loads(told.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one strategy, one repeat; writes nothing")
    parser.add_argument("--here", choices=STRATEGIES, help=argparse.SUPPRESS)  # train in this process
    args = parser.parse_args()
    if args.here:
        torch.set_num_threads(1)
        warnings.simplefilter("ignore")
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        speed = train(args.here, int(os.environ.get("WORLD_SIZE", "1")))
        if os.environ.get("RANK", "0") == "0":
            print(json.dumps(speed), flush=True)
        return

    console = Console(width=None if sys.stdout.isatty() else 150)
    lines: list[Line] = []
    for strategy in STRATEGIES[:1] if args.quick else STRATEGIES:
        one, two, apart = [], [], []
        for _ in range(1 if args.quick else REPEATS):
            one.append(speed_of(started(strategy, 1)))
            two.append(speed_of(started(strategy, 2)))
            apart.append(sum(map(speed_of, [started(strategy, 1) for _ in range(2)])))
        line = Line(f"{strategy}: two processes", two, "episodes/s", "two alone", apart)
        line.at_least(LEAST)
        lines += [line, Line(f"{strategy}: two processes", two, "episodes/s", "one", one)]
        show(lines[-2:], console)
        console.print(f"efficiency {median(two) / (2 * median(one)):.2f}")
    if not args.quick:
        path = record.write("scaling", "python benchmarks/scaling.py", lines=[line.plain() for line in lines])
        console.print(f"written: {path}")
    sys.exit(0 if all(line.met is not False for line in lines) else 1)


if __name__ == "__main__":
    main()
