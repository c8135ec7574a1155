"""The table of backbones that quickstudy itself defines."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from quickstudy.registry import Registry

_OF_TABLES = ("ft_transformer", "mlp", "one_hot", "resnet", "tabm")

BACKBONES: Registry[Callable[..., nn.Module]] = Registry(
    "backbone",
    homes={
        "audio_conv4": "quickstudy.audio.nets",
        "small_transformer": "quickstudy.text.nets",
        **dict.fromkeys(_OF_TABLES, "quickstudy.tabular.nets"),
    },
)
