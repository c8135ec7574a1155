"""Accuracies with their intervals, and further metrics by name."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torchmetrics
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.utilities import dim_zero_cat

from quickstudy.errors import ConfigError, unknown
from quickstudy.functional.intervals import mean_interval, proportion_interval


class Estimate(NamedTuple):
    """A mean with the half-width of its 95% interval, over ``units`` independent figures."""

    mean: float
    ci95: float
    units: int


class Accuracy(Metric):
    """The mean of independent figures: one per episode, or one per example (right or wrong).

    Right-or-wrong figures get a Wilson interval, others standard errors times Student's t (see ``mean_interval``).
    """

    full_state_update = False
    values: list[Tensor]
    answers: Tensor

    def __init__(self, per_example: bool = False) -> None:
        super().__init__()
        self._per_example = per_example
        self.add_state("values", default=[], dist_reduce_fx="cat")
        self.add_state("answers", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, values: Tensor, answers: int | None = None) -> None:
        """Add figures ``[n]``, from 0 to 1: the shares of right ones among so many answers in all; None: one each."""
        self.values.append(values.detach().float())
        self.answers += len(values) if answers is None else answers

    def compute(self) -> Estimate:
        """Return the mean, the interval and the count over everything added, on all processes."""
        values = dim_zero_cat(self.values) if len(self.values) else torch.empty(0)
        if self._per_example and bool(((values == 0) | (values == 1)).all()):
            return Estimate(*proportion_interval(float(values.sum()), len(values)), len(values))
        return Estimate(*mean_interval(values, int(self.answers)), len(values))


class MeanLoss(Metric):
    """The mean of losses over their units; Lightning's own is off where processes have different numbers of them."""

    full_state_update = False
    total: Tensor
    units: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "units"):
            self.add_state(name, default=torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, loss: Tensor, units: float | Tensor) -> None:
        """Add the mean loss of some units."""
        self.total += units * loss.detach().float()
        self.units += units

    def compute(self) -> Tensor:
        """Return the mean over everything added, on all processes; NaN if one was."""
        return self.total / self.units


class StageMetrics(nn.Module):
    """Everything that is measured in one stage: the accuracy with its interval, and what else was asked for.

    Args:
        per_example: whether a figure is one example, right or wrong, rather than one episode.
        further: more metrics of (logits, targets).
        choice: whether an answer can be wrong; that of a single class cannot, and its accuracy has no interval.
    """

    def __init__(self, per_example: bool, further: MetricCollection | None = None, choice: bool = True) -> None:
        super().__init__()
        self._per_example = per_example
        self._choice = choice
        self.accuracy = Accuracy(per_example)
        self.loss = MeanLoss()
        self.further = further if further is not None else MetricCollection([])

    def update(
        self, figures: Tensor, logits: Tensor, targets: Tensor, loss: Tensor, units: float | Tensor | None = None
    ) -> None:
        """Add figures ``[n]`` (see ``Accuracy``), the logits ``[N, C]`` and targets that they come from, their loss.

        ``units`` says what the loss is the mean over; None: the figures.
        """
        self.accuracy.update(figures, targets.numel())
        self.loss.update(loss, len(figures) if units is None else units)
        self.further.update(logits.detach().float(), targets.long())

    def collect(self, judged: bool = True) -> dict[str, Any]:
        """Return every metric by name, over all processes, and start afresh.

        Args:
            judged: whether the accuracy comes with its interval and the number of units; that of training, during
                which the model changes, does not.
        """
        estimate: Estimate = self.accuracy.compute()
        unit = "examples" if self._per_example else "episodes"
        found: dict[str, Any] = {"loss": self.loss.compute(), "accuracy": estimate.mean}
        interval = estimate.ci95 if self._choice else math.nan
        found |= {"accuracy_ci95": interval, unit: float(estimate.units)} if judged else {}
        found |= self.further.compute() if len(self.further) else {}
        self.reset()
        return found

    def reset(self) -> None:
        """Start afresh."""
        self.accuracy.reset()
        self.loss.reset()
        self.further.reset()


def build_metrics(
    metrics: str | Metric | Sequence[str | Metric] | Mapping[str, Metric] | None, num_classes: int, multi_label: bool
) -> MetricCollection:
    """Make the further metrics that a user asked for.

    Args:
        metrics: names of torchmetrics' classification metrics (``"F1Score"``), metrics, or metrics by name. By name,
            one that has a figure per class is the mean over the classes; ``"Accuracy"`` counts examples.
        num_classes: classes (ways) that the logits have.
        multi_label: whether an example may have several labels.

    Raises:
        ConfigError: torchmetrics has no metric of that name, or it does not make one number of logits and targets.
    """
    if metrics is None:
        return MetricCollection([])
    if isinstance(metrics, Mapping):
        return _numbers({name: metric.clone() for name, metric in metrics.items()}, num_classes, multi_label)
    listed = [metrics] if isinstance(metrics, (str, Metric)) else list(metrics)
    built: dict[str, Metric | MetricCollection] = {}
    for metric in listed:
        if isinstance(metric, Metric):
            built[type(metric).__name__] = metric.clone()
            continue
        known = [name for name in torchmetrics.classification.__all__ if hasattr(torchmetrics, name)]
        if metric not in known:
            raise unknown("metric", metric, known)
        kind = getattr(torchmetrics, metric)
        sizes: dict[str, Any] = {"num_labels": num_classes} if multi_label else {"num_classes": num_classes}
        if metric != "Accuracy" and "average" in inspect.signature(kind.__new__).parameters:
            sizes["average"] = "macro"  # torchmetrics' own, micro, makes them all the accuracy
        try:
            built[metric] = kind(task="multilabel" if multi_label else "multiclass", **sizes)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"the metric '{metric}' cannot be made by name alone ({error}): pass an object"
            ) from error
    return _numbers(built, num_classes, multi_label)


def _numbers(metrics: dict[str, Any], num_classes: int, multi_label: bool) -> MetricCollection:
    """Return the collection, once each metric was seen to make one number of logits and targets."""
    logits_NC = torch.zeros(2, num_classes)
    targets = torch.ones(2, num_classes).long() if multi_label else torch.zeros(2).long()
    for name, metric in metrics.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                value = metric.clone()(logits_NC, targets)
            except Exception as error:
                raise ConfigError(f"the metric '{name}' does not take logits [N, C] and targets: {error}") from error
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise ConfigError(f"the metric '{name}' is not one number: compute it from trainer.predict's result")
    return MetricCollection(metrics)
