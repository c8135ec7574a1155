"""A task that is judged by something else than its accuracy, and where less is better: all that a run makes of it."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from quickstudy import DataError, Task, Trainer
from quickstudy.cli import main
from quickstudy.cli.verify import _same
from quickstudy.functional.intervals import mean_interval
from quickstudy.kinds.base import ACCURACY, Score
from quickstudy.runs.folder import read_outcome
from quickstudy.training.outcome import Outcome, difference

RMSE = Score("rmse", "min", root=True)
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
    "logger": "csv",
}


class Regressor(Task):
    """Fits numbers, and logs the root of the mean squared error alone: no interval, and no number of examples."""

    score = RMSE

    def __init__(self, found: tuple[float, ...] = ()) -> None:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4))
        super().__init__(backbone=net, head=nn.Linear(4, 1), learning_rate=0.05)
        self.found = found
        """What validation is to find after each epoch; empty: what it does."""

    def setup(self, stage: str) -> None:
        pass

    def squares(self, batch: Any) -> Tensor:
        inputs, targets = batch
        squares: Tensor = (self(inputs).squeeze(1) - targets).square()
        return squares

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self.squares(batch).mean()
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        rmse = self.found[self.current_epoch] if self.found else self.squares(batch).mean().sqrt()
        self.log(f"val_{self.score.name}", rmse)

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        assert self._answers is not None
        self._answers.add(batch_idx, dataloader_idx, self.squares(batch))
        self.log("test_rmse", self.squares(batch).mean().sqrt())

    def on_train_epoch_end(self) -> None:
        pass

    def on_validation_epoch_end(self) -> None:
        pass

    def on_test_epoch_end(self) -> None:
        assert self._answers is not None
        self.outcome = self._answers.gathered()


class Fit(Regressor):
    """Is judged by what is to be large."""

    score = Score("r2")


def loader(count: int = 40) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(count, 3, generator=generator)
    noise = 0.1 * torch.randn(count, generator=generator)
    return DataLoader(TensorDataset(inputs, inputs.sum(1) + noise), batch_size=count)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def page(run: str = "runs/1") -> str:
    return (Path(run) / "report.html").read_text()


def best(run: str = "runs/1") -> int:
    step: int = torch.load(Path(run) / "best.ckpt", weights_only=True)["global_step"]
    return step


def test_the_best_is_the_least_and_patience_waits_for_less() -> None:
    trainer = Trainer(max_epochs=9, patience=2, **QUIET)
    trainer.fit(Regressor((3.0, 1.25, 2.0, 2.5, 0.5)), loader(), loader())
    assert trainer.current_epoch == 4 and best() == 2
    assert json.loads(Path("runs/1/run.json").read_text())["score"] == RMSE._asdict()
    assert "It ended after 2 validations without a better val_rmse (patience)." in page()
    assert "Validation was best after step 2, in epoch 2." in page()
    assert "<h2>Rmse</h2>" in page() and "1.25 ± unknown" in page() and "Loss and rmse by step." in page()
    assert "ccuracy" not in page() and "examples" not in page() and 'class="bar"' not in page()


def test_a_trainer_judges_each_model_by_its_own_score() -> None:
    trainer = Trainer(max_epochs=2, patience=1, **QUIET)
    trainer.fit(Regressor((2.0, 1.0)), loader(), loader())
    trainer.fit_loop.max_epochs = 4
    trainer.fit(Fit((2.0, 1.0, 1.5, 2.0)), loader(), loader())
    monitored = [callback.monitor for callback in trainer.callbacks if hasattr(callback, "monitor")]
    assert sorted(monitored) == ["val_r2", "val_r2"]
    assert Path("runs/1/best.ckpt").is_file() and trainer.current_epoch == 4


def test_a_run_goes_on_with_what_was_best() -> None:
    found = (3.0, 1.25, 2.0, 2.5, 0.5)
    for epochs in (2, 9):
        trainer = Trainer(max_epochs=epochs, patience=2, resume="auto", default_root_dir="run", **QUIET)
        trainer.fit(Regressor(found), loader(), loader())
    whole = Trainer(max_epochs=9, patience=2, **QUIET)
    whole.fit(Regressor(found), loader(), loader())
    assert trainer.current_epoch == whole.current_epoch == 4 and best("run") == best() == 2
    weights = [torch.load(f"{run}/last.ckpt", weights_only=True)["state_dict"] for run in ("run", "runs/1")]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(*parts) for parts in zip(*(each.values() for each in weights), strict=True))


@pytest.mark.parametrize(
    "strategy",
    ["no_freeze", "freeze", ("freeze_unfreeze", 1), ("unfreeze_milestones", ((0, 1), 1)), ("gradual", 1), ("lora", 2)],
)
def test_it_is_fine_tuned(strategy: Any) -> None:
    model = Regressor()
    before = {name: value.clone() for name, value in model.named_parameters()}
    trainer = Trainer(max_epochs=2, **QUIET)
    trainer.finetune(model, train_dataloaders=loader(), val_dataloaders=loader(), strategy=strategy)
    moved = {name.split(".")[0] for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert moved == ({"head"} if strategy == "freeze" else {"encoder", "head"})
    assert trainer.callback_metrics["val_rmse"] > 0 and Path("runs/1/best.ckpt").is_file()


def test_a_test_says_what_was_measured_and_two_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = []
    for run, epochs in (("runs/1", 1), ("runs/2", 8)):
        model, trainer = Regressor(), Trainer(max_epochs=epochs, **QUIET)
        trainer.fit(model, loader(), loader())
        capsys.readouterr()
        (found,) = trainer.test(model, loader(30))
        outcome = trainer.outcome
        assert outcome is not None and outcome.value == pytest.approx(found["test_rmse"], rel=1e-5)
        told = f"rmse {found['test_rmse']:.4g} ± {outcome.ci95():.4g} (95% interval) on 30 examples\n"
        assert capsys.readouterr().out == told
        result = json.loads((Path(run) / "test.json").read_text())["result"]
        assert result["score"] == RMSE._asdict() and result["examples"] == 30
        assert result["rmse_ci95"] == outcome.ci95()
        assert f"{found['test_rmse']:.4g} ± {outcome.ci95():.4g}" in page(run) and "on 30 examples." in page(run)
        assert "ccuracy" not in page(run)
        again = read_outcome(Path(run), result)
        assert again is not None and again.score == RMSE and np.array_equal(again.figures, outcome.figures)
        with pytest.raises(DataError, match="is not of the test that"):
            read_outcome(Path(run), {**result, "rmse": 1.001 * result["rmse"]})
        outcomes.append(outcome)
    assert outcomes[1].value < outcomes[0].value
    assert main(["compare", "runs/1", "runs/2"]) == 0
    out = capsys.readouterr().out
    by = difference(*outcomes)
    assert (
        f"runs/2 against runs/1: {by.mean:+.4g} ± {by.ci95:.4g} (95% interval, paired over 30 examples): better" in out
    )
    assert main(["compare", "runs/2", "runs/1", "--json"]) == 0
    (other,) = json.loads(capsys.readouterr().out)["others"]
    assert other["score"] == "rmse" and other["mean"] == -by.mean > 0


# ---- figures


def made_up(figures: Any, score: Score = RMSE) -> Outcome:
    values = np.asarray(figures, np.float64)
    return Outcome("examples", values, np.arange(len(values)), score=score)


def test_the_interval_of_a_root_is_that_of_its_logarithm() -> None:
    squares = np.random.default_rng(0).chisquare(1, 500)
    outcome = made_up(squares)
    assert outcome.value == pytest.approx(math.sqrt(squares.mean()))
    reach = mean_interval(torch.from_numpy(squares))[1] / (2 * squares.mean())
    assert outcome.ci95() == pytest.approx(outcome.value * math.expm1(reach))
    assert made_up(np.zeros(5)).value == 0 and made_up(np.zeros(5)).ci95() == 0


def test_paired_differences_of_roots_cover_what_they_promise() -> None:
    """Of squared errors, much of which is common to both."""
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        common, *own = generator.normal(size=(3, 80))
        first, second = (made_up((common + size * each) ** 2) for size, each in zip((0.3, 0.6), own, strict=True))
        by = difference(first, second)
        assert by.mean == pytest.approx(second.value - first.value)
        covered += abs(by.mean - (math.sqrt(1.36) - math.sqrt(1.09))) <= by.ci95
    assert 0.92 < covered / 400 < 0.98


def test_a_difference_knows_what_is_better_and_what_cannot_be_compared() -> None:
    squares = np.random.default_rng(0).chisquare(1, 100)
    by = difference(made_up(squares), made_up(0.81 * squares))
    assert by.mean < 0 and by.score.better(by.mean, 0) and str(by).startswith(f"{by.mean:+.4g} ± {by.ci95:.4g} (")
    same = difference(made_up(squares), made_up(squares))
    assert (same.mean, same.ci95) == (0, 0)
    whole = np.array([4.0, 9.0, 1.0, 0.0])  # of which the interval is not that of right and wrong answers
    assert difference(made_up(whole), made_up(whole + 1)).ci95 < 0.5
    with pytest.raises(DataError, match="one was judged by its rmse, the other by its accuracy"):
        difference(made_up([1, 0]), made_up([1, 0], ACCURACY))


def test_files_of_accuracies_are_as_they_were(tmp_path: Path) -> None:
    for outcome, name in ((made_up([1, 0, 1], ACCURACY), "accuracies"), (made_up([4, 0, 1]), "figures")):
        outcome.write(tmp_path / name)
        with safetensors.safe_open(tmp_path / name, "np") as file:
            assert name in set(file.keys()) and ("score" in json.loads(file.metadata()["quickstudy"])) == (
                name == "figures"
            )
        again = Outcome.read(tmp_path / name)
        for field in dataclasses.fields(Outcome):
            assert np.array_equal(getattr(again, field.name), getattr(outcome, field.name)), field.name


def test_what_is_measured_again_may_differ_by_rounding() -> None:
    before = {"rmse": 200.0, "score": RMSE._asdict()}
    assert _same(before, {**before, "rmse": 200.001}) and not _same(before, {**before, "rmse": 200.1})
    assert _same({**before, "rmse_ci95": 10.0}, {**before, "rmse": 200.1})
    assert not _same(before, {"accuracy": 200.0}) and not _same(before, {**before, "rmse": None})
