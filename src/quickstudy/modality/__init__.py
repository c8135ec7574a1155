"""What an input is: how one is read, shown, sent and made up; and the table of kinds of input by name.

Shapes: N inputs, ``...`` the shape of one input.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quickstudy.batches import Batch, each, is_batch
from quickstudy.data.content import told_by
from quickstudy.data.frames import file_name
from quickstudy.data.likeness import digest
from quickstudy.data.samples import listed
from quickstudy.data.scan import listed_files
from quickstudy.data.table import Inputs
from quickstudy.data.targets import missing, numbered
from quickstudy.domains import DOMAINS, FURTHER_MODALITIES
from quickstudy.errors import ConfigError, DataError, check_options
from quickstudy.modality.pixels import by_network
from quickstudy.modality.values import Sighted
from quickstudy.modality.values import Values as Values
from quickstudy.registry import Registry


def one_of(called: str) -> str:
    """Return what one input is called, of what several are.

    >>> one_of("pictures"), one_of("series")
    ('picture', 'series')
    """
    return called if called.endswith("series") else called.removesuffix("s")


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
    telling: ClassVar[tuple[str, ...]] = ()
    """Ends of names of files that only a folder of its inputs has, whatever other files are there."""
    parts: ClassVar[frozenset[str]] = frozenset()
    """Lower-case endings of files of which all that lie in one folder are one input, which the folder names."""
    in_cells: ClassVar[bool] = False
    """Whether a column of a table holds the inputs themselves, and not names of files."""
    several_rows: ClassVar[bool] = False
    """Whether an input is several rows of a table, which ``listed`` tells apart, and not one."""
    in_words: ClassVar[bool] = False
    """Whether an input is words, as the name of a class is, which may then count as an example of it."""
    learned: ClassVar[tuple[str, ...]] = ()
    """The fields that ``fitted`` fills in: a model keeps those that it was trained with."""
    of_elements: ClassVar[tuple[str, ...]] = ()
    """The fields that matter where each element of an input is answered, as each point of a scene, or a text is."""
    of_network: ClassVar[tuple[str, ...]] = ()
    """Further fields that a network depends on: one that tells how it reads is trained so, and one that was trained
    goes on so, where the data does not say otherwise."""
    wire: ClassVar[Wire | None] = None
    """How one travels over HTTP; None: not at all."""
    on_hub: ClassVar[bool] = False
    """Whether the Hugging Face Hub has a task of its name, such as ``image-classification``."""
    shown_as: ClassVar[str] = ""
    """The media type of what ``show`` returns."""
    drawn_as: ClassVar[str] = ""
    """The ending of files that ``draw`` makes; none: it makes none."""
    views: ClassVar[str] = ""
    """The name of the transform that makes different views of one, for training without labels; none: it has none."""
    backbone: ClassVar[str] = ""
    """The name of the network that is taken where none is named; it works without the internet."""
    usual: ClassVar[Mapping[str, Any]] = {}
    """Its options where neither the user nor a trained model says otherwise."""
    advice: ClassVar[str] = ""
    """What to type where inputs come out in shapes that differ; the end of a message."""
    rules: ClassVar[type[Values]] = Values
    """How the numbers of such inputs are taken."""
    by_value: ClassVar[bool] = True
    """Whether arrays of a call are taken by their values, so that all have one scale."""
    makes_bytes: ClassVar[bool] = False
    """Whether ``load`` makes uint8 of floats of 0..1 and of 0..255."""
    function: ClassVar[Callable[..., Any] | None] = None
    """A public function that does the same, ``function(item, **options)``: ``as_modality`` takes it for this."""

    def __call__(self, item: Any) -> Batch:
        """Read one input, as ``load`` does; a dict of tensors is one that was read, and stays as it is."""
        return item if is_batch(item) else self.load(item)

    @abstractmethod
    def load(self, item: Any) -> Batch:
        """Return one example, a tensor or a dict of tensors without an axis of examples. Called in worker processes.

        Raises:
            DataError: it cannot be read; the message names it.
        """

    def lengths(self, inputs: Inputs) -> NDArray[np.int64] | None:
        """Return about how long each input is, ``[N]``, in any unit; None: they have no length."""
        return None

    def load_many(self, inputs: Inputs, rows: NDArray[np.int64]) -> Batch | None:
        """Return some examples as one batch, as ``stack`` makes it of what ``load`` returns, where that is faster.

        Only where all inputs have one shape; None: they are loaded one by one, as they are where one cannot be read.

        Args:
            inputs: as ``column`` returned them.
            rows: ``[n]``, which of them.
        """
        return None

    def listed(self, inputs: Any) -> Any:
        """Return what a caller handed over as a list of items, or as a batch ``[N, ...]`` that is fed as it is.

        One item alone, such as a path, counts as a list of one; of a data frame it is the only column, or the one that
        is called as one of them is: ``"text"``, ``"image"``.

        Raises:
            DataError: they have no order, or are none.
        """
        return listed(inputs, self.called if self.wire is None else self.wire.field)

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
        return listed_files([file_name(value) for value in values], root, exist, bool(self.parts))

    @classmethod
    def looks_like_one(cls, value: Any) -> bool:
        """Whether a value, such as a table's cell, is such an input by its looks, where nobody says what it is.

        Names of files are known by ``extensions``, and never asked about. By default nothing is.
        """
        return False

    def fitted(self, inputs: Inputs) -> Self:
        """Return it with what it must learn from the training inputs alone (a vocabulary, means, categories).

        A function of these, the same in every process; itself where there is nothing to learn or it has learned that.
        Before that, ``load`` reads an input as well as it can, and tells of one that it cannot read.
        """
        return self

    def to_draw_from(self) -> Callable[[Any], Batch]:
        """Return what loads an example of the training data, which ``draws`` is shown; itself where that is the same.

        It may load more of an input than a network is shown at once.
        """
        return self

    def draws(self) -> Callable[[Batch], Batch] | None:
        """Return what draws that of a loaded example which training is shown, such as one of its windows; None: all.

        It runs before the transform of the training data, and what is random in it follows from the same seed. Of
        a tensor that is fed as it is all is shown.
        """
        return None

    def show(self, item: Any, example: Batch) -> bytes:
        """Return something small for eyes, of the type ``shown_as``; nothing where there is nothing to see.

        Args:
            item: as it was handed over.
            example: what ``load`` made of it, as the model is fed with it.
        """
        return b""

    def draw(self, item: Any, told: Mapping[str, Any], labels: Sequence[str]) -> bytes:
        """Return an input with an answer drawn into it, in a file of the type ``drawn_as``.

        Args:
            item: as it was handed over.
            told: the answer, as ``Kind.in_json`` tells it.
            labels: of all classes, which say their colours.

        Raises:
            ConfigError: nothing is drawn into such inputs.
        """
        raise ConfigError(f"nothing can be drawn into {self.called}: leave drawings out")

    def draw_mistakes(self, example: Batch, told: Mapping[str, Any]) -> bytes:
        """Return an input with what ``Kind.mistakes`` tells drawn into it, in a file of the type ``drawn_as``.

        Args:
            example: as the model was fed with it.
            told: where its answer is wrong.
        """
        return b""

    def sketch(self, item: Any) -> bytes | Tensor:
        """Return what an input has in common with those that are nearly the same: a repetition tells nothing new.

        Bytes, where those with equal ones are; or a small picture, uint8 ``[3, SIDE, SIDE]`` (``data.likeness``), where
        those that look alike are. By default its content, as it is.

        Raises:
            TypeError: there is no telling.
            DataError: it cannot be read.
        """
        return digest(*told_by(item))

    def raw(self) -> tuple[nn.Module | str, Self]:
        """Return what makes features of inputs without weights, as a module or by its name, and what it reads them by.

        What is trained must surpass a comparison of these: of pixels, of words in common, of columns.
        """
        return nn.Flatten(), self

    def from_wire(self, content: Any, name: str = "") -> Any:
        """Return the item, for ``load``, in a request's file (bytes) or JSON value.

        A stranger sent it: a text must not become what ``load`` takes for the name of a file.
        ``quickstudy.data.samples.Sent(content, name)`` reads like a file, and refuses texts.

        Args:
            content: of the file, or the value.
            name: as its sender calls it, for messages.

        Raises:
            DataError: it is a text where a file is due.
        """
        if isinstance(content, str) and self.extensions and not self.in_words:
            raise DataError(f"a text was sent where one of {self.called} is due: send a file, or its bytes in base64")
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

    def for_backbone(self) -> dict[str, Any]:
        """Return in plain values what a network must be made for, by its options; nothing before that is known.

        A backbone that takes options of these names, as ``{"numbers": 3}`` of a table's columns, is made with them once
        the inputs are known, unless a user gave them. A checkpoint and a saved model hold them with its other options.
        """
        return {}

    def recipe(self) -> dict[str, Any]:
        """Return in plain values how inputs are prepared, for who feeds an exported graph without quickstudy."""
        return {}

    @property
    def column_names(self) -> tuple[str, ...] | None:
        """The columns of a table that an input is a row of, nothing before they are known; None: it is of one alone."""
        return None

    @property
    def used_columns(self) -> tuple[str, ...]:
        """Those of them that each input must have."""
        return self.column_names or ()

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


MODALITIES: Registry[type[Modality]] = Registry(
    "modality",
    homes={
        name: f"quickstudy.{module}"
        for name, module in ({domain: f"{domain}.modality" for domain in DOMAINS} | FURTHER_MODALITIES).items()
    },
)
"""By name. Those of quickstudy's own domains are imported when they are asked for; whoever registers further ones
imports them, and nothing is imported because a file names it."""


@dataclass(frozen=True)
class Tensors(Modality):
    """Tensors, or arrays of numbers, which are fed as they are."""

    called = "tensors"
    values = by_network
    function = staticmethod(torch.as_tensor)

    def load(self, item: Any) -> Batch:
        """Return it as a tensor."""
        return torch.as_tensor(item)

    def described(self) -> None:
        """Return nothing: a saved model without a modality takes tensors."""


@dataclass(frozen=True)
class Code(Modality):
    """Whatever a function of one's own reads; no file holds it.

    Args:
        code: ``code(item, **keywords)`` is one example.
        keywords: its options.
    """

    values = by_network
    by_value = False

    code: Callable[..., Any]
    keywords: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def load(self, item: Any) -> Batch:
        """Return what the function makes of it."""
        return self.code(item, **self.keywords)

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
    holds_targets: ClassVar[bool] = False
    """Whether the files of inputs may hold their targets, so that none need be given."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        own, before = vars(cls), cls.modality
        if "load" in own and "modality" not in own:
            cls.modality = as_modality(cls.load)  # type: ignore[attr-defined]
            if isinstance(cls.modality, Code) and before._set:  # which takes what the one before it took
                cls.modality = cls.modality.with_options(before.options)
        if "default_load_options" in own:
            cls.modality = cls.modality.with_options(own["default_load_options"])
