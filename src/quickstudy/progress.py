"""Progress for whoever watches: bars on a terminal, a line per epoch in a pipe."""

from __future__ import annotations

import sys
import time
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar


def build_progress() -> ProgressBar:
    """Return the progress display that fits where the output goes."""
    return RichProgressBar() if sys.stdout.isatty() else Lines()


class Lines(ProgressBar):
    """Prints one line at the end of every epoch, with what was measured in it."""

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._started = 0.0

    def disable(self) -> None:
        """Print nothing; Lightning calls this on all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Print again."""
        self._enabled = True

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the time."""
        self._started = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the epoch's line."""
        seconds = time.monotonic() - self._started
        self._print(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}, {seconds:.0f} s", trainer)

    def _print(self, what: str, trainer: Trainer) -> None:
        if self._enabled:
            measured = {name: _number(value) for name, value in sorted(trainer.callback_metrics.items())}
            print(", ".join([what, *(f"{name} {value}" for name, value in measured.items())]), flush=True)


def _number(value: Any) -> str:
    return f"{float(value):.4g}" if isinstance(value, (torch.Tensor, float, int)) else str(value)
