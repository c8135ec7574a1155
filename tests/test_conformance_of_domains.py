"""The conformance suite of domains: pictures, texts and signals pass, and of deliberately broken ones it finds each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from quickstudy import ConfigError, DataModule, Task
from quickstudy.image import ImageClassificationData, ImageClassifier, ImageRegressionData, ImageRegressor
from quickstudy.modality import MODALITIES
from quickstudy.testing import NonconformingError, check_domain
from test_signals import Signal, SignalClassifier, SignalData, encoder, signals
from test_texts import Mean, TextClassifier, TextData, Words, texts

CLASSES = 3

Domain = tuple[type[DataModule], type[Task], list[str], list[Any], dict[str, Any]]


def recordings(folder: Path) -> Domain:
    files, labels = [], []
    for tone in range(CLASSES):
        for number, signal in enumerate(signals(tone, 6)):
            files.append(str(folder / f"{tone}-{number}.npy"))
            labels.append(f"t{tone}")
            np.save(files[-1], signal)
    return SignalData, SignalClassifier, files, labels, {"backbone": encoder()}


def sentences(folder: Path) -> Domain:
    found = [(text, f"c{code}") for code in range(CLASSES) for text in texts(code)[:6]]
    return TextData, TextClassifier, *map(list, zip(*found, strict=True)), {"backbone": Mean()}  # type: ignore[return-value]


def pictures(folder: Path) -> Domain:
    generator, files, labels = np.random.default_rng(0), [], []
    for code in range(CLASSES):
        for number in range(6):
            files.append(str(folder / f"{code}-{number}.png"))
            labels.append(code)
            colours = generator.normal(0, 40, (20, 24, 3)) + 60 * code + 60 * np.eye(3)[code]
            Image.fromarray(colours.clip(0, 255).astype(np.uint8)).save(files[-1])
    layers = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2)
    options = {"backbone": nn.Sequential(*layers), "image_size": 16}
    return ImageClassificationData, ImageClassifier, files, labels, options


def shades(folder: Path) -> Domain:
    _, _, files, codes, options = pictures(folder)
    return ImageRegressionData, ImageRegressor, files, [code + number / 9 for number, code in enumerate(codes)], options


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for modality in (RunningSignal, SortedWords, CutOff):
        monkeypatch.setitem(MODALITIES._entries, modality.__name__, modality)
    yield


def check(domain: Domain, **changed: Any) -> None:
    data, task, items, labels, options = domain
    check_domain(changed.pop("data", data), changed.pop("task", task), items, labels, **{**options, **changed})


@pytest.mark.parametrize("domain", [pictures, sentences, recordings, shades])
def test_a_domain_conforms(domain: Any, tmp_path: Path) -> None:
    check(domain(tmp_path))


@dataclass(frozen=True)
class RunningSignal(Signal):
    """Divides by the deviation of all that it has read so far."""

    before: ClassVar[list[Tensor]] = []

    def load(self, item: Any) -> Tensor:
        read = super().load(item)
        self.before.append(read)
        return read / torch.cat(self.before).std()


class RunningData(SignalData):
    modality = RunningSignal()


class RunningClassifier(SignalClassifier):
    modality = RunningSignal()


class Forgetful(SignalClassifier):
    """Leaves out of its checkpoints how inputs are read."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["quickstudy"]["load_options"] = {}


@dataclass(frozen=True)
class SortedWords(Words):
    """Loses the order of a list."""

    def listed(self, inputs: Any) -> list[str]:
        return sorted(super().listed(inputs))


class SortedData(TextData):
    modality = SortedWords()


class SortedClassifier(TextClassifier):
    modality = SortedWords()


@dataclass(frozen=True)
class CutOff(Words):
    """Loses the end of what is sent."""

    def from_wire(self, content: Any, name: str = "") -> Any:
        return " ".join(content.split()[:-1]) or content


class CutOffData(TextData):
    modality = CutOff()


class CutOffClassifier(TextClassifier):
    modality = CutOff()


class Branching(Mean):
    """Decides by values, which no graph holds."""

    def forward(self, batch: Any) -> Tensor:
        features = super().forward(batch)
        return features if batch["mask"].sum() > 0 else -features


class OfBessel(Mean):
    """Computes, once it is trained, what ONNX does not know."""

    def forward(self, batch: Any) -> Tensor:
        features = super().forward(batch)
        return features if self.training else features + 0 * torch.special.bessel_j0(features.detach())


class Sociable(Mean):
    """Looks at all texts of a batch, but in training."""

    def forward(self, batch: Any) -> Tensor:
        features = super().forward(batch)
        return features if self.training else features - features.mean(0)


CUT = {"data": CutOffData, "task": CutOffClassifier}
RUNNING = {"data": RunningData, "task": RunningClassifier}
SORTED = {"data": SortedData, "task": SortedClassifier}
BROKEN: list[tuple[Any, dict[str, Any], str]] = [
    (
        recordings,
        RUNNING,
        "RunningClassifier, default: a run that was stopped goes on: DataWarning: the run",
    ),
    (recordings, {"task": Forgetful}, "Forgetful, default: a checkpoint answers as the model did: "),
    (sentences, SORTED, "SortedClassifier, default: an item is answered alike wherever it stands in a list: "),
    (sentences, {"backbone": Sociable()}, "TextClassifier, default: an item is answered alike in a list of its own: "),
    (sentences, {"backbone": nn.Flatten()}, "TextClassifier, default: it trains on a few examples: "),
    (sentences, CUT, "CutOffClassifier, default: a service answers as the model does: "),
    (
        sentences,
        {"backbone": Branching()},
        "TextClassifier, default: a trained model is exported: ConfigError: Classification on Branching cannot be",
    ),
    (
        sentences,
        {"backbone": OfBessel()},
        "TextClassifier, prototypicalnetworks: an adapted model is exported as .onnx: ConfigError: Prototypical",
    ),
]


@pytest.mark.parametrize(
    ("domain", "changed", "message"), BROKEN, ids=[message.split(":")[1] for *_, message in BROKEN]
)
def test_a_broken_one_is_found(domain: Any, changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(NonconformingError, match=f"^{re.escape(message)}"):
        check(domain(tmp_path), **changed)


def test_what_there_is_too_little_of_to_check_by_is_told(tmp_path: Path) -> None:
    data, task, items, labels, options = sentences(tmp_path)
    with pytest.raises(ConfigError, match=r"more, each with 4 items or more; these are {'c0': 6, 'c1': 3}"):
        check_domain(data, task, items[:9], labels[:9], **options)
    with pytest.raises(ConfigError, match="18 items but 17 labels"):
        check_domain(data, task, items, labels[1:], **options)
