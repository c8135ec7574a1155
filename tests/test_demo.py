"""The demo of every domain, of a few steps: it ends with a table, a picture, a report and a model to try."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from quickstudy import Predictor
from quickstudy.cli import main
from quickstudy.cli.demo import ACTS
from quickstudy.domains import DOMAINS
from quickstudy.runs import report


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
    assert "--domain smells: there is a demo of image, text, audio, tabular" in capsys.readouterr().err
    assert main(["demo", "--help"]) == 0
    assert ", ".join(DOMAINS) in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("length", [1, 30, 200])
def test_names_of_any_length_keep_apart_in_the_picture(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(report, "_png", lambda figure: figures.append(figure) or b"")
    names = [("star of wheels " * 20)[:length] + end for end in "ab"]
    tiles = [torch.zeros(3, 8, 8, dtype=torch.uint8)] * 2
    title = "Two rules that training never saw, one example each: 1 of 2 right"
    report.episode_picture(tiles, names, tiles * 4, names * 4, names[::-1] * 4, [1.0] * 8, title)
    (figure,) = figures
    figure.draw_without_rendering()
    words = [axes.title.get_window_extent() for axes in figure.axes] + [axes.bbox for axes in figure.axes]
    words += [text.get_window_extent() for text in figure.texts]
    assert figure._suptitle is not None and "1 of 2 right" in figure._suptitle.get_text().replace("\n", " ")
    assert all(axes.title.get_text().endswith("100%") for axes in figure.axes if "this" not in axes.title.get_text())
    for one in words:
        assert one.x0 >= 0 and one.y0 >= 0 and one.x1 <= figure.bbox.width and one.y1 <= figure.bbox.height
        assert not any(one.shrunk(0.9, 0.9).overlaps(other) for other in words if other is not one)
