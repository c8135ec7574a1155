"""Write a file that answers without quickstudy, and beside it the classes that it takes in."""

from __future__ import annotations

import argparse

from quickstudy.cli.models import device_of, find_model, load_predictor, trained
from quickstudy.cli.named_pictures import named
from quickstudy.errors import ConfigError


def run(args: argparse.Namespace) -> int:
    """Export, and say how near the file's answers are to the model's."""
    found, device = find_model(args.model), device_of(args)
    images = [picture.item for picture in named(args.images, ()).each] if args.images else None
    if args.support is None and (fixed := trained(found, device)) is not None:
        if args.only_classes:
            raise ConfigError(f"'{args.model}' learns no classes to give to its graph: leave out --only_classes")
        model, count = fixed[0], len(fixed[0].classes)
        done = model.export(args.out, inputs=images)
    else:
        predictor = load_predictor(found, device, args.support)
        count = len(predictor.counts_)
        done = predictor.export(args.out, images=images, only_classes=args.only_classes)
    print(
        f"{done.classes if args.only_classes else done.model}: {count} classes; over {done.inputs} inputs the largest "
        f"difference from torch is {done.difference:.1e}, and {done.flips} have another class"
    )
    return 0
