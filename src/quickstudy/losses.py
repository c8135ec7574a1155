"""Losses of logits, by name or as functions."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from quickstudy.errors import ConfigError, brief, closest

Loss = Callable[[Tensor, Tensor], Tensor]
"""A function of (logits, targets) that returns one number."""

_ONE_LABEL = ("cross_entropy", "multi_margin_loss")
_SEVERAL_LABELS = ("binary_cross_entropy_with_logits", "multilabel_soft_margin_loss")


def build_loss(loss_fn: str | Loss | None, multi_label: bool, otherwise: Loss = F.cross_entropy) -> Loss:
    """Return a loss of (logits ``[B, C]``, targets: ``[B]`` codes, or ``[B, C]`` with several labels per example).

    Args:
        loss_fn: a function; a name of torch.nn.functional, of those that take logits and such targets; or None for
            ``otherwise``, with several labels for binary cross-entropy.
        multi_label: whether an example may have several labels.
        otherwise: the loss that nothing else was asked for.

    Raises:
        ConfigError: there is no function of that name.
    """
    if loss_fn is None:
        return F.binary_cross_entropy_with_logits if multi_label else otherwise
    if callable(loss_fn):
        return loss_fn
    known = _SEVERAL_LABELS if multi_label else _ONE_LABEL
    if loss_fn not in known:
        raise ConfigError(
            f"loss_fn={brief(loss_fn)} is neither a function nor one of "
            f"{', '.join(known)}{closest(str(loss_fn), known)} "
            "Another is a function of (logits, targets)"
        )
    found: Loss = getattr(F, loss_fn)
    return found
