"""Measure the accuracy of a checkpoint, with its 95% interval."""

from __future__ import annotations

import argparse
import json
import logging
import math
from typing import Any

from jsonargparse import ArgumentParser

from quickstudy.cli.runs import add_data, add_episodes, add_trainer, build_data, build_trainer, load_model, load_options
from quickstudy.image import ImageClassifier


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--checkpoint", type=str, required=True, help="a file that quickstudy fit or Trainer wrote")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_episodes(parser)
    add_data(parser, ("test",))
    add_trainer(parser, ("accelerator", "devices", "num_nodes", "strategy", "precision", "enable_progress_bar"))


def run(args: argparse.Namespace) -> int:
    """Test, and print what was measured on one line, or as JSON."""
    episodes = {name: value for name, value in vars(args).items() if name.startswith("test_") and value is not None}
    model = load_model(args.checkpoint, episodes)
    data = build_data(args.data, load_options(model))
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    trainer = build_trainer(args.trainer, logger=False, enable_checkpointing=False)
    (measured,) = trainer.test(model, data, verbose=False)
    if trainer.is_global_zero:
        result = _result(model, dict(measured))
        print(_json({"checkpoint": args.checkpoint, **result}) if args.json else _sentence(result))
    return 0


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


def _json(result: dict[str, Any]) -> str:
    # The interval of a single episode is no number, and JSON has no word for that.
    lost = {name: None for name, value in result.items() if isinstance(value, float) and not math.isfinite(value)}
    return json.dumps({**result, **lost})


def _sentence(result: dict[str, Any]) -> str:
    ci95 = result["accuracy_ci95"]
    interval = f"± {ci95:.2%} (95% interval)" if math.isfinite(ci95) else "(one alone has no interval)"
    accuracy = f"accuracy {result['accuracy']:.2%} {interval}"
    if "episodes" not in result:
        return f"{accuracy} on {result['examples']} examples of {result['classes']} classes"
    kind = "transductive" if result["transductive"] else "inductive"
    shape = f"{result['ways']}-way {result['shots']}-shot with {result['queries']} queries per class"
    return f"{accuracy} over {result['episodes']} episodes, {shape}, {kind}"
