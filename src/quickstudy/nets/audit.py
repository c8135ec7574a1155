"""Which networks gradients through gradient steps can go through."""

from __future__ import annotations

from torch import nn

from quickstudy.errors import ConfigError
from quickstudy.torch_internals import SpectralNorm

_REMEDIES: dict[type, str] = {
    nn.RNNBase: "a GPU has no second derivative of it: use attention or convolutions",
    nn.EmbeddingBag: "it has no second derivative: use nn.Embedding and a mean",
    nn.SyncBatchNorm: "it waits for other processes in every step of every task: use nn.BatchNorm2d or nn.GroupNorm",
    SpectralNorm: "it changes its buffers in every pass: use torch.nn.utils.parametrizations.weight_norm",
    nn.modules.lazy.LazyModuleMixin: "it has no weights yet: pass one input through the network first",
}


def audit(module: nn.Module) -> None:
    """Check that a network can be adapted by gradient steps that are differentiated in turn.

    Raises:
        ConfigError: a layer cannot; the message names it and what to use instead.
    """
    for name, layer in module.named_modules():
        for kind, remedy in _REMEDIES.items():
            if isinstance(layer, kind):
                raise ConfigError(
                    f"the layer '{name}' ({type(layer).__name__}) cannot be adapted by gradient steps: {remedy}"
                )
        if getattr(layer, "grad_checkpointing", False):
            raise ConfigError(
                f"'{name or type(layer).__name__}' recomputes activations in the backward pass, which has no second "
                "derivative: call set_grad_checkpointing(False), and use meta_gradient='adjoint' to save memory"
            )
