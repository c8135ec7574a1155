"""Forecasts of series: tables in long form, windows, what is judged, and what lies behind the data's end."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from quickstudy import Trainer
from quickstudy.batches import Batch
from quickstudy.cli import main
from quickstudy.data.folds import folds_of
from quickstudy.data.long_form import read_histories
from quickstudy.data.series import Fields, Windows, cut
from quickstudy.data.times import Step, found_step
from quickstudy.errors import ConfigError, DataError, DataWarning, MissingPackageError
from quickstudy.functional.quantiles import crps, pinball
from quickstudy.kinds.forecasting import Forecasting
from quickstudy.nets import Encoder
from quickstudy.tabular import Series, TabularForecaster, TabularForecastingData
from quickstudy.tabular.forecast_nets import NHiTS
from quickstudy.testing import check_kind, check_modality
from quickstudy.testing.served import check_served
from quickstudy.trained import TrainedModel

DAYS = [str(day) for day in np.arange("2026-01-01", "2026-03-05", dtype="M8[D]")]
ROWS = len(DAYS)


def shop(place: int) -> dict[str, list[Any]]:
    """A shop's days: a week that repeats itself, a price that moves what is sold, and little chance."""
    generator = np.random.default_rng(place)
    price = generator.random(ROWS)
    week = np.sin(2 * np.pi * np.arange(ROWS) / 7)
    sold = (10 + week - price + 0.05 * generator.standard_normal(ROWS)) * (place + 1)
    return {
        "day": list(DAYS),
        "shop": [f"shop {place}"] * ROWS,
        "sold": sold.tolist(),
        "price": price.tolist(),
        "kind": ["ab"[place % 2]] * ROWS,
    }


def shops(count: int = 3) -> pd.DataFrame:
    return pd.concat([pd.DataFrame(shop(place)) for place in range(count)], ignore_index=True)


def data_of(frame: Any, **options: Any) -> TabularForecastingData:
    told = {"time_field": "day", "target_fields": "sold", "series_field": "shop", "horizon": 5, "context": 14}
    return TabularForecastingData.from_data_frame(**{"train_data_frame": frame, **told, **options})


def batch_of(data: TabularForecastingData, stage: Any, rows: Any = None) -> Any:
    data.read_as({}, trains=True, by_class=False)
    table = data.table(stage)
    assert table is not None
    return data.samples(table, stage, table.annotations).batch(np.arange(len(table)) if rows is None else rows)


def quiet(**options: Any) -> Trainer:
    return Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, **options)


# ---- times


@pytest.mark.parametrize(
    ("times", "step", "following"),
    [
        (["2026-01-01T00:00", "2026-01-01T00:15", "2026-01-01T00:30"], "15min", "2026-01-01T00:45:00"),
        (["2025-11-01", "2025-12-01", "2026-01-01", "2026-02-01"], "MS", "2026-03-01"),
        (["2025-11-30", "2025-12-31", "2026-01-31"], "ME", "2026-02-28"),
        (["2025-04-01", "2025-07-01", "2025-10-01"], "3MS", "2026-01-01"),
        (["2024-02-29", "2025-02-28"], "12ME", "2026-02-28"),
        (["2026-01-01", "2026-01-02", "2026-01-05", "2026-01-06", "2026-01-07"], "B", "2026-01-08"),
        (["2026-01-01", "2026-01-08", "2026-01-15"], "7D", "2026-01-22"),
    ],
)
def test_steps_follow_from_times_and_go_on(times: list[str], step: str, following: str) -> None:
    numbers = np.array(times, "M8[us]").astype(np.int64)
    found = found_step([numbers], True)
    assert Step.of(str(found)) == found
    assert found == Step.of("W" if step == "7D" else step)
    assert found.positions(numbers, int(numbers[0]))[0].tolist() == list(range(len(times)))
    assert found.positions(numbers, int(numbers[0]))[1].all()
    assert found.text(found.at(int(numbers[-1]), np.array([1]))) == [following]
    assert found.at(numbers[:-1], np.ones(1, np.int64)).tolist() == numbers[1:].tolist()


def test_a_gap_hides_no_step() -> None:
    days = np.array(["2026-01-01", "2026-01-02", "2026-01-05", "2026-01-06", "2026-01-10"], "M8[us]").astype(np.int64)
    assert str(found_step([days], True)) == "D"  # the tenth is a Saturday
    with pytest.raises(ConfigError, match="frequency='fortnight': give '15min'"):
        Step.of("fortnight")


# ---- reading


def columns(**cells: Any) -> dict[str, Any]:
    return {name: np.array(column) for name, column in cells.items()}


def test_rows_come_in_any_order_and_dates_in_many_forms() -> None:
    days = pd.date_range("2026-01-01", periods=4)
    for times in (days, days.tz_localize("UTC"), days.astype(str), days.to_period("D"), np.arange(4)):
        table = pd.DataFrame({"t": times, "y": [0.0, 1.0, 2.0, 3.0]}).iloc[::-1]
        own = Series(time_field="t", target_fields="y").histories(table)
        assert own.values[:, 0].tolist() == [0, 1, 2, 3]
        assert own.places.tolist() == [0, 1, 2, 3] or own.places.tolist() == [3, 2, 1, 0]


def test_what_is_missing_is_filled_by_what_was_known() -> None:
    table = columns(t=[0, 1, 3, 4, 5], y=[1.0, np.nan, 3.0, 4.0, np.nan])
    own = read_histories(table, Fields("t", ("y",)), fill="last")
    assert own.values[:, 0].tolist() == [1, 1, 1, 3, 4, 4]
    assert own.seen[:, 0].tolist() == [True, False, False, True, True, False]
    assert own.places.tolist() == [0, 1, -1, 2, 3, 4]
    assert own.ends.tolist() == [5]  # behind which is the future
    assert read_histories(table, Fields("t", ("y",)), fill="zero").values[:, 0].tolist() == [1, 0, 0, 3, 4, 0]


BAD: list[tuple[Callable[[dict[str, list[Any]]], Any], str]] = [
    (lambda own: own["day"].__setitem__(3, "2026-01-03"), r"series 'shop 0' has the time 2026-01-03 twice, in rows 2 "),
    (
        lambda own: own["sold"].__setitem__(7, None),
        r"series 'shop 0', row 7 \(2026-01-08\): the target 'sold' is missing",
    ),
    (lambda own: own["sold"].__setitem__(7, "many"), r"row 7, column 'sold': 'many' is no number"),
    (lambda own: own["sold"].__setitem__(7, float("inf")), r"row 7, column 'sold': inf is infinite"),
    (lambda own: own["day"].__setitem__(7, "soon"), r"row 7: 'soon' is no time: write dates as 2026-11-27"),
    (lambda own: own["day"].__setitem__(7, None), r"row 7 has no time in the column 'day'"),
    (lambda own: own["shop"].__setitem__(7, None), r"row 7 has no series in the column 'shop'"),
    (
        lambda own: [cells.pop(7) for cells in own.values()],
        r"'shop 0' lacks 1 times of its steps of 'D', the first 2026",
    ),
    (lambda own: own["day"].__setitem__(7, "2026-01-08T01:00"), r"row 7: the time 2026-01-08T01:00:00 is not on"),
    (lambda own: own["price"].__setitem__(7, None), r"series 'shop 0', row 7 \(2026-01-08\): 'price' is missing, and"),
    (
        lambda own: own["kind"].__setitem__(7, "b"),
        r"row 7 \(2026-01-08\): 'kind' is 'b' and was 'a' before, but static",
    ),
    (
        lambda own: own.update(sold=[3.0] * ROWS),
        r"'sold' is 3 in all 63 rows to train on, row 0 \(2026-01-01\) to row 62",
    ),
    (lambda own: own.update(sold=[None] * ROWS), r"series 'shop 0' has no value of 'sold' in any of its 63 rows"),
    (
        lambda own: [cells.__delitem__(slice(1, None)) for cells in own.values()],
        r"series 'shop 0' has one row alone, row 0",
    ),
    (
        lambda own: [cells.__delitem__(slice(5, None)) for cells in own.values()],
        r"series 'shop 0' has 5 rows with targets, row 0 \(2026-01-01\) to row 4 \(2026-01-05\), and horizon=5 needs 6",
    ),
    (lambda own: own.pop("price"), r"the table has no column 'price'"),
]


@pytest.mark.parametrize(("change", "message"), BAD, ids=[message[:30] for _, message in BAD])
def test_bad_tables_are_told_by_series_and_row(change: Callable[[Any], Any], message: str) -> None:
    table = shop(0)
    change(table)
    with pytest.raises(DataError, match=message):
        data_of(table, known_fields="price", static_fields="kind").read_as({}, trains=True, by_class=False)


def test_what_is_asked_for_must_be_there() -> None:
    with pytest.raises(ConfigError, match="target_fields is missing"):
        data_of(shop(0), target_fields=None)
    with pytest.raises(ConfigError, match="horizon is missing: how many steps"):
        data_of(shop(0), horizon=None)
    with pytest.raises(ConfigError, match="frequency='3' is of whole numbers, and the times in 'day' are dates"):
        data_of(shop(0), frequency="3")
    with pytest.raises(ConfigError, match="test_from='soon' is no time of these series"):
        data_of(shop(0), test_from="soon")
    with pytest.raises(
        DataError, match="test_from='2027-01-01' leaves nothing from it: the first forecast begins with"
    ):
        data_of(shop(0), test_from="2027-01-01")
    with pytest.raises(ConfigError, match=re.escape("quantiles=(0.9, 0.1): give different ones between 0 and 1")):
        TabularForecaster(quantiles=(0.9, 0.1))
    with pytest.raises(ConfigError, match="loss_fn='mse_loss' is of one value: give quantiles="):
        TabularForecaster(loss_fn="mse_loss")


def test_a_series_that_is_too_short_or_constant_is_told_and_the_others_serve() -> None:
    frame = pd.concat([shops(2), shops(3).iloc[2 * ROWS : 2 * ROWS + 4]])
    with pytest.warns(DataWarning, match=r"left out 1 of 3 series: series 'shop 2' has 4 rows"):
        assert len(data_of(frame).table("train") or ()) == 2 * (ROWS - 5 - 14 + 1)
    frame = shops(2)
    frame.loc[frame["shop"] == "shop 1", "sold"] = 7.0
    with pytest.warns(DataWarning, match="series 'shop 1': 'sold' is 7 in all 63 rows"):
        data_of(frame).read_as({}, trains=True, by_class=False)


def test_what_suits_no_series_is_refused_with_what_does(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder, and series come as tables: from_csv"):
        TabularForecastingData.from_folders(train_folder=tmp_path)
    table = data_of(shops()).table("train")
    assert table is not None
    with pytest.raises(DataError, match="folds are drawn by chance, and windows of series overlap"):
        folds_of(table, 3, 0)
    with pytest.raises(ConfigError, match="forecasts series that it never saw as it is"):
        TabularForecaster().adapt(shop(0), [1])
    with pytest.raises(ConfigError, match="training_strategy='maml' learns from few examples of classes"):
        TabularForecaster(training_strategy="maml")


# ---- windows


def test_no_forecast_of_training_reaches_into_what_is_judged() -> None:
    data = data_of(shops(), val_split=0.2, test_split=0.2)
    parts = {name: data.table(name) for name in ("train", "val", "test")}
    spans = {}
    for name, table in parts.items():
        assert table is not None
        windows = table.inputs
        assert isinstance(windows, Windows)
        times = windows.histories.times
        spans[name] = times[windows.origins].min(), times[windows.origins + 4].max()
    assert spans["train"][1] < spans["val"][0]
    assert spans["val"][1] < spans["test"][0]


def test_scales_are_those_of_the_training_rows() -> None:
    frame = shops(1)
    late = frame.copy()
    late.loc[40:, "sold"] = 1e6  # what is judged says nothing of the scale
    for own in (frame, late):
        data = data_of(own, test_from=DAYS[40])
        data.read_as({}, trains=True, by_class=False)
        assert data.modality.targets[0][1:] == pytest.approx(frame["sold"][:40].agg(["mean", "std"]).tolist(), rel=0.02)


def test_a_window_sees_what_is_past_alone() -> None:
    frame = shops(1)
    before = batch_of(data_of(frame, observed_fields="price"), "train", np.array([3]))["input"]
    later = frame.copy()
    later.loc[14 + 3 :, ["sold", "price"]] = 99.0
    own = data_of(frame, observed_fields="price")
    own.read_as({}, trains=True, by_class=False)
    other = own.modality.load_many(data_of(later, observed_fields="price").table("train").inputs, np.array([3]))  # type: ignore[union-attr]
    for name, leaf in before.items():
        torch.testing.assert_close(other[name], leaf)


def test_past_targets_are_told_from_the_last_one_in_units_of_their_own() -> None:
    batch = batch_of(data_of(shops(), scaling="standard"), "train")
    inputs, truth = batch["input"], batch["target"]
    values = inputs["past"].double() * inputs["spread"][:, None] + inputs["level"][:, None]
    frame = shops()
    torch.testing.assert_close(
        values[0, :, 0], torch.tensor(frame["sold"][:14].tolist(), dtype=torch.float64), rtol=1e-6, atol=1e-5
    )
    assert truth["values"][0, :, 0].tolist() == frame["sold"][14:19].tolist()
    assert (inputs["past"][:, -1] == 0).all()
    window = batch_of(data_of(shops()), "train")["input"]  # by default each in its own units, as there are several
    torch.testing.assert_close(window["past"].std(1, correction=0), torch.ones_like(window["level"]).float())


def test_mase_divides_by_the_seasonal_naive_error_before() -> None:
    own = read_histories(columns(t=np.arange(30), y=np.random.default_rng(0).random(30)), Fields("t", ("y",)))
    windows = cut(own, 4, 10)
    values = own.values[:, 0]
    for season in (1, 7):
        wanted = [np.abs(values[season:end] - values[: end - season]).mean() for end in windows.origins]
        np.testing.assert_allclose(own.scales(windows.series, windows.origins, season)[:, 0], wanted)
    flat = read_histories(columns(t=np.arange(9), y=np.full(9, 2.0)), Fields("t", ("y",)))
    assert flat.scales(np.zeros(1, np.int64), np.array([6]), 2).tolist() == [[1.0]]


def test_intervals_are_over_blocks_of_windows_that_overlap() -> None:
    data = data_of(shops(1), test_from=DAYS[30])
    model = TabularForecaster(backbone="seasonal_naive")
    (figures,) = quiet().test(model, datamodule=data, verbose=False)
    table = data.table("test")
    assert table is not None and table.origins is not None
    assert len(table.origins.names) == 3  # of 29 windows, each block as long as two horizons
    alone = 1.96 * model.outcome.figures.std() / len(table) ** 0.5  # type: ignore[union-attr]
    assert figures["test_mase_ci95"] > 1.2 * alone
    assert figures["test_mase_ci95"] == pytest.approx(model.outcome.ci95())  # type: ignore[union-attr]


# ---- what is judged


def test_losses_of_quantiles_are_what_they_should_be() -> None:
    told, true = torch.tensor([[0.0, 1.0, 4.0]]), torch.tensor([3.0])
    assert pinball(told, true, (0.1, 0.5, 0.9))[0].tolist() == pytest.approx([0.3, 1.0, 0.1])
    assert crps(told[:, 1:2], true, (0.5,)).item() == 2.0


def naive_figures(data: TabularForecastingData) -> dict[str, float]:
    """The figures of the forecast that repeats the last week, by pandas."""
    table = data.table("test")
    assert table is not None
    off, scaled = [], []
    for window in table.inputs:  # type: ignore[attr-defined]
        own = window.histories.values[
            window.histories.starts[window.series] : window.histories.starts[window.series + 1], 0
        ]
        at = window.origin - window.histories.starts[window.series]
        error = np.abs(own[at : at + 5] - own[at - 7 : at - 2])
        off.append(error.mean())
        scaled.append(error.mean() / np.abs(own[7:at] - own[: at - 7]).mean())
    return {"test_mae": float(np.mean(off)), "test_mase": float(np.mean(scaled))}


def test_the_seasonal_naive_forecast_is_judged_right() -> None:
    data = data_of(shops(), test_from=DAYS[45])
    (figures,) = quiet().test(TabularForecaster(backbone="seasonal_naive"), datamodule=data, verbose=False)
    for name, wanted in naive_figures(data).items():
        assert figures[name] == pytest.approx(wanted, rel=1e-5)
    assert 0.5 < figures["test_coverage"] <= 1


def test_what_was_filled_in_counts_nowhere() -> None:
    frame = shops(1)
    whole = data_of(frame, test_from=DAYS[50])
    frame.loc[frame.index >= 52, "sold"] = frame["sold"].where(frame.index % 2 == 0)
    holed = data_of(frame, test_from=DAYS[50], fill="zero")
    seen = batch_of(holed, "test")["target"]["seen"]
    assert not seen.all()
    kind = Forecasting(quantiles=()).meet(whole, "fit")
    truth = batch_of(whole, "test", np.arange(len(seen)))["target"]
    outputs = {"told": torch.ones(len(seen), 5, 1, 1), "level": truth["values"][:, 0], "spread": truth["values"][:, 1]}
    some = {**truth, "seen": seen, "values": torch.where(seen, truth["values"], 1e9)}
    off = (outputs["spread"][:, None] + outputs["level"][:, None] - truth["values"]).abs()
    wanted = torch.stack([own[there].mean() for own, there in zip(off, seen, strict=True)])
    torch.testing.assert_close(kind.figures(outputs, some)[:, 1], wanted)


# ---- training


class Tanh(nn.Module):
    """A layer of the past."""

    reads = NHiTS.reads

    def __init__(self, context: int) -> None:
        super().__init__()
        self.layer = nn.Linear(context, 6)

    def forward(self, inputs: Batch) -> Tensor:
        return self.layer(inputs["past"].transpose(1, 2)).tanh()


@pytest.mark.dear("tabular")
def test_forecasts_conform() -> None:
    data = data_of(shops(), stride=9, known_fields="day", horizon=2, context=10)
    batch = batch_of(data, "train", np.arange(10))
    kind = Forecasting().meet(data, "fit")
    check_kind(kind, Encoder(Tanh(10)), batch["input"], batch["target"])


@pytest.mark.dear("tabular")
def test_n_hits_conforms() -> None:
    data = data_of(shops(), stride=9, known_fields=["day", "price"], horizon=2, context=10)
    batch = batch_of(data, "train", np.arange(10))
    told = {name: size for name, size in data.modality.for_backbone().items() if name not in ("targets", "period")}
    kind = Forecasting(quantiles=()).meet(data, "fit")
    check_kind(kind, Encoder(NHiTS(**told, rates=(4, 1), width=8)), batch["input"], batch["target"])


@pytest.mark.dear("tabular")
def test_series_conform() -> None:
    told = {"known_fields": "day", "observed_fields": "price", "static_fields": "kind", "kinds": {"kind": "category"}}
    series = Series(horizon=3, context=10, time_field="day", target_fields="sold", series_field="shop", **told)
    bad: list[Any] = [3, "a text", {"day": DAYS[:1]}, b"", b"a,b\n1", b'{"day": [1]}']
    check_modality(series, [shop(place) for place in range(4)], bad=bad, exports=False)


def test_the_closed_form_is_least_squares() -> None:
    data = data_of(shops(2), scaling="standard")
    model = TabularForecaster.closed_form(data, penalty=0.0, quantiles=())
    batch = batch_of(data, "train")
    past = batch["input"]["past"][..., 0].double().numpy()
    past = np.concatenate([past, np.ones((len(past), 1))], 1)
    ahead = (batch["target"]["values"] - batch["input"]["level"][:, None]) / batch["input"]["spread"][:, None]
    weight = np.linalg.lstsq(past, ahead[..., 0].numpy(), rcond=None)[0]
    told = model.kind.outputs(model.encoder, model.head, batch["input"])["told"][..., 0, 0]  # type: ignore[arg-type]
    np.testing.assert_allclose(told.detach().numpy(), past @ weight, atol=1e-3)


def test_it_learns_and_answers_behind_the_end_of_the_data(tmp_path: Path) -> None:
    frame = shops()
    data = data_of(frame, known_fields="price", test_from=DAYS[50], batch_size=16)
    model = TabularForecaster(learning_rate=1e-2)
    trainer = quiet(max_epochs=15)
    torch.manual_seed(0)
    trainer.finetune(model, datamodule=data)
    (figures,) = trainer.test(model, datamodule=data, verbose=False)
    assert figures["test_mase"] < naive_figures(data)["test_mase"]

    ahead = pd.DataFrame(
        {
            "day": pd.date_range("2026-03-05", periods=5).astype(str),
            "shop": "shop 1",
            "sold": None,
            "price": [0, 0.25, 0.5, 0.75, 1],
        }
    )
    asked = pd.concat([frame[frame["shop"] == "shop 1"], ahead])
    predictor = model.predictor()
    (answer,) = predictor.predict(asked)
    assert answer["times"] == ["2026-03-05", "2026-03-06", "2026-03-07", "2026-03-08", "2026-03-09"]
    told = answer["forecasts"]["sold"]
    assert all(low <= value <= high for low, value, high in zip(told["0.1"], told["value"], told["0.9"], strict=True))

    cheap = asked.assign(price=asked["price"].where(asked["sold"].notna(), 0.0))
    assert sum(predictor.predict(cheap)[0]["forecasts"]["sold"]["value"]) > sum(told["value"])
    with pytest.raises(
        DataError, match=r"series 'shop 1': 'price' must be known for the 5 steps behind row 62 \(2026-03-04\)"
    ):
        predictor.predict(frame[frame["shop"] == "shop 1"])

    to_predict = data_of(None, predict_data_frame=asked, known_fields="price", horizon=None, context=None)
    file = tmp_path / "forecast.csv"
    rows = trainer.predict(model, datamodule=to_predict, output="rows", file=file)
    assert [row.time for row in rows] == answer["times"]
    assert [row.value for row in rows] == pytest.approx(told["value"], rel=1e-6)
    assert pd.read_csv(file).columns.tolist() == ["series", "time", "target", "value", "low", "high"]
    assert pd.read_csv(file)["series"].unique().tolist() == ["shop 1"]

    predictor.save(tmp_path / "model")
    loaded = TrainedModel.load(tmp_path / "model")
    assert loaded.predict(asked) == [answer]
    shifted = asked.assign(shop="a new one", sold=asked["sold"] * 1000)  # in its own units
    wanted = np.array(told["value"]) * 1000
    np.testing.assert_allclose(loaded.predict(shifted)[0]["forecasts"]["sold"]["value"], wanted, rtol=1e-5)
    (short,) = loaded.predict(pd.concat([asked.iloc[-15:-5], ahead]), "values")
    assert np.isfinite(short).all()  # of ten days behind, where training had fourteen


def test_a_run_that_is_stopped_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    def fitted(folder: str, **options: Any) -> TabularForecaster:
        torch.manual_seed(0)
        model = TabularForecaster(backbone="nhits", backbone_kwargs={"width": 8, "dropout": 0.1}, learning_rate=1e-3)
        trainer = Trainer(
            default_root_dir=tmp_path / folder, resume="auto", logger=False, enable_progress_bar=False, **options
        )
        trainer.finetune(model, datamodule=data_of(shops(), val_split=0.2, batch_size=16))
        return model

    whole = fitted("whole", max_epochs=2)
    fitted("stopped", max_epochs=2, max_steps=4)
    other = fitted("stopped", max_epochs=2)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_it_is_served_as_objects_and_as_files(tmp_path: Path) -> None:
    frame = shops()
    model = TabularForecaster.closed_form(data_of(frame, observed_fields="price")).predictor()
    model.save(tmp_path / "model")
    items = [{name: cells for name, cells in shop(place).items() if name != "kind"} for place in range(2)]
    check_served(tmp_path / "model", model, items, 1e-6)


def test_a_graph_answers_as_the_model_does(tmp_path: Path) -> None:
    frame = shops(2)
    model = TabularForecaster.closed_form(data_of(frame, known_fields="day")).predictor()
    exported = model.export(tmp_path / "model.pt2", inputs=frame)
    assert exported.difference < 1e-5 and exported.model.is_file()


def test_the_command_line_forecasts_the_series_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shops(2).to_csv("shops.csv", index=False)
    words = "--task tabular_forecasting --data.train_file shops.csv --data.target_fields sold --data.series_field shop"
    words += " --data.horizon 5 --data.context 14 --data.test_from 2026-02-20 --trainer.max_epochs 1"
    assert main(["fit", *words.split(), "--trainer.accelerator", "cpu", "--out", "run"]) == 0
    assert main(["test", "run"]) == 0  # by the part of its data that it did not train on
    assert "MASE" in capsys.readouterr().out
    assert main(["predict", "run", "shops.csv", "--output", "forecast.csv", "--drawings", "plots"]) == 0
    told = pd.read_csv("forecast.csv")
    assert told["series"].tolist() == ["shop 0"] * 5 + ["shop 1"] * 5
    assert told["time"].tolist()[:2] == ["2026-03-05", "2026-03-06"]
    assert (told["low"] <= told["value"]).all() and (told["value"] <= told["high"]).all()
    assert Path("plots/shop 1.png").read_bytes().startswith(b"\x89PNG")


def test_several_targets_have_one_map_and_units_of_their_own() -> None:
    frame = shops(1).assign(price=lambda own: 1000 * own["price"].rolling(3, min_periods=1).mean())
    data = data_of(frame, target_fields=["sold", "price"], test_from=DAYS[45], series_field=None)
    model = TabularForecaster.closed_form(data)
    (answer,) = model.predictor().predict(frame)
    assert list(answer["forecasts"]) == ["sold", "price"]
    assert np.mean(answer["forecasts"]["price"]["value"]) > 100 > np.mean(answer["forecasts"]["sold"]["value"])


# ---- without training here


def by_method(name: str, data: TabularForecastingData, **options: Any) -> tuple[dict[str, float], TabularForecaster]:
    model = TabularForecaster(backbone=name, backbone_kwargs=options or None)
    (figures,) = quiet().test(model, datamodule=data, verbose=False)
    return dict(figures), model


def test_what_needs_no_training_is_saved_and_answers_alike(tmp_path: Path) -> None:
    frame = shops(2)
    data = data_of(None, test_data_frame=frame, judged_stride=7)
    _, model = by_method("seasonal_naive", data)
    predictor = model.predictor()
    predictor.save(tmp_path / "naive")
    answers = predictor.predict(frame, "values")
    assert TrainedModel.load(tmp_path / "naive").predict(frame, "values") == answers
    np.testing.assert_allclose(np.array(answers)[0, :, 0], frame["sold"][ROWS - 7 : ROWS - 2], rtol=1e-6)


def test_exponential_smoothing_forecasts_a_trend_with_a_season() -> None:
    pytest.importorskip("statsmodels", reason="pip install 'quickstudy[series]'")
    step = np.arange(72)
    frame = pd.DataFrame({"day": pd.date_range("2020-01-01", periods=72, freq="MS")})
    frame["sold"] = (100 + 2 * step) * (1 + 0.3 * np.sin(2 * np.pi * step / 12))
    data = data_of(None, test_data_frame=frame, series_field=None, horizon=12, context=60)
    naive, _ = by_method("seasonal_naive", data)
    figures, model = by_method("ets", data)
    assert figures["test_mase"] < 0.2 * naive["test_mase"]
    told = model.predictor().predict(frame)[0]["forecasts"]["sold"]
    assert all(low <= high for low, high in zip(told["0.1"], told["0.9"], strict=True))


def test_fracast_answers_as_its_own_package_does() -> None:
    fracast = pytest.importorskip("fracast", reason="pip install 'quickstudy[offline]'")
    frame = shops(1)
    _, model = by_method("fracast", data_of(None, test_data_frame=frame, judged_stride=50, context=40))
    wanted = fracast.FracastModel.from_pretrained(weights="fp32").forecast(frame["sold"].to_numpy()[-40:], horizon=5)
    told = model.predictor().predict(frame)[0]["forecasts"]["sold"]
    np.testing.assert_allclose(told["value"], wanted[:, 4], rtol=1e-5)
    np.testing.assert_allclose(told["0.9"], wanted[:, 8], rtol=1e-5)


def test_weights_that_are_not_at_hand_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pipelines:
        @staticmethod
        def from_pretrained(name: str, **options: Any) -> Any:
            raise OSError("no connection")

    monkeypatch.setitem(sys.modules, "chronos", SimpleNamespace(BaseChronosPipeline=Pipelines))
    with pytest.raises(ConfigError, match=r"'amazon/chronos-bolt-small' are neither .* hf download amazon/chronos"):
        by_method("chronos", data_of(None, test_data_frame=shops(1)))


def test_a_package_that_is_missing_is_told_with_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "statsmodels.tsa.holtwinters", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'quickstudy\[series\]'"):
        by_method("ets", data_of(None, test_data_frame=shops(1), judged_stride=50))
