"""Objects of classes that a detector was not trained on: letters on photographs, 1, 5 and 10 of each of 10 classes.

A part of dense.py. The detector learned plain Latin and Greek letters on the training photographs of Penn-Fudan; what
it is asked for are Armenian, Georgian and Lao letters on the test photographs. Settings, the algorithm on
regions and the rate of the second stage among three, were chosen on two draws of Cyrillic ones with one shot. The
detector is trained once, and kept in a file, that which QUICKSTUDY_BASE names or one in the cache.
"""

from __future__ import annotations

import copy
import os
import time
import unicodedata
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from embeddings import QUIET
from PIL import Image
from torch import Tensor

from quickstudy import Trainer
from quickstudy.algorithms import STRATEGIES, EmbeddingAlgorithm
from quickstudy.batches import stack
from quickstudy.datasets.glyphs import glyphs
from quickstudy.datasets.scenes import scenes
from quickstudy.files import cache_folder
from quickstudy.functional.intervals import mean_interval
from quickstudy.image import ObjectDetectionData, ObjectDetector

SIDE, CLASSES, DRAWS, ASKED, EACH = 192, 10, 10, 40, 5
"""Pixels of a picture; novel classes, draws of classes and shots, pictures that are asked, objects in one to learn."""
TRAINED = {"pictures": 1100, "letters": 80, "epochs": 3}
STAGE = {"epochs": 15, "learning_rate": 0.01}
"""Of the second stage: as often as 10 pictures are gone through, whatever the shots are, and by which rate."""
Split = Literal["train", "val", "test"]


def photographs(folder: Path) -> list[Any]:
    """Return the pictures of a folder."""
    return [np.asarray(Image.open(path).convert("RGB")) for path in sorted((folder / "images").iterdir())]


def letters(count: int) -> list[str]:
    """Return names of Latin and Greek letters that are no other letter with a mark on it, drawn by a seed."""

    def plain(name: str) -> bool:
        script, _, called = name.partition("/")
        try:
            character = unicodedata.lookup(called)
        except KeyError:
            return False
        alone = unicodedata.normalize("NFKD", character) == character
        return script in ("Latin", "Greek") and unicodedata.category(character)[0] == "L" and alone

    names = [name for name in glyphs().train.classes if plain(name)]
    return [names[row] for row in np.random.default_rng(0).permutation(len(names))[:count]]


def data_of(shown: tuple[Any, Any], asked: tuple[Any, Any] | None = None, batch_size: int = 4) -> ObjectDetectionData:
    """Return pictures and their objects as data."""
    stages = {"train_images": shown[0], "train_targets": shown[1]}
    stages |= {} if asked is None else {"test_images": asked[0], "test_targets": asked[1]}
    return ObjectDetectionData.from_images(**stages, image_size=SIDE, batch_size=batch_size)


def detector(grounds: list[Any], trained: Callable[..., Any]) -> tuple[ObjectDetector, float]:
    """Return the detector of base classes, and the seconds of a processor that it was trained for.

    Args:
        grounds: photographs.
        trained: trains a task on data.
    """
    file = Path(os.environ.get("QUICKSTUDY_BASE") or cache_folder() / "letters-on-photographs.pt")
    options = {"detector": "faster_rcnn", "classifier": "cosine", "width": 32}
    if not file.exists():
        base = letters(TRAINED["letters"])
        data = data_of(scenes(TRAINED["pictures"], classes=base, grounds=grounds, masks=False))
        model, seconds = trained(data, ObjectDetector, TRAINED["epochs"], **options)
        kept = {"kind": model.kind.memory(), "head": model.head.state_dict(), "encoder": model.encoder.state_dict()}
        torch.save({**kept, "seconds": seconds}, file)
    kept = torch.load(file, weights_only=True)
    model = ObjectDetector(backbone="efficientnet_lite0", learning_rate=STAGE["learning_rate"], **options)
    model.kind = model.kind.recalled(kept["kind"])
    picture = torch.zeros(SIDE, SIDE, 3, dtype=torch.uint8).numpy()
    data = data_of(([picture], [{"boxes": [[1, 1, 9, 9]], "labels": [model.classes[0]]}]))
    model.read(data, "fit")
    model.head = model.kind.head(model.encoder, stack([data.modality(picture)]))
    model.head.load_state_dict(kept["head"])
    model.encoder.load_state_dict(kept["encoder"])
    return model.eval(), float(kept["seconds"])


def drawn(split: Split, shots: int, draw: int, grounds: list[Any]) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Return pictures with so many objects of each of ten classes to learn from, and others of these to be asked of."""
    names = getattr(glyphs(), split).classes
    classes = [names[row] for row in np.random.default_rng([5, draw]).permutation(len(names))[:CLASSES]]
    options: dict[str, Any] = {"classes": classes, "grounds": grounds, "masks": False}
    count = CLASSES * shots // EACH
    shown = scenes(count, split, objects=(EACH, EACH), sides=(28, 48), seed=1000 + draw, **options)
    return shown, scenes(ASKED, split, seed=2000 + draw, **options)


def by_regions(
    model: ObjectDetector, shown: Any, asked: Any, strategy: str | None = None, **options: Any
) -> dict[str, float]:
    """Learn classes by their regions, without training, and return figures; None: by what ``adapt`` takes itself."""
    began = time.process_time()
    predictor = model.adapt(*shown, strategy=strategy, **options)
    seconds = time.process_time() - began
    told = predictor.scores(*asked)
    return {"ap50": told["map_50"], "ap": told["map"], "recall": told["proposal_recall"], "seconds": seconds}


@STRATEGIES.register("chance")
class Chance(EmbeddingAlgorithm):
    """Draws the class of a region."""

    def fit(self, support_SD: Tensor, targets_S: Tensor, ways: int) -> Tensor:
        """Return as many zeros as there are classes."""
        return torch.zeros(ways)

    def logits(self, state: Tensor, query_QD: Tensor) -> Tensor:
        """Return ``[Q, W]`` that are the same for the same regions."""
        generator = torch.Generator().manual_seed(len(query_QD))
        return 5 * torch.randn(len(query_QD), len(state), generator=generator)


def tuned(model: ObjectDetector, shown: Any, asked: Any) -> dict[str, float]:
    """Learn classes by the second stage of training (Wang et al. 2020), and return figures."""
    began = time.process_time()
    epochs = max(1, STAGE["epochs"] * 10 // len(shown[0]))
    data = data_of(shown, asked, batch_size=2)
    torch.manual_seed(0)
    Trainer(max_epochs=epochs, **QUIET).finetune(model, datamodule=data, strategy="tfa")
    seconds = time.process_time() - began
    (told,) = Trainer(**QUIET).test(model, datamodule=data, verbose=False)
    return {"ap50": float(told["test_map_50"]), "ap": float(told["test_map"]), "seconds": seconds}


def measured(
    shots: int,
    folders: dict[str, Path],
    trained: Callable[..., Any],
    split: Split = "test",
    draws: int = DRAWS,
    **ways: Callable[..., dict[str, float]],
) -> dict[str, Any]:
    """Return figures in percent over draws of classes and objects, each with half its 95% interval.

    Args:
        shots: objects of each class to learn from.
        folders: of photographs, ``train_folder`` and ``test_folder``.
        trained: trains a task on data.
        split: whose characters are asked for.
        draws: of ten classes, their shots and the pictures that are asked.
        ways: of learning, by their names; none: the two algorithms on regions, the second stage, and chance.
    """
    grounds = [photographs(folders[name]) for name in ("train_folder", "test_folder")]
    model, seconds = detector(grounds[0], trained)
    ways = ways or {
        "prototypes": by_regions,
        "nearest centroid": partial(by_regions, strategy="nearest_centroid"),
        "second stage": tuned,
        "classes by chance": partial(by_regions, strategy="chance"),
    }
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for draw in range(draws):
        shown, asked = drawn(split, shots, draw, grounds[split == "test"])
        for name, learn in ways.items():
            found[name].append(learn(copy.deepcopy(model), shown, asked))
    told: dict[str, Any] = {name: over_draws(each) for name, each in found.items()}
    for name in ("prototypes", "nearest centroid"):
        if not {name, "second stage"} <= found.keys():
            continue
        pairs = zip(found[name], found["second stage"], strict=True)
        told[f"{name} above the second stage"] = over_draws([{"ap50": one["ap50"] - two["ap50"]} for one, two in pairs])
    return {"draws": draws, **told, "base_train_cpu_seconds": seconds}


def over_draws(figures: list[dict[str, float]]) -> dict[str, Any]:
    """Return the mean of each figure with half its interval, in percent; of seconds the mean."""
    told: dict[str, Any] = {}
    for name in figures[0]:
        values = torch.tensor([one[name] for one in figures], dtype=torch.float64)
        if name == "seconds":
            told["cpu_seconds"] = round(float(values.mean()), 2)
        else:
            mean, half = mean_interval(values) if len(values) > 1 else (float(values[0]), float("nan"))
            told[name] = {"mean": round(100 * float(mean), 2), "ci95": round(100 * float(half), 2)}
    return told
