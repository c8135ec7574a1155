"""Forecasts without training here: exponential smoothing, and networks that were trained on other series.

They are backbones that tell quantiles by themselves, so that they are tested, saved, served and held against others as
any model is. Their packages are imported, and their weights read, when they first answer.

Shapes: M histories, L times, H steps ahead, 9 quantiles.
"""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quickstudy.batches import Batch
from quickstudy.errors import ConfigError, check_counts, first_line, require
from quickstudy.nets.registry import BACKBONES
from quickstudy.nets.weights import Wheel, wheel_file
from quickstudy.tabular.forecast_nets import LEVELS, READS, past_of

Numbers = NDArray[np.float64]
_MIDDLE = LEVELS.index(0.5)
_DRAWS = 500  # of what may follow, whose quantiles are told
_FRACAST = Wheel(
    "fracast",
    "weights/model.safetensors",
    "0d678f123f3d1f91c5065cca2b5d40eccc469360afc2381b27290486011ded2c",
    "fracast",
    extra="series",
    library="fracast",
)
_LEAST = 8  # values of a history that a network needs


class _OfHistory(nn.Module):
    """Tells quantiles of each target by its own history alone.

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

    @abstractmethod
    def told(self, histories: Sequence[Numbers]) -> Numbers:
        """Return quantiles, ``[M, H, 9]``, of M histories in their own units."""

    def forward(self, inputs: Batch) -> Tensor:
        """Return the quantiles in units of the windows, ``[N, C, H * 9]``."""
        past_NCL, seen_NCL = past_of(inputs), inputs["seen"].transpose(1, 2)
        level_NC1, spread_NC1 = (inputs[name].double()[..., None] for name in ("level", "spread"))
        own_NCL = (past_NCL.double() * spread_NC1 + level_NC1).cpu().numpy()
        first_NC = seen_NCL.to(torch.uint8).argmax(2).cpu().numpy()
        count, targets = own_NCL.shape[:2]
        places = [(row, target) for row in range(count) for target in range(targets)]
        told = self.told([own_NCL[row, target, first_NC[row, target] :] for row, target in places])
        found = torch.from_numpy(told).to(past_NCL.device).reshape(count, targets, -1)
        scaled: Tensor = (found - level_NC1) / spread_NC1
        return scaled.to(past_NCL)


@BACKBONES.register("ets")
class ETS(_OfHistory):
    """Exponential smoothing with or without a trend, damped or not, and a season that is added or multiplies.

    Holt and Winters' method (Winters 1960, https://doi.org/10.1287/mnsc.6.3.324) by statsmodels. Of these forms it
    takes the one that forecasts the end of the window's own past best, as many steps of it as are asked for, a quarter
    at most. It is fitted to each window anew, so that long tests take long; a longer ``context`` shows it more. Needs
    ``pip install 'quickstudy[series]'``.
    """

    def told(self, histories: Sequence[Numbers]) -> Numbers:
        """Return the quantiles of what may follow, around the forecast."""
        return np.stack([_smoothed(history, self.horizon, self.period) for history in histories])


def _smoothed(history: Numbers, horizon: int, period: int) -> Numbers:
    """Return the quantiles of one history, ``[H, 9]``."""
    smoothing: Any = require("statsmodels.tsa.holtwinters", extra="series").ExponentialSmoothing
    if len(history) < _LEAST or history.min() == history.max():
        return _repeated(history, horizon)
    held = min(horizon, len(history) // 4)
    early, late = history[: len(history) - held], history[len(history) - held :]
    seasons = [None] if period < 2 or len(early) < 2 * period + _LEAST else ["add", "mul"][: 1 + (history.min() > 0)]
    best: tuple[float, dict[str, Any]] | None = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of forms that do not fit
        for season in seasons:
            for trend, damped in ((None, False), ("add", False), ("add", True)):
                form: dict[str, Any] = {"trend": trend, "damped_trend": damped, "seasonal": season}
                form |= {"seasonal_periods": period} if season else {}
                error = float(np.abs(smoothing(early, **form).fit().forecast(held) - late).mean())
                if math.isfinite(error) and (best is None or error < best[0]):
                    best = error, form
        if best is None:
            return _repeated(history, horizon)
        fitted = smoothing(history, **best[1]).fit()
        value = np.asarray(fitted.forecast(horizon), np.float64)
        draws = np.asarray(fitted.simulate(horizon, anchor="end", repetitions=_DRAWS, rng=0), np.float64)
    quantiles = np.quantile(draws.reshape(horizon, -1), LEVELS, axis=1).T
    moved: Numbers = quantiles - quantiles[:, _MIDDLE : _MIDDLE + 1] + value[:, None]
    return moved if np.isfinite(moved).all() else _repeated(history, horizon)


def _repeated(history: Numbers, horizon: int) -> Numbers:
    """Return the last value, of which nothing is known but itself."""
    return np.full((horizon, len(LEVELS)), history[-1])


@BACKBONES.register("fracast")
class Fracast(_OfHistory):
    """A network of 85,001 parameters that was trained on other series, from a package, without a network.

    It looks back upon 2,048 times and tells 48 steps at once; longer horizons go on from its own median.
    https://pypi.org/project/fracast. Needs ``pip install 'quickstudy[offline]'``.
    """

    def told(self, histories: Sequence[Numbers]) -> Numbers:
        """Return its quantiles."""
        return _by_network(self._forecast, histories, self.horizon)

    def _forecast(self, padded: NDArray[np.float32]) -> Numbers:
        if (model := self.__dict__.get("_model")) is None:
            file = wheel_file(_FRACAST)
            model = require("fracast", extra="offline").FracastModel.from_pretrained(file.parent, weights="fp32")
            self.__dict__["_model"] = model  # no part of this one, whose weights are saved
        told: Any = model.forecast_batch(padded, horizon=self.horizon)
        if list(model.quantiles) != list(LEVELS):
            places = [min(range(len(model.quantiles)), key=lambda at: abs(model.quantiles[at] - one)) for one in LEVELS]
            told = told[..., places]
        return np.asarray(told, np.float64)


@BACKBONES.register("chronos")
class Chronos(_OfHistory):
    """A language model of series that was trained on very many, by Amazon, from the Hugging Face Hub.

    Ansari et al. 2024, "Chronos: Learning the Language of Time Series", https://arxiv.org/abs/2403.07815. Needs
    ``pip install 'quickstudy[chronos]'``, and a network once.

    Args:
        horizon: H; it follows from the data.
        period: times of a season; likewise.
        load: the name on the hub, or a folder.
    """

    def __init__(self, horizon: int = 1, period: int = 1, load: str = "amazon/chronos-bolt-small") -> None:
        super().__init__(horizon, period)
        self.load = load

    def told(self, histories: Sequence[Numbers]) -> Numbers:
        """Return its quantiles."""
        return _by_network(self._forecast, histories, self.horizon)

    def _forecast(self, padded: NDArray[np.float32]) -> Numbers:
        if (model := self.__dict__.get("_model")) is None:
            pipelines: Any = require("chronos", extra="chronos").BaseChronosPipeline
            try:
                model = pipelines.from_pretrained(self.load, device_map="cpu")
            except (OSError, ValueError) as error:
                raise ConfigError(
                    f"the weights '{self.load}' are neither in a folder nor kept from before, and cannot be fetched "
                    f"({first_line(error)[:200]}). Where there is a network type: hf download {self.load}; and "
                    "here give backbone_kwargs={'load': 'that folder'}"
                ) from error
            self.__dict__["_model"] = model
        quantiles, _ = model.predict_quantiles(
            torch.from_numpy(padded), prediction_length=self.horizon, quantile_levels=list(LEVELS)
        )
        return np.asarray(quantiles, np.float64)


def _by_network(forecast: Any, histories: Sequence[Numbers], horizon: int) -> Numbers:
    """Return the quantiles of histories that are filled up to one length; very short ones repeat their last value."""
    found = np.stack([_repeated(history, horizon) for history in histories])
    long = [place for place, history in enumerate(histories) if len(history) >= _LEAST]
    if long:
        padded = np.full((len(long), max(len(histories[place]) for place in long)), np.nan, np.float32)
        for row, place in enumerate(long):
            padded[row, padded.shape[1] - len(histories[place]) :] = histories[place]
        with torch.inference_mode(False), torch.no_grad():
            found[long] = forecast(padded)
    return found
