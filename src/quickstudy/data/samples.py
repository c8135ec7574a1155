"""From rows to a tensor: read, keep a decoded copy where it fits, transform.

Shapes: n rows asked for, ``...`` the shape of one input.
"""

from __future__ import annotations

import copy
import io
import math
import multiprocessing
import os
import random
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.batches import Batch, each, is_batch, stack, take
from quickstudy.data.annotations import Annotations
from quickstudy.data.archives import MAX_FILE_BYTES, Member
from quickstudy.data.places import Files
from quickstudy.data.table import Inputs, count_of
from quickstudy.data.targets import in_order
from quickstudy.domains import modules_of_domains
from quickstudy.errors import ConfigError, DataError, brief
from quickstudy.files import bytes_in
from quickstudy.registry import Registry
from quickstudy.torch_internals import shared_storage, tree_flatten, tree_leaves, tree_unflatten

Load = Callable[[Any], Any]
_Size = TypeVar("_Size", int, Tensor)
Transform = Callable[[Tensor], Tensor]
"""A function of one input, as it was loaded; or of a whole sample, see ``of_samples``."""
TRANSFORMS: Registry[Transform] = Registry("transform", further=modules_of_domains("transforms"))
"""By name: ready-made ones."""

ADDRESS = re.compile(r"[a-z][a-z0-9]+:/")
"""How a file on the internet begins, also one that a path was made of; a drive has one letter."""


def available_transforms() -> list[str]:
    """Return the names of ready-made augmentations, of all domains."""
    return TRANSFORMS.names()


_AUTO_SHARE = 0.25
_TRIED, _SLACK = 64, 1.5
_ALIGNED = 16
_LONGEST_NAME, _LONGEST_SENT = 500, 80


@dataclass(frozen=True, eq=False)
class Loaded:
    """An item that was loaded before: wherever items are taken it stands for its own, and nothing loads it again."""

    item: Any
    """As it was handed over."""
    example: Batch
    """What ``load`` made of it, in tensors."""

    @classmethod
    def of(cls, item: Any, load: Load) -> Self:
        """Load an item."""
        return cls(item, _as_batch(load(item)))


def described(transform: Any) -> str | None:
    """Return in words what a transform is, the same in every process: a module's own, a function's name and numbers."""
    if transform is None:
        return None
    words = " ".join(re.sub(r" at 0x[0-9a-fA-F]+", "", repr(transform)).split())
    code = getattr(transform, "__code__", None)
    if code is None:
        return words
    numbers = [repr(constant) for constant in code.co_consts[1:] if isinstance(constant, (bool, int, float, str))]
    return f"{words} of {', '.join([*code.co_names, *numbers])}"


def in_turn(*transforms: Transform | None) -> Transform | None:
    """Return one transform of several, without those that are None; None where nothing is left.

    Of several it is one of samples, see ``of_samples``.
    """
    left = [transform for transform in transforms if transform is not None]
    return of_samples(partial(_through, left)) if len(left) > 1 else next(iter(left), None)


def _through(transforms: Sequence[Transform], sample: Mapping[str, Batch]) -> Mapping[str, Batch]:
    for transform in transforms:
        sample = _moved(transform, sample)
    return sample


def of_samples(transform: Callable[..., Any]) -> Transform:
    """Mark a transform as one of samples ``{"input": ..., "target": ...}``, of which it returns another.

    So what turns an input turns its boxes, and what leaves points out leaves out their labels. There is a target only
    where the data has annotations; all other transforms are given the input alone, and leave the target as it is. A
    class may say ``takes_samples = True`` of its objects.

    >>> @of_samples
    ... def half(sample):
    ...     return {name: part[::2] for name, part in sample.items()}
    """
    transform.takes_samples = True  # type: ignore[attr-defined]
    return transform


def _moved(transform: Transform, sample: Mapping[str, Batch]) -> Mapping[str, Batch]:
    """Return a sample, with its target or without, through a transform."""
    if getattr(transform, "takes_samples", False):
        of_whole: Callable[[Mapping[str, Batch]], Mapping[str, Batch]] = cast(Any, transform)
        return of_whole(sample)
    return {**sample, "input": transform(sample["input"])}


class Samples:
    """The inputs of a table as batches.

    Args:
        inputs: a batch ``[N, ...]``, which is fed as it is, or items for ``load``, some of them ``Loaded``.
        load: makes a tensor (or array) of one item, all of one shape; or a dict of them, each as long as it may be. Its
            ``advice``, as a ``Modality`` has it, says what helps where shapes differ; its ``load_many`` reads several
            at once, all of one shape.
        transform: applied to each tensor after the cache, with a random state of its own; see ``of_samples``.
        budget: bytes that the decoded copies may take in memory; 0 keeps none. Tensors are all kept, or none is; of
            dicts, whose sizes differ, those that fit.
        shared: whether worker processes will read: the copies then lie in memory that they share.
        remedy: what else helps where an item cannot be read, for messages.
        annotations: the targets, where they are such: an example is then ``{"input": ..., "target": ...}``.

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
        remedy: str = "",
        annotations: Annotations | None = None,
    ) -> None:
        self._inputs = inputs
        self._load = load
        self._annotations = annotations
        self._at_hand = isinstance(inputs, (Tensor, dict)) and annotations is None
        self._remedy = remedy
        self._transform = transform
        self._load_many = getattr(load, "load_many", _one_by_one)
        if annotations is not None:
            self._load_many = partial(_with_targets, self._load_many, annotations)
        self._decoded: Batch | None = None
        self._present = torch.zeros(0, dtype=torch.bool)
        self._trees: _Trees | None = None
        if not self._at_hand and len(self) and budget > 0:
            first = self._read(0)
            budget = min(budget, _shared_memory_free()) if shared else budget
            alike = isinstance(first, Tensor) or self._load_many(inputs, np.zeros(1, np.int64)) is not None
            if not alike:
                self._trees = self._trees_within(budget, first, shared)
            elif sum(leaf.nbytes for leaf in tree_leaves(first)) * len(inputs) <= budget:
                # Workers may decode the same input twice, to the same bytes. A flag is set after its copy is written,
                # and never overtakes it: each call of torch gives back and takes a lock.
                self._decoded = each(lambda leaf: _empty((len(inputs), *leaf.shape), leaf.dtype, shared), first)
                self._present = _empty((len(inputs),), torch.bool, shared).zero_()
                self._keep(0, first)

    def __len__(self) -> int:
        return count_of(self._inputs)

    @property
    def cached_bytes(self) -> int:
        """Memory set aside for decoded copies; 0 where none are kept."""
        if self._trees is not None:
            return self._trees.nbytes
        return 0 if self._decoded is None else sum(leaf.nbytes for leaf in tree_leaves(self._decoded))

    def batch(self, rows: NDArray[np.integer[Any]], seeds: Iterable[tuple[int, ...]] = ()) -> Batch:
        """Return ``[n, ...]`` for these rows; dicts are filled up with zeros to the longest of them.

        Args:
            rows: ``[n]`` row numbers.
            seeds: with a transform, one for each row, from which alone its random choices follow.
        """
        rows = np.asarray(rows, np.int64)
        if self._transform is None:
            return self._batch(torch.from_numpy(rows))
        outputs, examples = [], self._singly(torch.from_numpy(rows))
        with _same_chance_after():
            for row, example, seed in zip(rows.tolist(), examples, seeds, strict=True):
                _seed(seed)
                try:
                    outputs.append(self._transformed(example))
                except Exception as error:
                    error.add_note(f"This was the transform of {self.name(row)}.")
                    raise
        return stack(outputs)

    def _transformed(self, example: Batch) -> Batch:
        assert self._transform is not None
        if self._annotations is not None:
            return _moved(self._transform, example)
        return _moved(self._transform, {"input": example})["input"]

    def transformed_by(self, transform: Transform) -> Samples:
        """Return the same inputs, with the same decoded copies, through another transform."""
        other = copy.copy(self)
        other._transform = transform
        return other

    def unreadable(self) -> dict[int, str]:
        """Try every input and return the message of each that cannot be read, by row."""

        def attempt(row: int) -> str | None:
            try:
                self._read(row)
            except DataError as error:
                return str(error)
            return None

        if self._at_hand or self._load_many(self._inputs, np.arange(len(self))) is not None:
            return {}
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            messages = pool.map(attempt, range(len(self)))
            return {row: message for row, message in enumerate(messages) if message is not None}

    def name(self, row: int) -> str:
        """Return the name of an input for messages: a file's own, else its number."""
        file = file_of(self._inputs, row)
        return f"input {row}" if file is None else named(file)

    def _singly(self, rows: Tensor) -> Iterable[Batch]:
        """Return the examples one by one, not filled up."""
        if self._at_hand or self._decoded is not None:
            batch = self._batch(rows)
            return (take(batch, place) for place in range(len(rows)))
        examples = self._all_read(rows)
        # A transform may write to what it is given.
        return examples if self._trees is None else (each(Tensor.clone, example) for example in examples)

    def _batch(self, rows: Tensor) -> Batch:
        if self._at_hand:
            return each(lambda leaf: leaf.index_select(0, rows), self._inputs)
        if self._trees is not None and (kept := self._trees.batch(rows)) is not None:
            return kept
        if self._decoded is None:
            many = self._load_many(self._inputs, rows.numpy())
            return stack(self._all_read(rows)) if many is None else many
        lacking = torch.tensor(sorted({*rows[~self._present[rows]].tolist()}), dtype=torch.int64)
        if len(lacking) and (many := self._load_many(self._inputs, lacking.numpy())) is not None:
            self._keep(lacking, many)
            lacking = lacking[:0]
        for row in lacking.tolist():
            sample = self._read(row)
            self._check_shape(row, sample, take(self._decoded, 0))
            self._keep(row, sample)
        return each(lambda leaf: leaf.index_select(0, rows), self._decoded)

    def _keep(self, rows: Tensor | int, read: Batch) -> None:
        for kept, leaf in zip(tree_leaves(self._decoded), tree_leaves(read), strict=True):
            kept[rows] = leaf
        self._present[rows] = True

    def _all_read(self, rows: Tensor) -> list[Batch]:
        read = [self._example(row) for row in rows.tolist()]
        for row, sample in zip(rows.tolist(), read, strict=True):
            self._check_shape(row, sample, read[0])
        return read

    def _example(self, row: int) -> Batch:
        if self._trees is None:
            return self._read(row)
        kept = self._trees.get(row)
        if kept is None:
            kept = self._read(row)
            self._trees.keep(row, kept)
        return kept

    def _trees_within(self, budget: int, first: Batch, shared: bool) -> _Trees | None:
        """Return room for dicts, as much as they may take by those that are tried; None where it is less than one."""
        count = len(self)
        tried = {0: first}
        for row in dict.fromkeys(np.linspace(0, count - 1, min(count, _TRIED)).astype(int).tolist()):
            with suppress(DataError):  # which is told when it is asked for
                tried[row] = tried[row] if row in tried else self._read(row)
        sizes = [_size_of(sample) for sample in tried.values()]
        wanted = sum(sizes) if len(sizes) == count else math.ceil(sum(sizes) / len(sizes) * count * _SLACK)
        room = min(wanted, budget - _Trees.bytes_of_index(first, count))
        if room < max(sizes):
            return None
        trees = _Trees(first, count, room, shared)
        for row, sample in tried.items():
            trees.keep(row, sample)
        return trees

    def _read(self, row: int) -> Batch:
        try:
            if isinstance(self._inputs, (Tensor, dict)):  # which are fed as they are
                example = take(self._inputs, row)
            else:
                item = self._inputs[row]
                example = item.example if isinstance(item, Loaded) else _as_batch(self._load(item))
            if self._annotations is None:
                return example
            return {"input": example, "target": self._target(row, example)}
        except MemoryError:
            raise
        except DataError as error:
            if not self._remedy:
                raise
            raise DataError(f"{error}. {self._remedy}") from error
        except Exception as error:
            raise DataError(f"{self.name(row)} cannot be read: {error}") from error

    def _target(self, row: int, example: Batch) -> Batch:
        assert self._annotations is not None
        try:
            return _as_batch(self._annotations.target(row, example))
        except DataError as error:
            raise DataError(f"the target of {self.name(row)}: {error}") from error

    def _check_shape(self, row: int, sample: Batch, like: Batch) -> None:
        if isinstance(sample, dict) and isinstance(like, dict):
            return  # stack tells of other parts, and fills up what is shorter
        if isinstance(sample, dict) or isinstance(like, dict):
            raise DataError(
                f"{self.name(row)} and another differ in kind: load makes a dict of one, a tensor of the other"
            )
        if sample.shape != like.shape or sample.dtype != like.dtype:
            advice = getattr(self._load, "advice", "")
            raise DataError(
                f"{self.name(row)} has shape {tuple(sample.shape)} ({sample.dtype}) where another has "
                f"{tuple(like.shape)} ({like.dtype}): all inputs must agree. {advice}".rstrip()
            )


class _Trees:
    """Decoded dicts in one flat buffer, filled in any order and by any of the processes that read.

    The parts of an example lie one after the other. Of each it is noted where it begins (-1: it is not kept) and how
    long the axes of its parts are.

    Args:
        like: an example; others are kept where their parts have the same names, types and numbers of axes.
        count: N, how many there are.
        room: bytes of the buffer.
        shared: whether worker processes fill it too.
    """

    def __init__(self, like: Batch, count: int, room: int, shared: bool) -> None:
        leaves, self._spec = tree_flatten(like)
        self._form = [(leaf.dtype, leaf.ndim) for leaf in leaves]
        self._buffer = _empty((room,), torch.uint8, shared)
        self._starts = _empty((count,), torch.int64, shared).fill_(-1)
        self._shapes = _empty((count, sum(leaf.ndim for leaf in leaves)), torch.int64, shared)
        self._filled = _empty((1,), torch.int64, shared).zero_()
        # A lock of processes that are spawned is one of forked ones, too.
        self._lock = multiprocessing.get_context("spawn").Lock() if shared else nullcontext()

    @staticmethod
    def bytes_of_index(like: Batch, count: int) -> int:
        """Return what the notes on ``count`` examples take."""
        axes: int = sum(leaf.ndim for leaf in tree_flatten(like)[0])
        return 8 * (count * (1 + axes) + 1)

    @property
    def nbytes(self) -> int:
        """Memory set aside."""
        return sum(part.nbytes for part in (self._buffer, self._starts, self._shapes, self._filled))

    def get(self, row: int) -> Batch | None:
        """Return an example, which is not to be written to; None where it is not kept."""
        start = int(self._starts[row])
        return None if start < 0 else tree_unflatten(self._parts(start, self._shapes[row].tolist()), self._spec)

    def batch(self, rows: Tensor) -> Batch | None:
        """Return examples that are all kept, as ``stack`` does; None where one is not."""
        starts, shapes = self._starts[rows], self._shapes[rows]
        if not len(rows) or bool((starts < 0).any()):
            return None
        leaves, axis = [], 0
        for dtype, axes in self._form:
            own = shapes[:, axis : axis + axes]
            sizes = own.prod(1)
            leaves.append(self._joined(dtype, starts, own, sizes))
            starts, axis = starts + _aligned(sizes * dtype.itemsize), axis + axes
        return tree_unflatten(leaves, self._spec)

    def _joined(self, dtype: torch.dtype, starts: Tensor, shapes: Tensor, sizes: Tensor) -> Tensor:
        """Return one part of some examples, filled up with zeros.

        Args:
            dtype: of the part.
            starts, shapes, sizes: of each example's: its first byte ``[n]``, how long its axes are ``[n, axes]``, and
                how many numbers it has ``[n]``.
        """
        joined = torch.zeros(len(starts), *shapes.amax(0).tolist(), dtype=dtype)
        begins, lengths = starts.tolist(), (sizes * dtype.itemsize).tolist()
        if joined.numel() and bool((shapes[:, 1:] == shapes[0, 1:]).all()):
            # By numpy, as bytes: a copy costs it 0.3 us and torch 3, and what gathers them at once takes longer.
            rows, whole = joined.view(len(starts), -1).view(torch.uint8).numpy(), self._buffer.numpy()
            for row, begin, length in zip(rows, begins, lengths, strict=True):
                row[:length] = whole[begin : begin + length]
            return joined
        for row, begin, length, own in zip(joined, begins, lengths, shapes.tolist(), strict=True):
            row[tuple(map(slice, own))] = self._buffer[begin : begin + length].view(dtype).view(own)
        return joined

    def keep(self, row: int, sample: Batch) -> None:
        """Keep a copy of an example where it fits."""
        leaves, spec = tree_flatten(sample)
        if spec != self._spec or [(leaf.dtype, leaf.ndim) for leaf in leaves] != self._form:
            return
        with self._lock:
            start, shape = int(self._filled), [length for leaf in leaves for length in leaf.shape]
            end = start + _size_of(sample)
            if end > len(self._buffer) or self._starts[row] >= 0:
                return
            for part, leaf in zip(self._parts(start, shape), leaves, strict=True):
                part.copy_(leaf)
            self._shapes[row] = torch.tensor(shape, dtype=torch.int64)
            self._filled.fill_(end)
            self._starts[row] = start  # last: who finds it finds all of it

    def _parts(self, start: int, lengths: list[int]) -> list[Tensor]:
        parts = []
        for dtype, axes in self._form:
            shape, lengths = lengths[:axes], lengths[axes:]
            size = math.prod(shape) * dtype.itemsize
            parts.append(self._buffer[start : start + size].view(dtype).view(shape))
            start += _aligned(size)
        return parts


def _one_by_one(inputs: Inputs, rows: NDArray[np.int64]) -> None:
    """Read none together."""


def _with_targets(
    load_many: Callable[[Inputs, NDArray[np.int64]], Batch | None],
    annotations: Annotations,
    inputs: Inputs,
    rows: NDArray[np.int64],
) -> Batch | None:
    """Read several samples together, where their inputs and their targets can be."""
    if annotations.read_many is None or (batch := load_many(inputs, rows)) is None:
        return None
    targets = annotations.targets(rows)
    return None if targets is None else {"input": batch, "target": targets}


def _size_of(sample: Batch) -> int:
    return sum(_aligned(leaf.nbytes) for leaf in tree_flatten(sample)[0])


def _aligned(size: _Size) -> _Size:
    return -(-size // _ALIGNED) * _ALIGNED


def _as_batch(values: Any) -> Batch:
    if isinstance(values, dict):
        return {name: _as_batch(part) for name, part in values.items()}
    if isinstance(values, np.ndarray) and not values.flags.writeable:
        values = values.copy()  # torch warns of arrays that it must not write to
    return torch.as_tensor(values)


def named(item: Any) -> str:
    """Return the name of a file for messages, which a text that is none may not lengthen."""
    text = str(item)
    return f"'{text}'" if len(text) <= _LONGEST_NAME else brief(text)


class Sent:
    """A file that somebody sent, which is read as a file of an archive is.

    Args:
        content: of the file.
        name: as its sender calls it, with folders or without.

    Raises:
        DataError: it is no bytes. A text among others, which would be the name of a file here, is never opened.
    """

    def __init__(self, content: Any, name: str = "") -> None:
        if not isinstance(content, bytes):
            raise DataError(f"expected what a file holds, in bytes, not {brief(content)}")
        self._content = content
        base = name.replace("\\", "/").rpartition("/")[2]
        self._name = base[:_LONGEST_SENT].encode("utf-8", "replace").decode() or f"{len(content)} bytes"

    def __str__(self) -> str:
        return self._name

    def read_bytes(self) -> bytes:
        """Return the content."""
        return self._content


def file_content(item: Any, name: str, expected: str) -> bytes:
    """Return the content of a file.

    Args:
        item: bytes, a path, or what has ``read_bytes``, as a file of an archive has.
        name: of it, for messages.
        expected: what should be here, for the message where it is something else.

    Raises:
        DataError: it is something else, cannot be opened, or is no file, or a huge one.
    """
    if isinstance(item, bytes):
        return item
    with opened_file(item, name, expected) as file:
        return file.read()


def opened_file(item: Any, name: str, expected: str, most: int = MAX_FILE_BYTES) -> BinaryIO:
    """Open a file to be read from its beginning or elsewhere, whose content need not fit into memory.

    Args:
        item, name, expected: as of ``file_content``.
        most: bytes that it may have.

    Raises:
        DataError: as of ``file_content``.
    """
    if isinstance(item, bytes):
        return io.BytesIO(item)
    if not isinstance(item, str) and not hasattr(item, "read_bytes"):
        raise DataError(f"expected {expected}, not {brief(item)}")
    path = Path(item) if isinstance(item, str) else item
    try:
        if not isinstance(path, Path):
            return io.BytesIO(path.read_bytes())
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{name} is no file (a folder, a pipe or a device)")
        if status.st_size > most:
            raise DataError(f"{name} has {status.st_size:,} bytes; more than {most:,} are refused")
        return path.open("rb")
    except OSError as error:
        why = "addresses are not read, download it first" if ADDRESS.match(str(item)) else error.strerror
        raise DataError(f"{name} cannot be opened: {why}") from error


def file_of(inputs: Inputs, row: int) -> str | None:
    """Return the name of an input: of the file that it is, or of a series; None where it has none."""
    if hasattr(inputs, "called"):  # what has a name, and is no file
        return str(inputs.called(row))
    item = inputs[row] if isinstance(inputs, (Files, list)) else None
    return str(item) if isinstance(item, (str, os.PathLike, Member)) else None


def listed(inputs: Any, what: str = "inputs") -> Any:
    """Return a batch ``[N, ...]`` or a list of items; a single path, picture or open file counts as a list of one.

    What comes one by one, as from a generator, ``map`` or ``glob``, is listed; of a frame it is the only column, or the
    one of that name.

    Args:
        inputs: of a caller.
        what: they are, several of them: ``"texts"``.

    Raises:
        DataError: it is a set, which has no order, or a mapping, but for a dict of tensors, which is a batch; or a
            frame of which nobody says which column.
    """
    if is_batch(inputs):
        return inputs
    if not hasattr(inputs, "read"):  # an open file would come by its lines
        inputs = in_order(inputs, what)
    if isinstance(inputs, Tensor):
        return inputs
    if isinstance(inputs, np.ndarray) and inputs.dtype.kind in "buif":
        return tensor_of(inputs)
    alone = isinstance(inputs, (str, bytes, bytearray, memoryview, os.PathLike)) or not hasattr(inputs, "__len__")
    return [content_of(item) for item in ([inputs] if alone else inputs)]


def tensor_of(array: NDArray[Any]) -> Tensor:
    """Return numbers as a tensor, whatever their layout in memory.

    Raises:
        DataError: it holds no numbers.
    """
    if array.dtype.kind not in "buif":
        raise DataError(f"an array of {array.dtype} holds no numbers to be fed to a model")
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return torch.from_numpy(native if native.flags.writeable and min(native.strides, default=1) >= 0 else native.copy())


def content_of(item: Any) -> Any:
    """Return the bytes of a bytearray, a memoryview or an open file, from its beginning; all else as it is.

    Raises:
        DataError: the file is open as text.
    """
    if isinstance(item, (bytearray, memoryview)):
        return bytes(item)
    if not hasattr(item, "read") or isinstance(item, (Tensor, np.ndarray)):
        return item
    if hasattr(item, "seekable") and item.seekable():
        item.seek(0)
    found = item.read()
    if not isinstance(found, bytes):
        raise DataError(f"{brief(item)} is open as text: open it in binary mode, open(path, 'rb')")
    return found


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
    if isinstance(cache, Integral) and int(cache) >= 0:
        return int(cache)
    if (size := bytes_in(str(cache))) is not None:
        return size
    raise ConfigError(f"cache={brief(cache)} is none of 'auto', False, a number of bytes, or a size such as '4GB'")


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


def _empty(shape: tuple[int, ...], dtype: torch.dtype, shared: bool) -> Tensor:
    if not shared:
        return torch.empty(shape, dtype=dtype)
    return torch.empty(0, dtype=dtype).set_(shared_storage(math.prod(shape) * dtype.itemsize)).view(shape)


@contextmanager
def seeded(seed: tuple[int, ...]) -> Iterator[None]:
    """Give the block random states that follow from ``seed`` alone, and put the old ones back."""
    with _same_chance_after():
        _seed(seed)
        yield


@contextmanager
def _same_chance_after() -> Iterator[None]:
    """Put the random states back after the block; numpy's takes 200 us, several times what a seed takes."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])


def _seed(seed: tuple[int, ...]) -> None:
    words = np.random.SeedSequence([number & 0xFFFFFFFF for number in seed]).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))  # noqa: NPY002 - users' transforms draw from the global generators
    torch.default_generator.manual_seed(int(words[2]))  # torch.manual_seed would seed the GPUs too
