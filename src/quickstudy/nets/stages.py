"""A network's layers from the bottom to the top, and the stages that they form."""

from __future__ import annotations

from torch import nn


def layers_of(backbone: nn.Module) -> list[nn.Module]:
    """Return the modules with parameters of their own, in their order in the network."""
    return [module for module in backbone.modules() if any(True for _ in module.parameters(recurse=False))]


def stages_of(backbone: nn.Module) -> list[list[nn.Module]]:
    """Return the layers of each stage of a network.

    Stages are the parts one level down that have parameters; of one that is a wrapper, its content's. A network that
    tells its ``blocks_of_layers``, as transformers do, has what comes before them for the first stage, and each block
    for another; what comes behind belongs to the last.
    """
    if blocks := getattr(backbone, "blocks_of_layers", None):
        return _by_block(layers_of(backbone), list(blocks))
    parts = [child for child in backbone.children() if any(True for _ in child.parameters())]
    while len(parts) == 1 and list(parts[0].children()):
        parts = [child for child in parts[0].children() if any(True for _ in child.parameters())] or parts
    return [layers_of(part) for part in parts]


def _by_block(layers: list[nn.Module], blocks: list[nn.Module]) -> list[list[nn.Module]]:
    places = {layer: place for place, block in enumerate(blocks, 1) for layer in layers_of(block)}
    stages: list[list[nn.Module]] = [[] for _ in range(len(blocks) + 1)]
    place = 0
    for layer in layers:
        place = places.get(layer, len(blocks) if place else 0)
        stages[place].append(layer)
    return [stage for stage in stages if stage]
