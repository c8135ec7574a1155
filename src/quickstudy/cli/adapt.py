"""Learn classes, or numbers, from a folder of class folders or a table, without training.

``quickstudy adapt efficientnet_lite0 --support photos/ --out pets/`` writes a model that
``quickstudy predict pets/ images/`` and ``Predictor.load`` read; of a model whose answers are numbers,
``--support ages.csv`` makes one that tells such. Of texts, and of pictures with CLIP or SigLIP, ``--classes`` takes
names of classes without examples.
"""

from __future__ import annotations

import argparse
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from jsonargparse import ArgumentParser

from quickstudy.cli.bar import bar
from quickstudy.cli.flags import add_flags, class_flags, function_flags, optional
from quickstudy.cli.imports import also_importing
from quickstudy.cli.models import (
    Learner,
    device_of,
    domain_of_files,
    examples,
    find_model,
    learner,
    named_model,
    support_of,
)
from quickstudy.cli.options import FORMS, INPUT_FIELD, TARGET_FIELD, add_device
from quickstudy.cli.tasks import data_class, task_class
from quickstudy.data.frames import is_table
from quickstudy.data.readable import readable
from quickstudy.data.splitting import check_no_file_twice
from quickstudy.data.table import Table
from quickstudy.domains import DOMAINS
from quickstudy.errors import ConfigError, DataError, given, one_line, shown
from quickstudy.image.modality import IMAGE_SIZE
from quickstudy.kinds.base import Kind
from quickstudy.kinds.classification import Classification
from quickstudy.learning.confidence import accuracy_in_words, in_plain_words, in_words, strangers_caught
from quickstudy.learning.reading import telling
from quickstudy.modality import MODALITIES, Modality
from quickstudy.nets import build_encoder
from quickstudy.nets.encoder import starts_from_nothing
from quickstudy.part_predictor import PartPredictor
from quickstudy.predictor import NumberPredictor, Predictor, usual_inputs
from quickstudy.saved.model_folder import DESCRIPTION
from quickstudy.saved.plain import name_of

_SHOWN = 20
_ENCODER = {
    name: flag
    for name, flag in function_flags(Predictor.from_backbone).items()
    if name in ("strategy", "strategy_kwargs", "backbone_kwargs", "pretrained")
}
_OF_PLACES = ("fit", "shrink")
"""Ways to resize a picture after which it comes with its sizes, which no encoder of whole pictures takes."""
_READING = {
    name: (domain, flag)
    for domain in reversed(DOMAINS)  # of a name that several have, the first says what it is
    for name, flag in class_flags(MODALITIES[domain]).items()
    if name not in {each.name for each in fields(MODALITIES[domain]) if not each.repr}  # what nobody types
    if name not in MODALITIES[domain].of_elements  # here whole inputs are answered
}
"""How inputs are read, of all domains."""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's options."""
    parser.usage = "%(prog)s MODEL --support FOLDER [--classes NAME ...] --out FOLDER [options]"
    parser.add_argument(
        "model",
        metavar="MODEL",
        type=str,
        help=f"{FORMS}; the classes that it knows are left behind. Or a backbone's name, such as resnet18 (quickstudy "
        "list backbones), or what one is for: fast, balanced, best",
    )
    parser.add_argument(
        "--support",
        type=str,
        help="a folder of class folders, 1..n pictures each, or an archive of one; or a table (CSV, JSON, Parquet): "
        "of names of files and their classes, or their numbers where the model answers such; of texts and their "
        "classes; or of rows",
    )
    parser.add_argument("--target_field", type=str | None, help=TARGET_FIELD)
    parser.add_argument("--input_field", type=str | None, help=INPUT_FIELD)
    parser.add_argument(
        "--group_by",
        "--group_field",
        type=str | None,
        metavar="REGEX|COLUMN",
        help="what each example comes from, such as a speaker: the part of a file's name that a regular expression "
        "finds, or a column of the table. The accuracy to expect is then told by whole groups that are left out",
    )
    parser.add_argument(
        "--classes",
        type=str,
        nargs="+",
        default=[],
        metavar="NAME",
        help="names of classes, beside --support or alone: of texts, and of pictures with CLIP or SigLIP",
    )
    parser.add_argument("--out", type=str, required=True, help="the folder to write; a saved model there is replaced")
    parser.add_argument(
        "--on_error",
        type=Literal["skip", "raise"],
        default="skip",
        help="what an unreadable picture does: 'skip' names it and leaves it out, 'raise' ends the command",
    )
    parser.add_argument("--verbose", action="store_true", help="print what its probabilities and 'unknown' rest on")
    parser.add_argument(
        "--task",
        type=Literal["object_detection", "semantic_segmentation", "token_classification"] | None,
        help="what is learned other than classes of whole inputs. semantic_segmentation: --support has images/ and "
        "masks/ of the same names, and --classes names the numbers 0, 1, ... in masks. token_classification: entities "
        "in texts, files of CoNLL's form or a table. object_detection: boxes as COCO, Pascal VOC, YOLO or a table has "
        "them, by a trained detector, which says itself what it learns, as any model does",
    )
    add_device(parser)
    about = (
        f"defaults: pretrained, nearest_centroid, pictures of {IMAGE_SIZE} pixels; other models keep their own, "
        "but for the strategy"
    )
    add_flags(parser, optional(_ENCODER), "of a backbone's name", about)
    for domain in DOMAINS:
        own = {name: flag for name, (of, flag) in _READING.items() if of == domain}
        places = " and ".join(_OF_PLACES)
        about = f"the ways {places} of --resize are of --task, which tells of places" if "resize" in own else ""
        add_flags(parser, optional(own), f"of a backbone's name that takes {MODALITIES[domain].called}", about)


def run(args: argparse.Namespace) -> int:
    """Learn, save, and say what was learned."""
    if args.support is None and not args.classes:
        raise ConfigError(
            "--support is missing: name a folder of class folders with examples, or a CSV file of two columns; or, of "
            "texts, and of pictures with CLIP, classes without examples: --classes 'lost card' 'transfer fee'"
        )
    out = Path(args.out)
    if out.exists() and not (out / DESCRIPTION).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out '{out}' holds something else than a saved model: name a new folder")
    device = device_of(args)
    modality, kind, learn = _learner(args, device)
    inputs, labels, groups = _support(args, modality, kind)
    with bar("learning", len(inputs or args.classes)) as advance, telling(advance):
        predictor = learn(inputs, labels, **given(group_by=groups, classes=args.classes or None))
    if isinstance(predictor, PartPredictor):
        told = _told_of_parts(predictor, args)
    else:
        told = _told(predictor, args) if predictor.by_class else _told_of_numbers(predictor, args)
    predictor.save(out)
    asked = "images/" if modality.wire is None else f"{modality.wire.field}/"
    if modality.column_names is not None or (modality.in_cells and args.support and is_table(Path(args.support))):
        asked = "new.csv"
    print(f"{told}\nSaved in '{out}'; use it: quickstudy predict {out} {asked}{also_importing(args)}")
    return 0


def _learner(args: argparse.Namespace, device: torch.device) -> Learner:
    """Return what learns with the model that is named, or with a backbone."""
    typed = vars(args)
    encoder, reading = ({name: typed[name] for name in flags if name in typed} for flags in (_ENCODER, _READING))
    of_training = args.model.endswith(".ckpt")
    found = None if of_training else named_model(args.model)
    if found or of_training:
        learns = {name: encoder.pop(name) for name in ("strategy", "strategy_kwargs") if name in encoder}
        for name in encoder | reading:
            raise ConfigError(f"--{name} is of a backbone's name; '{args.model}' keeps its own: leave it out")
        known = learner(found or find_model(args.model), device, **learns)
        if args.task not in (None, known.kind.task_of_parts):
            raise ConfigError(
                f"--task {args.task} is of a backbone's name; '{args.model}' is of another task, and learns as it was "
                "trained: leave it out"
            )
        return known
    options = encoder.pop("backbone_kwargs", None), encoder.pop("pretrained", True)
    if args.task is not None:
        return _of_parts(args, device, *options, reading, encoder)
    made = build_encoder(args.model, *options, domain_of_files(args.support))
    modality = usual_inputs(made)
    for name in reading.keys() - modality.settings.keys():
        of = MODALITIES[_READING[name][0]].called
        raise ConfigError(f"--{name} is of {of}, and '{args.model}' takes {modality.called}: leave it out")
    if reading.get("resize") in _OF_PLACES:
        raise ConfigError(
            f"--resize {reading['resize']} is of tasks that tell of places in a picture, and adapt learns classes of "
            "whole ones: take cover, shortest, squash or a number of pixels"
        )
    modality = modality.with_options(reading)
    learn = partial(Predictor.from_backbone, made, load=modality, device=device, **encoder)
    return Learner(modality, Classification(), learn)


def _of_parts(
    args: argparse.Namespace, device: torch.device, kwargs: Any, pretrained: bool, reading: Any, learns: Any
) -> Learner:
    """Return what learns classes of parts of inputs with a backbone."""
    if args.task == "object_detection":
        raise ConfigError(
            f"'{args.model}' is a backbone, and objects are learned from a few boxes by a trained detector: train one "
            "on any classes, quickstudy fit --task object_detection --model.detector faster_rcnn --data.train_folder "
            f"data/, then quickstudy adapt runs/0 --support {args.support} --out {args.out}"
        )
    model: Any = task_class(args.task)(backbone=args.model, backbone_kwargs=kwargs, pretrained=pretrained)
    for name in sorted(reading.keys() - model.modality.settings.keys()):
        of = MODALITIES[_READING[name][0]].called
        raise ConfigError(f"--{name} is of {of}, and {args.task} takes {model.modality.called}: leave it out")
    model.modality = model.modality.with_options(reading)
    return Learner(model.modality, model.kind, partial(model.to(device).adapt, **learns))


def _support(args: argparse.Namespace, modality: Modality, kind: Kind) -> tuple[Any, Any, Any]:
    """Return the examples of the support set, their labels and their groups; None where there is none."""
    if args.support is None:
        return None, None, None
    if kind.task_of_parts:
        return *_marked(args, modality, kind.task_of_parts), None
    table = support_of(
        args.support, modality, kind, args.target_field, args.input_field, args.group_by, args.on_error == "skip"
    )
    check_no_file_twice({"support": table})
    table = _readable(table, modality, args.support) if args.on_error == "skip" else table
    groups = table.origins
    return *examples(table), None if groups is None else [groups.names[code] for code in groups.codes]


def _marked(args: argparse.Namespace, modality: Modality, task: str) -> tuple[list[Any], Any]:
    """Return the inputs of a folder or a table whose parts are marked, and what marks them."""
    if args.group_by is not None:
        raise ConfigError("--group_by is of classes of whole inputs: leave it out")
    data, of_table = data_class(task), is_table(Path(args.support).expanduser())
    fields = given(input_field=args.input_field, target_fields=args.target_field)
    if fields and not of_table:
        raise ConfigError(
            f"--{next(iter(fields)).rstrip('s')} is of a table, and '{args.support}' is none: leave it out"
        )
    lenient = args.on_error == "skip" and not modality.in_cells  # of files, which may be damaged
    if of_table:
        reading = {"on_error": "skip"} if lenient else {}
        table = data.from_csv(train_file=args.support, **reading, **fields).table("train")
    else:
        table = data.annotated_folder(args.support, modality.extensions)
    assert table is not None
    if lenient:
        table, _ = readable(table, modality, f"{modality.called} of '{args.support}'")
    assert table.annotations is not None
    inputs, marks = table.inputs, table.annotations.items
    return [inputs[row] for row in range(len(table))], [marks[row] for row in range(len(table))]


def _told_of_parts(predictor: PartPredictor, args: argparse.Namespace) -> str:
    counts, called = predictor.counts_, predictor.modality.called
    listed = ", ".join(f"{one_line(name)} {count}" for name, count in list(counts.items())[:_SHOWN])
    about = predictor.about()
    return (
        f"Learned {len(counts)} classes of parts of {about['examples']} {called} with {about['strategy']} on "
        f"{args.model}\nClasses, with the {called} that show them: {listed}\n" + "\n".join(predictor.expected())
    )


def _readable(table: Table, modality: Modality, support: str) -> Table:
    kept, _ = readable(table, modality, f"{modality.called} of '{support}'")
    lost = sorted(set(table.classes) - set(kept.without_empty_classes().classes))
    if lost:
        raise DataError(
            f"'{support}' has classes of which no picture can be read, {shown(lost)}: add some that can, or remove "
            "these folders"
        )
    return kept


def _told_of_numbers(predictor: NumberPredictor, args: argparse.Namespace) -> str:
    numbers = [number for kept in predictor.knowledge.support.values() for number in kept.numbers]
    called, strategy = predictor.modality.called, name_of(predictor.knowledge.algorithm)
    return (
        f"Learned numbers from {min(numbers):g} to {max(numbers):g} of {len(numbers)} {called} with {strategy} on "
        f"{args.model}"
    )


def _told(predictor: Predictor, args: argparse.Namespace) -> str:
    counts, sure = predictor.counts_, predictor.confidence_
    strangers = strangers_caught(predictor.knowledge.held_out(), sure.threshold)
    strategy = name_of(predictor.knowledge.algorithm)
    called = predictor.modality.called
    weights = any(True for _ in predictor.knowledge.encoder.parameters())
    random = weights and (starts_from_nothing(args.model) or not getattr(args, "pretrained", True))
    listed = ", ".join(f"{one_line(name)} {count}" for name, count in list(counts.items())[:_SHOWN])
    more = f", and {len(counts) - _SHOWN} more classes" if len(counts) > _SHOWN else ""
    return "\n".join(
        [
            f"Learned {len(counts)} classes from {sum(counts.values())} {called} with {strategy} on {args.model}"
            + ", whose weights are random" * random,
            f"Classes, with their {called}: {listed}{more}",
            *accuracy_in_words(predictor.held_out_accuracy_, called, sum(counts.values())),
            *(in_words(sure) if args.verbose else in_plain_words(sure, strangers, called)),
            *["More: --verbose, and docs/predictor.md"] * (not args.verbose),
            *[f"This strategy classifies all {called} of a call together"] * predictor.transductive,
        ]
    )
