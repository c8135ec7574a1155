"""Low-rank additions to a network's layers, through peft.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", https://arxiv.org/abs/2106.09685
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

from torch import nn

from quickstudy.errors import ConfigError, require


def add_adapters(backbone: nn.Module, rank: int) -> None:
    """Put an addition of a rank beside every linear and convolutional layer; the network computes the same at first.

    Raises:
        MissingPackageError: peft is not installed.
        ConfigError: there is no such layer.
    """
    peft: Any = require("peft", "lora")
    names = [name for name, module in backbone.named_modules() if name and _can_be_adapted(module)]
    if not names:
        raise ConfigError(f"{type(backbone).__name__} has no linear or convolutional layer that lora could add to")
    trained = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    peft.inject_adapter_in_model(
        peft.LoraConfig(r=rank, lora_alpha=rank, target_modules="|".join(map(re.escape, names))), backbone
    )
    for parameter in trained:  # what is frozen is for others to say
        parameter.requires_grad_(True)


def adapters_of(backbone: nn.Module) -> list[nn.Module]:
    """Return the layers that the additions are made of."""
    return [module for name, module in backbone.named_modules() if ".lora_" in f".{name}"]


def adapter_rank(backbone: nn.Module) -> int:
    """Return the rank of the additions; 0 where there are none."""
    adapted: list[Any] = [module for module in backbone.modules() if _is_adapted(module)]
    return int(adapted[0].r["default"]) if adapted else 0


def merge_adapters(backbone: nn.Module) -> None:
    """Make the additions part of the layers they stand beside, which are plain again."""
    for name, module in list(backbone.named_modules()):
        if _is_adapted(module):
            adapted: Any = module
            adapted.merge()
            parent, _, own = name.rpartition(".")
            setattr(backbone.get_submodule(parent), own, adapted.get_base_layer())


def merged_weights(backbone: nn.Module, rank: int, weights: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return weights with those of additions merged into the layers.

    Args:
        backbone: as it is without additions.
        rank: of the additions.
        weights: by name, others than the backbone's too.
        prefix: of the names of the backbone's.
    """
    made = copy.deepcopy(backbone)
    add_adapters(made, rank)
    made.load_state_dict(
        {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    )
    merge_adapters(made)
    others = {name: value for name, value in weights.items() if not name.startswith(prefix)}
    return {**others, **{prefix + name: value for name, value in made.state_dict().items()}}


def _can_be_adapted(module: nn.Module) -> bool:
    # A convolution of each channel alone has a rank of 1 already; of weights that another holds none is to be changed.
    if not any(name == "weight" for name, _ in module.named_parameters(recurse=False)):
        return False
    return isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)


def _is_adapted(module: Any) -> bool:
    return hasattr(module, "get_base_layer") and hasattr(module, "merge")
