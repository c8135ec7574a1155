"""Networks of series: they tell features of each target, or by themselves how a target goes on.

An input is what ``tabular.series.Series`` makes: ``past`` ``[N, L, C]`` and the like. What the data tells, they are
told by name (``Series.for_backbone``); before that they are made as if of one time.

Shapes: N series, L times that are looked back upon, H steps ahead, C targets, D features of a target.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.batches import Batch
from quickstudy.errors import ConfigError, check_counts
from quickstudy.nets.registry import BACKBONES

READS: Mapping[str, Any] = {"name": "series", "options": {}}
"""What reads their inputs; see ``Modality.described``."""
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""The quantiles that networks without a head tell."""


def past_of(inputs: Batch) -> Tensor:
    """Return the past of each target, ``[N, C, L]``.

    Raises:
        ConfigError: the inputs are no series.
    """
    if not isinstance(inputs, dict) or "past" not in inputs:
        raise ConfigError("the backbone takes series, and these are none: for other inputs name another")
    past: Tensor = inputs["past"].transpose(1, 2)
    return past


def beside(inputs: Batch) -> Tensor:
    """Return the covariates of the past, those known ahead and the static ones, side by side, ``[N, E]``."""
    return torch.cat([inputs[name].flatten(1) for name in ("covariates", "future", "static")], 1)


@BACKBONES.register("nlinear")
class NLinear(nn.Module):
    """The past of a target less its last value, and the covariates, as they are: ``[N, C, D]``, without weights.

    With the head of forecasts it is the linear network NLinear of Zeng et al. 2023, "Are Transformers Effective for
    Time Series Forecasting?", https://arxiv.org/abs/2205.13504: what other networks must surpass. All targets have one
    linear map.
    """

    reads = READS

    def forward(self, inputs: Batch) -> Tensor:
        """Return the features."""
        past_NCL, beside_NE = past_of(inputs), beside(inputs)
        if not beside_NE.shape[1]:
            return past_NCL
        return torch.cat([past_NCL, beside_NE[:, None].expand(-1, past_NCL.shape[1], -1)], 2)


@BACKBONES.register("nhits")
class NHiTS(nn.Module):
    """Blocks that see the past at several rates, each what the ones before left unexplained: ``[N, C, D]``.

    Challu et al. 2023, "N-HiTS: Neural Hierarchical Interpolation for Time Series Forecasting",
    https://arxiv.org/abs/2201.12886. The features are the coefficients of all blocks, and what they leave of the past;
    the head of forecasts is linear in them, and so holds the paper's interpolation as one of its choices.

    Args:
        context, horizon: L and H; they follow from the data, as do those that follow.
        covariates, known, static: covariates of the past, those of them that are known ahead, and static ones.
        rates: of each block, how many times are pooled into one, and how many steps ahead share a coefficient.
        width: of a block's layers.
        layers: of a block.
        dropout: share of the features of a layer that is dropped in training.
    """

    reads = READS

    def __init__(
        self,
        context: int = 1,
        horizon: int = 1,
        covariates: int = 0,
        known: int = 0,
        static: int = 0,
        rates: Sequence[int] = (8, 4, 1),
        width: int = 128,
        layers: int = 2,
        dropout: float = 0.0,
    ) -> None:
        check_counts(context=context, horizon=horizon, width=width, layers=layers)
        check_counts(**{f"rates[{place}]": rate for place, rate in enumerate(rates)})
        super().__init__()
        further = context * covariates + horizon * known + static
        self.blocks = nn.ModuleList(
            _Block(context, horizon, further, min(rate, context), width, layers, dropout) for rate in rates
        )

    def forward(self, inputs: Batch) -> Tensor:
        """Return the features."""
        rest_NCL, beside_NE = past_of(inputs), beside(inputs)
        beside_NCE = beside_NE[:, None].expand(-1, rest_NCL.shape[1], -1)
        told = []
        for block in self.blocks:
            explained_NCL, ahead_NCK = block(rest_NCL, beside_NCE)
            rest_NCL = rest_NCL - explained_NCL
            told.append(ahead_NCK)
        # What is left is a feature, too: so every weight has a part in the answer.
        return torch.cat([*told, rest_NCL], 2)


class _Block(nn.Module):
    """Explains a part of the past, and tells coefficients of what follows."""

    def __init__(
        self, context: int, horizon: int, further: int, rate: int, width: int, layers: int, dropout: float
    ) -> None:
        super().__init__()
        self.rate, self.context = rate, context
        self.pooled = -(-context // rate)
        widths = [self.pooled + further, *[width] * layers]
        self.layers = nn.Sequential(
            *(
                layer
                for one, other in itertools.pairwise(widths)
                for layer in (nn.Linear(one, other), nn.ReLU(), nn.Dropout(dropout))
            )
        )
        self.back, self.ahead = nn.Linear(width, self.pooled), nn.Linear(width, -(-horizon // rate))

    def forward(self, past_NCL: Tensor, beside_NCE: Tensor) -> tuple[Tensor, Tensor]:
        pooled_NCL = F.max_pool1d(past_NCL, self.rate, ceil_mode=True) if self.rate > 1 else past_NCL
        states = self.layers(torch.cat([pooled_NCL, beside_NCE], 2))
        explained = self.back(states)
        if self.rate > 1:
            explained = F.interpolate(explained, size=self.context, mode="linear")
        return explained, self.ahead(states)


@BACKBONES.register("seasonal_naive")
class SeasonalNaive(nn.Module):
    """The last season once more, with quantiles of a normal distribution as wide as seasons differ: no weights.

    The deviation grows with the number of seasons ahead (Hyndman and Athanasopoulos 2021, "Forecasting: Principles and
    Practice", section 5.5, https://otexts.com/fpp3). What is no season long is repeated by its last value.

    Args:
        horizon: H; it follows from the data.
        period: times of a season; likewise.
    """

    reads = READS
    levels = LEVELS

    def __init__(self, horizon: int = 1, period: int = 1) -> None:
        check_counts(horizon=horizon, period=period)
        super().__init__()
        self.horizon, self.period = horizon, period
        self.register_buffer("scores", torch.special.ndtri(torch.tensor(LEVELS, dtype=torch.float64)), persistent=False)
        self.scores: Tensor

    def forward(self, inputs: Batch) -> Tensor:
        """Return the quantiles, ``[N, C, H * 9]``."""
        past_NCL = past_of(inputs)
        seen_NCL = inputs["seen"].transpose(1, 2)
        period = self.period if self.period <= past_NCL.shape[2] else 1
        ahead = torch.arange(self.horizon, device=past_NCL.device)
        values_NCH = past_NCL[:, :, past_NCL.shape[2] - period + ahead % period]
        both = (seen_NCL[:, :, period:] & seen_NCL[:, :, :-period]).to(past_NCL)
        off = (past_NCL[:, :, period:] - past_NCL[:, :, :-period]).square() * both
        spread_NC1 = (off.sum(2, keepdim=True) / both.sum(2, keepdim=True).clamp(min=1)).sqrt()
        wide_NCH = spread_NC1 * (1 + ahead // period).to(past_NCL).sqrt()
        quantiles: Tensor = values_NCH[..., None] + wide_NCH[..., None] * self.scores.to(past_NCL)
        return quantiles.flatten(2)
