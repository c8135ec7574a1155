"""A table with what was published and what was reproduced side by side: in JSON, Markdown and LaTeX."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from quickstudy.bench.tables import Cell, Table
from quickstudy.functional.intervals import mean_interval

NOT_RUN = "not run"
Figures = Mapping[str, Sequence[Mapping[str, Any]]]
"""Of each cell that ran, by its name, what was measured with each seed."""


def verdict(cell: Cell, accuracy: float, ci95: float) -> str:
    """Say how a figure compares with the published one: ``"above"``, ``"within"`` or ``"below"``.

    Args:
        cell: with what was published.
        accuracy: what was reproduced, in percent.
        ci95: half of its 95% interval over episodes, in percent; it counts where none was published.

    Returns:
        ``""`` where nothing was published.
    """
    if cell.published is None:
        return ""
    reach = ci95 if cell.ci95 is None else cell.ci95
    difference = accuracy - cell.published
    return "within" if abs(difference) <= reach else "above" if difference > 0 else "below"


def summed(seeds: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the figures of a cell over its seeds, in percent: the mean, and the intervals' means.

    Args:
        seeds: what was measured with each, as ``quickstudy test`` writes it.

    Returns:
        ``accuracy``, ``ci95`` over episodes, ``ci95_classes`` for other classes of their kind, where known, and of
        three seeds or more ``ci95_seeds``, Student's interval over these.
    """
    values = np.array([100 * one["accuracy"] for one in seeds])
    told = {"accuracy": float(values.mean())}
    for name, of in (("ci95", "accuracy_ci95"), ("ci95_classes", "accuracy_ci95_classes")):
        if all(one.get(of) is not None for one in seeds):
            told[name] = float(np.mean([100 * one[of] for one in seeds]))
    if len(values) >= 3:
        told["ci95_seeds"] = mean_interval(torch.from_numpy(values))[1]
    return told


def in_words(cell: Cell, seeds: Sequence[Mapping[str, Any]]) -> str:
    """Return what was reproduced of a cell, with its intervals and the verdict."""
    if not seeds:
        return NOT_RUN
    told = summed(seeds)
    of_classes = f" (classes ± {told['ci95_classes']:.1f})" if "ci95_classes" in told else ""
    of_seeds = f" (seeds ± {told['ci95_seeds']:.2f})" if "ci95_seeds" in told else ""
    judged = verdict(cell, told["accuracy"], told.get("ci95", 0.0))
    seen = ", transductive" if any(one.get("transductive") for one in seeds) else ""
    ending = f": {judged}" if judged else ""
    return f"{told['accuracy']:.2f} ± {told.get('ci95', math.nan):.2f}{of_classes}{of_seeds}{seen}{ending}"


def as_markdown(table: Table, figures: Figures) -> str:
    """Return the table in Markdown: of each cell what was published, and what was reproduced below it."""
    lines = [
        f"{table.title}. {table.source}. {table.data}",
        "",
        "| | " + " | ".join(table.columns) + " |",
        "|---|" + "---|" * len(table.columns),
    ]
    for row in table.rows:
        cells = {cell.column: cell for cell in table.cells if cell.row == row}
        wanted = [cells[column].wanted if column in cells else "" for column in table.columns]
        found = [
            in_words(cells[column], figures.get(cells[column].name, ())) if column in cells else ""
            for column in table.columns
        ]
        lines += [f"| {row}, published | " + " | ".join(wanted) + " |"] * any(wanted)
        lines += [f"| {row}, reproduced | " + " | ".join(found) + " |"]
    return "\n".join(lines) + "\n"


def as_latex(table: Table, figures: Figures) -> str:
    """Return the table in LaTeX, for the package booktabs."""

    def figure(value: float | None, half: float | None) -> str:
        if value is None:
            return "--"
        return f"${value:.2f}$" if half is None else f"${value:.2f} \\pm {half:.2f}$"

    head = " & ".join(["Method", *(f"\\multicolumn{{2}}{{c}}{{{_plain(column)}}}" for column in table.columns)])
    second = " & ".join(["", *["published & reproduced"] * len(table.columns)])
    lines = [f"\\begin{{tabular}}{{l{'cc' * len(table.columns)}}}", "\\toprule", f"{head} \\\\", f"{second} \\\\"]
    lines.append("\\midrule")
    for row in table.rows:
        cells = {cell.column: cell for cell in table.cells if cell.row == row}
        shown = [_plain(row)]
        for column in table.columns:
            cell = cells.get(column)
            seeds = () if cell is None else figures.get(cell.name, ())
            told: Mapping[str, float] = summed(seeds) if seeds else {}
            shown.append("--" if cell is None else figure(cell.published, cell.ci95))
            shown.append(figure(told["accuracy"], told.get("ci95")) if told else "--" if cell is None else NOT_RUN)
        lines.append(" & ".join(shown) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def _plain(text: str) -> str:
    for sign in "\\&%$#_{}":
        text = text.replace(sign, "\\" + sign if sign != "\\" else "\\textbackslash ")
    return text
