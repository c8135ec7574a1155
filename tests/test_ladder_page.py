"""The page of a ladder: all that it is told stands there, and nothing of it is markup."""

from __future__ import annotations

import html
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from quickstudy.ladder import Record, climb
from quickstudy.ladder.comparing import chosen
from quickstudy.ladder.page import Confused, Doubted, Estimate, OfClass, OnPage, Page, Point, Shown, _curves, write_page
from quickstudy.ladder.report import PAGE, Answers, doubts, page_of
from quickstudy.learning.checks import Finding
from quickstudy.training.datamodule import DataModule

EVIL = "<script>alert(1)</script>\"'&"
SHOTS = ("1", "5", "all (24)")


def rung(name: str, *means: float | None, **options: object) -> OnPage:
    """Return a rung of these accuracies."""
    points = [Point(at, None if mean is None else Estimate(mean, 0.05)) for at, mean in zip(SHOTS, means, strict=True)]
    return replace(OnPage(name, f"about {name}", points), **options)  # type: ignore[arg-type]


def page(name: str = "cat", picture: bytes = b"\x89PNG") -> Page:
    """Return a page of everything there may be, with one name wherever a user gives one."""
    example, text = Shown(f"{name}/1.png", picture, "image/png"), Shown(name, name.encode())
    return Page(
        title=name,
        sentence=f"linear_probe on {name}: 94.1 ± 0.8.",
        rungs=[
            rung("linear_probe", 0.7, 0.9, 0.94, chosen=True, seconds=2.0, embedding=1.0, megabytes=12.0),
            rung(f"whole {name}", 0.6, 0.91, None, difference=Estimate(0.004, 0.009), transductive=True),
            rung(
                "commonest",
                0.05,
                0.05,
                0.05,
                baseline=True,
                of_classes=[("5", Estimate(0.2, 0.01), 0.04, Estimate(-0.1, 0.02))],
            ),
        ],
        facts=[("data", name)],
        findings=[(Finding("labels", name), [[example, text]]), (Finding("repeated", f"kept {name}"), [])],
        judged=f"Of {name}.",
        classes=[OfClass(name, Estimate(0.5, 0.3), 10)] * 13,
        confusion=picture,
        confused=[Confused(name, name, 3, 0.3, [example, text])],
        doubted=[Doubted(example, name, 0.02, name)],
        notes=[name],
    )


class _Tags(HTMLParser):
    """What elements a page has, and where they lead."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.leads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.tags.append(tag)
        self.leads += [value or "" for name, value in attrs if name in ("src", "href", "action")]


def test_a_page_tells_all_and_needs_nothing_else(tmp_path: Path) -> None:
    """The sentence stands first, each rung has its figures, what was not measured a dash, and no address is fetched."""
    write_page(tmp_path / "ladder.html", page())
    written = (tmp_path / "ladder.html").read_text("utf-8")
    assert written.index("linear_probe on cat: 94.1 ± 0.8.") < written.index("<section")
    for each in (
        "94.0 ± 5.0",
        "+0.4 ± 0.9",
        "20.0 ± 1.0",
        "± 4.0",
        "looks like <b>cat</b>",
        "50.0 ± 30.0",
        'data-at="against chosen">+0.4',
        "In brackets: how probable that label seemed",
        "1 more",
        '<td class="number first" data-at="at all (24)">–',
    ):
        assert each in written, each
    assert written.count("<polyline") == 3 and written.count("<path") == 8 + 3
    tags = _Tags()
    tags.feed(written)
    assert tags.leads and all(each.startswith("data:image/png;base64,") for each in tags.leads)
    assert not re.search(r"https?:|url\(|@import", written)


def test_no_two_curves_look_the_same_and_colours_tell_no_encoder() -> None:
    """Of 12 rungs on two encoders, and two to be beaten: a rung by its colour and its mark, an encoder by neither."""
    names = [f"rung_{number}" for number in range(12)]
    rungs = [rung(name, 0.1, 0.2, 0.3, rung=name, baseline=True) for name in ("commonest", "raw")]
    rungs += [rung(f"{name} on {on}", 0.5, 0.6, 0.7, rung=name, backbone=on) for name in names for on in ("a", "b")]
    drawn = [(each.colour, each.mark, each.hollow, each.dash) for each in _curves(rungs)]
    assert len(set(drawn)) == 26 and all(one[:2] != other[:2] for one, other in pairwise(drawn[2::2]))
    encoders = [{look[2:] for look in drawn[2:][start::2]} for start in (0, 1)]
    assert encoders[0].isdisjoint(encoders[1]) and {look[3] for look in drawn[:2]} == {"1 3"}


def test_no_name_of_a_user_is_markup(tmp_path: Path) -> None:
    """Wherever a name stands, it is read as it was written; the page has the same elements as with any other."""
    found = []
    for name in ("cat", EVIL):
        write_page(tmp_path / "ladder.html", page(name))
        tags = _Tags()
        tags.feed((tmp_path / "ladder.html").read_text("utf-8"))
        found.append(tags.tags)
    assert found[0] == found[1] and "script" not in found[1]


def test_a_page_of_nothing_yet_is_a_page(tmp_path: Path) -> None:
    """Of a ladder that was left before a rung was climbed, or of figures that are no numbers."""
    write_page(tmp_path / "ladder.html", Page("cat", "Nothing can be recommended yet.", []))
    lost = float("nan")
    write_page(
        tmp_path / "other.html",
        Page(
            "cat",
            "Nothing.",
            [OnPage("one", "", [Point("1", Estimate(lost, lost))])],
            classes=[OfClass("a", Estimate(lost, lost), 0)],
        ),
    )
    assert "Nothing can be recommended yet." in (tmp_path / "ladder.html").read_text("utf-8")
    assert "nan" not in (tmp_path / "other.html").read_text("utf-8")


def test_a_record_makes_the_page_with_repetitions_kept_apart_and_wrong_labels_first(tmp_path: Path) -> None:
    """Of two classes one example lies there twice, and one under the wrong label: no draw divides what is the same."""
    inputs = torch.eye(2).repeat_interleave(12, 0) + 0.1 * torch.randn(
        24, 2, generator=torch.Generator().manual_seed(0)
    )
    inputs[3] = inputs[2]
    labels = ["bird"] * 5 + ["fish"] + ["bird"] * 6 + ["fish"] * 12
    data = DataModule.from_tensors(train_data=inputs, train_targets=labels)
    rungs = ["commonest", "nearest_centroid"]
    found = climb(data, backbones=[nn.Flatten()], rungs=rungs, shots=[1, 2], draws=6, episodes=0, out=tmp_path)
    record = Record.read(tmp_path)
    assert [each.check for each in record.findings.values()] == ["repeated", "few"]
    assert next(iter(record.findings.values())).rows == ((2, 3),)
    assert not any({2, 3} & {*draw.support} and {2, 3} & {*draw.queries} for draw in record.draws.values())
    doubted = page_of(record, chosen(record)).doubted
    assert doubted[0].example.name == "input 5" and (doubted[0].label, doubted[0].answered) == ("fish", "bird")
    written = (tmp_path / PAGE).read_text("utf-8")
    assert html.escape(found.sentence) in written and "Labels that look wrong" in written


def test_doubts_are_ranked_by_the_mean_probability_of_the_label() -> None:
    """What is mostly taken for its label is no doubt, however unsure."""
    given = Answers(
        np.array([0, 0, 1, 2, 2, 2]), np.array([1, 1, 0, 0, 0, 1]), np.array([0.3, 0.1, 0.1, 0.4, 0.4, 0.1])
    )
    assert doubts(given, np.array([0, 1, 1])) == [(1, 0.1, 0), (0, 0.2, 1), (2, pytest.approx(0.3), 0)]
    assert doubts(given, np.array([0, 0, 0])) == [(0, 0.2, 1)]


def test_pictures_of_several_frames_or_views_are_larger(tmp_path: Path) -> None:
    for size, several in (((96, 64), False), ((288, 96), True)):
        content = io.BytesIO()
        Image.new("RGB", size).save(content, "PNG")
        write_page(tmp_path / "x.html", page(picture=content.getvalue()))
        assert ('<img class="several"' in (tmp_path / "x.html").read_text()) is several
