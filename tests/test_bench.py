"""Published tables: what they say, and that their cells are trained, tested, compared and never trained twice."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from quickstudy.algorithms import STRATEGIES
from quickstudy.bench import TABLES, Bench, Table, as_latex, as_markdown, read_table, running, tables, verdict
from quickstudy.bench.tables import PAPERS, Cell
from quickstudy.bench.writing import summed
from quickstudy.cli import main
from quickstudy.errors import ConfigError, DataError
from quickstudy.files import best_checkpoint
from quickstudy.image import ImageClassificationData, ImageClassifier
from quickstudy.trainer import Trainer

ROOT = Path(__file__).parent.parent
RECIPES = sorted(str(path.relative_to(PAPERS).with_suffix("")) for path in PAPERS.glob("*/*.yaml"))


@pytest.mark.parametrize("name", TABLES)
def test_every_cell_of_a_table_has_its_recipe(name: str) -> None:
    table = read_table(name)
    assert {cell.recipe for cell in table.cells} | set(table.guests.values()) <= set(RECIPES)
    assert len({cell.name for cell in table.cells}) == len(table.cells)
    for cell in table.cells:
        assert {"test_ways", "test_shots", "test_queries", "test_epoch_length"} <= set(cell.test)
        assert cell.column in table.columns


def test_every_recipe_is_of_a_table() -> None:
    assert set(RECIPES) == {cell.recipe for name in TABLES for cell in read_table(name).cells}


@pytest.mark.parametrize("recipe", [name for name in RECIPES if "resnet12" not in name or "svm_resnet12_5" in name])
def test_a_recipe_is_a_configuration(recipe: str) -> None:
    told = yaml.safe_load((PAPERS / f"{recipe}.yaml").read_text(encoding="utf-8"))
    assert list(told) == ["data", "model", "trainer"]
    ImageClassifier(**told["model"])
    Trainer(**told["trainer"], logger=False, enable_checkpointing=False, accelerator="cpu")
    assert told["data"]["name"] == recipe.split("/")[0]
    assert told["data"].get("image_size") == {"mini_imagenet": 84, "cifar_fs": 32}.get(told["data"]["name"])
    assert (PAPERS / f"{recipe}.yaml").read_text(encoding="utf-8").startswith("# ")


def cell(published: float | None = 49.4, ci95: float | None = 0.8) -> Cell:
    return Cell("Row & co", "5-way 1-shot", "a/b", {"test_ways": 5}, published, ci95)


@pytest.mark.parametrize(
    ("accuracy", "of", "expected"),
    [
        (50.1, cell(), "within"),
        (50.3, cell(), "above"),
        (48.5, cell(), "below"),
        (49.0, cell(ci95=None), "within"),
        (48.7, cell(ci95=None), "below"),
        (60.0, cell(published=None), ""),
    ],
)
def test_a_figure_is_compared_with_the_published_interval(accuracy: float, of: Cell, expected: str) -> None:
    assert verdict(of, accuracy, 0.5) == expected


def figures(*accuracies: float) -> list[dict[str, Any]]:
    return [{"accuracy": each, "accuracy_ci95": 0.01, "accuracy_ci95_classes": 0.03} for each in accuracies]


def test_seeds_are_summed_with_an_interval_of_three_or_more() -> None:
    assert summed(figures(0.5, 0.6)) == pytest.approx({"accuracy": 55, "ci95": 1, "ci95_classes": 3})
    # 4.3027 is Student's 97.5% quantile of two degrees of freedom; the standard error is 10 / sqrt(3)
    assert summed(figures(0.4, 0.5, 0.6))["ci95_seeds"] == pytest.approx(4.30265 * 10 / 3**0.5, rel=1e-5)


def test_a_cell_that_never_ran_says_so_in_both_forms() -> None:
    table = Table("t", "A title", "A paper", "data", ("5-way 1-shot",), (cell(),), {}, {})
    markdown = as_markdown(table, {})
    assert "| Row & co, published | 49.40 ± 0.80 |\n| Row & co, reproduced | not run |" in markdown
    ran = {cell().name: figures(0.5)}
    assert "| 50.00 ± 1.00 (classes ± 3.0): within |" in as_markdown(table, ran)
    assert "Row \\& co & $49.40 \\pm 0.80$ & not run \\\\" in as_latex(table, {})
    assert "Row \\& co & $49.40 \\pm 0.80$ & $50.00 \\pm 1.00$ \\\\" in as_latex(table, ran)


def test_words_choose_cells_and_a_wrong_one_is_told() -> None:
    table = read_table("snell2017")
    assert {each.row for each in table.chosen(["Nearest neighbour"])} == {"Nearest neighbour"}
    assert len(table.chosen(["5-way 1-shot"])) == len(table.rows)
    assert table.chosen([]) == table.cells
    with pytest.raises(ConfigError, match=r"'Nearest neighbor'.*did you mean 'Nearest neighbour'"):
        table.chosen(["Nearest neighbor"])
    with pytest.raises(ConfigError, match=r"'snell'.*snell2017"):
        read_table("snell")


def test_a_network_of_ordinary_training_is_judged_by_another_strategy(glyph_model: Any) -> None:
    model, data = glyph_model
    other = model.with_strategy("nearest_neighbour", {"ways": 3, "queries": 2})
    assert other.hparams["backbone"] == "conv4" and "backbone" not in other.unsaved
    assert other.trained_classes == model.classes
    (found,) = Trainer(logger=False, enable_progress_bar=False, accelerator="cpu").test(other, data, verbose=False)
    assert found["test_episodes"] == 600
    assert model.algorithm is None


@pytest.fixture
def glyph_model() -> tuple[ImageClassifier, ImageClassificationData]:
    data = ImageClassificationData.from_benchmark("glyphs", batch_size=32)
    model = ImageClassifier(backbone="conv4", backbone_kwargs={"in_channels": 1, "hidden": 4})
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    Trainer(max_steps=1, limit_val_batches=0, accelerator="cpu", **quiet).fit(model, datamodule=data)
    return model, data


TABLE = """
title: A title
source: A paper
data: Glyphs.
columns:
  3-way 1-shot: {test_ways: 3, test_shots: 1, test_queries: 2, test_epoch_length: 20}
rows:
  Prototypes: {3-way 1-shot: {published: 40 ± 60, recipe: glyphs/proto}}
  Neighbours: {3-way 1-shot: {recipe: glyphs/proto, strategy: nearest_neighbour}}
guests: {3-way 1-shot: glyphs/proto}
"""
RECIPE = """
data: {name: glyphs}
model:
  backbone: conv4
  backbone_kwargs: {in_channels: 1, hidden: 4}
  training_strategy: prototypicalnetworks
  training_strategy_kwargs: {ways: 3, queries: 2, meta_batch_size: 1, epoch_length: 2, test_epoch_length: 20}
trainer: {max_steps: 2, accelerator: cpu}
"""
OWN = """
from quickstudy.algorithms import STRATEGIES
from quickstudy.algorithms.prototypicalnetworks import PrototypicalNetworks


@STRATEGIES.register("owl")
class Owl(PrototypicalNetworks):
    pass


class Unregistered(PrototypicalNetworks):
    pass
"""


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "papers" / "glyphs").mkdir(parents=True)
    (tmp_path / "papers" / "small.yaml").write_text(TABLE, encoding="utf-8")
    (tmp_path / "papers" / "glyphs" / "proto.yaml").write_text(RECIPE, encoding="utf-8")
    monkeypatch.setattr(tables, "PAPERS", tmp_path / "papers")
    monkeypatch.setattr(tables, "TABLES", ("small",))
    return tmp_path


@pytest.mark.dear("bench", "recipes")
def test_cells_are_trained_tested_verified_and_done_once(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["bench", "small", "--out", str(small / "out"), "--seeds", "1"]
    assert main([*out, "--json", str(small / "all.json"), "--latex", str(small / "t.tex")]) == 0
    told = capsys.readouterr().out
    assert "2 cells of small, by 1 trainings with 1 seed(s) each" in told
    assert "| Prototypes, reproduced | " in told and ": within |" in told and "not run" not in told
    kept = yaml.safe_load((small / "all.json").read_text())["cells"]
    first, second = (kept[f"{row}-3-way-1-shot"][0] for row in ("prototypes", "neighbours"))
    assert first["episodes"] == 20 and first["training"]["gigabytes"] > 0 and first["data"] == second["data"]
    assert second["commands"][1].endswith("--training_strategy nearest_neighbour")
    record = yaml.safe_load((small / "out" / "training" / "glyphs-proto-1" / "run.json").read_text())
    assert record["model"]["training_strategy_kwargs"]["seed"] == 1
    assert main(["verify", second["run"]]) == 0
    assert capsys.readouterr().out.endswith("the same\n")

    def never(*args: Any) -> None:
        raise AssertionError("it was done before")

    monkeypatch.setattr(Bench, "_process", never)
    assert main(out) == 0
    network = best_checkpoint(small / "out" / "training" / "glyphs-proto-1")
    assert network is not None
    network.write_bytes(network.read_bytes() + b" ")  # trained anew meanwhile
    assert main(out) == 1
    assert "it was done before" in capsys.readouterr().err
    assert main([*out, "--jobs", "0"]) == 2


def test_what_failed_is_named_with_its_log_and_others_go_on(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(words: list[str], **options: Any) -> subprocess.Popen[bytes]:
        code = "import sys; print('error: no memory left'); sys.exit(3)"
        return started([sys.executable, "-c", code], **options)

    started = subprocess.Popen
    monkeypatch.setattr(running.subprocess, "Popen", fails)
    table = read_table("small")
    bench = Bench(table, small / "out", say=lambda line: None)
    with pytest.raises(DataError, match=r"quickstudy fit .* ended with 3: error: no memory left .*fit\.log"):
        bench.run(table.cells)
    assert not [found for cell in table.cells for found in bench.measured(cell)]


def test_an_algorithm_of_ones_own_is_a_row_more(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(STRATEGIES, "_entries", dict(STRATEGIES._entries))  # the owl is of this test alone
    monkeypatch.setattr(sys, "path", list(sys.path))
    file = small / "own_owl.py"
    file.write_text(OWN, encoding="utf-8")
    typed: list[list[str]] = []
    monkeypatch.setattr(Bench, "_process", lambda self, words, *rest: typed.append(words))
    monkeypatch.setattr(running, "_copy_network", lambda *folders: None)
    command = ["bench", "small", "--out", str(small / "out"), "--algorithm"]
    before = signal.getsignal(signal.SIGTERM)
    assert main([*command, f"{file}:Owl"]) == 0
    assert signal.getsignal(signal.SIGTERM) is before
    fit, test = typed
    assert fit[fit.index("--model.training_strategy") + 1] == "owl" and str(file) in fit and str(file) in test
    assert '"ways": 3' in fit[fit.index("--model.training_strategy_kwargs") + 1]
    assert main([*command, f"{file}:Unregistered"]) == 2
    assert main([*command, f"{file}:Missing"]) == 2
    assert main([*command, str(file)]) == 2
    del sys.modules["own_owl"]


def test_the_page_of_tables_is_as_their_results_say() -> None:
    code = "import papers; print(papers.page() == papers.PAGE.read_text(encoding='utf-8'))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "benchmarks", capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\n", "write it anew: python benchmarks/papers.py --page"
