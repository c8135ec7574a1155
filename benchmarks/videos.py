"""What videos reach: motions told apart by networks that start from nothing.

    python benchmarks/videos.py --root data/video                   # all; or
    python benchmarks/videos.py --root data/video --only motions

In the folder: glyph-motion.zip (train/ and test/ of class folders, 24 clips each of characters that move; the class is
the motion, and those of test are none of training's). Beside ours stand the nearest mean of a clip's pixels, and of its
mean frame, which know no motion.
"""

from __future__ import annotations

import copy
import resource
import time
from pathlib import Path
from typing import Any

import domains
import numpy as np
import torch
from embeddings import QUIET
from torch import Tensor, nn

from quickstudy import DataModule, Trainer
from quickstudy.functional.intervals import mean_interval
from quickstudy.nets import Encoder
from quickstudy.video import VideoClassificationData, VideoClassifier

SIZE: dict[str, Any] = {"frames": 16, "image_size": 32, "image_mode": "L"}
NETWORK: dict[str, Any] = {"backbone": "c3d", "backbone_kwargs": {"in_channels": 1}}
TRAINING: dict[str, Any] = {"ways": 8, "shots": 1, "queries": 2}
GRADIENT: dict[str, Any] = {"ways": 5, "shots": 1, "queries": 3, "test_queries": 5}
STEP_SEEDS, STEP_EPOCHS, STEP_BATCH = 3, 2, 16


class MeanFrame(nn.Module):
    """What a clip looks like, whatever moves."""

    def forward(self, clips: Tensor) -> Tensor:
        """Return ``[N, C * H * W]``."""
        return clips.mean(2).flatten(1)


def moving(root: Path) -> VideoClassificationData:
    """Return the motions, which are read once."""
    file = root / "glyph-motion.zip"
    return VideoClassificationData.from_folders(file / "train", test_folder=file / "test", **SIZE)


def tested(network: nn.Module, data: VideoClassificationData) -> dict[str, dict[str, float]]:
    """Return what the nearest mean of embeddings reaches in 600 episodes of 5 classes that training never saw."""
    encoder = network if isinstance(network, Encoder) else Encoder(network)
    with torch.inference_mode():
        parts = [(encoder.eval()(clips), codes) for clips, codes in data.batch_loader("test")]
    vectors, codes = (torch.cat(some) for some in zip(*parts, strict=True))
    embedded = DataModule.from_tensors(test_data=vectors, test_targets=codes.tolist())
    plans = {f"5-way {shots}-shot": domains.plan(5, shots) for shots in (1, 5)}
    return {name: domains.judged(embedded, plan, "prototypicalnetworks") for name, plan in plans.items()}


def motions(root: Path) -> dict[str, Any]:
    """Prototypical networks on 8 motions, tested on 6 others: before training, and after one minute."""
    data = moving(root)
    return {
        "pixels of the clip": tested(nn.Flatten(), data),
        "mean frame": tested(MeanFrame(), data),
        "c3d, untrained": trained(data, 0),
        "c3d, one minute": trained(data, 300),
    }


def motions_longer(root: Path) -> dict[str, Any]:
    """The same after five minutes."""
    return {"c3d, five minutes": trained(moving(root), 1500)}


def trained(data: VideoClassificationData, episodes: int) -> dict[str, Any]:
    """Return what a network reaches that is trained on so many episodes."""
    torch.manual_seed(0)
    epochs = max(episodes // 100, 1)
    model = VideoClassifier(
        **NETWORK,
        training_strategy="prototypicalnetworks",
        training_strategy_kwargs={**TRAINING, "meta_batch_size": 1, "epoch_length": 100},
        learning_rate=2e-3,
        lr_scheduler=("CosineAnnealingLR", {"T_max": epochs}),
    )
    began = time.process_time()
    if episodes:
        Trainer(max_epochs=epochs, limit_val_batches=0, **QUIET).fit(model, datamodule=data)
    took = round(time.process_time() - began, 1)
    return {"training episodes": episodes, "training cpu_seconds": took, **tested(model.encoder, data)}


def strategies(root: Path) -> dict[str, Any]:
    """MAML, ANIL and MetaOptNet, trained on 100 episodes and before; and the memory of the process meanwhile."""
    data, found = moving(root), dict[str, Any]()
    data.batch_loader("train")
    for name, options in (
        ("metaoptnet", {}),
        ("anil", {"adaptation_lr": 0.1}),
        ("maml", {"adaptation_lr": 0.1, "adaptation_steps": 3}),
    ):
        plan = {**GRADIENT, "meta_batch_size": 1, "epoch_length": 100, "test_epoch_length": 200, **options}
        torch.manual_seed(0)
        model = VideoClassifier(**NETWORK, training_strategy=name, training_strategy_kwargs=plan, learning_rate=2e-3)
        row: dict[str, Any] = {}
        for when in ("untrained", "trained"):
            began = time.process_time()
            if when == "trained":
                Trainer(max_epochs=1, limit_val_batches=0, **QUIET).fit(model, datamodule=data)
                row["training cpu_seconds"] = round(time.process_time() - began, 1)
                row["most memory of the process, MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            began = time.process_time()
            (figures,) = Trainer(**QUIET).test(model, datamodule=data, verbose=False)
            row[when] = domains.told(figures["test_accuracy"], figures["test_accuracy_ci95"], began)
        found[f"{name}, 5-way 1-shot"] = row
        print(name, row, flush=True)
    return found


def step(root: Path) -> dict[str, Any]:
    """Time a step beside one in a loop of plain torch of the same network, in turns."""
    data = moving(root)
    clips, codes = (torch.cat(parts) for parts in zip(*data.batch_loader("train"), strict=True))
    clips, codes = clips[:96], codes[:96]
    ratios, ours_of = list[float](), list[float]()
    for seed in range(STEP_SEEDS):
        torch.manual_seed(seed)
        fed = VideoClassificationData.from_tensors(clips, codes.tolist(), batch_size=STEP_BATCH)
        model = VideoClassifier(**NETWORK, optimizer="adam", learning_rate=1e-3)
        model.meet(fed, "fit")
        plain = copy.deepcopy(nn.Sequential(model.encoder, model.head))
        turns = domains.InTurns(domains.plain_steps(plain, clips, codes, STEP_BATCH, STEP_EPOCHS))
        Trainer(max_epochs=STEP_EPOCHS, limit_val_batches=0, callbacks=[turns], **QUIET).fit(model, datamodule=fed)
        ratios.append(turns.ratio)
        ours_of.append(turns.step)
    middle, half = mean_interval(torch.tensor(ratios))
    return {
        "clips": f"{STEP_BATCH} of 16x32x32",
        "milliseconds of a step": round(1000 * float(np.median(ours_of)), 1),
        "time of quickstudy / plain torch": {"mean": round(float(middle), 3), "ci95": round(float(half), 3)},
    }


if __name__ == "__main__":
    domains.main("videos", __doc__, {one.__name__: one for one in (motions, motions_longer, strategies, step)})
