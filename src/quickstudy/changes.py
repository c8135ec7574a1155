"""A change of what a model knows, as a value and as bytes."""

from __future__ import annotations

import io
from typing import Literal, NamedTuple

import safetensors.torch
import torch
from torch import Tensor


class Change(NamedTuple):
    """A change of one class; who has the same encoder can make it without the examples."""

    kind: Literal["add", "remove", "rename"]
    name: str
    new_name: str = ""
    kept: Tensor | None = None
    """``[n, ...]``: what the algorithm keeps of the examples that are added."""
    thumbnails: tuple[bytes, ...] = ()
    """Of these examples."""


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


def change_of(kind: str, name: str, new_name: str, examples: bytes, device: torch.device | str) -> Change:
    """Return a change of its parts, its tensors on a device."""
    assert kind in ("add", "remove", "rename")
    if not examples:
        return Change(kind, name, new_name)  # type: ignore[arg-type]
    tensors = safetensors.torch.load(examples)
    return Change(kind, name, new_name, tensors["kept"].to(device), unpacked(tensors))  # type: ignore[arg-type]
