"""Training a backbone further on a few examples, as a user would who calls ``Trainer.finetune``.

Shapes: S support, W classes, D features.
"""

from __future__ import annotations

import copy
import logging
import signal
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from quickstudy.algorithms.linear_probe import LinearProbe
from quickstudy.kinds.embedding import Embedding
from quickstudy.ladder.examples import Embedded, repeatable
from quickstudy.nets import Encoder
from quickstudy.nets.stages import stages_of
from quickstudy.trained import TrainedModel

if TYPE_CHECKING:
    from quickstudy.training.datamodule import DataModule
    from quickstudy.training.finetuning import Strategy
    from quickstudy.training.task import Task

STEPS = 100
"""Of the optimizer, or two epochs where these are more."""
BATCH = 16
"""Examples of a step."""
_RATE, _BACKBONE_RATE = 1e-3, 1e-4  # AdamW's
_STRENGTH = 0.1  # of the logistic regression that the head starts from
_LAST = 2  # stages of a backbone
PAIRED = 64
"""Examples of a step that draws those of a class together."""
_PAIRING_RATE, _EPOCHS, _FEWEST_STEPS, _MOST_STEPS = 5e-5, 10, 20, 200  # of such a training


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
    from quickstudy.training.datamodule import DataModule  # Lightning takes long to import, and help needs none
    from quickstudy.training.task import Classifier

    steps = steps_alone(len(support))
    with repeatable():
        encoder = copied(examples)
        data = of_domain(examples, DataModule)(examples.table.select(support.numpy()), batch_size=BATCH)
        task = of_domain(examples, Classifier)(
            backbone=encoder, optimizer="AdamW", learning_rate=_RATE, backbone_lr=_BACKBONE_RATE
        )
        task.meet(data, "fit")
        _begin(task.head, examples, support)
        run(task, data, strategy, steps, examples.encoder.device)
    found: TrainedModel = task.predictor()
    return found


def steps_alone(count: int) -> int:
    """Return of how many steps ``finetuned`` is, of so many examples."""
    return max(STEPS, 2 * -(-count // BATCH))


def drawn_together(examples: Embedded, support: Tensor) -> Encoder:
    """Train a copy of the backbone to embed examples of a class near each other, and of others apart.

    Tunstall et al. 2022, "Efficient Few-Shot Learning Without Prompts", https://arxiv.org/abs/2209.11055, do so by
    pairs; here every example of a step is compared with all others (``functional.neighbours.neighbourhood_loss``).

    Args:
        examples: all of them.
        support: ``[S]`` rows to learn from; where all classes have one there is no pair, and nothing to train.

    Raises:
        KeyboardInterrupt: it was stopped.
        TrainingError: the loss is no number.
    """
    if int(torch.bincount(examples.targets[support]).max()) < 2:
        return examples.encoder
    from quickstudy.training.datamodule import DataModule  # Lightning takes long to import, and help needs none
    from quickstudy.training.task import Embedder

    with repeatable():
        encoder = copied(examples)
        data_class = of_domain(examples, DataModule, answers=Embedding)
        data = data_class(examples.table.select(support.numpy()), batch_size=PAIRED)
        task = of_domain(examples, Embedder)(backbone=encoder, optimizer="AdamW", learning_rate=_PAIRING_RATE)
        run(task, data, "no_freeze", steps_together(len(support)), examples.encoder.device)
    trained: Encoder = task.encoder.eval().requires_grad_(False)
    return trained


def steps_together(count: int) -> int:
    """Return of how many steps ``drawn_together`` is, of so many examples."""
    return min(max(_EPOCHS * -(-count // PAIRED), _FEWEST_STEPS), _MOST_STEPS)


def of_domain(examples: Embedded, base: type[Any], **own: Any) -> type[Any]:
    """Return a class of data or tasks for what the examples are."""
    return type(base.__name__, (base,), {"modality": examples.knowledge.modality, **own})


def run(task: Task, data: DataModule, strategy: Strategy, steps: int, device: torch.device) -> None:
    """Train a task for so many steps, and leave it on its device; nothing is written, and nothing shown.

    Raises:
        KeyboardInterrupt: it was stopped.
        TrainingError: the loss is no number.
    """
    from quickstudy.trainer import Trainer  # Lightning takes long to import, and help needs none

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
    task.to(device)


def copied(examples: Embedded) -> Encoder:
    """Return a copy of the encoder that trains."""
    return copy.deepcopy(examples.encoder).requires_grad_(True).train()


def _begin(head: nn.Module, examples: Embedded, support: Tensor) -> None:
    """Put logistic regression on embeddings of length 1 into the head, as if all had the mean length."""
    if not isinstance(head, nn.Linear):
        return
    values_SD, ways = examples.values[support], len(examples.table.classes)
    weights_DW = LinearProbe(_STRENGTH).fit(values_SD, examples.targets[support], ways).to(head.weight)
    with torch.no_grad():
        head.weight.copy_(weights_DW[:-1].mT / values_SD.norm(dim=1).mean())
        head.bias.copy_(weights_DW[-1])
