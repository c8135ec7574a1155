"""What an answer is: its targets, its head, its loss and its figures; and what it is measured by."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self

from torch import Tensor, nn

from quickstudy.algorithms import STRATEGIES, Algorithm
from quickstudy.batches import Batch, each, form_of, of_form
from quickstudy.data.annotations import Annotations
from quickstudy.data.episodes import EpisodePlan
from quickstudy.data.table import Table
from quickstudy.data.targets import Encoded, Label, encode
from quickstudy.episode import Episode, check_episode
from quickstudy.errors import ConfigError, DataError, brief, check_options
from quickstudy.files import plain
from quickstudy.kinds.losses import Loss
from quickstudy.kinds.predictions import Said, plain_answer
from quickstudy.nets import Encoder
from quickstudy.nets.members import MemberHead
from quickstudy.registry import Registry

if TYPE_CHECKING:
    from torchmetrics import Metric, MetricCollection

    from quickstudy.kinds.metrics import Figures


_SPOKEN = {
    "chrf": "chrF",
    "f1": "F1",
    "map": "mAP",
    "mase": "MASE",
    "mean_iou": "mean IoU",
    "rouge_l": "ROUGE-L",
    "wer": "word error rate",
}


class Score(NamedTuple):
    """The one figure that a model is judged by: what chooses its checkpoint, ends its training, and is compared.

    >>> ACCURACY.text(0.6821), Score("rmse", "min").text(3.14159)
    ('68.21%', '3.142')
    """

    name: str
    """In the field's words, as it is logged behind ``train_``, ``val_`` and ``test_``: ``"accuracy"``, ``"rmse"``."""
    best: Literal["max", "min"] = "max"
    """Whether the largest is the best one, or the smallest."""
    share: bool = False
    """Whether it lies from 0 to 1; it is then told in percent."""
    root: bool = False
    """Whether it is the root of the mean of its figures, as an rmse is of squared errors; else it is their mean."""

    @property
    def called(self) -> str:
        """The name as a sentence has it."""
        return _SPOKEN.get(self.name, self.name.replace("_", " "))

    @property
    def titled(self) -> str:
        """The name as a heading has it.

        >>> Score("map").titled, ACCURACY.titled
        ('mAP', 'Accuracy')
        """
        called = self.called
        return called[:1].upper() + called[1:] if called[:2].islower() else called

    def better(self, one: float, other: float) -> bool:
        """Return whether one is better than another."""
        return one > other if self.best == "max" else one < other

    def text(self, value: float | None) -> str:
        """Return a value in words; None: it is not known."""
        if value is None:
            return "unknown"
        return f"{value:.2%}" if self.share else f"{value:.4g}"

    def reach(self, value: float, half: float, text: Callable[[float], str] | None = None) -> str:
        """Return how far an interval reaches from a value, in words: its half-width, or the ends of a share's.

        A share lies from 0 to 1, and its interval is told by its ends where it would reach beyond.

        Args:
            value: the score.
            half: the half-width.
            text: writes a number; None: ``self.text``.

        >>> ACCURACY.reach(0.6, 0.1), ACCURACY.reach(0.0, 0.49)
        ('± 10.00%', '0.00% to 49.00%')
        """
        text = text or self.text
        if self.share and not 0 <= value - half <= value + half <= 1 and math.isfinite(half):
            return f"{text(max(value - half, 0.0))} to {text(min(value + half, 1.0))}"
        return f"± {text(half)}"

    def estimate(self, value: float, half: float, text: Callable[[float], str] | None = None) -> str:
        """Return a value with its interval; see ``reach``.

        >>> ACCURACY.estimate(0.6, 0.1), ACCURACY.estimate(0.0, 0.49)
        ('60.00% ± 10.00%', '0.00% (0.00% to 49.00%)')
        """
        reach = self.reach(value, half, text)
        return f"{(text or self.text)(value)} {reach if reach.startswith('±') else f'({reach})'}"

    def change(self, by: float) -> str:
        """Return a difference of two values in words, with its sign."""
        return f"{by:+.2%}" if self.share else f"{by:+.4g}"


ACCURACY = Score("accuracy", share=True)


class Judged(NamedTuple):
    """What a step came to."""

    loss: Tensor
    """One number: the mean over ``weight`` things."""
    weight: float | Tensor
    """Examples, their weights, pixels or tokens: what the loss is the mean over. Processes are averaged by it."""
    outputs: Any
    """As metrics see them."""
    targets: Any
    """Likewise."""
    figures: Tensor
    """``[n]`` or ``[n, K]``: what the score follows from, of each independent unit; none where it has no such parts."""


@dataclass(frozen=True)
class Kind(ABC):
    """What an answer is: what targets mean, which head answers, what is lost by an answer, and how well it does.

    Its fields are plain values: a checkpoint holds them. Those that are named in ``learned`` come from the training
    data. Register it: ``KINDS.register("regression")``.
    """

    score: ClassVar[Score]
    """What is best."""
    forms: ClassVar[tuple[str, ...]]
    """Of ``Trainer.predict(output=)``; the first is the default."""
    placed: ClassVar[bool] = False
    """Whether answers tell of places in an input: they can be drawn there, and have COCO's form, ``coco``."""
    row: ClassVar[type[Any]] = Said
    """What is written of an answer, a ``NamedTuple``: the columns of ``quickstudy predict``."""
    schema: ClassVar[Mapping[str, Any]] = {}
    """JSON schema of what ``in_json`` returns, for who asks over HTTP; none: it is not told."""
    learned: ClassVar[tuple[str, ...]] = ()
    """The fields that the training data tells."""
    episodic: ClassVar[bool] = False
    """Whether few-shot strategies can train it."""
    plan: ClassVar[type[EpisodePlan]] = EpisodePlan
    """The options of their episodes."""
    shown_by: ClassVar[str] = "prototypicalnetworks"
    """The strategy that learns from a few examples by an encoder that ordinary training made."""
    unlabelled: ClassVar[bool] = False
    """Whether examples without targets can train it, by a self-supervised method."""
    by_class: ClassVar[bool] = True
    """Whether what learns from a few examples learns classes; else each example has a target of its own."""
    annotates: ClassVar[bool] = False
    """Whether targets are annotations, as large as the inputs: a label of each point, boxes."""
    measured: ClassVar[bool] = False
    """Whether targets are measured values, which reach it as the data has them, whatever the precision of training."""
    of_backbone: ClassVar[Mapping[str, Any]] = {}
    """Further options of a backbone that is named, without which it does not make what the head stands on."""
    usual_options: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """By the name of a strategy its options, other than its own defaults, that suit such answers."""
    learned_by: ClassVar[str] = "quickstudy.predictor:Predictor"
    """What learns from a few examples, which stands above, and so is found by its name."""
    task_of_parts: ClassVar[str] = ""
    """Where a few examples teach classes of parts of inputs: the task whose data shows these, as commands call it."""
    shares: ClassVar[bool] = True
    """Whether a batch's gradient is the mean of its parts', weighed; else it depends on how processes share batches."""
    exported_places: ClassVar[int] = 0
    """How many numbers of an exported answer say where it is, before those that say what it is."""
    whole_gradient: ClassVar[bool] = True
    """Whether training follows all of the loss's gradient; else some is left out, as that by proposals' places."""

    # ---- what it must know

    def embedding(self, encoder: Encoder, head: nn.Module | None) -> Encoder:
        """Return what embeds inputs, or parts of them, of a trained network: here the encoder, whatever the head is.

        Args:
            encoder: a copy that nothing trains.
            head: that stands on it; a copy is to be taken.

        Raises:
            ConfigError: there is no head, and it is needed.
        """
        return encoder

    def learner(self, encoder: Encoder, algorithm: Algorithm, load: Callable[[Any], Any]) -> Any:
        """Return what learns from a few examples to answer so; here a ``Predictor``, which learns classes.

        Args:
            encoder: turns inputs into embeddings.
            algorithm: learns with it.
            load: makes a tensor of one input.
        """
        return resolve_name(self.learned_by)(encoder, algorithm, load)

    def algorithm(self, strategy: str | None = None, options: Mapping[str, Any] | None = None) -> Algorithm:
        """Return what learns such answers from a few examples.

        Args:
            strategy: its name; None: ``shown_by``.
            options: its own; those that are not given are ``usual_options``, where it has some.

        Raises:
            ConfigError: there is no such strategy.
        """
        name = strategy or self.shown_by
        return STRATEGIES[name](**{**self.usual_options.get(name, {}), **(options or {})})

    @classmethod
    def encode(cls, targets: Any, names: Sequence[str] | None = None) -> Encoded | Annotations:
        """Return targets as a user writes them as codes, numbers, or annotations; here as class codes.

        Args:
            targets: N of them.
            names: of the columns of a matrix.

        Raises:
            DataError: one is missing, or of another kind.
        """
        return encode(targets, names)

    @classmethod
    def asked(cls) -> list[str]:
        """Return the names of the fields that a user gives."""
        return [field.name for field in fields(cls) if field.name not in cls.learned]

    def given(self) -> dict[str, Any]:
        """Return these fields."""
        return {name: getattr(self, name) for name in self.asked()}

    @property
    def spec(self) -> Any:
        """It in plain values, for a checkpoint; itself where it is not registered, so that no file can name it."""
        told = self.described()
        return self if told["name"] is None else told

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the codes; none where answers are no classes."""
        return ()

    @property
    def labels(self) -> list[Label]:
        """The classes as the training data has them: strings, whole numbers or bools."""
        return []

    @property
    def several(self) -> bool:
        """Whether an example may have several labels."""
        return False

    @abstractmethod
    def meet(self, data: Any, stage: str) -> Self:
        """Return it with what it must know of the data.

        Args:
            data: a data module; None where a trainer was given loaders.
            stage: Lightning's name of what is about to happen; ``"fit"`` learns of the training data.

        Raises:
            ConfigError: the data has targets of another kind, or does not tell what was not given.
        """

    def judged_on(self, table: Table | None) -> Self:
        """Return it with the score that examples allow; here whatever they are.

        Args:
            table: the examples; None: nothing is known of them.
        """
        return self

    def memory(self) -> dict[str, Any]:
        """Return what it learned, in plain values."""
        return {
            name: list(value) if isinstance(value := getattr(self, name), tuple) else value for name in self.learned
        }

    def recalled(self, memory: Mapping[str, Any]) -> Self:
        """Return it with what ``memory`` returned."""
        known = {name: memory[name] for name in self.learned if name in memory}
        return replace(
            self, **{name: tuple(value) if isinstance(value, list) else value for name, value in known.items()}
        )

    def described(self) -> dict[str, Any]:
        """Return what a saved model holds of it, and ``kind_of`` reads: its name and its options.

        Those that are code are for training, and left out.
        """
        own = {one.name: (getattr(self, one.name), one.default) for one in fields(self)}
        told = {name: value for name, (value, default) in own.items() if value != default and plain(value)}
        return {"name": KINDS.name_of(type(self)), "options": told}

    def check_episodic(self, strategy: str, head: str | nn.Module) -> None:
        """Check that episodes can train it.

        Args:
            strategy: the name of the few-shot strategy.
            head: what was asked for.

        Raises:
            ConfigError: they cannot.
        """
        if not self.episodic:
            raise ConfigError(
                f"training_strategy='{strategy}' learns from few examples of each class, and this task has no classes: "
                "leave it out"
            )

    def meet_episodes(self, data: Any, stage: str) -> Self:
        """Return it with what it must know where episodes train it; see ``meet``. Here that is nothing."""
        return self

    def episode(self, batch: Any, ways: int) -> Episode:
        """Return a batch that is an episode, with targets as an algorithm learns them.

        Raises:
            ConfigError: it is something else.
            DataError: a target cannot be learned.
        """
        return check_episode(batch, ways)

    def scaled(self, targets: Any) -> Any:
        """Return targets as the network gives them."""
        return targets

    @property
    def unit(self) -> float | None:
        """By how much answers vary that are numbers, in their own units; None: they are none, or it is not known."""
        return None

    @property
    def choices(self) -> int:
        """Among how many answers there is to choose; 0 where there is no such choice, or it is not known."""
        return 0

    def to_learn(self, annotations: Annotations) -> Annotations:
        """Return targets as training learns by them, which may tell less than it is judged by; here the same.

        Args:
            annotations: as ``fitting`` returned them.
        """
        return annotations

    def fitting(self, table: Table) -> Table:
        """Return the same examples with targets as the head counts them.

        Raises:
            DataError: a target is none that it knows.
        """
        return table

    # ---- the network

    def knowing(self, encoder: Encoder) -> Kind:
        """Return it with what its network tells of answers, as one does that was trained to give them; here itself.

        Args:
            encoder: what answers will stand on.

        Raises:
            ConfigError: the options do not go with the network.
        """
        return self

    def first_head(self, encoder: Encoder) -> nn.Module | None:
        """Return the head where that needs no data to be made; else nothing.

        Args:
            encoder: what it stands on.
        """
        return None

    @abstractmethod
    def head(self, encoder: Encoder, example: Batch) -> nn.Module:
        """Make the head, once the data is known.

        Args:
            encoder: what it stands on.
            example: an input as the network is fed with it, with a leading axis of 1.
        """

    def ready(self, encoder: Encoder) -> tuple[Self, nn.Module] | None:
        """Return what the answers are of a head that came with the encoder's trained weights, and this head; else None.

        Args:
            encoder: as it was made.
        """
        return None

    def head_of(self, weights: Mapping[str, Tensor], encoder: Encoder, like: Batch | None) -> nn.Module:
        """Make the head that weights are of, to put them into it.

        Args:
            weights: of the head, by name.
            encoder: what it stands on.
            like: ``[0, ...]``, of the form of the inputs; None where that is not known: then the head is a linear one.
        """
        if like is None:
            return linear_of(weights)
        return self.head(encoder, each(lambda leaf: leaf.to(encoder.device), of_form(form_of(like), 1)))

    def second_stage(self, head: nn.Module | None, data: Any) -> tuple[Self, list[nn.Module]]:
        """Return what the answers are with the classes of further data, and the layers that alone learn them.

        Args:
            head: as it was trained; it is changed.
            data: a data module.

        Raises:
            ConfigError: answers of this kind are not learned in two stages, or there was no first one.
        """
        raise ConfigError(
            "strategy='tfa' is of objects, by detector='faster_rcnn': for other answers use strategy='freeze'"
        )

    def outputs(self, encoder: Encoder, head: nn.Module, inputs: Batch) -> Any:
        """Return raw answers, first axis N."""
        return head(encoder(inputs))

    def mean_of(self, outputs: Tensor) -> Tensor:
        """Return one answer for several to each input, ``[N, V, ...]`` to ``[N, ...]``: here their mean."""
        return outputs.mean(1)

    # ---- how well it does

    @abstractmethod
    def loss(self, asked: str | Loss | None, otherwise: Loss | None = None) -> Loss:
        """Return the loss, a function of (outputs, targets).

        Args:
            asked: what a user asked for: a function, a name; None: ``otherwise``.
            otherwise: the loss of whatever else judges; None: the kind's own.

        Raises:
            ConfigError: it is unknown, or does not go with the kind's options.
        """

    @abstractmethod
    def judge(self, encoder: Encoder, head: nn.Module, inputs: Batch, targets: Any, loss: Loss) -> Judged:
        """Answer a batch, and judge the answers.

        Args:
            encoder, head: the network.
            inputs: ``[B, ...]``
            targets: their targets.
            loss: see ``loss``.
        """

    @abstractmethod
    def figures(self, outputs: Any, targets: Any) -> Tensor:
        """Return what the score follows from, of each answer ``[N]``, ``[T, Q]``; with a last axis if it is several."""

    def noted(self, outputs: Any, targets: Any) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return what a test notes: the figure of each answer, ``[N]`` or ``[T, Q]``; logits and targets of classes."""
        return self.figures(outputs, targets), None, None

    def settled(self, figures: Tensor) -> Tensor:
        """Return what each answer adds to the score, ``[N]``, where that depends on all of them.

        Args:
            figures: of all N answers of a test, or of its episodes, as ``noted`` gives them; here they are it.
        """
        return figures

    def measure(self, per_example: bool, choices: int = 0) -> Figures:
        """Return what gathers figures into the score and its like, with their intervals; here into their mean.

        Args:
            per_example: whether a figure is that of one example, rather than of one episode.
            choices: among how many answers there is to choose.
        """
        from quickstudy.kinds.metrics import Mean  # torchmetrics takes long to import, and answering needs none

        return Mean(self.score.name, per_example, self.score.root)

    def further(self, asked: Any, choices: int = 0) -> MetricCollection:
        """Make the metrics that a user asked for beside the score.

        Args:
            asked: names, metrics, or a mapping of them by name.
            choices: among how many answers there is to choose.

        Raises:
            ConfigError: one is unknown, or does not take what this kind gives.
        """
        if asked is not None:
            raise ConfigError(f"metrics={asked!r}: this task has none beside its own, leave it out")
        from torchmetrics import MetricCollection

        return MetricCollection([])

    def for_metrics(self, outputs: Any, targets: Any, choices: int = 0) -> tuple[Any, Any]:
        """Return outputs and targets as ``further`` metrics take them."""
        return outputs, targets

    def tuner(self) -> Metric | None:
        """Return what gathers, of the outputs to validation data and its targets, how to answer best; None: nothing."""
        return None

    def tuned(self, found: Any) -> Self:
        """Return it with what ``tuner`` found at the end of a validation."""
        return self

    def untuned(self) -> Self:
        """Return it as it judges training and validation data while it trains, of which the latter tunes it."""
        return self

    @property
    def kept_by(self) -> Score:
        """What chooses a checkpoint and ends a training by its patience, measured on validation data: the score."""
        return self.score

    def choosing(self, found: Mapping[str, Any], tuner: Metric | None) -> dict[str, Any]:
        """Return the value of ``kept_by`` where it is none of the figures of a validation, by its name.

        Args:
            found: the figures.
            tuner: what ``tuner`` returned, once it was asked; None: there is none, or it is not tuned by these.
        """
        return {}

    def mistakes(self, outputs: Any, targets: Any, row: int) -> dict[str, Any] | None:
        """Return where an answer is wrong, for ``Modality.draw_mistakes``; None where answers have no places.

        Args:
            outputs, targets: of a batch.
            row: of it.

        Returns:
            ``wrong``, how much, from 0 on; ``said``, that in words; and what is drawn.
        """
        return None

    @property
    def found_at(self) -> str:
        """A sentence on when something counts as found, in ``mistakes`` and ``found_per_class``."""
        return ""

    def found_per_class(self, figures: Tensor) -> dict[str, dict[str, Any]]:
        """Return of each class what a test says of it beside the score, in values that JSON has.

        Args:
            figures: of all examples, as ``noted`` gives them.
        """
        return {}

    # ---- answers

    @abstractmethod
    def answers(self, outputs: Any, form: str) -> Any:
        """Return raw answers in another form, one of ``forms``.

        Raises:
            DataError: an answer is not a number.
        """

    def ranked(self, outputs: Any, count: int = 5) -> list[Any]:
        """Return raw answers one by one, as ``rank`` of a model does; here in the first of ``forms``.

        Args:
            outputs: of N inputs.
            count: how many of the likeliest to name, where there is something to choose among.

        Raises:
            DataError: an answer is not a number.
        """
        return list(self.answers(outputs, self.forms[0]))

    def written(self, answer: Any, file: str, true: Any = None, top: int = 1, unknown: bool = True) -> list[Any]:
        """Return the rows of one answer, such as ``row`` says; here it is one.

        Args:
            answer: one that ``rank`` gave.
            file: what the input is called.
            true: its label, or number, where that is known.
            top: how many of the likeliest a row may name.
            unknown: whether it may say that an input is like none that was learned; else it names the likeliest.
        """
        return [self.row(file, plain_answer(answer))]

    def in_json(self, answer: Any) -> dict[str, Any]:
        """Return one answer that ``rank`` gave as ``quickstudy serve`` tells it, in values that JSON has."""
        return {"answer": plain_answer(answer)}

    def coco(self, answers: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
        """Return answers as COCO's JSON has them; see ``kinds.coco.coco_of``.

        Args:
            answers: N, as ``ranked`` returns them.
            names: of the inputs.

        Raises:
            ConfigError: such answers have no places that COCO could tell.
        """
        raise ConfigError(
            f"COCO's form is of places, and {type(self).__name__.lower()} tells of whole inputs: take rows, as CSV"
        )

    @property
    def drawn(self) -> bool:
        """Whether an answer can be drawn for eyes, where it tells of places or is to be seen itself."""
        return self.placed

    @property
    def named_forms(self) -> tuple[str, ...]:
        """The forms of all answers together, with what each input is called."""
        return ("rows", "coco") if self.placed else ("rows",)

    def rows(self, outputs: Any, inputs: Any) -> list[Any]:
        """Return raw answers as rows, each with the name of its input.

        Args:
            outputs: of N inputs.
            inputs: what each is called, and its target where that is known (``kinds.predictions.Named``).
        """
        ranked = zip(self.ranked(outputs), inputs, strict=True)
        return [row for answer, (name, true) in ranked for row in self.written(answer, name, true)]

    def to_export(self, encoder: Encoder, head: nn.Module, inputs: Batch) -> Tensor:
        """Return the answers to inputs as an exported graph gives them, see ``exported``."""
        return self.exported(self.outputs(encoder, head, inputs))

    def exported(self, outputs: Any) -> Tensor:
        """Return raw answers ``[N, C]`` as an exported graph gives them."""
        answers: Tensor = outputs
        return answers

    # ---- mixing of training examples

    def mixer(self, build: Callable[..., Any] | None, task: str) -> Any:
        """Return what mixes the examples of a training batch, None where nothing does.

        Args:
            build: the domain's; None: it has none.
            task: the name of the task, for a message.
        """
        return None

    def mixable(self, targets: Any) -> Any:
        """Return the targets of a batch as they can be mixed."""
        return targets


def of_each_member(kind: Kind, encoder: Encoder, head: nn.Module, inputs: Batch) -> Any:
    """Return the answers of each member, where the head has some; else what ``kind.outputs`` returns."""
    return head(encoder(inputs)) if isinstance(head, MemberHead) else kind.outputs(encoder, head, inputs)


def linear_head(encoder: Encoder, example: Batch, answers: int) -> nn.Module:
    """Return a linear layer from an encoder's features to answers; of members (``backbone.members``) one of each.

    Args:
        encoder: what it stands on.
        example: an input as the network is fed with it, with a leading axis of 1.
        answers: how many it gives.
    """
    shape, members = encoder.feature_shape(example), getattr(encoder.backbone, "members", 0)
    return MemberHead(members, math.prod(shape[1:]), answers) if members else nn.Linear(math.prod(shape), answers)


def linear_of(weights: Mapping[str, Tensor], width: int = 0) -> nn.Module:
    """Return a linear layer of the shape of its weights.

    Args:
        weights: of the layer, by name.
        width: how many answers it must give; 0: any number.

    Raises:
        DataError: it gives another number.
    """
    shape = weights["weight"].shape
    answers, features = shape if len(shape) == 2 else (shape[2], shape[1])
    if width and answers != width:
        raise DataError(f"the head gives {answers} answers, and its description says {width}: save the model again")
    return nn.Linear(features, answers) if len(shape) == 2 else MemberHead(shape[0], features, answers)


KINDS = Registry[type[Kind]](
    "kind of answer",
    homes={
        name: f"quickstudy.kinds.{name}"
        for name in (
            "classification",
            "detection",
            "detection3d",
            "embedding",
            "entities",
            "faces",
            "forecasting",
            "generated_transcription",
            "poses",
            "question_answering",
            "regression",
            "segmentation",
            "transcription",
        )
    }
    | {
        "region_detection": "quickstudy.kinds.regions",
        "summarization": "quickstudy.kinds.generation",
        "translation": "quickstudy.kinds.generation",
        "semantic_segmentation": "quickstudy.kinds.semantic",
        "instance_segmentation": "quickstudy.kinds.instances",
        "keypoints": "quickstudy.kinds.instances",
        "style_transfer": "quickstudy.kinds.style",
    },
)
"""By name. quickstudy's own are imported when they are asked for; nothing is imported because a file names it."""


def kind_of(described: Mapping[str, Any]) -> Kind:
    """Return what ``Kind.described`` told of.

    Raises:
        ConfigError: the name, or an option, is not known.
    """
    kind = KINDS[described["name"]]
    check_options(
        f"the kind of answer '{described['name']}'", described["options"], [each.name for each in fields(kind)]
    )
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in described["options"].items()}
    return kind(**options)


def as_kind(given: Kind | Mapping[str, Any]) -> Kind:
    """Return a kind, or what ``Kind.spec`` told of one.

    Raises:
        ConfigError: it is none, or of a name that is not known.
    """
    if isinstance(given, Kind):
        return given
    if not isinstance(given, Mapping) or set(given) != {"name", "options"}:
        raise ConfigError(f"kind={brief(given)} is no kind of answer: give one, such as Classification(num_classes=3)")
    return kind_of(given)
