"""Accuracies with their intervals, and further metrics by name."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torchmetrics
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.utilities import dim_zero_cat

from quickstudy.errors import ConfigError, unknown
from quickstudy.functional.distances import unit
from quickstudy.functional.intervals import clusters_interval, mean_interval, proportion_interval, upper_reach
from quickstudy.functional.labels import NAMED, THERE, best_cuts, f1_of_all
from quickstudy.functional.ngrams import BLEU_COUNTS, CHRF_COUNTS, bleu, chrf, shares_of_texts

_CUTS = torch.arange(-80, 81) / 8
"""The logits that a threshold can have: chances from 0.00005 to 0.99995."""
_PRIOR = 10
"""Examples that those of all labels count as: with fewer, a hundred examples of validation data choose worse than one
half does (of NLU++); with more, labels of which there are many follow their own less than they could."""


class Estimate(NamedTuple):
    """A mean with the half-width of its 95% interval, over ``units`` independent figures."""

    mean: float
    ci95: float
    units: int


class Figures(Metric):
    """Gathers independent figures, one per episode or one per example, for what follows from all of them together.

    Args:
        per_example: whether a figure is that of one example, rather than of one episode.
    """

    full_state_update = False
    values: list[Tensor]
    answers: Tensor

    def __init__(self, per_example: bool = False) -> None:
        super().__init__()
        self.per_example = per_example
        self.add_state("values", default=[], dist_reduce_fx="cat")
        self.add_state("answers", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, values: Tensor, answers: int | None = None) -> None:
        """Add figures ``[n]`` or ``[n, K]``, which so many answers in all are in; None: one each."""
        self.values.append(values.detach() if values.dtype == torch.float64 else values.detach().float())
        self.answers += len(values) if answers is None else answers

    def compute(self) -> Any:
        """Return every figure that was added, on all processes."""
        return dim_zero_cat(self.values) if len(self.values) else torch.empty(0)

    def estimates(self) -> dict[str, Estimate]:
        """Return by name what follows from them; nothing where the score is none of single figures."""
        return {}


class Mean(Figures):
    """The mean of independent figures, or its root, with standard errors times Student's t.

    Args:
        name: of what the figures are.
        per_example: see ``Figures``.
        root: whether it is the root of their mean, as an rmse is of squared errors.
    """

    def __init__(self, name: str, per_example: bool = False, root: bool = False) -> None:
        super().__init__(per_example)
        self._name, self._root = name, root

    def estimates(self) -> dict[str, Estimate]:
        """Return the mean; nothing where there were no figures."""
        values: Tensor = self.compute()
        if not len(values):
            return {}
        mean, half = mean_interval(values)
        if self._root:
            mean = math.sqrt(mean)
            half = upper_reach(mean, half / (2 * mean)) if mean else half
        return {self._name: Estimate(mean, half, len(values))}


class Means(Figures):
    """The means of several figures ``[n, K]`` of each unit, with standard errors times Student's t; Wilson's interval
    where each is right or wrong.

    Args:
        names: K of them.
        per_example: see ``Figures``.
    """

    def __init__(self, names: Sequence[str], per_example: bool = False) -> None:
        super().__init__(per_example)
        self._names = names

    def estimates(self) -> dict[str, Estimate]:
        """Return the means; nothing where there were no figures."""
        values: Tensor = self.compute()
        if not len(values):
            return {}
        columns = zip(self._names, values.double().cpu().unbind(1), strict=True)
        return {name: Estimate(*_of_each(own), len(values)) for name, own in columns}


def _of_each(values: Tensor) -> tuple[float, float]:
    """Return the mean of figures ``[n]`` and its interval, Wilson's where each is right or wrong."""
    if bool(((values == 0) | (values == 1)).all()):
        return proportion_interval(float(values.sum()), len(values))
    return mean_interval(values)


class Written(Figures):
    """How much of true texts stands in those that were written: means of figures of each, BLEU and chrF of all.

    Figures are ``[n, K + 28]``: those that are means, and counts, see ``functional.ngrams``. Intervals are those of
    ``Means``, of BLEU and chrF by leaving one text out in turn.

    Args:
        names: K of them.
    """

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(per_example=True)
        self._names = names

    def estimates(self) -> dict[str, Estimate]:
        """Return the means, ``bleu`` and ``chrf``; nothing where nothing was written."""
        values: Tensor = self.compute()
        if values.ndim < 2:
            return {}
        values, count = values.double().cpu(), len(self._names)
        of_each, words, letters = torch.split(values, [count, BLEU_COUNTS, CHRF_COUNTS], 1)
        found = dict(zip(self._names, of_each.unbind(1), strict=True))
        found |= {"bleu": shares_of_texts(bleu, words), "chrf": shares_of_texts(chrf, letters)}
        return {name: Estimate(*_of_each(own), len(values)) for name, own in found.items()}


class BlockMeans(Figures):
    """The means of several figures ``[n, K + 1]``, the last of which says what is not independent of each other.

    Intervals are over these blocks, see ``functional.intervals.clusters_interval``; they are at least as wide as if
    each figure were independent.

    Args:
        names: of the first of them.
        per_example: see ``Figures``.
    """

    def __init__(self, names: Sequence[str], per_example: bool = False) -> None:
        super().__init__(per_example)
        self._names = names

    def estimates(self) -> dict[str, Estimate]:
        """Return the means; nothing where there were no figures."""
        values: Tensor = self.compute()
        if not len(values):
            return {}
        columns = values.double().cpu().unbind(1)
        found = {}
        for name, own in zip(self._names, columns, strict=False):
            mean, half = mean_interval(own)
            over = clusters_interval(own, columns[-1])
            found[name] = Estimate(mean, half if half > over else over, len(values))
        return found


class Errors(Figures):
    """Root mean squared error, mean absolute error and the share of variance explained, each with its interval.

    Intervals are standard errors times Student's t: of the root and of the share by the logarithms of what is not
    explained, and as wide to either side as to the upper one. Figures
    are ``[n, 4]``, the mean over the answers of a unit of: the squared error, the absolute error, the target's distance
    from a fixed number, and its square.
    """

    def estimates(self) -> dict[str, Estimate]:
        """Return ``rmse``, ``mae`` and ``r2``."""
        values: Tensor = self.compute()
        units = len(values)
        if not units:
            return {}
        squared, absolute, target, target_squared = values.double().cpu().unbind(-1)
        spread = target_squared - 2 * target.mean() * target + target.mean() ** 2
        mean, half = mean_interval(squared)
        root = math.sqrt(mean)
        unexplained = mean / float(spread.mean()) if spread.mean() > 0 else math.nan
        moved = mean_interval((squared - unexplained * spread) / spread.mean())[1]
        return {
            "rmse": Estimate(root, upper_reach(root, half / (2 * root)) if root else half, units),
            "mae": Estimate(*mean_interval(absolute), units),
            "r2": Estimate(1 - unexplained, upper_reach(unexplained, moved), units),
        }


class Accuracy(Figures):
    """The mean of independent figures from 0 to 1: one per episode, or one per example (right or wrong).

    Right-or-wrong figures get a Wilson interval, others standard errors times Student's t (see ``mean_interval``).

    Args:
        per_example: whether a figure is one example, right or wrong, rather than one episode.
        choice: whether an answer can be wrong; that of a single class cannot, and its accuracy has no interval.
    """

    def __init__(self, per_example: bool = False, choice: bool = True) -> None:
        super().__init__(per_example)
        self._choice = choice

    def compute(self) -> Estimate:
        """Return the mean, the interval and the count over everything added, on all processes."""
        values = super().compute()
        if self.per_example and bool(((values == 0) | (values == 1)).all()):
            return Estimate(*proportion_interval(float(values.sum()), len(values)), len(values))
        return Estimate(*mean_interval(values, int(self.answers)), len(values))

    def estimates(self) -> dict[str, Estimate]:
        """Return the accuracy."""
        found: Estimate = self.compute()
        return {"accuracy": found if self._choice else found._replace(ci95=math.nan)}


class Labels(Figures):
    """Of several labels per example the share that is right, and F1 of all together and as the mean over labels.

    Figures are uint8 ``[n, C]``, see ``functional.labels.f1_of_all``: as many bytes as the targets have.
    """

    def update(self, values: Tensor, answers: int | None = None) -> None:
        """Add figures."""
        self.values.append(values.detach())
        self.answers += len(values)

    def estimates(self) -> dict[str, Estimate]:
        """Return ``accuracy``, ``f1_micro`` and ``f1_macro``."""
        codes: Tensor = self.compute()
        if not len(codes):
            return {}
        accuracy = Accuracy(per_example=True)
        accuracy.update(share_right(codes))
        of_f1 = {name: Estimate(*found, len(codes)) for name, found in f1_of_all(codes).items()}
        return {**accuracy.estimates(), **of_f1}


def share_right(codes: Tensor) -> Tensor:
    """Return of each example, ``[n]``, the share of its labels that is right: named and there, or neither."""
    return ((codes == NAMED + THERE) | (codes == 0)).float().mean(-1)


class Cuts(Metric):
    """Gathers how high the answers to each label are, with it and without, for the cut that gives the largest F1.

    It holds counts between a few hundred cuts, however many examples there are.

    Args:
        labels: C.
    """

    full_state_update = False
    there: Tensor
    absent: Tensor
    f1: float = 0.0
    """Of all labels together at these cuts, once ``compute`` was called; 0 where no label was there."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        for name in ("there", "absent"):
            self.add_state(name, default=torch.zeros(labels, len(_CUTS) + 1, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Add logits and zeros and ones, ``[n, C]`` each."""
        cuts = _CUTS.to(logits.device)
        places = torch.bucketize(logits.detach().float().nan_to_num(-math.inf), cuts)
        places += (len(cuts) + 1) * torch.arange(logits.shape[1], device=logits.device)
        for counts, which in ((self.there, targets.bool()), (self.absent, ~targets.bool())):
            counts += torch.bincount(places[which], minlength=counts.numel()).view_as(counts)

    def compute(self) -> Tensor:
        """Return the logit of each label above which it is to be named, ``[C]``; empty where no label was there."""
        there, absent = self.there.cpu(), self.absent.cpu()
        best = best_cuts(there, absent, _PRIOR)
        above = torch.arange(there.shape[1]) > best[:, None]
        hits, wrong = (int(counts[above].sum()) for counts in (there, absent))
        self.f1 = 2 * hits / max(1, hits + wrong + int(there.sum()))
        return _CUTS[best] if bool(self.there.any()) else torch.empty(0)


class Overlaps(Figures):
    """Intersection over union of each class, over the elements of all examples, and its mean over the classes.

    Figures are ``[n, 3C]``, of each example and class: elements that are and were named so, named so, and that are so.
    Intervals are over examples: an example moves a ratio of sums by its own numerator less the ratio times its own
    denominator (the linearized ratio estimator), and Student's t of these.

    Args:
        classes: C names.
        several: whether an element may be of several classes; there is F1 of all labels then in place of the accuracy.
    """

    def __init__(self, classes: Sequence[str], several: bool = False) -> None:
        super().__init__(per_example=True)
        self._classes = classes
        self._several = several

    def estimates(self) -> dict[str, Estimate]:
        """Return ``mean_iou``, ``element_accuracy`` or ``f1_micro``, and ``iou_NAME`` of classes there or named."""
        values: Tensor = self.compute()
        count = len(values)
        if not count or not len(self._classes):
            return {}
        both, named, true = values.double().cpu().chunk(3, 1)
        found = {
            "mean_iou": Estimate(*mean_interval(mean_overlaps(values)), count),
        }
        of_all = (2 * both, named + true) if self._several else (both, true)
        shares = ratio_shares(*(part.sum(1) for part in of_all))
        found["f1_micro" if self._several else "element_accuracy"] = Estimate(*mean_interval(shares), count)
        for place, name in enumerate(self._classes):
            union = (named + true - both)[:, place]
            if union.sum() > 0:
                found[f"iou_{name}"] = Estimate(*mean_interval(ratio_shares(both[:, place], union)), count)
        return found


def mean_overlaps(figures: Tensor) -> Tensor:
    """Return what each example adds to the mean intersection over union, ``[n]``, of which that is the mean.

    Args:
        figures: ``[n, 3C]``, see ``Overlaps``; a class that is nowhere and was never named does not count.
    """
    both, named, true = figures.double().cpu().chunk(3, 1)
    union = named + true - both
    there = union.sum(0) > 0
    if not bool(there.any()):
        return union.new_zeros(len(union))
    return ratio_shares(both[:, there], union[:, there]).mean(1)


def ratio_shares(part: Tensor, whole: Tensor) -> Tensor:
    """Return values ``[n, ...]`` whose mean is the sum of parts by that of wholes, and whose spread is that of it."""
    if not bool((whole.sum(0) > 0).all()):
        return torch.zeros_like(part)  # nothing is there
    ratio = part.sum(0) / whole.sum(0)
    return ratio + (part - ratio * whole) / whole.mean(0)


class Found(Figures):
    """F1 of what is found, such as entities, of all examples, with precision, recall and the F1 of each class.

    Figures are ``[n, 3E]``, of each example and class: how many that are were found, were found, and are. F1 is twice
    the first by the sum of the others, and intervals are those of ``Overlaps``.

    Args:
        classes: E names.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        super().__init__(per_example=True)
        self._classes = classes

    def estimates(self) -> dict[str, Estimate]:
        """Return ``f1``, ``precision``, ``recall`` and ``f1_NAME``, each where it has something to tell of."""
        values: Tensor = self.compute()
        if not len(values) or not self._classes:
            return {}
        right, told, true = values.double().cpu().chunk(3, 1)
        parts = {"f1": (2 * right, told + true), "precision": (right, told), "recall": (right, true)}
        of_all = {name: (part.sum(1), whole.sum(1)) for name, (part, whole) in parts.items()}
        of_each = {
            f"f1_{name}": (2 * right[:, place], (told + true)[:, place]) for place, name in enumerate(self._classes)
        }
        return {
            name: Estimate(*mean_interval(ratio_shares(part, whole)), len(values))
            for name, (part, whole) in {**of_all, **of_each}.items()
            if name == "f1" or whole.sum() > 0
        }


def mean_f1(figures: Tensor) -> Tensor:
    """Return what each example adds to the F1 of all, ``[n]``, of which that is the mean.

    Args:
        figures: ``[n, 3E]``, see ``Found``.
    """
    right, told, true = (part.sum(1) for part in figures.double().cpu().chunk(3, 1))
    return ratio_shares(2 * right, told + true)


class Rates(Figures):
    """Rates of errors, each the sum of one column by that of another; intervals are those of ``Overlaps``.

    Figures are ``[n, 2K]`` of each example: K numbers of errors, and of how many things each.

    Args:
        names: K of them.
    """

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(per_example=True)
        self._names = names

    def estimates(self) -> dict[str, Estimate]:
        """Return the rates; nothing where there were no figures."""
        values: Tensor = self.compute()
        if not len(values):
            return {}
        wrong, of_all = values.double().cpu().chunk(2, 1)
        found = {}
        for place, name in enumerate(self._names):
            told = (math.nan, math.nan)  # where nothing was to be told, whatever was
            if of_all[:, place].sum() > 0:
                told = mean_interval(ratio_shares(wrong[:, place], of_all[:, place]))
            found[name] = Estimate(*told, len(values))
        return found


class Precisions(Figures):
    """Average precisions, which follow from all figures together; intervals by leaving some examples out (jackknife).

    Args:
        told: returns them by name, of all figures.
        rests: returns them without each of some groups of examples.
    """

    def __init__(
        self, told: Callable[[Tensor], Mapping[str, float]], rests: Callable[[Tensor], Sequence[Mapping[str, float]]]
    ) -> None:
        super().__init__(per_example=True)
        self._told, self._rests = told, rests

    def estimates(self) -> dict[str, Estimate]:
        """Return them; nothing where there were no figures."""
        values: Tensor = self.compute()
        if not len(values):
            return {}
        whole, rests = self._told(values), self._rests(values)
        found = {}
        for name, value in whole.items():
            moved = [value + (len(rests) - 1) * (value - rest.get(name, value)) for rest in rests]
            found[name] = Estimate(value, mean_interval(torch.tensor(moved, dtype=torch.float64))[1], len(values))
        return found


class Settled(Figures):
    """The share of examples that are right, where whether one is follows from all of them; with Wilson's interval.

    Args:
        name: of that share.
        settle: returns it of each example, 0 or 1, of the figures of all.
    """

    def __init__(self, name: str, settle: Callable[[Tensor], Tensor]) -> None:
        super().__init__(per_example=True)
        self._name, self._settle = name, settle

    def estimates(self) -> dict[str, Estimate]:
        """Return the share; nothing where there were no figures."""
        right = self._settle(self.compute())
        if not len(right):
            return {}
        return {self._name: Estimate(*proportion_interval(float(right.sum()), len(right)), len(right))}


class FeatureDeviation(Metric):
    """How far features of length 1 deviate from their mean: 0 where all are alike, and at most 1.

    That is the root of the sum of their variances, which is the mean deviation times the root of D where all features
    deviate alike.
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", default=torch.zeros(1), dist_reduce_fx="sum")
        self.add_state("count", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, features: Tensor, targets: Any) -> None:
        """Add features ``[n, D]``."""
        self.total = self.total + unit(features).sum(0)
        self.count += len(features)

    def compute(self) -> Tensor:
        """Return the deviation of all, on all processes."""
        return (1 - (self.total / self.count).square().sum()).clamp(min=0).sqrt().float()


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
    """Everything that is measured in one stage: the score with its interval, the loss, and what else was asked for.

    Args:
        score: the name of what is scored, which a checkpoint in mid-epoch has its sums under.
        figures: what the score follows from.
        further: more metrics of (outputs, targets).
        tuner: gathers these for what follows from them, see ``Kind.tuner``.
    """

    def __init__(
        self, score: str, figures: Figures, further: MetricCollection | None = None, tuner: Metric | None = None
    ) -> None:
        super().__init__()
        self._score = "figures_of_loss" if score == "loss" else score  # whose own name is taken
        self.add_module(self._score, figures)
        self.loss = MeanLoss()
        self.further = further if further is not None else MetricCollection([])
        self.tuner = tuner

    @property
    def figures(self) -> Figures:
        """What the score follows from."""
        figures: Any = self.get_submodule(self._score)
        assert isinstance(figures, Figures)
        return figures

    def update(
        self, figures: Tensor, outputs: Any, targets: Any, loss: Tensor, units: float | Tensor | None = None
    ) -> None:
        """Add figures (see ``Figures``), the outputs and targets that they come from, and their loss.

        ``units`` says what the loss is the mean over; None: the figures.
        """
        self.figures.update(figures, targets.numel() if isinstance(targets, Tensor) else None)
        self.loss.update(loss, len(figures) if units is None else units)
        if len(self.further):
            self.further.update(outputs, targets)
        if self.tuner is not None:
            self.tuner.update(outputs, targets)

    def collect(self, judged: bool = True) -> dict[str, Any]:
        """Return every metric by name, over all processes, and start afresh.

        Args:
            judged: whether figures come with their intervals and the number of units; those of training, during which
                the model changes, do not.
        """
        unit = "examples" if self.figures.per_example else "episodes"
        found: dict[str, Any] = {"loss": self.loss.compute()}
        for name, estimate in self.figures.estimates().items():
            found[name] = estimate.mean
            found |= {f"{name}_ci95": estimate.ci95, unit: float(estimate.units)} if judged else {}
        found |= self.further.compute() if len(self.further) else {}
        self.reset()
        return found

    def reset(self) -> None:
        """Start afresh."""
        self.figures.reset()
        self.loss.reset()
        self.further.reset()
        if self.tuner is not None:
            self.tuner.reset()


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

    def by_name(name: str) -> Any:
        kind = getattr(torchmetrics, name)
        sizes: dict[str, Any] = {"num_labels": num_classes} if multi_label else {"num_classes": num_classes}
        if name != "Accuracy" and "average" in inspect.signature(kind.__new__).parameters:
            sizes["average"] = "macro"  # torchmetrics' own, micro, makes them all the accuracy
        return kind(task="multilabel" if multi_label else "multiclass", **sizes)

    known = [name for name in torchmetrics.classification.__all__ if hasattr(torchmetrics, name)]
    targets = torch.ones(2, num_classes).long() if multi_label else torch.zeros(2).long()
    tried = torch.zeros(2, num_classes), targets
    return _collected(metrics, known, by_name, tried, "logits [N, C] and targets")


def build_number_metrics(
    metrics: str | Metric | Sequence[str | Metric] | Mapping[str, Metric] | None,
) -> MetricCollection:
    """Make the further metrics of numbers that a user asked for.

    Args:
        metrics: names of torchmetrics' regression metrics (``"PearsonCorrCoef"``), metrics, or metrics by name.

    Raises:
        ConfigError: torchmetrics has no metric of that name, or it does not make one number of numbers and targets.
    """
    known = [name for name in torchmetrics.regression.__all__ if hasattr(torchmetrics, name)]
    tried = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 3.0, 3.5])
    return _collected(metrics, known, lambda name: getattr(torchmetrics, name)(), tried, "numbers [N] and targets")


def _collected(
    metrics: str | Metric | Sequence[str | Metric] | Mapping[str, Metric] | None,
    known: Sequence[str],
    by_name: Callable[[str], Any],
    tried: tuple[Tensor, Tensor],
    takes: str,
) -> MetricCollection:
    """Return what was asked for, once each metric was seen to make one number of outputs and targets.

    Args:
        metrics: names, metrics, or metrics by name.
        known: the names.
        by_name: makes one.
        tried: outputs and targets.
        takes: what those are, for a message.
    """
    if metrics is None:
        return MetricCollection([])
    if isinstance(metrics, Mapping):
        return _numbers({name: metric.clone() for name, metric in metrics.items()}, tried, takes)
    listed = [metrics] if isinstance(metrics, (str, Metric)) else list(metrics)
    built: dict[str, Metric | MetricCollection] = {}
    for metric in listed:
        if isinstance(metric, Metric):
            built[type(metric).__name__] = metric.clone()
            continue
        if metric not in known:
            raise unknown("metric", metric, known)
        try:
            built[metric] = by_name(metric)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"the metric '{metric}' cannot be made by name alone ({error}): pass an object"
            ) from error
    return _numbers(built, tried, takes)


def _numbers(metrics: dict[str, Any], tried: tuple[Tensor, Tensor], takes: str) -> MetricCollection:
    """Return the collection, once each metric was seen to make one number."""
    for name, metric in metrics.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                value = metric.clone()(*tried)
            except Exception as error:
                raise ConfigError(f"the metric '{name}' does not take {takes}: {error}") from error
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise ConfigError(f"the metric '{name}' is not one number: compute it from trainer.predict's result")
    return MetricCollection(metrics)
