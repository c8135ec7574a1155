"""The table of backbones that quickstudy itself defines."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from quickstudy.registry import Registry

BACKBONES: Registry[Callable[..., nn.Module]] = Registry(
    "backbone",
    homes={
        "audio_conv4": "quickstudy.audio.nets",
        "mlp": "quickstudy.tabular.nets",
        "small_transformer": "quickstudy.text.nets",
    },
)
