"""Algorithms of one's own, in a file or a package: known to every command, to saved models, to other processes."""

from __future__ import annotations

import multiprocessing
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quickstudy import ConfigError, Predictor, available_strategies
from quickstudy.algorithms import STRATEGIES, EmbeddingAlgorithm
from quickstudy.cli import main
from quickstudy.cli.imports import imported
from quickstudy.image import ImageClassifier
from quickstudy.registry import Registry

MINE = '''"""Prototypes, of my own."""

from quickstudy.algorithms import STRATEGIES
from quickstudy.algorithms.prototypicalnetworks import PrototypicalNetworks


@STRATEGIES.register("mine")
class Mine(PrototypicalNetworks):
    """Prototypical networks.

    Args:
        strength: of nothing.
    """

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__()
'''
EPISODES = "{ways: 3, queries: 2, epoch_length: 4, meta_batch_size: 2, test_epoch_length: 4, strength: 2.0}"
FIT = (
    "--data.train_folder photos --data.test_folder others --data.image_size 28 --model.backbone conv4 "
    f"--model.training_strategy mine --model.training_strategy_kwargs '{EPISODES}' --trainer.accelerator cpu "
    "--trainer.max_epochs 1"
)


@pytest.fixture
def forget(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return what makes this process as one that has imported nothing of one's own, as it is after the test."""
    entries, path = dict(STRATEGIES._entries), list(sys.path)

    def forget() -> None:
        monkeypatch.setattr(STRATEGIES, "_entries", dict(entries))
        monkeypatch.setattr(sys, "path", list(path))
        for name in ("mine", "mine_too", "mine_broken", "mine_other"):
            sys.modules.pop(name, None)

    forget()
    return forget


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with ``mine.py``, and pictures of three classes to train on and three to test on."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    Path("mine.py").write_text(MINE, encoding="utf-8")
    for code in range(6):
        folder = Path("photos" if code < 3 else "others", f"class{code}")
        folder.mkdir(parents=True)
        for number in range(4):
            noise = np.random.default_rng(10 * code + number).integers(-20, 20, (28, 28, 3))
            Image.fromarray((40 * code + 25 + noise).astype(np.uint8)).save(folder / f"{number}.png")
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], command: str, code: int = 0) -> str:
    """Run a command, check its exit code, and return what it printed; of one that fails, its line on stderr."""
    found = main(shlex.split(command))
    out, err = capsys.readouterr()
    assert found == code, err
    return err if code else out


def test_every_command_imports_it(here: Path, forget: Callable[[], None], capsys: pytest.CaptureFixture[str]) -> None:
    assert "training_strategy 'mine'" in said(capsys, f"fit {FIT}", 2)
    out = said(capsys, f"fit {FIT} --import mine.py")
    command = next(line.removeprefix("test it: quickstudy ") for line in out.splitlines() if line.startswith("test it"))
    assert command.endswith(" --import mine.py")
    assert "import:\n- mine.py\n" in Path("runs/1/config.yaml").read_text(encoding="utf-8")
    ours = (
        "which is not quickstudy's but somebody's own: import the module that registers it first, on the command line"
    )
    for told in (
        command,
        f"verify runs/1{' --import mine.py'}",
        "adapt runs/1 --support others --out pets --import mine.py",
    ):
        forget()
        assert ours in said(capsys, told.replace(" --import mine.py", ""), 2)
        out = said(capsys, told)
    assert "use it: quickstudy predict pets images/ --import mine.py" in out
    for told in ("predict pets others", "predict runs/1 others --support others", "export pets pets.pt2"):
        forget()
        assert ours in said(capsys, told, 2)
        said(capsys, f"{told} --import mine.py")
    forget()
    assert "\nmine\n" not in said(capsys, "list strategies")
    assert "\nmine\n" in said(capsys, "list strategies --import mine.py")
    forget()
    assert "of nothing" in said(capsys, "list strategies mine --import mine.py")
    forget()
    with pytest.raises(ConfigError, match=r"'pets' was made with the algorithm 'mine', .* or install its package"):
        Predictor.load("pets")
    with pytest.raises(ConfigError, match=r"'runs/1/last\.ckpt' was made with the algorithm 'mine'"):
        ImageClassifier.load_from_checkpoint("runs/1/last.ckpt")
    imported(["mine.py"])
    assert len(Predictor.load("pets").classes_) == 3


def test_other_processes_find_it(here: Path, forget: Callable[[], None]) -> None:
    Path("mine.py").write_text("def value():\n    return 3\n", encoding="utf-8")
    (module,) = imported([str(here / "mine.py")])
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(module.value) == 3


def test_what_cannot_be_imported_is_told(here: Path, forget: Callable[[], None]) -> None:
    Path("mine_broken.py").write_text("x = 1\ndef f(:\n", encoding="utf-8")
    Path("mine_other.py").write_text("import quickstudy_of_nobody\n", encoding="utf-8")
    for name in ("json.py", "my-own.py"):
        Path(name).write_text("", encoding="utf-8")
    for name, message in (
        ("min.py", r"there is no such file; did you mean 'mine\.py'\? \(looked in "),
        ("mine_broken.py", "SyntaxError: .*, in line 2"),
        ("mine_other.py", "ModuleNotFoundError: No module named 'quickstudy_of_nobody'"),
        ("quickstudy_of_nobody", "ModuleNotFoundError: No module named 'quickstudy_of_nobody'"),
        ("json.py", "there is another module of the name 'json' already; rename the file"),
        ("my-own.py", "rename the file; a module's name has letters, digits and _ only"),
    ):
        with pytest.raises(ConfigError, match=f"^--import {name}: {message}"):
            imported([name])
    assert imported(None) == []


# ---- packages


def install(folder: Path, package: str, *points: str) -> None:
    """Write what pip leaves of a package that offers algorithms."""
    place = folder / f"{package}-1.0.dist-info"
    place.mkdir()
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8")
    (place / "entry_points.txt").write_text("\n".join(["[quickstudy.algorithms]", *points]), encoding="utf-8")


def test_packages_offer_algorithms(here: Path, forget: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mine_too.py").write_text(MINE.replace('@STRATEGIES.register("mine")\n', ""), encoding="utf-8")
    Path("mine_broken.py").write_text("raise RuntimeError('of no use')", encoding="utf-8")
    install(here, "one", "mine = mine", "mine_too = mine_too:Mine", "mine_broken = mine_broken", "twice = mine")
    install(here, "other", "twice = mine_too", "nothing = mine")
    monkeypatch.syspath_prepend(here)
    assert {"mine", "mine_too", "mine_broken", "default"} <= set(available_strategies())
    assert not {"mine", "mine_too", "mine_broken"} & set(sys.modules)  # not before one is asked for
    assert STRATEGIES["mine"].__name__ == "Mine"
    assert issubclass(STRATEGIES["mine_too"], EmbeddingAlgorithm)
    assert STRATEGIES.name_of(STRATEGIES["mine_too"]) == "mine_too"
    assert ImageClassifier(backbone="conv4", training_strategy="mine", training_strategy_kwargs={"strength": 3.0}).plan
    for name, message in (
        (
            "mine_broken",
            r"the package one offers .*'mine_broken' \(mine_broken\), which fails: RuntimeError: of no use",
        ),
        ("nothing", r"the package other offers .*'nothing' \(mine\), which registers none of that name"),
        ("twice", "several packages offer the training_strategy 'twice': keep one of one, other"),
        (
            "mine_to",
            r"did you mean 'mine_too'\? .*One of your own is known once its module is imported; .*--import my_file",
        ),
    ):
        with pytest.raises(ConfigError, match=message):
            STRATEGIES[name]


def test_other_registries_have_no_packages() -> None:
    assert Registry[int]("number").names() == []
