"""What Lightning does by default and should not do here, and all that is used of what it keeps for itself.

No other file may name what Lightning or torchmetrics keep private (``tests/test_house.py``); what a new one lacks,
``tests/test_internals.py`` says.
"""

from __future__ import annotations

import atexit
import copy
import inspect
import logging
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import lightning as L
import torch.distributed
from lightning.pytorch.loops.loop import _Loop
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torchmetrics import Metric

from quickstudy.episode import Episode
from quickstudy.torch_internals import tree_map

# What Lightning warns of although nothing is wrong.
_NOISE = (
    ".*does not have many workers.*",  # workers pay only where decoding is the bottleneck, and decoded data is cached
    ".*is smaller than the logging interval.*",  # tasks log by the epoch
    ".*you have no `val_dataloader`.*|.*but have no `val_dataloader`.*|Total length of `list` across ranks is zero.*",
    ".*`Trainer.barebones=True.` is configured.*",  # whoever asks for that knows
    r".*isinstance\(treespec, LeafSpec\).*",  # its own use of torch's trees
    r".*ModelCheckpoint\(monitor='val_[^']*'\).*could not find.*",  # steps that ended before the first validation
    ".*It will use the best checkpoint path from first checkpoint callback.*|.*exists and is not empty.*",
)


def quieten() -> None:
    """Keep Lightning's advertisements, and its warnings of what is no fault here, from users."""
    for talker in ("utilities.rank_zero", "trainer.connectors.checkpoint_connector"):
        logging.getLogger(f"lightning.pytorch.{talker}").addFilter(_no_advertisement)
    for message in _NOISE:
        warnings.filterwarnings("ignore", message)


def keep_statistics(strategy: Any) -> None:
    """Keep DDP from replacing running statistics by those of the first process; ``OneResult`` averages them."""
    if isinstance(strategy, DDPStrategy):
        known = inspect.signature(DistributedDataParallel).parameters
        keep = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # its older name
        strategy._ddp_kwargs.setdefault(keep, False)


def note_termination(trainer: Any) -> None:
    """Have SIGTERM noted and no more: Lightning's handler broadcasts, at whatever collective the others are just then.

    Every step asks all processes whether the first was told to end.
    """
    trainer._signal_connector._sigterm_notifier_fn = partial(_noted, trainer)  # which spawned processes are sent


def _noted(trainer: Any, signum: Any, _: Any) -> None:
    connector = trainer._signal_connector
    if not connector.received_sigterm and trainer.strategy.launcher is not None:
        trainer.strategy.launcher.kill(signum)
    connector.received_sigterm = True


def leave_at_exit() -> None:
    """Have the process leave its group before Python ends: Lightning sees to that with NCCL alone.

    Threads of gloo that still hold a tensor would otherwise want a Python that is gone, and abort the process.
    """
    atexit.unregister(_leave)
    atexit.register(_leave)


def _leave() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def trainer_of(module: Any) -> Any:
    """Return the trainer that a module is attached to, None where there is none; Lightning's own property raises."""
    return module._trainer


def given_loader(trainer: Any, stage: str) -> Any:
    """Return what the trainer was given to go through: loaders, those of another's data module, or our data module.

    ``train_dataloader`` and its like are None until the loop begins, and a task must know its data before.

    Args:
        trainer: Lightning's.
        stage: ``"fit"``, ``"val"`` (of a fit), ``"validate"``, ``"test"`` or ``"predict"``.
    """
    loop, name = {
        "fit": (trainer.fit_loop, "train_dataloader"),
        "val": (trainer.fit_loop.epoch_loop.val_loop, "val_dataloader"),
        "validate": (trainer.validate_loop, "val_dataloader"),
        "test": (trainer.test_loop, "test_dataloader"),
        "predict": (trainer.predict_loop, "predict_dataloader"),
    }[stage]
    given = loop._data_source.instance
    another = isinstance(given, L.LightningDataModule) and not hasattr(given, "table")
    return getattr(given, name)() if another else given


def keep_targets(trainer: Any) -> None:
    """Have measured targets reach the task as the data has them: what 16-true does to inputs would round a timestamp.

    Args:
        trainer: Lightning's, before it goes through any data.
    """
    plugin = trainer.precision_plugin
    if not isinstance(plugin.convert_input, partial):
        plugin.convert_input = partial(_converted, trainer, plugin.convert_input)


def _converted(trainer: Any, convert: Callable[[Any], Any], batch: Any) -> Any:
    kind, made = getattr(trainer.lightning_module, "kind", None), convert(batch)
    if kind is None or not kind.measured:
        return made
    if isinstance(batch, Episode):
        return made._replace(support_targets=batch.support_targets, query_targets=batch.query_targets)
    if isinstance(batch, Mapping):
        return {**made, **{name: batch[name] for name in ("target",) if name in batch}}
    return [made[0], batch[1]] if isinstance(batch, (list, tuple)) and len(batch) == 2 else made


def shares_loaders(trainer: Any) -> bool:
    """Whether it shares a user's loaders among processes, ``use_distributed_sampler``, which it does not tell."""
    return bool(trainer._accelerator_connector.use_distributed_sampler)


def spawns(trainer: Any) -> bool:
    """Whether this process spawns others, so that what they learn has to come back; launchers are private."""
    return isinstance(trainer.strategy.launcher, _MultiProcessingLauncher)


class JudgingTrainer(L.Trainer):
    """Tells a task's ``setup`` that a checkpoint will be read after it: no hook comes between the two."""

    judges_a_checkpoint: bool = False
    """Whether it is about to read the checkpoint that it tests, validates or predicts with."""

    def _run(self, model: Any, ckpt_path: Any = None, **others: Any) -> Any:  # type: ignore[override]
        restores = self.state.fn != "fit" and ckpt_path is not None
        self.judges_a_checkpoint = restores and not self.strategy.restore_checkpoint_after_setup
        try:
            return super()._run(model, ckpt_path=ckpt_path, **others)
        finally:
            self.judges_a_checkpoint = False


# ---- where a loop stands, of which Lightning documents nothing


def stops_here(trainer: Any) -> bool:
    """Whether training ends with this step since it was told to, and has done its ``min_epochs`` and ``min_steps``."""
    return bool(trainer.should_stop and trainer.fit_loop._can_stop_early)


def within_a_step(trainer: Any) -> bool:
    """Whether gradients are being accumulated, which no checkpoint holds."""
    return bool((trainer.fit_loop.batch_idx + 1) % trainer.accumulate_grad_batches != 0)


def validation_follows(trainer: Any, batch_idx: int) -> bool:
    """Whether validation comes after this step: a checkpoint written now would leave it out."""
    every = trainer.val_check_batch
    if not trainer.enable_validation or not isinstance(every, int):
        return False
    by_epoch = trainer.check_val_every_n_epoch is not None
    return bool(((batch_idx if by_epoch else trainer.fit_loop.epoch_loop.total_batch_idx) + 1) % every == 0)


def between_epochs(trainer: Any) -> bool:
    """Whether every epoch that was begun has had all its steps."""
    epochs = trainer.fit_loop.epoch_progress.total
    return bool(epochs.processed == epochs.started)


def has_begun(trainer: Any) -> bool:
    """Whether a first epoch was begun, in this process or before the checkpoint that it goes on from."""
    return bool(trainer.fit_loop.epoch_progress.total.started)


def complete_epochs(checkpoint: Mapping[str, Any]) -> int:
    """Count an epoch of a checkpoint as complete that is, where Lightning wrote it a moment too early.

    Returns:
        How many are.
    """
    epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]
    for counts in epochs.values():
        if counts["processed"] == counts["ready"]:
            counts["completed"] = counts["processed"]
    return int(epochs["current"]["completed"])


def begin_next_epoch(trainer: Any) -> None:
    """Go on after an epoch whose checkpoint was its last word."""
    loop = trainer.fit_loop
    # Schedules that follow a figure moved only after the checkpoint was written: they do so now, as of that epoch.
    loop.epoch_progress.current.completed -= 1
    loop.epoch_loop.update_lr_schedulers("epoch", update_plateau_schedulers=True)
    loop.epoch_progress.current.completed += 1
    # Lightning may take the next epoch for the rest of that one: it would leave out its hooks and its count.
    loop.reset_restart_stage()
    if not loop.epoch_loop.restarted_on_train_batch_end:  # after which it counts the batch, and begins anew
        _Loop.restarting.fset(loop, False)  # type: ignore[attr-defined]
        loop.epoch_loop.reset_restart_stage()


def keep_schedules(trainer: Any) -> None:
    """See to it that an epoch's end does not leave out the schedules that follow a figure, as after a restart."""
    trainer.fit_loop._restarting = False


# ---- what a metric is made of, which torchmetrics gives in ``state_dict`` only for states that are persistent


def sums_of(metric: Metric) -> dict[str, Any]:
    """Return what a metric has gathered, by the names of its states, over all processes."""
    with metric.sync_context():
        return {state: copy.deepcopy(getattr(metric, state)) for state in metric._defaults}


def restore_sums(metric: Metric, sums: Mapping[str, Any], device: Any) -> None:
    """Have a metric go on with what ``sums_of`` returned."""
    for state, value in sums.items():
        parts = [value] if isinstance(metric._defaults[state], list) and isinstance(value, Tensor) else value
        setattr(metric, state, tree_map(lambda part: part.to(device), parts))
        metric._update_count = max(1, metric._update_count)


def _no_advertisement(record: logging.LogRecord) -> bool:
    return not any(words in str(record.msg) for words in ("Tip:", "`weights_only` was not set"))
