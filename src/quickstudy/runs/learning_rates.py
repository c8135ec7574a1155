"""A learning rate found before training: Lightning's search, and what a run then does with its result."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from lightning.pytorch.callbacks import LearningRateFinder

from quickstudy.errors import ConfigError, DataWarning

_SKIPPED = 10  # of the first steps, while the mean of the losses is one of few


class FindLearningRate(LearningRateFinder):
    """Searches when a training begins, and sets the rate; the model and what it is trained on are then as before."""

    def __init__(self) -> None:
        super().__init__(min_lr=1e-7, max_lr=1.0, num_training_steps=100, update_attr=False)

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Search, unless a run goes on; see ``lr_find``."""
        if trainer.ckpt_path is None and not trainer.fast_dev_run:
            self.lr_find(trainer, pl_module)

    def lr_find(self, trainer: Any, pl_module: Any) -> None:
        """Try rates, and make the optimizers and schedules anew with the best; warn where the loss tells none.

        Raises:
            ConfigError: the optimizer's options have a rate, which is not to be found.
        """
        spec = pl_module.hparams.get("optimizer")
        if isinstance(spec, (tuple, list)) and "lr" in spec[1]:
            raise ConfigError(f"find_learning_rate finds what optimizer={spec} has already: leave one of them out")
        loop, epochs, validates = trainer.fit_loop, trainer.fit_loop.max_epochs, trainer.check_val_every_n_epoch
        loop.max_epochs, trainer.check_val_every_n_epoch = -1, 1 << 60  # as many steps as it takes, and no validation
        try:
            super().lr_find(trainer, pl_module)
        finally:
            loop.max_epochs, trainer.check_val_every_n_epoch = epochs, validates
        tried: Any = self.optimal_lr
        rate = steepest(tried.results["lr"], tried.results["loss"])
        if rate is None:
            warnings.warn(
                "the search for a learning rate found none at which the loss falls: training goes on with the model's "
                "own. Do the labels belong to the inputs?",
                DataWarning,
                2,
            )
            return
        pl_module.learning_rate = rate
        trainer.strategy.setup_optimizers(trainer)


def steepest(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """Return the rate at which a loss falls fastest, over the logarithm of the rate; None where it falls nowhere.

    Lightning's own suggestion divides by the rates themselves, so that the noise at the smallest rates, which lie
    nearest to each other, has the steepest slopes.

    Args:
        rates: that were tried, from small to large.
        losses: at each, a running mean.

    >>> import math
    >>> rates = [10 ** (-7 + 0.07 * step) for step in range(100)]
    >>> 1e-4 < steepest(rates, [2 - math.tanh(math.log10(rate) + 3) for rate in rates]) < 1e-2
    True
    """
    pairs = np.array(list(zip(rates, losses, strict=False)))[_SKIPPED:-1].reshape(-1, 2)
    pairs = pairs[np.isfinite(pairs).all(1)]
    if len(pairs) < 2:
        return None
    slopes = np.gradient(pairs[:, 1], np.log(pairs[:, 0]))
    return float(pairs[slopes.argmin(), 0]) if slopes.min() < 0 else None
