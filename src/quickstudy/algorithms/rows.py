"""A tensor that rows are added to at the cost of the rows, and that stays as it is for whoever has it."""

from __future__ import annotations

import torch
from torch import Tensor


class Rows:
    """Rows ``[N, ...]``, a value: what changes them returns others, which share their memory where they can.

    Behind the rows there is room for more, which goes to the first who adds some; who adds others to the same rows
    copies them. So adding is cheap, again and again, and putting one in another's place or taking it out is a copy. One
    thread at a time may add; any may read.

    >>> rows = Rows(torch.tensor([[1.0], [2.0]]))
    >>> rows.added(torch.tensor([[3.0]])).changed(0, None).used
    tensor([[2.],
            [3.]])
    >>> rows.used
    tensor([[1.],
            [2.]])
    """

    def __init__(self, rows: Tensor) -> None:
        self._room, self._count = _Room(rows), len(rows)

    @property
    def used(self) -> Tensor:
        """The rows, ``[N, ...]``."""
        return self._room.rows[: self._count]

    @torch.inference_mode()
    def added(self, rows: Tensor) -> Rows:
        """Return these and further rows ``[n, ...]``; the room doubles where there is none left."""
        count, room = self._count + len(rows), self._room
        if self._count < room.taken or count > len(room.rows):
            room = _Room(room.rows.new_empty(2 * count, *room.rows.shape[1:]))
            room.rows[: self._count] = self.used
        room.rows[self._count : count] = rows
        room.taken = count
        more = Rows.__new__(Rows)
        more._room, more._count = room, count
        return more

    @torch.inference_mode()
    def changed(self, place: int | None, row: Tensor | None) -> Rows:
        """Return them with a further row ``[1, ...]``, or with it in the place of another; without one, less that."""
        if place is None:
            assert row is not None
            return self.added(row)
        parts = [self.used[:place], *([] if row is None else [row]), self.used[place + 1 :]]
        return Rows(torch.cat(parts))


class _Room:
    """Memory for rows, of which so many are taken, by whichever value."""

    def __init__(self, rows: Tensor) -> None:
        self.rows, self.taken = rows, len(rows)
