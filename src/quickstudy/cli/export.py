"""Write a file that answers without quickstudy, and beside it the classes that it takes in.

``quickstudy export pets/ pets.onnx`` writes pets.onnx and pets.onnx.classes.safetensors, once the graph was run in
onnxruntime and has answered alike; pets.pt2 goes through torch.export. After further classes were learned,
``--only_classes`` writes the small file alone. docs/serve.md shows how to use both.
"""

from __future__ import annotations

import argparse

from quickstudy.cli.models import FORMS, add_device, device_of, find_model, load_predictor, trained
from quickstudy.cli.named_pictures import named
from quickstudy.cli.usage import PlainParser
from quickstudy.errors import ConfigError
from quickstudy.predictor import Predictor


def add_arguments(parser: PlainParser) -> None:
    """Add the command's options."""
    parser.description = str(__doc__).replace("``", "")
    parser.add_argument("model", metavar="MODEL", help=f"{FORMS}; a few-shot run or checkpoint needs --support")
    parser.add_argument("out", metavar="FILE", help="the graph's file, such as pets.onnx or pets.pt2")
    parser.add_argument(
        "--support",
        metavar="FOLDER",
        help="a folder of class folders, 1..n pictures each, whose classes it learns first",
    )
    parser.add_argument(
        "--only_classes", "--only-classes", action="store_true", help="leave the graph, and write the classes of now"
    )
    parser.add_argument(
        "--images",
        metavar="IMAGES",
        nargs="+",
        help="folders, files, archives: pictures to compare its answers to, too",
    )
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Export, and say how near the file's answers are to the model's."""
    found, device = find_model(args.model), device_of(args)
    images = [picture.item for picture in named(args.images, ()).each] if args.images else None
    fixed = trained(found, device) if args.support is None else None
    model = load_predictor(found, device, args.support) if fixed is None else fixed[0]
    count = len(model.counts_)
    if isinstance(model, Predictor):
        done = model.export(args.out, images=images, only_classes=args.only_classes)
    elif args.only_classes:
        raise ConfigError(f"'{args.model}' learns no classes to give to its graph: leave out --only_classes")
    else:
        done = model.export(args.out, inputs=images)
    what, flips = (f"{count} classes", f", and {done.flips} have another class") if count else ("no classes", "")
    print(
        f"{done.classes if args.only_classes else done.model}: {what}; over {done.inputs} inputs the largest "
        f"difference from torch is {done.difference:.1e}{flips}"
    )
    return 0
