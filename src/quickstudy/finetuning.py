"""What of a backbone trains, and from when on."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import BaseFinetuning
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from quickstudy.errors import ConfigError, closest

STRATEGIES = ("no_freeze", "freeze")


class Freeze(Callback):
    """Keeps the backbone as it is: its weights, and its running statistics too.

    Args:
        train_bn: whether its BatchNorm layers train all the same, weights and statistics.
    """

    def __init__(self, train_bn: bool = True) -> None:
        self._train_bn = train_bn
        self._taken: list[nn.Parameter] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the frozen weights out of training, before the optimizer is made."""
        frozen = [parameter for module in self._frozen(pl_module) for parameter in module.parameters(recurse=False)]
        self._taken = [parameter for parameter in frozen if parameter.requires_grad]
        for parameter in self._taken:
            parameter.requires_grad_(False)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give them back: another run may train them."""
        for parameter in self._taken:
            parameter.requires_grad_(True)
        for module in self._frozen(pl_module):
            module.training = True

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: object) -> None:
        """Keep the frozen layers out of training mode, in which dropout drops and statistics move."""
        for module in self._frozen(pl_module):
            module.training = False

    def _frozen(self, task: LightningModule) -> list[nn.Module]:
        backbone = task.get_submodule("encoder.backbone")
        return [module for module in backbone.modules() if not (self._train_bn and isinstance(module, _BatchNorm))]


def build_finetuning(strategy: str | BaseFinetuning, train_bn: bool) -> list[Callback]:
    """Return the callbacks of a fine-tuning strategy.

    Args:
        strategy: ``"no_freeze"``, ``"freeze"``, or a ``BaseFinetuning`` of your own.
        train_bn: whether BatchNorm layers of a frozen backbone train.

    Raises:
        ConfigError: there is no such strategy.
    """
    if isinstance(strategy, BaseFinetuning):
        return [strategy]
    if strategy not in STRATEGIES:
        hint = closest(str(strategy), STRATEGIES)
        raise ConfigError(f"unknown fine-tuning strategy {strategy!r}{hint} Known: {', '.join(STRATEGIES)}")
    return [Freeze(train_bn)] if strategy == "freeze" else []
