"""How a step is made of data, and judged: of examples, of views of them, or of episodes.

From ``training_strategy`` to a procedure.
"""

from __future__ import annotations

import copy
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from quickstudy.algorithms import STRATEGIES, Algorithm, EmbeddingAlgorithm
from quickstudy.algorithms.base import exact
from quickstudy.batches import Batch, each, fold, form_of, join, of_form, size, unfold
from quickstudy.data.episodes import EpisodePlan
from quickstudy.data.loading import Share, inputs_of
from quickstudy.data.samples import TRANSFORMS, Transform, described
from quickstudy.data.splitting import classes_seen
from quickstudy.episode import Episode, Unit
from quickstudy.errors import ConfigError, DataError, DataWarning, check_counts, check_options
from quickstudy.kinds.base import Judged, Kind
from quickstudy.kinds.losses import Loss
from quickstudy.kinds.parts import OfParts, RowHead
from quickstudy.learning.adapting import untaught
from quickstudy.learning.parts import rows_of_table
from quickstudy.nets import of_several
from quickstudy.selfsupervised import METHODS, Method
from quickstudy.signatures import options_of
from quickstudy.torch_internals import tree_leaves
from quickstudy.training.heads import compare_examples, example_for
from quickstudy.training.processes import gathered, together, warn_of_shares, weighed
from quickstudy.training.quirks import trainer_of

if TYPE_CHECKING:
    from quickstudy.data.stages import StageName
    from quickstudy.training.datamodule import DataModule
    from quickstudy.training.outcome import Outcome
    from quickstudy.training.task import Task


class Procedure(ABC):
    """How a step is made of data, and judged. A task has one, and asks it whatever follows from that."""

    unit: ClassVar[Unit]
    """What a step is made of, and a figure is one of."""
    by_class: ClassVar[bool]
    """Whether stages have classes of their own: ``val_split`` divides classes, and models learn new ones when used."""
    plan: EpisodePlan | None = None
    algorithm: Algorithm | None = None
    method: Method | None = None

    # ---- before training

    def check(self, task: Task, data: DataModule, validates: bool = True) -> None:  # noqa: B027 - nothing in general
        """Check that the data can make the steps, before anything is made for it.

        Args:
            task: that is to be trained.
            data: what there is to train on.
            validates: whether there is a validation, too.

        Raises:
            DataError: it cannot; the message says what to set.
        """

    def check_kind(self, kind: Kind, head: Any) -> None:  # noqa: B027 - nothing to check in general
        """Check that it can train a kind of answer.

        Args:
            kind: what an answer is.
            head: what was asked for.

        Raises:
            ConfigError: it cannot.
        """

    def check_sharded(self) -> None:  # noqa: B027 - nothing to check in general
        """Check that it can train a network whose weights lie in parts on several devices.

        Raises:
            ConfigError: it cannot.
        """

    def check_batch_size(self) -> None:  # noqa: B027 - nothing to check in general
        """Check that the batch size of data means something.

        Raises:
            ConfigError: steps are made of something else.
        """

    @abstractmethod
    def meet(self, task: Task, data: Any, stage: str) -> None:
        """Take from the data what was not given, and make what depends on it.

        Args:
            task: whose data it is.
            data: a data module; None where the trainer was given loaders.
            stage: ``"fit"``, ``"validate"``, ``"test"`` or ``"predict"``.
        """

    @abstractmethod
    def loss(self) -> Loss | None:
        """Return the loss where no other is asked for; None: that of the kind of answer."""

    @abstractmethod
    def choices(self, kind: Kind, stage: str) -> int:
        """Return among how many answers there is to choose in a stage, at most; 0 where there is no such choice."""

    # ---- steps

    @abstractmethod
    def loader(self, data: DataModule, stage: StageName, share: Share, kind: Kind | None = None) -> DataLoader[Any]:
        """Return what a stage goes through.

        Args:
            data: whose stage it is.
            stage: ``"train"``, ``"val"`` or ``"test"``.
            share: this process's.
            kind: what the targets are to be.
        """

    @abstractmethod
    def made_of(self, trainer: Any, data: DataModule) -> dict[str, Any]:
        """Return what training steps are made of, in plain values, whatever the number of processes."""

    @abstractmethod
    def training(self, trainer: Any) -> Any:
        """Return the context of a training step."""

    @abstractmethod
    def judge(self, task: Task, batch: Any, stage: str) -> Judged:
        """Judge a step."""

    def weighed(self, loss: Tensor, weight: float | Tensor) -> tuple[Tensor, float | Tensor]:
        """Return a loss such that its mean over processes is that of all, and what it is the mean over."""
        return weighed(loss, weight)

    def after_step(self, task: Task) -> None:  # noqa: B027 - nothing follows in general
        """Follow a step of the optimizer."""

    def facts(self, task: Task) -> dict[str, float]:
        """Return what belongs beside the figures of a validation or test."""
        return {}

    @abstractmethod
    def tested(self, task: Task, outcome: Outcome | None, figures: Mapping[str, Any]) -> dict[str, Any]:
        """Return the figures of a test with what they are figures of, in values that JSON has.

        Args:
            task: that was tested.
            outcome: what the test saw, where that is known.
            figures: by name.
        """

    # ---- use

    def answers(self, task: Task, batch: Any) -> Any:
        """Return raw answers to a batch of inputs.

        Raises:
            ConfigError: there is no head that gives fixed ones.
        """
        self.head(task)
        return task(inputs_of(batch))

    @abstractmethod
    def head(self, task: Task) -> nn.Module:
        """Return the head that gives fixed answers.

        Raises:
            ConfigError: there is none.
        """

    @abstractmethod
    def learner(self, kind: Kind) -> Algorithm:
        """Return what learns such answers from a few examples, without training."""

    @abstractmethod
    def restore(self, task: Task, memory: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        """Make room for a checkpoint's weights.

        Args:
            task: whose they will be.
            memory: what the checkpoint holds beside them.
            weights: by name.
        """


class Supervised(Procedure):
    """Batches of examples, for fixed answers."""

    unit = "examples"
    by_class = False

    def meet(self, task: Task, data: Any, stage: str) -> None:
        """Take what the kind of answer must know, and make the head; see ``Procedure.meet``."""
        if stage == "fit":
            _leave_ready(task)
        else:
            _take_ready(task)
        if stage != "predict":
            task.kind = task.kind.meet(data, stage)
            if stage == "fit" and not task.kind.shares:
                warn_of_shares(trainer_of(task))
            if task.head is None or (stage == "fit" and task.like is None):
                example = example_for(task.encoder, data, trainer_of(task), "fit")
                if task.head is None:
                    task.head = task.kind.head(task.encoder, example).to(task.device)
                task.like = each(lambda leaf: leaf[:0].cpu(), example)
        compare_examples(task, data, stage)

    def loss(self) -> Loss | None:
        """Return nothing: the loss is that of the kind."""
        return None

    def choices(self, kind: Kind, stage: str) -> int:
        """Return how many fixed answers the kind has."""
        return kind.choices

    def loader(self, data: DataModule, stage: StageName, share: Share, kind: Kind | None = None) -> DataLoader[Any]:
        """Return batches."""
        return data.batch_loader(stage, share, kind)

    def made_of(self, trainer: Any, data: DataModule) -> dict[str, Any]:
        """Return how many examples a step has, and in which order they come."""
        processes, batches = (1, 1) if trainer is None else (trainer.world_size, trainer.accumulate_grad_batches)
        return {
            "examples per step": data.batch_size * processes * batches,
            "seed": data.options.get("seed", 0),
            "sampler": data.options.get("sampler"),
        }

    @contextmanager
    def training(self, trainer: Any) -> Iterator[None]:
        """Have BatchNorm see the batches of all processes."""
        remedy = "set batch_size=2 or more (in a loader of your own also drop_last=True)"
        if trainer is not None and trainer.world_size > 1:
            remedy += ", or sync_batchnorm=True"
        with together(trainer), of_several(remedy):
            yield

    def judge(self, task: Task, batch: Any, stage: str) -> Judged:
        """Answer the examples, in training mixed ones where that was asked for, and judge the answers."""
        head = self.head(task)
        inputs, targets = (batch["input"], batch["target"]) if isinstance(batch, Mapping) else batch
        if _drawn(batch):
            inputs, head = all_draws(task.kind, head, batch)
        if task.mix is not None and stage == "train":
            # As the backbone sees them: uint8 would be cut, and floats are fed as they are.
            inputs, targets = task.mix(task.encoder.prepared(inputs), task.kind.mixable(targets))
        return task.kind_in(stage).judge(task.encoder, head, inputs, targets, task.loss_fn)

    def answers(self, task: Task, batch: Any) -> Any:
        """Return raw answers to a batch, of examples that were drawn several times the mean; see ``Procedure``."""
        head, inputs = self.head(task), inputs_of(batch)
        if _drawn(batch):
            inputs, head = all_draws(task.kind, head, batch)
        return task.kind.outputs(task.encoder, head, inputs)

    def tested(self, task: Task, outcome: Outcome | None, figures: Mapping[str, Any]) -> dict[str, Any]:
        """Add how many classes there are, and how many examples trained the model or chose it."""
        told = {"classes": len(task.classes)} if task.classes else {}
        return {**figures, **told, **_seen(task)}

    def head(self, task: Task) -> nn.Module:
        """Return the head; see ``Procedure.head``."""
        _take_ready(task)
        if task.head is None:
            raise ConfigError("the model was not trained yet: call trainer.fit, or load a checkpoint")
        return task.head

    def learner(self, kind: Kind) -> Algorithm:
        """Return what the kind of answer has for a network that was trained as it was; see ``Procedure.learner``."""
        return kind.algorithm()

    def restore(self, task: Task, memory: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        """Make the head; see ``Procedure.restore``."""
        own = {name.removeprefix("head."): value for name, value in weights.items() if name.startswith("head.")}
        if task.head is None and own:
            precision: Any = task.dtype  # of the encoder, which may be float64
            task.head = task.kind.head_of(own, task.encoder, task.like).to(task.device, precision)


class OnFrozen(Supervised):
    """Batches of examples, for fixed answers by a head on a backbone that stays as it is, its statistics too."""

    def meet(self, task: Task, data: Any, stage: str) -> None:
        """Take the backbone out of training; see ``Procedure.meet``."""
        if stage == "fit":
            task.encoder.requires_grad_(False)
        super().meet(task, data, stage)

    def judge(self, task: Task, batch: Any, stage: str) -> Judged:
        """Judge a step, with the backbone in evaluation mode; see ``Procedure.judge``."""
        with task.encoder.evaluating():
            return super().judge(task, batch, stage)


class ByRows(OnFrozen):
    """Fixed answers by an algorithm on embeddings that learns the parts of the training data at once, before any step.

    Args:
        algorithm: learns rows of features.
        name: that it was asked for by.
    """

    algorithm: EmbeddingAlgorithm

    def __init__(self, algorithm: EmbeddingAlgorithm, name: str) -> None:
        self.algorithm, self.name = algorithm, name

    def check_kind(self, kind: Kind, head: Any) -> None:
        """Check that no head is asked for; see ``Procedure.check_kind``."""
        if head != "linear":
            raise ConfigError(f"head belongs to training_strategy='default', not to '{self.name}': leave it out")

    def meet(self, task: Task, data: Any, stage: str) -> None:
        """Learn the training data; see ``Procedure.meet``."""
        if stage == "fit":
            table = None if data is None else data.table("train")
            if table is None:
                raise DataError(
                    f"training_strategy='{self.name}' learns all training data at once: give a data module with some"
                )
            task.kind = task.kind.meet(data, stage)
            known = untaught(task.encoder, self.algorithm, data.modality, task.kind)
            rows = rows_of_table(known, task.kind.fitting(table), len(task.kind.classes))
            task.head = RowHead(copy.deepcopy(self.algorithm), *rows).to(task.device)
        super().meet(task, data, stage)

    def learner(self, kind: Kind) -> Algorithm:
        """Return the algorithm; see ``Procedure.learner``."""
        return self.algorithm

    def restore(self, task: Task, memory: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        """Make room for the rows; see ``Procedure.restore``."""
        own = [weights.get(f"head.{name}") for name in ("rows", "codes", "owners")]
        if own[0] is not None:
            rows = (torch.zeros_like(each) for each in own if each is not None)
            task.head = RowHead(copy.deepcopy(self.algorithm), *rows).to(task.device)


def _take_ready(task: Task) -> None:
    """Take the head that came with the encoder's trained weights, where there is no other."""
    if task.head is None and (found := task.kind.ready(task.encoder)) is not None:
        kind, head = found
        head.taken_for = task.kind  # type: ignore[assignment]  # what it was before
        task.kind, task.head = kind, head.to(task.device)


def _leave_ready(task: Task) -> None:
    """Leave such a head, as training may have other classes; what it knows of these comes with a new one."""
    if (kind := getattr(task.head, "taken_for", None)) is not None:
        task.kind, task.head = kind, None


def _drawn(batch: Any) -> bool:
    return isinstance(batch, Mapping) and "views" in batch


class _MeanOfDraws(nn.Module):
    """A head whose answer to an example is the mean of those to it as it is and to its draws, which come first."""

    def __init__(self, kind: Kind, head: nn.Module, draws: int) -> None:
        super().__init__()
        self.kind, self.head, self.draws = kind, head, draws

    def forward(self, features: Tensor) -> Tensor:
        """From features ``[B * V + B, D]`` to answers ``[B, ...]``."""
        outputs: Tensor = self.head(features)
        count = len(outputs) // (self.draws + 1)
        drawn = outputs[: count * self.draws].view(count, self.draws, *outputs.shape[1:])
        return self.kind.mean_of(torch.cat([drawn, outputs[count * self.draws :, None]], 1))


def all_draws(kind: Kind, head: nn.Module, batch: Mapping[str, Any]) -> tuple[Batch, nn.Module]:
    """Return all inputs of a batch in which each example was drawn several times, and a head of their means.

    Args:
        kind: what an answer is.
        head: of one input.
        batch: ``{"views": [B, V, ...], "input": [B, ...]}``
    """
    inputs, views = batch["input"], batch["views"]
    return join([fold(views), inputs]), _MeanOfDraws(kind, head, tree_leaves(views)[0].shape[1])


class Views(Supervised):
    """Batches of examples without labels, each in several views, which a self-supervised method compares.

    Args:
        method: what compares them.
        name: that it was asked for by.
    """

    method: Method

    def __init__(self, method: Method, name: str) -> None:
        self.method, self.name = method, name

    def check(self, task: Task, data: DataModule, validates: bool = True) -> None:
        """Check that there is a transform, and warn of small batches by default; see ``Procedure.check``."""
        self._transform(data)
        if "batch_size" not in data.options:
            warnings.warn(
                f"training_strategy='{self.name}' compares the examples of a batch with each other, and by default "
                f"there are {data.batch_size}: give the data hundreds, batch_size=256",
                DataWarning,
                2,
            )

    def check_kind(self, kind: Kind, head: Any) -> None:
        """Check that the answers are features; see ``Procedure.check_kind``."""
        if not kind.unlabelled:
            raise ConfigError(
                f"training_strategy='{self.name}' learns without labels, which an embedder does, such as "
                "ImageEmbedder: train one, and start with its backbone=embedder.encoder.backbone"
            )
        if head != "linear":
            raise ConfigError(f"head belongs to training_strategy='default', not to '{self.name}': leave it out")

    def meet(self, task: Task, data: Any, stage: str) -> None:
        """Note by what it is judged, and make the projector; see ``Procedure.meet``."""
        if stage != "predict":
            if data is not None:
                task.kind = task.kind.judged_on(data.table({"fit": "val", "validate": "val"}.get(stage, stage)))
            if self.method.projector is None:
                self._make(task, example_for(task.encoder, data, trainer_of(task), stage))
        compare_examples(task, data, stage)

    def _make(self, task: Task, example: Any) -> None:
        precision: Any = task.dtype
        self.method.meet(task.encoder, math.prod(task.encoder.feature_shape(example)))
        self.method.to(task.device, precision)
        task.like = each(lambda leaf: leaf[:0].cpu(), example)

    def _transform(self, data: DataModule) -> Transform:
        """Return what makes a view of an example: as training data is transformed, or as its modality says.

        Raises:
            ConfigError: neither does.
        """
        if (asked := data.transform("train")) is not None:
            return asked
        if not data.modality.views:
            raise ConfigError(
                f"training_strategy='{self.name}' compares different views of one example, and nothing makes them: "
                "give the data transform=, a function of one loaded example that draws at random"
            )
        return TRANSFORMS[data.modality.views]

    def loader(self, data: DataModule, stage: StageName, share: Share, kind: Kind | None = None) -> DataLoader[Any]:
        """Return batches of views."""
        return data.view_loader(stage, self.method.views, self._transform(data), share)

    def made_of(self, trainer: Any, data: DataModule) -> dict[str, Any]:
        """Return what a step has, and what makes the views."""
        return {**super().made_of(trainer, data), "views": described(self._transform(data))}

    def judge(self, task: Task, batch: Any, stage: str) -> Judged:
        """Compare the views of all processes' examples; outside of training also judge the features of each."""
        if not isinstance(batch, Mapping) or "views" not in batch:
            raise DataError(
                f"training_strategy='{self.name}' takes batches {{'views': [B, {self.method.views}, ...]}}, as data "
                "modules make them: give datamodule=..."
            )
        features = unfold(task.encoder(fold(batch["views"])), size(batch["views"]), self.method.views)
        outputs = self.method.outputs(features, batch["views"])
        with torch.autocast(features.device.type, enabled=False):
            outputs = each(lambda leaf: gathered(exact(leaf)), outputs)
            count = size(outputs)
            if count < 2 and stage == "train":
                raise ConfigError("a step has one example, with which there is nothing to compare: set batch_size=256")
            alone = count < 2  # a last one
            loss = features.new_zeros(()) if alone else self.method.loss(outputs)
        if stage == "train":
            features = features.detach()
            return Judged(loss, count, features, None, task.kind.figures(features, None))
        shown, targets = task.kind.outputs(task.encoder, self.head(task), batch["input"]), batch.get("target")
        return Judged(loss, 0 if alone else count, shown, targets, task.kind.figures(shown, targets))

    def weighed(self, loss: Tensor, weight: float | Tensor) -> tuple[Tensor, float | Tensor]:
        """Return the loss as it is: it is that of all processes."""
        return loss, weight

    def after_step(self, task: Task) -> None:
        """Let a teacher follow; see ``Procedure.after_step``."""
        self.method.after_step(task.encoder)

    def restore(self, task: Task, memory: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        """Make the projector; see ``Procedure.restore``."""
        if self.method.projector is None and task.like is not None:
            self._make(task, each(lambda leaf: leaf.to(task.device), of_form(form_of(task.like), 1)))


class Episodic(Procedure):
    """Episodes, which an algorithm learns from, for classes to come.

    Args:
        plan: what an episode is, and how many there are.
        algorithm: what learns.
        name: that it was asked for by.
    """

    unit = "episodes"
    by_class = True
    plan: EpisodePlan
    algorithm: Algorithm

    def __init__(self, plan: EpisodePlan, algorithm: Algorithm, name: str) -> None:
        self.plan, self.algorithm, self.name = plan, algorithm, name

    def check(self, task: Task, data: DataModule, validates: bool = True) -> None:
        """Check that the episodes can be drawn; see ``Procedure.check``.

        Where the training data is divided and nobody asked for ``ways``, there are no more than the parts have classes.
        """
        self._within(task, data)
        data.check_episodes(self.plan, validates)

    def _within(self, task: Task, data: DataModule) -> None:
        asked = task.hparams.get("training_strategy_kwargs") or {}
        parts, ways = data.divided(by_class=True), self.plan.ways
        if (
            "training_strategy_kwargs" in task.unsaved
            or not parts
            or self.plan.least_ways == 1
            or not isinstance(ways, int)
            or {"ways", "test_ways"} & {*asked}
        ):
            return
        counts = {stage: len(table.classes) for stage, table in parts.items()}
        judged = min(counts[stage] for stage in counts if stage != "train")
        taught = min(counts["train"], judged) if self.algorithm.fixed_ways else counts["train"]
        own = {"ways": min(ways, taught), "test_ways": min(ways, judged)}
        if own == {"ways": ways, "test_ways": ways}:
            return
        told = ", ".join(f"{stage} {count}" for stage, count in counts.items())
        warnings.warn(
            f"the classes were divided ({told}), fewer than the {ways} ways that episodes have by default: training "
            f"has {own['ways']}-way and validation and test have {own['test_ways']}-way episodes. With more classes or "
            "larger shares (val_split, test_split), there are more; ways and test_ways set them",
            DataWarning,
            4,
        )
        self.plan = replace(self.plan, **own)
        task.hparams["training_strategy_kwargs"] = {**asked, **own}

    def check_kind(self, kind: Kind, head: Any) -> None:
        """Check that the answers are learned from examples; see ``Procedure.check_kind``."""
        kind.check_episodic(self.name, head)

    def check_sharded(self) -> None:
        """Refuse an algorithm that adapts the encoder; see ``Procedure.check_sharded``."""
        if self.algorithm.adapts_encoder:
            raise ConfigError(
                f"{type(self.algorithm).__name__} adapts the encoder's own weights, which strategy='fsdp' keeps in "
                "parts on several devices: use strategy='ddp', or an algorithm on embeddings such as 'anil'"
            )

    def check_batch_size(self) -> None:
        """Refuse it; see ``Procedure.check_batch_size``."""
        raise ConfigError(
            "batch_size does not change the steps of a few-shot strategy: set meta_batch_size among its options"
        )

    def meet(self, task: Task, data: Any, stage: str) -> None:
        """Note what trains it and chooses its checkpoint, and build the algorithm; see ``Procedure.meet``."""
        if stage == "predict":
            return
        task.kind = task.kind.meet_episodes(data, stage)
        if data is not None:
            known = task.trained_classes, task.validated_classes
            task.trained_classes, task.validated_classes = classes_seen(data, stage, *known)
        compare_examples(task, data, stage)
        if not self.algorithm.feature_shape:
            shape = task.encoder.feature_shape(example_for(task.encoder, data, trainer_of(task), stage))
            self.algorithm.meet(task.encoder, shape, self.plan.shape("train")[0])

    def loss(self) -> Loss | None:
        """Return the algorithm's own."""
        return self.algorithm.loss

    def choices(self, kind: Kind, stage: str) -> int:
        """Return the ways."""
        return self.plan.shape(stage)[0]

    def loader(self, data: DataModule, stage: StageName, share: Share, kind: Kind | None = None) -> DataLoader[Any]:
        """Return episodes."""
        return data.episode_loader(stage, self.plan, share)

    def made_of(self, trainer: Any, data: DataModule) -> dict[str, Any]:
        """Return how many episodes a step has, and who draws them."""
        batches = 1 if trainer is None else trainer.accumulate_grad_batches
        return {
            "episodes per step": self.plan.meta_batch_size * batches,
            "episode_sampler": described(data.episode_sampler),
        }

    @contextmanager
    def training(self, trainer: Any) -> Iterator[None]:
        """Leave each episode its own statistics."""
        with of_several("set inner_batch_size=2 or more"):
            yield

    def judge(self, task: Task, batch: Any, stage: str) -> Judged:
        """Learn the tasks of a step, and judge the answers to their queries."""
        least, ways = self.plan.span("train" if task.training else "test")
        if least < ways and isinstance(batch, Episode):
            ways = min(max(int(batch.support_targets.max()) + 1, least), ways)
        episode = task.kind.episode(batch, ways)
        loss, logits_TQW = self.algorithm.judge(task.encoder, episode, ways, task.loss_fn)
        figures = task.kind.figures(logits_TQW, batch.query_targets).mean(1)
        return Judged(loss, len(figures), logits_TQW, batch.query_targets, figures)

    def weighed(self, loss: Tensor, weight: float | Tensor) -> tuple[Tensor, float | Tensor]:
        """Return the loss as it is: every process has as many episodes, and nothing needs to be sent."""
        return loss, weight

    def facts(self, task: Task) -> dict[str, float]:
        """Return whether a query's answer depends on the other queries."""
        return {"transductive": float(self.algorithm.sees_queries(task.encoder))}

    def tested(self, task: Task, outcome: Outcome | None, figures: Mapping[str, Any]) -> dict[str, Any]:
        """Add the size of the episodes (of what differs the least and the most), whether transductive, and leaks."""
        sizes: Any = self.plan.shape("test")
        if outcome is not None and outcome.shape is not None:
            sizes = [least if least == most else [least, most] for least, most in outcome.shape]
        return {
            f"{task.score.name}_ci95_classes": None,
            **figures,
            **dict(zip(("ways", "shots", "queries"), sizes, strict=True)),
            "transductive": bool(figures["transductive"]),
            **_seen(task),
        }

    def head(self, task: Task) -> nn.Module:
        """Say how to have answers; see ``Procedure.head``."""
        raise ConfigError(
            f"a model trained with '{self.name}' has no fixed classes: show it examples of yours, "
            "predictor = model.adapt(inputs, labels), and call predictor.predict(inputs)"
        )

    def learner(self, kind: Kind) -> Algorithm:
        """Return the algorithm."""
        return self.algorithm

    def restore(self, task: Task, memory: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        """Build the algorithm; see ``Procedure.restore``."""
        if memory["feature_shape"]:
            precision: Any = task.dtype
            self.algorithm.meet(task.encoder, tuple(memory["feature_shape"]), self.plan.shape("train")[0])
            self.algorithm.to(precision)


def _seen(task: Task) -> dict[str, int]:
    """Return how many examples of a test trained the model or chose it, where any did."""
    told = {"trained_on": task.seen_before, "chosen_by": task.chosen_by}
    return {name: count for name, count in told.items() if count}


def build_procedure(
    name: str,
    kwargs: Mapping[str, Any] | None = None,
    plan_of: type[EpisodePlan] = EpisodePlan,
    kind: Kind | None = None,
) -> Procedure:
    """Return the procedure of a training strategy; ``"default"`` is that of examples.

    Args:
        name: of the strategy.
        kwargs: its options: those of episodes, the algorithm's own, and ``task_chunk``.
        plan_of: takes those of episodes.
        kind: what an answer is, where that may be learned part by part: then a backbone stays as it is, and a decoder
            on it is trained (``"finetune"``), or an algorithm on embeddings learns the parts of all training data.

    Raises:
        ConfigError: the name or a keyword is unknown, or a value is out of range.
    """
    kwargs = dict(kwargs or {})
    if name == "default":
        if kwargs:
            raise ConfigError(
                f"training_strategy='default' trains without episodes and takes no training_strategy_kwargs "
                f"({', '.join(kwargs)}). For episodes set training_strategy='prototypicalnetworks'"
            )
        return Supervised()
    if name in METHODS:
        check_options(f"training_strategy='{name}'", kwargs, options_of(METHODS[name], Method))
        return Views(METHODS[name](**kwargs), name)
    if name not in STRATEGIES:
        raise STRATEGIES.unknown(name, ["default", *METHODS.names()])
    if isinstance(kind, OfParts):
        return _of_parts(name, kwargs, kind)
    algorithm = STRATEGIES[name]
    planned = {field.name for field in fields(EpisodePlan)}
    own = options_of(algorithm, Algorithm)
    check_options(f"training_strategy='{name}'", kwargs, list(dict.fromkeys([*own, *sorted(planned), "task_chunk"])))
    plan = plan_of(**{key: value for key, value in kwargs.items() if key in planned})
    made = algorithm(**{key: value for key, value in kwargs.items() if key in own})
    if "task_chunk" not in own and (chunk := kwargs.get("task_chunk")) is not None:
        check_counts(task_chunk=chunk)
        made.task_chunk = chunk
    least, most = plan.span("train")
    if made.fixed_ways and least < most:
        raise ConfigError(
            f"training_strategy='{name}' is made for one number of ways, and ways={plan.ways} are several: give one"
            + (f", or {made.for_other_ways}" if made.for_other_ways else "")
        )
    if made.fixed_ways and plan.span("test") != (least, most):
        raise ConfigError(
            f"training_strategy='{name}' is tested on as many ways as it is trained on, not on "
            f"test_ways={plan.test_ways} after ways={plan.ways}: make them equal"
            + (f", or {made.for_other_ways}" if made.for_other_ways else "")
        )
    return Episodic(plan, made, name)


def _of_parts(name: str, kwargs: Mapping[str, Any], kind: OfParts) -> Procedure:
    if name == "finetune":
        check_options("training_strategy='finetune' of parts of inputs", kwargs, [])
        return OnFrozen()
    check_options(f"training_strategy='{name}'", kwargs, options_of(STRATEGIES[name], Algorithm))
    algorithm = kind.algorithm(name, kwargs)
    if not isinstance(algorithm, EmbeddingAlgorithm):
        raise ConfigError(
            f"training_strategy='{name}' learns a class of whole examples from a few, and here each of their parts has "
            "one: choose 'linear_probe', 'prototypes' or 'finetune'"
        )
    return ByRows(algorithm, name)
