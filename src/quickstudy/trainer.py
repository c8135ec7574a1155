"""Lightning's Trainer, with ``finetune`` and with ``predict`` into names."""

from __future__ import annotations

import inspect
import logging
import warnings
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins import CheckpointIO, TorchCheckpointIO
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from quickstudy.algorithms import EmbeddingAlgorithm
from quickstudy.allocator import keep_memory_mapped
from quickstudy.checkpoint import read_checkpoint
from quickstudy.errors import ConfigError
from quickstudy.failing import StopAtNaN
from quickstudy.files import atomic_write
from quickstudy.finetuning import Strategy, build_finetuning
from quickstudy.processes import OneResult
from quickstudy.progress import build_progress
from quickstudy.resuming import KeepLast, newest_checkpoint, run_folder

# What Lightning warns of although nothing is wrong.
_NOISE = (
    ".*does not have many workers.*",  # workers pay only where decoding is the bottleneck, and decoded data is cached
    ".*is smaller than the logging interval.*",  # tasks log by the epoch
    ".*you have no `val_dataloader`.*|.*but have no `val_dataloader`.*|Total length of `list` across ranks is zero.*",
    r".*isinstance\(treespec, LeafSpec\).*",  # its own use of torch's trees
)

Output = Literal["labels", "probabilities", "logits", "classes"]


class Trainer(L.Trainer):
    """Trains, tests and predicts.

    Args:
        sync_batchnorm: whether BatchNorm in ordinary training on several processes normalises by the statistics of all
            their batches together, so that their number changes nothing. Episodes have statistics of their own.
        resume: ``"auto"``: keep checkpoints in ``default_root_dir``, one after every epoch and every ten minutes, and
            go on from the newest, if there is one; a ``KeepLast`` among the callbacks chooses other times.
        lightning_kwargs: https://lightning.ai/docs/pytorch/stable/common/trainer.html
    """

    def __init__(
        self, *, sync_batchnorm: bool = True, resume: Literal["auto"] | None = None, **lightning_kwargs: Any
    ) -> None:
        self.sync_batchnorm = sync_batchnorm  # Lightning's own would replace the layers, and with them the episodes'
        # The data's own samplers share the work; Lightning's would give every process the same episodes.
        lightning_kwargs.setdefault("use_distributed_sampler", False)
        if lightning_kwargs.get("logger", True) is True:
            lightning_kwargs["logger"] = CSVLogger(
                lightning_kwargs.get("default_root_dir") or "lightning_logs", name=""
            )
        if lightning_kwargs.get("overfit_batches"):
            raise ConfigError(
                "overfit_batches would replace the sampler that draws the episodes: for a few-shot strategy set "
                "num_tasks=8 among its options, otherwise limit_train_batches=8"
            )
        callbacks = _listed(lightning_kwargs.pop("callbacks", None))
        plugins = _listed(lightning_kwargs.pop("plugins", None))
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            plugins.append(WholeCheckpoints())
        if lightning_kwargs.get("enable_progress_bar") is not False and not any(
            isinstance(c, ProgressBar) for c in callbacks
        ):
            callbacks.append(build_progress())
        logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_no_advertisement)
        for message in _NOISE:
            warnings.filterwarnings("ignore", message)
        callbacks += [OneResult(), StopAtNaN()]
        self._resumes_from = run_folder(resume, lightning_kwargs.get("default_root_dir"))
        if self._resumes_from is not None and not any(isinstance(callback, KeepLast) for callback in callbacks):
            callbacks.append(KeepLast(self._resumes_from))
        super().__init__(callbacks=callbacks, plugins=plugins, **lightning_kwargs)
        if isinstance(self.accelerator, CPUAccelerator):
            keep_memory_mapped()
        if isinstance(self.strategy, DDPStrategy):
            # OneResult averages the running statistics; DDP would replace them by those of the first process.
            known = inspect.signature(DistributedDataParallel).parameters
            keep = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # its older name
            self.strategy._ddp_kwargs.setdefault(keep, False)

    def fit(  # type: ignore[override]
        self,
        model: Any,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: L.LightningDataModule | None = None,
        ckpt_path: Any = None,
        **lightning_kwargs: Any,
    ) -> None:
        """Train a task, as Lightning does; with ``resume="auto"`` from the newest checkpoint of the run's folder.

        Raises:
            DataError: there are checkpoints, and none can be read.
            ConfigError: the strategy cannot serve the model's algorithm.
        """
        if ckpt_path is None and self._resumes_from is not None:
            ckpt_path = newest_checkpoint(self._resumes_from)
        algorithm = getattr(model, "algorithm", None)
        if isinstance(self.strategy, FSDPStrategy) and not isinstance(algorithm, EmbeddingAlgorithm | None):
            raise ConfigError(
                f"{type(algorithm).__name__} adapts the encoder's own weights, which strategy='fsdp' keeps in parts on "
                "several devices: use strategy='ddp', or an algorithm on embeddings such as 'anil'"
            )
        if isinstance(self.strategy.launcher, _MultiProcessingLauncher) and datamodule is not None:
            # The trained weights come back from the spawned processes; what they belong to must be here.
            model.meet(datamodule, "fit")
            if self.precision == "64-true":
                model.double()
        super().fit(model, train_dataloaders, val_dataloaders, datamodule, ckpt_path, **lightning_kwargs)

    def finetune(
        self,
        model: L.LightningModule,
        datamodule: L.LightningDataModule | None = None,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        strategy: Strategy = "no_freeze",
        train_bn: bool = True,
        ckpt_path: str | None = None,
    ) -> None:
        """Train a model whose backbone may be kept as it is.

        Args:
            model: a task.
            datamodule: its data; or loaders instead.
            train_dataloaders, val_dataloaders: loaders of batches or of ``Episode``.
            strategy: ``"no_freeze"`` trains everything, ``"freeze"`` all but the backbone, ``("freeze_unfreeze", 5)``
                the backbone from epoch 5 on. ``("unfreeze_milestones", ((0, 5), 3))`` trains the last 3 layers of the
                backbone from epoch 0 and the rest from epoch 5; layers are counted that have parameters.
                ``("gradual", 2)`` begins with the head and adds a stage of the backbone every 2 epochs, from the top.
                ``("lora", 8)`` trains additions of rank 8 to the linear and convolutional layers, which become part
                of them at the end; it needs ``quickstudy[lora]``. Or a ``BaseFinetuning``.
            train_bn: whether BatchNorm layers of a frozen backbone train.
            ckpt_path: a checkpoint to go on from.

        Raises:
            ConfigError: there is no such strategy, or it leaves nothing to train.
        """
        added = build_finetuning(strategy, train_bn)
        callbacks = self.callbacks  # type: ignore[has-type]
        self.callbacks = [*callbacks, *added]
        try:
            self.fit(model, train_dataloaders, val_dataloaders, datamodule, ckpt_path)
        finally:
            self.callbacks = callbacks

    def predict(  # type: ignore[override]
        self,
        model: L.LightningModule | None = None,
        dataloaders: Any = None,
        datamodule: L.LightningDataModule | None = None,
        output: Output = "labels",
        **lightning_kwargs: Any,
    ) -> Any:
        """Predict every example of the prediction data, in order.

        Args:
            model: a task that was trained on fixed classes.
            dataloaders: loaders of inputs; or
            datamodule: data with a ``predict_...``.
            output: ``"labels"``: N class names (lists of names with several labels per example); ``"classes"``: their
                numbers, a tensor ``[N]`` (``[N, C]`` of zeros and ones); ``"probabilities"`` and ``"logits"``: a tensor
                ``[N, C]``.
            lightning_kwargs: Lightning's own, such as ``ckpt_path``.

        Raises:
            ConfigError: the output is unknown, or the model has no fixed classes: then use ``model.adapt``.
        """
        if output not in ("labels", "probabilities", "logits", "classes"):
            raise ConfigError(f"output={output!r} is none of 'labels', 'probabilities', 'logits', 'classes'")
        if self.world_size > 1:
            raise ConfigError(f"predict runs on one process, not on {self.world_size}: use Trainer(devices=1)")
        batches: Any = super().predict(model, dataloaders, datamodule, **lightning_kwargs)
        task: Any = self.lightning_module
        logits = torch.cat(batches).float() if batches else torch.empty(0, len(task.classes))
        several = task.hparams["multi_label"]
        if output == "logits":
            return logits
        if output == "probabilities":
            return logits.sigmoid() if several else logits.softmax(-1)
        classes: Tensor = (logits > 0).long() if several else logits.argmax(-1)
        if output == "classes":
            return classes
        names = task.classes
        if several:
            return [[names[code] for code in row.nonzero().flatten().tolist()] for row in classes]
        return [names[code] for code in classes.tolist()]


class WholeCheckpoints(TorchCheckpointIO):
    """Writes checkpoints that are whole or absent, whatever moment the process dies at; reads no code from one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write to a path; to an address such as ``s3://...`` as Lightning does."""
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        with atomic_write(path) as file:
            torch.save(checkpoint, file)

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


def _listed(given: Any) -> list[Any]:
    return [] if given is None else list(given) if isinstance(given, (list, tuple)) else [given]


def _no_advertisement(record: logging.LogRecord) -> bool:
    return not any(words in str(record.msg) for words in ("Tip:", "`weights_only` was not set"))
