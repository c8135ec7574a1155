"""A run whose loss is no number stops, and says what it was looking at."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from quickstudy.data.loading import StepLoader
from quickstudy.errors import TrainingError


class StopAtNaN(Callback):
    """Stops before a loss that is not finite changes a weight, on all processes."""

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Look at the loss.

        Raises:
            TrainingError: it is NaN or infinite, here or on another process.
        """
        wrong = ~loss.detach().isfinite().all()
        anywhere = wrong.clone().float()
        if trainer.world_size > 1:
            torch.distributed.all_reduce(anywhere)
        if not anywhere:
            return
        where = f"epoch {trainer.current_epoch}, step {trainer.global_step}"
        if not wrong:
            raise TrainingError(
                f"on another process the loss of {where} is not finite; its message says which examples"
            )
        loader: Any = trainer.train_dataloader
        seen = f" Its {loader.in_progress()}." if isinstance(loader, StepLoader) else ""
        raise TrainingError(
            f"the loss of {where} is {_word(float(loss.detach()))}, and no weight was changed by it.{seen} The same "
            "command repeats it, with resume='auto' (--trainer.resume auto) from the last checkpoint on. Common "
            "causes: a learning rate that is too high, precision='16-mixed' where 'bf16-mixed' would do, inputs that "
            "are not finite"
        )


def _word(value: float) -> str:
    return "NaN" if math.isnan(value) else "infinite"
