"""Learn classes from a folder of class folders, without training.

``quickstudy adapt resnet18 --support photos/ --out pets/`` writes a model that ``quickstudy predict pets/ images/`` and
``Predictor.load`` read.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jsonargparse import ArgumentParser

from quickstudy.cli.bar import bar
from quickstudy.cli.flags import add_flags, function_flags, optional
from quickstudy.cli.saved import load_predictor
from quickstudy.confidence import in_words
from quickstudy.data.samples import Samples
from quickstudy.data.scan import class_folders
from quickstudy.data.table import Table
from quickstudy.errors import ConfigError, DataError, DataWarning
from quickstudy.nets import Encoder
from quickstudy.nets.registry import BACKBONES
from quickstudy.pictures import IMAGE_EXTENSIONS, IMAGE_SIZE, load_image
from quickstudy.plain import name_of
from quickstudy.predictor import Predictor
from quickstudy.saving import DESCRIPTION

_SHOWN = 20
_FLAGS = {
    **{
        name: flag
        for name, flag in function_flags(Predictor.from_backbone).items()
        if name in ("strategy", "strategy_kwargs", "backbone_kwargs", "pretrained")
    },
    **{name: flag for name, flag in function_flags(load_image).items() if name != "item"},
}


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's options."""
    parser.usage = "%(prog)s MODEL --support FOLDER --out FOLDER [options]"
    parser.add_argument(
        "model",
        metavar="MODEL",
        type=str,
        help="a checkpoint of quickstudy fit; or the folder of a saved model, whose classes are left behind; or a "
        "backbone's name, such as resnet18 (quickstudy list backbones)",
    )
    parser.add_argument(
        "--support", type=str, required=True, help="a folder of class folders, 1..n pictures each, or an archive of one"
    )
    parser.add_argument("--out", type=str, required=True, help="the folder to write; a saved model there is replaced")
    parser.add_argument(
        "--on_error",
        type=Literal["skip", "raise"],
        default="skip",
        help="what an unreadable picture does: 'skip' names it and leaves it out, 'raise' ends the command",
    )
    about = f"defaults: pretrained, nearest_centroid, pictures of {IMAGE_SIZE} pixels; other models keep their own"
    add_flags(parser, optional(_FLAGS), "of a backbone's name", about)


def run(args: argparse.Namespace) -> int:
    """Learn, save, and say what was learned."""
    out = Path(args.out)
    if out.exists() and not (out / DESCRIPTION).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out '{out}' holds something else than a saved model: name a new folder")
    table = class_folders(args.support, IMAGE_EXTENSIONS)
    if args.on_error == "skip":
        table = _readable(table, args.support)
    assert table.targets is not None
    items = [table.inputs[row] for row in range(len(table))]
    labels = [table.classes[code] for code in table.targets.tolist()]
    with _counted(len(items)):
        predictor = _learned(args, items, labels)
    told = _told(predictor, args)
    predictor.save(out)
    print(f"{told}\nSaved in '{out}'; use it: quickstudy predict {out} images/")
    return 0


def _learned(args: argparse.Namespace, items: list[Any], labels: list[str]) -> Predictor:
    given = {name: value for name, value in vars(args).items() if name in _FLAGS}
    path = Path(args.model).expanduser()
    saved, file = (path / DESCRIPTION).is_file(), path.is_file() or path.suffix == ".ckpt" or "/" in args.model
    if (saved or file) and given:
        raise ConfigError(f"--{next(iter(given))} is of a backbone's name; '{args.model}' keeps its own: leave it out")
    if saved:
        return load_predictor(str(path), torch.device("cpu")).fit(items, labels)
    if file:
        from quickstudy.image import ImageClassifier  # brings Lightning, which takes seconds

        if not path.exists():
            raise DataError(f"there is no checkpoint or saved model '{path}' (looked in {Path.cwd()})")
        return ImageClassifier.load_from_checkpoint(path).adapt(items, labels)
    image = {
        "image_size": IMAGE_SIZE,
        **{name: given.pop(name) for name in ("image_size", "image_mode") if name in given},
    }
    load = partial(load_image, **image)
    return Predictor.from_backbone(args.model, items, labels, load=load, **given)


def _readable(table: Table, support: str) -> Table:
    """Return the table without the pictures that cannot be read, which a warning names."""
    wrong = Samples(table.inputs, load_image).unreadable()
    if not wrong:
        return table
    assert table.targets is not None
    names = [table.classes[code] for code in table.targets.tolist()]
    lost = sorted(set(names) - {name for row, name in enumerate(names) if row not in wrong})
    if lost:
        first = next(told for row, told in wrong.items() if names[row] == lost[0])
        more = f" (nor of {len(lost) - 1} more classes)" if lost[1:] else ""
        raise DataError(
            f"no picture of the class '{lost[0]}' of '{support}' can be read{more}: {first}. Add pictures that can, or "
            "remove the folder"
        )
    kept = table.select(np.array([row for row in range(len(table)) if row not in wrong], np.int64))
    messages = list(wrong.values())
    shown = "; ".join(messages[:_SHOWN]) + ("; ..." if len(messages) > _SHOWN else "")
    warnings.warn(f"left out {len(wrong)} of {len(table)} pictures, which cannot be read: {shown}", DataWarning, 2)
    return kept


@contextmanager
def _counted(total: int) -> Iterator[None]:
    """Show how many pictures are embedded."""
    with bar("learning", total) as advance:

        def count(module: torch.nn.Module, _: Any, embedded: torch.Tensor) -> None:
            if isinstance(module, Encoder):
                advance(len(embedded))

        handle = torch.nn.modules.module.register_module_forward_hook(count)
        try:
            yield
        finally:
            handle.remove()


def _told(predictor: Predictor, args: argparse.Namespace) -> str:
    counts = predictor.counts_
    strategy = name_of(predictor.get_params()["algorithm"])
    random = args.model in BACKBONES or not getattr(args, "pretrained", True)
    shown = ", ".join(f"{name} {count}" for name, count in list(counts.items())[:_SHOWN])
    more = f", and {len(counts) - _SHOWN} more classes" if len(counts) > _SHOWN else ""
    return "\n".join(
        [
            f"Learned {len(counts)} classes from {sum(counts.values())} pictures with {strategy} on {args.model}"
            + ", whose weights are random" * random,
            f"Classes, with their pictures: {shown}{more}",
            *in_words(predictor.confidence_),
            *["This strategy classifies all pictures of a call together"] * predictor.transductive,
        ]
    )
