"""Transforms of whole training batches on the device they are on, such as kornia's augmentations.

Shapes: N examples, B of a batch, V views of each, T episodes of S examples, ``...`` the shape of one input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from quickstudy.batches import fold, join, take, unfold
from quickstudy.data.samples import seeded
from quickstudy.episode import Episode
from quickstudy.errors import ConfigError

BatchTransform = Callable[[Tensor], Tensor]
"""A module or a function of inputs ``[N, ...]`` that returns as many."""


def transformed(transform: BatchTransform, batch: Any) -> Any:
    """Return a training batch whose inputs went through a transform: of episodes, and of views, all together.

    Args:
        transform: see ``DataOptions.batch_transform``.
        batch: ``(inputs [B, ...], targets)``, an ``Episode`` of ``[T, S, ...]``, or ``{"views": [B, V, ...]}``.

    Raises:
        ConfigError: inputs are dicts, or it returns no tensor of as many examples.
    """
    if isinstance(batch, Episode):
        inputs, shots = join([batch.support, batch.query], 1), batch.support_targets.shape[1]
        tasks, examples = len(inputs), batch.query_targets.shape[1] + shots
        found = unfold(_applied(transform, fold(inputs)), tasks, examples)
        support, query = (take(found, (slice(None), part)) for part in (slice(shots), slice(shots, None)))
        return batch._replace(support=support, query=query)
    if isinstance(batch, Mapping):
        if "views" not in batch:
            return {**batch, "input": _applied(transform, batch["input"])}
        views = batch["views"]
        return {**batch, "views": unfold(_applied(transform, fold(views)), *views.shape[:2])}
    inputs, *others = batch
    return (_applied(transform, inputs), *others)


def _applied(transform: BatchTransform, inputs: Any) -> Tensor:
    if not isinstance(inputs, Tensor):
        raise ConfigError("batch_transform takes inputs that are one tensor, and these are dicts: leave it out")
    if isinstance(transform, nn.Module):
        transform.to(inputs.device).train()
    whole, seed = inputs.dtype == torch.uint8, torch.initial_seed()  # that of the step
    with torch.no_grad(), torch.autocast(inputs.device.type, enabled=False), seeded((seed, seed >> 32)):
        found = transform(inputs.float() / 255 if whole else inputs)
    if not isinstance(found, Tensor) or len(found) != len(inputs):
        kind = f"a tensor of {len(found)}" if isinstance(found, Tensor) and found.ndim else type(found).__name__
        raise ConfigError(
            f"batch_transform was given {len(inputs)} examples and returned {kind}: it must return a tensor of as many"
        )
    return (found.clamp(0, 1) * 255).round().to(torch.uint8) if whole else found
