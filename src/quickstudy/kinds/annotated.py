"""Answers whose targets are annotations: a class of each element, or objects that were found, each with its class.

What kinds of both sorts share, whatever an input is: which classes there are, and the targets by their codes.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from quickstudy.batches import Batch
from quickstudy.data.annotations import Annotations
from quickstudy.data.table import Table
from quickstudy.errors import ConfigError, DataError, brief, check_counts, given
from quickstudy.functional.detections import shares_of_each, without_each
from quickstudy.kinds.base import Kind
from quickstudy.kinds.class_ids import ClassNames, Coded, class_ids, in_form
from quickstudy.kinds.losses import Loss, own_loss

if TYPE_CHECKING:
    from quickstudy.kinds.metrics import Figures

_LATEST: dict[str, Any] = {}
"""Of the latest figures of average precision what tells them, and those without groups of examples."""


@dataclass(frozen=True)
class Annotated(Kind):
    """An answer whose targets are annotations that name classes.

    Args:
        num_classes: C; None: as ``class_names`` or the data say.
        class_names: names of the ids 0, 1, ...; or by id, where these have holes.
        classes: C names, in the order of the codes.
        ids, codes: which ids, or labels, there are, and the code of each.
    """

    annotates: ClassVar[bool] = True
    learned: ClassVar[tuple[str, ...]] = ("classes", "ids", "codes")
    ignored_by: ClassVar[str]
    """The option that names the labels of no class."""
    instead_of_episodes: ClassVar[str]
    """What a few-shot strategy learns, and an answer is not; for a message."""
    lacking: ClassVar[str]
    """What data without annotations is told."""
    by_number: ClassVar[bool] = False
    """Whether ids are whole numbers; else they may be names."""

    num_classes: int | None = None
    class_names: ClassNames | None = None
    classes: tuple[str, ...] = field(default=(), kw_only=True)
    ids: tuple[Any, ...] = field(default=(), kw_only=True)
    codes: tuple[int, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        check_counts(**given(num_classes=self.num_classes))
        object.__setattr__(self, "class_names", in_form(self.class_names, self.by_number))

    @property
    def ignored(self) -> tuple[Any, ...]:
        """Ids, or labels, of no class."""
        return several_of(getattr(self, self.ignored_by))

    def check_episodic(self, strategy: str, head: str | nn.Module) -> None:
        """Say that episodes are of whole examples; see ``Kind.check_episodic``."""
        raise ConfigError(f"training_strategy='{strategy}' learns {self.instead_of_episodes}: leave it out")

    def meet(self, data: Any, stage: str) -> Self:
        """Take the classes; see ``Kind.meet``."""
        table = self.annotated_table(data)
        return self if self.classes else self.named_by(table)

    def annotated_table(self, data: Any) -> Table | None:
        """Return the training examples of a data module, or else others; None where it has none.

        Raises:
            ConfigError: they have no annotations.
        """
        tables = [] if data is None else [data.table(name) for name in ("train", "val", "test")]
        table = next((table for table in tables if table is not None), None)
        if table is not None and table.annotations is None:
            raise ConfigError(self.lacking)
        return table

    def named_by(self, table: Table | None) -> Self:
        """Return it with the classes that it is told, or that targets have.

        Args:
            table: of examples, which are gone through where nothing else names classes; None: there are none.

        Raises:
            ConfigError: there is none, or another number of them.
        """
        annotations = None if table is None else table.annotations
        if annotations is None:
            if self.class_names is None and self.num_classes is None:
                raise ConfigError(
                    "which classes there are is not known: give datamodule=, or set num_classes or class_names"
                )
            return self.with_classes((), ())
        return self.with_classes(annotations.names, self.labels_seen(uncoded_targets(annotations)))

    def with_classes(self, names: Sequence[str], seen: Iterable[Any]) -> Self:
        """Return it with classes, by names that data has, or by the labels seen, which are asked for if need be."""
        return replace(self, **class_ids(self.class_names, self.num_classes, names, seen, self.ignored)._asdict())

    def labels_seen(self, targets: Iterable[Any]) -> Iterator[Any]:
        """Return the ids, or labels, in targets as they were read; here of dicts that list them."""
        for target in targets:
            yield from target["labels"]

    @property
    def choices(self) -> int:
        """How many classes there are."""
        return len(self.classes)

    @property
    def labels(self) -> list[Any]:
        """The names of the classes."""
        return list(self.classes)

    def fitting(self, table: Table) -> Table:
        """Return the same examples with targets of these classes; see ``Kind.fitting``."""
        if table.annotations is None or not self.classes:
            return table
        coded = Coded(self.classes, self.ids, self.codes, self.ignored, self.ignored_by)
        return replace(table, annotations=table.annotations.coded(self.targets_by(coded)))

    @abstractmethod
    def targets_by(self, coded: Coded) -> Callable[[Any], Batch]:
        """Return what makes targets, as ``judge`` takes them, of those that were read."""


@dataclass(frozen=True)
class FoundObjects(Annotated):
    """Any number of objects that are found in an input, each with a class and how sure that is.

    The score is their average precision, which follows from all figures together.

    Args:
        ignore: a label, or several, whose objects are left out.
    """

    ignored_by: ClassVar[str] = "ignore"
    objects: ClassVar[str]
    """What is found, for messages."""

    ignore: str | int | Sequence[str | int] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "ignore", self.ignored)

    def loss(self, asked: str | Loss | None, otherwise: Loss | None = None) -> Loss:
        """Return nothing that is called: what finds them has a loss of its own.

        Raises:
            ConfigError: another is asked for.
        """
        return own_loss(asked, f"what finds {self.objects} has a loss of its own")

    @abstractmethod
    def precisions(self, figures: Any) -> dict[str, float]:
        """Return average precisions by name, the score among them, of an array of figures."""

    def settled(self, figures: Tensor) -> Tensor:
        """Return what each example adds to the score, whose mean it is, by leaving groups of them out in turn."""
        if figures.ndim < 2 or not len(figures):
            return figures.new_empty(0)
        numbers = figures.cpu().numpy()
        return torch.from_numpy(shares_of_each(self.precisions, self.score.name, numbers, self._rests(numbers)))

    def _rests(self, figures: Any) -> list[Mapping[str, float]]:
        """Return precisions without each of some groups of examples; those of the latest figures are kept, as a test
        asks for them twice."""
        digest = hashlib.blake2b(figures.astype(np.float32).tobytes()).digest()
        key = (self, figures.shape, digest)
        if _LATEST.get("key") != key:
            _LATEST.update(key=key, rests=without_each(self.precisions, figures))
        rests: list[Mapping[str, float]] = _LATEST["rests"]
        return rests

    def measure(self, per_example: bool, choices: int = 0) -> Figures:
        """Return the average precision of all and of each class; see ``Kind.measure``."""
        from quickstudy.kinds.metrics import Precisions  # torchmetrics takes long to import, and answering needs none

        return Precisions(
            lambda figures: self.precisions(figures.cpu().numpy()),
            lambda figures: self._rests(figures.cpu().numpy()),
        )

    def in_json(self, answer: list[Any]) -> dict[str, Any]:
        """Return what was found; see ``Kind.in_json``."""
        return {self.forms[0]: answer}

    def exported(self, outputs: Any) -> Tensor:
        """Say that they are found by code.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            f"{self.objects} are chosen among those that overlap by code, which no graph holds: save(folder) keeps it"
        )


def several_of(labels: Any) -> tuple[Any, ...]:
    """Return one label, several or None as a tuple.

    >>> several_of(255), several_of("tree"), several_of([0, 255]), several_of(None)
    ((255,), ('tree',), (0, 255), ())
    """
    if labels is None:
        return ()
    return (labels,) if isinstance(labels, (str, int)) else tuple(labels)


def uncoded_targets(annotations: Annotations) -> Iterator[Any]:
    """Return targets one by one as they are read, whatever they were turned into."""
    raw = replace(annotations, code=None)
    return (raw.target(row) for row in range(len(raw)))


def labels_of_boxes(labels: Any, count: int) -> list[str | int]:
    """Return the labels of the boxes of one input: names, or whole numbers.

    Args:
        labels: as a user gives them; None: there are none.
        count: how many boxes there are.

    Raises:
        DataError: they are no list, one is neither, some are names and some numbers, or they are not as many.
    """
    if labels is not None and (isinstance(labels, (str, bytes)) or not hasattr(labels, "__iter__")):
        raise DataError(f"labels of boxes are a list with one for each box, and not {brief(labels)}")
    names = [] if labels is None else [one.item() if hasattr(one, "item") else one for one in labels]
    if (odd := next((one for one in names if not isinstance(one, (str, int))), names)) is not names:
        raise DataError(f"a label of a box is a name or a whole number, and not {brief(odd)}")
    if len({isinstance(one, str) for one in names}) > 1:
        raise DataError(f"labels of boxes are all names, or all numbers, and not {brief(names)}")
    if len(names) != count:
        raise DataError(f"there are {count} boxes and {len(names)} labels: each needs one")
    return names


def kept_objects(target: Mapping[str, Any], codes: Sequence[int]) -> dict[str, Tensor]:
    """Return the target of those objects that have a class: their tensors, ``labels`` and ``mask``.

    Args:
        target: tensors ``[M, ...]``, and whatever else, which is left out.
        codes: M of them, -1 for no class.
    """
    labels = torch.tensor(codes, dtype=torch.int64)
    kept = labels >= 0
    leaves = {name: leaf[kept] for name, leaf in target.items() if isinstance(leaf, Tensor)}
    return {**leaves, "labels": labels[kept], "mask": torch.ones(int(kept.sum()), dtype=torch.bool)}
