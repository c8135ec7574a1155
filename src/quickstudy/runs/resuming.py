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
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping
from lightning.pytorch.plugins import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torchmetrics import Metric

from quickstudy.errors import ConfigError, DataError, DataWarning, brief, check_above_zero, check_counts, given
from quickstudy.files import LAST, atomic_write
from quickstudy.training.checkpoint import read_checkpoint
from quickstudy.training.quirks import (
    begin_next_epoch,
    between_epochs,
    complete_epochs,
    has_begun,
    keep_schedules,
    restore_sums,
    stops_here,
    sums_of,
    validation_follows,
    within_a_step,
)

PREVIOUS = "previous.ckpt"
_ASKED = 20  # steps between two questions to all processes whether it is time


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

    def write_to(self, folder: Path, resumes: bool) -> None:
        """Write to the run's folder, unless another was asked for.

        Raises:
            ConfigError: another was, and the run resumes from its own.
        """
        self.folder = self.folder or folder
        if resumes and self.folder != folder:
            where = f"where resume='auto' does not look, in '{folder}'"
            raise ConfigError(f"KeepLast('{self.folder}') writes {where}: leave its folder out")

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
        if trainer.is_last_batch or within_a_step(trainer) or validation_follows(trainer, batch_idx):
            return
        if _ends_here(trainer) or self._due(trainer):
            self._write(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write one where the run ends with a validation within an epoch."""
        within_an_epoch = trainer.state.fn == "fit" and not (trainer.sanity_checking or trainer.is_last_batch)
        if within_an_epoch and _ends_here(trainer) and not within_a_step(trainer):
            self._write(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Write one before a terminated process ends, if it stands between two steps."""
        between = between_epochs(trainer) or not (trainer.is_last_batch or within_a_step(trainer))
        if isinstance(exception, SIGTERMException) and has_begun(trainer) and between:
            self._write(trainer)
            rank_zero_info(
                f"Terminated after step {trainer.global_step}: '{self._place / LAST}' holds it; the same command with "
                f"--out {self._place} --trainer.resume auto goes on from there, as a Trainer(resume='auto', "
                f"default_root_dir='{self._place}') does"
            )

    def _due(self, trainer: Trainer) -> bool:
        if self._every_n_steps is not None:
            return trainer.global_step % self._every_n_steps == 0
        due = time.monotonic() - self._written > self._seconds
        if trainer.world_size == 1:
            return due
        return trainer.global_step % _ASKED == 0 and bool(trainer.strategy.broadcast(due))

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


def _ends_here(trainer: Trainer) -> bool:
    """Whether this step is the run's last: the steps are up, or the time is, or patience."""
    return stops_here(trainer) or -1 < trainer.max_steps <= trainer.global_step


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


def folder_to_resume(resume: str | None, default_root_dir: object) -> Path | None:
    """Return the folder that a run resumes from, None where it does not.

    Raises:
        ConfigError: ``resume`` is unknown, or there is no folder.
    """
    if resume is None:
        return None
    if resume != "auto":
        raise ConfigError(
            f"resume={brief(resume)} is not 'auto': type resume='auto', default_root_dir='runs/birds'; to go on from a "
            "file, fit(..., ckpt_path='last.ckpt')"
        )
    if not default_root_dir:
        raise ConfigError("resume='auto' needs the run's own folder: add default_root_dir='runs/birds'")
    return Path(str(default_root_dir))


class GoesOn(Callback):
    """Mends what Lightning forgets, or takes for something else, when a run goes on from a checkpoint."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] | None = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the figures that schedules follow, and what the training metrics are made of so far."""
        followed = [config.monitor for config in trainer.lr_scheduler_configs if config.reduce_on_plateau]
        known = trainer.callback_metrics if followed else {}
        checkpoint["monitored"] = {name: float(known[name]) for name in followed if name in known}
        sums: dict[str, Any] = {}
        for name, metric in _training_metrics(pl_module):
            if metric.update_called:
                sums[name] = sums_of(metric)
        checkpoint["training_metrics"] = sums

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take them up; and count an epoch as complete that is.

        Raises:
            ConfigError: it has done more epochs than it is to do.
        """
        if trainer.state.fn != "fit":
            return
        self._loaded = {name: checkpoint.get(name, {}) for name in ("monitored", "training_metrics")}
        done, most = complete_epochs(checkpoint), trainer.max_epochs
        if most is not None and -1 < most < done:
            raise ConfigError(f"the run has done {done} epochs already, and max_epochs={most}: set it above {done}")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on at the right place."""
        loaded, self._loaded = self._loaded, None
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        if loaded is None or not has_begun(trainer):
            return
        rank_zero_info(f"Going on in epoch {trainer.current_epoch + 1}, after step {trainer.global_step}")
        stoppers = [callback for callback in callbacks if isinstance(callback, EarlyStopping)]
        if any(stopper.wait_count >= stopper.patience for stopper in stoppers):
            trainer.should_stop = True  # it had ended
        trainer.callback_metrics.update(loaded["monitored"])
        if between_epochs(trainer):
            begin_next_epoch(trainer)
        elif trainer.is_global_zero:  # whose sums are those of all
            for name, metric in _training_metrics(pl_module):
                restore_sums(metric, loaded["training_metrics"].get(name, {}), pl_module.device)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: object) -> None:
        """See to it that the epoch's end does not leave out the schedules that follow a figure."""
        keep_schedules(trainer)


def _training_metrics(module: LightningModule) -> list[tuple[str, Metric]]:
    metrics = getattr(module, "train_metrics", None)
    return [] if metrics is None else [(n, m) for n, m in metrics.named_modules() if isinstance(m, Metric)]


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
