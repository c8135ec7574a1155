"""Rungs that learn what an encoder makes of examples, which stays as it is; and the commonest class.

Shapes: S support, Q query, W classes, D features, T episodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from quickstudy.algorithms import STRATEGIES, EmbeddingAlgorithm
from quickstudy.algorithms.base import NamingAlgorithm, Told
from quickstudy.ladder.examples import Embedded, WithNames, megabytes
from quickstudy.ladder.rung import Rung
from quickstudy.learning.knowledge import Knowledge

_AT_ONCE = 50  # episodes whose classes have names
_MANY = 2000  # examples, of more a part tells the strength of a linear probe


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
