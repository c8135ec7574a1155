"""Tasks by name on the command line: what is trained, and what a checkpoint is of."""

from __future__ import annotations

import csv
import shlex
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from quickstudy import NumberPredictor, Predictor, Trainer
from quickstudy.algorithms import STRATEGIES
from quickstudy.cli import main, tasks
from quickstudy.cli.fit import _blind, command_to_test
from quickstudy.cli.runs import advice, build_data, data_of_run
from quickstudy.cli.serve import _model
from quickstudy.cli.tasks import TASKS, asked_for, data_class, task_class
from quickstudy.errors import ConfigError
from quickstudy.image import ImageClassificationData, ImageClassifier, ImageRegressionData, ImageRegressor, load_image
from quickstudy.nets import build_encoder
from quickstudy.serve.service import Service
from quickstudy.text import TextClassifier
from quickstudy.trained import TrainedModel

QUICK = (
    "--trainer.max_epochs 1 --trainer.accelerator cpu --trainer.enable_progress_bar false "
    "--trainer.enable_model_summary false"
)
MODEL = "--model.backbone conv4 --model.backbone_kwargs '{hidden: 4}' --data.image_size 16"


@pytest.fixture
def numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures whose brightness is a number, in ``all.csv``, where the code runs."""
    monkeypatch.chdir(tmp_path)
    lines = ["file,age"]
    for number in range(12):
        pixels = np.full((16, 16, 3), 20 * number, np.uint8)
        Image.fromarray(pixels).save(f"{number}.png")
        lines.append(f"{number}.png,{number / 2}")
    Path("all.csv").write_text("\n".join(lines), encoding="utf-8")


def said(capsys: pytest.CaptureFixture[str], command: str, code: int = 0) -> str:
    capsys.readouterr()
    found = main(shlex.split(command))
    out, err = capsys.readouterr()
    assert found == code, err
    return err if code else out


def test_beside_the_error_of_numbers_stands_that_of_their_mean() -> None:
    pixels = torch.zeros(4, 1, 2, 2)
    data = ImageRegressionData.from_tensors(pixels, [0.0, 0, 0, 0], pixels, [-3.0, -1, 1, 3])
    trainer: Any = SimpleNamespace(datamodule=data)
    assert _blind(ImageRegressor(backbone=torch.nn.Flatten()), trainer) == "; always answering the mean: 2.2361"


@pytest.mark.usefixtures("numbers")
@pytest.mark.filterwarnings("ignore:the model was trained on at least", "ignore:at least")
def test_numbers_from_a_file_to_a_service(capsys: pytest.CaptureFixture[str]) -> None:
    data = "--data.input_field file --data.target_fields age"
    said(capsys, f"fit --task image_regression --data.train_file all.csv {data} {MODEL} {QUICK} --out run")
    assert "task: image_regression" in Path("run/config.yaml").read_text(encoding="utf-8")
    assert "rmse" in said(capsys, "test run --data.test_file all.csv --trainer.accelerator cpu").lower()
    plain = said(capsys, "predict run 3.png 4.png --format csv")
    rows = list(csv.DictReader(plain.splitlines()))
    assert [row["file"] for row in rows] == ["3.png", "4.png"] and list(rows[0]) == ["file", "number"]
    cpu = "--trainer.accelerator cpu --trainer.enable_progress_bar false"
    table = list(csv.DictReader(said(capsys, f"predict run --data.predict_file all.csv {data} {cpu}").splitlines()))
    assert [float(row["number"]) for row in table[3:5]] == pytest.approx(
        [float(row["number"]) for row in rows], abs=1e-5
    )
    assert [float(row["true"]) for row in table] == [number / 2 for number in range(12)]
    model, name = _model("run", torch.device("cpu"))
    assert isinstance(model, TrainedModel)
    with Service(model, name=name) as service:
        (found,) = service.predict([model.modality("3.png")]).result()
    assert float(found) == pytest.approx(float(rows[0]["number"]), abs=1e-5)
    said(capsys, f"fit --config run/config.yaml {QUICK} --out again")
    assert tasks.in_checkpoint(Path("again/last.ckpt")) == "image_regression"


@pytest.mark.usefixtures("numbers")
@pytest.mark.filterwarnings("ignore:at least")
def test_numbers_are_learned_from_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    model = ImageRegressor(backbone="conv4", backbone_kwargs={"hidden": 4})
    data = ImageRegressionData.from_csv(train_file="all.csv", input_field="file", target_fields="age", image_size=16)
    model.meet(data, "fit")
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    trainer = Trainer(accelerator="cpu", barebones=False, enable_checkpointing=False, **quiet)  # type: ignore[arg-type]
    trainer.strategy.connect(model)
    trainer.save_checkpoint("run/best.ckpt")
    model.predictor().save("trained")
    paths, ages = [f"{number}.png" for number in range(12)], [number / 2 for number in range(12)]
    expected = model.adapt(paths, ages).predict(paths[3:5])
    for known in ("run", "trained", "grey"):  # the last by what the others made
        told = said(capsys, f"adapt {known} --support all.csv --out grey")
        assert f"Learned numbers from 0 to 5.5 of 12 pictures with r2d2 on {known}" in told
        assert NumberPredictor.load("grey").predict(paths[3:5]) == pytest.approx(expected, abs=1e-5)
    for command in ("predict grey 3.png 4.png", "predict run --support all.csv 3.png 4.png"):
        rows = list(csv.DictReader(said(capsys, command).splitlines()))
        assert [row["file"] for row in rows] == ["3.png", "4.png"]
        assert [float(row["number"]) for row in rows] == pytest.approx(expected, abs=1e-5)
    assert "x.pt2: no classes; over 8 inputs the largest difference" in said(capsys, "export grey x.pt2")
    assert "learns no classes to give to its graph" in said(capsys, "export grey x.pt2 --only_classes", 2)


@pytest.mark.usefixtures("numbers")
def test_what_is_no_file_of_numbers_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    load = partial(load_image, image_size=16)
    encoder, algorithm = build_encoder("conv4", {"hidden": 4}), STRATEGIES["r2d2"]()
    NumberPredictor(encoder, algorithm, load).save("grey")
    assert "knows no number: quickstudy adapt grey --support FILE.csv" in said(capsys, "predict grey 3.png", 2)
    Path("three.csv").write_text("file,age,name\n3.png,1,x\n", encoding="utf-8")
    wrong = said(capsys, "adapt grey --support three.csv --out new", 2)
    assert (
        "'three.csv' has 3 columns, file, age, name: say which has what, --input_field file --target_field name"
        in wrong
    )
    Path("words.csv").write_text("file,age\n3.png,old\n", encoding="utf-8")
    assert "it must be a number" in said(capsys, "adapt grey --support words.csv --out new", 2)
    for name in ("young", "old"):
        Path("people", name).mkdir(parents=True)
        Path(f"people/{name}/3.png").write_bytes(Path("3.png").read_bytes())
    wrong = said(capsys, "adapt grey --support people --out new", 2)
    assert "has the classes old, young, and this model learns numbers: give a CSV file" in wrong
    assert not Path("new").exists()
    Path("colours.csv").write_text("file,name\n3.png,dark\n11.png,bright\n", encoding="utf-8")
    said(capsys, "adapt conv4 --backbone_kwargs '{hidden: 4}' --image_size 16 --support colours.csv --out colours")
    assert Predictor.load("colours").counts_ == {"bright": 1, "dark": 1}


@pytest.mark.usefixtures("numbers")
def test_which_task_is_meant() -> None:
    assert asked_for([]) == asked_for(["--model.backbone", "conv4"]) == "image_classification"
    assert asked_for(["--task", "image_regression"]) == asked_for(["--task=image_regression"]) == "image_regression"
    Path("x.yaml").write_text("out: null\ntask: 'image_regression'\n", encoding="utf-8")
    assert asked_for(["--config", "x.yaml"]) == "image_regression"
    assert asked_for(["--task", "image_classification", "--config", "x.yaml"]) == "image_classification"
    Path("x.ckpt").write_bytes(b"no checkpoint")
    assert asked_for(["x.ckpt"]) == asked_for(["--checkpoint=x.ckpt"]) == "image_classification"


def test_tasks_and_their_data() -> None:
    assert (task_class("image_classification"), data_class("image_classification")) == (
        ImageClassifier,
        ImageClassificationData,
    )
    assert (task_class("image_regression"), data_class("image_regression")) == (ImageRegressor, ImageRegressionData)
    for name in TASKS:
        assert tasks.named_by(task_class(name).__name__) == name
    with pytest.raises(ConfigError, match=r"unknown task 'image_regresion'; did you mean 'image_regression'\?"):
        task_class("image_regresion")


def test_an_unknown_task_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean 'image_regression'?" in said(capsys, "fit --task image_regresion --data.train_folder x", 2)


def test_a_class_that_no_task_is_known_by_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"quickstudy": {"task": "Levels"}}, "x.ckpt")
    for command in (
        "test x.ckpt --data.test_folder x",
        "predict x.ckpt x.png",
        "predict x.ckpt --data.predict_folder x",
    ):
        wrong = said(capsys, command, 2)
        assert "the model is of the class 'Levels', and no task is known by it" in wrong and "add --import" in wrong


OWN = """
from torch import nn

from quickstudy import DataModule, Task
from quickstudy.cli.tasks import TASKS, Home


class Levels(DataModule):
    \"\"\"Made up.\"\"\"


class LevelClassifier(Task):
    \"\"\"Made up.\"\"\"


TASKS["levels"] = Home(__name__, "LevelClassifier", "Levels")
"""


def test_a_task_of_ones_own_is_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tasks, "TASKS", dict(TASKS))
    monkeypatch.chdir(tmp_path)
    Path("own_levels.py").write_text(OWN, encoding="utf-8")
    monkeypatch.setattr("sys.path", [*sys.path])
    out = said(capsys, "fit --task levels --import own_levels.py --data.train_folder x --print_config")
    assert "task: levels" in out and "train_folder: x" in out and "image_size" not in out and "backbone: null" in out


def test_what_a_run_was_trained_with_is_not_asked_again(tmp_path: Path) -> None:
    texts = [(f"my {kind} {number}", kind) for kind in ("fee", "card") for number in range(10)]
    for name in ("few.csv", "more.csv"):
        rows = "".join(f"{text},{kind}\n" for text, kind in texts)
        (tmp_path / name).write_text(f"words,kind\n{rows}", encoding="utf-8")
    checkpoint, task = tmp_path / "best.ckpt", "text_classification"
    file = {"train_file": str(tmp_path / "few.csv"), "input_field": "words", "target_fields": "kind"}

    def tested(data: dict[str, Any], told: dict[str, Any]) -> int:
        (tmp_path / "config.yaml").write_text(yaml.safe_dump({"data": {**data, "root": None}}), encoding="utf-8")
        return len(build_data(told, task=task, of_run=data_of_run(checkpoint)).table("test") or ())

    assert tested(file, {"test_file": str(tmp_path / "more.csv")}) == 20
    assert tested({**file, "test_file": file["train_file"]}, {}) == 20
    assert tested({**file, "test_split": 0.2}, {"batch_size": 2}) == 4
    assert (
        command_to_test(checkpoint, {**file, "test_split": 0.2}, task) == f"quickstudy test --checkpoint {checkpoint}"
    )
    with pytest.raises(ConfigError, match="no data was given"):
        tested(file, {})

    model = TextClassifier(num_classes=2, training_strategy="default")
    model.trained_examples = torch.arange(20)
    model.kind = replace(model.kind, classes=("card", "fee"))
    (told,) = advice(model, checkpoint)
    fields = f"--support {file['train_file']} --input_field words --target_field kind"
    assert told.endswith(f"quickstudy adapt minilm {fields} --out model/")
    model.kind = replace(model.kind, multi_label=True)
    (told,) = advice(model, checkpoint)
    assert told.endswith(f"quickstudy fit --config {tmp_path}/config.yaml --model.backbone minilm --strategy freeze")
