"""A kind of answer that is neither a class nor a number, in commands and over HTTP: neither knows it by name.

docs/add-a-kind.md: another in one file, from its data to the command line.
"""

from __future__ import annotations

import asyncio
import csv
import importlib
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import httpx
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from quickstudy.batches import Batch
from quickstudy.cli import main
from quickstudy.cli.tasks import TASKS
from quickstudy.errors import ConfigError, DataError
from quickstudy.image import ImageClassificationData
from quickstudy.kinds.base import KINDS, Judged, Kind, Score
from quickstudy.kinds.losses import Loss
from quickstudy.modality import MODALITIES, Modality, Wire
from quickstudy.nets import Encoder, build_encoder
from quickstudy.nets.registry import BACKBONES
from quickstudy.serve.app import build
from quickstudy.serve.service import Service
from quickstudy.trained import TrainedModel

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "add-a-kind.md").read_text(encoding="utf-8")
KIND, CHECK, USE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@dataclass(frozen=True)
class Embedding(Kind):
    """An answer is what the encoder makes of an input, ``[D]``."""

    score: ClassVar[Score] = Score("spread")
    forms: ClassVar[tuple[str, ...]] = ("embeddings",)
    schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {"embedding": {"type": "array", "items": {"type": "number"}}},
    }

    def meet(self, data: Any, stage: str) -> Self:
        return self

    def head(self, encoder: Encoder, example: Batch) -> nn.Module:
        return nn.Identity()

    def head_of(self, weights: Mapping[str, Tensor], encoder: Encoder, like: Batch | None) -> nn.Module:
        return nn.Identity()

    def loss(self, asked: str | Loss | None, otherwise: Loss | None = None) -> Loss:
        raise NotImplementedError

    def judge(self, encoder: Encoder, head: nn.Module, inputs: Batch, targets: Any, loss: Loss) -> Judged:
        raise NotImplementedError

    def figures(self, outputs: Any, targets: Any) -> Tensor:
        raise NotImplementedError

    def answers(self, outputs: Any, form: str) -> Any:
        return outputs

    def in_json(self, answer: Any) -> dict[str, Any]:
        return {"embedding": answer.tolist()}


@dataclass(frozen=True)
class Couple(Modality):
    """Two numbers in a file, or in JSON."""

    called = "couples"
    wire = Wire("couples", ("text/plain",), {"type": "array", "items": {"type": "number"}})

    def load(self, item: Any) -> Tensor:
        text = item.read_text() if isinstance(item, Path) else item
        try:
            return torch.tensor([float(number) for number in (text.split() if isinstance(text, str) else text)])
        except ValueError as error:
            raise DataError(f"{text!r} is no couple") from error


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A saved model whose answer is its input, doubled."""
    monkeypatch.setitem(KINDS._entries, "embedding", Embedding)
    monkeypatch.setitem(MODALITIES._entries, "couple", Couple)
    monkeypatch.setitem(BACKBONES._entries, "double", Double)
    TrainedModel(build_encoder("double"), nn.Identity(), Embedding(), Couple()).save(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    for name, text in (("a", "1 2"), ("b", "?"), ("c", "3 4.5")):
        Path(f"{name}.txt").write_text(text)
    return tmp_path / "model"


class Double(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * self.scale


def test_the_command_writes_its_rows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["a.txt", "b.txt", "c.txt"]
    assert main(["predict", "model", *files]) == 1
    out, err = capsys.readouterr()
    rows = [(row["file"], json.loads(row["answer"])) for row in csv.DictReader(out.splitlines())]
    assert rows == [("a.txt", [2, 4]), ("c.txt", [6, 9])]
    assert "unreadable: 'b.txt': '?' is no couple" in err
    assert main(["predict", "model", *files, "--format", "json", "--output", "rows.json"]) == 1
    written = [{"file": "a.txt", "answer": [2, 4]}, {"file": "c.txt", "answer": [6, 9]}]
    assert json.loads(Path("rows.json").read_text()) == written


def test_the_service_tells_it_as_it_is(folder: Path) -> None:
    with Service(folder) as service:

        async def ask(method: str, path: str, **more: Any) -> Any:
            transport = httpx.ASGITransport(build(service))
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return (await client.request(method, path, **more)).json()

        found = asyncio.run(ask("POST", "/predict", json={"couples": [[1, 2], [0.5, -1]]}))
        assert found == {"predictions": [{"embedding": [2, 4]}, {"embedding": [1, -2]}]}
        about = asyncio.run(ask("GET", "/model"))
        assert (about["backbone"], about["classes"], about["labels"]) == ("double", 0, [])
        paths = asyncio.run(ask("GET", "/openapi.json"))["paths"]
    answers = paths["/predict"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert answers["properties"]["predictions"]["items"] == Embedding.schema


def test_in_python_too(folder: Path) -> None:
    model = TrainedModel.load(folder)
    assert torch.equal(model.predict([[1, 2]]), torch.tensor([[2.0, 4.0]]))
    assert model.predict([[1, 2], [3, 4]], "rows") == [("input 0", [2.0, 4.0]), ("input 1", [6.0, 8.0])]
    assert [answer.tolist() for answer in model.rank([[1, 2]])] == [[2.0, 4.0]]


@pytest.fixture
def directions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The kind of the page, where its code runs; it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "directions.py").write_text(KIND, encoding="utf-8")
    yield importlib.import_module("directions")
    sys.modules.pop("directions")
    del KINDS._entries["direction"], TASKS["image_direction"]


def test_the_page_is_short_and_as_the_house_writes() -> None:
    assert len([line for line in KIND.splitlines() if line.strip()]) < 80
    for code in (KIND, CHECK, USE):
        ruff = [sys.executable, "-m", "ruff", "check", "--select", "E,F,I,B", "--stdin-filename", "directions.py", "-"]
        subprocess.run(ruff, input=code, text=True, check=True, cwd=ROOT)


@pytest.mark.dear("kinds", "testing", "training")
@pytest.mark.filterwarnings("ignore:.*may be.*bottleneck")
def test_the_guide_adds_a_kind(directions: Any, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(CHECK, "check", "exec"), {})
    found: dict[str, Any] = {}
    exec(compile(USE, "use", "exec"), found)
    assert found["figures"]["test_degrees_off"] < 30  # by chance it is 90
    assert found["figures"]["test_degrees_off_ci95"] > 0
    true, told = found["there"][:3].tolist(), found["reader"].predict(found["test"][:3])
    assert max(min((one - other) % 360, (other - one) % 360) for one, other in zip(true, told, strict=True)) < 60
    assert TrainedModel.load("pointers/").predict(found["test"][:3]) == told
    Image.fromarray(found["test"][0, 0].numpy()).save("hand.png")
    capsys.readouterr()
    assert main(shlex.split(re.findall(r"\$ quickstudy (predict .*)", PAGE)[0])) == 0
    (row,) = csv.DictReader(capsys.readouterr().out.splitlines())
    assert (row["file"], float(row["answer"])) == ("hand.png", pytest.approx(told[0], abs=1e-3))
    labelled = ImageClassificationData.from_tensors(train_data=found["test"][:2], train_targets=["up", "down"])
    with pytest.raises(ConfigError, match="targets are classes"):
        directions.Direction().meet(labelled, "fit")
