"""Classify pictures with a saved model, a run or a checkpoint.

``quickstudy predict pets/ images/`` writes a row of file, label, probability and likeliest for each picture: the label
is "unknown" for what is like none of the examples; likeliest names a class in any case, whose probability it is. Where
the pictures lie in folders named by the model's classes, a row has that name, too, as true. ``quickstudy predict runs/1
images/`` takes the classes that a run was trained on, with --support FOLDER those of the folder, which a few-shot run
needs. Pictures that cannot be read are named on standard error, the rest is written all the same, and the exit status
is then 1. A run takes the options of its data as well, for instance --data.predict_file of a CSV file: ``quickstudy
predict --checkpoint runs/1 --help``
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from quickstudy.cli.bar import bar
from quickstudy.cli.models import FORMS, add_device, device_of, find_model, load_predictor, load_task, without_classes
from quickstudy.cli.named_pictures import Picture, batches, named
from quickstudy.cli.predictions import Tally, storable, writing
from quickstudy.cli.usage import PlainParser
from quickstudy.data.identity import identities, shared
from quickstudy.data.samples import Load, Samples
from quickstudy.data.targets import Label
from quickstudy.errors import DataError, check_counts
from quickstudy.image.modality import load_image
from quickstudy.kinds.predictions import Prediction, answers
from quickstudy.learning.explaining import Answer

if TYPE_CHECKING:
    from quickstudy.image import ImageClassifier

Ask = Callable[[Sequence[Any]], list[list[Answer]]]
"""Answers to pictures: one of each, or one for each of its labels where it may have several."""


class _Classifier(NamedTuple):
    """Whatever classifies pictures."""

    ask: Ask
    load: Load
    classes: list[Label]
    together: bool = False
    """Whether an answer depends on the other pictures of the call."""
    several: bool = False
    """Whether a picture may have several labels."""
    seen: Tensor | None = None
    """What identifies the pictures that it was trained on; None: its answers tell whether it learned from theirs."""

    def learned(self, picture: Picture, found: Sequence[Answer]) -> bool:
        """Whether a picture is one of those that it learned from."""
        if self.seen is None:
            return any(near.same for answer in found for near in answer.nearest)
        return shared(identities([picture.item]), self.seen) > 0


def add_arguments(parser: PlainParser) -> None:
    """Add the command's options."""
    parser.description = str(__doc__).replace("``", "")
    parser.add_argument("model", metavar="MODEL", help=FORMS)
    parser.add_argument(
        "images", metavar="IMAGES", nargs="+", help="folders, files, archives; - reads paths from standard input"
    )
    parser.add_argument(
        "--support", metavar="FOLDER", help="a folder of class folders, 1..n pictures each: predict these classes"
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
    classifier = _classifier(args)
    pictures = named(args.images, classifier.classes)
    tally = Tally(classifier.classes, classifier.several)
    errors = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
    shows = args.output is None and sys.stdout.isatty()
    with (
        writing(args.output, args.format, pictures.labelled) as write,
        bar("predicting", pictures.total, not shows) as advance,
    ):
        for picture, found in _answered(classifier, pictures.each):
            if isinstance(found, DataError):
                tally.add(None)
                errors.print(storable(f"unreadable: {_about(picture.item, found)}"))
            else:
                rows = [_row(picture, answer, args) for answer in found]
                tally.add(rows)
                if picture.true is not None:
                    tally.compare(classifier.learned(picture, found))
                for row in rows:
                    write(row)
            advance(1)
    if tally.unreadable:
        errors.print(f"{tally.unreadable} of {tally.pictures} pictures could not be read")
    if tally.caution:
        errors.print(tally.caution)
    if args.output:
        errors.print(f"{tally}; written to {args.output}")
    return 1 if tally.unreadable else 0


def _classifier(args: argparse.Namespace) -> _Classifier:
    found, device = find_model(args.model), device_of(args)
    if not found.saved and args.support is None:
        return _of_fixed_classes(load_task(found.path, device), args)
    predictor = load_predictor(found, device, args.support)
    if not len(predictor.classes_):
        raise DataError(f"the model in '{args.model}' knows no class: quickstudy adapt {args.model} --support FOLDER")

    def ask(pictures: Sequence[Any]) -> list[list[Answer]]:
        return [[answer] for answer in predictor.rank(list(pictures), args.top, nearest=1)]

    return _Classifier(ask, predictor.knowledge.load, predictor.classes_.tolist(), predictor.transductive)


def _of_fixed_classes(model: ImageClassifier, args: argparse.Namespace) -> _Classifier:
    if model.plan is not None:
        raise without_classes(args.model, model)
    several: bool = model.kind.multi_label
    classes = model.kind.labels

    @torch.inference_mode()
    def ask(pictures: Sequence[Any]) -> list[list[Answer]]:
        batch = Samples(list(pictures), torch.as_tensor).batch(np.arange(len(pictures)))
        found = []
        for chances_C in answers(model.kind, [model(batch.to(model.device))], "probabilities"):
            ranking = sorted(zip(classes, chances_C.tolist(), strict=True), key=lambda each: -each[1])
            labels = [name for name, chance in ranking if chance > 0.5] if several else [ranking[0][0]]
            found.append([Answer(label, ranking, []) for label in labels])
        return found

    return _Classifier(
        ask, partial(load_image, **model.load_options), classes, several=several, seen=model.trained_examples
    )


def _row(picture: Picture, answer: Answer, args: argparse.Namespace) -> Prediction:
    ranking = [(name, round(chance, 6)) for name, chance in answer.ranking]
    (best, chance), chances = ranking[0], dict(ranking)
    label = answer.label if answer.label in chances or not args.no_unknown else best
    shown = [{"name": name, "probability": chance} for name, chance in ranking[: args.top]] if args.top > 1 else ()
    return Prediction(storable(picture.item), label, chances.get(label, chance), best, picture.true, shown)


def _answered(
    classifier: _Classifier, pictures: Iterator[Picture]
) -> Iterator[tuple[Picture, list[Answer] | DataError]]:
    if classifier.together:
        yield from _together(classifier, list(pictures))
        return
    for batch in batches(pictures, classifier.load):
        read = {row: found for row, (_, found) in enumerate(batch) if isinstance(found, Tensor)}
        found = dict(zip(read, _each(classifier.ask, list(read.values())), strict=True))
        for row, (picture, why) in enumerate(batch):
            yield picture, why if isinstance(why, DataError) else found[row]


def _each(ask: Ask, pictures: Sequence[Tensor]) -> Sequence[list[Answer] | DataError]:
    """Classify pictures; one that the model cannot answer to costs the others nothing."""
    try:
        return ask(pictures) if pictures else []
    except DataError as error:
        return [error] if len(pictures) == 1 else [_each(ask, [picture])[0] for picture in pictures]


def _together(classifier: _Classifier, pictures: list[Picture]) -> Iterator[tuple[Picture, list[Answer] | DataError]]:
    """Classify all pictures in one call; they are read twice, so that they need not lie in memory."""
    unreadable = Samples([picture.item for picture in pictures], classifier.load).unreadable()
    readable = [picture.item for row, picture in enumerate(pictures) if row not in unreadable]
    print(
        f"this model classifies all {len(readable)} pictures together: each answer depends on the others",
        file=sys.stderr,
    )
    found = iter(classifier.ask(readable) if readable else [])
    for row, picture in enumerate(pictures):
        yield picture, DataError(unreadable[row]) if row in unreadable else next(found)


def _about(item: Any, error: DataError) -> str:
    return str(error) if str(item) in str(error) else f"'{item}': {error}"
