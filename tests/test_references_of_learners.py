"""The learners by gradient steps against plain loops of them in float64, with autograd through all."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.algorithms import STRATEGIES
from quickstudy.algorithms.anil import ANIL
from quickstudy.algorithms.boil import BOIL
from quickstudy.algorithms.maml import MAML
from quickstudy.algorithms.metasgd import MetaSGD
from quickstudy.algorithms.protomaml import ProtoMAML
from quickstudy.nets import Encoder
from quickstudy.testing import small_encoder, small_episodes

pytestmark = pytest.mark.usefixtures("in_float64")

WAYS, RATE = 3, 0.3


def features(weights: dict[str, Tensor], images: Tensor, normalization: str, rows: int) -> Tensor:
    """``small_encoder(norm=True)`` written out, its BatchNorm by the first rows, or by each image and channel."""
    maps = F.conv2d(images, weights["backbone.0.weight"], weights["backbone.0.bias"], padding=1)
    over, axes = (maps, (2, 3)) if normalization == "group" else (maps[:rows], (0, 2, 3))
    mean = over.mean(axes, keepdim=True)
    variance = (over - mean).square().mean(axes, keepdim=True)
    scale, shift = (weights[f"backbone.1.{name}"].view(-1, 1, 1) for name in ("weight", "bias"))
    maps = (maps - mean) / (variance + 1e-5).sqrt() * scale + shift
    pooled = maps.tanh().unflatten(3, (2, 4)).unflatten(2, (2, 4)).mean((3, 5)).flatten(1)
    return pooled @ weights["backbone.5.weight"].T + weights["backbone.5.bias"]


def adapted_answers(algorithm: MAML, encoder: Encoder, task: tuple[Tensor, ...], steps: int) -> Tensor:
    """Logits of a task's queries after plain gradient steps on the support, with a graph back to every parameter."""
    support, targets, query, _ = task
    weights: dict[str, Tensor] = {f"backbone.{name}": value for name, value in encoder.backbone.named_parameters()}
    rates: dict[str, Any] = dict.fromkeys([*weights, "head.weight", "head.bias"], RATE)
    if isinstance(algorithm, BOIL):
        rates = dict.fromkeys(weights, RATE)
    if isinstance(algorithm, MetaSGD):
        rates = {name: algorithm.learned_rates[name.replace(".", "/")] for name in rates}
    if isinstance(algorithm, ProtoMAML):
        embedded = features(weights, support, algorithm.normalization, len(support))
        means = torch.stack([embedded[targets == way].mean(0) for way in range(WAYS)])
        # A step sees the head and the backbone that it came of as separate weights, which views are to autograd.
        weights = {name: value.view_as(value) for name, value in weights.items()}
        weights |= {"head.weight": 2 * means, "head.bias": -means.square().sum(1)}
    else:
        own = algorithm.head.state_dict(keep_vars=True)
        weights |= {
            f"head.{name}": value.repeat(WAYS // len(value), *[1] * (value.ndim - 1)) for name, value in own.items()
        }

    def logits(images: Tensor, rows: int) -> Tensor:
        embedded = features(weights, images, algorithm.normalization, rows)
        return embedded @ weights["head.weight"].T + weights["head.bias"]

    for _ in range(steps):
        loss = F.cross_entropy(logits(support, len(support)), targets)
        gradients = torch.autograd.grad(loss, [weights[name] for name in rates], create_graph=True)
        for name, gradient in zip(rates, gradients, strict=True):
            kept = gradient.detach() if algorithm.method == "first_order" else gradient
            weights[name] = weights[name] - rates[name] * kept
    if algorithm.normalization == "transductive":
        return logits(query, len(query))
    return logits(torch.cat([support, query]), len(support))[len(support) :]


def learner(name: str, options: dict[str, Any]) -> tuple[MAML, Encoder, list[nn.Parameter]]:
    """A learner by gradient steps whose BatchNorm and rates have made-up weights."""
    encoder = small_encoder(norm=True)
    algorithm = STRATEGIES[name](adaptation_steps=2, test_adaptation_steps=4, adaptation_lr=RATE, **options)
    assert isinstance(algorithm, MAML)
    algorithm.meet(encoder, (6,), WAYS)
    uneven = [*encoder.backbone[1].parameters()]
    uneven += algorithm.learned_rates.parameters() if isinstance(algorithm, MetaSGD) else []
    with torch.no_grad():
        for parameter in uneven:
            parameter.mul_(torch.rand_like(parameter) + 0.5).add_(0.1 * torch.rand_like(parameter))
    return algorithm, encoder, [*encoder.parameters(), *algorithm.parameters()]


LEARNERS: list[tuple[str, dict[str, Any]]] = [
    ("maml", {}),
    ("maml", {"meta_gradient": "adjoint", "normalization": "transductive"}),
    ("maml", {"meta_gradient": "first_order", "normalization": "group"}),
    ("maml", {"head": "shared"}),
    ("boil", {}),
    ("metasgd", {}),
    ("protomaml", {}),
]


@pytest.mark.parametrize(("name", "options"), LEARNERS, ids=str)
def test_a_learner_trains_by_the_gradient_through_its_training_steps(name: str, options: dict[str, Any]) -> None:
    algorithm, encoder, parameters = learner(name, options)
    episodes = small_episodes()
    found_loss, found_logits = algorithm.judge(encoder.train(), episodes, WAYS, algorithm.train().loss)
    tasks = list(zip(*episodes, strict=True))
    logits = [adapted_answers(algorithm, encoder, task, steps=2) for task in tasks]
    losses = [F.cross_entropy(*pair) for pair in zip(logits, episodes.query_targets, strict=True)]
    torch.testing.assert_close(found_logits, torch.stack(logits).detach(), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(found_loss.detach(), torch.stack(losses).mean().detach(), rtol=1e-8, atol=1e-8)
    found_loss.backward()
    expected = torch.autograd.grad(torch.stack(losses).mean(), parameters)
    torch.testing.assert_close([parameter.grad for parameter in parameters], list(expected), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("name", "options"), [*LEARNERS, ("reptile", {})], ids=str)
def test_a_learner_answers_after_its_test_steps(name: str, options: dict[str, Any]) -> None:
    algorithm, encoder, _ = learner(name, options)
    algorithm.eval()
    encoder.eval()
    episodes = small_episodes(1)
    task = tuple(part[0] for part in episodes)
    expected = adapted_answers(algorithm, encoder, task, steps=4).detach()
    with torch.no_grad():
        judged = algorithm.judge(encoder, episodes, WAYS, algorithm.loss)[1][0]
        state = algorithm.adapt(encoder, task[0], task[1], WAYS)
        predicted = algorithm.predict(encoder, state, [task[2]])
    torch.testing.assert_close(judged, expected, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(predicted, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("size", [4, 100])
def test_reptile_goes_to_where_sgd_on_support_and_queries_leads(size: int) -> None:
    algorithm, encoder, parameters = learner("reptile", {"inner_batch_size": size})
    episodes = small_episodes()
    algorithm.judge(encoder.train(), episodes, WAYS, algorithm.train().loss)[0].backward()
    ways_back = [torch.zeros_like(parameter) for parameter in parameters]
    for support, targets, query, query_targets in zip(*episodes, strict=True):
        head = nn.Linear(6, WAYS)
        head.load_state_dict(algorithm.head.state_dict())
        network = nn.Sequential(copy.deepcopy(encoder.backbone), head)
        sgd = torch.optim.SGD(network.parameters(), lr=RATE)
        images, codes = torch.cat([support, query]), torch.cat([targets, query_targets])
        of_each = [(codes == way).nonzero().flatten().tolist() for way in range(WAYS)]
        order = [row for each in zip(*of_each, strict=True) for row in each]
        for step in range(2):
            batch = [order[place % len(order)] for place in range(size * step, size * (step + 1))]
            batch = order if size > len(order) else batch
            sgd.zero_grad()
            F.cross_entropy(network(images[batch]), codes[batch]).backward()
            sgd.step()
        for way_back, start, end in zip(ways_back, parameters, network.parameters(), strict=True):
            way_back += (start - end).detach() / len(episodes.support)
    torch.testing.assert_close([parameter.grad for parameter in parameters], ways_back, rtol=1e-8, atol=1e-8)


def test_anil_takes_its_steps_on_the_head_alone() -> None:
    support, targets, query, _ = (part[0] for part in small_episodes(1))
    support, query = support.flatten(1), query.flatten(1)
    algorithm = ANIL(adaptation_steps=2, test_adaptation_steps=4, adaptation_lr=RATE)
    algorithm.meet(small_encoder(), (64,), WAYS)
    start = list(algorithm.head.parameters())
    for training, steps in ((True, 2), (False, 4)):
        algorithm.train(training)
        found = algorithm.logits(algorithm.fit(support, targets, WAYS), query)
        weight, bias = start
        for _ in range(steps):
            loss = F.cross_entropy(support @ weight.T + bias, targets)
            for_weight, for_bias = torch.autograd.grad(loss, (weight, bias), create_graph=True)
            weight, bias = weight - RATE * for_weight, bias - RATE * for_bias
        expected = query @ weight.T + bias
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
        gradients = [torch.autograd.grad(logits.square().sum(), start) for logits in (found, expected)]
        torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)
