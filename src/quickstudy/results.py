"""What a test measured, in plain values and in words; and what a model answered."""

from __future__ import annotations

import platform
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.data.loading import BatchDataset, Steps
from quickstudy.data.samples import file_of
from quickstudy.data.scan import folder_labels
from quickstudy.data.table import Table
from quickstudy.data.targets import Label, as_label
from quickstudy.datamodule import DataModule
from quickstudy.errors import DataError
from quickstudy.outcome import Outcome, finite

_CONFUSIONS = 100  # in test.json; test.safetensors has all
Output = Literal["labels", "probabilities", "logits", "classes", "rows"]
Size = int | Sequence[int]
Named = Iterable[tuple[str, Label | None]]
"""Of each input what it is called, and its label where the data has one."""


class Prediction(NamedTuple):
    """What a model says of one input."""

    file: str
    """Its file; or its number, as in ``"input 3"``."""
    label: Label
    """As the training data has it."""
    probability: float
    """Of the label; of the likeliest class where the label is unknown."""
    likeliest: Label
    true: Label | None = None
    """The label that the data gives it, if any; of several, all of them."""
    ranking: Sequence[Mapping[str, Any]] = ()
    """The likeliest classes, name and probability of each, where they were asked for."""


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
    if model.plan is not None and per_class and result["accuracy_ci95_classes"] is None:
        notes.append(_no_interval_over_classes(len(per_class)))
    table = data.table("test", by_class=model.plan is not None) if isinstance(data, DataModule) else None
    return result | {"notes": notes} | ({} if table is None else {"data": table.fingerprint})


def _one_or_both(least: int, most: int) -> int | list[int]:
    return least if least == most else [least, most]


def _no_interval_over_classes(classes: int) -> str:
    if classes < 3:
        return f"There is no interval for other classes: {classes} say nothing of how classes differ."
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
        return f"on {result['examples']} examples of {result['classes']} class{'es' * (result['classes'] != 1)}{seen}"
    kind = "transductive" if result["transductive"] else "inductive"
    sizes = in_sizes(result["ways"], result["shots"], result["queries"])
    return f"over {result['episodes']} episodes, {sizes}, {kind}"


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
    in_words = tuple(
        str(each) if isinstance(each, int) else " to ".join(map(str, dict.fromkeys(each)))
        for each in (ways, shots, queries)
    )
    return f"{in_words[0]}-way {in_words[1]}-shot with {in_words[2]} queries per class"


def versions() -> dict[str, str]:
    """Return the versions that a result may depend on."""
    packages = ("quickstudy", "torch", "lightning", "numpy", "torchvision", "timm", "pillow", "peft")
    known = {name: version(name) for name in packages if find_spec({"pillow": "PIL"}.get(name, name))}
    return {"python": platform.python_version(), **known}


def named(table: Table, rows: NDArray[np.integer[Any]], classes: Collection[Label]) -> Named:
    """Return the names of a table's examples, and their labels: their targets, or what their class folders say.

    Args:
        table: of examples.
        rows: ``[N]``, of it.
        classes: that a model knows.
    """
    labels: Sequence[Label | None] | None = None
    if table.targets is None:
        labels = folder_labels(table.inputs, classes)
    elif table.multi_label:
        labels = [", ".join(table.classes[code] for code in np.flatnonzero(own)) for own in table.targets]
    else:
        labels = [as_label(table.classes[code], table.label_type) for code in table.targets]
    for row in rows.tolist():
        yield file_of(table.inputs, row) or f"input {row}", None if labels is None else labels[row]


def named_by_loader(loader: Any, count: int, classes: Collection[Label]) -> Named:
    """Return the names and labels of the first inputs that a loader of batches went through; see ``named``.

    Args:
        loader: of ``DataModule``, or any other, of which nothing is known.
        count: N.
        classes: that a model knows.
    """
    dataset, sampler = getattr(loader, "dataset", None), getattr(loader, "sampler", None)
    if not isinstance(dataset, BatchDataset) or not isinstance(sampler, Steps):
        return ((f"input {row}", None) for row in range(count))
    rows = np.concatenate([np.empty(0, np.int64), *(rows for _, rows in sampler.starting(0))])
    return named(dataset.table, rows[:count], classes)


def rows_of(
    chances_NC: Tensor, classes: Sequence[Label], inputs: Named, several: bool = False
) -> Iterator[list[Prediction]]:
    """Return for each of N inputs its row; with several labels per input, one for each label above one half.

    Args:
        chances_NC: probabilities.
        classes: C names.
        inputs: what each is called, and its label where that is known.
        several: whether an input may have several labels.
    """
    for chances_C, (file, true) in zip(chances_NC.cpu(), inputs, strict=True):
        best = int(chances_C.argmax())
        codes = (chances_C > 0.5).nonzero().flatten().tolist() if several else [best]
        yield [Prediction(file, classes[code], round(float(chances_C[code]), 6), classes[best], true) for code in codes]


def labels_of(task: Any) -> list[Label]:
    """Return the classes that a task's head knows as the training data has them: strings, whole numbers or bools."""
    return [as_label(name, task.label_type) for name in task.classes]


def answers(task: Any, batches: Any, output: Output, loader: Any = None) -> Any:
    """Return logits in another form.

    Args:
        task: with fixed classes.
        batches: tensors ``[B, C]``.
        output: see ``Trainer.predict``.
        loader: that they are of, for the names in rows.

    Raises:
        DataError: an answer is not a number.
    """
    logits = torch.cat(batches).float() if batches else torch.empty(0, len(task.classes))
    wrong = logits.isnan().any(-1).nonzero().flatten().tolist()
    if wrong:
        raise DataError(
            f"the model's answer to input {wrong[0]} is not a number: does it hold NaN or infinite values, or was the "
            "model trained until it diverged?"
        )
    several = task.hparams["multi_label"]
    labels = labels_of(task)
    if output == "logits":
        return logits
    if output in ("probabilities", "rows"):
        chances = logits.sigmoid() if several else logits.softmax(-1)
        if output == "probabilities":
            return chances
        inputs = named_by_loader(loader, len(chances), labels)
        return [row for rows in rows_of(chances, labels, inputs, several) for row in rows]
    classes: Tensor = (logits > 0).long() if several else logits.argmax(-1)
    if output == "classes":
        return classes
    if several:
        return [[labels[code] for code in row.nonzero().flatten().tolist()] for row in classes]
    return [labels[code] for code in classes.tolist()]
