"""Write small saved models with what they answer: ``python tests/golden/write.py tests/golden/format-1``.

Those of numbers are another: ``python tests/golden/write.py tests/golden/numbers-4``. Run once for each format, by the
last version that wrote it: later versions must read these files, so that nobody writes them again. What is there
already stays.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import safetensors.torch
import torch

from quickstudy import NumberPredictor, Predictor
from quickstudy.algorithms import STRATEGIES
from quickstudy.image import load_image
from quickstudy.kinds.regression import Regression
from quickstudy.nets import build_encoder
from quickstudy.saved import model_folder

MODELS = {"prototypicalnetworks": {}, "r2d2": {}, "maml": {"adaptation_steps": 2}, "nearest_centroid": {}}
SERVED = "nearest_neighbour"  # takes pictures, and has changes in a journal
COLOURS = {"red": (220, 60, 40), "green": (40, 220, 60), "blue": (40, 60, 220)}


def pictures(each: int, seed: int) -> tuple[torch.Tensor, list[str]]:
    """Return noisy one-colour pictures uint8 ``[3 * each, 3, 16, 16]`` and their classes."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.tensor(list(COLOURS.values())).repeat_interleave(each, 0)[:, :, None, None]
    noise = torch.randint(-30, 30, (3 * each, 3, 16, 16), generator=generator)
    return (base + noise).clamp(0, 255).to(torch.uint8), [name for name in COLOURS for _ in range(each)]


def main(root: Path) -> None:
    """Write all models."""
    root.mkdir(parents=True, exist_ok=True)
    support, labels = pictures(4, 0)
    asked = torch.cat([pictures(2, 1)[0], torch.full((1, 3, 16, 16), 255, dtype=torch.uint8)])
    safetensors.torch.save_file({"asked": asked}, root / "pictures.safetensors")
    for name, options in {**MODELS, SERVED: {}}.items():
        if (root / name).exists():
            continue
        torch.manual_seed(0)
        encoder = build_encoder("conv4", {"hidden": 12})
        for seed in range(2, 52):
            encoder.train()(pictures(8, seed)[0])  # until its running statistics are those of such pictures
        load = load_image if name == SERVED else torch.as_tensor
        predictor = Predictor(encoder, STRATEGIES[name](**options), load).fit(support, labels)
        predictor.rename_class("red", "rouge")
        if name == "r2d2":
            predictor.calibrate(pictures(6, 3)[0], [label.replace("red", "rouge") for label in pictures(6, 3)[1]])
        if name == "prototypicalnetworks":
            predictor.calibrate(reject_rate=0.2)
        predictor.save(root / name)
        if name == SERVED:
            serve(predictor, root / name, asked)
        sure = predictor.confidence_
        expected = {
            "classes": predictor.classes_.tolist(),
            "examples": predictor.counts_,
            "labels": predictor.predict(asked),
            "probabilities": predictor.predict_proba(asked).tolist(),
            "temperature": sure.temperature,
            "threshold": sure.threshold,
            "source": sure.source,
        }
        (root / name / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")


def numbers(root: Path) -> None:
    """Write models that learned the brightness of pictures; one was shown more as a service."""
    root.mkdir(parents=True)
    asked, told = grey(5, 1)
    safetensors.torch.save_file({"asked": asked}, root / "pictures.safetensors")
    for name, options in {
        "r2d2": {"regularization": 1e-3},
        "maml": {"adaptation_steps": 2, "adaptation_lr": 0.01},
    }.items():
        torch.manual_seed(0)
        encoder, kind = build_encoder("conv4", {"hidden": 4}), Regression(mean=120.0, deviation=60.0)
        predictor = NumberPredictor(encoder, STRATEGIES[name](**options), load_image, kind).fit(*grey(8, 0))
        predictor.save(root / name)
        if name == "r2d2":
            with model_folder.serve(root / name) as journal:
                predictor.before_change = lambda change, to=journal: to.append(change, to.last)
                predictor.add_examples(asked[:2], told[:2]).add_examples(asked[2:3], [1 / 3])
        expected = {"examples": predictor.examples_, "numbers": predictor.predict(asked)}
        (root / name / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")


def grey(count: int, seed: int) -> tuple[torch.Tensor, list[float]]:
    """Return noisy grey pictures uint8 ``[count, 3, 16, 16]`` and how bright they were meant to be."""
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randint(40, 216, (count, 1, 1, 1), generator=generator)
    noise = torch.randint(-30, 30, (count, 3, 16, 16), generator=generator)
    return (levels + noise).to(torch.uint8), levels.flatten().tolist()


def serve(predictor: Predictor, folder: Path, asked: torch.Tensor) -> None:
    """Change it as a service does."""
    with model_folder.serve(folder) as journal:
        numbers = itertools.count()
        predictor.before_change = lambda change: journal.append(change, next(numbers)) and None
        predictor.add_class("white", asked[-1:]).add_examples("green", asked[2:3]).rename_class("blue", "bleu")


if __name__ == "__main__":
    written = Path(sys.argv[1])
    (numbers if written.name.startswith("numbers") else main)(written)
