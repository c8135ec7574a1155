"""Reproduce a published table: train its cells by recipes, test them by the paper's protocol, and compare.

``quickstudy bench snell2017`` goes on where it was whenever it is typed again. Each cell gets a verdict: its figure
lies above, within or below the published interval.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markdown import Markdown

from quickstudy.algorithms import STRATEGIES
from quickstudy.bench import Bench, Table, as_latex, as_markdown, read_table
from quickstudy.cli.imports import imported
from quickstudy.errors import ConfigError, DataError, QuickstudyError
from quickstudy.files import atomic_write


def run(args: argparse.Namespace) -> int:
    """Run the cells, print the table, and write it in the forms that are asked for."""
    table, imports = read_table(args.table), list(getattr(args, "import") or ())
    if args.algorithm is not None:
        name, file = _own(args.algorithm)
        table, imports = table.with_guest(name), [*imports, file]
        if not table.guests:
            raise ConfigError(f"the table {table.name} has no recipe for an algorithm of your own: take lee2019")
    cells = table.chosen(args.only or ([name] if args.algorithm is not None else ()))
    bench = Bench(table, args.out, args.root, args.seeds, args.quick, args.jobs, imports, _say)
    recipes = dict.fromkeys(cell.recipe.partition("@")[0] for cell in cells)
    _say(f"{len(cells)} cells of {table.name}, by {len(recipes)} trainings with {len(args.seeds)} seed(s) each:")
    for recipe in recipes:
        _say(f"  {recipe}: {'seconds to minutes' if args.quick else table.needed(recipe)} ({table.recipe(recipe)})")
    stopped: QuickstudyError | None = None
    if not args.show:
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # what it started ends with it
        try:
            bench.run(cells)
        except DataError as error:
            stopped = error
        finally:
            signal.signal(signal.SIGTERM, before)
    figures = {cell.name: bench.measured(cell) for cell in table.cells}
    text = as_markdown(table, figures)
    if args.quick:
        text = f"A smoke test: after 20 steps these figures mean nothing.\n\n{text}"
    Console().print(Markdown(text)) if os.isatty(1) else print(text)
    if not args.quick:
        _write(args.markdown, text)
        _write(args.latex, as_latex(table, figures))
        _write(args.json, json.dumps(record(table, figures), indent=1) + "\n")
    if stopped is not None:
        raise stopped
    return 0


def record(table: Table, figures: Any) -> dict[str, Any]:
    """Return what was measured of a table in plain values, with the hardware."""
    hardware = {"machine": platform.machine(), "processor": platform.processor(), "cores": os.cpu_count()}
    return {"table": table.name, "data": table.data, "hardware": hardware, "cells": figures}


def _say(line: str) -> None:
    print(line, flush=True)


def _write(path: Path | None, text: str) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, "w") as file:
            file.write(text)


def _own(typed: str) -> tuple[str, str]:
    """Return the registered name and the file of an algorithm that is typed as ``FILE:CLASS``.

    Raises:
        ConfigError: it is typed otherwise, or the file does not register such a class.
    """
    file, _, called = typed.rpartition(":")
    if not file:
        raise ConfigError(f"--algorithm {typed}: write the file and the class in it, my_file.py:MyAlgorithm")
    module = imported([file])[0]
    found = getattr(module, called, None)
    name = next((name for name in STRATEGIES.names() if found is not None and STRATEGIES[name] is found), None)
    if name is None:
        what = f"has no '{called}'" if found is None else f"does not register '{called}'"
        raise ConfigError(
            f"'{file}' {what}: above the class write @STRATEGIES.register('my_name'), docs/add-an-algorithm.md"
        )
    return name, file
