"""One record of what exists: inputs, targets, class names. Nothing is decoded here.

Shapes: N examples, C classes.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from quickstudy.batches import Batch, size, take
from quickstudy.data.annotations import Annotations
from quickstudy.data.content import told_by
from quickstudy.data.origins import Origins
from quickstudy.data.targets import Codes, Encode, LabelType, Numbers, as_label, class_name, plain_number
from quickstudy.data.targets import encode as encode_labels
from quickstudy.errors import DataError, shown
from quickstudy.torch_internals import keystr, tree_flatten_with_path

_CHUNK = 1 << 22
_FINGERPRINT_ROWS = 4096


class Inputs(Protocol):
    """Anything with a length and numbered items: a tensor, a list, ``Files``, a wrapped data set.

    A batch of dicts, whose length is not its number of examples, is taken too (``count_of``).
    """

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...


def count_of(inputs: Inputs | Batch) -> int:
    """Return how many examples inputs are."""
    return size(inputs) if isinstance(inputs, dict) else len(inputs)


class ClassIndex:
    """The rows of each class: 4 bytes per row below 2**32 rows, 8 above; any class's rows in O(1).

    Args:
        targets: ``[N]`` class codes.
        num_classes: C; a class may be empty.
    """

    def __init__(self, targets: NDArray[Any], num_classes: int) -> None:
        # A stable counting sort in chunks: O(N) time, and no temporary array of the size of the data.
        counts = np.zeros(num_classes, np.int64)
        for start in range(0, len(targets), _CHUNK):
            counts += np.bincount(targets[start : start + _CHUNK], minlength=num_classes)
        self.offsets: NDArray[np.int64] = np.concatenate([[0], np.cumsum(counts)])
        """``[C + 1]``: class c owns ``order[offsets[c]:offsets[c + 1]]``."""
        self.order: NDArray[Any] = np.empty(len(targets), np.uint32 if len(targets) < 2**32 else np.int64)
        """``[N]``: rows by class, in their own order within each."""
        cursor = self.offsets[:-1].copy()
        for start in range(0, len(targets), _CHUNK):
            chunk = targets[start : start + _CHUNK]
            rows = np.argsort(chunk, kind="stable")
            codes = chunk[rows]
            firsts = np.flatnonzero(np.concatenate([[True], codes[1:] != codes[:-1]]))
            lengths = np.diff(np.append(firsts, len(codes)))
            within = np.arange(len(codes)) - np.repeat(firsts, lengths)
            self.order[cursor[codes] + within] = rows + start
            cursor[codes[firsts]] += lengths

    @property
    def counts(self) -> NDArray[np.int64]:
        """``[C]``: examples per class."""
        return np.diff(self.offsets)

    def rows(self, code: int) -> NDArray[Any]:
        """Return the rows of one class."""
        return self.order[self.offsets[code] : self.offsets[code + 1]]


@dataclass(frozen=True, eq=False)
class Table:
    """N examples: what they are and which class each belongs to, or which number.

    Args:
        inputs: N items that the domain's ``load`` understands, or a batch ``[N, ...]`` that is fed as it is.
        targets: ``[N]`` codes into ``classes``, ``[N, C]`` bool for several labels per example, ``[N]`` float64 numbers
            that are no codes, or None.
        classes: C names, each once; where targets are numbers, those of the groups.
        label_type: what the targets were before they became codes: answers are given in it.
        skipped: why examples were left out on the way here, by their names.
        episode_key: names the inputs for the choice of episodes, in place of what they are.
        groups: ``[N]`` codes into ``classes`` where targets are numbers: each group is a task of its own, of which an
            episode shows examples.
        origins: what each example comes from (a speaker, a recording), where that is known: no episode asks for one of
            an origin that it shows another of, and no split divides an origin.
        annotations: targets that are neither classes nor numbers, but as large as the inputs; ``targets`` is then None.

    Raises:
        DataError: lengths differ, a code is out of range, a name repeats.
    """

    inputs: Inputs
    targets: Codes | Numbers | None = None
    classes: tuple[str, ...] = ()
    label_type: LabelType = "str"
    skipped: Mapping[str, str] = field(default_factory=dict)
    episode_key: str | None = None
    groups: NDArray[np.int32] | None = None
    origins: Origins | None = None
    annotations: Annotations | None = None

    @classmethod
    def build(
        cls,
        inputs: Inputs,
        targets: Any = None,
        classes: Sequence[str] | None = None,
        encode: Encode = encode_labels,
        groups: Any = None,
        origins: Any = None,
    ) -> Table:
        """Make a table from inputs and targets as a user has them.

        Args:
            inputs: N of them.
            targets: as many; None: there are none.
            classes: names of the columns of a matrix.
            encode: how targets are read: as labels (``targets.encode``), or as numbers (``encode_numbers``).
            groups: where targets are numbers: N labels, of the group that each belongs to.
            origins: N labels, of what each comes from.
        """
        told = None if origins is None else Origins.of(origins)
        if targets is None:
            return cls(inputs, origins=told)
        encoded = encode(targets, classes)
        if isinstance(encoded, Annotations):
            return cls(inputs, origins=told, annotations=encoded)
        made = cls(inputs, *encoded, origins=told)
        if groups is None:
            return made
        codes, names, _ = encode_labels(groups)
        if codes.ndim != 1 or not made.numeric:
            raise DataError("groups are one label per example, and go with targets that are numbers")
        return replace(made, groups=codes.astype(np.int32), classes=names)

    def __post_init__(self) -> None:
        if self.origins is not None and len(self.origins.codes) != len(self):
            raise DataError(f"{len(self)} inputs but {len(self.origins.codes)} groups: each input needs one group")
        if self.annotations is not None and len(self.annotations) != len(self):
            raise DataError(f"{len(self)} inputs but {len(self.annotations)} targets: each input needs one target")
        if self.targets is None:
            return
        if len(self.targets) != len(self):
            raise DataError(f"{len(self)} inputs but {len(self.targets)} targets: each input needs one target")
        if len(set(self.classes)) != len(self.classes):
            repeated = next(name for name in self.classes if self.classes.count(name) > 1)
            raise DataError(f"the class name '{repeated}' stands more than once among the classes")
        if self.numeric:
            if len(self if self.groups is None else self.groups) != len(self):
                groups = 0 if self.groups is None else len(self.groups)
                raise DataError(f"{len(self)} inputs but {groups} groups: each input needs one group")
        elif self.multi_label:
            if self.targets.shape[1] != len(self.classes):
                raise DataError(f"targets have {self.targets.shape[1]} columns for {len(self.classes)} class names")
        elif len(self.targets) and not 0 <= int(self.targets.min()) <= int(self.targets.max()) < len(self.classes):
            raise DataError(f"targets must be codes from 0 to {len(self.classes) - 1}, one per class name")

    def __len__(self) -> int:
        return count_of(self.inputs)

    def __str__(self) -> str:
        """Say how many examples and classes there are.

        >>> print(Table.build([1, 2, 3], ["a", "b", "b"]))
        3 examples of 2 classes, 1 to 2 of each (median 1.5): 'a', 'b'
        """
        return self._in_words() if self.origins is None else f"{self._in_words()}; {self.origins}"

    def _in_words(self) -> str:
        if self.annotations is not None:
            return f"{len(self)} examples, each with a target as large as itself"
        if self.targets is None:
            return f"{len(self)} examples without classes"
        if self.numeric:
            span = f", from {self.targets.min():.4g} to {self.targets.max():.4g}" if len(self) else ""
            return f"{len(self)} examples{span}" + (f", in {len(self.classes)} groups" if self.classes else "")
        counts = self.targets.sum(axis=0) if self.multi_label else self.index.counts
        if not len(counts):
            return f"{len(self)} examples of no class"
        least, most, middle = int(counts.min()), int(counts.max()), float(np.median(counts))
        each = f"{least} of each" if least == most else f"{least} to {most} of each (median {middle:g})"
        return f"{len(self)} examples of {len(self.classes)} classes, {each}: {shown(self.classes)}"

    @property
    def multi_label(self) -> bool:
        """Whether an example may have several labels."""
        return self.targets is not None and self.targets.ndim == 2

    @property
    def numeric(self) -> bool:
        """Whether targets are numbers, and no codes."""
        return self.targets is not None and self.targets.dtype.kind == "f"

    @property
    def told(self) -> list[Any] | None:
        """The targets as the data has them: labels, where an example may have several lists of them; or numbers."""
        if self.targets is None or self.numeric:
            return None if self.targets is None else self.targets.tolist()
        if self.multi_label:
            return [[self.classes[code] for code in np.flatnonzero(own)] for own in self.targets]
        return [as_label(self.classes[code], self.label_type) for code in self.targets]

    @cached_property
    def index(self) -> ClassIndex:
        """The rows of each class, or of each group.

        Raises:
            DataError: the table has no targets, several labels per example, or numbers without groups.
        """
        if self.numeric:
            if self.groups is None:
                raise DataError(
                    "episodes of numbers need groups: which examples are of one task, such as one patient's. Give "
                    "from_groups(train_groups={'a name': (inputs, targets), ...})"
                )
            return ClassIndex(self.groups, len(self.classes))
        if self.targets is None or self.multi_label:
            what = "no targets" if self.targets is None else "several labels per example"
            what = what if self.annotations is None else "a label of each part of an example"
            raise DataError(f"few-shot episodes need exactly one label per example, and this data has {what}")
        return ClassIndex(self.targets, len(self.classes))

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the classes, every target, and the inputs (all names, or a sample of the values)."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(repr((len(self), self.classes)).encode())
        if self.targets is not None:
            digest.update(np.ascontiguousarray(self.targets).data)
        if self.groups is not None:
            digest.update(np.ascontiguousarray(self.groups).data)
        if self.origins is not None:
            digest.update(np.ascontiguousarray(self.origins.codes).data)
        if self.annotations is not None:
            digest.update(self.annotations.fingerprint)
        count = min(len(self), _FINGERPRINT_ROWS)
        rows = torch.arange(count) * len(self) // max(count, 1)
        if isinstance(self.inputs, (torch.Tensor, dict)):
            for path, leaf in tree_flatten_with_path(self.inputs)[0]:
                digest.update(f"{keystr(path)}{(leaf.dtype, tuple(leaf.shape))}".encode())
                digest.update(leaf[rows].flatten().view(torch.uint8).numpy().data)
        elif isinstance(self.inputs, list):
            for row in rows.tolist():
                with suppress(TypeError, OSError):  # of what has no content that tells, or no file
                    for part in told_by(self.inputs[row]):
                        digest.update(part)
        elif hasattr(self.inputs, "fingerprint"):
            digest.update(self.inputs.fingerprint)
        return digest.hexdigest()

    @cached_property
    def episode_fingerprint(self) -> str:
        """What episodes are drawn by: ``fingerprint``; with an ``episode_key`` this, the classes and every target."""
        if self.episode_key is None:
            return self.fingerprint
        digest = hashlib.blake2b(repr((self.episode_key, len(self), self.classes)).encode(), digest_size=16)
        for codes in (self.targets, self.groups, self.origins and self.origins.codes):
            if codes is not None:
                digest.update(np.ascontiguousarray(codes).data)
        return digest.hexdigest()

    def select(self, rows: NDArray[np.integer[Any]]) -> Table:
        """Return the table of these rows; classes stay as they are."""
        if isinstance(self.inputs, (torch.Tensor, dict)):
            inputs: Inputs = take(self.inputs, torch.from_numpy(np.asarray(rows, np.int64)))
        elif hasattr(self.inputs, "select"):
            inputs = self.inputs.select(rows)
        else:
            inputs = [self.inputs[int(row)] for row in rows]
        targets, groups = (None if codes is None else codes[rows] for codes in (self.targets, self.groups))
        key = self.episode_key
        if key is not None:
            key = f"{key}/{hashlib.blake2b(np.asarray(rows, np.int64).tobytes(), digest_size=16).hexdigest()}"
        origins = None if self.origins is None else self.origins.select(rows)
        annotations = None if self.annotations is None else self.annotations.select(rows)
        return replace(
            self,
            inputs=inputs,
            targets=targets,
            episode_key=key,
            groups=groups,
            origins=origins,
            annotations=annotations,
        )

    def only(self, codes: Sequence[int]) -> Table:
        """Return the table of these classes' examples, its classes renumbered in the order given."""
        rows = np.concatenate([self.index.rows(code) for code in codes] or [np.empty(0, np.int64)])
        chosen = self.select(rows.astype(np.int64))
        return chosen.with_classes(tuple(self.classes[code] for code in codes))

    def with_classes(self, classes: tuple[str, ...]) -> Table:
        """Return the same examples with targets counted in another list of classes.

        Raises:
            DataError: an example's class is not in ``classes``; the message names it.
        """
        if self.targets is None or classes == self.classes or (self.numeric and self.groups is None):
            return self
        position = {class_name(name): code for code, name in enumerate(classes)}
        own = [class_name(name) for name in self.classes]
        position |= _otherwise_written(own, position)
        missing = [name for name in self._present() if class_name(name) not in position]
        if missing:
            raise DataError(
                f"classes {shown(missing)} are not among the {len(classes)} classes of the training data: "
                "a model with a fixed list of classes cannot be trained or judged on others. "
                "Remove them, add them to the training data, or use a few-shot training_strategy"
            )
        if self.multi_label:
            targets = np.zeros((len(self), len(classes)), np.bool_)
            for old, name in enumerate(own):
                if name in position:
                    targets[:, position[name]] = self.targets[:, old]
            return replace(self, targets=targets, classes=classes)
        renumber = np.array([position.get(name, 0) for name in own], np.int32)
        if self.groups is not None:
            return replace(self, groups=renumber[self.groups], classes=classes)
        return replace(self, targets=renumber[self.targets], classes=classes)

    def without_empty_classes(self) -> Table:
        """Return the same examples with those classes only that have any."""
        return self if self.numeric and self.groups is None else self.with_classes(self._present())

    def _present(self) -> tuple[str, ...]:
        assert self.targets is not None
        counts = self.targets.sum(axis=0) if self.multi_label else self.index.counts
        return tuple(name for name, count in zip(self.classes, counts.tolist(), strict=True) if count)


def _otherwise_written(names: Sequence[str], known: Mapping[str, int]) -> dict[str, int]:
    """Return the codes of those names that write a number otherwise than the one known class of this number does."""
    numbers = {plain_number(name): name for name in known}
    spelled, asked = Counter(map(plain_number, known)), Counter(map(plain_number, names))
    return {
        name: known[numbers[number]]
        for name in names
        if name not in known and spelled[number := plain_number(name)] == asked[number] == 1
    }


class Splits(NamedTuple):
    """A published division of a data set by classes."""

    train: Table
    val: Table
    test: Table
