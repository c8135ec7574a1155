"""A model of fixed classes over HTTP: one service for it and for models that learn; and inputs that are no pictures."""

from __future__ import annotations

import asyncio
import base64
import io
import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from quickstudy import ConfigError, DataError, DataModule, Predictor, Task
from quickstudy.algorithms import STRATEGIES
from quickstudy.cli.serve import _model
from quickstudy.image import ImageClassificationData, ImageClassifier
from quickstudy.kinds.classification import Classification
from quickstudy.modality import MODALITIES, Modality, Wire
from quickstudy.nets import build_encoder
from quickstudy.serve.app import build
from quickstudy.serve.service import Service
from quickstudy.trained import TrainedModel

CLASSES = ("cat", "dog", "yak")


def ask(service: Service, method: str, path: str, **more: Any) -> httpx.Response:
    async def answer() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(build(service)), base_url="http://localhost") as one:
            return await one.request(method, path, **more)

    return asyncio.run(answer())


def png(number: int) -> bytes:
    noise = np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(noise).save(content := io.BytesIO(), "PNG")
    return content.getvalue()


def task(multi_label: bool = False) -> ImageClassifier:
    """A network as it begins, which knows its classes."""
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8)
    targets: Any = [["cat"], ["dog"], ["yak"]] * 2 if multi_label else [*CLASSES] * 2
    model = ImageClassifier(backbone="conv4", backbone_kwargs={"hidden": 4}, multi_label=multi_label)
    model.meet(ImageClassificationData.from_tensors(pixels, targets), "fit")
    return model


@pytest.fixture(params=["a model", "its folder"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    model = task().predictor()
    model.save(tmp_path / "trained")
    with Service(model, name="trained") if request.param == "a model" else Service(tmp_path / "trained") as service:
        yield service


def test_it_answers_as_the_model_does_in_every_form(service: Service) -> None:
    model, pictures = task().predictor(), [png(1), png(2)]
    expected = model.rank(pictures, 2)
    encoded = {"images": [base64.b64encode(each).decode() for each in pictures]}
    for body in ({"files": [("images", ("x.png", each)) for each in pictures]}, {"json": encoded}):
        found = ask(service, "POST", "/predict?top=2", **body).json()["predictions"]
        assert [each["label"] for each in found] == [answer.label for answer in expected]
        for one, answer in zip(found, expected, strict=True):
            assert [rank["name"] for rank in one["ranking"]] == [name for name, _ in answer.ranking]
            chances = [chance for _, chance in answer.ranking]
            assert [rank["probability"] for rank in one["ranking"]] == pytest.approx(chances, abs=1e-6)
            assert one["nearest"] == []
    raw = ask(service, "POST", "/predict", content=pictures[0], headers={"content-type": "image/png"})
    assert raw.json()["predictions"][0]["label"] == expected[0].label


def test_it_says_what_it_is_and_has_no_classes_to_teach(service: Service) -> None:
    about = ask(service, "GET", "/model").json()
    assert about.pop("written", None) is not None
    assert about == {"name": "trained", "backbone": "conv4", "classes": 3, "labels": list(CLASSES)}
    assert ask(service, "GET", "/readyz").status_code == 200 and ask(service, "GET", "/classes").status_code == 404
    paths = ask(service, "GET", "/openapi.json").json()["paths"]
    assert list(paths) == ["/healthz", "/readyz", "/metrics", "/predict", "/model"]
    assert service.expected().result() == [] and service.change_number == 0
    with pytest.raises(ConfigError, match="learns no others"):
        service.teach("new", [torch.zeros(3, 16, 16, dtype=torch.uint8)]).result()


def test_what_cannot_be_read_is_told(service: Service) -> None:
    answer = ask(service, "POST", "/predict", files=[("images", ("who.png", b"x"))])
    assert answer.status_code == 422 and answer.json()["detail"].startswith("picture 1: 'who.png'")


def test_several_labels() -> None:
    model = task(multi_label=True).predictor()
    model.head.bias.data = torch.tensor([9.0, -9.0, 9.0])
    with Service(model, name="x") as service:
        found = ask(service, "POST", "/predict", content=png(1), headers={"content-type": "image/png"}).json()
    assert found["predictions"][0]["label"] == ["cat", "yak"]


PAGE = """
import sys
import gradio
from types import SimpleNamespace
from quickstudy.kinds.classification import Classification
from quickstudy.kinds.predictions import Answer
from quickstudy.modality import Wire
from quickstudy.serve import widgets
from quickstudy.serve.decoding import Decoder, Limits
from quickstudy.serve.fields import Fields
from quickstudy.serve.service import Service

with Service(sys.argv[1]) as service:
    page = widgets.widgets(service, Decoder(service, Limits()))
    print(sorted(one.elem_id for one in page.blocks.values() if one.elem_id and getattr(one, "visible", 1) is False))
    print(widgets._about(service.about().result(), service.expected().result()))
print(widgets._answered(Classification().in_json(Answer(["cat", "<yak>"], [("cat", 0.9)], []))))
print(widgets._answered({"number": 3.14159}), widgets._answered({"embedding": [1, 2]}))
print(*(widgets._seen(b"<a>", "an example", media) for media in ("text/plain", "audio/wav", "image/png")))


def fields(schema, *media):
    wire, one = Wire("x", media, schema), lambda file: file.content
    return Fields(SimpleNamespace(wire=wire, called="row", limits=Limits(), one=one))


row, numbers = fields({"type": "object", "properties": {"a": {}, "b": {}}}), fields({"type": "array"})
print(*(each.read([given]) for each, given in ((row, '{"a": 1}'), (row, '[{"a": 1}, {"a": 2}]'))), end=" ")
print(numbers.read(["[1, 2]"]), numbers.read(["[[1], [2]]"]))
print(row.read(["[1, 2]"], one=True), row.read([" "]), row.one()[0].placeholder, row.several()[0].label)
text, sound = fields({"type": "string"}), fields({"type": "string", "contentEncoding": "base64"}, "video/mp4")
(file,) = sound.one()
print(text.read(["a\\n\\nb"]), text.read(["a\\n\\nb"], one=True), type(file).__name__, file.file_types)
cells = {"age": ("number", 37.0), "job": ("string", "clerk"), "since": ("string", "2026-11-26")}
cells = {name: {"type": [kind, "null"], "examples": [one]} for name, (kind, one) in cells.items()}
cells["since"]["format"] = "date"
cells = fields({"type": "object", "properties": cells})
with gradio.Blocks():
    shown = cells.several()
print([type(each).__name__ for each in shown], len(shown) == cells.places, shown[0].placeholder, shown[1].choices)
print(cells.read(["39", "smith", ""], one=True), cells.read(["", "", None], one=True), end=" ")
print(cells.read(["", None, "", '[{"age": 1}]']), cells.read(["1", None, "", '{"age": 2}']))
graph = fields({"type": "object", "properties": {"edges": {}}}, "application/json", "text/xml")
print([(type(each).__name__, each.label) for each in (*graph.one(), *graph.several())], graph.places)
print(graph.read(['{"edges": []}', [sys.argv[2]]]), graph.read([None, sys.argv[2]], one=True), row.places)
for wrong, given, one in ((row, ["{"], False), (graph, ['{"edges": []}', sys.argv[2]], True)):
    try:
        wrong.read(given, one=one)
    except Exception as error:
        print(error)
"""


def test_the_page_has_nothing_to_teach(tmp_path: Path) -> None:
    task().predictor().save(tmp_path / "pets")
    (tmp_path / "one.xml").write_bytes(b"<graphml/>")
    command = [
        sys.executable,
        "-c",
        PAGE,
        str(tmp_path / "pets"),
        str(tmp_path / "one.xml"),
    ]  # apart, as Gradio leaves sockets open
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    hidden, about, answered, others, seen, *given = done.stdout.splitlines()
    assert "'keeping'" in hidden and "'teaching'" in hidden and "'asking'" not in hidden
    assert "pets" in about and "<b>conv4</b>: 3 classes, written " in about
    assert "This is <b>cat</b>, <b>&lt;yak&gt;</b>." in answered
    assert "This is <b>3.142</b>." in others and "{&quot;embedding&quot;: [1, 2]}" in others
    assert seen == (
        '<div class="text">&lt;a&gt;</div> <audio controls src="data:audio/wav;base64,PGE+" aria-label="an example">'
        '</audio> <img src="data:image/png;base64,PGE+" alt="an example">'
    )
    assert given[0] == "[{'a': 1}] [{'a': 1}, {'a': 2}] [[1, 2]] [[1], [2]]"
    assert given[1] == '[[1, 2]] [] {"a": "...", "b": "..."} Rows of it, in JSON: one, or a list of them'
    assert given[2] == "['a', 'b'] ['a\\n\\nb'] File ['video']"
    assert given[3] == ("['Textbox', 'Dropdown', 'Textbox', 'Textbox'] True such as 37 [('clerk', 'clerk')]")
    empty, one, two = "'job': None, 'since': None", "[{'age': 1}]", "{'age': 2}"
    assert given[4] == f"[{{'age': '39', 'job': 'smith', 'since': None}}] [] {one} [{{'age': '1', {empty}}}, {two}]"
    typed = "('Textbox', 'Row'), ('File', 'Or a file'), ('Textbox', 'Rows of it, in JSON: one, or a list of them')"
    assert given[5] == f"[{typed}, ('File', 'Or files')] 2"
    assert given[6] == "[{'edges': []}, b'<graphml/>'] [b'<graphml/>'] 1"
    assert given[7].startswith("That is no JSON: Expecting property name")
    assert given[8] == "That is one row in words and one in a file: leave one of them out."


def test_the_command_serves_a_checkpoint(tmp_path: Path) -> None:
    from quickstudy import Trainer

    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    model, folder = task(), tmp_path / "run"
    trainer = Trainer(accelerator="cpu", barebones=False, enable_checkpointing=False, **quiet)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(folder / "best.ckpt")
    served, name = _model(str(folder), torch.device("cpu"))
    assert isinstance(served, TrainedModel) and served.classes == CLASSES and name == "run"
    assert torch.equal(served.predict([png(1)], "logits"), model.predictor().predict([png(1)], "logits"))
    few_shot = ImageClassifier(backbone="conv4", training_strategy="prototypicalnetworks")
    trainer.strategy.connect(few_shot)
    trainer.save_checkpoint(folder / "best.ckpt")
    with pytest.raises(DataError, match=r"no fixed classes: it is a checkpoint\. To make one, type: quickstudy adapt"):
        _model(str(folder), torch.device("cpu"))


# ---- inputs that are no pictures


@MODALITIES.register("level")
@dataclass(frozen=True)
class Level(Modality):
    """A number, sent as text or JSON, on a scale of logarithms: who loads one twice gets another."""

    called = "levels"
    wire = Wire("levels", ("text/plain",), {"type": "number"})

    def load(self, item: Any) -> Tensor:
        try:
            return torch.tensor([math.log1p(float(item))])
        except ValueError as error:
            raise DataError(f"{item!r} is no number") from error


def levels(learns: bool) -> Predictor | TrainedModel:
    encoder = build_encoder(nn.Identity())
    if learns:
        return Predictor(encoder, STRATEGIES["nearest_centroid"](), Level()).fit([0.0, 0.1, 5.0, 5.1], list("aabb"))
    head = nn.Linear(1, 2)
    head.weight.data, head.bias.data = torch.tensor([[-1.0], [1.0]]), torch.tensor([1.25, -1.25])
    return TrainedModel(encoder, head, Classification(classes=("a", "b")), Level())


def test_other_inputs_have_their_own_field_and_types() -> None:
    with Service(levels(learns=False), name="x") as service:
        bodies: list[dict[str, Any]] = [
            {"json": {"levels": [0, 4.5]}},
            {"files": [("levels", ("x.txt", each)) for each in (b"0", b"4.5")]},
        ]
        for body in bodies:
            found = ask(service, "POST", "/predict", **body).json()["predictions"]
            assert [each["label"] for each in found] == ["a", "b"]
        plain = {"content": b"5", "headers": {"content-type": "text/plain"}}
        assert ask(service, "POST", "/predict", **plain).json()["predictions"][0]["label"] == "b"
        wrong = ask(service, "POST", "/predict", json={"levels": ["x"]})
        assert (wrong.status_code, wrong.json()["detail"]) == (
            422,
            "level 1: 'x' is a text, and a level is none: send its file, or its number",
        )
        other = ask(service, "POST", "/predict", content=png(1), headers={"content-type": "image/png"})
        assert other.status_code == 415 and "send levels as multipart/form-data" in other.json()["detail"]
        content = ask(service, "GET", "/openapi.json").json()["paths"]["/predict"]["post"]["requestBody"]["content"]
        assert sorted(content) == ["application/json", "multipart/form-data", "text/plain"]
        assert content["application/json"]["schema"]["properties"]["levels"]["items"] == {"type": "number"}


def test_other_inputs_are_learned_from() -> None:
    predictor = levels(learns=True)
    assert isinstance(predictor, Predictor) and predictor.learns and predictor.modality == Level()


def test_a_task_of_other_inputs_makes_a_model() -> None:
    class Levels(DataModule):
        load = staticmethod(Level())

    class LevelClassifier(Task):
        load = staticmethod(Level())

    model = LevelClassifier(backbone=nn.Linear(1, 2))
    model.meet(Levels.from_tensors(torch.tensor([[0.0], [5.0]]), ["a", "b"]), "fit")
    assert set(model.predictor().predict([0.0, 5.0])) <= {"a", "b"}
