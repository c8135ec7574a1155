"""Classify pictures with a checkpoint: into the classes it was trained on, or into those of a support folder."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jsonargparse import ArgumentParser

from quickstudy.cli.predictions import Prediction, writing
from quickstudy.cli.runs import add_data, add_trainer, build_data, build_trainer, load_model, load_options
from quickstudy.errors import ConfigError
from quickstudy.image import ImageClassificationData, ImageClassifier
from quickstudy.predictor import Predictor


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--checkpoint", type=str, required=True, help="a file that quickstudy fit or Trainer wrote")
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
    model = load_model(args.checkpoint)
    if model.plan is not None and args.support is None:
        raise ConfigError(
            f"'{args.checkpoint}' was trained with '{model.hparams['training_strategy']}' and has no fixed classes: "
            "show it yours with --support FOLDER, a folder of class folders with 1..n pictures each"
        )
    data = build_data(args.data, load_options(model))
    table = data.table("predict")
    assert table is not None  # no other data has a flag here
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    trainer = build_trainer(args.trainer, devices=1, logger=False, enable_checkpointing=False)
    if args.support is None:
        classes: Sequence[str] = model.classes
        chances_NC = trainer.predict(model, datamodule=data, output="probabilities").cpu().numpy()
    else:
        predictor = _adapted(model.to(trainer.strategy.root_device), args.support, data)
        if predictor.transductive:
            print(
                f"'{model.hparams['training_strategy']}' classifies all {len(table)} pictures together: each answer "
                "depends on the others",
                file=sys.stderr,
            )
        classes = predictor.classes_.tolist()
        chances_NC = predictor.predict_proba([table.inputs[row] for row in range(len(table))])
    several = model.hparams["multi_label"] and args.support is None
    predictions = [
        Prediction(
            str(table.inputs[row]), classes[code], round(float(chances_C[code]), 6), classes[int(chances_C.argmax())]
        )
        for row, chances_C in enumerate(chances_NC)
        for code in (np.flatnonzero(chances_C > 0.5).tolist() if several else [int(chances_C.argmax())])
    ]
    with writing(args.output, args.format) as write:
        for prediction in predictions:
            write(prediction)
    return 0


def _adapted(model: ImageClassifier, support: str, data: ImageClassificationData) -> Predictor:
    """Return the model adapted to the class folders of ``support``, loaded as the data to predict is."""
    table = ImageClassificationData.from_folders(train_folder=support).table("train")
    assert table is not None and table.targets is not None
    model.load_options = dict(data.load_options)
    labels = [table.classes[code] for code in table.targets.tolist()]
    return model.adapt([table.inputs[row] for row in range(len(table))], labels)
