"""A model that learns from a few examples to tell a number: the adapted form of a task whose answers are numbers.

Shapes: N inputs, S examples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor

from quickstudy.algorithms import Algorithm
from quickstudy.batches import device_of, join
from quickstudy.data.samples import Samples
from quickstudy.data.targets import encode_numbers
from quickstudy.errors import ConfigError, DataError
from quickstudy.kinds.base import Kind
from quickstudy.kinds.regression import Regression
from quickstudy.learning.adapting import kept_of, untaught
from quickstudy.learning.knowledge import Knowledge
from quickstudy.nets import Encoder


class NumberPredictor:
    """Tells numbers like those of a support set; ``model.adapt(inputs, numbers)`` makes one.

    It has the shape of scikit-learn's regressors. An update that fails changes nothing.

    Args:
        encoder: turns inputs into embeddings.
        algorithm: learns numbers with it.
        load: makes a tensor of one input; default: inputs are tensors already.
        kind: knows in which units the algorithm learns.
    """

    def __init__(
        self,
        encoder: Encoder,
        algorithm: Algorithm,
        load: Callable[[Any], Any] = torch.as_tensor,
        kind: Kind | None = None,
    ) -> None:
        if not algorithm.numbers:
            raise ConfigError(f"{type(algorithm).__name__} learns classes, and no numbers: choose 'r2d2' or 'maml'")
        self._knowledge = untaught(encoder, algorithm, load)
        self._kind: Kind = kind or Regression()
        self._kept: Any = None
        self._numbers = torch.empty(0)
        self._state: Any = None

    def __repr__(self) -> str:
        """Say how many examples it learned from."""
        return f"NumberPredictor({type(self._knowledge.algorithm).__name__}, {self.examples_} examples)"

    @property
    def examples_(self) -> int:
        """How many examples it learned from."""
        return len(self._numbers)

    def fit(self, inputs: Any, numbers: Any) -> Self:
        """Learn examples, in place of all that was learned before.

        Args:
            inputs: S examples, each anything that ``load`` takes; or a tensor or array ``[S, ...]`` of all.
            numbers: S numbers, one per example.

        Raises:
            DataError: there are no examples, the lengths differ, an input cannot be read, or a number is none.
        """
        examples = self._knowledge.reader.listed(inputs)
        knowledge = replace(self._knowledge, taught=self._knowledge.reader.scale(examples))
        self._learn(*self._read(knowledge, examples, numbers))
        return self

    def add_examples(self, inputs: Any, numbers: Any) -> Self:
        """Learn further examples; see ``fit``. It answers as one that learned all of them at once."""
        if not self.examples_:
            return self.fit(inputs, numbers)
        knowledge, kept, more = self._read(self._knowledge, self._knowledge.reader.listed(inputs), numbers)
        self._learn(knowledge, join([self._kept, kept]), torch.cat([self._numbers, more]))
        return self

    def _read(self, knowledge: Knowledge, examples: Any, numbers: Any) -> tuple[Knowledge, Any, Tensor]:
        targets = torch.from_numpy(encode_numbers(numbers).codes)
        count = len(Samples(examples, knowledge.load))
        if count != len(targets):
            raise DataError(f"{count} examples but {len(targets)} numbers: each example needs one")
        knowledge, kept = kept_of(knowledge, examples, 1)
        return knowledge, kept.values, targets

    def _learn(self, knowledge: Knowledge, kept: Any, numbers: Tensor) -> None:
        scaled = self._kind.scaled(numbers).to(device_of(kept), torch.get_default_dtype())
        with torch.inference_mode():
            state = knowledge.algorithm.adapt(knowledge.encoder, kept, scaled, 1)
        self._knowledge, self._kept, self._numbers, self._state = knowledge, kept, numbers, state

    def predict(self, inputs: Any) -> list[float]:
        """Return the number of each of N inputs, in the units of those that it learned.

        Raises:
            DataError: it has learned nothing yet, an input cannot be read, or an answer is not finite.
        """
        if not self.examples_:
            raise DataError("it has learned no example yet: type fit(inputs, numbers)")
        known = self._knowledge
        with torch.inference_mode():
            parts = known.reader.parts(known.reader.listed(inputs))
            outputs = known.algorithm.predict(known.encoder, self._state, parts)
        found: list[float] = self._kind.answers(outputs, "numbers")
        return found

    def score(self, inputs: Any, numbers: Any) -> float:
        """Return the share of the variance that the answers explain, R2, as scikit-learn's regressors do.

        Args:
            inputs: what to tell the numbers of.
            numbers: the true ones.
        """
        targets = torch.from_numpy(encode_numbers(numbers).codes)
        off = torch.tensor(self.predict(inputs), dtype=torch.float64) - targets
        spread = (targets - targets.mean()).square().sum()
        return float(1 - off.square().sum() / spread)
