"""Progress for whoever watches: bars on a terminal, a line per epoch in a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar

from quickstudy.data.loading import inputs_of
from quickstudy.episode import Episode

_INTERVAL = "_ci95"


def build_progress() -> ProgressBar:
    """Return the progress display that fits where the output goes."""
    return Bars() if sys.stdout.isatty() else Lines()


def shown(figures: Mapping[str, Any]) -> dict[str, str]:
    """Return figures as text, an accuracy with its interval.

    >>> shown({"val_accuracy": 0.91234, "val_accuracy_ci95": 0.0123, "val_loss": 0.5})
    {'val_accuracy': '0.912 ± 0.012', 'val_loss': '0.5'}
    """
    texts = {}
    for name, value in sorted(figures.items()):
        interval = figures.get(name + _INTERVAL)
        if not name.endswith(_INTERVAL):
            texts[name] = f"{float(value):.4g}" if interval is None else f"{float(value):.3f} ± {float(interval):.3f}"
    return texts


class Rate:
    """Counts the episodes, or examples, of an epoch on all processes."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self._units, self._unit, self._seconds = 0, "examples", 0.0

    def add(self, batch: Any, processes: int) -> None:
        """Count those of a step that has just ended."""
        episodes = isinstance(batch, Episode)
        self._unit = "episodes" if episodes else "examples"
        self._units += processes * len(batch.support if episodes else inputs_of(batch))
        self._seconds = time.monotonic() - self.started

    def __str__(self) -> str:
        return f"{self._units / self._seconds:.3g} {self._unit}/s" if self._units else ""


class Bars(RichProgressBar):
    """Lightning's bars, with the rate at which episodes go by."""

    def __init__(self) -> None:
        super().__init__()
        self._rate = Rate()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count from here, where a run goes on within an epoch."""
        super().on_train_start(trainer, pl_module)
        self._rate = Rate()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count from here."""
        super().on_train_epoch_start(trainer, pl_module)
        self._rate = Rate()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count a step."""
        self._rate.add(batch, trainer.world_size)
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return what stands beside the bar."""
        return {"": str(self._rate), **shown(trainer.progress_bar_metrics)}


class Lines(ProgressBar):
    """Prints a line for every epoch: how far the run is, when it will end, and what was measured."""

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._running: tuple[int, Rate] | None = None  # the epoch whose line is still to come

    def disable(self) -> None:
        """Print nothing; Lightning calls this on all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Print again."""
        self._enabled = True

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line of the epoch before: its figures are complete only now."""
        self._print(trainer)
        self._running = trainer.current_epoch, Rate()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, _: int
    ) -> None:
        """Count a step."""
        if self._running is None:  # the run went on within an epoch
            self._running = trainer.current_epoch, Rate()
        self._running[1].add(batch, trainer.world_size)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the last epoch's line."""
        self._print(trainer)

    def _print(self, trainer: Trainer) -> None:
        if self._running is not None and self._enabled:
            epoch, rate = self._running
            seconds = time.monotonic() - rate.started
            last = trainer.max_epochs if trainer.max_epochs is not None and trainer.max_epochs > 0 else None
            parts = [f"epoch {epoch + 1}" + (f"/{last}" if last else ""), _duration(seconds), str(rate)]
            if last and last > epoch + 1:
                parts.append(f"{_duration(seconds * (last - epoch - 1))} left")
            figures = [f"{name} {text}" for name, text in shown(trainer.callback_metrics).items()]
            print(", ".join(part for part in [*parts, *figures] if part), flush=True)
        self._running = None


def _duration(seconds: float) -> str:
    """Return a time in the unit that suits it.

    >>> _duration(7.2), _duration(600), _duration(9000)
    ('7 s', '10 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
