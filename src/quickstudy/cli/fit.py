"""Train a model: from data and options, as flags or in a YAML file, to a run folder with checkpoints.

The run folder holds ``config.yaml`` (``quickstudy fit --config`` repeats the run), ``best.ckpt`` where there is
validation data, ``last.ckpt``, and ``metrics.csv``. A run that was killed goes on by the same command with
``--out runs/1 --trainer.resume auto``.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import shlex
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser
from lightning import seed_everything
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only

from quickstudy.cli.flags import add_flags, function_flags
from quickstudy.cli.runs import add_data, add_model, add_trainer, build_data, build_trainer
from quickstudy.errors import ConfigError
from quickstudy.files import atomic_write
from quickstudy.finetuning import build_finetuning
from quickstudy.image import ImageClassificationData, ImageClassifier
from quickstudy.resuming import LAST, KeepLast
from quickstudy.trainer import Trainer

RUNS = Path("runs")


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "--out", type=str | None, help=f"the run folder; default: the next free one of {RUNS}/1, 2, ..."
    )
    parser.add_argument(
        "--seed_everything",
        type=int,
        default=0,
        help="chooses the first weights and what is dropped out; data and episodes have seeds of their own",
    )
    finetune = function_flags(Trainer.finetune)
    add_flags(parser, {name: finetune[name] for name in ("strategy", "train_bn", "ckpt_path")}, "what is trained")
    add_data(parser, ("train", "val", "test"))
    add_model(parser)
    add_trainer(parser)
    parser.set_defaults({"trainer.log_every_n_steps": 1})


def run(args: argparse.Namespace) -> int:
    """Train, and say where the result is and how to test it."""
    options = args.trainer
    build_finetuning(args.strategy, args.train_bn)  # a wrong one is told before any work
    seed_everything(args.seed_everything, verbose=False)
    data = build_data(args.data)
    limits = (options["max_epochs"], options["max_time"], options["fast_dev_run"], options["max_steps"] != -1)
    if not any(limits):
        raise ConfigError(
            "for how long? Give --trainer.max_epochs 20, or --trainer.max_steps, or --trainer.max_time 00:01:00:00"
        )
    model = ImageClassifier(**args.model)
    folder = _run_folder(args)
    checkpoints = _checkpoints(folder, data, model, options)
    options["default_root_dir"] = options["default_root_dir"] or str(folder)
    trainer = build_trainer(
        options, logger=_loggers(folder, options["logger"]), callbacks=[*_listed(options["callbacks"]), *checkpoints]
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*exists and is not empty")  # it holds config.yaml
        try:
            trainer.finetune(model, data, strategy=args.strategy, train_bn=args.train_bn, ckpt_path=args.ckpt_path)
        finally:  # whoever stops a run wants to know as well
            if trainer.is_global_zero:
                _conclude(folder, checkpoints, args.data)
    return 0


def _run_folder(args: argparse.Namespace) -> Path:
    """Make the run's folder, with the configuration in it; of several processes only the first does."""
    folder = Path(args.out or RUNS)
    if getattr(rank_zero_only, "rank", 0) != 0:
        return folder
    if args.out:
        folder.mkdir(parents=True, exist_ok=True)
        if args.trainer["resume"] is not None:
            if (folder / "config.yaml").exists():
                return folder  # as the run began
        elif {path.name for path in folder.iterdir()} - {"config.yaml"}:  # a run that failed at once leaves no more
            raise ConfigError(
                f"--out '{folder}' is not empty: name a new folder, or add --trainer.resume auto to go on with that run"
            )
    elif args.trainer["resume"] is not None:
        raise ConfigError("--trainer.resume goes on with a run: name its folder, --out runs/1")
    else:
        folder.mkdir(exist_ok=True)
        taken = [int(path.name) for path in folder.iterdir() if path.name.isdigit()]
        for number in itertools.count(max(taken, default=0) + 1):
            try:
                folder = RUNS / str(number)
                folder.mkdir()
                break
            except FileExistsError:  # another run was faster
                continue
    with atomic_write(folder / "config.yaml", "w") as file:
        file.writelines(line for line in args.yaml.splitlines(True) if not line.startswith("out:"))
    return folder


def _checkpoints(
    folder: Path, data: ImageClassificationData, model: ImageClassifier, trainer: Mapping[str, Any]
) -> list[Checkpoint]:
    """Return the callbacks that keep the best model, where there is validation data, and the last."""
    if trainer["enable_checkpointing"] is False or trainer["barebones"]:
        return []
    last = KeepLast(folder)
    if data.table("val", by_class=model.plan is not None) is None or trainer["limit_val_batches"] == 0:
        return [last]
    best = ModelCheckpoint(folder, "best", monitor="val_accuracy", mode="max", enable_version_counter=False)
    return [best, last]


class Metrics(CSVLogger):
    """Writes ``metrics.csv`` into a folder, after what is there of it; the options are in ``config.yaml`` already."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, name="", version="")
        path = folder / "metrics.csv"
        self._before = list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """Lightning's writer, which begins with the rows of the run before."""
        fresh = self._experiment is None
        writer = super().experiment
        if fresh and self._before:
            writer.metrics = [{name: value for name, value in row.items() if value != ""} for row in self._before]
        return writer

    def log_hyperparams(self, params: Any = None) -> None:
        """Write nothing."""


def _loggers(folder: Path, asked: Any) -> Any:
    return False if asked is False else [Metrics(folder), *([] if asked is True else _listed(asked))]


def _listed(given: Any) -> list[Any]:
    return [] if given is None else list(given) if isinstance(given, (list, tuple)) else [given]


def _conclude(folder: Path, checkpoints: list[Checkpoint], data: Mapping[str, Any]) -> None:
    best: Any = next((kept for kept in checkpoints if isinstance(kept, ModelCheckpoint) and kept.best_model_path), None)
    path = folder / LAST if best is None else Path(best.best_model_path)
    if not path.exists():
        return
    path = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    score = f" (val_accuracy {float(best.best_model_score):.4f})" if best is not None else ""
    print(f"{path.stem} checkpoint: {path}{score}")
    print(f"test it: {command_to_test(path, data)}")


def command_to_test(checkpoint: Path, data: Mapping[str, Any]) -> str:
    """Return the command that tests a checkpoint, on the test data of its run or else on ``test/``, ``test.csv``."""
    words = ["quickstudy", "test", "--checkpoint", str(checkpoint)]
    elsewhere = ("train_", "val_", "image_size", "image_mode", "transform", "seed")
    told = {name: value for name, value in data.items() if value is not None and not name.startswith(elsewhere)}
    if "name" not in told and not any(name.startswith("test_") for name in told):
        told = {"test_file": "test.csv", **told} if "input_field" in told else {"test_folder": "test/", **told}
    for name, value in told.items():
        words += [f"--data.{name}", value if isinstance(value, str) else json.dumps(value)]
    return shlex.join(words)
