"""Measure the accuracy of a checkpoint, with its 95% interval."""

from __future__ import annotations

import argparse
import json
import logging
import math
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from quickstudy.cli.runs import add_data, add_episodes, add_trainer, build_data, build_trainer, load_model, load_options
from quickstudy.files import atomic_write
from quickstudy.image import ImageClassifier

MEASURED = "test.json"
"""What ``quickstudy test`` measured, in the run's folder."""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--checkpoint", type=str, required=True, help="a file that quickstudy fit or Trainer wrote")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_episodes(parser)
    add_data(parser, ("test",))
    add_trainer(parser, ("accelerator", "devices", "num_nodes", "strategy", "precision", "enable_progress_bar"))


def run(args: argparse.Namespace) -> int:
    """Test, and print what was measured on one line, or as JSON; a run's folder keeps it for ``quickstudy verify``."""
    options: dict[str, Any] = {
        "checkpoint": args.checkpoint,
        "episodes": {name: value for name, value in _given(vars(args)).items() if name.startswith("test_")},
        "data": _given(args.data),
        "trainer": dict(args.trainer),
    }
    result = measured(options)
    if result is None:
        return 0
    print(json.dumps({"checkpoint": args.checkpoint, **_plain(result)}) if args.json else sentence(result))
    folder = Path(args.checkpoint).parent
    if (folder / "config.yaml").exists():
        with atomic_write(folder / MEASURED, "w") as file:
            json.dump({"options": options, "versions": versions(), "result": _plain(result)}, file, indent=1)
    return 0


def measured(options: Mapping[str, Any]) -> dict[str, Any] | None:
    """Test a checkpoint.

    Args:
        options: ``checkpoint``, and the options of ``episodes``, ``data`` and ``trainer``.

    Returns:
        What was measured; None on all processes but the first.
    """
    model = load_model(options["checkpoint"], options["episodes"])
    data = build_data(options["data"], load_options(model))
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    trainer = build_trainer(options["trainer"], logger=False, enable_checkpointing=False)
    (found,) = trainer.test(model, data, verbose=False)
    table = data.table("test", by_class=model.plan is not None)
    fingerprint = {"data": table.fingerprint} if table is not None else {}
    return _result(model, dict(found)) | fingerprint if trainer.is_global_zero else None


def versions() -> dict[str, str]:
    """Return the versions that a result may depend on."""
    packages = ("quickstudy", "torch", "lightning", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def _result(model: ImageClassifier, measured: dict[str, float]) -> dict[str, Any]:
    result: dict[str, Any] = {name.removeprefix("test_"): value for name, value in measured.items()}
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


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _plain(result: dict[str, Any]) -> dict[str, Any]:
    # The interval of a single episode is no number, and JSON has no word for that.
    lost = {name: None for name, value in result.items() if isinstance(value, float) and not math.isfinite(value)}
    return {**result, **lost}


def sentence(result: Mapping[str, Any]) -> str:
    """Return what was measured in words."""
    ci95 = result["accuracy_ci95"]
    interval = (
        f"± {ci95:.2%} (95% interval)" if ci95 is not None and math.isfinite(ci95) else "(one alone has no interval)"
    )
    accuracy = f"accuracy {result['accuracy']:.2%} {interval}"
    if "episodes" not in result:
        return f"{accuracy} on {result['examples']} examples of {result['classes']} classes"
    kind = "transductive" if result["transductive"] else "inductive"
    shape = f"{result['ways']}-way {result['shots']}-shot with {result['queries']} queries per class"
    return f"{accuracy} over {result['episodes']} episodes, {shape}, {kind}"
