"""The head of a model with fixed classes: which classes, and a linear layer of the right size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from quickstudy.errors import ConfigError
from quickstudy.nets import Encoder


def class_names(data: Any, num_classes: int | None) -> tuple[str, ...]:
    """Return the names of the classes: the data's, or their numbers.

    Args:
        data: a data module, or None.
        num_classes: how many there are, where it was given.

    Raises:
        ConfigError: neither tells, or they differ.
    """
    if data is None and num_classes is None:
        raise ConfigError("num_classes is not known: give num_classes=, or data that has classes (datamodule=)")
    names = tuple(map(str, range(num_classes or 0))) if data is None else tuple(data.classes)
    if num_classes not in (None, len(names)):
        raise ConfigError(f"num_classes={num_classes}, and the data has {len(names)} classes: leave num_classes out")
    return names


def linear_head(encoder: Encoder, example: Tensor, num_classes: int) -> nn.Linear:
    """Return a linear layer from the encoder's features to logits.

    Args:
        encoder: left in training mode.
        example: one input ``[1, C, ...]``, on the encoder's device.
        num_classes: of the output.
    """
    encoder.eval()
    with torch.no_grad():
        features = encoder(example).shape[1]
    encoder.train()
    return nn.Linear(features, num_classes).to(example.device)
