"""From rows to a tensor: read, keep a decoded copy where it fits, transform.

Shapes: n rows asked for, ``...`` the shape of one input.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.data.table import Inputs
from quickstudy.errors import ConfigError, DataError

Load = Callable[[Any], Any]
Transform = Callable[[Tensor], Tensor]

_AUTO_SHARE = 0.25
_UNITS = {"KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}


class Samples:
    """The inputs of a table as tensors.

    Args:
        inputs: a tensor ``[N, ...]``, which is fed as it is, or items for ``load``.
        load: makes a tensor (or array) of one item; all of one shape.
        transform: applied to each tensor after the cache, with a random state of its own.
        budget: bytes that the decoded copies may take in memory; 0 keeps none.
        shared: whether worker processes will read: the copies then lie in memory that they share.

    Raises:
        DataError: an item cannot be read, or its shape differs from the others'; the message names it.
    """

    def __init__(
        self,
        inputs: Inputs,
        load: Load,
        *,
        transform: Transform | None = None,
        budget: int = 0,
        shared: bool = False,
    ) -> None:
        self._inputs = inputs
        self._load = load
        self._transform = transform
        self._decoded: Tensor | None = None
        self._present: Tensor | None = None
        if not isinstance(inputs, Tensor) and len(inputs) and budget > 0:
            first = self._read(0)
            size = first.nbytes * len(inputs)
            if size <= budget and (not shared or size <= _shared_memory_free()):
                self._decoded = torch.empty((len(inputs), *first.shape), dtype=first.dtype)
                self._present = torch.zeros(len(inputs), dtype=torch.bool)
                if shared:
                    self._decoded.share_memory_()
                    self._present.share_memory_()

    def __len__(self) -> int:
        return len(self._inputs)

    @property
    def cached_bytes(self) -> int:
        """Memory set aside for decoded copies; 0 where none are kept."""
        return 0 if self._decoded is None else self._decoded.nbytes

    def batch(self, rows: NDArray[np.integer[Any]], seed: tuple[int, ...] | None = None) -> Tensor:
        """Return ``[n, ...]`` for these rows.

        Args:
            rows: ``[n]`` row numbers.
            seed: with a transform, the random state of the k-th input follows from ``(*seed, k)`` alone.
        """
        batch = self._batch(np.asarray(rows, np.int64))
        if self._transform is None:
            return batch
        outputs = []
        for position, sample in enumerate(batch):
            with _seeded((*(seed or (0,)), position)):
                outputs.append(self._transform(sample))
        return torch.stack(outputs)

    def _batch(self, rows: NDArray[np.int64]) -> Tensor:
        if isinstance(self._inputs, Tensor):
            return self._inputs[torch.from_numpy(rows)]
        if self._decoded is None or self._present is None:
            read = [self._read(row) for row in rows.tolist()]
            for row, sample in zip(rows.tolist(), read, strict=True):
                self._check_shape(row, sample, read[0])
            return torch.stack(read)
        wanted = torch.from_numpy(rows)
        for row in wanted[~self._present[wanted]].tolist():
            sample = self._read(row)
            self._check_shape(row, sample, self._decoded[0])
            self._decoded[row] = sample
            self._present[row] = True
        return self._decoded[wanted]

    def unreadable(self) -> dict[int, str]:
        """Try every input and return the message of each that cannot be read, by row."""

        def attempt(row: int) -> str | None:
            try:
                self._batch(np.array([row]))
            except DataError as error:
                return str(error)
            return None

        if isinstance(self._inputs, Tensor):
            return {}
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            messages = pool.map(attempt, range(len(self)), chunksize=64)
            return {row: message for row, message in enumerate(messages) if message is not None}

    def _read(self, row: int) -> Tensor:
        assert not isinstance(self._inputs, Tensor)
        item = self._inputs[row]
        try:
            return torch.as_tensor(self._load(item))
        except DataError:
            raise
        except Exception as error:
            name = str(item) if hasattr(item, "read_bytes") else f"input {row}"
            raise DataError(f"'{name}' cannot be read: {error}") from error

    def _check_shape(self, row: int, sample: Tensor, like: Tensor) -> None:
        if sample.shape != like.shape or sample.dtype != like.dtype:
            item = self._inputs[row]
            name = str(item) if hasattr(item, "read_bytes") else f"input {row}"
            raise DataError(
                f"'{name}' has shape {tuple(sample.shape)} ({sample.dtype}) where another has {tuple(like.shape)} "
                f"({like.dtype}): all inputs must agree. For images give image_size=..."
            )


def cache_budget(cache: str | int | bool | None) -> int:
    """Return the bytes that decoded inputs may take in memory.

    Args:
        cache: ``"auto"`` for a quarter of the memory that is free now, ``False`` or None for none, a number of
            bytes, or a size such as ``"4GB"``.

    Raises:
        ConfigError: it is none of these.
    """
    if cache is None or cache is False:
        return 0
    if cache is True or cache == "auto":
        return int(_AUTO_SHARE * _memory_free())
    if isinstance(cache, int) and cache >= 0:
        return cache
    text = str(cache).upper().replace(" ", "")
    number, unit = text[:-2], text[-2:]
    if unit in _UNITS and number.replace(".", "", 1).isdigit():
        return int(float(number) * _UNITS[unit])
    raise ConfigError(f"cache={cache!r} is none of 'auto', False, a number of bytes, or a size such as '4GB'")


def _memory_free() -> int:
    """Memory that can be had without swapping, within the limit of this process's container."""
    free = 4 << 30
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        free = int(fields["MemAvailable"].split()[0]) << 10
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and limit.read_text().strip() != "max":
        free = min(free, int(limit.read_text()) - int(used.read_text()))
    return max(free, 0)


def _shared_memory_free() -> int:
    """Room for shared memory; containers often allow 64 MB, and a write beyond it kills the process."""
    folder = Path("/dev/shm")
    return int(shutil.disk_usage(folder).free * 0.9) if folder.exists() else 1 << 62


@contextmanager
def _seeded(seed: tuple[int, ...]) -> Iterator[None]:
    """Give the block random states that follow from ``seed`` alone, and put the old ones back."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    words = np.random.SeedSequence([number & 0xFFFFFFFF for number in seed]).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))
    torch.random.default_generator.manual_seed(int(words[2]))
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
