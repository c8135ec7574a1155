"""Inputs that are dicts of tensors, each as long as it is, over HTTP and on the command line; all are loaded once."""

from __future__ import annotations

import asyncio
import base64
import csv
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from letters import Letters
from quickstudy import Predictor
from quickstudy.algorithms import STRATEGIES
from quickstudy.cli import main
from quickstudy.data.samples import Loaded
from quickstudy.errors import DataError
from quickstudy.graph import Graphs
from quickstudy.nets import build_encoder
from quickstudy.pointcloud import Cloud
from quickstudy.serve.app import build
from quickstudy.serve.decoding import Decoder, File, Limits
from quickstudy.serve.desk import _from_json
from quickstudy.serve.service import Service

HANGS = 60


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved model of two classes of texts."""
    predictor = Predictor(build_encoder("share"), STRATEGIES["nearest_centroid"](), Letters())
    predictor.fit(["aaab", "aba", "cccccd", "cd"], ["ab", "ab", "cd", "cd"]).save(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def service(folder: Path) -> Iterator[Service]:
    with Service(folder) as service:
        yield service


def ask(service: Service, path: str, **more: Any) -> Any:
    async def answer() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(build(service)), base_url="http://localhost") as one:
            return await one.post(path, **more)

    return asyncio.run(answer()).json()


def test_texts_are_answered_and_learned_from_over_http(service: Service) -> None:
    texts = ["aabaaaab", "c", "abababa"]
    files = {"files": [("texts", ("x.txt", text.encode())) for text in texts]}
    for body in ({"json": {"texts": texts}}, files):
        found = ask(service, "/predict?nearest=1", **body)["predictions"]
        assert [each["ranking"][0]["name"] for each in found] == ["ab", "cd", "ab"]
        assert {base64.b64decode(each["nearest"][0]["thumbnail"]) for each in found} <= {b"aaab", b"aba", b"cccccd"}
    assert ask(service, "/classes/e/examples", json={"texts": ["eeef", "fe"]}) == {"name": "e", "examples": 2}
    new = {"files": [("texts", ("y.txt", b"efefeef"))]}
    assert ask(service, "/classes/e/examples", **new) == {"name": "e", "examples": 3}
    assert service.thumbnails("e").result() == (b"eeef", b"fe", b"efefeef")
    (found,) = ask(service, "/predict", json={"texts": ["ef"]})["predictions"]
    assert found["ranking"][0]["name"] == "e"
    assert ask(service, "/predict", json={"texts": ["a", "1"]}) == {"detail": "text 2: '1' is no text of letters"}


def test_texts_of_several_lengths_are_answered_in_one_batch(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    together: list[int] = []
    rank = Predictor.rank

    def counted(self: Predictor, inputs: Any, count: int = 5, *, nearest: int = 0) -> Any:
        together.append(len(inputs))
        return rank(self, inputs, count, nearest=nearest)

    monkeypatch.setattr(Predictor, "rank", counted)
    asked = [["ab", "cccccccc"], ["a"], ["dcdc", "bbba"]]
    loaded = [[Loaded.of(text, Letters()) for text in texts] for texts in asked]
    alone = [service.predict(each).result() for each in loaded]
    together.clear()
    held = threading.Event()
    service._do(lambda _: held.wait(HANGS))
    futures = [service.predict(each) for each in loaded]
    held.set()
    for future, expected in zip(futures, alone, strict=True):
        for one, other in zip(future.result(), expected, strict=True):
            assert one.label == other.label
            assert dict(one.ranking) == pytest.approx(dict(other.ranking), abs=1e-5)
    assert together == [5]
    (bare,) = service.predict([Letters().load("ab")]).result()
    assert bare == alone[0][0]


def test_texts_are_predicted_by_the_command_line(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    for name, text in (("one", "aabb"), ("two", "?"), ("three", "cdcdcdcdcd")):
        Path(f"{name}.txt").write_text(text)
    assert main(["predict", "model", "one.txt", "two.txt", "three.txt", "--no-unknown"]) == 1
    out, err = capsys.readouterr()
    rows = [(row["file"], row["label"]) for row in csv.DictReader(out.splitlines())]
    assert rows == [("one.txt", "ab"), ("three.txt", "cd")]
    assert "unreadable: 'two.txt': '?' is no text of letters" in err


def test_what_no_batch_can_be_made_of_is_told_before_it_is_learned(service: Service) -> None:
    def pair(*shapes: tuple[int, ...]) -> list[Loaded]:
        return [Loaded(None, torch.zeros(shape)) for shape in shapes]

    with pytest.raises(DataError, match=r"^text 2 has 20x24 pixels and text 1 24x20: send one size at once$"):
        service.teach("e", pair((3, 20, 24), (3, 24, 20))).result()
    with pytest.raises(DataError, match=r"^text 2 has 4 numbers and text 1 3: send one size at once$"):
        service.teach("e", pair((3,), (4,))).result()
    assert "e" not in service.classes().result()


def test_a_cloud_is_sent_in_base64_or_as_rows_and_never_by_the_name_of_a_file(tmp_path: Path) -> None:
    """A text in JSON opened the file of that name on the machine that serves."""
    rows = [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    file = tmp_path / "a.xyz"
    file.write_text("\n".join(" ".join(map(str, row)) for row in rows))
    made = Predictor.from_backbone("pointnet", [file], ["a"])
    made.save(tmp_path / "model")
    with Service(tmp_path / "model") as service:
        decoder = Decoder(service, Limits())
        sent = json.dumps({"clouds": [base64.b64encode(file.read_bytes()).decode(), rows]}).encode()
        one, other = map(decoder.one, _from_json(sent, decoder.wire, decoder.called))
        assert torch.equal(one.example["points"], other.example["points"])
        with pytest.raises(DataError, match="point cloud 1: it is no base64"):
            _from_json(json.dumps({"clouds": [str(file)]}).encode(), decoder.wire, decoder.called)
        with pytest.raises(DataError, match="is a text, and a point cloud is none: send its file, or its list"):
            decoder.one(File(str(file)))


def test_what_inputs_of_a_request_become_has_a_limit_together(service: Service) -> None:
    texts = [File(text) for text in ("ab", "ab")]
    one = sum(leaf.nbytes for leaf in Decoder(service, Limits()).one(texts[0]).example.values())
    assert len(Decoder(service, Limits(memory=2 * one))(texts)) == 2
    with pytest.raises(DataError, match="the first 2 texts take 0 MB as the model is shown them; more than 0 of one"):
        Decoder(service, Limits(memory=2 * one - 1))(texts)


def test_no_input_is_read_once_those_before_took_too_long(service: Service) -> None:
    """Sixty-four clips of which each was just below the limits of one took minutes."""
    texts = [File(text) for text in ("ab", "cd", "ef")]
    told = "the first 1 of 3 texts took 0 s to read; more than 0 s for one request are refused: send fewer at once"
    with pytest.raises(DataError, match=told):
        Decoder(service, Limits(seconds=0))(texts)


def test_strangers_are_told_of_no_option(tmp_path: Path) -> None:
    rows = [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    made = Predictor.from_backbone("pointnet", [rows], ["a"])
    made.save(tmp_path / "model")
    with Service(tmp_path / "model") as service:
        decoder = Decoder(service, Limits(pixels=100))
        with pytest.raises(DataError, match=r"or cut it into parts$"):
            decoder([File([*rows, *rows])])
        with pytest.raises(DataError, match=r"rows of x y z in a \.xyz file$"):
            decoder([File(b"OFF\n3 0 0\n0 0 0\n1 0 0\n0 1 0\n", "a.off")])


def test_graphs_and_clouds_of_strangers_are_smaller() -> None:
    assert Graphs().within(25_000_000).max_nodes == 25_000
    assert Cloud().within(25_000_000).max_points == 1_000_000
    assert Cloud(points=None).within(25_000_000).max_points == 100_000  # of which a network is shown each
    assert Cloud(max_points=50).within(25_000_000).max_points == 50


def test_numbers_of_too_many_digits_are_no_fault_of_the_service(service: Service) -> None:
    decoder = Decoder(service, Limits())
    with pytest.raises(DataError, match="Invalid JSON: it has a number of more than 4,300 digits"):
        _from_json(b'{"texts": [' + b"1" * 5000 + b"]}", decoder.wire, decoder.called)
    with pytest.raises(DataError, match="the body has 'texts' twice"):
        _from_json(b'{"texts": ["a"], "texts": ["b"]}', decoder.wire, decoder.called)
