"""What of a backbone trains, and from which epoch on.

Howard & Ruder 2018, "Universal Language Model Fine-tuning", https://arxiv.org/abs/1801.06146 (gradual unfreezing);
Hu et al. 2021, "LoRA", https://arxiv.org/abs/2106.09685;
Wang et al. 2020, "Frustratingly Simple Few-Shot Object Detection", https://arxiv.org/abs/2003.06957 (two stages)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import BaseFinetuning
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from quickstudy.errors import ConfigError, brief, closest
from quickstudy.nets.lora import adapters_of, add_adapters, merge_adapters
from quickstudy.nets.seq2seq import Seq2SeqDecoder
from quickstudy.nets.stages import layers_of, stages_of
from quickstudy.torch_internals import BatchNorm
from quickstudy.training.datamodule import DataModule
from quickstudy.training.task import Task

Strategy = str | tuple[Any, ...] | BaseFinetuning
Begins = dict[nn.Module, float]
"""The epoch from which each layer trains; infinity: never."""

SHAPES = {
    "no_freeze": "'no_freeze'",
    "freeze": "'freeze'",
    "freeze_unfreeze": "('freeze_unfreeze', epoch)",
    "unfreeze_milestones": "('unfreeze_milestones', ((epoch of the last layers, epoch of the rest), last layers))",
    "unfreeze_last": "('unfreeze_last', stages)",
    "gradual": "('gradual', epochs per stage)",
    "lora": "('lora', rank)",
    "tfa": "'tfa'",
}


class Unfreezing(Callback):
    """Keeps layers of the backbone as they are, running statistics and dropout too, until their epoch comes.

    What trains in an epoch follows from its number alone, so that a resumed run goes on as it was. The optimizer is
    made once, with all that will ever train.

    Args:
        begins: returns the epoch from which each layer trains; a layer is a module with parameters of its own.
        train_bn: whether BatchNorm layers train from the start, weights and statistics.
    """

    def __init__(self, begins: Callable[[list[nn.Module], nn.Module], Begins], train_bn: bool = True) -> None:
        self._begins_of = begins
        self._train_bn = train_bn
        self._begins: Begins = {}
        self._taken: list[tuple[nn.Parameter, float]] = []
        self._resting: list[nn.Module] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find out what trains when, and take what never will out of training before the optimizer is made."""
        _read(pl_module, trainer, stage)
        backbone = pl_module.get_submodule("encoder.backbone")
        layers = layers_of(backbone)
        own = self._begins_of(layers, backbone)
        if self._train_bn:
            own |= {layer: 0.0 for layer in layers if isinstance(layer, BatchNorm)}
        self._taken = [
            (parameter, own[layer])
            for layer in layers
            for parameter in layer.parameters(recurse=False)
            if parameter.requires_grad
        ]
        self._begins = {}
        _spread(backbone, own, math.inf if math.inf in own.values() else max(own.values(), default=0.0), self._begins)
        for parameter, begin in self._taken:
            parameter.requires_grad_(begin < math.inf)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse epochs that would train nothing.

        Raises:
            ConfigError: only the backbone has parameters, and it is frozen at first.
        """
        first = min((begin for _, begin in self._taken), default=0.0)
        others = {id(parameter) for parameter, _ in self._taken}
        heads = any(p.requires_grad for p in pl_module.parameters() if id(p) not in others)
        if 0 < first < math.inf and not heads:
            raise ConfigError(
                f"nothing would train before epoch {first:.0f}: this model has no parameters beside its frozen "
                "backbone. Use strategy='no_freeze', let the first layers train from epoch 0, or set train_bn=True"
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin, or go on, in the epoch of the checkpoint."""
        self._apply(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let train what begins in this epoch."""
        self._apply(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: object) -> None:
        """Keep frozen layers out of training mode, in which dropout drops and statistics move."""
        for module in self._resting:
            module.training = False

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give everything back: another run may train it."""
        for parameter, _ in self._taken:
            parameter.requires_grad_(True)
        for module in self._resting:
            module.training = True

    def _apply(self, trainer: Trainer) -> None:
        epoch = trainer.current_epoch
        for module in self._resting:
            module.training = True
        self._resting = [module for module, begin in self._begins.items() if begin > epoch]
        wanted = [(parameter, begin <= epoch) for parameter, begin in self._taken]
        changed = [(parameter, trains) for parameter, trains in wanted if parameter.requires_grad != trains]
        for parameter, trains in changed:
            parameter.requires_grad_(trains)
            parameter.grad = None
        if changed and isinstance(trainer.strategy, DDPStrategy):
            # DDP waits for the gradients of what required them when it was made.
            trainer.strategy.model = trainer.lightning_module
            trainer.strategy.configure_ddp()


class Adapters(Unfreezing):
    """Trains low-rank additions to the linear and convolutional layers, which become part of them at the end.

    Of a trained decoder, which is a head as large as a backbone, additions are all that trains, too.

    Args:
        rank: of the additions.
        train_bn: whether BatchNorm layers train too.
    """

    def __init__(self, rank: int, train_bn: bool = True) -> None:
        super().__init__(
            lambda layers, backbone: {
                **dict.fromkeys(layers, math.inf),
                **dict.fromkeys((layer for layer in adapters_of(backbone) if layer in layers), 0.0),
            },
            train_bn,
        )
        self._rank = rank
        self._held: list[nn.Parameter] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Add them."""
        _read(pl_module, trainer, stage)
        add_adapters(pl_module.get_submodule("encoder.backbone"), self._rank)
        super().setup(trainer, pl_module, stage)
        decoder = getattr(pl_module, "head", None)
        if isinstance(decoder, Seq2SeqDecoder):
            self._held = [parameter for parameter in decoder.parameters() if parameter.requires_grad]
            add_adapters(decoder, self._rank)
            for parameter in self._held:
                parameter.requires_grad_(False)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Merge them into the layers."""
        super().teardown(trainer, pl_module, stage)
        merge_adapters(pl_module.get_submodule("encoder.backbone"))
        for parameter in self._held:
            parameter.requires_grad_(True)
        if self._held:
            merge_adapters(pl_module.get_submodule("head"))
        self._held = []


class SecondStage(Unfreezing):
    """Gives a trained detector the classes of its data, and trains the last layers of boxes alone.

    Of classes that it knows already the weights stay, those of others are new; classes that the data does not have are
    forgotten. Its backbone, pyramid and proposals stay as they are.
    """

    def __init__(self) -> None:
        super().__init__(lambda layers, _: dict.fromkeys(layers, math.inf), train_bn=False)
        self._held: list[nn.Parameter] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the classes, and what stays as it is out of training."""
        super().setup(trainer, pl_module, stage)
        assert isinstance(pl_module, Task)
        data = getattr(trainer, "datamodule", None)
        pl_module.kind, last = pl_module.kind.second_stage(pl_module.head, data)
        kept = {id(parameter) for module in last for parameter in module.parameters()}
        assert pl_module.head is not None
        self._held = [one for one in pl_module.head.parameters() if id(one) not in kept and one.requires_grad]
        for parameter in self._held:
            parameter.requires_grad_(False)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give everything back."""
        super().teardown(trainer, pl_module, stage)
        for parameter in self._held:
            parameter.requires_grad_(True)


def _read(model: LightningModule, trainer: Trainer, stage: str) -> None:
    """Have a task make its backbone where that follows from its data, as Lightning sets callbacks up before it."""
    data = getattr(trainer, "datamodule", None)
    if isinstance(model, Task) and isinstance(data, DataModule):
        model.read(data, stage)


def build_finetuning(strategy: Strategy, train_bn: bool) -> list[Callback]:
    """Return the callbacks of a fine-tuning strategy.

    Args:
        strategy: one of ``Trainer.finetune``'s, or a ``BaseFinetuning`` of your own.
        train_bn: whether BatchNorm layers of a frozen backbone train.

    Raises:
        ConfigError: there is no such strategy, or its numbers are not what it needs.
    """
    if isinstance(strategy, BaseFinetuning):
        return [strategy]
    name, *arguments = (strategy,) if isinstance(strategy, str) else tuple(strategy) or ("",)
    if name not in SHAPES:
        hint = closest(str(name), SHAPES)
        raise ConfigError(f"unknown fine-tuning strategy {brief(strategy)}{hint} Known: {', '.join(SHAPES.values())}")
    match name, *arguments:
        case ["no_freeze"]:
            return []
        case ["freeze"]:
            return [Unfreezing(lambda layers, _: dict.fromkeys(layers, math.inf), train_bn)]
        case ["freeze_unfreeze", epoch] if _count(epoch):
            return [Unfreezing(lambda layers, _: dict.fromkeys(layers, float(epoch)), train_bn)]
        case ["unfreeze_milestones", [[first, second], last]] if _count(first, 0) and _count(second) and _count(last):
            if first > second:
                raise ConfigError(
                    f"{brief(strategy)}: the last layers begin in epoch {first}, after the rest in {second}"
                )
            return [Unfreezing(lambda layers, _: _milestones(layers, first, second, last), train_bn)]
        case ["unfreeze_last", count] if _count(count):
            return [Unfreezing(lambda layers, backbone: _last(layers, backbone, count), train_bn)]
        case ["gradual", epochs] if _count(epochs):
            return [Unfreezing(lambda layers, backbone: _gradual(layers, backbone, epochs), train_bn)]
        case ["lora", rank] if _count(rank):
            return [Adapters(rank, train_bn)]
        case ["tfa"]:
            return [SecondStage()]
    raise ConfigError(
        f"{brief(strategy)} is not {SHAPES[name]} with whole numbers, of which only the first epoch may be 0"
    )


def _milestones(layers: Sequence[nn.Module], first: int, second: int, last: int) -> Begins:
    if last > len(layers):
        raise ConfigError(f"unfreeze_milestones asks for the last {last} layers of a backbone that has {len(layers)}")
    return {layer: float(second if place < len(layers) - last else first) for place, layer in enumerate(layers)}


def _gradual(layers: Sequence[nn.Module], backbone: nn.Module, epochs: int) -> Begins:
    """Return the begin of each layer: the head alone trains first, then one stage more at a time, from the top."""
    stages = stages_of(backbone)
    begins = dict.fromkeys(layers, float(epochs * len(stages)))
    for below, stage in enumerate(reversed(stages)):
        begins |= dict.fromkeys(stage, float(epochs * (below + 1)))
    return begins


def _last(layers: Sequence[nn.Module], backbone: nn.Module, count: int) -> Begins:
    """Return that the last stages train from the start, and the others never."""
    stages = stages_of(backbone)
    if count > len(stages):
        raise ConfigError(f"unfreeze_last asks for the last {count} stages of a backbone that has {len(stages)}")
    return dict.fromkeys(layers, math.inf) | {layer: 0.0 for stage in stages[-count:] for layer in stage}


def _spread(module: nn.Module, own: Begins, inherited: float, begins: Begins) -> None:
    """Give every module a begin: its layers' last, BatchNorm's apart, or its surroundings' where it has none."""
    inside = [own[layer] for layer in layers_of(module) if not isinstance(layer, BatchNorm)]
    begins[module] = own[module] if isinstance(module, BatchNorm) else max(inside, default=inherited)
    for child in module.children():
        _spread(child, own, begins[module], begins)


def _count(number: object, least: int = 1) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= least
