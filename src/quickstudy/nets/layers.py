"""What a network makes of its inputs at one of its layers, in place of its end.

Shapes: N inputs, L tokens, C channels, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import get_ident
from typing import Any

from torch import Tensor, nn

from quickstudy.batches import Batch
from quickstudy.errors import ConfigError, closest, few, one_line
from quickstudy.nets.sequences import pooled
from quickstudy.torch_internals import tree_leaves


class AtLayer(nn.Module):
    """The features of a network's layer: ``[N, D]``, the mean over all places, tokens or steps where it has such.

    The whole network runs; what it makes at its end is left.

    Args:
        network: any.
        layer: the name of one of its modules, as ``named_modules`` has it.

    Raises:
        ConfigError: there is none of that name.
    """

    def __init__(self, network: nn.Module, layer: str) -> None:
        super().__init__()
        names = [name for name, _ in network.named_modules() if name]
        if layer not in names:
            top = few([name for name, _ in network.named_children()], 20)
            raise ConfigError(
                f"the backbone has no layer '{one_line(layer)}'{closest(str(layer), names)} It has: {top}"
            )
        self.network, self.layer = network, layer
        self.reads: Mapping[str, Any] | None = getattr(network, "reads", None)

    def forward(self, inputs: Batch) -> Tensor:
        """Return ``[N, D]``."""
        made: list[Any] = []
        own = get_ident()

        def note(module: nn.Module, arguments: Any, output: Any) -> None:
            while isinstance(output, (tuple, list)) and output:
                output = output[0]
            if get_ident() == own:  # a service may ask it in several threads
                made.append(output.clone() if isinstance(output, Tensor) else output)  # which the next may write to

        hook = self.network.get_submodule(self.layer).register_forward_hook(note)
        try:
            self.network(inputs)
        finally:
            hook.remove()
        output = made[-1] if made else None
        count = tree_leaves(inputs)[0].shape[0]  # not len, which would bind a graph to this number of inputs
        if not isinstance(output, Tensor) or output.ndim < 2 or output.shape[0] != count:
            found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ConfigError(
                f"the layer '{self.layer}' makes no features [N, ...] of {count} inputs, but {found}: name "
                "another, or take the last, layer=None"
            )
        return self._vectors(output, inputs)

    def _vectors(self, output: Tensor, inputs: Batch) -> Tensor:
        if output.ndim == 2:
            return output
        if isinstance(inputs, dict):  # shorter ones are filled up, which must not change them
            mask = inputs.get("mask")
            if output.ndim == 3 and isinstance(mask, Tensor) and mask.shape == output.shape[:2]:
                return pooled(output, mask, "mean")
            raise ConfigError(
                f"the layer '{self.layer}' makes {tuple(output.shape[1:])} of an input, of which it is not known what "
                "filled it up: name a layer behind that which pools, or take the last, layer=None"
            )
        tokens = output.ndim == 3 and inputs.ndim == 4
        last = tokens or (output.ndim == 4 and getattr(self.network, "output_fmt", "") == "NHWC")
        return output.flatten(1, -2).mean(1) if last else output.flatten(2).mean(2)
