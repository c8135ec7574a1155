"""Learning classes of parts of inputs from a few examples, and answering part by part.

What is kept of an example is a row of features of each of its parts; all else is as where an example is one row
(``learning.adapting``): a class is the rows that are of it, and a change makes another value of what is known. Of each
class ``OfParts.most_rows`` are kept at most, as many of each input as there is room for, drawn by a seed that follows
from the input's number: so one input of many parts does not drown the others, and a few inputs are in memory at once.

Shapes: B inputs of a part, n parts of them, D features, W classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from quickstudy.algorithms import EmbeddingAlgorithm
from quickstudy.algorithms.base import exact
from quickstudy.batches import Batch, each, size, stack, take
from quickstudy.data.annotations import Annotations
from quickstudy.data.samples import Samples
from quickstudy.data.table import Table
from quickstudy.data.targets import Label
from quickstudy.errors import ConfigError, DataError
from quickstudy.kinds.parts import OfParts
from quickstudy.learning.adapting import fitted_to
from quickstudy.learning.changes import Change, Kept, check_name
from quickstudy.learning.confidence import familiarity, rounding_of
from quickstudy.learning.knowledge import Knowledge

AT_ONCE = 4
"""Inputs that go through the network together."""


def check_parts(knowledge: Knowledge) -> None:
    """Raise ``ConfigError`` unless an algorithm learns rows of features by an encoder that stays as it is."""
    if not isinstance(knowledge.algorithm, EmbeddingAlgorithm):
        raise ConfigError(
            f"{type(knowledge.algorithm).__name__} adapts the network to a few examples as wholes, and here their "
            "parts are learned by a network that stays as it is: choose 'linear_probe' or 'prototypes'"
        )


def fitted_by_parts(knowledge: Knowledge, inputs: Any, targets: Any, names: Any = None) -> Knowledge:
    """Return what is known once inputs were learned of whose parts the classes are told, in place of all before.

    Args:
        knowledge: of who learns.
        inputs: 1..n of them.
        targets: as many, as the kind of answer takes them.
        names: of the classes, see ``OfParts.of_table``.

    Raises:
        DataError: there are no examples, the lengths differ, one cannot be read, or a class has no part in any.
        ConfigError: the algorithm learns no parts.
    """
    check_parts(knowledge)
    examples = _listed(knowledge, inputs)
    annotations = _told(knowledge, examples, targets)
    kind, coded = of_parts(knowledge).of_table(Table(examples, annotations=annotations), names)
    knowledge = replace(knowledge, kind=kind, taught=knowledge.reader.scale(examples))
    for name in kind.classes:
        check_name(name)
    count = len(kind.classes)
    knowledge, rows, codes, origins = _rows_of(knowledge, examples, coded, count)
    _check_shown(codes, kind.classes)
    kept = Kept(rows, (b"",) * len(rows), origins=tuple(origins.tolist()))
    return fitted_to(knowledge, kept, codes.numpy(), kind.classes)


def rows_of_table(knowledge: Knowledge, table: Table, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows of the parts of examples ``[S, D]``, their codes and the inputs that they are of, from 1, ``[S]``.

    Args:
        knowledge: how inputs are read, and by which network.
        table: the examples, whose targets are coded.
        classes: how many there are, each of which must be shown.

    Raises:
        DataError: an example cannot be read, or a class has no part in any.
    """
    assert table.annotations is not None
    examples = [table.inputs[row] for row in range(len(table))]
    _, rows_SD, codes_S, owners_S = _rows_of(knowledge, examples, table.annotations, classes)
    _check_shown(codes_S, knowledge.kind.classes)
    return rows_SD, codes_S, owners_S


def of_rows(knowledge: Knowledge, rows_SD: Tensor, codes_S: Tensor, owners_S: Tensor) -> Knowledge:
    """Return what is known once rows were learned that ``rows_of_table`` returned."""
    algorithm = knowledge.algorithm
    if not algorithm.feature_shape:
        algorithm.meet(knowledge.encoder, tuple(rows_SD.shape[1:]), len(knowledge.kind.classes))
    kept = Kept(rows_SD, (b"",) * len(rows_SD), origins=tuple(owners_S.tolist()))
    knowledge = replace(knowledge, rounding=rounding_of(knowledge.encoder))
    return fitted_to(knowledge, kept, codes_S.cpu().numpy(), knowledge.kind.classes)


def addition_by_parts(knowledge: Knowledge, name: Label, inputs: Any, targets: Any) -> tuple[Knowledge, Change]:
    """Return the change that adds parts of inputs to a class, known or new, and what is known of inputs then.

    Args:
        knowledge: of who learns.
        name: of the class.
        inputs: 1..n of them.
        targets: as many, which show where the class is.

    Raises:
        DataError: there are none, one cannot be read, or does not show the class.
        ConfigError: the algorithm learns no parts.
    """
    check_parts(knowledge)
    examples = _listed(knowledge, inputs)
    annotations = of_parts(knowledge).of_one_class(_told(knowledge, examples, targets))
    if not knowledge.support:
        knowledge = replace(knowledge, taught=knowledge.reader.scale(examples))
    knowledge, rows, _, origins = _rows_of(knowledge, examples, annotations, 1)
    without = sorted({*range(len(annotations))} - {*(origins - 1).tolist()})
    if without:
        which = knowledge.reader.samples(examples).name(without[0])
        raise DataError(
            f"the target of {which} does not show {name!r} anywhere: mark where it is, or leave this input out"
        )
    known = max((number for kept in knowledge.support.values() for number in kept.sources), default=0)
    shown = (b"",) * len(rows)
    return knowledge, Change("add", name, "", rows, shown, origins=tuple((origins + known).tolist()))


@torch.inference_mode()
def answered_by_parts(
    knowledge: Knowledge,
    kind: OfParts,
    inputs: Any,
    below: float | None,
    at_once: int = AT_ONCE,
    temperature: float = 1.0,
) -> Iterator[tuple[Any, Batch]]:
    """Yield raw answers to inputs, of a few at once, and these as they were read.

    Args:
        knowledge: of the model.
        kind: what an answer is, of the classes that are known.
        inputs: N of them, as ``_listed`` takes them.
        below: the familiarity below which a part is like none of the classes; None: nobody asks.
        at_once: inputs that go through the network together; one where answers to parts depend on each other.
        temperature: what logits are divided by.

    Raises:
        DataError: it has learned nothing, an input cannot be read, or an answer is not a number.
    """
    if not knowledge.support:
        raise DataError("it knows no class yet: type fit(inputs, targets) or add_class(name, inputs, targets)")
    examples = _listed(knowledge, inputs)
    algorithm = knowledge.algorithm
    assert isinstance(algorithm, EmbeddingAlgorithm)
    for part in knowledge.reader.parts(examples, at_once=1 if knowledge.transductive else at_once):
        parts = kind.parts(knowledge.encoder, part)
        features_nD = exact(parts.features)
        logits_nW = algorithm.answer(knowledge.encoder, knowledge.learned, features_nD) / temperature
        unknown_n = None
        if below is not None and knowledge.means is not None:
            unknown_n = familiarity(features_nD, knowledge.means.used) < below
        yield kind.assembled(logits_nW, parts, part, unknown_n), part


def judged_by_parts(knowledge: Knowledge, kind: Any, inputs: Any, targets: Any) -> Iterator[tuple[Any, Batch]]:
    """Yield raw answers to inputs, and their targets as the kind judges them; see ``answered_by_parts``."""
    examples = _listed(knowledge, inputs)
    samples, annotations = knowledge.reader.samples(examples), _told(knowledge, examples, targets)
    coded, first = kind.fitting(Table(examples, annotations=annotations)).annotations, 0
    for outputs, part in answered_by_parts(knowledge, kind, examples, None):
        yield outputs, _targets_of(knowledge, coded, samples, part, first)
        first += size(part)


def of_parts(knowledge: Knowledge) -> OfParts:
    """Return what an answer is, of a model that learns parts."""
    assert isinstance(knowledge.kind, OfParts)
    return knowledge.kind


def _check_shown(codes_S: Tensor, names: Sequence[str]) -> None:
    lacking = sorted({*range(len(names))} - {*codes_S.tolist()})
    if lacking:
        raise DataError(
            f"no target shows the class {names[lacking[0]]!r}: give an example in which it is, or leave it out of the "
            "classes"
        )


def _listed(knowledge: Knowledge, inputs: Any) -> Any:
    """Return inputs one by one: each has a size of its own, which a tensor of all does not tell."""
    if hasattr(inputs, "shape") and getattr(inputs, "ndim", 0) == 4:
        inputs = list(inputs)
    return knowledge.reader.listed(inputs)


def _told(knowledge: Knowledge, examples: Any, targets: Any) -> Annotations:
    count = len(knowledge.reader.samples(examples))
    if not count:
        raise DataError("no examples were given: learning needs at least one in which each class is shown")
    if count == 1 and not isinstance(targets, (list, tuple)) and getattr(targets, "ndim", 0) != 3:
        targets = [targets]
    annotations = knowledge.kind.encode(targets)
    assert isinstance(annotations, Annotations)
    if count != len(annotations):
        raise DataError(f"{count} examples but {len(annotations)} targets: each example needs one")
    return annotations


@torch.inference_mode()
def _rows_of(
    knowledge: Knowledge, examples: Any, annotations: Annotations, classes: int
) -> tuple[Knowledge, Tensor, Tensor, Tensor]:
    """Return rows that are kept of the parts of inputs ``[S, D]``, their codes and the inputs that they are of, from 1.

    The knowledge is that of inputs and features of this form.
    """
    kind, samples = of_parts(knowledge), knowledge.reader.samples(examples)
    drawn, like, first = _Drawn(kind.most_rows, classes), None, 0
    for part in knowledge.reader.parts(examples, at_once=AT_ONCE):
        targets = _targets_of(knowledge, annotations, samples, part, first)
        parts, codes_n = kind.taught(knowledge.encoder, part, targets)
        like = each(lambda leaf: leaf[:0].cpu(), part)
        drawn.add(exact(parts.features), codes_n, parts.owners + first)
        first += size(part)
    rows_SD, codes_S, owners_S = drawn.all()
    if not rows_SD.isfinite().all():
        raise DataError("features are not finite: an example holds NaN or infinite values, or the network diverged")
    algorithm = knowledge.algorithm
    if not algorithm.feature_shape:
        algorithm.meet(knowledge.encoder, tuple(rows_SD.shape[1:]), classes)
    if knowledge.support and rows_SD.shape[1:] != (known := knowledge.kept().shape[1:]):
        raise DataError(f"parts have {rows_SD.shape[1]} features, and those so far {known[0]}: fit anew")
    rounding = max(knowledge.rounding, rounding_of(knowledge.encoder))
    return replace(knowledge, like=like, rounding=rounding), rows_SD, codes_S.cpu(), owners_S.cpu() + 1


def _targets_of(knowledge: Knowledge, annotations: Annotations, samples: Samples, part: Batch, first: int) -> Batch:
    """Return the targets of inputs that were read, of which the first has this number, on the network's device."""
    targets = []
    for place in range(size(part)):
        try:
            targets.append(annotations.target(first + place, each(Tensor.cpu, take(part, place))))
        except DataError as error:
            raise DataError(f"the target of {samples.name(first + place)}: {error}") from error
    return each(lambda leaf: leaf.to(knowledge.reader.device), stack(targets))


class _Drawn:
    """Rows of classes, of each no more than there is room for: as many of each input, whichever come first.

    Args:
        most: rows of a class.
        classes: how many there are.
    """

    def __init__(self, most: int, classes: int) -> None:
        self._most = most
        self._rows: list[list[tuple[int, Tensor]]] = [[] for _ in range(classes)]

    def add(self, features_nD: Tensor, codes_n: Tensor, owners_n: Tensor) -> None:
        """Take up the rows of further inputs."""
        for owner in torch.unique(owners_n).tolist():
            own_n = owners_n == owner
            for code in torch.unique(codes_n[own_n]).tolist():
                rows = (own_n & (codes_n == code)).nonzero().flatten()
                generator = torch.Generator().manual_seed(owner)
                order = torch.randperm(len(rows), generator=generator)[: self._most]
                self._rows[code].append((owner, features_nD[rows[order.to(rows.device)]]))
                self._trim(code)

    def _trim(self, code: int) -> None:
        """Leave each input as many rows as there is room for where all get the same, or all that it has."""
        room, counts = self._most, sorted(len(rows) for _, rows in self._rows[code])
        share = self._most
        for place, count in enumerate(counts):
            share = max(1, room // (len(counts) - place))
            if count > share:
                break
            room, share = room - count, self._most
        self._rows[code] = [(owner, rows[:share]) for owner, rows in self._rows[code]]

    def all(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the rows ``[S, D]``, their codes and their inputs, ``[S]``, class by class.

        Raises:
            DataError: there is none.
        """
        listed = [(code, owner, rows) for code, own in enumerate(self._rows) for owner, rows in own]
        if not listed:
            raise DataError("no target shows any class: mark in at least one example where it is")
        lengths = torch.tensor([len(rows) for _, _, rows in listed])
        codes, owners = (torch.tensor([one[place] for one in listed]).repeat_interleave(lengths) for place in (0, 1))
        return torch.cat([rows for *_, rows in listed]), codes, owners


def distinct_inputs(kept: Kept) -> int:
    """Return of how many inputs what is kept is."""
    return len({*kept.sources})


def names_of(support: Sequence[Label]) -> list[str]:
    """Return the names of classes as texts."""
    return [name if isinstance(name, str) else str(int(name)) for name in support]
