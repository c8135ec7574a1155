"""A tensor that rows are added to at the cost of the rows, and that stays as it is for whoever has it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


class Rows:
    """Rows ``[N, ...]``, a value: what changes them returns others, which share their memory where they can.

    Behind the rows there is room for more, which goes to the first who adds some; who adds others to the same rows
    copies them. Putting one in another's place or taking it out is noted, and done when somebody looks: one copy,
    however many changes there were. So changes are cheap, again and again. One thread at a time may change; any may
    read.

    >>> rows = Rows(torch.tensor([[1.0], [2.0]]))
    >>> rows.added(torch.tensor([[3.0]])).changed(0, None).used
    tensor([[2.],
            [3.]])
    >>> rows.without(torch.tensor([0])).used
    tensor([[2.]])
    >>> rows.used
    tensor([[1.],
            [2.]])
    """

    def __init__(self, rows: Tensor) -> None:
        self._held: _Held = _Room(rows), len(rows), ()

    @property
    def used(self) -> Tensor:
        """The rows, ``[N, ...]``."""
        room, count, edits = self._held
        if edits:
            rows = _edited(room.rows[:count], edits)
            room, count, _ = self._held = _Room(rows), len(rows), ()
        return room.rows[:count]

    @torch.inference_mode()
    def added(self, rows: Tensor) -> Rows:
        """Return these and further rows ``[n, ...]``; the room doubles where there is none left."""
        room, begin, edits = self._held
        if edits:
            return _of(room, begin, (*edits, (None, rows)))
        count, before = begin + len(rows), room.rows[:begin]
        if begin < room.taken or count > len(room.rows):
            room = _Room(before.new_empty(2 * count, *before.shape[1:]))
            room.rows[:begin] = before
        room.rows[begin:count] = rows
        room.taken = count
        return _of(room, count, ())

    def changed(self, place: int | None, row: Tensor | None) -> Rows:
        """Return them with a further row ``[1, ...]``, or with it in the place of another; without one, less that."""
        if place is None:
            assert row is not None
            return self.added(row)
        room, count, edits = self._held
        return _of(room, count, (*edits, (place, row)))

    def without(self, places: Tensor) -> Rows:
        """Return them less those at some places ``[n]``."""
        room, count, edits = self._held
        return _of(room, count, (*edits, (places, None)))


class _Room:
    """Memory for rows, of which so many are taken, by whichever value."""

    def __init__(self, rows: Tensor) -> None:
        self.rows, self.taken = rows, len(rows)


_Edits = tuple[tuple[int | Tensor | None, Tensor | None], ...]
"""Rows that go to a place instead of its row, or without a place to the end; None: the row goes, or those at places."""
_Held = tuple[_Room, int, _Edits]
"""Memory, how many rows of it, and what is to be done to them: read and replaced as one."""


def _of(*held: Any) -> Rows:
    rows = Rows.__new__(Rows)
    rows._held = held
    return rows


@torch.inference_mode()
def _edited(rows: Tensor, edits: _Edits) -> Tensor:
    """Return a copy of rows after edits."""
    places, more = list(range(len(rows))), [new for _, new in edits if new is not None]
    count = len(rows)
    for place, new in edits:
        if isinstance(place, Tensor):
            places = np.delete(places, place.cpu().numpy()).tolist()
            continue
        begin, count = count, count + (0 if new is None else len(new))
        at = slice(len(places), None) if place is None else slice(place, place + 1)
        places[at] = range(begin, count)
    places_N = torch.tensor(places, dtype=torch.long, device=rows.device)
    edited = rows[places_N.clamp(max=len(rows) - 1)]
    if more:
        new_N = places_N >= len(rows)
        edited[new_N] = torch.cat(more)[places_N[new_N] - len(rows)]
    return edited
