"""The demo of every domain, of a few steps: it ends with a table, a picture, a report and a model to try."""

from __future__ import annotations

from pathlib import Path

import pytest

from quickstudy import Predictor
from quickstudy.cli import main
from quickstudy.cli.demo import ACTS


@pytest.mark.dear("cli", "datasets", "runs")
@pytest.mark.parametrize("domain", ACTS)
def test_a_demo_ends_with_a_model(domain: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--domain", domain, "--out", str(tmp_path), "--epochs", "1", "--episodes", "2"]) == 0
    shown = capsys.readouterr().out
    assert "nearest neighbour by" in shown and "trained encoder" in shown
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "nearest neighbour by" in page and "Guessing is right in 20%" in page
    assert (tmp_path / "episode.png").read_bytes().startswith(b"\x89PNG")
    assert len(Predictor.load(tmp_path / "model").classes_) == 5


def test_a_domain_without_one_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--domain", "smells", "--out", str(tmp_path)]) == 2
    assert "--domain smells: there is a demo of image, text, tabular, audio" in capsys.readouterr().err
