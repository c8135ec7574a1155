"""The README's examples run as they stand, with the numbers that only cost time made small."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quickstudy import Predictor

README = Path(__file__).parent.parent / "README.md"
SMALLER = {
    "image_size=84": "image_size=32",
    "max_epochs=20": "max_epochs=1",
    " epoch_length=100": " epoch_length=8",
    "test_epoch_length=600": "test_epoch_length=10",
    '"resnet18"': '"conv4"',  # whose weights need not be downloaded
}


def draw(path: Path, hue: int, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 60, (40, 36))
    pixels = np.stack([np.full((40, 36), hue), noise + 150, noise + 120], axis=2).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels, "HSV").convert("RGB").save(path)


def test_three_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    for split, first in (("train", 0), ("val", 8), ("test", 16)):
        for number in range(first, first + 6):
            for example in range(16):
                draw(Path(split, f"class {number}", f"{example}.jpg"), 10 * number, 100 * number + example)
    for name, hue in (("rex", 30), ("tom", 160), ("who", 33), ("max", 31), ("yak1", 90), ("yak2", 92)):
        draw(Path(f"{name}.jpg"), hue, hue)
    code = "".join(re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL))
    for full, small in SMALLER.items():
        assert full in code
        code = code.replace(full, small)
    found: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), found)
    printed = capsys.readouterr().out
    assert "% (95% interval) over 10 episodes, 5-way 5-shot" in printed
    assert Path("runs/1/best.ckpt").exists() and Path("runs/1/report.html").exists()
    assert "['dog']" in printed.splitlines()
    assert "pets.onnx: 2 classes" in printed.splitlines()[-1]
    assert Path("pets.onnx").exists() and Path("why.png").exists()


def test_the_page_on_predictors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, hue in (("who", 33), ("yak1", 90), ("yak2", 92), ("yak3", 95), *((f"{n}", 30 + n) for n in range(4))):
        draw(Path(f"{name}.jpg"), hue, hue)
    page = (README.parent / "docs" / "predictor.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    predictor = Predictor.from_backbone(
        "conv4", ["0.jpg", "1.jpg", "2.jpg", "3.jpg"], ["dog", "dog", "cat", "cat"], pretrained=False
    )
    exec(compile(code, "predictor.md", "exec"), {"predictor": predictor})
    assert predictor.counts_ == {"cat": 2, "dog": 2}
