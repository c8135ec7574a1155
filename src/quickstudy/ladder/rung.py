"""A rung of a ladder: what it does, what it costs, what it needs, and how it answers.

Shapes: S support, Q query, W classes, T episodes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from quickstudy.ladder.examples import Embedded
from quickstudy.learning.knowledge import Knowledge
from quickstudy.predictor import Predictor
from quickstudy.trained import TrainedModel

SLOW = 4
"""The cost from which a rung is climbed only where that is asked for, and on few draws."""
FEW = 5
"""Draws of each number of shots, where each takes long."""


@dataclass(frozen=True)
class Rung(ABC):
    """A way to answer.

    Args:
        about: what it does, in words.
        cost: from 0; those of one cost are climbed, and weighed against each other, together. From ``SLOW`` on they
            are climbed only where that is asked for, on the first five draws of each number of shots.
        features: what it takes of the examples: what a backbone makes of them, or they themselves.
        baseline: whether it is there to be beaten, and not to be recommended.
    """

    about: str
    cost: int = 1
    features: Literal["embedded", "raw"] = "embedded"
    baseline: bool = False

    @property
    def transductive(self) -> bool:
        """Whether an answer depends on the other inputs of the call."""
        return False

    @property
    def draws(self) -> int:
        """On how many draws of each number of shots it is climbed; 0: on all."""
        return FEW if self.cost >= SLOW else 0

    @property
    def saves(self) -> bool:
        """Whether it makes a model of all examples."""
        return type(self).knowledge is not Rung.knowledge or type(self).model is not Rung.model

    @property
    def episodes(self) -> int:
        """Of how many episodes of each number of shots it is asked at most; 0: of all."""
        return 0

    def usual(self, domain: str) -> bool:
        """Whether it is climbed in a domain where no rungs are named."""
        return True

    def begins(self, examples: Embedded, supports: Sequence[int]) -> str:
        """Return what it is about to do, in words, where that takes long.

        Args:
            examples: all of them.
            supports: of each draw, how many examples it is to learn from.
        """
        return ""

    def asked(self, examples: Embedded) -> tuple[int, ...]:
        """Return the codes of classes that it may be asked, in episodes alone, as it saw the others; nothing: all."""
        return ()

    def prepared(self, examples: Embedded, folder: Path | None = None) -> Embedded:
        """Return the examples as it takes them, once for all draws: here as they are.

        Args:
            examples: all of them.
            folder: where it may keep what takes long, for the next time; None: nowhere.
        """
        return examples

    def megabytes(self, examples: Embedded) -> float:
        """Return how large the file of a model of all examples is, as far as it can be told before."""
        return examples.megabytes

    def lacks(self, examples: Embedded, domain: str) -> str:
        """Return what it needs and these examples, or this machine, lack; nothing where it can be climbed."""
        return ""

    @abstractmethod
    def logits(self, examples: Embedded, support: Tensor, queries: Tensor) -> Tensor:
        """Return ``[Q, W]`` logits of queries.

        Args:
            examples: all of them.
            support: ``[S]`` rows to learn from.
            queries: ``[Q]`` rows that are asked.
        """

    def episodic(self, examples: Embedded, rows: Tensor, shots: int) -> Tensor | None:
        """Return ``[T, W]``, how many queries of each class it answers rightly in episodes; None: it takes too long.

        Args:
            examples: all of them.
            rows: ``[T, W, K]``, of which the first ``shots`` of each class are the support.
            shots: per class.
        """
        return None

    def knowledge(self, examples: Embedded) -> Knowledge | None:
        """Return what a ``Predictor`` of this rung knows once it has learned all examples; None: it makes none."""
        return None

    def model(self, examples: Embedded) -> Predictor | TrainedModel | None:
        """Return what has learned all examples and answers as this rung does; None: it makes none."""
        knowledge = self.knowledge(examples)
        return None if knowledge is None else Predictor.of(knowledge)
