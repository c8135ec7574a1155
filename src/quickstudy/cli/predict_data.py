"""Classify the pictures of a folder or a CSV file with a checkpoint, by the options of its data."""

from __future__ import annotations

import argparse
import logging
from typing import Any, Literal

import numpy as np
from lightning import Trainer

from quickstudy.cli.flags import FlagParser
from quickstudy.cli.models import examples, support_of, without_classes
from quickstudy.cli.named_pictures import Picture
from quickstudy.cli.options import DRAWINGS, FORMAT, TARGET_FIELD, TRAINED
from quickstudy.cli.predicting import Asked, answered, write_rows
from quickstudy.cli.runs import (
    COLUMNS,
    add_data,
    add_trainer,
    build_data,
    build_trainer,
    data_of_run,
    load_model,
    load_options,
)
from quickstudy.cli.tasks import asked_for, named_by
from quickstudy.kinds.predictions import joined, named


def add_arguments(parser: FlagParser) -> None:
    """Add the command's options."""
    parser.usage = "%(prog)s MODEL [options]"
    parser.add_argument("model", metavar="MODEL", nargs="?", type=str | None, help=TRAINED)
    parser.add_argument("--checkpoint", type=str | None, metavar="MODEL", help="the same")
    parser.add_argument(
        "--support",
        type=str | None,
        help="a folder of class folders, 1..n pictures each: predict these classes; a few-shot checkpoint needs it",
    )
    parser.add_argument("--target_field", type=str | None, help=TARGET_FIELD)
    parser.add_argument("--format", type=Literal["csv", "json", "coco"], default="csv", help=FORMAT)
    parser.add_argument("--output", type=str | None, help="the file to write; default: print")
    parser.add_argument("--drawings", type=str | None, help=DRAWINGS)
    add_data(parser, ("predict",), asked_for(parser.words))
    add_trainer(parser, ("accelerator", "precision", "enable_progress_bar"))


def run(args: argparse.Namespace) -> int:
    """Predict, and write file, label, its probability and the likeliest class of every picture.

    With several labels per picture a row has all above their thresholds: a list in JSON, in CSV a cell of JSON.
    """
    checkpoint, model = load_model(args.model or args.checkpoint)
    if model.procedure.by_class and args.support is None:
        raise without_classes(checkpoint, model)
    columns = {name: value for name, value in data_of_run(checkpoint).items() if name in COLUMNS}
    data = build_data(args.data, load_options(model), named_by(type(model).__name__), columns)
    table = data.table("predict")
    assert table is not None  # no other data has a flag here
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    trainer = build_trainer(args.trainer, devices=1, logger=False, enable_checkpointing=False)
    if args.support is None:  # by the trainer, whose device and precision may be asked for, and the data's own loaders
        asked = Asked(model.predictor(), model.trained_examples, cautions=False)  # it has warned
        batches: Any = Trainer.predict(trainer, model, datamodule=data)
        found = model.kind.ranked(joined(model.kind, batches), asked.count)
    else:
        found, model.load_options = None, dict(data.load_options)
        support = examples(support_of(args.support, model.modality, model.kind, args.target_field))
        asked = Asked(model.to(trainer.strategy.root_device).adapt(*support), unknown=False)
    pictures = [
        Picture(table.inputs[row], true)
        for row, (_, true) in enumerate(named(table, np.arange(len(table)), asked.kind.labels))
    ]
    said = answered(asked, iter(pictures)) if found is None else zip(pictures, found, strict=True)
    labelled = any(picture.true is not None for picture in pictures)
    return write_rows(asked, said, len(pictures), args.output, args.format, labelled, found is None, args.drawings)
