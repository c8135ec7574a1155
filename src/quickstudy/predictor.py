"""The adapted model: an encoder, a classifier made from a support set, and class names. It needs no Lightning.

Shapes: N inputs, S support examples, W classes, D features, ``...`` the shape of one input.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_leaves

from quickstudy.algorithms import Algorithm
from quickstudy.data.samples import Samples
from quickstudy.data.targets import encode
from quickstudy.errors import DataError
from quickstudy.nets import Encoder

_AT_ONCE = 64


class Predictor:
    """Classifies inputs into the classes of a support set; ``model.adapt(images, labels)`` makes one.

    The encoder is copied, so that training the model further does not change the predictor. A transductive strategy
    classifies all inputs of a call together, and takes them for a mixture of the classes.

    Args:
        encoder: turns inputs into embeddings.
        algorithm: learns classes with it.
        support: 1..n examples per class, each anything that ``load`` takes, or a tensor or array ``[S, ...]``.
        labels: S labels, strings or integers; at most one per example.
        load: makes a tensor of one input; default: inputs are tensors already.

    Raises:
        DataError: there are no examples, the lengths differ, or an input cannot be read.
    """

    def __init__(
        self,
        encoder: Encoder,
        algorithm: Algorithm,
        support: Any,
        labels: Any,
        load: Callable[[Any], Any] = torch.as_tensor,
    ) -> None:
        self._encoder = copy.deepcopy(encoder).eval().requires_grad_(False)
        self._algorithm = copy.deepcopy(algorithm).eval().requires_grad_(False)
        self._load = load
        inputs = _listed(support)
        codes, self._classes = encode(labels)
        if codes.ndim != 1:
            raise DataError("a predictor learns one label per example; these targets have several")
        if len(inputs) != len(codes):
            raise DataError(f"{len(inputs)} examples but {len(codes)} labels: each example needs one label")
        if not len(inputs):
            raise DataError("no examples were given: adapting needs at least one per class")
        self._device = next((tensor.device for tensor in self._encoder.state_dict().values()), torch.device("cpu"))
        targets_S = torch.from_numpy(codes).long().to(self._device)
        shape = self._encoder.feature_shape(next(self._parts(inputs))[:1])
        self._algorithm.meet(self._encoder, shape, len(self._classes))
        with torch.inference_mode():
            self._state = self._algorithm.adapt(self._encoder, self._parts(inputs), targets_S, len(self._classes))
            if not all(leaf.isfinite().all() for leaf in tree_leaves(self._state) if isinstance(leaf, Tensor)):
                raise DataError(
                    "what was learned is not finite: an example holds NaN or infinite values, or the model was "
                    "trained until it diverged"
                )

    def __repr__(self) -> str:
        """Say how many classes it knows, and which."""
        shown = ", ".join(self._classes[:5]) + (", ..." if len(self._classes) > 5 else "")
        return f"Predictor({type(self._algorithm).__name__}, {len(self._classes)} classes: {shown})"

    @property
    def transductive(self) -> bool:
        """Whether an answer depends on the other inputs of the call."""
        return self._algorithm.sees_queries(self._encoder)

    @property
    def classes_(self) -> NDArray[np.str_]:
        """``[W]`` class names, in the order of the columns of ``predict_proba``."""
        return np.array(self._classes)

    def predict(self, inputs: Any) -> list[str]:
        """Return the class name of each of N inputs."""
        return [self._classes[code] for code in self._logits(inputs).argmax(1).tolist()]

    def predict_proba(self, inputs: Any) -> NDArray[np.float32]:
        """Return ``[N, W]`` probabilities, each row summing to 1."""
        return self._logits(inputs).softmax(1).float().cpu().numpy()

    def score(self, inputs: Any, labels: Any) -> float:
        """Return the share of N inputs that is classified as labelled, from 0 to 1."""
        predicted = self.predict(inputs)
        codes, classes = encode(labels)
        if len(predicted) != len(codes):
            raise DataError(f"{len(predicted)} inputs but {len(codes)} labels: each input needs one label")
        return float(np.mean([name == classes[code] for name, code in zip(predicted, codes, strict=True)]))

    def _logits(self, inputs: Any) -> Tensor:
        listed = _listed(inputs)
        with torch.inference_mode():
            if not len(listed):
                return torch.empty((0, len(self._classes)))
            logits_NW: Tensor = self._algorithm.predict(self._encoder, self._state, self._parts(listed))
            wrong = logits_NW.isnan().any(1).nonzero().flatten().tolist()
            if wrong:
                name = Samples(listed, self._load).name(wrong[0])
                raise DataError(f"the model's answer to {name} is not a number: does it hold NaN or infinite values?")
            return logits_NW

    def _parts(self, inputs: Any) -> Iterator[Tensor]:
        samples = Samples(inputs, self._load)
        for rows in np.split(np.arange(len(inputs)), range(_AT_ONCE, len(inputs), _AT_ONCE)):
            yield samples.batch(rows).to(self._device)


def _listed(inputs: Any) -> Any:
    """Return a tensor ``[N, ...]`` or a list of items; a single path or picture counts as a list of one."""
    if isinstance(inputs, np.ndarray) and inputs.dtype.kind in "buif":
        return torch.from_numpy(inputs)
    if isinstance(inputs, Tensor):
        return inputs
    if isinstance(inputs, (str, bytes, os.PathLike)) or not hasattr(inputs, "__len__"):
        return [inputs]
    return list(inputs)
