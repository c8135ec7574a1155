"""Measure again what was measured of a run, and compare.

``quickstudy test --checkpoint runs/1/best.ckpt ...`` leaves its figures and options in the run's folder; this repeats
it with the same options and data, and says whether figures, data and versions are the same. Exit status 1: the accuracy
differs by more than rounding could make it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from quickstudy.cli.test import measured
from quickstudy.cli.usage import PlainParser
from quickstudy.errors import DataError
from quickstudy.files import best_checkpoint
from quickstudy.results import sentence, versions
from quickstudy.run_folder import MEASURED, read_json

ROUNDING = 0.05
"""What another processor's rounding may change, as a share of the interval."""


def add_arguments(parser: PlainParser) -> None:
    """Add the command's options."""
    parser.add_argument("run", type=Path, help="the run's folder, such as runs/1, or a checkpoint in it")


def run(args: argparse.Namespace) -> int:
    """Measure, compare, and print both."""
    if args.run.is_file():  # a run is named by its checkpoint, too
        args.run = args.run.parent
    path = args.run / MEASURED
    if not args.run.is_dir():
        raise DataError(f"there is no folder '{args.run}' (looked in {Path.cwd()}): name a run's, such as runs/1")
    first = f"measure it first, quickstudy test --checkpoint {best_checkpoint(args.run)} --data.test_folder test/"
    if not path.is_file():
        raise DataError(f"'{args.run}' was not tested yet: {first}")
    recorded = read_json(path, "options", "versions", "result")
    if recorded["options"] is None:
        raise DataError(f"'{args.run}' was tested in Python, which does not record its data: {first}")
    options = {**recorded["options"], "checkpoint": str(args.run / Path(recorded["options"]["checkpoint"]).name)}
    before, (_, now) = recorded["result"], measured(options)
    if now is None:
        return 0
    print(f"recorded: {sentence(before)}")
    print(f"now:      {sentence(now)}")
    for name, value in versions().items():
        if recorded["versions"].get(name) != value:
            print(f"{name} was {recorded['versions'].get(name)}, and is {value}")
    if before.get("data") != now.get("data"):
        print("the test data is not the same")
    difference = abs(now["accuracy"] - before["accuracy"])
    same = difference <= ROUNDING * (before["accuracy_ci95"] or 0)
    print("the same" if difference == 0 else "the same but for rounding" if same else "NOT the same")
    return 0 if same else 1
