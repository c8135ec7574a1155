"""An answer is one class of several, or several labels.

Shapes: B examples, C classes, T tasks, Q queries, W ways, ``...`` the shape of one input.
"""

from __future__ import annotations

import base64
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.batches import Batch
from quickstudy.data.table import Table
from quickstudy.data.targets import Label, LabelType, as_label
from quickstudy.errors import ConfigError, DataWarning
from quickstudy.functional.labels import NAMED, THERE
from quickstudy.kinds.base import ACCURACY, KINDS, Judged, Kind, Score, linear_head, linear_of, of_each_member
from quickstudy.kinds.losses import (
    ClassWeights,
    LabelThresholds,
    Loss,
    Mix,
    MixSpec,
    build_loss,
    check_class_weights,
    check_mix,
    class_weights_of,
    loss_of_shares,
    weighted,
)
from quickstudy.kinds.predictions import Answer, Prediction, check_finite
from quickstudy.kinds.several_labels import SeveralLabels, check_thresholds
from quickstudy.nets import Encoder
from quickstudy.nets.members import for_loss, mean_over, of_mean_probabilities

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

    from quickstudy.kinds.metrics import Figures


@KINDS.register("classification")
@dataclass(frozen=True)
class Classification(SeveralLabels, Kind):
    """One class of several, or several labels.

    Args:
        num_classes: C; None takes it from the data.
        multi_label: whether an example may have several labels.
        class_weights: ``"balanced"``, weights by class name, or in the classes' order.
        mix: mixes the examples of each training batch, and their targets: a name, or ``(name, options)``.
        label_thresholds: with several labels, the probability above which one is named: ``"f1"``, those that validation
            data tells; one for all, or by label.
        classes: C names, in the order of the codes.
        label_type: what the labels of these classes were; answers are given in it.
        weights: of the classes in the loss; empty: all the same.
        thresholds: of the labels, C probabilities; empty: one half.
    """

    score: ClassVar[Score] = ACCURACY
    forms: ClassVar[tuple[str, ...]] = ("labels", "probabilities", "logits", "classes")
    row: ClassVar[type[Any]] = Prediction
    learned: ClassVar[tuple[str, ...]] = ("classes", "label_type", "weights", "thresholds")
    episodic: ClassVar[bool] = True

    num_classes: int | None = None
    multi_label: bool = False
    class_weights: ClassWeights | None = None
    mix: MixSpec | None = None
    label_thresholds: LabelThresholds = "f1"
    classes: tuple[str, ...] = ()
    label_type: LabelType = "str"
    weights: tuple[float, ...] = ()
    thresholds: tuple[float, ...] = ()

    def meet(self, data: Any, stage: str) -> Self:
        """Take the classes, and weigh them; see ``Kind.meet``. Warn where all training examples are of one class."""
        met = self
        if not met.classes:
            label_type: LabelType = "int" if data is None else getattr(data, "label_type", "str")
            met = replace(met, classes=class_names(data, self.num_classes), label_type=label_type)
        if data is not None and data.multi_label and not self.multi_label:
            raise ConfigError("the data has several labels per example: set multi_label=True")
        if self.class_weights is not None and (not self.weights or (stage == "fit" and data is not None)):
            met = replace(met, weights=met._weighed(data))  # of each training data anew
        met = met.with_asked(stage)
        if stage == "fit":
            met._warn_of_one_class(None if data is None else data.table("train"))
        return met

    def recalled(self, memory: Any) -> Self:
        """Return it with what ``memory`` returned; its own weights stay."""
        known = super().recalled(memory)
        return replace(known, label_type=memory.get("label_type", "str"), weights=self.weights or known.weights)

    def check_episodic(self, strategy: str, head: str | nn.Module) -> None:
        """Check that nothing belongs to fixed classes, which episodes have none of; see ``Kind.check_episodic``."""
        if self != type(self)() or head != "linear":
            raise ConfigError(
                "label_thresholds, num_classes, multi_label, head, class_weights and mix belong to "
                "training_strategy='default'; "
                f"'{strategy}' takes its classes from each episode: leave them out"
            )

    def _weighed(self, data: Any) -> tuple[float, ...]:
        table = None if data is None else data.table("train")
        counts = None
        if table is not None and table.targets is not None:
            table = table.with_classes(self.classes)
            counts = (table.targets.sum(0) if table.multi_label else table.index.counts).tolist()
        examples = 0 if table is None else len(table)
        assert self.class_weights is not None
        return class_weights_of(self.class_weights, self.classes, counts, examples, self.multi_label)

    def _warn_of_one_class(self, table: Table | None) -> None:
        """Warn where every training example is of one class: whatever trains answers it, and is always right."""
        known = table is not None and table.targets is not None and not table.multi_label
        present = table.without_empty_classes().classes if known and table is not None else self.classes
        if len(present) == 1 and not self.multi_label:
            warnings.warn(
                f"every training example is of one class, '{present[0]}': there is nothing to tell apart, and an "
                "accuracy means nothing. Add examples of another class; is the folder one above or one below the "
                "classes' own?",
                DataWarning,
                2,
            )

    @property
    def choices(self) -> int:
        """How many classes there are."""
        return len(self.classes)

    def fitting(self, table: Table) -> Table:
        """Return the same examples with codes of these classes; see ``Kind.fitting``."""
        return table.with_classes(self.classes) if self.classes else table

    # ---- the network

    def head(self, encoder: Encoder, example: Batch) -> nn.Module:
        """Make a linear head from the features ``[B, D]`` to ``[B, C]``."""
        return linear_head(encoder, example, len(self.classes))

    def head_of(self, weights: Mapping[str, Tensor], encoder: Encoder, like: Batch | None) -> nn.Module:
        """Make the linear head of these weights, whatever the encoder's; see ``Kind.head_of``."""
        return linear_of(weights, self.choices)

    def outputs(self, encoder: Encoder, head: nn.Module, inputs: Batch) -> Tensor:
        """Return logits ``[B, C]``; of a network of members those of the mean of their probabilities."""
        return of_mean_probabilities(head(encoder(inputs)), self.multi_label)

    def mean_of(self, outputs: Tensor) -> Tensor:
        """Return the logits of the mean of the answers' probabilities; see ``Kind.mean_of``."""
        return mean_over(outputs, self.multi_label)

    # ---- how well it does

    def loss(self, asked: str | Loss | None, otherwise: Loss | None = None) -> Loss:
        """Return the loss of logits; see ``Kind.loss``."""
        built = build_loss(asked, self.multi_label, otherwise or F.cross_entropy)
        check_class_weights(self.class_weights, asked, self.multi_label)
        check_mix(self.mix, asked, self.multi_label)
        check_thresholds(self.label_thresholds, self.multi_label)
        return built

    def judge(self, encoder: Encoder, head: nn.Module, inputs: Batch, targets: Tensor, loss: Loss) -> Judged:
        """Answer a batch, and judge the answers; the loss is the mean over members, where there are any.

        Args:
            encoder, head: the network.
            inputs: ``[B, ...]``
            targets: ``[B]`` codes; with several labels per example ``[B, C]``; of mixed examples shares ``[B, C]``, of
                which the larger one is the target for the figures.
            loss: see ``loss``.
        """
        each: Tensor = of_each_member(self, encoder, head, inputs)
        logits = of_mean_probabilities(each, self.multi_label)
        weight: float | Tensor = len(logits)
        shared = targets.is_floating_point() and targets.ndim == logits.ndim and not self.multi_label
        if shared:  # the head may know more classes than the data has
            targets = F.pad(targets, (0, max(0, logits.shape[-1] - len(self.classes))))
        if self.multi_label:
            targets = (targets if targets.ndim == 2 else F.one_hot(targets, logits.shape[-1])).to(logits.dtype)
        judged, wanted = for_loss(each, targets)
        if self.weights and self.multi_label:
            weight_C = torch.tensor(self.weights, dtype=logits.dtype, device=logits.device)
            lost = F.binary_cross_entropy_with_logits(judged, wanted, pos_weight=weight_C)
        elif self.weights:
            lost, weight = weighted(judged, wanted, self.weights)
        elif shared:
            lost = loss_of_shares(loss, judged, wanted)
        else:
            lost = loss(judged, wanted)
        targets = targets.argmax(-1) if shared else targets
        return Judged(lost, weight, logits, targets, self.figures(logits, targets))

    def figures(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return whether each answer is right, 0 or 1; of several labels codes ``[B, C]``, see ``metrics.Labels``."""
        if self.multi_label:
            named, there = self.margins(outputs) > 0, targets.bool()
            return NAMED * named.to(torch.uint8) + THERE * there.to(torch.uint8)
        return ((outputs.argmax(-1) == targets) & ~outputs.isnan().any(-1)).float()  # argmax takes nan for class 0

    def noted(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return what is right, and what was taken for what; see ``Kind.noted``."""
        figures = self.figures(outputs, targets)
        if self.multi_label:
            from quickstudy.kinds.metrics import share_right  # torchmetrics takes long to import

            figures = share_right(figures)
        return figures, self.margins(outputs), targets

    def measure(self, per_example: bool, choices: int = 0) -> Figures:
        """Return the accuracy, of several labels F1 too; that of a single class has no interval: it cannot be wrong."""
        from quickstudy.kinds.metrics import Accuracy, Labels  # torchmetrics takes long, and answering needs none

        return Labels(per_example) if self.multi_label else Accuracy(per_example, choice=choices > 1)

    def further(self, asked: Any, choices: int = 0) -> MetricCollection:
        """Make torchmetrics' metrics of classification; see ``Kind.further``."""
        from quickstudy.kinds.metrics import build_metrics

        return build_metrics(asked, choices, self.multi_label)

    def for_metrics(self, outputs: Tensor, targets: Tensor, choices: int = 0) -> tuple[Tensor, Tensor]:
        """Return logits ``[N, C]`` of as many classes as metrics were made for, and targets; of labels ``margins``."""
        most = max(choices, outputs.shape[-1])
        scores = F.pad(
            self.margins(outputs), (0, most - outputs.shape[-1]), value=-math.inf
        )  # of steps that have fewer ways
        return scores.flatten(0, -2).detach().float(), targets.flatten(0, outputs.ndim - 2).long()

    # ---- answers

    @property
    def several(self) -> bool:
        """Whether an example may have several labels."""
        return self.multi_label

    @property
    def labels(self) -> list[Label]:
        """The classes as the training data has them: strings, whole numbers or bools."""
        return [as_label(name, self.label_type) for name in self.classes]

    def answers(self, outputs: Tensor, form: str) -> Any:
        """Return logits ``[N, C]`` in another form.

        Args:
            outputs: of the network.
            form: ``"labels"``: N labels, or with several per example N lists of them; ``"classes"``: codes ``[N]``, or
                zeros and ones ``[N, C]``; ``"probabilities"`` or ``"logits"``: ``[N, C]``.

        Raises:
            DataError: an answer is not a number.
        """
        logits = outputs.float()
        check_finite(~logits.isnan().any(-1))
        if form == "logits":
            return logits
        if form == "probabilities":
            return logits.sigmoid() if self.multi_label else logits.softmax(-1)
        codes: Tensor = (self.margins(logits) > 0).long() if self.multi_label else logits.argmax(-1)
        if form == "classes":
            return codes
        labels = self.labels
        if self.multi_label:
            return [[labels[code] for code in row.nonzero().flatten().tolist()] for row in codes]
        return [labels[code] for code in codes.tolist()]

    def ranked(self, outputs: Tensor, count: int = 5) -> list[Answer]:
        """Return for each of N inputs its label and the likeliest classes; see ``Kind.ranked``.

        With several labels per input, the label is a list of those above their thresholds, and these are ranked, too,
        where others are likelier.
        """
        chances_NC: Tensor = self.answers(outputs, "probabilities")
        labels, best = self.labels, chances_NC.topk(min(count, chances_NC.shape[1]), 1)
        found = []
        for row, (values, codes) in enumerate(zip(best.values.tolist(), best.indices.tolist(), strict=True)):
            ranking = [(labels[code], value) for code, value in zip(codes, values, strict=True)]
            if not self.several:
                found.append(Answer(ranking[0][0], ranking, []))
                continue
            above = (self.margins(outputs[row].float()) > 0).nonzero().flatten().tolist()
            further = sorted(((float(chances_NC[row, code]), code) for code in {*above} - {*codes}), reverse=True)
            ranking += [(labels[code], chance) for chance, code in further]
            found.append(Answer([labels[code] for code in above], ranking, []))
        return found

    def written(
        self, answer: Answer, file: str, true: Any = None, top: int = 1, unknown: bool = True
    ) -> list[Prediction]:
        """Return the row of an answer, with several labels all of them in it; see ``Kind.written``."""
        ranking = [(name, round(chance, 6)) for name, chance in answer.ranking]
        (best, chance), chances = ranking[0], dict(ranking)
        shown = [{"name": name, "probability": chance} for name, chance in ranking[:top]] if top > 1 else ()
        if isinstance(answer.label, list):
            labels = sorted(answer.label, key=lambda label: -chances[label])
            true = [true] if isinstance(true, str) else true  # which a class folder told
            return [Prediction(file, labels, [chances[label] for label in labels], best, true, shown)]
        label = answer.label if answer.label in chances or unknown else best
        return [Prediction(file, label, chances.get(label, chance), best, true, shown)]

    def in_json(self, answer: Answer) -> dict[str, Any]:
        """Return the label, the likeliest classes and the nearest examples; see ``Kind.in_json``."""
        return {
            "label": answer.label,
            "ranking": [{"name": name, "probability": chance} for name, chance in answer.ranking],
            "nearest": [
                {**near._asdict(), "thumbnail": base64.b64encode(near.thumbnail).decode()} for near in answer.nearest
            ],
        }

    # ---- mixing of training examples

    def mixer(self, build: Callable[..., Mix] | None, task: str) -> Mix | None:
        """Return what mixes the examples of a training batch; see ``Kind.mixer``.

        Raises:
            ConfigError: the domain has nothing to mix by, or its way is unknown.
        """
        if self.mix is None:
            return None
        if build is None:
            raise ConfigError(f"{task} has nothing to mix by: leave mix out")
        return build(self.mix)

    def mixable(self, targets: Tensor) -> Tensor:
        """Return codes ``[B]`` as shares ``[B, C]``, which can be mixed."""
        return F.one_hot(targets.long(), len(self.classes))


def class_names(data: Any, num_classes: int | None) -> tuple[str, ...]:
    """Return the names of the classes: the data's, or their numbers.

    Args:
        data: a data module, or None.
        num_classes: how many there are, where it was given.

    Raises:
        ConfigError: neither tells, or they differ.
    """
    if data is None and num_classes is None:
        raise ConfigError("num_classes is not known: give num_classes=, or data that has classes (datamodule=)")
    names: Sequence[str] = tuple(map(str, range(num_classes or 0))) if data is None else tuple(data.classes)
    if num_classes not in (None, len(names)):
        raise ConfigError(f"num_classes={num_classes}, and the data has {len(names)} classes: leave num_classes out")
    return tuple(names)
