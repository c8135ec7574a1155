"""What a frozen encoder makes of inputs, computed once and kept in files for the next time.

Shapes: N inputs, D features.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quickstudy.algorithms.base import exact
from quickstudy.data.content import all_of, told_by
from quickstudy.data.places import Files
from quickstudy.data.rows import Rows
from quickstudy.data.samples import Loaded, described
from quickstudy.data.torch_sets import DatasetInputs
from quickstudy.errors import DataWarning
from quickstudy.files import plain
from quickstudy.learning.embedding_store import (
    KEY,
    Segment,
    gathered,
    home,
    located,
    make_room,
    merged,
    segments_of,
    size_limit,
    sound,
    touch,
    written,
)
from quickstudy.learning.reading import Reader, tell
from quickstudy.modality import Modality
from quickstudy.nets import Encoder
from quickstudy.torch_internals import BatchNorm, has_hooks

_WINDOW = 1024  # inputs that are put in order of their length, so that few are filled up
_HASHED = 4096  # whose files are read at once
_SEGMENT, _PATIENCE = 1 << 26, 60  # bytes, and seconds, after which what was computed is written
_COPIED = 1 << 28  # bytes; a larger array is never put together in memory where files can hold it
_MANY = 32  # segments
_SHOWN = 80  # characters of an option
_NOT_TOLD = {
    "made_by",
    "trained",
    "fed",
    "reads",
    "reads_words",
    "word_options",
    "class_prompts",
    "pretrained_cfg",
    "default_cfg",
    *vars(nn.Module()),
}
"""Attributes of modules that change nothing of what they compute, or are told otherwise."""


def embeddings(
    encoder: Encoder,
    modality: Modality,
    inputs: Any,
    *,
    folder: str | os.PathLike[str] | None = None,
    keep: bool = True,
    at_once: int = 64,
) -> NDArray[Any]:
    """Return what an encoder makes of inputs, in evaluation mode: ``[N, D]``, in float32, or float64 where it is so.

    Each is computed once for an encoder (its weights, and what else it computes with), the content of an input, the
    options of its modality, the type of device and the precision; it is found again whatever the input is called. Any
    number of processes may ask at once. A folder that cannot be written costs a ``DataWarning`` and the time to compute
    them again.

    Where all of them lie together, as after the first call, the array is a file that is mapped into memory, so that a
    million take none; writing to it changes no file. All that is kept takes ``QUICKSTUDY_CACHE_SIZE`` at most (10 GB),
    but for what a call uses: what was used longest ago is removed. Not kept is what does not follow from these alone:
    by a ``load`` of one's own, by code whose text is not at hand, of items of a data set.

    Args:
        encoder: on the device where it is to run; it stays as it is.
        modality: what an input is, having learned what it must.
        inputs: N of them: whatever ``modality`` takes, or a table's ``inputs``.
        folder: where they are kept; default: a part of the cache folder, ``QUICKSTUDY_CACHE`` where that is set.
        keep: False: nothing is read from files, nor written.
        at_once: inputs that go through the encoder at once.

    Raises:
        DataError: an input cannot be read.
        ConfigError: the encoder does not take such inputs, or ``QUICKSTUDY_CACHE_SIZE`` is no size.
    """
    reader, limit = Reader(encoder, modality), size_limit()
    examples = inputs if isinstance(inputs, (Files, Rows, DatasetInputs)) else reader.listed(inputs)
    count = len(reader.samples(examples))
    if not count:
        return np.empty((0, 0), np.float32)
    reader = Reader(encoder, modality, reader.scale(examples))
    scale = reader.scale_of_call(examples, at_once)
    name = identity_of(encoder, modality, (reader.taught, scale)) if keep else None
    keys = None if name is None else keys_of(modality, examples, count)
    if name is None or keys is None:
        own, asked = None, np.arange(1, count + 1).astype(KEY)
    else:
        own, asked = home(folder) / name, keys
    segments = segments_of(own) if own else []
    which, _ = located(segments, asked)
    left_out: set[Path | None] = set()
    while bad := {segments[row].file for row in np.unique(which[which >= 0]).tolist() if not sound(segments[row])}:
        left_out |= bad  # damaged; or put together with others by another process, which are there by now
        segments = [segment for segment in segments_of(home(folder) / str(name)) if segment.file not in left_out]
        which, _ = located(segments, asked)
    absent = np.flatnonzero(which < 0)
    missing = absent[np.sort(np.unique(asked[absent], return_index=True)[1])]
    tell(count - len(missing))
    about = _about(encoder, modality)
    for keys_n, features in _computed(reader, examples, missing, asked, scale, at_once):
        segment, own = _kept(own, about, keys_n, features)
        segments.append(segment)
    if own is not None:
        touch(own)
        segments = _tidied(own, about, segments, asked)
    which, rows = located(segments, asked)
    if own is not None:
        make_room(own.parent, limit, [segments[number].file for number in np.unique(which).tolist()])
    return gathered(segments, which, rows)


def identity_of(encoder: Encoder, modality: Modality, further: Iterable[Any] = ()) -> str | None:
    """Return a name for what an encoder makes of such inputs; None where it does not follow from what can be told.

    Equal names mean equal weights, structure, pooling, options of the inputs, precision and type of device.

    Args:
        encoder: in any mode.
        modality: what an input is.
        further: what else they depend on, each told by its ``repr``.
    """
    told = hashlib.blake2b(digest_size=16)
    device = encoder.device.type
    autocast = torch.is_autocast_enabled(device) and str(torch.get_autocast_dtype(device))
    try:
        read = [_code(type(modality)), json.dumps(modality.described(), sort_keys=True)]
        if '"name": null' in read[1]:
            return None
        for words in (*read, *map(repr, (*further, device, autocast, torch.get_default_dtype()))):
            told.update(words.encode() + b"\0")
        for path, module in encoder.named_modules():
            for words in (path, *_structure(module)):
                told.update(words.encode() + b"\0")
    except (TypeError, ValueError, OSError):  # a modality, or code, of which there is no telling
        return None
    for name, tensor in (*encoder.named_parameters(), *encoder.named_buffers()):
        told.update(name.encode())
        for part in told_by(tensor):
            told.update(part)
    return told.hexdigest()


def keys_of(modality: Modality, examples: Any, count: int) -> NDArray[Any] | None:
    """Return what tells each input from others, ``[N]`` of 16 bytes: its content, which is not decoded.

    Args:
        modality: what an input is.
        examples: N inputs, as ``Reader.listed`` returned them, or those of a table.
        count: N.

    Returns:
        None where one has no content that can be told, or cannot be read.
    """
    if isinstance(examples, DatasetInputs):  # whose items may be others each time
        return None
    keys, words = np.empty(count, KEY), modality.in_words

    def told(row: int) -> bytes:
        item = {name: part[row] for name, part in _leaves(examples)} if isinstance(examples, dict) else examples[row]
        item = item.item if isinstance(item, Loaded) else item
        digest = hashlib.blake2b(digest_size=16)
        for part in [b"text", item.encode()] if words and isinstance(item, str) else all_of(item):
            digest.update(part)
        return digest.digest()

    in_files = isinstance(examples, Files) or (isinstance(examples, list) and not words)
    try:
        if not in_files:
            for row in range(count):
                keys[row] = told(row)
            return keys
        with ThreadPoolExecutor() as pool:
            for at in range(0, count, _HASHED):
                rows = range(at, min(at + _HASHED, count))
                keys[at : rows.stop] = list(pool.map(told, rows))
    except (TypeError, OSError, ValueError):
        return None
    return keys


def _leaves(batch: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    for name, part in sorted(batch.items()):
        if isinstance(part, dict):
            yield from _leaves(part, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", part


def _computed(
    reader: Reader, examples: Any, rows: NDArray[Any], keys: NDArray[Any], scale: Any, at_once: int
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yield keys and features of some of the inputs, as many at once as a segment holds, in their order.

    What was computed before an error is handed out first.
    """
    if not len(rows):
        return
    encoder, order = reader.encoder, rows.copy()
    if isinstance(examples, list) and isinstance(examples[int(rows[0])], str) and reader.modality.in_words:
        for at in range(0, len(rows), _WINDOW):
            some = rows[at : at + _WINDOW]
            order[at : at + _WINDOW] = some[np.argsort([len(str(examples[row])) for row in some], kind="stable")]
    threads = 0 if isinstance(examples, (Tensor, dict)) else min(os.cpu_count() or 1, 8)
    done: list[NDArray[Any]] = []
    begin, since, failed = 0, time.monotonic(), None

    def ready() -> tuple[NDArray[Any], NDArray[Any]]:
        own = order[begin : begin + sum(map(len, done))]
        in_order = np.argsort(own)
        return keys[own[in_order]], np.concatenate(done)[in_order]

    training = [module for module in encoder.modules() if module.training]
    encoder.eval()
    try:
        for part in reader.parts(examples, at_once=at_once, rows=order, scale=scale, threads=threads):
            with torch.inference_mode():
                done.append(exact(encoder(part)).cpu().numpy())
            if done[-1].nbytes * len(done) >= _SEGMENT or time.monotonic() - since > _PATIENCE:
                yield ready()
                begin, since = begin + sum(map(len, done)), time.monotonic()
                done = []
    except (Exception, KeyboardInterrupt) as error:
        failed = error
    finally:
        for module in training:
            module.training = True
    if done:
        yield ready()
    if isinstance(failed, RuntimeError):
        reader.feature_shape(examples)  # which says what is wrong where the encoder takes no such inputs
    if failed is not None:
        raise failed


def _kept(
    folder: Path | None, about: dict[str, Any], keys: NDArray[Any], features: NDArray[Any]
) -> tuple[Segment, Path | None]:
    """Return embeddings as they are kept, in memory where they cannot be written, and where further ones are to go."""
    if folder is not None:
        try:
            return written(folder, about, keys, [features]), folder
        except OSError as error:
            warnings.warn(
                f"embeddings cannot be kept in '{folder.parent}' ({error.strerror or error}) and will be computed "
                "again the next time: make that folder writable, make room, or name another in the environment "
                "variable QUICKSTUDY_CACHE",
                DataWarning,
                stacklevel=3,
            )
    return Segment(keys, features), None


def _tidied(folder: Path, about: dict[str, Any], segments: list[Segment], keys: NDArray[Any]) -> list[Segment]:
    """Return the segments with those put together that lie apart, where that is worth it."""
    which, rows = located(segments, keys)
    used, first = np.unique(which), segments[which[0]]
    apart = len(used) > 1 or bool((np.diff(rows) != 1).any())
    large = len(keys) * first.features[:1].nbytes > _COPIED
    try:
        if apart and (large or len(used) > _MANY):
            return merged(folder, about, segments, keys)
        alike = [one for one in segments if one.features.shape[1:] == first.features.shape[1:]]  # of inputs of one size
        few = [segment for segment in alike if segment.features.nbytes * _MANY < _SEGMENT]
        if len(few) > _MANY and all(map(sound, few)):
            together = np.concatenate([segment.keys for segment in few])
            return merged(folder, about, segments, together[np.sort(np.unique(together, return_index=True)[1])])
    except OSError:  # they stay as they are
        pass
    return segments


def _about(encoder: Encoder, modality: Modality) -> dict[str, Any]:
    """Return what is told of an encoder to who looks what is kept."""
    name = encoder.made_by[0] if encoder.made_by else type(encoder.backbone).__name__
    options = {name: value for name, value in modality.options.items() if len(str(value)) <= _SHOWN}
    return {"backbone": name, "inputs": modality.called, "options": options if plain(options) else {}}


def _structure(module: nn.Module) -> Iterator[str]:
    """Yield what tells how a module computes, beside its weights.

    Raises:
        TypeError: there is no telling: it has hooks, batch statistics, or code whose text is not at hand.
    """
    if has_hooks(module) or (isinstance(module, BatchNorm) and module.running_mean is None):
        raise TypeError
    yield _code(type(module))
    yield module.extra_repr()
    for name, value in sorted(vars(module).items()):
        if name in _NOT_TOLD:
            continue
        if plain(value):
            yield f"{name}={value!r}"
        elif isinstance(value, Tensor):
            yield f"{name}={hashlib.blake2b(b''.join(map(bytes, told_by(value)))).hexdigest()}"
        elif hasattr(value, "__code__"):
            yield f"{name}={described(value)}"


def _code(kind: type) -> str:
    """Return a class's name, and the version of its package, or its text where it is of no package.

    Raises:
        TypeError, OSError: its text is not at hand, or does not tell all: what was made in a function may know more.
    """
    if "<locals>" in kind.__qualname__:
        raise TypeError
    package = sys.modules.get(kind.__module__.partition(".")[0])
    version = getattr(package, "__version__", None)
    if version is None:
        try:
            version = inspect.getsource(sys.modules[kind.__module__])
        except (TypeError, OSError, KeyError):
            version = inspect.getsource(kind)
    return f"{kind.__module__}.{kind.__qualname__} {version}"
