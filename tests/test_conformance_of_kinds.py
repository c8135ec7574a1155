"""The conformance suite of kinds of answers: ours pass, and of deliberately broken ones each check finds its own."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from demanded import complaints
from quickstudy.batches import Batch
from quickstudy.kinds.base import KINDS, Judged, Kind, Score
from quickstudy.kinds.classification import Classification
from quickstudy.kinds.embedding import Embedding
from quickstudy.kinds.losses import Loss
from quickstudy.kinds.regression import Regression
from quickstudy.kinds.segmentation import Segmentation
from quickstudy.nets import Encoder
from quickstudy.testing import NonconformingError, check_kind

COUNT, NAMES = 24, ("a", "b", "c")


def encoder(**options: Any) -> Encoder:
    torch.manual_seed(0)
    return Encoder(nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh()))


class Places(nn.Module):
    """Tells of each number of a row by itself and the whole row; negative ones are taken for what fills up."""

    def __init__(self) -> None:
        super().__init__()
        self.own, self.all = nn.Linear(1, 6), nn.Linear(4, 6)

    def elements(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        return (self.own(rows[..., None]) + self.all(rows)[:, None]).tanh(), rows > -1

    def forward(self, rows: Tensor) -> Tensor:
        return self.elements(rows)[0].mean(1)


def elementwise() -> Encoder:
    torch.manual_seed(0)
    return Encoder(Places())


def segments() -> dict[str, Tensor]:
    labels = (rows() > 0.5).long() + (rows() > rows().mean(1, keepdim=True)).long()
    return {"labels": labels, "mask": (rows() > -1) & (rows() < 2)}


def rows() -> Tensor:
    return torch.randn(COUNT, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def codes() -> Tensor:
    return rows()[:, :3].argmax(1)


def numbers() -> Tensor:
    return 30 + 5 * rows() @ torch.tensor([1.0, -2, 0.5, 0], dtype=torch.float64)


CASES: dict[str, tuple[Kind, Any]] = {
    "classes": (Classification(classes=NAMES), codes),
    "weighed classes": (Classification(classes=NAMES, weights=(1.0, 4.0, 0.5)), codes),
    "several labels": (Classification(classes=NAMES, multi_label=True), lambda: (rows()[:, :3] > 0).long()),
    "numbers": (Regression(mean=30.0, deviation=12.0), numbers),
    "features": (Embedding(), codes),
    "segments": (Segmentation(classes=NAMES, ids=(0, 1, 2), codes=(0, 1, 2)), segments),
    "weighed segments": (
        Segmentation(classes=NAMES, ids=(0, 4, 9, 2), codes=(0, 1, 2, 2), weights=(1.0, 4.0, 0.5)),
        segments,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_ours_conform(name: str) -> None:
    kind, targets = CASES[name]
    check_kind(kind, elementwise() if kind.annotates else encoder(), rows(), targets())


def test_every_kind_is_among_the_cases() -> None:
    ours = {name for name in KINDS.names() if KINDS[name].__module__.startswith("quickstudy.")}
    checked = {KINDS.name_of(type(kind)) for kind, _ in CASES.values()}
    elsewhere = {
        "detection",
        "detection3d",
        "entities",
        "faces",
        "forecasting",
        "generated_transcription",
        "instance_segmentation",
        "keypoints",
        "poses",
        "question_answering",
        "region_detection",
        "semantic_segmentation",
        "style_transfer",
        "summarization",
        "transcription",
        "translation",
    }  # each has a test file of its own
    assert ours == checked | elsewhere


BROKEN: list[tuple[type[Kind], str]] = []
TURNS = itertools.count()


def breaks(message: str) -> Any:
    """Say what the suite complains of."""

    def remember(broken: type[Kind]) -> type[Kind]:
        BROKEN.append((dataclass(frozen=True)(broken), message))
        return BROKEN[-1][0]

    return remember


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for broken, _ in BROKEN:
        monkeypatch.setitem(KINDS._entries, f"the {broken.__name__}", broken)
    monkeypatch.setitem(KINDS._entries, "sequence", Sequence)
    yield


@breaks("a file holds it, by its registered name and plain options")
class LosesAnOption(Regression):
    def described(self) -> dict[str, Any]:
        return {**super().described(), "options": {}}


@breaks("it recalls what it learned")
class ForgetsItsMean(Regression):
    def recalled(self, memory: Any) -> Any:
        return type(self)(deviation=memory["deviation"])


@breaks("it can be sent to other processes")
class ForgetsOnTheWay(Regression):
    def __reduce__(self) -> Any:
        return type(self), ()


@breaks("the head has its own parameters")
class SharesAParameter(Regression):
    def head(self, encoder: Encoder, example: Batch) -> nn.Module:
        head = super().head(encoder, example)
        head.register_parameter("of_the_encoder", next(encoder.parameters()))
        return head


@breaks("the head follows from torch's seed")
class DrawsByTheTurn(Regression):
    def head(self, encoder: Encoder, example: Batch) -> nn.Module:
        head = super().head(encoder, example)
        nn.init.constant_(head.bias, next(TURNS))
        return head


class Judging(Regression):
    """Judges as a regression does, and then otherwise."""

    def judge(self, encoder: Encoder, head: nn.Module, inputs: Batch, targets: Tensor, loss: Loss) -> Judged:
        return self.otherwise(super().judge(encoder, head, inputs, targets, loss))

    def otherwise(self, judged: Judged) -> Judged:
        raise NotImplementedError


@breaks("the loss is one finite number")
class LosesNaN(Judging):
    def otherwise(self, judged: Judged) -> Judged:
        return judged._replace(loss=judged.loss * torch.nan)


@breaks("what it is the mean over is more than nothing")
class WeighsNothing(Judging):
    def otherwise(self, judged: Judged) -> Judged:
        return judged._replace(weight=0)


@breaks("judge gives the figures of its answers")
class GivesOtherFigures(Judging):
    def otherwise(self, judged: Judged) -> Judged:
        return judged._replace(figures=judged.figures + 1)


@breaks("figures are one of each example")
class GivesOneFigure(Judging):
    def figures(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().figures(outputs, targets).mean(0, keepdim=True)

    def otherwise(self, judged: Judged) -> Judged:
        return judged


@breaks("every parameter has a gradient")
class HasAnUnusedParameter(Regression):
    def head(self, encoder: Encoder, example: Batch) -> nn.Module:
        head = super().head(encoder, example)
        head.register_parameter("unused", nn.Parameter(torch.ones(1)))
        return head


@breaks("a batch's loss and gradient are the means of its parts', by their weights")
class SumsItsLoss(Judging):
    def otherwise(self, judged: Judged) -> Judged:
        return judged._replace(loss=judged.loss * len(judged.outputs))


@breaks("a batch's loss and gradient are the means of its parts', by their weights")
class WeighsABatchAsOne(Judging):
    def otherwise(self, judged: Judged) -> Judged:
        return judged._replace(weight=1)


@breaks("the gradient is that of the loss")
class HalvesTheGradient(Judging):
    def otherwise(self, judged: Judged) -> Judged:
        return judged._replace(loss=(judged.loss + judged.loss.detach()) / 2)


@breaks("an evaluation changes nothing of the network")
class Counts(Regression):
    def outputs(self, encoder: Encoder, head: nn.Module, inputs: Batch) -> Any:
        with torch.no_grad():
            head.bias += 0.1 * (not head.training)
        return super().outputs(encoder, head, inputs)


@breaks("the same inputs have the same answers")
class AddsNoise(Regression):
    def outputs(self, encoder: Encoder, head: nn.Module, inputs: Batch) -> Any:
        return super().outputs(encoder, head, inputs) + (not head.training) * next(TURNS)


@breaks("it draws from no generator of the process in evaluation: ['random']")
class DrawsInEvaluation(Regression):
    def outputs(self, encoder: Encoder, head: nn.Module, inputs: Batch) -> Any:
        random.random()
        return super().outputs(encoder, head, inputs)


@breaks("an answer does not depend on the others")
class CentresItsAnswers(Regression):
    def outputs(self, encoder: Encoder, head: nn.Module, inputs: Batch) -> Any:
        outputs = super().outputs(encoder, head, inputs)
        return outputs if head.training else outputs - outputs.mean(0)


@breaks("there is an answer to each input")
class AnswersOnce(Regression):
    def answers(self, outputs: Tensor, form: str) -> Any:
        return super().answers(outputs, form)[:1]


@breaks("answers of every form go through JSON: sets")
class AnswersInSets(Regression):
    forms: ClassVar[tuple[str, ...]] = ("numbers", "sets")

    def answers(self, outputs: Tensor, form: str) -> Any:
        answers = super().answers(outputs, form)
        return [{number} for number in answers] if form == "sets" else answers


@breaks("an answer that is not a number is a DataError")
class AnswersZero(Regression):
    def answers(self, outputs: Tensor, form: str) -> Any:
        return super().answers(outputs.nan_to_num(), form)


@breaks("the message on an answer that is not a number names its input")
class NamesAnotherInput(Regression):
    def answers(self, outputs: Tensor, form: str) -> Any:
        return super().answers(outputs.flip(0), form)


@breaks("steps against the gradient lower the loss")
class NeverLearns(Judging):
    def otherwise(self, judged: Judged) -> Judged:
        return judged._replace(loss=0 * judged.loss)


@breaks("who learned answers better than by the targets of others: rmse, the max of which is best")
class ScoresInTheWrongDirection(Regression):
    score: ClassVar[Score] = Score("rmse", "max", root=True)


@breaks("who learned answers better than by the targets of others: rmse")
class LearnsTheOpposite(Judging):
    def otherwise(self, judged: Judged) -> Judged:
        return judged._replace(loss=-judged.loss)


@breaks("answers that are no numbers are not the best")
class ForgivesNaN(Regression):
    def figures(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().figures(outputs, targets).nan_to_num(0)


@breaks("a trained model is saved and read")
class ForgetsItsBias(Regression):
    def head_of(self, weights: Any, encoder: Encoder, like: Any) -> nn.Module:
        return nn.Linear(weights["weight"].shape[1], 1, bias=False)


@breaks("a trained model that was saved answers the same to the bit: numbers")
class KeepsANumberBesideItsWeights(Regression):
    def head(self, encoder: Encoder, example: Batch) -> nn.Module:
        head = super().head(encoder, example)
        head.plus = 1.0
        return head

    def outputs(self, encoder: Encoder, head: nn.Module, inputs: Batch) -> Any:
        return super().outputs(encoder, head, inputs) + getattr(head, "plus", 0)


@breaks("what is frozen stays as it is: by ('freeze_unfreeze', 1): ['0.bias', '0.weight', '2.bias', '2.weight']")
class Thaws(Regression):
    def outputs(self, encoder: Encoder, head: nn.Module, inputs: Batch) -> Any:
        encoder.requires_grad_(True)
        return super().outputs(encoder, head, inputs)


def frozen(encoder: Encoder) -> bool:
    return not any(parameter.requires_grad for parameter in encoder.parameters())


@breaks("the head trains while the backbone is frozen: by freeze")
class RestsWithItsBackbone(Regression):
    def outputs(self, encoder: Encoder, head: nn.Module, inputs: Batch) -> Any:
        outputs = super().outputs(encoder, head, inputs)
        return outputs.detach() + 0 * outputs if frozen(encoder) else outputs


@breaks("what is unfrozen trains: by ('freeze_unfreeze', 1) these stay: ['0.bias', '0.weight', '2.bias', '2.weight']")
class StaysFrozen(Regression):
    def outputs(self, encoder: Encoder, head: nn.Module, inputs: Batch) -> Any:
        if frozen(encoder):
            encoder.rests = True
        return head(encoder(inputs).detach() if hasattr(encoder, "rests") else encoder(inputs))


@breaks("low-rank additions to the backbone train")
class ReachesForTheWeights(Regression):
    def outputs(self, encoder: Encoder, head: nn.Module, inputs: Batch) -> Any:
        features = inputs
        for layer in encoder.backbone:
            linear = hasattr(layer, "weight")
            features = nn.functional.linear(features, layer.weight, layer.bias) if linear else layer(features)
        return head(features)


@pytest.mark.parametrize(("broken", "message"), BROKEN, ids=[broken.__name__ for broken, _ in BROKEN])
def test_a_broken_one_is_found(broken: type[Regression], message: str) -> None:
    with pytest.raises(NonconformingError, match=f"^{re.escape(message)}"):
        check_kind(broken(mean=30.0, deviation=12.0), encoder(), rows(), numbers())


@dataclass(frozen=True)
class Sequence(Kind):
    """Some numbers per example, of which a mask says how many; the loss is the mean over all numbers."""

    score: ClassVar[Score] = Score("error", "min")
    forms: ClassVar[tuple[str, ...]] = ("sums",)
    careless: bool = False

    def meet(self, data: Any, stage: str) -> Any:
        return self

    def head(self, encoder: Encoder, example: Batch) -> nn.Module:
        return nn.Linear(6, 1)

    def loss(self, asked: Any, otherwise: Any = None) -> Loss:
        return nn.functional.mse_loss

    def judge(self, encoder: Encoder, head: nn.Module, inputs: Batch, targets: Any, loss: Loss) -> Judged:
        outputs: Tensor = self.outputs(encoder, head, inputs)
        mask = torch.ones_like(targets["mask"]) if self.careless else targets["mask"]
        lost = ((outputs - targets["values"]).square() * mask).sum() / mask.sum()
        return Judged(lost, mask.sum(), outputs, targets, self.figures(outputs, targets))

    def figures(self, outputs: Tensor, targets: Any) -> Tensor:
        squares = (outputs - targets["values"]).square().detach() * targets["mask"]
        return squares.sum(1) / targets["mask"].sum(1)

    def answers(self, outputs: Tensor, form: str) -> Any:
        return Regression().answers(outputs, "numbers")


@pytest.mark.parametrize("careless", [False, True])
def test_padded_targets(careless: bool) -> None:
    mask = (torch.arange(5) < 1 + torch.arange(COUNT)[:, None] % 5).double()
    targets = {"values": (numbers()[:, None] / 12 - 2.5) * mask, "mask": mask}
    if not careless:
        check_kind(Sequence(), encoder(), rows(), targets)
        return
    with pytest.raises(NonconformingError, match="the targets' padding does not matter"):
        check_kind(Sequence(careless), encoder(), rows(), targets)


def test_every_demand_has_one_that_breaks_it() -> None:
    tried = [message for _, message in BROKEN] + ["the targets' padding does not matter"]
    found = list(complaints("kind"))
    assert len(found) > 20
    assert [pattern for pattern in found if not any(re.match(pattern, message) for message in tried)] == []
