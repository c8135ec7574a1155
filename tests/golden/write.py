"""Write small saved models with what they answer: ``python tests/golden/write.py tests/golden/format-1``.

Run once for each format, by the last version that wrote it: later versions must read these files, so that nobody writes
them again.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import safetensors.torch
import torch

from quickstudy import Predictor
from quickstudy.algorithms import STRATEGIES
from quickstudy.nets import build_encoder

MODELS = {"prototypicalnetworks": {}, "r2d2": {}, "maml": {"adaptation_steps": 2}, "nearest_centroid": {}}
COLOURS = {"red": (220, 60, 40), "green": (40, 220, 60), "blue": (40, 60, 220)}


def pictures(each: int, seed: int) -> tuple[torch.Tensor, list[str]]:
    """Return noisy one-colour pictures uint8 ``[3 * each, 3, 16, 16]`` and their classes."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.tensor(list(COLOURS.values())).repeat_interleave(each, 0)[:, :, None, None]
    noise = torch.randint(-30, 30, (3 * each, 3, 16, 16), generator=generator)
    return (base + noise).clamp(0, 255).to(torch.uint8), [name for name in COLOURS for _ in range(each)]


def main(root: Path) -> None:
    """Write all models."""
    root.mkdir(parents=True)
    support, labels = pictures(4, 0)
    asked = torch.cat([pictures(2, 1)[0], torch.full((1, 3, 16, 16), 255, dtype=torch.uint8)])
    safetensors.torch.save_file({"asked": asked}, root / "pictures.safetensors")
    for name, options in MODELS.items():
        torch.manual_seed(0)
        encoder = build_encoder("conv4", {"hidden": 12})
        for seed in range(2, 52):
            encoder.train()(pictures(8, seed)[0])  # until its running statistics are those of such pictures
        predictor = Predictor(encoder, STRATEGIES[name](**options)).fit(support, labels)
        predictor.rename_class("red", "rouge")
        if name == "r2d2":
            predictor.calibrate(pictures(6, 3)[0], [label.replace("red", "rouge") for label in pictures(6, 3)[1]])
        if name == "prototypicalnetworks":
            predictor.calibrate(reject_rate=0.2)
        predictor.save(root / name)
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


if __name__ == "__main__":
    main(Path(sys.argv[1]))
