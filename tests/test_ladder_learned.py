"""Rungs of the ladder whose encoder learns before it is asked: contrastive fine-tuning, and meta-training."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import quickstudy
from quickstudy import DataModule, Predictor
from quickstudy.ladder import Ladder, available_rungs
from quickstudy.ladder.comparing import accuracy
from quickstudy.ladder.record import ALL, Key


def hidden(classes: Sequence[int], each: int = 20, seed: int = 0) -> DataModule:
    """Return numbers of which the first six tell the class, and the others are louder."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.arange(len(classes)).repeat_interleave(each)
    means = torch.randn(100, 6, generator=torch.Generator().manual_seed(7))[list(classes)]
    inputs = torch.randn(len(codes), 18, generator=generator) * torch.tensor([0.3] * 6 + [2.0] * 12)
    inputs[:, :6] += means[codes]
    return DataModule.from_tensors(train_data=inputs, train_targets=[f"class {classes[code]:02d}" for code in codes])


def network() -> nn.Module:
    generator = torch.random.get_rng_state()
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(18, 16), nn.ReLU(), nn.Linear(16, 12))
    torch.random.set_rng_state(generator)
    return made


def climbed(data: Any, rungs: Sequence[str], **options: Any) -> Ladder:
    options = {"backbones": [network()], "shots": (1,), "draws": 2, "episodes": 0, **options}
    found: Ladder = quickstudy.ladder(data, rungs=rungs, **options)
    return found


# ---- contrastive


def test_a_backbone_learns_to_draw_each_class_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quickstudy.ladder.finetuning._PAIRING_RATE", 1e-2)
    backbone, rungs = network(), ["linear_probe", "contrastive"]
    before = copy.deepcopy(backbone.state_dict())
    found = climbed(hidden(range(4)), rungs, backbones=[backbone], out=tmp_path)
    assert all(torch.equal(before[name], value) for name, value in backbone.state_dict().items())
    record, (probe, drawn) = found.record, (Key(name, "Sequential") for name in rungs)
    for number in range(2):  # of one example of each class there is no pair, and nothing to train
        assert record.results[drawn, 1, number].answers == record.results[probe, 1, number].answers
    assert accuracy(record, probe, ALL).mean < 0.6 and accuracy(record, drawn, ALL).mean > 0.8
    assert found.choice is not None and found.choice.key == drawn and isinstance(found.predictor, Predictor)
    asked = hidden(range(4), seed=1)
    inputs, labels = asked.table("train").inputs, asked.table("train").told  # type: ignore[union-attr]
    read = Predictor.load(tmp_path / "model", backbone=network())
    assert read.predict(inputs) == found.predictor.predict(inputs) and read.score(inputs, labels) > 0.8
    assert climbed(hidden(range(4)), rungs, backbones=[backbone], out=tmp_path).sentence == found.sentence


def test_texts_are_climbed_contrastively_and_others_by_name() -> None:
    slow = [set(available_rungs(domain=domain)) - set(available_rungs(False, domain)) for domain in ("text", "image")]
    assert slow[0] - slow[1] == {"contrastive"} and "contrastive" in available_rungs()
