"""Answers that are put together of those to parts of an input: places of a picture, proposals of objects.

Each part has features, a row of numbers, and so every algorithm on embeddings learns parts as it learns whole inputs:
a few inputs of which the parts' classes are known are a support set of many rows.

Shapes: B inputs, n of their parts, D features, W classes.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pkgutil import resolve_name
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from quickstudy.algorithms import Algorithm, EmbeddingAlgorithm
from quickstudy.algorithms.base import exact
from quickstudy.batches import Batch
from quickstudy.data.annotations import Annotations
from quickstudy.data.table import Table
from quickstudy.errors import DataError, brief
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


_MOST_MARKS, _MOST_BYTES = 1000, 1 << 20


def from_json(content: bytes, what: str) -> Any:
    """Return the list, or the dict, that a request tells in JSON.

    Args:
        content: of a file.
        what: it is to hold, with an example, for a message.

    Raises:
        DataError: it is none, or too long.
    """
    if len(content) > _MOST_BYTES:
        raise DataError(f"{len(content):,} bytes are too many for {what}: one input has {_MOST_BYTES:,} at most")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:  # of other bytes, too
        raise DataError(f"{brief(content)} is no JSON of {what}") from error
    if not isinstance(found, (list, dict)):
        raise DataError(f"{brief(content)} is no JSON of {what}")
    if len(found) > _MOST_MARKS:
        raise DataError(f"{len(found):,} are too many: one input has {_MOST_MARKS:,} {what} at most")
    return found


class RowHead(nn.Module):
    """What an algorithm learned of rows, as the head of a network; it holds the rows, from which that follows.

    Args:
        algorithm: learns rows of features.
        rows_SD: of all classes, ``[S, D]``.
        codes_S: their classes, ``[S]``; each class is there.
        owners_S: the inputs that they are of, from 1, ``[S]``.
    """

    def __init__(self, algorithm: EmbeddingAlgorithm, rows_SD: Tensor, codes_S: Tensor, owners_S: Tensor) -> None:
        super().__init__()
        self.algorithm = algorithm
        self.rows: Tensor
        self.codes: Tensor
        self.owners: Tensor
        for name, value in (("rows", rows_SD), ("codes", codes_S), ("owners", owners_S)):
            self.register_buffer(name, value)
        self.anchor = nn.Parameter(torch.zeros(()))
        """Stays 0: steps find something to train, as they must, and change nothing."""
        self._learned: tuple[Tensor, Any] | None = None

    def forward(self, features_nD: Tensor) -> Tensor:
        """Return logits ``[n, W]``."""
        features_nD = exact(features_nD)
        with torch.autocast(features_nD.device.type, enabled=False):
            if self._learned is None or self._learned[0] is not self.rows:
                with torch.no_grad():
                    ways = int(self.codes.max()) + 1
                    self._learned = self.rows, self.algorithm.fit(self.rows, self.codes, ways)
            return self.algorithm.logits(self._learned[1], features_nD) + 0 * self.anchor

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        super()._load_from_state_dict(*arguments, **options)
        self._learned = None


class OfParts(Kind):
    """An answer that can be learned from a few examples part by part: what a kind has for that beside the rest."""

    learned_by: ClassVar[str] = "quickstudy.part_predictor:PartPredictor"
    sure: ClassVar[tuple[str, ...]] = ()
    """The forms that tell how sure answers to parts are, and of which these are put together as they are."""
    marks: ClassVar[str] = "masks"
    """What targets are called in a request that shows a class."""

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

    def answered(self, encoder: Encoder, head: RowHead, inputs: Batch) -> Any:
        """Return raw answers to inputs, by what was learned of rows."""
        parts = self.parts(encoder, inputs)
        return self.assembled(head(parts.features), parts, inputs)
