"""Where a test went wrong: the examples with the worst answers, with what was found, missed and made up drawn in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from quickstudy.batches import take
from quickstudy.data.loading import Steps
from quickstudy.data.samples import file_of
from quickstudy.data.table import Table
from quickstudy.kinds.base import Kind
from quickstudy.modality import Modality

_MOST = 8
"""Examples that are shown."""


class Mistake(NamedTuple):
    """An example that was answered badly."""

    drawing: bytes
    """In a file of the type ``Modality.drawn_as``."""
    caption: str
    """Its name, and in words what is wrong."""


class Mistakes:
    """Keeps the examples of a test, on this process, whose answers are the worst, each drawn.

    Args:
        loaders: the test's; those of a data module tell which examples their steps are made of.
        kind: of the answers.
        modality: of the inputs.
    """

    def __init__(self, loaders: Any, kind: Kind, modality: Modality) -> None:
        self._kind, self._modality = kind, modality
        loader = loaders[0] if isinstance(loaders, (list, tuple)) and len(loaders) == 1 else loaders
        sampler = getattr(loader, "sampler", None)
        self._steps: Iterator[Any] | None = iter(sampler) if isinstance(sampler, Steps) else None
        table = getattr(getattr(loader, "dataset", None), "table", None)
        self._table = table if isinstance(table, Table) and self._steps is not None else None
        self._kept: list[tuple[float, int, Mistake]] = []
        self._count = 0

    def add(self, batch: Any, outputs: Any, targets: Any) -> None:
        """Look at a step: what it was asked, answered, and what is right."""
        rows: Sequence[int] | None = None
        if self._steps is not None:
            rows = np.asarray(next(self._steps)[1]).tolist()
        inputs = batch["input"] if isinstance(batch, Mapping) and "input" in batch else batch[0]
        for place in range(len(outputs["full"])):
            number = self._count + place if rows is None else rows[place]
            told = self._kind.mistakes(outputs, targets, place)
            least = self._kept[-1][0] if len(self._kept) == _MOST else 0.0
            if told is None or told["wrong"] <= least:
                continue
            name = (self._table is not None and file_of(self._table.inputs, number)) or f"input {number}"
            caption = f"{name.rsplit('/', 1)[-1]}: {told['said']}"
            drawing = self._modality.draw_mistakes(take(inputs, place), {**told, "caption": caption})
            mistake = Mistake(drawing, caption)
            self._kept = sorted([*self._kept, (told["wrong"], number, mistake)], key=lambda one: (-one[0], one[1]))
            self._kept = self._kept[:_MOST]
        self._count += len(outputs["full"])

    @property
    def worst(self) -> list[Mistake]:
        """Those that were kept, the worst first."""
        return [mistake for *_, mistake in self._kept]
