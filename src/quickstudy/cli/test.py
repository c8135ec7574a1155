"""Measure the accuracy of a checkpoint, with its 95% interval: over episodes and over classes, or over examples."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from quickstudy.cli.flags import FlagParser
from quickstudy.cli.options import TRAINED
from quickstudy.cli.runs import (
    add_data,
    add_episodes,
    add_trainer,
    advice,
    build_data,
    build_trainer,
    data_of_run,
    load_model,
    load_options,
    of_a_test,
)
from quickstudy.cli.tasks import asked_for, named_by
from quickstudy.errors import ConfigError, DataError, DataWarning, given, one_line
from quickstudy.files import BEST_FILE, absent, best_checkpoint
from quickstudy.runs.folder import MEASURED, RECORD, read_json, write_measured
from quickstudy.runs.results import against, chance, result_of, sentence
from quickstudy.training.outcome import Outcome, in_lines, in_percent
from quickstudy.training.task import Task

_CONFUSIONS = 3  # that are printed, of the most frequent


def add_arguments(parser: FlagParser) -> None:
    """Add the command's options."""
    parser.usage = "%(prog)s MODEL [options]"
    parser.add_argument("model", metavar="MODEL", nargs="?", type=str | None, help=TRAINED)
    parser.add_argument("--checkpoint", type=str | None, metavar="MODEL", help="the same")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--per_class", action="store_true", help="print the figures of each class too, the worst first")
    add_episodes(parser)
    parser.add_argument(
        "--training_strategy",
        type=str | None,
        help="judge the encoder by another strategy, without training: nearest_neighbour, finetune ...",
    )
    parser.add_argument("--training_strategy_kwargs", type=dict[str, Any] | None, help="its options, as JSON")
    add_data(parser, ("test",), asked_for(parser.words))
    add_trainer(parser, ("accelerator", "devices", "num_nodes", "strategy", "precision", "enable_progress_bar"))


def run(args: argparse.Namespace) -> int:
    """Test, and print what was measured on one line, or as JSON; a run's folder keeps it for ``quickstudy verify``."""
    options: dict[str, Any] = {
        "checkpoint": args.model or args.checkpoint,
        "episodes": {name: value for name, value in given(**vars(args)).items() if of_a_test(name)},
        "data": given(**args.data),
        "trainer": dict(args.trainer),
    }
    if args.training_strategy is not None:
        options |= {"strategy": args.training_strategy}
        options["episodes"] = {**(args.training_strategy_kwargs or {}), **options["episodes"]}
    elif args.training_strategy_kwargs is not None:
        raise ConfigError("--training_strategy_kwargs are of another strategy: name it, --training_strategy finetune")
    checkpoint, model, result, outcome = measured(options)
    if result is None:
        return 0
    print(json.dumps({"checkpoint": str(checkpoint), **result}) if args.json else sentence(result))
    if (blind := chance(result)) is not None and against(result, blind):
        for line in advice(model, checkpoint):
            print(line, file=sys.stderr)
    if args.per_class and not args.json:
        print(in_lines(result.get("per_class", result.get("per_label", {}))))
        for line in _found(result.get("found_per_class", {})):
            print(line)
        for confusion in result.get("confusions", ())[:_CONFUSIONS]:
            name, answer = (one_line(confusion[part]) for part in ("class", "answer"))
            asked = result["per_class"][confusion["class"]]["examples"]
            print(f"of {asked} {name}, {confusion['count']} were answered {answer}")
    folder = checkpoint.parent
    if (folder / RECORD).exists():
        try:
            told = {**options, "checkpoint": str(checkpoint)}
            write_measured(folder, result, checkpoint.name, told, outcome, model.mistakes)
        except OSError as error:  # what was measured is on the screen
            warnings.warn(f"'{folder}' does not keep what was measured: {error}", DataWarning, 2)
    return 0


def _found(per_class: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for each class with what was found of it, the worst first."""
    width = max(map(len, per_class), default=0)
    for name, each in per_class.items():
        shares = [f"{part} {in_percent(each, part)}" for part in ("ap", "iou", "recall", "precision") if part in each]
        counts = [
            f"{each[part]:,} {part.replace('_', ' ')}"
            for part in ("objects", "hits", "misses", "false_alarms", "pixels")
            if part in each
        ]
        yield f"{name:{width}}  {', '.join([*shares, *counts])}"


def measured(options: Mapping[str, Any]) -> tuple[Path, Task, dict[str, Any] | None, Outcome | None]:
    """Test a checkpoint.

    Args:
        options: ``checkpoint``, and the options of ``episodes``, ``data`` and ``trainer``; ``strategy`` where it is
            another than the checkpoint's.

    Returns:
        The checkpoint and its model; what was measured, None on all processes but the first; and what the test saw of
        each episode or example.
    """
    checkpoint, model = load_model(options["checkpoint"], options["episodes"], options.get("strategy"))
    task = named_by(type(model).__name__)
    data = build_data(options["data"], load_options(model), task, data_of_run(checkpoint))
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    trainer = build_trainer(options["trainer"], logger=False, enable_checkpointing=False)
    (found,) = trainer.test(model, data, verbose=False)
    return checkpoint, model, result_of(model, found, data) if trainer.is_global_zero else None, trainer.outcome


def recorded(run: Path, *needed: str) -> tuple[Path, dict[str, Any]]:
    """Return a run's folder, and what its test left there.

    Args:
        run: the folder, or a checkpoint in it.
        needed: what is asked of it.

    Raises:
        DataError: there is none, or it is damaged; the message says what to type.
    """
    folder = run.parent if run.is_file() else run
    if not folder.is_dir():
        raise DataError(f"{absent('folder', folder)}: name a run's, such as runs/1")
    if not (folder / MEASURED).is_file():
        raise DataError(f"'{folder}' was not tested yet: measure it first, {how_to_test(folder)}")
    return folder, read_json(folder / MEASURED, *needed)


def how_to_test(folder: Path) -> str:
    """Return the command that tests a run."""
    return f"quickstudy test --checkpoint {best_checkpoint(folder) or folder / BEST_FILE} --data.test_folder test/"
