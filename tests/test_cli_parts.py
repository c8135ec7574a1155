"""Classes of parts of inputs learned by the command line: boxes, pixels and words, from folders and tables."""

from __future__ import annotations

import asyncio
import base64
import csv
import io
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from quickstudy import PartPredictor, Trainer
from quickstudy.cli import main
from quickstudy.cli.tasks import data_class
from quickstudy.image import ObjectDetectionData, ObjectDetector
from quickstudy.image.modality import Sent
from quickstudy.kinds.base import KINDS
from quickstudy.serve.app import build
from quickstudy.serve.service import Service
from quickstudy.serve.telling import parts_drawn, parts_said
from quickstudy.trained import TrainedModel

QUIET: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}


def run(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> tuple[str, str]:
    assert main([*map(str, words)]) == code
    told = capsys.readouterr()
    return told.out, told.err


def boxes(folder: Path, count: int, colour: tuple[int, int, int], name: str) -> Path:
    """Write dark pictures with a square each, and a table of where it is."""
    generator, rows = np.random.default_rng(0), []
    folder.mkdir()
    for number in range(count):
        x, y = generator.integers(0, 36, 2).tolist()
        picture = np.full((64, 64, 3), 30, np.uint8)
        picture[y : y + 28, x : x + 28] = colour
        Image.fromarray(picture).save(folder / f"{number}.png")
        rows.append([f"{number}.png", x, y, x + 28, y + 28, name])
    with (folder / "boxes.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "xmin", "ymin", "xmax", "ymax", "label"], *rows])
    return folder


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A detector of squares, as a checkpoint and as a saved model."""
    folder = tmp_path_factory.mktemp("detector")
    data = ObjectDetectionData.from_folders(
        train_folder=boxes(folder / "data", 4, (250, 30, 30), "red"), batch_size=4, image_size=64
    )
    torch.manual_seed(0)
    options: dict[str, Any] = {"detector": "faster_rcnn", "width": 16, "most": 5, "min_score": 1e-3}
    model = ObjectDetector(backbone="mobilenetv3_small_050", pretrained=False, **options)
    trainer = Trainer(max_epochs=1, **QUIET)
    trainer.finetune(model, datamodule=data)
    trainer.save_checkpoint(folder / "best.ckpt")
    model.predictor().save(folder / "saved")
    return {"checkpoint": folder / "best.ckpt", "saved model": folder / "saved"}


@pytest.mark.parametrize("of", ["checkpoint", "saved model"])
def test_a_trained_detector_learns_objects_of_a_few_boxes(
    of: str, detector: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few, out = boxes(tmp_path / "few", 3, (30, 250, 30), "green"), tmp_path / "made"
    support = few if of == "checkpoint" else few / "boxes.csv"
    told, _ = run(capsys, "adapt", detector[of], "--support", support, "--out", out, "--task", "object_detection")
    assert "Learned 2 classes of parts of 3 pictures with prototypes" in told and "green 3" in told
    assert PartPredictor.load(out).classes_.tolist() == ["background", "green"]
    _, said = run(capsys, "predict", out, few / "0.png", "--output", tmp_path / "found.json", "--format", "coco")
    assert said.splitlines()[-1].startswith("1 picture: 0 unreadable; written")
    found = json.loads((tmp_path / "found.json").read_text())
    assert {one["name"] for one in found["categories"]} >= {"green"} and found["annotations"]


def test_a_detector_is_needed_to_learn_objects(detector: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--support", "few", "--out", "made"]
    _, told = run(capsys, "adapt", "resnet18", "--task", "object_detection", *asked, code=2)
    assert "'resnet18' is a backbone" in told and "then quickstudy adapt runs/0 --support few --out made" in told
    _, told = run(capsys, "adapt", detector["saved model"], "--task", "token_classification", *asked, code=2)
    assert "is of another task, and learns as it was trained: leave it out" in told


def served(folder: Path, name: str, inputs: list[tuple[str, Any]], asked: Any) -> tuple[Any, list[Any]]:
    """Show a class to a service, ask it, and look at its page's words; return what it says to each."""

    async def ask() -> list[Any]:
        with Service(folder) as service:
            transport = httpx.ASGITransport(build(service))
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                taught = await client.post(f"/classes/{name}/examples", files=inputs)
                wrong = await client.post(f"/classes/{name}/examples", files=[inputs[0], (inputs[1][0], ("a", b"{"))])
                assert wrong.status_code == 422 and "is no JSON of" in wrong.text
                about = (await client.get("/model")).json()
                answers = await client.post("/predict", files=[asked])
                return [taught.json(), about, answers.json()["predictions"]]

    taught, about, answers = asyncio.run(ask())
    assert taught == {"name": name, "examples": 1}
    assert {"accuracy", "ci95", "by_class"} <= about["held_out_accuracy"].keys()
    return about, answers


def test_a_service_learns_boxes_and_shows_them(detector: dict[str, Path], tmp_path: Path) -> None:
    few = boxes(tmp_path / "few", 3, (30, 250, 30), "green")
    model = TrainedModel.load(detector["saved model"])
    table = ObjectDetectionData.from_folders(train_folder=few).table("train")
    assert table is not None and table.annotations is not None
    kind = model.kind
    made = kind.learner(kind.embedding(model.encoder, model.head), kind.algorithm(), model.modality)
    made.fit([table.inputs[row] for row in range(3)], table.annotations.items).save(tmp_path / "made")
    assert made.expected()[0].startswith("Held-out accuracy of parts, each class alike: ")
    content = (few / "0.png").read_bytes()
    shown = [("images", ("a.png", content)), ("boxes", ("a.json", b"[[4, 5, 30, 30]]"))]
    _, (told,) = served(tmp_path / "made", "spot", shown, shown[0])
    assert {"label", "score", "box"} <= told["objects"][0].keys()
    predictor = PartPredictor.load(tmp_path / "made")
    assert predictor.classes_.tolist() == ["background", "green", "spot"]
    assert parts_said(told) and "<b>" in str(parts_said(told))
    drawn = parts_drawn(predictor.kind, predictor.modality, Sent(content, "a.png"), told)
    assert Image.open(io.BytesIO(base64.b64decode(drawn.split("base64,")[1].split('"')[0]))).format == "JPEG"


TEXTS = [
    (f"Today {person} went to {place} and slept", [[6, 6 + len(person), "person"]])
    for person in ("Anna", "Bruno", "Clara")
    for place in ("Rome", "Oslo")
]


@pytest.mark.parametrize("form", ["conll", "csv"])
def test_entities_are_learned_from_a_few_texts(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    support = tmp_path / "few"
    support.mkdir()
    if form == "conll":
        lines = [
            "\n".join(f"{word} {'B-person' if place == 1 else 'O'}" for place, word in enumerate(text.split()))
            for text, _ in TEXTS
        ]
        (support / "a.conll").write_text("\n\n".join(lines) + "\n")
    else:
        support = support / "few.csv"
        with support.open("w", newline="") as file:
            csv.writer(file).writerows([["said", "names"], *[[text, json.dumps(spans)] for text, spans in TEXTS]])
    fields = ["--input_field", "said", "--target_field", "names"] if form == "csv" else []
    out, size = tmp_path / "made", ["--backbone_kwargs", "{width: 32, layers: 1, heads: 2}"]
    task = ["--task", "token_classification", "--pretrained", "false"]
    told, _ = run(capsys, "adapt", "small_transformer", *task, *size, "--support", support, *fields, "--out", out)
    assert "Learned 2 classes of parts of 6 texts with linear_probe" in told and "person 6" in told
    assert "Held-out accuracy of parts, each class alike: " in told and "6 texts, each answered by" in told
    text = ("texts", ("a.txt", b"Today Anna ate pizza"))
    _, (answer,) = served(out, "food", [text, ("entities", ("a.json", b'[[15, 20, "food"]]'))], text)
    assert "food" in {one["label"] for one in answer["entities"]} and "pizza <b>food</b>" in str(parts_said(answer))
    (tmp_path / "new.csv").write_text("text\nToday Anna went to Oslo and slept\n")
    told, _ = run(capsys, "predict", out, tmp_path / "new.csv")
    assert "Anna" in told


def test_options_of_other_inputs_and_of_tables_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["adapt", "small_transformer", "--task", "token_classification", "--support", tmp_path, "--out", "made"]
    assert "--image_size is of pictures" in run(capsys, *asked, "--image_size", 64, code=2)[1]
    assert "--target_field is of a table" in run(capsys, *asked, "--target_field", "names", code=2)[1]
    assert "--group_by is of classes of whole inputs" in run(capsys, *asked, "--group_by", "x", code=2)[1]


@pytest.mark.parametrize("name", ["detection", "region_detection", "semantic_segmentation", "entities"])
def test_the_data_of_the_task_has_such_answers(name: str) -> None:
    kind = KINDS[name]
    assert issubclass(kind, data_class(kind.task_of_parts).answers)
