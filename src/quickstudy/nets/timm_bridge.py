"""Every backbone of timm, by its name there. https://github.com/huggingface/pytorch-image-models"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from torch import nn

from quickstudy.errors import ConfigError, closest, first_line, require


def names() -> list[str]:
    """Return the names of timm's models; empty where timm is not installed."""
    return list(require("timm", extra="image").list_models()) if find_spec("timm") else []


def create(
    name: str, kwargs: Mapping[str, Any], pretrained: bool, others: Sequence[str]
) -> tuple[nn.Module, Sequence[float] | None, Sequence[float] | None]:
    """Make a timm model without its classifier.

    Args:
        name: its name in timm.
        kwargs: timm's own options, such as ``in_chans``, ``img_size`` or ``checkpoint_path``.
        pretrained: load trained weights where there are any.
        others: further names that exist, for the message.

    Returns:
        The module, and the mean and standard deviation that its images are normalised by, in units of 0..1.

    Raises:
        ConfigError: there is no such model, an option does not fit, or the weights cannot be downloaded.
    """
    timm = require("timm", extra="image")
    if not timm.is_model(name):
        known = [*others, *timm.list_models()]
        raise ConfigError(
            f"unknown backbone '{name}'{closest(name, known)} Known: {', '.join(others)} and "
            f"{len(known) - len(others)} models of timm (type: quickstudy list backbones)"
        )
    if pretrained and "checkpoint_path" not in kwargs and not timm.is_model_pretrained(name):
        warnings.warn(f"there are no pretrained weights for '{name}': it starts from scratch", stacklevel=4)
        pretrained = False
    loading = pretrained and "checkpoint_path" not in kwargs
    try:
        model = timm.create_model(name, pretrained=loading, num_classes=0, **kwargs)
    except TypeError as error:
        raise ConfigError(f"backbone '{name}' does not take backbone_kwargs={dict(kwargs)}: {error}") from error
    except Exception as error:
        if not loading:
            raise
        raise ConfigError(
            f"the pretrained weights of '{name}' could not be loaded: {first_line(error)}. Without a network, start "
            "from scratch, pretrained=False (--pretrained false on the command line), or from weights in a file, "
            "backbone_kwargs={'checkpoint_path': 'weights.safetensors'} (--backbone_kwargs.checkpoint_path "
            "weights.safetensors)"
        ) from error
    config = getattr(model, "pretrained_cfg", {}) or {}
    channels = getattr(model, "in_chans", None) or config.get("input_size", (3,))[0]
    mean, std = config.get("mean"), config.get("std")
    if mean is not None and len(mean) != kwargs.get("in_chans", channels):
        mean = std = None
    return model, mean, std
