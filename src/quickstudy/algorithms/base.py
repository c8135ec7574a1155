"""The contract of a few-shot algorithm, written for one task; batching and precision happen here, outside it.

Shapes: T tasks, S support, Q query, W ways, D features, ``...`` the shape of one input.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from quickstudy.episode import Episode
from quickstudy.nets import Encoder, EpisodeStatistics
from quickstudy.registry import Registry


class EmbeddingAlgorithm(nn.Module, ABC):
    """A classifier of embeddings that is made from a support set.

    Both methods see one task, must be free of state, and must pass through ``torch.func.vmap``: no boolean masks,
    no ``.item()``, no shapes that depend on values. What they learn across tasks (a temperature, say) is an
    ``nn.Parameter``. Its keyword arguments become ``training_strategy_kwargs``.
    """

    paper: ClassVar[str]
    """Authors, year, title and link."""
    transductive: ClassVar[bool] = False
    """Whether a query's logits depend on the other queries."""

    @abstractmethod
    def fit(self, support_SD: Tensor, targets_S: Tensor, ways: int) -> Any:
        """Return the classifier's state, a tensor or a tuple of tensors.

        Args:
            support_SD: ``[S, D]`` embeddings, in float32 or better.
            targets_S: ``[S]`` classes from 0 to ``ways - 1``; classes may have different numbers of examples.
            ways: W.
        """

    @abstractmethod
    def logits(self, state: Any, query_QD: Tensor) -> Tensor:
        """Return ``[Q, W]`` logits of queries ``[Q, D]``."""


STRATEGIES: Registry[type[EmbeddingAlgorithm]] = Registry("training_strategy")


def available_strategies() -> list[str]:
    """Return the names that ``training_strategy=`` takes."""
    return sorted([*STRATEGIES.names(), "default"])


def is_transductive(algorithm: EmbeddingAlgorithm, encoder: Encoder) -> bool:
    """Whether an evaluation sees the query set: by the algorithm, or by BatchNorm without running statistics."""
    norms = (module for module in encoder.modules() if isinstance(module, _BatchNorm))
    return algorithm.transductive or any(norm.running_mean is None for norm in norms)


def episode_logits(algorithm: EmbeddingAlgorithm, encoder: Encoder, episode: Episode, ways: int) -> Tensor:
    """Return ``[T, Q, W]`` logits of the queries of T tasks.

    All images of all tasks are embedded in one pass; in training mode BatchNorm sees one episode at a time. The
    classifier works outside autocast, in float32 or better.
    """
    tasks, support = episode.support.shape[:2]
    inputs = torch.cat([episode.support, episode.query], 1)
    with EpisodeStatistics(tasks):
        embedded = encoder(inputs.flatten(0, 1)).unflatten(0, (tasks, -1))
    with torch.autocast(embedded.device.type, enabled=False):
        embedded = embedded if embedded.dtype == torch.float64 else embedded.float()

        def one_task(support_SD: Tensor, targets_S: Tensor, query_QD: Tensor) -> Tensor:
            return algorithm.logits(algorithm.fit(support_SD, targets_S, ways), query_QD)

        logits_TQW: Tensor = torch.func.vmap(one_task)(
            embedded[:, :support], episode.support_targets, embedded[:, support:]
        )
    return logits_TQW
