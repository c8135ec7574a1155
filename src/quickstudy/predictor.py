"""The adapted model: an encoder, and what was learned from a support set, classes or numbers. It needs no Lightning.

Shapes: N inputs, S support examples, n examples of one class, W classes, D features, ``...`` the shape of one input.
"""

from __future__ import annotations

import importlib
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, ClassVar, Self, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from quickstudy.algorithms import STRATEGIES, Algorithm
from quickstudy.data.targets import Label
from quickstudy.domains import DOMAINS
from quickstudy.errors import ConfigError, DataWarning, TakenError, brief, check_counts, few, one_line
from quickstudy.kinds.base import Kind
from quickstudy.kinds.classification import Classification
from quickstudy.kinds.predictions import Answer, Neighbour, how_far
from quickstudy.kinds.regression import Regression
from quickstudy.learning.adapting import acquainted_with_names, addition, after, fitted, unshown, untaught
from quickstudy.learning.answering import answered, named, neighbours
from quickstudy.learning.changes import NUMBERS, UNKNOWN, Change
from quickstudy.learning.confidence import Confidence, HeldOutAccuracy, accuracy_in_words, conformal, least_examples
from quickstudy.learning.embeddings import embeddings
from quickstudy.learning.judging import calibrated, explained, share_right
from quickstudy.learning.knowledge import Knowledge
from quickstudy.modality import MODALITIES, Modality, as_modality, modality_of
from quickstudy.modality.recognition import domain_of_items
from quickstudy.nets import Encoder, build_encoder
from quickstudy.saved import hub, model_folder
from quickstudy.saved.plain import name_of

if TYPE_CHECKING:
    from quickstudy.saved import export


def usual_inputs(encoder: Encoder) -> Modality:
    """Return what a backbone as it is takes: what it says itself, else pictures of 224 by 224 pixels."""
    kind = MODALITIES[DOMAINS[0]] if encoder.reads is None else type(modality_of(encoder.reads, "a backbone"))
    return kind().with_options({**kind.usual, **(encoder.reads or {}).get("options", {})})


class Adapted:
    """A model that learned from a few examples: what ``Predictor``, ``NumberPredictor`` and ``PartPredictor`` share.

    ``Adapted.load(folder)`` reads any. An update that fails changes nothing, and who asks meanwhile, in another
    thread, is answered by what was known before it or by what is known after. The encoder is copied unless nothing
    trains it, so that training a model further does not change what learned with it.

    Args:
        knowledge: what it is made of.
    """

    learns: ClassVar[bool] = True
    """Whether it can be shown further examples; a ``TrainedModel`` cannot."""
    by_class: ClassVar[bool] = True
    """Whether these are of classes; else each has a number."""
    made_with: ClassVar[tuple[str, ...]] = ("encoder", "algorithm", "load")
    """The names of its arguments."""
    estimator: ClassVar[str]
    """What scikit-learn calls it."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge
        self.before_change: Callable[[Change], int | None] | None = None
        """Called with every change of it once nothing but this call can fail; if it raises, nothing changes.

        What it returns is the change's number.
        """

    @classmethod
    def of(cls, knowledge: Knowledge) -> Self:
        """Return the model that answers by what is known."""
        made = cls(*(getattr(knowledge, name) for name in cls.made_with))
        made._knowledge = knowledge
        return made

    @property
    def knowledge(self) -> Knowledge:
        """All that it answers by, as a value: what is learned later makes another one."""
        return self._knowledge

    @property
    def change_number(self) -> int:
        """Of the last change that a service made of it; 0 without one."""
        return self._knowledge.number

    @property
    def modality(self) -> Modality:
        """What an input is."""
        return self._knowledge.modality

    @property
    def transductive(self) -> bool:
        """Whether an answer depends on the other inputs of the call."""
        return self._knowledge.transductive

    def about(self) -> dict[str, Any]:
        """Return what it is, in values that JSON has."""
        known, made_by = self._knowledge, self._knowledge.encoder.made_by
        return {
            "strategy": name_of(known.algorithm),
            "backbone": made_by and made_by[0],
            "classes": len(known.support) if known.kind.by_class else 0,
            "examples": sum(known.counts.values()),
        }

    def embed(self, inputs: Any, *, keep: bool = True) -> NDArray[Any]:
        """Return the features ``[N, D]`` that its encoder makes of N inputs, computed once; see ``embeddings``.

        Args:
            inputs: whatever it answers to.
            keep: whether they are kept in files for the next time.

        Raises:
            DataError: an input cannot be read.
        """
        return embeddings(self._knowledge.encoder, self.modality, inputs, keep=keep)

    # ---- as scikit-learn has it

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return what it was made with, for scikit-learn's ``clone`` and ``cross_val_score``."""
        return {name: getattr(self._knowledge, name) for name in self.made_with}

    def set_params(self, **params: Any) -> Self:
        """Change what it was made with; what was learned is forgotten."""
        self._knowledge = untaught(**{**self.get_params(), **params})
        return self

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn, which alone asks, what this is."""
        tags: Any = importlib.import_module("sklearn.utils")
        own = {
            "classifier": {"classifier_tags": tags.ClassifierTags()},
            "regressor": {"regressor_tags": tags.RegressorTags()},
        }
        return tags.Tags(
            estimator_type=self.estimator,
            target_tags=tags.TargetTags(required=True),
            input_tags=tags.InputTags(),
            **own[self.estimator],
        )

    # ---- what it learns

    def apply(self, change: Change) -> Self:
        """Make a change that ``before_change`` told of, here or in another process.

        Raises:
            ConfigError: the algorithm's head was trained for a fixed number of classes.
        """
        return self._make(self._knowledge, change)

    def take_up(self, changes: Sequence[Change]) -> None:
        """Make changes that a service made, all or none (``DataError``): many cost no more than learning anew."""
        known = after(self._knowledge, changes)
        self._knowledge = replace(known, number=known.number + len(changes))

    def _make(self, knowledge: Knowledge, change: Change) -> Self:
        then = after(knowledge, [change])
        for told in change.warnings if self.before_change is None else ():  # else who is told of it tells of them
            warnings.warn(told, DataWarning, 3)
        number = self.before_change(change) if self.before_change else None
        # Nothing fails from here on.
        self._knowledge = then if number is None else replace(then, number=number)
        return self

    # ---- files

    def save(self, folder: str | os.PathLike[str], *, after: int | None = None) -> None:
        """Write it as a folder of JSON and safetensors, whole or not at all; a model there is replaced.

        Args:
            folder: for its files.
            after: the number of the last change of a service that is part of it; None: it replaces what a service
                knows.

        Raises:
            BehindError: a service has made later changes; nothing was written.
            ConfigError: an option of the algorithm is code, which no file holds.
            OSError: the folder cannot be written.
        """
        model_folder.write(folder, self._knowledge, after)

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
            folder: of such a model.
            device: where it is to run.
            load: makes a tensor of one input, where it was made with a function of one's own.
            backbone: the module, where it was made with one.

        Raises:
            DataError: a file is missing or damaged, or of a newer version.
            ConfigError: what was code is not given, or the model in the folder is of another kind.
        """
        known = model_folder.read(folder, device, load, backbone)
        found: Any = resolve_name(known.kind.learned_by)
        if not issubclass(cls, found):
            if not issubclass(found, cls):
                what = "classes" if known.kind.by_class else "numbers"
                raise ConfigError(f"the model in '{folder}' learned {what}: type {found.__name__}.load('{folder}')")
            cls = found  # who asked for either
        return cls.of(known)

    def push_to_hub(self, repo_id: str, *, thumbnails: bool = False, **options: Unpack[hub.PushOptions]) -> str:
        """Upload it to the Hugging Face Hub with a model card, and return the commit's address; see ``hub.push``.

        Args:
            repo_id: ``"owner/name"``; the repository is made if needed.
            thumbnails: whether small pictures of the examples go along, for ``explain``.
            options: see ``hub.PushOptions``.
        """
        known = self._knowledge
        with tempfile.TemporaryDirectory() as folder:
            model_folder.write(folder, known if thumbnails else unshown(known))

            def card_of(description: Mapping[str, Any], repo_id: str, license: str | None) -> str:
                sure = (known.confidence, known.accuracy) if self.by_class else None
                return hub.card(description, repo_id, sure, thumbnails, license)

            return hub.push(folder, repo_id, card_of, **options)

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


class Predictor(Adapted):
    """Classifies inputs into the classes of a support set; ``model.adapt(images, labels)`` makes one.

    It has the shape of scikit-learn's classifiers; and it learns, forgets and renames single classes: see ``Adapted``
    for what is so of every change. A transductive strategy classifies all inputs of a call together, and takes them for
    a mixture of the classes.

    Args:
        encoder: turns inputs into embeddings.
        algorithm: learns classes with it.
        load: makes a tensor of one input; default: inputs are tensors already.
    """

    estimator: ClassVar[str] = "classifier"

    def __init__(self, encoder: Encoder, algorithm: Algorithm, load: Callable[[Any], Any] = torch.as_tensor) -> None:
        super().__init__(untaught(encoder, algorithm, load))

    @classmethod
    def from_backbone(
        cls,
        backbone: str | nn.Module,
        inputs: Any = None,
        labels: Any = None,
        *,
        classes: Sequence[str] = (),
        group_by: Sequence[Any] | None = None,
        backbone_kwargs: Mapping[str, Any] | None = None,
        pretrained: bool = True,
        strategy: str | None = None,
        strategy_kwargs: Mapping[str, Any] | None = None,
        load: Callable[[Any], Any] | None = None,
        device: str | torch.device = "cpu",
    ) -> Self:
        """Learn classes with an encoder as it is, without any training.

        Args:
            backbone: ``"conv4"``, ``"resnet12"``, any name of timm, or a module from ``[N, C, ...]`` to ``[N, ...]``;
                for texts ``"minilm"``, or any encoder of transformers by its name on the Hugging Face Hub, of which
                CLIP and SigLIP take pictures; for both ``"fast"``, ``"balanced"`` or ``"best"``, one for the purpose.
            inputs: 1..n pictures per class, each a path, bytes, a PIL image, an array or a tensor; or texts.
            labels: S labels: all strings, all whole numbers or all bools. It answers in their type.
            classes: names of classes; they alone are enough. Of texts each counts as an example; of pictures they are
                for an encoder that has a side of words.
            group_by: S names of what each example comes from; see ``fit``.
            backbone_kwargs: the backbone's own options.
            pretrained: take trained weights where there are any (timm's).
            strategy: any that ``quickstudy list strategies`` names and that needs no training; default:
                ``"nearest_centroid"``, with names beside pictures ``"tip_adapter"``.
            strategy_kwargs: its options.
            load: makes a tensor of one input; default: as the backbone reads texts, else pictures of 224 by 224 pixels.
            device: where it is to run.

        Raises:
            ConfigError: a name or an option is unknown, or pretrained weights cannot be had.
            DataError: there are no examples, the lengths differ, or an input cannot be read.
        """
        domain = domain_of_items(inputs) if load is None else MODALITIES.name_of(type(as_modality(load))) or ""
        encoder = build_encoder(backbone, backbone_kwargs, pretrained, domain).to(device)
        usual = "tip_adapter" if encoder.reads_words is not None and classes else "nearest_centroid"
        algorithm = STRATEGIES[strategy or usual](**dict(strategy_kwargs or {}))
        if load is None:
            load = usual_inputs(encoder)
        modality = as_modality(load)
        encoder, modality, inputs = acquainted_with_names(encoder, modality, inputs, classes)
        return cls(encoder, algorithm, modality).fit(inputs, labels, classes=classes, group_by=group_by)

    def __repr__(self) -> str:
        """Say how many classes it knows, and which."""
        known = self._knowledge
        classes = [one_line(name, 40) for name in known.support]
        shown = few(classes)
        return f"Predictor({type(known.algorithm).__name__}, {len(classes)} classes{shown and f': {shown}'})"

    def __str__(self) -> str:
        """Say what accuracy to expect, too, which some strategies take a while to find out; for ``print``."""
        return "\n".join([repr(self), *(accuracy_in_words(self.held_out_accuracy_) if self._knowledge.support else [])])

    # ---- what it learns

    @property
    def classes_(self) -> NDArray[Any]:
        """``[W]`` classes as they were taught (strings, ints or bools), in the order of ``predict_proba``'s columns."""
        support = self._knowledge.support
        return np.array(list(support), None if support else np.str_)

    @property
    def counts_(self) -> dict[Label, int]:
        """How many examples of each class it has seen."""
        return self._knowledge.counts

    @property
    def kind(self) -> Classification:
        """What an answer is: one of the classes that it knows now."""
        known = self._knowledge
        names = (name if isinstance(name, str) else str(int(name)) for name in known.support)
        return Classification(classes=tuple(names), label_type=known.label_type or "str")

    def about(self) -> dict[str, Any]:
        """Return what it is and what accuracy to expect of it, in values that JSON has."""
        return {**super().about(), "held_out_accuracy": self._knowledge.accuracy.told()}

    def expected(self) -> list[str]:
        """Return in words what accuracy to expect."""
        return accuracy_in_words(self.held_out_accuracy_, self.modality.called)

    def thumbnails(self, name: Label) -> tuple[bytes, ...]:
        """Return a small JPEG of each example of a class; nothing for one that is no picture, or came without.

        Raises:
            UnknownClassError: there is no such class.
        """
        known = self._knowledge
        return known.support[known.known(name)].shown

    def __contains__(self, name: object) -> bool:
        """Whether it knows a class of this name."""
        return name in self._knowledge

    def as_class(self, text: Label) -> Label:
        """Return the class that a text means where nothing but text can be written, as in a path of HTTP.

        ``"2"`` is the class 2 where classes are numbers, ``"true"`` the class True where they are bools.
        """
        return self._knowledge.as_class(text)

    def fit(
        self,
        inputs: Any = None,
        labels: Any = None,
        *,
        classes: Sequence[str] = (),
        group_by: Sequence[Any] | None = None,
    ) -> Self:
        """Learn a support set, in place of all that was learned before.

        Args:
            inputs: 1..n examples per class, each anything that ``load`` takes; or a tensor or array ``[S, ...]`` of
                all, pictures ``[S, C, H, W]``, ``[S, H, W, C]`` or ``[S, H, W]``. What comes later in another scale of
                pictures (0..255, or 0..1) is brought to theirs.
            labels: S labels, one per example: all strings, all whole numbers or all bools. It answers in their type.
            classes: names of classes, see ``from_backbone``; they alone are enough.
            group_by: S names of what each example comes from, such as a speaker or a page: what accuracy to expect is
                then told by groups that are left out whole. Examples that are nearly the same are so in any case.

        Raises:
            DataError: there are no examples, the lengths differ, or an input cannot be read.
            ConfigError: a name tells nothing of such inputs.
        """
        self._knowledge = fitted(self._knowledge, inputs, labels, classes, group_by)
        return self

    def add_class(self, name: Label, inputs: Any = None, *, group_by: Sequence[Any] | None = None) -> Self:
        """Learn a further class from 1..n examples; its column is the last. Its name is of the others' type.

        Args:
            name: of the class.
            inputs: the examples; None: the name alone, where inputs are texts or the encoder has a side of words.
            group_by: names of what each example comes from; see ``fit``. One that is known goes on.

        Raises:
            TakenError: there is such a class.
            DataError: there are no examples, or one cannot be read.
            ConfigError: the algorithm's head was trained for a fixed number of classes, or a name tells nothing of such
                inputs.
        """
        label = self._knowledge.new(name)
        if label in self._knowledge.support:
            raise TakenError(f"the class {label!r} exists: type add_examples({label!r}, ...) to show more of it")
        return self._make(*addition(self._knowledge, label, inputs, group_by=group_by))

    def add_examples(self, name: Label, inputs: Any, *, group_by: Sequence[Any] | None = None) -> Self:
        """Learn a known class from 1..n further examples.

        Args:
            name: of the class.
            inputs: the examples.
            group_by: names of what each example comes from; see ``fit``. One that is known goes on.

        Raises:
            UnknownClassError: there is no such class.
            DataError: there are no examples, or one cannot be read.
        """
        return self._make(*addition(self._knowledge, self._knowledge.known(name), inputs, group_by=group_by))

    def remove_class(self, name: Label) -> Self:
        """Forget a class.

        Raises:
            UnknownClassError: there is no such class.
            ConfigError: the algorithm's head was trained for a fixed number of classes.
        """
        return self.apply(Change("remove", self._knowledge.known(name)))

    def rename_class(self, name: Label, new_name: Label) -> Self:
        """Call a class by another name; its column stays.

        Raises:
            UnknownClassError: there is no class of the one name.
            TakenError: there is one of the other.
        """
        old, new = self._knowledge.known(name), self._knowledge.new(new_name)
        if new in self._knowledge.support and new != old:
            raise TakenError(f"the class {new!r} exists: remove it first, or choose another name")
        return self.apply(Change("rename", old, new))

    # ---- how sure it is

    @property
    def confidence_(self) -> Confidence:
        """Temperature and threshold, what they come from, and how far held-out probabilities were off.

        Unless ``calibrate`` was called they come from the support set, whose examples are left out in turn.
        """
        return self._knowledge.confidence

    @property
    def held_out_accuracy_(self) -> HeldOutAccuracy:
        """What accuracy to expect on inputs that come as the examples came, in all and by class, with its interval.

        Its answers are those that ``confidence_`` rests on, and cost nothing besides.
        """
        return self._knowledge.accuracy

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
        self._knowledge = calibrated(self._knowledge, inputs, labels, reject_rate, false_accept)
        return self

    # ---- files

    def export(
        self, path: str | os.PathLike[str], *, inputs: Any = None, images: Any = None, only_classes: bool = False
    ) -> export.Exported:
        """Write a graph that answers without quickstudy, and its classes beside it; see ``saved.export.write``.

        Args:
            path: ``x.onnx``, or ``x.pt2`` for torch.export; the classes go to ``x.onnx.classes.safetensors``.
            inputs: some, where the form of them is not known; answers to them are compared, too.
            images: the older name of ``inputs``.
            only_classes: leave the graph, and write the classes of now for it.

        Raises:
            ConfigError: the strategy or the backbone cannot be exported, or the graph answers otherwise.
            DataError: there is no class, or no graph for ``only_classes``.
            MissingPackageError: a package is not installed.
        """
        from quickstudy.saved import export  # which imports what few need

        return export.write(path, self._knowledge, images if inputs is None else inputs, only_classes)

    # ---- what it answers

    def predict(self, inputs: Any, *, may_be_unknown: bool = True) -> list[Any]:
        """Return the class of each of N inputs, or ``"unknown"`` for what is like none of the examples.

        A class is named in the type that it was taught in, str, int or bool; ``"unknown"`` is a string in any case.

        Args:
            inputs: what to classify.
            may_be_unknown: False: name the likeliest class in any case.
        """
        known = self._knowledge
        return named(known, answered(known, known.reader.listed(inputs)), may_be_unknown)

    def rank(self, inputs: Any, count: int = 5, *, nearest: int = 0) -> list[Answer]:
        """Return for each of N inputs what ``predict``, ``predict_proba`` and ``nearest`` say, in one pass.

        Args:
            inputs: what to classify.
            count: how many of the likeliest classes to name, 1 or more.
            nearest: how many of the support examples nearest to it to name.
        """
        check_counts(count=count)
        known = self._knowledge
        examples = known.reader.listed(inputs)
        (logits_NW, familiar_N, embedded_ND), classes = answered(known, examples), list(known.support)
        unknown_N = (familiar_N < known.unknown_below()).tolist()
        best = (logits_NW / known.confidence.temperature).softmax(1).topk(min(count, len(classes)), 1)
        near = neighbours(known, examples, embedded_ND, nearest) if nearest else [[]] * len(logits_NW)
        answers, columns = [], (unknown_N, best.values.tolist(), best.indices.tolist(), near)
        for unknown, chances, codes, nearby in zip(*columns, strict=True):
            ranking = [(classes[code], chance) for code, chance in zip(codes, chances, strict=True)]
            answers.append(Answer(UNKNOWN if unknown else ranking[0][0], ranking, nearby))
        return answers

    def predict_proba(self, inputs: Any) -> NDArray[np.float32]:
        """Return ``[N, W]`` probabilities, each row summing to 1, at the temperature that held-out examples ask for."""
        known = self._knowledge
        return (
            (answered(known, known.reader.listed(inputs)).logits / known.confidence.temperature)
            .softmax(1)
            .float()
            .cpu()
            .numpy()
        )

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
        known = self._knowledge
        logits_NW, classes = answered(known, known.reader.listed(inputs)).logits, list(known.support)
        possible_NW = conformal(known.held_out(least_examples(alpha)), logits_NW, alpha, classes)
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
        known = self._knowledge
        examples = known.reader.listed(inputs)
        return neighbours(known, examples, answered(known, examples).embedded, count)

    def explain(self, item: Any, count: int = 5) -> Any:
        """Return an input beside the support examples nearest to it, with their classes and distances.

        Args:
            item: one picture: a path, bytes, a PIL image, an array or a tensor ``[C, H, W]``; or an input of another
                kind, as its ``load`` takes it.
            count: of examples.

        Returns:
            Of pictures a picture, a PIL image; of other inputs a line of text for each.

        Raises:
            DataError: it knows no class, or the input cannot be read.
        """
        known, shown = self._knowledge, list[bytes]()
        examples = known.reader.listed([item])
        next(known.reader.parts(examples, shown))
        answers = answered(known, examples)
        tiles = [(shown[0], f"answer: {named(known, answers)[0]}", "what was asked")]
        for near in neighbours(known, examples, answers.embedded, count)[0]:
            tiles.append((near.thumbnail, str(near.name), how_far(near.distance, near.same)))
        return known.reader.rules.beside(tiles)

    def score(self, inputs: Any, labels: Any) -> float:
        """Return the share of N inputs whose likeliest class is that of their label, from 0 to 1.

        Warns where it learned from some of them, which tells nothing about new ones.
        """
        return share_right(self._knowledge, inputs, labels)


class NumberPredictor(Adapted):
    """Tells numbers like those of a support set; ``model.adapt(inputs, numbers)`` makes one.

    It has the shape of scikit-learn's regressors; and it learns further examples: see ``Adapted`` for what is so of
    every change.

    Args:
        encoder: turns inputs into embeddings.
        algorithm: learns numbers with it.
        load: makes a tensor of one input; default: inputs are tensors already.
        kind: knows in which units the algorithm learns; default: in those of the numbers.
    """

    by_class: ClassVar[bool] = False
    made_with: ClassVar[tuple[str, ...]] = (*Adapted.made_with, "kind")
    estimator: ClassVar[str] = "regressor"

    def __init__(
        self,
        encoder: Encoder,
        algorithm: Algorithm,
        load: Callable[[Any], Any] = torch.as_tensor,
        kind: Kind | None = None,
    ) -> None:
        super().__init__(untaught(encoder, algorithm, load, kind or Regression()))

    def __repr__(self) -> str:
        """Say how many examples it learned from."""
        return f"NumberPredictor({type(self._knowledge.algorithm).__name__}, {self.examples_} examples)"

    @property
    def kind(self) -> Kind:
        """What an answer is: it knows the units."""
        return self._knowledge.kind

    @property
    def examples_(self) -> int:
        """How many examples it learned from."""
        return sum(self._knowledge.counts.values())

    @property
    def counts_(self) -> dict[Label, int]:
        """Of classes, of which it has none."""
        return {}

    def expected(self) -> list[str]:
        """Return in words what accuracy to expect: nothing, as no example is left out to tell it."""
        return []

    # ---- what it learns

    def fit(self, inputs: Any, numbers: Any) -> Self:
        """Learn examples, in place of all that was learned before.

        Args:
            inputs: S examples, each anything that ``load`` takes; or a tensor or array ``[S, ...]`` of all.
            numbers: S numbers, one per example.

        Raises:
            DataError: there are no examples, the lengths differ, an input cannot be read, or a number is none.
        """
        self._knowledge = fitted(self._knowledge, inputs, numbers)
        return self

    def add_examples(self, inputs: Any, numbers: Any) -> Self:
        """Learn further examples; see ``fit``. It answers as one that learned all of them at once."""
        return self._make(*addition(self._knowledge, NUMBERS, inputs, numbers))

    # ---- files

    def export(self, path: str | os.PathLike[str], *, inputs: Any = None) -> export.Exported:
        """Write a graph from inputs to numbers, in the units of those that it learned, which needs no quickstudy.

        Args:
            path: ``x.onnx``, or ``x.pt2`` for torch.export; what an input is goes to ``x.onnx.classes.safetensors``.
            inputs: some, where the form of them is not known; answers to them are compared, too.

        Raises:
            ConfigError: the strategy or the backbone cannot be exported, or the graph answers otherwise.
            DataError: it has learned nothing yet.
            MissingPackageError: a package is not installed.
        """
        from quickstudy.saved import export  # which imports what few need

        return export.write(path, self._knowledge, inputs)

    # ---- what it answers

    def predict(self, inputs: Any) -> list[float]:
        """Return the number of each of N inputs, in the units of those that it learned.

        Raises:
            DataError: it has learned nothing yet, an input cannot be read, or an answer is not finite.
        """
        known = self._knowledge
        found: list[float] = self.kind.answers(answered(known, known.reader.listed(inputs)).logits, "numbers")
        return found

    def rank(self, inputs: Any, count: int = 5, *, nearest: int = 0) -> list[float]:
        """Return what ``predict`` does; there are no classes to rank, so ``count`` and ``nearest`` do not matter."""
        return self.predict(inputs)

    def score(self, inputs: Any, numbers: Any) -> float:
        """Return the share of the variance that the answers explain, R2, as scikit-learn's regressors do.

        Warns where it learned from some of them, which tells nothing about new ones; and where it is not defined: of a
        single number, NaN; of numbers that are all equal, 1 where every answer is right, else 0.

        Args:
            inputs: what to tell the numbers of.
            numbers: the true ones.

        Raises:
            DataError: there are none, the lengths differ, an input cannot be read, or a number is none.
        """
        return explained(self._knowledge, inputs, numbers)
