"""An answer is a class of each element of an input: of each point, pixel or token.

Shapes: N examples, P their elements (of one axis or several), C classes, D features; n elements of all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.batches import Batch
from quickstudy.data.annotations import Annotations, annotated
from quickstudy.data.table import Table
from quickstudy.errors import DataError, brief, check_counts
from quickstudy.kinds.annotated import Annotated
from quickstudy.kinds.base import KINDS, Judged, Score, linear_of
from quickstudy.kinds.class_ids import Coded
from quickstudy.kinds.losses import ClassWeights, Loss, check_class_weights, class_weights_of, named_loss, weighted
from quickstudy.kinds.predictions import check_finite
from quickstudy.nets import Encoder

if TYPE_CHECKING:
    from quickstudy.kinds.metrics import Figures

MEAN_IOU = Score("mean_iou", share=True)


@KINDS.register("segmentation")
@dataclass(frozen=True)
class Segmentation(Annotated):
    """A class of each element of an input, which the backbone tells the features of (``elements``).

    Targets are whole numbers, the ids of classes, of each element; a batch of them is
    ``{"labels": [N, P], "mask": [N, P]}`` of codes, and where an element has one. The loss is the mean over all
    elements that have one, of all examples.

    Args:
        num_classes: C, with ids from 0; None: as ``class_names`` or the data say, or by the ids in the training data,
            each target of which is read once for that.
        class_names: names of the ids 0, 1, ...; or by id, where these have holes. Ids of one name are of one class.
        ignore_index: an id, or several, of no class, which are neither learned nor counted.
        class_weights: ``"balanced"``, weights by class name, or in the classes' order.
        hidden: units of a layer between features and answers, by which an element's own features and those of the whole
            have to do with each other; 0: the head is linear.
        classes: C names, in the order of the codes.
        ids, codes: which ids there are, and the code of each.
        weights: of the classes in the loss; empty: all the same.
    """

    score: ClassVar[Score] = MEAN_IOU
    forms: ClassVar[tuple[str, ...]] = ("labels", "classes", "probabilities", "logits")
    schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {"labels": {"type": "array", "items": {"type": "string"}}},
    }
    learned: ClassVar[tuple[str, ...]] = (*Annotated.learned, "weights")
    ignored_by: ClassVar[str] = "ignore_index"
    instead_of_episodes: ClassVar[str] = "a class of whole examples from a few, and here each of their parts has one"
    lacking: ClassVar[str] = (
        "the data has one label of each example, or none, and here each of its parts has one: give labels that are as "
        "large as the inputs, for instance by PointCloudSegmentationData"
    )
    by_number: ClassVar[bool] = True

    ignore_index: int | Sequence[int] | None = None
    class_weights: ClassWeights | None = None
    hidden: int = 128
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(0, hidden=self.hidden)

    @classmethod
    def encode(cls, targets: Any, names: Sequence[str] | None = None) -> Annotations:
        """Take arrays of ids, one for each example; see ``Kind.encode``."""
        return annotated(targets, ids_of, names)

    def meet(self, data: Any, stage: str) -> Self:
        """Take the classes, and weigh them; see ``Kind.meet``."""
        met = super().meet(data, stage)
        train = None if data is None else data.table("train")
        if self.class_weights is not None and (not self.weights or (stage == "fit" and train is not None)):
            met = replace(met, weights=met.weighed(train))
        return met

    def weighed(self, train: Table | None) -> tuple[float, ...]:
        """Return the weight of each class in the loss, as ``class_weights`` say.

        Args:
            train: training examples; None: there are none.
        """
        assert self.class_weights is not None
        counts = None if train is None else self._counted(train)
        total = 0 if counts is None else sum(counts)
        return class_weights_of(self.class_weights, self.classes, counts, total, multi_label=False)

    def labels_seen(self, targets: Iterable[Any]) -> Iterator[int]:
        """Return the ids that elements have."""
        for target in targets:
            yield from target.unique().tolist()

    def _counted(self, table: Table) -> list[int] | None:
        """Return how many elements each class has."""
        annotations = self.fitting(table).annotations
        if annotations is None or self.class_weights != "balanced":
            return None
        counts = torch.zeros(len(self.classes), dtype=torch.int64)
        for row in range(len(annotations)):
            target = annotations.target(row)
            counts += torch.bincount(target["labels"][target["mask"]], minlength=len(counts))
        return counts.tolist()

    def targets_by(self, coded: Coded) -> Callable[[Any], Batch]:
        """Return what makes ``{"labels", "mask"}`` of ids."""
        return _ToTargets(coded)

    # ---- the network

    def head(self, encoder: Encoder, example: Batch) -> nn.Module:
        """Make a head from the features ``[..., D]`` of an element to ``[..., C]``."""
        return _head(encoder.element_width(example), self.hidden, len(self.classes))

    def head_of(self, weights: Mapping[str, Tensor], encoder: Encoder, like: Batch | None) -> nn.Module:
        """Make the head of these weights, whatever the encoder's; see ``Kind.head_of``."""
        if "weight" in weights:
            return linear_of(weights, self.choices)
        hidden, width = weights["0.weight"].shape
        return _head(width, hidden, self.choices)

    def outputs(self, encoder: Encoder, head: nn.Module, inputs: Batch) -> dict[str, Tensor]:
        """Return ``{"logits": [N, P, C], "mask": [N, P]}``: the mask says which elements there are."""
        logits, mask = encoder.elements(inputs, head)
        return {"logits": logits, "mask": mask}

    # ---- how well it does

    def loss(self, asked: str | Loss | None, otherwise: Loss | None = None) -> Loss:
        """Return the loss of logits ``[n, C]`` and codes ``[n]``; cross-entropy is the default."""
        check_class_weights(self.class_weights, asked, multi_label=False)
        return otherwise if asked is None and otherwise is not None else named_loss(asked, ("cross_entropy",), "logits")

    def judge(self, encoder: Encoder, head: nn.Module, inputs: Batch, targets: Batch, loss: Loss) -> Judged:
        """Answer a batch, and judge the answers to the elements that have a class; see ``Kind.judge``.

        Raises:
            DataError: an example has more or fewer elements than labels.
        """
        outputs = self.outputs(encoder, head, inputs)
        labels, asked = of_elements(outputs["mask"], targets)
        if int(asked.sum()) != int(targets["mask"].sum()):
            raise DataError(
                f"there are labels of elements that inputs do not have: inputs {tuple(asked.shape)}, labels "
                f"{tuple(targets['labels'].shape)}. A transform that leaves some out must leave out their labels, "
                "too: mark it with of_samples"
            )
        logits, codes = outputs["logits"][asked], labels[asked]
        weight: float | Tensor = len(codes)
        if not len(codes):
            lost = outputs["logits"].sum() * 0.0  # nothing is asked
        elif self.weights:
            lost, weight = weighted(logits, codes, self.weights)
        else:
            lost = loss(logits, codes)
        return Judged(lost, weight, outputs, targets, self.figures(outputs, targets))

    def figures(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        """Return ``[N, 3C]`` numbers of elements of each example; see ``metrics.Overlaps``."""
        labels, asked = of_elements(outputs["mask"], targets)
        logits = outputs["logits"].detach()
        answers = logits.argmax(-1)  # which takes nan for class 0
        said = asked & ~logits.isnan().any(-1)
        count, classes = len(labels), logits.shape[-1]
        base = classes * torch.arange(count, device=labels.device).view(-1, *(1,) * (labels.ndim - 1))

        def of_each(codes: Tensor, which: Tensor) -> Tensor:
            places = (base + codes)[which]
            counts = torch.zeros(count * classes, device=labels.device, dtype=torch.int64)  # float32 ends at 2**24
            return counts.index_add(0, places, torch.ones_like(places)).view(count, classes).float()

        parts = [of_each(labels, said & (answers == labels)), of_each(answers, said), of_each(labels, asked)]
        return torch.cat(parts, 1)

    def settled(self, figures: Tensor) -> Tensor:
        """Return what each of all examples adds to the mean intersection over union."""
        from quickstudy.kinds.metrics import mean_overlaps  # torchmetrics takes long to import

        return mean_overlaps(figures) if figures.ndim == 2 and len(figures) else figures.new_empty(0)

    def measure(self, per_example: bool, choices: int = 0) -> Figures:
        """Return the intersection over union of all and of each class; see ``Kind.measure``."""
        from quickstudy.kinds.metrics import Overlaps  # torchmetrics takes long to import, and answering needs none

        return Overlaps(self.classes)

    # ---- answers

    def answers(self, outputs: Mapping[str, Tensor], form: str) -> Any:
        """Return for each input an answer of each of its elements.

        Args:
            outputs: of the network.
            form: ``"labels"``: N lists of class names; ``"classes"``: N tensors ``[P]`` of ids, as the targets have
                them; ``"probabilities"`` or ``"logits"``: N tensors ``[P, C]``.

        Raises:
            DataError: an answer is not a number.
        """
        logits, mask = outputs["logits"].float(), outputs["mask"].bool()
        check_finite(~(logits.isnan().any(-1) & mask).flatten(1).any(1))
        own = [of_rectangle(logits[row], mask[row]) for row in range(len(logits))]
        if form in ("logits", "probabilities"):
            return own if form == "logits" else [one.softmax(-1) for one in own]
        codes = [one.argmax(-1) for one in own]
        if form == "labels":
            names = np.array(self.classes, object)
            return [names[one.cpu().numpy()].tolist() for one in codes]
        firsts = torch.tensor([self.ids[self.codes.index(code)] for code in range(self.choices)] or [0])
        return [firsts.to(one.device)[one] for one in codes]

    def in_json(self, answer: list[Any]) -> dict[str, Any]:
        """Return the labels; see ``Kind.in_json``."""
        return {"labels": answer}

    def exported(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """Return the logits ``[N, P, C]``."""
        return outputs["logits"]


def _head(width: int, hidden: int, answers: int) -> nn.Module:
    if not hidden:
        return nn.Linear(width, answers)
    return nn.Sequential(nn.Linear(width, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Linear(hidden, answers))


def ids_of(item: Any, example: Batch | None = None) -> Tensor:
    """Return the ids of the elements of one example, ``[...]``.

    Args:
        item: an array, a tensor, or lists of whole numbers.
        example: see ``annotations.Read``.

    Raises:
        DataError: it holds no whole numbers.
    """
    try:
        array = np.asarray(item.detach().cpu() if isinstance(item, Tensor) else item)
    except ValueError as error:
        raise DataError(f"labels must be an array of whole numbers, and these are {brief(item)}") from error
    if array.dtype.kind == "f" and np.isfinite(array).all() and (array == array.round()).all():
        array = array.astype(np.int64)
    if array.dtype.kind not in "biu" or not array.ndim:
        holds = "NaN" if array.dtype.kind == "f" and np.isnan(array).any() else brief(item)
        raise DataError(f"labels must be whole numbers, one of each point, pixel or token, and not {holds}")
    return torch.from_numpy(array.astype(np.int64))


@dataclass(frozen=True)
class _ToTargets:
    """Makes targets of ids, where they are not masked already."""

    coded: Coded

    def __call__(self, ids: Tensor) -> dict[str, Tensor]:
        labels, mask = self.coded.labels(ids)
        return {"labels": labels, "mask": mask}


def of_elements(there: Tensor, targets: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the labels of elements ``[N, P]``, and which of them there are and are asked about.

    Both are filled up to the longest of their batch, and so agree but for zeros.
    """
    labels, mask = targets["labels"], targets["mask"].bool()
    if labels.shape != there.shape:
        spare = [max(0, wants - has) for has, wants in zip(labels.shape, there.shape, strict=True)]
        fill = [end for by in reversed(spare) for end in (0, by)]
        cut = tuple(slice(0, length) for length in there.shape)
        labels, mask = F.pad(labels, fill)[cut], F.pad(mask, fill)[cut]
    return labels, mask & there


def of_rectangle(answers: Tensor, mask: Tensor) -> Tensor:
    """Return the answers ``[P, C]`` of one input without what fills it up; of places ``[H, W, C]`` the rectangle."""
    if mask.ndim == 1:
        return answers[mask]
    ends = [int(mask.any(dim=tuple(a for a in range(mask.ndim) if a != axis)).sum()) for axis in range(mask.ndim)]
    return answers[tuple(slice(0, end) for end in ends)]
