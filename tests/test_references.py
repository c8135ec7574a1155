"""Every classifier of embeddings against its paper's formulas, written as plain loops in float64, for one task."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from quickstudy.algorithms import STRATEGIES, EmbeddingAlgorithm
from quickstudy.algorithms.metaoptnet import MetaOptNet
from quickstudy.algorithms.relationnetworks import RelationNetworks
from quickstudy.functional.ridge import ridge
from quickstudy.testing import small_encoder

pytestmark = pytest.mark.usefixtures("in_float64")

WAYS = 4
Reference = Callable[..., Tensor]


def small_task(features: tuple[int, ...] = (6,), queries: int = 14) -> tuple[Tensor, Tensor, Tensor]:
    """Support, targets and queries: classes of 1 to 4 examples in mixed order that overlap, away from the origin."""
    generator = torch.Generator().manual_seed(1)
    centres = 1.0 + torch.randn(WAYS, *features, generator=generator)
    targets = torch.tensor([3, 0, 1, 3, 2, 1, 3, 2, 3, 2])
    support = centres[targets] + 0.8 * torch.randn(len(targets), *features, generator=generator)
    of_query = torch.arange(queries) % WAYS
    query = 0.3 + centres[of_query] + 0.8 * torch.randn(queries, *features, generator=generator)
    return support, targets, query


def unit(rows: Tensor) -> Tensor:
    return torch.stack([row / row.norm() for row in rows])


def class_means(support: Tensor, targets: Tensor) -> Tensor:
    return torch.stack([support[targets == way].mean(0) for way in range(WAYS)])


def pairwise(value: Callable[[Tensor, Tensor], Tensor], some: Tensor, other: Tensor) -> Tensor:
    return torch.stack([torch.stack([value(row, column) for column in other]) for row in some])


def squared_distances(some: Tensor, other: Tensor) -> Tensor:
    return pairwise(lambda row, column: (row - column).square().sum(), some, other)


def cosines(some: Tensor, other: Tensor) -> Tensor:
    return pairwise(lambda row, column: row @ column / (row.norm() * column.norm()), some, other)


def prototypical(support: Tensor, targets: Tensor, query: Tensor) -> Tensor:
    return -squared_distances(query, class_means(support, targets))


def cosine_prototypical(
    support: Tensor, targets: Tensor, query: Tensor, metric: str = "cosine", scale: float = 10.0
) -> Tensor:
    return scale * cosines(query, class_means(support, targets))


def matching(support: Tensor, targets: Tensor, query: Tensor, scale: float = 10.0) -> Tensor:
    attention = (scale * cosines(query, support)).exp()
    attention = attention / attention.sum(1, keepdim=True)
    return torch.stack([attention[:, targets == way].sum(1) for way in range(WAYS)], 1).log()


def nearest_neighbour(support: Tensor, targets: Tensor, query: Tensor) -> Tensor:
    return torch.stack([-squared_distances(query, support[targets == way]).min(1).values for way in range(WAYS)], 1)


def nearest_centroid(support: Tensor, targets: Tensor, query: Tensor, lengths: str = "evened") -> Tensor:
    if lengths == "evened":
        typical = support.norm(dim=1).square().mean().sqrt() / 2
        support, query = (rows / torch.hypot(rows.norm(dim=1), typical)[:, None] for rows in (support, query))
    centre = class_means(support, targets).mean(0)
    return -squared_distances(unit(query - centre), class_means(unit(support - centre), targets))


def linear_probe(
    support: Tensor, targets: Tensor, query: Tensor, regularization: float = 1.0, iterations: int = 0
) -> Tensor:
    """The optimum, however many steps the algorithm may take towards it."""

    def lengthened(rows: Tensor) -> Tensor:
        return torch.cat([unit(rows), torch.ones(len(rows), 1)], 1)

    features = lengthened(support)
    weights = torch.zeros(WAYS, features.shape[1], requires_grad=True)
    solver = torch.optim.LBFGS(
        [weights], max_iter=1000, tolerance_grad=1e-13, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        solver.zero_grad()
        total = F.cross_entropy(features @ weights.T, targets, reduction="sum")
        total = total + regularization / 2 * weights.square().sum()
        total.backward()
        return total

    solver.step(loss)
    return lengthened(query) @ weights.detach().T


def finetune(
    support: Tensor,
    targets: Tensor,
    query: Tensor,
    head: str = "linear",
    adaptation_steps: int = 100,
    adaptation_lr: float = 0.01,
    scale: float = 10.0,
) -> Tensor:
    weight, bias = class_means(support, targets) * (head == "cosine"), torch.zeros(WAYS)

    def answers(rows: Tensor) -> Tensor:
        return scale * cosines(rows, weight) + 0 * bias if head == "cosine" else rows @ weight.T + bias

    for _ in range(adaptation_steps):
        weight, bias = weight.detach().requires_grad_(), bias.detach().requires_grad_()
        F.cross_entropy(answers(support), targets).backward()
        weight, bias = weight - adaptation_lr * weight.grad, bias - adaptation_lr * bias.grad
    return answers(query).detach()


def least_squares(support: Tensor, wanted: Tensor, strength: float) -> Tensor:
    """Ridge regression as ordinary least squares: a row of sqrt(strength) for each weight, that asks it to be 0."""
    features = support.shape[1]
    rows = torch.cat([support, strength**0.5 * torch.eye(features)])
    return torch.linalg.lstsq(rows, torch.cat([wanted, torch.zeros(features, wanted.shape[1])])).solution.T


def ridge_classifier(
    support: Tensor, targets: Tensor, query: Tensor, regularization: float = 1.0, scale: float = 1.0, head: str = ""
) -> Tensor:
    return scale * query @ least_squares(support, torch.eye(WAYS)[targets], regularization).T


def bdcspn(support: Tensor, targets: Tensor, query: Tensor, scale: float = 10.0) -> Tensor:
    query = query + (support.mean(0) - query.mean(0))
    means = class_means(support, targets)
    corrected = []
    for way in range(WAYS):
        total, weights = torch.zeros(support.shape[1]), torch.zeros(())
        for example in [*support[targets == way], *query]:
            share = (scale * cosines(example[None], means)).softmax(1)[0, way]
            total, weights = total + share * example, weights + share
        corrected.append(total / weights)
    return scale * cosines(query, torch.stack(corrected))


def laplacianshot(
    support: Tensor, targets: Tensor, query: Tensor, neighbours: int = 3, strength: float = 1.0, iterations: int = 20
) -> Tensor:
    centre = class_means(support, targets).mean(0)
    means = class_means(unit(support - centre), targets)
    query = unit(query - query.mean(0))
    unary, apart = squared_distances(query, means), squared_distances(query, query)
    answers = (-unary).softmax(1)
    for _ in range(iterations):
        heard = []
        for row in range(len(query)):
            nearest = [other for other in apart[row].argsort().tolist() if other != row][:neighbours]
            heard.append(answers[nearest].sum(0))
        logits = -unary + strength * torch.stack(heard)
        answers = logits.softmax(1)
    return logits


def tim(
    support: Tensor,
    targets: Tensor,
    query: Tensor,
    iterations: int = 100,
    scale: float = 15.0,
    support_weight: float = 0.1,
    entropy_weight: float = 0.1,
) -> Tensor:
    """Proposition 1 of the paper: q, then w, in turns."""
    support, query = unit(support), unit(query)
    wanted, weights = torch.eye(WAYS)[targets], class_means(support, targets)
    of_support, of_query = support_weight / (1 + entropy_weight), len(support) / len(query)
    for _ in range(iterations):
        support_p = (-scale / 2 * squared_distances(support, weights)).softmax(1)
        query_p = (-scale / 2 * squared_distances(query, weights)).softmax(1)
        q = query_p ** (1 + entropy_weight)
        q = q / q.sum(0).sqrt()
        q = q / q.sum(1, keepdim=True)
        found = []
        for way, weight in enumerate(weights):
            above, below = torch.zeros_like(weight), torch.zeros(())
            for importance, rows, y, p in ((of_support, support, wanted, support_p), (of_query, query, q, query_p)):
                for row, y_of, p_of in zip(rows, y[:, way], p[:, way], strict=True):
                    above = above + importance * (y_of * row + p_of * (weight - row))
                    below = below + importance * y_of
            found.append(above / below)
        weights = torch.stack(found)
    return -scale / 2 * squared_distances(query, weights)


# Without options, the defaults are those of the reference.
CLASSIFIERS: list[tuple[str, dict[str, Any], Reference]] = [
    ("prototypicalnetworks", {}, prototypical),
    ("prototypicalnetworks", {"metric": "cosine", "scale": 7.0}, cosine_prototypical),
    ("meta_baseline", {}, cosine_prototypical),
    ("matchingnetworks", {}, matching),
    ("matchingnetworks", {"scale": 3.0}, matching),
    ("nearest_neighbour", {}, nearest_neighbour),
    ("nearest_centroid", {}, nearest_centroid),
    ("nearest_centroid", {"lengths": "kept"}, nearest_centroid),
    ("linear_probe", {"regularization": 1.0}, linear_probe),
    ("linear_probe", {"regularization": 0.2, "iterations": 300}, linear_probe),
    ("finetune", {}, finetune),
    ("finetune", {"adaptation_steps": 7, "adaptation_lr": 0.3}, finetune),
    ("finetune", {"head": "cosine", "adaptation_steps": 3, "adaptation_lr": 0.3, "scale": 5.0}, finetune),
    ("r2d2", {}, ridge_classifier),
    ("r2d2", {"regularization": 0.3, "scale": 4.0}, ridge_classifier),
    ("metaoptnet", {"head": "ridge"}, partial(ridge_classifier, regularization=50.0)),
    ("metaoptnet", {"head": "ridge", "regularization": 0.3, "scale": 4.0}, ridge_classifier),
    ("bdcspn", {}, bdcspn),
    ("bdcspn", {"scale": 3.0}, bdcspn),
    ("laplacianshot", {}, laplacianshot),
    ("laplacianshot", {"neighbours": 2, "strength": 0.4, "iterations": 2}, laplacianshot),
    ("tim", {}, tim),
    ("tim", {"iterations": 3, "scale": 7.0, "support_weight": 0.5, "entropy_weight": 0.6}, tim),
]


@pytest.mark.parametrize(
    ("name", "options", "reference"), CLASSIFIERS, ids=lambda value: "" if callable(value) else str(value)
)
def test_a_classifier_answers_as_its_formula(name: str, options: dict[str, Any], reference: Reference) -> None:
    support, targets, query = small_task()
    algorithm = STRATEGIES[name](**options).eval()
    assert isinstance(algorithm, EmbeddingAlgorithm)
    found = algorithm.logits(algorithm.fit(support, targets, WAYS), query).detach()
    expected = reference(support, targets, query, **options)
    # What all classes of a query share is no part of the answer: TIM leaves some of it out.
    found, expected = (logits - logits.mean(1, keepdim=True) for logits in (found, expected))
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("feature_shape", [(6,), (2, 5, 7)], ids=["vectors", "maps"])
def test_relation_networks_compare_each_query_with_each_class_mean(feature_shape: tuple[int, ...]) -> None:
    support, targets, query = small_task(feature_shape)
    algorithm = RelationNetworks(hidden=12)
    algorithm.meet(small_encoder(), feature_shape, WAYS)
    with torch.no_grad():
        for parameter in algorithm.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        found = algorithm.logits(algorithm.fit(support.flatten(1), targets, WAYS), query.flatten(1))
    weights = {name: value.detach() for name, value in algorithm.named_parameters()}

    def normalized(values: Tensor, groups: int, layer: str) -> Tensor:
        parts, shape = values.reshape(groups, -1), (-1, *(1,) * (values.ndim - 1))
        parts = (parts - parts.mean(1, keepdim=True)) / (parts.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
        scale, shift = (weights[f"{layer}.{name}"].view(shape) for name in ("weight", "bias"))
        return parts.view_as(values) * scale + shift

    def linear(values: Tensor, layer: str) -> Tensor:
        return weights[f"{layer}.weight"] @ values + weights[f"{layer}.bias"]

    def relation(example: Tensor, mean: Tensor) -> Tensor:
        pair = torch.cat([mean, example])
        if pair.ndim == 1:
            pair, last = normalized(linear(pair, "first"), 1, "further.0").relu(), ("further.2", "further.4")
        else:
            for convolution, norm in (("first", "further.0"), ("further.3", "further.4")):
                pair = F.conv2d(pair, weights[f"{convolution}.weight"], weights[f"{convolution}.bias"], padding=1)
                pair = F.max_pool2d(normalized(pair, 4, norm).relu(), 2, ceil_mode=True)
            last = ("further.8", "further.10")
        return linear(linear(pair.flatten(), last[0]).relu(), last[1])[0].sigmoid()

    expected = pairwise(relation, query, class_means(support, targets))
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)
    wanted = torch.arange(len(query)) % WAYS
    squares = sum((expected[row, way] - float(wanted[row] == way)) ** 2 for row in range(14) for way in range(WAYS))
    torch.testing.assert_close(algorithm.loss(found, wanted), squares / expected.numel())


@pytest.mark.parametrize("features", [4, 25], ids=["fewer features than examples", "more"])
def test_ridge_is_least_squares_on_more_rows(features: int) -> None:
    support, targets, _ = small_task((features,))
    wanted = torch.eye(WAYS)[targets]
    for strength in (0.1, 1.0, 20.0):
        found, expected = ridge(support, wanted, strength), least_squares(support, wanted, strength)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("regularization", [10.0, 2.0])
def test_the_svm_is_crammer_and_singers(regularization: float) -> None:
    support, targets, query = small_task()
    algorithm = MetaOptNet(scale=3.0) if regularization == 10 else MetaOptNet(regularization=regularization, scale=3.0)
    kernel, wanted, bound = support @ support.T, torch.eye(WAYS)[targets], 1 / regularization
    # Projected gradient on slack = C Y - a, whose rows are above 0 and sum to C.
    slack = torch.full_like(wanted, bound / WAYS)
    for _ in range(4000):
        moved = slack + (kernel @ (bound * wanted - slack) - wanted) / torch.linalg.matrix_norm(kernel, 2)
        falling = moved.sort(1, descending=True).values
        cuts = (falling.cumsum(1) - bound) / torch.arange(1, WAYS + 1)
        slack = (moved - cuts.gather(1, (falling > cuts).sum(1, keepdim=True) - 1)).clamp(min=0)
    expected = 3.0 * query @ ((bound * wanted - slack).T @ support).T
    found = algorithm.logits(algorithm.fit(support, targets, WAYS), query)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)
