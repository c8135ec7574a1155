"""Classify pictures with a saved model.

``quickstudy predict pets/ images/`` writes a row of file, label, probability and likeliest for each picture: the label
is "unknown" for what is like none of the examples; likeliest names a class in any case, whose probability it is.
Pictures that cannot be read are named on standard error, the rest is written all the same, and the exit status is then
1. For a checkpoint in place of a saved model: ``quickstudy predict --checkpoint FILE --help``
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from torch import Tensor

from quickstudy.cli.bar import bar
from quickstudy.cli.named_pictures import batches, named
from quickstudy.cli.predictions import Prediction, writing
from quickstudy.cli.saved import add_device, device_of, load_predictor
from quickstudy.cli.usage import PlainParser
from quickstudy.data.samples import Load, Samples
from quickstudy.errors import DataError, check_counts
from quickstudy.explaining import Answer
from quickstudy.predictor import Predictor


def add_arguments(parser: PlainParser) -> None:
    """Add the command's options."""
    parser.description = str(__doc__).replace("``", "")
    parser.add_argument("model", metavar="MODEL", help="the folder of a saved model, of quickstudy adapt for instance")
    parser.add_argument(
        "images", metavar="IMAGES", nargs="+", help="folders, files, archives; - reads paths from standard input"
    )
    parser.add_argument("--format", choices=["csv", "json"], default="csv", help="of the result; default: csv")
    parser.add_argument("--output", metavar="FILE", help="the file to write, whole or not at all; default: print")
    parser.add_argument("--no-unknown", action="store_true", help="the label is the likeliest class in any case")
    parser.add_argument(
        "--top", metavar="N", type=int, default=1, help="2 or more: JSON has a ranking too, of the N likeliest classes"
    )
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Predict, a batch at a time, and write a row for each picture."""
    check_counts(top=args.top)
    predictor = load_predictor(args.model, device_of(args))
    if not len(predictor.classes_):
        raise DataError(f"the model in '{args.model}' knows no class: quickstudy adapt {args.model} --support FOLDER")
    items, count = named(args.images)
    done = unreadable = 0
    errors = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
    rows_show_it = args.output is None and sys.stdout.isatty()
    with writing(args.output, args.format) as write, bar("predicting", count, not rows_show_it) as advance:
        for item, answer in _answers(predictor, items, args.top):
            if isinstance(answer, Answer):
                write(_row(item, answer, args))
            else:
                unreadable += 1
                errors.print(_text(f"unreadable: {_about(item, answer)}"))
            done += 1
            advance(1)
    if unreadable:
        errors.print(f"{unreadable} of {done} pictures could not be read")
    return 1 if unreadable else 0


def _row(item: Any, answer: Answer, args: argparse.Namespace) -> Prediction:
    ranking = [(name, round(chance, 6)) for name, chance in answer.ranking]
    (best, chance) = ranking[0]
    label = best if args.no_unknown else answer.label
    named = [{"name": name, "probability": chance} for name, chance in ranking] if args.top > 1 else ()
    return Prediction(_text(item), label, chance, best, named)


def _answers(predictor: Predictor, items: Iterator[Any], top: int) -> Iterator[tuple[Any, Answer | DataError]]:
    load = predictor.get_params()["load"]
    if predictor.transductive:
        yield from _together(predictor, list(items), load, top)
        return
    for batch in batches(items, load):
        read = {row: found for row, (_, found) in enumerate(batch) if isinstance(found, Tensor)}
        answers = dict(zip(read, _each(predictor, list(read.values()), top), strict=True))
        for row, (item, found) in enumerate(batch):
            yield item, found if isinstance(found, DataError) else answers[row]


def _each(predictor: Predictor, pictures: Sequence[Tensor], top: int) -> Sequence[Answer | DataError]:
    """Classify pictures; one that the model cannot answer to costs the others nothing."""
    try:
        return predictor.rank(list(pictures), top) if pictures else []
    except DataError as error:
        return [error] if len(pictures) == 1 else [_each(predictor, [picture], top)[0] for picture in pictures]


def _together(predictor: Predictor, items: list[Any], load: Load, top: int) -> Iterator[tuple[Any, Answer | DataError]]:
    """Classify all pictures in one call; they are read twice, so that they need not lie in memory."""
    wrong = {row: DataError(told) for row, told in Samples(items, load).unreadable().items()}
    readable = [item for row, item in enumerate(items) if row not in wrong]
    print(
        f"this model classifies all {len(readable)} pictures together: each answer depends on the others",
        file=sys.stderr,
    )
    answers = iter(predictor.rank(readable, top) if readable else [])
    yield from ((item, wrong[row] if row in wrong else next(answers)) for row, item in enumerate(items))


def _about(item: Any, error: DataError) -> str:
    return str(error) if str(item) in str(error) else f"'{item}': {error}"


def _text(words: object) -> str:
    """Return text that UTF-8 can hold, whatever bytes a file's name is made of."""
    return str(words).encode("utf-8", "backslashreplace").decode()
