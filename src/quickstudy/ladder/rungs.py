"""The rungs of a ladder: what each does, what it costs, what it needs, and how it answers.

One of one's own is a ``Rung``, registered: ``RUNGS.register("mine")(OnEmbeddings(...))``.

Shapes: S support, Q query, W classes, D features, T episodes.
"""

from __future__ import annotations

import importlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from quickstudy.algorithms import STRATEGIES, EmbeddingAlgorithm
from quickstudy.algorithms.base import NamingAlgorithm, Told
from quickstudy.batches import join, take
from quickstudy.domains import DOMAINS
from quickstudy.ladder.draws import ENOUGH
from quickstudy.ladder.examples import Embedded, WithNames, megabytes
from quickstudy.ladder.finetuning import (
    BATCH,
    PAIRED,
    drawn_together,
    finetuned,
    last_stages,
    steps_alone,
    steps_together,
)
from quickstudy.ladder.metatraining import Plan, meta_trained, planned
from quickstudy.learning.adapting import fitted, untaught
from quickstudy.learning.embeddings import embeddings
from quickstudy.learning.knowledge import Knowledge
from quickstudy.modality import MODALITIES
from quickstudy.predictor import Predictor
from quickstudy.registry import Registry
from quickstudy.torch_internals import tree_leaves
from quickstudy.trained import TrainedModel
from quickstudy.training.finetuning import Strategy

SLOW = 4
"""The cost from which a rung is climbed only where that is asked for, and on few draws."""
_FEW, _SOME = 5, 40  # draws; episodes of each number of shots, where each takes long
_AT_ONCE = 50  # episodes whose classes have names
_MANY = 2000  # examples, of more a part tells the strength of a linear probe
_RARE = 1e-6  # of a probability, below which none is told
_TABICL, _WEIGHTS = "jingang/TabICL", "QUICKSTUDY_TABICL"
"""On the hub of Hugging Face; in the environment, the path of a file of weights."""


@dataclass(frozen=True)
class Rung(ABC):
    """A way to answer.

    Args:
        about: what it does, in words.
        cost: from 0; those of one cost are climbed, and weighed against each other, together. From ``SLOW`` on they
            are climbed only where that is asked for, on the first five draws of each number of shots.
        features: what it takes of the examples: what a backbone makes of them, or they themselves.
        baseline: whether it is there to be beaten, and not to be recommended.
    """

    about: str
    cost: int = 1
    features: Literal["embedded", "raw"] = "embedded"
    baseline: bool = False

    @property
    def transductive(self) -> bool:
        """Whether an answer depends on the other inputs of the call."""
        return False

    @property
    def draws(self) -> int:
        """On how many draws of each number of shots it is climbed; 0: on all."""
        return _FEW if self.cost >= SLOW else 0

    @property
    def saves(self) -> bool:
        """Whether it makes a model of all examples."""
        return type(self).knowledge is not Rung.knowledge or type(self).model is not Rung.model

    @property
    def episodes(self) -> int:
        """Of how many episodes of each number of shots it is asked at most; 0: of all."""
        return 0

    def usual(self, domain: str) -> bool:
        """Whether it is climbed in a domain where no rungs are named."""
        return True

    def begins(self, examples: Embedded, supports: Sequence[int]) -> str:
        """Return what it is about to do, in words, where that takes long.

        Args:
            examples: all of them.
            supports: of each draw, how many examples it is to learn from.
        """
        return ""

    def asked(self, examples: Embedded) -> tuple[int, ...]:
        """Return the codes of classes that it may be asked, in episodes alone, as it saw the others; nothing: all."""
        return ()

    def prepared(self, examples: Embedded, folder: Path | None = None) -> Embedded:
        """Return the examples as it takes them, once for all draws: here as they are.

        Args:
            examples: all of them.
            folder: where it may keep what takes long, for the next time; None: nowhere.
        """
        return examples

    def megabytes(self, examples: Embedded) -> float:
        """Return how large the file of a model of all examples is, as far as it can be told before."""
        return examples.megabytes

    def lacks(self, examples: Embedded, domain: str) -> str:
        """Return what it needs and these examples, or this machine, lack; nothing where it can be climbed."""
        return ""

    @abstractmethod
    def logits(self, examples: Embedded, support: Tensor, queries: Tensor) -> Tensor:
        """Return ``[Q, W]`` logits of queries.

        Args:
            examples: all of them.
            support: ``[S]`` rows to learn from.
            queries: ``[Q]`` rows that are asked.
        """

    def episodic(self, examples: Embedded, rows: Tensor, shots: int) -> Tensor | None:
        """Return ``[T, W]``, how many queries of each class it answers rightly in episodes; None: it takes too long.

        Args:
            examples: all of them.
            rows: ``[T, W, K]``, of which the first ``shots`` of each class are the support.
            shots: per class.
        """
        return None

    def knowledge(self, examples: Embedded) -> Knowledge | None:
        """Return what a ``Predictor`` of this rung knows once it has learned all examples; None: it makes none."""
        return None

    def model(self, examples: Embedded) -> Predictor | TrainedModel | None:
        """Return what has learned all examples and answers as this rung does; None: it makes none."""
        knowledge = self.knowledge(examples)
        return None if knowledge is None else Predictor.of(knowledge)


@dataclass(frozen=True)
class OnEmbeddings(Rung):
    """A strategy that learns embeddings.

    Args:
        strategy: its name.
        options: of the strategy.
        named: whether the names of the classes are learned: beside the examples, or alone. Of an encoder of pictures
            with a side of words they alone are zero-shot classification.
    """

    strategy: str = "nearest_centroid"
    options: Mapping[str, Any] = field(default_factory=dict)
    named: WithNames = "no"

    @property
    def transductive(self) -> bool:
        """Whether the strategy is."""
        return bool(STRATEGIES[self.strategy].transductive)

    def megabytes(self, examples: Embedded) -> float:
        """Return the size of the encoder, and of the embeddings that are learned."""
        return super().megabytes(examples) - megabytes([examples.values]) * (self.named == "alone")

    def lacks(self, examples: Embedded, domain: str) -> str:
        """Return what is missing: classes have no names, or these tell nothing of such inputs."""
        return "" if self.named == "no" else examples.nameless

    def logits(self, examples: Embedded, support: Tensor, queries: Tensor) -> Tensor:
        """Learn and answer."""
        algorithm, ways = self._algorithm(examples), len(examples.table.classes)
        support = support[:0] if self.named == "alone" else support
        values_SD, targets_S = examples.values[support], examples.targets[support]
        if self.named != "no":
            algorithm = Told(algorithm, examples.names, torch.arange(ways))
        with torch.inference_mode():
            state = algorithm.adapt(examples.encoder, values_SD, targets_S.to(values_SD.device), ways)
            return algorithm.answer(examples.encoder, state, examples.values[queries]).cpu()

    def episodic(self, examples: Embedded, rows: Tensor, shots: int) -> Tensor | None:
        """Learn and answer the episodes, many side by side."""
        algorithm, values_ND, known = self._algorithm(examples), examples.values, shots
        tasks, ways, each = rows.shape
        asked_Q = torch.arange(ways).repeat_interleave(each - shots)
        if self.named != "no" and isinstance(algorithm, NamingAlgorithm):
            return self._of_names(algorithm, examples, rows, shots)
        if self.named != "no":
            names_TW1 = len(values_ND) + examples.targets[rows[:, :, :1]]
            known = shots + 1 if self.named == "too" else 1
            rows = torch.cat([rows[:, :, : known - 1], names_TW1, rows[:, :, shots:]], 2)
            values_ND = torch.cat([values_ND, examples.names])
        answers_TQ = algorithm.answers(values_ND, rows, known).cpu()
        return (answers_TQ == asked_Q).view(tasks, ways, -1).sum(2)

    def _of_names(self, algorithm: NamingAlgorithm, examples: Embedded, rows: Tensor, shots: int) -> Tensor:
        """Do likewise with the names of each episode's classes apart from examples."""
        ways, known = rows.shape[1], 0 if self.named == "alone" else shots
        targets_S, asked_Q = (torch.arange(ways).repeat_interleave(each) for each in (known, rows.shape[2] - shots))
        names_TWD, right = examples.names[examples.targets[rows[:, :, 0]]], list[Tensor]()
        with torch.inference_mode():
            for some, names_tWD in zip(torch.split(rows, _AT_ONCE), torch.split(names_TWD, _AT_ONCE), strict=True):
                support_tSD = examples.values[some[:, :, :known]].flatten(1, 2)
                query_tQD = examples.values[some[:, :, shots:]].flatten(1, 2)
                targets_tS = targets_S.expand(len(some), -1)
                logits_tQW = algorithm.classify_named(support_tSD, targets_tS, query_tQD, names_tWD)
                right.append((logits_tQW.argmax(2) == asked_Q).view(len(some), ways, -1).sum(2))
        return torch.cat(right)

    def knowledge(self, examples: Embedded) -> Knowledge | None:
        """Learn all examples; of very many some tell the strength of what chooses its own."""
        algorithm: Any = self._algorithm(examples)
        targets_N, ways = examples.targets, len(examples.table.classes)
        some = targets_N.argsort(stable=True)[:: -(-len(targets_N) // _MANY)]
        if len(some) < len(targets_N) and hasattr(algorithm, "settled") and len(set(targets_N[some].tolist())) == ways:
            algorithm = algorithm.settled(examples.values[some], targets_N[some], ways).eval()
            algorithm.meet(examples.encoder, examples.knowledge.algorithm.feature_shape, ways)
        return examples.taught(algorithm, self.named)

    def _algorithm(self, examples: Embedded) -> EmbeddingAlgorithm:
        zero_shot = self.named == "alone" and examples.encoder.reads_words is not None
        made: Any = STRATEGIES["tip_adapter" if zero_shot else self.strategy](**self.options).eval()
        shape, ways = examples.knowledge.algorithm.feature_shape, len(examples.table.classes)
        made.meet(examples.encoder, shape, ways)
        algorithm: EmbeddingAlgorithm = made
        return algorithm


@dataclass(frozen=True)
class Commonest(Rung):
    """The class that most examples are of, whatever is asked."""

    def logits(self, examples: Embedded, support: Tensor, queries: Tensor) -> Tensor:
        """Return how common each class is among all examples."""
        counts_W = torch.bincount(examples.targets, minlength=len(examples.table.classes))
        return counts_W.double().log().expand(len(queries), -1)


@dataclass(frozen=True)
class Estimator(Rung):
    """A classifier that is made as scikit-learn's are; nothing saves it here.

    Args:
        package: that has it, as it is imported.
        name: of its class.
        options: of that.
    """

    package: str = "sklearn.ensemble"
    name: str = "RandomForestClassifier"
    options: Mapping[str, Any] = field(default_factory=dict)

    def lacks(self, examples: Embedded, domain: str) -> str:
        """Return what is missing: it is for rows of tables, and its package may not be installed."""
        if examples.knowledge.modality.column_names is None:
            return "it is for rows of tables"
        top = self.package.split(".")[0]
        return "" if find_spec(top) else f"the package '{top}' is not installed"

    def settings(self, examples: Embedded) -> dict[str, Any]:
        """Return the options that it is made with."""
        return dict(self.options)

    def logits(self, examples: Embedded, support: Tensor, queries: Tensor) -> Tensor:
        """Fit and answer."""
        made = getattr(importlib.import_module(self.package), self.name)(**self.settings(examples))
        values_ND = examples.values.cpu().numpy()
        made.fit(values_ND[support], examples.targets[support].numpy())
        chances_QW = np.full((len(queries), len(examples.table.classes)), _RARE)
        chances_QW[:, made.classes_] = np.maximum(made.predict_proba(values_ND[queries]), _RARE)
        return torch.from_numpy(chances_QW).log()


@dataclass(frozen=True)
class TabICL(Estimator):
    """A transformer that was trained on made-up tables, and learns a table as it reads it; nothing saves it here.

    Qu et al. 2025, https://arxiv.org/abs/2502.05564. It downloads nothing: its weights are those of its option
    ``model_path``, of ``QUICKSTUDY_TABICL`` in the environment, or what the cache of Hugging Face's hub has.
    """

    package: str = "tabicl"
    name: str = "TabICLClassifier"

    def lacks(self, examples: Embedded, domain: str) -> str:
        """Return what is missing: it is for rows of tables; its package, or its weights."""
        if lacking := super().lacks(examples, domain):
            return f"{lacking}: pip install 'quickstudy[tabicl]'" if lacking.endswith("installed") else lacking
        found, version = self._weights()
        if found is None:
            return (
                f"its weights are not here: type hf download {_TABICL} {version}, or copy that file and set "
                f"{_WEIGHTS}=PATH in the environment"
            )
        return "" if found.is_file() else f"there is no file '{found}' ({_WEIGHTS} names it, or its model_path)"

    def settings(self, examples: Embedded) -> dict[str, Any]:
        """Return the options that it is made with."""
        own = {"model_path": self._weights()[0], "allow_auto_download": False, "device": str(examples.encoder.device)}
        return {**self.options, **own}

    def _weights(self) -> tuple[Path | None, str]:
        """Return the file of the weights, None where none is known; and what the hub calls it."""
        made = getattr(importlib.import_module(self.package), self.name)
        version = str(signature(made).parameters["checkpoint_version"].default)
        if named := self.options.get("model_path") or os.environ.get(_WEIGHTS):
            return Path(named).expanduser(), version
        cached = importlib.import_module("huggingface_hub").try_to_load_from_cache(_TABICL, version)
        return Path(cached) if isinstance(cached, str) else None, version


@dataclass(frozen=True)
class FineTuned(Rung):
    """A backbone that is trained further on what is learned from, with a head for the classes.

    Args:
        strategy: what of it trains, as ``Trainer.finetune`` takes it; ``"last"``: its last stages.
    """

    strategy: Strategy = "no_freeze"

    def megabytes(self, examples: Embedded) -> float:
        """Return the size of the backbone: no example is kept."""
        return megabytes(examples.encoder.state_dict().values())

    def lacks(self, examples: Embedded, domain: str) -> str:
        """Return what is missing: the backbone has nothing that trains, or a package is not installed."""
        if isinstance(self.strategy, tuple) and self.strategy[0] == "lora" and not find_spec("peft"):
            return "the package 'peft' is not installed: pip install 'quickstudy[lora]'"
        return _nothing_to_train(examples)

    def logits(self, examples: Embedded, support: Tensor, queries: Tensor) -> Tensor:
        """Train and answer."""
        asked = _some(examples, queries)
        logits_QW: Tensor = torch.as_tensor(self._trained(examples, support).predict(asked, "logits"))
        return logits_QW

    def begins(self, examples: Embedded, supports: Sequence[int]) -> str:
        """Say how often it trains, and for how long."""
        return _trainings(map(steps_alone, supports), BATCH, examples)

    def model(self, examples: Embedded) -> TrainedModel:
        """Train on all examples."""
        return self._trained(examples, torch.arange(len(examples.table)))

    def _trained(self, examples: Embedded, support: Tensor) -> TrainedModel:
        strategy = last_stages(examples.encoder.backbone) if self.strategy == "last" else self.strategy
        return finetuned(examples, support, strategy)


@dataclass(frozen=True)
class Contrastive(Rung):
    """A backbone that is trained to embed examples of a class near each other, and a strategy that learns embeddings.

    Args:
        strategy: its name.
    """

    strategy: str = "linear_probe"

    def usual(self, domain: str) -> bool:
        """Whether they are words."""
        return domain in DOMAINS and MODALITIES[domain].in_words

    def lacks(self, examples: Embedded, domain: str) -> str:
        """Return what is missing: the backbone has nothing that trains."""
        return _nothing_to_train(examples)

    def logits(self, examples: Embedded, support: Tensor, queries: Tensor) -> Tensor:
        """Train, learn and answer."""
        known, ways = self._untaught(examples, support), len(examples.table.classes)

        def of(rows: Tensor) -> Tensor:
            found = embeddings(known.encoder, known.modality, _some(examples, rows), keep=False)
            return torch.tensor(found).to(known.encoder.device)

        with torch.inference_mode():
            support_SD, targets_S = of(support), examples.targets[support].to(known.encoder.device)
            known.algorithm.meet(known.encoder, tuple(support_SD.shape[1:]), ways)
            state = known.algorithm.adapt(known.encoder, support_SD, targets_S, ways)
            return known.algorithm.answer(known.encoder, state, of(queries)).cpu()

    def knowledge(self, examples: Embedded) -> Knowledge:
        """Train on all examples, and learn them."""
        return fitted(self._untaught(examples, torch.arange(len(examples.table))), examples.examples, examples.labels)

    def begins(self, examples: Embedded, supports: Sequence[int]) -> str:
        """Say how often it trains, and for how long."""
        ways = len(examples.table.classes)
        return _trainings((steps_together(count) for count in supports if count > ways), PAIRED, examples)

    def _untaught(self, examples: Embedded, support: Tensor) -> Knowledge:
        encoder = drawn_together(examples, support)
        return untaught(encoder, STRATEGIES[self.strategy]().eval(), examples.knowledge.modality)


@dataclass(frozen=True)
class MetaTrained(OnEmbeddings):
    """A strategy and its encoder, trained by episodes of other classes than those that are asked.

    Args:
        options: of the strategy.
        of_trained: further ones where the encoder begins with trained weights.
        named: it has no meaning here.
        by_name: whether it is climbed only where its name is given.
    """

    of_trained: Mapping[str, Any] = field(default_factory=dict)
    by_name: bool = False

    @property
    def draws(self) -> int:
        """On how many draws of each number of shots it is climbed: on all, as it trains once."""
        return 0

    def usual(self, domain: str) -> bool:
        """Whether no name is needed."""
        return not self.by_name

    def lacks(self, examples: Embedded, domain: str) -> str:
        """Return what is missing: other classes, or something that trains."""
        if examples.others is None:
            return f"no other classes to meta-train on: give --meta_train FOLDER, or {ENOUGH} times --ways classes"
        return examples.others.lacking or _nothing_to_train(examples)

    def begins(self, examples: Embedded, supports: Sequence[int]) -> str:
        """Say on what it trains, and for how long."""
        return self._plan(examples).told

    def asked(self, examples: Embedded) -> tuple[int, ...]:
        """Return the classes that it was not trained on, where these are of the same data; see ``Rung.asked``."""
        return () if examples.others is None else examples.others.asked

    def prepared(self, examples: Embedded, folder: Path | None = None) -> Embedded:
        """Meta-train, and embed by what was trained."""
        return meta_trained(examples, self.strategy, self._plan(examples), folder)

    def _plan(self, examples: Embedded) -> Plan:
        further = self.of_trained if examples.encoder.trained else {}
        return planned(examples, self.strategy, {**self.options, **further})

    def _algorithm(self, examples: Embedded) -> EmbeddingAlgorithm:
        algorithm: Any = examples.knowledge.algorithm
        return algorithm  # type: ignore[no-any-return]


@dataclass(frozen=True)
class MetaAdapted(MetaTrained):
    """One of which learning a task changes weights of the encoder's own."""

    @property
    def draws(self) -> int:
        """On how many draws of each number of shots it is climbed."""
        return _FEW

    @property
    def episodes(self) -> int:
        """Of how many episodes of each number of shots it is asked."""
        return _SOME

    def megabytes(self, examples: Embedded) -> float:
        """Return the size of the encoder and of all examples, which it keeps."""
        inputs = examples.knowledge.reader.parts(examples.examples, rows=np.arange(1))
        return megabytes([*examples.encoder.state_dict().values()]) + len(examples.table) * megabytes(
            leaf for part in inputs for leaf in tree_leaves(part)
        )

    def logits(self, examples: Embedded, support: Tensor, queries: Tensor) -> Tensor:
        """Adapt and answer."""
        return self._answers(examples, support, examples.targets[support], queries, len(examples.table.classes))

    def episodic(self, examples: Embedded, rows: Tensor, shots: int) -> Tensor | None:
        """Adapt to each episode, and answer."""
        _, ways, each = rows.shape
        known_S, asked_Q = (torch.arange(ways).repeat_interleave(count) for count in (shots, each - shots))
        right = []
        for rows_WK in rows:
            support, queries = rows_WK[:, :shots].flatten(), rows_WK[:, shots:].flatten()
            answers_Q = self._answers(examples, support, known_S, queries, ways).argmax(1)
            right.append((answers_Q == asked_Q).view(ways, -1).sum(1))
        return torch.stack(right)

    def knowledge(self, examples: Embedded) -> Knowledge:
        """Adapt to all examples."""
        return fitted(examples.knowledge, examples.examples, examples.labels)

    def _answers(self, examples: Embedded, support: Tensor, targets_S: Tensor, queries: Tensor, ways: int) -> Tensor:
        known = examples.knowledge
        support_S, parts = (
            join(known.reader.parts(examples.examples, rows=support.numpy())),
            known.reader.parts(examples.examples, rows=queries.numpy()),
        )
        with torch.inference_mode():
            state = known.algorithm.adapt(known.encoder, support_S, targets_S.to(known.encoder.device), ways)
            return known.algorithm.predict(known.encoder, state, parts).cpu()


def _trainings(steps: Iterable[int], batch: int, examples: Embedded) -> str:
    counts = list(steps)
    called = examples.knowledge.modality.called
    each = f"{min(counts)} to {max(counts)}" if len(set(counts)) > 1 else f"{max(counts, default=0)}"
    return f"{len(counts)} trainings of {each} steps of up to {batch} {called}" if counts else ""


def _some(examples: Embedded, rows: Tensor) -> Any:
    """Return inputs by their rows."""
    inputs = examples.table.inputs
    return take(inputs, rows) if isinstance(inputs, (Tensor, dict)) else [inputs[row] for row in rows.tolist()]


def _nothing_to_train(examples: Embedded) -> str:
    parts = any(True for _ in examples.encoder.backbone.parameters())
    return "" if parts else "the backbone has nothing to train"


RUNGS: Registry[Rung] = Registry("rung", hint="One of your own is known once it is registered")
"""By name."""

for _name, _rung in {
    "commonest": Commonest("the class that most examples are of", 0, "raw", True),
    "raw_neighbour": OnEmbeddings(
        "nearest neighbour of the inputs themselves, without an encoder", 0, "raw", True, "nearest_neighbour"
    ),
    "names": OnEmbeddings("the names of the classes, without an example", 1, named="alone"),
    "nearest_centroid": OnEmbeddings("nearest class mean of embeddings", 1),
    "names_too": OnEmbeddings("nearest class mean, of which the name of the class is an example", 1, named="too"),
    "nearest_neighbour": OnEmbeddings("nearest neighbour of embeddings", 1, strategy="nearest_neighbour"),
    **{
        f"neighbours{ending}": OnEmbeddings(
            f"ten nearest neighbours of embeddings{told}",
            1,
            strategy="nearest_neighbour",
            options={"neighbours": 10, "projection": projection},
        )
        for ending, told, projection in (
            ("", "", "none"),
            ("_pca", ", projected onto their principal components", "pca"),
            ("_ica", ", projected onto these and scaled, as ICA does", "ica"),
        )
    },
    "linear_probe": OnEmbeddings("logistic regression on embeddings", 1, strategy="linear_probe"),
    "tip_adapter": OnEmbeddings(
        "the names of the classes, corrected by the examples that are near", 1, strategy="tip_adapter", named="too"
    ),
    "bdcspn": OnEmbeddings("class means, corrected by what else is asked", 2, strategy="bdcspn"),
    "tim": OnEmbeddings("answers that are even among the classes, of all that is asked", 2, strategy="tim"),
    "random_forest": Estimator(
        "a random forest of scikit-learn", 3, "raw", options={"n_estimators": 200, "random_state": 0}
    ),
    "lightgbm": Estimator(
        "boosted trees of LightGBM",
        3,
        "raw",
        package="lightgbm",
        name="LGBMClassifier",
        options={"random_state": 0, "verbose": -1, "n_jobs": 1},
    ),
    "tabicl": TabICL(
        "TabICL, a transformer that learns a table as it reads it", SLOW, "raw", options={"random_state": 0}
    ),
    "finetune_last": FineTuned("fine-tuning of the last two stages of the encoder", SLOW, strategy="last"),
    "lora": FineTuned("fine-tuning of additions of rank 8 to the encoder", SLOW, strategy=("lora", 8)),
    "finetune": FineTuned("fine-tuning of the whole encoder", SLOW + 1),
    **{
        name: (MetaAdapted if STRATEGIES[name].adapts_encoder else MetaTrained)(
            f"{told}, meta-trained on other classes",
            SLOW + 1,
            strategy=name,
            options=options,
            of_trained=of_trained,
            by_name=by_name,
        )
        for name, told, options, of_trained, by_name in (
            ("prototypicalnetworks", "class means", {}, {"metric": "cosine", "scale": 15.0}, False),
            ("metaoptnet", "a support vector machine", {}, {}, False),
            ("anil", "a head that takes gradient steps", {"head": "shared"}, {}, False),
            ("maml", "an encoder and a head that take gradient steps", {"head": "shared"}, {}, False),
            ("matchingnetworks", "nearest neighbours that vote", {}, {}, True),
            ("relationnetworks", "a learned comparison with class means", {}, {}, True),
            ("meta_baseline", "class means by scaled cosines", {}, {}, True),
            ("r2d2", "ridge regression", {}, {}, True),
            ("protomaml", "gradient steps from class means", {}, {}, True),
            ("metasgd", "gradient steps of learned rates", {"head": "shared"}, {}, True),
            ("reptile", "gradient steps", {"head": "shared"}, {}, True),
        )
    },
    "contrastive": Contrastive(
        "logistic regression on embeddings of an encoder that was trained to draw each class together", SLOW + 1
    ),
}.items():
    RUNGS.register(_name)(_rung)


def available_rungs(slow: bool = True, domain: str | None = None, meta: bool = False) -> list[str]:
    """Return the names that ``rungs=`` takes, from what costs little to what costs much.

    Args:
        slow: whether those are among them that train the backbone anew.
        domain: only those that are climbed where none are named and the examples are such; None: all.
        meta: whether those are among them that are meta-trained, though ``slow`` is not said.
    """
    names = sorted(RUNGS.names(), key=lambda name: RUNGS[name].cost)
    return [
        name
        for name in names
        if (slow or RUNGS[name].cost < SLOW or (meta and isinstance(RUNGS[name], MetaTrained)))
        and (domain is None or RUNGS[name].usual(domain))
    ]
