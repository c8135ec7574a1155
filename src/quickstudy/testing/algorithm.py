"""The conformance suite of a few-shot algorithm: what must hold for training, evaluation and use to be right.

from quickstudy.testing import check_algorithm
check_algorithm("prototypicalnetworks")
"""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from quickstudy.algorithms import STRATEGIES, Algorithm, EmbeddingAlgorithm
from quickstudy.algorithms.maml import MAML
from quickstudy.episode import Episode
from quickstudy.image import ImageClassificationData, ImageClassifier
from quickstudy.nets import Encoder
from quickstudy.testing.made_up import QUERIES, TASKS, WAYS, small_encoder, small_episodes
from quickstudy.trainer import Trainer

_CLOSE = 1e-10
_CHARACTERS = {"ways": 5, "shots": 1, "queries": 5, "meta_batch_size": 4, "epoch_length": 240, "test_epoch_length": 80}


class NonconformingError(AssertionError):
    """An algorithm breaks the contract; the message names the check and the numbers."""


def check_algorithm(
    name: str | type[Algorithm], options: Mapping[str, Any] | None = None, *, learns: bool = False
) -> None:
    """Check an algorithm against the contract, in float64 and on made-up images; it takes seconds.

    Args:
        name: what it is registered as, or the class.
        options: its keyword arguments.
        learns: whether to train it too, on characters of Glyphs, which takes up to a minute; it must be registered.

    Raises:
        NonconformingError: a check failed.
    """
    kind = STRATEGIES[name] if isinstance(name, str) else name

    def make(norm: bool = False) -> tuple[Algorithm, Encoder]:
        encoder = small_encoder(norm)
        algorithm = kind(**(options or {})).train()
        algorithm.meet(encoder, encoder.feature_shape(small_episodes().support[0, :1]), WAYS)
        return algorithm.double(), encoder.train()

    for check in _CHECKS:
        check(make)
    if learns:
        _learns_characters(str(name), options or {})


Make = Callable[[bool], tuple[Algorithm, Encoder]]


def _names_its_paper(make: Make) -> None:
    algorithm, _ = make(False)
    paper = getattr(algorithm, "paper", "")
    _demand("http" in paper, "paper names authors, year, title and link", paper)


def _has_the_right_shapes(make: Make) -> None:
    algorithm, encoder = make(False)
    loss, logits = algorithm.judge(encoder, small_episodes(), WAYS, algorithm.loss)
    wanted = (TASKS, WAYS * QUERIES, WAYS)
    _demand(tuple(logits.shape) == wanted, "logits are [T, Q, W]", f"{tuple(logits.shape)} for {wanted}")
    _demand(loss.ndim == 0 and bool(loss.isfinite()), "the loss is one finite number", loss.detach())


def _tasks_do_not_touch_each_other(make: Make, norm: bool = False) -> None:
    algorithm, encoder = make(norm)
    episodes = small_episodes()
    together, gradients = _trained(algorithm, encoder, episodes)
    singly = [
        _trained(algorithm, encoder, Episode(*(part[task : task + 1] for part in episodes))) for task in range(TASKS)
    ]
    _demand_close(together, torch.cat([logits for logits, _ in singly]), "tasks side by side answer as one by one")
    mean = torch.stack([gradient for _, gradient in singly]).mean(0)
    _demand_close(gradients, mean, "the gradient is the mean over the tasks")
    if isinstance(algorithm, EmbeddingAlgorithm):
        plain = []
        for support, targets, query, _ in zip(*episodes, strict=True):
            embedded = encoder(torch.cat([support, query]))
            state = algorithm.fit(embedded[: len(support)], targets, WAYS)
            plain.append(algorithm.logits(state, embedded[len(support) :]))
        _demand_close(together, torch.stack(plain), "vmap answers as plain calls of fit and logits")
    if isinstance(algorithm, MAML):
        for chunk in (2, TASKS):
            algorithm.task_chunk = chunk
            logits, chunked = _trained(algorithm, encoder, episodes)
            _demand_close(together, logits, f"{chunk} tasks at once answer as one by one")
            _demand_close(gradients, chunked, f"{chunk} tasks at once have the gradient of one by one")


def _gradients_are_those_of_the_loss(make: Make, norm: bool = False) -> None:
    algorithm, encoder = make(norm)
    episodes = small_episodes()
    _, gradient = _trained(algorithm, encoder, episodes)
    if not algorithm.exact_gradient:
        return
    parameters = [*encoder.parameters(), *algorithm.parameters()]
    sizes = [parameter.numel() for parameter in parameters]
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn(gradient.shape, generator=generator, dtype=torch.float64)
    direction /= direction.norm()

    def loss_at(step: float) -> float:
        with torch.no_grad():
            for parameter, part in zip(parameters, torch.split(direction, sizes), strict=True):
                parameter.add_(step * part.view_as(parameter))
        loss = float(algorithm.judge(encoder, episodes, WAYS, algorithm.loss)[0].detach())
        with torch.no_grad():
            for parameter, part in zip(parameters, torch.split(direction, sizes), strict=True):
                parameter.sub_(step * part.view_as(parameter))
        return loss

    # Of several steps the best: a long one may cross a kink, and a short one shows how exact a solver is.
    analytic, least = float(gradient @ direction), float(gradient.norm()) * 1e-3
    found = [(loss_at(step) - loss_at(-step)) / (2 * step) for step in (1e-4, 1e-5, 1e-6)]
    errors = [abs(value - analytic) / max(abs(value), least, 1e-12) for value in found]
    _demand(min(errors) < 1e-5, "the gradient is that of the loss", f"{analytic}; finite differences give {found}")


def _every_parameter_has_a_gradient(make: Make) -> None:
    algorithm, encoder = make(False)
    _trained(algorithm, encoder, small_episodes())
    for name, parameter in [*encoder.named_parameters(), *algorithm.named_parameters()]:
        found = parameter.grad is not None and bool(parameter.grad.isfinite().all())
        _demand(found, "every parameter has a gradient", name)
    for name, parameter in algorithm.named_parameters():
        _demand(parameter.grad is not None and bool(parameter.grad.any()), "every parameter of its own matters", name)


def _answers_are_the_same_without_gradients(make: Make) -> None:
    algorithm, encoder = make(False)
    _evaluate(algorithm, encoder)
    episodes, found = small_episodes(), []
    for context in (torch.no_grad, torch.inference_mode, torch.enable_grad):
        with context():
            found.append(algorithm.judge(encoder, episodes, WAYS, algorithm.loss)[1].detach().clone())
    _demand_close(found[0], found[1], "no_grad and inference_mode answer alike")
    _demand_close(found[0], found[2], "no_grad and gradients answer alike")


def _bfloat16_is_near(make: Make) -> None:
    algorithm, encoder = make(False)
    _evaluate(algorithm.float(), encoder.float())
    episodes = Episode(*(part.float() if part.is_floating_point() else part for part in small_episodes()))
    found = []
    for enabled in (False, True):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss, logits = algorithm.judge(encoder, episodes, WAYS, algorithm.loss)
            dtypes = {loss.dtype, logits.dtype}
            _demand(dtypes == {torch.float32}, "logits and losses are float32 under autocast", dtypes)
            found.append(logits.softmax(-1))
    error = float((found[0] - found[1]).abs().mean())
    _demand(error < 0.03, "bfloat16 answers alike", f"probabilities differ by {error:.3f}")


def _order_of_the_support_does_not_matter(make: Make) -> None:
    algorithm, encoder = make(False)
    _evaluate(algorithm, encoder)
    support, targets, query, wanted = small_episodes()
    order = torch.randperm(support.shape[1], generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        straight = algorithm.judge(encoder, Episode(support, targets, query, wanted), WAYS, algorithm.loss)[1]
        shuffled = Episode(support[:, order], targets[:, order], query, wanted)
        _demand_close(
            straight,
            algorithm.judge(encoder, shuffled, WAYS, algorithm.loss)[1],
            "the order of the support does not matter",
            1e-8,
        )


def _transductive_if_it_says_so(make: Make) -> None:
    for norm in (False, True):
        algorithm, encoder = make(norm)
        _evaluate(algorithm, encoder)
        support, targets, query, wanted = small_episodes()
        with torch.no_grad():
            whole = algorithm.judge(encoder, Episode(support, targets, query, wanted), WAYS, algorithm.loss)[1]
            part = Episode(support, targets, query[:, ::2], wanted[:, ::2])
            half = algorithm.judge(encoder, part, WAYS, algorithm.loss)[1]
        alone = float((whole[:, ::2] - half).abs().max()) < 1e-8
        sees = algorithm.sees_queries(encoder)
        _demand(alone != sees, "transductive is what it says", f"sees_queries is {sees}, and answers alone: {alone}")


def _use_is_as_evaluation(make: Make) -> None:
    for norm in (False, True):
        algorithm, encoder = make(norm)
        _evaluate(algorithm, encoder)
        support, targets, query, wanted = small_episodes()
        with torch.inference_mode():
            judged = algorithm.judge(encoder, Episode(support, targets, query, wanted), WAYS, algorithm.loss)[1][0]
            state = algorithm.adapt(encoder, torch.split(support[0], 4), targets[0], WAYS)
            answered = algorithm.predict(encoder, state, torch.split(query[0], 5))
        _demand_close(judged, answered, "adapt and predict answer as an evaluation", 1e-8)
        leaves = [leaf for leaf in tree_leaves(state) if not isinstance(leaf, Tensor)]
        _demand(not leaves, "what adapt returns is made of tensors", leaves)
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        again = torch.load(file, weights_only=True)
        with torch.inference_mode():
            same = torch.equal(answered, algorithm.predict(encoder, again, torch.split(query[0], 5)))
        _demand(same, "what was learned survives saving bit for bit", "")


def _takes_any_shots_and_ways(make: Make) -> None:
    algorithm, encoder = make(False)
    _evaluate(algorithm, encoder)
    for ways in (WAYS,) if algorithm.fixed_ways else (2, WAYS, 5):
        support, targets, query, _ = small_episodes(1, ways, 5)
        kept = torch.cat([torch.arange(5 * code, 5 * code + 1 + code % 5) for code in range(ways)])  # 1, 2, 3 ... shots
        with torch.inference_mode():
            state = algorithm.adapt(encoder, [support[0, kept]], targets[0, kept], ways)
            logits = algorithm.predict(encoder, state, [query[0]])
        right = tuple(logits.shape) == (ways * QUERIES, ways) and bool(logits.isfinite().all())
        _demand(right, "classes may have different numbers of examples", f"{ways} ways: {tuple(logits.shape)}")


def _leaves_no_trace(make: Make) -> None:
    algorithm, encoder = make(False)
    before = copy.deepcopy({**algorithm.state_dict(), **{f"encoder.{k}": v for k, v in encoder.state_dict().items()}})
    _evaluate(algorithm, encoder)
    with torch.no_grad():
        first = algorithm.judge(encoder, small_episodes(), WAYS, algorithm.loss)[1]
        second = algorithm.judge(encoder, small_episodes(), WAYS, algorithm.loss)[1]
    after = {**algorithm.state_dict(), **{f"encoder.{k}": v for k, v in encoder.state_dict().items()}}
    changed = [name for name, value in before.items() if not torch.equal(value, after[name])]
    _demand(not changed, "an evaluation changes no weight", changed)
    _demand(torch.equal(first, second), "the same episode has the same answer", "")


def _learns_characters(name: str, options: Mapping[str, Any]) -> None:
    torch.manual_seed(0)
    data = ImageClassificationData.from_benchmark("glyphs")
    model = ImageClassifier(
        backbone="conv4",
        backbone_kwargs={"in_channels": 1, "hidden": 32},
        learning_rate=3e-3,
        training_strategy=name,
        training_strategy_kwargs={**_CHARACTERS, **options},
    )
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = Trainer(accelerator="cpu", max_epochs=1, limit_val_batches=0, **quiet)
    (before,) = trainer.test(model, datamodule=data, verbose=False)
    trainer.fit(model, datamodule=data)
    (after,) = trainer.test(model, datamodule=data, verbose=False)
    gain = after["test_accuracy"] - before["test_accuracy"]
    doubt = after["test_accuracy_ci95"] + before["test_accuracy_ci95"]
    _demand(gain > doubt, "it learns characters", f"{gain:.3f} better than untrained, where chance makes {doubt:.3f}")


_CHECKS = (
    _names_its_paper,
    _has_the_right_shapes,
    _tasks_do_not_touch_each_other,
    partial(_tasks_do_not_touch_each_other, norm=True),
    _gradients_are_those_of_the_loss,
    partial(_gradients_are_those_of_the_loss, norm=True),
    _every_parameter_has_a_gradient,
    _answers_are_the_same_without_gradients,
    _bfloat16_is_near,
    _order_of_the_support_does_not_matter,
    _transductive_if_it_says_so,
    _use_is_as_evaluation,
    _takes_any_shots_and_ways,
    _leaves_no_trace,
)


def _evaluate(*modules: nn.Module) -> None:
    for module in modules:
        module.eval()


def _trained(algorithm: Algorithm, encoder: Encoder, episodes: Episode) -> tuple[Tensor, Tensor]:
    """Return the logits and the gradient of every parameter, in one vector."""
    parameters = [*encoder.parameters(), *algorithm.parameters()]
    for parameter in parameters:
        parameter.grad = None
    loss, logits = algorithm.judge(encoder, episodes, WAYS, algorithm.loss)
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    return logits.detach(), torch.cat([gradient.flatten() for gradient in gradients])


def _demand(held: bool, what: str, found: Any) -> None:
    if not held:
        raise NonconformingError(f"{what}: {found}")


def _demand_close(some: Tensor, other: Tensor, what: str, within: float = _CLOSE) -> None:
    error = float(((some - other).abs().max() / some.abs().max().clamp(min=1e-12)).detach())
    _demand(error < within, what, f"they differ by {error:.1e} of the largest, more than {within}")
