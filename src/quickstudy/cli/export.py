"""Write a file that answers without quickstudy, and beside it the classes that it takes in."""

from __future__ import annotations

import argparse
import sys

from quickstudy.cli.models import device_of, find_model, load_predictor, trained
from quickstudy.cli.named_pictures import named
from quickstudy.errors import ConfigError
from quickstudy.predictor import Predictor


def run(args: argparse.Namespace) -> int:
    """Export, and say how near the file's answers are to the model's."""
    found, device = find_model(args.model), device_of(args)
    fixed = trained(found, device) if args.support is None else None
    model = load_predictor(found, device, args.support, args.target_field) if fixed is None else fixed[0]
    inputs = [picture.item for picture in named(args.images, None, model.modality).each] if args.images else None
    count = len(model.counts_)
    print(f"tracing the network, writing '{args.out}' and comparing its answers", file=sys.stderr, flush=True)
    if isinstance(model, Predictor):
        done = model.export(args.out, inputs=inputs, only_classes=args.only_classes)
    elif args.only_classes:
        raise ConfigError(f"'{args.model}' learns no classes to give to its graph: leave out --only_classes")
    else:
        done = model.export(args.out, inputs=inputs)
    what, flips = (f"{count} classes", f", and {done.flips} have another class") if count else ("no classes", "")
    print(
        f"{done.classes if args.only_classes else done.model}: {what}; over {done.inputs} inputs the largest "
        f"difference from torch is {done.difference:.1e}{flips}"
    )
    return 0
