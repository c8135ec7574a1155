"""The page of a ladder: one file that needs no other and no network, for a wide screen and a narrow one, light or dark.

It is made of plain values: whatever has them (the record of a ladder) makes a ``Page``, and the template escapes every
name that a user gave.
"""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import NamedTuple

import jinja2

from quickstudy.files import atomic_write
from quickstudy.learning.checks import Finding
from quickstudy.modality.thumbnails import has_several

_WIDE, _HIGH = 720.0, 440.0  # of the picture of curves, in its own units
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 14.0, 12.0, 40.0
_KEY_WIDE, _KEY_HIGH = 40.0, 16.0  # of a line of the key
_COLOURS = 7  # in the template, told apart by the colour-blind; of five marks, so that 35 rungs differ in one of both
_GREY = 7  # the colour of what is there to be beaten
_MARKS = (
    "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0z",
    "M-3.6,-3.6h7.2v7.2h-7.2z",
    "M0,-4.8l4.8,8.4h-9.6z",
    "M0,-5.2l5.2,5.2l-5.2,5.2l-5.2,-5.2z",
    "M0,4.8l4.8,-8.4h-9.6z",
)
"""Circle, square, triangle, diamond, triangle upside down, about 0."""
_DASHES = ("", "8 4", "2 4", "10 3 2 3")
"""By encoder."""
_BANDS = 6  # curves, of more only the recommended one has its band


class Estimate(NamedTuple):
    """A share, or a difference of two, with the half-width of its 95% interval."""

    mean: float
    ci95: float


class Point(NamedTuple):
    """How accurate a rung is after so many examples."""

    at: str
    """What the examples of a class are called on the axis: ``"5"``, ``"all (24)"``."""
    estimate: Estimate | None
    """None: it was not measured."""


@dataclass(frozen=True)
class OnPage:
    """A rung, as the page tells of it.

    Args:
        name: unique among them.
        about: what it does, in words.
        points: one for each number of shots, the same for all rungs.
        difference: how much more accurate it is than the recommended one, on the same draws; None of this itself.
        of_classes: its accuracy in episodes of other classes, the half-width for classes of their kind, and how much
            more accurate it is there than the recommended one, in the episodes that both were asked.
        seconds: to learn and to answer once.
        embedding: seconds that all examples took to be embedded, once.
        training: seconds that its encoder took before, on other classes.
        megabytes: of a saved model; 0: it saves none.
        baseline: whether it is there to be beaten.
        transductive: whether an answer depends on what else is asked.
        chosen: whether it is recommended.
        rung, backbone: what it does and what embeds, by which it is drawn; default: nothing has these in common.
    """

    name: str
    about: str
    points: Sequence[Point]
    difference: Estimate | None = None
    of_classes: Sequence[tuple[str, Estimate, float, Estimate | None]] = ()
    seconds: float = 0.0
    embedding: float = 0.0
    training: float = 0.0
    megabytes: float = 0.0
    baseline: bool = False
    transductive: bool = False
    chosen: bool = False
    rung: str = ""
    backbone: str = ""


class Shown(NamedTuple):
    """An example for eyes."""

    name: str
    content: bytes
    """Of a picture, or of a text in UTF-8; nothing: there is its name alone."""
    media: str = "text/plain"


class OfClass(NamedTuple):
    """How well a class is recognised."""

    name: str
    accuracy: Estimate
    asked: int
    """Answers that this is the mean of."""


class Confused(NamedTuple):
    """A class that is taken for another, and examples."""

    name: str
    taken_for: str
    times: int
    share: float
    """Of what was asked of the class."""
    examples: Sequence[Shown] = ()
    """Of the class, that were so taken."""


class Doubted(NamedTuple):
    """An example whose label looks wrong."""

    example: Shown
    label: str
    own: float
    """Mean probability of its label, over draws that it was asked in and not learned from."""
    answered: str
    """What it is taken for most often."""


@dataclass(frozen=True)
class Page:
    """All that the page of a ladder tells.

    Args:
        title: of the data.
        sentence: what is recommended, and why.
        rungs: in the order in which they were climbed.
        facts: name and value of what the data and the draws are.
        findings: of the checks; each with examples of some of its rows, side by side those that belong together.
        judged: what classes, confusions and doubts are of: the rung, and after how many examples.
        classes: the worst first.
        confusion: a PNG; nothing: there is none.
        confused: most often first.
        doubted: the least likely label first.
        notes: what the numbers mean.
    """

    title: str
    sentence: str
    rungs: Sequence[OnPage]
    facts: Sequence[tuple[str, str]] = ()
    findings: Sequence[tuple[Finding, Sequence[Sequence[Shown]]]] = ()
    judged: str = ""
    classes: Sequence[OfClass] = ()
    confusion: bytes = b""
    confused: Sequence[Confused] = ()
    doubted: Sequence[Doubted] = ()
    notes: Sequence[str] = field(default_factory=tuple)


class _Curve(NamedTuple):
    """A rung in the picture: where its points lie, its interval, and how it is told from others without colours."""

    rung: OnPage
    colour: int
    mark: str
    """Its form, a path about 0."""
    hollow: bool
    dash: str
    line: str
    band: str
    dots: Sequence[tuple[float, float, str]]


def write_page(path: str | os.PathLike[str], page: Page) -> None:
    """Write a page that needs no other file and no network.

    Args:
        path: the HTML file.
        page: what it tells.
    """
    template = files("quickstudy.ladder").joinpath("page.html.jinja").read_text("utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters.update(
        points=_points, estimate=told, data=_data, clock=_clock, several=lambda shown: has_several(shown.content)
    )
    ticks = [point.at for point in page.rungs[0].points] if page.rungs else []
    rendered = environment.from_string(template).render(
        page=page,
        ticks=[(_across(place, len(ticks)), name) for place, name in enumerate(ticks)],
        levels=[(_down(level / 100, (0.0, 1.0)), level) for level in range(0, 101, 20)],
        curves=_curves(page.rungs),
        size=(_WIDE, _HIGH, _LEFT, _RIGHT, _TOP, _BOTTOM),
        key=(_KEY_WIDE, _KEY_HIGH),
    )
    with atomic_write(path, "w") as file:
        file.write(rendered)


def told(estimate: Estimate | None, sign: bool = False) -> str:
    """Return a share in percent with its interval.

    >>> told(Estimate(0.9412, 0.008)), told(Estimate(0.004, 0.009), sign=True), told(None)
    ('94.1 ± 0.8', '+0.4 ± 0.9', '–')
    """
    if estimate is None or not math.isfinite(estimate.mean):
        return "–"
    half = f" ± {100 * estimate.ci95:.1f}" if math.isfinite(estimate.ci95) else ""
    return f"{100 * estimate.mean:{'+' if sign else ''}.1f}{half}"


def _points(share: float) -> str:
    return f"{100 * share:.1f}" if math.isfinite(share) else "–"


def _clock(seconds: float) -> str:
    """Return a time in few figures.

    >>> _clock(0.0012), _clock(2.34), _clock(75), _clock(7300)
    ('1.2 ms', '2.3 s', '75 s', '122 min')
    """
    if seconds < 0.1:
        return f"{1000 * seconds:.2g} ms"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"


def _data(shown: Shown | bytes) -> str:
    """Return a picture as an address that holds it."""
    content, media = (shown, "image/png") if isinstance(shown, bytes) else (shown.content, shown.media)
    return f"data:{media};base64,{base64.b64encode(content).decode()}"


def _across(place: int, count: int) -> float:
    return _LEFT + (_WIDE - _LEFT - _RIGHT) * (place + 0.5) / max(count, 1)


def _down(share: float, ends: tuple[float, float]) -> float:
    low, high = ends
    return _TOP + (_HIGH - _TOP - _BOTTOM) * (high - min(max(share, low), high)) / (high - low)


def _curves(rungs: Sequence[OnPage]) -> list[_Curve]:
    """Return how rungs are drawn: by colour and mark what each does, by dashes and hollow marks what embeds."""
    kinds = list(dict.fromkeys(each.rung or each.name for each in rungs if not each.baseline))
    encoders = list(dict.fromkeys(each.backbone for each in rungs if not each.baseline))
    baselines = [each.name for each in rungs if each.baseline]
    found = []
    for each in rungs:
        encoder = 0 if each.baseline else encoders.index(each.backbone)
        place = baselines.index(each.name) if each.baseline else kinds.index(each.rung or each.name)
        found.append(
            _Curve(
                each,
                _GREY if each.baseline else place % _COLOURS,
                _MARKS[place % len(_MARKS)],
                encoder % 2 > 0,
                "1 3" if each.baseline else _DASHES[encoder % len(_DASHES)],
                *_placed(each),
            )
        )
    return found if len(found) <= _BANDS else [each if each.rung.chosen else each._replace(band="") for each in found]


def _placed(rung: OnPage) -> tuple[str, str, list[tuple[float, float, str]]]:
    """Return the line, the band of the intervals, and the points in words."""
    ends = (0.0, 1.0)
    count = len(rung.points)
    upper, lower, middle, dots = [], [], [], []
    for at, point in enumerate(rung.points):
        if point.estimate is None or not math.isfinite(point.estimate.mean):
            continue
        x, (mean, half) = _across(at, count), point.estimate
        half = half if math.isfinite(half) else 0.0
        middle.append(f"{x:.1f},{_down(mean, ends):.1f}")
        upper.append(f"{x:.1f},{_down(mean + half, ends):.1f}")
        lower.append(f"{x:.1f},{_down(mean - half, ends):.1f}")
        dots.append((x, _down(mean, ends), f"{rung.name}, {point.at}: {told(point.estimate)}"))
    return " ".join(middle), " ".join([*upper, *reversed(lower)]), dots
