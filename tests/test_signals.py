"""A second domain, in a few lines: short 1-D signals. Nothing above ``image/`` may know images, and this would tell."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quickstudy import DataError, DataModule, DataWarning, Predictor, Task, Trainer
from quickstudy.data.table import Inputs
from quickstudy.modality import MODALITIES, Modality

LENGTH, COPIES = 64, 16


@MODALITIES.register("signal")
@dataclass(frozen=True)
class Signal(Modality):
    """A signal in an ``.npy`` file, as floats ``[1, length]`` of the training signals' deviation."""

    called = "signals"
    extensions = frozenset({".npy"})
    learned = ("deviation",)
    advice = "Give the data length=64"
    length: int = LENGTH
    deviation: float = 0.0

    def fitted(self, inputs: Inputs) -> Self:
        if self.deviation:
            return self
        read = torch.stack([self.load(inputs[row]) for row in range(len(inputs))])
        return self.with_options({"deviation": float(read.std())})

    def load(self, item: Any) -> Tensor:
        if isinstance(item, Tensor):
            return item
        content = Path(item).read_bytes() if isinstance(item, str) else item.read_bytes()
        return torch.from_numpy(np.load(io.BytesIO(content)))[None, : self.length] / (self.deviation or 1)


class SignalData(DataModule):
    """Signals with labels."""

    modality = Signal()


class SignalClassifier(Task):
    """Classifies signals."""

    modality = Signal()


def encoder() -> nn.Module:
    def block(channels: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv1d(channels, 16, 5, padding=2), nn.BatchNorm1d(16), nn.ReLU(), nn.MaxPool1d(2))

    return nn.Sequential(block(1), block(16), nn.AdaptiveAvgPool1d(4))


def signals(tone: int, count: int = COPIES) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Sums of two sinusoids with random phases, and noise: a class is its pair of frequencies."""
    generator = np.random.default_rng(tone)
    time, low = np.arange(LENGTH) / LENGTH, 1 + tone % 4
    phases = generator.uniform(0, 2 * np.pi, (2, count, 1))
    waves = np.sin(2 * np.pi * low * time + phases[0]) + np.sin(2 * np.pi * (6 + 2 * (tone // 4)) * time + phases[1])
    return (waves + generator.normal(0, 0.2, waves.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("signals")
    for tone in range(20):
        folder = root / ("train" if tone % 3 else "test") / f"tone-{tone}"
        folder.mkdir(parents=True)
        for i, signal in enumerate(signals(tone)):
            np.save(folder / f"{i}.npy", signal)
    return root


def trainer(**options: Any) -> Trainer:
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return Trainer(accelerator="cpu", **quiet, **options)


def adapted(model: Task, folder: Path, shots: int = 5) -> tuple[Predictor, float]:
    """Show the model a few signals of classes it never saw, as paths, and judge it on the others."""
    files = {path.name: sorted(path.iterdir()) for path in sorted(folder.iterdir())}
    support = [(file, name) for name, paths in files.items() for file in paths[:shots]]
    queries = [(file, name) for name, paths in files.items() for file in paths[shots:]]
    predictor = model.adapt(*map(list, zip(*support, strict=True)))
    return predictor, predictor.score(*map(list, zip(*queries, strict=True)))


@pytest.mark.parametrize("workers", [0, 2])
def test_few_shot_training_test_and_use(workers: int, recordings: Path) -> None:
    data = SignalData.from_folders(
        train_folder=recordings / "train", test_folder=recordings / "test", num_workers=workers, val_split=0.3
    )
    model = SignalClassifier(
        backbone=encoder(),
        learning_rate=3e-3,
        training_strategy="prototypicalnetworks",
        training_strategy_kwargs={
            "ways": 5,
            "test_ways": 4,
            "shots": 2,
            "queries": 5,
            "meta_batch_size": 4,
            "epoch_length": 120,
            "test_epoch_length": 40,
        },
    )
    ((before,),) = [trainer().test(model, datamodule=data, verbose=False)]
    fitted = trainer(max_epochs=1)
    fitted.fit(model, datamodule=data)
    assert fitted.callback_metrics["val_accuracy"] > 0.7
    (after,) = fitted.test(model, datamodule=data, verbose=False)
    assert after["test_accuracy"] > max(0.75, before["test_accuracy"])  # chance is 0.25
    assert after["test_episodes"] == 40
    predictor, accuracy = adapted(model, recordings / "test")
    assert accuracy > 0.6  # 7 classes: chance is 0.14
    assert predictor.classes_.tolist() == sorted(path.name for path in (recordings / "test").iterdir())
    probabilities = predictor.predict_proba(torch.from_numpy(signals(3, 6))[:, None])
    assert probabilities.shape == (6, 7)
    assert np.allclose(probabilities.sum(1), 1)


def test_supervised_training_test_prediction_and_use(recordings: Path, tmp_path: Path) -> None:
    data = SignalData.from_folders(
        recordings / "train", predict_folder=recordings / "train", val_split=0.25, batch_size=16
    )
    model = SignalClassifier(backbone=encoder(), learning_rate=1e-2)
    fitted = trainer(max_epochs=20)
    fitted.fit(model, datamodule=data)
    assert fitted.callback_metrics["val_accuracy"] > 0.7  # 13 classes: chance is 0.08
    with pytest.warns(DataWarning, match="trained on at least 156 of the 208 examples"):
        labels = fitted.predict(model, datamodule=data)
    files = sorted(path.relative_to(recordings / "train").as_posix() for path in (recordings / "train").rglob("*.npy"))
    assert np.mean([label == Path(file).parent.name for label, file in zip(labels, files, strict=True)]) > 0.7
    _, accuracy = adapted(model, recordings / "test")
    assert accuracy > 0.5
    fitted.save_checkpoint(tmp_path / "model.ckpt")
    restored = SignalClassifier.load_from_checkpoint(tmp_path / "model.ckpt", backbone=encoder())
    assert restored.classes == data.classes
    deviation = data.modality.settings["deviation"]
    assert restored.load_options == {"deviation": deviation}
    train = data.table("train")
    assert train is not None
    read = np.stack([np.load(io.BytesIO(train.inputs[row].read_bytes())) for row in range(len(train))])
    assert deviation == pytest.approx(read.std(ddof=1))
    with pytest.warns(DataWarning, match="trained on at least 156 of the 208 examples"):
        assert trainer().predict(restored, datamodule=data) == labels


def test_other_lengths_are_told_with_what_to_type(recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name, length in (("1", 64), ("2", 60)):
        np.save(tmp_path / "a" / f"{name}.npy", np.zeros(length, np.float32))
    with pytest.raises(DataError, match=r"all inputs must agree. Give the data length=64"):
        list(SignalData.from_folders(tmp_path, deviation=1.0).train_dataloader())
    (batch, _), *_ = SignalData.from_folders(tmp_path, length=60, deviation=1.0).train_dataloader()
    assert batch.shape == (2, 1, 60)


def test_a_broken_recording_is_named(recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.npy").write_bytes((recordings / "test" / "tone-0" / "0.npy").read_bytes()[:100])
    with pytest.raises(DataError, match=r"'.*a/1.npy' cannot be read: "):
        list(SignalData.from_folders(tmp_path).train_dataloader())
