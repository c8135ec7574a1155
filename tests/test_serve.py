"""The service: what it answers, refuses, and never loses."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import resource
import signal
import socket
import sqlite3
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from quickstudy import DataError, Predictor
from quickstudy.cli import main
from quickstudy.cli.serve import most_connections
from quickstudy.image.modality import load_image
from quickstudy.learning.changes import Change
from quickstudy.saved import model_folder
from quickstudy.saved.journal import NAME, BehindError, Journal, LockedError
from quickstudy.serve.app import build
from quickstudy.serve.decoding import Limits
from quickstudy.serve.gate import Rules
from quickstudy.serve.service import BusyError, Service
from serving import HALF_A_PICTURE, HANGS, killed_again_and_again, picture, running, save_model


class Client:
    """Talks to an application in this process, without a network."""

    def __init__(self, app: Any, **headers: str) -> None:
        self.app, self.headers = app, headers

    def __call__(self, method: str, path: str, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return await client.request(method, path, headers={**self.headers, **(headers or {})}, **more)

        return asyncio.run(ask())

    def predict(self, *contents: bytes, **query: Any) -> httpx.Response:
        return self("POST", "/predict", params=query, files=[("images", ("x.png", each)) for each in contents])

    def teach(self, name: str, *contents: bytes) -> httpx.Response:
        return self("POST", f"/classes/{name}/examples", files=[("images", ("x.png", each)) for each in contents])

    def classes(self) -> dict[str, int]:
        return {each["name"]: each["examples"] for each in self("GET", "/classes").json()["classes"]}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(save_model(tmp_path / "model"))
    yield service
    service.close()


@pytest.fixture
def client(service: Service) -> Client:
    return Client(build(service))


# ---- what it answers


def test_classifies_one_or_many_in_every_form(client: Client) -> None:
    red, green = picture("red", 9), picture("green", 9)
    forms = [
        client.predict(red, green),
        client("POST", "/predict", json={"images": [base64.b64encode(each).decode() for each in (red, green)]}),
    ]
    for answer in forms:
        assert answer.status_code == 200
        assert [each["label"] for each in answer.json()["predictions"]] == ["red", "green"]
    raw = client("POST", "/predict", content=red, headers={"content-type": "image/png"}).json()["predictions"]
    assert [each["label"] for each in raw] == ["red"]
    assert raw[0]["ranking"][0]["name"] == "red"
    assert sum(each["probability"] for each in raw[0]["ranking"]) == pytest.approx(1)
    assert raw[0]["nearest"] == []


def test_says_unknown_and_shows_what_is_near(client: Client) -> None:
    answer = client.predict(picture("blue"), top=1, nearest=2).json()["predictions"][0]
    assert answer["label"] == "unknown"
    assert len(answer["ranking"]) == 1
    assert [each["name"] for each in answer["nearest"]] == [answer["nearest"][0]["name"]] * 2
    assert answer["nearest"][0]["distance"] <= answer["nearest"][1]["distance"]
    assert Image.open(io.BytesIO(base64.b64decode(answer["nearest"][0]["thumbnail"]))).size == (16, 16)


def test_learns_renames_and_forgets_and_answers_as_the_predictor_does(client: Client, tmp_path: Path) -> None:
    assert client.teach("blue", picture("blue", 1)).json() == {"name": "blue", "examples": 1}
    assert client.teach("blue", picture("blue", 2), picture("blue", 3)).json() == {"name": "blue", "examples": 3}
    told = client.teach("crimson", picture("red", 2)).json()
    assert told["examples"] == 1 and told["warnings"][0].startswith("one of the pictures for the class 'crimson' is")
    assert client("DELETE", "/classes/crimson").status_code == 204
    assert client("PATCH", "/classes/blue", json={"name": True}).status_code == 422  # and not the class "1"
    assert client("PATCH", "/classes/blue", json={"name": "sky"}).status_code == 204
    assert client("DELETE", "/classes/red").status_code == 204
    assert client.classes() == {"green": 5, "sky": 3}
    expected = Predictor.load(tmp_path / "model")  # which reads the journal
    assert expected.counts_ == {"green": 5, "sky": 3}
    queries = [picture(colour, 7) for colour in ("red", "green", "blue")]
    answers = client.predict(*queries).json()["predictions"]
    assert [each["label"] for each in answers] == expected.predict(queries)
    for each, chances in zip(answers, expected.predict_proba(queries), strict=True):
        np.testing.assert_allclose([rank["probability"] for rank in each["ranking"]], -np.sort(-chances), rtol=1e-5)


@pytest.mark.parametrize(
    "name", ["a/b", "../../etc/passwd", "日本 🐕", "'; DROP TABLE changes; --", "x/examples", "a%2Fb?", "\n@\r"]
)
def test_a_class_may_have_any_name(client: Client, name: str) -> None:
    from urllib.parse import quote

    quoted = quote(name, safe="").replace(".", "%2E")
    assert client.teach(quoted, picture("blue")).json() == {"name": name, "examples": 1}
    assert client.classes()[name] == 1
    assert client("DELETE", f"/classes/{quoted}").status_code == 204
    assert name not in client.classes()


@pytest.mark.parametrize("labels", [(2, 30), (True, False)])
def test_classes_that_are_no_text_are_json_s_own(labels: tuple[Any, Any], tmp_path: Path) -> None:
    folder, (one, other) = save_model(tmp_path / "model"), labels
    pictures = [picture(colour, seed) for colour in ("red", "green") for seed in range(3)]
    Predictor.load(folder).fit(pictures, [one] * 3 + [other] * 3).save(folder)
    with Service(folder) as service:
        client = Client(build(service))
        (answer,) = client.predict(picture("red", 9), nearest=1).json()["predictions"]
        assert answer["label"] == answer["ranking"][0]["name"] == answer["nearest"][0]["name"] == one
        assert type(answer["label"]) is type(one)
        assert client.teach(json.dumps(one), picture("red", 3)).json() == {"name": one, "examples": 4}
        assert client.teach("cat", picture("blue")).status_code == 422
        if one is True:
            assert client("DELETE", "/classes/false").status_code == 204
            assert [(name, type(name)) for name in client.classes()] == [(True, bool)]
        else:
            assert client.teach("-4", picture("blue")).json() == {"name": -4, "examples": 1}
            assert client("PATCH", "/classes/30", json={"name": True}).status_code == 422  # and not the class 1
            assert client("PATCH", "/classes/30", json={"name": 31}).status_code == 204
            assert client("PATCH", "/classes/31", json={"name": "32"}).status_code == 204
            assert client("DELETE", "/classes/2").status_code == 204
            assert client("DELETE", "/classes/2").json()["detail"] == "there is no class 2. Known: 32, -4."
            assert [(name, type(name)) for name in client.classes()] == [(32, int), (-4, int)]
        expected = service.classes().result()
        replayed = Predictor.load(folder)
        assert replayed.change_number > 0
        assert [(name, type(name)) for name in replayed.counts_] == [(name, type(name)) for name in expected]
    assert Predictor.load(folder).counts_ == expected


def test_two_forms_of_one_name_are_one_class(client: Client, tmp_path: Path) -> None:
    for number, written in enumerate(("caf%C3%A9", "cafe%CC%81")):  # composed; an e and an accent
        assert client.teach(written, picture("blue", number)).json() == {"name": "caf\u00e9", "examples": number + 1}
    assert Predictor.load(tmp_path / "model").counts_ == {"red": 5, "green": 5, "caf\u00e9": 2}
    assert client("DELETE", "/classes/cafe%CC%81").status_code == 204


def test_says_what_it_is_and_what_accuracy_to_expect(client: Client) -> None:
    about = client("GET", "/model").json()
    assert about["name"] == "model"
    assert datetime.fromisoformat(about["written"]).tzinfo is not None
    assert (about["strategy"], about["backbone"], about["classes"], about["examples"]) == (
        "prototypicalnetworks",
        "conv4",
        2,
        10,
    )
    found = about["held_out_accuracy"]
    assert found["accuracy"] == 1 and 0.1 < found["ci95"] < 0.4 and found["examples"] == 10
    assert [(each["name"], each["examples"]) for each in found["by_class"]] == [("green", 5), ("red", 5)]
    for name in ("red", "green"):
        client("DELETE", f"/classes/{name}")
    assert client("GET", "/model").json()["held_out_accuracy"]["accuracy"] is None


def test_pages_through_many_classes(client: Client) -> None:
    for number in range(20):
        client.teach(f"n{number}", picture("blue", number))
    names = ["green", "red", *(f"n{number}" for number in range(20))]
    for start, count in ((0, 5), (5, 5), (20, 5), (22, 5)):
        part = client("GET", "/classes", params={"start": start, "count": count}).json()
        assert part["total"] == 22
        assert [each["name"] for each in part["classes"]] == names[start : start + count]


def test_tells_its_state_and_its_figures(client: Client, service: Service) -> None:
    assert client("GET", "/healthz").json()["status"] == "alive"
    assert client("GET", "/readyz").json()["status"] == "ready"
    client.predict(picture("red"))
    client("DELETE", "/classes/nobody")
    figures = client("GET", "/metrics").text
    assert 'quickstudy_requests_total{path="/predict",status="200"} 1.0' in figures
    assert 'quickstudy_requests_total{path="/classes/{name:any}",status="404"} 1.0' in figures
    assert "quickstudy_batch_pictures_count 1.0" in figures
    service.close()
    assert client("GET", "/readyz").status_code == 503
    assert client("GET", "/healthz").status_code == 200
    assert client.predict(picture("red")).status_code == 503


def test_the_description_is_shown_without_a_network(client: Client) -> None:
    page = client("GET", "/docs")
    assert page.status_code == 200
    assert "//" not in page.text.replace("// ", "")  # no other host
    assets = re.findall(r'(?:href|src)="(.*?)"', page.text)
    assert len(assets) == 3
    for asset in assets:
        assert client("GET", asset).status_code == 200, asset
    assert 'validatorUrl": null' in page.text
    assert client("GET", "/redoc").status_code == 404


def test_one_bad_request_does_not_spoil_its_batch(service: Service) -> None:
    good = load_image(picture("red", 3), 16)
    wrong = load_image(picture("red"), 16, "L")
    futures = [service.predict([good]), service.predict([wrong]), service.predict([good, good])]
    assert [each.label for each in futures[0].result()] == ["red"]
    assert [each.label for each in futures[2].result()] == ["red", "red"]
    with pytest.raises(ValueError, match="channels"):
        futures[1].result()


def test_refuses_more_than_may_wait(tmp_path: Path) -> None:
    service = Service(save_model(tmp_path / "m"), most_waiting=2)
    image = load_image(picture("red"), 16)
    held = threading.Event()
    blocked = service._do(lambda _: held.wait(HANGS))
    first = service.predict([image, image])
    with pytest.raises(BusyError, match="waiting already"):
        service.predict([image])
    held.set()
    assert len(first.result()) == 2
    assert blocked.result() is True
    service.close()


# ---- what it refuses


def test_wrong_input_is_refused_in_words(client: Client) -> None:
    before, as_json = client.classes(), {"content-type": "application/json"}
    twice = [
        (("POST", "/predict"), b'{"images": [], "images": []}', "'images'"),
        (("PATCH", "/classes/red"), b'{"name": "x", "name": "y"}', "'name'"),
    ]
    cases = [
        (client.predict(b""), 422, "picture 1: 'x.png' is no image"),
        (client("POST", "/predict", content=b"12345", headers={"content-type": "image/png"}), 422, "1: '5 bytes' is"),
        (client.predict(b"GIF89a nonsense"), 422, "no image"),
        (client.predict(picture("red")[:200]), 422, "damaged"),
        (client("POST", "/predict"), 415, "multipart/form-data"),
        (client("POST", "/predict", content=b"{", headers={"content-type": "application/json"}), 422, "Invalid JSON"),
        (client("POST", "/predict", json={"images": ["", "%%%"]}), 422, "picture 2: it is no base64"),
        (client("POST", "/predict", json={"images": []}), 422, "images"),
        (client("POST", "/predict", files=[("other", ("x.png", picture("red")))]), 422, "'images'"),
        (client.predict(*[picture("red")] * 65), 400, ""),
        (client.predict(picture("red"), top=0), 422, "top"),
        (client("POST", "/predict", content=b"x", headers={"content-type": "multipart/form-data"}), 400, ""),
        (client.teach("unknown", picture("red")), 422, "'unknown'"),
        (client.teach("x" * 300, picture("red")), 422, "256"),
        (client.teach("blue", picture("red"), b"no picture"), 422, "picture 2"),
        (client("DELETE", "/classes/purple"), 404, "no class 'purple'"),
        (client("PATCH", "/classes/purple", json={"name": "x"}), 404, "no class 'purple'"),
        (client("PATCH", "/classes/red", json={"name": "green"}), 409, "exists"),
        (client("PATCH", "/classes/red", json={"name": "unknown"}), 422, "'unknown'"),
        (
            client(
                "PATCH", "/classes/red", content=b'{"name": "\\ud800"}', headers={"content-type": "application/json"}
            ),
            422,
            "",
        ),
        (client("PATCH", "/classes/red", content=b'{"name": "x"}'), 415, "content-type: application/json"),
        (client("PATCH", "/classes/red"), 415, "content-type: application/json"),
        (client("PATCH", "/classes/red", json=["x"]), 422, "dictionary"),
        (client.predict(picture("red"), topk=3), 422, "did you mean 'top'? It has: top, nearest"),
        (client("GET", "/classes?number=3"), 422, "no option 'number'. It has: start, count"),
        (client("DELETE", "/classes/red?force"), 422, "takes nothing"),
        (client.teach("%ff%fe", picture("red")), 422, "UTF-8"),
        (client("DELETE", "/classes/%ff"), 422, "UTF-8"),
        (client("GET", "/nothing"), 404, "no GET /nothing. There are: GET /healthz"),
        (client("POST", "/predct"), 404, "no POST /predct; did you mean '/predict'?"),
        (client("PUT", "/predict"), 405, "/predict takes no PUT: ask with POST"),
        (client("PUT", "/classes/red"), 405, "ask with DELETE or PATCH"),
        (client("POST", "/classes/red"), 405, "Or do you mean POST /classes/{name}/examples?"),
        (
            client("POST", "/classes"),
            405,
            "ask with GET; GET /docs describes them. Or do you mean POST /classes/{name}",
        ),
        (client("DELETE", "/classes/../"), 404, "--path-as-is"),
        (client("POST", "/predict", json={"images": [], "topk": 2}), 422, "'topk', which is not known. It takes: 'ima"),
        (client("PATCH", "/classes/red", json={"name": "x", "nam": "y"}), 422, "'nam', which is not known; did you"),
        *((client(*asked, content=body, headers=as_json), 422, f"{name} twice") for asked, body, name in twice),
    ]
    for number, (answer, status, words) in enumerate(cases):
        assert answer.status_code == status, (number, answer.text)
        assert words in answer.json()["detail"], (number, answer.text)
        assert not answer.json()["detail"].startswith(":")
    assert client.classes() == before


def test_head_says_what_get_would(client: Client) -> None:
    for path in ("/healthz", "/readyz", "/classes", "/metrics", "/docs", "/openapi.json"):
        bare, whole = client("HEAD", path), client("GET", path)
        assert (bare.status_code, bare.content) == (200, b""), path
        assert bare.headers["content-type"] == whole.headers["content-type"]
        if path != "/metrics":
            assert bare.headers["content-length"] == str(len(whole.content))
    assert client("HEAD", "/nothing").status_code == 404
    assert client("HEAD", "/predict").status_code == 405
    assert 'path="/healthz",status="200"} 2.0' in client("GET", "/metrics").text


@pytest.mark.parametrize("form", ["{}", "data:image/png;base64,{}", " DATA:;base64,{}\n"])
@pytest.mark.parametrize("line", [0, 76])
def test_base64_comes_as_people_have_it(client: Client, form: str, line: int) -> None:
    text = base64.b64encode(picture("green", 9)).decode()
    lines = "\n".join(text[start : start + line] for start in range(0, len(text), line)) if line else text
    shown = form.format(lines)
    as_shell = f'{{"images": ["{shown}"]}}'  # the line breaks as they are, and no JSON for who is strict
    for answer in (
        client("POST", "/predict", json={"images": [shown]}),
        client("POST", "/predict", content=as_shell, headers={"content-type": "application/json"}),
    ):
        assert answer.status_code == 200, answer.text
        assert answer.json()["predictions"][0]["label"] == "green"


@pytest.mark.parametrize("words", ["data:image/png,%89PNG", "iVBO*", "iVBOR", "data:,"])
def test_what_is_no_base64_is_told(client: Client, words: str) -> None:
    answer = client("POST", "/predict", json={"images": [words]})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("picture 1: it is no base64: ")


PYTHONS = re.compile(
    r"\w+=(?!@)|\w\(|dtype|torch|tensor|Predictor|Error\b|Traceback|\bstring\b|NoneType|Errno|b'", re.IGNORECASE
)
"""What no answer over HTTP may say: it is for whoever sends requests, in whatever language."""


def test_answers_speak_of_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    json_type = {"content-type": "application/json"}
    with Service(save_model(tmp_path / "m")) as service:
        client = Client(build(service))
        told = [
            (
                client("POST", "/predict", files=[("other", ("x", b"x"))]),
                "0 pictures: send 1 to 64 in the field 'images', curl -F images=@who.jpg",
            ),
            (client("POST", "/predict", content=b"{}", headers=json_type), "images in the body is missing"),
            (client("POST", "/predict", json={"images": 3}), "images in the body must be a list, [...]"),
            (client("POST", "/predict", json={"images": [3]}), "images[0] in the body must be text, in quotes"),
            (client("POST", "/predict", json={"images": []}), "images in the body must hold something"),
            (client("POST", "/predict", json=[3]), "the body must be a JSON object, {...}"),
            (client("POST", "/predict", content=b"{'a'}", headers=json_type), "Invalid JSON: "),
            (client("POST", "/predict", content=b"[" * 99_999, headers=json_type), "Invalid JSON: "),
            (client("POST", "/predict", content=b'{"images": ["\xff"]}', headers=json_type), "Invalid JSON: "),
            (client.predict(picture("red"), top="x"), "top in the query must be a whole number"),
            (client.predict(picture("red"), top=0), "top in the query must be greater than or equal to 1"),
            (client("PATCH", "/classes/red", json={}), "name in the body is missing"),
            (client("PATCH", "/classes/red", json={"name": None}), "name in the body must be "),
            (client("PATCH", "/classes/red", json={"name": "x" * 999}), "name in the body must have at most 256 char"),
            (client.teach("x" * 999, picture("red")), "name in the path must have at most 256 characters"),
            (client.predict(picture("red")[:200]), "picture 1: 'x.png' is a damaged image"),
            (client.predict(bomb(30_000, 30_000)), "picture 1: 'x.png' claims too many pixels"),
        ]
        for name in ("red", "green"):
            client("DELETE", f"/classes/{name}")
        told.append(
            (client.predict(picture("red")), "no class is known yet: show it one first, curl -F images=@yak.jpg")
        )

        def broken(*_: Any) -> None:
            raise OSError(28, "No space left on device", "/srv/pets/changes.sqlite")

        monkeypatch.setattr(service._journal.__class__, "since", broken)
        monkeypatch.setattr(service._journal.__class__, "last", 99)
        told.append((client("GET", "/classes"), "the service could not use its files (No space left on device): try"))
    for answer, words in told:
        detail = answer.json()["detail"]
        assert answer.status_code in (422, 503)
        assert detail.startswith(words), detail
        assert not PYTHONS.search(detail.replace("images=@", "")), detail


def test_a_model_of_fixed_classes_says_so(tmp_path: Path) -> None:
    with Service(save_model(tmp_path / "m", strategy="anil")) as service:
        client = Client(build(service))
        for answer in (client.teach("blue", picture("blue")), client("DELETE", "/classes/red")):
            assert answer.status_code == 422
            assert answer.json()["detail"].startswith(
                "this model was trained for 2 classes, no more and no fewer: it t"
            )
        assert client.teach("red", picture("red", 7)).json() == {"name": "red", "examples": 6}
        assert client("PATCH", "/classes/red", json={"name": "rot"}).status_code == 204
        assert client("DELETE", "/classes/blue").status_code == 404


def test_pictures_of_a_class_have_one_size(tmp_path: Path) -> None:
    inputs = [picture(colour, seed) for colour in ("red", "green") for seed in range(2)]
    made = Predictor.from_backbone("conv4", inputs, ["red"] * 2 + ["green"] * 2, load=load_image)
    made.save(tmp_path / "m")
    with Service(tmp_path / "m") as service:
        answer = Client(build(service)).teach("blue", picture("blue"), picture("blue", size=24))
        assert answer.json()["detail"] == "picture 2 has 24x24 pixels and picture 1 20x20: send one size at once"


def test_a_load_of_ones_own_that_fails_is_a_picture_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Service(save_model(tmp_path / "m")) as service:

        def mine(item: object) -> torch.Tensor:
            raise KeyError("mine")

        service._model.set_params(load=mine)
        answer = Client(build(service)).predict(picture("red"))
        assert (answer.status_code, answer.json()["detail"]) == (422, "picture 1: 'x.png' cannot be read as a picture")
    assert "KeyError: 'mine'" in caplog.text


def test_the_log_has_a_line_for_each_change(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "quickstudy.serve")
    with Service(save_model(tmp_path / "m")) as service, Service(tmp_path / "m") as other:
        assert service.replayed == 0
        client = Client(build(service))
        client.teach("a%0Ab", picture("blue", 1), picture("blue", 2))
        client.teach("red", picture("red", 9))
        client("PATCH", "/classes/red", json={"name": "rot"})
        client("DELETE", "/classes/rot")
        client("DELETE", "/classes/rot")
        client.predict(picture("red"))
        other.classes().result()
        with Service(tmp_path / "m") as third:  # as after a sudden end: nothing was written whole
            assert (third.replayed, third.change_number) == (4, 4)
    assert [record.getMessage() for record in caplog.records if record.name == "quickstudy.serve"] == [
        r"change 1: 2 examples of 'a\nb', by 127.0.0.1",
        "change 2: 1 example of 'red', by 127.0.0.1",
        "change 3: 'red' is called 'rot' now, by 127.0.0.1",
        "change 4: 'rot' was forgotten, by 127.0.0.1",
        "took up 4 changes of other processes, up to number 4",
    ]


def test_the_command_tells_what_it_recovered(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "m")
    with running(folder, "--no-page") as server:
        httpx.delete(f"{server.url}/classes/red")
        server.kill()
        assert re.fullmatch(r"\S+ \S+ change 1: 'red' was forgotten, by 127\.0\.0\.1\n", server.said)
    with running(folder, "--no-page") as server:
        server.stop()
        assert re.fullmatch(r"\S+ \S+ recovered: replayed 1 changes, up to number 1\n", server.said)


def test_probes_may_add_to_the_query(client: Client) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        assert client("GET", f"{path}?now=1").status_code == 200


def named(name: str, kind: str = "multipart/form-data") -> dict[str, Any]:
    """Return a form with a file of that name that is no picture."""
    body = f'--x\r\nContent-Disposition: form-data; name="images"; filename="{name}"\r\n\r\nnone\r\n--x--\r\n'
    return {"content": body.encode(), "headers": {"content-type": f"{kind}; boundary=x"}}


@pytest.mark.parametrize(
    ("form", "shown"),
    [
        (named("who.jpg"), "'who.jpg'"),
        (named("../photos/日本.jpg"), "'日本.jpg'"),
        (named(r"C:\photos\who.jpg"), "'who.jpg'"),
        (named("<b>&amp;"), "'<b>&amp;'"),
        (named("x" * 100), f"'{'x' * 80}'"),
        (named(""), "'4 bytes'"),
        (named("photos/"), "'4 bytes'"),
        (named("a+2AA-", "multipart/form-data; charset=utf-7"), "'a?'"),  # half a character, which no answer can hold
    ],
    ids=range(8),
)
def test_a_file_that_is_no_picture_is_named(client: Client, form: dict[str, Any], shown: str) -> None:
    answer = client("POST", "/predict", **form)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/json")
    assert answer.json()["detail"].startswith(f"picture 1: {shown} is no image")


def test_a_replacement_character_is_a_name_like_any_other(client: Client) -> None:
    assert client.teach("%EF%BF%BD", picture("blue")).status_code == 200
    assert client.classes()["\ufffd"] == 1


def bomb(width: int, height: int) -> bytes:
    """Return a small PNG that claims a large picture."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def test_size_and_pixels_are_limited(service: Service) -> None:
    client = Client(build(service, Rules(max_bytes=100_000), Limits(images=2, pixels=1000)))
    assert "more than 1,000 are refused" in client.predict(bomb(5_000, 5_000)).json()["detail"]
    assert "too many pixels" in client.predict(bomb(30_000, 30_000)).json()["detail"]
    assert client.predict(picture("red")).status_code == 200
    assert client.predict(*[picture("red")] * 3).status_code in (400, 422)
    assert client("POST", "/predict", content=bytes(100_001), headers={"content-type": "image/png"}).status_code == 413

    async def in_parts() -> Any:
        for _ in range(11):
            yield bytes(10_000)

    unannounced = client("POST", "/predict", content=in_parts(), headers={"content-type": "image/png"})
    assert unannounced.status_code == 413
    assert "100,000 bytes" in unannounced.json()["detail"]


def test_a_token_is_asked_for_everywhere_but_at_the_health_checks(service: Service) -> None:
    app = build(service, Rules(token="secret"))
    assert Client(app)("GET", "/classes").status_code == 401
    for path in ("/docs", "/docs/static/swagger-ui.css", "/openapi.json"):
        assert Client(app)("GET", path).status_code == 401
    assert Client(app)("GET", "/healthz").status_code == 200
    assert Client(app)("GET", "/classes").json()["detail"].startswith("give the token")
    wrong = Client(app, authorization="Bearer wrong")("GET", "/classes")
    assert wrong.status_code == 401
    assert wrong.json()["detail"].startswith("the token is wrong")
    assert Client(app, authorization="Bearer secret")("GET", "/classes").status_code == 200
    basic = "Basic " + base64.b64encode(b"anyone:secret").decode()
    assert Client(app, authorization=basic)("GET", "/classes").status_code == 200
    assert Client(app, authorization="Basic %%%")("GET", "/classes").status_code == 401


@pytest.mark.parametrize(
    "authorization", ["Bearer pässwort", f"Basic {base64.b64encode('ü:pässwort'.encode()).decode()}"]
)
def test_a_token_may_have_any_letters(service: Service, authorization: str) -> None:
    ask = Client(build(service, Rules(token="pässwort")))
    assert ask("GET", "/classes", headers={"authorization": authorization.encode()}).status_code == 200
    assert ask("GET", "/classes", headers={"authorization": b"Bearer p\xff\xfe"}).status_code == 401


@pytest.mark.parametrize("path", ["/classes", "/theme.css"])
def test_guessing_the_token_is_limited(service: Service, path: str) -> None:
    app = build(service, Rules(token="secret", rate="3/minute"))
    guess, know = Client(app, authorization="Bearer wrong"), Client(app, authorization="Bearer secret")
    assert [know("GET", "/theme.css").status_code for _ in range(5)] == [404] * 5  # the page's, which is not here
    assert [guess("GET", path).status_code for _ in range(5)] == [401, 401, 401, 429, 429]
    assert know("GET", path).status_code == 429  # or the answer would tell the right guess
    assert know("GET", "/healthz").status_code == 200


def test_other_sites_pages_and_names_are_refused(service: Service) -> None:
    client = Client(build(service, Rules(hosts=("localhost",))))
    assert client("GET", "/classes", headers={"host": "evil.example"}).status_code == 400
    for origin in ("http://evil.example", "http://localhost.evil.example", "http://[", "null", ""):
        assert client("GET", "/classes", headers={"origin": origin}).status_code == 403
    assert client("GET", "/classes", headers={"host": "["}).status_code == 400
    assert client("GET", "/classes", headers={"origin": "http://localhost"}).status_code == 200


def test_requests_of_one_address_are_limited(service: Service) -> None:
    client = Client(build(service, Rules(rate="3/minute")))
    assert [client("GET", "/classes").status_code for _ in range(4)] == [200, 200, 200, 429]
    assert client("GET", "/healthz").status_code == 200


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], "set a token"),
        (["--port", "99999"], "65535"),
        (["--rate", "often", "--port", "0"], "100/second"),
        (["--max-images", "0"], "at least 1"),
        (["--token-file", "/nowhere"], "cannot be read"),
        (["--device", "cuda:99"], "Try --device cpu"),
    ],
)
def test_the_command_refuses_wrong_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    folder = save_model(tmp_path / "m")
    assert main(["serve", str(folder), *options]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("soft", "hard", "most"),
    [(256, 4096, 1000), (256, 256, 128), (100, 100, 50), (10_000, 10_000, 1000), (256, resource.RLIM_INFINITY, 1000)],
)
def test_connections_leave_files_for_other_things(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, most: int
) -> None:
    raised = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: raised.append(limits))
    assert most_connections() == most
    assert all(soft <= wanted and kept == hard for wanted, kept in raised)


def test_connections_are_few_where_the_limit_of_files_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 4096))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert most_connections() == 128


def test_half_open_connections_do_not_use_up_the_files(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))  # which the service inherits, and raises
        try:
            server = stack.enter_context(running(save_model(tmp_path / "m"), "--no-page"))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(300):
            stack.enter_context(server.send("GET / HTTP/1.1\r\nHost: localhost\r\nX: "))
        assert server.get("/healthz")[0] == 200


@pytest.mark.parametrize(("trusted", "last"), [({}, 429), ({"FORWARDED_ALLOW_IPS": "127.0.0.1"}, 200)])
def test_only_a_proxy_that_is_named_may_say_who_asks(tmp_path: Path, trusted: dict[str, str], last: int) -> None:
    with running(save_model(tmp_path / "m"), "--no-page", "--rate", "2/minute", **trusted) as server:
        callers = [{"x-forwarded-for": f"10.0.0.{number}"} for number in range(3)]
        answers = [httpx.get(f"{server.url}/classes", headers=each).status_code for each in callers]
        assert answers == [200, 200, last]


@pytest.mark.parametrize("host", ["127.0.0.2", "::1"])
def test_the_address_that_is_told_is_answered_at(tmp_path: Path, host: str) -> None:
    try:
        socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        pytest.skip(f"this machine has no {host}: {error}")
    with running(save_model(tmp_path / "m"), "--host", host, "--no-page") as server:
        assert httpx.get(f"{server.url}/classes").status_code == 200


def test_the_command_needs_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", str(tmp_path), "--port", "0"]) == 2
    assert "no saved model" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def tensors_only(folder: Path) -> Path:
    """Save a predictor that was made without a function that loads pictures."""
    parts = Predictor.load(save_model(folder)).get_params()
    Predictor(parts["encoder"], parts["algorithm"]).fit(torch.zeros(1, 3, 16, 16), ["black"]).save(folder)
    return folder


def test_a_model_that_takes_no_pictures_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", str(tensors_only(tmp_path / "m")), "--port", "0", "--no-page"]) == 2
    assert "quickstudy adapt" in capsys.readouterr().err


def test_a_model_replaced_by_one_that_takes_no_pictures_says_so(client: Client, tmp_path: Path) -> None:
    tensors_only(tmp_path / "model")
    assert client.classes() == {"black": 1}
    answer = client.predict(picture("red"))
    assert answer.status_code == 422
    assert "quickstudy adapt" in answer.json()["detail"]


def test_a_port_that_is_taken_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", str(save_model(tmp_path / "m")), "--port", str(taken.getsockname()[1])]) == 2
    assert "Choose another port" in capsys.readouterr().err


def test_a_wrong_folder_is_told_before_a_port_that_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", str(tmp_path / "petz"), "--port", str(taken.getsockname()[1])]) == 2
    assert "petz" in capsys.readouterr().err


def test_what_fails_in_the_models_thread_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve = model_folder.serve

    def fail_in_a_thread(folder: Path) -> Journal:
        if threading.current_thread() is not threading.main_thread():
            raise OSError("too many open files")
        return serve(folder)

    monkeypatch.setattr(model_folder, "serve", fail_in_a_thread)
    with pytest.raises(OSError, match="too many open files"):
        Service(save_model(tmp_path / "m"))


# ---- what it never loses


def test_the_journal_refuses_who_is_behind_and_tells_what_was_missed(tmp_path: Path) -> None:
    with model_folder.serve(save_model(tmp_path / "m")) as one, model_folder.serve(tmp_path / "m") as other:
        assert one.append(Change("rename", "red", "r"), 0) == 1
        with pytest.raises(BehindError):
            other.append(Change("remove", "red"), 0)
        assert other.since(0) == [Change("rename", "red", "r")]
        assert other.append(Change("remove", "r"), 1) == 2
        assert one.since(2) == []
        with pytest.raises(BehindError):
            one.replace("{}", after=1)
        assert one.last == 2


def test_a_predictor_saved_over_a_served_one_replaces_it(tmp_path: Path, service: Service) -> None:
    folder = tmp_path / "model"
    service.forget("green").result()
    assert Predictor.load(folder).change_number == 1
    save_model(folder, ("blue", "yellow"))
    assert service.classes().result() == {"blue": 5, "yellow": 5}
    service.forget("blue").result()
    assert Predictor.load(folder).counts_ == {"yellow": 5}


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "m")
    model_folder.serve(folder).__exit__()
    (folder / NAME).write_bytes(b"no database" * 1000)
    with pytest.raises(DataError, match=r"changes\.sqlite' is damaged"):
        Predictor.load(folder)


def test_a_journal_of_another_model_is_refused(tmp_path: Path) -> None:
    for name in "ab":
        model_folder.serve(save_model(tmp_path / name)).__exit__()
    (tmp_path / "a" / NAME).replace(tmp_path / "b" / NAME)
    with pytest.raises(DataError, match="another model"):
        Predictor.load(tmp_path / "b")


def test_a_change_that_cannot_be_written_is_no_change(client: Client, service: Service, tmp_path: Path) -> None:
    def room(pages: int) -> None:
        service._do(lambda _: service._journal._db.execute(f"PRAGMA max_page_count = {pages}").fetchone()).result()

    blue = [picture("blue", seed) for seed in range(30)]
    room(1)  # none beyond those that are used
    answer = client.teach("blue", *blue)
    assert answer.status_code == 507, answer.text
    assert "nothing was changed" in answer.json()["detail"]
    assert "full" in answer.json()["detail"]
    assert client.classes() == {"red": 5, "green": 5}
    assert client.predict(picture("red", 8)).json()["predictions"][0]["label"] == "red"
    assert Predictor.load(tmp_path / "model").counts_ == {"red": 5, "green": 5}
    room(1000)
    assert client.teach("blue", *blue).status_code == 200
    assert client.classes() == {"red": 5, "green": 5, "blue": 30}


def test_while_others_hold_the_journal_it_is_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("quickstudy.saved.journal._SECONDS", 0.2)
    with Service(save_model(tmp_path / "m")) as service:
        client = Client(build(service))
        other = sqlite3.connect(tmp_path / "m" / NAME, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")  # lets others read
        refused = client("DELETE", "/classes/red")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1"), refused.text
        assert "others hold" in refused.json()["detail"]
        assert client.predict(picture("red")).status_code == 200
        other.execute("ROLLBACK")
        other.execute("BEGIN EXCLUSIVE")
        answers = [client.predict(picture("red")), client("GET", "/classes"), client("DELETE", "/classes/red")]
        assert [each.status_code for each in answers] == [503] * 3
        other.close()
        assert client.predict(picture("red")).status_code == 200
        assert client.classes() == {"red": 5, "green": 5}


def test_a_batch_waits_once_for_who_holds_the_journal(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    waits, held = [], threading.Event()

    def wait() -> None:
        waits.append(1)
        held.wait(HANGS)
        raise LockedError("held")

    monkeypatch.setattr(service, "_follow", wait)
    futures = [service.predict([load_image(picture("red"), 16)]) for _ in range(5)]
    held.set()
    assert all(isinstance(future.exception(), LockedError) for future in futures)
    assert len(waits) <= 2  # the first may have begun alone


def test_many_changes_are_written_whole_so_that_the_next_start_is_quick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quickstudy.serve.service._COMPACT_AFTER", 3)
    folder = save_model(tmp_path / "m")
    one, other = Service(folder), Service(folder)
    for number in range(7):
        one.rename("red" if number == 0 else f"n{number - 1}", f"n{number}").result()
    with Journal(folder) as journal:
        assert journal.since(3) is None  # part of the description by now
        assert len(journal.since(6) or []) == 1
    assert other.classes().result() == {"n6": 5, "green": 5}
    one.close()
    other.close()
    with Journal(folder) as journal:
        assert journal.model()[1:] == (7, [])
    assert Predictor.load(folder).counts_ == {"n6": 5, "green": 5}


def test_changes_of_lives_that_ended_suddenly_are_written_whole_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quickstudy.serve.service._COMPACT_AFTER", 3)
    folder = save_model(tmp_path / "m")
    lives = []
    for number in range(3):
        lives.append(Service(folder))  # none is closed, as none that is killed
        lives[-1].teach("blue", [load_image(picture("blue", number), 16)]).result()
    assert lives[-1].classes().result()["blue"] == 3  # which comes after the writing
    with Journal(folder) as journal:
        assert (journal.last, journal.count) == (3, 0)
    for life in lives:
        life.close()
    assert Predictor.load(folder).counts_["blue"] == 3


@pytest.mark.parametrize("limit", [1, 1000], ids=["after the change", "at the end"])
def test_a_change_is_acknowledged_before_the_model_is_written_whole_and_though_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, limit: int
) -> None:
    monkeypatch.setattr("quickstudy.serve.service._COMPACT_AFTER", limit)
    folder, answered = save_model(tmp_path / "m"), threading.Event()

    def fail(*_: Any, **__: Any) -> None:
        assert answered.wait(HANGS), "the caller still waits"
        raise KeyError("some part")

    monkeypatch.setattr(Predictor, "save", fail)
    with Service(folder) as service:
        service.forget("green").result()
        answered.set()
        assert service.classes().result() == {"red": 5}
        assert ("some part" in caplog.text) == (limit == 1)
        assert service.ready
    assert "KeyError: 'some part'" in caplog.text
    assert Predictor.load(folder).counts_ == {"red": 5}


def test_a_replica_that_fails_halfway_reads_the_model_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_model(tmp_path / "m")
    with Service(folder) as one, Service(folder) as other:
        for _ in range(2):
            one.teach("blue", [load_image(picture("blue"), 16)]).result()
        take_up = Predictor.take_up

        def half(predictor: Predictor, changes: list[Change]) -> None:
            take_up(predictor, changes[:1])
            raise MemoryError

        with monkeypatch.context() as patched, pytest.raises(MemoryError):
            patched.setattr(Predictor, "take_up", half)
            other.classes().result()
        assert other.classes().result() == one.classes().result() == {"red": 5, "green": 5, "blue": 2}


def test_two_processes_serve_one_folder_as_one(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "m")
    with running(folder) as one, running(folder) as other:
        files = [("images", ("x.png", picture("blue", seed))) for seed in range(3)]
        known = {"red": 5, "green": 5}
        for number in range(10):
            here, there = (one, other) if number % 2 else (other, one)
            name = f"blue{number}"
            assert httpx.post(f"{here.url}/classes/{name}/examples", files=files).status_code == 200
            known[name] = 3
            for server in (there, here):
                found = httpx.get(f"{server.url}/classes").json()["classes"]
                assert {each["name"]: each["examples"] for each in found} == known
        answers = [httpx.post(f"{each.url}/predict", files=files).json() for each in (one, other)]
        assert answers[0] == answers[1]
        results: list[int] = []

        def write(url: str, start: int) -> None:
            for number in range(start, start + 20):
                results.append(httpx.post(f"{url}/classes/both{number}/examples", files=files).status_code)

        threads = [threading.Thread(target=write, args=each) for each in ((one.url, 0), (other.url, 100))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [200] * 40
        found = [httpx.get(f"{each.url}/classes").json() for each in (one, other)]
        assert found[0] == found[1]
        assert found[0]["total"] == len(known) + 40


def test_requests_under_way_are_answered_before_it_ends(tmp_path: Path) -> None:
    with running(save_model(tmp_path / "m")) as server:
        files = [("images", ("x.png", picture("red", seed))) for seed in range(64)]
        answers: list[int] = []
        threads = [
            threading.Thread(
                target=lambda: answers.append(httpx.post(f"{server.url}/predict", files=files).status_code)
            )
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        under_way = 0.0
        while under_way < 5 and not answers:  # the four and this one
            figures = httpx.get(f"{server.url}/metrics", timeout=HANGS).text
            under_way = float(re.findall(r"\nquickstudy_requests_under_way (\S+)", figures)[0])
        assert server.stop() == 0
        for thread in threads:
            thread.join()
        assert answers == [200] * 4


def test_no_acknowledged_change_is_lost_when_it_is_killed(tmp_path: Path) -> None:
    assert killed_again_and_again(save_model(tmp_path / "m"), kills=3, seed=0).changes > 3


def test_refusals_are_no_proof_that_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUICKSTUDY_TOKEN", "secret")
    with pytest.raises(AssertionError, match="give the token"):
        killed_again_and_again(save_model(tmp_path / "m"), kills=1, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 4))
def test_no_acknowledged_change_is_lost_in_many_kills(tmp_path: Path, seed: int) -> None:
    assert killed_again_and_again(save_model(tmp_path / "m"), kills=20, seed=seed).changes > 20


def test_who_waits_when_it_is_stopped_at_once_is_told(tmp_path: Path) -> None:
    with running(save_model(tmp_path / "m")) as server:
        assert server.get("/")[0] == 200  # the page is to end, too
        waiting = server.send(HALF_A_PICTURE.format("/predict", "image/png"))
        while "\nquickstudy_requests_under_way 2.0" not in server.get("/metrics")[1]:
            pass
        server.process.send_signal(signal.SIGINT)
        while server.takes_connections():  # else two signals at once may count as one
            time.sleep(0.01)
        server.process.send_signal(signal.SIGINT)
        with waiting:
            answer = b"".join(iter(lambda: waiting.recv(10_000), b"")).decode()  # its head and body may come apart
        assert answer.startswith("HTTP/1.1 503")
        assert "stopped before it could answer" in answer
        assert server.process.wait(HANGS) == 130
        assert server.said == ""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)], ids=["Ctrl-C", "SIGTERM"])
def test_the_exit_status_says_who_ended_it(tmp_path: Path, number: int, status: int) -> None:
    with running(save_model(tmp_path / "m"), "--no-page") as server:
        assert httpx.get(f"{server.url}/readyz").status_code == 200
        server.process.send_signal(number)
        assert server.process.wait(HANGS) == status
