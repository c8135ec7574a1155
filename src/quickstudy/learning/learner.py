"""Learning and forgetting classes from examples: an encoder, an algorithm, and what it keeps of the support set.

Shapes: N inputs, S support examples, n examples of one class, W classes, ``...`` the shape of one input.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_leaves

from quickstudy.algorithms import Algorithm, EmbeddingAlgorithm, Held
from quickstudy.algorithms.rows import Rows
from quickstudy.data.samples import Samples, listed
from quickstudy.data.targets import Label, LabelType, encode, label_of, read_as, type_of
from quickstudy.errors import DataError, DataWarning, TakenError, UnknownClassError, closest, one_line
from quickstudy.learning.changes import Change, Support, Thumbnails, changed, check_name
from quickstudy.learning.confidence import familiarity
from quickstudy.nets import Encoder
from quickstudy.pictures import (
    WHITER,
    Scale,
    almost_black,
    as_taught,
    load_image,
    of_one_scale,
    scale_of,
    scale_together,
    separated,
    thumbnail_of,
    together,
    whole_numbers,
)

_AT_ONCE = 64
_SEEN = 16  # examples that tell the scale of all
TYPES = {"str": "strings", "int": "whole numbers", "bool": "True and False", None: "none yet"}
"""By ``LabelType``, in words."""
_FEW = 20  # changes, which cost less one by one where each costs its class alone


class Learner:
    """Learns, forgets and renames classes; an update that fails changes nothing.

    It keeps what its algorithm needs of the examples (embeddings, for most), so that whatever was changed, it answers
    as one that learned the same examples from scratch. The encoder is copied unless nothing trains it.

    Args:
        encoder: turns inputs into embeddings.
        algorithm: learns classes with it.
        load: makes a tensor of one input; default: inputs are tensors already.
    """

    def __init__(self, encoder: Encoder, algorithm: Algorithm, load: Callable[[Any], Any] = torch.as_tensor) -> None:
        self._encoder, self._algorithm, self._load = _frozen(encoder), _frozen(algorithm), load
        self._support: Support = {}
        self._thumbnails: Thumbnails = {}
        self.before_change: Callable[[Change], None] | None = None
        """Called with every change of a class once nothing but this call can fail; if it raises, nothing changes."""
        self._taught: str = encoder.fed
        """The scale of the inputs that it learned from, one of ``pictures.Scale``."""
        self._state: Any = None
        self._means: Rows | None = None  # of embeddings, by class
        self._like: Tensor | None = None  # [0, ...], of the shape and the type of its examples as they were shown

    @property
    def transductive(self) -> bool:
        """Whether an answer depends on the other inputs of the call."""
        sees: bool = self._algorithm.sees_queries(self._encoder)
        return sees

    @property
    def classes_(self) -> NDArray[Any]:
        """``[W]`` classes as they were taught (strings, ints or bools), in the order of ``predict_proba``'s columns."""
        return np.array(list(self._support), None if self._support else np.str_)

    @property
    def counts_(self) -> dict[Label, int]:
        """How many examples of each class it has seen."""
        return {name: len(kept) for name, kept in self._support.items()}

    def thumbnails(self, name: Label) -> tuple[bytes, ...]:
        """Return a small JPEG of each example of a class; nothing for one that is no picture, or came without.

        Raises:
            UnknownClassError: there is no such class.
        """
        return self._thumbnails[self._known(name)]

    def __contains__(self, name: object) -> bool:
        """Whether it knows a class of this name."""
        try:
            label = label_of(name)
        except DataError:
            return False
        return label in self._support and type_of(label) == self._label_type

    @property
    def _label_type(self) -> LabelType | None:
        """What its classes are named by; None without classes."""
        return next(map(type_of, self._support), None)

    def as_class(self, text: Label) -> Label:
        """Return the class that a text means where nothing but text can be written, as in a path of HTTP.

        ``"2"`` is the class 2 where classes are numbers, ``"true"`` the class True where they are bools.
        """
        label = label_of(text)
        return read_as(label, self._label_type) if self._label_type else label

    def fit(self, inputs: Any, labels: Any) -> Self:
        """Learn a support set, in place of all that was learned before.

        Args:
            inputs: 1..n examples per class, each anything that ``load`` takes; or a tensor or array ``[S, ...]`` of
                all, pictures ``[S, C, H, W]``, ``[S, H, W, C]`` or ``[S, H, W]``. What comes later in another scale of
                pictures (0..255, or 0..1) is brought to theirs.
            labels: S labels, one per example: all strings, all whole numbers or all bools. It answers in their type.

        Raises:
            DataError: there are no examples, the lengths differ, or an input cannot be read.
        """
        examples = self._listed(inputs)
        encoded = encode(labels)
        codes, classes = encoded.codes, encoded.labels
        if codes.ndim != 1:
            raise DataError("a predictor learns one label per example; these targets have several")
        if len(examples) != len(codes):
            raise DataError(f"{len(examples)} examples but {len(codes)} labels: each example needs one label")
        for name in classes:
            check_name(name)
        before = self._taught
        try:
            self._taught = self._scale(examples)
            kept_S, thumbnails = self._keep(examples, len(classes))
        except BaseException:
            self._taught = before
            raise
        rows = {name: np.flatnonzero(codes == code) for code, name in enumerate(classes)}
        support = {name: kept_S[torch.from_numpy(own).to(kept_S.device)] for name, own in rows.items() if len(own)}
        self._learn(support)
        self._thumbnails = {name: tuple(thumbnails[row] for row in rows[name]) for name in support}
        return self

    def add_class(self, name: Label, inputs: Any) -> Self:
        """Learn a further class from 1..n examples; its column is the last. Its name is of the others' type.

        Raises:
            TakenError: there is such a class.
            DataError: there are no examples, or one cannot be read.
            ConfigError: the algorithm's head was trained for a fixed number of classes.
        """
        label = self._new(name)
        if label in self._support:
            raise TakenError(f"the class {label!r} exists: type add_examples({label!r}, ...) to show more of it")
        return self.apply(self._addition(label, inputs))

    def add_examples(self, name: Label, inputs: Any) -> Self:
        """Learn a known class from 1..n further examples.

        Raises:
            UnknownClassError: there is no such class.
            DataError: there are no examples, or one cannot be read.
        """
        return self.apply(self._addition(self._known(name), inputs))

    def remove_class(self, name: Label) -> Self:
        """Forget a class.

        Raises:
            UnknownClassError: there is no such class.
            ConfigError: the algorithm's head was trained for a fixed number of classes.
        """
        return self.apply(Change("remove", self._known(name)))

    def rename_class(self, name: Label, new_name: Label) -> Self:
        """Call a class by another name; its column stays.

        Raises:
            UnknownClassError: there is no class of the one name.
            TakenError: there is one of the other.
        """
        old, new = self._known(name), self._new(new_name)
        if new in self._support and new != old:
            raise TakenError(f"the class {new!r} exists: remove it first, or choose another name")
        return self.apply(Change("rename", old, new))

    def apply(self, change: Change) -> Self:
        """Make a change that ``before_change`` told of, here or in another process.

        Raises:
            ConfigError: the algorithm's head was trained for a fixed number of classes.
        """
        self._make([change], lambda: self.before_change and self.before_change(change))
        return self

    def take_up(self, changes: Sequence[Change]) -> None:
        """Make changes that were made elsewhere, all or none (``DataError``): many cost no more than learning anew."""
        changed(self._support, self._thumbnails, changes)  # so that all can be made
        one_by_one = len(changes) <= _FEW and isinstance(self._state, Held)
        for part in [[change] for change in changes] if one_by_one else [changes]:
            self._make(part)

    def _make(self, changes: Sequence[Change], announce: Callable[[], object] = lambda: None) -> None:
        support, thumbnails = changed(self._support, self._thumbnails, changes)
        if all(change.kind == "rename" for change in changes):
            announce()
            self._support = support
        else:
            self._learn(support, changes[0] if len(changes) == 1 else None, announce)
        self._thumbnails = thumbnails

    def _learn(
        self, support: Support, change: Change | None = None, announce: Callable[[], object] = lambda: None
    ) -> None:
        """Take a support set for the known one, from which it differs by a change, or in all."""
        if not support:
            announce()
            self._support, self._state, self._means = {}, None, None
            return
        name = None if change is None else change.name
        place = list(self._support).index(name) if name in self._support else None
        finish = None
        if name is None or (learned := self._held()) is None:
            learned = self._adapted(support)
        else:
            with torch.inference_mode(), torch.autocast(next(iter(support.values())).device.type, enabled=False):
                finish = learned.prepared(place, self._support.get(name), support.get(name))
        announce()
        # Nothing fails from here on.
        if finish is not None:
            with torch.inference_mode():
                finish()
        self._state = learned
        if isinstance(self._algorithm, EmbeddingAlgorithm):
            if name is None or self._means is None:
                self._means = _means_of(support)
            else:
                self._means.change(place, support[name].mean(0, keepdim=True) if name in support else None)
        self._support = support

    def _restore(self, support: Support, thumbnails: Thumbnails, state: Any) -> None:
        """Take up what was learned elsewhere."""
        self._support, self._state = support, state
        self._thumbnails = {name: thumbnails.get(name) or (b"",) * len(kept) for name, kept in support.items()}
        if support and isinstance(self._algorithm, EmbeddingAlgorithm):
            self._means = _means_of(support)

    @property
    def _learned(self) -> Any:
        return self._state.state if isinstance(self._state, Held) else self._state

    def _held(self) -> Held | None:
        """Return what was learned in a form that can be changed, if there is one."""
        if not self._support or isinstance(self._state, Held) or not isinstance(self._algorithm, EmbeddingAlgorithm):
            return self._state if isinstance(self._state, Held) else None
        with torch.inference_mode():
            return self._algorithm.hold(self._state, list(self._support.values()))

    @torch.inference_mode()
    def _adapted(self, support: Support) -> Any:
        kept_S = torch.cat(list(support.values()))
        counts = torch.tensor([len(kept) for kept in support.values()])
        targets_S = torch.arange(len(counts)).repeat_interleave(counts).to(kept_S.device)
        state = self._algorithm.adapt(self._encoder, kept_S, targets_S, len(counts))
        _check_finite(state)
        return state

    def _keep(self, inputs: Any, ways: int) -> tuple[Tensor, tuple[bytes, ...]]:
        """Return what is kept of examples, ``[n, ...]``, and their thumbnails."""
        if not len(inputs):
            raise DataError("no examples were given: adapting needs at least one per class")
        if not self._algorithm.feature_shape:
            shape = self._feature_shape(inputs)
            self._algorithm.meet(self._encoder, shape, ways)
        with self._explained(inputs), torch.inference_mode():
            thumbnails: list[bytes] = []
            shown: list[Tensor] = []

            def parts() -> Iterator[Tensor]:
                for part in self._parts(inputs, thumbnails):
                    shown.append(part[:0].cpu())
                    yield part

            kept: Tensor = self._algorithm.keep(self._encoder, parts())
            _check_finite(kept)
            self._like = shown[0]
            return kept, tuple(thumbnails)

    def _addition(self, name: Label, inputs: Any) -> Change:
        examples = self._listed(inputs)
        if not self._support:
            self._taught = self._scale(examples)
        kept, thumbnails = self._keep(examples, len(self._support) + (name not in self._support))
        new, known = (tuple(each.shape[1:]) for each in (kept, next(iter(self._support.values()), kept)))
        if new != known:
            raise DataError(
                f"what it keeps of {Samples(examples, self._load).name(0)} has the shape {new}, and of the examples so "
                f"far {known}: give inputs of the size that it was trained on"
            )
        return Change("add", name, "", kept, thumbnails)

    @contextmanager
    def _explained(self, inputs: Any) -> Iterator[None]:
        """Say of inputs that do not fit what they are and what was learned."""
        try:
            yield
        except RuntimeError as error:
            shape = self._feature_shape(inputs)
            if shape == self._algorithm.feature_shape:
                raise
            raise DataError(
                f"inputs like {Samples(inputs, self._load).name(0)} become features of shape {shape}, and the model "
                f"was trained on {self._algorithm.feature_shape}: give inputs of the size that it was trained on"
            ) from error

    def _known(self, name: Label) -> Label:
        label = label_of(name)
        if label not in self:
            known = [one_line(each) for each in self._support]
            near = closest(one_line(label), known) if isinstance(label, str) else "."
            if self._label_type and type_of(label) != self._label_type:
                near = f": the classes are {TYPES[self._label_type]}{self._to_type(label)}."
            raise UnknownClassError(f"there is no class {label!r}{near} Known: {', '.join(known[:30]) or 'none yet'}.")
        return label

    def _new(self, name: Label) -> Label:
        label = label_of(name)
        check_name(label)
        if self._label_type and type_of(label) != self._label_type:
            kind = TYPES[self._label_type]
            raise DataError(f"the classes are {kind}, and a further one cannot be {label!r}{self._to_type(label)}")
        return label

    def _to_type(self, label: Label) -> str:
        assert self._label_type is not None
        meant = read_as(label, self._label_type)
        return "" if type_of(meant) != self._label_type else f": type {meant!r}"

    @torch.inference_mode()
    def _answers(self, inputs: Any) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return ``[N, W]`` logits, how familiar each input is ``[N]``, and embeddings ``[N, D]`` where it has any."""
        if not self._support:
            raise DataError("it knows no class yet: type fit(images, labels) or add_class(name, images)")
        examples = self._listed(inputs)
        if not len(examples):
            return torch.empty((0, len(self._support))), torch.empty(0), None
        logits_NW: Tensor
        embedded_ND: Tensor | None = None
        with self._explained(examples):
            if self._means is None:
                logits_NW = self._algorithm.predict(self._encoder, self._learned, self._parts(examples))
                familiar_N = logits_NW.amax(1)
            else:
                embedded_ND = self._algorithm.keep(self._encoder, self._parts(examples))
                logits_NW = self._algorithm.answer(self._encoder, self._learned, embedded_ND)
                familiar_N = familiarity(embedded_ND, self._means.used)
        wrong = logits_NW.isnan().any(1).nonzero().flatten().tolist()
        if wrong:
            name = Samples(examples, self._load).name(wrong[0])
            raise DataError(f"the model's answer to {name} is not a number: does it hold NaN or infinite values?")
        return logits_NW, familiar_N, embedded_ND

    def _listed(self, inputs: Any) -> Any:
        """Return a tensor ``[N, ...]`` or a list of items, whatever the axes of pictures."""
        found, channels = listed(inputs), self._encoder.in_channels
        if not self._encoder.sees_pictures:
            return found
        if isinstance(found, Tensor) and channels is not None:
            found = separated(found, channels)
        return of_one_scale(found) if isinstance(found, Tensor) or self._reads_pictures else found

    @property
    def _reads_pictures(self) -> bool:
        """Whether pictures in memory are taken by their values."""
        return (self._load.func if isinstance(self._load, partial) else self._load) in (load_image, torch.as_tensor)

    def _scale(self, inputs: Any) -> str:
        """Return the scale that examples have, or are brought to: floats may be pictures where files may be."""
        trained: str = self._encoder.fed
        if trained or not len(inputs):
            return trained
        samples = Samples(inputs, self._load)
        first = samples.batch(np.arange(min(len(samples), _SEEN)))
        if not self._encoder.sees_pictures:
            return scale_of(first)
        scale = scale_of(whole_numbers(first))
        scale = scale if scale == "uint8" else together((scale, scale_together(inputs) if self._reads_pictures else ""))
        function = self._load.func if isinstance(self._load, partial) else self._load
        return "uint8" if function is load_image and scale in ("0..1", "0..255") else scale

    def _scale_of_call(self, inputs: Any, samples: Samples, groups: Sequence[NDArray[Any]]) -> Scale:
        """Return the scale of all floats of a call together; nothing where none can differ from the others."""
        if not self._encoder.sees_pictures or isinstance(inputs, Tensor) or self._reads_pictures:
            return scale_together(inputs) if self._encoder.sees_pictures else ""
        if len(groups) == 1 or self._taught not in ("uint8", "0..255"):
            return ""
        return together(scale_of(self._loaded(samples, rows)) for rows in groups)  # own floats, which are read twice

    def _loaded(self, samples: Samples, rows: NDArray[Any]) -> Tensor:
        part = samples.batch(rows)
        return whole_numbers(part) if self._encoder.sees_pictures else part

    def _feature_shape(self, inputs: Any) -> tuple[int, ...]:
        one = self._loaded(Samples(inputs, self._load), np.array([0]))
        shape: tuple[int, ...] = self._encoder.feature_shape(one.to(self._device))
        return shape

    def _as_taught(self, part: Tensor, name: str, scale: Scale) -> Tensor:
        fitting = as_taught(part, self._taught, scale)
        if fitting is not None:
            return fitting
        low, high = (float(value) for value in part.aminmax())
        if not math.isfinite(high - low) or "other" == scale != scale_of(part):
            return part  # what becomes of it, or of those that go beyond, is told elsewhere
        kind = str(part.dtype).removeprefix("torch.")
        told = (
            "uint8 pictures, which it scales itself: floats of 0..1 or 0..255 are taken for them, and these go beyond"
            if self._taught == "uint8"
            else "floats that were prepared outside of it: prepare these as those were, for they are fed as they are"
        )
        warnings.warn(f"{name} is {kind} of {low:.3g} to {high:.3g}, and the model learned from {told}", DataWarning, 4)
        return part

    def _parts(self, inputs: Any, thumbnails: list[bytes] | None = None) -> Iterator[Tensor]:
        samples = Samples(inputs, self._load)
        groups = np.split(np.arange(len(inputs)), range(_AT_ONCE, len(inputs), _AT_ONCE))
        scale, black = self._scale_of_call(inputs, samples, groups), True
        for rows in groups:
            loaded = self._loaded(samples, rows)
            black = black and almost_black(loaded) and (self._encoder.sees_pictures or loaded.ndim == 4)
            part = self._as_taught(loaded, samples.name(int(rows[0])), scale)
            if thumbnails is not None:
                thumbnails += map(thumbnail_of, part)
            yield part.to(self._device)
        if black:
            warnings.warn(f"the pictures, {samples.name(0)} the first, are {WHITER}", DataWarning, 4)

    @property
    def _device(self) -> torch.device:
        return next((tensor.device for tensor in self._encoder.state_dict().values()), torch.device("cpu"))


def _means_of(support: Support) -> Rows:
    return Rows(torch.stack([kept_n.mean(0) for kept_n in support.values()]))


def _check_finite(learned: Any) -> None:
    if not all(leaf.isfinite().all() for leaf in tree_leaves(learned) if isinstance(leaf, Tensor)):
        raise DataError(
            "what was learned is not finite: an example holds NaN or infinite values, or the model was trained until "
            "it diverged"
        )


def _frozen(module: Any) -> Any:
    """Return a copy that nothing trains; or the module itself, where nothing does."""
    trains = any(part.training for part in module.modules()) or any(each.requires_grad for each in module.parameters())
    return copy.deepcopy(module).eval().requires_grad_(False) if trains else module
