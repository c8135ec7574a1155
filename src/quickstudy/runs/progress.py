"""Progress for whoever watches: bars on a terminal, lines in a pipe; and what a model is made of, before it begins."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelSummary, ProgressBar, RichProgressBar

from quickstudy.batches import size
from quickstudy.data.loading import inputs_of
from quickstudy.episode import Episode, Unit

_MANY = 4  # figures of one kind that a line tells one by one
_INTERVAL = "_ci95"
_UNTOLD = "_transductive"  # a property of the strategy, which the sentence of a test says in a word
_FIRST, _LATEST = 30.0, 600.0  # seconds until the first line within an epoch, and between two at most


def build_progress() -> ProgressBar:
    """Return the progress display that fits where the output goes."""
    return Bars() if sys.stdout.isatty() else Lines()


def shown(figures: Mapping[str, Any]) -> dict[str, str]:
    """Return figures as text, a score with its interval.

    >>> shown({"val_accuracy": 0.91234, "val_accuracy_ci95": 0.0123, "val_loss": 0.5, "val_transductive": 0.0})
    {'val_accuracy': '0.912 ± 0.012', 'val_loss': '0.5'}
    >>> shown({"val_rmse": 431.273, "val_rmse_ci95": 12.345})
    {'val_rmse': '431.3 ± 12'}
    """
    texts = {}
    for name, value in sorted(figures.items()):
        interval = figures.get(name + _INTERVAL)
        if not name.endswith((_INTERVAL, _UNTOLD)):
            texts[name] = f"{float(value):.4g}" if interval is None else _with_interval(float(value), float(interval))
    return texts


def _with_interval(value: float, half: float) -> str:
    """Return a share to three places, and what these would not show to some figures."""
    if abs(value) > 1 or 0 < half < 0.0005:
        return f"{value:.4g} ± {half:.2g}"
    return f"{value:.3f} ± {half:.3f}"


class Parameters(ModelSummary):
    """Says in a line what a model is made of, and how much of it trains."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print it."""
        if trainer.is_global_zero:
            parts = {name: list(part.parameters()) for name, part in pl_module.named_children()}
            sizes = {name: sum(each.numel() for each in own) for name, own in parts.items() if own}
            trained = sum(each.numel() for own in parts.values() for each in own if each.requires_grad)
            told = ", ".join(f"{name} {size:,}" for name, size in sizes.items())
            print(f"parameters: {told or 'none'}; {trained:,} of {sum(sizes.values()):,} are trained", flush=True)


class Rate:
    """Counts the episodes, or examples, of an epoch on all processes."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self._units, self._seconds = 0, 0.0
        self._unit: Unit = "examples"

    def add(self, batch: Any, processes: int) -> None:
        """Count those of a step that has just ended."""
        episodes = isinstance(batch, Episode)
        self._unit = "episodes" if episodes else "examples"
        self._units += processes * size(batch.support if episodes else inputs_of(batch))
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
    """Prints a line for every epoch: how far the run is, when it will end, and what was measured.

    Within a long epoch it prints how far that is: after half a minute, and then each time after twice as long a wait,
    ten minutes at most.
    """

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._running: tuple[int, Rate] | None = None  # the epoch whose line is still to come
        self._told, self._wait = time.monotonic(), _FIRST

    def disable(self) -> None:
        """Print nothing; Lightning calls this on all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Print again."""
        self._enabled = True

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line of the epoch before: its figures are complete only now."""
        self._print(trainer)
        self._begin(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count a step."""
        if self._running is None:  # the run went on within an epoch
            self._begin(trainer)
        assert self._running is not None
        self._running[1].add(batch, trainer.world_size)
        self._print_within(trainer, "step", batch_idx + 1, trainer.num_training_batches)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, _: int = 0
    ) -> None:
        """Say how far the validation is."""
        if not trainer.sanity_checking:
            self._print_within(trainer, "validation, step", batch_idx + 1, sum(_counts(trainer.num_val_batches)))

    def _begin(self, trainer: Trainer) -> None:
        self._running = trainer.current_epoch, Rate()
        self._told, self._wait = time.monotonic(), _FIRST

    def _print_within(self, trainer: Trainer, what: str, done: int, count: float) -> None:
        now = time.monotonic()
        if now - self._told < self._wait or not self._enabled or self._running is None:
            return
        self._told, self._wait = now, min(2 * self._wait, _LATEST)
        epoch, rate = self._running
        of = f" of {count:,.0f} ({done / count:.0%})" if count < float("inf") else ""
        parts = [f"epoch {epoch + 1}{_last(trainer)}", f"{what} {done:,}{of}", _duration(now - rate.started), str(rate)]
        print(", ".join(part for part in parts if part), flush=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the last epoch's line."""
        self._print(trainer)

    def _print(self, trainer: Trainer) -> None:
        if self._running is not None and self._enabled:
            epoch, rate = self._running
            seconds = time.monotonic() - rate.started
            last = trainer.max_epochs
            parts = [f"epoch {epoch + 1}{_last(trainer)}", _duration(seconds), str(rate)]
            if last is not None and last > epoch + 1:
                parts.append(f"{_duration(seconds * (last - epoch - 1))} left")
            figures = in_brief(shown(trainer.callback_metrics))
            print(", ".join(part for part in [*parts, *figures] if part), flush=True)
        self._running = None


def in_brief(figures: Mapping[str, str]) -> list[str]:
    """Return figures for a line; of those of many classes the lowest, as the others stand in the log and the report.

    >>> in_brief({"val_loss": "0.5", **{f"val_iou_{name}": f"0.{place}" for place, name in enumerate("abcdef")}})
    ['val_loss 0.5', 'val_iou_a 0.0 (lowest of 6)']
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in figures:
        groups.setdefault(tuple(name.split("_")[:2]), []).append(name)
    told = []
    for names in groups.values():
        if len(names) <= _MANY:
            told += [f"{name} {figures[name]}" for name in names]
        else:
            lowest = min(names, key=lambda name: float(figures[name].split()[0]))
            told.append(f"{lowest} {figures[lowest]} (lowest of {len(names)})")
    return told


def _last(trainer: Trainer) -> str:
    """Return the number of the last epoch, where it is known."""
    return f"/{trainer.max_epochs}" if trainer.max_epochs is not None and trainer.max_epochs > 0 else ""


def _counts(batches: Any) -> list[float]:
    return list(batches) if isinstance(batches, (list, tuple)) else [batches]


def _duration(seconds: float) -> str:
    """Return a time in the unit that suits it.

    >>> _duration(7.2), _duration(600), _duration(9000)
    ('7 s', '10 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
