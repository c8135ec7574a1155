"""What was learned, in forms that follow a change of one class without learning the others anew; each is a value.

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
    """A classifier's state that a change makes another of; it stays as it is."""

    @property
    @abstractmethod
    def state(self) -> Any:
        """As ``fit`` would return it, but for rounding; the order of examples in it may be another."""

    @abstractmethod
    def changed(self, place: int | None, before: Tensor | None, after: Tensor | None) -> Held:
        """Return what is known after a change of one class.

        Args:
            place: of the class; None: it is a further one.
            before: its examples ``[n, D]`` so far, where there are any.
            after: those it has then, which begin with those before; None: it is forgotten.
        """


class HeldByClass(Held):
    """A state ``[W, ...]`` of which each row follows from the examples of its class alone."""

    def __init__(self, fit: Fit, state: Tensor | Rows) -> None:
        self._fit, self._rows = fit, state if isinstance(state, Rows) else Rows(state)

    @property
    def state(self) -> Tensor:
        """The rows, ``[W, ...]``."""
        return self._rows.used

    def changed(self, place: int | None, before: Tensor | None, after: Tensor | None) -> HeldByClass:
        """Learn the class alone."""
        row = None if after is None else _alone(self._fit, after)
        return HeldByClass(self._fit, self._rows.changed(place, row))


class HeldByExample(Held):
    """A state of rows ``[S, ...]``, each of which follows from its example alone, their classes, and their counts."""

    def __init__(self, fit: Fit, state: tuple[Tensor | Rows, ...]) -> None:
        self._fit = fit
        self._rows, self._targets, self._counts = (part if isinstance(part, Rows) else Rows(part) for part in state)

    @property
    def state(self) -> tuple[Tensor, Tensor, Tensor]:
        """Rows ``[S, ...]``, the class of each ``[S]``, and how many each class has, ``[W]``."""
        return self._rows.used, self._targets.used, self._counts.used

    def changed(self, place: int | None, before: Tensor | None, after: Tensor | None) -> HeldByExample:
        """Learn the class alone."""
        rows, targets, counts = self._rows, self._targets, self._counts
        if before is not None and after is not None and place is not None:  # those before stay where they are
            own, own_targets, count = _alone(self._fit, after[len(before) :])
            rows, targets = rows.added(own), targets.added(torch.full_like(own_targets, place))
            return HeldByExample(self._fit, (rows, targets, counts.changed(place, counts.used[[place]] + count)))
        code = len(counts.used) if place is None else place
        if place is not None:
            own_S = targets.used == place
            rows, targets = rows.without(own_S.nonzero().flatten()), Rows(targets.used[~own_S])
        if after is None:
            targets, counts = Rows(targets.used - (targets.used > code).long()), counts.changed(place, None)
        else:
            own, own_targets, count = _alone(self._fit, after)
            rows, targets = rows.added(own), targets.added(torch.full_like(own_targets, code))
            counts = counts.changed(place, count)
        return HeldByExample(self._fit, (rows, targets, counts))


class HeldRidge(Held):
    """The weights ``[W, D]`` of a ridge regression; examples change them by as many rows of its inverse (Woodbury).

    It works in float64, in which thousands of changes leave no trace that float32 could show.

    Args:
        inverse_DD: of the regularised products of features.
        weights_WD: what it makes of the classes' sums.
        dtype: of the state.
    """

    def __init__(self, inverse_DD: Tensor, weights_WD: Tensor, dtype: torch.dtype) -> None:
        self._inverse_DD, self._weights_WD, self._state = inverse_DD, weights_WD, weights_WD.to(dtype)

    @property
    def state(self) -> Tensor:
        """The weights, ``[W, D]``."""
        return self._state

    def changed(self, place: int | None, before: Tensor | None, after: Tensor | None) -> HeldRidge:
        """Change the inverse by what is of the rank of the examples' number."""
        none = self._inverse_DD[:0]
        old, new = (none if each is None else each.to(none) for each in (before, after))
        changed_nD, sign = (old, -1.0) if after is None else (new[len(old) :], 1.0)
        through_nD = changed_nD @ self._inverse_DD
        within_nn = sign * torch.eye(len(changed_nD)).to(none) + through_nD @ changed_nD.mT
        step_nD = torch.linalg.solve(within_nn, through_nD)
        inverse_DD = self._inverse_DD - through_nD.mT @ step_nD
        row_D = sign * changed_nD.sum(0) @ inverse_DD
        known = len(self._weights_WD)
        weights_WD = none.new_empty(known + (place is None), none.shape[1])
        torch.addmm(self._weights_WD, self._weights_WD @ changed_nD.mT, step_nD, alpha=-1, out=weights_WD[:known])
        if place is None:
            weights_WD[known] = row_D
        elif after is None:
            weights_WD = torch.cat([weights_WD[:place], weights_WD[place + 1 :]])
        else:
            weights_WD[place] += row_D
        return HeldRidge(inverse_DD, weights_WD, self._state.dtype)


def held_ridge(support: Sequence[Tensor], strength: float) -> HeldRidge | None:
    """Return weights that examples update; None where they are learned anew in less time, or without float64."""
    examples, features = sum(map(len, support)), support[0].shape[1]
    if examples <= features or support[0].device.type == "mps":
        return None
    inverse_DD = inverse_of(torch.cat(list(support)), strength)
    sums_WD = torch.stack([each.double().sum(0) for each in support])
    return HeldRidge(inverse_DD, sums_WD @ inverse_DD, support[0].dtype)


def _alone(fit: Fit, examples_nD: Tensor) -> Any:
    return fit(examples_nD, torch.zeros(len(examples_nD), dtype=torch.long, device=examples_nD.device), 1)
