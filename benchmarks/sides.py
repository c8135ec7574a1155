"""Two sides of a comparison: the peers' process, and the lines of the table that is made of both."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.table import Table as Grid

HERE = Path(__file__).parent
PYTHON = HERE.parent / ".venv-peers/bin/python"


@dataclass
class Line:
    """One line of the table: our figure, a peer's of the same repeats, and what was asked for."""

    work: str
    ours: list[float]
    unit: str = "/s"
    peer: str = ""
    theirs: list[float] = field(default_factory=list)
    target: str = ""
    met: bool | None = None

    @property
    def ratios(self) -> list[float]:
        """Ours over theirs in each repeat; none without a peer."""
        return [ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=True)] if self.theirs else []

    def at_least(self, ratio: float) -> None:
        self.target, self.met = f">= {ratio:g} x", statistics.median(self.ratios) >= ratio

    def at_most(self, figure: float) -> None:
        self.target, self.met = f"<= {figure:,g} {self.unit}", statistics.median(self.ours) <= figure

    def plain(self) -> dict[str, Any]:
        figures = {"ours": self.ours, "theirs": self.theirs, "ratio": self.ratios}
        medians = {f"{name}_median": statistics.median(each) for name, each in figures.items() if each}
        return {**asdict(self), **medians}


class Peers:
    """The peers' process, which answers one request at a time so that both sides meet the same noise.

    Args:
        script: a file of ``benchmarks/peers``, which says hello and then answers every line by a line of JSON.
        arguments: on its command line.
        environment: variables to add to this process's.
    """

    def __init__(self, script: str, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self._command = [str(PYTHON), str(HERE / "peers" / script), *arguments]
        self._environment = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}

    def __enter__(self) -> Self:
        self._errors = tempfile.TemporaryFile("w+")  # a pipe that nobody empties would stop it
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            self._command, stdin=pipe, stdout=pipe, stderr=self._errors, text=True, env=self._environment
        )
        self.hello = self._answer()
        return self

    def ask(self, request: str) -> Any:
        assert self._process.stdin
        print(request, file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            raise SystemExit(
                f"the peers' process ended; remove .venv-peers and run setup.sh again.\n{self._errors.read()}"
            )
        return json.loads(line)

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
        self._errors.close()


def peers_are_installed(console: Console) -> bool:
    """Return whether they are, and say how to install them if not."""
    if not PYTHON.exists():
        console.print("the peers are not installed: run benchmarks/peers/setup.sh")
    return PYTHON.exists()


def show(lines: list[Line], console: Console) -> None:
    grid = Grid("work", "ours", "peer", "its", "ratio", "target", "met")
    last = ""
    for line in lines:
        again = line.work == last
        grid.add_row(
            "" if again else line.work,
            "" if again else f"{figure(line.ours)} {line.unit}",
            line.peer,
            f"{figure(line.theirs)} {line.unit}" if line.theirs else "",
            f"{figure(line.ratios)} x ({figure(line.ratios, min)} to {figure(line.ratios, max)})"
            if line.ratios
            else "",
            line.target,
            {None: "", True: "yes", False: "NO"}[line.met],
        )
        last = line.work
    console.print(grid)


def figure(repeats: list[float], of: Callable[[list[float]], float] = statistics.median) -> str:
    number = of(repeats)
    return f"{number:,.0f}" if number >= 100 else f"{number:.2g}"
