"""What forecasts of series reach on public data, with intervals, beside the seasonal naive forecast and other methods.

    python benchmarks/series.py --root data/series                     # all; or
    python benchmarks/series.py --root data/series --only air step

In the folder: ETTh1.csv.gz (Zhou et al. 2021, https://arxiv.org/abs/2012.07436) and airline-passengers.csv.gz. ETTh1
is split as published, 12, 4 and 4 months; every fourth window of the test is judged. Penalties, rates and epochs follow
from the validation months. Exponential smoothing needs ``quickstudy[series]``, Fracast ``quickstudy[offline]``.
Intervals are 95%, over blocks of windows (``data.series.Windows.blocks``); one window has none.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import domains
import numpy as np
import pandas as pd
import torch
from embeddings import QUIET
from torch import Tensor, nn

from quickstudy import Trainer
from quickstudy.batches import take
from quickstudy.functional.intervals import mean_interval
from quickstudy.kinds.forecasting import ForecastHead
from quickstudy.tabular import TabularForecaster, TabularForecastingData

HORIZON, CONTEXT = 96, 336
MONTHS = (8640, 11520, 14400)  # rows that end training, validation and test
STEP_BATCH, STEP_SEEDS, STEP_EPOCHS = 256, 5, 1
RATES, EPOCHS, BATCH = (3e-4, 1e-3), 3, 64
FIGURES = ("mase", "scaled_mse", "scaled_mae", "scaled_crps", "coverage")


def figures_of(model: TabularForecaster, data: TabularForecastingData, began: float) -> dict[str, Any]:
    """Return what a model reaches, and the seconds of a processor since it began."""
    (found,) = Trainer(**QUIET).test(model, datamodule=data, verbose=False)
    told: dict[str, Any] = {"windows": int(found["test_examples"])}
    for name in FIGURES:
        if (value := found.get(f"test_{name}")) is not None:
            half = found[f"test_{name}_ci95"]
            told[name] = {"mean": round(value, 4), "ci95": None if half != half else round(half, 4)}
    return told | {"cpu_seconds": round(time.process_time() - began, 1)}


def etth1_data(root: Path, **options: Any) -> TabularForecastingData:
    frame = pd.read_csv(root / "ETTh1.csv.gz")
    train, val, test = MONTHS
    return TabularForecastingData.from_data_frame(
        time_field="date",
        target_fields=list(frame.columns[1:]),
        train_data_frame=frame[:train],
        val_data_frame=frame[train - CONTEXT : val],
        test_data_frame=frame[val - CONTEXT : test],
        horizon=HORIZON,
        context=CONTEXT,
        **options,
    )


def trained(data: TabularForecastingData, backbone: str, **options: Any) -> TabularForecaster:
    """Train at each rate, and return what has the least error on the validation data."""
    best: tuple[float, TabularForecaster] | None = None
    for rate in RATES:
        torch.manual_seed(0)
        model = TabularForecaster(backbone=backbone, learning_rate=rate, **options)
        trainer = Trainer(max_epochs=EPOCHS, **QUIET)
        trainer.fit(model, datamodule=data)
        (found,) = trainer.validate(model, datamodule=data, verbose=False)
        if best is None or found["val_scaled_mse"] < best[0]:
            best = found["val_scaled_mse"], model
    assert best is not None
    return best[1]


def etth1(root: Path) -> dict[str, Any]:
    """Forecast 96 hours of seven columns."""
    data = etth1_data(root, judged_stride=4, batch_size=BATCH)
    found: dict[str, Any] = {"horizon": HORIZON, "context": CONTEXT, "training windows": len(data.table("train") or ())}
    began = time.process_time()
    found["seasonal naive"] = figures_of(TabularForecaster(backbone="seasonal_naive"), data, began)
    for name, quantiles in (("closed form", ()), ("closed form, quantiles", (0.1, 0.5, 0.9))):
        began = time.process_time()
        found[name] = figures_of(TabularForecaster.closed_form(data, quantiles=quantiles), data, began)
    began = time.process_time()
    found["nhits, trained"] = figures_of(trained(data, "nhits", quantiles=()), data, began)
    return found


def air(root: Path) -> dict[str, Any]:
    """Forecast the last 24 months of 144."""
    frame = pd.read_csv(root / "airline-passengers.csv.gz")
    read = partial(TabularForecastingData.from_data_frame, time_field="Month", target_fields="Passengers", horizon=24)
    found: dict[str, Any] = {}
    whole = read(test_data_frame=frame, context=120)
    for backbone in ("seasonal_naive", "ets", "fracast"):
        began = time.process_time()
        found[backbone] = figures_of(TabularForecaster(backbone=backbone), whole, began)
    began = time.process_time()
    data = read(train_data_frame=frame, context=36, test_from="1959-01")
    found["closed form"] = figures_of(TabularForecaster.closed_form(data), data, began)
    for told in found.values():  # of one window, and without training no unit
        for name in ("scaled_mse", "scaled_mae", "scaled_crps"):
            told.pop(name)
    return found


class Plain(nn.Module):
    """The same network in plain torch: from a batch to what follows, in units of the windows."""

    def __init__(self, backbone: nn.Module, head: ForecastHead) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, inputs: Any) -> Tensor:
        return self.head(self.backbone(inputs).flatten(1))[..., 0]


def plain_steps(network: nn.Module, inputs: Any, ahead: Tensor) -> Iterator[None]:
    """Train by Adam in a loop of plain torch, from memory, and yield after each step."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(STEP_EPOCHS):
        for some in torch.randperm(len(ahead)).split(STEP_BATCH):
            optimizer.zero_grad()
            nn.functional.mse_loss(network(take(inputs, some)), ahead[some]).backward()
            optimizer.step()
            yield


def step(root: Path) -> dict[str, Any]:
    """Time a step of N-HiTS beside one of the same network in plain torch, in turns."""
    data = etth1_data(root, batch_size=STEP_BATCH)
    data.example()  # which learns the scales
    table = data.table("train")
    assert table is not None
    batch: Any = data.samples(table, "train", table.annotations).batch(np.arange(len(table)))
    inputs, truth = batch["input"], batch["target"]
    ahead = ((truth["values"] - inputs["level"][:, None]) / inputs["spread"][:, None]).float()
    ratios, steps = [], []
    for seed in range(STEP_SEEDS):
        torch.manual_seed(seed)
        model = TabularForecaster(backbone="nhits", quantiles=(), learning_rate=1e-3)
        model.meet(data, "fit")
        assert isinstance(model.head, ForecastHead)
        plain = Plain(copy.deepcopy(model.encoder.backbone), copy.deepcopy(model.head))
        turns = domains.InTurns(plain_steps(plain, inputs, ahead))
        Trainer(max_epochs=STEP_EPOCHS, limit_val_batches=0, callbacks=[turns], **QUIET).fit(model, datamodule=data)
        ratios.append(turns.ratio)
        steps.append(turns.step)
    mean, half = mean_interval(torch.tensor(ratios))
    return {
        "windows": len(table),
        "batch size": STEP_BATCH,
        "milliseconds of a step": round(1000 * float(np.median(steps)), 1),
        "time of quickstudy / plain torch": {"mean": round(mean, 3), "ci95": round(half, 3)},
        "target": "at most 1.05",
    }


MEASUREMENTS: dict[str, domains.Measurement] = {"etth1": etth1, "air": air, "step": step}

if __name__ == "__main__":
    domains.main("series", __doc__, MEASUREMENTS)
