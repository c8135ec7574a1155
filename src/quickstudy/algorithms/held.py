"""What was learned, in forms that follow a change of one class without learning the others anew.

Shapes: S support examples, n examples of one class, W classes, D features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from quickstudy.algorithms.rows import Rows
from quickstudy.functional.ridge import inverse_of

Fit = Callable[[Tensor, Tensor, int], Any]
"""``EmbeddingAlgorithm.fit``."""


class Held(ABC):
    """A classifier's state that can be changed."""

    @property
    @abstractmethod
    def state(self) -> Any:
        """As ``fit`` would return it, but for rounding; the order of examples in it may be another."""

    @abstractmethod
    def prepared(self, place: int | None, before: Tensor | None, after: Tensor | None) -> Callable[[], None]:
        """Do all of a change that examples may fail, and return the rest of it.

        Args:
            place: of the class; None: it is a further one.
            before: its examples ``[n, D]`` so far, where there are any.
            after: those it has then, which begin with those before; None: it is forgotten.
        """


class HeldByClass(Held):
    """A state ``[W, ...]`` of which each row follows from the examples of its class alone."""

    def __init__(self, fit: Fit, state: Tensor) -> None:
        self._fit, self._rows = fit, Rows(state)

    @property
    def state(self) -> Tensor:
        """The rows, ``[W, ...]``."""
        return self._rows.used

    def prepared(self, place: int | None, before: Tensor | None, after: Tensor | None) -> Callable[[], None]:
        """Learn the class alone."""
        row = None if after is None else _alone(self._fit, after)
        return lambda: self._rows.change(place, row)


class HeldByExample(Held):
    """A state of rows ``[S, ...]``, each of which follows from its example alone, their classes, and their counts."""

    def __init__(self, fit: Fit, state: tuple[Tensor, Tensor, Tensor]) -> None:
        self._fit = fit
        self._rows, self._targets, self._counts = (Rows(part) for part in state)

    @property
    def state(self) -> tuple[Tensor, Tensor, Tensor]:
        """Rows ``[S, ...]``, the class of each ``[S]``, and how many each class has, ``[W]``."""
        return self._rows.used, self._targets.used, self._counts.used

    def prepared(self, place: int | None, before: Tensor | None, after: Tensor | None) -> Callable[[], None]:
        """Learn the class alone."""
        learned = None if after is None else _alone(self._fit, after)
        return lambda: self._change(place, learned)

    def _change(self, place: int | None, learned: tuple[Tensor, Tensor, Tensor] | None) -> None:
        code = len(self._counts.used) if place is None else place
        if place is not None:
            others_S = self._targets.used != place
            self._rows, self._targets = Rows(self._rows.used[others_S]), Rows(self._targets.used[others_S])
        if learned is None:
            self._targets = Rows(self._targets.used - (self._targets.used > code).long())
            self._counts.change(place, None)
        else:
            rows, targets, count = learned
            self._rows.append(rows)
            self._targets.append(torch.full_like(targets, code))
            self._counts.change(place, count)


class HeldRidge(Held):
    """The weights ``[W, D]`` of a ridge regression; examples change them by as many rows of its inverse (Woodbury).

    It works in float64, in which thousands of changes leave no trace that float32 could show.
    """

    def __init__(self, support: Sequence[Tensor], strength: float) -> None:
        self._inverse_DD = inverse_of(torch.cat(list(support)), strength)
        sums_WD = torch.stack([each.double().sum(0) for each in support])
        self._weights, self._dtype = Rows(sums_WD @ self._inverse_DD), support[0].dtype
        self._state = self._weights.used.to(self._dtype)

    @property
    def state(self) -> Tensor:
        """The weights, ``[W, D]``."""
        return self._state

    def prepared(self, place: int | None, before: Tensor | None, after: Tensor | None) -> Callable[[], None]:
        """Work out the change of the inverse, which is of the rank of the examples' number."""
        none = self._inverse_DD[:0]
        old, new = (none if each is None else each.to(none) for each in (before, after))
        changed_nD, sign = (old, -1.0) if after is None else (new[len(old) :], 1.0)
        through_nD = changed_nD @ self._inverse_DD
        within_nn = sign * torch.eye(len(changed_nD)).to(none) + through_nD @ changed_nD.mT
        step_nD = torch.linalg.solve(within_nn, through_nD)
        inverse_DD = self._inverse_DD - through_nD.mT @ step_nD
        share_Wn = self._weights.used @ changed_nD.mT
        row_1D = sign * changed_nD.sum(0, keepdim=True) @ inverse_DD

        def change() -> None:
            self._inverse_DD = inverse_DD
            weights_WD = self._weights.used.addmm_(share_Wn, step_nD, alpha=-1)
            if after is None:
                self._weights.change(place, None)
            else:
                self._weights.change(place, row_1D if place is None else weights_WD[place : place + 1] + row_1D)
            self._state = self._weights.used.to(self._dtype)

        return change


def held_ridge(support: Sequence[Tensor], strength: float) -> HeldRidge | None:
    """Return weights that examples update; None where they are learned anew in less time, or without float64."""
    examples, features = sum(map(len, support)), support[0].shape[1]
    return HeldRidge(support, strength) if examples > features and support[0].device.type != "mps" else None


def _alone(fit: Fit, examples_nD: Tensor) -> Any:
    return fit(examples_nD, torch.zeros(len(examples_nD), dtype=torch.long, device=examples_nD.device), 1)
