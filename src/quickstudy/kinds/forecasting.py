"""An answer is how series go on: values of targets at the times ahead, and quantiles of them.

Shapes: N series, H steps ahead, C targets, Q quantiles (1 where values alone are told), M values that are judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.algorithms import Algorithm
from quickstudy.batches import Batch
from quickstudy.data.annotations import Annotations
from quickstudy.data.series import Windows
from quickstudy.data.times import Step
from quickstudy.errors import ConfigError, DataError, brief
from quickstudy.functional.quantiles import crps, pinball
from quickstudy.kinds.base import KINDS, Judged, Kind, Score
from quickstudy.kinds.losses import Loss, named_loss
from quickstudy.kinds.predictions import check_finite
from quickstudy.nets import Encoder

if TYPE_CHECKING:
    from quickstudy.kinds.metrics import Figures

QUANTILES = (0.1, 0.5, 0.9)
FIGURES = ("mase", "mae", "mse", "scaled_mae", "scaled_mse", "scaled_crps", "coverage")
_LOSSES = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")


class Forecasted(NamedTuple):
    """What is told of one target of a series at one time."""

    series: str
    """Its name."""
    time: str
    """A date, or a number."""
    target: str
    """The name of its column."""
    value: float
    """The median; or the mean, where a model tells no quantiles."""
    low: float | None
    """The least quantile that is told."""
    high: float | None
    """The largest one."""


class ForecastHead(nn.Module):
    """A linear layer from the features of each target to the steps ahead, the same for all targets.

    Args:
        targets: C.
        features: of each.
        horizon: H.
        quantiles: Q.
    """

    def __init__(self, targets: int, features: int, horizon: int, quantiles: int) -> None:
        super().__init__()
        self.targets, self.horizon = targets, horizon
        self.linear = nn.Linear(features, horizon * quantiles)

    def forward(self, features_ND: Tensor) -> Tensor:
        """Return ``[N, H, C, Q]`` of features ``[N, C * D]``."""
        told_NCD = self.linear(features_ND.view(features_ND.shape[0], self.targets, -1))
        told: Tensor = told_NCD.view(*told_NCD.shape[:2], self.horizon, -1).transpose(1, 2)
        return told


class FromLevels(nn.Module):
    """Takes quantiles that a network tells by itself for those that are asked for, between which it interpolates.

    Beyond the outermost it goes on as a normal distribution would.

    Args:
        targets: C.
        levels: of the network, of which it tells ``[N, C * H * levels]``.
        quantiles: that are asked for; none: the median.
    """

    def __init__(self, targets: int, levels: Sequence[float], quantiles: Sequence[float]) -> None:
        super().__init__()
        self.targets, self.levels = targets, len(levels)
        known, asked = (
            torch.special.ndtri(torch.tensor(each, dtype=torch.float64)) for each in (levels, quantiles or (0.5,))
        )
        upper = torch.searchsorted(known, asked).clamp(1, len(known) - 1)
        share = (asked - known[upper - 1]) / (known[upper] - known[upper - 1])
        weights = (
            F.one_hot(upper, len(known)) * share[:, None] + F.one_hot(upper - 1, len(known)) * (1 - share)[:, None]
        )
        self.register_buffer("weights", weights.float(), persistent=False)
        self.weights: Tensor

    def forward(self, features_ND: Tensor) -> Tensor:
        """Return ``[N, H, C, Q]``."""
        told_NCHL = features_ND.view(features_ND.shape[0], self.targets, -1, self.levels)
        told: Tensor = (told_NCHL @ self.weights.T.to(told_NCHL)).transpose(1, 2)
        return told


@KINDS.register("forecasting")
@dataclass(frozen=True)
class Forecasting(Kind):
    """How series go on, from their newest times on.

    The score is the mean absolute scaled error (MASE, Hyndman and Koehler 2006,
    https://doi.org/10.1016/j.ijforecast.2006.03.001): the error in units of that of the forecast that repeats the last
    season, over what came before. ``mae`` and ``mse`` are in the targets' own units, ``scaled_`` ones in units of their
    deviation in training, as published figures are; ``coverage`` is the share of values between the outermost
    quantiles. Values that were filled in count nowhere. Windows overlap, so the intervals are over blocks of them, see
    ``data.series.Windows.blocks``.

    Args:
        quantiles: that are told, of which the middle one is the value; none: the mean alone, by the mean squared error.
        targets: the names of the C targets.
        deviations: of each in training.
        horizon: H.
        step: from one time to the next, as ``Step`` is written.
    """

    score: ClassVar[Score] = Score("mase", "min")
    forms: ClassVar[tuple[str, ...]] = ("forecasts", "values")
    row: ClassVar[type[Any]] = Forecasted
    schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {
            "times": {"type": "array", "items": {"type": "string"}},
            "forecasts": {"type": "object", "additionalProperties": {"type": "object"}},
        },
    }
    learned: ClassVar[tuple[str, ...]] = ("targets", "deviations", "horizon", "step")
    annotates: ClassVar[bool] = True
    measured: ClassVar[bool] = True

    quantiles: tuple[float, ...] = QUANTILES
    targets: tuple[str, ...] = ()
    deviations: tuple[float, ...] = ()
    horizon: int = 0
    step: str = ""

    def __post_init__(self) -> None:
        levels = tuple(float(level) for level in self.quantiles)
        if list(levels) != sorted({*levels}) or not all(0 < level < 1 for level in levels):
            raise ConfigError(
                f"quantiles={brief(self.quantiles)}: give different ones between 0 and 1 in their order, such as "
                "(0.1, 0.5, 0.9); or none, (), for the mean alone"
            )
        object.__setattr__(self, "quantiles", levels)

    @classmethod
    def encode(cls, targets: Any, names: Sequence[str] | None = None) -> Annotations:
        """Say that targets are what comes after; see ``Kind.encode``."""
        if isinstance(targets, Annotations):
            return targets
        raise DataError(
            "the targets of forecasts are the rows that come after others: give a table in long form, "
            "TabularForecastingData.from_data_frame(train_data_frame=..., target_fields=..., horizon=...)"
        )

    def meet(self, data: Any, stage: str) -> Self:
        """Take the targets and the horizon; see ``Kind.meet``."""
        if self.targets:
            if data is not None:
                self._check_horizon(data)
            return self
        if data is None or not hasattr(data.modality, "target_fields"):
            raise ConfigError("which targets there are is not known: give datamodule=TabularForecastingData...")
        own = data.modality
        tables = [data.table(name) for name in ("train", "val", "test", "predict")]
        inputs = next(table.inputs for table in tables if table is not None)
        facts = own.targets or [(name, 0.0, 1.0) for name in own.target_fields]
        step = own.step or (str(inputs.histories.step) if isinstance(inputs, Windows) else "")
        return replace(
            self,
            targets=tuple(str(fact[0]) for fact in facts),
            deviations=tuple(float(fact[2]) for fact in facts),
            horizon=own.horizon,
            step=step,
        )

    def _check_horizon(self, data: Any) -> None:
        for name in ("train", "val", "test"):
            table = data.table(name)
            if table is not None and isinstance(table.inputs, Windows) and table.inputs.horizon != self.horizon:
                raise ConfigError(
                    f"the model forecasts {self.horizon} steps, and the {name} data has "
                    f"horizon={table.inputs.horizon}: give horizon={self.horizon}"
                )

    def algorithm(self, strategy: str | None = None, options: Mapping[str, Any] | None = None) -> Algorithm:
        """Say that nothing is learned from a few examples; see ``Kind.algorithm``.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            "a forecaster learns nothing from a few examples, and forecasts series that it never saw as it is: "
            "model.predictor().predict(table)"
        )

    def check_episodic(self, strategy: str, head: str | nn.Module) -> None:
        """Say that episodes are of classes; see ``Kind.check_episodic``."""
        raise ConfigError(f"training_strategy='{strategy}' learns from few examples of classes: leave it out")

    # ---- the network

    def head(self, encoder: Encoder, example: Batch) -> nn.Module:
        """Make a linear layer from each target's features to its steps ahead; see ``Kind.head``.

        Raises:
            ConfigError: the backbone tells no features of each target.
        """
        count = example["past"].shape[-1]
        levels = getattr(encoder.backbone, "levels", None)
        if levels is not None:
            return FromLevels(count, levels, self.quantiles)
        shape = encoder.feature_shape(example)
        if len(shape) != 2 or shape[0] != count:
            raise ConfigError(
                f"the backbone {type(encoder.backbone).__name__} makes features of shape {shape}, and forecasts need "
                f"({count}, D), some of each target: choose 'nlinear' or 'nhits', or a module that returns [N, C, D]"
            )
        return ForecastHead(count, shape[1], self.horizon, max(len(self.quantiles), 1))

    def outputs(self, encoder: Encoder, head: nn.Module, inputs: Batch) -> dict[str, Tensor]:
        """Return ``{"told": [N, H, C, Q]}`` in units of each window, with these and the first time ahead."""
        told = head(encoder(inputs))
        return {"told": told, **{name: inputs[name] for name in ("level", "spread", "origin")}}

    # ---- how well it does

    def loss(self, asked: str | Loss | None, otherwise: Loss | None = None) -> Loss:
        """Return the loss of answers ``[M, Q]`` and values ``[M]``, in units of the windows; see ``Kind.loss``.

        Raises:
            ConfigError: it is of one value, and quantiles are told; or it is unknown.
        """
        if callable(asked):
            return asked
        if self.quantiles:
            if asked not in (None, "quantile_loss"):
                raise ConfigError(f"loss_fn={brief(asked)} is of one value: give quantiles=(), or leave loss_fn out")
            return partial(_of_quantiles, self.quantiles)
        return partial(_of_values, named_loss(asked, _LOSSES))

    def judge(self, encoder: Encoder, head: nn.Module, inputs: Batch, targets: Batch, loss: Loss) -> Judged:
        """Answer a batch, and judge the answers; see ``Kind.judge``."""
        outputs = self.outputs(encoder, head, inputs)
        scaled, seen = self._scaled(outputs, targets)
        told, every = outputs["told"], bool(seen.all())
        lost = loss(told.flatten(0, 2), scaled.flatten()) if every else loss(told[seen], scaled[seen])
        figures = self._figures_of(outputs, targets, scaled, None if every else seen)
        return Judged(lost, seen.sum(), outputs, targets, figures)

    def _scaled(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the true values in units of the windows, and which of them are there, ``[N, H, C]`` each."""
        values, seen = self._within(outputs, targets)
        scaled = (values - outputs["level"][:, None]).to(outputs["told"])
        return scaled / outputs["spread"][:, None].to(scaled), seen

    def _within(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the true values and which of them are there, ``[N, H, C]`` each, without what fills up."""
        _, horizon, count, _ = outputs["told"].shape
        if targets["values"].shape[1] < horizon:
            raise DataError(
                f"the model forecasts {horizon} steps, and {targets['values'].shape[1]} are to be judged: give "
                f"horizon={horizon}"
            )
        return tuple(targets[name][:, :horizon, :count] for name in ("values", "seen"))  # type: ignore[return-value]

    def numbers(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """Return answers in the targets' own units, ``[N, H, C, Q]``, each quantile above the one before.

        Chernozhukov, Fernandez-Val and Galichon 2010, "Quantile and Probability Curves Without Crossing",
        https://doi.org/10.3982/ECTA7880
        """
        told = outputs["told"]
        told = told.float() if told.device.type == "mps" else told.double()  # MPS has no float64
        level, spread = (outputs[name].to(told)[:, None, :, None] for name in ("level", "spread"))
        numbers: Tensor = told * spread + level
        return numbers.sort(-1).values if numbers.shape[-1] > 1 else numbers

    @property
    def _middle(self) -> int:
        return min(range(len(self.quantiles)), key=lambda place: abs(self.quantiles[place] - 0.5), default=0)

    @torch.no_grad()
    def figures(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        """Return ``[N, 8]``: the means over each window's values of ``FIGURES``, and its block."""
        scaled, seen = self._scaled(outputs, targets)
        return self._figures_of(outputs, targets, scaled, None if bool(seen.all()) else seen)

    @torch.no_grad()
    def _figures_of(
        self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], scaled: Tensor, seen: Tensor | None
    ) -> Tensor:
        """Return the figures of answers, by true values in units of the windows; None: all of these are there.

        In these units float32 tells them apart, however large the targets are.
        """
        told, count = outputs["told"], scaled.shape[2]
        told = told.sort(-1).values if told.shape[-1] > 1 else told

        def over_time(each_NHC: Tensor) -> Tensor:
            sums = (each_NHC if seen is None else each_NHC.masked_fill(~seen, 0)).sum(1)
            return sums.float() if sums.device.type == "mps" else sums.double()

        off = (told[..., self._middle] - scaled).abs_()
        off_NC, squared_NC = over_time(off), over_time(off.square())
        spread_NC, scale_NC = outputs["spread"].to(off_NC), targets["scale"][:, :count].to(off_NC)
        deviation_C = torch.tensor(self.deviations or [1.0] * count, dtype=off_NC.dtype, device=off_NC.device)
        scores_NC, inside_NC = off_NC, torch.zeros_like(off_NC)
        if self.quantiles:
            scores_NC = over_time(crps(told, scaled, self.quantiles))
            inside = ((told[..., 0] <= scaled) & (scaled <= told[..., -1])).to(told)
            inside_NC = over_time(inside) + 0 * off_NC  # no number where an answer is none
        sums = [
            off_NC * spread_NC / scale_NC,
            off_NC * spread_NC,
            squared_NC * spread_NC**2,
            off_NC * (spread_NC / deviation_C),
            squared_NC * (spread_NC / deviation_C) ** 2,
            scores_NC * (spread_NC / deviation_C),
            inside_NC,
        ]
        many = scaled[0].numel() if seen is None else seen.flatten(1).sum(1)
        means = [one.sum(1) / many for one in sums]
        return torch.stack([*means, targets["block"][:, 0].to(off_NC)], 1)

    def settled(self, figures: Tensor) -> Tensor:
        """Return the MASE of each window."""
        return figures[:, 0] if figures.ndim == 2 else figures

    def measure(self, per_example: bool, choices: int = 0) -> Figures:
        """Return the means, with intervals over blocks of windows; see ``Kind.measure``."""
        from quickstudy.kinds.metrics import BlockMeans  # torchmetrics takes long to import, and answering needs none

        return BlockMeans(FIGURES if len(self.quantiles) > 1 else FIGURES[:-1], per_example)

    # ---- answers

    def answers(self, outputs: Mapping[str, Tensor], form: str) -> Any:
        """Return for each series its forecast.

        Args:
            outputs: of the network.
            form: ``"forecasts"``: N of ``{"times": [H], "forecasts": {target: {"value": [H], "0.1": [H], ...}}}``;
                ``"values"``: N lists of lists, the values ``[H, C]``.

        Raises:
            DataError: an answer is not finite.
        """
        numbers = self.numbers(outputs)
        check_finite(numbers.flatten(1).isfinite().all(1), "a finite number")
        if form == "values":
            return numbers[..., self._middle].tolist()
        steps = torch.arange(numbers.shape[1]).numpy()
        found = []
        for own, origin in zip(numbers.cpu(), outputs["origin"][:, 0].tolist(), strict=True):
            step = Step.of(self.step) if self.step else Step("number", 1)
            told = {}
            for place in range(own.shape[1]):
                name = self.targets[place] if self.targets else f"target {place}"
                told[name] = {"value": own[:, place, self._middle].tolist()}
                for level, quantile in enumerate(self.quantiles):
                    told[name][f"{quantile:g}"] = own[:, place, level].tolist()
            found.append({"times": step.text(step.at(int(origin), steps)), "forecasts": told})
        return found

    def written(self, answer: Any, file: str, true: Any = None, top: int = 1, unknown: bool = True) -> list[Any]:
        """Return a row for each target and time; see ``Kind.written``."""
        rows = []
        for target, told in answer["forecasts"].items():
            low, high = (
                (told[f"{self.quantiles[0]:g}"], told[f"{self.quantiles[-1]:g}"])
                if len(self.quantiles) > 1
                else ([None] * len(told["value"]),) * 2
            )
            for at, time in enumerate(answer["times"]):
                rows.append(Forecasted(file, time, target, told["value"][at], low[at], high[at]))
        return rows

    def in_json(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Return the forecast; see ``Kind.in_json``."""
        return answer

    @property
    def drawn(self) -> bool:
        """Whether an answer can be drawn: as a plot."""
        return True

    def exported(self, outputs: Any) -> Tensor:
        """Return the answers ``[N, H * C * Q]`` in the targets' units."""
        return self.numbers(outputs).float().flatten(1)


def _of_quantiles(quantiles: Sequence[float], outputs: Tensor, targets: Tensor) -> Tensor:
    return 2 * pinball(outputs, targets, quantiles).mean()


def _of_values(loss: Loss, outputs: Tensor, targets: Tensor) -> Tensor:
    return loss(outputs.squeeze(-1), targets)
