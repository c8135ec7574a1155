"""Rungs that train the encoder: further on each draw, or once on other classes.

Shapes: S support, Q query, W classes, T episodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from quickstudy.algorithms import STRATEGIES, EmbeddingAlgorithm
from quickstudy.batches import join, take
from quickstudy.domains import DOMAINS
from quickstudy.ladder.draws import ENOUGH
from quickstudy.ladder.examples import Embedded, megabytes
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
from quickstudy.ladder.on_embeddings import OnEmbeddings
from quickstudy.ladder.rung import FEW, Rung
from quickstudy.learning.adapting import fitted, untaught
from quickstudy.learning.embeddings import embeddings
from quickstudy.learning.knowledge import Knowledge
from quickstudy.modality import MODALITIES
from quickstudy.torch_internals import tree_leaves
from quickstudy.trained import TrainedModel

if TYPE_CHECKING:
    from quickstudy.training.finetuning import Strategy

_EPISODES = 40  # of each number of shots, where each takes long


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
        return FEW

    @property
    def episodes(self) -> int:
        """Of how many episodes of each number of shots it is asked."""
        return _EPISODES

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
