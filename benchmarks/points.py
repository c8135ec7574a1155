"""What point clouds reach on public data, few-shot on classes of the Princeton Shape Benchmark that training never saw.

    python benchmarks/points.py --root data/points                   # all; or
    python benchmarks/points.py --root data/points --only princeton

In the folder: psb-points.npz (1,809 models, 1,024 points of each) and psb-class-split.json (80 classes to train on, 25
to judge by). Beside ours stands the histogram of distances between points (D2, Osada et al. 2002), which no weights
make.
"""

from __future__ import annotations

import copy
import json
import time
from pathlib import Path
from typing import Any

import domains
import numpy as np
import torch
from embeddings import QUIET
from torch import Tensor, nn

from quickstudy import Trainer
from quickstudy.batches import stack
from quickstudy.functional.intervals import mean_interval
from quickstudy.nets import build_encoder
from quickstudy.pointcloud import Cloud, PointCloudClassificationData, PointCloudClassifier
from quickstudy.pointcloud.nets import DistanceHistogram

PLAN: dict[str, Any] = {"ways": 15, "shots": 1, "queries": 5, "meta_batch_size": 1, "epoch_length": 100}
PLAN |= {"test_ways": 5, "test_queries": 5, "test_epoch_length": 600}
EPOCHS, DRAWN = 12, 512
FEWER = {"ways": 5, "shots": 1, "queries": 5, "meta_batch_size": 2, "epoch_length": 100}
"""Of the strategies that take longer."""
STEP_BATCH, STEP_SEEDS, STEP_EPOCHS = 32, 5, 3


def princeton_data(root: Path, **options: Any) -> PointCloudClassificationData:
    """Return 80 classes to train on, and 25 others."""
    with np.load(root / "psb-points.npz") as arrays:
        points, labels, names = arrays["points"].astype(np.float32), arrays["labels"], arrays["names"]
    split = json.loads((root / "psb-class-split.json").read_text())
    given: dict[str, Any] = {}
    for stage in ("train", "test"):
        rows = np.flatnonzero(np.isin(names[labels], split[stage]))
        given |= {f"{stage}_arrays": list(points[rows]), f"{stage}_targets": list(names[labels[rows]])}
    return PointCloudClassificationData.from_arrays(**given, **options)


def classifier(strategy: str, backbone: Any, plan: dict[str, Any], **options: Any) -> PointCloudClassifier:
    """Return a task that learns as all here do."""
    return PointCloudClassifier(
        backbone=backbone, training_strategy=strategy, training_strategy_kwargs=plan, optimizer="adam", **options
    )


def tested(strategy: str, backbone: Any, data: PointCloudClassificationData, **plan: Any) -> dict[str, Any]:
    """Return what a network reaches at one example of each class and at five."""
    found = {}
    for shots in (1, 5):
        model, began = classifier(strategy, backbone, {**PLAN, "test_shots": shots, **plan}), time.process_time()
        (figures,) = Trainer(**QUIET).test(model, datamodule=data, verbose=False)
        found[f"5-way {shots}-shot"] = domains.told(figures["test_accuracy"], figures["test_accuracy_ci95"], began)
    return found


def princeton(root: Path, backbone: str = "pointnet", epochs: int = EPOCHS) -> dict[str, Any]:
    """Train prototypical networks on 80 classes, and judge by 25 others."""
    data = princeton_data(root, drawn=DRAWN)
    torch.manual_seed(0)
    scheduler = ("CosineAnnealingLR", {"T_max": epochs})
    model = classifier("prototypicalnetworks", backbone, PLAN, learning_rate=2e-3, lr_scheduler=scheduler)
    untrained = tested("prototypicalnetworks", copy.deepcopy(model.encoder), data)
    trainer, began = Trainer(max_epochs=epochs, **QUIET), time.process_time()
    trainer.fit(model, datamodule=data)
    took = round(time.process_time() - began, 1)
    return {
        "training": {**PLAN, "backbone": backbone, "episodes": 100 * epochs, "points": DRAWN, "cpu_seconds": took},
        f"{backbone}, untrained": untrained,
        f"{backbone}, prototypicalnetworks": tested("prototypicalnetworks", model.encoder, data),
    }


def distances(root: Path) -> dict[str, Any]:
    """Judge what no weights make by the same 25 classes."""
    return {
        "D2 histogram, nearest_centroid": tested("nearest_centroid", DistanceHistogram(), princeton_data(root)),
    }


def princeton_dgcnn(root: Path) -> dict[str, Any]:
    """The same by DGCNN, which takes longer."""
    return princeton(root, "dgcnn", 3)


def princeton_pointnet2(root: Path) -> dict[str, Any]:
    """The same by PointNet++."""
    return princeton(root, "pointnet2", 6)


def other_strategies(root: Path) -> dict[str, Any]:
    """Train what learns by gradients within an episode, or by a solver, for a little, and compare with its start."""
    data, found = princeton_data(root, points=256), dict[str, Any]()
    own: dict[str, dict[str, Any]] = {"maml": {"head": "shared"}, "anil": {"head": "shared"}, "metaoptnet": {}}
    for strategy, options in own.items():
        plan = {**PLAN, **FEWER, **options, "test_epoch_length": 200}
        torch.manual_seed(0)
        model = classifier(strategy, "pointnet", plan, learning_rate=1e-3)
        trainer, figures = Trainer(max_epochs=1, **QUIET), []
        (before,) = trainer.test(model, datamodule=data, verbose=False)
        began = time.process_time()
        trainer.fit(model, datamodule=data)
        took = round(time.process_time() - began, 1)
        (after,) = trainer.test(model, datamodule=data, verbose=False)
        for one in (before, after):
            shares = {"accuracy": one["test_accuracy"], "ci95": one["test_accuracy_ci95"]}
            figures.append({name: round(100 * float(share), 2) for name, share in shares.items()})
        found[strategy] = {"5-way 1-shot, untrained": figures[0], "trained": figures[1], "training_cpu_seconds": took}
    return found


def second_derivatives(root: Path) -> dict[str, Any]:
    """Compare the derivative of a loss after a step of gradient descent with finite differences, in float64."""
    with np.load(root / "psb-points.npz") as arrays:
        some, cloud = arrays["points"][:10].astype(np.float64), Cloud(points=64, channels=0)
    batch = stack([cloud.load(one) for one in some])
    batch["points"] = batch["points"].double()
    found: dict[str, Any] = {}
    for name in ("pointnet", "pointnet2", "dgcnn"):
        torch.manual_seed(0)
        network = build_encoder(name, pretrained=False).backbone.double()
        weights = {key: value.detach() for key, value in network.named_parameters()}
        head = torch.randn(256, 2, dtype=torch.float64) / 16

        def loss(now: dict[str, Tensor], network: nn.Module = network, head: Tensor = head) -> Tensor:
            logits = torch.func.functional_call(network, now, (batch,)) @ head
            return nn.functional.cross_entropy(logits, torch.arange(10) % 2)

        def after(start: dict[str, Tensor], loss: Any = loss) -> Tensor:
            slopes = torch.func.grad(loss)(start)
            return loss({key: start[key] - 0.1 * slopes[key] for key in start})

        towards = {key: torch.randn_like(value) for key, value in weights.items()}
        length = torch.cat([value.flatten() for value in towards.values()]).norm()
        slopes = torch.func.grad(after)(weights)
        exact = float(sum((slopes[key] * towards[key]).sum() for key in weights) / length)
        step = 1e-6
        ends = [after({key: weights[key] + sign * step * towards[key] / length for key in weights}) for sign in (1, -1)]
        found[name] = {"derivative": exact, "by finite differences": float((ends[0] - ends[1]) / (2 * step))}
    return found


def step(root: Path) -> dict[str, Any]:
    """Time a step beside one in a loop of plain torch of the same network, in turns."""
    data = princeton_data(root, points=DRAWN, batch_size=STEP_BATCH)
    parts = list(data.train_dataloader())
    points, mask = (torch.cat([part[0][name] for part in parts]) for name in ("points", "mask"))
    codes = torch.cat([part[1] for part in parts])
    ratios, ours_of = list[float](), list[float]()
    for seed in range(STEP_SEEDS):
        torch.manual_seed(seed)
        model = PointCloudClassifier(backbone="pointnet", optimizer="adam", learning_rate=1e-3)
        model.meet(data, "fit")
        plain = copy.deepcopy(nn.Sequential(model.encoder.backbone, model.head))
        clouds = {"points": points, "mask": mask}
        turns = domains.InTurns(domains.plain_steps(plain, clouds, codes, STEP_BATCH, STEP_EPOCHS))
        Trainer(max_epochs=STEP_EPOCHS, limit_val_batches=0, callbacks=[turns], **QUIET).fit(model, datamodule=data)
        ratios.append(turns.ratio)
        ours_of.append(turns.step)
        print(seed, ratios[-1], ours_of[-1], flush=True)
    middle, half = mean_interval(torch.tensor(ratios))
    return {
        "clouds": len(codes),
        "points": DRAWN,
        "batch size": STEP_BATCH,
        "milliseconds of a step": round(1000 * float(np.median(ours_of)), 1),
        "time of quickstudy / plain torch": {"mean": round(float(middle), 3), "ci95": round(float(half), 3)},
    }


if __name__ == "__main__":
    parts = distances, princeton, princeton_pointnet2, princeton_dgcnn, other_strategies, second_derivatives, step
    domains.main("points", __doc__, {one.__name__: one for one in parts})
