"""An answer is a number.

Shapes: B examples, N answers, T tasks, Q queries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from quickstudy.algorithms import STRATEGIES, Algorithm
from quickstudy.batches import Batch
from quickstudy.data.episodes import EpisodePlan, GroupPlan
from quickstudy.data.targets import Encoded, encode_numbers
from quickstudy.episode import Episode, as_episode
from quickstudy.errors import ConfigError, DataError
from quickstudy.kinds.base import KINDS, Judged, Kind, Score, linear_head, linear_of, of_each_member
from quickstudy.kinds.losses import Loss, named_loss
from quickstudy.kinds.predictions import Estimated
from quickstudy.nets import Encoder
from quickstudy.nets.members import answers_of, for_loss

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

    from quickstudy.kinds.metrics import Figures

_FEW_DIGITS = 1e3  # times the deviation: of the 7 digits of a number in float32 four are left to tell it from the mean
_LOSSES = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")


@KINDS.register("regression")
@dataclass(frozen=True)
class Regression(Kind):
    """A number, which the network gives in units of the training targets' deviation from their mean.

    Args:
        mean, deviation: of the training targets, which answers are given by; None: 0 and 1.
    """

    score: ClassVar[Score] = Score("rmse", "min", root=True)
    forms: ClassVar[tuple[str, ...]] = ("numbers",)
    row: ClassVar[type[Any]] = Estimated
    learned: ClassVar[tuple[str, ...]] = ("mean", "deviation")
    episodic: ClassVar[bool] = True
    plan: ClassVar[type[EpisodePlan]] = GroupPlan
    shown_by: ClassVar[str] = "r2d2"
    learned_by: ClassVar[str] = "quickstudy.predictor:NumberPredictor"
    by_class: ClassVar[bool] = False
    measured: ClassVar[bool] = True

    mean: float | None = None
    deviation: float | None = None

    def learner(self, encoder: Encoder, algorithm: Algorithm, load: Callable[[Any], Any]) -> Any:
        """Return a ``NumberPredictor``, which learns in these units; see ``Kind.learner``."""
        return resolve_name(self.learned_by)(encoder, algorithm, load, self)

    @classmethod
    def encode(cls, targets: Any, names: Sequence[str] | None = None) -> Encoded:
        """Take targets as the numbers that they are; see ``Kind.encode``."""
        return encode_numbers(targets, names)

    def meet(self, data: Any, stage: str) -> Self:
        """Take mean and deviation of the training targets, unless it has them; see ``Kind.meet``."""
        if data is None:
            return self
        return self._met(data, stage)

    def meet_episodes(self, data: Any, stage: str) -> Self:
        """Take mean and deviation of all training groups together, unless it has them; see ``Kind.meet_episodes``."""
        return self if data is None else self._met(data, stage, by_class=True)

    def _met(self, data: Any, stage: str, by_class: bool = False) -> Self:
        tables = {name: data.table(name, by_class=by_class) for name in ("train", "val", "test")}
        table = tables["train"]
        given = next((one for one in tables.values() if one is not None), None)
        if given is not None and given.targets is not None and not given.numeric:
            raise ConfigError(
                f"the targets are classes, and {type(self).__name__} answers numbers: give the data numbers, for "
                "instance by ImageRegressionData"
            )
        if stage != "fit" or self.mean is not None or table is None or table.targets is None:
            return self
        mean, deviation = float(table.targets.mean()), float(table.targets.std())
        constant = table.targets.min() == table.targets.max()  # whose deviation is that of its sum's rounding
        return replace(self, mean=mean, deviation=1.0 if constant else deviation)

    def check_episodic(self, strategy: str, head: str | nn.Module) -> None:
        """Check that the strategy learns numbers; see ``Kind.check_episodic``."""
        if head != "linear":
            raise ConfigError(f"head belongs to training_strategy='default', not to '{strategy}': leave it out")
        if not STRATEGIES[strategy].numbers:
            known = [name for name in STRATEGIES.registered() if STRATEGIES[name].numbers]
            raise ConfigError(f"training_strategy='{strategy}' learns classes; of numbers there are {', '.join(known)}")

    def episode(self, batch: Any, ways: int) -> Episode:
        """Return an episode of numbers, as the network gives them; see ``Kind.episode``."""
        episode = as_episode(batch)
        if not episode.support_targets.is_floating_point():
            raise DataError("an episode's targets are classes, and numbers are asked: give the data numbers, in groups")
        support, query = (
            self.scaled(targets).to(torch.get_default_dtype())
            for targets in (episode.support_targets, episode.query_targets)
        )
        return episode._replace(support_targets=support, query_targets=query)

    # ---- the network

    def head(self, encoder: Encoder, example: Batch) -> nn.Module:
        """Make a linear head from the features ``[B, D]`` to ``[B, 1]``."""
        return linear_head(encoder, example, 1)

    def head_of(self, weights: Mapping[str, Tensor], encoder: Encoder, like: Batch | None) -> nn.Module:
        """Make the linear head of these weights, whatever the encoder's; see ``Kind.head_of``."""
        return linear_of(weights, 1)

    def outputs(self, encoder: Encoder, head: nn.Module, inputs: Batch) -> Tensor:
        """Return answers ``[B, 1]``; of a network of members their mean."""
        return _mean(head(encoder(inputs)))

    # ---- how well it does

    def loss(self, asked: str | Loss | None, otherwise: Loss | None = None) -> Loss:
        """Return the loss of numbers in units of the deviation; the mean squared error is the default."""
        return otherwise if asked is None and otherwise is not None else partial(_flat, named_loss(asked, _LOSSES))

    def judge(self, encoder: Encoder, head: nn.Module, inputs: Batch, targets: Tensor, loss: Loss) -> Judged:
        """Answer a batch, and judge the answers; see ``Kind.judge``. Targets are ``[B]``, as the data has them.

        The loss is the mean over members, where there are any.
        """
        each: Tensor = of_each_member(self, encoder, head, inputs)
        outputs = _mean(each)
        if targets.shape != outputs.shape[:1] or outputs.shape[1:] not in ((), (1,)):
            raise DataError(
                f"answers of shape {tuple(outputs.shape)} and targets of shape {tuple(targets.shape)}: a number per "
                "example is asked, so a head from [B, D] to [B, 1]"
            )
        lost = loss(*for_loss(each, self.scaled(targets).to(outputs)))
        return Judged(lost, len(outputs), outputs, targets, self.figures(outputs, targets))

    def scaled(self, targets: Tensor) -> Tensor:
        """Return numbers as the network gives them, in float64 where the device has it."""
        return (_wide(targets) - (self.mean or 0.0)) / (self.deviation or 1.0)

    @property
    def unit(self) -> float | None:
        """The deviation of the training targets."""
        return self.deviation

    def numbers(self, outputs: Tensor) -> Tensor:
        """Return what the network gives, ``[..., 1]``, in the targets' units, ``[...]``; likewise."""
        outputs = outputs.squeeze(-1) if outputs.shape[-1:] == (1,) else outputs
        return _wide(outputs) * (self.deviation or 1.0) + (self.mean or 0.0)

    def figures(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return ``[..., 4]`` of each answer; see ``kinds.metrics.Errors``."""
        off, centred = self.numbers(outputs).detach() - targets, _wide(targets) - (self.mean or 0.0)
        return torch.stack([off.square(), off.abs(), centred, centred.square()], -1)

    def noted(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return the squared errors; see ``Kind.noted``."""
        return (self.numbers(outputs) - targets).square(), None, None

    def measure(self, per_example: bool, choices: int = 0) -> Figures:
        """Return ``rmse``, ``mae`` and ``r2``; see ``Kind.measure``."""
        from quickstudy.kinds.metrics import Errors  # torchmetrics takes long to import, and answering needs none

        return Errors(per_example)

    def further(self, asked: Any, choices: int = 0) -> MetricCollection:
        """Make torchmetrics' metrics of regression, by name or as they are given; see ``Kind.further``."""
        from quickstudy.kinds.metrics import build_number_metrics

        return build_number_metrics(asked)

    def for_metrics(self, outputs: Tensor, targets: Tensor, choices: int = 0) -> tuple[Tensor, Tensor]:
        """Return numbers and targets, ``[N]`` each."""
        return self.numbers(outputs).detach().flatten(), _wide(targets).flatten()

    # ---- answers

    def exported(self, outputs: Tensor) -> Tensor:
        """Return the numbers ``[N, 1]``, in the targets' units: in float32, unless that has too few digits for them."""
        numbers = self.numbers(outputs).reshape(-1, 1)
        return numbers if abs(self.mean or 0.0) > _FEW_DIGITS * (self.deviation or 1.0) else numbers.float()

    def answers(self, outputs: Tensor, form: str) -> Any:
        """Return the numbers ``[N]``, in the targets' units.

        Raises:
            DataError: an answer is not finite.
        """
        numbers = self.numbers(outputs).reshape(-1)
        wrong = (~numbers.isfinite()).nonzero().flatten().tolist()
        if wrong:
            raise DataError(
                f"the model's answer to input {wrong[0]} is not a finite number: does it hold NaN or infinite values, "
                "or was the model trained until it diverged?"
            )
        return numbers.tolist()

    def written(self, answer: float, file: str, true: Any = None, top: int = 1, unknown: bool = True) -> list[Any]:
        """Return the name of an input, its number, and the true one where that is known; see ``Kind.written``."""
        return [Estimated(file, answer, true if isinstance(true, (int, float)) else None)]

    def in_json(self, answer: float) -> dict[str, Any]:
        """Return the number; see ``Kind.in_json``."""
        return {"number": answer}


def _wide(numbers: Tensor) -> Tensor:
    return numbers.float() if numbers.device.type == "mps" else numbers.double()  # MPS has no float64


def _mean(outputs: Tensor) -> Tensor:
    return outputs.mean(1) if answers_of(outputs) else outputs


def _flat(loss: Loss, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return a loss of answers ``[N, 1]`` or ``[N]``."""
    return loss(outputs.reshape(targets.shape), targets)
