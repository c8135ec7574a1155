"""Numbers as answers: read, learned in units of their own deviation, measured with intervals, told in their units."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchmetrics
from torch import Tensor, nn

from quickstudy import ConfigError, DataError, DataModule, DataWarning, Episode, Task, Trainer
from quickstudy.data.targets import encode_numbers
from quickstudy.functional.intervals import mean_interval
from quickstudy.image import ImageRegressionData, ImageRegressor
from quickstudy.kinds.metrics import StageMetrics
from quickstudy.kinds.regression import Regression

QUIET: dict[str, Any] = dict.fromkeys(
    ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
)
QUIET["accelerator"] = "cpu"


class Rows(DataModule):
    """Rows of numbers, and a number for each."""

    answers = Regression


def numbers(count: int = 96, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rows of four numbers, and a sum of them around 5000 with a deviation of some 200, and noise of 20."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 4, generator=generator)
    exact = inputs @ torch.tensor([100.0, -150.0, 50.0, 0.0])
    return inputs, 5000 + exact + 20 * torch.randn(count, generator=generator)


def data(**options: Any) -> Rows:
    (train, targets), (test, asked) = numbers(), numbers(48, 1)
    return Rows.from_tensors(train, targets, test_data=test, test_targets=asked, **{"batch_size": 16, **options})


def model(**options: Any) -> Task:
    torch.manual_seed(0)
    return Task(Regression(), nn.Linear(4, 8), **{"learning_rate": 0.03, **options})


def test_numbers_are_learned_in_units_of_their_deviation_and_told_in_their_own(tmp_path: Path) -> None:
    trained, its = model(metrics=["PearsonCorrCoef"]), data(val_split=0.25, predict_data=numbers(48, 1)[0])
    trainer = Trainer(max_epochs=40, **QUIET)
    trainer.fit(trained, datamodule=its)
    train = its.table("train")
    assert train is not None and train.targets is not None and len(train) == 72
    assert trained.kind == Regression(float(train.targets.mean()), float(train.targets.std()))
    assert trainer.callback_metrics["train_loss"] < 0.1
    (found,) = trainer.test(trained, datamodule=its)
    assert found["test_rmse"] < 40 and found["test_r2"] > 0.95 and found["test_PearsonCorrCoef"] > 0.97
    assert found["test_mae"] < found["test_rmse"] and 0 < found["test_rmse_ci95"] < 20
    assert trainer.outcome is not None and trainer.outcome.value == pytest.approx(found["test_rmse"], rel=1e-5)
    answers = trainer.predict(trained, datamodule=its)
    off = np.array(answers) - numbers(48, 1)[1].numpy()
    assert math.sqrt(np.square(off).mean()) == pytest.approx(found["test_rmse"], rel=1e-4)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    again = Task.load_from_checkpoint(tmp_path / "model.ckpt", backbone=nn.Linear(4, 8))
    assert again.kind == trained.kind and again.score == ("rmse", "min", False, True)
    assert Trainer(**QUIET).predict(again, datamodule=its) == answers
    assert trained.predictor().predict(numbers(48, 1)[0]) == pytest.approx(answers, rel=1e-6)
    rows = trainer.predict(trained, datamodule=its, output="rows")
    assert [row.number for row in rows] == answers and rows[0].true is None
    with pytest.raises(ConfigError, match="output='labels' is none of"):
        trainer.predict(trained, datamodule=its, output="labels")


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
def test_timestamps_are_learned_in_half_precision_too(precision: Any) -> None:
    inputs, seconds = torch.ones(8, 4), 1.7e9 + 3600 * torch.arange(8, dtype=torch.float64)
    head = nn.Linear(8, 1)
    torch.nn.init.zeros_(head.weight), torch.nn.init.zeros_(head.bias)  # which answers the mean
    learner = model(head=head, optimizer="SGD", learning_rate=1e-30)
    its = Rows.from_tensors(inputs, seconds, val_data=1 - inputs, val_targets=seconds, batch_size=4)
    trainer = Trainer(max_epochs=1, precision=precision, **QUIET)
    trainer.fit(learner, datamodule=its)
    assert trainer.callback_metrics["val_rmse"] == pytest.approx(float(seconds.std(correction=0)), rel=1e-6)
    episode = Episode(inputs, seconds, inputs, seconds)
    given = (episode, {"input": inputs, "target": seconds}, [inputs, seconds])
    for batch, at in zip(given, ((1, 3), ("target",), (1,)), strict=True):
        made: Any = trainer.precision_plugin.convert_input(batch)
        assert all(torch.equal(made[place], seconds) for place in at)
        assert made["input" if isinstance(made, dict) else 0].element_size() == 2


def test_figures_and_their_intervals_are_those_of_plain_formulas() -> None:
    targets, outputs = numbers(64)[1].double(), torch.randn(64, 1, dtype=torch.float64)
    kind = Regression(5000.0, 200.0)
    metrics = StageMetrics("rmse", kind.measure(True))
    for part in (slice(0, 10), slice(10, 64)):
        some, asked = outputs[part], targets[part]
        metrics.update(kind.figures(some, asked), *kind.for_metrics(some, asked), torch.tensor(1.0), len(some))
    found = metrics.collect()
    told = outputs[:, 0] * 200 + 5000
    squared = (told - targets).square()
    assert found["rmse"] == pytest.approx(float(squared.mean().sqrt()), rel=1e-6)
    root, half = float(squared.mean().sqrt()), mean_interval(squared)[1]
    assert found["rmse_ci95"] == pytest.approx(root * math.expm1(half / (2 * root**2)), rel=1e-5)
    assert found["mae"] == pytest.approx(float((told - targets).abs().mean()), rel=1e-6)
    assert found["r2"] == pytest.approx(float(torchmetrics.functional.r2_score(told, targets)), rel=1e-5)
    assert found["examples"] == 64
    # The jackknife, which leaves each example out in turn, is the textbook's other way to the same interval.
    kept = ~torch.eye(64, dtype=torch.bool)
    without = torch.stack([torchmetrics.functional.r2_score(told[row], targets[row]) for row in kept])
    spread = math.sqrt(63 / 64 * float((without - without.mean()).square().sum()))
    left = 1 - found["r2"]
    assert left * math.log1p(found["r2_ci95"] / left) == pytest.approx(1.998 * spread, rel=0.1)


def test_numbers_of_one_value_have_no_share_explained() -> None:
    metrics = StageMetrics("rmse", Regression().measure(True))
    targets, outputs = torch.full((5,), 3.0), torch.full((5, 1), 3.0)
    metrics.update(Regression().figures(outputs, targets), outputs, targets, torch.tensor(0.0), 5)
    found = metrics.collect()
    assert found["rmse"] == 0 and math.isnan(found["r2"])


def test_a_mean_over_batches_and_over_all_is_one(in_float64: None) -> None:
    kind, encoder_of = Regression(5000.0, 200.0), model().encoder
    head, (inputs, targets) = nn.Linear(8, 1), numbers(10)
    encoder, gradients = encoder_of.double(), []
    for parts in ([slice(0, 10)], [slice(0, 3), slice(3, 10)]):
        judged = [kind.judge(encoder, head, inputs[p].double(), targets[p].double(), kind.loss(None)) for p in parts]
        whole = sum(one.loss * one.weight for one in judged) / sum(float(one.weight) for one in judged)
        gradients.append(torch.autograd.grad(whole, list(head.parameters())))
    assert max((one - other).abs().max() for one, other in zip(*gradients, strict=True)) < 1e-12


def test_numbers_are_read_from_lists_columns_and_text() -> None:
    for targets in (["0.5", 2, 3.25], np.array([0.5, 2, 3.25]), torch.tensor([[0.5], [2], [3.25]])):
        assert encode_numbers(targets).codes.tolist() == [0.5, 2, 3.25] and encode_numbers(targets).classes == ()
    for targets, said in (
        ([1.0, None], "target 1 is missing"),
        ([1.0, "two"], "target 1 is 'two': it must be a number"),
        ([1.0, math.inf], "target 1 is inf: it must be a finite number"),
        ([[1.0, 2.0]], r"one per example, and these have the shape \(1, 2\)"),
        ([[1.0], [2.0, 3.0]], "some are lists of another length"),
        ([1.0, [2.0]], "some are lists of another length"),
        ("123", "give a list of numbers"),
        (3.0, "give a list of numbers"),
        (["1_000"], "target 0 is '1_000': it must be a number"),
        ([b"1"], "it must be a number"),
        ([1.5, True], "target 1 is True: it must be a number"),
        ([10**400], "must be a finite number"),
        (np.array(["2020-01-01"], "M8[ns]"), "dates or durations"),
        (np.array([5], "m8[ns]"), "dates or durations"),
    ):
        with pytest.raises(DataError, match=said):
            encode_numbers(targets)
    with pytest.raises(ConfigError, match="needs classes, and the targets are numbers"):
        data(sampler="balanced")
    with pytest.raises(ConfigError, match=r"loss_fn='l2_loss' is neither a function nor one of mse_loss"):
        model(loss_fn="l2_loss")


@pytest.mark.parametrize("centre", [20_200_101, 1.7e9, 1e12])
def test_numbers_far_from_zero_keep_their_digits(centre: float) -> None:
    # float32 has 7 digits: of timestamps it would leave none that tell one from another.
    (train, learned), (inputs, targets) = numbers(), numbers(48, 1)
    shown, exact = (centre + np.round(some.double().numpy() - 5000) / 8 for some in (learned, targets))
    its = Rows.from_tensors(train, shown, test_data=inputs, test_targets=exact, batch_size=16)
    trained, trainer = model(), Trainer(max_epochs=20, **QUIET)
    trainer.fit(trained, datamodule=its)
    (found,) = trainer.test(trained, datamodule=its)
    answers = np.array(trained.predictor().predict(inputs))
    graph = trained.kind.exported(torch.zeros(2, 1))
    assert graph.dtype == torch.float64 and Regression(5000.0, 200.0).exported(graph).dtype == torch.float32
    off = answers - exact
    assert math.sqrt(np.square(off).mean()) == pytest.approx(found["test_rmse"], rel=1e-5)
    assert 1 - np.square(off).sum() / np.square(exact - exact.mean()).sum() == pytest.approx(found["test_r2"], abs=1e-5)
    assert found["test_r2"] > 0.9


def test_a_device_without_float64_is_given_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    its, trainer = data(), Trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=0, **QUIET)
    trainer.fit(model(), datamodule=its)
    batch = next(iter(trainer.train_dataloader))
    assert its.on_before_batch_transfer(batch, 0)[1].dtype == torch.float64
    monkeypatch.setattr(Task, "device", torch.device("mps"))
    inputs, targets = its.on_before_batch_transfer(batch, 0)
    assert (inputs.dtype, targets.dtype) == (torch.float32, torch.float32)


def test_equal_numbers_have_no_deviation() -> None:
    # The deviation that NumPy finds of forty times 0.1 is 1e-17, from the rounding of their sum.
    its = Rows.from_tensors(numbers(40)[0], np.full(40, 0.1), batch_size=16)
    assert Regression().meet(its, "fit").deviation == 1.0


def test_targets_that_are_classes_are_refused() -> None:
    its = DataModule.from_tensors(torch.zeros(4, 4), ["a", "b", "a", "b"])
    with pytest.raises(ConfigError, match="the targets are classes, and Regression answers numbers"):
        Trainer(max_epochs=1, **QUIET).fit(model(), datamodule=its)


@pytest.mark.parametrize("strategy", ["freeze", ("freeze_unfreeze", 1)])
def test_pictures_with_numbers_from_a_table_finetune(tmp_path: Path, strategy: Any) -> None:
    pandas = pytest.importorskip("pandas")
    from PIL import Image

    for grey in range(24):
        Image.new("L", (8, 8), 10 * grey).save(tmp_path / f"{grey}.png")
    frame = pandas.DataFrame(
        {"file": [f"{grey}.png" for grey in range(24)], "light": [0.5 * grey for grey in range(24)]}
    )
    frame.to_csv(tmp_path / "table.csv", index=False)
    its = ImageRegressionData.from_csv(
        "file", "light", train_file=tmp_path / "table.csv", val_split=0.25, image_size=8, image_mode="L", batch_size=9
    )
    trained = ImageRegressor(backbone=nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), learning_rate=0.05)
    trainer = Trainer(max_epochs=3, default_root_dir=tmp_path, patience=2, **{**QUIET, "enable_checkpointing": True})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*learned from", DataWarning)
        trainer.finetune(trained, datamodule=its, strategy=strategy)
    best: Any = trainer.checkpoint_callback
    assert best.monitor == "val_rmse" and best.mode == "min" and trained.hparams["training_strategy"] == "default"
    assert float(best.best_model_score) > 0 and trainer.run_folder is not None
    (light,) = trained.predictor().predict([str(tmp_path / "3.png")])
    assert math.isfinite(light)


def test_a_run_on_numbers_goes_on_where_it_stopped(tmp_path: Path) -> None:
    def run(folder: str, **options: Any) -> Task:
        quiet = {name: value for name, value in QUIET.items() if name not in ("logger", "enable_checkpointing")}
        trainer = Trainer(max_epochs=3, default_root_dir=tmp_path / folder, resume="auto", **options, **quiet)
        trained = model()
        trainer.fit(trained, datamodule=data())
        return trained

    whole = run("whole")
    run("parts", max_steps=8)
    parts = run("parts")
    assert parts.kind == whole.kind and isinstance(parts.kind, Regression) and parts.kind.deviation > 1
    assert all(torch.equal(value, parts.state_dict()[name]) for name, value in whole.state_dict().items())
