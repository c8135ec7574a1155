"""What torch keeps for itself, and what is used of it all the same; tests/test_internals.py says what a new one lacks.

Trees have no public name yet, nor have the common classes of all BatchNorms, convolutions and spectral norms.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch._C._functorch import TransformType, get_interpreter_stack
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.nn.modules.conv import _ConvNd as Convolution
from torch.nn.utils.parametrizations import _SpectralNorm as SpectralNorm
from torch.utils._pytree import (
    keystr,
    tree_flatten,
    tree_flatten_with_path,
    tree_leaves,
    tree_leaves_with_path,
    tree_map,
    tree_map_with_path,
    tree_unflatten,
)

__all__ = [
    "BatchNorm",
    "Convolution",
    "SpectralNorm",
    "has_hooks",
    "keystr",
    "parameter_of",
    "shared_storage",
    "tree_flatten",
    "tree_flatten_with_path",
    "tree_leaves",
    "tree_leaves_with_path",
    "tree_map",
    "tree_map_with_path",
    "tree_unflatten",
    "under_vmap",
]


def parameter_of(node: object) -> Tensor | None:
    """Return the tensor that a node of autograd's graph collects the gradient of; None where it is no such node."""
    found: Tensor | None = node.variable if isinstance(node, torch._C._functions.AccumulateGrad) else None
    return found


def shared_storage(size: int) -> torch.UntypedStorage:
    """Make room for so many bytes that processes share; ``share_memory_`` would copy what is there first."""
    storage: torch.UntypedStorage = torch.UntypedStorage._new_shared(size)  # type: ignore[no-untyped-call]
    return storage


def has_hooks(module: nn.Module) -> bool:
    """Whether further code runs as inputs pass through a module."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def under_vmap() -> bool:
    """Whether this runs within ``torch.func.vmap``, where no shape may depend on values."""
    return any(one.key() == TransformType.Vmap for one in get_interpreter_stack() or ())
