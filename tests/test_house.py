"""The house rules: imports point down, files say what they are, public names are known, help comes without torch."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import quickstudy
from quickstudy.cli import COMMANDS
from quickstudy.domains import DOMAINS

ROOT = Path(__file__).parents[1] / "src" / "quickstudy"


def imports(file: Path, root: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the absolute dotted name of every import, wherever in the file it stands."""
    package = ("quickstudy", *file.relative_to(root).parts[:-1])
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            origin = ".".join([*base, *filter(None, [node.module])])
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)


def below_tasks(domain: str) -> Iterator[str]:
    """Yield the modules of a domain that a model needs, without Lightning: inputs, networks, what they use."""
    todo, found = ["modality", "nets"], set[str]()
    while todo:
        found.add(part := todo.pop())
        yield f"{domain}/{part}"
        place = ROOT / domain / part
        for file in [place.with_suffix(".py")] * place.with_suffix(".py").is_file() + sorted(place.rglob("*.py")):
            names = [name.split(".") for _, name in imports(file, ROOT)]
            todo += {name[2] for name in names if name[:2] == ["quickstudy", domain]} - found - {*todo}


# From the ground up. A file or folder may import what stands on a lower line. Files on one line may import each other;
# a folder and its neighbours on the line may not.
LAYERS = [
    ["errors", "files", "domains", "registry", "signatures", "torch_internals", "batches", "episode"],
    ["functional"],
    ["nets"],
    ["algorithms", "selfsupervised"],
    ["data"],
    ["datasets"],
    ["modality"],
    [part for domain in DOMAINS for part in below_tasks(domain)],
    ["kinds"],
    ["learning"],
    ["saved"],
    ["predictor", "part_predictor", "trained"],
    ["model"],
    ["training"],  # lightning, and nowhere below
    ["runs"],
    ["trainer", "embedded"],
    ["crossvalidation"],
    [*DOMAINS],  # which never import each other
    ["bench", "serve", "ladder"],
    ["testing"],
    ["cli"],
    ["__main__"],
]
HEIGHT = {unit: height for height, layer in enumerate(LAYERS) for unit in layer}


def unit_of(parts: Sequence[str]) -> str:
    """Return the unit that a module belongs to, by the parts of its path below the root."""
    below = "/".join(parts[:2])
    return below if below in HEIGHT else parts[0]


OF_DOMAINS = HEIGHT[DOMAINS[0]]
OF_PICTURES = {"datasets", "modality", "image"}
LIGHTNING = {"lightning", "pytorch_lightning"}

PUBLIC = [
    "Classifier",
    "ConfigError",
    "DataError",
    "DataModule",
    "DataWarning",
    "Episode",
    "MissingPackageError",
    "NumberPredictor",
    "PartPredictor",
    "Predictor",
    "QuickstudyError",
    "Task",
    "Trainer",
    "TrainingError",
    "available_backbones",
    "available_datasets",
    "available_optimizers",
    "available_schedulers",
    "available_strategies",
    "cross_validate",
    "ladder",
]


def complaints(root: Path = ROOT) -> list[str]:
    """Return one sentence for every import that breaks a rule of the house."""
    found = []
    for file in sorted(root.rglob("*.py")):
        where = file.relative_to(root)
        unit = unit_of(where.with_suffix("").parts)
        if unit == "__init__":
            continue  # the public face may name anything
        if unit not in HEIGHT:
            found.append(f"{where}: '{unit}' has no place in the house yet: add it to LAYERS in tests/test_house.py")
            continue
        for line, name in imports(file, root):
            top, _, rest = name.partition(".")
            reason = None
            if top == "quickstudy":
                reason = _reason_against(root, unit, unit_of(rest.split(".")))
            elif top in LIGHTNING and HEIGHT[unit] < HEIGHT["training"]:
                reason = "lightning lives in training/ and above"
            elif top == "PIL" and HEIGHT[unit] < OF_DOMAINS and not OF_PICTURES & {*unit.split("/")}:
                reason = "PIL is for datasets, modality, the image domain and above"
            if reason:
                found.append(f"{where}:{line} imports {name}: {reason}")
    return found


def _reason_against(root: Path, unit: str, other: str) -> str | None:
    """Say why ``unit`` may not import ``other``, the first name after ``quickstudy``, or return None if it may."""
    if other in (unit, "__version__"):
        return None
    if other not in HEIGHT:
        return "name a module that has its place in LAYERS, not the public face"
    if HEIGHT[other] < HEIGHT[unit]:
        return None
    if HEIGHT[other] > HEIGHT[unit]:
        return f"imports point down, and {other} stands above {unit}"
    if (
        HEIGHT[unit] == OF_DOMAINS
        or unit.split("/")[0] != other.split("/")[0] != other
        or (root / unit).is_dir()
        or (root / other).is_dir()
    ):
        return f"{other} and {unit} stand side by side"
    return None


def test_imports_point_down() -> None:
    found = complaints()
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("file", "code", "complaint"),
    [
        ("data/table.py", "from quickstudy.errors import DataError\nfrom . import targets\nimport torch", None),
        ("training/task.py", "import lightning\nfrom quickstudy.kinds.metrics import x", None),
        ("image/__init__.py", "from ..training.task import Task\nfrom PIL import Image", None),
        ("cli/run.py", "from quickstudy import __version__, serve", None),
        ("data/table.py", "def f():\n    from quickstudy.training.task import Task", "training stands above data"),
        ("data/table.py", "from ..nets.conv4 import x\nfrom ..datasets import glyphs", "datasets stands above data"),
        ("errors.py", "from quickstudy import functional", "functional stands above errors"),
        ("predictor.py", "import quickstudy", "not the public face"),
        ("trainer.py", "from quickstudy import Trainer", "not the public face"),
        ("predictor.py", "from quickstudy import trained", "stand side by side"),
        ("serve/app.py", "from quickstudy import testing", "testing stands above serve"),
        ("image/modality.py", "from PIL import Image\nfrom quickstudy.modality import x", None),
        ("image/modality.py", "from quickstudy.image.tasks import x", "image stands above image/modality"),
        ("image/modality.py", "import lightning", "lightning lives"),
        ("modality.py", "from quickstudy.image.modality import x", "image/modality stands above modality"),
        ("nets/conv4.py", "from lightning.pytorch import Trainer", "lightning lives"),
        ("data/table.py", "import PIL.Image", "PIL is for"),
        ("helpers.py", "", "'helpers' has no place"),
        ("cli/run.py", "from quickstudy.helpers import x", "has its place in LAYERS"),
    ],
)
def test_the_rules_bite(tmp_path: Path, file: str, code: str, complaint: str | None) -> None:
    (tmp_path / "trained").mkdir()
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(code, encoding="utf-8")
    found = [sentence for sentence in complaints(tmp_path) if sentence.startswith(file)]
    assert len(found) == (complaint is not None)
    assert complaint is None or complaint in found[0]


def test_every_room_is_in_the_table_of_contributing_in_the_same_order() -> None:
    text = (ROOT.parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("\n## The house\n")[2]
    rows = re.findall(r"^\| (`.*?) \|", text.partition("\n- ")[0], re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`([\w/]+)`", row)]
    assert sorted(named) == sorted({*map(in_the_table, HEIGHT)})
    heights = [HEIGHT[re.sub("^domain/", f"{DOMAINS[0]}/", name).removesuffix("/")] for name in named]
    assert heights == sorted(heights)


def in_the_table(unit: str) -> str:
    """Return how the table calls a unit, all domains alike."""
    top, _, part = unit.partition("/")
    if top in DOMAINS:
        return "domain/nets" if part not in ("", "modality") else f"domain/{part}"  # and what they need
    return f"{unit}/" if (ROOT / unit).is_dir() else unit


INTERNALS = ("torch_internals.py", "training/quirks.py")
"""The files that may name what torch, Lightning and torchmetrics keep private."""
DOCUMENTED = {"_replace", "_asdict", "_fields", "_make", "_actions"}
"""Of named tuples, which are documented, and argparse's, which is the one way to all options of a parser."""


def private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def own_names(tree: ast.AST) -> set[str]:
    """Return the private names that a file gives to something of its own."""
    found = {
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and of_itself(node):
            found.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return {name for name in found if private(name)}


def of_itself(node: ast.Attribute) -> bool:
    """Whether an attribute is one of ``self``, ``cls`` or ``super()``."""
    value = node.value
    return (isinstance(value, ast.Name) and value.id in ("self", "cls")) or (
        isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "super"
    )


def borrowed(root: Path = ROOT) -> list[str]:
    """Return one sentence for every private name of another package outside of the files that may name them."""
    trees = {file: ast.parse(file.read_text(encoding="utf-8")) for file in sorted(root.rglob("*.py"))}
    everywhere: set[str] = set().union(*map(own_names, trees.values()))
    found = []
    for file, tree in trees.items():
        where, mine = file.relative_to(root).as_posix(), own_names(tree)
        if where in INTERNALS:
            continue
        for line, name in imports(file, root):
            if not name.startswith("quickstudy") and any(map(private, name.split("."))):
                found.append(f"{where}:{line} imports {name}, which is private: take it from {' or '.join(INTERNALS)}")
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and private(node.attr) and node.attr not in DOCUMENTED:
                known = everywhere if of_itself(node) else mine
                if node.attr not in known:
                    found.append(
                        f"{where}:{node.lineno} uses {node.attr}, which is private: see {' or '.join(INTERNALS)}"
                    )
    return found


def test_private_names_of_others_stand_in_two_files() -> None:
    found = borrowed()
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("class A:\n    def f(self, other):\n        self._mine = other._mine", None),
        ("def f(row):\n    return row._replace(x=1), __file__.__class__", None),
        ("def f(trainer):\n    return trainer.fit_loop._restarting", "1.py:2 uses _restarting"),
        ("def f(trainer):\n    trainer._restarting = False", "1.py:2 uses _restarting"),
        ("class A:\n    def f(self):\n        return self._trainer", "1.py:3 uses _trainer"),
        ("from lightning.pytorch.loops.loop import _Loop", "1.py:1 imports lightning.pytorch.loops.loop._Loop"),
        ("import torch.utils._pytree", "1.py:1 imports torch.utils._pytree"),
    ],
)
def test_a_private_name_elsewhere_is_told(tmp_path: Path, code: str, complaint: str | None) -> None:
    (tmp_path / "1.py").write_text(code, encoding="utf-8")
    found = borrowed(tmp_path)
    assert len(found) == (complaint is not None)
    assert complaint is None or found[0].startswith(complaint)


def test_files_say_what_they_are() -> None:
    found = []
    for file in sorted(ROOT.rglob("*.py")):
        where, text = file.relative_to(ROOT), file.read_text(encoding="utf-8")
        if ast.get_docstring(ast.parse(text)) is None:
            found.append(f"{where} has no docstring at its top")
        if file.name in ("utils.py", "util.py"):
            found.append(f"{where}: name the file after its subject")
    assert not found, "\n".join(found)


def test_the_public_names_are_these() -> None:
    assert sorted(quickstudy.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(quickstudy, name) is not None


PLAIN = [name for name, command in COMMANDS.items() if not command.flags]
"""Commands whose options are not those of training code, from whose signatures the others' come."""


@pytest.mark.parametrize(
    "arguments",
    [["-c", "import quickstudy"], *(["-m", "quickstudy", *name, "--help"] for name in ([], *([one] for one in PLAIN)))],
    ids=" ".join,
)
def test_import_and_help_need_no_torch(arguments: list[str], tmp_path: Path) -> None:
    assert "torch" not in imported_by(arguments, tmp_path)


def test_what_a_ladder_can_climb_is_told_without_lightning(tmp_path: Path) -> None:
    loaded = imported_by(["-m", "quickstudy", "ladder", "--help"], tmp_path)
    assert "quickstudy.ladder.rungs" in loaded
    assert not {"lightning", "torchmetrics", "matplotlib", "torchvision", "transformers", "scipy"} & {*loaded}


def imported_by(arguments: list[str], tmp_path: Path) -> list[str]:
    """Return the names of the modules that Python has imported after a run with such arguments."""
    # The site hook writes down, as the process ends, what it imported.
    hook = (
        'import atexit, pathlib, sys\natexit.register(lambda: pathlib.Path(%r).write_text("\\n".join(sys.modules)))\n'
    )
    (tmp_path / "sitecustomize.py").write_text(hook % str(tmp_path / "modules"), encoding="utf-8")
    search = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    subprocess.run([sys.executable, *arguments], env={**os.environ, "PYTHONPATH": search}, check=True, timeout=300)
    modules = (tmp_path / "modules").read_text(encoding="utf-8").split()
    assert "quickstudy" in modules
    return modules
