"""Which domain inputs are of, by the endings of their files and by their looks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from quickstudy.cli.models import domain_of_files
from quickstudy.cli.named_pictures import source_of
from quickstudy.domains import DOMAINS
from quickstudy.modality import MODALITIES
from quickstudy.modality.recognition import domain_of_items, domain_of_names
from quickstudy.text.modality import Text


def test_a_domain_is_known_by_the_endings_of_its_files() -> None:
    for number, domain in enumerate(DOMAINS):
        before = {ending for name in DOMAINS[:number] for ending in MODALITIES[name].extensions}
        own = sorted(MODALITIES[domain].extensions - before)
        assert (
            not own or domain_of_names([f"a{own[0].upper()}", "notes.md"]) == domain_of_items([f"b{own[0]}"]) == domain
        )
    assert domain_of_names(["notes.md"]) == ""


@pytest.mark.parametrize(
    ("items", "domain"),
    [
        (None, "text"),
        (["lost", "card"], "text"),
        ([{"height": 1.0, "kind": "a"}], "tabular"),
        ([__file__], "image"),
        ([b"..."], "image"),
    ],
)
def test_a_domain_is_known_by_what_items_look_like(items: Any, domain: str) -> None:
    assert domain_of_items(items) == domain


def test_a_table_of_names_of_sounds_is_one_of_sounds(tmp_path: Path) -> None:
    Path(tmp_path, "a.wav").write_bytes(b"")
    Path(tmp_path, "sounds.csv").write_text("file,label\na.wav,x\n", "utf-8")
    Path(tmp_path, "rows.csv").write_text("height,width,label\n1,2,x\n", "utf-8")
    Path(tmp_path, "texts.csv").write_text("text\na lost card\n", "utf-8")
    found = [domain_of_files(str(tmp_path / name)) for name in ("sounds.csv", "rows.csv", "texts.csv")]
    assert found == ["audio", "tabular", "text"]


def test_a_text_in_place_of_a_folder_is_an_input(tmp_path: Path) -> None:
    long = 400 * "a lost card "
    assert source_of("a lost card", None, Text()) == (["a lost card"], None) and source_of(long, None, Text())[0] == [
        long
    ]
    folder = tmp_path / "some texts"
    folder.mkdir()
    (folder / "a.txt").write_text("lost", "utf-8")
    assert len(source_of(str(folder), None, Text())[0]) == 1
