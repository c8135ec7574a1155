"""A run that its time ends: with figures, within the time, and with a word."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.utilities import rank_zero_info

from quickstudy.training.quirks import stops_here

_SHARE = 0.5  # of the time that is left, which a validation may want


class WithinTime(Callback):
    """With ``max_time``, stops training early enough for one more validation, which ends when the time is up.

    How long a validation takes is known from the one before, or from that before training. At most half of the time
    goes to the last one; one that is cut short is judged by what it saw, at least one batch, and says so.
    """

    def __init__(self) -> None:
        self._begun = 0.0
        self._batches = 0
        self._each = 0.0  # seconds for a batch of validation
        self.cut = False
        """Whether the newest validation was."""
        self.ended = False
        """Whether it stopped the training."""
        self._every: int | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin: this training has not ended."""
        self.ended = False

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to measure."""
        self._begun, self._batches, self.cut = time.monotonic(), 0, False

    def on_validation_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """End the validation where the time is up.

        Raises:
            StopIteration: which is how its loop ends.
        """
        timer = _timer(trainer)
        if timer is None or not self._batches or trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        self.cut = bool(trainer.strategy.broadcast(_left(timer) <= 0))
        if self.cut:
            raise StopIteration

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Count."""
        self._batches += 1

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember how long it took, and say if that was too long."""
        if self._batches:
            self._each = (time.monotonic() - self._begun) / self._batches
        if self.cut:
            rank_zero_info(
                f"The validation was ended by max_time after {self._batches} of {_batches(trainer):.0f} batches: its "
                "figures are of these alone"
            )

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Stop where what is left is just enough to validate."""
        timer = _timer(trainer)
        if timer is None or stops_here(trainer):
            return
        left = _left(timer)
        needed = min(self._each * _batches(trainer), _SHARE * (left + timer.time_elapsed()))
        if trainer.strategy.broadcast(left <= needed):
            rank_zero_info(
                f"The run ends after step {trainer.global_step}, in epoch {trainer.current_epoch + 1}: its time, "
                "max_time, is up but for a validation"
            )
            trainer.should_stop = self.ended = True
            if trainer.check_val_every_n_epoch is not None:
                self._every, trainer.check_val_every_n_epoch = trainer.check_val_every_n_epoch, 1
                # The last epoch is judged, whatever its number.

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give back how often to validate: another fit may have more time."""
        if self._every is not None:
            trainer.check_val_every_n_epoch, self._every = self._every, None


def _timer(trainer: Trainer) -> Timer | None:
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    timers = (callback for callback in callbacks if isinstance(callback, Timer))
    return next((timer for timer in timers if timer.time_remaining() is not None), None)


def _left(timer: Timer) -> float:
    left = timer.time_remaining()
    assert left is not None
    return left


def _batches(trainer: Trainer) -> float:
    return sum(trainer.num_val_batches) if trainer.enable_validation else 0.0
