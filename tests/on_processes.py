"""What tests/test_distributed.py runs on several processes: torchrun starts this file on each."""

from __future__ import annotations

import logging
import math
import os
import sys
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback
from torch import Tensor, nn

import little_sequences
from little_sequences import FORMS
from quickstudy import DataModule, Trainer
from quickstudy.algorithms import available_strategies
from quickstudy.batches import Batch
from quickstudy.data.table import Table
from quickstudy.image import (
    ImageClassificationData,
    ImageClassifier,
    ImageEmbedder,
    ImageEmbeddingData,
    ObjectDetectionData,
    ObjectDetector,
    SemanticSegmentation,
    SemanticSegmentationData,
)
from quickstudy.pointcloud import (
    PointCloudObjectDetectionData,
    PointCloudObjectDetector,
    PointCloudSegmentation,
    PointCloudSegmentationData,
)
from quickstudy.pointcloud.nets import PointNet
from quickstudy.selfsupervised import METHODS
from quickstudy.testing.made_up import Bag, Messages
from quickstudy.text import Translation, TranslationData
from quickstudy.training.task import Classifier, Task

QUIET: dict[str, Any] = dict.fromkeys(
    ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
)
PLAN = {"ways": 3, "shots": 1, "queries": 2, "meta_batch_size": 4, "epoch_length": 16, "test_epoch_length": 8}
STEPS = 8
"""Two epochs of episodes; of ordinary training it takes another, until "gradual" has unfrozen all."""
MISSION = ("maml", "anil", "metaoptnet", "prototypicalnetworks")
JOBS: list[tuple[str, Any, dict[str, Any]]] = [
    *((name, "64-true", {}) for name in available_strategies()),
    *((name, precision, {}) for name in (*MISSION, "default") for precision in ("32-true", "bf16-mixed")),
    ("maml", "64-true", {"task_chunk": 2}),
    ("prototypicalnetworks", "64-true", {"workers": 2}),
    ("anil", "64-true", {"finetuning": ("freeze_unfreeze", 1)}),
    ("anil", "64-true", {"interrupted": True}),
    ("default", "64-true", {"finetuning": ("gradual", 1)}),
    *((name, "64-true", {"optimizer": "Adam"}) for name in ("prototypicalnetworks", "maml", "default")),
    *((name, "64-true", {}) for name in METHODS.names()),
    *((name, "64-true", {"form": form}) for form in ("tokens", "graphs") for name in (*MISSION[::3], "default")),
    *(("default", "64-true", {"form": form}) for form in ("parts", "boxes", "objects", "pixels", *FORMS)),
    ("default", "32-true", {"form": "written"}),  # T5 norms in float32
]


def wobbled(pixels: Tensor) -> Tensor:
    return torch.roll(pixels, tuple(torch.randint(-2, 3, (2,)).tolist()), (1, 2))


def patterns(classes: int, each: int, first: int) -> tuple[Tensor, list[str]]:
    generator = torch.Generator().manual_seed(first)
    images = torch.rand(classes, 1, 16, 16, generator=generator).repeat_interleave(each, 0)
    images = images + 0.3 * torch.randn(images.shape, generator=generator)
    return (images.clamp(0, 1) * 255).to(torch.uint8), [
        f"{first + code}" for code in range(classes) for _ in range(each)
    ]


def data(batch_size: int, workers: int = 0) -> ImageClassificationData:
    return ImageClassificationData.from_tensors(
        *patterns(8, 6, 0), *patterns(4, 6, 100), *patterns(5, 6, 200), batch_size=batch_size, num_workers=workers
    )


def labelled(batch_size: int) -> ImageClassificationData:
    """41 examples: with 12 in a step, 5 are left for the last, of which processes have different numbers."""
    images, labels = patterns(6, 7, 0)
    return ImageClassificationData.from_tensors(
        images[:-1], labels[:-1], test_data=images, test_targets=labels, batch_size=batch_size
    )


def tokens(item: tuple[int, int]) -> Batch:
    """Return a text of 2 to 11 words, of which each class likes some best."""
    generator = torch.Generator().manual_seed(100 * item[0] + item[1])
    count = int(torch.randint(2, 12, (), generator=generator))
    ids = (torch.randint(6, (count,), generator=generator) + 3 * item[0]) % 18
    return {"ids": ids, "mask": torch.ones(count, dtype=torch.bool)}


def graphs(item: tuple[int, int]) -> Batch:
    """Return a ring of 3 to 9 nodes around the features of its class."""
    generator = torch.Generator().manual_seed(100 * item[0] + item[1])
    count = torch.randint(3, 10, (), generator=generator)
    node = torch.arange(int(count))
    x = torch.randn(len(node), 4, generator=generator) + torch.tensor([math.sin(item[0] * by) for by in (1, 2, 3, 5)])
    return {"x": x, "nodes": count, "edges": torch.stack([node, (node + 1) % count], 1), "edge_count": count}


class Texts(DataModule):
    load = staticmethod(tokens)


class Graphs(DataModule):
    load = staticmethod(graphs)


def ragged(form: str, default: bool, batch_size: int) -> DataModule:
    """Inputs of different sizes, whose padding differs from process to process; as many as the pictures are."""

    def table(first: int, classes: int, each: int, without: int = 0) -> Table:
        items = [(code, row) for code in range(first, first + classes) for row in range(each)]
        items = items[: len(items) - without]
        return Table.build(items, [f"{code}" for code, _ in items])

    kind: type[DataModule] = Texts if form == "tokens" else Graphs
    if default:
        return kind(train=table(0, 6, 7, 1), test=table(0, 6, 7), batch_size=batch_size)
    return kind(train=table(0, 8, 6), val=table(100, 4, 6), test=table(200, 5, 6), batch_size=batch_size)


def scenes(form: str, batch_size: int) -> DataModule:
    """Clouds of different numbers of points, of which some processes see more; their parts, or boxes, some without."""
    generator, clouds, parts, boxes = np.random.default_rng(0), [], [], list[Any]()
    for number in range(41):
        count = 12 + number % 9
        clouds.append(generator.uniform(0, 4, (count, 3)))
        parts.append((clouds[-1][:, 2] > 2).astype(np.int64))
        rows = [[*cloud, 1 + number % 2, 1, 1, 0.3] for cloud in clouds[-1][: number % 3]]
        boxes.append({"boxes": rows, "labels": ["block"] * len(rows)})
    kind, targets = (PointCloudSegmentationData, parts) if form == "parts" else (PointCloudObjectDetectionData, boxes)
    given: DataModule = kind.from_arrays(
        train_arrays=clouds, train_targets=targets, test_arrays=clouds, test_targets=targets, batch_size=batch_size
    )
    return given


def written(batch_size: int) -> DataModule:
    """Texts and targets of different lengths, of which some processes see longer ones."""
    texts = [f"{'ab' * (1 + number % 4)}{number}" for number in range(41)]
    targets = [text[::-1] * (1 + number % 3) for number, text in enumerate(texts)]
    return TranslationData.from_lists(texts, targets, None, None, texts, targets, None, batch_size=batch_size)


class Maps(nn.Module):
    """Feature maps of strides 2 to 32, of a layer each."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (3, 4, 4, 4, 4, 4)
        self.steps = nn.ModuleList(
            nn.Sequential(nn.Conv2d(one, other, 2, 2), nn.BatchNorm2d(other)) for one, other in pairwise(sizes)
        )

    def forward(self, pixels: Tensor) -> list[Tensor]:
        found = []
        for step in self.steps:
            pixels = step(pixels).tanh()
            found.append(pixels)
        return found


def places(form: str, batch_size: int) -> DataModule:
    """Pictures of different shapes; the class of each of their pixels, or boxes, some without."""
    generator, pictures, masks, objects = np.random.default_rng(0), [], [], list[Any]()
    for number in range(41):
        shape = 24 + number % 9, 32
        masks.append((generator.random(shape) < 0.3).astype(np.uint8))
        pictures.append(generator.integers(0, 255, (*shape, 3), np.uint8))
        rows = [[4 * place, 5, 4 * place + 10 + number % 5, 20] for place in range(number % 3)]
        objects.append({"boxes": np.array(rows).reshape(-1, 4), "labels": ["block"] * len(rows)})
    kind, targets = (SemanticSegmentationData, masks) if form == "pixels" else (ObjectDetectionData, objects)
    given: DataModule = kind.from_images(
        train_images=pictures,
        train_targets=targets,
        test_images=pictures,
        test_targets=targets,
        batch_size=batch_size,
        image_size=32,
    )
    return given


def backbone(form: str = "pictures") -> nn.Module:
    if form != "pictures":
        return Bag(norm=True) if form == "tokens" else Messages(norm=True)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Tanh(), nn.AdaptiveAvgPool2d(4), nn.Flatten()
    )


def plain(outcome: Any) -> dict[str, Any]:
    """Return what a test saw of each episode or example, as lists."""
    arrays = {} if outcome is None else vars(outcome)
    plainly = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in arrays.items()}
    return {name: tuple(value) if isinstance(value, tuple) else value for name, value in plainly.items()}


class SaveSixth(Callback):
    """Saves a checkpoint after the sixth step, within the second epoch."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        if trainer.global_step == 6:
            trainer.save_checkpoint(self._path)


def trained(
    strategy: str, precision: Any, world: int, folder: Path, launcher: str = "ddp", **options: Any
) -> dict[str, Any]:
    """Return what a few steps lead to: every number of the model, and the test's figures.

    Where a run is interrupted, that on one process leaves a checkpoint, with which those on more go on.
    """
    torch.manual_seed(0)
    default = strategy == "default"
    options = dict(options)
    workers, finetuning = options.pop("workers", 0), options.pop("finetuning", "no_freeze")
    optimizer, form = options.pop("optimizer", "SGD"), options.pop("form", "pictures")
    steps = STEPS + STEPS // 2 if default else STEPS
    sixth = folder / "sixth.ckpt" if options.pop("interrupted", False) else None
    model: Task
    if strategy in METHODS:
        model = ImageEmbedder(
            backbone(),
            learning_rate=1e-2,
            optimizer=optimizer,
            training_strategy=strategy,
            training_strategy_kwargs={"projection": (8, 6)},
        )
    elif form in FORMS:
        model = little_sequences.task(form, learning_rate=1e-2, optimizer=optimizer)
    elif form in ("parts", "boxes"):
        known: dict[str, Any] = {"learning_rate": 1e-2, "optimizer": optimizer, "backbone": PointNet(widths=(6, 6))}
        model = (
            PointCloudSegmentation(num_classes=2, **known)
            if form == "parts"
            else PointCloudObjectDetector(cell=1.0, width=4, **known)
        )
    elif form == "written":
        sizes = {"width": 8, "heads": 2, "inner_width": 8, "layers": 1, "dropout": 0.0}
        model = Translation(learning_rate=1e-2, optimizer=optimizer, backbone_kwargs=sizes)
    elif form in ("objects", "pixels"):
        of_maps: dict[str, Any] = {"learning_rate": 1e-2, "optimizer": optimizer, "backbone": Maps(), "width": 16}
        model = (
            SemanticSegmentation(num_classes=2, dice=1.0, **of_maps)
            if form == "pixels"
            else ObjectDetector(class_names=["block"], **of_maps)
        )
    else:
        model = (ImageClassifier if form == "pictures" else Classifier)(
            num_classes=6 if default else None,
            backbone=backbone(form),
            learning_rate=1e-2,
            optimizer=optimizer,
            training_strategy=strategy,
            training_strategy_kwargs=None if default else {**PLAN, **options},
        )
    local = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    across = {"strategy": launcher, "devices": local, "num_nodes": world // local} if world > 1 else {"devices": 1}
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        max_epochs=steps,
        precision=precision,
        num_sanity_val_steps=0,
        callbacks=[SaveSixth(sixth)] if sixth and world == 1 else [],
        **across,
        **QUIET,
    )
    given: DataModule
    if strategy in METHODS:
        pictures, labels = patterns(6, 7, 0)
        given = ImageEmbeddingData.from_tensors(
            pictures[:-1], test_data=pictures, test_targets=labels, batch_size=12 // world, transform=wobbled
        )
    elif form in FORMS:
        given = little_sequences.data(form, 41, 12 // world)
    elif form in ("parts", "boxes"):
        given = scenes(form, 12 // world)
    elif form in ("objects", "pixels"):
        given = places(form, 12 // world)
    elif form == "written":
        given = written(12 // world)
    elif form != "pictures":
        given = ragged(form, default, 12 // world if default else 4)
    else:
        given = labelled(12 // world) if default else data(4, workers)
    ckpt_path = str(sixth) if sixth and world > 1 else None
    trainer.finetune(model, given, strategy=finetuning, train_bn=finetuning == "no_freeze", ckpt_path=ckpt_path)
    assert trainer.global_step == steps or launcher in ("ddp_spawn", "ddp_notebook")  # whose steps were elsewhere
    (figures,) = trainer.test(model, datamodule=given, verbose=False)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    return {"weights": weights, "figures": figures, "outcome": plain(model.outcome)}


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    folder, launcher, only = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    if launcher in ("ddp_spawn", "ddp_notebook"):
        rank, world = 0, 2
    else:
        names = ("SLURM_PROCID", "SLURM_NTASKS") if launcher == "slurm" else ("RANK", "WORLD_SIZE")
        rank, world = (int(os.environ.get(name, default)) for name, default in zip(names, ("0", "1"), strict=True))
    jobs = [job for job in JOBS if not only or repr(job) in only]
    strategy = launcher.replace("slurm", "ddp")
    results = {repr(job): trained(job[0], job[1], world, folder, strategy, **job[2]) for job in jobs}
    torch.save(results, folder / f"{launcher}-{world}-{rank}.pt")


if __name__ == "__main__":
    main()
