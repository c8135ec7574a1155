"""The run that tests/test_resume.py kills: goes on from what is in its folder, and leaves its weights there.

python tests/killed_run.py FOLDER '{"strategy": "maml", ...}'

On several processes torchrun starts it, with '{"across": {"strategy": "ddp", "devices": 2}}'.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback
from torch import nn

from quickstudy import Trainer
from quickstudy.files import atomic_write
from quickstudy.image import ImageClassificationData, ImageClassifier
from quickstudy.runs.resuming import KeepLast

QUIET: dict[str, Any] = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
BATCH = 10
PLAN = {"ways": 3, "queries": 2, "meta_batch_size": 2, "epoch_length": 20, "test_epoch_length": 4}


class Steps(Callback):
    """Says which step was done, so that whoever kills the run knows where it is; and may wait for that."""

    def __init__(self, pause: float) -> None:
        self._pause = pause

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        if trainer.is_global_zero:
            print(trainer.global_step, flush=True)
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
    val = {"val_data": images[:24], "val_targets": [f"v{code}" for code in range(3) for _ in range(8)]}
    if options.pop("same_classes"):
        val = {"val_data": images ^ 1, "val_targets": labels}  # which are other pictures
    return ImageClassificationData.from_tensors(images, labels, **val, batch_size=BATCH, **options)


def run(folder: Path, strategy: str = "default", finetuning: Any = "no_freeze", **options: Any) -> None:
    torch.manual_seed(0)
    model = ImageClassifier(
        backbone=backbone(),
        learning_rate=options.get("learning_rate", 0.01),
        optimizer=options.get("optimizer", "AdamW"),
        lr_scheduler=options.get("lr_scheduler", ("CosineAnnealingLR", {"T_max": 4})),
        training_strategy=strategy,
        training_strategy_kwargs=PLAN if strategy != "default" else None,
    )
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
            Steps(options.get("pause", 0.0)),
            *options.get("callbacks", ()),
        ],
        num_sanity_val_steps=0,
        **QUIET,
    )
    given = data(num_workers=options.get("workers", 0), same_classes=strategy == "default")
    trainer.finetune(model, given, strategy=finetuning, train_bn=False)
    if trainer.is_global_zero:
        with atomic_write(folder / "weights.pt") as file:
            torch.save({**model.state_dict(), "steps": torch.tensor(trainer.global_step)}, file)


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    asked = json.loads(sys.argv[2])
    apart = os.environ["RANK"] if asked.pop("apart", False) else ""  # a folder of its own for each process
    run(Path(sys.argv[1], apart), **asked)
