"""MAML: weights from which a few gradient steps on a support set lead far.

Finn et al. 2017, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", https://arxiv.org/abs/1703.03400

Shapes: T tasks, S support, Q query, W ways, D features, ``...`` the shape of one input.
"""

from __future__ import annotations

import fnmatch
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from quickstudy.algorithms.base import STRATEGIES, Algorithm, Loss, exact, side_by_side, usual_loss
from quickstudy.algorithms.learned_head import LearnedHead
from quickstudy.batches import Batch, device_of, each, fold, join, over_windows, size, take, unfold
from quickstudy.episode import Episode
from quickstudy.errors import (
    ConfigError,
    DataWarning,
    brief,
    check_above_zero,
    check_choice,
    check_counts,
    closest,
    given,
    one_line,
)
from quickstudy.functional.inner_loop import (
    Adaptation,
    MetaGradient,
    Method,
    Rates,
    Weights,
    descend,
    meta_gradient,
    meta_gradient_of_one,
)
from quickstudy.functional.known_gradient import known_gradient
from quickstudy.nets import (
    BatchNormAs,
    Encoder,
    Statistics,
    audit,
    by_batch,
    by_example,
    by_statistics,
    by_support,
    move_statistics,
    of_several,
)
from quickstudy.nets.stages import stages_of
from quickstudy.torch_internals import BatchNorm, tree_map

Embed = Callable[[Weights, Batch], Tensor]
"""A function of weights and inputs ``[N, ...]`` that returns the backbone's features ``[N, D]``."""

_BACKBONE = "backbone."
_UNROLLED_STEPS = 5  # few steps' graphs are small beside the query's; the adjoint computes each gradient twice


class InnerCurve(NamedTuple):
    """How tasks are learned, from step to step: row by row the tasks, and along it 0, 1, ... steps."""

    support_loss: Tensor
    """``[T, steps + 1]``"""
    query_accuracy: Tensor
    """``[T, steps + 1]``"""


@STRATEGIES.register("maml")
class MAML(Algorithm):
    """All weights, those of a linear head included, take gradient steps on the support set.

    Their loss is cross-entropy, and of numbers the squared error, whatever ``loss_fn`` judges the queries by: a saved
    model must adapt as it was trained, and holds no code. Dropout is off, since a gradient through gradient steps needs
    the same network in each.

    Args:
        adaptation_steps: gradient steps in training.
        test_adaptation_steps: in validation, test and use; default: as many.
        adaptation_lr: their learning rate.
        meta_gradient: ``"unrolled"`` keeps every step's graph; ``"adjoint"`` is as exact in memory that hardly grows
            with the steps; ``"first_order"`` leaves the second derivatives out; ``"auto"`` takes one of the exact ones.
        normalization: what BatchNorm normalises queries by: ``"support"``, the statistics of the support set;
            ``"transductive"``, those of all queries together, as the paper's code; ``"group"``, each example's own.
        head: ``"linear"`` starts from a weight vector per way, so the number of ways is fixed; ``"shared"`` starts all
            ways from one, so that it may differ.
        task_chunk: tasks that advance together; default: one on a CPU, and of 3-D convolutions; on a GPU as many as
            fit.
        adaptation_layers: what of the backbone adapts: ``"all"``; its last so many stages, which are the layers of a
            transformer, 0 for the head alone; or names of its parameters, such as ``["*layer.5*"]``. Default: the last
            layer of a pretrained transformer of texts or sounds, all of any other backbone. What a task does not adapt,
            training across tasks does all the same.
    """

    paper: ClassVar[str] = (
        "Finn et al. 2017, Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks, "
        "https://arxiv.org/abs/1703.03400"
    )

    numbers: ClassVar[bool] = True
    for_other_ways: ClassVar[str] = "add 'head': 'shared' to training_strategy_kwargs"

    def __init__(
        self,
        adaptation_steps: int = 5,
        test_adaptation_steps: int | None = None,
        adaptation_lr: float = 0.1,
        meta_gradient: Literal["auto", "adjoint", "unrolled", "first_order"] = "auto",
        normalization: Literal["support", "transductive", "group"] = "support",
        head: Literal["linear", "shared"] = "linear",
        task_chunk: int | None = None,
        adaptation_layers: int | Literal["all"] | Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        check_counts(adaptation_steps=adaptation_steps)
        check_counts(**given(test_adaptation_steps=test_adaptation_steps, task_chunk=task_chunk))
        check_above_zero(adaptation_lr=adaptation_lr)
        check_choice("meta_gradient", meta_gradient, "auto", "adjoint", "unrolled", "first_order")
        check_choice("normalization", normalization, "support", "transductive", "group")
        self.adaptation_steps, self.test_adaptation_steps = adaptation_steps, test_adaptation_steps
        self.adaptation_lr = adaptation_lr
        self.normalization = normalization
        self.task_chunk = task_chunk
        self.adaptation_layers = _checked(adaptation_layers)
        self._staying: frozenset[str] = frozenset()  # parameters of the backbone that do not adapt
        self._fitting: int | None = None  # tasks at once, after more of them did not fit
        automatic: Method = "unrolled" if adaptation_steps <= _UNROLLED_STEPS else "adjoint"
        self.method: Method = automatic if meta_gradient == "auto" else meta_gradient
        self.exact_gradient = self.exact_gradient and self.method != "first_order"
        self.head = LearnedHead(head, self.for_other_ways)
        self.fixed_ways = self.head.fixed_ways

    # ---- what others of its family do differently

    def build(self, encoder: Encoder, feature_shape: tuple[int, ...], ways: int) -> None:
        """Make the head, once the encoder is known to suit."""
        self.suit(encoder)
        self.head.build(feature_shape, ways)

    def suit(self, encoder: Encoder) -> None:
        """Check that the encoder can be adapted, and choose what of it is.

        Raises:
            ConfigError: it cannot, or it has no such layers.
        """
        audit(encoder.backbone)
        asked = self.adaptation_layers
        if asked is None:
            asked = getattr(encoder.backbone, "adaptation_layers", "all")
        own = dict(encoder.backbone.named_parameters())
        self._staying = frozenset(_BACKBONE + name for name in own.keys() - _adapting(encoder.backbone, asked))

    def meta(self, encoder: Encoder) -> Weights:
        """Return what adapting starts from: all of the backbone, frozen in training or not, and the head."""
        own: Weights = {_BACKBONE + name: value for name, value in encoder.backbone.named_parameters()}
        return own | {f"head.{name}": value for name, value in self.head.named_parameters()}

    def start(self, meta: Weights, embed: Embed, support: Batch, targets_S: Tensor, ways: int) -> Weights:
        """Return the weights that adapting starts from; ``"head.weight"`` and ``"head.bias"`` are those of W ways.

        Further ones may be made of the parameters, or be constants.

        Args:
            meta: the parameters.
            embed: returns ``[S, D]`` features of the support by given weights.
            support: ``[S, ...]``
            targets_S: ``[S]``
            ways: W.
        """
        self.head.check(ways)
        return {
            **meta,
            "head.weight": meta["head.weight"].expand(ways, -1),
            "head.bias": meta["head.bias"].expand(ways),
        }

    def rates(self, weights: Weights) -> Rates:
        """Return the learning rate of each weight that adapts; those that are learned are ``nn.Parameter``.

        Args:
            weights: the parameters, by name; what ``start`` makes beside them may have a rate too.
        """
        return dict.fromkeys((name for name in weights if name not in self._staying), self.adaptation_lr)

    def logits(self, embed: Embed, weights: Weights, inputs: Batch) -> Tensor:
        """Return ``[N, W]`` logits of inputs ``[N, ...]`` by given weights: the network's forward pass.

        Args:
            embed: returns the features of inputs by given weights, of which only the backbone's matter. It normalises
                as is due.
            weights: as ``start`` made them, or adapted.
            inputs: of the support or the query set, or both.
        """
        features_ND = embed(weights, inputs)
        with torch.autocast(features_ND.device.type, enabled=False):
            return F.linear(features_ND, weights["head.weight"], weights["head.bias"])

    def inner_loss(self, logits_SW: Tensor, targets_S: Tensor, weights: Weights) -> Tensor:
        """Return the loss of the support set, one number, whose gradient the steps follow.

        Args:
            logits_SW: by the weights.
            targets_S: ``[S]``
            weights: for a loss that depends on them directly.
        """
        return usual_loss(logits_SW, targets_S)

    # ---- training and evaluation

    def judge(self, encoder: Encoder, episode: Episode, ways: int, loss: Loss) -> tuple[Tensor, Tensor]:
        """Adapt to every task; in training the gradient is made chunk by chunk, so that not all graphs coexist."""
        training = [module for module in encoder.modules() if isinstance(module, BatchNorm) and module.training]
        with _settled(encoder, device_of(episode.support)):
            if self.training and torch.is_grad_enabled():
                judged = self._trained(encoder, episode, ways, loss)
                self._keep_statistics(encoder, training, episode.support)
                return judged

            def one_task(support: Batch, targets_S: Tensor, query: Batch, targets_Q: Tensor) -> Tensor:
                weights = self._adapted(encoder, _detached(self.meta(encoder)), support, targets_S, ways)
                return self._answers(encoder, weights, support, query)

            logits_TQW = torch.cat(list(self._by_chunk(one_task, encoder, episode)))
            losses = [loss(*task) for task in zip(logits_TQW, episode.query_targets, strict=True)]
            return torch.stack(losses).mean(), logits_TQW

    def _trained(self, encoder: Encoder, episode: Episode, ways: int, loss: Loss) -> tuple[Tensor, Tensor]:
        """Return the mean loss, whose ``backward`` hands out the gradients that are computed here, and the logits."""
        parameters = self.meta(encoder)
        rates = self.rates(parameters)
        meta, given_rates = _detached(parameters), _detached(rates)

        def one_task(support: Batch, targets_S: Tensor, query: Batch, targets_Q: Tensor) -> MetaGradient:
            return self.task_gradient(encoder, meta, given_rates, (support, targets_S, query, targets_Q), ways, loss)

        count = len(episode.support_targets)
        sums: dict[str, Tensor] = {}
        losses, logits = [], []
        for part in self._by_chunk(one_task, encoder, episode):
            losses.append(part.loss)
            logits.append(part.further)
            for kind, gradients in (("", part.meta), ("rate of ", part.rates)):
                for name, value in gradients.items():
                    mean = value.sum(0) / count
                    sums[kind + name] = sums[kind + name] + mean if kind + name in sums else mean
        moved = {**parameters, **{f"rate of {name}": rate for name, rate in rates.items()}}
        learned = {name: value for name, value in moved.items() if isinstance(value, Tensor) and value.requires_grad}
        values = [sums[name] for name in learned]
        total = known_gradient(torch.cat(losses).mean(), values, list(learned.values()))
        return total, torch.cat(logits)

    def task_gradient(
        self, encoder: Encoder, meta: Weights, rates: Rates, task: tuple[Batch, ...], ways: int, loss: Loss
    ) -> MetaGradient:
        """Return the gradient of one task's query loss after adapting.

        Args:
            encoder: whose backbone ``meta`` has the weights of.
            meta: the parameters, from ``meta``, without history.
            rates: from ``rates``, likewise.
            task: support ``[S, ...]``, targets ``[S]``, query ``[Q, ...]``, targets ``[Q]``.
            ways: W.
            loss: of the query.

        Returns:
            The gradients, the loss, and in ``further`` the logits ``[Q, W]``, without history.
        """
        adaptation = self.adaptation(encoder, meta, rates, task, ways, loss)
        return (meta_gradient_of_one if self._one_by_one(encoder, task[1].device) else meta_gradient)(adaptation)

    def adaptation(
        self, encoder: Encoder, meta: Weights, rates: Rates, task: tuple[Batch, ...], ways: int, loss: Loss
    ) -> Adaptation:
        """Return what ``task_gradient``, whose arguments these are, takes the gradient through."""
        support, targets_S, query, targets_Q = task
        frozen = {name for name, value in self.meta(encoder).items() if not value.requires_grad and name not in rates}
        constants = {name: meta[name] for name in frozen}

        def start(meta: Weights) -> Weights:
            weights = self._started(encoder, {**constants, **meta}, rates, support, targets_S, ways)
            return {name: value for name, value in weights.items() if value is not constants.get(name)}

        def judged(weights: Weights) -> tuple[Tensor, Tensor]:
            logits_QW = self._answers(encoder, {**constants, **weights}, support, query)
            return loss(logits_QW, targets_Q), logits_QW.detach()

        return Adaptation(
            start,
            lambda weights: self._support_loss(encoder, {**constants, **weights}, support, targets_S),
            judged,
            {name: value for name, value in meta.items() if name not in constants},
            rates,
            self.adaptation_steps,
            self.method,
        )

    def _by_chunk(self, one_task: Callable[..., Any], encoder: Encoder, episode: Episode) -> Iterator[Any]:
        """Yield ``one_task`` of some tasks at a time, side by side, with a leading axis of tasks."""
        # Inputs are prepared when their turn comes, since prepared ones are copies.
        encoder.find_rows(fold(episode.support))
        count = len(episode.support_targets)
        if self._one_by_one(encoder, device_of(episode.support)):
            for task in range(count):
                support, targets_S, query, targets_Q = (take(part, task) for part in episode)
                one = one_task(_prepared(encoder, support), targets_S, _prepared(encoder, query), targets_Q)
                yield tree_map(lambda value: value[None], one)
            return
        chunk, start = min(self.task_chunk or self._fitting or count, count), 0
        while start < count:
            try:
                support, targets_S, query, targets_Q = (take(part, slice(start, start + chunk)) for part in episode)
                support, query = (unfold(_prepared(encoder, fold(part)), size(part), -1) for part in (support, query))
                part = side_by_side(self, one_task, support, targets_S, query, targets_Q)
            except torch.cuda.OutOfMemoryError:
                if chunk == 1 or self.task_chunk is not None:
                    raise
                chunk = self._fitting = -(-chunk // 2)
                torch.cuda.empty_cache()
                warnings.warn(f"out of memory; going on with task_chunk={chunk}, which may be set", DataWarning, 2)
                continue
            yield part
            start += chunk

    def _keep_statistics(self, encoder: Encoder, norms: list[BatchNorm], support: Batch) -> None:
        """Move BatchNorm's running statistics, which are not used here, so that the encoder serves elsewhere."""
        chunk = (
            1 if self._one_by_one(encoder, device_of(support)) else self.task_chunk or self._fitting or size(support)
        )
        network = lambda inputs: over_windows(encoder.backbone, _prepared(encoder, inputs))  # noqa: E731
        move_statistics(norms, network, support, chunk, encoder.rows_of)

    def _one_by_one(self, encoder: Encoder, device: torch.device) -> bool:
        # A CPU gains nothing from more at once, and loses memory; so does a GPU by 3-D convolutions.
        alone = device.type == "cpu" or encoder.volumetric
        side_by_side = self.vmap and getattr(encoder.backbone, "vmap", True)
        return not side_by_side or self.task_chunk == 1 or (self.task_chunk is None and alone)

    def inner_curve(self, encoder: Encoder, episode: Episode, ways: int, steps: int | None = None) -> InnerCurve:
        """Follow the inner loop from step to step, as an evaluation adapts.

        Args:
            encoder: in evaluation mode.
            episode: T tasks.
            ways: W.
            steps: how many; default: those of an evaluation.
        """
        count = steps or self.test_adaptation_steps or self.adaptation_steps

        def one_task(support: Batch, targets_S: Tensor, query: Batch, targets_Q: Tensor) -> InnerCurve:
            meta = _detached(self.meta(encoder))
            rates = _detached(self.rates(meta))
            weights = self._started(encoder, meta, rates, support, targets_S, ways)
            losses, shares = [], []
            for step in range(count + 1):
                losses.append(self._support_loss(encoder, weights, support, targets_S))
                right_Q = self._answers(encoder, weights, support, query).argmax(1) == targets_Q
                shares.append(right_Q.float().mean())
                weights = self._descended(encoder, weights, rates, support, targets_S, int(step < count))
            return InnerCurve(torch.stack(losses), torch.stack(shares))

        with torch.no_grad(), _settled(encoder, device_of(episode.support)):
            return InnerCurve(*map(torch.cat, zip(*self._by_chunk(one_task, encoder, episode), strict=True)))

    # ---- use

    def adapt(self, encoder: Encoder, kept_S: Batch, targets_S: Tensor, ways: int) -> Any:
        """Return the adapted weights and, where queries are normalised by it, the statistics of the support set."""
        inputs = _prepared(encoder, kept_S)
        encoder.find_rows(inputs)
        statistics: Statistics = []
        meta = _detached(self.meta(encoder))
        with _settled(encoder, device_of(inputs)), of_several("show it two or more"):
            weights = self._adapted(encoder, meta, inputs, targets_S, ways)
            if self.normalization == "support":
                self._logits(encoder, weights, inputs, by_support(size(inputs), statistics, encoder.rows_of(inputs)))
        # What does not adapt is the encoder's.
        return {name: value for name, value in weights.items() if value is not meta.get(name)}, statistics

    def predict(self, encoder: Encoder, state: Any, queries: Iterable[Batch]) -> Tensor:
        """Answer by the adapted weights; all queries at once where they are normalised together."""
        weights, statistics = state
        weights = {**_detached(self.meta(encoder)), **weights}
        parts = [join(queries)] if self.sees_queries(encoder) else queries
        logits = []
        for part in parts:
            inputs = _prepared(encoder, part)
            if self.normalization == "group":
                encoder.find_rows(inputs)
            with _settled(encoder, device_of(inputs)):
                norm = by_statistics(statistics) if self.normalization == "support" else self._norm(encoder, inputs)
                logits.append(self._logits(encoder, weights, inputs, norm))
        return torch.cat(logits)

    def sees_queries(self, encoder: Encoder) -> bool:
        """Whether BatchNorm normalises queries by each other."""
        return self.normalization == "transductive" and _normalizes(encoder)

    # ---- the network by given weights

    def _adapted(self, encoder: Encoder, meta: Weights, support: Batch, targets_S: Tensor, ways: int) -> Weights:
        rates = _detached(self.rates(meta))
        steps = (None if self.training else self.test_adaptation_steps) or self.adaptation_steps
        start = self._started(encoder, meta, rates, support, targets_S, ways)
        return self._descended(encoder, start, rates, support, targets_S, steps)

    def _descended(
        self, encoder: Encoder, weights: Weights, rates: Rates, support: Batch, targets_S: Tensor, steps: int
    ) -> Weights:
        return descend(lambda now: self._support_loss(encoder, now, support, targets_S), weights, rates, steps)

    def _started(
        self, encoder: Encoder, meta: Weights, rates: Rates, support: Batch, targets_S: Tensor, ways: int
    ) -> Weights:
        def embed(weights: Weights, inputs: Batch) -> Tensor:
            return _features(encoder, weights, inputs, self._norm(encoder, inputs))

        weights, mine = self.start(meta, embed, support, targets_S, ways), type(self).__name__
        for name, value in weights.items():
            if not isinstance(value, Tensor) or not value.is_floating_point():
                raise ConfigError(
                    f"{mine}.start returns '{name}' = {brief(value)}: each weight must be a tensor of floating-point "
                    "numbers; a constant may be weights['head.weight'].new_zeros(size)"
                )
        lost = [name for name in rates if name not in weights]
        if lost:
            raise ConfigError(
                f"{mine}.rates has a rate for '{lost[0]}', and {mine}.start returns no such weight"
                f"{closest(lost[0], weights)}"
            )
        return weights

    def _support_loss(self, encoder: Encoder, weights: Weights, support: Batch, targets_S: Tensor) -> Tensor:
        return self.inner_loss(
            self._logits(encoder, weights, support, self._norm(encoder, support)), targets_S, weights
        )

    def _answers(self, encoder: Encoder, weights: Weights, support: Batch, query: Batch) -> Tensor:
        """Return the logits ``[Q, W]`` of the queries."""
        if self.normalization == "support" and _normalizes(encoder):
            both, rows = join([support, query]), size(support)
            return self._logits(encoder, weights, both, by_support(rows, examples=encoder.rows_of(both)))[rows:]
        return self._logits(encoder, weights, query, self._norm(encoder, query))

    def _norm(self, encoder: Encoder, inputs: Batch) -> BatchNormAs:
        return by_example(encoder.rows_of(inputs)) if self.normalization == "group" else by_batch()

    def _logits(self, encoder: Encoder, weights: Weights, inputs: Batch, norm: BatchNormAs) -> Tensor:
        return self.logits(lambda weights, inputs: _features(encoder, weights, inputs, norm), weights, inputs)


def _checked(layers: Any) -> Any:
    """Return what is to adapt, as it was asked for.

    Raises:
        ConfigError: it is none of what may be asked for.
    """
    count = isinstance(layers, int) and not isinstance(layers, bool) and layers >= 0
    several = isinstance(layers, (list, tuple)) and layers and all(isinstance(name, str) for name in layers)
    if layers is None or layers == "all" or count or several:
        return layers
    raise ConfigError(
        f"adaptation_layers={brief(layers)} must be 'all', how many of the last stages adapt, such as 1, or a list of "
        "names of parameters, such as ['*layer.5*']"
    )


def _adapting(backbone: nn.Module, layers: int | str | Sequence[str]) -> set[str]:
    """Return the names of the backbone's parameters that adapt."""
    names = [name for name, _ in backbone.named_parameters()]
    if isinstance(layers, int):
        stages = stages_of(backbone)
        if layers > len(stages):
            raise ConfigError(
                f"adaptation_layers={layers}: the backbone has {len(stages)} stages; type 'all' for all of them"
            )
        last = {id(p) for stage in stages[len(stages) - layers :] for layer in stage for p in layer.parameters(False)}
        return {name for name, parameter in backbone.named_parameters() if id(parameter) in last}
    patterns = ["*"] if layers == "all" else layers
    for pattern in patterns:
        if names and not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            raise ConfigError(
                f"adaptation_layers: no parameter of the backbone is called '{one_line(pattern)}'"
                f"{closest(pattern, names)} They are called like '{names[0]}' and '{names[-1]}'"
            )
    return {name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)}


def _prepared(encoder: Encoder, inputs: Batch) -> Batch:
    # Second derivatives of a convolution are slow with channels last: at 84 pixels by half.
    return each(Tensor.contiguous, encoder.prepared(inputs))


def _detached(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return weights without their history and with channels first, like the images, and numbers as they are."""
    return {k: value.detach().contiguous() if isinstance(value, Tensor) else value for k, value in values.items()}


def _features(encoder: Encoder, weights: Weights, inputs: Batch, norm: BatchNormAs) -> Tensor:
    own = {name.removeprefix(_BACKBONE): value for name, value in weights.items() if name.startswith(_BACKBONE)}
    with norm:
        return exact(over_windows(partial(_called, encoder.backbone, own), inputs).flatten(1))


def _called(backbone: nn.Module, weights: Weights, inputs: Batch) -> Any:
    return functional_call(backbone, weights, (inputs,))


def _normalizes(encoder: Encoder) -> bool:
    return any(isinstance(module, BatchNorm) for module in encoder.modules())


@contextmanager
def _settled(encoder: Encoder, device: torch.device) -> Iterator[None]:
    """Dropout off, attention by the kernel that has second derivatives, no casts kept between derivatives."""
    training = [module for module in encoder.modules() if module.training]
    encoder.eval()
    cast = torch.is_autocast_enabled(device.type)
    try:
        with (
            sdpa_kernel(SDPBackend.MATH),
            torch.autocast(device.type, torch.get_autocast_dtype(device.type), enabled=cast, cache_enabled=False),
        ):
            yield
    finally:
        for module in training:
            module.training = True
