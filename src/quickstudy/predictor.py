"""The adapted model: an encoder, a classifier made from a support set, and class names. It needs no Lightning.

Shapes: N inputs, S support examples, n examples of one class, W classes, D features, ``...`` the shape of one input.
"""

from __future__ import annotations

import copy
import importlib
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Self, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from quickstudy.algorithms import STRATEGIES, Algorithm
from quickstudy.data.samples import listed
from quickstudy.data.targets import Label, encode, type_of
from quickstudy.errors import ConfigError, DataError, brief, check_counts, few, one_line
from quickstudy.learning.calibrated import Calibrated
from quickstudy.learning.changes import UNKNOWN
from quickstudy.learning.confidence import accuracy_in_words, conformal, least_examples
from quickstudy.learning.explaining import Answer, Neighbour, drawn
from quickstudy.learning.learner import TYPES
from quickstudy.nets import Encoder, build_encoder
from quickstudy.pictures import IMAGE_SIZE, load_image, thumbnail_of
from quickstudy.saved import hub, model_folder

if TYPE_CHECKING:
    from quickstudy.saved import export


class Predictor(Calibrated):
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
        self.change_number = 0
        """Of the last change that a service made of it; 0 without one."""

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
        device: str | torch.device = "cpu",
    ) -> Self:
        """Learn classes with an encoder as it is, without any training.

        Args:
            backbone: ``"conv4"``, ``"resnet12"``, any name of timm, or a module from ``[N, C, ...]`` to ``[N, ...]``.
            inputs: 1..n pictures per class, each a path, bytes, a PIL image, an array or a tensor.
            labels: S labels: all strings, all whole numbers or all bools. It answers in their type.
            backbone_kwargs: the backbone's own options.
            pretrained: take trained weights where there are any (timm's).
            strategy: any that ``quickstudy list strategies`` names and that needs no training.
            strategy_kwargs: its options.
            load: makes a tensor of one input; default: pictures of 224 by 224 pixels.
            device: where it is to run.

        Raises:
            ConfigError: a name or an option is unknown, or pretrained weights cannot be had.
            DataError: there are no examples, the lengths differ, or an input cannot be read.
        """
        if load is None:
            load = partial(load_image, image_size=IMAGE_SIZE)
        algorithm = STRATEGIES[strategy](**dict(strategy_kwargs or {}))
        encoder = build_encoder(backbone, backbone_kwargs, pretrained).to(device)
        return cls(encoder, algorithm, load).fit(inputs, labels)

    def __repr__(self) -> str:
        """Say how many classes it knows, and which."""
        classes = [one_line(name, 40) for name in self._support]
        shown = few(classes)
        return f"Predictor({type(self._algorithm).__name__}, {len(classes)} classes{shown and f': {shown}'})"

    def __str__(self) -> str:
        """Say what accuracy to expect, too, which some strategies take a while to find out; for ``print``."""
        return "\n".join([repr(self), *(accuracy_in_words(self.held_out_accuracy_) if self._support else [])])

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

    def save(self, folder: str | os.PathLike[str], *, after: int | None = None) -> None:
        """Write it as a folder of JSON and safetensors, whole or not at all; a predictor there is replaced.

        Args:
            folder: for its files.
            after: the number of the last change of a service that is part of it; None: it replaces what a service
                knows.

        Raises:
            BehindError: a service has made later changes; nothing was written.
            ConfigError: an option of the algorithm is code, which no file holds.
            OSError: the folder cannot be written.
        """
        model_folder.write(folder, self._saved(), after)

    def export(
        self, path: str | os.PathLike[str], *, images: Any = None, only_classes: bool = False
    ) -> export.Exported:
        """Write a graph that answers without quickstudy, and its classes beside it; see ``saved.export.write``.

        Args:
            path: ``x.onnx``, or ``x.pt2`` for torch.export; the classes go to ``x.onnx.classes.safetensors``.
            images: some inputs, where the size of them is not known; answers to them are compared too.
            only_classes: leave the graph, and write the classes of now for it.

        Raises:
            ConfigError: the strategy or the backbone cannot be exported, or the graph answers otherwise.
            DataError: there is no class, or no graph for ``only_classes``.
            MissingPackageError: a package is not installed.
        """
        from quickstudy.saved import export  # which imports what few need

        return export.write(path, self._saved(), self.confidence_, images, only_classes)

    def _saved(self) -> model_folder.Saved:
        parts = self._encoder, self._algorithm, self._load, self._support, self._thumbnails, self._learned
        return model_folder.Saved(
            *parts, self._rates, self._calibrated, self._like, self._rounding, taught=self._taught
        )

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
        saved = model_folder.read(folder, device, load, backbone)
        made = cls(saved.encoder, saved.algorithm, saved.load)
        made._restore(saved.support, saved.thumbnails, saved.state)
        made._rates, made._calibrated, made._like, made._rounding = saved[6:10]
        made.take_up(saved.changes)
        made.change_number = saved.number
        return made

    def push_to_hub(self, repo_id: str, *, thumbnails: bool = False, **options: Unpack[hub.PushOptions]) -> str:
        """Upload it to the Hugging Face Hub with a model card, and return the commit's address; see ``hub.push``.

        Args:
            repo_id: ``"owner/name"``; the repository is made if needed.
            thumbnails: whether small pictures of the examples go along, for ``explain``.
            options: see ``hub.PushOptions``.
        """
        shown = copy.copy(self)
        if not thumbnails:
            shown._thumbnails = {name: (b"",) * len(own) for name, own in self._thumbnails.items()}
        with tempfile.TemporaryDirectory() as folder:
            shown.save(folder)
            return hub.push(folder, repo_id, self.confidence_, self.held_out_accuracy_, thumbnails, **options)

    @classmethod
    def from_pretrained(
        cls, name: str | os.PathLike[str], *, revision: str | None = None, token: str | None = None, **options: Any
    ) -> Self:
        """Read what ``push_to_hub`` uploaded, or the folder that ``save`` wrote.

        Args:
            name: ``"owner/name"``, or a folder.
            revision: a branch, a tag or a commit; default: the main branch.
            token: of an account that may read; default: the one that ``hf auth login`` keeps.
            options: see ``load``.
        """
        return cls.load(hub.fetched(name, revision, token), **options)

    # ---- what it answers

    def predict(self, inputs: Any, *, may_be_unknown: bool = True) -> list[Any]:
        """Return the class of each of N inputs, or ``"unknown"`` for what is like none of the examples.

        A class is named in the type that it was taught in, str, int or bool; ``"unknown"`` is a string in any case.

        Args:
            inputs: what to classify.
            may_be_unknown: False: name the likeliest class in any case.
        """
        (logits_NW, familiar_N, _), classes = self._answers(inputs), list(self._support)
        unknown_N = familiar_N < (self._unknown_below() if may_be_unknown else -math.inf)
        answers = zip(logits_NW.argmax(1).tolist(), unknown_N.tolist(), strict=True)
        return [UNKNOWN if unknown else classes[code] for code, unknown in answers]

    def rank(self, inputs: Any, count: int = 5, *, nearest: int = 0) -> list[Answer]:
        """Return for each of N inputs what ``predict``, ``predict_proba`` and ``nearest`` say, in one pass.

        Args:
            inputs: what to classify.
            count: how many of the likeliest classes to name, 1 or more.
            nearest: how many of the support examples nearest to it to name.
        """
        check_counts(count=count)
        inputs = listed(inputs)  # which is looked at twice
        (logits_NW, familiar_N, embedded_ND), classes = self._answers(inputs), list(self._support)
        confidence = self.confidence_
        unknown_N = (familiar_N < self._unknown_below()).tolist()
        best = (logits_NW / confidence.temperature).softmax(1).topk(min(count, len(classes)), 1)
        near = self._near(inputs, embedded_ND, nearest) if nearest else [[]] * len(logits_NW)
        answers, columns = [], (unknown_N, best.values.tolist(), best.indices.tolist(), near)
        for unknown, chances, codes, neighbours in zip(*columns, strict=True):
            ranking = [(classes[code], chance) for code, chance in zip(codes, chances, strict=True)]
            answers.append(Answer(UNKNOWN if unknown else ranking[0][0], ranking, neighbours))
        return answers

    def predict_proba(self, inputs: Any) -> NDArray[np.float32]:
        """Return ``[N, W]`` probabilities, each row summing to 1, at the temperature that held-out examples ask for."""
        return (self._answers(inputs)[0] / self.confidence_.temperature).softmax(1).float().cpu().numpy()

    def predict_set(self, inputs: Any, alpha: float = 0.1) -> list[list[Any]]:
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
            raise ConfigError(f"alpha={brief(alpha)}: it must lie between 0 and 1, for instance 0.1")
        logits_NW, classes = self._answers(inputs)[0], list(self._support)
        possible_NW = conformal(self._held_out(least_examples(alpha)), logits_NW, alpha, classes)
        found: list[list[Label]] = [[] for _ in range(len(logits_NW))]
        for row, code in possible_NW.nonzero().tolist():
            found[row].append(classes[code])
        likely = dict(zip(classes, logits_NW.T.tolist(), strict=True))
        return [sorted(names, key=lambda name: -likely[name][row]) for row, names in enumerate(found)]

    def nearest(self, inputs: Any, count: int = 5) -> list[list[Neighbour]]:
        """Return for each of N inputs the support examples whose embeddings are nearest, the nearest first.

        Args:
            inputs: what to explain.
            count: of examples.
        """
        inputs = listed(inputs)
        return self._near(inputs, self._answers(inputs)[2], count)

    def explain(self, item: Any, count: int = 5) -> Image.Image:
        """Return a picture of an input beside the support examples nearest to it, with their classes and distances.

        Args:
            item: one picture: a path, bytes, a PIL image, an array or a tensor ``[C, H, W]``.
            count: of examples.

        Raises:
            DataError: it knows no class, or the picture cannot be read.
        """
        one = [item]
        picture = thumbnail_of(next(self._parts(one))[0])
        return drawn(picture, self.predict(one)[0], self.nearest(one, count)[0])

    def score(self, inputs: Any, labels: Any) -> float:
        """Return the share of N inputs whose likeliest class is that of their label, from 0 to 1.

        Warns where it learned from some of them, which tells nothing about new ones.
        """
        inputs = listed(inputs)  # which is looked at twice
        logits_NW, _, embedded_ND = self._answers(inputs)
        predicted = [list(self._support)[code] for code in logits_NW.argmax(1).tolist()]
        codes, *_ = encoded = encode(labels)
        if len(predicted) != len(codes):
            raise DataError(f"{len(predicted)} inputs but {len(codes)} labels: each input needs one label")
        classes = [self.as_class(label) for label in encoded.labels]
        for label in classes:
            if type_of(label) != self._label_type:
                raise DataError(
                    f"the classes are {TYPES[self._label_type]}, and the label {brief(label)} is none of them"
                )
        self._warn_of_learned(inputs, embedded_ND)
        return float(np.mean([name == classes[code] for name, code in zip(predicted, codes, strict=True)]))
