"""Progress for whoever watches: bars on a terminal, a line per epoch in a pipe."""

from __future__ import annotations

import sys
import time

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar


def build_progress() -> ProgressBar:
    """Return the progress display that fits where the output goes."""
    return RichProgressBar() if sys.stdout.isatty() else Lines()


class Lines(ProgressBar):
    """Prints a line for every epoch, with what was measured in it."""

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._running: tuple[int, float] | None = None  # the epoch whose line is still to come, and when it began

    def disable(self) -> None:
        """Print nothing; Lightning calls this on all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Print again."""
        self._enabled = True

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line of the epoch before: its figures are complete only now."""
        self._print(trainer)
        self._running = trainer.current_epoch, time.monotonic()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the last epoch's line."""
        self._print(trainer)

    def _print(self, trainer: Trainer) -> None:
        if self._running is not None and self._enabled:
            epoch, started = self._running
            figures = [f"{name} {float(value):.4g}" for name, value in sorted(trainer.callback_metrics.items())]
            seconds = f"{time.monotonic() - started:.0f} s"
            print(", ".join([f"epoch {epoch + 1}/{trainer.max_epochs}", seconds, *figures]), flush=True)
        self._running = None
