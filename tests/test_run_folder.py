"""What a run leaves behind: its folder, its figures where they were asked for, and a page that shows it."""

from __future__ import annotations

import json
import logging
import math
import re
import sys
import types
from contextlib import nullcontext, suppress
from importlib.machinery import ModuleSpec
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from markupsafe import escape
from torch import nn

from quickstudy import ConfigError, DataWarning, MissingPackageError, Trainer
from quickstudy.cli import main
from quickstudy.image import ImageClassificationData, ImageClassifier
from quickstudy.kinds.base import ACCURACY, Score
from quickstudy.runs.folder import typed, validated_classes, write_measured, write_page
from quickstudy.runs.loggers import Events, Metrics, read_metrics
from quickstudy.runs.resuming import KeepLast
from quickstudy.training.outcome import Outcome

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}
PLAN = {"ways": 2, "shots": 1, "queries": 2, "meta_batch_size": 1, "epoch_length": 3, "test_epoch_length": 12}
LEFT = {"run.json", "metrics.csv", "best.ckpt", "last.ckpt", "curves.png", "report.html"}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def data(*stages: str) -> ImageClassificationData:
    """Classes of points around a centre each, other classes for every stage."""
    given: dict[str, Any] = {}
    for stage in stages or ("train", "val", "test"):
        centres = torch.randn(4, 1, 1, 6).repeat_interleave(6, 0)
        given[f"{stage}_data"] = centres + 0.3 * torch.randn(24, 1, 1, 6)
        given[f"{stage}_targets"] = [f"{stage}{code}" for code in range(4) for _ in range(6)]
    return ImageClassificationData.from_tensors(batch_size=7, **given)


def model(**plan: Any) -> ImageClassifier:
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.Linear(4, 4))
    return ImageClassifier(
        backbone=net, training_strategy="prototypicalnetworks", training_strategy_kwargs={**PLAN, **plan}
    )


def names(folder: Path) -> set[str]:
    return {path.name.split(".out")[0] for path in folder.iterdir()}


def test_a_run_leaves_one_folder(capsys: pytest.CaptureFixture[str]) -> None:
    given, learner = data(), model()
    trainer = Trainer(max_epochs=3, **QUIET)
    assert trainer.run_folder is None
    trainer.finetune(learner, datamodule=given, strategy=("unfreeze_milestones", ((0, 1), 1)))
    assert trainer.run_folder == Path("runs/1")
    assert names(Path("runs/1")) == LEFT | {"events", "previous.ckpt"}
    record = json.loads(Path("runs/1/run.json").read_text())
    assert record["data"]["val"]["fingerprint"] == given.table("val").fingerprint  # type: ignore[union-attr]
    assert record["data"]["train"]["examples"] == 24
    assert record["data"]["options"] == {**given.load_options, "image_size": [1, 6], "batch_size": 7}
    assert record["model"]["backbone"] == "code"
    assert record["model"]["training_strategy_kwargs"] == PLAN
    assert record["trainer"] == {
        **QUIET,
        **{"patience": None, "sync_batchnorm": True, "train_bn": True},
        **{
            "max_epochs": 3,
            "processes": 1,
            "precision": "32-true",
            "finetuning": "('unfreeze_milestones', ((0, 1), 1))",
        },
    }
    assert record["versions"]["torch"] == version("torch")
    rows = read_metrics(Path("runs/1"))
    assert [row["epoch"] for row in rows if "train_loss" in row] == [0, 1, 2]
    best = max(row["val_accuracy"] for row in rows if "val_accuracy" in row)
    page = Path("runs/1/report.html").read_text()
    assert f">{100 * best:.1f} " in page and "data:image/png" in page and "9 steps" in page
    assert "Tested" not in page

    (found,) = trainer.test(learner, datamodule=given, ckpt_path="best")
    assert capsys.readouterr().out.startswith(f"accuracy {found['test_accuracy']:.2%}")
    assert json.loads(Path("runs/1/test.json").read_text())["result"]["accuracy"] == found["test_accuracy"]
    assert "Tested over 12 episodes, 2-way 1-shot" in Path("runs/1/report.html").read_text()
    page = Path("runs/1/report.html").read_text()
    assert "Guessing is right in 50.0%" in page and "covers the draw of episodes from these test classes only" in page
    half = found["test_accuracy_ci95_classes"]
    reach = ACCURACY.reach(found["test_accuracy"], half, "{:.1%}".format)
    assert f"for other classes {reach.replace('%', '')}" in page
    assert f"For other classes of the same kind it is {reach}: each of the 4 classes was left out" in page
    assert "The black mark on a bar is guessing" in page and "best&#39; is the model after the epoch whose" in page
    assert "It ended when all 3 epochs were done (max_epochs)" in page
    assert all(f"<td>test{code}</td>" in page for code in range(4)) and "Each class, the worst first" in page
    assert main(["verify", "runs/1"]) == 2
    told = "'runs/1' was tested in Python, which does not record its data: measure it first, quickstudy test"
    assert f"{told} --checkpoint runs/1/best.ckpt --data.test_folder test/" in capsys.readouterr().err

    before = Path("runs/1/test.json").read_bytes()
    trainer.test(model(), datamodule=given, verbose=False)  # another model's figures are not the run's
    assert Path("runs/1/test.json").read_bytes() == before
    trainer.validate(learner, datamodule=given, verbose=False)
    Trainer(max_epochs=1, **QUIET).fit(model(), given)
    assert names(Path("runs/2")) == LEFT | {"events"}


def test_a_second_fit_goes_on_in_the_folder() -> None:
    given, learner, trainer = data(), model(), Trainer(max_epochs=1, default_root_dir="elsewhere", **QUIET)
    trainer.fit(learner, given)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(learner, given)
    assert [path.name for path in Path("elsewhere").iterdir()] == ["1"]
    assert len(json.loads(Path("elsewhere/1/run.json").read_text())["resumed"]) == 1
    assert [row["epoch"] for row in read_metrics(Path("elsewhere/1")) if "train_loss" in row] == [0, 1]


@pytest.mark.parametrize("options", [{"logger": False, "enable_checkpointing": False}, {"fast_dev_run": True}])
def test_a_run_that_is_to_leave_nothing_leaves_nothing(options: dict[str, Any]) -> None:
    learner, trainer = model(), Trainer(max_epochs=1, **QUIET, **options)
    trainer.fit(learner, data())
    trainer.test(learner, data(), verbose=False)
    assert trainer.run_folder is None
    assert not list(Path().iterdir())


def test_a_test_alone_leaves_nothing() -> None:
    Trainer(**QUIET).test(model(), data(), verbose=False)
    assert not list(Path().iterdir())


def test_without_validation_the_last_checkpoint_is_kept() -> None:
    trainer = Trainer(max_epochs=1, **QUIET)
    trainer.fit(model(), data("train"))
    assert names(Path("runs/1")) == LEFT - {"best.ckpt"} | {"events"}
    page = Path("runs/1/report.html").read_text()
    assert "3 steps." in page and "Validation was best" not in page and "<h2>Accuracy" not in page


def test_checkpoints_of_ones_own() -> None:
    own = ModelCheckpoint("mine", monitor="val_loss", filename="lowest")
    trainer = Trainer(max_epochs=1, callbacks=[own], **QUIET)
    trainer.fit(model(), data())
    assert trainer.checkpoint_callback is own
    assert Path("mine/lowest.ckpt").exists()
    assert names(Path("runs/1")) == LEFT - {"best.ckpt"} | {"events"}


class StoppedError(Exception):
    """Whatever ends a run."""


class Stop(Callback):
    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == 2:
            raise StoppedError


def test_a_run_that_was_stopped_shows_how_far_it_came() -> None:
    trainer = Trainer(max_epochs=4, callbacks=[Stop()], **QUIET)
    with pytest.raises(StoppedError):
        trainer.fit(model(), data())
    page = Path("runs/1/report.html").read_text()
    assert "6 steps" in page and "It was ended after step 6 by an error: StoppedError" in page


class Interrupt(Callback):
    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        raise KeyboardInterrupt


class Enough(Callback):
    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        trainer.should_stop = True


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"max_steps": 2, "max_epochs": 9}, "It ended when all 2 steps were done (max_steps)."),
        ({"max_epochs": 2}, "It ended when all 2 epochs were done (max_epochs)."),
        ({"max_epochs": 20, "patience": 1}, "It ended after a validation without a better val_accuracy (patience)."),
        ({"max_epochs": 9, "callbacks": [Interrupt()]}, "It was interrupted (Ctrl-C) after step 1."),
        ({"max_epochs": 9, "callbacks": [Enough()]}, "It ended since a callback, or Lightning, stopped it."),
    ],
    ids=["steps", "epochs", "patience", "interrupt", "callback"],
)
def test_a_page_says_why_the_run_ended(options: dict[str, Any], reason: str) -> None:
    learner = model()
    for parameter in learner.parameters():
        parameter.data.zero_()  # whose gradient is zero, too
    with suppress(SystemExit):
        Trainer(**QUIET, **options).fit(learner, data())
    assert reason in Path("runs/1/report.html").read_text()
    record = json.loads(Path("runs/1/run.json").read_text())
    assert reason[1:-1] == record.pop("ended")[1:]
    Path("runs/1/run.json").write_text(json.dumps(record))  # as a process leaves it that is killed
    write_page(Path("runs/1"))
    assert "How it ended is not known: it was killed, or still runs." in Path("runs/1/report.html").read_text()


@pytest.mark.parametrize("count", [2, 3, 31, 200])
def test_a_page_shows_few_classes_and_many(count: int) -> None:
    trainer, learner = Trainer(max_epochs=1, **QUIET), model()
    trainer.fit(learner, data("train"))
    folder, generator = Path("runs/1"), np.random.default_rng(0)
    names = tuple(f"<b>$ 数 class {code}\nof a long name {'x' * code}"[:60] for code in range(count))
    truth, answers = generator.integers(0, count, (2, 4000))
    pairs, times = np.unique(np.stack([truth, answers], 1), axis=0, return_counts=True)
    right = truth == answers
    parts = np.stack([np.arange(4000), truth, np.ones(4000, np.int64), right], 1)
    outcome = Outcome("examples", right.astype(float), np.arange(4000), names, parts, np.column_stack([pairs, times]))
    result = {"accuracy": outcome.accuracy, "accuracy_ci95": 0.01, "examples": 4000, "classes": count}
    result |= {"per_class": outcome.per_class(), "confusions": outcome.largest_confusions(100)}
    write_measured(folder, result | {"notes": ["<i>Take care</i>"]}, "best.ckpt", None, outcome)
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png") == 3 and "&lt;i&gt;Take care&lt;/i&gt;" in page and "<b>$" not in page
    assert page.count("<details>") == (count > 12) + (count > 4), "the largest confusions, and the worst classes"
    worst = min(result["per_class"], key=lambda name: result["per_class"][name]["accuracy"])
    listed = page.partition("Each class, the worst first")[2]
    assert min(names, key=lambda name: listed.index(str(escape(name)))) == worst
    assert "the most frequent class, is right in" in page
    (folder / "test.safetensors").write_bytes(b"cut")
    with pytest.warns(DataWarning, match=r"report.html' was not written: .*test.safetensors' is damaged"):
        write_page(folder)


def test_a_page_of_a_row_that_is_half_known_costs_no_result() -> None:
    Trainer(max_epochs=1, **QUIET).fit(model(), data())
    table = Path("runs/1/metrics.csv")
    for lost, told in (("val_episodes", ""), ("epoch", r"report.html' was not written: KeyError: 'epoch'")):
        rows = [line.split(",") for line in table.read_text().splitlines()]
        place = rows[0].index(lost)
        table.write_text("".join(",".join(row[:place] + row[place + 1 :]) + "\n" for row in rows))
        with pytest.warns(DataWarning, match=told) if told else nullcontext():
            write_page(Path("runs/1"))
        page = Path("runs/1/report.html").read_text()
        assert "Validation was best after step 3" in page and "Validated on" not in page


def test_a_page_says_what_differs_between_episodes_and_what_to_beware_of() -> None:
    learner, given = model(ways=[2, 3]), data()
    trainer = Trainer(max_epochs=1, **QUIET)
    trainer.fit(learner, given)
    trainer.test(learner, given, verbose=False)
    page = Path("runs/1/report.html").read_text()
    assert page.count("2 to 3-way 1-shot with 2 queries per class") == 2, "of the validation and of the test"
    assert "Guessing is right in 50.0%, where the ways are fewest." in page
    result = json.loads(Path("runs/1/test.json").read_text())["result"]
    assert result["ways"] == [2, 3] and result["accuracy_ci95_classes"] > result["accuracy_ci95"]
    assert trainer.outcome is not None
    sizes = np.bincount(trainer.outcome.parts[:, 0])
    assert set(sizes.tolist()) == {2, 3} and len(sizes) == 12


def test_a_test_on_training_examples_is_told_on_the_page() -> None:
    values, labels = torch.randn(40, 6), ["a", "b"] * 20
    given = ImageClassificationData.from_tensors(values, labels, test_data=values, test_targets=labels)
    trainer, learner = Trainer(max_epochs=1, **QUIET), ImageClassifier(backbone=nn.Linear(6, 4))
    trainer.fit(learner, given)
    with pytest.warns(DataWarning, match="was trained on"):
        trainer.test(learner, given, verbose=False)
    page = Path("runs/1/report.html").read_text()
    told = page.index("The model was trained on at least 40 of the 40 examples of this test")
    assert told < page.index("Accuracy, in percent"), "before the figure"


def test_tests_of_earlier_versions_are_shown() -> None:
    trainer, learner = Trainer(max_epochs=1, **QUIET), model()
    trainer.fit(learner, data("train"))
    before = {"accuracy": 0.61, "accuracy_ci95": 0.02, "loss": 1.0, "episodes": 600, "transductive": False}
    write_measured(Path("runs/1"), {**before, "ways": 5, "shots": 1, "queries": 15}, "best.ckpt")
    page = Path("runs/1/report.html").read_text()
    assert "61.0 ± 2.0" in page and "Guessing is right in 20.0%" in page
    assert "for other classes of the same kind the uncertainty is larger" in page


def test_last_goes_on_with_the_run_in_its_folder() -> None:
    torch.manual_seed(1)
    given = data()
    torch.manual_seed(2)
    whole = model()
    Trainer(max_epochs=3, **QUIET).fit(whole, given)
    for epochs in (1, 3):
        torch.manual_seed(2)
        again = model()
        trainer = Trainer(max_epochs=epochs, default_root_dir="going", **QUIET)
        if epochs == 1:
            with pytest.warns(DataWarning, match="'going' holds no checkpoint yet: training begins anew"):
                trainer.fit(again, given, ckpt_path="last")
        else:
            trainer.fit(again, given, ckpt_path="last")
    assert names(Path("going")) == LEFT | {"events", "previous.ckpt"}
    for one, other in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(ConfigError, match="needs the run's own folder: add default_root_dir='runs/birds'"):
        Trainer(max_epochs=1, **QUIET).fit(model(), given, ckpt_path="last")


def test_patience_ends_a_run_that_gets_no_better() -> None:
    learner = model()
    for parameter in learner.parameters():
        parameter.data.zero_()  # whose gradient is zero, too
    trainer = Trainer(max_epochs=20, patience=2, logger=False, **QUIET)
    trainer.fit(learner, data())
    assert trainer.current_epoch == 3
    with pytest.raises(ConfigError, match="patience=2 needs validation data"):
        Trainer(max_epochs=20, patience=2, **QUIET).fit(model(), data("train"))
    with pytest.raises(ConfigError, match="patience=0"):
        Trainer(patience=0)


def test_a_moved_run_keeps_its_best() -> None:
    given = data()
    options: dict[str, Any] = {"resume": "auto", **QUIET}
    Trainer(max_epochs=1, default_root_dir="here", **options).fit(model(), given)
    Path("here").rename("there")
    trainer = Trainer(max_epochs=2, default_root_dir="there", **options)
    trainer.fit(model(), given)
    best: Any = trainer.checkpoint_callback
    rows = [row["val_accuracy"] for row in read_metrics(Path("there")) if "val_accuracy" in row]
    assert float(best.best_model_score) == pytest.approx(max(rows))
    assert Path(best.best_model_path) == Path("there/best.ckpt").absolute()


def test_a_run_that_goes_on_in_another_folder_has_its_own_best() -> None:
    given = data()
    Trainer(max_epochs=1, **QUIET).fit(model(), given)
    trainer = Trainer(max_epochs=2, **QUIET)
    trainer.fit(model(), given, ckpt_path="runs/1/last.ckpt")
    assert trainer.run_folder == Path("runs/2") and Path("runs/2/best.ckpt").exists()
    assert trainer.test(datamodule=given, ckpt_path="best", verbose=False)


def test_more_patience_goes_on() -> None:
    given, learner = data(), model()
    for parameter in learner.parameters():
        parameter.data.zero_()
    options: dict[str, Any] = {"default_root_dir": "here", "resume": "auto", **QUIET}
    epochs = []
    for patience in (1, 1, 3):
        trainer = Trainer(max_epochs=20, patience=patience, **options)
        trainer.fit(learner, given)
        epochs.append(trainer.current_epoch)
    assert epochs == [2, 2, 4]


def test_a_page_has_no_figures_of_before() -> None:
    given, learner, trainer = data(), model(), Trainer(max_epochs=1, **QUIET)
    trainer.fit(learner, given)
    trainer.test(learner, datamodule=given, verbose=False)
    assert "test, as trained" in Path("runs/1/report.html").read_text()
    measured = json.loads(Path("runs/1/test.json").read_text())
    Path("runs/1/test.json").write_text(json.dumps({**measured, "time": "2020-01-01T00:00:00+00:00"}))
    trainer.fit_loop.max_epochs = 2
    trainer.fit(learner, given)
    page = Path("runs/1/report.html").read_text()
    assert "test, as trained" not in page and "Training went on since it was tested" in page


def test_an_interrupted_finetuning_gives_the_backbone_back() -> None:
    learner = model()
    names_before = [name for name, _ in learner.named_modules()]
    for strategy in (("unfreeze_milestones", ((0, 9), 1)), ("lora", 1)):
        trainer = Trainer(max_epochs=4, callbacks=[Stop()], logger=False, enable_checkpointing=False, **QUIET)
        with pytest.raises(StoppedError):
            trainer.finetune(learner, data(), strategy=strategy)  # type: ignore[arg-type]
        assert all(parameter.requires_grad for parameter in learner.parameters())
        assert [name for name, _ in learner.named_modules()] == names_before


def test_what_is_no_task_is_sent_to_lightning() -> None:
    other = LightningModule()
    for use in (Trainer(**QUIET).fit, Trainer(**QUIET).finetune, Trainer(**QUIET).test):
        with pytest.raises(ConfigError, match=r"LightningModule is no task of quickstudy.*use lightning.Trainer"):
            use(other)


class Cut(Callback):
    """Damages the run's files as soon as they are there."""

    def __init__(self, **contents: str) -> None:
        self._contents = contents

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        for name, content in self._contents.items():
            Path("runs/1", name.replace("_", ".")).write_text(content)


def test_a_page_costs_no_training_its_result() -> None:
    trainer = Trainer(max_epochs=1, callbacks=[Cut(run_json='{"time": "cut')], **QUIET)
    with pytest.warns(
        DataWarning, match=r"'runs/1/report.html' was not written: 'runs/1/run.json' is damaged .*remove"
    ):
        trainer.fit(model(), data())
    assert Path("runs/1/last.ckpt").exists()


def test_damaged_files_are_set_aside_when_a_run_goes_on() -> None:
    given = data()
    options: dict[str, Any] = {"default_root_dir": "runs/1", "resume": "auto", **QUIET}
    Trainer(max_epochs=1, **options).fit(model(), given)
    Path("runs/1/run.json").write_text('{"time": 1}')
    Path("runs/1/metrics.csv").write_text("step,epoch,a\n1,0,zero\n")
    with pytest.warns(DataWarning) as warned:
        Trainer(max_epochs=2, **options).fit(model(), given)
    assert {name for name in names(Path("runs/1")) if "damaged" in name} == {"run.json.damaged", "metrics.csv.damaged"}
    told = [str(one.message) for one in warned]
    assert any("run.json' is damaged (it lacks 'command'): remove it. It is set aside as" in one for one in told)
    assert any("metrics.csv' is damaged" in one for one in told)
    assert json.loads(Path("runs/1/run.json").read_text())["model"]["backbone"] == "code"
    assert [row["epoch"] for row in read_metrics(Path("runs/1")) if "train_loss" in row] == [1]


def test_other_validation_data_is_reported() -> None:
    given, other = data(), data()
    other._tables["train"] = given._tables["train"]
    options: dict[str, Any] = {"default_root_dir": "runs/1", "resume": "auto", **QUIET}
    Trainer(max_epochs=1, **options).fit(model(), given)
    with pytest.warns(DataWarning, match="the validation data is not what 'runs/1' began with: its best.ckpt was"):
        Trainer(max_epochs=2, **options).fit(model(), other)


def test_a_run_that_came_to_nothing_leaves_no_folder() -> None:
    with pytest.raises(StoppedError):
        Trainer(max_epochs=1, callbacks=[StopAtOnce()], **QUIET).fit(model(), data())
    assert not list(Path("runs").iterdir())


class StopAtOnce(Callback):
    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        raise StoppedError


def test_options_from_memory() -> None:
    with pytest.raises(
        ConfigError, match=r"'freeze' says what of the model trains: trainer.finetune\(..., strategy='f"
    ):
        Trainer(strategy="freeze")
    with pytest.raises(ConfigError, match=r"max_epoch.*did you mean 'max_epochs'"):
        Trainer(max_epoch=3)


def test_checkpoints_where_resuming_does_not_look_are_refused() -> None:
    trainer = Trainer(max_epochs=1, resume="auto", default_root_dir="r1", callbacks=[KeepLast("r2")], **QUIET)
    with pytest.raises(ConfigError, match=r"KeepLast.'r2'. writes where resume='auto' does not look, in 'r1'"):
        trainer.fit(model(), data())
    Trainer(max_epochs=1, callbacks=[KeepLast(every_n_steps=1)], **QUIET).fit(model(), data())
    assert names(Path("runs/1")) == LEFT | {"events", "previous.ckpt"}


def test_barebones() -> None:
    Trainer(max_epochs=1, barebones=True, accelerator="cpu").fit(model(), data())
    assert not list(Path().iterdir())


# ---- loggers


def test_loggers_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="unknown logger 'wnadb'; did you mean 'wandb'"):
        Trainer(logger="wnadb")
    with pytest.raises(ConfigError, match="logger=3 is no logger"):
        Trainer(logger=3)  # type: ignore[arg-type]
    for name in ("wandb", "mlflow", "trackio"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MissingPackageError, match=rf"pip install 'quickstudy\[{name}\]'"):
            Trainer(logger=["csv", name])
    Trainer(max_epochs=1, logger="csv", **QUIET).fit(model(), data())
    assert names(Path("runs/1")) == LEFT
    Trainer(max_epochs=1, logger=["tensorboard", CSVLogger("own")], **QUIET).fit(model(), data())
    assert names(Path("runs/2")) == LEFT | {"events"}
    assert list(Path("own").rglob("metrics.csv"))


def test_a_figure_that_is_no_number_goes_to_the_file_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """TensorBoard's writer warned of each average precision of a class that the validation has no box of."""
    for logger in (Events(tmp_path), Metrics(tmp_path)):
        logger.log_metrics({"val_loss": 0.5, "val_ap_25_bed": math.nan}, 1)
        logger.finalize("success")
    assert not caplog.records and math.isnan(read_metrics(tmp_path)[0]["val_ap_25_bed"])
    written = b"".join(file.read_bytes() for file in tmp_path.glob("events*"))
    assert b"val_loss" in written and b"val_ap_25_bed" not in written


def test_trackio(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []

    class Run:
        def log(self, figures: dict[str, float], step: int) -> None:
            calls.append((step, figures["epoch"]))

        def finish(self) -> None:
            calls.append(("finish",))

    def init(project: str, name: str, config: dict[str, Any], resume: str) -> Run:
        calls.append((project, name, config["training_strategy"], resume))
        return Run()

    monkeypatch.setitem(sys.modules, "trackio", types.SimpleNamespace(init=init))
    Trainer(max_epochs=1, logger="trackio", **QUIET).fit(model(), data())
    assert calls == [("quickstudy", "1", "prototypicalnetworks", "allow"), (2, 0), (2, 0), ("finish",)]


def test_metrics_are_on_the_disk_at_once_and_none_twice(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path)
    metrics.log_metrics({"epoch": 0, "a": 1.0}, 4)
    metrics.log_metrics({"epoch": 1, "a": 2.0}, 9)
    metrics.log_metrics({"epoch": 1, "b": 0.5}, 9)
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("14,2,0.")  # a killed process leaves that
    whole = [{"step": 4, "epoch": 0, "a": 1}, {"step": 9, "epoch": 1, "a": 2}, {"step": 9, "epoch": 1, "b": 0.5}]
    assert read_metrics(tmp_path) == whole
    Metrics(tmp_path).log_metrics({"epoch": 1, "a": 3.0}, 0)  # a test in a process that did not train
    assert read_metrics(tmp_path) == [*whole, {"step": 0, "epoch": 1, "a": 3}]
    again = Metrics(tmp_path)
    again.go_on(9)
    again.log_metrics({"epoch": 1, "a": 4.0}, 9)
    assert read_metrics(tmp_path) == [whole[0], {"step": 0, "epoch": 1, "a": 3}, {"step": 9, "epoch": 1, "a": 4}]


class Clock(Callback):
    """Time that passes by batches alone: a second each, those of validation later otherwise."""

    now = 0.0

    def __init__(self, later: float, epoch: int = 0) -> None:
        self._later, self._epoch = later, epoch

    def on_train_batch_end(self, *args: object, **kwargs: object) -> None:
        self.now += 1

    def on_validation_batch_end(self, trainer: Any, *args: object, **kwargs: object) -> None:
        self.now += 1 if trainer.sanity_checking or trainer.current_epoch < self._epoch else self._later


@pytest.mark.parametrize(
    ("clock", "options", "examples", "steps", "judged", "best"),
    [
        (Clock(1.0), {}, 160, 20, [20, 10], 20),
        (Clock(1.0), {"check_val_every_n_epoch": 5}, 160, 20, [20, 10], 20),  # judged in its first epoch all the same
        (Clock(3.0), {}, 160, 20, [20, 4], 20),
        (Clock(3.0, epoch=1), {}, 64, 10, [10, 4], 8),  # the whole validation of the epoch before chose the best
    ],
)
def test_a_run_ends_within_its_time_and_is_judged(
    clock: Clock,
    options: dict[str, Any],
    examples: int,
    steps: int,
    judged: list[int],
    best: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("time.monotonic", lambda: clock.now)
    logging.getLogger("lightning.pytorch").propagate = True
    values, labels = torch.randn(examples, 6), torch.arange(examples) % 2
    given = ImageClassificationData.from_tensors(values, labels, torch.randn(80, 6), torch.arange(80) % 2, batch_size=8)
    trainer = Trainer(max_time={"seconds": 30}, callbacks=[clock], **{**QUIET, "num_sanity_val_steps": 2, **options})
    with caplog.at_level("INFO", logger="lightning.pytorch"):
        trainer.fit(ImageClassifier(backbone=nn.Linear(6, 4)), datamodule=given)
    assert trainer.global_step == steps
    last = [row for row in read_metrics(trainer.run_folder) if "val_examples" in row][-1]
    assert [last["step"] + 1, last["val_examples"] / 8] == judged
    assert torch.load(trainer.run_folder / "best.ckpt")["global_step"] == best
    assert torch.load(trainer.run_folder / "last.ckpt")["global_step"] == steps
    assert f"The run ends after step {steps}" in caplog.text
    assert "It ended since its time was up (max_time)." in (trainer.run_folder / "report.html").read_text()
    assert ("ended by max_time after 4 of 10 batches" in caplog.text) == (judged[1] == 4)
    assert trainer.check_val_every_n_epoch == options.get("check_val_every_n_epoch", 1)


@pytest.mark.parametrize(
    ("program", "module", "command"),
    [
        ("/usr/lib/quickstudy/__main__.py", "quickstudy.__main__", "python -m quickstudy fit"),
        ("/usr/bin/quickstudy", None, "quickstudy fit"),
        ("my own/train.py", None, "python 'my own/train.py' fit"),
        ("/home/me/train.py", None, "python train.py fit"),
    ],
)
def test_the_command_is_what_to_type(
    program: str, module: str | None, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = types.ModuleType("__main__")
    main.__spec__ = None if module is None else ModuleSpec(module, None)
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(sys, "argv", [program, "fit"])
    assert typed() == command


def test_classes_of_a_validation_are_told_the_worst_first() -> None:
    figures = {"val_mean_iou": 0.5, "val_mean_iou_ci95": 0.1, "val_loss": 2.0, "val_iou_a": 0.7, "val_iou_a_ci95": 0.2}
    found = validated_classes({**figures, "val_iou_b": 0.3, "val_iou_c": math.nan}, Score("mean_iou", share=True))
    assert list(found) == ["b", "a"] and found["a"].ci95 == 0.2
    boxes = {"val_map_25": 0.5, "val_ap_25_bed": 0.9, "val_ap_25_lamp": 0.1, "val_ap_50_bed": 0.0}
    assert list(validated_classes(boxes, Score("map_25", share=True))) == ["lamp", "bed"]
    assert not validated_classes({"val_accuracy": 0.5, "val_accuracy_ci95": 0.1}, ACCURACY)


def test_the_page_names_the_weakest_classes_of_the_validation(tmp_path: Path) -> None:
    record = {"time": "", "command": "", "versions": {}, "trainer": {}, "data": {}, "model": {}}
    score = Score("mean_iou", share=True)._asdict()
    (tmp_path / "run.json").write_text(json.dumps({**record, "score": score}))
    names = [f"val_{name}" for name in ("mean_iou", "iou_leg", "iou_leg_ci95", "iou_<b>", "iou_<b>_ci95", "iou_top")]
    figures = "5,0,1.0,0.3,0.9,0.05,0,0,0"
    (tmp_path / "metrics.csv").write_text(f"step,epoch,train_loss,{','.join(names)}\n{figures}\n")
    write_page(tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "Weakest of its 3 classes: &#39;&lt;b&gt;&#39;, &#39;top&#39;, with 0.00%." in page
    cells = re.findall(r'<td>([^<]*)</td><td class="number">([^<]*)<', page)
    assert cells[-3:] == [("&lt;b&gt;", "0.0"), ("top", "0.0"), ("leg", "90.0 ± 5.0")]
    assert "<th>IoU</th>" in page and "the band is" not in page
