"""How a step is made of data: what follows from it is asked of one object, and losses are means over what they say."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from quickstudy import ConfigError, DataModule, DataWarning, Task, Trainer
from quickstudy.image import ImageClassificationData, ImageClassifier
from quickstudy.kinds.base import Judged, Kind, Score
from quickstudy.kinds.regression import Regression
from quickstudy.runs.results import measured_on
from quickstudy.training.procedure import Episodic, Supervised, build_procedure

QUIET: dict[str, Any] = dict.fromkeys(
    ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
)


class Rows(DataModule):
    """Rows of numbers, and a number for each."""

    answers = Regression


@dataclass(frozen=True)
class Places(Kind):
    """A number for each place of a row, of which some do not count: the loss is a mean over those that do."""

    score: ClassVar[Score] = Score("closeness")
    forms: ClassVar[tuple[str, ...]] = ("numbers",)

    def meet(self, data: Any, stage: str) -> Places:
        return self

    def head(self, encoder: Any, example: Any) -> nn.Module:
        return nn.Linear(4, 4)

    def loss(self, asked: Any, otherwise: Any = None) -> Any:
        return lambda outputs, targets: (outputs - targets[:, 0]).square()

    def judge(self, encoder: Any, head: nn.Module, inputs: Tensor, targets: Tensor, loss: Any) -> Judged:
        outputs, known = self.outputs(encoder, head, inputs), targets[:, 1]
        lost = (loss(outputs, targets) * known).sum() / known.sum()
        return Judged(lost, known.sum(), outputs, targets, self.figures(outputs, targets))

    def figures(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return -((outputs - targets[:, 0]) * targets[:, 1]).abs().mean(-1)

    def answers(self, outputs: Tensor, form: str) -> Any:
        return outputs.tolist()


def rows() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(8, 4, generator=generator, dtype=torch.float64)
    known = (torch.rand(8, 4, generator=generator) < torch.linspace(0.2, 1, 8)[:, None]).double()
    return list(zip(inputs, torch.stack([torch.sin(inputs), known], 1), strict=True))


def test_batches_of_a_step_weigh_what_their_loss_is_the_mean_over() -> None:
    weights = []
    for batch_size in (8, 4, 2):
        torch.manual_seed(0)
        model = Task(Places(), nn.Identity(), optimizer="SGD", learning_rate=0.1).double()
        trainer = Trainer(
            max_epochs=2, accumulate_grad_batches=8 // batch_size, precision="64-true", accelerator="cpu", **QUIET
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The 'train_dataloader' does not have many workers")
            trainer.fit(model, DataLoader(rows(), batch_size=batch_size))  # type: ignore[arg-type]
        weights.append(torch.cat([each.detach().flatten() for each in model.parameters()]))
        assert "train_closeness" in trainer.callback_metrics and model.score == Score("closeness")
    assert max((other - weights[0]).abs().max() for other in weights[1:]) < 1e-12


def test_what_a_step_is_made_of_follows_from_the_strategy() -> None:
    data = ImageClassificationData.from_tensors(torch.zeros(6, 1, 8, 8), [0, 1] * 3, batch_size=3)
    supervised, episodic = build_procedure("default"), build_procedure("maml", {"ways": 2, "meta_batch_size": 5})
    assert isinstance(supervised, Supervised) and isinstance(episodic, Episodic)
    assert supervised.made_of(None, data) == {"examples per step": 3, "seed": 0, "sampler": None}
    assert episodic.made_of(None, data)["episodes per step"] == 5
    assert (supervised.plan, supervised.algorithm) == (None, None) and episodic.plan.ways == 2
    supervised.check_sharded()
    build_procedure("prototypicalnetworks").check_sharded()
    with pytest.raises(ConfigError, match="MAML adapts the encoder's own weights, which strategy='fsdp'"):
        episodic.check_sharded()
    model = Task(backbone=nn.Flatten(), training_strategy="prototypicalnetworks")
    with pytest.raises(ConfigError, match="'prototypicalnetworks' has no fixed classes: show it examples"):
        model.predict_step(torch.zeros(1, 4), 0)
    with pytest.raises(ConfigError, match="the model was not trained yet"):
        Task(backbone=nn.Flatten()).predict_step(torch.zeros(1, 4), 0)


@pytest.mark.parametrize("strategy", ["anil", "maml", "r2d2"])
def test_every_strategy_is_told_how_many_tasks_advance_together(strategy: str) -> None:
    for given, chunk in (({}, None), ({"task_chunk": None}, None), ({"task_chunk": 3}, 3)):
        algorithm = build_procedure(strategy, given).algorithm
        assert algorithm is not None and algorithm.task_chunk == chunk
    for wrong in (0, "all"):
        with pytest.raises(ConfigError, match="task_chunk"):
            build_procedure(strategy, {"task_chunk": wrong})


def test_a_kind_without_classes_is_not_trained_by_episodes() -> None:
    with pytest.raises(ConfigError, match="'maml' learns from few examples of each class, and this task"):
        Task(Places(), nn.Identity(), training_strategy="maml")
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        assert Task(Places(), nn.Identity()).unsaved == ["backbone", "kind"]  # no name that a file could hold


def test_classes_of_other_names_that_hold_the_same_are_said() -> None:
    images = torch.randint(0, 256, (40, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    told = {}
    for stage, rows in (("train", slice(0, 16)), ("val", slice(14, 26)), ("test", slice(24, 40))):
        told |= {f"{stage}_data": images[rows], f"{stage}_targets": [f"{stage} {at // 4}" for at in range(40)][rows]}
    data, plan = ImageClassificationData.from_tensors(**told), {"ways": 2, "shots": 1, "queries": 1}
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    model = ImageClassifier(backbone=network, training_strategy="prototypicalnetworks", training_strategy_kwargs=plan)
    with pytest.warns(DataWarning, match="trained on at least 2 of the 12 examples of this validation"):
        model.meet(data, "fit")
    with pytest.warns(DataWarning, match="at least 2 of the 16 examples of this test chose the model's checkpoint"):
        model.meet(data, "test")
    figures = {"accuracy": 0.5, "episodes": 3, "transductive": False}
    tested = model.procedure.tested(model, None, figures)
    assert tested["chosen_by"] == 2 and "trained_on" not in tested
    assert measured_on(tested).endswith("inductive, at least 2 examples of which chose its checkpoint")


def test_of_groups_the_same_input_with_another_number_is_another_example() -> None:
    inputs = torch.arange(1.0, 7)[:, None]
    groups = [{f"{part}{each}": (inputs, inputs[:, 0] * (1 + part + each)) for each in (0, 10)} for part in (0, 1)]
    data = Rows.from_groups(train_groups=groups[0], val_groups=groups[1], test_groups={"again": groups[0]["00"]})
    model = Task(Regression(), nn.Linear(1, 2), training_strategy="r2d2", training_strategy_kwargs={"shots": 2})
    model.meet(data, "fit")  # without a word
    with pytest.warns(DataWarning, match="trained on at least 6 of the 6 examples of this test"):
        model.meet(data, "test")
