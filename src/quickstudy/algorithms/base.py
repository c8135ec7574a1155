"""The contracts of a few-shot algorithm, written for one task; batching and precision happen here, outside it.

Shapes: T tasks, S support, Q query, W ways, D features, ``...`` the shape of one input.
"""

from __future__ import annotations

import linecache
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.algorithms.held import Held
from quickstudy.batches import Batch, device_of, fold, join, take
from quickstudy.episode import Episode
from quickstudy.errors import ConfigError, QuickstudyError, first_line
from quickstudy.functional.known_gradient import Backwards
from quickstudy.nets import Encoder, by_episode, pass_by_pass
from quickstudy.registry import OWN, Registry
from quickstudy.signatures import options_of, signature_of
from quickstudy.torch_internals import BatchNorm, tree_leaves

_OF_CPU, _OF_DEVICE = 1 << 23, 1 << 28  # bytes of embeddings that pass together: what a cache holds

Loss = Callable[[Tensor, Tensor], Tensor]
"""A function of (outputs, targets), as of logits ``[N, W]`` and targets ``[N]``, that returns one number."""


class Algorithm(nn.Module, ABC):
    """Learns classes from a support set, with an encoder that it is handed.

    Its keyword arguments become ``training_strategy_kwargs``; what it learns across tasks is an ``nn.Parameter``.
    Write an ``EmbeddingAlgorithm`` where the encoder stays as it is while a task is learned.
    """

    paper: ClassVar[str]
    """Authors, year, title and link."""
    transductive: bool = False
    """Whether a query's logits depend on the other queries."""
    exact_gradient: bool = True
    """Whether training follows the gradient of its loss; some follow another direction on purpose."""
    numbers: ClassVar[bool] = False
    """Whether it learns numbers too: targets ``[S]`` that are floats, of one way, whose answers are ``[Q, 1]``."""
    adapts_encoder: ClassVar[bool] = True
    """Whether learning a task changes weights of the encoder's own."""
    fixed_ways: bool = False
    """Whether test episodes must have as many ways as training ones."""
    for_other_ways: ClassVar[str] = ""
    """Of one with ``fixed_ways``, in words: what to choose instead where their number is to differ."""
    vmap: bool = True
    """Whether one task's learning passes through ``torch.func.vmap``; otherwise tasks go one after another."""
    feature_shape: tuple[int, ...] = ()
    """What it was built for; empty before."""
    ways: int = 0
    """Of a training episode, when it was built."""
    former: ClassVar[Mapping[str, Any]] = {}
    """Defaults of options that earlier versions left out of files and that are others now; ``options`` has them."""
    task_chunk: int | None = None
    """Tasks that advance together, since each of them takes memory; None: one on a CPU, and on a GPU as many as fit."""
    options: dict[str, Any]
    """The arguments that it was made with."""

    def __new__(cls, *arguments: Any, **options: Any) -> Self:
        """Note the arguments, so that the same can be made again elsewhere."""
        made = super().__new__(cls)
        given = dict(zip(options_of(cls, Algorithm), arguments, strict=False)) | options
        now = signature_of(cls, Algorithm).parameters
        made.__dict__["options"] = {name: now[name].default for name in cls.former} | given
        return made

    def meet(self, encoder: Encoder, feature_shape: tuple[int, ...], ways: int) -> None:
        """Build, unless that was done."""
        if not self.feature_shape:
            self.feature_shape, self.ways = feature_shape, ways
            self.build(encoder, feature_shape, ways)
            self.to(encoder.device)

    def build(self, encoder: Encoder, feature_shape: tuple[int, ...], ways: int) -> None:
        """Make the parameters whose size depends on the encoder; called once, before anything else.

        Args:
            encoder: what embeds.
            feature_shape: of what its backbone makes of one input: ``(D,)``, or ``(channels, height, width)``.
            ways: of a training episode.
        """

    def loss(self, logits_NW: Tensor, targets_N: Tensor) -> Tensor:
        """Return the loss, where the user asks for no other: that of ``usual_loss``."""
        return usual_loss(logits_NW, targets_N)

    @abstractmethod
    def judge(self, encoder: Encoder, episode: Episode, ways: int, loss: Loss) -> tuple[Tensor, Tensor]:
        """Learn T tasks from their support and answer their queries.

        In training mode the loss's ``backward`` gives every parameter its gradient, the mean over the tasks.

        Returns:
            The loss, one number, and ``[T, Q, W]`` logits.
        """

    def keep(self, encoder: Encoder, support: Iterable[Batch]) -> Batch:
        """Return what learning needs of a support set: ``[S, ...]``, here the inputs themselves.

        Args:
            encoder: in evaluation mode.
            support: parts ``[n, ...]`` of the support set, S examples in all.
        """
        return join(support)

    @abstractmethod
    def adapt(self, encoder: Encoder, kept_S: Batch, targets_S: Tensor, ways: int) -> Any:
        """Learn one task in evaluation mode and return what was learned: tensors, in tuples, lists and dicts.

        Args:
            encoder: in evaluation mode.
            kept_S: what ``keep`` returned.
            targets_S: ``[S]`` classes from 0 to ``ways - 1``; classes may have different numbers of examples.
            ways: W.
        """

    @abstractmethod
    def predict(self, encoder: Encoder, state: Any, queries: Iterable[Batch]) -> Tensor:
        """Return ``[Q, W]`` logits of queries, given in parts ``[n, ...]``."""

    def answer(self, encoder: Encoder, state: Any, kept_Q: Tensor) -> Tensor:
        """Return ``[Q, W]`` logits of queries of which ``keep`` was asked."""
        return self.predict(encoder, state, [kept_Q])

    def sees_queries(self, encoder: Encoder) -> bool:
        """Whether an evaluation is transductive: by the algorithm, or by BatchNorm without running statistics."""
        norms = (module for module in encoder.modules() if isinstance(module, BatchNorm))
        return self.transductive or any(norm.running_mean is None for norm in norms)


class EmbeddingAlgorithm(Algorithm):
    """A classifier of embeddings that is made from a support set.

    ``fit`` and ``logits`` see one task, must be free of state, and must pass through ``torch.func.vmap``: no boolean
    masks, no ``.item()``, no ``if`` on a value, no ``unique``, no shapes that depend on values. One that cannot says
    ``vmap = False``.
    """

    adapts_encoder: ClassVar[bool] = False

    @abstractmethod
    def fit(self, support_SD: Tensor, targets_S: Tensor, ways: int) -> Any:
        """Return the classifier's state, a tensor or a tuple of tensors.

        Args:
            support_SD: ``[S, D]`` embeddings, in float32 or better.
            targets_S: ``[S]`` classes from 0 to ``ways - 1``; classes may have different numbers of examples.
            ways: W.
        """

    @abstractmethod
    def logits(self, state: Any, query_QD: Tensor) -> Tensor:
        """Return ``[Q, W]`` logits of queries ``[Q, D]``."""

    def settled(self, support_SD: Tensor, targets_S: Tensor, ways: int) -> EmbeddingAlgorithm:
        """Return one whose choices are those that ``fit`` makes of this support set; here itself, which makes none.

        Args:
            support_SD, targets_S, ways: as of ``fit``.
        """
        return self

    def hold(self, state: Any, support: Sequence[Tensor]) -> Held | None:
        """Return a state in a form that follows a change of one class; here None: it is learned anew.

        Args:
            state: what ``fit`` returned.
            support: by class, the embeddings ``[n, D]`` that it was made from.
        """
        return None

    def judge(self, encoder: Encoder, episode: Episode, ways: int, loss: Loss) -> tuple[Tensor, Tensor]:
        """Embed and classify ``task_chunk`` tasks at a time; BatchNorm in training mode sees one episode at a time.

        In training, each chunk's gradient is made at once, so that not all graphs coexist.
        """
        tasks, keeps_graph = len(episode.support_targets), torch.is_grad_enabled()
        together = self.task_chunk or (1 if device_of(episode.support).type == "cpu" else tasks)
        inputs = tree_leaves([episode.support, episode.query])
        if keeps_graph and (not self.training or any(leaf.requires_grad for leaf in inputs)):
            together = tasks  # whoever asks for more than the gradients of training has the whole graph
        parts = (Episode(*(take(part, some) for part in episode)) for some in pass_by_pass(encoder, tasks, together))
        if together >= tasks or not keeps_graph:
            embedded = torch.cat([self._embedded(encoder, part) for part in parts])
            losses_T, logits_TQW = self._judged(embedded, episode, ways, loss)
            return losses_T.mean(), logits_TQW
        backwards, logits = Backwards(), []
        for part in parts:
            losses_T, logits_TQW = self._judged(self._embedded(encoder, part), part, ways, loss)
            logits.append(logits_TQW.detach())
            with torch.autocast(logits_TQW.device.type, enabled=False):
                backwards.add(losses_T.sum() / tasks)
        return backwards.total, torch.cat(logits)

    def _embedded(self, encoder: Encoder, episode: Episode) -> Tensor:
        """Return the embeddings ``[T, S + Q, D]`` of tasks that pass together."""
        passing = fold(join([episode.support, episode.query], 1))
        tasks = len(episode.support_targets)
        if tasks > 1:
            encoder.find_rows(passing)
        with by_episode(tasks, encoder.rows_of(passing)):
            embedded: Tensor = encoder(passing)
        return embedded.view(tasks, -1, embedded.shape[-1])

    def _judged(self, embedded: Tensor, episode: Episode, ways: int, loss: Loss) -> tuple[Tensor, Tensor]:
        """Return the losses ``[T]`` and the logits of embedded tasks."""
        support = episode.support_targets.shape[1]
        with torch.autocast(embedded.device.type, enabled=False):
            logits_TQW = self.classify(
                exact(embedded[:, :support]), episode.support_targets, exact(embedded[:, support:]), ways
            )
            losses = [loss(*task) for task in zip(logits_TQW, episode.query_targets, strict=True)]
            return torch.stack(losses), logits_TQW

    def classify(self, support_TSD: Tensor, targets_TS: Tensor, query_TQD: Tensor, ways: int) -> Tensor:
        """Return ``[T, Q, W]`` logits of embedded tasks, all side by side."""

        def one_task(support_SD: Tensor, targets_S: Tensor, query_QD: Tensor) -> Tensor:
            return self.logits(self.fit(support_SD, targets_S, ways), query_QD)

        if not self.vmap:
            return torch.stack([one_task(*task) for task in zip(support_TSD, targets_TS, query_TQD, strict=True)])
        logits_TQW: Tensor = side_by_side(self, one_task, support_TSD, targets_TS, query_TQD)
        return logits_TQW

    @torch.inference_mode()
    def answers(self, values_ND: Tensor, rows_TWK: Tensor, shots: int) -> Tensor:
        """Return the class that each query of many episodes is given: ``[T, W * (K - shots)]``, from 0 to ``W - 1``.

        As many episodes pass side by side as a cache holds, so that ten thousand take no more memory than ten.

        Args:
            values_ND: ``[N, D]`` embeddings, of which the episodes consist.
            rows_TWK: ``[T, W, K]`` rows of them; of each class the first ``shots`` are the support, the others queries.
            shots: of each class.
        """
        _, ways, each = rows_TWK.shape
        targets_S = torch.arange(ways, device=values_ND.device).repeat_interleave(shots)
        episode_bytes = ways * each * values_ND.shape[1] * values_ND.element_size()
        together = (_OF_CPU if values_ND.device.type == "cpu" else _OF_DEVICE) // episode_bytes
        found = []
        for rows in torch.split(rows_TWK.to(values_ND.device), max(1, together)):
            support_TSD, query_TQD = (
                values_ND.index_select(0, part.flatten()).view(len(rows), -1, values_ND.shape[1])
                for part in (rows[..., :shots], rows[..., shots:])
            )
            found.append(self.classify(support_TSD, targets_S.expand(len(rows), -1), query_TQD, ways).argmax(-1))
        return torch.cat(found)

    def keep(self, encoder: Encoder, support: Iterable[Tensor]) -> Tensor:
        """Return the embeddings, ``[S, D]``."""
        return exact(torch.cat([encoder(part) for part in support]))

    def adapt(self, encoder: Encoder, kept_S: Tensor, targets_S: Tensor, ways: int) -> Any:
        """Fit the classifier to embeddings."""
        with torch.autocast(kept_S.device.type, enabled=False):
            return self.fit(kept_S, targets_S, ways)

    def predict(self, encoder: Encoder, state: Any, queries: Iterable[Tensor]) -> Tensor:
        """Embed the queries and classify them."""
        return self.answer(encoder, state, self.keep(encoder, queries))

    def answer(self, encoder: Encoder, state: Any, kept_Q: Tensor) -> Tensor:
        """Classify embeddings."""
        with torch.autocast(kept_Q.device.type, enabled=False):
            return self.logits(state, kept_Q)


class NamingAlgorithm(EmbeddingAlgorithm):
    """A classifier of embeddings that is told the names of the classes, apart from examples, where there are any."""

    @abstractmethod
    def fit_named(self, support_SD: Tensor, targets_S: Tensor, names_WD: Tensor) -> Any:
        """Return the classifier's state, as ``fit`` does.

        Args:
            support_SD, targets_S: as of ``fit``; of a class there may be none.
            names_WD: ``[W, D]``, the embeddings of the classes' names; zeros of one without.
        """

    def fit(self, support_SD: Tensor, targets_S: Tensor, ways: int) -> Any:
        """Return the state where no class has a name."""
        return self.fit_named(support_SD, targets_S, support_SD.new_zeros(ways, support_SD.shape[-1]))

    def classify_named(self, support_TSD: Tensor, targets_TS: Tensor, query_TQD: Tensor, names_TWD: Tensor) -> Tensor:
        """Return ``[T, Q, W]`` logits of embedded tasks whose classes have names, all side by side."""

        def one_task(support_SD: Tensor, targets_S: Tensor, query_QD: Tensor, names_WD: Tensor) -> Tensor:
            return self.logits(self.fit_named(support_SD, targets_S, names_WD), query_QD)

        logits_TQW: Tensor = side_by_side(self, one_task, support_TSD, targets_TS, query_TQD, names_TWD)
        return logits_TQW


class Told(EmbeddingAlgorithm):
    """An algorithm that learns the same names beside every support set: apart from it, or as further examples.

    Args:
        algorithm: the one.
        names_nD: ``[n, D]``, embeddings of names.
        classes_n: ``[n]``, of which classes they are.
    """

    def __init__(self, algorithm: EmbeddingAlgorithm, names_nD: Tensor, classes_n: Tensor) -> None:
        super().__init__()
        self.algorithm, self.vmap = algorithm, algorithm.vmap
        self._names_nD, self._classes_n = names_nD, classes_n

    def fit(self, support_SD: Tensor, targets_S: Tensor, ways: int) -> Any:
        """Return the state of the algorithm."""
        if isinstance(self.algorithm, NamingAlgorithm):
            own_Wn = (torch.arange(ways, device=self._classes_n.device)[:, None] == self._classes_n).to(
                support_SD.dtype
            )
            return self.algorithm.fit_named(support_SD, targets_S, own_Wn @ self._names_nD)
        support_SD = torch.cat([support_SD, self._names_nD])
        return self.algorithm.fit(support_SD, torch.cat([targets_S, self._classes_n]), ways)

    def logits(self, state: Any, query_QD: Tensor) -> Tensor:
        """Return ``[Q, W]`` logits of the algorithm."""
        return self.algorithm.logits(state, query_QD)

    def settled(self, support_SD: Tensor, targets_S: Tensor, ways: int) -> Told:
        """Return it with an algorithm whose choices are made."""
        if isinstance(self.algorithm, NamingAlgorithm):
            return self
        return Told(self.algorithm.settled(support_SD, targets_S, ways), self._names_nD, self._classes_n)


STRATEGIES: Registry[type[Algorithm]] = Registry(
    "training_strategy",
    "quickstudy.algorithms",
    OWN,
)
"""By name; packages offer further ones by entry points of the group ``quickstudy.algorithms``."""


def available_strategies() -> list[str]:
    """Return the names that ``training_strategy=`` takes."""
    return sorted([*STRATEGIES.names(), "default"])


def algorithm_of(name: str, place: object) -> type[Algorithm]:
    """Return the algorithm that a file was made with.

    Args:
        name: that it was registered by.
        place: the file.

    Raises:
        ConfigError: there is none of that name here.
    """
    if name not in STRATEGIES:
        raise ConfigError(
            f"'{place}' was made with the algorithm '{name}', which is not quickstudy's but somebody's own: import the "
            "module that registers it first, on the command line with --import my_file.py, or install its package"
        )
    return STRATEGIES[name]


def side_by_side(algorithm: Algorithm, one_task: Callable[..., Any], *parts: Tensor) -> Any:
    """Return what ``one_task`` makes of each of T tasks, by ``torch.func.vmap``.

    Args:
        algorithm: whose methods it calls.
        one_task: a function of the parts of one task.
        parts: ``[T, ...]`` each.

    Raises:
        ConfigError: it does what is possible for one task alone; the message names the method, the line, and the way
            out.
    """
    try:
        return torch.func.vmap(one_task)(*parts)
    except (QuickstudyError, torch.cuda.OutOfMemoryError):
        raise
    except (RuntimeError, TypeError, ValueError) as error:
        one_task(*(part[0] for part in parts))  # what fails alone too says so in its own words
        frames = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__) if "self" in frame.f_locals]
        own = [(frame, line) for frame, line in frames if frame.f_locals["self"] is algorithm]
        (frame, line), name = own[-1], type(algorithm).__name__
        code = linecache.getline(frame.f_code.co_filename, line).strip()
        raise ConfigError(
            f"{name}.{frame.f_code.co_name} cannot run on several tasks at once, in line {line} of "
            f"{Path(frame.f_code.co_filename).name}, '{code}': {first_line(error)}. Under torch.func.vmap there are no "
            "boolean masks, no .item() nor 'if' on a tensor's value, no unique or nonzero, no writing into new tensors "
            "and nothing random: use products with one-hot targets (quickstudy.functional.prototypes.members), or set "
            f"vmap = False in {name}, which learns one task after another"
        ) from error


def usual_loss(outputs_NW: Tensor, targets_N: Tensor) -> Tensor:
    """Return the cross-entropy of logits and codes; of numbers, ``[N, 1]`` and floats, the mean squared error."""
    if targets_N.is_floating_point():
        return F.mse_loss(outputs_NW.squeeze(-1), targets_N.to(outputs_NW))
    return F.cross_entropy(outputs_NW, targets_N)


def exact(values: Tensor) -> Tensor:
    """Return values in float32 or better: solvers and losses work in no less."""
    return values if values.dtype == torch.float64 else values.float()
