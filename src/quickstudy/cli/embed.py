"""Write what a model's encoder makes of inputs, find the nearest of them, and draw them."""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import nn

from quickstudy.cli.bar import bar
from quickstudy.cli.models import Found, device_of, domain_of_files, load_task, named_model
from quickstudy.cli.named_pictures import source_of
from quickstudy.data.frames import file_columns, is_table
from quickstudy.data.places import Files
from quickstudy.data.readable import readable
from quickstudy.data.samples import file_of
from quickstudy.data.table import Inputs, Table
from quickstudy.embedded import Embedded, form_of, nearest, picture, read, write
from quickstudy.errors import ConfigError, DataError, check_counts
from quickstudy.files import atomic_write
from quickstudy.kinds.embedding import Embedding
from quickstudy.learning.reading import telling
from quickstudy.modality import Modality
from quickstudy.model import saved_model
from quickstudy.nets import build_encoder
from quickstudy.predictor import usual_inputs
from quickstudy.runs.answers import storable
from quickstudy.trained import TrainedModel


def run(args: argparse.Namespace) -> int:
    """Embed, and do what is asked with it."""
    if not (args.output or args.picture or args.near):
        raise ConfigError(
            "say what to do with the embeddings: --output FILE.parquet, --picture FILE.png or --near FILE"
        )
    check_counts(count=args.count)
    if args.output:
        form_of(args.output)
    others = read(args.near) if args.near else None
    model = _model(args, device_of(args))
    embedded, lost = _embedded(model, args.inputs)
    if args.output:
        write(args.output, embedded)
        count, width = embedded.embeddings.shape
        print(f"{count:,} embeddings of {width} features, written to {args.output}", file=sys.stderr)
    if args.picture:
        drawn = picture(embedded.embeddings, embedded.labels, args.method)
        with atomic_write(args.picture) as file:
            file.write(drawn)
        print(f"drawn in {args.picture}", file=sys.stderr)
    if others is not None:
        _print_nearest(embedded, others, args.count)
    return 1 if lost else 0


def _model(args: argparse.Namespace, device: torch.device) -> Any:
    """Return a model that embeds: a saved one, that of a run or a checkpoint, or a backbone as it is."""
    found: Found | None = named_model(args.model)
    if found is not None and not found.saved:
        return load_task(found.path, device).as_embedder(args.layer)
    if found is not None:
        if args.layer is not None:
            raise ConfigError(
                f"--layer is of a run, a checkpoint or a backbone's name, and '{args.model}' is none: leave it out"
            )
        return saved_model(found.path, device)
    options = {} if args.layer is None else {"layer": args.layer}
    encoder = build_encoder(args.model, options, domain=domain_of_files(args.inputs)).to(device).requires_grad_(False)
    modality = usual_inputs(encoder)
    if modality.learned and not encoder.trained:
        raise ConfigError(f"'{args.model}' starts from nothing, so that its embeddings tell nothing: train it first")
    return TrainedModel(encoder, nn.Identity(), Embedding(), modality)


def _embedded(model: Any, typed: str) -> tuple[Embedded, int]:
    """Return the embeddings of all inputs that can be read, and how many cannot."""
    inputs, labels = _inputs(typed, model.modality)
    lost = 0
    try:
        features = _shown(model, inputs)
    except DataError:
        table = Table(inputs)
        kept, why = readable(table, model.modality, model.modality.called)
        if not why:
            raise
        lost = len(why)
        names = [name in why for name in _names(inputs, quoted=True)]
        labels = labels and [label for label, gone in zip(labels, names, strict=True) if not gone]
        inputs = kept.inputs
        features = _shown(model, inputs)
    return Embedded([storable(name) for name in _names(inputs)], features, labels), lost


def _shown(model: Any, inputs: Inputs) -> Any:
    with bar("embedding", len(inputs)) as advance, telling(advance):
        return model.embed(inputs)


def _inputs(typed: str, modality: Modality) -> tuple[Inputs, list[str] | None]:
    """Return inputs, and the classes that their folders, or a further column, give them."""
    inputs, _ = source_of(typed, None, modality)
    if isinstance(inputs, Files):
        folders = [PurePosixPath(name).parent.name for name in inputs.names.tolist()]
        return inputs, folders if any(folders) else None
    path = Path(typed).expanduser()
    if not is_table(path):
        return inputs, None
    columns = file_columns(path, None)
    known = list(columns)[:1] if modality.column_names is None else modality.column_names
    further = [name for name in columns if name not in known]
    return inputs, [str(cell) for cell in columns[further[0]]] if len(further) == 1 else None


def _names(inputs: Inputs, quoted: bool = False) -> list[str]:
    """Return what inputs are called: files, texts, or their numbers; or as messages have it."""
    found = []
    for row in range(len(inputs)):
        file = file_of(inputs, row)
        found.append(f"input {row}" if file is None else f"'{file}'" if quoted else file)
    return found


def _print_nearest(embedded: Embedded, others: Embedded, count: int) -> None:
    rows, near = nearest(embedded.embeddings, others.embeddings, count)
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(["file", "rank", "nearest", *(["label"] if others.labels else []), "cosine"])
    for name, own, values in zip(embedded.names, rows.tolist(), near.tolist(), strict=True):
        for rank, (row, value) in enumerate(zip(own, values, strict=True), 1):
            label = [others.labels[row]] if others.labels else []
            out.writerow([name, rank, others.names[row], *label, f"{value:.4f}"])
