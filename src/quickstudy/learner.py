"""Learning and forgetting classes from examples: an encoder, an algorithm, and what it keeps of the support set.

Shapes: N inputs, S support examples, n examples of one class, W classes, ``...`` the shape of one input.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_leaves

from quickstudy.algorithms import Algorithm, EmbeddingAlgorithm
from quickstudy.confidence import familiarity
from quickstudy.data.samples import Samples
from quickstudy.data.targets import encode
from quickstudy.errors import DataError, closest
from quickstudy.nets import Encoder
from quickstudy.rows import Rows

_AT_ONCE = 64
UNKNOWN = "unknown"
"""What is answered for an input that is like none of the examples; no class can have that name."""

Support = dict[str, Tensor]
"""By class, in the order of the classes: what the algorithm keeps of its examples, ``[n, ...]``."""


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
        self._state: Any = None
        self._means: Rows | None = None  # of embeddings, by class

    @property
    def transductive(self) -> bool:
        """Whether an answer depends on the other inputs of the call."""
        sees: bool = self._algorithm.sees_queries(self._encoder)
        return sees

    @property
    def classes_(self) -> NDArray[np.str_]:
        """``[W]`` class names, in the order of the columns of ``predict_proba``."""
        return np.array(list(self._support), np.str_)

    @property
    def counts_(self) -> dict[str, int]:
        """How many examples of each class it has seen."""
        return {name: len(kept) for name, kept in self._support.items()}

    def fit(self, inputs: Any, labels: Any) -> Self:
        """Learn a support set, in place of all that was learned before.

        Args:
            inputs: 1..n examples per class, each anything that ``load`` takes, or a tensor or array ``[S, ...]``.
            labels: S labels, strings or integers; one per example.

        Raises:
            DataError: there are no examples, the lengths differ, or an input cannot be read.
        """
        listed = _listed(inputs)
        codes, classes = encode(labels)
        if codes.ndim != 1:
            raise DataError("a predictor learns one label per example; these targets have several")
        if len(listed) != len(codes):
            raise DataError(f"{len(listed)} examples but {len(codes)} labels: each example needs one label")
        for name in classes:
            _check_name(name)
        kept_S = self._keep(listed, len(classes))
        order = np.argsort(codes, kind="stable")
        counts = np.bincount(codes, minlength=len(classes))
        parts = torch.split(kept_S[torch.from_numpy(order).to(kept_S.device)], counts.tolist())
        self._learn({name: part for name, part in zip(classes, parts, strict=True) if len(part)})
        return self

    def add_class(self, name: str, inputs: Any) -> Self:
        """Learn a further class from 1..n examples; its column is the last.

        Raises:
            DataError: there is such a class, there are no examples, or one cannot be read.
            ConfigError: the algorithm's head was trained for a fixed number of classes.
        """
        if name in self._support:
            raise DataError(f"the class '{name}' exists: type add_examples({name!r}, ...) to show more of it")
        _check_name(name)
        self._learn({**self._support, name: self._keep(_listed(inputs), len(self._support) + 1)}, name)
        return self

    def add_examples(self, name: str, inputs: Any) -> Self:
        """Learn a known class from 1..n further examples.

        Raises:
            DataError: there is no such class, there are no examples, or one cannot be read.
        """
        self._check_known(name)
        more = self._keep(_listed(inputs), len(self._support))
        self._learn({**self._support, name: torch.cat([self._support[name], more])}, name)
        return self

    def remove_class(self, name: str) -> Self:
        """Forget a class.

        Raises:
            DataError: there is no such class.
            ConfigError: the algorithm's head was trained for a fixed number of classes.
        """
        self._check_known(name)
        self._learn({other: kept for other, kept in self._support.items() if other != name}, name)
        return self

    def rename_class(self, name: str, new_name: str) -> Self:
        """Call a class by another name; its column stays.

        Raises:
            DataError: there is no class of the one name, or one of the other.
        """
        self._check_known(name)
        if new_name in self._support and new_name != name:
            raise DataError(f"the class '{new_name}' exists: remove it first, or choose another name")
        _check_name(new_name)
        self._support = {new_name if other == name else other: kept for other, kept in self._support.items()}
        return self

    def _learn(self, support: Support, changed: str | None = None) -> None:
        """Take a support set for the known one, from which it differs in one class, or in all."""
        if not support:
            self._support, self._state, self._means = {}, None, None
            return
        place = list(self._support).index(changed) if changed in self._support else None
        alone = changed is not None and isinstance(self._state, Rows)
        learned = None
        if not alone:
            learned = self._adapted(support)
        elif changed in support:
            learned = self._adapted({changed: support[changed]})
        # Nothing fails from here on.
        if alone:
            _change(self._state, place, learned)
        else:
            self._state = self._as_held(learned)
        if isinstance(self._algorithm, EmbeddingAlgorithm):
            if changed is None or self._means is None:
                self._means = Rows(torch.stack([kept_n.mean(0) for kept_n in support.values()]))
            else:
                _change(self._means, place, support[changed].mean(0, keepdim=True) if changed in support else None)
        self._support = support

    def _restore(self, support: Support, state: Any) -> None:
        """Take up what was learned elsewhere."""
        self._support, self._state = support, self._as_held(state)
        if support and isinstance(self._algorithm, EmbeddingAlgorithm):
            self._means = Rows(torch.stack([kept_n.mean(0) for kept_n in support.values()]))

    @property
    def _learned(self) -> Any:
        return self._state.used if isinstance(self._state, Rows) else self._state

    def _as_held(self, state: Any) -> Any:
        by_class = isinstance(self._algorithm, EmbeddingAlgorithm) and self._algorithm.by_class
        return Rows(state) if by_class and state is not None else state

    @torch.inference_mode()
    def _adapted(self, support: Support) -> Any:
        kept_S = torch.cat(list(support.values()))
        counts = torch.tensor([len(kept) for kept in support.values()])
        targets_S = torch.arange(len(counts)).repeat_interleave(counts).to(kept_S.device)
        state = self._algorithm.adapt(self._encoder, kept_S, targets_S, len(counts))
        if not all(leaf.isfinite().all() for leaf in tree_leaves(state) if isinstance(leaf, Tensor)):
            raise DataError(
                "what was learned is not finite: an example holds NaN or infinite values, or the model was trained "
                "until it diverged"
            )
        return state

    def _keep(self, inputs: Any, ways: int) -> Tensor:
        """Return what is kept of examples, ``[n, ...]``."""
        if not len(inputs):
            raise DataError("no examples were given: adapting needs at least one per class")
        if not self._algorithm.feature_shape:
            shape = self._encoder.feature_shape(next(self._parts(inputs))[:1])
            self._algorithm.meet(self._encoder, shape, ways)
        with self._explained(inputs), torch.inference_mode():
            kept: Tensor = self._algorithm.keep(self._encoder, self._parts(inputs))
            known = next(iter(self._support.values()), kept)
            if kept.shape[1:] != known.shape[1:]:
                raise RuntimeError(f"{kept.shape} do not go with {known.shape}")
            return kept

    @contextmanager
    def _explained(self, inputs: Any) -> Iterator[None]:
        """Say of inputs that do not fit what they are and what was learned."""
        try:
            yield
        except RuntimeError as error:
            shape = self._encoder.feature_shape(next(self._parts(inputs))[:1])
            if shape == self._algorithm.feature_shape:
                raise
            raise DataError(
                f"inputs like {Samples(inputs, self._load).name(0)} become features of shape {shape}, and the model "
                f"was trained on {self._algorithm.feature_shape}: give inputs of the size that it was trained on"
            ) from error

    def _check_known(self, name: str) -> None:
        if name not in self._support:
            known = ", ".join(list(self._support)[:30]) or "none yet"
            raise DataError(f"there is no class '{name}'{closest(str(name), self._support)} Known: {known}.")

    @torch.inference_mode()
    def _answers(self, inputs: Any) -> tuple[Tensor, Tensor]:
        """Return ``[N, W]`` logits, and how familiar each input is, ``[N]``."""
        if not self._support:
            raise DataError("it knows no class yet: type fit(images, labels) or add_class(name, images)")
        listed = _listed(inputs)
        if not len(listed):
            return torch.empty((0, len(self._support))), torch.empty(0)
        logits_NW: Tensor
        with self._explained(listed):
            if self._means is None:
                logits_NW = self._algorithm.predict(self._encoder, self._learned, self._parts(listed))
                familiar_N = logits_NW.amax(1)
            else:
                embedded_ND: Tensor = self._algorithm.keep(self._encoder, self._parts(listed))
                logits_NW = self._algorithm.answer(self._encoder, self._learned, embedded_ND)
                familiar_N = familiarity(embedded_ND, self._means.used)
        wrong = logits_NW.isnan().any(1).nonzero().flatten().tolist()
        if wrong:
            name = Samples(listed, self._load).name(wrong[0])
            raise DataError(f"the model's answer to {name} is not a number: does it hold NaN or infinite values?")
        return logits_NW, familiar_N

    def _parts(self, inputs: Any) -> Iterator[Tensor]:
        device = next((tensor.device for tensor in self._encoder.state_dict().values()), torch.device("cpu"))
        samples = Samples(inputs, self._load)
        for rows in np.split(np.arange(len(inputs)), range(_AT_ONCE, len(inputs), _AT_ONCE)):
            yield samples.batch(rows).to(device)


def _change(rows: Rows, place: int | None, row: Tensor | None) -> None:
    """Take a row out, put one in its place, or add one."""
    if row is None:
        assert place is not None
        rows.remove(place)
    elif place is None:
        rows.append(row)
    else:
        rows.replace(place, row)


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name or name == UNKNOWN:
        raise DataError(f"a class needs a name that is a string and not {UNKNOWN!r}; this is {name!r}")


def _frozen(module: Any) -> Any:
    """Return a copy that nothing trains; or the module itself, where nothing does."""
    trains = any(part.training for part in module.modules()) or any(each.requires_grad for each in module.parameters())
    return copy.deepcopy(module).eval().requires_grad_(False) if trains else module


def _listed(inputs: Any) -> Any:
    """Return a tensor ``[N, ...]`` or a list of items; a single path or picture counts as a list of one."""
    if isinstance(inputs, np.ndarray) and inputs.dtype.kind in "buif":
        return torch.from_numpy(inputs)
    if isinstance(inputs, Tensor):
        return inputs
    if isinstance(inputs, (str, bytes, os.PathLike)) or not hasattr(inputs, "__len__"):
        return [inputs]
    return list(inputs)
