"""A change of what a model knows: as a value, made, and as bytes."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Literal, NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from quickstudy.data.targets import Label, class_name
from quickstudy.errors import DataError, brief

UNKNOWN = "unknown"
"""What is answered for an input that is like none of the examples; no class can have that name."""


class Change(NamedTuple):
    """A change of one class; who has the same encoder can make it without the examples."""

    kind: Literal["add", "remove", "rename"]
    name: Label
    new_name: Label = ""
    kept: Tensor | None = None
    """``[n, ...]``: what the algorithm keeps of the examples that are added."""
    thumbnails: tuple[bytes, ...] = ()
    """Of these examples."""


Support = dict[Label, Tensor]
"""By class, in the order of the classes: what the algorithm keeps of its examples, ``[n, ...]``."""
Thumbnails = dict[Label, tuple[bytes, ...]]
"""By class, one of each example; empty where it is no picture, or was kept without one."""


def changed(support: Support, thumbnails: Thumbnails, changes: Iterable[Change]) -> tuple[Support, Thumbnails]:
    """Return what there is after changes; what is given stays as it is.

    Raises:
        DataError: one is of a class that there is not, or gives two classes one name.
    """
    for change in changes:
        support, thumbnails = _changed(support, thumbnails, change)
    return support, thumbnails


def _changed(support: Support, thumbnails: Thumbnails, change: Change) -> tuple[Support, Thumbnails]:
    kind, name, new_name, kept, shown = change
    if kind != "add" and name not in support:
        raise DataError(f"a change is of the class {brief(name)}, which there is not")
    if kind == "rename" and new_name in support and new_name != name:
        raise DataError(f"a change gives the class {brief(name)} the name of another, {brief(new_name)}")
    if kind == "rename":
        names = {name: new_name}
        renamed = {names.get(other, other): kept for other, kept in support.items()}
        return renamed, {names.get(other, other): own for other, own in thumbnails.items()}
    support, thumbnails = dict(support), dict(thumbnails)
    if kind == "remove":
        del support[name], thumbnails[name]
        return support, thumbnails
    assert kept is not None
    support[name] = torch.cat([support[name], kept]) if name in support else kept
    thumbnails[name] = thumbnails.get(name, ()) + (shown or (b"",) * len(kept))
    return support, thumbnails


def check_name(name: object) -> None:
    """Raise ``DataError`` unless a class may be called so."""
    if not isinstance(name, (str, int)) or name in ("", UNKNOWN):
        raise DataError(f"a class needs a name, and one that is not {brief(UNKNOWN)}; this is {brief(name)}")


def composed(name: Label) -> Label:
    """Return a class's name in the form in which names are compared; an older quickstudy kept what it was given."""
    return class_name(name) if isinstance(name, str) else name


def packed(thumbnails: tuple[bytes, ...]) -> dict[str, Tensor]:
    """Return pictures one after the other, and how many bytes each has."""
    joined = torch.frombuffer(bytearray(b"".join(thumbnails)) or bytearray(1), dtype=torch.uint8)
    return {"thumbnails": joined, "thumbnail_bytes": torch.tensor([len(each) for each in thumbnails])}


def unpacked(tensors: dict[str, Tensor]) -> tuple[bytes, ...]:
    """Return what ``packed`` put together; nothing where there is nothing of it."""
    if "thumbnails" not in tensors:
        return ()
    stream = io.BytesIO(tensors["thumbnails"].cpu().numpy().tobytes())
    return tuple(stream.read(length) for length in tensors["thumbnail_bytes"].tolist())


def examples_to_bytes(change: Change) -> bytes:
    """Return the examples of a change; nothing where it adds none."""
    if change.kept is None:
        return b""
    return safetensors.torch.save({"kept": change.kept.cpu().contiguous(), **packed(change.thumbnails)})


def change_of(kind: str, name: Label, new_name: Label, examples: bytes, device: torch.device | str) -> Change:
    """Return a change of its parts, its tensors on a device.

    Raises:
        DataError: the parts are none of a change.
    """
    try:
        tensors = safetensors.torch.load(examples) if kind == "add" else {}
        kept = tensors["kept"].to(device) if kind == "add" else None
    except (SafetensorError, KeyError, TypeError) as error:
        raise DataError(f"the examples of a change of {brief(name)} are damaged ({error})") from error
    if kind not in ("add", "remove", "rename"):
        raise DataError(f"a change is of the kind {brief(kind)}: a newer quickstudy made it, or it is damaged")
    check_name(new_name if kind == "rename" else name)
    name, new_name = composed(name), composed(new_name)
    return Change(kind, name, new_name, kept, unpacked(tensors))  # type: ignore[arg-type]
