"""What a person looks at: the picture of an episode, and a self-contained HTML page of results."""

from __future__ import annotations

import base64
import io
import math
import os
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

import jinja2
import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.files import atomic_write
from quickstudy.kinds.base import ACCURACY, Score
from quickstudy.kinds.metrics import Estimate
from quickstudy.runs.results import estimate_of
from quickstudy.training.outcome import NO_NUMBER, in_percent, worst_first

_SHOWN, _RIGHT, _WRONG = "#3867d6", "#1e8e3e", "#d93025"
NAMED = 30
"""Classes in a picture whose names can be read."""
_LONGEST = 24  # letters of a name in a picture
_TEXT_WIDTH, _TEXT_LETTERS, _TEXT_LINES = 2.4, 40, 6  # of a text in a picture: inches, and letters of a line
_CAPTION_LETTERS, _CAPTION_WIDTH, _CAPTION_LINE = 15, 1.6, 0.16  # of an inch; inches of a tile with a long one
_CAPTION_LINES, _TITLE_LETTERS = 3, 9  # at most; of an inch
_COLOURS, _MARKS = 20, "os^D"  # of classes in a picture
_SHOWN_AT_ONCE = 12  # lines of a listing
_MARK = "The black mark on a bar is guessing, which needs no look at the inputs."


class Row(NamedTuple):
    """One line of a table of results: a name, and an estimate per column."""

    name: str
    estimates: Sequence[Estimate]
    chance: float | None = None
    """What guessing is right in, from 0 to 1, where that is known."""
    also: str = ""
    """What stands below the first estimate."""


class Picture(NamedTuple):
    """PNGs or JPEGs with their caption, side by side where there is room."""

    caption: str
    png: bytes
    beside: Sequence[bytes] = ()
    wide: bool = False
    """Whether it is too fine to be shown smaller than it is: a narrow screen scrolls it."""


class Listing(NamedTuple):
    """A table of many lines, of which the first stand on the page and the rest unfold."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    shares: Sequence[float | None]
    """By row, what is drawn as a bar below its second cell, from 0 to 1."""
    note: str = ""


def told(estimate: Estimate, score: Score = ACCURACY) -> str:
    """Return a score with its interval; a share in percent, such as ``"68.2 ± 0.7"`` or ``"0.0 (0.0 to 49.0)"``."""
    return score.estimate(*estimate[:2], lambda each: _value(each, score))


def _value(value: float, score: Score) -> str:
    return "unknown" if not math.isfinite(value) else f"{100 * value:.1f}" if score.share else score.text(value)


def episode_picture(
    support: Sequence[Tensor | str],
    support_labels: Sequence[str],
    query: Sequence[Tensor | str],
    query_labels: Sequence[str],
    predicted: Sequence[str],
    confidence: Sequence[float],
    title: str,
) -> bytes:
    """Draw a support set and the queries beside it, each framed by whether it was classified rightly.

    Args:
        support: S images ``[C, H, W]``, uint8, or S texts.
        support_labels: S short labels; rows are in the order of their first appearance.
        query: Q of them.
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
    marks = ["✓" if answer == true else "✗" for answer, true in zip(predicted, query_labels, strict=True)]
    told = [f"{mark} {one} {100 * sure:.0f}%" for mark, one, sure in zip(marks, predicted, confidence, strict=True)]
    this = [f"this is {name}" for name in classes]
    width = _TEXT_WIDTH if isinstance(support[0], str) else 1.0
    if max(map(len, [*told, *this])) > width * _CAPTION_LETTERS:
        width = max(width, _CAPTION_WIDTH)
    told, this = ([_wrapped(each, int(width * _CAPTION_LETTERS)) for each in some] for some in (told, this))
    more = max(each.count("\n") for each in [*told, *this]) * _CAPTION_LINE  # inches of a row
    across = width * columns + 1.1
    title = _wrapped(title, int(across * _TITLE_LETTERS))
    above = 1.0 + more + title.count("\n") * 0.2
    figure = Figure(figsize=(across, (1.24 + more) * len(classes) + above + 0.25), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    spaces = {"wspace": 0.14, "hspace": 0.42 + more / 0.87}
    grid = figure.subplots(len(classes), columns, squeeze=False, gridspec_kw=spaces)
    figure.subplots_adjust(left=0.03, right=0.97, bottom=0.03, top=1 - above / figure.get_figheight())
    figure.suptitle(title, fontsize=12, fontweight="bold", x=0.03, ha="left", y=1 - 0.16 / figure.get_figheight())
    for axes in grid.flat:
        axes.set_axis_off()
    for row, name in enumerate(classes):
        for column, index in enumerate(known[row]):
            _tile(grid[row, column], support[index], _SHOWN, this[row], _SHOWN)
        for column, index in enumerate(asked[row]):
            colour = _RIGHT if predicted[index] == name else _WRONG
            _tile(grid[row, shots + column], query[index], colour, told[index], "black")
    for column, text in ((0, "shown"), (shots, "asked: what the model answers, and how sure it is")):
        box = grid[0, column].get_position()
        figure.text(
            box.x0, box.y1 + (0.38 + more) / figure.get_figheight(), text, fontsize=9.5, color="#555555", va="bottom"
        )
    return _png(figure)


def curves_picture(
    rows: Sequence[Mapping[str, float]], drawn: Sequence[str] = ("loss", "accuracy"), score: Score = ACCURACY
) -> bytes:
    """Draw how loss and score went, in training and validation.

    Args:
        rows: of figures by name, each with its ``step``; ``train_loss``, ``val_accuracy`` and so on are drawn.
        drawn: which figures, side by side.
        score: one of them, with intervals; those of a share end at 0 and 1.

    Returns:
        A PNG.
    """
    figure = Figure(figsize=(5 * len(drawn), 3.8), dpi=110, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    for axes, what in zip(figure.subplots(1, len(drawn), squeeze=False).flat, drawn, strict=True):
        for stage, colour, word in (("train", "#9aa3b5", "training"), ("val", _SHOWN, "validation")):
            name = f"{stage}_{what}"
            found = [row for row in rows if name in row]
            steps = [row["step"] + 1 for row in found]
            values = np.array([row[name] for row in found])
            axes.plot(steps, values, color=colour, label=word if found else None, marker="o", markersize=3)
            if found and all(f"{name}_ci95" in row for row in found):
                half = np.array([row[f"{name}_ci95"] for row in found])
                ends = np.stack([values - half, values + half])
                low, high = ends.clip(0, 1) if score.share and what == score.name else ends
                axes.fill_between(steps, low, high, color=colour, alpha=0.18, linewidth=0)
        axes.set(title=what.replace("_", " "), xlabel="step")
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        if axes.dataLim.width == 0 and axes.lines:  # of one step, whose neighbours matplotlib would show in parts
            axes.set_xticks(sorted({float(x) for line in axes.lines for x in np.asarray(line.get_xdata())}))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)
    return _png(figure)


def confusion_picture(matrix: NDArray[np.int64], classes: Sequence[str]) -> bytes:
    """Draw which classes (rows) were taken for which (columns), in percent of each row.

    Args:
        matrix: ``[C, C + 1]``, how often; the last column is of answers that are no number, drawn if there are any.
        classes: C names; of more than ``NAMED``, they are left out.

    Returns:
        A PNG.
    """
    columns = [*classes, NO_NUMBER] if matrix[:, -1].any() else list(classes)
    matrix = matrix[:, : len(columns)]
    shares = 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    named = len(classes) <= NAMED
    side = max(0.42 * len(columns), 1.7) if named else 4.6
    figure = Figure(figsize=(side, side), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))  # names stand outside of it
    norm = PowerNorm(1 if named else 0.5, 0, 100)  # what is rare among many is to be seen
    drawn = axes.imshow(shares, cmap="Blues", norm=norm, interpolation="nearest")
    axes.set(xlabel="answered", ylabel="class")
    if named:
        axes.set_xticks(range(len(columns)), [_short(name) for name in columns], rotation=90, fontsize=9)
        axes.set_yticks(range(len(classes)), [_short(name) for name in classes], fontsize=9)
        for row, column in np.argwhere(shares >= 0.5):
            colour = "white" if shares[row, column] > 55 else "#1c2230"
            text = f"{shares[row, column]:.0f}"
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    else:
        figure.colorbar(drawn, ax=axes, shrink=0.7, label="% of the class")
    return _png(figure, bbox_inches="tight")


def bars_picture(bars: Sequence[tuple[str, float, float]], told: str) -> bytes:
    """Draw values with their intervals, the first on top.

    Args:
        bars: of each its name, the value and the half-width of its interval.
        told: what the values are.

    Returns:
        A PNG.
    """
    figure = Figure(figsize=(6.4, 0.8 + 0.3 * len(bars)), dpi=110, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    places, values = range(len(bars)), [value for _, value, _ in bars]
    axes.barh(places, values, xerr=[half for *_, half in bars], color=_SHOWN, ecolor="#1c2230", capsize=2, height=0.7)
    axes.set_yticks(places, [_short(name) for name, *_ in bars], fontsize=9)
    axes.invert_yaxis()
    axes.axvline(0, color="#9aa3b5", linewidth=1)
    axes.set_xlabel(told)
    axes.spines[["top", "right"]].set_visible(False)
    return _png(figure)


def scatter_picture(points: NDArray[Any], labels: Sequence[str] | None, told: str) -> bytes:
    """Draw points in a plane, coloured by class; of up to ``NAMED`` classes each has its name beside it.

    Args:
        points: ``[N, 2]``.
        labels: ``[N]``, their classes; None: all are drawn alike.
        told: what they are.

    Returns:
        A PNG.
    """
    names = [""] if labels is None else sorted(set(labels))
    named = labels is not None and len(names) <= NAMED
    figure = Figure(figsize=(7.6 if named else 6, 6), dpi=110, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    colours = colormaps["tab20" if len(names) <= _COLOURS else "hsv"]
    size = float(np.clip(6000 / max(len(points), 1), 6, 36))
    classes = None if labels is None else np.asarray(labels)
    for number, name in enumerate(names):
        own = points if classes is None else points[classes == name]
        colour = (
            _SHOWN if labels is None else colours(number % _COLOURS if len(names) <= _COLOURS else number / len(names))
        )
        # Beyond the colours that eyes tell apart, marks differ too.
        mark = _MARKS[number % len(_MARKS)] if len(names) > 10 else "o"
        word = _short(name) if named else None
        axes.scatter(own[:, 0], own[:, 1], size, color=colour, marker=mark, alpha=0.8, linewidths=0, label=word)
    axes.set_title(told, fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_aspect("equal", "datalim")
    if named:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8, markerscale=36 / size / 1.4)
    return _png(figure)


def class_listing(figures: Mapping[str, Mapping[str, Any]]) -> Listing:
    """List the figures of classes, or of labels, the worst first."""
    of_labels = any("f1" in each for each in figures.values())
    key = "f1" if of_labels else "accuracy"
    ordered = worst_first(figures)
    chosen = any("threshold" in each for each in figures.values())
    columns = ("F1", "precision", "recall", "examples") if of_labels else ("accuracy", "examples asked")
    rows = []
    for name, each in ordered.items():
        parts = ("f1", "precision", "recall")
        cells = [in_percent(each, part) for part in parts] if of_labels else [told(estimate_of(each))]
        rows.append([name, *cells, str(each["examples"]), *([f"{each['threshold']:.3g}"] if chosen else [])])
    what = "label" if of_labels else "class"
    shares = [each[key] for each in ordered.values()]
    note = "" if of_labels else "The interval of a class covers the draw of its episodes, or examples, only."
    if chosen:
        columns, note = (*columns, "named above"), "A label is named whose probability is above the last column's."
    return Listing(f"Each {what}, the worst first, in percent", [what, *columns], rows, shares, note)


def parts_listing(parts: Mapping[str, Estimate], score: Score) -> Listing:
    """List what a mean over classes is of, in the order that is given."""

    def text(each: Estimate) -> str:
        return told(each, score) if each.ci95 > 0 else _value(each.mean, score)

    rows = [[name, text(each)] for name, each in parts.items()]
    return Listing(
        f"Each class of the best validation, the worst first{', in percent' * score.share}",
        ["class", score.called.removeprefix("mean ").removeprefix("m")],
        rows,
        [each.mean if score.share else None for each in parts.values()],
    )


_SHARES = {"ap": "average precision", "iou": "IoU", "recall": "recall", "precision": "precision"}
_COUNTS = ("objects", "hits", "misses", "false_alarms", "pixels")


def found_listing(figures: Mapping[str, Mapping[str, Any]], note: str) -> Listing:
    """List what a test found of each class, in the order that is given: shares in percent, and counts.

    Args:
        figures: by class; see ``Kind.found_per_class``.
        note: what they are of.
    """

    def cell(each: Mapping[str, Any], name: str) -> str:
        if each.get(name) is None:
            return "none"
        half = each.get(f"{name}_ci95")
        return _percent(each[name]) if half is None else told(Estimate(each[name], half, 0))

    shares = [name for name in _SHARES if any(name in each for each in figures.values())]
    counts = [name for name in _COUNTS if any(name in each for each in figures.values())]
    rows = [
        [name, *(cell(each, share) for share in shares), *(f"{each.get(count, 0):,}" for count in counts)]
        for name, each in figures.items()
    ]
    columns = ["class", *(_SHARES[name] for name in shares), *(name.replace("_", " ") for name in counts)]
    bars = [each.get(shares[0]) for each in figures.values()]
    return Listing("Each class of the test, the worst first, shares in percent", columns, rows, bars, note)


def confusion_listing(confusions: Sequence[Mapping[str, Any]]) -> Listing:
    """List what was taken for what, most often first."""
    rows = [[each["class"], _percent(each["share"]), each["answer"], str(each["count"])] for each in confusions]
    shares = [each["share"] for each in confusions]
    columns = ("class", "of its examples", "taken for", "times")
    return Listing("What was taken for what, most often first, in percent", columns, rows, shares)


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{100 * share:.1f}"


def _short(name: str) -> str:
    text = " ".join(name.split()).replace("$", r"\$")  # which matplotlib would take for the beginning of a formula
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _png(figure: Figure, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # names in a script that the typeface lacks
        figure.savefig(buffer, format="png", **options)
    return buffer.getvalue()


def _wrapped(text: str, letters: int) -> str:
    """Return words on lines of so many letters; of more than fit, the first and the last, which tells how sure."""
    lines = textwrap.wrap(text, letters)
    if len(lines) > _CAPTION_LINES:
        last = text.rpartition(" ")[2]
        room = _CAPTION_LINES * letters - len(last) - letters // 2
        lines = textwrap.wrap(f"{text[:room].rstrip()}… {last}", letters)
    return "\n".join(lines)


def _tile(axes: object, image: Tensor | str, colour: str, caption: str, text: str) -> None:
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    axes.set_axis_on()
    axes.set(xticks=[], yticks=[])
    if isinstance(image, str):
        wrapped = "\n".join(textwrap.wrap(image.replace("$", r"\$"), _TEXT_LETTERS, max_lines=_TEXT_LINES))
        axes.text(0.5, 0.5, wrapped, fontsize=7, ha="center", va="center", transform=axes.transAxes)
    else:
        pixels = image.permute(1, 2, 0).numpy()
        grey = pixels.shape[2] == 1
        axes.imshow(np.squeeze(pixels, 2) if grey else pixels, cmap="gray_r" if grey else None, vmin=0, vmax=255)
    for spine in axes.spines.values():
        spine.set(color=colour, linewidth=2.5)
    axes.set_title(caption, fontsize=9, color=text, pad=3.5)


def _base64(png: bytes) -> str:
    return base64.b64encode(png).decode()


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
    cautions: Sequence[str] = (),
    listings: Sequence[Listing] = (),
    score: Score = ACCURACY,
) -> None:
    """Write a page that needs no other file and no network.

    Args:
        path: the HTML file.
        title, lead: what it is about, and the result in a sentence.
        columns, rows: a table of scores.
        notes: how to read the table.
        pictures: shown in order.
        details: name and value of everything that is needed to repeat the run.
        cautions: what must be known before the figures are believed.
        listings: tables, after the pictures.
        score: what the table is of.
    """
    template = files("quickstudy.runs").joinpath("report.html.jinja").read_text("utf-8")
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(template)
    rendered = page.render(
        title=title,
        lead=lead,
        columns=columns,
        heading=f"{score.titled}{', in percent' if score.share else ''}",
        rows=[
            (row.name, [(told(e, score), 100 * e.mean) for e in row.estimates], row.chance, row.also) for row in rows
        ],
        bars=score.share,
        notes=[*notes, *[_MARK] * (score.share and any(row.chance is not None for row in rows))],
        cautions=cautions,
        pictures=[(each.caption, [_base64(png) for png in (each.png, *each.beside)], each.wide) for each in pictures],
        listings=[(each, list(zip(each.rows, each.shares, strict=True))) for each in listings],
        shown=_SHOWN_AT_ONCE,
        details=details,
    )
    with atomic_write(path, "w") as file:
        file.write(rendered)
