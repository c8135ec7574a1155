"""Parts of furniture and boxes in rooms: what a point is of, and what stands where, on data that is made here.

python benchmarks/parts.py --root .
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from domains import main
from embeddings import QUIET
from sklearn.neighbors import NearestNeighbors

from quickstudy import Trainer
from quickstudy.datasets import furniture as made
from quickstudy.datasets.furniture import PARTS, furniture, rooms
from quickstudy.kinds.segmentation import Segmentation
from quickstudy.ladder.examples import memory
from quickstudy.pointcloud import (
    Cloud,
    PointCloudObjectDetectionData,
    PointCloudObjectDetector,
    PointCloudSegmentation,
    PointCloudSegmentationData,
)

BATCH = 16


def rounded(figures: dict[str, Any], began: float) -> dict[str, float]:
    """Return shares in percent, with the seconds of a processor since it began."""
    told = {name.removeprefix("test_"): round(100 * float(value), 2) for name, value in figures.items()}
    told = {name: value for name, value in told.items() if name not in ("loss", "examples")}
    return {**told, "cpu_seconds": round(time.process_time() - began, 1)}


def schedule(epochs: int, examples: int, batch: int) -> dict[str, Any]:
    """Return the options of a learning rate that rises and falls once."""
    steps = epochs * -(-examples // batch)
    return {"lr_scheduler": ("OneCycleLR", {"max_lr": 5e-3, "total_steps": steps, "interval": "step"})}


def overlap(logits: list[Any], truth: list[Any]) -> dict[str, float]:
    """Return the mean intersection over union of what is said of each point, ``[P, C]`` of each cloud."""
    kind = Segmentation(classes=PARTS, ids=tuple(range(len(PARTS))))
    measure = kind.measure(True)
    for said, wanted in zip(logits, truth, strict=True):
        mask = torch.ones(1, len(wanted), dtype=torch.bool)
        outputs = {"logits": torch.as_tensor(said).float()[None], "mask": mask}
        measure.update(kind.figures(outputs, {"labels": torch.from_numpy(wanted)[None], "mask": mask}))
    found = measure.estimates()["mean_iou"]
    return {"mean_iou": found.mean, "mean_iou_ci95": found.ci95}


def nearest(train: list[Any], labels: list[Any], test: list[Any], truth: list[Any]) -> dict[str, float]:
    """Return the same figures of who gives each point the label of the nearest one of all training clouds."""
    began, read = time.process_time(), Cloud(points=None)
    known = NearestNeighbors(n_neighbors=1).fit(np.concatenate([read.load(each)["points"].numpy() for each in train]))
    told = np.concatenate(labels)
    answers = [told[known.kneighbors(read.load(cloud)["points"].numpy())[1][:, 0]] for cloud in test]
    return rounded(overlap([np.eye(len(PARTS))[one] for one in answers], truth), began)


def knowing(root: Path) -> dict[str, Any]:
    """Tell the likeliest part of each point of the same 80 pieces by the solids they were made of: what noise costs.

    A part is as likely as it has many points on little surface, and as it is near, by the deviation of the noise.
    """
    began, (test, truth) = time.process_time(), furniture(80, seed=1, turned=False)
    logits = []
    for number, cloud in enumerate(test):
        solids = made._MADE[number % len(made._MADE)](np.random.default_rng([1, number]))
        likely = np.zeros((len(cloud), len(PARTS)))
        for solid in solids:
            off, (one, other, high) = np.abs(cloud - np.array(solid.middle)), solid.half
            half = np.array(solid.half)
            if solid.round:
                off, half = np.stack([np.hypot(off[:, 0], off[:, 1]), off[:, 2]], 1), half[1:]
            beyond = off - half
            away = np.linalg.norm(beyond.clip(min=0), axis=1) + beyond.max(1).clip(max=0)
            area = one * other + other * high + one * high
            surface = 2 * np.pi * one * (one + 2 * high) if solid.round else 8 * area
            likely[:, PARTS.index(solid.part)] += area**0.5 / surface * np.exp(-((away / made._NOISE) ** 2) / 2)
        logits.append(likely)
    return rounded(overlap(logits, truth), began)


def parts(root: Path) -> dict[str, Any]:
    """Tell the part that each point of a piece is of: 480 pieces to learn from, 80 others."""
    (train, labels), (test, truth) = furniture(480, turned=False), furniture(80, seed=1, turned=False)
    data = PointCloudSegmentationData.from_arrays(
        train_arrays=train, train_targets=labels, test_arrays=test, test_targets=truth, batch_size=BATCH
    )
    began, epochs = time.process_time(), 20
    torch.manual_seed(0)
    model = PointCloudSegmentation(class_names=PARTS, backbone="pointnet", **schedule(epochs, len(train), BATCH))
    Trainer(**{**QUIET, "max_epochs": epochs}).fit(model, datamodule=data)
    (figures,) = Trainer(**QUIET).test(model, datamodule=data, verbose=False)
    return {"pointnet": rounded(figures, began), "nearest point": nearest(train, labels, test, truth)}


def scene(root: Path) -> dict[str, Any]:
    """Answer each point of scenes of a fifth of a million points, and of a million, in tiles of 8 metres."""
    generator, found = np.random.default_rng(0), dict[str, Any]()

    def ground(count: int, side: float) -> tuple[Any, Any]:
        xyz = generator.uniform(0, [side, side, 3], (count, 3)).astype(np.float32)
        xyz[::2, 2] = 0
        return xyz, (xyz[:, 2] > 0).astype(np.int64)

    clouds, labels = zip(*(ground(4000, 8) for _ in range(4)), strict=True)
    data = PointCloudSegmentationData.from_arrays(
        train_arrays=list(clouds), train_targets=list(labels), tile=8.0, normalize=False, batch_size=1
    )
    model = PointCloudSegmentation(backbone="pointnet", class_names=("ground", "thing"), learning_rate=1e-3)
    Trainer(**{**QUIET, "max_epochs": 1}).fit(model, datamodule=data)
    predictor = model.predictor()
    for count in (200_000, 1_000_000):
        xyz, _ = ground(count, 120 * (count / 1e6) ** 0.5)
        before, began = memory(), time.process_time()
        answers = predictor.predict([xyz])
        took, more = time.process_time() - began, memory() - before
        found[f"{len(answers[0]):,} points"] = {"cpu_seconds": round(took, 1), "megabytes_more": round(more)}
    return found


def boxes(root: Path) -> dict[str, Any]:
    """Find pieces in rooms: 160 rooms to learn from, 60 others; and where boxes of one usual size stood at random."""
    (train, wanted), (test, truth) = rooms(160), rooms(60, seed=1)
    data = PointCloudObjectDetectionData.from_arrays(
        train_arrays=train, train_targets=wanted, test_arrays=test, test_targets=truth, batch_size=8
    )
    began, epochs = time.process_time(), 20
    torch.manual_seed(0)
    options = schedule(epochs, len(train), 8)
    model = PointCloudObjectDetector(backbone="pointnet", backbone_kwargs={"widths": (32, 32)}, **options)
    Trainer(**{**QUIET, "max_epochs": epochs}).fit(model, datamodule=data)
    (figures,) = Trainer(**QUIET).test(model, datamodule=data, verbose=False)
    return {"pillars": rounded(figures, began), "usual boxes anywhere": anywhere(model, wanted, truth)}


def anywhere(model: PointCloudObjectDetector, known: list[Any], truth: list[Any]) -> dict[str, float]:
    """Return the figures of boxes of each class's mean size at places drawn at random, as many as are found at most."""
    kind, generator = model.kind, np.random.default_rng(0)
    every = np.concatenate([each["boxes"] for each in known])
    codes = np.array([kind.classes.index(name) for each in known for name in each["labels"]])
    usual = np.stack([every[codes == code].mean(0) for code in range(kind.choices)])
    measure = kind.measure(True)
    for each in truth:
        labels = generator.integers(kind.choices, size=kind.most)
        found = usual[labels].copy()
        found[:, :2] = generator.uniform(every[:, :2].min(0), every[:, :2].max(0), (kind.most, 2))
        outputs = {"boxes": found, "scores": generator.uniform(0.1, 1, kind.most), "labels": labels}
        own = np.array([kind.classes.index(name) for name in each["labels"]], np.int64)
        target = {"boxes": each["boxes"], "labels": own, "mask": np.ones(len(own), np.bool_)}
        measure.update(
            kind.figures(
                *({name: torch.from_numpy(part)[None] for name, part in one.items()} for one in (outputs, target))
            )
        )
    told = measure.estimates()
    return {name: round(100 * told[name].mean, 2) for name in ("map_25", "map_50")}


if __name__ == "__main__":
    main("parts", __doc__, {"parts": parts, "knowing": knowing, "scene": scene, "boxes": boxes})
