"""What a test measured, in plain values and in words."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from quickstudy.training.datamodule import DataModule
from quickstudy.training.outcome import Outcome, finite

_CONFUSIONS = 100  # in test.json; test.safetensors has all
Size = int | Sequence[int]


def result_of(model: Any, figures: Mapping[str, float], data: Any = None) -> dict[str, Any]:
    """Return the figures of a tested task with what they are figures of, in values that JSON has.

    Args:
        model: the task.
        figures: what ``trainer.test`` returned for it.
        data: the data module that it was tested on, if it was one.
    """
    result: dict[str, Any] = {name.removeprefix("test_"): finite(value) for name, value in figures.items()}
    outcome: Outcome | None = model.outcome
    if model.plan is None:
        result |= {"examples": int(result["examples"]), "classes": len(model.classes)}
        result |= {"trained_on": model.seen_before} if model.seen_before else {}
        result |= {"chosen_by": model.chosen_by} if model.chosen_by else {}
    else:
        shape = outcome.shape if outcome is not None else None
        sizes = model.plan.shape("test") if shape is None else [_one_or_both(*each) for each in shape]
        result |= {"accuracy_ci95_classes": result.get("accuracy_ci95_classes"), "episodes": int(result["episodes"])}
        result |= dict(zip(("ways", "shots", "queries"), sizes, strict=True))
        result |= {"transductive": bool(result["transductive"])}
    per_class = outcome.per_class() if outcome is not None else {}
    if outcome is not None and per_class:
        result |= {"classes": len(per_class)} if model.plan is not None else {}
        result["per_label" if len(outcome.labels) else "per_class"] = per_class
        result["confusions"] = outcome.largest_confusions(_CONFUSIONS)
    notes: list[str] = []
    if "trained_on" in result:
        notes.append(
            f"The model was trained on at least {result['trained_on']} of the {result['examples']} examples of this "
            "test, which tells nothing about new ones: test it on examples that it was not trained on."
        )
    if "chosen_by" in result:
        notes.append(
            f"At least {result['chosen_by']} of the {result['examples']} examples of this test chose the model's "
            "checkpoint, so that the figure flatters it: test it on examples that chose nothing."
        )
    if model.plan is not None and per_class and result["accuracy_ci95_classes"] is None:
        notes.append(_no_interval_over_classes(len(per_class)))
    table = data.table("test", by_class=model.plan is not None) if isinstance(data, DataModule) else None
    return result | {"notes": notes} | ({} if table is None else {"data": table.fingerprint})


def _one_or_both(least: int, most: int) -> int | list[int]:
    return least if least == most else [least, most]


def _no_interval_over_classes(classes: int) -> str:
    if classes < 3:
        return (
            f"There is no interval for other classes: {classes} say nothing of how classes differ. It takes test "
            "data of at least 3 classes, and fewer of them in an episode (test_ways)."
        )
    return (
        f"There is no interval for other classes: one of the {classes} classes is in every episode, and cannot be left "
        "out. With a smaller test_ways, or more episodes, there is one."
    )


def sentence(result: Mapping[str, Any]) -> str:
    """Return in words what ``result_of`` returned."""
    return f"accuracy {result['accuracy']:.2%} {interval(result)} {measured_on(result)}"


def interval(result: Mapping[str, Any]) -> str:
    """Return in words the intervals of a result: of the draw of episodes or examples, and of classes where known."""
    ci95, of_classes = result["accuracy_ci95"], result.get("accuracy_ci95_classes")
    if ci95 is None:
        one_class = "episodes" not in result and result.get("classes") == 1
        return "(one class: no answer is wrong)" if one_class else "(one alone has no interval)"
    if of_classes is None:
        return f"± {ci95:.2%} (95% interval)"
    these = f"for these {result['classes']} classes, for others of their kind"
    return f"± {ci95:.2%} {these} ± {of_classes:.2%} (95% interval)"


def measured_on(result: Mapping[str, Any]) -> str:
    """Return in words what a result was measured on."""
    if "episodes" not in result:
        seen = f", at least {result['trained_on']} of which it was trained on" if result.get("trained_on") else ""
        seen += f", at least {result['chosen_by']} of which chose its checkpoint" if result.get("chosen_by") else ""
        return f"on {result['examples']} examples of {result['classes']} class{'es' * (result['classes'] != 1)}{seen}"
    kind = "transductive" if result["transductive"] else "inductive"
    sizes = in_sizes(result["ways"], result["shots"], result["queries"])
    return f"over {result['episodes']} episodes, {sizes}, {kind}"


def of_an_episode(result: Mapping[str, Any]) -> list[str]:
    """Return what an episode is and what the classifier sees of it, in words; nothing without episodes."""
    if "episodes" not in result:
        return []
    ways, shots, queries = (_span(result[name]) for name in ("ways", "shots", "queries"))
    alone = "Inductive: each is classified on its own."
    together = "Transductive: those of an episode are classified together, as a batch in which all its classes occur."
    return [
        f"An episode: {ways} classes of the test, {shots} examples of each to learn from, {queries} further ones of "
        f"each to classify. {together if result['transductive'] else alone}"
    ]


def chance(result: Mapping[str, Any]) -> tuple[float, str] | None:
    """Return what share would be right without a look at the inputs, and that in words; None with several labels."""
    if "episodes" in result:
        ways = result["ways"]
        share = 1 / (ways if isinstance(ways, int) else ways[0])
        where = "" if isinstance(ways, int) else ", where the ways are fewest"
        return share, f"Guessing is right in {share:.1%}{where}."
    asked = {name: figures["examples"] for name, figures in result.get("per_class", {}).items()}
    if not asked:
        return None
    name = max(asked, key=asked.__getitem__)
    share = asked[name] / sum(asked.values())
    return share, f"Always answering '{name}', the most frequent class, is right in {share:.1%}."


def covers(result: Mapping[str, Any]) -> str:
    """Return in words what the intervals of a result cover, and what not."""
    if "episodes" not in result:
        return "The interval is of 95%, over the examples: it covers which examples there are of these classes."
    of_classes = result.get("accuracy_ci95_classes")
    draw = "The interval is of 95%, and covers the draw of episodes from these test classes only"
    if of_classes is None:
        return f"{draw}; for other classes of the same kind the uncertainty is larger."
    return (
        f"{draw}. For other classes of the same kind it is ± {of_classes:.1%}: each of the {result['classes']} classes "
        "was left out in turn."
    )


def in_sizes(ways: Size, shots: Size, queries: Size) -> str:
    """Return in words how large episodes are; of what differs, the least and the most.

    >>> in_sizes(5, 1, 15), in_sizes([2, 5], 1, [9, 9])
    ('5-way 1-shot with 15 queries per class', '2 to 5-way 1-shot with 9 queries per class')
    """
    return f"{_span(ways)}-way {_span(shots)}-shot with {_span(queries)} queries per class"


def _span(size: Size) -> str:
    return str(size) if isinstance(size, int) else " to ".join(map(str, dict.fromkeys(size)))


def versions() -> dict[str, str]:
    """Return the versions that a result may depend on."""
    packages = ("quickstudy", "torch", "lightning", "numpy", "torchvision", "timm", "pillow", "peft")
    known = {name: version(name) for name in packages if find_spec({"pillow": "PIL"}.get(name, name))}
    return {"python": platform.python_version(), **known}
