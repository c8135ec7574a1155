"""Plots of series with their forecasts.

Shapes: H steps ahead.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from quickstudy.data.long_form import times_of
from quickstudy.data.series import Window

_BEHIND = 3
"""Horizons of what is past that are shown, at least."""
_LEAST = 24


def forecast_figure(window: Window, forecast: Mapping[str, Any]) -> Figure:
    """Return a plot of each target: what is past, the values ahead, and bands between quantiles that mirror each other.

    Args:
        window: a series up to a time.
        forecast: ``{"times": [H], "forecasts": {target: {"value": [H], "0.1": [H], ...}}}``, as models answer.

    Returns:
        A figure of matplotlib; ``figure.savefig("forecast.png")`` writes it.
    """
    own = window.histories
    told = forecast["forecasts"]
    figure = Figure(figsize=(9, 0.8 + 2.4 * len(told)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(told), 1, sharex=True, squeeze=False)[:, 0]
    ahead = times_of(forecast["times"], own.dated)
    behind = max(_BEHIND * len(ahead), _LEAST)
    rows = slice(max(int(own.starts[window.series]), window.origin - behind), window.origin)
    past = own.times[rows]
    for axis, (name, quantiles) in zip(axes, told.items(), strict=True):
        place = own.fields.targets.index(name)
        values = np.where(own.seen[rows, place], own.values[rows, place], np.nan)
        axis.plot(_shown(past, own.dated), values, color="black", linewidth=1)
        levels = sorted((float(level), level) for level in quantiles if level != "value")
        for (_, low), (_, high) in zip(levels[: len(levels) // 2], reversed(levels), strict=False):
            band = quantiles[low], quantiles[high]
            axis.fill_between(
                _shown(ahead, own.dated), *band, alpha=0.25, color="C0", linewidth=0, label=f"{low} to {high}"
            )
        axis.plot(_shown(ahead, own.dated), quantiles["value"], color="C0", linewidth=1.5, label="forecast")
        axis.set_ylabel(name)
    axes[0].set_title(str(window), fontsize=10)
    axes[0].legend(loc="upper left", fontsize=8)
    return figure


def forecast_png(window: Window, forecast: Mapping[str, Any]) -> bytes:
    """Return ``forecast_figure`` as a PNG file."""
    file = io.BytesIO()
    forecast_figure(window, forecast).savefig(file, format="png", dpi=100)
    return file.getvalue()


def _shown(times: Any, dated: bool) -> Any:
    return times.astype("M8[us]") if dated else times
