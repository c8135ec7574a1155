"""Answer to inputs with a saved model, a run or a checkpoint."""

from __future__ import annotations

import argparse

from quickstudy.cli.models import device_of, find_model, load_predictor, trained
from quickstudy.cli.named_pictures import named
from quickstudy.cli.predicting import Asked, answered, write_rows
from quickstudy.errors import DataError, check_counts
from quickstudy.runs.answers import check_writable


def run(args: argparse.Namespace) -> int:
    """Predict, a batch at a time, and write a row for each picture."""
    check_counts(top=args.top)
    asked = _asked(args)
    check_writable(asked.kind, asked.model.modality, args.format, args.drawings)
    pictures = named(args.images, asked.kind, asked.model.modality)
    said = answered(asked, pictures.each)
    return write_rows(asked, said, pictures.total, args.output, args.format, pictures.labelled, drawings=args.drawings)


def _asked(args: argparse.Namespace) -> Asked:
    found, device = find_model(args.model), device_of(args)
    if args.support is None and (fixed := trained(found, device)) is not None:
        return Asked(*fixed, top=args.top)
    predictor = load_predictor(found, device, args.support, args.target_field)
    if not predictor.knowledge.support:
        what, support = ("knows no class", "FOLDER") if predictor.by_class else ("knows no number", "FILE.csv")
        raise DataError(f"the model in '{args.model}' {what}: quickstudy adapt {args.model} --support {support}")
    return Asked(predictor, top=args.top, unknown=not args.no_unknown)
