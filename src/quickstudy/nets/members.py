"""Networks that answer several times: ensembles whose members share most of their weights.

Lakshminarayanan et al. 2017, "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles",
https://arxiv.org/abs/1612.01474, whose members' probabilities are averaged too.

Shapes: N examples, M members, D features of a member, A answers.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MemberHead(nn.Module):
    """A linear layer of each member's own, from ``[N, M * D]`` to ``[N, M, A]``.

    Args:
        members: M.
        features: D.
        answers: A.
    """

    def __init__(self, members: int, features: int, answers: int) -> None:
        super().__init__()
        reach = features**-0.5  # that of nn.Linear
        self.weight = nn.Parameter(torch.empty(members, features, answers).uniform_(-reach, reach))
        self.bias = nn.Parameter(torch.empty(members, answers).uniform_(-reach, reach))

    def forward(self, features: Tensor) -> Tensor:
        """Return the members' answers."""
        each_NMD = features.view(-1, *self.weight.shape[:2])
        return torch.einsum("nmd,mda->nma", each_NMD, self.weight) + self.bias


def answers_of(outputs: Tensor) -> bool:
    """Return whether outputs are answers of members, ``[N, M, A]``, and not ``[N, A]`` or ``[N]``."""
    return outputs.ndim == 3


def for_loss(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return members' answers as so many examples, ``[N * M, A]``, and their targets: a loss is the mean over members.

    Args:
        outputs: ``[N, M, A]``; other answers, and their targets, stay as they are.
        targets: ``[N, ...]``
    """
    if not answers_of(outputs):
        return outputs, targets
    return outputs.flatten(0, 1), targets.repeat_interleave(outputs.shape[1], 0)


def of_mean_probabilities(outputs: Tensor, multi_label: bool = False) -> Tensor:
    """Return the logits of the mean over members of their probabilities, ``[N, A]``.

    Args:
        outputs: logits ``[N, M, A]``; those of one network, ``[N, A]``, stay as they are.
        multi_label: whether each answer has a probability of its own, the sigmoid; else they are a softmax.
    """
    return mean_over(outputs, multi_label) if answers_of(outputs) else outputs


def mean_over(outputs: Tensor, multi_label: bool = False) -> Tensor:
    """Return the logits of the mean of probabilities over the second axis: ``[N, M, ..., A]`` to ``[N, ..., A]``."""
    if multi_label:
        return F.logsigmoid(outputs).logsumexp(1) - F.logsigmoid(-outputs).logsumexp(1)
    return outputs.log_softmax(-1).logsumexp(1) - math.log(outputs.shape[1])
