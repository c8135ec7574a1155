"""What an input is: how one is read, shown, sent and made up; and the table of kinds of input by name.

Shapes: N inputs, ``...`` the shape of one input.
"""

from __future__ import annotations

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from quickstudy.batches import Batch, each
from quickstudy.data.frames import file_name
from quickstudy.data.samples import listed
from quickstudy.data.scan import listed_files
from quickstudy.data.table import Inputs
from quickstudy.data.targets import missing, numbered
from quickstudy.errors import ConfigError, DataError, DataWarning, check_options
from quickstudy.registry import Registry
from quickstudy.torch_internals import tree_leaves

# ---- numbers

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
    if taught in ("", scale) or (taught != "uint8" and scale != "uint8" and values.ndim != 4):
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
        """Return an input beside others, for eyes: here as lines of text, without what is shown."""
        return "\n".join(f"{told}, {note}" for _, told, note in tiles)

    def dark(self, part: Batch) -> str:
        """Say of loaded bytes of 0 and 1 what they are, and what helps; nothing of others."""
        if not isinstance(part, Tensor) or part.ndim < self.axes or part.dtype != torch.uint8 or not part.numel():
            return ""
        told = "whole numbers of 0 and 1, almost black where 255 is white: multiply them by 255, or give"
        return f"{told} {self.called} > 0" if int(part.max()) == 1 else ""


# ---- inputs


class Wire(NamedTuple):
    """How an input travels over HTTP."""

    field: str
    """Its name in a form and in JSON: ``"texts"``."""
    media: tuple[str, ...]
    """Types of files that hold one: ``("text/plain",)``; ``"image/*"`` stands for all of a family."""
    schema: Mapping[str, Any]
    """JSON schema of one in JSON."""


@dataclass(frozen=True)
class Modality(ABC):
    """What an input is: how one is read, shown, sent and made up.

    Its fields are plain values, sequences among them tuples: a checkpoint and a saved model hold it by its registered
    name and its ``options``, and equal ones read alike. It is callable, so that it is a ``load`` wherever one is taken.
    To make one, subclass it as a frozen dataclass, define ``load``, and register it::

        @MODALITIES.register("signal")
        @dataclass(frozen=True)
        class Signal(Modality):
            rate: int = 16_000

            def load(self, item): ...
    """

    called: ClassVar[str] = "inputs"
    """What several are called, for people: ``"pictures"``, ``"texts"``, ``"rows"``."""
    extensions: ClassVar[frozenset[str]] = frozenset()
    """Lower-case endings of its files; none: of any ending."""
    in_cells: ClassVar[bool] = False
    """Whether a column of a table holds the inputs themselves, and not names of files."""
    learned: ClassVar[tuple[str, ...]] = ()
    """The fields that ``fitted`` fills in: a model keeps those that it was trained with."""
    wire: ClassVar[Wire | None] = None
    """How one travels over HTTP; None: not at all."""
    shown_as: ClassVar[str] = ""
    """The media type of what ``show`` returns."""
    backbone: ClassVar[str] = ""
    """The name of the network that is taken where none is named; it works without the internet."""
    usual: ClassVar[Mapping[str, Any]] = {}
    """Its options where neither the user nor a trained model says otherwise."""
    advice: ClassVar[str] = ""
    """What to type where inputs come out in shapes that differ; the end of a message."""
    rules: ClassVar[type[Values]] = Values
    """How the numbers of such inputs are taken."""
    function: ClassVar[Callable[..., Any] | None] = None
    """A public function that does the same, ``function(item, **options)``: ``as_modality`` takes it for this."""

    def __call__(self, item: Any) -> Batch:
        """Read one input, as ``load`` does; a dict of tensors is one that was read, and stays as it is."""
        read = isinstance(item, dict) and item and all(isinstance(leaf, Tensor) for leaf in tree_leaves(item))
        return item if read else self.load(item)

    @abstractmethod
    def load(self, item: Any) -> Batch:
        """Return one example, a tensor or a dict of tensors without an axis of examples. Called in worker processes.

        Raises:
            DataError: it cannot be read; the message names it.
        """

    def listed(self, inputs: Any) -> Any:
        """Return what a caller handed over as a list of items, or as a batch ``[N, ...]`` that is fed as it is.

        One item alone, such as a path, counts as a list of one.

        Raises:
            DataError: they have no order, or are none.
        """
        return listed(inputs)

    def column(self, values: Sequence[Any], root: str | os.PathLike[str] | None = None, exist: bool = True) -> Inputs:
        """Return a column of a table as inputs: the cells, or the files that they name; see ``in_cells``.

        Args:
            values: the cells.
            root: the folder that names of files are relative to.
            exist: whether all files must exist.

        Raises:
            DataError: a cell is empty, or no name of a file; the message has its row.
        """
        if self.in_cells:
            gone = np.flatnonzero(missing(values))
            if len(gone):
                raise DataError(f"there is nothing in {numbered(gone)}")
            return list(values)
        return listed_files([file_name(value) for value in values], root, exist)

    def fitted(self, inputs: Inputs) -> Self:
        """Return it with what it must learn from the training inputs alone (a vocabulary, means, categories).

        A function of these, the same in every process; itself where there is nothing to learn or it has learned that.
        Before that, ``load`` reads an input as well as it can, and tells of one that it cannot read.
        """
        return self

    def show(self, item: Any, example: Batch) -> bytes:
        """Return something small for eyes, of the type ``shown_as``; nothing where there is nothing to see.

        Args:
            item: as it was handed over.
            example: what ``load`` made of it, as the model is fed with it.
        """
        return b""

    def from_wire(self, content: Any, name: str = "") -> Any:
        """Return the item, for ``load``, in a request's file (bytes) or JSON value.

        Args:
            content: of the file, or the value.
            name: as its sender calls it, for messages.
        """
        return content

    def within(self, most: int) -> Self:
        """Return it with a limit on what one input may cost that a stranger sent; itself where it has none.

        Args:
            most: pixels, tokens, samples: what it counts by.
        """
        return self

    def made_up(self, count: int, generator: torch.Generator, like: Batch | None = None) -> Batch:
        """Return inputs ``[count, ...]`` of the right form and no meaning: a graph is traced with them.

        Args:
            count: how many.
            generator: draws them.
            like: ``[n, ...]`` such as they shall be; None: its shape follows from the options.

        Raises:
            ConfigError: the shape is not known.
        """
        if like is None:
            raise ConfigError(f"the shape of its {self.called} is not known: give some")
        return each(partial(_noise, count, generator), like)

    def free_axes(self) -> dict[str, dict[int, str]]:
        """Return by leaf the axes beside the first that may have any length: ``{"ids": {1: "L"}}``."""
        return {}

    def recipe(self) -> dict[str, Any]:
        """Return in plain values how inputs are prepared, for who feeds an exported graph without quickstudy."""
        return {}

    def values(self, encoder: Sighted) -> Values:
        """Return how the numbers of such inputs are taken by a network."""
        return type(self).rules(self, encoder)

    # ---- as plain values

    @property
    def settings(self) -> dict[str, Any]:
        """All its fields by name."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @property
    def options(self) -> dict[str, Any]:
        """Its fields by name, but for those that are as by default: what a file holds."""
        return self._set

    @property
    def _set(self) -> dict[str, Any]:
        return {one.name: getattr(self, one.name) for one in fields(self) if getattr(self, one.name) != one.default}

    def with_options(self, options: Mapping[str, Any]) -> Self:
        """Return it with other values of some fields; lists, as JSON has them, become tuples.

        Raises:
            ConfigError: there is no such field, or a value is none.
        """
        check_options(type(self).__name__, options, [one.name for one in fields(self)])
        return replace(self, **{name: _tuples(value) for name, value in options.items()})

    def described(self) -> dict[str, Any] | None:
        """Return what a saved model holds of it, and ``modality_of`` reads: its name and its options."""
        return {"name": MODALITIES.name_of(type(self)), "options": self.options}


MODALITIES: Registry[type[Modality]] = Registry("modality", homes={"image": "quickstudy.image.modality"})
"""By name. Those of quickstudy's own domains are imported when they are asked for; whoever registers further ones
imports them, and nothing is imported because a file names it."""


@dataclass(frozen=True)
class Tensors(Modality):
    """Tensors, or arrays of numbers, which are fed as they are."""

    called = "tensors"
    function = staticmethod(torch.as_tensor)

    def load(self, item: Any) -> Batch:
        """Return it as a tensor."""
        return torch.as_tensor(item)

    def values(self, encoder: Sighted) -> Values:
        """Return how such numbers are taken: as pictures', where the network begins with a 2-D convolution."""
        return by_network(self, encoder)

    def described(self) -> None:
        """Return nothing: a saved model without a modality takes tensors."""


@dataclass(frozen=True)
class Code(Modality):
    """Whatever a function of one's own reads; no file holds it.

    Args:
        code: ``code(item, **keywords)`` is one example.
        keywords: its options.
    """

    code: Callable[..., Any]
    keywords: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def load(self, item: Any) -> Batch:
        """Return what the function makes of it."""
        return self.code(item, **self.keywords)

    def values(self, encoder: Sighted) -> Values:
        """Return how such numbers are taken: as pictures', where the network begins with a 2-D convolution."""
        return by_network(self, encoder)

    @property
    def settings(self) -> dict[str, Any]:
        """The function's options that were given."""
        return dict(self.keywords)

    @property
    def _set(self) -> dict[str, Any]:
        return self.settings

    def with_options(self, options: Mapping[str, Any]) -> Self:
        """Return it with other options of the function."""
        return replace(self, keywords={**self.keywords, **options})

    def described(self) -> dict[str, Any]:
        """Return that it has no name."""
        return {"name": None, "options": {}}


def as_modality(load: Any) -> Modality:
    """Return what inputs are, of any form of ``load``.

    Args:
        load: a ``Modality``; a function that one stands for, such as ``load_image``, or ``partial`` of it with options;
            ``torch.as_tensor``; or any other function, which becomes ``Code``.
    """
    if isinstance(load, Modality):
        return load
    function, options = (load.func, load.keywords) if isinstance(load, partial) and not load.args else (load, {})
    if function is torch.as_tensor and not options:
        return Tensors()
    for name in MODALITIES.registered():
        if MODALITIES[name].function is function:
            return MODALITIES[name]().with_options(options)
    return Code(function, options)


def modality_of(described: Mapping[str, Any] | None, place: object) -> Modality:
    """Return what ``described`` told of; nothing is imported that it names.

    Args:
        described: as a file has it; None: tensors.
        place: of the file, for messages.

    Raises:
        ConfigError: it is code, or of a name that is not known.
    """
    if described is None:
        return Tensors()
    if described["name"] is None:
        raise ConfigError(
            f"the model in '{place}' loads its inputs by code that is not quickstudy's: give the same function again, "
            "Predictor.load(folder, load=...)"
        )
    return MODALITIES[described["name"]]().with_options(described["options"])


def by_network(modality: Modality, encoder: Sighted) -> Values:
    """Return how numbers are taken by a network: as those of pictures where it begins with a 2-D convolution."""
    kind = MODALITIES["image"] if encoder.planar else Modality
    return kind.rules(modality, encoder)


def _noise(count: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """Return noise of all strengths."""
    noise = torch.rand(count, *like.shape[1:], generator=generator)
    noise *= torch.linspace(0.1, 1, count).view(-1, *(1,) * (like.ndim - 1))
    return (noise if like.is_floating_point() else 255 * noise).to(like.dtype)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


class OfDomain:
    """What the data and the tasks of a domain have in common: the kind of their inputs.

    A subclass sets ``modality``; or, in its place, ``load``, a function of one item, and ``default_load_options``, its
    keyword arguments where nobody says otherwise.
    """

    modality: Modality = Tensors()
    """What an input is."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        own, before = vars(cls), cls.modality
        if "load" in own and "modality" not in own:
            cls.modality = as_modality(cls.load)  # type: ignore[attr-defined]
            if isinstance(cls.modality, Code) and before._set:  # which takes what the one before it took
                cls.modality = cls.modality.with_options(before.options)
        if "default_load_options" in own:
            cls.modality = cls.modality.with_options(own["default_load_options"])
