"""Losses of logits, by name or as functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from quickstudy.algorithms.base import Loss as Loss
from quickstudy.errors import ConfigError, brief, check_above_zero, closest, first_line, unknown

MixSpec = str | tuple[str, Mapping[str, Any]]
"""A way to mix the examples of a batch: a name, or ``(name, options)``."""

Mix = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""A function of (inputs ``[B, ...]``, shares ``[B, C]``) that returns both mixed."""

ClassWeights = str | Mapping[str, float] | Sequence[float]

LabelThresholds = str | float | Mapping[str, float]
"""``"f1"``, a probability for all labels, or probabilities by label."""

_ONE_LABEL = ("cross_entropy", "multi_margin_loss")
_OTHER = (
    "leave loss_fn out, give one that takes both, such as torch.nn.CrossEntropyLoss(label_smoothing=0.1), or leave "
    "mix out"
)
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
    return named_loss(loss_fn, _SEVERAL_LABELS if multi_label else _ONE_LABEL, "logits")


def named_loss(loss_fn: str | Loss | None, known: Sequence[str], outputs: str = "outputs") -> Loss:
    """Return a loss of (outputs, targets); None is the first of those that are known.

    Args:
        loss_fn: a function, or one of the names.
        known: names of torch.nn.functional.
        outputs: what it is of, for the message.

    Raises:
        ConfigError: it is neither.
    """
    if loss_fn is not None and not isinstance(loss_fn, str):
        return loss_fn
    if loss_fn not in (None, *known):
        raise ConfigError(
            f"loss_fn={brief(loss_fn)} is neither a function nor one of {', '.join(known)}"
            f"{closest(str(loss_fn), known)} Another is a function of ({outputs}, targets)"
        )
    found: Loss = getattr(F, loss_fn or known[0])
    return found


def own_loss(asked: str | Loss | None, told: str) -> Loss:
    """Return what stands for the loss of a kind that judges its answers as a whole, and is never called.

    Args:
        asked: what a user asked for.
        told: why there is no other, for a message.

    Raises:
        ConfigError: something was asked for.
    """
    if asked is not None:
        raise ConfigError(f"loss_fn is of answers that are compared with targets one by one, and {told}: leave it out")
    return _never_called


def _never_called(outputs: Any, targets: Any) -> Tensor:
    raise NotImplementedError("a kind with a loss of its own judges its answers by itself")


def check_class_weights(asked: ClassWeights | None, loss_fn: str | Loss | None, multi_label: bool) -> None:
    """Check what can be checked before the classes are known.

    Raises:
        ConfigError: the weights are none, or the loss takes none.
    """
    if asked is None:
        return
    takes = _SEVERAL_LABELS[0] if multi_label else _ONE_LABEL[0]
    if loss_fn not in (None, takes):
        raise ConfigError(
            f"class_weights belong to loss_fn='{takes}', the default: leave loss_fn out, or weigh in yours"
        )
    if isinstance(asked, str) and asked != "balanced":
        raise ConfigError(f"class_weights={asked!r} is none of: 'balanced', a mapping by class, a list in their order")
    weights = () if isinstance(asked, str) else asked.values() if isinstance(asked, Mapping) else asked
    check_above_zero(**{f"class_weights[{place}]": weight for place, weight in enumerate(weights)})


def check_mix(mix: MixSpec | None, loss_fn: str | Loss | None, multi_label: bool) -> None:
    """Check that the targets can be mixed.

    Raises:
        ConfigError: an example has several labels, or the loss is named and takes one label only.
    """
    if mix is None:
        return
    if multi_label:
        raise ConfigError("mix shares an example among classes, and multi_label=True gives it several: leave one out")
    if isinstance(loss_fn, str) and loss_fn != _ONE_LABEL[0]:
        raise ConfigError(
            f"loss_fn={brief(loss_fn)} takes one label per example, and mix shares it among classes: {_OTHER}"
        )


def loss_of_shares(loss: Loss, logits: Tensor, shares: Tensor) -> Tensor:
    """Return a loss of targets that are shared among classes.

    Args:
        loss: the user's.
        logits: ``[B, C]``
        shares: ``[B, C]``, of each example 1 in all.

    Raises:
        ConfigError: it takes codes of classes only.
    """
    try:
        return loss(logits, shares)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        loss(logits, shares.argmax(-1))  # what fails so too has another reason, and tells it
        raise ConfigError(
            f"loss_fn takes codes of classes [B], and not the shares [B, C] of mix ({first_line(error)}): {_OTHER}"
        ) from error


def class_weights_of(
    asked: ClassWeights, classes: Sequence[str], counts: Sequence[int] | None, examples: int, multi_label: bool
) -> tuple[float, ...]:
    """Return a weight for each class.

    Args:
        asked: ``"balanced"``: every class weighs the same in all, on average 1 an example; with several labels per
            example, its presence weighs as much as its absence. Or weights by class, 1 where there is none; or all.
        classes: C names.
        counts: ``[C]`` training examples of each; None: not known.
        examples: how many there are.
        multi_label: whether an example may have several labels.

    Raises:
        ConfigError: a class is unknown, their number is another, or what balances is not known.
    """
    if isinstance(asked, Mapping):
        for name in asked:
            if name not in classes:
                raise unknown("class in class_weights", name, classes)
        return tuple(float(asked.get(name, 1.0)) for name in classes)
    if not isinstance(asked, str):
        if len(asked) != len(classes):
            raise ConfigError(
                f"class_weights has {len(asked)} numbers for {len(classes)} classes: {', '.join(classes)}"
            )
        return tuple(map(float, asked))
    if counts is None:
        raise ConfigError(
            "class_weights='balanced' counts the training data: give datamodule=, or the weights by class"
        )
    present = sum(count > 0 for count in counts)
    if multi_label:
        return tuple((examples - count) / count if 0 < count < examples else 1.0 for count in counts)
    return tuple(examples / (present * count) if count else 1.0 for count in counts)


def weighted(logits: Tensor, targets: Tensor, weights: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy of weighted classes, and what it is the mean over: the weights of the examples.

    Args:
        logits: ``[B, C]``
        targets: ``[B]`` codes, or ``[B, C]`` shares.
        weights: ``[C]``
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()  # half precision cannot sum so many weights
    weight_C = torch.tensor(weights, dtype=logits.dtype, device=logits.device)
    each_B = weight_C[targets] if targets.ndim == 1 else (targets.to(logits.dtype) * weight_C).sum(-1)
    return F.cross_entropy(logits, targets, weight_C, reduction="sum") / each_B.sum(), each_B.sum().detach()
