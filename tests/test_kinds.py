"""Kinds of answers: what is lost by them, what they are measured by, and what they remember."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quickstudy import ConfigError, Task
from quickstudy.image import ImageClassifier
from quickstudy.kinds.base import KINDS, Kind
from quickstudy.kinds.classification import Classification
from quickstudy.kinds.metrics import StageMetrics
from quickstudy.nets import Encoder

NAMES = ("a", "b", "c")


def network(width: int = 3) -> tuple[Encoder, nn.Module]:
    torch.manual_seed(0)
    return Encoder(nn.Linear(4, 5)).double(), nn.Linear(5, width).double()


def batch(count: int = 10, classes: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(count, 4, dtype=torch.float64, generator=generator)
    return inputs, torch.randint(classes, (count,), generator=generator)


CASES: dict[str, tuple[Kind, Any]] = {
    "one label": (Classification(classes=NAMES), lambda codes: codes),
    "weighted": (Classification(classes=NAMES, weights=(1.0, 5.0, 0.25)), lambda codes: codes),
    "shares": (Classification(classes=NAMES), lambda codes: 0.7 * torch.eye(3).double()[codes] + 0.1),
    "several labels": (Classification(classes=NAMES, multi_label=True), lambda codes: torch.eye(3)[codes].bool()),
}


@pytest.mark.parametrize("name", CASES)
def test_a_batch_is_the_weighted_mean_of_its_parts(name: str) -> None:
    kind, targets_of = CASES[name]
    (encoder, head), (inputs, codes) = network(), batch()
    targets, gradients = targets_of(codes), []
    for parts in ([slice(0, 10)], [slice(0, 3), slice(3, 10)]):
        judged = [kind.judge(encoder, head, inputs[part], targets[part], kind.loss(None)) for part in parts]
        total = sum(float(one.weight) for one in judged)
        whole = sum(one.loss * one.weight for one in judged) / total
        gradients.append(torch.autograd.grad(whole, list(head.parameters())))
    for one, other in zip(*gradients, strict=True):
        assert (one - other).abs().max() < 1e-12


@pytest.mark.parametrize("name", CASES)
def test_what_it_learned_goes_through_json(name: str) -> None:
    kind, _ = CASES[name]
    fresh = type(kind)(**{"multi_label": kind.multi_label} if isinstance(kind, Classification) else {})
    assert fresh.recalled(json.loads(json.dumps(kind.memory()))) == kind
    assert KINDS[KINDS.name_of(type(kind)) or ""] is type(kind)


def test_weights_that_were_asked_for_anew_are_not_those_of_the_file() -> None:
    remembered = Classification(classes=NAMES, weights=(1.0, 2.0, 3.0)).memory()
    assert Classification(weights=(3.0, 2.0, 1.0)).recalled(remembered).weights == (3.0, 2.0, 1.0)
    assert Classification().recalled({"classes": [*NAMES]}) == Classification(classes=NAMES)  # of an older file


@pytest.mark.parametrize("options", [1, 3])
def test_one_class_has_no_interval(options: int) -> None:
    kind = Classification(classes=NAMES)
    metrics = StageMetrics("accuracy", kind.measure(True, options))
    logits, targets = torch.eye(3)[:, :options], torch.zeros(3, dtype=torch.long)
    metrics.update(kind.figures(logits, targets), *kind.for_metrics(logits, targets, options), torch.tensor(1.0), 3)
    found = metrics.collect()
    assert math.isnan(found["accuracy_ci95"]) == (options == 1)
    assert found["examples"] == 3 and found["loss"] == 1


def test_metrics_of_the_most_ways_take_fewer() -> None:
    padded, targets = Classification().for_metrics(torch.zeros(2, 5, 2), torch.zeros(2, 5, dtype=torch.int32), 4)
    assert padded.shape == (10, 4) and bool((padded[:, 2:] == -torch.inf).all())
    assert targets.shape == (10,) and targets.dtype == torch.long


def test_fixed_classes_do_not_go_with_episodes() -> None:
    Classification().check_episodic("maml", "linear")
    for kind, head in ((Classification(num_classes=2), "linear"), (Classification(), nn.Linear(1, 1))):
        with pytest.raises(ConfigError, match="'maml' takes its classes from each episode"):
            kind.check_episodic("maml", head)


def test_a_task_of_any_kind_remembers_which() -> None:
    plain = Task(backbone=nn.Linear(4, 2), num_classes=3, multi_label=True)
    assert plain.kind == Classification(3, multi_label=True) == Task(3, nn.Linear(4, 2), multi_label=True).kind
    assert plain.hparams["num_classes"] == 3 and "kind" not in plain.hparams
    told = Task(Classification(3, class_weights="balanced"), nn.Linear(4, 2))
    again = Task(told.hparams["kind"], nn.Linear(4, 2))
    assert again.kind == told.kind and json.loads(json.dumps(told.hparams["kind"])) == told.hparams["kind"]
    assert told.unsaved == ["backbone"]
    with pytest.raises(ConfigError, match="kind='classes' is no kind of answer"):
        Task("classes", nn.Linear(4, 2))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="has no option 'num_clases'; did you mean 'num_classes'"):
        Task({"name": "classification", "options": {"num_clases": 3}}, nn.Linear(4, 2))
    with pytest.raises(ConfigError, match="ImageClassifier has no option 'kind'"):
        ImageClassifier(kind=Classification())  # type: ignore[call-arg]
