"""The README and the pages of docs: their code runs, but for numbers that only cost time made small; links hold."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quickstudy import cli

ROOT = Path(__file__).parents[1]
PAGES = {path.relative_to(ROOT).as_posix(): path for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))}
SMALLER = {
    "image_size=84": "image_size=32",
    "max_epochs=20": "max_epochs=1",
    "max_epochs=100": "max_epochs=1",
    " epoch_length=100": " epoch_length=8",
    "test_epoch_length=600": "test_epoch_length=10",
    '"prototypicalnetworks")': '"prototypicalnetworks", training_strategy_kwargs=dict(meta_batch_size=2, '
    "epoch_length=2, test_epoch_length=2))",
    '"resnet18"': '"conv4"',  # whose weights need not be downloaded
    '"minilm"': '"small_transformer"',
    '"openai/clip-vit-base-patch32"': '"small-clip"',
    'accelerator="gpu", devices=8, num_nodes=2, strategy="ddp", precision="bf16-mixed"': 'accelerator="cpu"',
}
"""What costs time or takes machines, and what stands for it in a test."""
PRELUDES = {
    "docs/pictures.md": "from pathlib import Path\nimport towers\ntowers.clip(Path('small-clip'))\n",
    "docs/predictor.md": (
        "from quickstudy import Predictor\n"
        "pictures, labels = [f'{number}.jpg' for number in range(4)], ['dog', 'dog', 'cat', 'cat']\n"
        "predictor = Predictor.from_backbone('conv4', pictures, labels, pretrained=False)\n"
    ),
    "docs/text.md": (
        "from pathlib import Path\n"
        "rows = [f'where is {what} number {n},{what}' for n in range(8) for what in ('card', 'cash')]\n"
        "for name in ('train', 'test'):\n"
        "    Path(f'{name}.csv').write_text('\\n'.join(['text,intent', *(f'{name} {row}' for row in rows)]))\n"
    ),
    "docs/tabular.md": (
        "from pathlib import Path\n"
        "rows = [f'{20 + n},{job},{n % 3 * 7 or None},{job[0]}' for n in range(16) for job in ('clerk', 'smith')]\n"
        "for name in ('train', 'test'):\n"
        "    Path(f'{name}.csv').write_text('\\n'.join(['age,job,gain,income', *rows[16 * (name == 'test') :][:16]]))\n"
    ),
    "docs/ladder.md": (
        "from pathlib import Path\n"
        "rows = [f'{n % 7 + 2 * len(name) % 5},{n % 5},{name}' for n in range(12) for name in ('oak', 'beech')]\n"
        "Path('plants.csv').write_text('\\n'.join(['height,width,species', *rows]))\n"
    ),
    "docs/audio.md": (
        "from pathlib import Path\n"
        "import numpy as np, soundfile\n"
        "for place in ('train', 'test'):\n"
        "    for pitch, word in enumerate(('no', 'stop', 'yes'), 1):\n"
        "        Path('sounds', place, word).mkdir(parents=True)\n"
        "        for number in range(6):\n"
        "            wave = np.sin(np.arange(2000 + 100 * number) * (pitch + 0.01 * len(place)) / 10)\n"
        "            soundfile.write(f'sounds/{place}/{word}/{number}.wav', wave, 8000)\n"
    ),
    "docs/video.md": (
        "from pathlib import Path\n"
        "import av, numpy as np\n"
        "for place in ('train', 'test'):\n"
        "    for motion in ('down', 'right'):\n"
        "        Path('videos', place, motion).mkdir(parents=True)\n"
        "        for number in range(4):\n"
        "            with av.open(f'videos/{place}/{motion}/{number}.mp4', 'w') as file:\n"
        "                stream = file.add_stream('mpeg4', 8, width=32, height=32)\n"
        "                for time in range(16):\n"
        "                    frame = np.full((32, 32, 3), 10 * len(place) + number, np.uint8)\n"
        "                    x, y = (time, 9) if motion == 'right' else (9, time)\n"
        "                    frame[y : y + 9, x : x + 9] = 200\n"
        "                    file.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))\n"
        "                file.mux(stream.encode(None))\n"
    ),
    "docs/graph.md": (
        "import json\n"
        "from pathlib import Path\n"
        "made = {'ring': lambda n: [[i, (i + 1) % n] for i in range(n)]}\n"
        "made['star'] = lambda n: [[0, i] for i in range(1, n)]\n"
        "made['line'] = lambda n: [[i, i + 1] for i in range(n - 1)]\n"
        "for place in ('train', 'test'):\n"
        "    for kind, edges in made.items():\n"
        "        Path('molecules', place, kind).mkdir(parents=True)\n"
        "        for number in range(6):\n"
        "            size = 4 + number + 6 * (place == 'test')\n"
        "            graph = {'nodes': size, 'edges': edges(size)}\n"
        "            Path(f'molecules/{place}/{kind}/{number}.json').write_text(json.dumps(graph))\n"
    ),
    "docs/pointcloud.md": (
        "from pathlib import Path\n"
        "import numpy as np\n"
        "for place in ('train', 'test'):\n"
        "    for size, kind in ((0.1, 'rod'), (1, 'cube'), (3, 'plate')):\n"
        "        Path('shapes', place, kind).mkdir(parents=True)\n"
        "        for number in range(6):\n"
        "            points = np.random.default_rng(number + len(place) * 9).uniform(-1, 1, (40 + number, 3))\n"
        "            np.savetxt(f'shapes/{place}/{kind}/{number}.xyz', points * [size, size, 1])\n"
    ),
    "docs/devices.md": (
        "from quickstudy import Trainer\n"
        "from quickstudy.image import ImageClassificationData, ImageClassifier\n"
        "data = ImageClassificationData.from_folders('train/', image_size=16, batch_size=48)\n"
        "model = ImageClassifier(backbone='conv4', backbone_kwargs={'hidden': 4})\n"
    ),
}
"""What a page takes for granted."""
ELSEWHERE = {
    "docs/add-a-domain.md": "test_own_domain.py",
    "docs/add-a-kind.md": "test_own_kinds.py",
    "docs/add-an-algorithm.md": "test_algorithms.py",
    "docs/episodes.md": "test_episodes.py",
    "docs/serve.md": "test_export.py",
}
"""Pages whose Python takes a test of its own, and where that is."""


def blocks(page: str, language: str) -> list[str]:
    """Return the code of a page in a language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGES[page].read_text(encoding="utf-8"), re.DOTALL)


def draw(path: Path, hue: int, seed: int) -> None:
    """Write a noisy picture of a colour."""
    noise = np.random.default_rng(seed).integers(0, 60, (40, 36))
    pixels = np.stack([np.full((40, 36), hue), noise + 150, noise + 120], axis=2).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels, "HSV").convert("RGB").save(path)


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the pictures that the pages speak of, where the code runs."""
    monkeypatch.chdir(tmp_path)
    for split, first in (("train", 0), ("val", 8), ("test", 16)):
        for number in range(first, first + 6):
            for example in range(16):
                draw(Path(split, f"class {number}", f"{example}.jpg"), 10 * number, 100 * number + example)
    single = {"rex": 30, "max": 31, "who": 34, "yak1": 90, "yak2": 92, "yak3": 95, "tom": 160}
    for name, hue in {**single, **{str(number): 30 + number for number in range(4)}}.items():
        draw(Path(f"{name}.jpg"), hue, hue)
    return tmp_path


def run_page(page: str) -> dict[str, object]:
    """Run the Python of a page, made small, and return its variables."""
    code = PRELUDES.get(page, "") + "\n".join(blocks(page, "python"))
    for full, small in SMALLER.items():
        code = code.replace(full, small)
    found: dict[str, object] = {}
    exec(compile(code, page, "exec"), found)
    return found


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python") and page not in ELSEWHERE])
@pytest.mark.usefixtures("pictures")
def test_python_of_pages_runs(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = run_page(page)
    if page == "README.md":
        printed = capsys.readouterr().out
        assert "% (95% interval" in printed and "over 10 episodes" in printed and "5-way 5-shot" in printed
        assert Path("runs/1/best.ckpt").exists() and Path("runs/1/report.html").exists()
        assert "['dog']" in printed.splitlines()
    if page == "docs/predictor.md":
        assert found["predictor"].counts_ == {"cat": 2, "dog": 2}  # type: ignore[attr-defined]


def test_code_that_runs_elsewhere_does() -> None:
    for page, test in ELSEWHERE.items():
        assert blocks(page, "python") and Path(page).name in (ROOT / "tests" / test).read_text(encoding="utf-8")


def commands() -> Iterator[tuple[str, list[str]]]:
    """Yield the quickstudy commands of every page, without what is piped into them or out."""
    for page in PAGES:
        for block in blocks(page, "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                found = re.search(r"(?:^|\| )quickstudy (.*)", line)
                if found:
                    yield page, shlex.split(found[1], comments=True)


@pytest.mark.parametrize(("page", "words"), [pytest.param(*each, id=" ".join(each[1][:3])) for each in commands()])
def test_commands_of_pages_are_understood(page: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    understood = 99  # no command's own exit status
    for command in cli.COMMANDS.values():
        for module in filter(None, (command.module, command.of_checkpoint)):
            monkeypatch.setattr(importlib.import_module(f"quickstudy.cli.{module}"), "run", lambda args: understood)
    assert cli.main(words) == understood, page


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "python" / "index.html").read_text(encoding="utf-8")
    for name in ("Predictor.add_class", "DataModule.from_folders", "image.ImageClassifier", "Trainer.finetune"):
        assert f'id="quickstudy.{name}"' in page
    text = re.sub("<[^>]+>", "", page)
    assert "train_files: Iterable[Path] | None" in text and "stage: Stage," not in text  # as doors are called
    left_out = [path.name for path in ROOT.glob("docs/*.md") if f"{path.name}" not in (ROOT / "mkdocs.yml").read_text()]
    assert not left_out, f"name these in the nav of mkdocs.yml: {left_out}"


def test_links_of_the_readme_lead_somewhere() -> None:
    text = PAGES["README.md"].read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if not link.startswith("http")]
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]
