"""What a published table is: its figures, the recipe that trains each cell, and how the paper tests it.

A table is a file of ``recipes/papers``. The recipes, which several may share, lie there in folders by data set: they
are configurations of ``quickstudy fit`` (``quickstudy fit --config RECIPE.yaml`` trains the same network).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from quickstudy.errors import ConfigError, unknown

PAPERS = Path(__file__).parent.parent / "recipes" / "papers"
TABLES = tuple(sorted(path.stem for path in PAPERS.glob("*.yaml")))
"""The tables that there are, by name."""


@dataclass(frozen=True)
class Cell:
    """One figure of a table."""

    row: str
    column: str
    recipe: str
    """The network that is tested, by the name of its recipe, such as ``mini_imagenet/maml_1shot``."""
    test: Mapping[str, Any]
    """The episodes of the test, in the names of ``EpisodePlan``."""
    published: float | None = None
    """In percent."""
    ci95: float | None = None
    """Half of the published 95% interval, in percent; None where none was published."""
    strategy: str | None = None
    """What judges the network, where it is another than the recipe's."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of that strategy."""

    @property
    def name(self) -> str:
        """The cell in letters that are good for a folder."""
        return "-".join(re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in (self.row, self.column))

    @property
    def wanted(self) -> str:
        """The published figure in words, ``""`` where there is none."""
        interval = "" if self.ci95 is None else f" ± {self.ci95:.2f}"
        return "" if self.published is None else f"{self.published:.2f}{interval}"


@dataclass(frozen=True)
class Table:
    """A published table."""

    name: str
    title: str
    source: str
    """The paper and the table in it."""
    data: str
    """What is to be said of the data beside every figure."""
    columns: tuple[str, ...]
    cells: tuple[Cell, ...]
    needs: Mapping[str, Mapping[str, float]]
    """Of each recipe that has run: ``hours`` of two processor cores, and ``gigabytes`` at most."""
    guests: Mapping[str, str]
    """By column, the recipe that an algorithm of one's own is trained by."""

    @property
    def rows(self) -> tuple[str, ...]:
        """The methods."""
        return tuple(dict.fromkeys(cell.row for cell in self.cells))

    def recipe(self, name: str) -> Path:
        """Return the file of a recipe."""
        return PAPERS / f"{name}.yaml"

    def needed(self, recipe: str) -> str:
        """Say what time and memory a recipe takes, as far as that was measured."""
        known = self.needs.get(recipe)
        if known is None:
            return "time and memory not known yet"
        return f"about {known['hours']:g} hours of 2 cores, {known['gigabytes']:g} GB"

    def chosen(self, only: Sequence[str]) -> tuple[Cell, ...]:
        """Return the cells that words name: whole rows, columns, recipes or cells; all where there are no words.

        Raises:
            ConfigError: one names nothing.
        """
        found: list[Cell] = []
        for word in only:
            named = [cell for cell in self.cells if word in (cell.row, cell.column, cell.recipe, cell.name)]
            if not named:
                names = [*self.rows, *self.columns, *(cell.recipe for cell in self.cells)]
                raise unknown(f"cell of {self.name}", word, dict.fromkeys(names))
            found += named
        return tuple(cell for cell in self.cells if cell in found) if only else self.cells

    def with_guest(self, name: str) -> Table:
        """Return the table with a row more: an algorithm of one's own, trained and tested as the table's own are."""
        cells = tuple(
            Cell(name, column, f"{recipe}@{name}", self.cells_of(column)[0].test)
            for column, recipe in self.guests.items()
        )
        return replace(self, cells=(*self.cells, *cells))

    def cells_of(self, column: str) -> list[Cell]:
        """Return the cells of a column."""
        return [cell for cell in self.cells if cell.column == column]


def read_table(name: str) -> Table:
    """Read a table.

    Args:
        name: one of ``TABLES``.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in TABLES:
        raise unknown("table", name, TABLES)
    told = yaml.safe_load((PAPERS / f"{name}.yaml").read_text(encoding="utf-8"))
    columns = told["columns"]
    cells = tuple(
        _cell(row, column, cell, columns[column])
        for row, of_row in told["rows"].items()
        for column, cell in of_row.items()
    )
    return Table(
        name,
        told["title"],
        told["source"],
        told["data"],
        tuple(columns),
        cells,
        told.get("needs") or {},
        told.get("guests") or {},
    )


def _cell(row: str, column: str, told: Mapping[str, Any], test: Mapping[str, Any]) -> Cell:
    figure = re.fullmatch(r"([\d.]+)(?: ± ([\d.]+))?", str(told["published"])) if "published" in told else None
    if figure is None and "published" in told:
        raise ConfigError(f"the published figure of {row}, {column} is {told['published']!r}: write it as 49.42 ± 0.78")
    published, ci95 = (None if part is None else float(part) for part in (figure.groups() if figure else (None, None)))
    return Cell(
        row,
        column,
        told["recipe"],
        {**test, **(told.get("test") or {})},
        published,
        ci95,
        told.get("strategy"),
        told.get("options") or {},
    )
