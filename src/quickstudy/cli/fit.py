"""Train a model: from data and options, as flags or in a YAML file, to a run folder with checkpoints.

The run folder holds ``config.yaml`` (``quickstudy fit --config`` repeats the run), ``best.ckpt`` where there is
validation data, ``last.ckpt``, ``metrics.csv``, and ``report.html``, which shows how it went. A run that was killed
goes on by the same command with ``--out runs/1 --trainer.resume auto``.
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from lightning import seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from quickstudy.cli.flags import FlagParser, add_flags, function_flags
from quickstudy.cli.imports import also_importing
from quickstudy.cli.runs import (
    CONFIG,
    PARTS,
    add_data,
    add_model,
    add_task,
    add_trainer,
    advice,
    build_data,
    build_trainer,
    known_by_model,
    names_test_data,
    trainer_options,
)
from quickstudy.cli.tasks import MEANT, task_class
from quickstudy.crossvalidation import cross_validate
from quickstudy.errors import ConfigError
from quickstudy.files import atomic_write, best_checkpoint
from quickstudy.kinds.base import ACCURACY
from quickstudy.runs.folder import REPORT, RUNS, new_folder
from quickstudy.trainer import Trainer
from quickstudy.training.datamodule import DataModule
from quickstudy.training.finetuning import build_finetuning
from quickstudy.training.processes import is_first
from quickstudy.training.task import Task


def add_arguments(parser: FlagParser) -> None:
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
    parser.add_argument(
        "--folds",
        type=int | None,
        help="cross-validate: train so often on all training data but one of so many parts, judge on that part, and "
        "write test.json of all together, for quickstudy compare",
    )
    parser.add_argument("--refit", action="store_true", help="with --folds: then train on all of it, in all/")
    finetune = function_flags(Trainer.finetune)
    add_flags(parser, {name: finetune[name] for name in ("strategy", "train_bn", "ckpt_path")}, "what is trained")
    task = add_task(parser)
    add_data(parser, ("train", "val", "test"), task)
    add_model(parser, task)
    add_trainer(parser)
    parser.set_defaults({"trainer.log_every_n_steps": 1})


def run(args: argparse.Namespace) -> int:
    """Train, and say where the result is and how to test it."""
    options = args.trainer
    build_finetuning(args.strategy, args.train_bn)  # a wrong one is told before any work
    seed_everything(args.seed_everything, verbose=False)
    data = build_data(args.data, task=args.task)
    limits = (options["max_epochs"], options["max_time"], options["fast_dev_run"], options["max_steps"] != -1)
    if not any(limits):
        raise ConfigError(
            "for how long? Give --trainer.max_epochs 20, or --trainer.max_steps, or --trainer.max_time 00:01:00:00"
        )
    if not args.out and (options["resume"] is not None or args.ckpt_path == "last"):
        raise ConfigError("this goes on with a run: name its folder, --out runs/1")
    if args.folds is not None:
        return _cross_validate(args, data)
    if args.refit:
        raise ConfigError("--refit trains on all the data after --folds: give these, or leave it out")
    model = task_class(args.task)(**args.model)
    trainer = build_trainer({**options, "default_root_dir": options["default_root_dir"] or args.out})
    model.procedure.check(model, data, options["limit_val_batches"] != 0)  # what cannot begin leaves no folder
    folder = trainer.run_folder = _run_folder(args)
    try:
        trainer.finetune(model, data, strategy=args.strategy, train_bn=args.train_bn, ckpt_path=args.ckpt_path)
    finally:  # whoever stops a run wants to know as well
        if options["find_learning_rate"] and trainer.is_global_zero:
            _settle(folder / CONFIG, model.learning_rate)
        if trainer.is_global_zero:
            _conclude(folder, trainer, args)
    return 0


def _cross_validate(args: argparse.Namespace, data: DataModule) -> int:
    """Train and judge a model on each fold, and print what they are right in together."""
    options = trainer_options(args.trainer)
    if args.ckpt_path is not None or options.pop("resume", None) is not None:
        raise ConfigError("--folds trains from the start: leave --ckpt_path and --trainer.resume out")
    options.pop("default_root_dir", None)
    folder = _run_folder(args)
    found = cross_validate(
        lambda: task_class(args.task)(**args.model),
        data,
        args.folds,
        strategy=args.strategy,
        train_bn=args.train_bn,
        seed=args.seed_everything,
        refit=args.refit,
        out=folder,
        **options,
    )
    print(found, f"all folds: {folder}; against another such run: quickstudy compare OTHER {folder}", sep="\n")
    return 0


def _run_folder(args: argparse.Namespace) -> Path:
    """Make the run's folder, with the configuration in it; of several processes only the first does."""
    resumes = args.trainer["resume"] is not None or args.ckpt_path == "last"
    folder = Path(args.out) if args.out else new_folder(Path(args.trainer["default_root_dir"] or RUNS))
    if not is_first():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    there = {path.name for path in folder.iterdir() if not path.name.startswith("events.")}
    if there - {CONFIG} and not resumes:  # a run that failed at once leaves no more
        raise ConfigError(
            f"--out '{folder}' is not empty: name a new folder, or add --trainer.resume auto to go on with that run"
        )
    if not resumes or CONFIG not in there:
        with atomic_write(folder / CONFIG, "w") as file:
            file.writelines(line for line in args.yaml.splitlines(True) if not line.startswith("out:"))
    return folder


def _settle(config: Path, rate: float | None) -> None:
    """Write the rate that was found in place of the search."""
    told = yaml.safe_load(config.read_text(encoding="utf-8"))
    told["model"] = {**(told.get("model") or {}), "learning_rate": rate}
    told["trainer"]["find_learning_rate"] = False
    with atomic_write(config, "w") as file:
        yaml.safe_dump(told, file, sort_keys=False)


def _conclude(folder: Path, trainer: Trainer, args: argparse.Namespace) -> None:
    path = best_checkpoint(folder)
    if path is None:
        return
    best: Any = trainer.checkpoint_callback
    judged = isinstance(best, ModelCheckpoint) and best.best_model_score is not None
    model: Any = trainer.lightning_module
    score = f" ({best.monitor} {float(best.best_model_score):.4f}{_blind(model, trainer)})" if judged else ""
    report = folder / REPORT  # which a run that was stopped twice has not written
    print(f"{path.stem} checkpoint: {path}{score}{f'; how it went: {report}' if report.exists() else ''}")
    command = command_to_test(path, args.data, args.task)
    print(*advice(model, path), f"test it: {command}{also_importing(args)}", sep="\n")


def _blind(model: Task, trainer: Trainer) -> str:
    """Return how well one does on the validation without a look at its inputs; nothing where that is not known."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    table = data.table("val", by_class=model.procedure.by_class)
    if model.score.name == "rmse" and table is not None and table.numeric:
        return f"; always answering the mean: {table.targets.std():.4f}"
    if model.score != ACCURACY or table is None or table.targets is None or table.multi_label:
        return ""
    plan = model.procedure.plan
    share = int(table.index.counts.max()) / len(table) if plan is None else 1 / plan.span("val")[0]
    return f"; guessing: {share:.4f}"


def command_to_test(checkpoint: Path, data: Mapping[str, Any], task: str = MEANT) -> str:
    """Return the command that tests a checkpoint, on the test data of its run or else on ``test/``, ``test.csv``."""
    words = ["quickstudy", "test", "--checkpoint", str(checkpoint)]
    if any(data.get(part) for part in PARTS) and (checkpoint.parent / CONFIG).exists():
        return shlex.join(words)  # by what is written there
    elsewhere = ("train_", "val_", *known_by_model(task)) + ("seed",) * ("folder" not in data)
    told = {name: value for name, value in data.items() if value is not None and not name.startswith(elsewhere)}
    if not names_test_data(told):
        told = {"test_file": "test.csv", **told} if "target_fields" in told else {"test_folder": "test/", **told}
    for name, value in told.items():
        words += [f"--data.{name}", value if isinstance(value, str) else json.dumps(value)]
    return shlex.join(words)
