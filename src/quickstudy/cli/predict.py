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

from quickstudy.cli.models import FORMS, add_device, device_of, find_model, load_predictor, trained
from quickstudy.cli.named_pictures import named
from quickstudy.cli.predicting import Asked, answered, write_rows
from quickstudy.cli.usage import PlainParser
from quickstudy.errors import DataError, check_counts
from quickstudy.image.modality import IMAGE_EXTENSIONS


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
    asked = _asked(args)
    pictures = named(args.images, asked.kind.labels, asked.model.modality.extensions or IMAGE_EXTENSIONS)
    said = answered(asked, pictures.each)
    return write_rows(asked, said, pictures.total, args.output, args.format, pictures.labelled)


def _asked(args: argparse.Namespace) -> Asked:
    found, device = find_model(args.model), device_of(args)
    if args.support is None and (fixed := trained(found, device)) is not None:
        return Asked(*fixed, top=args.top)
    predictor = load_predictor(found, device, args.support)
    if not predictor.knowledge.support:
        what, support = ("knows no class", "FOLDER") if predictor.by_class else ("knows no number", "FILE.csv")
        raise DataError(f"the model in '{args.model}' {what}: quickstudy adapt {args.model} --support {support}")
    return Asked(predictor, top=args.top, unknown=not args.no_unknown)
