"""Targets that are as large as what they are of: a label of each point, pixel or token, and boxes, masks, keypoints.

A class, or a number, is one cell of an array, and all of them are in memory. Annotations are not: they lie in files of
their own, or in those of the inputs, and differ in length. So a table holds *items*, and each is read where its input
is, in the process that loads it. From there on input and target are one sample, ``{"input": ..., "target": ...}``, a
tree of tensors as any other: what caches trees, shares them among processes, fills them up with zeros to one length,
takes rows of them and moves them to a device needs to know nothing of targets, and one transform moves both
(``samples.of_samples``). A batch is such a tree, too. Because zeros fill up, whatever may differ in number has a mask
beside it, in the same dict: ``{"labels": [P], "mask": [P]}``, ``{"boxes": [M, 7], "labels": [M], "mask": [M]}``.

Shapes: N examples, P elements of one, M boxes of one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.batches import Batch
from quickstudy.data.content import told_by
from quickstudy.errors import DataError

ReadMany = Callable[[Any, NDArray[np.int64]], Batch]
"""Makes tensors ``[n, ...]`` of some of the items, which are all of one shape."""
Read = Callable[[Any, Batch | None], Batch]
"""Makes tensors of one item; it sees the input that the target is of, as that was loaded, or None."""

_TOLD = 4096  # items that tell annotations from others


@dataclass(frozen=True, eq=False)
class Annotations:
    """N targets that are tensors of any length, or dicts of them, which are read one by one.

    Args:
        items: N of them as the data has them: arrays, names of files, lists of boxes.
        read: see ``Read``.
        names: of the classes that the targets number from 0, where the data tells them.
        code: then turns the tensors into those that a model learns by, such as ids into codes; ``code(target)``.
        read_many: reads several at once, ``read_many(items, rows)``, where that is faster and needs no input.
    """

    items: Any
    read: Read
    names: tuple[str, ...] = ()
    code: Callable[[Any], Batch] | None = None
    read_many: ReadMany | None = None

    def __len__(self) -> int:
        return len(self.items)

    def target(self, row: int, example: Batch | None = None) -> Batch:
        """Return one target.

        Args:
            row: its number.
            example: the input that it is of.

        Raises:
            DataError: it cannot be read, or is none of such an input.
        """
        found = self.read(self.items[row], example)
        return found if self.code is None else self.code(found)

    def targets(self, rows: NDArray[np.int64]) -> Batch | None:
        """Return several as one batch; None where they are to be read one by one."""
        return None if self.read_many is None or self.code is not None else self.read_many(self.items, rows)

    def select(self, rows: NDArray[np.integer[Any]]) -> Self:
        """Return those of these rows."""
        if hasattr(self.items, "select"):
            return replace(self, items=self.items.select(rows))
        if isinstance(self.items, (np.ndarray, Tensor)):
            return replace(self, items=self.items[rows])
        return replace(self, items=[self.items[row] for row in rows.tolist()])

    def coded(self, code: Callable[[Any], Batch]) -> Self:
        """Return them as a model learns by them."""
        return replace(self, code=code)

    @property
    def fingerprint(self) -> bytes:
        """A digest of the items, or of some."""
        digest = hashlib.blake2b(repr((len(self), self.names)).encode(), digest_size=16)
        count = min(len(self), _TOLD)
        for place in range(count):
            with suppress(TypeError, OSError):  # of what has no content that tells, or no file
                item = self.items[place * len(self) // count]
                for part in [repr(item).encode()] if isinstance(item, (list, tuple)) else told_by(item):
                    digest.update(part)
        return digest.digest()


def annotated(targets: Any, read: Read, names: Sequence[str] | None = None) -> Annotations:
    """Return targets as a user writes them, as annotations.

    Args:
        targets: N of them, in a list, an array whose first axis counts them, or a column.
        read: see ``Read``.
        names: of the classes.

    Raises:
        DataError: they have no length.
    """
    if isinstance(targets, (str, bytes)) or not hasattr(targets, "__len__"):
        raise DataError(f"targets must be a list of one target per example, not {type(targets).__name__}")
    items = targets.tolist() if hasattr(targets, "iloc") else targets
    return Annotations(items, read, tuple(names or ()))
