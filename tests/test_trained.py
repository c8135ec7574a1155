"""A trained model without Lightning answers as the trainer does, here and read from its files."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import torch
from PIL import Image
from torch import nn

import little_sequences
from quickstudy import ConfigError, DataError, Predictor, Trainer
from quickstudy.image import ImageClassificationData, ImageClassifier, ImageRegressionData, ImageRegressor, Picture
from quickstudy.kinds.classification import Classification
from quickstudy.saved.graph_files import written_and_read
from quickstudy.trained import TrainedModel

CLASSES = ("cat", "dog", "yak")
FORMS = ("labels", "classes", "probabilities", "logits", "rows")
QUIET: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "accelerator": "cpu",
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for number, name in enumerate(CLASSES):
        for example in range(7):
            pixels = random.integers(0, 60, (20, 18, 3)) + 60 * np.eye(3, dtype=int)[number] + 60
            path = root / ("asked" if example == 6 else "train") / name / f"{example}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    return root


def trained(photos: Path, **options: Any) -> tuple[ImageClassifier, Trainer, ImageClassificationData]:
    torch.manual_seed(0)
    folders = {"train_folder": photos / "train", "predict_folder": photos / "asked"}
    data = ImageClassificationData.from_folders(**folders, image_size=16, batch_size=6)
    options = {"backbone": "conv4", "backbone_kwargs": {"hidden": 4}, "learning_rate": 0.02, **options}
    model, trainer = ImageClassifier(**options), Trainer(max_epochs=1, **QUIET)
    trainer.fit(model, datamodule=data)
    return model, trainer, data


@pytest.fixture(scope="module")
def model(photos: Path) -> tuple[ImageClassifier, Trainer, ImageClassificationData]:
    return trained(photos)


@pytest.fixture(scope="module")
def asked(photos: Path) -> list[str]:
    return [str(path) for path in sorted(photos.glob("asked/*/*.png"))]


def check_same(found: Any, expected: Any, form: str) -> None:
    if form == "rows":  # whose true labels follow from class folders, which a list of files has none of
        assert found == [row._replace(true=None) for row in expected]
    elif isinstance(expected, list):
        assert found == expected
    else:
        assert torch.equal(found, expected)


@pytest.mark.parametrize("form", FORMS)
def test_it_answers_as_the_trainer_does(
    model: tuple[ImageClassifier, Trainer, ImageClassificationData], asked: list[str], form: Any, tmp_path: Path
) -> None:
    task, _, data = model
    expected = Trainer(**QUIET).predict(task, datamodule=data, output=form)
    task.predictor().save(tmp_path)
    for answering in (task.predictor(), TrainedModel.load(tmp_path)):
        check_same(answering.predict(asked, form, batch_size=6), expected, form)


def test_it_is_read_without_lightning(
    model: tuple[ImageClassifier, Trainer, ImageClassificationData], asked: list[str], tmp_path: Path
) -> None:
    model[0].predictor().save(tmp_path / "saved")
    code = (
        "import sys; from quickstudy.trained import TrainedModel\n"
        f"print(*TrainedModel.load({str(tmp_path / 'saved')!r}).predict({asked!r}))\n"
        "sys.exit(any(name in sys.modules for name in ('lightning', 'torchmetrics')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout.split()) == (0, model[0].predictor().predict(asked)), done.stderr


def test_a_checkpoint_makes_it(
    model: tuple[ImageClassifier, Trainer, ImageClassificationData], asked: list[str], tmp_path: Path
) -> None:
    task, trainer, _ = model
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    read = ImageClassifier.load_from_checkpoint(tmp_path / "x.ckpt")
    assert torch.equal(read.predictor().predict(asked, "logits"), task.predictor().predict(asked, "logits"))
    assert read.like.shape == (0, 3, 16, 16) and read.like.dtype == torch.uint8


def test_training_on_changes_nothing_of_it(photos: Path, asked: list[str]) -> None:
    task, trainer, data = trained(photos)
    made = task.predictor()
    before = made.predict(asked, "logits")
    trainer.fit_loop.max_epochs = 2
    trainer.fit(task, datamodule=data)
    assert torch.equal(made.predict(asked, "logits"), before)
    assert not torch.equal(task.predictor().predict(asked, "logits"), before)


def test_several_labels(photos: Path, asked: list[str], tmp_path: Path) -> None:
    files = sorted(photos.glob("train/*/*.png"))
    targets = [["red", "all"] if file.parent.name == "cat" else ["all"] for file in files]
    data = ImageClassificationData.from_files(files, targets, predict_files=asked, image_size=16, batch_size=6)
    task = ImageClassifier(backbone="conv4", backbone_kwargs={"hidden": 4}, multi_label=True, class_weights="balanced")
    trainer = Trainer(max_epochs=1, **QUIET)
    trainer.fit(task, datamodule=data)
    task.predictor().save(tmp_path)
    read = TrainedModel.load(tmp_path)
    for form in FORMS:
        expected = trainer.predict(task, datamodule=data, output=form)
        check_same(read.predict(asked, form, batch_size=6), expected, form)
    assert [answer.label for answer in read.rank(asked, batch_size=6)] == read.predict(asked, batch_size=6)


def test_labels_keep_their_type(photos: Path, asked: list[str], tmp_path: Path) -> None:
    files = sorted(photos.glob("train/*/*.png"))
    data = ImageClassificationData.from_files(
        files, [len(file.parent.name) + ord(file.parent.name[0]) for file in files]
    )
    task = ImageClassifier(backbone="conv4", backbone_kwargs={"hidden": 4})
    task.meet(data, "fit")
    task.predictor().save(tmp_path)
    assert set(map(type, TrainedModel.load(tmp_path).predict(asked))) == {int}


def test_it_ranks(model: tuple[ImageClassifier, Trainer, ImageClassificationData], asked: list[str]) -> None:
    made = model[0].predictor()
    chances = made.predict(asked, "probabilities")
    for row, answer in enumerate(made.rank(asked, 2)):
        assert [name for name, _ in answer.ranking] == [CLASSES[code] for code in chances[row].topk(2).indices]
        assert answer.label == answer.ranking[0][0] and answer.nearest == []
        assert [chance for _, chance in answer.ranking] == chances[row].topk(2).values.tolist()


def test_pictures_of_any_form_are_the_same_to_it(
    model: tuple[ImageClassifier, Trainer, ImageClassificationData], asked: list[str]
) -> None:
    made = model[0].predictor()
    expected = made.predict(asked, "logits")
    pixels = torch.stack([made.modality(path) for path in asked])
    assert torch.equal(made.predict([Image.open(path) for path in asked], "logits"), expected)
    assert torch.equal(made.predict(pixels, "logits"), expected)
    assert torch.equal(made.predict(pixels / 255, "logits"), expected)
    assert torch.equal(made.predict(pixels.permute(0, 2, 3, 1).numpy(), "logits"), expected)
    assert len(made.predict([], "labels")) == 0


def test_float64_and_code(photos: Path, asked: list[str], tmp_path: Path) -> None:
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1)).double()
    task = ImageClassifier(backbone=backbone, head=nn.Sequential(nn.Linear(4, 3), nn.ReLU()).double(), num_classes=3)
    task.meet(ImageClassificationData.from_folders(photos / "train", image_size=16), "fit")
    made = task.predictor()
    made.save(tmp_path)
    for missing in ("backbone", "head"):
        given = {"backbone": backbone, "head": made.head}
        del given[missing]
        with pytest.raises(ConfigError, match=f"a {missing} given as code: give the same again"):
            TrainedModel.load(tmp_path, **given)
    read = TrainedModel.load(tmp_path, backbone=backbone, head=made.head)
    assert torch.equal(read.predict(asked, "logits"), made.predict(asked, "logits"))


def test_one_kind_of_model_is_not_taken_for_the_other(
    model: tuple[ImageClassifier, Trainer, ImageClassificationData], asked: list[str], tmp_path: Path
) -> None:
    task, folder = model[0], tmp_path / "model"
    task.predictor().save(folder)
    with pytest.raises(ConfigError, match=r"does not learn: type TrainedModel\.load"):
        Predictor.load(folder)
    task.adapt(asked, CLASSES).save(folder)
    assert len(list(folder.glob("*.safetensors"))) == 2
    with pytest.raises(ConfigError, match=r"from examples: type Predictor\.load"):
        TrainedModel.load(folder)
    task.predictor().save(folder)
    assert TrainedModel.load(folder).classes == CLASSES and len(list(folder.glob("*.safetensors"))) == 2


def test_what_is_refused(
    model: tuple[ImageClassifier, Trainer, ImageClassificationData], asked: list[str], tmp_path: Path
) -> None:
    made = model[0].predictor()
    with pytest.raises(ConfigError, match=r"output='label'.*'labels', 'probabilities'"):
        made.predict(asked, "label")
    with pytest.raises(DataError, match=r"cannot take inputs of .*and it was trained on such of"):
        made.predict(torch.zeros(2, 3, 64, 64, dtype=torch.uint8))
    with pytest.raises(DataError, match=r"no\.png"):
        made.predict([*asked, "no.png"])
    with pytest.raises(ConfigError, match="no fixed classes"):
        ImageClassifier(backbone="conv4", training_strategy="prototypicalnetworks").predictor()
    made.save(tmp_path)
    described = tmp_path / "predictor.json"
    content = json.loads(described.read_text())
    described.write_text(json.dumps({**content, "kind": {"name": "os", "options": {}}}))
    with pytest.raises(ConfigError, match="unknown kind of answer 'os'"):
        TrainedModel.load(tmp_path)
    described.write_text(json.dumps({name: value for name, value in content.items() if name != "files"}))
    with pytest.raises(DataError, match="is damaged"):
        TrainedModel.load(tmp_path)
    for kind in {"name": "regression", "options": {}}, Classification(classes=("a", "b")).described():
        described.write_text(json.dumps({**content, "kind": kind}))
        with pytest.raises(DataError, match=f"gives {len(made.classes)} answers, and its description says [12]:"):
            TrainedModel.load(tmp_path)
    described.write_text(json.dumps(content))
    head = next(path for path in tmp_path.iterdir() if path.name.startswith("head"))
    head.unlink()
    with pytest.raises(DataError, match=r"lacks the file .*head.*: save it again"):
        TrainedModel.load(tmp_path)


@pytest.mark.parametrize("form", ["onnx", "pt2"])
def test_it_is_exported_and_answers_alike(
    model: tuple[ImageClassifier, Trainer, ImageClassificationData], asked: list[str], tmp_path: Path, form: str
) -> None:
    made = model[0].predictor()
    done = made.export(tmp_path / f"x.{form}")
    assert done.difference < 1e-4 and (done.flips, done.inputs) == (0, 8)
    with safetensors.safe_open(done.classes, "np") as file:
        about = json.loads(file.metadata()["quickstudy"])
        assert list(file.keys()) == []
    assert about["classes"] == list(CLASSES) and about["temperature"] == 1 and not about["several"]
    assert about["input"] == {"shape": [3, 16, 16], "dtype": "uint8"} and about["image_mode"] == "RGB"
    pixels = torch.stack([made.modality(path) for path in asked])
    logits, largest = written_and_read(done.model)[1](done.model.read_bytes())(pixels, {})
    assert torch.allclose(logits, made.predict(asked, "logits"), atol=1e-4)
    assert torch.equal(largest, logits.amax(1))


def test_several_labels_and_inputs_of_another_size_are_exported(tmp_path: Path, photos: Path) -> None:
    pixels = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8)
    targets = [["cat"], ["dog"], ["cat", "yak"]] * 2
    task = ImageClassifier(
        backbone=nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1)), head=nn.Linear(4, 3), multi_label=True
    )
    task.meet(ImageClassificationData.from_tensors(pixels, targets), "fit")
    made = TrainedModel(task.encoder, task.head, task.kind, Picture())
    with pytest.raises(ConfigError, match="the size of its inputs is not known: give some"):
        made.export(tmp_path / "x.pt2")
    assert made.export(tmp_path / "x.pt2", inputs=pixels).inputs == 6 + 8
    with safetensors.safe_open(tmp_path / "x.pt2.classes.safetensors", "np") as file:
        assert json.loads(file.metadata()["quickstudy"])["several"]


def test_numbers_are_exported_in_their_units(tmp_path: Path) -> None:
    pixels = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8)
    task = ImageRegressor(backbone="conv4", backbone_kwargs={"hidden": 4})
    task.meet(ImageRegressionData.from_tensors(pixels, [100.0, 200, 300, 400, 500, 600]), "fit")
    made = task.predictor()
    done = made.export(tmp_path / "x.pt2")
    found = written_and_read(done.model)[1](done.model.read_bytes())(pixels, {})[0]
    assert found.flatten().tolist() == pytest.approx(made.predict(pixels), rel=1e-4)
    made.save(tmp_path / "saved")
    assert TrainedModel.load(tmp_path / "saved").predict(pixels) == made.predict(pixels)


def test_what_only_a_model_with_examples_has_is_refused_with_what_to_type(
    model: tuple[ImageClassifier, Trainer, ImageClassificationData],
) -> None:
    made: Any = model[0].predictor()
    for name in ("explain", "nearest", "add_class"):
        with pytest.raises(AttributeError, match=rf"no '{name}': .* keeps no examples.* type model\.adapt\("):
            getattr(made, name)
        assert not hasattr(made, name)
    with pytest.raises(AttributeError, match="object has no attribute 'explian'"):
        _ = made.explian
    assert copy.deepcopy(made).classes == made.classes


@pytest.mark.parametrize(
    ("form", "does"),
    [("entities", "finds entities"), ("questions", "answers questions"), ("speech", "writes what is said")],
)
def test_sequences_say_that_they_are_not_exported(form: str, does: str, tmp_path: Path) -> None:
    task = little_sequences.task(form)
    task.meet(little_sequences.data(form, 13, 13), "fit")
    for suffix in ("onnx", "pt2"):
        with pytest.raises(ConfigError, match=f"^a model that {does} is not exported: save it, and serve it$"):
            task.predictor().export(tmp_path / f"model.{suffix}")
    assert not [*tmp_path.iterdir()]
