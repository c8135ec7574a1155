"""What makes a run the same on any number of processes."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
import torch.distributed
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset

from quickstudy.data.loading import Steps
from quickstudy.data.samples import described
from quickstudy.errors import ConfigError, DataWarning
from quickstudy.nets import average_statistics, by_all_processes
from quickstudy.torch_internals import tree_leaves
from quickstudy.training.quirks import leave_at_exit, shares_loaders


def is_first() -> bool:
    """Whether this process is the first of the run's, which writes; also before they know each other."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0


def in_group() -> bool:
    """Whether this is one of several processes that know each other."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def together(trainer: Any) -> AbstractContextManager[Any]:
    """Return the context of a training step of examples: BatchNorm sees the batches of all processes."""
    synchronized = trainer is not None and getattr(trainer, "sync_batchnorm", False)
    return by_all_processes() if synchronized and trainer.world_size > 1 else nullcontext()


def warn_of_shares(trainer: Any) -> None:
    """Warn where several processes share batches of which the gradient is not the mean of the parts'."""
    if trainer is not None and trainer.world_size > 1 and is_first():
        warnings.warn(
            "the loss compares the examples of a batch with each other, and each process has a part of it: the result "
            "depends on the number of processes",
            DataWarning,
            2,
        )


def steps_of(trainer: Any, procedure: Any, data: Any) -> dict[str, Any]:
    """Return what training steps are made of and how, in plain values, whatever the number of processes.

    Args:
        trainer: whose they are; None: one process, and nothing special.
        procedure: that makes them of the data.
        data: the data module.
    """
    made: dict[str, Any] = {"transform": described(data.transform("train")), **procedure.made_of(trainer, data)}
    made["batch_transform"] = described(data.batch_transform)
    if trainer is not None:
        made |= {"precision": str(trainer.precision), "gradient_clip_val": trainer.gradient_clip_val}
    return made


def weighed(loss: Tensor, units: float | Tensor) -> tuple[Tensor, float | Tensor]:
    """Return the loss such that its mean over processes is that over the units of all, and how many those are.

    Args:
        loss: the mean over the units of this process.
        units: what it is the mean over: examples, or their weights.
    """
    if not in_group():
        return loss, units
    total = torch.tensor(float(units), dtype=torch.float64, device=loss.device)
    torch.distributed.all_reduce(total)
    return loss * (units * torch.distributed.get_world_size() / total).to(loss.dtype), float(total)


def gathered(part: Tensor) -> Tensor:
    """Return the rows of all processes, ``[n, ...]`` of each, which may have different numbers of them.

    A loss of all rows that every process computes alike then has the gradient, once processes average theirs, that
    it has on one process.
    """
    if not in_group():
        return part
    ranks, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
    counts = torch.zeros(ranks, dtype=torch.int64, device=part.device)
    counts[rank] = len(part)
    torch.distributed.all_reduce(counts)
    padded = part.new_zeros(int(counts.max()), *part.shape[1:])
    padded[: len(part)] = part.detach()
    everyone = [torch.empty_like(padded) for _ in range(ranks)]
    torch.distributed.all_gather(everyone, padded)
    rows = [each[:count] for each, count in zip(everyone, counts.tolist(), strict=True)]
    rows[rank] = part
    if part.requires_grad:
        rows[rank] = part.clone()
        rows[rank].register_hook(lambda gradient: gradient * ranks)  # type: ignore[no-untyped-call]
    return torch.cat(rows)


class Accumulated:
    """Makes a step of several batches that of one batch of all their examples; Lightning takes every batch for equal.

    It divides each loss by ``accumulate_grad_batches``, also where an epoch's last step has fewer.
    """

    def __init__(self) -> None:
        self._units: list[float] = []

    def begin(self) -> None:
        """Forget the batches of a step that came to nothing."""
        self._units.clear()

    def add(self, loss: Tensor, units: float | Tensor) -> Tensor:
        """Return the loss of one more batch, as much of the step's as it has units."""
        units = float(units)
        self._units.append(units)
        return loss if units == self._units[0] else loss * (units / self._units[0])

    def finish(self, optimizer: Optimizer, batches: int) -> None:
        """Make the sum of gradients their mean.

        Args:
            optimizer: of the parameters.
            batches: by how many Lightning divided each.
        """
        scale = batches * self._units[0] / sum(self._units) if self._units else 1.0
        self._units.clear()
        if scale != 1:
            for parameter in (parameter for group in optimizer.param_groups for parameter in group["params"]):
                if parameter.grad is not None:
                    parameter.grad *= scale


class OneResult(Callback):
    """Keeps running statistics equal on all processes, and what is drawn at random a function of the step alone.

    Dropout and the like draw from torch's generator, which is seeded before every training step by a number that the
    run keeps, the step and the process: a resumed run draws what an uninterrupted one would.
    """

    def __init__(self) -> None:
        self._seed: int | None = None
        self._batches = 0  # Lightning's own count is off after two interruptions, the first between epochs

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Have the process leave its group when it ends."""
        if in_group():
            leave_at_exit()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse to begin where processes see different things.

        Raises:
            ConfigError: they found different checkpoints, or different training data.
        """
        if trainer.world_size == 1:
            return
        sees = (None if trainer.ckpt_path is None else str(trainer.ckpt_path), getattr(pl_module, "trained_on", ()))
        seen: list[Any] = [None] * trainer.world_size
        torch.distributed.all_gather_object(seen, sees)
        for place, what in enumerate(("go on from different checkpoints", "train on different data")):
            found = [str(each[place]) for each in seen]
            if len(set(found)) > 1:
                raise ConfigError(
                    f"the processes would {what} ({', '.join(found)}): put the run's folder and the data where all of "
                    "them see the same"
                )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the number from torch's generator, unless a checkpoint brought one."""
        drawn = trainer.strategy.broadcast(torch.initial_seed())
        self._seed = drawn if self._seed is None else self._seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: object) -> None:
        """Seed what the step draws."""
        sequence = np.random.SeedSequence((self._seed or 0, self._batches, trainer.global_rank))
        self._batches += 1
        seed = int(sequence.generate_state(1, np.uint64)[0])
        if pl_module.device.type == "cpu":
            torch.default_generator.manual_seed(seed)  # torch.manual_seed notes for each absent device who called it
        else:
            torch.manual_seed(seed)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: object) -> None:
        """Average running statistics over what all processes saw."""
        if trainer.world_size > 1:
            average_statistics(pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return the number, and how many batches there were, for the checkpoint."""
        return {"seed": self._seed, "batches": self._batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with them."""
        self._seed, self._batches = state_dict["seed"], state_dict["batches"]


def check_shared(trainer: Any, *loaders: Any) -> None:
    """Check that loaders which a user made give every process its own part of the data.

    Raises:
        ConfigError: each process would see all of it.
    """
    world_size = trainer.world_size
    asked = world_size > 1 and not shares_loaders(trainer)
    for loader in tree_leaves(list(loaders)) if asked else ():
        if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
            continue  # whose own business it is
        sampler: Any = loader.sampler
        ours = isinstance(sampler, Steps)
        if not (ours and sampler.share.world_size == world_size) and not isinstance(sampler, DistributedSampler):
            raise ConfigError(
                f"each of {world_size} processes would see all that this {type(loader).__name__} loads: give "
                "datamodule=..., which shares it, or DataLoader(..., sampler=DistributedSampler(...))"
            )
