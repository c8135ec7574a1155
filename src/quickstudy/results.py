"""What a test measured, in plain values and in words; and what a model answered."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor

from quickstudy.data.targets import as_label
from quickstudy.errors import DataError

Output = Literal["labels", "probabilities", "logits", "classes"]


def result_of(model: Any, figures: Mapping[str, float]) -> dict[str, Any]:
    """Return the figures of a tested task with what they are figures of, in values that JSON has.

    Args:
        model: the task.
        figures: what ``trainer.test`` returned for it.
    """
    result: dict[str, Any] = {
        # The interval of a single episode is no number, and JSON has no word for that.
        name.removeprefix("test_"): value if math.isfinite(value) else None
        for name, value in figures.items()
    }
    if model.plan is None:
        return result | {"examples": int(result["examples"]), "classes": len(model.classes)}
    ways, shots, queries = model.plan.shape("test")
    transductive = bool(result.pop("transductive"))
    return result | {
        "episodes": int(result["episodes"]),
        "ways": ways,
        "shots": shots,
        "queries": queries,
        "transductive": transductive,
    }


def sentence(result: Mapping[str, Any]) -> str:
    """Return in words what ``result_of`` returned."""
    ci95 = result["accuracy_ci95"]
    alone = "(one class: no answer is wrong)" if result.get("classes") == 1 else "(one alone has no interval)"
    interval = alone if ci95 is None else f"± {ci95:.2%} (95% interval)"
    return f"accuracy {result['accuracy']:.2%} {interval} {measured_on(result)}"


def measured_on(result: Mapping[str, Any]) -> str:
    """Return in words what a result was measured on."""
    if "episodes" not in result:
        return f"on {result['examples']} examples of {result['classes']} class{'es' * (result['classes'] != 1)}"
    kind = "transductive" if result["transductive"] else "inductive"
    shape = f"{result['ways']}-way {result['shots']}-shot with {result['queries']} queries per class"
    return f"over {result['episodes']} episodes, {shape}, {kind}"


def versions() -> dict[str, str]:
    """Return the versions that a result may depend on."""
    packages = ("quickstudy", "torch", "lightning", "numpy", "torchvision", "timm", "pillow", "peft")
    known = {name: version(name) for name in packages if find_spec({"pillow": "PIL"}.get(name, name))}
    return {"python": platform.python_version(), **known}


def answers(task: Any, batches: Any, output: Output) -> Any:
    """Return logits in another form.

    Args:
        task: with fixed classes.
        batches: tensors ``[B, C]``.
        output: see ``Trainer.predict``.

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
    if output == "logits":
        return logits
    if output == "probabilities":
        return logits.sigmoid() if several else logits.softmax(-1)
    classes: Tensor = (logits > 0).long() if several else logits.argmax(-1)
    if output == "classes":
        return classes
    labels = [as_label(name, task.label_type) for name in task.classes]
    if several:
        return [[labels[code] for code in row.nonzero().flatten().tolist()] for row in classes]
    return [labels[code] for code in classes.tolist()]
