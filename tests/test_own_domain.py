"""docs/add-a-domain.md: a domain in one file, from its data to the command line."""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import serving
from quickstudy import cli
from quickstudy.cli.tasks import TASKS
from quickstudy.domains import DOMAINS
from quickstudy.modality import MODALITIES
from quickstudy.nets.registry import BACKBONES

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "add-a-domain.md").read_text(encoding="utf-8")
DOMAIN, CHECK, USE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
TONES = {"low": 3, "high": 40, "a": 6, "b": 9, "c": 13, "d": 18, "e": 24, "f": 31}


def record(path: Path, tone: int, seed: int) -> None:
    """Write a tone of some phase, in noise: made up, so that the page runs anywhere and is learned in seconds."""
    generator = np.random.default_rng(1000 * tone + seed)
    time = np.arange(1000) / 1000
    signal = np.sin(2 * np.pi * (tone * time + generator.random())) + 0.3 * generator.normal(size=1000)
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 1000, 0, "NONE", ""))
        file.writeframes((signal * 8000).astype(np.int16).tobytes())


@pytest.fixture
def domain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The domain of the page, and the recordings that it speaks of, where code runs; it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    for name, tone in TONES.items():
        for number in range(8):
            record(tmp_path / ("test" if len(name) > 1 else "train") / name / f"{number}.wav", tone, number)
    (tmp_path / "signals.py").write_text(DOMAIN, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    before = MODALITIES._entries.pop("signal", None)  # another test's, which has the name meanwhile
    yield importlib.import_module("signals")
    sys.modules.pop("signals", None)
    # These alone: what quickstudy's own modules register when they are first imported, they register once.
    del MODALITIES._entries["signal"], BACKBONES._entries["waves"], TASKS["signal_classification"]
    if before is not None:
        MODALITIES._entries["signal"] = before


@pytest.mark.parametrize("name", DOMAINS)
def test_a_domain_is_its_folder_a_line_and_an_extra(name: str) -> None:
    package = importlib.import_module(f"quickstudy.{name}")
    assert MODALITIES.name_of(MODALITIES[name]) == name
    others_names = tuple(f"{other}_" for other in DOMAINS if other != name)
    for task, classes in package.TASKS.items():
        assert not task.startswith(others_names) and {*classes} <= {*package.__all__}
    assert {task for task, home in TASKS.items() if home.module == package.__name__} == {*package.TASKS}
    assert name in tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    source = ROOT / "src" / "quickstudy"
    demo = source / "cli" / "demo.py"  # which shows some domains, and need not know all
    others = [file for file in source.rglob("*.py") if file.relative_to(source).parts[0] != name and file != demo]
    naming = [file for file in others if re.search(rf"quickstudy[./]{name}\b", file.read_text("utf-8"))]
    assert name == DOMAINS[0] or not naming  # the first is what is meant where nothing says which


def test_the_page_is_short_and_as_the_house_writes() -> None:
    code = [line for line in DOMAIN.splitlines() if line.strip()]
    assert len(code) < 120
    ruff = [sys.executable, "-m", "ruff", "check", "--select", "E,F,I,B", "--stdin-filename", "signals.py", "-"]
    subprocess.run(ruff, input=DOMAIN, text=True, check=True, cwd=ROOT)


@pytest.mark.dear("modality", "testing", "training", "serve", "saved", "cli")
@pytest.mark.filterwarnings("ignore:.*may be.*bottleneck")
def test_the_guide_adds_a_domain(domain: Any, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(CHECK, "check", "exec"), {})
    found: dict[str, Any] = {}
    exec(compile(USE, "use", "exec"), found)
    assert found["figures"]["test_accuracy"] > 0.8  # chance is 0.5
    assert found["predictor"].predict(["test/low/3.wav", "test/high/3.wav"]) == ["low", "high"]
    assert Path("tones.pt2").exists()
    again = found["Predictor"].load("tones/")
    assert again.predict("test/low/4.wav") == ["low"]
    *commands, (_, *options, folder) = [shlex.split(line) for line in re.findall(r"\$ quickstudy (.*)", PAGE)]
    capsys.readouterr()
    for words in commands:
        assert cli.main([*words, *(["--trainer.accelerator", "cpu"] if words[0] == "fit" else [])]) == 0, words
    said = capsys.readouterr().out
    assert said.count("test/low/3.wav,low") == 1, said
    shutil.copy("train/a/0.wav", "a.wav")
    with serving.running(Path(folder), *options, "--no-page") as server:
        asked = re.findall(r"curl -F (\w+)=@(\S+) localhost:8000(/[\w/]+)", PAGE)
        answers = [httpx.post(server.url + path, files={field: Path(file).read_bytes()}) for field, file, path in asked]
        assert [answer.status_code for answer in answers] == [200, 200], [answer.text for answer in answers]
    assert answers[0].json()["predictions"][0]["label"] == "low"
    assert answers[1].json() == {"name": "yak", "examples": 1}
