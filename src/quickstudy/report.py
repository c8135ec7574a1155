"""What a person looks at: the picture of an episode, and a self-contained HTML page of results."""

from __future__ import annotations

import base64
import io
import math
import os
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import NamedTuple

import jinja2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from quickstudy.files import atomic_write
from quickstudy.metrics import Estimate

_SHOWN, _RIGHT, _WRONG = "#3867d6", "#1e8e3e", "#d93025"


class Row(NamedTuple):
    """One line of a table of results: a name, and an estimate per column."""

    name: str
    estimates: Sequence[Estimate]


class Picture(NamedTuple):
    """A PNG with its caption."""

    caption: str
    png: bytes


def percent(estimate: Estimate) -> str:
    """Return an accuracy in percent with the half-width of its interval, such as ``"68.2 ± 0.7"``."""
    interval = f"{100 * estimate.ci95:.1f}" if math.isfinite(estimate.ci95) else "unknown"
    return f"{100 * estimate.mean:.1f} ± {interval}"


def episode_picture(
    support: Tensor,
    support_labels: Sequence[str],
    query: Tensor,
    query_labels: Sequence[str],
    predicted: Sequence[str],
    confidence: Sequence[float],
    title: str,
) -> bytes:
    """Draw a support set and the queries beside it, each framed by whether it was classified rightly.

    Args:
        support: images ``[S, C, H, W]``, uint8.
        support_labels: S short labels; rows are in the order of their first appearance.
        query: images ``[Q, C, H, W]``.
        query_labels: what each query is.
        predicted: what the model says it is.
        confidence: the probability that the model gives its answer, from 0 to 1.
        title: shown above.

    Returns:
        A PNG.
    """
    classes = list(dict.fromkeys(support_labels))
    known = [[i for i, label in enumerate(support_labels) if label == name] for name in classes]
    asked = [[i for i, label in enumerate(query_labels) if label == name] for name in classes]
    shots, queries = max(map(len, known)), max(map(len, asked))
    columns = shots + queries
    figure = Figure(figsize=(1.0 * columns + 1.1, 1.24 * len(classes) + 1.25), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(classes), columns, squeeze=False, gridspec_kw={"wspace": 0.14, "hspace": 0.42})
    figure.subplots_adjust(left=0.03, right=0.97, bottom=0.03, top=1 - 1.0 / figure.get_figheight())
    figure.suptitle(title, fontsize=12, fontweight="bold", x=0.03, ha="left", y=1 - 0.16 / figure.get_figheight())
    for axes in grid.flat:
        axes.set_axis_off()
    for row, name in enumerate(classes):
        for column, index in enumerate(known[row]):
            _tile(grid[row, column], support[index], _SHOWN, f"this is {name}", _SHOWN)
        for column, index in enumerate(asked[row]):
            right = predicted[index] == name
            mark = "✓" if right else "✗"
            caption = f"{mark} {predicted[index]} {100 * confidence[index]:.0f}%"
            _tile(grid[row, shots + column], query[index], _RIGHT if right else _WRONG, caption, "black")
    for column, text in ((0, "shown"), (shots, "asked: what the model answers, and how sure it is")):
        box = grid[0, column].get_position()
        figure.text(box.x0, box.y1 + 0.38 / figure.get_figheight(), text, fontsize=9.5, color="#555555", va="bottom")
    return _png(figure)


def curves_picture(rows: Sequence[Mapping[str, float]]) -> bytes:
    """Draw how loss and accuracy went, in training and validation.

    Args:
        rows: of figures by name, each with its ``step``; ``train_loss``, ``val_accuracy`` and so on are drawn.

    Returns:
        A PNG.
    """
    figure = Figure(figsize=(10, 3.8), dpi=110, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    for axes, what in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for stage, colour, word in (("train", "#9aa3b5", "training"), ("val", _SHOWN, "validation")):
            name = f"{stage}_{what}"
            found = [row for row in rows if name in row]
            steps = [row["step"] + 1 for row in found]
            values = np.array([row[name] for row in found])
            axes.plot(steps, values, color=colour, label=word if found else None, marker="o", markersize=3)
            if found and all(f"{name}_ci95" in row for row in found):
                half = np.array([row[f"{name}_ci95"] for row in found])
                axes.fill_between(steps, values - half, values + half, color=colour, alpha=0.18, linewidth=0)
        axes.set(title=what, xlabel="step")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _tile(axes: object, image: Tensor, colour: str, caption: str, text: str) -> None:
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    axes.set_axis_on()
    axes.set(xticks=[], yticks=[])
    pixels = image.permute(1, 2, 0).numpy()
    grey = pixels.shape[2] == 1
    axes.imshow(np.squeeze(pixels, 2) if grey else pixels, cmap="gray_r" if grey else None, vmin=0, vmax=255)
    for spine in axes.spines.values():
        spine.set(color=colour, linewidth=2.5)
    axes.set_title(caption, fontsize=9, color=text, pad=3.5)


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    lead: str,
    columns: Sequence[str],
    rows: Sequence[Row],
    notes: Sequence[str],
    pictures: Sequence[Picture],
    details: Mapping[str, str],
) -> None:
    """Write a page that needs no other file and no network.

    Args:
        path: the HTML file.
        title, lead: what it is about, and the result in a sentence.
        columns, rows: a table of accuracies.
        notes: how to read the table.
        pictures: shown in order.
        details: name and value of everything that is needed to repeat the run.
    """
    template = files("quickstudy").joinpath("report.html.jinja").read_text("utf-8")
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(template)
    rendered = page.render(
        title=title,
        lead=lead,
        columns=columns,
        rows=[(row.name, [(percent(e), 100 * e.mean) for e in row.estimates]) for row in rows],
        notes=notes,
        pictures=[(picture.caption, base64.b64encode(picture.png).decode()) for picture in pictures],
        details=details,
    )
    with atomic_write(path, "w") as file:
        file.write(rendered)
