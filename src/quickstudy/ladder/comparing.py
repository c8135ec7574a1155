"""What a record says: accuracies and differences with intervals, which rung is good enough, and why, in a sentence.

Shapes: P pairs of a draw and an example that was asked in it, N examples, B resamples, K rungs, T episodes, W ways.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.functional.intervals import FEWEST, classes_interval, draws_interval, mean_interval, teaching_variance
from quickstudy.ladder.record import ALL, Draw, Key, Record

WORTH = 0.01
"""Of accuracy: a difference of less is not worth a rung that costs more."""
_RESAMPLES = 200
_MORE = 5
"""Labels per class of which is told what they would buy."""


class Estimate(NamedTuple):
    """An accuracy, or a difference of two."""

    mean: float
    ci95: float
    """Half-width of the 95% interval for new examples of these classes."""
    seconds: float = 0.0
    """To learn and to answer once."""


class OfClasses(NamedTuple):
    """An accuracy in episodes, or a difference of two."""

    mean: float
    ci95: float
    """Half-width of the 95% interval for other episodes of these classes."""
    ci95_classes: float
    """The same for other classes of their kind; not a number where too few were drawn."""


class Choice(NamedTuple):
    """The rung that is good enough."""

    key: Key
    shots: int
    """At which it was compared."""
    accuracy: float
    """To expect, less what choosing the best of several promises too much."""
    ci95: float
    best: Key
    """The most accurate one."""
    gain: Estimate
    """What the best adds."""
    times: float
    """How much longer it takes, with the embedding."""
    saved: Estimate | None
    """What to expect of the model that is saved, which learns all examples; None where rungs were not compared with all
    but a fifth of them, or at one number of examples only."""


def seen(record: Record, key: Key, shots: int) -> int:
    """Return how many draws of so many shots a rung was climbed on."""
    return len(_common(record, shots, [key]))


def to_climb(record: Record, key: Key, shots: int) -> list[Draw]:
    """Return the draws of so many shots that a rung is to be climbed on: all, the first few, or none."""
    there = [draw for (of, _), draw in record.draws.items() if of == shots]
    step = record.steps.get(key)
    return there[: max(step.draws, 0)] if step is not None and step.draws else there


def done(record: Record, key: Key, shots: int) -> bool:
    """Whether a rung was climbed on all draws of so many shots that it is to be."""
    return seen(record, key, shots) == len(to_climb(record, key, shots))


def accuracy(record: Record, key: Key, shots: int) -> Estimate:
    """Return the accuracy of a rung on examples that it did not learn from."""
    return _estimate(record, shots, (key,))


def difference(record: Record, first: Key, other: Key, shots: int) -> Estimate:
    """Return by how much the first rung is more accurate than the other, on the same draws."""
    return _estimate(record, shots, (first, other))


def accuracy_of_classes(record: Record, first: Key, shots: int, other: Key | None = None) -> OfClasses | None:
    """Return the accuracy of a rung in episodes, or by how much it is more accurate than another; None without any.

    Two are compared in the episodes that both were asked.
    """
    found = [record.episodic.get((key, shots)) for key in (first, other) if key is not None]
    told = record.episodes.get(shots)
    if told is None or any(each is None for each in found):
        return None
    queries = len(told.rows[0][0]) - shots
    every = range(len(told.rows))
    rights = [dict(zip(each.numbers or every, each.right, strict=True)) for each in found if each is not None]
    common = [number for number in every if all(number in right for right in rights)]
    if not common:
        return None
    shares = [
        torch.tensor([right[number] for number in common], dtype=torch.float64).mean(1) / queries for right in rights
    ]
    values_T = shares[0] - shares[1] if len(shares) > 1 else shares[0]
    classes_TW = torch.tensor(told.classes)[common]
    places_R = torch.arange(len(classes_TW)).repeat_interleave(classes_TW.shape[1])
    asked = len(np.unique(np.array(told.rows)[common][:, :, shots:]))
    mean, half = mean_interval(values_T, None if len(shares) > 1 else asked)
    of_classes = classes_interval(values_T, places_R, classes_TW.flatten())
    return OfClasses(mean, half, max(of_classes, half) if math.isfinite(of_classes) else of_classes)


def per_class(record: Record, key: Key, shots: int) -> list[Estimate]:
    """Return the accuracy of each class's examples, ``[C]``; not a number of a class that was not asked."""
    (found, known), targets = _evidence(record, shots, (key,)), torch.tensor(record.examples.targets)

    def of(code: int, answers: _Paired) -> _Paired:
        return answers.some(targets[answers.rows] == code)

    return [_told(record, of(code, found), known and of(code, known)) for code in range(len(record.asked.classes))]


def _estimate(record: Record, shots: int, keys: Sequence[Key]) -> Estimate:
    """Return the mean of the first's answers, less that of another's where there is one."""
    return _told(record, *_evidence(record, shots, keys), alone=len(keys) == 1)


def _evidence(record: Record, shots: int, keys: Sequence[Key]) -> tuple[_Paired, _Paired | None]:
    """Return the answers, and those that tell better how well each support set teaches, if others than these do.

    Where all examples but a fifth are learned from, too few are asked by two draws to tell how well each teaches: that
    follows from the largest number of shots, since it varies less with more examples, in proportion.
    """
    few = [number for number in record.asked.shots if number != ALL]
    known = _paired(record, few[-1], keys) if shots == ALL and few else None
    if known is not None and len(torch.unique(known.draws)) < FEWEST:
        known = None
    return _paired(record, shots, keys), known


def _told(record: Record, found: _Paired, known: _Paired | None, alone: bool = True) -> Estimate:
    """Return the mean of answers with its interval.

    Args:
        record: of the ladder.
        found, known: what ``_evidence`` returned, or a part of it.
        alone: whether answers are of one rung, and no differences.
    """
    groups, targets = record.examples.groups, torch.tensor(record.examples.targets)
    origins_P = torch.tensor(np.unique(groups, return_inverse=True)[1])[found.rows] if groups else None
    teaching = None
    if known is not None and len(known.right):
        teaching = teaching_variance(known.right, known.draws, known.rows, known.taught) * known.taught / found.taught
    mean, half = draws_interval(
        found.right, found.draws, found.rows, targets[found.rows], found.taught, origins_P, teaching, alone
    )
    widest = max(mean, 1 - mean) if alone else 1 + abs(mean)  # whatever it is, it lies within
    return Estimate(mean, min(half, widest), found.seconds)


class _Paired(NamedTuple):
    """What was answered on the draws that all of some rungs were climbed on."""

    right: Tensor
    """``[P]``, whether the first answered rightly; less whether another did."""
    draws: Tensor
    rows: Tensor
    taught: float
    """The share of all examples that a draw learns from."""
    seconds: float
    """Of the first, the median."""

    def some(self, these_P: Tensor) -> _Paired:
        """Return some of the answers."""
        return self._replace(right=self.right[these_P], draws=self.draws[these_P], rows=self.rows[these_P])


def _paired(record: Record, shots: int, keys: Sequence[Key]) -> _Paired:
    numbers = _common(record, shots, keys)
    right_P, draws_P, rows_P = _right(record, keys[0], shots, numbers)
    if len(keys) > 1:
        right_P = right_P - _right(record, keys[1], shots, numbers)[0]
    learned = [len(record.draws[shots, number].support) for number in numbers]
    taught = float(np.mean(learned)) / len(record.examples.targets) if learned else 0.0
    seconds = [record.results[keys[0], shots, number].seconds for number in numbers]
    return _Paired(right_P, draws_P, rows_P, taught, float(np.median(seconds)) if seconds else 0.0)


def _common(record: Record, shots: int, keys: Sequence[Key]) -> list[int]:
    """Return the draws that all of some rungs were climbed on."""
    every = (number for of, number in record.draws if of == shots)
    return [number for number in every if all((key, shots, number) in record.results for key in keys)]


def _right(record: Record, key: Key, shots: int, numbers: Sequence[int] | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Return whether each query of draws was rightly answered, ``[P]``, which draw it is of, and its row."""
    if numbers is None:
        numbers = _common(record, shots, [key])
    targets = torch.tensor(record.examples.targets)
    right, draws, rows = [], [], []
    for number in numbers:
        asked = torch.tensor(record.draws[shots, number].queries)
        answers = torch.tensor(record.results[key, shots, number].answers)
        right.append((answers == targets[asked]).double())
        draws.append(torch.full_like(asked, number))
        rows.append(asked)
    if not right:
        return torch.empty(0, dtype=torch.float64), torch.empty(0, dtype=torch.long), torch.empty(0, dtype=torch.long)
    return torch.cat(right), torch.cat(draws), torch.cat(rows)


# ---- which is good enough


def chosen(record: Record, worth: float = WORTH) -> Choice | None:
    """Return the rung that is good enough: the cheapest that the best does not surpass both clearly and by enough.

    Clearly: the 95% interval of the difference lies above 0. Of rungs of one cost the most accurate stands for them.
    They are compared where most examples were learned from; those that make no model, depend on what else is
    asked, or are there to be beaten are not chosen.

    Args:
        record: of a ladder, finished or not.
        worth: the least difference that is enough.
    """
    candidates = [
        key for key, step in record.steps.items() if step.saves and not step.baseline and not step.transductive
    ]
    for shots in reversed(record.asked.shots):
        there = [key for key in candidates if seen(record, key, shots) and done(record, key, shots)]
        if there:
            return _chosen(record, there, shots, worth)
    return None


def _chosen(record: Record, keys: Sequence[Key], shots: int, worth: float) -> Choice:
    found = [accuracy(record, key, shots) for key in keys]
    costs = [record.steps[key].cost for key in keys]
    halves_KK = np.array([[difference(record, one, other, shots).ci95 for other in keys] for one in keys])
    levels_K = np.array(_levels(record, keys, shots, found))
    place, best = _good_enough(levels_K, halves_KK, costs, worth), int(levels_K.argmax())
    optimism = _optimism(record, keys, shots, halves_KK, costs, worth)
    gain = difference(record, keys[best], keys[place], shots)
    took = [each.seconds + taken_before(record, key) for key, each in zip(keys, found, strict=True)]
    times = took[best] / max(took[place], 1e-9)
    expected = Estimate(float(levels_K[place]) - optimism, found[place].ci95)
    saved = _grown(record, keys[place], expected) if shots == ALL else None
    return Choice(keys[place], shots, *expected[:2], keys[best], gain, times, saved)


def taken_before(record: Record, key: Key) -> float:
    """Return the seconds that a rung took once, before it learned anything: to train its encoder, and to embed."""
    step = record.steps[key]
    return step.embedding_seconds + step.training_seconds


def _levels(record: Record, keys: Sequence[Key], shots: int, found: Sequence[Estimate]) -> list[float]:
    """Return accuracies on all draws; of what was climbed on some, by its difference there from one climbed on all."""
    whole = [at for at, key in enumerate(keys) if not record.steps[key].draws]
    if not whole:
        return [each.mean for each in found]
    known = max(whole, key=lambda at: found[at].mean)
    return [
        found[known].mean + difference(record, key, keys[known], shots).mean if record.steps[key].draws else each.mean
        for key, each in zip(keys, found, strict=True)
    ]


def _good_enough(means_K: NDArray[Any], halves_KK: NDArray[Any], costs: Sequence[int], worth: float) -> int:
    """Return the place of the rung that is chosen."""
    best = int(means_K.argmax())
    for cost in sorted(set(costs)):
        place = max((at for at in range(len(costs)) if costs[at] == cost), key=lambda at: means_K[at])
        gain, half = means_K[best] - means_K[place], halves_KK[best, place]
        if not (gain >= worth and gain > half):
            return place
    return best


def _optimism(
    record: Record,
    keys: Sequence[Key],
    shots: int,
    halves_KK: NDArray[np.float64],
    costs: Sequence[int],
    worth: float,
) -> float:
    """Return by how much the accuracy of the chosen one is too high, as it was chosen by it.

    Examples are resampled with all that was answered to them, the choice is made again, and what it reaches in the
    resample is compared with what it reaches in all examples, which stand to the resample as all that there might be
    stand to them (Efron 1983, https://doi.org/10.1080/01621459.1983.10477973). Those that are not in the resample are
    off by as much to the other side, and would tell twice the difference.
    """
    if len(keys) < 2:
        return 0.0
    sums, numbers = [], _common(record, shots, keys)
    for key in keys:
        right_P, _, rows_P = _right(record, key, shots, numbers)
        asked_N = torch.bincount(rows_P)
        kept = asked_N > 0
        sums.append((torch.bincount(rows_P, right_P)[kept] / asked_N[kept]).numpy())
    shares_KN = np.stack(sums)
    generator, count = np.random.default_rng(record.asked.seed), shares_KN.shape[1]
    off = []
    for _ in range(_RESAMPLES):
        within_K = shares_KN[:, generator.integers(0, count, count)].mean(1)
        place = _good_enough(within_K, halves_KK, costs, worth)
        off.append(within_K[place] - shares_KN[place].mean())
    return max(0.0, float(np.mean(off)))


def bought(record: Record, key: Key, more: int = _MORE) -> float | None:
    """Return by how much accuracy would grow with so many more labels of each class; None where too little is known."""
    if (error := _errors(record, key)) is None:
        return None
    now = _everything(record)
    return error(now) - error(now + more)


def _grown(record: Record, key: Key, expected: Estimate) -> Estimate | None:
    """Return what to expect of a rung that learns all examples, by what it reaches with all but a fifth of them.

    Its errors become fewer in proportion. What it gains by that is taken to be known to within as much again.
    """
    if (error := _errors(record, key)) is None:
        return None
    fewer = error(_everything(record)) / error(_learned(record, ALL))
    gained = (1 - expected.mean) * (1 - fewer)
    return Estimate(expected.mean + gained, min(math.hypot(expected.ci95, gained), 1.0))


def _errors(record: Record, key: Key) -> Callable[[float], float] | None:
    """Return the share of wrong answers by the examples of a class that are learned from; None of one number of them.

    It falls with a power of that number, which is fitted to the last three numbers of shots.
    """
    counts, errors = [], []
    for shots in record.asked.shots:
        if seen(record, key, shots):
            counts.append(_learned(record, shots))
            errors.append(max(1 - accuracy(record, key, shots).mean, 1e-4))
    if len(counts) < 2:
        return None
    slope, level = np.polyfit(np.log(counts[-3:]), np.log(errors[-3:]), 1)
    return lambda number: math.exp(level + min(slope, 0.0) * math.log(number))


def _learned(record: Record, shots: int) -> float:
    """Return how many examples of a class a draw of so many shots learns from, in the mean over classes."""
    return len(record.draws[shots, 0].support) / len(record.asked.classes)


def _everything(record: Record) -> float:
    """Return how many examples of a class there are, in the mean over classes."""
    return len(record.examples.targets) / len(record.asked.classes)


# ---- in words


def in_points(estimate: Estimate | OfClasses) -> str:
    """Return an accuracy in percent, with its interval."""
    half = "" if math.isnan(estimate.ci95) else f" ± {100 * estimate.ci95:.1f}"
    return f"{100 * estimate.mean:.1f}{half}"


def of_shots(record: Record, shots: int) -> str:
    """Return in words how many examples of a class are learned from."""
    if shots == ALL:
        return f"{_each(record)} examples per class (all but a fifth)"
    return f"{shots} example{'s' * (shots > 1)} per class"


def column(record: Record, shots: int) -> str:
    """Return the heading of a number of shots."""
    return f"all ({_each(record)})" if shots == ALL else str(shots)


def _each(record: Record) -> str:
    learned = record.draws.get((ALL, 0))
    if learned is None:
        return "all"
    return _span(np.bincount(np.array(record.examples.targets)[list(learned.support)]).tolist())


def _span(counts: Sequence[int]) -> str:
    least, most = min(counts), max(counts)
    return f"{most}" if most - least < 2 else f"{least} to {most}"


def named(record: Record, key: Key) -> str:
    """Return the name of a rung, and of its backbone where there are several."""
    several = len({*record.asked.backbones, *(each.backbone for each in record.steps if each.backbone)}) > 1
    return f"{key.rung} on {key.backbone}" if several and key.backbone else key.rung


def of_held_classes(record: Record, choice: Choice) -> list[str]:
    """Return in words what meta-training on half of the classes adds to the chosen rung on the other half."""
    lines = []
    for key, step in record.steps.items():
        if step.draws >= 0:
            continue
        parts = []
        for shots in record.episodes:
            alone = accuracy_of_classes(record, key, shots)
            apart = accuracy_of_classes(record, key, shots, choice.key)
            if alone is not None and apart is not None:
                more = f"{100 * apart.mean:+.1f} ± {100 * apart.ci95:.1f}"
                parts.append(f"{shots} shot{'s' * (shots > 1)} {in_points(alone)} ({more})")
        if parts:
            lines.append(
                f"{named(record, key)}, meta-trained on half of these classes in {step.training_seconds:.0f} s and "
                f"asked about the other half (against {named(record, choice.key)}): {', '.join(parts)}"
            )
    return lines


def _not_beaten(record: Record, choice: Choice) -> tuple[str, bool]:
    """Return in words what is there to be beaten and was not, and whether the chosen rung has fewer answers right."""
    baselines = [key for key, step in record.steps.items() if step.baseline and seen(record, key, choice.shots)]
    if not baselines:
        return "", False
    most = max(baselines, key=lambda key: accuracy(record, key, choice.shots).mean)
    over = difference(record, choice.key, most, choice.shots)
    if over.mean > over.ci95:
        return "", False
    level = in_points(accuracy(record, most, choice.shots))
    return f"{named(record, most)}, {level}: {record.steps[most].about}", over.mean < 0


def sentence(record: Record, choice: Choice | None) -> str:
    """Return in a sentence what is recommended, what more would cost and bring, and what more labels would."""
    if choice is None:
        return "Nothing can be recommended yet: no rung that can be saved was climbed to its end."
    estimate = Estimate(choice.accuracy, choice.ci95)
    at = f"{named(record, choice.key)} at {of_shots(record, choice.shots)}"
    simple, worse = _not_beaten(record, choice)
    if worse:
        at = f"Nothing that can be saved is better than {simple}. Try other backbones. The best of these is {at}"
    in_table = accuracy(record, choice.key, choice.shots).mean
    less = (
        f" (less than in the table by {100 * off:.1f}, as it was chosen by it)"
        if (off := in_table - choice.accuracy) >= 0.0005
        else ""
    )
    parts = [f"{at}: {in_points(estimate)} % of new examples right{less}"]
    if choice.saved is not None:
        parts.append(f"trained on all {_span(record.asked.counts)}, as saved, about {in_points(choice.saved)}")
    if choice.best != choice.key:
        why = f"not worth {choice.times:.0f} times the time" if choice.times >= 2 else "not worth it"
        parts.append(f"{named(record, choice.best)} adds {in_points(choice.gain)}, {why}")
    if simple and not worse:
        parts.append(f"not clearly better than {simple}")
    if (more := bought(record, choice.key)) is not None:
        parts.append(f"{_MORE} more labels per class would buy about {100 * more:.1f}")
    return "; ".join(parts) + "."
