"""A run that goes on where it was killed."""

from __future__ import annotations

import os
import shutil
import time
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins import TorchCheckpointIO

from quickstudy.checkpoint import read_checkpoint
from quickstudy.errors import ConfigError, DataError, DataWarning, check_above_zero, check_counts, given
from quickstudy.files import atomic_write

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
_ASKED = 20  # batches between two questions to all processes whether it is time


class KeepLast(Checkpoint):
    """Keeps a run's newest checkpoint, ``last.ckpt``, and the one before it, ``previous.ckpt``.

    There is one after every epoch, with its validation, and within an epoch whenever so much time has passed. At any
    moment at least one of them is whole, whatever kills the process.

    Args:
        folder: of both files; None: the run's.
        minutes: between two within an epoch.
        every_n_steps: steps between two within an epoch, instead.

    Raises:
        ConfigError: a number is not above 0.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        minutes: float = 10.0,
        every_n_steps: int | None = None,
    ) -> None:
        check_above_zero(minutes=minutes)
        check_counts(**given(every_n_steps=every_n_steps))
        self.folder = None if folder is None else Path(folder)
        self._seconds, self._every_n_steps = 60 * minutes, every_n_steps
        self._written = 0.0
        self._whole = False  # whether the newest is known to be: a damaged one must not replace the one before it

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove what a killed process left half-written."""
        self._written = time.monotonic()
        self._whole = trainer.ckpt_path is not None and Path(trainer.ckpt_path) == self._place / LAST
        if trainer.is_global_zero and self._place.is_dir():
            for unfinished in self._place.glob(".*.ckpt.*part"):
                unfinished.unlink()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write one when it is time; after an epoch's last step that epoch's end does, and not before a validation."""
        if trainer.is_last_batch:
            return
        if _stops_here(trainer):
            self._write(trainer)
            return
        within_a_step = (batch_idx + 1) % trainer.accumulate_grad_batches
        if within_a_step or _validation_follows(trainer, batch_idx):
            return
        if self._every_n_steps is not None:
            due = trainer.global_step % self._every_n_steps == 0
        else:
            if trainer.world_size > 1 and batch_idx % _ASKED:
                return
            due = time.monotonic() - self._written > self._seconds
            due = trainer.strategy.broadcast(due) if trainer.world_size > 1 else due
        if due:
            self._write(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write one, unless the epoch was cut short: of that, the last step wrote one."""
        if trainer.is_last_batch:
            self._write(trainer)

    @property
    def _place(self) -> Path:
        assert self.folder is not None, "a KeepLast without a folder needs quickstudy's Trainer, which has one"
        return self.folder

    def _write(self, trainer: Trainer) -> None:
        last = self._place / LAST
        if trainer.is_global_zero and self._whole:
            kept = self._place / f".{PREVIOUS}.part"
            kept.unlink(missing_ok=True)
            try:
                os.link(last, kept)
            except OSError:  # a file system without links
                shutil.copyfile(last, kept)
            kept.replace(self._place / PREVIOUS)
        trainer.save_checkpoint(last)
        self._whole = True
        self._written = time.monotonic()


def _stops_here(trainer: Trainer) -> bool:
    """Whether this step is the run's last, though not its epoch's: time is up, or the steps are, or SIGTERM came."""
    steps_are_up = -1 < trainer.max_steps <= trainer.global_step
    return trainer.should_stop or steps_are_up or (trainer.received_sigterm and trainer.world_size == 1)


def _validation_follows(trainer: Trainer, batch_idx: int) -> bool:
    """Whether validation comes after this step: a checkpoint written now would leave it out."""
    every = trainer.val_check_batch
    if not trainer.enable_validation or not isinstance(every, int):
        return False
    by_epoch = trainer.check_val_every_n_epoch is not None
    return ((batch_idx if by_epoch else trainer.fit_loop.epoch_loop.total_batch_idx) + 1) % every == 0


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint of a folder that can be read, None where there is none.

    Warns of a damaged one, and takes the one before it.

    Raises:
        DataError: none that is there can be read.
    """
    found = [folder / name for name in (LAST, PREVIOUS) if (folder / name).exists()]
    damage = []
    for path in found:
        try:
            _check_whole(path)
            read_checkpoint(path)
        except DataError as error:
            damage.append(str(error))
            continue
        if damage:
            warnings.warn(f"{damage[0]}; going on from '{path}'", DataWarning, 2)
        return path
    if damage:
        raise DataError(f"{'; '.join(damage)}. To start anew, remove them or name another folder")
    return None


def _check_whole(path: Path) -> None:
    """Compare a checkpoint with its checksums, which torch does not."""
    try:
        with zipfile.ZipFile(path) as parts:
            wrong = parts.testzip()
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"the checkpoint '{path}' is damaged or cut ({error})") from error
    if wrong is not None:
        raise DataError(f"the checkpoint '{path}' is damaged or cut (in its part '{wrong}')")


def run_folder(resume: str | None, default_root_dir: object) -> Path | None:
    """Return the folder that a run resumes from, None where it does not.

    Raises:
        ConfigError: ``resume`` is unknown, or there is no folder.
    """
    if resume is None:
        return None
    if resume != "auto":
        raise ConfigError(
            f"resume={resume!r} is not 'auto': type resume='auto', default_root_dir='runs/birds'; to go on from a "
            "file, fit(..., ckpt_path='last.ckpt')"
        )
    if not default_root_dir:
        raise ConfigError("resume='auto' needs the run's own folder: add default_root_dir='runs/birds'")
    return Path(str(default_root_dir))


class WholeCheckpoints(TorchCheckpointIO):
    """Writes checkpoints that are whole or absent, whatever moment the process dies at; reads no code from one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write to a path; to an address such as ``s3://...`` as Lightning does."""
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        with atomic_write(path) as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:  # torch's own word for a disk that is full
                free = shutil.disk_usage(Path(path).parent).free
                raise OSError(f"'{path}' could not be written, with {free / 1e6:.0f} MB free: {error}") from error

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None) -> Any:
        """Read from a path.

        Raises:
            DataError: the file is missing, damaged, holds code, or is no checkpoint of quickstudy.
        """
        if "://" in str(path):
            return super().load_checkpoint(path, map_location, weights_only=True)
        if Path(path).name == ".temp.ckpt":  # weights alone, from a process that Lightning spawned
            return torch.load(path, map_location=map_location, weights_only=True)
        return read_checkpoint(path, map_location)
