"""Say by how much one run is better than another, on the very same test episodes or examples.

What is hard is hard for both, so that the paired difference has a far smaller interval than either accuracy. All runs
must have been tested alike: ``quickstudy test`` with the same data and episodes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from quickstudy.cli.fit import command_to_test
from quickstudy.cli.tasks import MEANT
from quickstudy.cli.test import how_to_test, recorded
from quickstudy.errors import ConfigError, DataError
from quickstudy.files import best_checkpoint
from quickstudy.runs.folder import RECORD, plan_of, read_json, read_outcome
from quickstudy.runs.results import sentence
from quickstudy.training.outcome import Difference, Outcome, difference, finite


class _Run(NamedTuple):
    folder: Path
    result: Mapping[str, Any]
    options: Mapping[str, Any] | None
    outcome: Outcome


def run(args: argparse.Namespace) -> int:
    """Print what each run measured, and how each of them differs from the first."""
    if len(args.runs) < 2:
        raise ConfigError(f"a comparison takes two runs or more: quickstudy compare {args.runs[0]} runs/2")
    first, *others = [_read(folder) for folder in args.runs]
    found = [(other, _difference(first, other)) for other in others]
    if args.json:
        print(json.dumps({"first": str(first.folder), "others": [_plain(each, by) for each, by in found]}))
        return 0
    width = max(len(str(folder)) for folder in args.runs)
    for each in (first, *others):
        print(f"{each.folder!s:{width}}  {sentence(each.result)}")
    for each, by in found:
        print(f"{each.folder} against {first.folder}: {by}: {_verdict(by)}")
    if not _known_to_be_the_same(first):
        print(f"whether the {first.outcome.unit} were the same is not known: they came from a loader of one's own")
    return 0


def _read(run: Path) -> _Run:
    folder, measured = recorded(run, "options", "result")
    outcome = read_outcome(folder, measured["result"])
    if outcome is None:
        again = f"test again: {how_to_test(folder)}"
        raise DataError(f"the test of '{folder}' kept no figures of single episodes or examples; {again}")
    return _Run(folder, measured["result"], measured["options"], outcome)


def _difference(first: _Run, other: _Run) -> Difference:
    """Return the difference.

    Raises:
        DataError: they were not tested alike; the message says what to type.
    """
    data = [each.result.get("data") for each in (first, other)]
    try:
        by = difference(first.outcome, other.outcome)
        if by.unit == "episodes" or data[0] == data[1]:
            return by
        reason = "the test data is not the same"
    except DataError as error:
        reason = str(error) if data[0] == data[1] else f"the test data is not the same, and {error}"
    told = f"'{first.folder}' and '{other.folder}' cannot be compared: {reason}. Test both alike"
    checkpoint, options = best_checkpoint(other.folder), first.options
    if options is None or checkpoint is None:
        raise DataError(f"{told}, with the same test data, ways, shots, queries and seed")
    plan = plan_of(read_json(first.folder / RECORD, "model"))
    sizes: dict[str, Any] = {}
    if plan is not None:
        least, most = plan.span("test")
        sizes = dict(zip(("test_ways", "test_shots", "test_queries"), plan.shape("test"), strict=True))
        sizes |= {"test_ways": most if least == most else f"[{least},{most}]"}
        sizes |= {"test_epoch_length": plan.test_epoch_length, "seed": plan.seed}
    flags = [f"--{name} {value}" for name, value in {**sizes, **options["episodes"]}.items()]
    command = command_to_test(checkpoint, options["data"], options.get("task", MEANT))
    raise DataError(f"{told}: {' '.join([command, *flags])}")


def _verdict(by: Difference) -> str:
    if not abs(by.mean) > by.ci95:
        return "no difference can be told"
    better = "better" if by.score.better(by.mean, 0) else "worse"
    if by.unit == "episodes" and not abs(by.mean) > by.ci95_classes:
        return f"{better} on these classes; whether on others of their kind cannot be told"
    return better


def _known_to_be_the_same(first: _Run) -> bool:
    return bool(first.outcome.drawn) if first.outcome.unit == "episodes" else first.result.get("data") is not None


def _plain(each: _Run, by: Difference) -> dict[str, Any]:
    figures = {name: finite(value) if isinstance(value, float) else value for name, value in by._asdict().items()}
    return {"run": str(each.folder), **figures, "score": by.score.name}
