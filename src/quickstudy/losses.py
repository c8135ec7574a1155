"""Losses of logits, by name or as functions."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from quickstudy.errors import ConfigError, closest

Loss = Callable[[Tensor, Tensor], Tensor]
"""A function of (logits, targets) that returns one number."""


def build_loss(loss_fn: str | Loss | None, multi_label: bool) -> Loss:
    """Return a loss of (logits ``[B, C]``, targets: ``[B]`` codes, or ``[B, C]`` with several labels per example).

    Args:
        loss_fn: a function, a name of torch.nn.functional, or None for cross-entropy, binary with several labels.
        multi_label: whether an example may have several labels.

    Raises:
        ConfigError: there is no function of that name.
    """
    if loss_fn is None:
        return F.binary_cross_entropy_with_logits if multi_label else F.cross_entropy
    if callable(loss_fn):
        return loss_fn
    known = [name for name in dir(F) if name.endswith(("_loss", "_entropy", "_logits")) and not name.startswith("_")]
    if loss_fn not in known:
        raise ConfigError(
            f"loss_fn={loss_fn!r} is neither a function nor a loss of torch.nn.functional"
            f"{closest(str(loss_fn), known)} Known: {', '.join(known)}"
        )
    found: Loss = getattr(F, loss_fn)
    return found
