"""What leaves the house: a graph and its classes, which answer elsewhere as the predictor does here."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor, nn

from quickstudy import ConfigError, DataError, MissingPackageError, Predictor, export
from quickstudy.algorithms import STRATEGIES
from quickstudy.nets import Encoder, build_encoder
from quickstudy.pictures import load_image

TRANSDUCTIVE = ("bdcspn", "laplacianshot", "tim")
SHARED = ("anil", "boil", "maml", "metasgd", "reptile")  # whose head is otherwise for one number of classes
LOAD = partial(load_image, image_size=28)


def pictures(classes: int, each: int, first: int = 0) -> tuple[Tensor, list[str]]:
    """Noisy pictures uint8 ``[N, 3, 28, 28]``, a coarse pattern for each class."""
    coarse = torch.rand(classes, 3, 4, 4, generator=torch.Generator().manual_seed(first))
    clean = nn.functional.interpolate(220 * coarse, (28, 28)).repeat_interleave(each, 0)
    noise = 35 * torch.rand(clean.shape, generator=torch.Generator().manual_seed(first + 1))
    return (clean + noise).to(torch.uint8), [f"class {first + n}" for n in range(classes) for _ in range(each)]


def adapted(strategy: str = "prototypicalnetworks", classes: int = 4, **options: Any) -> Predictor:
    encoder = build_encoder("conv4", {"hidden": 8, "norm": "group"})
    if strategy in SHARED:
        options = {"head": "shared", **options}
    return Predictor(encoder, STRATEGIES[strategy](**options), LOAD).fit(*pictures(classes, 3))


def about(classes: Path) -> dict[str, Any]:
    with safe_open(classes, "np") as file:
        found: dict[str, Any] = json.loads(file.metadata()["quickstudy"])
    return found


def answers(model: Path, classes: Path, images: Tensor) -> tuple[list[str], NDArray[np.float32]]:
    """Class names and probabilities, by onnxruntime alone."""
    with safe_open(classes, "np") as file:
        learned = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    logits, familiarity = session.run(None, {"images": images.numpy(), **learned})
    names = np.array(about(classes)["classes"], object)[logits.argmax(1)]
    names[familiarity < about(classes)["unknown_below"]] = "unknown"
    return names.tolist(), torch.from_numpy(logits / about(classes)["temperature"]).softmax(1).numpy()


def check(predictor: Predictor, done: export.Exported, images: Tensor) -> None:
    names, probabilities = answers(done.model, done.classes, images)
    assert names == predictor.predict(images)
    np.testing.assert_allclose(probabilities, predictor.predict_proba(images), atol=1e-4)


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES.names() if name not in TRANSDUCTIVE])
def test_answers_alike_and_takes_further_classes(strategy: str, tmp_path: Path) -> None:
    predictor, images = adapted(strategy), pictures(6, 3)[0]
    done = predictor.export(tmp_path / "pets.onnx")
    assert done.flips == 0
    check(predictor, done, images)
    before = done.model.read_bytes()
    predictor.add_class("further", images[12:15])
    again = predictor.export(tmp_path / "pets.onnx", only_classes=True)
    assert done.model.read_bytes() == before
    assert about(again.classes)["classes"][-1] == "further"
    check(predictor, again, images)
    for name in predictor.classes_[1:]:
        predictor.remove_class(name)
    check(predictor, predictor.export(tmp_path / "pets.onnx", only_classes=True), images)


@pytest.mark.parametrize("strategy", TRANSDUCTIVE)
def test_answers_that_depend_on_each_other_are_refused(strategy: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="all inputs of a call together.*prototypicalnetworks"):
        adapted(strategy).export(tmp_path / "pets.onnx")
    assert not list(tmp_path.iterdir())
