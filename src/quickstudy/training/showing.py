"""What a network is fed with, as a picture."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from quickstudy.batches import Batch, each, form_of, size, take
from quickstudy.data.loading import EpisodeSteps, Share, inputs_of
from quickstudy.data.samples import seeded
from quickstudy.data.stages import STAGES, StageName
from quickstudy.episode import Episode
from quickstudy.errors import check_choice, check_counts
from quickstudy.functional.characters import text_of
from quickstudy.modality import Modality
from quickstudy.modality.sheets import Cell, Section, sheet_of, shown_of

if TYPE_CHECKING:
    from quickstudy.training.datamodule import DataModule
    from quickstudy.training.task import Task


def batch_picture(
    data: DataModule,
    stage: StageName,
    model: Task | None = None,
    path: str | os.PathLike[str] | None = None,
    most: int = 32,
) -> Any:
    """Draw the first batch, or episode, of a stage; see ``DataModule.show_batch``."""
    check_choice("stage", stage, *STAGES)
    check_counts(most=most)
    if stage == "predict" or model is None:
        loader = data.batch_loader(stage)
    else:
        trains, by_class = not model.load_options, model.procedure.by_class
        data.read_as(model.load_options, trains=trains, by_class=by_class, trained=model.has_learned)
        loader = model.procedure.loader(data, stage, Share(), None)
    batch = next(iter(loader))
    if isinstance(batch, Episode):
        sections = _of_episode(data, loader.sampler, batch, stage, most)
    else:
        sections = _of_batch(data, batch, stage, model, most)
    picture = sheet_of(sections)
    if path is not None:
        picture.save(path, "PNG")
    return picture


def _of_batch(data: DataModule, batch: Any, stage: StageName, model: Any, most: int) -> list[Section]:
    views = batch.get("views") if isinstance(batch, dict) else None
    inputs = take(views, (slice(None), 0)) if views is not None and "input" not in batch else inputs_of(batch)
    targets = batch.get("target") if isinstance(batch, dict) and "views" in batch else _targets_of(batch)
    name = _names(data.classes)
    if views is None and isinstance(targets, dict) and "characters" in targets:  # texts that are to be written
        targets, name = targets["characters"], text_of
    elif views is None and isinstance(batch, dict) and isinstance(inputs, dict):  # targets as large as inputs
        inputs, targets = _labelled(inputs, targets), None
    if targets is not None and stage == "train" and getattr(model, "mix", None) is not None:
        with seeded((0,)):
            floats = inputs / 255 if not inputs.is_floating_point() else inputs
            one_hot = model.kind.recalled({"classes": data.classes}).mixable(targets)
            inputs, targets = model.mix(floats, one_hot)
        name = _shares(data.classes)
    count = size(inputs)
    rows = range(min(count, most))
    told = [name(targets[row]) if targets is not None else "" for row in rows]
    sections = [_section(f"{stage}: {len(rows)} of a batch of {count}", data.modality, inputs, told)]
    if views is not None:
        for view in range(min(views_of(views), 4)):
            some = take(views, (slice(None), view))
            sections.append(_section(f"drawn, {view + 1} of {views_of(views)}", data.modality, some, told))
    return sections


def _of_episode(data: DataModule, steps: Any, episode: Episode, stage: StageName, most: int) -> list[Section]:
    codes: Any = None
    if isinstance(steps, EpisodeSteps):
        codes = steps.named(0)[1][0]
    names = [steps.classes[code] for code in codes] if codes is not None else []
    sections = []
    for part, inputs, targets in (
        ("support, to learn from", episode.support, episode.support_targets),
        ("query, to be asked", episode.query, episode.query_targets),
    ):
        count = targets.shape[1]
        rows = np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()  # of each class some
        told = [_names(names)(targets[0, row]) for row in rows]
        title = f"{stage}, an episode of {len(names) or 1} classes: {len(rows)} of {count}, {part}"
        sections.append(_section(title, data.modality, take(take(inputs, 0), rows), told))
    return sections


def views_of(views: Batch) -> int:
    """Return how many views of each example there are in ``[B, V, ...]``."""
    return size(take(views, 0))


def _labelled(inputs: Batch, targets: Any) -> Batch:
    """Return inputs with the labels of their elements, by which they are coloured; -1 for those of no class.

    Where there are boxes, with all that is told of these, ``objects``.
    """
    if isinstance(targets, dict) and "boxes" in targets:
        return {**inputs, "boxes": targets["boxes"], "objects": targets}
    labels = targets["labels"].masked_fill(~targets["mask"], -1) if isinstance(targets, dict) else targets
    return {**inputs, "labels": labels}


def _targets_of(batch: Any) -> Any:
    if isinstance(batch, dict) and "target" in batch:
        return batch["target"]
    return batch[1] if isinstance(batch, (tuple, list)) else None


def _names(classes: Sequence[str]) -> Callable[[Tensor], str]:
    def name(target: Tensor) -> str:
        if target.ndim:
            return ", ".join(classes[code] for code in target.nonzero().flatten().tolist()) or "none"
        return f"{float(target):.4g}" if target.is_floating_point() or not classes else classes[int(target)]

    return name


def _shares(classes: Sequence[str]) -> Callable[[Tensor], str]:
    def name(shares: Tensor) -> str:
        found = [(float(share), code) for code, share in enumerate(shares) if share > 0]
        return ", ".join(f"{classes[code]} {share:.0%}" for share, code in sorted(found, reverse=True))

    return name


def _section(title: str, modality: Modality, inputs: Batch, told: Sequence[str]) -> Section:
    examples = [take(each(Tensor.cpu, inputs), row) for row in range(len(told))]
    form = _form(inputs)
    return Section(
        f"{title} ({form})", [Cell(shown_of(modality, one), label) for one, label in zip(examples, told, strict=True)]
    )


def _form(inputs: Batch) -> str:
    form = form_of(inputs)
    parts = form.get("parts", {"": form})
    told = (
        f"{name} {part.get('dtype', '').removeprefix('torch.')} {part.get('shape', '')}".strip()
        for name, part in parts.items()
    )
    return ", ".join(told)
