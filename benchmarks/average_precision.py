"""How long the average precision of many pictures takes, beside faster-coco-eval's own time for the same objects.

Shapes: N pictures, K objects found in each, C classes.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.functional.intervals import mean_interval
from quickstudy.kinds.detection import Detection

PICTURES, FOUND, CLASSES, BATCH = 5000, 20, 20, 50
_ROUNDS = 3


def made(seed: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return what was found in pictures and what there is: about seven objects each, most found, and false alarms."""
    generator = np.random.default_rng(seed)
    counts = generator.integers(1, 14, PICTURES)
    most = int(counts.max())
    corners = generator.uniform(0, 500, (PICTURES, most, 2))
    boxes = np.concatenate([corners, corners + generator.uniform(10, 140, (PICTURES, most, 2))], 2)
    labels = generator.integers(0, CLASSES, (PICTURES, most))
    mask = np.arange(most) < counts[:, None]
    chosen = generator.integers(0, counts[:, None], (PICTURES, FOUND))
    rows = np.arange(PICTURES)[:, None]
    found = boxes[rows, chosen] + generator.normal(0, 6, (PICTURES, FOUND, 4))
    found[..., 2:] = np.maximum(found[..., 2:], found[..., :2] + 1)
    right = generator.random((PICTURES, FOUND)) < 0.8
    codes = np.where(right, labels[rows, chosen], generator.integers(0, CLASSES, (PICTURES, FOUND)))
    scores = generator.uniform(0.05, 1, (PICTURES, FOUND))
    outputs = {"boxes": found, "scores": scores, "labels": codes}
    targets = {"boxes": boxes, "labels": labels, "mask": mask}
    return (
        {name: torch.from_numpy(leaf) for name, leaf in outputs.items()},
        {name: torch.from_numpy(leaf) for name, leaf in targets.items()},
    )


def _sized(boxes: NDArray[Any]) -> NDArray[Any]:
    """Return boxes of two corners as a corner, width and height."""
    return np.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], -1)


def theirs(outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> Callable[[], float]:
    """Return what evaluates objects that faster-coco-eval has read already; only that is timed."""
    boxes, found = (_sized(part["boxes"].numpy()) for part in (targets, outputs))
    there = [
        {"image_id": row, "category_id": int(targets["labels"][row, place]), "bbox": boxes[row, place].tolist()}
        for row, place in targets["mask"].nonzero().tolist()
    ]
    for number, one in enumerate(there, 1):
        one |= {"id": number, "area": one["bbox"][2] * one["bbox"][3], "iscrowd": 0}
    told = [
        {
            "image_id": row,
            "category_id": int(outputs["labels"][row, place]),
            "bbox": found[row, place].tolist(),
            "score": float(outputs["scores"][row, place]),
        }
        for row in range(PICTURES)
        for place in range(FOUND)
    ]
    images = [{"id": row, "width": 640, "height": 640} for row in range(PICTURES)]
    categories = [{"id": code, "name": str(code)} for code in range(CLASSES)]
    whole = COCO({"images": images, "annotations": there, "categories": categories})
    read = whole.loadRes(told)

    def evaluated() -> float:
        with contextlib.redirect_stdout(io.StringIO()):
            judge = COCOeval_faster(whole, read, "bbox")
            judge.evaluate()
            judge.accumulate()
            judge.summarize()
        return float(judge.stats[0])

    return evaluated


def ours(kind: Detection, outputs: dict[str, Tensor], targets: dict[str, Tensor], intervals: bool) -> float:
    """Return the average precision of objects found, as a test gathers it, batch by batch."""
    measure, figures = kind.measure(True), []
    for first in range(0, PICTURES, BATCH):
        own = slice(first, first + BATCH)
        batch = ({name: leaf[own] for name, leaf in part.items()} for part in (outputs, targets))
        figures.append(kind.figures(*batch))
        measure.update(figures[-1])
    if intervals:
        return measure.estimates()["map"].mean
    return kind.precisions(torch.cat(figures).numpy())["map"]


def measured() -> dict[str, Any]:
    """Return times in turns, of other objects each round, their ratios, and how far the average precisions differ."""
    names = tuple(map(str, range(CLASSES)))
    kind = Detection(classes=names, ids=names, codes=tuple(range(CLASSES)), most=FOUND)
    kind.measure(True)  # which imports torchmetrics
    times: dict[str, list[float]] = {"faster-coco-eval": [], "quickstudy": [], "quickstudy with intervals": []}
    values: dict[str, list[float]] = {name: [] for name in times}
    for seed in range(_ROUNDS):
        both = made(seed)
        runs = theirs(*both), partial(ours, kind, *both, False), partial(ours, kind, *both, True)
        for name, run in zip(times, runs, strict=True):
            began = time.process_time()
            values[name].append(run())
            times[name].append(time.process_time() - began)
    backend, *own = times
    found: dict[str, Any] = {"pictures": PICTURES, "classes": CLASSES, "found in each": FOUND}
    found["map"] = round(values[backend][0], 6)
    found["largest difference of map"] = max(
        abs(one - other) for name in own for one, other in zip(values[name], values[backend], strict=True)
    )
    found["cpu_seconds"] = {name: round(float(np.median(each)), 2) for name, each in times.items()}
    for name in own:
        ratios = [one / other for one, other in zip(times[name], times[backend], strict=True)]
        middle, half = mean_interval(torch.tensor(ratios))
        found[f"time of {name} / {backend}"] = {"mean": round(float(middle), 3), "ci95": round(float(half), 3)}
    return found
