"""Embedders: features as answers, what they are judged by, and data that needs no labels."""

from __future__ import annotations

import csv
import json
import shlex
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor, nn

from quickstudy import ConfigError, DataError, Trainer
from quickstudy.cli import main
from quickstudy.cli.tasks import in_checkpoint
from quickstudy.functional.neighbours import neighbourhood_loss, votes_of_nearest
from quickstudy.image import ImageClassificationData, ImageEmbedder, ImageEmbeddingData
from quickstudy.kinds.base import Score
from quickstudy.kinds.embedding import Embedding
from quickstudy.kinds.metrics import FeatureDeviation
from quickstudy.saved.graph_files import written_and_read
from quickstudy.serve.service import Service
from quickstudy.trained import TrainedModel
from test_serve_trained import ask, png

QUIET: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "accelerator": "cpu",
}
SMALL: dict[str, Any] = {"backbone": "conv4", "backbone_kwargs": {"hidden": 4}}


def pictures(count: int = 24, seed: int = 0) -> tuple[Tensor, list[str]]:
    """Noisy pictures of three brightnesses."""
    generator = torch.Generator().manual_seed(seed)
    labels = [f"{number % 3}" for number in range(count)]
    bright = torch.tensor([60.0 * int(label) for label in labels]).view(-1, 1, 1, 1)
    return (bright + 100 * torch.rand(count, 3, 16, 16, generator=generator)).to(torch.uint8), labels


# ---- what it is judged by


def test_votes_are_those_of_the_nearest_others() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    codes = torch.randint(4, (40,), generator=generator)
    features[7] = torch.nan
    found, units = votes_of_nearest(features, codes, 5), F.normalize(features, dim=1)
    for row in range(40):
        others = [other for other in range(40) if other not in (row, 7)]
        near = sorted(others, key=lambda other: -float(units[row] @ units[other]))[:5]
        cast = torch.zeros(4, dtype=torch.float64)
        for other in near:
            cast[codes[other]] += torch.exp(units[row] @ units[other] / 0.07)
        assert int(found[row]) == (-1 if row == 7 else int(cast.argmax()))
    assert votes_of_nearest(features[:1], codes[:1], 5).tolist() == [-1]
    assert votes_of_nearest(features[:0], codes[:0], 5).tolist() == []


def test_the_loss_of_neighbours() -> None:
    features = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    codes, units = torch.tensor([0, 0, 1, 1, 1, 2]), F.normalize(features.detach(), dim=1)
    terms = []
    for row in range(5):  # the sixth is alone of its class
        near = (units @ units[row] / 0.1).exp() * (torch.arange(6) != row)
        terms.append(-torch.log(near[codes == codes[row]].sum() / near.sum()))
    found = neighbourhood_loss(features, codes)
    assert float(found.detach()) == pytest.approx(float(torch.stack(terms).mean()), rel=1e-9)
    found.backward()  # type: ignore[no-untyped-call]
    assert features.grad is not None and bool(features.grad.isfinite().all())
    assert float(neighbourhood_loss(features, torch.arange(6)).detach()) == 0


def test_the_deviation_of_features() -> None:
    deviation = FeatureDeviation()
    features = F.normalize(torch.randn(30, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    deviation.update(3 * features[:10], None)
    deviation.update(features[10:], None)
    assert float(deviation.compute()) == pytest.approx(float(features.var(0, correction=0).sum().sqrt()), rel=1e-5)
    deviation.reset()
    deviation.update(torch.ones(4, 5), None)
    assert float(deviation.compute()) < 1e-3


def test_equal_neighbours_vote_the_same_in_any_order() -> None:
    """Processes bring their examples in an order of their own."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randint(2, (60, 3), generator=generator).float()  # many are alike
    figures = Embedding().figures(features, torch.randint(3, (60,), generator=generator))
    order = torch.randperm(60, generator=generator)
    first, second = Embedding().settled(figures), Embedding().settled(figures[order].double())
    assert torch.equal(first[order], second) and 0 < first.sum() < 60


def test_labels_say_what_it_is_judged_by(tmp_path: Path) -> None:
    pixels, labels = pictures()
    given: list[dict[str, Any]] = [{"val_data": pixels[:9]}, {"val_data": pixels[:9], "val_targets": labels[:9]}]
    for more, name in zip(given, ("loss", "knn_accuracy"), strict=True):
        data = ImageEmbeddingData.from_tensors(pixels[9:], **more, batch_size=15)
        model = ImageEmbedder(**SMALL, training_strategy="simclr")
        shown = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
        trainer = Trainer(max_epochs=2, patience=5, logger="csv", default_root_dir=tmp_path / name, **shown)
        trainer.fit(model, datamodule=data)
        assert model.score == Score(name, "min" if name == "loss" else "max", share=name != "loss")
        best: Any = trainer.checkpoint_callback
        assert (best.monitor, best.mode) == (f"val_{name}", model.score.best) and Path(best.best_model_path).exists()
        logged = trainer.callback_metrics
        assert {"train_loss", "val_loss", "train_feature_std", "val_feature_std", f"val_{name}"} <= logged.keys()
        assert ("val_knn_accuracy" in logged) == (name == "knn_accuracy") and 0 < logged["val_feature_std"] <= 1
        assert trainer.run_folder is not None and (trainer.run_folder / "report.html").exists()


def test_a_test_has_an_interval_or_a_loss(capsys: pytest.CaptureFixture[str]) -> None:
    pixels, labels = pictures()
    model, trainer = ImageEmbedder(**SMALL), Trainer(**QUIET)
    (found,) = trainer.test(model, datamodule=ImageEmbeddingData.from_tensors(test_data=pixels, test_targets=labels))
    assert trainer.outcome is not None and trainer.outcome.unit == "examples"
    assert trainer.outcome.value == pytest.approx(found["test_knn_accuracy"], abs=1e-6)
    assert trainer.outcome.ci95() == pytest.approx(found["test_knn_accuracy_ci95"], abs=1e-6)
    features = model.predictor().predict(pixels)
    codes = torch.tensor([int(label) for label in labels])
    assert trainer.outcome.figures.tolist() == (votes_of_nearest(features, codes, 5) == codes).double().tolist()
    assert "knn accuracy" in capsys.readouterr().out
    learner = ImageEmbedder(**SMALL, training_strategy="vicreg")
    data = ImageEmbeddingData.from_tensors(test_data=pixels[:9], batch_size=4)  # the last has one, which cannot differ
    (found,) = trainer.test(learner, datamodule=data)
    assert found["test_loss"] > 0 and "test_knn_accuracy" not in found and "loss" in capsys.readouterr().out


def test_labels_draw_together_what_is_of_a_class() -> None:
    pixels, labels = pictures(48)
    data = ImageEmbeddingData.from_tensors(pixels, labels, test_data=pictures(30, 1)[0], test_targets=pictures(30)[1])
    data.batch_size = 24
    model, trainer = ImageEmbedder(**SMALL, learning_rate=0.02), Trainer(max_epochs=15, **QUIET)
    (before,) = trainer.test(model, datamodule=data, verbose=False)
    trainer.fit(model, datamodule=data)
    (after,) = trainer.test(model, datamodule=data, verbose=False)
    assert after["test_loss"] < before["test_loss"] / 2 and after["test_knn_accuracy"] > 0.9


def test_without_labels_the_default_strategy_says_what_to_do() -> None:
    data = ImageEmbeddingData.from_tensors(pictures()[0], test_data=pictures()[0])
    for use, name in ((Trainer(max_epochs=1, **QUIET).fit, "train"), (Trainer(**QUIET).test, "test")):
        with pytest.raises(ConfigError, match=f"the {name} data has no label of each example: .*'simclr'.*as it is"):
            use(ImageEmbedder(**SMALL), datamodule=data)
    with pytest.raises(ConfigError, match="neighbours=0"):
        ImageEmbedder(**SMALL, neighbours=0)
    with pytest.raises(ConfigError, match="loss_fn='mse_loss' is of other answers"):
        ImageEmbedder(**SMALL, loss_fn="mse_loss")


# ---- without any training: predict, adapt, save, export, serve


def test_it_answers_as_it_is(tmp_path: Path) -> None:
    pixels, labels = pictures()
    model = ImageEmbedder("conv4", {"hidden": 4})
    data = ImageEmbeddingData.from_tensors(predict_data=pixels[:5], batch_size=5)
    found = Trainer(**QUIET).predict(model, datamodule=data)
    assert found.shape == (5, 4) and found.dtype == torch.float32
    trained = model.predictor()
    assert torch.equal(trained.predict(pixels[:5]), found) and not trained.learns
    rows = Trainer(**QUIET).predict(model, datamodule=data, output="rows")
    assert rows[2].file == "input 2" and rows[2].answer == found[2].tolist()
    trained.save(tmp_path / "saved")
    again = TrainedModel.load(tmp_path / "saved")
    assert torch.equal(again.predict(pixels[:5]), found) and again.kind == Embedding()
    predictor = model.adapt(pixels[:6], labels[:6])
    assert sum(one == other for one, other in zip(predictor.predict(pixels), labels, strict=True)) > 12
    with pytest.raises(DataError, match="the model's answer to input 1 is not finite"):
        trained.predict(torch.stack([torch.zeros(3, 16, 16), torch.full((3, 16, 16), torch.nan)]))


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_its_graph_answers_alike(suffix: str, tmp_path: Path) -> None:
    pixels, trained = pictures()[0], ImageEmbedder(**SMALL).predictor()
    written = trained.export(tmp_path / f"x{suffix}", inputs=pixels[:3])
    answers = written_and_read(written.model)[1](written.model.read_bytes())(pixels[:5], {})[0]
    assert (answers - trained.predict(pixels[:5])).abs().max() < 1e-5


def test_it_is_served_as_lists() -> None:
    model = ImageEmbedder(**SMALL)
    model.load_options = {"image_size": 16}
    trained = model.predictor()
    with Service(trained) as service:
        answer = ask(service, "POST", "/predict", files=[("images", ("a.png", png(1), "image/png"))])
        (found,) = answer.json()["predictions"]
        assert found["embedding"] == pytest.approx(trained.predict([png(1)])[0].tolist(), abs=1e-6)
        told = ask(service, "GET", "/openapi.json").text
    assert '"embedding"' in told


# ---- data


def draw(path: Path, number: int) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)).save(path)
    return str(path)


def test_doors_need_no_labels(tmp_path: Path) -> None:
    files = [draw(tmp_path / "flat" / f"{number}.png", number) for number in range(4)]
    draw(tmp_path / "flat" / "deeper" / "5.png", 5)
    for name in ("cat", "dog"):
        draw(tmp_path / "val" / name / "1.png", len(name))
    data = ImageEmbeddingData.from_folders(tmp_path / "flat", tmp_path / "val", image_size=16)
    train, val = data.table("train"), data.table("val")
    assert train is not None and len(train) == 5 and train.targets is None
    assert val is not None and val.classes == ("cat", "dog")
    draw(tmp_path / "set" / "train" / "1.png", 7)
    draw(tmp_path / "set" / "test" / "cat" / "1.png", 8)
    splits = ImageEmbeddingData.from_folders(folder=tmp_path / "set", image_size=16)
    train, test = splits.table("train"), splits.table("test")
    assert train is not None and train.targets is None and test is not None and test.classes == ("cat",)
    whole = ImageEmbeddingData.from_folders(folder=tmp_path / "flat", image_size=16).table("val")
    assert whole is not None and (len(whole), whole.targets) == (1, None)
    opened = [PIL_of(file) for file in files]
    frame = pd.DataFrame({"file": files, "label": list("abab")})
    frame.to_csv(tmp_path / "x.csv", index=False)
    unlabelled = [(torch.zeros(3, 8, 8),) for _ in range(4)]
    made = [
        ImageEmbeddingData.from_files(files),
        ImageEmbeddingData.from_images(opened),
        ImageEmbeddingData.from_tensors(np.zeros((4, 3, 8, 8), np.uint8)),
        ImageEmbeddingData.from_data_frame("file", train_data_frame=frame),
        ImageEmbeddingData.from_csv("file", train_file=tmp_path / "x.csv"),
        ImageEmbeddingData.from_datasets(unlabelled),
    ]
    for one in made:
        table = one.table("train")
        assert table is not None and (len(table), table.targets) == (4, None)
    labelled = [
        ImageEmbeddingData.from_files(files, list("abab")),
        ImageEmbeddingData.from_csv("file", "label", train_file=tmp_path / "x.csv"),
        ImageEmbeddingData.from_datasets([(torch.zeros(3, 8, 8), code) for code in (0, 1, 0, 1)]),
    ]
    for one in labelled:
        assert len(one.classes) == 2
    with pytest.raises(DataError, match="train_files but no train_targets: give both"):
        ImageClassificationData.from_files(files)
    with pytest.raises(DataError, match="train_targets but no train_files: give both"):
        ImageEmbeddingData.from_files(train_targets=[1])


def PIL_of(file: str) -> Image.Image:  # noqa: N802
    with Image.open(file) as opened:
        return opened.convert("RGB")


def test_from_a_folder_to_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(14):
        draw(Path("photos" if number < 10 else "others", f"{number}.png"), number)
    quick = "--trainer.accelerator cpu --trainer.enable_progress_bar false"
    model = "--model.backbone conv4 --model.backbone_kwargs '{hidden: 4}' --model.training_strategy simclr"
    data = "--data.folder photos --data.image_size 16 --data.batch_size 6"
    fit = f"fit --task image_embedding {data} {model} {quick} --trainer.enable_model_summary false --out run"
    assert main(shlex.split(f"{fit} --trainer.max_epochs 1")) == 0
    assert in_checkpoint(Path("run/best.ckpt")) == "image_embedding"
    assert main(shlex.split("test run --data.test_folder others --trainer.accelerator cpu")) == 0
    assert "loss" in capsys.readouterr().out
    assert main(shlex.split("predict run others/12.png others/13.png --format csv")) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["file"] for row in rows] == ["others/12.png", "others/13.png"] and len(
        json.loads(rows[0]["answer"])
    ) == 4


# ---- what it is for


def written(images: Tensor, generator: torch.Generator) -> Tensor:
    """Put digits of 8 pixels somewhere on sheets of 16, in ink of some strength."""
    sheets = torch.zeros(len(images), 1, 16, 16)
    for sheet, image in zip(sheets, images, strict=True):
        row, column = torch.randint(2, 7, (2,), generator=generator).tolist()
        sheet[0, row : row + 8, column : column + 8] = image
    return (sheets * (8 + 7 * torch.rand(len(images), 1, 1, 1, generator=generator))).to(torch.uint8)


def handled(pixels: Tensor) -> Tensor:
    """Move a digit, blot a part of it out, and change its ink."""
    pixels = torch.roll(pixels, tuple(torch.randint(-2, 3, (2,)).tolist()), (1, 2))
    row, column = torch.randint(2, 11, (2,)).tolist()
    pixels[:, row : row + 3, column : column + 3] = 0
    return (pixels * (0.6 + 0.4 * torch.rand(()))).to(torch.uint8)


def test_training_without_labels_beats_the_untrained_network_and_the_pixels() -> None:
    """Real handwritten digits, moved about; nearest centroid of 5 examples per class, on some 450 others."""
    drawn, labels = load_digits(return_X_y=True)
    sheets = written(torch.tensor(drawn).view(-1, 8, 8).float(), torch.Generator().manual_seed(0))
    train, test, codes = sheets[:1300], sheets[1300:], torch.tensor(labels[1300:])
    shown = torch.cat([(codes == code).nonzero().flatten()[:5] for code in range(10)])
    asked = torch.tensor(sorted(set(range(len(codes))) - set(shown.tolist())))

    def right(model: ImageEmbedder) -> float:
        predictor = model.adapt(test[shown], codes[shown].tolist())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pictures that are like none
            found = predictor.predict_proba(test[asked]).argmax(1)
        return float((torch.as_tensor(predictor.classes_.tolist())[found] == codes[asked]).float().mean())

    options: dict[str, Any] = {"hidden": 32, "in_channels": 1}
    model = ImageEmbedder("conv4", options, learning_rate=3e-3, training_strategy="simclr")
    untrained, pixels = right(model), right(ImageEmbedder(nn.Flatten()))
    data = ImageEmbeddingData.from_tensors(train, transform=handled, batch_size=64)
    Trainer(max_epochs=5, **QUIET).fit(model, datamodule=data)
    # Of 447 digits 0.5 ± 0.05 at most, two such: what is 0.15 apart is apart.
    assert right(model) > max(untrained, pixels) + 0.15
