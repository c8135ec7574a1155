"""How the numbers of inputs are taken by a network: their scale, and what brings it to that of others.

Shapes: N inputs, ``...`` the shape of one input.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from quickstudy.batches import Batch
from quickstudy.errors import DataWarning

if TYPE_CHECKING:
    from quickstudy.modality import Modality

Scale = Literal["", "uint8", "0..1", "0..255", "other"]
"""Of the values of inputs; nothing where it is not known."""
_WIDER: tuple[Scale, ...] = ("", "uint8", "0..1", "0..255", "other")


def scale_of(values: Tensor) -> Scale:
    """Return what range of values inputs have."""
    if values.dtype == torch.uint8:
        return "uint8"
    if not values.is_floating_point() or not values.numel():
        return "other"
    low, high = (float(value) for value in values.aminmax())
    if not 0 <= low <= high <= 255:
        return "other"
    return "0..1" if high <= 1 else "0..255"


def widest(scales: Iterable[Scale]) -> Scale:
    """Return the scale of floats that come together: the widest, since a dark one of 0..255 may end at 1."""
    return max(scales, key=_WIDER.index, default="")


def as_uint8(values: Tensor, scale: str = "") -> Tensor | None:
    """Return floats of 0..1 or 0..255 as uint8, of which ``scale`` says which; None where they go beyond."""
    scale = scale or scale_of(values)
    if scale == "0..1":
        return (values.float() * 255).round().to(torch.uint8)
    return values.float().round().to(torch.uint8) if scale == "0..255" else None


def rescaled(values: Tensor, taught: str, scale: Scale = "") -> Tensor | None:
    """Bring inputs to the scale of those that a model learned from; None where that cannot be.

    Args:
        values: ``[N, ...]``, loaded.
        taught: the scale of the others.
        scale: of the floats among which these came; default: their own.
    """
    own = scale_of(values)
    scale = own if own == "uint8" else widest((own, scale))
    if taught in ("", scale) or (taught != "uint8" and scale != "uint8" and values.ndim not in (4, 5)):
        return values
    if taught == "uint8":
        return as_uint8(values, scale)
    if taught == "other":
        return None if scale == "uint8" else values
    if scale == "other":
        return values
    floats = values.to(torch.get_default_dtype() if scale == "uint8" else values.dtype)
    return floats * 255 if scale == "0..1" else floats / 255 if taught == "0..1" else floats


class Sighted(Protocol):
    """What is asked of a network: ``nets.Encoder``."""

    in_channels: int | None
    planar: bool
    made_by: tuple[str, dict[str, Any]] | None
    mean: Tensor | None


Tile = tuple[bytes, str, str]
"""What is shown of an input, empty where there is nothing; what it is; and a note."""


class Values:
    """How the numbers of inputs are taken: bytes are scaled by the network, all others are fed as they are.

    A model that learned from the one is shown the other, sometimes: then they are brought to what it learned from. What
    is no tensor, but a dict of them, stays as it is.

    Args:
        modality: of the inputs.
        network: that takes them.
    """

    bytes_are: ClassVar[str] = "uint8"
    """What bytes are, in messages."""
    ranged: ClassVar[bool] = False
    """Whether floats of 0..1 and of 0..255 are the same values in other units, as those of pictures are."""
    axes: ClassVar[int] = 4
    """How many a batch must have at least that ``dark`` is asked of."""

    def __init__(self, modality: Modality, network: Sighted) -> None:
        self.modality, self.network = modality, network
        self.called = modality.called

    def listed(self, inputs: Any) -> Any:
        """Return what a caller handed over as a list of items or as a batch; see ``Modality.listed``."""
        return self.modality.listed(inputs)

    def loaded(self, part: Batch) -> Batch:
        """Return loaded inputs ``[N, ...]`` in the type that they are fed in."""
        return part

    def scale(self, inputs: Any, some: Batch) -> Scale:
        """Return the scale of examples that a model is to learn from.

        Args:
            inputs: all of them, as ``listed`` returned them.
            some: the first of them, loaded.
        """
        return scale_of(some) if isinstance(some, Tensor) else ""

    def scale_of_call(self, inputs: Any, parts: Sequence[Callable[[], Batch]], taught: str) -> Scale:
        """Return the scale of all floats of a call together; nothing where none can differ from the others.

        Args:
            inputs: all of them, as ``listed`` returned them.
            parts: return them, loaded, one after the other.
            taught: the scale of those that the model learned from.
        """
        return ""

    def as_taught(self, part: Batch, taught: str, scale: Scale, name: str) -> Batch:
        """Return inputs in the scale of those that a model learned from; warn where that cannot be.

        Args:
            part: ``[N, ...]``, loaded.
            taught: the scale of the others.
            scale: what ``scale_of_call`` returned.
            name: of the first, for the warning.
        """
        if not isinstance(part, Tensor):
            return part
        if not self.ranged and taught != "uint8" and part.dtype != torch.uint8:
            return part
        fitting = rescaled(part, taught, scale)
        if fitting is not None:
            return fitting
        low, high = (float(value) for value in part.aminmax())
        if not np.isfinite(high - low) or "other" == scale != scale_of(part):
            return part  # what becomes of it, or of those that go beyond, is told elsewhere
        kind = str(part.dtype).removeprefix("torch.")
        told = (
            f"{self.bytes_are}, which it scales itself: floats of 0..1 or 0..255 are taken for them, and these go "
            "beyond"
            if taught == "uint8"
            else "floats that were prepared outside of it: prepare these as those were, for they are fed as they are"
        )
        warnings.warn(f"{name} is {kind} of {low:.3g} to {high:.3g}, and the model learned from {told}", DataWarning, 5)
        return part

    def caution(self, train: Tensor) -> str:
        """Say what is wrong with feeding the network with such loaded inputs in training; nothing where nothing is."""
        return ""

    def show(self, item: Any, example: Batch) -> bytes:
        """Return something small for eyes; see ``Modality.show``."""
        return self.modality.show(item, example)

    def beside(self, tiles: Sequence[Tile]) -> Any:
        """Return an input beside others, for eyes: here as lines of text, with what is shown where that is text."""
        if self.modality.shown_as == "text/plain":
            return "\n".join(f"{shown.decode()}  ({told}, {note})" for shown, told, note in tiles)
        return "\n".join(f"{told}, {note}" for _, told, note in tiles)

    def dark(self, part: Batch) -> str:
        """Say of loaded bytes of 0 and 1 what they are, and what helps; nothing of others."""
        if not isinstance(part, Tensor) or part.ndim < self.axes or part.dtype != torch.uint8 or not part.numel():
            return ""
        told = "whole numbers of 0 and 1, almost black where 255 is white: multiply them by 255, or give"
        return f"{told} {self.called} > 0" if int(part.max()) == 1 else ""
