"""The run that tests/test_resume.py kills: goes on from what is in its folder, and leaves its weights there.

On several processes torchrun starts it, one run after the other:
killed_run.py FOLDER '{"strategy": "maml", "across": {"strategy": "ddp", "devices": 2}}' FOLDER '{...}'
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback
from torch import nn

import little_sequences
from quickstudy import DataModule, Trainer
from quickstudy.files import atomic_write
from quickstudy.image import ImageClassificationData, ImageClassifier
from quickstudy.runs.resuming import KeepLast
from quickstudy.training.task import Task

QUIET: dict[str, Any] = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
BATCH = 10
PLAN = {"ways": 3, "queries": 2, "meta_batch_size": 2, "epoch_length": 20, "test_epoch_length": 4}


class Steps(Callback):
    """Says which step was done, so that whoever kills the run knows where it is; and may wait for that."""

    def __init__(self, pause: float, say: Callable[[int], object]) -> None:
        self._pause, self._say = pause, say

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        if trainer.is_global_zero:
            self._say(trainer.global_step)
        time.sleep(self._pause)


def backbone() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Tanh(), nn.AdaptiveAvgPool2d(4)),
        *(nn.Flatten(), nn.Dropout(0.3), nn.Linear(64, 16)),
    )


def data(**options: Any) -> ImageClassificationData:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (96, 1, 8, 8), dtype=torch.uint8, generator=generator)
    labels = [f"{code}" for code in range(12) for _ in range(8)]
    val = {"val_data": images[:24] ^ 1, "val_targets": [f"v{code}" for code in range(3) for _ in range(8)]}
    if options.pop("same_classes"):
        val = {"val_data": images ^ 1, "val_targets": labels}  # which are other pictures
    return ImageClassificationData.from_tensors(images, labels, **val, batch_size=BATCH, **options)


def run(folder: Path, strategy: str = "default", finetuning: Any = "no_freeze", **options: Any) -> None:
    torch.manual_seed(0)
    form = options.get("form")
    by: dict[str, Any] = {
        "learning_rate": options.get("learning_rate", 0.01),
        "optimizer": options.get("optimizer", "AdamW"),
        "lr_scheduler": options.get("lr_scheduler", ("CosineAnnealingLR", {"T_max": 4})),
    }
    model: Task
    if form:
        model = little_sequences.task(form, dropout=0.3, **by)
    else:
        plan = PLAN if strategy != "default" else None
        model = ImageClassifier(backbone=backbone(), training_strategy=strategy, training_strategy_kwargs=plan, **by)
    trainer = Trainer(
        accelerator="cpu",
        **options.get("across", {"devices": 1}),
        max_epochs=options.get("epochs", 4),
        max_steps=options.get("max_steps", -1),
        patience=options.get("patience"),
        val_check_interval=options.get("val_check_interval"),
        accumulate_grad_batches=options.get("accumulate_grad_batches", 1),
        default_root_dir=folder,
        resume="auto",
        callbacks=[
            KeepLast(folder, every_n_steps=options.get("every_n_steps", 3)),
            Steps(options.get("pause", 0.0), options.get("say", partial(print, flush=True))),
            *options.get("callbacks", ()),
        ],
        num_sanity_val_steps=0,
        **QUIET,
    )
    workers = options.get("workers", 0)
    given: DataModule = (
        little_sequences.data(form, 96, BATCH, num_workers=workers)
        if form
        else data(num_workers=workers, same_classes=strategy == "default")
    )
    trainer.finetune(model, given, strategy=finetuning, train_bn=False)
    if trainer.is_global_zero:
        with atomic_write(folder / "weights.pt") as file:
            torch.save({**model.state_dict(), "steps": torch.tensor(trainer.global_step)}, file)


def quietly() -> None:
    """Compute in one thread, and say nothing."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def forked(steps: Connection, folder: Path, options: dict[str, Any]) -> None:
    """Run in a process that was forked for it, and send its steps."""
    quietly()
    run(folder, **options, say=steps.send)


if __name__ == "__main__":
    quietly()
    for name, text in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        asked = json.loads(text)
        apart = os.environ["RANK"] if asked.pop("apart", False) else ""  # a folder of its own for each process
        run(Path(name, apart), **asked)
