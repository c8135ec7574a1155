"""A tensor that rows are added to and taken from, at the cost of the rows."""

from __future__ import annotations

import torch
from torch import Tensor


class Rows:
    """Rows ``[N, ...]`` with room for more; whoever changes them must see to it that nobody reads them meanwhile.

    >>> rows = Rows(torch.tensor([[1.0], [2.0]]))
    >>> rows.append(torch.tensor([[3.0]]))
    >>> rows.change(0, None)
    >>> rows.used
    tensor([[2.],
            [3.]])
    """

    def __init__(self, rows: Tensor) -> None:
        self._room, self._count = rows.clone(), len(rows)

    @property
    def used(self) -> Tensor:
        """The rows, ``[N, ...]``."""
        return self._room[: self._count]

    @torch.inference_mode()
    def append(self, rows: Tensor) -> None:
        """Add rows ``[n, ...]``; the room doubles where there is none left."""
        count = self._count + len(rows)
        if count > len(self._room):
            room = self._room.new_empty(2 * count, *self._room.shape[1:])
            room[: self._count] = self.used
            self._room = room
        self._room[self._count : count] = rows
        self._count = count

    @torch.inference_mode()
    def change(self, place: int | None, row: Tensor | None) -> None:
        """Add a row ``[1, ...]``; or put it in the place of another; or, without one, take that out."""
        if place is None:
            assert row is not None
            self.append(row)
        elif row is None:
            self._room[place : self._count - 1] = self._room[place + 1 : self._count].clone()
            self._count -= 1
        else:
            self._room[place] = row[0]
