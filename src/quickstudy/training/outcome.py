"""What a test saw: the figure of every episode or example, what was taken for what, and what follows from that.

Shapes: n units (episodes, or examples), R classes of episodes, P pairs, C classes, T tasks, W ways, Q queries.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy
import torch
import torch.distributed
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.data.loading import EpisodeSteps, Steps
from quickstudy.data.table import Table
from quickstudy.episode import Episode, Unit
from quickstudy.errors import DataError
from quickstudy.files import atomic_write
from quickstudy.functional.intervals import (
    Z95,
    classes_interval,
    clusters_interval,
    mean_interval,
    proportion_interval,
    upper_reach,
)
from quickstudy.functional.labels import f1_interval
from quickstudy.kinds.base import ACCURACY, Score
from quickstudy.training.processes import in_group

Ints = NDArray[np.int64]
Range = tuple[int, int]
"""The least and the most."""

NO_NUMBER = "no number"
"""What an answer is called that is not a number."""
_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a test saw, on all processes together; ``trainer.outcome``, and ``test.safetensors`` in a run's folder."""

    unit: Unit
    """What a figure is one of."""
    figures: NDArray[np.float64]
    """``[n]``, what the score is the mean of, or the root of their mean. Of an accuracy, from 0 to 1: the share of an
    episode's queries that were right, of an example's labels, or 0 or 1."""
    numbers: Ints
    """``[n]``, which episode, or which row of the data; in a loader of one's own, in the order that they came."""
    classes: tuple[str, ...] = ()
    """C names; empty where the episodes of a loader do not tell their classes."""
    parts: Ints = dataclasses.field(default_factory=lambda: np.empty((0, 4), np.int64))
    """``[R, 4]``: place of an episode or example, a class in it, queries of that class, how many of them were right."""
    confusions: Ints = dataclasses.field(default_factory=lambda: np.empty((0, 3), np.int64))
    """``[P, 3]``: a class, what was answered (-1: no number), and how often."""
    labels: Ints = dataclasses.field(default_factory=lambda: np.empty((0, 4), np.int64))
    """``[C, 4]`` with several labels per example: rightly named, wrongly named, missed, rightly left out."""
    groups: Ints = dataclasses.field(default_factory=lambda: np.empty(0, np.int64))
    """``[n]``, where the interval is over groups of examples, such as patients: the number of each one's group."""
    shape: tuple[Range, Range, Range] | None = None
    """Of episodes: ways, shots and queries of a class, the least and the most."""
    drawn: str = ""
    """What the episodes follow from: where it is the same, so are episodes of the same number."""
    score: Score = ACCURACY
    """What the figures are of."""
    found: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    """By class what is told of it beside the score: hits and misses of objects, shares of pixels."""

    @property
    def value(self) -> float:
        """The score of all of them together; not a number where there is no figure."""
        mean = float(self.figures.mean()) if len(self.figures) else math.nan
        return math.sqrt(mean) if self.score.root else mean

    @property
    def accuracy(self) -> float:
        """The same, where the score is the accuracy."""
        return self.value

    @property
    def accuracies(self) -> NDArray[np.float64]:
        """The figures, where the score is the accuracy."""
        return self.figures

    @property
    def _shares(self) -> NDArray[np.float64]:
        """What each unit adds to the score, ``[n]``, whose mean it is; of a root, by its tangent."""
        value = self.value
        return value + (self.figures - value**2) / (2 * value) if self.score.root and value else self.figures

    def ci95(self) -> float:
        """Return the half-width of the score's 95% interval, over the units, or where there are groups over these."""
        if self.score.share and self.unit == "examples" and bool(np.isin(self.figures, (0, 1)).all()):
            half = proportion_interval(float(self.figures.sum()), len(self.figures))[1]
        else:
            half = mean_interval(torch.from_numpy(self._shares), self._answers if self.score.share else None)[1]
        half = self._over_groups(self._shares, half)
        return upper_reach(self.value, half) if self.score.root else half

    def _over_groups(self, values: NDArray[np.float64], half: float) -> float:
        """Return a half-width over the units, or where there are groups that over them if it is wider."""
        if not len(self.groups):
            return half
        return max(clusters_interval(torch.from_numpy(values), torch.from_numpy(self.groups)), half)

    @property
    def _answers(self) -> int:
        """How many right or wrong answers the figures are shares of, all together, as far as that is known."""
        return int(self.parts[:, 2].sum()) or len(self.figures)

    def classes_ci95(self) -> float:
        """Return the half-width of the 95% interval for other classes of the same kind (see ``classes_interval``).

        It is not a number for fixed classes, where every episode has all classes, and where these are not known.
        """
        if self.unit != "episodes" or not self.classes:
            return math.nan
        half = classes_interval(*map(torch.from_numpy, (self._shares, self.parts[:, 0], self.parts[:, 1])))
        if not math.isfinite(half):
            return half
        half = max(half, self.ci95())  # which is wider where all are the same
        return min(half, max(self.value, 1 - self.value)) if self.score.share else half

    def f1(self) -> dict[str, float]:
        """Return with several labels per example F1 of all together, and the mean over labels that examples have."""
        named, wrongly, missed = self.labels[:, :3].astype(float).T
        sides_C, there_C = 2 * named + wrongly + missed, named + missed > 0
        if not there_C.any():
            return {}
        macro = float((2 * named / sides_C.clip(1))[there_C].mean())
        return {"f1_micro": float(2 * named.sum() / sides_C.sum()), "f1_macro": macro}

    def per_class(self) -> dict[str, dict[str, Any]]:
        """Return by class: ``accuracy``, ``accuracy_ci95`` (over its episodes, or its examples), ``examples`` asked.

        With several labels per example, by label: ``precision``, ``recall``, ``f1`` (None where nothing was named, or
        nothing was there), each with its ``_ci95``, ``accuracy``, and how many ``examples`` have the label.
        """
        if len(self.labels):
            return {name: _of_label(*row) for name, row in zip(self.classes, self.labels.tolist(), strict=True)}
        asked = self.parts[self.parts[:, 2] > 0]
        asked = asked[np.argsort(asked[:, 1], kind="stable")]
        codes, starts = np.unique(asked[:, 1], return_index=True)
        groups = np.split(asked[:, 2:], starts[1:])  # of no class one, an empty one
        return {self.classes[code]: self._of_class(group) for code, group in zip(codes.tolist(), groups, strict=False)}

    def _of_class(self, group: Ints) -> dict[str, Any]:
        """Return the figures of a class from how many were asked and right, ``[n, 2]``."""
        asked, right = (int(total) for total in group.sum(0))
        mean, half = (
            proportion_interval(right, asked)
            if self.unit == "examples"
            else mean_interval(torch.from_numpy(group[:, 1] / group[:, 0]), asked)
        )
        return {"accuracy": mean, "accuracy_ci95": finite(half), "examples": asked}

    def largest_confusions(self, most: int | None = None) -> list[dict[str, Any]]:
        """Return what was taken for what, most often first: ``class``, ``answer``, ``count``, ``share`` of the class.

        Args:
            most: so many at most; None: all.
        """
        wrong = self.confusions[self.confusions[:, 0] != self.confusions[:, 1]]
        asked = dict(zip(*self._asked(), strict=True))
        shares = wrong[:, 2] / np.array([asked[code] for code in wrong[:, 0].tolist()] or [1])
        order = np.lexsort((wrong[:, 1], wrong[:, 0], -wrong[:, 2], -shares))[:most]
        return [
            {"class": self.classes[code], "answer": self._name(answer), "count": count, "share": float(share)}
            for (code, answer, count), share in zip(wrong[order].tolist(), shares[order], strict=True)
        ]

    def confusion_matrix(self) -> Ints:
        """Return ``[C, C + 1]``: how often a class (row) got an answer (column; the last: no number)."""
        matrix = np.zeros((len(self.classes), len(self.classes) + 1), np.int64)
        np.add.at(matrix, (self.confusions[:, 0], self.confusions[:, 1]), self.confusions[:, 2])
        return matrix

    def _asked(self) -> tuple[list[int], list[int]]:
        """Return the classes that were asked about, and how often."""
        codes, places = np.unique(self.confusions[:, 0], return_inverse=True)
        return codes.tolist(), np.bincount(places, self.confusions[:, 2]).astype(np.int64).tolist()

    def _name(self, code: int) -> str:
        return NO_NUMBER if code < 0 else self.classes[code]

    def __str__(self) -> str:
        """Return a table: a line for each class, the worst first."""
        return in_lines(self.per_class())

    @classmethod
    def joined(
        cls,
        outcomes: Sequence[Outcome],
        numbers: Sequence[Ints] | None = None,
        drawn: str = "",
    ) -> Outcome:
        """Return what several tests of one kind saw as that of one, by the order of the units' numbers.

        Args:
            outcomes: of tests on different examples, or on episodes of different classes.
            numbers: of each its units' in all; None: those of one come after those of another.
            drawn: what the units follow from.
        """
        first, ends = outcomes[0], np.cumsum([len(each.figures) for each in outcomes])
        classes = tuple(dict.fromkeys(name for each in outcomes for name in each.classes))
        if numbers is None:
            numbers = np.split(np.arange(ends[-1]), ends[:-1])
        order = np.argsort(joint := np.concatenate(numbers), kind="stable")
        place, parts, confusions = np.argsort(order, kind="stable"), [], []
        for each, start in zip(outcomes, [0, *ends[:-1]], strict=True):
            code = np.array([classes.index(name) for name in each.classes] + [-1])  # of no number, no number
            own = each.parts.copy()
            own[:, 0], own[:, 1] = place[own[:, 0] + start], code[own[:, 1]]
            parts.append(own)
            confusions.append(np.stack([code[each.confusions[:, 0]], code[each.confusions[:, 1]]], 1))
        joint_parts, pairs = np.concatenate(parts), np.concatenate(confusions)
        counts = np.concatenate([each.confusions[:, 2] for each in outcomes])
        spans = [each.shape for each in outcomes if each.shape is not None]
        widest: Any = tuple(
            (min(low), max(high)) for low, high in (zip(*each, strict=True) for each in zip(*spans, strict=True))
        )
        return cls(
            first.unit,
            np.concatenate([each.figures for each in outcomes])[order],
            joint[order],
            classes=classes,
            parts=joint_parts[np.lexsort((joint_parts[:, 1], joint_parts[:, 0]))],
            confusions=_counted(pairs[:, 0], pairs[:, 1], counts) if len(pairs) else first.confusions,
            labels=sum((each.labels for each in outcomes[1:]), first.labels),
            groups=np.concatenate([each.groups for each in outcomes])[order] if len(first.groups) else first.groups,
            shape=widest or None,
            drawn=drawn,
            score=first.score,
        )

    def write(self, path: Path) -> None:
        """Write it as safetensors, whole or not at all."""
        # safetensors takes the memory of an array as it lies there, whatever its strides are.
        arrays = {name: np.ascontiguousarray(own) for name, own in vars(self).items() if isinstance(own, np.ndarray)}
        rest = {name: value for name, value in vars(self).items() if name not in arrays}
        if not self.found:
            del rest["found"]
        if not len(self.groups):  # as it was when there were none
            del arrays["groups"]
        if self.score == ACCURACY:  # as it was when there was no other
            arrays["accuracies"] = arrays.pop("figures")
            del rest["score"]
        with atomic_write(path) as file:
            file.write(safetensors.numpy.save(arrays, {"quickstudy": json.dumps({"format": _FORMAT, **rest})}))

    @classmethod
    def read(cls, path: Path) -> Outcome:
        """Read what ``write`` wrote.

        Raises:
            DataError: the file is damaged, or of a later version.
        """
        try:
            with safetensors.safe_open(path, "np") as file:
                rest = json.loads(file.metadata()["quickstudy"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            if rest.pop("format") != _FORMAT:
                raise DataError(f"'{path}' was written by a later version of quickstudy: test again, or upgrade")
            arrays["figures"] = arrays.pop("accuracies" if "score" not in rest else "figures")
            shape = rest["shape"] and tuple(tuple(each) for each in rest["shape"])
            score = Score(*rest["score"]) if "score" in rest else ACCURACY
            return cls(**arrays, **{**rest, "classes": tuple(rest["classes"]), "shape": shape, "score": score})
        except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"'{path}' is damaged ({error}): remove it, and type quickstudy test again") from error


def worst_first(per_class: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return the figures of classes by accuracy, or those of labels by F1, the worst first."""

    def key(name: str) -> float:
        share = per_class[name].get("f1", per_class[name]["accuracy"])
        return -1.0 if share is None else float(share)

    return {name: per_class[name] for name in sorted(per_class, key=key)}


def in_lines(per_class: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the figures of classes, or of labels, in a line for each, the worst first."""
    rows = worst_first(per_class)
    width = max(map(len, rows), default=0)
    return "\n".join(f"{name:{width}}  {in_words(figures)}" for name, figures in rows.items())


def in_words(figures: Mapping[str, Any]) -> str:
    """Return the figures of a class in a line."""
    if "f1" in figures:
        named = ", ".join(f"{name} {in_percent(figures, name)}" for name in ("f1", "precision", "recall"))
        above = f", named above {figures['threshold']:.2f}" if "threshold" in figures else ""
        return f"{named}, of {figures['examples']} examples{above}"
    return f"{in_percent(figures, 'accuracy')} of {figures['examples']}"


def in_percent(figures: Mapping[str, Any], name: str) -> str:
    """Return one of the figures of a class in words, with its interval where it has one."""
    value, half = figures[name], figures.get(f"{name}_ci95")
    return _percent(value) if half is None else ACCURACY.estimate(value, half, _percent)


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{share:.1%}"


def finite(value: float) -> float | None:
    """Return a figure, or None for what is no number, for which JSON has no word."""
    return value if math.isfinite(value) else None


def _of_label(named: int, wrongly: int, missed: int, left_out: int) -> dict[str, Any]:
    found = {
        "precision": proportion_interval(named, named + wrongly),
        "recall": proportion_interval(named, named + missed),
        "f1": f1_interval(named, named + wrongly, named + missed),
        "accuracy": proportion_interval(named + left_out, named + wrongly + missed + left_out),
    }
    told = {name: {name: finite(share), f"{name}_ci95": finite(half)} for name, (share, half) in found.items()}
    return {**told["precision"], **told["recall"], **told["f1"], **told["accuracy"], "examples": named + missed}


class Difference(NamedTuple):
    """By how much the score of a second model differs from that of a first, on the very same episodes or examples."""

    mean: float
    """The second's minus the first's; of accuracies, from -1 to 1."""
    ci95: float
    """The half-width of its 95% interval, over the episodes or examples."""
    ci95_classes: float
    """That for other classes of the same kind; not a number where it is not known."""
    units: int
    """How many episodes or examples there are."""
    unit: Unit
    score: Score = ACCURACY
    """What differs; it says whether more is better."""

    def __str__(self) -> str:
        by, told = self.score.change(self.mean), self.score.text
        if not math.isfinite(self.ci95):
            return f"{by} (one alone has no interval)"
        other = f", for other classes of their kind ± {told(self.ci95_classes)}"
        of_classes = other if math.isfinite(self.ci95_classes) else ""
        return f"{by} ± {told(self.ci95)}{of_classes} (95% interval, paired over {self.units} {self.unit})"


def difference(first: Outcome, second: Outcome) -> Difference:
    """Return the paired difference of the scores of two models.

    The interval is that of the differences of each unit. Of examples, right or wrong, it is that of Agresti and Min
    (2005), as if there had been two more pairs, of which one model each was right in one half, and both in another.

    Args:
        first, second: what tests saw. Those on loaders of one's own are taken for tests on the same where they have as
            many episodes or examples.

    Raises:
        DataError: they were not tested on the same episodes or examples; the message says what differs.
    """
    if reason := _unlike(first, second):
        raise DataError(reason)
    values, score = torch.from_numpy(second._shares - first._shares), first.score
    count, mean = len(values), float(values.mean())
    if score.share and first.unit == "examples" and bool((values == values.round()).all()):
        unlike, padded = float(values.abs().sum()) + 1, count + 2
        centre = float(values.sum()) / padded
        half = Z95 * math.sqrt(max(unlike / padded - centre**2, 0) / padded) + abs(mean - centre)
        return Difference(mean, first._over_groups(values.numpy(), half), math.nan, count, first.unit, score)
    half = mean_interval(values)[1]
    if half == 0 and score.share:  # no two differ: what could be hidden from so many queries
        half = proportion_interval(0, first._answers)[1]
    half = first._over_groups(values.numpy(), half)
    places, classes = torch.from_numpy(first.parts[:, 0]), torch.from_numpy(first.parts[:, 1])
    of_classes = classes_interval(values, places, classes) if first.unit == "episodes" else math.nan
    return Difference(mean, half, max(of_classes, half), count, first.unit, score)  # not a number stays so


def _unlike(first: Outcome, second: Outcome) -> str:
    """Say why two tests cannot be paired; nothing if they can."""
    if first.score != second.score:
        return f"one was judged by its {first.score.called}, the other by its {second.score.called}"
    if first.unit != second.unit:
        return f"one was tested on {first.unit}, the other on {second.unit}"
    if first.drawn != second.drawn:
        return f"one was tested on {first.drawn or 'episodes of a loader'}, the other on {second.drawn or 'others'}"
    if len(first.numbers) != len(second.numbers):
        return f"one was tested on {len(first.numbers)} {first.unit}, the other on {len(second.numbers)}"
    if not np.array_equal(first.numbers, second.numbers):
        return f"they were tested on different {first.unit}"
    if first.classes != second.classes or not np.array_equal(first.parts[:, :3], second.parts[:, :3]):
        return f"the classes of their {first.unit} are not the same"
    return ""


class Answers:
    """Notes the answers of a test as they come, on this process.

    Args:
        loaders: the test's; those of a data module tell which episodes and examples their steps are made of.
        classes: the fixed classes; empty for a few-shot strategy, whose episodes bring theirs.
        unit: what a figure is one of.
        score: what the figures are of.
        settle: what each adds to the score, where that depends on all of them.
    """

    def __init__(
        self,
        loaders: Any,
        classes: Sequence[str],
        unit: Unit,
        score: Score = ACCURACY,
        settle: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        listed = loaders if isinstance(loaders, (list, tuple)) else [loaders]
        samplers = [getattr(loader, "sampler", None) for loader in listed]
        self._unit: Unit = unit
        self._score, self._settle = score, settle
        self._steps: list[Iterator[Any] | EpisodeSteps | None] = [
            sampler if isinstance(sampler, EpisodeSteps) else iter(sampler) if isinstance(sampler, Steps) else None
            for sampler in samplers
        ]
        episodic = [sampler for sampler in samplers if isinstance(sampler, EpisodeSteps)]
        known = {(steps.drawn, steps.classes) for steps in episodic}
        one = len(known) == 1 and len(episodic) == len(samplers)  # several sets would have codes of their own
        self._drawn, self._classes = next(iter(known)) if one else ("", tuple(classes))
        self._told = bool(self._classes)
        table = getattr(getattr(listed[0], "dataset", None), "table", None) if len(listed) == 1 else None
        self._origins = table.origins if isinstance(table, Table) and isinstance(self._steps[0], Iterator) else None
        self._kept: list[dict[str, NDArray[Any]]] = []
        self._count = 0

    def add(
        self,
        step: int,
        loader: int,
        figures: Tensor,
        logits: Tensor | None = None,
        targets: Tensor | None = None,
        batch: Any = None,
    ) -> None:
        """Note a step's.

        Args:
            step: its number among those of its loader.
            loader: the place of the loader among the test's.
            figures: ``[T, Q]`` or ``[B]``, of each query or example: whether it was answered rightly (of several
                labels, the share), or what another score follows from; ``[B, K]`` for ``settle``.
            logits: ``[T, Q, W]`` or ``[B, C]``; None: the answers are no classes.
            targets: ``[T, Q]`` or ``[B]``; ``[B, C]`` of several labels.
            batch: that they are of, where it is an ``Episode``.
        """
        kept: dict[str, NDArray[Any]] = {}
        if logits is None or targets is None:
            steps = self._steps[loader]
            if isinstance(steps, EpisodeSteps):
                kept["numbers"] = steps.named(step)[0]
        elif targets.ndim == logits.ndim:  # several labels
            named, there = logits > 0, targets.bool()
            counts = [
                (named & there).sum(0),
                (named & ~there).sum(0),
                (~named & there).sum(0),
                (~named & ~there).sum(0),
            ]
            kept["labels"] = torch.stack(counts, 1).cpu().numpy()[None]
        else:
            answers = logits.argmax(-1).masked_fill(logits.isnan().any(-1), -1)
            pairs = torch.stack([targets, answers, (answers == targets).long()]).cpu().numpy()
            kept |= self._noted(step, loader, pairs, logits.shape[-1], batch)
        figures = figures.cpu().double()
        kept["figures"] = (figures.flatten(1).mean(1) if self._unit == "episodes" else figures).numpy()
        if "numbers" not in kept:
            kept["numbers"] = self._rows(loader, len(figures))
        if len(kept.get("parts", ())):
            kept["parts"][:, 0] += self._count
        self._count += len(figures)
        self._kept.append(kept)

    def _rows(self, loader: int, count: int) -> Ints:
        """Return the numbers of the examples of a step."""
        steps = self._steps[loader]
        if isinstance(steps, Iterator):
            return np.asarray(next(steps)[1], np.int64)
        return np.arange(self._count, self._count + count)

    def _noted(self, step: int, loader: int, pairs: Ints, ways: int, batch: Any) -> dict[str, NDArray[Any]]:
        """Return what the targets, answers and rights of a step tell, ``pairs [3, ...]``."""
        if not isinstance(batch, Episode):
            targets, answers, right = pairs
            places = np.arange(len(targets))
            parts = np.stack([places, targets, np.ones_like(targets), right], 1)
            return {"parts": parts, "confusions": _counted(targets, answers)} if self._told else {}
        tasks = pairs.shape[1]
        cells = ways * np.arange(tasks)[:, None]

        def of_each_class(targets_TN: Ints, weights_TN: Ints | None = None) -> Ints:
            weights = None if weights_TN is None else weights_TN.ravel()
            found = np.bincount((cells + targets_TN).ravel(), weights, tasks * ways)
            return found.astype(np.int64).reshape(tasks, ways)

        shots_TW = of_each_class(batch.support_targets.cpu().numpy())
        asked_TW, right_TW = of_each_class(pairs[0]), of_each_class(pairs[0], pairs[2])
        taught = shots_TW > 0
        sizes = [taught.sum(1), shots_TW[taught], asked_TW[taught]]
        kept = {"shape": np.array([[[each.min(), each.max()] for each in sizes]], np.int64)}
        steps = self._steps[loader]
        if not self._told or not isinstance(steps, EpisodeSteps):
            return kept
        numbers, codes_TW = steps.named(step)
        places_TW = np.repeat(np.arange(tasks)[:, None], ways, 1)
        parts = np.stack([each[taught] for each in (places_TW, codes_TW, asked_TW, right_TW)], 1)
        truth = np.take_along_axis(codes_TW, pairs[0], 1)
        taken = np.where(pairs[1] < 0, -1, np.take_along_axis(codes_TW, pairs[1].clip(0), 1))
        return {**kept, "numbers": numbers, "parts": parts, "confusions": _counted(truth, taken)}

    def gathered(self, of_classes: Callable[[Tensor], dict[str, dict[str, Any]]] | None = None) -> Outcome:
        """Return what all processes noted, in the order of the episodes' or examples' numbers.

        Args:
            of_classes: says of figures what is told of each class beside the score, see ``Kind.found_per_class``.
        """
        mine = {name: _joined(self._kept, name) for name in ("figures", "numbers", *_TABLES)}
        every: list[Any] = [mine]
        if in_group():
            every = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(every, mine)
        before = 0
        for each in every:
            if each["parts"] is not None:
                each["parts"][:, 0] += before
            before += 0 if each["numbers"] is None else len(each["numbers"])
        found = {name: _joined(every, name) for name in mine}
        none = np.empty(0, np.int64)
        numbers: Ints = none if found["numbers"] is None else found["numbers"]
        figures = none if found["figures"] is None else found["figures"]
        order = np.argsort(numbers, kind="stable")
        tables: dict[str, Any] = {}
        if (parts := found["parts"]) is not None:
            parts[:, 0] = np.argsort(order, kind="stable")[parts[:, 0]]
            tables["parts"] = parts[np.lexsort((parts[:, 1], parts[:, 0]))]
        if (confusions := found["confusions"]) is not None:
            tables["confusions"] = _counted(*confusions.T)
        if (labels := found["labels"]) is not None:
            tables["labels"] = labels.sum(0)
        if (shapes := found["shape"]) is not None:
            least, most = shapes[:, :, 0].min(0).tolist(), shapes[:, :, 1].max(0).tolist()
            tables["shape"] = tuple(zip(least, most, strict=True))
        tables |= {"classes": self._classes, "drawn": self._drawn, "score": self._score}
        ordered = figures[order].astype(np.float64)
        settled = ordered if self._settle is None else self._settle(torch.from_numpy(ordered)).double().numpy()
        if of_classes is not None and ordered.ndim == 2 and len(ordered):
            tables["found"] = of_classes(torch.from_numpy(ordered))
        if self._origins is not None:
            tables["groups"] = self._origins.codes[numbers[order]].astype(np.int64)
        return Outcome(self._unit, settled, numbers[order], **tables)


_TABLES = ("parts", "confusions", "labels", "shape")


def _joined(kept: Sequence[Mapping[str, Any]], name: str) -> Any:
    found = [each[name] for each in kept if each.get(name) is not None]
    return np.concatenate(found) if found else None


def _counted(truth: Ints, answers: Ints, counts: Ints | None = None) -> Ints:
    """Return each pair of a class and an answer once, and how often it is there: ``[P, 3]``."""
    pairs, places = np.unique(np.stack([truth.ravel(), answers.ravel()], 1), axis=0, return_inverse=True)
    weights = None if counts is None else counts.ravel()
    return np.column_stack([pairs, np.bincount(places.ravel(), weights, len(pairs)).astype(np.int64)])
