"""Tip-Adapter: the names of the classes, corrected by a cache of examples, without any training.

Zhang et al. 2022, "Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification",
https://arxiv.org/abs/2207.09519
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor

from quickstudy.algorithms.base import STRATEGIES, NamingAlgorithm
from quickstudy.errors import check_above_zero, check_choice
from quickstudy.functional.distances import unit
from quickstudy.functional.prototypes import members
from quickstudy.nets import Encoder

ALPHA, BETA = 1.0, 5.5
"""The paper's own, taken where nothing can be held out, and towards which few examples lean."""
ALPHAS = tuple(ALPHA * 10 ** (step / 2) for step in range(-3, 7))
BETAS = tuple(BETA * 10 ** (step / 4) for step in range(-4, 5))
"""What is tried."""
SCALE = 100.0
"""What a cosine is multiplied by where the encoder does not say: the paper's, which is CLIP's."""
_SPREAD = 0.5  # of what is usual, in decades: a standard deviation
_TEMPERATURES = tuple(2.0**power for power in range(-2, 7))  # at which logits are compared
_HELD_OUT = 400  # examples are enough to choose by


@STRATEGIES.register("tip_adapter")
class TipAdapter(NamingAlgorithm):
    """Logits ``alpha * exp(-beta * (1 - F K)) L + scale * F W``: of examples K with labels L, and of names W.

    F, K and W have the length 1. The scale is that of the encoder, 100 where it has none. Without examples it is
    zero-shot classification by names; without names, which are those of the classes where the encoder reads words, a
    vote of the examples. The paper searches alpha and beta on validation data; here the support set tells them.

    Args:
        alpha: what the examples count. ``"auto"`` chooses it, by the likelihood of examples of the support set that are
            held out in turn: 1 where each class has one.
        beta: how sharply the nearest of them count. ``"auto"`` likewise: 5.5.
    """

    paper: ClassVar[str] = (
        "Zhang et al. 2022, Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification, "
        "https://arxiv.org/abs/2207.09519"
    )

    def __init__(self, alpha: float | Literal["auto"] = "auto", beta: float | Literal["auto"] = "auto") -> None:
        super().__init__()
        for name, value in {"alpha": alpha, "beta": beta}.items():
            if isinstance(value, str):
                check_choice(name, value, "auto")
            else:
                check_above_zero(**{name: value})
        self._alphas = ALPHAS if alpha == "auto" else (float(alpha),)
        self._betas = BETAS if beta == "auto" else (float(beta),)
        self.scale = SCALE

    def build(self, encoder: Encoder, feature_shape: tuple[int, ...], ways: int) -> None:
        """Take the scale of the encoder."""
        if encoder.reads_words is not None:
            self.scale = float(encoder.backbone.scale)  # type: ignore[arg-type]

    def fit_named(self, support_SD: Tensor, targets_S: Tensor, names_WD: Tensor) -> tuple[Tensor, ...]:
        """Return K ``[S, D]``, L ``[S, W]``, the scaled W ``[W, D]``, alpha and beta."""
        keys_SD, own_SW = unit(support_SD), members(targets_S, len(names_WD), support_SD.dtype)
        names_WD = self.scale * unit(names_WD)
        with torch.no_grad():
            alpha, beta = self._chosen(keys_SD.detach(), own_SW, names_WD.detach())
        return keys_SD, own_SW, names_WD, alpha, beta

    def logits(self, state: tuple[Tensor, ...], query_QD: Tensor) -> Tensor:
        """Return ``[Q, W]`` logits."""
        keys_SD, own_SW, names_WD, alpha, beta = state
        query_QD = unit(query_QD)
        return alpha * (-beta * (1 - query_QD @ keys_SD.mT)).exp() @ own_SW + query_QD @ names_WD.mT

    def _chosen(self, keys_SD: Tensor, own_SW: Tensor, names_WD: Tensor) -> tuple[Tensor, Tensor]:
        """Return alpha and beta: the likeliest of those that are tried, given a log-normal prior around the usual.

        The likelihood is that of examples of the support set, each answered by the others, at the temperature that
        makes it largest. Of a class of n the others count n / (n - 1) times, lest it has fewer than the rest; who is
        alone in its class tells nothing.
        """
        alphas_A, betas_B = (keys_SD.new_tensor(values) for values in (self._alphas, self._betas))
        if len(self._alphas) == len(self._betas) == 1 or not len(keys_SD):
            return alphas_A[_nearest(self._alphas, ALPHA)], betas_B[_nearest(self._betas, BETA)]
        rows_M = torch.arange(0, len(keys_SD), math.ceil(len(keys_SD) / _HELD_OUT), device=keys_SD.device)
        asked_MD, asked_MW = keys_SD[rows_M], own_SW[rows_M]
        counts_M = (asked_MW * own_SW.sum(0)).sum(1)
        more_M1 = (counts_M / (counts_M - 1).clamp(min=1))[:, None]
        others_MS = (rows_M[:, None] != torch.arange(len(keys_SD), device=keys_SD.device)).to(keys_SD.dtype)
        far_MS, by_name_MW = 1 - asked_MD @ keys_SD.mT, asked_MD @ names_WD.mT
        told_M = (counts_M > 1).to(keys_SD.dtype)
        temperatures_X11 = keys_SD.new_tensor(_TEMPERATURES)[:, None, None]
        scores = []
        for beta in self._betas:
            near_MW = ((-beta * far_MS).exp() * others_MS) @ own_SW
            near_MW = near_MW * (1 + (more_M1 - 1) * asked_MW)
            for alpha in self._alphas:
                logits_XMW = (alpha * near_MW + by_name_MW) / temperatures_X11
                own_XM = (logits_XMW.log_softmax(2) * asked_MW).sum(2)
                scores.append((own_XM * told_M).sum(1).amax(0) - _strange(alpha, ALPHA) - _strange(beta, BETA))
        best = torch.stack(scores).argmax()
        return alphas_A[best % len(self._alphas)], betas_B[best // len(self._alphas)]


def _strange(value: float, usual: float) -> float:
    """Return how unlikely a value is, by a log-normal around the usual one."""
    return (math.log10(value / usual) / _SPREAD) ** 2 / 2


def _nearest(values: tuple[float, ...], usual: float) -> int:
    """Return the place of the value that is the least strange."""
    return min(range(len(values)), key=lambda place: _strange(values[place], usual))
