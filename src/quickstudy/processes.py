"""What makes a run the same on any number of processes, and after any interruption."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
import torch.distributed
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor

from quickstudy.errors import ConfigError
from quickstudy.nets import average_statistics, by_all_processes
from quickstudy.quirks import leave_at_exit


def together(trainer: Any, episodes: bool) -> AbstractContextManager[Any]:
    """Return the context of a training step: BatchNorm sees the batches of all processes, episodes only themselves."""
    synchronized = not episodes and trainer is not None and getattr(trainer, "sync_batchnorm", False)
    return by_all_processes() if synchronized and trainer.world_size > 1 else nullcontext()


def weighed(loss: Tensor, units: int) -> Tensor:
    """Return the mean loss of ``units`` examples, such that the mean over processes is that over all their examples."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return loss
    total = torch.tensor(float(units), device=loss.device)
    torch.distributed.all_reduce(total)
    return loss * (units * torch.distributed.get_world_size() / total).to(loss.dtype)


class OneResult(Callback):
    """Keeps running statistics equal on all processes, and what is drawn at random a function of the step alone.

    Dropout and the like draw from torch's generator, which is seeded before every training step by a number that the
    run keeps, the step and the process: a resumed run draws what an uninterrupted one would.
    """

    def __init__(self) -> None:
        self._seed: int | None = None
        self._batches = 0  # Lightning's own count is off after two interruptions, the first between epochs
        self._monitored: dict[str, Any] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse to go on from a checkpoint that not all processes found.

        Raises:
            ConfigError: they have folders of their own.
        """
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return
        leave_at_exit()
        if stage == "fit":
            found: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(found, None if trainer.ckpt_path is None else str(trainer.ckpt_path))
            if any(path != found[0] for path in found):
                raise ConfigError(
                    f"the processes would go on from different checkpoints ({', '.join(map(str, found))}): put the "
                    "run's folder on a disk that they share"
                )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the number from torch's generator, unless a checkpoint brought one."""
        if self._seed is None:
            self._seed = trainer.strategy.broadcast(torch.initial_seed())
        if self._monitored is None:  # nothing was loaded
            return
        if any(stopper.wait_count >= stopper.patience for stopper in _stoppers(trainer)):
            trainer.should_stop = True  # it had ended
        epochs: Any = trainer.fit_loop.epoch_progress.total
        between_epochs = epochs.processed == epochs.started
        if between_epochs:
            # Schedules that follow a figure moved only after the checkpoint was written: they do so now.
            trainer.callback_metrics.update(self._monitored)
            trainer.fit_loop.epoch_loop.update_lr_schedulers("epoch", update_plateau_schedulers=True)
        self._monitored = None
        if between_epochs and trainer.fit_loop.restarted_mid_epoch:
            # The checkpoint is of an epoch's last step: Lightning would take the next epoch for the rest of that one,
            # leave out its hooks and its count, and from a checkpoint made then begin the epoch again.
            trainer.fit_loop.reset_restart_stage()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: object) -> None:
        """Seed what the step draws."""
        trainer.fit_loop._restarting = False  # or the epoch's end would leave out the schedules that follow a figure
        sequence = np.random.SeedSequence((self._seed or 0, self._batches, trainer.global_rank))
        self._batches += 1
        torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0]))

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: object) -> None:
        """Average running statistics over what all processes saw."""
        if trainer.world_size > 1:
            average_statistics(pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the figures that schedules follow."""
        followed = [config.monitor for config in trainer.lr_scheduler_configs if config.reduce_on_plateau]
        known = trainer.callback_metrics if followed else {}
        checkpoint["monitored"] = {name: float(known[name]) for name in followed if name in known}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take them up."""
        self._monitored = checkpoint.get("monitored", {})

    def state_dict(self) -> dict[str, Any]:
        """Return the number, and how many batches there were, for the checkpoint."""
        return {"seed": self._seed, "batches": self._batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with them."""
        self._seed, self._batches = state_dict["seed"], state_dict["batches"]


def _stoppers(trainer: Any) -> list[EarlyStopping]:
    return [callback for callback in trainer.callbacks if isinstance(callback, EarlyStopping)]
