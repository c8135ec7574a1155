"""What is kept of examples, as tensors with names: in a model's files and in its journal.

Shapes: n examples.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from quickstudy.batches import each, size
from quickstudy.data.targets import Label
from quickstudy.errors import DataError, brief
from quickstudy.learning.changes import Change, Kept, check_name, composed
from quickstudy.saved.plain import joined, taken_apart

_TREE, _NUMBERS, _ORIGINS, _NAMED, _SKETCHES = "kept_parts", "numbers", "origins", "named", "sketches"


def as_tensors(kept: Kept) -> dict[str, Tensor]:
    """Return what is kept by name: a tensor is ``kept``, parts of a dict ``kept.ids`` and so on, and how they join."""
    tensors: dict[str, Tensor] = {}
    skeleton = taken_apart(kept.values, tensors, "kept")
    if not isinstance(skeleton, str):
        tensors[_TREE] = _bytes(json.dumps(skeleton).encode())
    if kept.numbers:
        tensors[_NUMBERS] = _bytes(np.array(kept.numbers, "<f8").tobytes())  # which is the same on every device
    if any(kept.origins):
        tensors[_ORIGINS] = torch.tensor(kept.origins)
    if any(kept.named):
        tensors[_NAMED] = torch.tensor(kept.named, dtype=torch.uint8)
    if any(kept.sketches):
        tensors |= _pieces(_SKETCHES, "sketch_bytes", kept.sketches)
    return {**tensors, **_pieces("thumbnails", "thumbnail_bytes", kept.shown)}


def of_tensors(tensors: Mapping[str, Tensor]) -> Kept:
    """Return what ``as_tensors`` took apart; an older quickstudy kept nothing to show."""
    skeleton = json.loads(_content(tensors[_TREE])) if _TREE in tensors else "kept"
    values = joined(skeleton, tensors)
    numbers = np.frombuffer(_content(tensors[_NUMBERS]), "<f8") if _NUMBERS in tensors else np.empty(0)
    if "thumbnails" not in tensors:
        return Kept(values, (b"",) * size(values))
    shown = _of_pieces(tensors, "thumbnails", "thumbnail_bytes")
    sketches = _of_pieces(tensors, _SKETCHES, "sketch_bytes") if _SKETCHES in tensors else ()
    origins = tensors[_ORIGINS].tolist() if _ORIGINS in tensors else ()
    named = map(bool, tensors[_NAMED].tolist()) if _NAMED in tensors else ()
    return Kept(values, shown, tuple(numbers.tolist()), tuple(origins), tuple(named), sketches)


def examples_to_bytes(change: Change) -> bytes:
    """Return the examples of a change; nothing where it adds none."""
    if change.kept is None:
        return b""
    values = each(lambda leaf: leaf.cpu().contiguous(), change.kept)
    shown = change.thumbnails or (b"",) * change.examples
    kept = Kept(values, shown, change.numbers, change.origins, change.named, change.sketches)
    return safetensors.torch.save(as_tensors(kept))


def change_of(kind: str, name: Label, new_name: Label, examples: bytes, device: torch.device | str) -> Change:
    """Return a change of its parts, its tensors on a device.

    Raises:
        DataError: the parts are none of a change.
    """
    kept: tuple[Any, ...] = ()
    try:
        if kind == "add":
            values, *others = of_tensors(safetensors.torch.load(examples))
            kept = each(lambda leaf: leaf.to(device), values), *others
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"the examples of a change of {brief(name)} are damaged ({error})") from error
    if kind not in ("add", "remove", "rename"):
        raise DataError(f"a change is of the kind {brief(kind)}: a newer quickstudy made it, or it is damaged")
    check_name(new_name if kind == "rename" else name)
    return Change(kind, composed(name), composed(new_name), *kept)  # type: ignore[arg-type]


def _pieces(name: str, lengths: str, pieces: Sequence[bytes]) -> dict[str, Tensor]:
    return {name: _bytes(b"".join(pieces)), lengths: torch.tensor([len(piece) for piece in pieces])}


def _of_pieces(tensors: Mapping[str, Tensor], name: str, lengths: str) -> tuple[bytes, ...]:
    stream = io.BytesIO(_content(tensors[name]))
    return tuple(stream.read(length) for length in tensors[lengths].tolist())


def _bytes(content: bytes) -> Tensor:
    return torch.frombuffer(bytearray(content) or bytearray(1), dtype=torch.uint8)


def _content(tensor: Tensor) -> bytes:
    return tensor.cpu().numpy().tobytes()
