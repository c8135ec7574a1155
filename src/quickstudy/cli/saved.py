"""A saved model and the device that it runs on, as several commands take them."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from quickstudy.errors import ConfigError, DataError, closest, first_line
from quickstudy.predictor import Predictor


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add the option that ``device_of`` reads."""
    parser.add_argument("--device", type=str, default="cpu", help="for the model: cpu, cuda, cuda:1, mps")


def device_of(args: argparse.Namespace) -> torch.device:
    """Return the device that is asked for.

    Raises:
        ConfigError: there is no such device.
    """
    try:
        return torch.empty(0, device=args.device).device
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {args.device}: {first_line(error)}. Try --device cpu") from error


def check_exists(path: Path, kind: str) -> None:
    """Check that there is a file or folder.

    Raises:
        DataError: there is none; the message has the nearest name of those that are there.
    """
    if not path.exists():
        near = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(f"there is no {kind} '{path}'{closest(path.name, near, '')} (looked in {Path.cwd()})")


def load_predictor(folder: str, device: torch.device) -> Predictor:
    """Read a saved model that takes pictures.

    Raises:
        DataError: there is none, or it is damaged.
        ConfigError: it takes tensors only.
    """
    predictor = Predictor.load(folder, device)
    if predictor.get_params()["load"] is torch.as_tensor:
        raise ConfigError(
            f"the model in '{folder}' takes tensors, as it was made without a function that loads pictures: make it "
            "with quickstudy adapt, model.adapt(...), or Predictor(..., load=load_image)"
        )
    return predictor
