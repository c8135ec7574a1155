"""The adapted model whose answers are put together of those to parts of an input: it learns classes of these.

Shapes: N inputs, S support examples, W classes, h w pixels of a file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from quickstudy.algorithms import Algorithm
from quickstudy.data.targets import Label
from quickstudy.errors import ConfigError, TakenError, check_choice, few, one_line
from quickstudy.kinds.base import Kind, as_kind
from quickstudy.learning.adapting import untaught
from quickstudy.learning.changes import Change
from quickstudy.learning.confidence import HeldOutAccuracy, parts_in_words
from quickstudy.learning.parts import (
    AT_ONCE,
    addition_by_parts,
    answered_by_parts,
    check_parts,
    distinct_inputs,
    fitted_by_parts,
    judged_by_parts,
    names_of,
    of_parts,
)
from quickstudy.modality import as_modality
from quickstudy.nets import Encoder, build_encoder
from quickstudy.predictor import Adapted


class PartPredictor(Adapted):
    """Tells the class of each part of an input, such as each pixel of a picture, by a few that were shown.

    ``model.adapt(images, masks)`` of a task makes one. It learns, forgets and renames single classes: see ``Adapted``
    for what is so of every change. Background is a class like others. Ids in answers are the places of the classes in
    ``classes_``, from 0.

    Args:
        encoder: makes features of parts; nothing trains it.
        algorithm: learns rows of features; any ``EmbeddingAlgorithm``.
        load: reads an input.
        kind: what an answer is.

    Raises:
        ConfigError: the algorithm adapts the encoder.
    """

    made_with = (*Adapted.made_with, "kind")
    estimator = "classifier"

    def __init__(self, encoder: Encoder, algorithm: Algorithm, load: Callable[[Any], Any], kind: Kind) -> None:
        super().__init__(untaught(encoder, algorithm, load, kind))
        check_parts(self._knowledge)

    @classmethod
    def from_backbone(
        cls,
        backbone: str | nn.Module,
        inputs: Any = None,
        targets: Any = None,
        *,
        load: Callable[[Any], Any],
        kind: Kind | Mapping[str, Any] | str = "semantic_segmentation",
        classes: Any = None,
        backbone_kwargs: Mapping[str, Any] | None = None,
        pretrained: bool = True,
        strategy: str | None = None,
        strategy_kwargs: Mapping[str, Any] | None = None,
        device: str | torch.device = "cpu",
    ) -> Self:
        """Learn classes with an encoder as it is, without any training.

        Args:
            backbone: any name of timm whose network makes feature maps, or a module that returns a list of them.
            inputs, targets: see ``fit``; None: nothing is learned yet.
            load: reads an input, such as ``Picture(256, resize="fit")``.
            kind: what an answer is, or its name.
            classes: names of the ids, see ``fit``.
            backbone_kwargs: the backbone's own options.
            pretrained: take trained weights where there are any.
            strategy: any that learns embeddings; default: that of the kind.
            strategy_kwargs: its options.
            device: where it is to run.

        Raises:
            ConfigError: a name or an option is unknown, or pretrained weights cannot be had.
            DataError: the lengths differ, or an input or target cannot be read.
        """
        of = as_kind({"name": kind, "options": {}} if isinstance(kind, str) else kind)
        options = {**of.of_backbone, **(backbone_kwargs or {})} if isinstance(backbone, str) else backbone_kwargs
        encoder = build_encoder(backbone, options, pretrained).to(device)
        algorithm = of.algorithm(strategy, strategy_kwargs)
        made = cls(encoder, algorithm, as_modality(load), of)
        return made if inputs is None else made.fit(inputs, targets, classes=classes)

    def __repr__(self) -> str:
        """Say how many classes it knows, and which."""
        known = self._knowledge
        shown = few([one_line(name, 40) for name in known.support])
        name = type(known.algorithm).__name__
        return f"{type(self).__name__}({name}, {len(known.support)} classes{shown and f': {shown}'})"

    # ---- what it learns

    @property
    def classes_(self) -> NDArray[Any]:
        """``[W]`` names of classes, whose places are the ids in answers."""
        return np.array(names_of(list(self._knowledge.support)), object)

    @property
    def counts_(self) -> dict[Label, int]:
        """In how many inputs it has seen each class."""
        return {name: distinct_inputs(kept) for name, kept in self._knowledge.support.items()}

    @property
    def kind(self) -> Any:
        """What an answer is, of the classes that it knows now."""
        return of_parts(self._knowledge).of_classes(names_of(list(self._knowledge.support)))

    def about(self) -> dict[str, Any]:
        """Return what it is, in values that JSON has."""
        sources = {one for kept in self._knowledge.support.values() for one in kept.sources}
        told = self._knowledge.accuracy.told()
        return {
            **super().about(),
            "examples": len(sources),
            "labels": self.classes_.tolist(),
            "held_out_accuracy": told,
        }

    @property
    def held_out_accuracy_(self) -> HeldOutAccuracy:
        """How often parts are given their own class, and those of each class, by inputs that are left out whole.

        Of each input it is the mean over its classes of the share of their parts that is right, and then the mean of
        the inputs, with its 95% interval over these. It is worked out when it is first asked for.
        """
        return self._knowledge.accuracy

    def expected(self) -> list[str]:
        """Return in words what accuracy to expect of parts, by inputs that were left out."""
        return parts_in_words(self.held_out_accuracy_, self.modality.called) if self._knowledge.support else []

    def thumbnails(self, name: Label) -> tuple[bytes, ...]:
        """Return nothing: of its examples it keeps features of their parts.

        Raises:
            UnknownClassError: there is no such class.
        """
        self._knowledge.known(name)
        return ()

    def __contains__(self, name: object) -> bool:
        """Whether it knows a class of this name."""
        return name in self._knowledge

    def as_class(self, text: Label) -> Label:
        """Return the class that a text means where nothing but text can be written."""
        return self._knowledge.as_class(text)

    def fit(self, inputs: Any, targets: Any, *, classes: Any = None) -> Self:
        """Learn a support set, in place of all that was learned before.

        Args:
            inputs: S examples, each anything that ``load`` takes.
            targets: S of them, as the task's data has them: masks of ids for pixels.
            classes: names of the ids 0, 1, ..., or by id; None: as the kind was told, else the ids themselves.

        Raises:
            DataError: there are no examples, the lengths differ, one cannot be read, or a class is shown in none.
        """
        self._knowledge = fitted_by_parts(self._knowledge, inputs, targets, classes)
        return self

    def add_class(self, name: Label, inputs: Any, targets: Any) -> Self:
        """Learn a further class from 1..n inputs; its id is the last.

        Args:
            name: of the class.
            inputs: the examples.
            targets: show where it is: masks that are 0 elsewhere. What lies elsewhere is not learned.

        Raises:
            TakenError: there is such a class.
            DataError: there are no examples, one cannot be read, or does not show the class.
        """
        label = self._knowledge.new(name)
        if label in self._knowledge.support:
            raise TakenError(f"the class {label!r} exists: type add_examples({label!r}, ...) to show more of it")
        return self._make(*addition_by_parts(self._knowledge, label, inputs, targets))

    def add_examples(self, name: Label, inputs: Any, targets: Any) -> Self:
        """Learn a known class from 1..n further inputs; see ``add_class``.

        Raises:
            UnknownClassError: there is no such class.
            DataError: there are no examples, one cannot be read, or does not show the class.
        """
        return self._make(*addition_by_parts(self._knowledge, self._knowledge.known(name), inputs, targets))

    def remove_class(self, name: Label) -> Self:
        """Forget a class; the ids of those behind it are one less then.

        Raises:
            UnknownClassError: there is no such class.
        """
        return self.apply(Change("remove", self._knowledge.known(name)))

    def rename_class(self, name: Label, new_name: Label) -> Self:
        """Call a class by another name; its id stays.

        Raises:
            UnknownClassError: there is no class of the one name.
            TakenError: there is one of the other.
        """
        old, new = self._knowledge.known(name), self._knowledge.new(new_name)
        if new in self._knowledge.support and new != old:
            raise TakenError(f"the class {new!r} exists: remove it first, or choose another name")
        return self.apply(Change("rename", old, new))

    # ---- what it answers

    def predict(
        self, inputs: Any, output: str | None = None, *, may_be_unknown: bool = False, batch_size: int = AT_ONCE
    ) -> Any:
        """Return the answers to N inputs, as a trained task of the kind does.

        Args:
            inputs: whatever ``load`` takes.
            output: a form of answer, one of ``kind.forms``; default: the first.
            may_be_unknown: whether parts that are less like every class than nearly all that were shown are like their
                own have the id -1, "unknown"; it takes two inputs of a class or more to tell.
            batch_size: inputs that go through the network at once.

        Raises:
            ConfigError: there is no such form.
            DataError: it has learned nothing, an input cannot be read, or an answer is not a number.
        """
        kind = self.kind
        output = kind.forms[0] if output is None else output
        check_choice("output", output, *kind.forms)
        below = self._knowledge.unknown_below() if may_be_unknown else None
        found = answered_by_parts(self._knowledge, kind, inputs, below, batch_size, self._temperature(output))
        return [answer for outputs, _ in found for answer in kind.answers(outputs, output)]

    def rank(self, inputs: Any, count: int = 5, *, nearest: int = 0, batch_size: int = AT_ONCE) -> list[Any]:
        """Return answers as they are written, see ``Kind.ranked``; ``count`` does not matter."""
        kind = self.kind
        found = answered_by_parts(self._knowledge, kind, inputs, None, batch_size, self._temperature(kind.forms[0]))
        return [answer for outputs, _ in found for answer in kind.ranked(outputs)]

    def _temperature(self, form: str) -> float:
        """Return what logits are divided by, so that a form tells how sure it may be; by inputs that are left out."""
        held = self._knowledge.parts_held_out if form in of_parts(self._knowledge).sure else None
        return 1.0 if held is None else held.temperature

    def score(self, inputs: Any, targets: Any) -> float:
        """Return the score of the kind on N inputs, such as the mean intersection over union.

        Args:
            inputs: what to answer.
            targets: as many; their ids are those of the answers.
        """
        return self.scores(inputs, targets)[self.kind.score.name]

    def scores(self, inputs: Any, targets: Any) -> dict[str, float]:
        """Return all figures of the kind on N inputs by their names, the score among them; see ``score``."""
        kind = self.kind
        measure = kind.measure(True)
        for outputs, true in judged_by_parts(self._knowledge, kind, inputs, targets):
            measure.update(kind.figures(outputs, true))
        return {name: float(found.mean) for name, found in measure.estimates().items()}

    def embed(self, inputs: Any, *, keep: bool = True) -> NDArray[Any]:
        """Refuse: its features are of parts, and not of inputs."""
        raise ConfigError(
            "this model has features of parts of inputs, and none of an input as a whole: take an embedder"
        )

    def export(self, path: Any, **_: Any) -> Any:
        """Refuse: no graph of it is written yet."""
        raise ConfigError(
            "a model that learned parts of inputs is not exported: save it, and serve it (quickstudy serve FOLDER)"
        )
