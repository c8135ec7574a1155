"""What callers hand over, as batches that a model takes: listed, loaded, and in the scale of what it learned from.

Shapes: N inputs, ``...`` the shape of one input.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quickstudy.batches import Batch, each, is_batch, take
from quickstudy.data.samples import Loaded, Samples
from quickstudy.errors import DataError, DataWarning
from quickstudy.modality import Modality
from quickstudy.modality.values import Scale, Values
from quickstudy.nets import Encoder

_SEEN = 16  # examples that tell the scale of all
_TOLD: ContextVar[Callable[[int], None] | None] = ContextVar("told of what was read", default=None)


@contextmanager
def telling(advance: Callable[[int], None]) -> Iterator[None]:
    """Tell a function of how many inputs each part was that a network has taken, whoever reads them within."""
    before = _TOLD.set(advance)
    try:
        yield
    finally:
        _TOLD.reset(before)


def tell(count: int) -> None:
    """Tell whoever listens, see ``telling``, that so many inputs are done."""
    if (advance := _TOLD.get()) is not None:
        advance(count)


@dataclass(frozen=True, eq=False)
class Reader:
    """How inputs are read for a network: as batches, in the scale of what it learned from, on its device."""

    encoder: Encoder
    modality: Modality
    taught: str = ""
    """The scale of the inputs that it learned from, one of ``values.Scale``; nothing where it is not known."""

    @cached_property
    def rules(self) -> Values:
        """How the numbers of inputs are taken, and how they are shown."""
        return self.modality.values(self.encoder)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.encoder.device

    def listed(self, inputs: Any) -> Any:
        """Return a batch ``[N, ...]`` that is fed as it is, or a list of items; what comes one by one is listed."""
        if isinstance(inputs, list) and inputs and all(isinstance(item, Loaded) for item in inputs):
            return inputs
        return inputs if is_batch(inputs) else self.rules.listed(inputs)

    def samples(self, examples: Any) -> Samples:
        """Return what reads them.

        Args:
            examples: here and below, what ``listed`` returned.
        """
        return Samples(examples, self.modality)

    def scale(self, examples: Any) -> str:
        """Return the scale that examples have, or are brought to: that of the training where there was one."""
        trained: str = self.encoder.fed
        samples = self.samples(examples)
        if trained or not len(samples):
            return trained
        return self.rules.scale(examples, samples.batch(np.arange(min(len(samples), _SEEN))))

    def scale_of_call(self, examples: Any, at_once: int = 64) -> Scale:
        """Return the scale that floats of these have together; nothing where none can differ from the others."""
        samples = self.samples(examples)
        groups = _groups(np.arange(len(samples)), at_once)
        return self.rules.scale_of_call(
            examples, [partial(self._loaded, samples, rows) for rows in groups], self.taught
        )

    def parts(
        self,
        examples: Any,
        shown: list[bytes] | None = None,
        at_once: int = 64,
        *,
        rows: NDArray[np.integer[Any]] | None = None,
        scale: Scale | None = None,
        threads: int = 0,
    ) -> Iterator[Batch]:
        """Yield them in parts ``[n, ...]``.

        Args:
            examples: the inputs.
            shown: something small of each is put into it, where it is given.
            at_once: how many a part has at most.
            rows: only these of them, in this order.
            scale: what ``scale_of_call`` returned, where that is known.
            threads: which read the parts to come meanwhile.
        """
        samples, rules, taught = self.samples(examples), self.rules, self.taught
        groups = _groups(np.arange(len(samples)) if rows is None else rows, at_once)
        if not groups:
            return
        scale = self.scale_of_call(examples, at_once) if scale is None else scale
        dark: set[str] = set()
        read = _ahead([partial(self._loaded, samples, rows) for rows in groups], threads)
        for rows, part in zip(groups, read, strict=True):
            dark.add(rules.dark(part))
            part = rules.as_taught(part, taught, scale, samples.name(int(rows[0])))
            if shown is not None:
                shown += (
                    rules.show(_item(examples, row), take(part, place)) for place, row in enumerate(rows.tolist())
                )
            yield self._placed(part)
            tell(len(rows))
        if all(dark):
            warnings.warn(f"the {rules.called}, {samples.name(0)} the first, are {dark.pop()}", DataWarning, 4)

    def feature_shape(self, examples: Any) -> tuple[int, ...]:
        """Return the shape of what the backbone makes of the first."""
        one = self._loaded(self.samples(examples), np.array([0]))
        shape: tuple[int, ...] = self.encoder.feature_shape(self._placed(one))
        return shape

    @contextmanager
    def explained(self, examples: Any, trained: tuple[int, ...]) -> Iterator[None]:
        """Say of inputs that do not fit what they are and what the model was trained on.

        Args:
            examples: the inputs.
            trained: the shape of features that it was trained on.
        """
        try:
            yield
        except RuntimeError as error:
            shape = self.feature_shape(examples)
            if shape == trained:
                raise
            raise DataError(
                f"inputs like {self.samples(examples).name(0)} become features of shape {shape}, and the model was "
                f"trained on {trained}: give inputs of the size that it was trained on"
            ) from error

    def _loaded(self, samples: Samples, rows: NDArray[Any]) -> Batch:
        return self.rules.loaded(samples.batch(rows))

    def _placed(self, part: Batch) -> Batch:
        return each(lambda leaf: leaf.to(self.device), part)


def _groups(rows: NDArray[np.integer[Any]], at_once: int) -> list[NDArray[np.integer[Any]]]:
    return np.split(rows, range(at_once, len(rows), at_once)) if len(rows) else []


def _ahead(calls: Sequence[Callable[[], Batch]], threads: int) -> Iterator[Batch]:
    """Yield what calls return, in their order; threads make some of those to come."""
    if not threads or len(calls) == 1:
        yield from (call() for call in calls)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Batch]] = deque()
        try:
            for call in calls:
                waiting.append(pool.submit(call))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _item(examples: Any, row: int) -> Any:
    item = take(examples, row) if isinstance(examples, dict) else examples[row]
    return item.item if isinstance(item, Loaded) else item
