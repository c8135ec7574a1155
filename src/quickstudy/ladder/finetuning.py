"""Training a backbone further on a few examples, as a user would who calls ``Trainer.finetune``.

Shapes: S support, W classes, D features.
"""

from __future__ import annotations

import copy
import logging
import signal

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn

from quickstudy.algorithms.linear_probe import LinearProbe
from quickstudy.ladder.examples import Embedded
from quickstudy.nets.stages import stages_of
from quickstudy.trained import TrainedModel
from quickstudy.trainer import Trainer
from quickstudy.training.datamodule import DataModule
from quickstudy.training.finetuning import Strategy
from quickstudy.training.task import Classifier

STEPS = 100
"""Of the optimizer, or two epochs where these are more."""
_BATCH = 16
_RATE, _BACKBONE_RATE = 1e-3, 1e-4  # AdamW's
_STRENGTH = 0.1  # of the logistic regression that the head starts from
_LAST = 2  # stages of a backbone


def last_stages(backbone: nn.Module) -> Strategy:
    """Return the fine-tuning strategy that trains the last two stages of a backbone; of one stage, that."""
    return ("unfreeze_last", min(_LAST, len(stages_of(backbone))))


def finetuned(examples: Embedded, support: Tensor, strategy: Strategy) -> TrainedModel:
    """Train a copy of the backbone, and a head that starts as logistic regression on what it embeds untrained.

    Kumar et al. 2022, "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution",
    https://arxiv.org/abs/2202.10054

    Args:
        examples: all of them.
        support: ``[S]`` rows to learn from.
        strategy: what of the backbone trains, as ``Trainer.finetune`` takes it.

    Returns:
        What answers; the classes are those of all examples.

    Raises:
        KeyboardInterrupt: it was stopped.
        TrainingError: the loss is no number.
    """
    of_domain = {"modality": examples.knowledge.modality}
    data_class, task_class = (type(base.__name__, (base,), of_domain) for base in (DataModule, Classifier))
    device = examples.encoder.device
    steps = max(STEPS, 2 * -(-len(support) // _BATCH))
    with isolate_rng():
        torch.manual_seed(0)
        encoder = copy.deepcopy(examples.encoder).requires_grad_(True).train()
        data = data_class(examples.table.select(support.numpy()), batch_size=_BATCH)
        task = task_class(backbone=encoder, optimizer="AdamW", learning_rate=_RATE, backbone_lr=_BACKBONE_RATE)
        task.meet(data, "fit")
        _begin(task.head, examples, support)
        interrupted, log = signal.getsignal(signal.SIGINT), logging.getLogger("lightning.pytorch")
        level = log.level
        log.setLevel(logging.WARNING)
        try:
            trainer = Trainer(
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                max_epochs=-1,
                max_steps=steps,
                accelerator="cpu" if device.type == "cpu" else "auto",
                devices=1 if device.index is None else [device.index],
            )
            trainer.finetune(task, data, strategy=strategy, train_bn=False)
        except SystemExit as stop:
            if not isinstance(stop.__context__, KeyboardInterrupt):
                raise
            signal.signal(signal.SIGINT, interrupted)  # Lightning turns Ctrl-C off, and into exit(1)
            raise KeyboardInterrupt from stop
        finally:
            log.setLevel(level)
    found: TrainedModel = task.to(device).predictor()
    return found


def _begin(head: nn.Module, examples: Embedded, support: Tensor) -> None:
    """Put logistic regression on embeddings of length 1 into the head, as if all had the mean length."""
    if not isinstance(head, nn.Linear):
        return
    values_SD, ways = examples.values[support], len(examples.table.classes)
    weights_DW = LinearProbe(_STRENGTH).fit(values_SD, examples.targets[support], ways).to(head.weight)
    with torch.no_grad():
        head.weight.copy_(weights_DW[:-1].mT / values_SD.norm(dim=1).mean())
        head.bias.copy_(weights_DW[-1])
