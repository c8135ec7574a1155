"""Answers that are put together of those to parts of an input: places of a picture, proposals of objects.

Each part has features, a row of numbers, and so every algorithm on embeddings learns parts as it learns whole inputs:
a few inputs of which the parts' classes are known are a support set of many rows.

Shapes: B inputs, n of their parts, D features, W classes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pkgutil import resolve_name
from typing import Any, ClassVar, NamedTuple, Self

from torch import Tensor

from quickstudy.algorithms import Algorithm
from quickstudy.batches import Batch
from quickstudy.data.annotations import Annotations
from quickstudy.data.table import Table
from quickstudy.kinds.base import Kind
from quickstudy.nets import Encoder


class Parts(NamedTuple):
    """Parts of B inputs, in the order of the inputs."""

    features: Tensor
    """``[n, D]``, by an encoder that nothing trains."""
    owners: Tensor
    """``[n]``, the number of the input in its batch that each is of."""
    places: Any = None
    """Where they are: what ``OfParts.assembled`` needs beside answers to them."""


class Told(NamedTuple):
    """An answer, and the kind that knows the classes as they were when it was given: a model may learn further ones."""

    answer: Any
    kind: Any


class OfParts(Kind):
    """An answer that can be learned from a few examples part by part: what a kind has for that beside the rest."""

    learned_by: ClassVar[str] = "quickstudy.part_predictor:PartPredictor"

    @property
    def most_rows(self) -> int:
        """How many rows are kept of each class at most."""
        return 5000

    def learner(self, encoder: Encoder, algorithm: Algorithm, load: Callable[[Any], Any]) -> Any:
        """Return a ``PartPredictor``; see ``Kind.learner``."""
        return resolve_name(self.learned_by)(encoder, algorithm, load, self)

    @abstractmethod
    def parts(self, encoder: Encoder, inputs: Batch) -> Parts:
        """Return the parts of inputs that are asked about.

        Args:
            encoder: in evaluation mode.
            inputs: ``[B, ...]``, on its device.
        """

    @abstractmethod
    def taught(self, encoder: Encoder, inputs: Batch, targets: Mapping[str, Tensor]) -> tuple[Parts, Tensor]:
        """Return parts of inputs that have a class, and the code of each, ``[n]``.

        Args:
            encoder, inputs: as of ``parts``.
            targets: a batch of them, as ``of_table`` has them read.
        """

    @abstractmethod
    def assembled(self, logits_nW: Tensor, parts: Parts, inputs: Batch, unknown_n: Tensor | None = None) -> Any:
        """Return answers to inputs, as ``Kind.outputs`` does.

        Args:
            logits_nW: of each part.
            parts: what ``parts`` returned of the inputs.
            inputs: ``[B, ...]``
            unknown_n: which parts are like none that were learned; None: nobody asked.
        """

    @abstractmethod
    def of_table(self, table: Table, names: Any = None) -> tuple[Self, Annotations]:
        """Return it with the classes of a support set, and the targets as ``taught`` takes them.

        Args:
            table: inputs and annotations.
            names: of the classes, as a user gives them; None: as it was told, or as the annotations say.

        Raises:
            DataError: a target is of no class.
        """

    @abstractmethod
    def of_one_class(self, annotations: Annotations) -> Annotations:
        """Return targets as ``taught`` takes them, of annotations that show one class, whose code is 0."""

    @abstractmethod
    def of_classes(self, names: Sequence[Any]) -> Self:
        """Return it with these classes, in their order, whose ids are 0, 1, ..."""
