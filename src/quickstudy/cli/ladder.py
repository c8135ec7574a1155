"""Tell which method is good enough on your own classes, and what accuracy to expect on new examples.

``quickstudy ladder photos/`` climbs from the class that is commonest over neighbours and class means to a linear probe,
all on the same examples of yours, for 1, 2, 5, 10 and 20 of each class as far as there are so many, and all. It ends in
a sentence, and in a model that ``quickstudy predict`` and ``quickstudy serve`` read. The same command goes on where it
was stopped.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from jsonargparse import ArgumentParser
from rich.console import Console
from rich.live import Live
from rich.table import Table as Lines
from rich.text import Text

from quickstudy.cli.bar import bar
from quickstudy.cli.flags import add_flags, function_flags
from quickstudy.cli.imports import also_importing
from quickstudy.ladder.climbing import MODEL, SHOTS, Ladder, Told, climb, head, of_other_classes, rows
from quickstudy.ladder.comparing import accuracy as accuracy_of
from quickstudy.ladder.comparing import column, in_points, named
from quickstudy.ladder.record import Key, Record
from quickstudy.ladder.report import PAGE
from quickstudy.learning.confidence import DEFAULT_REJECT_RATE
from quickstudy.learning.reading import telling
from quickstudy.predictor import Predictor

_SEVERAL = {"backbones": str, "rungs": str, "shots": int, "prompts": str}
"""Options of several words."""
_TOLD = "Accuracy in %, with its 95% interval for new examples, by examples per class that were learned from"
_UNKNOWN = (
    'What is like none of the examples it calls "unknown", among it '
    f"{DEFAULT_REJECT_RATE:.0%} of what is of these classes; --no-unknown names the likeliest class in any case"
)
_ITSELF = (
    "The saved model tells of itself a held-out accuracy of {} %: each example answered by what all others teach. The "
    "sentence above is of models that learned from fewer, and allows for its being the best of several: rely on that"
)
_STOPPED = "Stopped: the same command goes on"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's options."""
    flags = function_flags(climb)
    parser.usage = "%(prog)s DATA [options]"
    parser.add_argument("data", metavar="DATA", type=str, help="a folder of class folders, or an archive; or a table")
    for name, kind in _SEVERAL.items():
        default = list(SHOTS) if name == "shots" else []
        parser.add_argument(f"--{name}", type=kind, nargs="+", default=default, help=flags[name].help)
    parser.add_argument("--out", type=str, default="quickstudy-ladder", help="folder for the record and the model")
    known = (*_SEVERAL, "data", "out", "told", "begins")
    add_flags(parser, {name: flag for name, flag in flags.items() if name not in known}, "more")


def run(args: argparse.Namespace) -> int:
    """Climb, and say what is good enough."""
    options = {name: value for name, value in vars(args).items() if name in function_flags(climb)}
    out = Console(highlight=False, soft_wrap=True)
    try:
        with bar("embedding", None) as advance, telling(advance), _shown() as (told, begins):
            found: Ladder = climb(**{**options, "told": told, "begins": begins})
    except KeyboardInterrupt:  # before there is anything to tell, or once more, while its model is trained
        out.print(Text(_STOPPED))
        return 130
    if not sys.stdout.isatty():
        print(*("  ".join(cells) for cells in found.rows()), sep="\n")
    for line in of_other_classes(found.record, found.choice):
        out.print(Text(line))
    for why in dict.fromkeys(found.skipped.values()):
        names = ", ".join(name for name, reason in found.skipped.items() if reason == why)
        out.print(Text(f"not climbed: {names} ({why})"))
    out.print(Text(found.sentence))
    if any(step.transductive for step in found.record.steps.values()):
        out.print(Text("*: an answer depends on what else is asked with it; such are not recommended"))
    if found.predictor is not None:
        saved = Path(args.out) / MODEL
        asked = found.predictor.modality.wire
        table = found.predictor.modality.column_names is not None or found.predictor.modality.in_words
        what = "new.csv" if table else f"{asked.field if asked else 'inputs'}/"
        out.print(Text(f"Saved in '{saved}'; use it: quickstudy predict {saved} {what}{also_importing(args)}"))
        if isinstance(found.predictor, Predictor):
            for line in _of_itself(found.predictor):
                out.print(Text(line))
    out.print(Text(f"All of it, to read: {Path(args.out) / PAGE}"))
    if not found.finished:
        out.print(Text(_STOPPED))
    return 0 if found.finished else 130


def _of_itself(predictor: Predictor) -> list[str]:
    """Return what the saved model tells of itself, and why that is not what the sentence tells."""
    told = predictor.held_out_accuracy_
    lines = []
    if math.isfinite(told.accuracy):
        estimate = f"{100 * told.accuracy:.1f}" + f" ± {100 * told.ci95:.1f}" * math.isfinite(told.ci95)
        lines.append(_ITSELF.format(estimate))
    return [*lines, _UNKNOWN] if math.isfinite(predictor.knowledge.threshold) else lines


@contextmanager
def _shown() -> Iterator[tuple[Told, Callable[[str], None]]]:
    """Give what tells of each rung, and what a slow one begins: a table that grows on a terminal, lines in a pipe."""
    if not sys.stdout.isatty():
        yield _lines(), partial(print, flush=True)
        return
    with Live(Text("reading the data"), refresh_per_second=4, redirect_stderr=False) as live:
        begun: list[bool] = []

        def told(record: Record, key: Key, shots: int) -> None:
            for finding in () if begun else record.findings.values():
                live.console.print(Text(f"look: {finding.told}."))  # above the table
            begun.append(True)
            live.update(_table(record))

        yield told, lambda words: live.console.print(Text(words))


def _lines() -> Told:
    """Return what prints a line of each rung; before the first, what was found and what the lines say."""
    begun: set[Key] = set()

    def told(record: Record, key: Key, shots: int) -> None:
        if not begun:
            print(*(f"look: {finding.told}." for finding in record.findings.values()), f"{_titled(record)}:", sep="\n")
        if key not in begun:
            begun.add(key)
            print(f"{named(record, key)}: {record.steps[key].about}")
        _line(record, key, shots)

    return told


def _line(record: Record, key: Key, shots: int) -> None:
    found = accuracy_of(record, key, shots)
    print(f"{named(record, key)}, {column(record, shots)}: {in_points(found)} ({found.seconds:.3f} s)", flush=True)


def _titled(record: Record) -> str:
    """Return what the figures are, and what embeds."""
    return _TOLD + (f"; on embeddings of {' and '.join(record.asked.backbones)}" if record.asked.backbones else "")


def _table(record: Record) -> Lines:
    table = Lines(title=_titled(record))
    for place, cell in enumerate(head(record)):
        table.add_column(Text(cell), justify="left" if place == 0 else "right")
    for cells in rows(record):
        table.add_row(*map(Text, cells))
    return table
