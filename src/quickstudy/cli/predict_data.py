"""Classify the pictures of a folder or a CSV file with a checkpoint, by the options of its data."""

from __future__ import annotations

import argparse
import logging
import sys
from typing import Literal

import numpy as np
import torch
from jsonargparse import ArgumentParser

from quickstudy.cli.models import TRAINED, examples, without_classes
from quickstudy.cli.predictions import Tally, writing
from quickstudy.cli.runs import add_data, add_trainer, build_data, build_trainer, load_model, load_options
from quickstudy.data.scan import class_folders
from quickstudy.image.modality import IMAGE_EXTENSIONS
from quickstudy.kinds.predictions import named, rows_of


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's options."""
    parser.usage = "%(prog)s MODEL [options]"
    parser.add_argument("model", metavar="MODEL", nargs="?", type=str | None, help=TRAINED)
    parser.add_argument("--checkpoint", type=str | None, metavar="MODEL", help="the same")
    parser.add_argument(
        "--support",
        type=str | None,
        help="a folder of class folders, 1..n pictures each: predict these classes; a few-shot checkpoint needs it",
    )
    parser.add_argument("--format", type=Literal["csv", "json"], default="csv", help="of the result")
    parser.add_argument("--output", type=str | None, help="the file to write; default: print")
    add_data(parser, ("predict",))
    add_trainer(parser, ("accelerator", "precision", "enable_progress_bar"))


def run(args: argparse.Namespace) -> int:
    """Predict, and write file, label, its probability and the likeliest class of every picture.

    With several labels per picture there is one row for each label above one half, so none where no label is.
    """
    checkpoint, model = load_model(args.model or args.checkpoint)
    if model.plan is not None and args.support is None:
        raise without_classes(checkpoint, model)
    data = build_data(args.data, load_options(model))
    table = data.table("predict")
    assert table is not None  # no other data has a flag here
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    trainer = build_trainer(args.trainer, devices=1, logger=False, enable_checkpointing=False)
    if args.support is None:
        classes = model.kind.labels
        chances_NC = trainer.predict(model, datamodule=data, output="probabilities")
    else:
        model.load_options = dict(data.load_options)
        support = examples(class_folders(args.support, IMAGE_EXTENSIONS))
        predictor = model.to(trainer.strategy.root_device).adapt(*support)
        if predictor.transductive:
            print(
                f"'{model.hparams['training_strategy']}' classifies all {len(table)} pictures together: each answer "
                "depends on the others",
                file=sys.stderr,
            )
        classes = predictor.classes_.tolist()
        chances_NC = torch.from_numpy(predictor.predict_proba([table.inputs[row] for row in range(len(table))]))
    several = model.kind.multi_label and args.support is None
    inputs = list(named(table, np.arange(len(table)), classes))
    labelled = [table.inputs[row] for row, (_, true) in enumerate(inputs) if true is not None]
    tally = Tally(classes, several)
    if args.support is None:
        tally.compare(model.seen_before, len(labelled))  # the trainer has warned
    else:
        tally.compare(sum(near.same for (near,) in predictor.nearest(labelled, 1)), len(labelled))
        print(tally.caution, end="\n" * bool(tally.caution), file=sys.stderr)
    with writing(args.output, args.format, any(true is not None for _, true in inputs)) as write:
        for rows in rows_of(chances_NC, classes, inputs, several):
            tally.add(rows)
            for row in rows:
                write(row)
    if args.output:
        print(f"{tally}; written to {args.output}", file=sys.stderr)
    return 0
