"""What sounds reach on public data: from nothing, and by Whisper's encoder as it is, beside what needs no network.

    python benchmarks/sounds.py --root data/audio                   # all; or
    python benchmarks/sounds.py --root data/audio --only unseen_speakers

In the folder: spoken_digits_8khz.zip (10 digits by 6 speakers; train/ and test/ of class folders, speaker_number.wav)
and esc10_16khz.zip (fold1/ to fold5/ of class folders; clips of one recording share a fold). Beside ours stand
scikit-learn's logistic regression and nearest means on statistics of the spectrum: mean, deviation and mean change of
each band.
"""

from __future__ import annotations

import copy
import tempfile
import time
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import domains
import numpy as np
import torch
from embeddings import QUIET
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from quickstudy import DataModule, Predictor, Trainer
from quickstudy.audio import AudioClassificationData, AudioClassifier, Sound
from quickstudy.batches import stack
from quickstudy.functional.intervals import mean_interval
from quickstudy.nets import build_encoder

DIGITS: dict[str, Any] = {"sample_rate": 8000, "seconds": 0.64, "bands": 40}
"""A spectrum of 40 x 64."""
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
STEP_BATCH, STEP_SEEDS, STEP_EPOCHS = 32, 5, 3
_AT_ONCE = 16


def unpacked(archive: Path) -> tuple[list[Path], Path]:
    """Return the files of an archive, in a folder of their own."""
    place = Path(tempfile.mkdtemp())
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(place)
    return sorted(path for path in place.rglob("*") if path.suffix in (".wav", ".ogg")), place


def digits(root: Path, numbers: range = range(50)) -> tuple[list[Path], NDArray[Any], NDArray[Any]]:
    """Return spoken digits: files, what is said, and who says it."""
    files, _ = unpacked(root / "spoken_digits_8khz.zip")
    files = [file for file in files if int(file.stem.split("_")[1]) in numbers]
    said, speakers = [file.parent.name for file in files], [file.stem.split("_")[0] for file in files]
    return files, np.array(said), np.array(speakers)


def statistics(files: list[Path], sound: Sound) -> NDArray[Any]:
    """Return ``[N, 3 F]``: of each band the mean, the deviation and the mean change, of the frames that are heard."""
    found = []
    for file in files:
        levels = sound.load(file)[0].float()
        levels = levels[:, levels.any(0)]
        found.append(torch.cat([levels.mean(1), levels.std(1), levels.diff(dim=1).abs().mean(1)]))
    return torch.stack(found).numpy()


@torch.inference_mode()
def embedded(files: list[Path], seconds: float) -> Tensor:
    """Return ``[N, D]`` by Whisper's encoder; those of like length together."""
    encoder = build_encoder("whisper_tiny_en").eval()
    sound = Sound(seconds=seconds, **(encoder.reads or {})["options"])
    clips = [sound.load(file) for file in files]
    order = torch.tensor([len(clip["mask"]) for clip in clips]).argsort()
    found = torch.cat([encoder(stack([clips[row] for row in rows])) for rows in order.split(_AT_ONCE)])
    return found[order.argsort()]


def by_features(train: Any, labels: Any, test: Any, wanted: Any) -> float:
    """Return the share of right answers of scikit-learn on features."""
    made = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    return float(made.fit(train, labels).score(test, wanted))


def by_probe(train: Tensor, labels: Any, test: Tensor, wanted: Any) -> float:
    """Return the share of right answers of a linear probe as by default, where none may be "unknown"."""
    predictor = Predictor.from_backbone(
        nn.Flatten(), train, list(labels), strategy="linear_probe", load=torch.as_tensor
    )
    return float((np.array(predictor.predict(test, may_be_unknown=False)) == np.array(wanted)).mean())


def fitted(
    files: Any, labels: Any, test: Any, wanted: Any, epochs: int, pooling: str = "none", **options: Any
) -> tuple[float, float]:
    """Return the share of right answers of a network that was trained from nothing, and the seconds of a processor.

    The number of epochs and the transform were chosen by clips of the training data, or before anything was measured.
    """
    began = time.process_time()
    torch.manual_seed(0)
    data = AudioClassificationData.from_files(
        train_files=files,
        train_targets=list(labels),
        test_files=test,
        test_targets=list(wanted),
        batch_size=32,
        **options,
    )
    model = AudioClassifier(
        backbone="audio_conv4",
        backbone_kwargs={"hidden": 32, "pooling": pooling},
        num_classes=10,
        optimizer="adamw",
        learning_rate=3e-3,
        lr_scheduler=("CosineAnnealingLR", {"T_max": epochs}),
    )
    trainer = Trainer(max_epochs=epochs, **QUIET)
    trainer.fit(model, datamodule=data)
    (found,) = trainer.test(model, datamodule=data, verbose=False)
    return float(found["test_accuracy"]), round(time.process_time() - began, 1)


def wilson(right: float, count: int) -> dict[str, float]:
    """Return an accuracy in percent, and Wilson's 95% interval."""
    z, middle = 1.96, (right + 1.96**2 / 2 / count) / (1 + 1.96**2 / count)
    half = z * ((right * (1 - right) + z**2 / 4 / count) / count) ** 0.5 / (1 + z**2 / count)
    return {
        "accuracy": round(100 * right, 2),
        "from": round(100 * (middle - half), 2),
        "to": round(100 * (middle + half), 2),
    }


def spoken_digits(root: Path) -> dict[str, Any]:
    """The official split: recordings 0 to 4 of each speaker are the test, so that no speaker is new."""
    files, said, _ = digits(root)
    test = np.array(["test" in file.parts for file in files])
    train_files = [file for file, is_test in zip(files, test, strict=True) if not is_test]
    test_files = [file for file, is_test in zip(files, test, strict=True) if is_test]
    features = statistics(files, Sound(**DIGITS))
    right, seconds = fitted(train_files, said[~test], test_files, said[test], epochs=12, **DIGITS)
    count = int(test.sum())
    return {
        "train": int((~test).sum()),
        "test": count,
        "most frequent class": 10.0,
        "statistics of the spectrum, scikit-learn": wilson(
            by_features(features[~test], said[~test], features[test], said[test]), count
        ),
        "audio_conv4 from nothing, 12 epochs": {**wilson(right, count), "cpu_seconds": seconds},
    }


def new_speaker(root: Path) -> dict[str, Any]:
    """Each speaker left out in turn, of recordings 5 to 14: what is learned of the others is asked of a new voice."""
    files, said, speakers = digits(root, range(5, 15))
    began = time.process_time()
    vectors = embedded(files, 2)
    took = round(time.process_time() - began, 1)
    features = statistics(files, Sound(**DIGITS))
    rows: dict[str, list[float]] = {"statistics of the spectrum, scikit-learn": [], "whisper_tiny_en, linear_probe": []}
    rows["whisper_tiny_en, scikit-learn"] = []
    for name in SPEAKERS:
        new = speakers == name
        pair = said[~new], said[new]
        for row, values, score in (
            ("statistics of the spectrum, scikit-learn", features, by_features),
            ("whisper_tiny_en, scikit-learn", vectors.numpy(), by_features),
            ("whisper_tiny_en, linear_probe", vectors, by_probe),
        ):
            rows[row].append(score(values[~new], pair[0], values[new], pair[1]))  # type: ignore[operator]
    return {
        "clips": len(files),
        "embedding_cpu_seconds": took,
        "most frequent class": 10.0,
        **{row: of_parts(right, SPEAKERS) for row, right in rows.items()},
    }


def new_speaker_from_nothing(root: Path) -> dict[str, Any]:
    """The same by a network that has seen nothing else: recordings 5 to 14 of the five others, and all 50 of theirs."""
    found: dict[str, Any] = {"most frequent class": 10.0}
    for count, epochs in ((10, 40), (50, 8)):
        files, said, speakers = digits(root, range(5, 15) if count == 10 else range(50))
        asked = np.array([int(file.stem.split("_")[1]) in range(5, 15) for file in files])
        right, took, paths = [], 0.0, np.array(files, dtype=object)
        for name in SPEAKERS:
            train, test = speakers != name, (speakers == name) & asked
            options = {"transform": "shift_pitch_specaugment", **DIGITS}
            share, seconds = fitted(list(paths[train]), said[train], list(paths[test]), said[test], epochs, **options)
            right.append(share)
            took += seconds
        row = f"audio_conv4 from nothing, {count} recordings of each digit and speaker, {epochs} epochs"
        found[row] = {**of_parts(right, SPEAKERS), "cpu_seconds": round(took, 1)}
    return found


def esc10_from_nothing(root: Path) -> dict[str, Any]:
    """Five folds by a network that has seen nothing else: one window of each clip in training, the mean of 6 in use.

    Pooling over time is for sounds that go on, as most here; on fold 5 a network of folds 2 to 4 was right in 81.2%
    with it and in 78.8% without.
    """
    files, _ = unpacked(root / "esc10_16khz.zip")
    kinds, folds = np.array([file.parent.name for file in files]), np.array([file.parts[-3] for file in files])
    names, right, took, paths = sorted(set(folds)), [], 0.0, np.array(files, dtype=object)
    options = {"seconds": 1.28, "windows": 6, "bands": 40, "transform": "shift_specaugment"}
    for name in names:
        test = folds == name
        pair = list(paths[~test]), kinds[~test], list(paths[test]), kinds[test]
        share, seconds = fitted(*pair, epochs=40, pooling="mean_max", **options)
        right.append(share)
        took += seconds
    row = "audio_conv4 from nothing, pooled over time, 40 epochs"
    return {
        "clips": len(files),
        "most frequent class": 10.0,
        row: {**of_parts(right, names), "cpu_seconds": round(took, 1)},
    }


def of_parts(right: list[float], names: Any) -> dict[str, Any]:
    """Return the mean of several parts in percent, and each."""
    parts = {name: round(100 * one, 2) for name, one in zip(names, right, strict=True)}
    return {"accuracy": round(100 * float(np.mean(right)), 2), "each": parts}


def esc10(root: Path) -> dict[str, Any]:
    """Five folds, each left out in turn."""
    files, _ = unpacked(root / "esc10_16khz.zip")
    kinds, folds = np.array([file.parent.name for file in files]), np.array([file.parts[-3] for file in files])
    began = time.process_time()
    vectors = embedded(files, 5)
    took = round(time.process_time() - began, 1)
    features = statistics(files, Sound(seconds=5))
    names = sorted(set(folds))
    rows: dict[str, list[float]] = {}
    for name in names:
        test = folds == name
        pair = kinds[~test], kinds[test]
        for row, values, score in (
            ("statistics of the spectrum, scikit-learn", features, by_features),
            ("whisper_tiny_en, scikit-learn", vectors.numpy(), by_features),
            ("whisper_tiny_en, linear_probe", vectors, by_probe),
        ):
            right = score(values[~test], pair[0], values[test], pair[1])  # type: ignore[operator]
            rows.setdefault(row, []).append(right)
    return {
        "clips": len(files),
        "embedding_cpu_seconds": took,
        "most frequent class": 10.0,
        **{row: of_parts(right, names) for row, right in rows.items()},
    }


def unseen_speakers(root: Path) -> dict[str, Any]:
    """5-way episodes of new classes, a digit by a speaker each: 4 speakers to train on, 2 to judge by."""
    files, said, speakers = digits(root, range(30))
    classes = np.array([f"{digit} by {name}" for digit, name in zip(said, speakers, strict=True)])
    new = np.isin(speakers, SPEAKERS[4:])
    train, test = (np.flatnonzero(part) for part in (~new, new))
    data = AudioClassificationData.from_files(
        train_files=[files[row] for row in train],
        train_targets=list(classes[train]),
        test_files=[files[row] for row in test],
        test_targets=list(classes[test]),
        episode_key="digits",
        transform="shift",
        **DIGITS,
    )
    plan = {"ways": 10, "shots": 1, "queries": 5, "meta_batch_size": 1, "epoch_length": 500, "test_ways": 5}
    plan |= {"test_queries": 5, "test_epoch_length": 300}
    torch.manual_seed(0)
    model = AudioClassifier(
        backbone="audio_conv4",
        training_strategy="prototypicalnetworks",
        training_strategy_kwargs=plan,
        optimizer="adam",
        learning_rate=1e-3,
    )
    trainer, began = Trainer(max_epochs=1, **QUIET), time.process_time()
    trainer.fit(model, datamodule=data)
    took = round(time.process_time() - began, 1)
    features = torch.from_numpy(statistics([files[row] for row in test], Sound(**DIGITS)))
    features = (features - features.mean(0)) / features.std(0)
    plain = DataModule.from_tensors(test_data=features, test_targets=list(classes[test]), episode_key="digits")
    found: dict[str, Any] = {"training": {**plan, "cpu_seconds": took}}
    for shots in (1, 5):
        began = time.process_time()
        judged = AudioClassifier(
            backbone=model.encoder,
            training_strategy="prototypicalnetworks",
            training_strategy_kwargs={**plan, "shots": shots},
        )
        (figures,) = trainer.test(judged, datamodule=data, verbose=False)
        ours = domains.told(figures["test_accuracy"], figures["test_accuracy_ci95"], began)
        episodes = domains.plan(5, shots, 5, 300)
        found[f"5-way {shots}-shot"] = {
            "statistics of the spectrum, nearest_centroid": domains.judged(plain, episodes, "nearest_centroid"),
            "statistics of the spectrum, scikit-learn, NearestCentroid": domains.judged_peer(
                plain, episodes, NearestCentroid
            ),
            "prototypicalnetworks from nothing": ours,
        }
    return found


def step(root: Path) -> dict[str, Any]:
    """Time a step beside one in a loop of plain torch of the same network, in turns; and what reading is of it.

    Plain torch has all spectra in one tensor. Ours takes them from the memory that they were read into.
    """
    files, said, _ = digits(root, range(5, 11))
    made = partial(
        AudioClassificationData.from_files, train_files=files, train_targets=list(said), batch_size=STEP_BATCH, **DIGITS
    )
    data = made()
    spectra, codes = (torch.cat(parts) for parts in zip(*data.train_dataloader(), strict=True))
    ratios, ours_of, apart = list[float](), list[float](), list[float]()
    for seed in range(STEP_SEEDS):
        torch.manual_seed(seed)
        model = AudioClassifier(
            backbone="audio_conv4", backbone_kwargs={"hidden": 32}, optimizer="adam", learning_rate=1e-3
        )
        model.meet(data, "fit")
        plain = copy.deepcopy(nn.Sequential(model.encoder, model.head))
        turns = domains.InTurns(domains.plain_steps(plain, spectra, codes, STEP_BATCH, STEP_EPOCHS))
        Trainer(max_epochs=STEP_EPOCHS, limit_val_batches=0, callbacks=[turns], **QUIET).fit(model, datamodule=data)
        ratios.append(turns.ratio)
        ours_of.append(turns.step)
        with torch.inference_mode():
            right = [float((net.eval()(spectra).argmax(1) == codes).float().mean()) for net in (model, plain)]
        apart.append(right[0] - right[1])
        print(seed, ratios[-1], ours_of[-1], right, flush=True)
    whole, shares = float(np.median(ours_of)), {}
    for workers in (0, 2):
        loader = made(num_workers=workers).train_dataloader()
        for epoch in ("first", "second"):
            began = time.process_time()
            steps = sum(1 for _ in loader)
            reading = (time.process_time() - began) / steps
            shares[f"{workers} workers, {epoch} epoch"] = round(reading / (reading + whole), 3)
    middle, half = mean_interval(torch.tensor(ratios))
    return {
        "clips": len(files),
        "batch size": STEP_BATCH,
        "milliseconds of a step": round(1000 * whole, 1),
        "time of quickstudy / plain torch": {"mean": round(float(middle), 3), "ci95": round(float(half), 3)},
        "accuracy on the training clips, less that of plain torch, in percent": round(100 * float(np.mean(apart)), 2),
        "share of a step and its reading that the reading process reads and collates": shares,
    }


if __name__ == "__main__":
    parts = spoken_digits, new_speaker, new_speaker_from_nothing, esc10, esc10_from_nothing, unseen_speakers, step
    measurements = {one.__name__: one for one in parts}
    domains.main("sounds", __doc__, measurements)
