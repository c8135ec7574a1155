"""The page of `quickstudy serve` as people use it: in a browser, at a desk, on a phone, and by the keyboard."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import towers
from letters import Letters
from quickstudy import Predictor
from quickstudy.algorithms import STRATEGIES
from quickstudy.kinds.metrics import Estimate
from quickstudy.nets import build_encoder
from quickstudy.runs import report
from quickstudy.runs.report import (
    Picture,
    Row,
    class_listing,
    confusion_listing,
    confusion_picture,
    curves_picture,
    write_report,
)
from serving import HALF_A_PICTURE, Server, picture, running, save_model

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def dropped(folder: Path, colour: str, number: int) -> str:
    """Write a picture of that colour and return its path."""
    path = folder / f"{colour}{number}.png"
    path.write_bytes(picture(colour, number, 40))
    return str(path)


def saved(folder: Path) -> Path:
    """Save a predictor that knows one class, which none of these tests shows it."""
    return save_model(folder, ("yellow",))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(saved(tmp_path_factory.mktemp("served") / "model")) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no browser: install chromium, chromium-browser or google-chrome")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open a server's page; at the end, no request of it may have left this machine."""
    asked: list[str] = []
    contexts = []

    def open_page(server: Server, **options: Any) -> Any:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.on("request", lambda request: asked.append(request.url))
        page.on(
            "filechooser", lambda _: None
        )  # or Playwright begins to watch for choosers when one may be open already
        page.goto(server.url)
        page.wait_for_selector("#classes li, #classes .hint")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert asked
    assert not [url for url in asked if not url.startswith(("http://127.0.0.1:", "data:", "blob:http://127.0.0.1:"))]


def drop(page: Any, box: str, *paths: str) -> None:
    page.set_input_files(f"{box} input[type=file]", list(paths))


def teach(page: Any, name: str, *paths: str) -> str:
    page.fill("#name textarea", name)
    drop(page, "#examples", *paths)
    page.wait_for_selector("#examples .file-preview")
    page.click("#teach")
    return says(page, "#taught", name if paths else "")


def ask(page: Any, path: str, expected: str) -> None:
    drop(page, "#picture", path)
    says(page, "#answer", expected)


def says(page: Any, box: str, expected: str) -> str:
    """Wait until a box says something; return all of it."""
    page.wait_for_selector(f"{box} .says:has-text('{expected}')")
    text: str = page.inner_text(box)
    return text


def test_what_is_taught_is_known_after_a_restart(tmp_path: Path, visit: Callable[..., Any]) -> None:
    folder = saved(tmp_path / "model")
    with running(folder) as server:
        page = visit(server)
        for colour in ("red", "blue"):
            said = teach(page, colour, *(dropped(tmp_path, colour, number) for number in (0, 2, 4)))
            assert said == f"Learned. {colour} has 3 examples now."
        ask(page, dropped(tmp_path, "red", 3), "This is red")
        assert "red" in page.inner_text("#ranking")
        assert page.locator("#nearest img").count() == 6
        assert "away" in page.inner_text("#nearest")
        ask(page, dropped(tmp_path, "green", 0), "Unknown.")
        assert server.stop() == 0
        # An open page does not hold it up: no line says that connections were cut.
        told = [line.split(" ", 2)[2] for line in server.said.splitlines()]
        by = "by a visitor of the page at 127.0.0.1"
        assert told == [f"change {number}: 3 examples of '{name}', {by}" for number, name in ((1, "red"), (2, "blue"))]
    with running(folder) as server:
        page = visit(server)
        assert "red 3 examples" in page.inner_text("#classes")
        ask(page, dropped(tmp_path, "blue", 3), "This is blue")


@pytest.mark.dear("video", "pointcloud", "serve", "modality")
@pytest.mark.parametrize("of", ["video", "cloud"])
def test_files_are_dropped_and_taught(of: str, tmp_path: Path, visit: Callable[..., Any]) -> None:
    """A clip, and a cloud or a mesh, at a desk and on a phone."""
    draw = np.random.default_rng(0)

    def written(light: bool, number: int) -> str:
        if of == "video":
            av = pytest.importorskip("av")
            path = tmp_path / f"{light}{number}.mp4"
            with av.open(str(path), "w") as container:
                stream = container.add_stream("mpeg4", 8, width=32, height=24)
                for _ in range(5):
                    pixels = draw.integers(150 * light, 100 + 150 * light, (24, 32, 3), np.uint8)
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
                container.mux(stream.encode(None))
            return str(path)
        points = draw.normal(size=(40, 3)) * (1, 1, 1 if light else 0.01)
        rows = [" ".join(f"{number:.4f}" for number in point) for point in points]
        path = tmp_path / f"{light}{number}.{'off' if number % 2 else 'ply'}"
        head = ["OFF", "40 38 0"] if number % 2 else ["ply", "format ascii 1.0", "element vertex 40"]
        head += [] if number % 2 else [*(f"property float {axis}" for axis in "xyz"), "end_header"]
        faces = [f"3 {place} {place + 1} {place + 2}" for place in range(38)] if number % 2 else []
        path.write_text("\n".join([*head, *rows, *faces, ""]))
        return str(path)

    torch.manual_seed(0)
    known = [written(True, number) for number in range(4)]
    name, options = ("c3d", {"hidden": 2}) if of == "video" else ("pointnet", {})
    made = Predictor.from_backbone(name, known, ["light"] * 4, backbone_kwargs=options)
    made.save(tmp_path / "model")
    with running(tmp_path / "model") as server:
        page = visit(server, viewport={"width": 1100, "height": 900})
        said = teach(page, "dark", *(written(False, number) for number in range(4)))
        assert said == "Learned. dark has 4 examples now."
        page.set_viewport_size({"width": 390, "height": 844})
        drop(page, "#input", written(False, 5))
        says(page, "#answer", "This is dark")
        page.wait_for_selector("#nearest img")
        assert page.locator("#nearest img").count() == 6
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_keyboard_is_enough(tmp_path: Path, server: Server, visit: Callable[..., Any]) -> None:
    page = visit(server)

    def to(box: str) -> None:
        for _ in range(20):
            page.keyboard.press("Tab")
            if page.evaluate("box => !!document.activeElement.closest(box)", box):
                return
        raise AssertionError(f"no way to {box} by the Tab key")

    def choose(path: str) -> None:
        with page.expect_file_chooser() as chooser:
            page.keyboard.press("Enter")
        chooser.value.set_files(path)

    to("#name")
    page.keyboard.type("keys")
    to("#examples")
    choose(dropped(tmp_path, "red", 0))
    page.wait_for_selector("#examples .file-preview")
    to("#teach")
    page.keyboard.press("Enter")
    says(page, "#taught", "keys has 1 example now")
    to("#picture")
    choose(dropped(tmp_path, "red", 1))
    says(page, "#answer", "This is")
    to("#chosen")
    page.keyboard.type("keys")
    to("#new-name")
    page.keyboard.type("locks")
    to("#rename")
    page.keyboard.press("Enter")
    says(page, "#changed", "keys is called locks now")
    to("#chosen")
    page.keyboard.type("locks")
    to("#forget")
    page.keyboard.press("Enter")
    says(page, "#changed", "locks and its 1 example will be gone for good")
    page.wait_for_selector("#forget:has-text('Really forget locks?')")
    page.keyboard.press("Enter")
    says(page, "#changed", "locks is forgotten")
    assert "locks" not in page.inner_text("#classes")


def test_it_says_which_model_it_is_and_shows_a_class(tmp_path: Path, visit: Callable[..., Any]) -> None:
    with running(save_model(tmp_path / "my <pets>", ("red", "green"))) as server:
        page = visit(server)
        assert page.title() == "my <pets>: quickstudy"
        about = page.inner_text("#about")
        assert about.startswith("my <pets> by quickstudy")
        assert "prototypicalnetworks on conv4: 2 classes from 10 examples, written 20" in about
        assert re.search(r"Held-out accuracy \d+% .*\(95% interval; 10 pictures", about)
        page.fill("#chosen input", "green")
        page.keyboard.press("Enter")
        page.wait_for_selector("#shown h3:has-text('Examples of green')")
        assert page.locator("#shown img").count() == 5
        teach(page, "green", dropped(tmp_path, "green", 9))
        page.wait_for_selector("#about:has-text('2 classes from 11 examples')")
        page.wait_for_selector("#shown img", state="detached")  # none is chosen now
        page.fill("#chosen input", "green")
        page.keyboard.press("Enter")
        page.wait_for_selector("#shown figure:nth-of-type(6) img")


def test_it_fits_a_phone(tmp_path: Path, server: Server, visit: Callable[..., Any]) -> None:
    page = visit(server, viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    long = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft"
    teach(page, long, dropped(tmp_path, "green", 0))
    ask(page, dropped(tmp_path, "green", 1), long)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("document.body.scrollWidth") <= 390


def test_texts_are_typed_and_shown(tmp_path: Path, visit: Callable[..., Any]) -> None:
    made = Predictor(build_encoder("share"), STRATEGIES["nearest_centroid"](), Letters())
    made.fit(["aaab", "aba", "c" * 200, "cd"], ["ab", "ab", "cd", "cd"]).save(tmp_path / "model")
    with running(tmp_path / "model", "--import", str(Path(__file__).with_name("letters.py"))) as server:
        page = visit(server, viewport={"width": 1280, "height": 800})
        assert page.locator("#picture, #board input[type=file]").count() == 0
        page.fill("#name textarea", "ef")
        page.fill("#examples textarea", "efef\n\nfeef\n1")
        page.click("#teach")
        assert "'1' is no text of letters" in says(page, "#taught", "Text 3 of 3 cannot be used")
        page.fill("#examples textarea", "efef\n\nfeef")
        page.click("#teach")
        says(page, "#taught", "ef has 2 examples now")
        page.fill("#input textarea", "feefe")
        page.click("#ask")
        says(page, "#answer", "This is ef")
        assert "efef" in page.inner_text("#nearest .text >> nth=0") + page.inner_text("#nearest .text >> nth=1")
        page.fill("#chosen input", "ef")
        page.keyboard.press("Enter")
        page.wait_for_selector("#shown .text:has-text('feef')")
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_class_of_pictures_is_taught_by_its_name(tmp_path: Path, visit: Callable[..., Any]) -> None:
    towers.clip(tmp_path)
    photos = towers.photos(tmp_path)
    Predictor.from_backbone(str(tmp_path), classes=["oak", "cat"]).save(tmp_path / "model")
    with running(tmp_path / "model") as server:
        page = visit(server)
        assert "Without any, its name counts as one." in page.inner_text("#teaching")
        page.fill("#name textarea", "red lamp")
        page.click("#teach")
        says(page, "#taught", "red lamp has 1 example now")
        page.fill("#name textarea", "n01532829")
        page.click("#teach")
        says(page, "#taught", "says in no words what the class is")
        drop(page, "#picture", photos[0])
        says(page, "#answer", "This is ")
        page.fill("#name textarea", "cat")  # of a class that is known there is no more to say by its name
        page.click("#teach")  # once: the page takes no second click before the first is answered
        says(page, "#taught", "Choose one or more pictures of it first.")
    assert set(Predictor.load(tmp_path / "model").classes_) == {"oak", "cat", "red lamp"}


def test_problems_are_told_in_words(tmp_path: Path, server: Server, visit: Callable[..., Any]) -> None:
    page = visit(server)
    page.click("#teach")
    says(page, "#taught", "Type the name of the class first.")
    page.fill("#name textarea", "<b>odd</b>")
    page.click("#teach")
    says(page, "#taught", "Choose one or more pictures of it first.")
    damaged = tmp_path / "damaged yak.png"
    damaged.write_bytes(b"nothing")
    drop(page, "#examples", dropped(tmp_path, "red", 0), str(damaged))
    page.wait_for_selector("#examples .file-preview")
    page.click("#teach")
    assert "Picture 2 of 2 cannot be used: 'damaged yak.png' is no" in says(page, "#taught", "Picture 2 of 2")
    drop(page, "#picture", str(damaged))
    assert "The picture cannot be used: 'damaged yak.png' is no" in says(page, "#answer", "The picture")
    page.click("#forget")
    says(page, "#changed", "Choose the class first.")
    page.fill("#chosen input", "yeti")
    page.click("#forget")
    assert "there is no class 'yeti'" in says(page, "#changed", "yeti").replace("There", "there")
    assert "Traceback" not in page.content()
    assert "odd" not in page.inner_text("#classes")


def test_a_class_is_forgotten_when_that_was_meant(tmp_path: Path, server: Server, visit: Callable[..., Any]) -> None:
    page = visit(server)
    for name in ("<i>one", "two"):
        teach(page, name, dropped(tmp_path, "red", 0), dropped(tmp_path, "red", 1))
    page.fill("#chosen input", "<i>one")
    page.click("#forget")
    says(page, "#changed", "<i>one and its 2 examples will be gone for good")
    page.wait_for_selector("#forget:text-is('Really forget <i>one?')")
    page.fill("#chosen input", "two")
    page.click("#changed")
    page.wait_for_selector("#forget:text-is('Forget')")
    page.click("#forget")
    page.click("#forget:text-is('Really forget two?')")
    says(page, "#changed", "two is forgotten")
    page.wait_for_selector("#forget:text-is('Forget')")
    assert "<i>one" in page.inner_text("#classes")
    assert "two" not in page.inner_text("#classes")


def test_names_of_nine_characters_stay_on_one_line(tmp_path: Path, server: Server, visit: Callable[..., Any]) -> None:
    page = visit(server, viewport={"width": 1100, "height": 900})
    teach(page, "n01930112", dropped(tmp_path, "blue", 0))
    ask(page, dropped(tmp_path, "blue", 0), "n01930112")
    page.wait_for_selector("#nearest b")
    lines = "box => new Set([...box.getClientRects()].map(each => each.top)).size"
    assert (
        page.evaluate(f"({lines})([...document.querySelectorAll('#nearest b')].find(b => b.innerText[0] == 'n'))") == 1
    )


def test_the_token_opens_the_page_too(tmp_path: Path, visit: Callable[..., Any]) -> None:
    with running(saved(tmp_path / "model"), "--rate", "20/second", QUICKSTUDY_TOKEN="sesame") as server:
        assert server.get("/")[0] == 401
        page = visit(server, http_credentials={"username": "", "password": "sesame"})
        teach(page, "red", dropped(tmp_path, "red", 0))
        ask(page, dropped(tmp_path, "red", 1), "This is red")


def test_only_what_the_page_needs_is_served(server: Server) -> None:
    assert server.get("/")[0] == 200
    for path in (
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=/tmp/../etc/passwd",
        "/gradio_api/file=http://127.0.0.1:1/",
        "/gradio_api/info",
        "/gradio_api/openapi.json",
        "/gradio_api/run/teach",
        "/gradio_api/proxy=http://127.0.0.1:1/",
        "/static/../../routes.py",
        "/monitoring",
    ):
        assert server.get(path)[0] in (403, 404), path
    pages = {line for line in server.get("/metrics")[1].splitlines() if 'total{path="page"' in line}
    assert pages
    assert "gradio" not in server.get("/metrics")[1]
    assert "gradio" not in server.get("/openapi.json")[1]


def refused(server: Server, value: object, function: object = 2) -> int:
    """Return the status with which a call of the page's is refused."""
    call = json.dumps({"data": [value], "fn_index": function, "session_hash": "x"}).encode()
    request = urllib.request.Request(server.url + "/gradio_api/queue/join", call, {"content-type": "application/json"})
    with pytest.raises(urllib.error.HTTPError) as error, urllib.request.urlopen(request, timeout=300):
        pass
    error.value.close()
    return error.value.code


def test_a_call_can_name_no_file_but_those_dropped(tmp_path: Path, server: Server) -> None:
    assert server.get("/")[0] == 200  # the page is made
    elsewhere = dropped(tmp_path, "red", 0)
    own = next(Path(tempfile.gettempdir()).glob("quickstudy-page-*"))
    for path in (elsewhere, "/etc/hostname", "http://127.0.0.1:1/a.png", f"{own}/../{Path(elsewhere).name}", 3):
        for value in ({"path": path, "meta": {"_type": "gradio.FileData"}}, [[{"a": {"path": path}}]]):
            assert refused(server, value) == 403


def test_what_callers_do_wrong_is_not_in_the_log(tmp_path: Path) -> None:
    with running(saved(tmp_path / "model")) as server:
        assert server.get("/")[0] == 200
        assert [refused(server, "", function) for function in (999, -1, None, "0", [0])] == [404] * 5
        for path in ("/predict", "/classes/red/examples", "/gradio_api/upload"):
            for kind in ("multipart/form-data; boundary=x", "application/json", "image/png"):
                if path != "/gradio_api/upload" or kind.startswith("multipart"):
                    server.send(HALF_A_PICTURE.format(path, kind)).close()
        left, end = 0.0, time.monotonic() + 30
        while left < 7 and time.monotonic() < end:
            left = sum(map(float, re.findall(r'requests_total\{.*status="499"} (\S+)', server.get("/metrics")[1])))
        assert left == 7
        assert server.stop() == 0
        assert server.said == ""


def test_without_gradio_the_page_says_how_to_get_it(tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    absent.mkdir()
    (absent / "gradio.py").write_text("raise ModuleNotFoundError('No module named gradio', name='gradio')")
    search = os.pathsep.join([str(absent), *filter(None, [os.environ.get("PYTHONPATH")])])
    with running(saved(tmp_path / "model"), PYTHONPATH=search) as server:
        status, text = server.get("/")
        assert status == 501
        assert "pip install 'quickstudy[serve]'" in text
        assert server.get("/classes")[0] == 200
    with running(saved(tmp_path / "model"), "--no-page", PYTHONPATH=search) as server:
        assert server.get("/")[0] == 404


# ---- the page of a run


@pytest.mark.parametrize("steps", [[11], [3, 7, 11], [0, 1]])
def test_curves_have_whole_steps(steps: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(report, "_png", lambda figure: drawn.append(figure) or b"")
    curves_picture([{"step": float(step), "train_loss": 1.0, "val_accuracy": 0.5} for step in steps])
    for axes in drawn[0].axes:
        low, high = axes.get_xlim()
        ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert ticks and all(tick == round(tick) for tick in ticks)
        assert len(steps) > 1 or ticks == [12]


def test_the_band_of_an_accuracy_ends_at_0_and_1(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(report, "_png", lambda figure: drawn.append(figure) or b"")
    rows = [{"step": float(step), "val_accuracy": step / 2, "val_accuracy_ci95": 0.3} for step in range(3)]
    curves_picture(rows, ["accuracy"])
    (band,) = (path.vertices[:, 1] for one in drawn[0].axes[0].collections for path in one.get_paths())
    assert band.min() == 0 and band.max() == 1


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_of_a_run_fits_a_screen(browser: Any, tmp_path: Path, width: int) -> None:
    rows = [{"step": float(step), "train_loss": 1.0 / (step + 1), "val_accuracy": 0.1 * step} for step in range(9)]
    names = [f"a_name_that_is_long_and_has_no_blanks_{code}" for code in range(20)]
    figures = {name: {"accuracy": 0.5, "accuracy_ci95": 0.1, "examples": 50} for name in names}
    confusions = [{"class": name, "answer": names[0], "count": 3, "share": 0.06} for name in names]
    curves = [curves_picture(rows, [what]) for what in ("loss", "accuracy")]
    matrix = np.random.default_rng(0).integers(0, 9, (20, 21))
    path = tmp_path / "report.html"
    write_report(
        path,
        title="Run 12: prototypicalnetworks vit_small_patch14_reg4_dinov2.lvd142m",
        lead="40 steps. It ended when all 4 epochs were done (max_epochs).",
        columns=["accuracy"],
        rows=[Row("test, best.ckpt", [Estimate(0.7, 0.01, 600)], 0.2, "for other classes ± 5.0")],
        notes=["Tested over 600 episodes, 5-way 1-shot with 15 queries per class, inductive."],
        pictures=[
            Picture("Loss and accuracy", curves[0], curves[1:]),
            Picture("Classes", confusion_picture(matrix, names), wide=True),
        ],
        details={"Model": f"backbone {'x' * 300}", "Data: options": "image_size 84, batch_size 4"},
        cautions=["Tested on pictures that it was trained on."],
        listings=[class_listing(figures), confusion_listing(confusions)],
    )
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = [image.bounding_box() for image in page.locator("figure img").all()]
    loss, accuracy, classes = boxes
    assert (loss["y"] < accuracy["y"]) == (width == 390), "beside each other where there is room, else below"
    assert loss["width"] > 290 and accuracy["width"] > 290
    assert classes["width"] > 550, "its letters are not shrunk: it scrolls"
    heading = page.locator("h1").bounding_box()
    assert heading["x"] >= 0 and heading["x"] + heading["width"] <= width
    assert page.locator("details").count() == 2 and not page.locator("details tbody tr").first.is_visible()
    page.locator("summary").first.click()
    assert page.locator("details tbody tr").first.is_visible()
    page.close()
