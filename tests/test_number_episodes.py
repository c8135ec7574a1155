"""Numbers learned by episodes, each of one group: drawn, trained by four algorithms, adapted, told in their units."""

from __future__ import annotations

import math
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quickstudy import ConfigError, DataError, DataModule, DataWarning, Episode, NumberPredictor, Task, Trainer
from quickstudy.algorithms import STRATEGIES
from quickstudy.kinds.regression import Regression
from quickstudy.nets import Encoder

QUIET: dict[str, Any] = dict.fromkeys(
    ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
)
QUIET["accelerator"] = "cpu"
LEARN = ["maml", "anil", "reptile", "r2d2", "metasgd", "boil"]


class Rows(DataModule):
    """Rows of numbers, and a number for each."""

    answers = Regression


def slopes(count: int, seed: int, points: int = 12) -> dict[str, tuple[Tensor, Tensor]]:
    """Groups of points on lines through (0, 300), each with a slope of its own around 0."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for number in range(count):
        inputs = 2 * torch.rand(points, 1, generator=generator) - 1
        slope = 100 * torch.randn(1, generator=generator)
        found[f"{seed}-{number}"] = (inputs, 300 + slope * inputs[:, 0])
    return found


def data() -> Rows:
    return Rows.from_groups(train_groups=slopes(60, 0), val_groups=slopes(10, 1), test_groups=slopes(20, 2))


PLAN = {"shots": 5, "queries": 5, "meta_batch_size": 4, "epoch_length": 240, "test_epoch_length": 40}


def model(strategy: str, **options: Any) -> Task:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Linear(1, 16), nn.Tanh())
    plan = {**PLAN, **options}
    return Task(Regression(), backbone, training_strategy=strategy, training_strategy_kwargs=plan, learning_rate=2e-2)


@pytest.mark.parametrize("strategy", ["maml", "anil", "reptile", "r2d2"])
def test_numbers_of_new_groups_are_learned_from_a_few(
    strategy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learner, its = model(strategy), data()
    trainer = Trainer(max_epochs=1, default_root_dir=tmp_path, **{**QUIET, "enable_checkpointing": True})
    trainer.fit(learner, datamodule=its)
    (found,) = trainer.test(learner, datamodule=its)
    assert "over 40 episodes, 5-shot with 5 queries, each of one group, inductive" in capsys.readouterr().out
    assert trainer.run_folder is not None
    page = (trainer.run_folder / "report.html").read_text(encoding="utf-8")
    assert "5-shot with 5 queries, each of one group" in page and "Guessing" not in page
    spread = float(np.std([float(number) for _, numbers in slopes(20, 2).values() for number in numbers]))
    assert found["test_rmse"] < 0.5 * spread and found["test_r2"] > 0.7 and found["test_episodes"] == 40
    assert trainer.outcome is not None and trainer.outcome.numbers.tolist() == list(range(40))
    assert found["test_transductive"] == 0 and 0 < found["test_rmse_ci95"] < spread
    inputs = torch.linspace(-1, 1, 12)[torch.tensor([0, 11, 3, 8, 5, 6, 1, 2, 4, 7, 9, 10]), None]
    numbers = 300 + 120 * inputs[:, 0]
    predictor = learner.adapt(inputs[:6], numbers[:6].tolist())
    assert isinstance(predictor, NumberPredictor) and predictor.examples_ == 6
    assert predictor.score(inputs[6:], numbers[6:]) > 0.6
    whole = learner.adapt(inputs, numbers)
    assert predictor.add_examples(inputs[6:], numbers[6:]).predict(inputs) == pytest.approx(whole.predict(inputs))


@pytest.mark.parametrize("strategy", LEARN)
def test_gradients_of_numbers_are_those_of_finite_differences(strategy: str, in_float64: None) -> None:
    torch.manual_seed(0)
    algorithm = STRATEGIES[strategy]()
    encoder = Encoder(nn.Sequential(nn.Linear(2, 3), nn.Tanh()))
    algorithm.meet(encoder, (3,), 1)
    episode = Episode(torch.randn(2, 5, 2), torch.randn(2, 5), torch.randn(2, 4, 2), torch.randn(2, 4))
    parameters = [each for each in (*encoder.parameters(), *algorithm.parameters()) if each.requires_grad]

    def judged() -> Tensor:
        return algorithm.judge(encoder, episode, 1, algorithm.loss)[0]

    loss = judged()
    assert loss.isfinite() and loss > 0
    if not algorithm.exact_gradient:
        return
    loss.backward()
    for parameter in parameters:
        assert parameter.grad is not None
        step = torch.zeros_like(parameter).flatten()
        step[0] = 1e-6
        with torch.no_grad():
            parameter += step.view_as(parameter)
            above = float(judged())
            parameter -= 2 * step.view_as(parameter)
            below = float(judged())
            parameter += step.view_as(parameter)
        assert float(parameter.grad.flatten()[0]) == pytest.approx((above - below) / 2e-6, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("strategy", ["maml", "reptile"])
def test_tasks_together_are_tasks_one_by_one(strategy: str, in_float64: None) -> None:
    gradients = []
    for chunk in (1, 3):
        torch.manual_seed(0)
        algorithm = STRATEGIES[strategy](task_chunk=chunk)
        encoder = Encoder(nn.Sequential(nn.Linear(2, 3), nn.Tanh()))
        algorithm.meet(encoder, (3,), 1)
        episode = Episode(torch.randn(3, 5, 2), torch.randn(3, 5), torch.randn(3, 4, 2), torch.randn(3, 4))
        algorithm.judge(encoder, episode, 1, algorithm.loss)[0].backward()
        gradients.append([each.grad for each in (*encoder.parameters(), *algorithm.parameters())])
    assert max(float((one - other).abs().max()) for one, other in zip(*gradients, strict=True)) < 1e-10


def test_r2d2_on_numbers_is_ridge_regression_with_an_intercept(in_float64: None) -> None:
    inputs, numbers, asked = torch.randn(9, 4), torch.randn(9), torch.randn(5, 4)
    algorithm = STRATEGIES["r2d2"](regularization=0.5)
    answers = algorithm.logits(algorithm.fit(inputs, numbers, 1), asked)  # type: ignore[attr-defined]
    with_one = torch.cat([inputs, torch.ones(9, 1)], 1)
    weights = torch.linalg.solve(with_one.T @ with_one + 0.5 * torch.eye(5), with_one.T @ numbers)
    assert torch.allclose(answers[:, 0], torch.cat([asked, torch.ones(5, 1)], 1) @ weights, atol=1e-12)


def test_a_supervised_network_is_shown_numbers_too() -> None:
    torch.manual_seed(0)
    learner = Task(Regression(), nn.Sequential(nn.Linear(1, 16), nn.Tanh()))
    inputs, numbers = slopes(1, 3, 24)["3-0"]
    assert learner.adapt(inputs[:12], numbers[:12]).score(inputs[12:], numbers[12:]) > 0.5
    inputs, numbers = inputs[:12], numbers[:12]
    assert repr(learner.adapt(inputs, numbers)) == "NumberPredictor(R2D2, 12 examples)"
    assert learner.adapt(inputs, [math.pi] * 12).predict(inputs[:1]) == pytest.approx([math.pi], rel=0.2)


def test_what_cannot_be_learned_says_so() -> None:
    for strategy, said in (
        ("prototypicalnetworks", "learns classes; of numbers there are anil, boil, maml, metasgd, r2d2, reptile"),
        ("protomaml", "learns classes"),
    ):
        with pytest.raises(ConfigError, match=said):
            model(strategy)
    with pytest.raises(ConfigError, match="ways=5, test_ways=None: an episode of numbers is of one group"):
        model("maml", ways=5)
    plain = Rows.from_tensors(torch.randn(20, 1), torch.randn(20))
    with pytest.raises(DataError, match=r"episodes of numbers need groups.*from_groups\(train_groups="):
        Trainer(max_epochs=1, **QUIET).fit(model("maml"), datamodule=plain)
    with pytest.raises(DataError, match=r"\{'a name': \(inputs, targets\), ...\}"):
        Rows.from_groups(train_groups=[])
    with pytest.raises(DataError, match="3 inputs but 2 targets of 'a'"):
        Rows.from_groups(train_groups={"a": (torch.randn(3, 1), [0.1, 0.2])})
    with pytest.raises(DataError, match=r"needs 10 examples per class; 'a' of the train data has 3"):
        small = Rows.from_groups(train_groups={"a": (torch.randn(3, 1), [0.1, 0.2, 0.3])})
        Trainer(max_epochs=1, **QUIET).fit(model("maml"), datamodule=small)
    inputs, numbers = slopes(1, 3)["3-0"]
    with pytest.raises(DataError, match="12 examples but 3 numbers"):
        model("maml").adapt(inputs, numbers[:3])
    with pytest.raises(ConfigError, match="PrototypicalNetworks learns classes, and no numbers"):
        NumberPredictor(Encoder(nn.Flatten()), STRATEGIES["prototypicalnetworks"]())
    with pytest.raises(DataError, match="it has learned no example yet"):
        NumberPredictor(Encoder(nn.Flatten()), STRATEGIES["r2d2"]()).predict(inputs)


@pytest.mark.parametrize(
    ("groups", "told"),
    [
        (
            {"\u00e9": (torch.ones(2, 1), [1.0, 2.0]), "e\u0301": (torch.ones(2, 1), [3.0, 4.0])},
            "two groups have one name",
        ),
        ({"a": (torch.ones(2, 1), None)}, r"the group 'a' is .*: give it as \(inputs, numbers\)"),
        ({"a": (torch.ones(2, 1), [1.0, 2.0], "more")}, "the group 'a' is"),
        ({"a": torch.ones(2, 1)}, "the group 'a' is"),
        ({"a": (torch.ones(2, 1), [1.0, 2.0]), "b": (torch.ones(2, 3), [1.0, 2.0])}, "inputs of 'b' are .* of shape"),
        (
            {"a": (torch.ones(2, 1), [1.0, 2.0]), "b": (torch.ones(2, 1, dtype=torch.uint8), [1.0, 2.0])},
            "inputs of 'b' are torch.uint8 of shape",
        ),
    ],
)
def test_groups_that_are_none_are_told_by_name(groups: Any, told: str) -> None:
    with pytest.raises(DataError, match=f"in the train data, {told}"):
        Rows.from_groups(train_groups=groups)


def test_of_groups_what_has_no_number_is_left_out() -> None:
    groups = {"a": (torch.arange(3.0)[:, None], [1.0, math.nan, 3.0]), "b": (torch.ones(2, 1), [4.0, 5.0])}
    with pytest.raises(DataError, match="on_error='skip'"):
        Rows.from_groups(train_groups=groups)
    with pytest.warns(DataWarning, match="left out row 1"):
        table = Rows.from_groups(train_groups=groups, on_error="skip").table("train", by_class=True)
    assert table is not None and table.inputs[:, 0].tolist() == [0, 2, 1, 1]  # type: ignore[call-overload, union-attr]
    assert table.groups.tolist() == [0, 0, 1, 1] and table.targets.tolist() == [1, 3, 4, 5]  # type: ignore[union-attr]


@pytest.mark.parametrize(("strategy", "share"), [("maml", 0.75), ("anil", 0.6), ("r2d2", 0.75)])
def test_sinusoids_are_learned_from_ten_points(strategy: str, share: float) -> None:
    example = Path(__file__).parents[1] / "examples" / "sinusoid.py"
    compare = runpy.run_path(str(example))["compare"]
    found = compare(strategy, shots=10, steps=100, tasks=300, test_tasks=40)
    # On a small part of the way, at the end of which it is below 0.5, and below a fifth.
    assert found.meta_trained.error < share * found.together.error and found.meta_trained.ci95 > 0
