"""A learner that knows how sure it may be, and of what it must say that it does not know it.

Shapes: N inputs, W classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor

from quickstudy.algorithms import Algorithm, EmbeddingAlgorithm
from quickstudy.algorithms.base import exact
from quickstudy.data.identity import warn_of_seen
from quickstudy.data.samples import listed
from quickstudy.data.targets import encode
from quickstudy.errors import ConfigError, DataError, brief, check_counts, given
from quickstudy.learning.confidence import (
    NOT_CALIBRATED,
    Confidence,
    HeldOut,
    HeldOutAccuracy,
    accuracy_of,
    confidence_of,
    left_out,
    lowered,
    rounding_of,
    threshold_of,
)
from quickstudy.learning.explaining import Neighbour, nearest
from quickstudy.learning.learner import Learner
from quickstudy.nets import Encoder


class Calibrated(Learner):
    """Adds temperature and threshold, which follow from examples that were left out or are given; see ``Learner``."""

    def __init__(self, encoder: Encoder, algorithm: Algorithm, load: Callable[[Any], Any] = torch.as_tensor) -> None:
        super().__init__(encoder, algorithm, load)
        self._calibrated: HeldOut | None = None
        self._rates: dict[str, float] = {}
        self._confidence: Confidence | None = None
        self._threshold: float | None = None
        self._sizes: tuple[float, float] | None = None  # the longest embedding, and the farthest from the centre
        self._rounding = 0.0  # of embeddings when they were learned
        self._accuracy: HeldOutAccuracy | None = None
        self._in_turn: tuple[int, HeldOut] | None = None  # how many answers of each class there are at least

    def _learn(self, *arguments: Any, **options: Any) -> None:
        super()._learn(*arguments, **options)
        self._calibrated = self._confidence = self._accuracy = self._threshold = self._in_turn = self._sizes = None

    def _keep(self, *arguments: Any) -> tuple[Tensor, tuple[bytes, ...]]:
        self._rounding = max(self._rounding, rounding_of(self._encoder))
        return super()._keep(*arguments)

    @property
    def confidence_(self) -> Confidence:
        """Temperature and threshold, what they come from, and how far held-out probabilities were off.

        Unless ``calibrate`` was called they come from the support set, whose examples are left out in turn.
        """
        return self._judged()[0]

    @property
    def held_out_accuracy_(self) -> HeldOutAccuracy:
        """What accuracy to expect on inputs that come as the examples came, in all and by class, with its interval.

        Its answers are those that ``confidence_`` rests on, and cost nothing besides.
        """
        return self._judged()[1]

    def _judged(self) -> tuple[Confidence, HeldOutAccuracy]:
        if self._confidence is None or self._accuracy is None:
            held = self._held_out()
            self._confidence = confidence_of(held, self._unknown_below())
            self._accuracy = accuracy_of(held, list(self._support))
        if list(self._accuracy.by_class) != list(self._support):  # classes were renamed
            by_class = dict(zip(self._support, self._accuracy.by_class.values(), strict=True))
            self._accuracy = self._accuracy._replace(by_class=by_class)
        return self._confidence, self._accuracy

    def calibrate(
        self,
        inputs: Any = None,
        labels: Any = None,
        *,
        reject_rate: float | None = None,
        false_accept: float | None = None,
    ) -> Self:
        """Choose what is called unknown, and make probabilities fit, by further examples or by the support set's own.

        Args:
            inputs: examples that it did not learn from (it warns of others); those with a label that it does not know
                are strangers. None: the support set, examples left out in turn, and each class for strangers. Those
                given count until the next class or example is learned or forgotten; the rate stays.
            labels: N labels.
            reject_rate: the share of the known that may be called unknown; by default 0.05.
            false_accept: instead, the share of strangers that may be taken for known.

        Raises:
            DataError: there is no example of the kind that the rate is of.
            ConfigError: both rates are given, or one is not between 0 and 1.
        """
        rates = given(reject_rate=reject_rate, false_accept=false_accept)
        if len(rates) == 2:
            raise ConfigError("reject_rate and false_accept each set the threshold: give one of them")
        for name, rate in rates.items():
            if not 0 <= rate < 1:
                raise ConfigError(f"{name}={brief(rate)}: it must be a share, from 0 to below 1")
        held = self._left_out(0) if inputs is None else self._answered(inputs, labels)
        if not len(held.strangers if false_accept is not None else held.familiar):
            kind = "strangers" if false_accept is not None else "known classes with two examples or more"
            raise DataError(f"there are no held-out examples of {kind}: give images and labels")
        self._calibrated = None if inputs is None else held
        self._rates, self._threshold = rates, threshold_of(held, **rates)
        self._confidence = self._accuracy = None
        return self

    def _unknown_below(self) -> float:
        if self._threshold is None:  # which takes no learning anew, as the temperature does
            self._threshold = threshold_of(self._held_out(0), **self._rates)
        if "false_accept" in self._rates:  # which keeps out strangers that lie at it
            return self._threshold
        rounding = self._rounding_now()
        if self._means is None:  # familiarity is a logit
            largest = max(self._held_out(0).familiar.abs().tolist(), default=0.0)
            return self._threshold - rounding * largest
        if self._sizes is None:
            kept_S, centre = torch.cat(list(self._support.values())), self._means.used.mean(0)
            lengths = float(kept_S.norm(dim=1).max()), float((kept_S - centre).norm(dim=1).max())
            self._sizes = lengths
        return lowered(self._threshold, rounding, *self._sizes)

    def _rounding_now(self) -> float:
        """Return by what share of its length an embedding may differ from one that was learned."""
        return max(self._rounding, rounding_of(self._encoder))

    @torch.inference_mode()
    def _near(self, inputs: Any, embedded_ND: Tensor | None, count: int) -> list[list[Neighbour]]:
        check_counts(count=count)
        if embedded_ND is not None:
            return nearest(embedded_ND, self._support, self._thumbnails, count, self._rounding_now())
        examples = self._listed(inputs)
        if not len(examples):
            return []
        embedded_ND = torch.cat([self._encoder(part) for part in self._parts(examples)])
        parts = torch.split(torch.cat(list(self._support.values())), 64)  # it keeps the inputs themselves
        kept_S = exact(torch.cat([self._encoder(part) for part in parts]))
        support = dict(zip(self._support, torch.split(kept_S, list(self.counts_.values())), strict=True))
        return nearest(exact(embedded_ND), support, self._thumbnails, count, self._rounding_now())

    def _warn_of_learned(self, inputs: Any, embedded_ND: Tensor | None) -> None:
        """Warn where inputs that it is judged by are among those that it learned from."""
        same = [near[0].same for near in self._near(inputs, embedded_ND, 1)]
        warn_of_seen(sum(same), f"the model learned from {sum(same)} of these {len(same)} examples")

    def _held_out(self, least: int = 1) -> HeldOut:
        """Return answers to examples given for it, or to the support set's, at least so many of each class."""
        if self._calibrated is not None:
            return self._calibrated
        if least <= 1:
            return self._left_out(least)
        if self._in_turn is None or self._in_turn[0] < least:
            self._in_turn = least, self._left_out(least)
        return self._in_turn[1]

    @torch.inference_mode()
    def _left_out(self, least: int) -> HeldOut:
        if self._means is None or not isinstance(self._algorithm, EmbeddingAlgorithm) or self.transductive:
            none = torch.empty(0)
            return HeldOut(torch.empty(0, len(self._support)), none.long(), none, none, NOT_CALIBRATED)
        return left_out(self._algorithm, self._support, self._means.used, least)

    def _answered(self, inputs: Any, labels: Any) -> HeldOut:
        codes, *_ = encoded = encode(labels)
        self._rounding = max(self._rounding, rounding_of(self._encoder))
        inputs = listed(inputs)  # which is looked at twice
        logits_NW, familiar_N, embedded_ND = self._answers(inputs)
        if codes.ndim != 1 or len(codes) != len(logits_NW):
            raise DataError(f"{len(logits_NW)} examples but {len(codes)} labels: each example needs one label")
        place = {name: code for code, name in enumerate(self._support)}
        places = [place.get(self.as_class(label), -1) for label in encoded.labels]
        targets_N = torch.tensor([places[code] for code in codes], device=logits_NW.device)
        known_N = targets_N >= 0
        self._warn_of_learned(inputs, embedded_ND)
        source = f"{len(codes)} examples given to calibrate"
        return HeldOut(logits_NW[known_N], targets_N[known_N], familiar_N[known_N], familiar_N[~known_N], source)
