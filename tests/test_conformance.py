"""The conformance suite against algorithms that break the contract: every check has one that it alone finds first."""

from __future__ import annotations

import random
import re
import time
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from demanded import complaints
from quickstudy.algorithms import STRATEGIES, Algorithm
from quickstudy.algorithms.anil import ANIL
from quickstudy.algorithms.base import Loss, exact
from quickstudy.algorithms.bdcspn import BDCSPN
from quickstudy.algorithms.maml import MAML
from quickstudy.algorithms.prototypicalnetworks import PrototypicalNetworks
from quickstudy.algorithms.reptile import Reptile
from quickstudy.episode import Episode
from quickstudy.functional.inner_loop import MetaGradient
from quickstudy.functional.prototypes import members
from quickstudy.nets import Encoder
from quickstudy.testing import NonconformingError, check_algorithm

BROKEN: list[tuple[type[Algorithm], str]] = []


def breaks(message: str) -> Any:
    """Say what the suite complains of."""

    def remember(broken: type[Algorithm]) -> type[Algorithm]:
        BROKEN.append((broken, message))
        return broken

    return remember


def has_batch_norm(encoder: Encoder) -> bool:
    return any(isinstance(module, nn.BatchNorm2d) for module in encoder.modules())


def by_position(queries: int, ways: int) -> Tensor:
    """Return the classes that queries have where they come class by class, ``[Q, W]``."""
    return F.one_hot(torch.arange(queries) * ways // queries, ways)


@breaks("paper names authors, year, title and link")
class NoPaper(PrototypicalNetworks):
    paper: ClassVar[str] = "somebody, sometime"


# ---- what is returned


@breaks("logits are [T, Q, W]")
class LosesALeadingAxis(PrototypicalNetworks):
    def judge(self, *arguments: Any) -> tuple[Tensor, Tensor]:
        loss, logits = super().judge(*arguments)
        return loss, logits.flatten(0, 1)


@breaks("the loss is one finite number")
class GivesALossPerTask(PrototypicalNetworks):
    def judge(self, encoder: Encoder, episode: Episode, ways: int, loss: Loss) -> tuple[Tensor, Tensor]:
        _, logits = super().judge(encoder, episode, ways, loss)
        return torch.stack([loss(*task) for task in zip(logits, episode.query_targets, strict=True)]), logits


@breaks("the loss is the one that was handed over")
class IgnoresTheLossInTraining(PrototypicalNetworks):
    def judge(self, encoder: Encoder, episode: Episode, ways: int, loss: Loss) -> tuple[Tensor, Tensor]:
        return super().judge(encoder, episode, ways, self.loss if self.training else loss)


@breaks("the loss is the one that was handed over")
class IgnoresTheLossInEvaluation(PrototypicalNetworks):
    def judge(self, encoder: Encoder, episode: Episode, ways: int, loss: Loss) -> tuple[Tensor, Tensor]:
        return super().judge(encoder, episode, ways, loss if self.training else self.loss)


# ---- tasks side by side


@breaks("tasks side by side answer as one by one")
class MixesTasksWithoutBatchNorm(PrototypicalNetworks):
    def judge(self, encoder: Encoder, episode: Episode, *arguments: Any) -> tuple[Tensor, Tensor]:
        mixed = episode._replace(support=episode.support + episode.support.mean(0))
        return super().judge(encoder, episode if has_batch_norm(encoder) else mixed, *arguments)


@breaks("tasks side by side answer as one by one")
class MixesTasksInBatchNorm(PrototypicalNetworks):
    def judge(self, encoder: Encoder, episode: Episode, ways: int, loss: Loss) -> tuple[Tensor, Tensor]:
        images = torch.cat([episode.support, episode.query], 1)
        embedded = exact(encoder(images.flatten(0, 1)).unflatten(0, images.shape[:2]))
        support, query = embedded.split([episode.support.shape[1], episode.query.shape[1]], 1)
        logits = self.classify(support, episode.support_targets, query, ways)
        return loss(logits.flatten(0, 1), episode.query_targets.flatten()), logits


@breaks("tasks side by side answer as one by one")
class ReadsTextsByTheMasksOfOthers(PrototypicalNetworks):
    def judge(self, encoder: Encoder, episode: Episode, *arguments: Any) -> tuple[Tensor, Tensor]:
        if isinstance(episode.support, dict) and "mask" in episode.support:
            mask = episode.support["mask"].any(0).expand(episode.support["mask"].shape)
            episode = episode._replace(support={**episode.support, "mask": mask})
        return super().judge(encoder, episode, *arguments)


@breaks("the gradient is the mean over the tasks")
class SumsOverTasks(PrototypicalNetworks):
    exact_gradient = False

    def judge(self, encoder: Encoder, episode: Episode, *arguments: Any) -> tuple[Tensor, Tensor]:
        loss, logits = super().judge(encoder, episode, *arguments)
        return loss.detach() + len(episode.support) * (loss - loss.detach()), logits


@breaks("vmap answers as plain calls of fit and logits")
class ScalesOutsideOfLogits(PrototypicalNetworks):
    def classify(self, *arguments: Any) -> Tensor:
        return super().classify(*arguments) * (2 if self.training else 1)


@breaks("2 tasks at once answer as one by one")
class AnswersOtherwiseInChunks(MAML):
    def task_gradient(self, *arguments: Any) -> MetaGradient:
        made = super().task_gradient(*arguments)
        return made._replace(further=made.further * (1 if self._one_by_one(arguments[0], torch.device("cpu")) else 2))


@breaks("3 tasks at once have the gradient of one by one")
class HasAnotherGradientInChunksOfThree(MAML):
    def task_gradient(self, *arguments: Any) -> MetaGradient:
        made, factor = super().task_gradient(*arguments), 2 if self.task_chunk == 3 else 1
        return made._replace(meta={name: factor * value for name, value in made.meta.items()})


# ---- gradients


@breaks("the gradient is that of the loss")
class CutsTheGradient(PrototypicalNetworks):
    def logits(self, state: Tensor, query_QD: Tensor) -> Tensor:
        return super().logits(state.detach(), query_QD)


@breaks("the gradient is that of the loss")
class CutsTheGradientWithBatchNorm(PrototypicalNetworks):
    def judge(self, encoder: Encoder, *arguments: Any) -> tuple[Tensor, Tensor]:
        loss, logits = super().judge(encoder, *arguments)
        return (loss + loss.detach()) / 2 if has_batch_norm(encoder) else loss, logits


@breaks("the gradient is that of the loss")
class HalvesTheGradientInItsLoss(PrototypicalNetworks):
    def loss(self, logits_NW: Tensor, targets_N: Tensor) -> Tensor:
        loss = super().loss(logits_NW, targets_N)
        return (loss + loss.detach()) / 2


@breaks("the gradient is that of the loss")
class DifferentiatesItsOwnLoss(MAML):
    def task_gradient(
        self, encoder: Encoder, meta: Any, rates: Any, task: tuple[Tensor, ...], ways: int, loss: Loss
    ) -> MetaGradient:
        made = super().task_gradient(encoder, meta, rates, task, ways, self.loss)
        return made._replace(loss=loss(made.further, task[3]))


@breaks("the gradient is that of the loss")
class HalvesTheGradient(MAML):
    def task_gradient(self, *arguments: Any) -> MetaGradient:
        made = super().task_gradient(*arguments)
        return made._replace(meta={name: value / 2 for name, value in made.meta.items()})


@breaks("the gradient is that of the loss")
class FirstOrder(MAML):
    def __init__(self) -> None:
        super().__init__(meta_gradient="first_order")
        self.exact_gradient = True


@breaks("a step against the gradient lowers the loss")
class NegatesTheGradientWithoutBatchNorm(Reptile):
    def task_gradient(self, encoder: Encoder, *arguments: Any) -> MetaGradient:
        made, sign = super().task_gradient(encoder, *arguments), 1 if has_batch_norm(encoder) else -1
        return made._replace(meta={name: sign * value for name, value in made.meta.items()})


@breaks("a step against the gradient lowers the loss")
class NegatesTheGradientWithBatchNorm(Reptile):
    def task_gradient(self, encoder: Encoder, *arguments: Any) -> MetaGradient:
        made, sign = super().task_gradient(encoder, *arguments), -1 if has_batch_norm(encoder) else 1
        return made._replace(meta={name: sign * value for name, value in made.meta.items()})


@breaks("every parameter has a gradient: unused")
class HasAnUnusedParameter(PrototypicalNetworks):
    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.ones(1))


@breaks("every parameter of its own matters: idle")
class HasAnIdleParameter(PrototypicalNetworks):
    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Parameter(torch.ones(1))

    def logits(self, state: Tensor, query_QD: Tensor) -> Tensor:
        return super().logits(state, query_QD) + 0 * self.idle


# ---- evaluation, whatever surrounds it


@breaks("an evaluation changes no weight")
class Remembers(PrototypicalNetworks):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def judge(self, *arguments: Any) -> tuple[Tensor, Tensor]:
        self.calls += 1
        return super().judge(*arguments)


@breaks("the same episode has the same answer")
class AddsNoise(PrototypicalNetworks):
    def classify(self, *arguments: Any) -> Tensor:
        logits = super().classify(*arguments)
        return logits if self.training else logits + torch.randn_like(logits)


@breaks("no_grad and inference_mode answer alike")
class AnswersOtherwiseInInferenceMode(PrototypicalNetworks):
    def classify(self, *arguments: Any) -> Tensor:
        return super().classify(*arguments) * (2 if torch.is_inference_mode_enabled() else 1)


@breaks("no_grad and gradients answer alike")
class AnswersOtherwiseWithGradients(PrototypicalNetworks):
    def classify(self, *arguments: Any) -> Tensor:
        return super().classify(*arguments) * (1 if self.training or not torch.is_grad_enabled() else 2)


@breaks("logits and losses are float32 under autocast")
class AnswersInBfloat16(PrototypicalNetworks):
    def judge(self, *arguments: Any) -> tuple[Tensor, Tensor]:
        loss, logits = super().judge(*arguments)
        return loss, logits.bfloat16() if torch.is_autocast_enabled("cpu") else logits


@breaks("bfloat16 answers alike")
class CancelsInBfloat16(PrototypicalNetworks):
    def judge(self, *arguments: Any) -> tuple[Tensor, Tensor]:
        loss, logits = super().judge(*arguments)
        return loss, (1000 + logits).bfloat16().float() - 1000 if torch.is_autocast_enabled("cpu") else logits


# ---- what answers depend on


@breaks("the order of the support does not matter")
class CountsOrder(PrototypicalNetworks):
    def fit(self, support_SD: Tensor, targets_S: Tensor, ways: int) -> Tensor:
        weights_S1 = torch.arange(1, len(support_SD) + 1, dtype=support_SD.dtype)[:, None]
        return super().fit(weights_S1 * support_SD, targets_S, ways)


@breaks("the order of the support does not matter")
class CountsOnEqualShots(PrototypicalNetworks):
    def fit(self, support_SD: Tensor, targets_S: Tensor, ways: int) -> Tensor:
        return support_SD.unflatten(0, (ways, -1)).mean(1)


@breaks("the support's targets matter in evaluation")
class ReadsNoTargets(PrototypicalNetworks):
    def logits(self, state: Tensor, query_QD: Tensor) -> Tensor:
        return query_QD[:, : len(state)] + 0 * state.sum()


@breaks("the support's targets matter in training")
class ReadsNoTargetsInTraining(ReadsNoTargets):
    def logits(self, state: Tensor, query_QD: Tensor) -> Tensor:
        return (ReadsNoTargets if self.training else PrototypicalNetworks).logits(self, state, query_QD)


@breaks("classes by other numbers have the same answers in evaluation")
class PrefersLaterClasses(PrototypicalNetworks):
    def logits(self, state: Tensor, query_QD: Tensor) -> Tensor:
        return super().logits(state, query_QD) + torch.arange(len(state))


@breaks("classes by other numbers have the same answers in training")
class PrefersLaterClassesInTraining(PrototypicalNetworks):
    def logits(self, state: Tensor, query_QD: Tensor) -> Tensor:
        return super().logits(state, query_QD) + self.training * torch.arange(len(state))


@breaks("classes by other numbers have the same answers in evaluation")
class ShiftsByAClass(PrototypicalNetworks):
    def logits(self, state: Tensor, query_QD: Tensor) -> Tensor:
        return super().logits(state, query_QD).roll(1, 1)


@breaks("classes by other numbers have the same answers in evaluation")
class MixesWithANeighbour(PrototypicalNetworks):
    def logits(self, state: Tensor, query_QD: Tensor) -> Tensor:
        logits_QW = super().logits(state, query_QD)
        return logits_QW + 0.1 * logits_QW.roll(1, 1)


@breaks("classes that differ clearly are told apart")
class FlipsTheSign(PrototypicalNetworks):
    def logits(self, state: Tensor, query_QD: Tensor) -> Tensor:
        return -super().logits(state, query_QD)


@breaks("classes that differ clearly are told apart")
class FlipsTheSignOfALearnedScale(FlipsTheSign):
    def __init__(self) -> None:
        super().__init__()
        self.learned = nn.Parameter(torch.zeros(()))

    def logits(self, state: Tensor, query_QD: Tensor) -> Tensor:
        return super().logits(state, query_QD) * self.learned.exp()


@breaks("who is taught other classes answers no better")
class FlipsTheSignOfFixedWays(ANIL):
    def logits(self, state: Any, query_QD: Tensor) -> Tensor:
        return -super().logits(state, query_QD)


@breaks("who is taught other classes answers no better")
class ShiftsFixedWaysByAClass(MAML):
    def judge(self, encoder: Encoder, episode: Episode, *arguments: Any) -> tuple[Tensor, Tensor]:
        shifted = (episode.support_targets + 1) % 3
        return super().judge(encoder, episode._replace(support_targets=shifted), *arguments)


@breaks("the order of the queries does not matter in evaluation")
class ReadsThePosition(PrototypicalNetworks):
    def logits(self, state: Tensor, query_QD: Tensor) -> Tensor:
        return super().logits(state, query_QD) + by_position(len(query_QD), len(state))


@breaks("the order of the queries does not matter in evaluation")
class ReadsThePositionToo(BDCSPN):
    def logits(self, state: Any, query_QD: Tensor) -> Tensor:
        return super().logits(state, query_QD) + by_position(len(query_QD), state[1].shape[1])


@breaks("the order of the queries does not matter in training")
class ReadsThePositionInTraining(BDCSPN):
    def logits(self, state: Any, query_QD: Tensor) -> Tensor:
        return super().logits(state, query_QD) + self.training * by_position(len(query_QD), state[1].shape[1])


@breaks("the order of the queries does not matter in evaluation")
class SubtractsTheFirst(PrototypicalNetworks):
    def logits(self, state: Tensor, query_QD: Tensor) -> Tensor:
        return super().logits(state, query_QD - query_QD[:1])


@breaks("the order of the queries does not matter in evaluation")
class AddsHalfTheFirst(PrototypicalNetworks):
    def logits(self, state: Tensor, query_QD: Tensor) -> Tensor:
        return super().logits(state, query_QD + 0.5 * query_QD[:1])


@breaks("the queries' targets do not change the answers in evaluation")
class PeeksAtTheTargets(PrototypicalNetworks):
    def judge(self, encoder: Encoder, episode: Episode, ways: int, loss: Loss) -> tuple[Tensor, Tensor]:
        value, logits = super().judge(encoder, episode, ways, loss)
        if self.training:
            return value, logits
        logits = logits + F.one_hot(episode.query_targets, ways)
        return loss(logits.flatten(0, 1), episode.query_targets.flatten()), logits


@breaks("the queries' targets do not change the answers in training")
class AdaptsOnTheQueries(MAML):
    def task_gradient(
        self, encoder: Encoder, meta: Any, rates: Any, task: tuple[Tensor, ...], *arguments: Any
    ) -> MetaGradient:
        return super().task_gradient(encoder, meta, rates, (*task[2:], *task[2:]), *arguments)


@breaks("transductive is what it says in evaluation: sees_queries is False")
class SaysInductive(BDCSPN):
    transductive = False


@breaks("transductive is what it says in evaluation: sees_queries is True")
class SaysTransductive(PrototypicalNetworks):
    transductive = True


@breaks("transductive is what it says in evaluation: sees_queries is True")
class SaysTransductiveWithoutBatchNorm(MAML):
    def __init__(self) -> None:
        super().__init__(normalization="transductive")

    def sees_queries(self, encoder: Encoder) -> bool:
        return True


@breaks("transductive is what it says in evaluation: sees_queries is False")
class SaysInductiveWithBatchNorm(MAML):
    def __init__(self) -> None:
        super().__init__(normalization="transductive")

    def predict(self, encoder: Encoder, state: Any, queries: Any) -> Tensor:
        return super().predict(encoder, state, [torch.cat(list(queries))])

    def sees_queries(self, encoder: Encoder) -> bool:
        return False


@breaks("transductive is what it says in evaluation: sees_queries is False")
class CentresManyQueries(PrototypicalNetworks):
    def logits(self, state: Tensor, query_QD: Tensor) -> Tensor:
        return super().logits(state, query_QD - (len(query_QD) > 12) * query_QD.mean(0))


@breaks("transductive is what it says in training: sees_queries is False")
class CentresQueriesInTraining(PrototypicalNetworks):
    def logits(self, state: Tensor, query_QD: Tensor) -> Tensor:
        return super().logits(state, query_QD - self.training * query_QD.mean(0))


# ---- use


@breaks("adapt and predict answer as an evaluation")
class PredictsOnAnotherScaleWithoutBatchNorm(PrototypicalNetworks):
    def predict(self, encoder: Encoder, *arguments: Any) -> Tensor:
        return super().predict(encoder, *arguments) * (1 if has_batch_norm(encoder) else 2)


@breaks("adapt and predict answer as an evaluation")
class PredictsInTrainingMode(PrototypicalNetworks):
    def predict(self, encoder: Encoder, *arguments: Any) -> Tensor:
        return super().predict(encoder.train(), *arguments)


@breaks("answer gives what predict gives")
class AnswersOnAnotherScale(PrototypicalNetworks):
    def predict(self, encoder: Encoder, state: Any, queries: Any) -> Tensor:
        return super().answer(encoder, state, self.keep(encoder, queries))

    def answer(self, *arguments: Any) -> Tensor:
        return 2 * super().answer(*arguments)


@breaks("what adapt returns is made of tensors")
class KeepsAName(PrototypicalNetworks):
    def fit(self, support_SD: Tensor, targets_S: Tensor, ways: int) -> Any:
        return super().fit(support_SD, targets_S, ways), "name"

    def logits(self, state: Any, query_QD: Tensor) -> Tensor:
        return super().logits(state[0], query_QD)


@breaks("what was learned survives saving, and learning more, bit for bit")
class KeepsItToItself(PrototypicalNetworks):
    def adapt(self, *arguments: Any) -> Tensor:
        self.kept = super().adapt(*arguments)
        return torch.zeros(())

    def answer(self, encoder: Encoder, state: Tensor, kept_Q: Tensor) -> Tensor:
        return super().answer(encoder, self.kept, kept_Q)


@breaks("classes may have different numbers of examples: 2 ways: (8, 2)")
class NeedsTwoShots(PrototypicalNetworks):
    def fit(self, support_SD: Tensor, targets_S: Tensor, ways: int) -> Tensor:
        freedom_W = members(targets_S, ways, support_SD.dtype).sum(0) - 1
        return super().fit(support_SD, targets_S, ways) / freedom_W[:, None]


@breaks("classes may have different numbers of examples: 2 ways: (8, 3)")
class AnswersForThreeWays(PrototypicalNetworks):
    def logits(self, state: Tensor, query_QD: Tensor) -> Tensor:
        logits_QW = super().logits(state, query_QD)
        return F.pad(logits_QW, (0, 3 - len(state)), value=-100.0)


@breaks("a state that is held and changed answers as one that was learned anew")
class CentresPrototypes(PrototypicalNetworks):
    def fit(self, support_SD: Tensor, targets_S: Tensor, ways: int) -> Tensor:
        prototypes_WD = super().fit(support_SD, targets_S, ways)
        return prototypes_WD - prototypes_WD.mean(0)


# ---- what is drawn at random


@breaks("its parameters follow from torch's seed: ['learned']")
class DrawsByTheClock(PrototypicalNetworks):
    def __init__(self) -> None:
        super().__init__()
        clock = torch.Generator().manual_seed(time.time_ns() % 2**63)
        self.learned = nn.Parameter(1 + torch.rand((), generator=clock))

    def logits(self, state: Tensor, query_QD: Tensor) -> Tensor:
        return super().logits(state, query_QD) * self.learned


@breaks("it does not seed torch when it is made")
class SeedsAsItIsMade(PrototypicalNetworks):
    def build(self, *arguments: Any) -> None:
        torch.manual_seed(3)


@breaks("it draws from no generator of the process when it is made: ['numpy', 'random']")
class DrawsFromOthersAsItIsMade(PrototypicalNetworks):
    def build(self, *arguments: Any) -> None:
        random.random()
        np.random.rand()  # noqa: NPY002


@breaks("it does not seed torch in training")
class SeedsInFit(PrototypicalNetworks):
    def fit(self, *arguments: Any) -> Tensor:
        torch.manual_seed(0)
        return super().fit(*arguments)


@breaks("it does not seed torch in evaluation")
class SeedsInEvaluation(PrototypicalNetworks):
    def judge(self, *arguments: Any) -> tuple[Tensor, Tensor]:
        if not self.training:
            torch.manual_seed(0)
        return super().judge(*arguments)


@breaks("it draws from no generator of the process in training: ['numpy']")
class DrawsFromNumpyInTraining(PrototypicalNetworks):
    def judge(self, *arguments: Any) -> tuple[Tensor, Tensor]:
        np.random.rand()  # noqa: NPY002
        return super().judge(*arguments)


@breaks("it draws from no generator of the process in use: ['torch']")
class DrawsInUse(PrototypicalNetworks):
    def predict(self, *arguments: Any) -> Tensor:
        torch.rand(1)
        return super().predict(*arguments)


class DrawsInTraining(PrototypicalNetworks):
    def judge(self, encoder: Encoder, episode: Episode, *arguments: Any) -> tuple[Tensor, Tensor]:
        if self.training:
            torch.rand(1)  # as dropout does
        return super().judge(encoder, episode, *arguments)


def test_drawing_in_training_is_allowed() -> None:
    check_algorithm(DrawsInTraining)


@pytest.mark.parametrize(("broken", "message"), BROKEN, ids=[broken.__name__ for broken, _ in BROKEN])
def test_a_broken_one_is_found(broken: type[Algorithm], message: str) -> None:
    with pytest.raises(NonconformingError, match=f"^{re.escape(message)}"):
        check_algorithm(broken)


class Unlearns(PrototypicalNetworks):
    def loss(self, logits_NW: Tensor, targets_N: Tensor) -> Tensor:
        return -super().loss(logits_NW, targets_N)


def test_one_that_unlearns_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(STRATEGIES, "_entries", {**STRATEGIES._entries, "unlearns": Unlearns})
    with pytest.raises(NonconformingError, match=r"^it learns characters"):
        check_algorithm("unlearns", learns=True)


def test_every_demand_has_one_that_breaks_it() -> None:
    tried = [message for _, message in BROKEN] + ["it learns characters"]
    found = [pattern for pattern in complaints("answers", "training", "algorithm", "demands") if pattern != ".+"]
    assert len(found) > 20
    assert [pattern for pattern in found if not any(re.match(pattern, message) for message in tried)] == []
