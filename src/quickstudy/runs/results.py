"""What a test measured, in plain values and in words."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from quickstudy.episode import UNITS, Unit
from quickstudy.errors import one_line
from quickstudy.kinds.base import ACCURACY, Score
from quickstudy.kinds.metrics import Estimate
from quickstudy.training.datamodule import DataModule
from quickstudy.training.outcome import Outcome, finite

_CONFUSIONS = 100  # in test.json; test.safetensors has all
Size = int | Sequence[int]


def naming(score: Score) -> dict[str, Any]:
    """Return what a file says of a score, for ``score_in``; nothing of the accuracy, as when it was the only one."""
    return {} if score == ACCURACY else {"score": score._asdict()}


def score_in(record: Mapping[str, Any]) -> Score:
    """Return the score that a run's record, or a result, is of."""
    named = record.get("score")
    return Score(**named) if isinstance(named, Mapping) else ACCURACY


def unit_in(figures: Mapping[str, Any], stage: str = "") -> Unit | None:
    """Return what figures are over, as their number says, such as ``val_episodes``; None where there is none."""
    return next((unit for unit in UNITS if figures.get(stage + unit) is not None), None)


def estimate_of(figures: Mapping[str, Any], score: Score = ACCURACY, units: Any = None, stage: str = "") -> Estimate:
    """Return a score among figures, such as ``val_accuracy``, with its interval; what is not there is not a number."""
    name = stage + score.name
    value, half = (figures.get(each) for each in (name, f"{name}_ci95"))
    return Estimate(math.nan if value is None else value, math.nan if half is None else half, int(units or 0))


def result_of(model: Any, figures: Mapping[str, float], data: Any = None) -> dict[str, Any]:
    """Return the figures of a tested task with what they are figures of, in values that JSON has.

    Args:
        model: the task.
        figures: what ``trainer.test`` returned for it.
        data: the data module that it was tested on, if it was one.
    """
    result: dict[str, Any] = {name.removeprefix("test_"): finite(value) for name, value in figures.items()}
    outcome: Outcome | None = model.outcome
    score: Score = model.score
    if outcome is not None and len(outcome.figures):  # for a task of one's own that logs less
        result = {score.name: finite(outcome.value), f"{score.name}_ci95": finite(outcome.ci95())} | result
        result.setdefault(outcome.unit, len(outcome.figures))
    result |= {unit: int(result[unit]) for unit in UNITS if result.get(unit) is not None}
    if outcome is not None and len(outcome.groups):
        result["groups"] = len(np.unique(outcome.groups))
    result = model.procedure.tested(model, outcome, result)
    per_class = outcome.per_class() if outcome is not None else {}
    for name, threshold in zip(per_class, getattr(model.kind, "thresholds", ()), strict=False):
        per_class[name]["threshold"] = threshold
    if outcome is not None and per_class:
        result.setdefault("classes", len(per_class))
        result["per_label" if len(outcome.labels) else "per_class"] = per_class
        result["confusions"] = outcome.largest_confusions(_CONFUSIONS)
    if outcome is not None and len(outcome.labels):  # of folds together nobody else tells
        result = outcome.f1() | result
    if outcome is not None and outcome.found:
        result["found_per_class"] = _of_parts(outcome.found, result, score)
        result |= {"found_at": model.kind.found_at} if model.kind.found_at else {}
    notes: list[str] = []
    examples = f"the {result['examples']} examples" if "examples" in result else "the examples"
    if "trained_on" in result:
        notes.append(
            f"The model was trained on at least {result['trained_on']} of {examples} of this "
            "test, which tells nothing about new ones: test it on examples that it was not trained on."
        )
    if "chosen_by" in result:
        notes.append(
            f"At least {result['chosen_by']} of {examples} of this test chose the model's "
            "checkpoint, so that the figure flatters it: test it on examples that chose nothing."
        )
    if per_class and result.get(f"{score.name}_ci95_classes", 0) is None:
        notes.append(_no_interval_over_classes(len(per_class), result["ways"]))
    table = data.table("test", by_class=model.procedure.by_class) if isinstance(data, DataModule) else None
    return result | naming(score) | {"notes": notes} | ({} if table is None else {"data": table.fingerprint})


def _of_parts(
    found: Mapping[str, Mapping[str, Any]], result: Mapping[str, Any], score: Score
) -> dict[str, dict[str, Any]]:
    """Return what is told of each class, with its part of a score that is the mean over classes, the worst first."""
    part = score.name.removeprefix("mean_").removeprefix("m")
    told = {}
    for name, each in found.items():
        own = {part: result.get(f"{part}_{name}"), f"{part}_ci95": result.get(f"{part}_{name}_ci95")}
        told[name] = {**{key: value for key, value in own.items() if value is not None}, **each}
    return dict(sorted(told.items(), key=lambda one: one[1].get(part, -1.0)))


def _no_interval_over_classes(classes: int, ways: Size) -> str:
    if classes < 3:
        return (
            f"There is no interval for other classes: {classes} say nothing of how classes differ. It takes test "
            "data of at least 3 classes, and fewer of them in an episode (test_ways)."
        )
    if (ways if isinstance(ways, int) else ways[0]) >= classes:
        return (
            f"There is no interval for other classes: all {classes} classes are in every episode, and none can be left "
            f"out. With a smaller test_ways, such as {classes - 1}, there is one."
        )
    return (
        f"There is no interval for other classes: one of the {classes} classes is in every episode, and cannot be left "
        "out. With a smaller test_ways, or more episodes, there is one."
    )


def sentence(result: Mapping[str, Any]) -> str:
    """Return in words what ``result_of`` returned, and how well who does not look at the inputs would do."""
    score = score_in(result)
    value = score.text(result.get(score.name))
    figures = (score.called, f"{value}{interval(result)}{of_labels(result)}", measured_on(result))
    told = " ".join(part for part in figures if part)
    blind = chance(result)
    return told if blind is None else f"{told}; {blind.called}: {score.text(blind.value)}{against(result, blind)}"


def interval(result: Mapping[str, Any]) -> str:
    """Return in words the intervals of a result, behind its value: of episodes or examples, and of classes where known.

    The value follows it at once: it begins with a blank or a comma.
    """
    score = score_in(result)
    name = f"{score.name}_ci95"
    ci95, of_classes = result.get(name), result.get(f"{name}_classes")
    if name not in result:
        return ""
    if ci95 is None:
        one_class = "episodes" not in result and result.get("classes") == 1
        return " (one class: no answer is wrong)" if one_class else " (one alone has no interval)"
    value = result[score.name]
    reach = score.reach(value, ci95)
    reach = f" {reach}" if reach.startswith("±") else f", {reach}"
    if of_classes is None:
        return f"{reach} (95% interval{_over(result)})"
    these = f"for these {result['classes']} classes, for others of their kind"
    return f"{reach} {these} {score.reach(value, of_classes)} (95% interval)"


def _over(result: Mapping[str, Any]) -> str:
    return f", over {result['groups']} groups" if "groups" in result else ""


def of_labels(result: Mapping[str, Any]) -> str:
    """Return in words the F1 of several labels per example, behind what ``interval`` returns; nothing of others.

    Beside it stands the largest one of whoever names the same labels for every example.
    """
    told = [
        f", F1 {ACCURACY.text(value) if half is None else ACCURACY.estimate(value, half)} {over}"
        for name, over in (("micro", "of all labels together"), ("macro", "as the mean over labels"))
        if (value := result.get(f"f1_{name}")) is not None
        for half in [result.get(f"f1_{name}_ci95")]
    ]
    if not told or "per_label" not in result or not result.get("examples"):
        return "".join(told)
    held = sorted((figures["examples"] for figures in result["per_label"].values()), reverse=True)
    blind = (2 * sum(held[:count]) / (count * result["examples"] + sum(held)) for count in range(1, len(held) + 1))
    return f"{''.join(told)} (naming the same labels for all: {ACCURACY.text(max(blind))} of all together)"


def measured_on(result: Mapping[str, Any]) -> str:
    """Return in words what a result was measured on."""
    of_which = "examples of which" if "ways" in result else "of which"
    seen = f", at least {result['trained_on']} {of_which} it was trained on" if result.get("trained_on") else ""
    seen += f", at least {result['chosen_by']} {of_which} chose its checkpoint" if result.get("chosen_by") else ""
    if "ways" not in result:
        examples = f"{result['examples']} examples" if "examples" in result else "all examples"
        classes = result.get("classes")
        of_classes = f" of {classes} class{'es' * (classes != 1)}" if classes else ""
        return f"on {examples}{of_classes}{seen}"
    kind = "transductive" if result["transductive"] else "inductive"
    sizes = in_sizes(result["ways"], result["shots"], result["queries"])
    return f"over {result.get('episodes', 'all')} episodes, {sizes}, {kind}{seen}"


def of_an_episode(result: Mapping[str, Any]) -> list[str]:
    """Return what an episode is and what the classifier sees of it, in words; nothing without episodes."""
    if "ways" not in result:
        return []
    ways, shots, queries = (_span(result[name]) for name in ("ways", "shots", "queries"))
    alone = "Inductive: each is classified on its own."
    together = "Transductive: those of an episode are classified together, as a batch in which all its classes occur."
    if result["ways"] == 1:
        return [
            f"An episode: a group of the test, {shots} examples of it to learn from, {queries} to tell a number of."
        ]
    return [
        f"An episode: {ways} classes of the test, {shots} examples of each to learn from, {queries} further ones of "
        f"each to classify. {together if result['transductive'] else alone}"
    ]


class Blind(NamedTuple):
    """How well one would do without a look at the inputs."""

    value: float
    """The score."""
    called: str
    """How one would answer."""
    told: str
    """Both, in a sentence."""


def chance(result: Mapping[str, Any]) -> Blind | None:
    """Return how well one would do without a look at the inputs; None where that is not known.

    Among classes that is what guessing is right in, or always answering the most frequent one; of numbers it is the
    error of always answering the mean of the tested ones.
    """
    score = score_in(result)
    if result.get(score.name) is None:
        return None
    if score.name == "rmse" and result.get("r2") is not None and result["r2"] < 1:
        error, called = result[score.name] / math.sqrt(1 - result["r2"]), "always answering the mean"
        return Blind(error, called, f"{called.capitalize()} has an {score.called} of {score.text(error)}.")
    if score != ACCURACY:
        return None
    if "episodes" in result:
        ways = result["ways"]
        share = 1 / (ways if isinstance(ways, int) else ways[0])
        where = "" if isinstance(ways, int) else ", where the ways are fewest"
        return Blind(share, "guessing", f"Guessing is right in {share:.1%}{where}.")
    asked = {name: figures["examples"] for name, figures in result.get("per_class", {}).items()}
    if not asked or result.get("classes") == 1:
        return None
    name = max(asked, key=asked.__getitem__)
    share = asked[name] / sum(asked.values())
    told = f"Always answering '{name}', the most frequent class, is right in {share:.1%}."
    even = len(asked) > 1 and len(set(asked.values())) == 1
    return Blind(share, "guessing" if even else f"always answering '{one_line(name)}'", told)


def against(result: Mapping[str, Any], blind: Blind) -> str:
    """Return in words that a result is no better than without a look at the inputs; nothing where it is."""
    score = score_in(result)
    value, half = result[score.name], result.get(f"{score.name}_ci95") or 0.0
    if score.better(blind.value, value + half if score.best == "max" else value - half):
        return ", which is better"
    worst = value - half if score.best == "max" else value + half
    return "" if score.better(worst, blind.value) else ", which the interval includes: this may be no better"


def covers(result: Mapping[str, Any]) -> list[str]:
    """Return in words what the intervals of a result cover, and what not; nothing where it has none."""
    score = score_in(result)
    if f"{score.name}_ci95" not in result:
        return []
    if "ways" not in result:
        these = " of these classes" if result.get("classes") else ""
        over = "the examples" if "groups" not in result else f"the {result['groups']} groups that examples come from"
        return [f"The interval is of 95%, over {over}: it covers which examples there are{these}."]
    of_classes = result.get(f"{score.name}_ci95_classes")
    draw = "The interval is of 95%, and covers the draw of episodes from these test classes only"
    if of_classes is None:
        return [f"{draw}; for other classes of the same kind the uncertainty is larger."]
    reach = score.reach(result[score.name], of_classes, "{:.1%}".format if score.share else None)
    return [
        f"{draw}. For other classes of the same kind it is {reach}: each of the {result['classes']} classes "
        "was left out in turn."
    ]


def in_sizes(ways: Size, shots: Size, queries: Size) -> str:
    """Return in words how large episodes are; of what differs, the least and the most.

    >>> in_sizes(5, 1, 15), in_sizes([2, 5], 1, [9, 9])
    ('5-way 1-shot with 15 queries per class', '2 to 5-way 1-shot with 9 queries per class')
    """
    if ways == 1:
        return f"{_span(shots)}-shot with {_span(queries)} queries, each of one group"
    return f"{_span(ways)}-way {_span(shots)}-shot with {_span(queries)} queries per class"


def _span(size: Size) -> str:
    return str(size) if isinstance(size, int) else " to ".join(map(str, dict.fromkeys(size)))


def versions() -> dict[str, str]:
    """Return the versions that a result may depend on."""
    packages = ("quickstudy", "torch", "lightning", "numpy", "torchvision", "timm", "pillow", "peft")
    known = {name: version(name) for name in packages if find_spec({"pillow": "PIL"}.get(name, name))}
    return {"python": platform.python_version(), **known}
