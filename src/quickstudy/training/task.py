"""The one place of loss, metrics, logging and optimizers, for every domain and strategy.

Shapes: T tasks, Q query, W ways, B examples of a batch, C classes, D features, ``...`` the shape of one input.
"""

from __future__ import annotations

import copy
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from inspect import Signature
from pathlib import Path
from typing import Any, ClassVar, Self, TypedDict, Unpack

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from quickstudy.algorithms import Algorithm
from quickstudy.batches import Batch
from quickstudy.data.episodes import EpisodePlan
from quickstudy.data.on_device import transformed
from quickstudy.errors import ConfigError, DataWarning, check_above_zero, check_options, given
from quickstudy.kinds.base import Judged, Kind, Score, as_kind
from quickstudy.kinds.classification import Classification
from quickstudy.kinds.detection import Detection
from quickstudy.kinds.detection3d import Detection3d
from quickstudy.kinds.embedding import Embedding
from quickstudy.kinds.losses import ClassWeights, LabelThresholds, Loss, Mix, MixSpec
from quickstudy.kinds.metrics import StageMetrics
from quickstudy.kinds.parts import RowHead
from quickstudy.kinds.regression import Regression
from quickstudy.kinds.segmentation import Segmentation
from quickstudy.learning.adapting import acquainted_with_names, untaught
from quickstudy.learning.parts import of_rows
from quickstudy.modality import MODALITIES, Modality, OfDomain
from quickstudy.nets import at_layer, build_encoder, sized
from quickstudy.part_predictor import PartPredictor
from quickstudy.selfsupervised import Method
from quickstudy.signatures import options_of, signature_of
from quickstudy.trained import TrainedModel
from quickstudy.training.checkpoint import (
    check_strategy,
    load_checkpoint,
    load_weights,
    memory_of,
    plain,
    restore_memory,
)
from quickstudy.training.datamodule import DataModule
from quickstudy.training.heads import given_head, meet_inputs
from quickstudy.training.mistakes import Mistake, Mistakes
from quickstudy.training.optimizers import (
    OptimizerSpec,
    SchedulerSpec,
    build_optimizer,
    build_scheduler,
    check_specs,
    grouped,
)
from quickstudy.training.outcome import Answers, Outcome
from quickstudy.training.procedure import Procedure, build_procedure
from quickstudy.training.processes import Accumulated, steps_of
from quickstudy.training.quirks import keep_targets, trainer_of


class TaskOptions(TypedDict, total=False):
    """The arguments of every task beside those of its answers, for static checkers; ``Task`` explains them."""

    backbone: str | nn.Module | None
    backbone_kwargs: Mapping[str, Any] | None
    pretrained: bool
    head: str | nn.Module
    loss_fn: str | Loss | None
    optimizer: OptimizerSpec
    learning_rate: float | None
    backbone_lr: float | None
    lr_scheduler: SchedulerSpec | None
    metrics: Any
    training_strategy: str
    training_strategy_kwargs: Mapping[str, Any] | None


class Task(OfDomain, L.LightningModule):
    """An encoder trained by a strategy: with a head for fixed answers, or by episodes for answers to come.

    A domain subclasses it and sets ``modality``, and ``build_mix`` if it has something to mix by; ``answers`` where its
    answers are no classes; ``default_backbone`` where it takes another network than its modality does. The options
    of the kind of answer (of classes: ``num_classes``, ``multi_label``, ``class_weights``, ``mix``,
    ``label_thresholds``, see ``Classifier``) are given beside these::

        class TokenClassifier(Task):
            answers = TokenClassification

        TokenClassifier(aggregation="first", learning_rate=1e-4)

    Args:
        kind: what an answer is; None: ``answers``, with the options that are given beside these. A whole number is
            that of classes.
        backbone: ``"conv4"``, ``"resnet12"``, any name of timm, or an ``nn.Module`` from ``[N, C, ...]`` to
            ``[N, ...]``; of pictures and texts ``"fast"``, ``"balanced"`` or ``"best"``, a pretrained one for the
            purpose; None takes the domain's own.
        backbone_kwargs: the backbone's own options.
        pretrained: start from trained weights where there are any (timm's).
        head: ``"linear"``, or an ``nn.Module`` from ``[B, D]`` to answers; only the default strategy has one.
        loss_fn: a function of (outputs, targets), or a name of torch.nn.functional; None is that of the kind of answer.
            Few-shot strategies judge queries by it; a loop within (MAML's) has a loss of its own, ``MAML.inner_loss``.
        optimizer: a name of torch.optim, of timm's (``"timm.lamb"``) or of one's own (``quickstudy list optimizers``),
            ``(name, options)``, or a function of the parameters.
        learning_rate: None for the optimizer's own default. It may be set later, as may ``hparams.learning_rate``,
            which Lightning's finder sets.
        backbone_lr: the backbone's own learning rate; None: the same.
        lr_scheduler: a name of torch.optim.lr_scheduler or of one's own, ``(name, options)``, or a function of the
            optimizer. Among the options, ``interval="step" | "epoch"`` says when it moves.
        metrics: more of torchmetrics: names, metrics, or a mapping of them by name.
        training_strategy: ``"default"`` is ordinary supervised training; others: ``available_strategies()``, and for
            embedders the self-supervised methods (``quickstudy list methods``).
        training_strategy_kwargs: the strategy's options: those of ``EpisodePlan``, and the algorithm's own; or the
            method's.

    Raises:
        ConfigError: an option is misspelled or out of range, or two do not go together.
    """

    default_backbone: ClassVar[str] = ""
    build_mix: ClassVar[Callable[..., Mix]]
    answers: ClassVar[type[Kind]] = Classification
    """What its answers are, where it is not told."""
    kind: Kind
    """What an answer is, with what it learned of the data."""
    procedure: Procedure
    """How a step is made of data."""
    algorithm: Algorithm | None
    """What learns from an episode, a part of the network; None where a step has none."""
    method: Method | None
    """What compares views of examples, likewise; None where a step has none."""
    __signature__: ClassVar[Signature]

    def __init_subclass__(cls, **options: Any) -> None:
        """Show whoever asks for it all that the class takes, and not only what it names."""
        super().__init_subclass__(**options)
        asked = cls.answers.asked()
        cls.__signature__ = signature_of(cls, Task, [one for one in fields(cls.answers) if one.name in asked])

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Refuse a misspelled argument, with the name that was meant."""
        known = list(dict.fromkeys([*options_of(cls, Task), *cls.answers.asked()]))
        planned = {name: kwargs[name] for name in kwargs if name in EpisodePlan.__annotations__ and name not in known}
        if planned:
            raise ConfigError(f"these belong to the few-shot strategy: training_strategy_kwargs={planned}")
        check_options(cls.__name__, kwargs, known)
        return super().__new__(cls)

    def __init__(
        self,
        kind: Kind | Mapping[str, Any] | int | None = None,
        backbone: str | nn.Module | None = None,
        backbone_kwargs: Mapping[str, Any] | None = None,
        pretrained: bool = True,
        head: str | nn.Module = "linear",
        loss_fn: str | Loss | None = None,
        optimizer: OptimizerSpec = "Adam",
        learning_rate: float | None = None,
        backbone_lr: float | None = None,
        lr_scheduler: SchedulerSpec | None = None,
        metrics: Any = None,
        training_strategy: str = "default",
        training_strategy_kwargs: Mapping[str, Any] | None = None,
        **of_kind: Any,
    ) -> None:
        arguments = dict(locals())
        for name in ("self", "__class__", "kind", "of_kind"):
            del arguments[name]
        super().__init__()
        if isinstance(kind, int):
            kind, of_kind = None, {"num_classes": kind, **of_kind}
        self.kind = self.answers(**of_kind) if kind is None else as_kind(kind)
        arguments |= self.kind.given() if kind is None else {"kind": self.kind.spec}
        self.unsaved = sorted(name for name, value in arguments.items() if not plain(value))
        """Arguments that a checkpoint cannot hold, since they are code."""
        self.save_hyperparameters({name: value for name, value in arguments.items() if name not in self.unsaved})
        check_specs(optimizer, learning_rate, lr_scheduler)
        check_above_zero(**given(backbone_lr=backbone_lr))
        self.procedure = build_procedure(training_strategy, training_strategy_kwargs, self.kind.plan, self.kind)
        self.algorithm, self.method = self.procedure.algorithm, self.procedure.method
        self.procedure.check_kind(self.kind, head)
        self._metrics = metrics
        self._optimizer, self._lr_scheduler = optimizer, lr_scheduler
        self._learning_rate, self._backbone_lr = learning_rate, backbone_lr
        self.mix = self.kind.mixer(getattr(type(self), "build_mix", None), type(self).__name__)
        network = (self.default_backbone or self.modality.backbone) if backbone is None else backbone
        if network == "":
            raise ConfigError(f"{type(self).__name__} has no backbone of its own: give backbone=")
        domain = MODALITIES.name_of(type(self.modality)) or ""
        if isinstance(network, str) and self.kind.of_backbone:
            backbone_kwargs = {**self.kind.of_backbone, **(backbone_kwargs or {})}
        self.encoder = build_encoder(network, backbone_kwargs, pretrained, domain)
        if isinstance(backbone, str) and (made_by := self.encoder.made_by) is not None and made_by[0] != backbone:
            # What a checkpoint is of, where trained weights chose it.
            self.hparams["backbone"], self.hparams["backbone_kwargs"] = made_by
        self.kind = self.kind.knowing(self.encoder)
        self.loss_fn = self.kind.loss(loss_fn, self.procedure.loss())
        """A function of (outputs, targets)."""
        self.head = self.kind.first_head(self.encoder) if head == "linear" else given_head(head)
        self.trained_classes: tuple[str, ...] = ()
        """Of a few-shot strategy: the class names it was trained on, which it must not be judged on."""
        self.validated_classes: tuple[str, ...] = ()
        """Those that chose among its checkpoints, which it must not be tested on."""
        self.trained_on: tuple[int, str] | tuple[()] = ()
        """How many examples there were to train on, and their fingerprint."""
        self.trained_examples = torch.empty(0, dtype=torch.int64)
        """What identifies them, or some of them: see ``data.identity``."""
        self.validated_examples = torch.empty(0, dtype=torch.int64)
        """What identifies those that chose among its checkpoints, likewise."""
        self.seen_before = 0
        """How many examples of the newest test, validation or prediction are, at least, among those it trained on."""
        self.chosen_by = 0
        """How many of the newest test are, at least, among those that chose among its checkpoints."""
        reads = self.encoder.reads or {}
        alike = reads.get("name") == domain
        self.load_options: dict[str, Any] = dict(reads["options"]) if reads and alike else {}
        """How the domain's ``load`` was called for the training data, so that prediction does the same.

        Before that, how the backbone wants it, where it says so: a pretrained one brings its tokenizer.
        """
        self.like: Batch | None = None
        """``[0, ...]``, of the form of what the network is fed with, of ordinary training; None before."""
        self.trained_with: dict[str, Any] = {}
        """What a training step was made of and how, in plain values, so that a run that goes on says what changed."""
        self.changed = ""
        """What is other than when the run began that goes on, in words, until it does."""
        self.outcome: Outcome | None = None
        """What the latest test saw."""
        self.outcome_file: Path | None = None
        """Where that is written, for the process that spawned those which test; None: nowhere."""
        self.mistakes: list[Mistake] = []
        """The examples of the latest test, on this process, with the worst answers, where these have places."""
        self._answers: Answers | None = None
        self._mistakes: Mistakes | None = None
        self._accumulated = Accumulated()
        for stage in ("train", "val", "test"):
            self.add_module(f"{stage}_metrics", self._measures(stage, None))

    @property
    def plan(self) -> EpisodePlan | None:
        """What an episode is; None where a step has none."""
        return self.procedure.plan

    @plan.setter
    def plan(self, plan: EpisodePlan | None) -> None:
        self.procedure.plan = plan

    @property
    def has_learned(self) -> bool:
        """Whether it, or its network before, was trained on anything, as a module that says what it reads may be."""
        says = self.encoder.made_by is None and self.encoder.reads is not None
        return self.encoder.trained or says or bool(self.trained_on)

    @property
    def score(self) -> Score:
        """What the task is judged by, as ``val_accuracy`` is logged, and tables go by."""
        return self.kind.score

    @property
    def kept_by(self) -> Score:
        """What chooses the best checkpoint, and patience goes by: the score, or what the kind of answers has for it."""
        return self.kind.kept_by if self.score == self.kind.score else self.score

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names that the head knows; empty for a few-shot strategy, and where answers are no classes."""
        return self.kind.classes

    # ---- learning rates, which Lightning's finder or a user may set afterwards

    @property
    def learning_rate(self) -> float | None:
        """The learning rate; None: the optimizer's own default."""
        rate: float | None = self.hparams.get("learning_rate", self._learning_rate)
        return rate

    @learning_rate.setter
    def learning_rate(self, rate: float | None) -> None:
        self.hparams["learning_rate"] = rate

    @property
    def backbone_lr(self) -> float | None:
        """The backbone's own learning rate; None: the same."""
        rate: float | None = self.hparams.get("backbone_lr", self._backbone_lr)
        return rate

    @backbone_lr.setter
    def backbone_lr(self, rate: float | None) -> None:
        self.hparams["backbone_lr"] = rate

    # ---- getting to know the data

    def setup(self, stage: str) -> None:
        """Meet the trainer's data; where a checkpoint is to be judged, once it has told what it knows."""
        if stage == "fit":
            leave_evaluation(self)
        if self.kind.measured:
            keep_targets(self.trainer)
        if not getattr(self.trainer, "judges_a_checkpoint", False):
            self.meet(self._data, stage)

    @property
    def _data(self) -> DataModule | None:
        """The trainer's data module; of one that is not quickstudy's nothing is known but its loaders."""
        data = getattr(trainer_of(self), "datamodule", None)
        return data if isinstance(data, DataModule) else None

    def meet(self, data: Any, stage: str) -> None:
        """Take from a data module what was not given: the classes, the size of the features, how inputs are loaded."""
        by_class = self.procedure.by_class
        if data is not None:
            self.read(data, stage)
        if data is not None and stage == "fit" and (table := data.table("train", by_class=by_class)):
            self.trained_on = len(table), table.fingerprint
            self.trained_with = steps_of(trainer_of(self), self.procedure, data)
        if data is not None:
            meet_inputs(self.encoder, data, stage, by_class=by_class)
        self.procedure.meet(self, data, stage)
        for measured in [name for name, _ in self.named_children() if re.fullmatch(r"(val|test)_metrics_\d+", name)]:
            delattr(self, measured)  # of loaders that there were before
        for name in ("train", "val", "test"):
            self.add_module(f"{name}_metrics", self._measures(name, self._metrics).to(self.device))

    def read(self, data: DataModule, stage: str) -> None:
        """Agree with the data on how inputs are read, and make the backbone anew where its size follows from that."""
        by_class = self.procedure.by_class
        trains = stage == "fit"
        self.load_options = data.read_as(self.load_options, trains=trains, by_class=by_class, trained=self.has_learned)
        encoder = sized(self.encoder, data.modality.for_backbone())
        if encoder is not self.encoder and encoder.made_by is not None:
            self.encoder, self.hparams["backbone_kwargs"] = encoder, encoder.made_by[1]

    def _measures(self, stage: str, asked: Any) -> StageMetrics:
        choices = self.procedure.choices(self.kind, stage)
        figures = self.kind.measure(self.procedure.unit == "examples", choices)
        tuner = self.kind.tuner() if stage == "val" else None
        return StageMetrics(self.score.name, figures, self.kind.further(asked, choices), tuner)

    def kind_in(self, stage: str) -> Kind:
        """Return what an answer is as a stage judges it: what validation data tuned shows on others, and afterwards."""
        return self.kind.untuned() if stage == "train" or (stage == "val" and self._tunes) else self.kind

    @property
    def _tunes(self) -> bool:
        """Whether a validation is one of a training, of which its thresholds and the like come."""
        trainer = trainer_of(self)
        return trainer is None or trainer.state.fn in (None, "fit")

    # ---- steps

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits ``[B, C]`` of the head; of a few-shot strategy, or without a head yet, features ``[B, D]``."""
        answers: Tensor = (
            self.encoder(inputs) if self.head is None else self.kind.outputs(self.encoder, self.head, inputs)
        )
        return answers

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a step: the mean over its examples, or over its episodes, of all processes together."""
        if self._data is not None and self._data.batch_transform is not None:
            batch = transformed(self._data.batch_transform, batch)
        with self.procedure.training(trainer_of(self)):
            judged = self.procedure.judge(self, batch, "train")
        self._measure(judged, "train")
        loss, weight = self.procedure.weighed(judged.loss, judged.weight)
        return loss if self._batches_of_a_step == 1 else self._accumulated.add(loss, weight)

    @property
    def _batches_of_a_step(self) -> int:
        trainer = trainer_of(self)
        return 1 if trainer is None else trainer.accumulate_grad_batches

    def on_train_start(self) -> None:
        """Warn of what has changed since the run began, now that it does go on."""
        if self.changed:
            warnings.warn(self.changed, DataWarning, 2)
        self.changed = ""

    def on_train_epoch_start(self) -> None:
        """Begin with a step of its own."""
        self._accumulated.begin()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Weigh the batches of the step by what is in them."""
        self._accumulated.finish(optimizer, self._batches_of_a_step)

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """Make a step, and what follows one."""
        super().optimizer_step(*arguments, **options)
        self.procedure.after_step(self)

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Judge a step of the validation data."""
        self._measure(self.procedure.judge(self, batch, "val"), "val", dataloader_idx)

    def on_test_epoch_start(self) -> None:
        """Begin to note the answers, of which there is more to tell than a mean."""
        loaders, unit, settle = self.trainer.test_dataloaders, self.procedure.unit, self.kind.settled
        self._answers = Answers(loaders, self.classes, unit, self.score, settle)
        if self.kind.placed and unit == "examples" and self.modality.drawn_as:
            self._mistakes = Mistakes(loaders, self.kind, self.modality)

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Judge a step of the test data."""
        judged = self.procedure.judge(self, batch, "test")
        if self._answers is not None and len(judged.figures):
            noted = self.kind.noted(judged.outputs, judged.targets)
            self._answers.add(batch_idx, dataloader_idx, *noted, batch)
            if self._mistakes is not None:
                self._mistakes.add(batch, judged.outputs, judged.targets)
        self._measure(judged, "test", dataloader_idx)

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Return the logits ``[B, C]`` of a batch.

        Raises:
            ConfigError: there is no head, so no fixed classes to predict.
        """
        answers: Tensor = self.procedure.answers(self, batch)
        return answers

    def _measure(self, judged: Judged, stage: str, loader: int = 0) -> None:
        choices = self.procedure.choices(self.kind, stage)
        outputs, targets = self.kind_in(stage).for_metrics(judged.outputs, judged.targets, choices)
        for metrics in self._metrics_of(stage, loader):
            metrics.update(judged.figures, outputs, targets, judged.loss, judged.weight)

    def _metrics_of(self, stage: str, loader: int) -> list[StageMetrics]:
        """Return what measures a stage, and of several loaders also what measures one of them."""
        together: Any = self.get_submodule(f"{stage}_metrics")
        if len(self._loaders(stage)) < 2:
            return [together]
        name = f"{stage}_metrics_{loader}"
        if not hasattr(self, name):
            self.add_module(name, copy.deepcopy(together).train())  # or Lightning wonders at the next training
            getattr(self, name).reset()
        return [together, getattr(self, name)]

    def _loaders(self, stage: str) -> list[Any]:
        """Return how many batches each loader of a stage has."""
        trainer = trainer_of(self)
        if trainer is None or stage == "train":
            return []
        return list(trainer.num_val_batches if stage == "val" else trainer.num_test_batches)

    # ---- what is logged at the end of an epoch

    def on_train_epoch_end(self) -> None:
        """Log the training data's figures."""
        self._log_epoch("train")

    def on_validation_epoch_end(self) -> None:
        """Log the validation data's figures."""
        self._log_epoch("val")

    def on_test_epoch_end(self) -> None:
        """Log the test data's figures."""
        self._log_epoch("test")

    def _log_epoch(self, stage: str) -> None:
        metrics: Any = self.get_submodule(f"{stage}_metrics")
        tuner = metrics.tuner if self._tunes else None
        if tuner is not None:
            found = tuner.compute()
            if not self.trainer.sanity_checking:
                self.kind = self.kind.tuned(found)
        collected = metrics.collect(judged=stage != "train")
        collected |= self.kind.choosing(collected, tuner) if stage == "val" else {}
        if stage != "train":
            collected |= self.procedure.facts(self)
        if stage == "test" and self._answers is not None:
            self.outcome, self._answers = self._answers.gathered(self.kind.found_per_class), None
            self.mistakes = [] if self._mistakes is None else self._mistakes.worst
            self._mistakes = None
            if self.outcome_file is not None and self.trainer.is_global_zero:
                self.outcome.write(self.outcome_file)
            half = self.outcome.classes_ci95()
            collected |= {f"{self.score.name}_ci95_classes": half} if math.isfinite(half) else {}
            collected |= {f"{self.score.name}_ci95": self.outcome.ci95()} if len(self.outcome.groups) else {}
        for loader in range(len(self._loaders(stage))):
            one = getattr(self, f"{stage}_metrics_{loader}", None)
            if one is not None and one.figures.update_called:
                collected |= {f"{name}/dataloader_idx_{loader}": value for name, value in one.collect().items()}
        for name, value in collected.items():
            shown = (name.startswith((self.score.name, "loss")) or name == self.kept_by.name) and "/" not in name
            self.log(f"{stage}_{name}", value, prog_bar=shown, sync_dist=True, add_dataloader_idx=False)

    # ---- optimizers, checkpoints

    def configure_optimizers(self) -> Any:
        """Return the optimizer of everything that is not frozen, and the schedule.

        Raises:
            ConfigError: nothing is left to train.
        """
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        if not parameters:
            raise ConfigError(
                "nothing is left to train: every parameter is frozen or the backbone has none. "
                "Use strategy='no_freeze' or train_bn=True, or skip training and call trainer.test or model.adapt"
            )
        groups = grouped(parameters, self.encoder.backbone, self.backbone_lr)
        optimizer = build_optimizer(self._optimizer, groups, self.learning_rate)
        if self._lr_scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": build_scheduler(self._lr_scheduler, optimizer)}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the weights do not say; plain values only."""
        checkpoint["quickstudy"] = memory_of(self)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore class names and how inputs are loaded, and make room for the weights."""
        check_strategy(checkpoint, self.hparams["training_strategy"], type(self).__name__)
        restore_memory(self, checkpoint)
        self.procedure.restore(self, checkpoint["quickstudy"], checkpoint["state_dict"])
        trainer = trainer_of(self)
        if trainer is not None and trainer.state.fn not in (None, "fit"):
            self.meet(self._data, trainer.state.fn.value)

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, map_location: Any = "cpu", **arguments: Any) -> Self:  # type: ignore[override]
        """Make the model that a checkpoint holds; no code is run from the file (``weights_only=True``).

        Args:
            checkpoint_path: a file that ``Trainer`` wrote.
            map_location: the device for the weights.
            arguments: instead of those that the model was made with; needed for those that are code (a backbone
                module, functions), which no checkpoint holds. Options in ``training_strategy_kwargs`` are changed one
                by one, unless the strategy is another.

        Raises:
            DataError: the file is missing, cut, or no checkpoint of quickstudy.
            ConfigError: an argument that is code was not given again.
        """
        checkpoint, made_with = load_checkpoint(checkpoint_path, map_location, arguments)
        model = cls(**made_with)
        model.on_load_checkpoint(checkpoint)
        load_weights(model, checkpoint["state_dict"], checkpoint_path, arguments)
        return model.to(map_location).eval()

    # ---- use

    def with_strategy(
        self, training_strategy: str, training_strategy_kwargs: Mapping[str, Any] | None = None, **arguments: Any
    ) -> Self:
        """Return a model of another strategy that begins with this one's encoder, and knows what data that has seen.

        So a network of ordinary training is tested by episodes (``"nearest_neighbour"``, ``"finetune"``), which are the
        baselines of Chen et al. 2019, https://arxiv.org/abs/1904.04232, or trained on by episodes.

        Args:
            training_strategy: see the class.
            training_strategy_kwargs: likewise.
            arguments: others of the class, such as ``learning_rate``.

        Raises:
            ConfigError: the strategy or an option is unknown.
        """
        made = type(self)(
            backbone=copy.deepcopy(self.encoder.backbone),
            training_strategy=training_strategy,
            training_strategy_kwargs=training_strategy_kwargs,
            **arguments,
        )
        made.encoder = copy.deepcopy(self.encoder)
        if self.encoder.made_by is not None:
            made.unsaved.remove("backbone")
            made.hparams["backbone"], made.hparams["backbone_kwargs"] = self.encoder.made_by
        made.load_options = dict(self.load_options)
        made.trained_classes = self.trained_classes or self.classes
        made.validated_classes = self.validated_classes
        made.trained_examples, made.validated_examples = self.trained_examples, self.validated_examples
        return made.to(self.device).eval()

    def adapt(
        self,
        inputs: Any = None,
        labels: Any = None,
        *,
        classes: Sequence[str] = (),
        group_by: Sequence[Any] | None = None,
        strategy: str | None = None,
        strategy_kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Learn classes, or numbers, from a few examples, without training.

        Args:
            inputs: 1..n examples per class: paths, pictures, arrays, whatever the domain's ``load`` takes; or a
                tensor ``[S, ...]``, fed as it is.
            labels: S labels, strings or integers; classes may have different numbers of examples. Or S numbers, where
                answers are such.
            classes: names of classes, see ``Predictor.from_backbone``; they alone are enough.
            group_by: S names of what each example comes from, where answers are classes; see ``Predictor.fit``.
            strategy: what learns them in place of the training strategy's own classifier; any that ``quickstudy list
                strategies`` names and that needs no training, such as ``"linear_probe"``.
            strategy_kwargs: its options.

        Returns:
            A ``Predictor`` with the training strategy's own classifier; for the default strategy, class means of the
            features. Where answers are numbers, a ``NumberPredictor``; for the default strategy by ridge regression.

        Raises:
            DataError: there are no examples, or an input cannot be read.
            ConfigError: there is no such strategy.
        """
        if strategy is None:
            check_options("without a strategy, adapt", strategy_kwargs or {}, [])
            algorithm = copy.deepcopy(self.procedure.learner(self.kind))
        else:
            algorithm = self.kind.algorithm(strategy, strategy_kwargs)
        if group_by is not None and (not self.kind.by_class or self.kind.task_of_parts):
            what = "numbers" if not self.kind.by_class else "parts of inputs"
            raise ConfigError(f"group_by is of classes of whole inputs, and this model learns {what}: leave it out")
        encoder = self.kind.embedding(copy.deepcopy(self.encoder).eval().requires_grad_(False), self.head)
        modality = self._modality_for(inputs)
        if classes and not self.kind.by_class:
            raise ConfigError("answers are numbers, and no classes: leave classes= out")
        if not self.load_options:  # of data that it has met, or of what trained its network
            encoder, modality, inputs = acquainted_with_names(encoder, modality, inputs, classes)
        learner = self.kind.learner(encoder, algorithm.eval().requires_grad_(False), modality)
        return learner.fit(inputs, labels, **given(classes=classes or None, group_by=group_by))

    def predictor(self) -> Any:
        """Return what was trained, without Lightning: it answers as ``Trainer.predict`` does, is saved and served.

        Returns:
            A ``TrainedModel``; where an algorithm learned parts of inputs, a ``PartPredictor``, which learns on.

        Raises:
            ConfigError: there is no head, so no fixed classes to predict: then use ``adapt``.
        """
        head = copy.deepcopy(self.procedure.head(self)).requires_grad_(False)
        encoder = copy.deepcopy(self.encoder).requires_grad_(False)
        modality, of_kind = self._modality_for(None), "head" not in self.unsaved
        if isinstance(head, RowHead):
            known = replace(untaught(encoder, head.algorithm, modality, self.kind), like=self.like)
            return PartPredictor.of(of_rows(known, head.rows, head.codes, head.owners))
        return TrainedModel(encoder, head, self.kind, modality, self.like, of_kind)

    def as_embedder(self, layer: str | None = None) -> TrainedModel:
        """Return what embeds as the backbone does by now, without Lightning: a copy, which training does not change.

        Args:
            layer: the name of one of the backbone's layers, whose features it gives, averaged over places or tokens
                (``model.encoder.backbone.named_modules()`` has them); None: those at its end.

        Raises:
            ConfigError: the backbone has no such layer.
        """
        encoder = copy.deepcopy(self.encoder)
        encoder = (encoder if layer is None else at_layer(encoder, layer)).requires_grad_(False)
        return TrainedModel(encoder, nn.Identity(), Embedding(), self._modality_for(None), self.like)

    def _modality_for(self, support: Any) -> Modality:
        """Return what inputs are for a model that learns from ``support``: read as the training data was."""
        if not self.load_options and self.encoder.mean is not None and not isinstance(support, Tensor):
            # What a network of trained weights knows is of inputs as they usually are: others would be guessed at.
            usual = {name: value for name, value in self.modality.usual.items() if getattr(self.modality, name) is None}
            return self.modality.with_options(usual)
        return self.modality.with_options(self.load_options)


Task.__signature__ = signature_of(Task, Task)


class Classifier(Task):
    """Classifies: with a head for fixed classes, or by episodes for classes to come. See ``Task`` for what is not here.

    Args:
        num_classes: C, for ``training_strategy="default"``; None takes it from the data.
        head: ``"linear"``, or an ``nn.Module`` from ``[B, D]`` to ``[B, C]``; only the default strategy has one.
        loss_fn: a function of (logits, targets), or a name of torch.nn.functional; None is cross-entropy. Few-shot
            strategies judge queries by it; a loop within (MAML's) has a loss of its own, ``MAML.inner_loss``.
        metrics: more of torchmetrics: names (``"F1Score"``; by name the mean over the classes, but for
            ``"Accuracy"``), metrics, or a mapping of them by name.
        multi_label: whether an example may have several labels.
        class_weights: ``"balanced"``: every class counts the same, however many examples it has; or weights by class
            name, or in the classes' order. With several labels per example they are those of presence.
        mix: mixes the examples of each training batch, and their targets: a name (pictures: ``"mixup"``,
            ``"cutmix"``, ``"mixup_cutmix"``), or ``(name, {"alpha": 0.4})``. The loss of a training step is then of
            shares ``[B, C]``, that of a validation step of codes ``[B]`` as ever; cross-entropy takes both.
            ``train_accuracy`` counts an answer as right if it is the class with the larger share.
        label_thresholds: with several labels per example, the probability above which one is named: ``"f1"`` chooses
            that of each label by its F1 on the validation data (without any it is one half); or a number for all, or
            numbers by label, one half where there is none. While it trains, figures but ``val_f1`` are at one half
            where the validation data chooses; those of ``validate`` and of tests, and answers, are at the thresholds.

    Raises:
        ConfigError: an option is misspelled or out of range, or two do not go together.
    """

    kind: Classification

    def __init__(
        self,
        num_classes: int | None = None,
        *arguments: Any,
        multi_label: bool = False,
        class_weights: ClassWeights | None = None,
        mix: MixSpec | None = None,
        label_thresholds: LabelThresholds = "f1",
        **options: Unpack[TaskOptions],
    ) -> None:
        told: dict[str, Any] = {"multi_label": multi_label, "class_weights": class_weights, "mix": mix, **options}
        super().__init__(None, *arguments, num_classes=num_classes, label_thresholds=label_thresholds, **told)

    @property
    def weights(self) -> tuple[float, ...]:
        """Of the classes in the loss, once the data is known; empty: all the same."""
        return self.kind.weights


class Regressor(Task):
    """Tells a number of each input: ordinarily, or by episodes for groups to come. See ``Task`` for the arguments.

    The loss is the mean squared error in units of the training targets' deviation (``loss_fn="l1_loss"``,
    ``"smooth_l1_loss"``, ``"huber_loss"`` are others); answers and figures are in the targets' own units.
    """

    answers = Regression
    kind: Regression


class Segmenter(Task):
    """Tells a class of each part of an input, such as each point. See ``Task`` for the arguments.

    Those of the answers are the options of ``Segmentation``. The backbone must tell of each part (``elements``).
    """

    answers = Segmentation
    kind: Segmentation


class Detector(Task):
    """Finds objects, any number of them in a picture. See ``Task`` for the arguments.

    Those of the answers are the options of ``Detection``. The backbone must make feature maps, as timm's do.
    """

    answers = Detection
    kind: Detection


class Detector3d(Task):
    """Finds boxes in space, any number of them. See ``Task`` for the arguments.

    Those of the answers are the options of ``Detection3d``. The backbone must tell of each point (``elements``).
    """

    answers = Detection3d
    kind: Detection3d


class Embedder(Task):
    """Embeds: its answers are the features ``[N, D]`` of a backbone. See ``Task`` for what is not here.

    As it is made, it answers already, by a pretrained backbone or an untrained one. ``training_strategy="simclr"`` and
    the other self-supervised methods train it without labels; the default strategy draws examples of a label together.

    Args:
        neighbours: how many others vote on the class of an example where a validation or test has labels.

    Raises:
        ConfigError: an option is misspelled or out of range, or two do not go together.
    """

    answers = Embedding
    kind: Embedding

    def __init__(self, *arguments: Any, neighbours: int = 5, **options: Unpack[TaskOptions]) -> None:
        told: dict[str, Any] = {"neighbours": neighbours, **options}
        super().__init__(None, *arguments, **told)


def leave_evaluation(model: nn.Module) -> None:
    """Put a network that is in evaluation mode as a whole into training mode, but for parts that are frozen whole.

    A network in training mode stays as it is, with the parts of it that somebody put into evaluation mode.
    """
    if not model.training:
        _train(model)


def _train(module: nn.Module) -> None:
    parameters = list(module.parameters())
    if not parameters or any(parameter.requires_grad for parameter in parameters):
        module.training = True
        for child in module.children():
            _train(child)
