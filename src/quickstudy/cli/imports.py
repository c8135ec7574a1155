"""Code of one's own, imported before a command reads or makes a model: algorithms, backbones, data sets."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import itertools
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from quickstudy.errors import ConfigError, QuickstudyError, first_line
from quickstudy.files import looked_in, meant_among


def add_imports(parser: Any) -> None:
    """Add the option that every command has."""
    parser.add_argument(
        "--import",
        action="append",
        metavar="FILE",
        help="a Python file of your own, or a module's name, to import first: what it registers, such as an algorithm, "
        "is then known by its name; may be given several times",
    )


def imported(names: Sequence[str] | None) -> list[ModuleType]:
    """Import files and modules.

    A file's folder joins the path for modules, so that further processes find it too.

    Raises:
        ConfigError: one is not there, is named as another module is, or fails; the message says which and why.
    """
    return [_imported(name) for name in names or ()]


def named_in(words: Sequence[str]) -> list[str]:
    """Return what a command's words name to import, before its options are known, which may follow from that."""
    after = [other for word, other in itertools.pairwise(words) if word == "--import"]
    return [*after, *(word.partition("=")[2] for word in words if word.startswith("--import="))]


def also_importing(args: argparse.Namespace) -> str:
    """Return the end of a command that needs the same code."""
    return "".join(f" --import {shlex.quote(name)}" for name in vars(args).get("import") or ())


def _imported(name: str) -> ModuleType:
    path = Path(name).expanduser()
    is_file = path.suffix == ".py" or "/" in name or path.is_file()
    try:
        return _of_file(path.resolve(), name) if is_file else importlib.import_module(name)
    except QuickstudyError:
        raise
    except Exception as error:  # whatever code of others raises
        told = f"{type(error).__name__}: {first_line(error)}"
        if isinstance(error, SyntaxError) and error.lineno:
            told = f"{told}, in line {error.lineno}"
        raise ConfigError(f"--import {name}: {told}") from error


def _of_file(path: Path, given: str) -> ModuleType:
    if not path.is_file():
        near = [entry.name for entry in path.parent.glob("*.py")]
        raise ConfigError(
            f"--import {given}: there is no such file{meant_among(Path(given), near)} ({looked_in(path)})"
        )
    name = path.stem
    there: Any = sys.modules.get(name) or (importlib.util.find_spec(name) if name.isidentifier() else None)
    origin = getattr(there, "__file__", None) or getattr(there, "origin", None)
    if there is not None and (origin is None or Path(origin).resolve() != path):
        raise ConfigError(f"--import {given}: there is another module of the name '{name}' already; rename the file")
    if not name.isidentifier():
        raise ConfigError(f"--import {given}: rename the file; a module's name has letters, digits and _ only")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    return importlib.import_module(name)
