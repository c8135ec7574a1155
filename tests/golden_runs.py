"""Runs as in tests/golden/runs-1, and how they go on: ``python tests/golden_runs.py tests/golden/runs-1``.

Run once for each format of a checkpoint, by the last version that wrote it: later versions must read these files, so
that nobody writes them again. What is there already stays. All is in float64, so that every processor agrees.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from quickstudy import Trainer
from quickstudy.image import ImageClassificationData, ImageClassifier

PLAN = {"ways": 3, "shots": 2, "queries": 2, "meta_batch_size": 2, "epoch_length": 8, "test_epoch_length": 6}
RUNS: dict[str, dict[str, Any]] = {
    "default": {"lr_scheduler": ("CosineAnnealingLR", {"T_max": 4})},
    "prototypicalnetworks": {"optimizer": ("SGD", {"momentum": 0.9}), "learning_rate": 0.05},
    "maml": {"training_strategy_kwargs": {"adaptation_steps": 2}},
}
"""Options of the model, by strategy."""
EPOCHS, FURTHER = 2, 4
"""After how many epochs the files were written, and how many there are when a run has gone on from them."""


def pictures() -> dict[str, torch.Tensor]:
    """Return noise around a pattern per class, uint8 ``[24, 1, 16, 16]`` of each part: three classes one by one."""
    generator = torch.Generator().manual_seed(0)

    def draw() -> torch.Tensor:
        patterns = torch.randint(0, 200, (3, 1, 16, 16), generator=generator).repeat_interleave(8, 0)
        return (patterns + torch.randint(0, 56, patterns.shape, generator=generator)).to(torch.uint8)

    return {part: draw() for part in ("train", "val", "test")}


def data(root: Path, strategy: str) -> ImageClassificationData:
    """Return the data of a run, from the folder of all: one set of classes in all parts, or new ones in each."""
    parts = safetensors.torch.load_file(root / "pictures.safetensors")
    if strategy == "default":  # whose classes stay the same
        train = parts["train"]
        parts = {"train": train[::2], "val": train[1::4], "test": train[3::4]}
    given: dict[str, Any] = {}
    for part, images in parts.items():
        names = "abc" if strategy == "default" else [f"{part} {name}" for name in "abc"]
        given |= {f"{part}_data": images, f"{part}_targets": [name for name in names for _ in range(len(images) // 3)]}
    return ImageClassificationData.from_tensors(**given, predict_data=parts["test"], batch_size=4)


def trainer(folder: Path, epochs: int) -> Trainer:
    """Return what trains in a folder, or goes on there."""
    quiet: dict[str, Any] = dict.fromkeys(("enable_progress_bar", "enable_model_summary"), False)
    return Trainer(
        accelerator="cpu",
        devices=1,
        precision="64-true",
        max_epochs=epochs,
        default_root_dir=folder,
        resume="auto",
        logger="csv",
        num_sanity_val_steps=0,
        **quiet,
    )


def model(strategy: str) -> ImageClassifier:
    """Return an untrained one."""
    torch.manual_seed(0)
    options = dict(RUNS[strategy])
    if strategy != "default":
        options["training_strategy_kwargs"] = PLAN | options.get("training_strategy_kwargs", {})
    options = {"backbone": "conv4", "backbone_kwargs": {"in_channels": 1, "hidden": 6}, "learning_rate": 0.01} | options
    return ImageClassifier(training_strategy=strategy, **options)


def answers(trained: ImageClassifier, root: Path, measure: Trainer) -> dict[str, Any]:
    """Return what a trained model answers, and the size of each of its weights."""
    given = data(root, trained.hparams["training_strategy"])
    asked = safetensors.torch.load_file(root / "pictures.safetensors")["test"]
    learned = trained.adapt(asked[::2], [name for name in "xyz" for _ in range(4)])
    found = {
        "test": measure.test(trained, given, verbose=False)[0],
        # No file holds how sure it must be to know a class, which may be found better one day.
        "adapted": learned.classes_[learned.predict_proba(asked).argmax(1)].tolist(),
        "weights": {name: float(value.double().norm()) for name, value in trained.state_dict().items()},
    }
    if trained.algorithm is None:
        found["predicted"] = measure.predict(trained, given)
        with torch.no_grad():
            found["logits"] = trained.double().eval()(asked).tolist()
    return found


def main(root: Path) -> None:
    """Train all, and write what they and their continuations answer."""
    root.mkdir(parents=True, exist_ok=True)
    if not (root / "pictures.safetensors").exists():
        safetensors.torch.save_file(pictures(), root / "pictures.safetensors")
    for strategy in RUNS:
        if (root / strategy).exists():
            continue
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made) / strategy
            trainer(folder, EPOCHS).fit(model(strategy), datamodule=data(root, strategy))
            shutil.copytree(folder, Path(made) / "further")
            trained = ImageClassifier.load_from_checkpoint(folder / "last.ckpt")
            expected = {"then": answers(trained, root, trainer(folder, EPOCHS))}
            going = trainer(Path(made) / "further", FURTHER)
            going.fit(further := model(strategy), datamodule=data(root, strategy))
            expected["further"] = answers(further, root, going)
            (folder / "expected.json").write_text(json.dumps(expected) + "\n", encoding="utf-8")
            shutil.copytree(folder, root / strategy, ignore=shutil.ignore_patterns("*.html", "*.png", "previous.ckpt"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
