"""Embeddings of three data sets by encoders that prototypical networks trained for minutes, kept in a cache folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from quickstudy import Trainer
from quickstudy.files import atomic_write
from quickstudy.image import ImageClassificationData, ImageClassifier

EPISODES = {"omniglot": 400, "cifar_fs": 500, "mini_imagenet": 800}
"""Of training: one to seven minutes of one core each."""
FILTERS = {"omniglot": 64, "cifar_fs": 64, "mini_imagenet": 32}
_SIZES = {"cifar_fs": 32, "mini_imagenet": 84}
_WAYS, _SHOTS, _QUERIES = 20, 5, 5
_ROWS = {"train": 60, "val": 200, "test": 200}  # of each class, the first
_TRAIN_CLASSES = 1200  # the first, which heads with parameters learn from
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def embeddings(name: str, root: Path | None, cache: Path, share: float = 1.0) -> dict[str, Any]:
    """Return by split the embeddings ``[C, n, ...]`` of C classes, and how the encoder was trained.

    Args:
        name: of the data set.
        root: folder of its archives.
        cache: folder of what is kept.
        share: of the episodes of training.
    """
    episodes = max(1, round(share * EPISODES[name]))
    path = cache / f"{name}-{episodes}.pt"
    if not path.exists():
        made = _made(name, root, episodes)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            torch.save(made, file)
    loaded: dict[str, Any] = torch.load(path, weights_only=True)
    return loaded


def _made(name: str, root: Path | None, episodes: int) -> dict[str, Any]:
    grey = name == "omniglot"
    options: dict[str, Any] = {"rotations": True} if grey else {"image_size": _SIZES[name]}
    data = ImageClassificationData.from_benchmark(name, root, **options)
    torch.manual_seed(0)
    model = ImageClassifier(
        backbone="conv4",
        backbone_kwargs={"in_channels": 1 if grey else 3, "hidden": FILTERS[name]},
        learning_rate=1e-3,
        training_strategy="prototypicalnetworks",
        training_strategy_kwargs={
            "ways": _WAYS,
            "shots": _SHOTS,
            "queries": _QUERIES,
            "meta_batch_size": 1,
            "epoch_length": 10_000_000,
        },
    )
    Trainer(max_steps=episodes, limit_val_batches=0, **QUIET).fit(model, datamodule=data)
    training = {
        "episodes": episodes,
        "plan": f"{_WAYS}-way {_SHOTS}-shot, {_QUERIES} queries",
        "filters": FILTERS[name],
        "image_size": _SIZES.get(name, 28),
        "rows of each class": _ROWS,
    }
    return {split: _embedded(data, model, split) for split in ("train", "val", "test")} | {"training": training}


@torch.inference_mode()
def _embedded(data: ImageClassificationData, model: ImageClassifier, split: Any) -> torch.Tensor:
    table = data.table(split, by_class=True)
    assert table is not None
    samples, encoder = data.samples(table, split), model.encoder.eval()
    classes = range(min(len(table.classes), _TRAIN_CLASSES))
    rows = [np.asarray(table.index.rows(code))[: _ROWS[split]] for code in classes]
    return torch.stack([encoder.backbone(encoder.prepared(samples.batch(own))) for own in rows])
