"""All that an adapted model is, as one value: who learns, how inputs are read, and what was learned.

Shapes: S support examples, n examples of one class, W classes, D features, ``...`` the shape of one input.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from quickstudy.algorithms import Algorithm, EmbeddingAlgorithm, Held
from quickstudy.algorithms.base import NamingAlgorithm, Told
from quickstudy.algorithms.rows import Rows
from quickstudy.batches import Batch, join, size, take
from quickstudy.data.targets import Label, LabelType, label_of, read_as, type_of
from quickstudy.errors import ConfigError, DataError, UnknownClassError, closest, few, one_line
from quickstudy.kinds.base import Kind
from quickstudy.kinds.classification import Classification
from quickstudy.learning.changes import Kept, Support, check_name
from quickstudy.learning.confidence import (
    NOT_CALIBRATED,
    Confidence,
    HeldOut,
    HeldOutAccuracy,
    HeldOutParts,
    accuracy_of,
    accuracy_of_parts,
    confidence_of,
    left_out,
    lowered,
    parts_left_out,
    rounding_of,
    threshold_of,
)
from quickstudy.learning.reading import Reader
from quickstudy.modality import Modality
from quickstudy.nets import Encoder

TYPES = {"str": "strings", "int": "whole numbers", "bool": "True and False", None: "none yet"}
"""By ``LabelType``, in words."""
CLASSES = Classification()
"""What an answer is where classes are learned: their names are those of the support."""


@dataclass(frozen=True, eq=False)
class Knowledge:
    """What a predictor answers by; a change makes another of it (``learning.adapting``), and this one stays as it is.

    So whoever has it has all of it, whatever is learned meanwhile, and a change that fails has changed nothing.
    """

    encoder: Encoder
    algorithm: Algorithm
    modality: Modality
    """What its inputs are."""
    kind: Kind = CLASSES
    """What an answer is: a class of the support, by itself; or a number, of which it knows the units."""
    support: Support = field(default_factory=dict)
    state: Any = None
    """What the algorithm learned, or that in a form that follows changes, ``Held``; None without examples."""
    means: Rows | None = None
    """``[W, D]``, of each class's embeddings; None where the algorithm keeps none, or there are no classes."""
    taught: str = ""
    """The scale of the inputs that it learned from, one of ``values.Scale``."""
    like: Batch | None = None
    """``[0, ...]``, of the shape and the type of the examples as they were shown; None where that is not known."""
    rounding: float = 0.0
    """By what share of their length embeddings may differ that were learned; see ``confidence.rounding_of``."""
    rates: Mapping[str, float] = field(default_factory=dict)
    """What ``calibrate`` was asked for."""
    calibrated: HeldOut | None = None
    """Answers to the examples that it was given."""
    number: int = 0
    """Of the last change that a service made."""
    in_turn: dict[int, HeldOut] = field(default_factory=dict, repr=False)
    """A memory of answers to examples left out, by how many of each class were asked for: renaming keeps it."""

    # ---- what it is

    @property
    def learned(self) -> Any:
        """What the algorithm learned, as it answers by it."""
        return self.state.state if isinstance(self.state, Held) else self.state

    @property
    def transductive(self) -> bool:
        """Whether an answer depends on the other inputs of the call."""
        sees: bool = self.algorithm.sees_queries(self.encoder)
        return sees

    @property
    def load(self) -> Modality:
        """What reads an input, as the argument of a model is called."""
        return self.modality

    @cached_property
    def reader(self) -> Reader:
        """How its inputs are read."""
        return Reader(self.encoder, self.modality, self.taught)

    @property
    def tells_names(self) -> bool:
        """Whether names are not examples like others: its algorithm takes them apart, or they lie apart from inputs."""
        return isinstance(self.algorithm, NamingAlgorithm) or self.encoder.reads_words is not None

    def examples_of(self, kept: Kept) -> Kept:
        """Return what is kept of a class but for its name, where names are not examples like others."""
        if not (self.tells_names and any(kept.named)):
            return kept
        rows = [row for row, name in enumerate(kept.names) if not name]
        return kept.some(rows)

    def told(self, support: Support) -> tuple[Algorithm, list[Batch]]:
        """Return an algorithm that knows the names, where there are any, and by class what else is kept: examples."""
        classes, names = list[int](), list[Tensor]()
        for code, kept in enumerate(support.values()):
            own = [row for row, name in enumerate(kept.names) if name] if self.tells_names else []
            classes += [code] * len(own)
            names += [take(kept.values, own)] if own else []
        values = [self.examples_of(kept).values for kept in support.values()]
        if not names:
            return self.algorithm, values
        alone = [name for name, own in zip(support, values, strict=True) if not size(own)]
        if self.encoder.reads_words is not None and not isinstance(self.algorithm, NamingAlgorithm):
            nameless = len(names) < len(support)
            if nameless or 0 < len(alone) < len(support):
                which = f" ({few(map(str, alone))})" if alone else ""
                raise ConfigError(
                    f"some classes are known by {self.modality.called} and others by their names{which}, which lie "
                    f"elsewhere: {type(self.algorithm).__name__} cannot weigh them against each other; take "
                    "strategy='tip_adapter'"
                )
        assert isinstance(self.algorithm, EmbeddingAlgorithm)
        names_nD = torch.cat(names)
        return Told(self.algorithm, names_nD, torch.tensor(classes, device=names_nD.device)), values

    def kept(self) -> Batch:
        """Return what is kept of all examples, class by class: ``[S, ...]``."""
        return join(kept.values for kept in self.support.values())

    # ---- its classes

    @property
    def counts(self) -> dict[Label, int]:
        """How many examples of each class it has seen."""
        return {name: kept.examples for name, kept in self.support.items()}

    @property
    def label_type(self) -> LabelType | None:
        """What its classes are named by; None without classes."""
        return next(map(type_of, self.support), None)

    def __contains__(self, name: object) -> bool:
        """Whether it knows a class of this name."""
        try:
            label = label_of(name)
        except DataError:
            return False
        return label in self.support and type_of(label) == self.label_type

    def as_class(self, text: Label) -> Label:
        """Return the class that a text means where nothing but text can be written."""
        label = label_of(text)
        return read_as(label, self.label_type) if self.label_type else label

    def known(self, name: Label) -> Label:
        """Return a class's name as it is kept.

        Raises:
            UnknownClassError: there is no such class.
        """
        label = label_of(name)
        if label not in self:
            known = [one_line(each) for each in self.support]
            near = closest(one_line(label), known) if isinstance(label, str) else "."
            if self.label_type and type_of(label) != self.label_type:
                near = f": the classes are {TYPES[self.label_type]}{self._to_type(label)}."
            raise UnknownClassError(f"there is no class {label!r}{near} Known: {', '.join(known[:30]) or 'none yet'}.")
        return label

    def new(self, name: Label) -> Label:
        """Return a name as it would be kept of a further class.

        Raises:
            DataError: no class can be called so, or none beside those that there are.
        """
        label = label_of(name)
        check_name(label)
        if self.label_type and type_of(label) != self.label_type:
            kind = TYPES[self.label_type]
            raise DataError(f"the classes are {kind}, and a further one cannot be {label!r}{self._to_type(label)}")
        return label

    def _to_type(self, label: Label) -> str:
        assert self.label_type is not None
        meant = read_as(label, self.label_type)
        return "" if type_of(meant) != self.label_type else f": type {meant!r}"

    # ---- how sure it may be: each figure is worked out when it is first asked for

    def held_out(self, least: int = 1) -> HeldOut:
        """Return answers to examples given for it, or to the support set's, at least so many of each class."""
        return self.left_out(least) if self.calibrated is None else self.calibrated

    @torch.inference_mode()
    def left_out(self, least: int) -> HeldOut:
        """Return answers to the support set's examples, left out in turn, at least so many of each class."""
        if self.means is None or not isinstance(self.algorithm, EmbeddingAlgorithm) or self.transductive:
            none = torch.empty(0)
            return HeldOut(torch.empty(0, len(self.support)), none.long(), none, none, NOT_CALIBRATED)
        if least not in self.in_turn:
            algorithm, values = self.told(self.support)
            assert isinstance(algorithm, EmbeddingAlgorithm)
            origins = [self.examples_of(kept).sources for kept in self.support.values()]
            self.in_turn[least] = left_out(algorithm, values, self.means.used, least, origins)
        return self.in_turn[least]

    @cached_property
    def threshold(self) -> float:
        """The familiarity that its rates ask for, but for rounding; unlike the temperature, at no learning anew.

        Where a class is known by its name alone, which is like no input, none is.
        """
        apart = self.calibrated is None and self.encoder.reads_words is not None
        if apart and any(all(kept.names) for kept in self.support.values()):
            return -math.inf
        return threshold_of(self.held_out(0), **self.rates)

    @cached_property
    def _sizes(self) -> tuple[float, float]:
        """The length of the longest embedding, and the distance of the farthest from the centre."""
        assert self.means is not None
        kept_S, centre = self.kept(), self.means.used.mean(0)
        return float(kept_S.norm(dim=1).max()), float((kept_S - centre).norm(dim=1).max())

    @cached_property
    def lengths(self) -> tuple[Tensor, Tensor]:
        """The lengths of the examples' embeddings ``[S]``, the shortest first, and which they are ``[S]``."""
        sorted_S, rows_S = lengths_of(self.kept()).sort()
        return sorted_S, rows_S

    def rounding_now(self) -> float:
        """Return by what share of its length an embedding may differ from one that was learned."""
        return max(self.rounding, rounding_of(self.encoder))

    def unknown_below(self) -> float:
        """Return the familiarity below which an input is unknown."""
        if "false_accept" in self.rates:  # which keeps out strangers that lie at it
            return self.threshold
        if self.means is None:  # familiarity is a logit
            largest = max(self.held_out(0).familiar.abs().tolist(), default=0.0)
            return self.threshold - self.rounding_now() * largest
        return lowered(self.threshold, self.rounding_now(), *self._sizes)

    @cached_property
    def confidence(self) -> Confidence:
        """Temperature and threshold, and what they come from."""
        return confidence_of(self.held_out(), self.unknown_below())

    @cached_property
    def parts_held_out(self) -> HeldOutParts | None:
        """Answers to the parts of inputs that are left out whole; None where none are learned, or can be left out."""
        kept, algorithm = self.support.values(), self.algorithm
        if not (kept and self.kind.task_of_parts and isinstance(algorithm, EmbeddingAlgorithm)) or self.transductive:
            return None
        return parts_left_out(algorithm, [each.values for each in kept], [each.sources for each in kept])

    @cached_property
    def accuracy(self) -> HeldOutAccuracy:
        """What accuracy to expect, by the answers that ``confidence`` rests on; where parts are learned, of these."""
        if self.parts_held_out is not None:
            return accuracy_of_parts(self.parts_held_out, list(self.support))
        return accuracy_of(self.held_out(), list(self.support))


def lengths_of(embedded_SD: Tensor) -> Tensor:
    """Return the lengths of embeddings, ``[S]``, in float64 on the CPU."""
    lengths_S: Tensor = torch.linalg.vector_norm(embedded_SD, dim=1, dtype=torch.float64).cpu()
    return lengths_S
