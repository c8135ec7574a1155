"""A tensor that rows are added to and taken from, at the cost of the row."""

from __future__ import annotations

import torch
from torch import Tensor


class Rows:
    """Rows ``[N, ...]`` with room for more; whoever changes them must see to it that nobody reads them meanwhile.

    >>> rows = Rows(torch.tensor([[1.0], [2.0]]))
    >>> rows.append(torch.tensor([[3.0]]))
    >>> rows.remove(0)
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
    def append(self, row: Tensor) -> None:
        """Add a row ``[1, ...]``; the room doubles where there is none left."""
        if self._count == len(self._room):
            self._room = torch.cat([self._room, torch.empty_like(self._room)])
        self._room[self._count] = row[0]
        self._count += 1

    @torch.inference_mode()
    def replace(self, number: int, row: Tensor) -> None:
        """Put a row ``[1, ...]`` in the place of another."""
        self._room[number] = row[0]

    @torch.inference_mode()
    def remove(self, number: int) -> None:
        """Take a row out; those after it move up."""
        self._room[number : self._count - 1] = self._room[number + 1 : self._count].clone()
        self._count -= 1
