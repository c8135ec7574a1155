"""What Lightning does by default and should not do here."""

from __future__ import annotations

import atexit
import inspect
import logging
import warnings
from functools import partial
from typing import Any

import torch.distributed
from lightning.pytorch.strategies import DDPStrategy
from torch.nn.parallel import DistributedDataParallel

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


def _no_advertisement(record: logging.LogRecord) -> bool:
    return not any(words in str(record.msg) for words in ("Tip:", "`weights_only` was not set"))
