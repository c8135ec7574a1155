"""The adapted model: an encoder, a classifier made from a support set, and class names. It needs no Lightning.

Shapes: N inputs, S support examples, n examples of one class, W classes, D features, ``...`` the shape of one input.
"""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from quickstudy import saving
from quickstudy.algorithms import STRATEGIES, Algorithm, EmbeddingAlgorithm
from quickstudy.confidence import Confidence, HeldOut, confidence_of, left_out, nonconformity, threshold_of
from quickstudy.data.targets import encode
from quickstudy.errors import ConfigError, DataError, given
from quickstudy.learner import UNKNOWN, Learner, Support
from quickstudy.nets import Encoder, build_encoder
from quickstudy.pictures import load_image

if TYPE_CHECKING:
    from quickstudy import export


class Predictor(Learner):
    """Classifies inputs into the classes of a support set; ``model.adapt(images, labels)`` makes one.

    It has the shape of scikit-learn's classifiers; and it learns, forgets and renames single classes, as ``Learner``
    says. The encoder is copied unless nothing trains it, so that training a model further does not change the
    predictor. A transductive strategy classifies all inputs of a call together, and takes them for a mixture of the
    classes.

    Args:
        encoder: turns inputs into embeddings.
        algorithm: learns classes with it.
        load: makes a tensor of one input; default: inputs are tensors already.
    """

    def __init__(self, encoder: Encoder, algorithm: Algorithm, load: Callable[[Any], Any] = torch.as_tensor) -> None:
        super().__init__(encoder, algorithm, load)
        self._calibrated: HeldOut | None = None
        self._rates: dict[str, float] = {}
        self._confidence: Confidence | None = None
        self._threshold: float | None = None

    @classmethod
    def from_backbone(
        cls,
        backbone: str | nn.Module,
        inputs: Any,
        labels: Any,
        *,
        backbone_kwargs: Mapping[str, Any] | None = None,
        pretrained: bool = True,
        strategy: str = "nearest_centroid",
        strategy_kwargs: Mapping[str, Any] | None = None,
        load: Callable[[Any], Any] | None = None,
    ) -> Self:
        """Learn classes with an encoder as it is, without any training.

        Args:
            backbone: ``"conv4"``, ``"resnet12"``, any name of timm, or a module from ``[N, C, ...]`` to ``[N, ...]``.
            inputs: 1..n pictures per class, each a path, bytes, a PIL image, an array or a tensor.
            labels: S labels, strings or integers.
            backbone_kwargs: the backbone's own options.
            pretrained: take trained weights where there are any (timm's).
            strategy: any that ``quickstudy list strategies`` names and that needs no training.
            strategy_kwargs: its options.
            load: makes a tensor of one input; default: pictures of 224 by 224 pixels.

        Raises:
            ConfigError: a name or an option is unknown, or pretrained weights cannot be had.
            DataError: there are no examples, the lengths differ, or an input cannot be read.
        """
        if load is None:
            load = partial(load_image, image_size=224)
        algorithm = STRATEGIES[strategy](**dict(strategy_kwargs or {}))
        return cls(build_encoder(backbone, backbone_kwargs, pretrained), algorithm, load).fit(inputs, labels)

    def __repr__(self) -> str:
        """Say how many classes it knows, and which."""
        classes = list(self._support)
        shown = ", ".join(classes[:5]) + (", ..." if len(classes) > 5 else "")
        return f"Predictor({type(self._algorithm).__name__}, {len(classes)} classes: {shown})"

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return what it was made with, for scikit-learn's ``clone`` and ``cross_val_score``."""
        return {"encoder": self._encoder, "algorithm": self._algorithm, "load": self._load}

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn, which alone asks, that this is a classifier."""
        tags: Any = importlib.import_module("sklearn.utils")
        return tags.Tags(
            estimator_type="classifier",
            target_tags=tags.TargetTags(required=True),
            classifier_tags=tags.ClassifierTags(),
            input_tags=tags.InputTags(),
        )

    def set_params(self, **params: Any) -> Self:
        """Change what it was made with; what was learned is forgotten."""
        self.__init__(**{**self.get_params(), **params})  # type: ignore[misc]
        return self

    # ---- files

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write it as a folder of JSON and safetensors, whole or not at all; a predictor there is replaced.

        Raises:
            ConfigError: an option of the algorithm is code, which no file holds.
            OSError: the folder cannot be written.
        """
        saving.write(folder, self._saved())

    def export(
        self, path: str | os.PathLike[str], *, images: Any = None, only_classes: bool = False
    ) -> export.Exported:
        """Write a graph that answers without quickstudy, and its classes beside it; see ``quickstudy.export.write``.

        Args:
            path: ``x.onnx``, or ``x.pt2`` for torch.export; the classes go to ``x.classes.safetensors``.
            images: some inputs, where the size of them is not known; answers to them are compared too.
            only_classes: leave the graph, and write the classes of now for it.

        Raises:
            ConfigError: the strategy or the backbone cannot be exported, or the graph answers otherwise.
            DataError: there is no class, or no graph for ``only_classes``.
            MissingPackageError: a package is not installed.
        """
        from quickstudy import export  # which imports what few need

        return export.write(path, self._saved(), self.confidence_, images, only_classes)

    def _saved(self) -> saving.Saved:
        parts = self._encoder, self._algorithm, self._load, self._support, self._learned
        return saving.Saved(*parts, self._rates, self._calibrated)

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        device: str | torch.device = "cpu",
        *,
        load: Callable[[Any], Any] | None = None,
        backbone: nn.Module | None = None,
    ) -> Self:
        """Read what ``save`` wrote, here or elsewhere; no code is run from the files.

        Args:
            folder: of a predictor.
            device: where it is to run.
            load: makes a tensor of one input, where it was made with a function of one's own.
            backbone: the module, where it was made with one.

        Raises:
            DataError: a file is missing or damaged, or of a newer version.
            ConfigError: what was code is not given.
        """
        saved = saving.read(folder, device, load, backbone)
        made = cls(saved.encoder, saved.algorithm, saved.load)
        made._restore(saved.support, saved.state)
        made._rates, made._calibrated = saved.rates, saved.calibrated
        return made

    def _learn(self, support: Support, changed: str | None = None) -> None:
        super()._learn(support, changed)
        self._calibrated = self._confidence = self._threshold = None

    # ---- what it answers

    def predict(self, inputs: Any, *, may_be_unknown: bool = True) -> list[str]:
        """Return the class name of each of N inputs, or ``"unknown"`` for what is like none of the examples.

        Args:
            inputs: what to classify.
            may_be_unknown: False: name the likeliest class in any case.
        """
        (logits_NW, familiar_N), classes = self._answers(inputs), list(self._support)
        unknown_N = familiar_N < (self._unknown_below() if may_be_unknown else -math.inf)
        answers = zip(logits_NW.argmax(1).tolist(), unknown_N.tolist(), strict=True)
        return [UNKNOWN if unknown else classes[code] for code, unknown in answers]

    def predict_proba(self, inputs: Any) -> NDArray[np.float32]:
        """Return ``[N, W]`` probabilities, each row summing to 1, at the temperature that held-out examples ask for."""
        return (self._answers(inputs)[0] / self.confidence_.temperature).softmax(1).float().cpu().numpy()

    def predict_set(self, inputs: Any, alpha: float = 0.1) -> list[list[str]]:
        """Return for each of N inputs all classes that it may be of, likeliest first: none, one or several.

        Whatever its class, an input's set lacks it with a probability of at most ``alpha``, if examples and inputs come
        alike (class-conditional conformal prediction, Vovk 2012, https://arxiv.org/abs/1209.2673).

        Args:
            inputs: what to classify.
            alpha: the error level, between 0 and 1.

        Raises:
            DataError: a class has too few held-out examples for that level.
        """
        if not 0 < alpha < 1:
            raise ConfigError(f"alpha={alpha!r}: it must lie between 0 and 1, for instance 0.1")
        held, logits_NW, classes = self._held_out(), self._answers(inputs)[0], list(self._support)
        found: list[list[str]] = [[] for _ in range(len(logits_NW))]
        possible = []
        for code, name in enumerate(classes):
            own_n = nonconformity(held.logits[held.targets == code], code)
            if 1 / (len(own_n) + 1) > alpha:
                raise DataError(
                    f"alpha={alpha} needs {math.ceil(1 / alpha) - 1} held-out examples of each class; {name!r} has "
                    f"{len(own_n)}, and with so many the smallest reachable error level is {1 / (len(own_n) + 1):.0%}. "
                    "Raise alpha, add_examples, or calibrate(images, labels)"
                )
            as_strange_Nn = own_n >= nonconformity(logits_NW, code)[:, None]
            possible.append((as_strange_Nn.sum(1) + 1) / (len(own_n) + 1) > alpha)
        for row, code in torch.stack(possible, 1).nonzero().tolist():
            found[row].append(classes[code])
        likely = dict(zip(classes, logits_NW.T.tolist(), strict=True))
        return [sorted(names, key=lambda name: -likely[name][row]) for row, names in enumerate(found)]

    def score(self, inputs: Any, labels: Any) -> float:
        """Return the share of N inputs whose likeliest class is that of their label, from 0 to 1."""
        predicted = self.predict(inputs, may_be_unknown=False)
        codes, classes = encode(labels)
        if len(predicted) != len(codes):
            raise DataError(f"{len(predicted)} inputs but {len(codes)} labels: each input needs one label")
        return float(np.mean([name == classes[code] for name, code in zip(predicted, codes, strict=True)]))

    # ---- what it says of its answers

    @property
    def confidence_(self) -> Confidence:
        """Temperature and threshold, what they come from, and how far held-out probabilities were off.

        Unless ``calibrate`` was called they come from the support set, each example being left out in its turn.
        """
        if self._confidence is None:
            self._confidence = confidence_of(self._held_out(), **self._rates)
        return self._confidence

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
            inputs: examples that it did not learn from; those with a label that it does not know are strangers. None:
                the support set, each example left out in its turn, and each class for strangers. Those given count
                until the next class or example is learned or forgotten; the rate stays.
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
                raise ConfigError(f"{name}={rate!r}: it must be a share, from 0 to below 1")
        held = self._left_out(answers=False) if inputs is None else self._answered(inputs, labels)
        if not len(held.strangers if false_accept is not None else held.familiar):
            kind = "strangers" if false_accept is not None else "known classes with two examples or more"
            raise DataError(f"there are no held-out examples of {kind}: give images and labels")
        self._calibrated = None if inputs is None else held
        self._rates, self._confidence, self._threshold = rates, None, threshold_of(held, **rates)
        return self

    def _unknown_below(self) -> float:
        if self._threshold is None:  # which takes no learning anew, as the temperature does
            self._threshold = threshold_of(self._held_out(answers=False), **self._rates)
        return self._threshold

    def _held_out(self, answers: bool = True) -> HeldOut:
        return self._left_out(answers) if self._calibrated is None else self._calibrated

    @torch.inference_mode()
    def _left_out(self, answers: bool = True) -> HeldOut:
        if self._means is None or not isinstance(self._algorithm, EmbeddingAlgorithm) or self.transductive:
            none, source = torch.empty(0), "nothing: calibrate(images, labels) was not called"
            return HeldOut(torch.empty(0, len(self._support)), none.long(), none, none, source)
        return left_out(self._algorithm, self._encoder, self._support, self._means.used, self._learned, answers)

    def _answered(self, inputs: Any, labels: Any) -> HeldOut:
        codes, names = encode(labels)
        logits_NW, familiar_N = self._answers(inputs)
        if codes.ndim != 1 or len(codes) != len(logits_NW):
            raise DataError(f"{len(logits_NW)} examples but {len(codes)} labels: each example needs one label")
        place = {name: code for code, name in enumerate(self._support)}
        targets_N = torch.tensor([place.get(names[code], -1) for code in codes], device=logits_NW.device)
        known_N = targets_N >= 0
        source = f"{len(codes)} examples given to calibrate"
        return HeldOut(logits_NW[known_N], targets_N[known_N], familiar_N[known_N], familiar_N[~known_N], source)
