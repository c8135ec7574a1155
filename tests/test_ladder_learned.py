"""Rungs of the ladder whose encoder learns before it is asked: contrastive fine-tuning, and meta-training."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import quickstudy
from quickstudy import ConfigError, DataModule, Predictor
from quickstudy.data.table import Table
from quickstudy.ladder import RUNGS, Ladder, available_rungs
from quickstudy.ladder.comparing import accuracy, accuracy_of_classes
from quickstudy.ladder.examples import Embedded, Examples, Others, encoders_of
from quickstudy.ladder.metatraining import apart_from
from quickstudy.ladder.opening import data_class
from quickstudy.ladder.record import ALL, Key

META = ["prototypicalnetworks", "metaoptnet", "anil", "maml"]


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
    monkeypatch.setattr("quickstudy.ladder.finetuning._PAIRING_RATE", 3e-2)
    backbone, rungs = network(), ["linear_probe", "contrastive"]
    before = copy.deepcopy(backbone.state_dict())
    found = climbed(hidden(range(4)), rungs, backbones=[backbone], draws=3, out=tmp_path)
    assert all(torch.equal(before[name], value) for name, value in backbone.state_dict().items())
    record, (probe, drawn) = found.record, (Key(name, "Sequential") for name in rungs)
    for number in range(2):  # of one example of each class there is no pair, and nothing to train
        assert record.results[drawn, 1, number].answers == record.results[probe, 1, number].answers
    assert accuracy(record, drawn, ALL).mean > accuracy(record, probe, ALL).mean + 0.15
    assert found.choice is not None and found.choice.key == drawn and isinstance(found.predictor, Predictor)
    asked = hidden(range(4), seed=1)
    inputs, labels = asked.table("train").inputs, asked.table("train").told  # type: ignore[union-attr]
    read = Predictor.load(tmp_path / "model", backbone=network())
    assert read.predict(inputs) == found.predictor.predict(inputs) and read.score(inputs, labels) > 0.7
    assert climbed(hidden(range(4)), rungs, backbones=[backbone], draws=3, out=tmp_path).sentence == found.sentence


def test_texts_are_climbed_contrastively_and_others_by_name() -> None:
    slow = [set(available_rungs(domain=domain)) - set(available_rungs(False, domain)) for domain in ("text", "image")]
    assert slow[0] - slow[1] == {"contrastive"} and "contrastive" in available_rungs()
    by_meta_train = set(available_rungs(False, "text", meta=True)) - set(available_rungs(False, "text"))
    assert by_meta_train == {*META} <= slow[1] and "r2d2" in available_rungs()


# ---- meta-training


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quickstudy.ladder.metatraining.STEPS_FROM_NOTHING", 40)
    monkeypatch.setattr("quickstudy.ladder.training.FEW", 3)
    monkeypatch.setattr("quickstudy.ladder.training._EPISODES", 5)


@pytest.mark.dear("ladder")
def test_an_encoder_learns_from_other_classes_what_to_look_at(tmp_path: Path, short: None) -> None:
    begun: list[str] = []
    options: dict[str, Any] = {"meta_train": hidden(range(20, 50)), "out": tmp_path, "episodes": 20}
    data, names = hidden(range(10)), ["nearest_centroid", *META]
    found = climbed(data, names, **options, begins=begun.append)
    record, (centroid, *trained) = found.record, [Key(name, "Sequential") for name in names]
    assert [line.split(":")[0] for line in begun] == META
    assert "600 tensors of 30 other classes: 40 episodes of 12 classes, 5 of each" in begun[0]
    for key in trained:
        assert record.steps[key].training_seconds > 0 and record.steps[key].draws == (3 if key.rung == "maml" else 0)
        asked = record.episodic[key, 1]
        assert len(asked.right) == (5 if key.rung == "maml" else 20) == len(asked.numbers or range(20))
    over = accuracy_of_classes(record, trained[0], 1, centroid)
    assert over is not None and over.mean > 2 * over.ci95 > 0
    assert found.choice is not None and found.choice.key == trained[0] and isinstance(found.predictor, Predictor)
    table = hidden(range(10), seed=1).table("train")
    assert table is not None
    read, inputs = Predictor.load(tmp_path / "model", backbone=network()), table.inputs
    assert read.predict(inputs) == found.predictor.predict(inputs) and read.score(inputs, table.told) > 0.25

    def refuses(*arguments: Any) -> None:
        raise AssertionError("it was trained before")

    with pytest.MonkeyPatch.context() as patch:  # the second climb finds the weights
        patch.setattr("quickstudy.training.task.Task.training_step", refuses)
        assert climbed(data, names, **options).sentence == found.sentence
    with pytest.raises(ConfigError, match="meta_train was"):
        climbed(data, names, out=tmp_path, episodes=20)


def test_what_trained_is_never_asked(short: None) -> None:
    """Of 20 classes one half trains, and the rung is asked in episodes of the other alone."""
    taught: list[set[str]] = []
    spied = pytest.MonkeyPatch()
    with spied.context() as patch:
        trains = DataModule.episode_loader

        def noted(self: DataModule, *arguments: Any, **options: Any) -> Any:
            table = self.table("train")
            taught.append(set() if table is None else {*table.classes})
            return trains(self, *arguments, **options)

        patch.setattr(DataModule, "episode_loader", noted)
        found = climbed(hidden(range(20), 8), ["nearest_centroid", "prototypicalnetworks"], episodes=20)
    record, classes = found.record, found.record.asked.classes
    key = Key("prototypicalnetworks", "Sequential")
    numbers = record.episodic[key, 1].numbers
    asked = {classes[code] for number in numbers for code in record.episodes[1].classes[number]}
    assert len(numbers) == 10 and len(taught[0]) == 10 and not asked & taught[0] and asked | taught[0] == {*classes}
    assert not any(of == key for of, _, _ in record.results) and found.choice is not None
    assert found.choice.key.rung == "nearest_centroid"
    assert "prototypicalnetworks, meta-trained on half of these classes" in str(found)
    few = climbed(hidden(range(19), 8), ["nearest_centroid", "maml"], episodes=20)
    assert few.skipped == {
        "maml": "no other classes to meta-train on: give --meta_train FOLDER, or 4 times --ways classes"
    }


def test_classes_that_are_asked_do_not_train(short: None) -> None:
    inputs = torch.randn(24, 18, generator=torch.Generator().manual_seed(0))
    asked = DataModule.from_tensors(train_data=inputs[:12], train_targets=["Cat", "dog", "cow"] * 4)
    others = DataModule.from_tensors(
        train_data=torch.cat([inputs[12:], inputs[:2]]), train_targets=["cat ", "hen", "elk"] * 4 + ["hen", "elk"]
    )
    tables = [data.table("train") for data in (asked, others)]
    assert tables[0] is not None and tables[1] is not None
    found, findings = apart_from(tables[0], tables[1], DataModule.modality, 5)
    assert found.table.classes == ("elk", "hen") and len(found.table) == 8
    assert [finding.told[:30] for finding in findings] == [
        "1 of 3 classes to meta-train o",
        "2 tensors to meta-train on are",
    ]
    with pytest.raises(ConfigError, match="0 classes of two examples or more that are not among those that are asked"):
        apart_from(tables[0], tables[0], DataModule.modality, 5)


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> list[Table]:
    """Let no encoder train; return what each would have trained on."""
    taught: list[Table] = []

    def as_it_is(examples: Embedded, *arguments: Any) -> Embedded:
        assert examples.others is not None
        taught.append(examples.others.table)
        return examples

    monkeypatch.setattr("quickstudy.ladder.training.meta_trained", as_it_is)
    return taught


def numbers(labels: Sequence[str], groups: Sequence[str] | None = None, seed: int = 0) -> DataModule:
    inputs = torch.randn(len(labels), 18, generator=torch.Generator().manual_seed(seed))
    by = {} if groups is None else {"group_by": {"train": list(groups)}}
    return DataModule.from_tensors(train_data=inputs, train_targets=list(labels), **by)


def meta(data: DataModule, **options: Any) -> Ladder:
    return climbed(data, ["prototypicalnetworks"], **{"ways": 2, "episodes": 8, **options})


def told(found: Ladder) -> list[str]:
    return [each.told for each in found.record.findings.values() if each.check == "others"]


def test_no_group_trains_and_is_asked(untrained: list[Table]) -> None:
    labels = [f"class {row % 8}" for row in range(96)]
    everywhere = meta(numbers(labels, [f"p{row // 8}" for row in range(96)]))
    assert not untrained and not everywhere.record.steps
    assert everywhere.skipped["prototypicalnetworks"].startswith(
        "0 classes to meta-train on have two examples of other groups than what is asked"
    )
    assert everywhere.skipped["prototypicalnetworks"].endswith(
        "give --meta_train with examples of other classes and other groups"
    )
    # Of each class two thirds come from patients of its own, and the others from some that all classes share.
    groups = [f"p{row // 8}" if row < 32 else f"p{row % 8} {row // 16}" for row in range(96)]
    found = meta(numbers(labels, groups))
    assert not found.skipped and len(untrained) == 1 and len(untrained[0]) == 4 * 8
    assert told(found) == [
        "16 tensors to meta-train on come from groups of some that are asked. They are left out of the meta-training"
    ]
    given = meta(numbers(labels, groups), meta_train=numbers([f"elk {row % 3}" for row in range(24)], groups[:24], 1))
    assert "have two examples of other groups than" in given.skipped["prototypicalnetworks"]
    others = numbers([f"elk {row % 3}" for row in range(24)], ["P0 " if row < 6 else f"q{row}" for row in range(24)], 1)
    meta(numbers(labels, groups), meta_train=others)
    assert len(untrained) == 2 and len(untrained[1]) == 18
    unknown = meta(numbers(labels, groups), meta_train=numbers([f"elk {row % 3}" for row in range(24)], seed=1))
    assert any("name none: whether a group has examples in both could not be checked" in line for line in told(unknown))


def test_near_copies_do_not_cross_the_halves(untrained: list[Table]) -> None:
    data = numbers([f"class {row % 8}" for row in range(96)])
    table = data.table("train")
    assert table is not None and isinstance(table.inputs, torch.Tensor)
    table.inputs[8:16] = table.inputs[:1]  # of all classes one example is the same
    found = meta(data)
    assert len(untrained[0]) == 4 * 11
    assert told(found)[0].startswith("4 tensors to meta-train on are nearly the same as some that are asked")


def test_numbers_are_one_class_however_written(untrained: list[Table]) -> None:
    asked, others = (
        numbers([name for name in names for _ in range(4)], seed=seed)
        for seed, names in enumerate((["1", "2", "3"], ["01", "2.0", "003", "4", "-1", "12"]))
    )
    climbed(asked, ["prototypicalnetworks"], meta_train=others)
    assert {*untrained[0].classes} == {"4", "-1", "12"}


def test_what_would_not_be_asked_does_not_train(untrained: list[Table]) -> None:
    sizes = [12] * 15 + [8] * 5
    data = numbers([f"class {code:02d}" for code, size in enumerate(sizes) for _ in range(size)])
    found = meta(data, ways=5, shots=(1, 5))
    assert [shots for _, shots in found.record.episodic] == [1]
    assert told(found) == [
        "rungs that are meta-trained on half of the classes are not asked at 5 examples per class: too few of the "
        "other half have examples enough, or groups"
    ]
    for options, why in (({"shots": (5,)}, "too few of the classes"), ({"episodes": 2}, "of 2 episodes too few")):
        lost = meta(data, **{"ways": 5, **options})
        assert lost.skipped["prototypicalnetworks"].startswith(why) and not lost.record.steps
    assert len(untrained) == 1


def pictures() -> dict[str, Table]:
    """Return pictures of ten classes in two splits."""
    generator = np.random.default_rng(0)
    return {
        split: Table.build(
            torch.from_numpy(generator.integers(0, 255, (60, 3, 16, 16)).astype(np.uint8)),
            [f"{split} {row % 5}" for row in range(60)],
        )
        for split in ("train", "test")
    }


@pytest.mark.dear("ladder", "image", "text", "tabular", "audio")
@pytest.mark.parametrize(
    ("domain", "benchmark", "backbone"),
    [
        ("image", "", "conv4"),
        ("text", "wishes", "small_transformer"),
        ("tabular", "herbarium", "mlp"),
        ("audio", "timbres", "audio_conv4"),
    ],
)
def test_every_domain_is_meta_trained(
    domain: str, benchmark: str, backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quickstudy.ladder.metatraining.STEPS_FROM_NOTHING", 2)
    made = data_class(domain)
    there = (
        {split: made.from_benchmark(benchmark).table(split) for split in ("train", "test")} if benchmark else pictures()
    )
    few = []
    for table in (there["test"], there["train"]):
        assert table is not None
        rows = np.concatenate([table.index.rows(code)[:6] for code in range(3)])
        few.append(table.select(rows.astype(np.int64)).without_empty_classes())
    found = climbed(
        made(few[0]), ["prototypicalnetworks", "maml"], backbones=[backbone], meta_train=made(few[1]), out=tmp_path
    )
    assert not found.skipped and len(found.record.steps) == 2 and found.predictor is not None
    items = [few[0].inputs[0]] if benchmark else few[0].inputs[:1]
    assert Predictor.load(tmp_path / "model").predict(items) == found.predictor.predict(items)
    knowledge = RUNGS["maml"].knowledge(
        Examples(few[0], made.modality, domain, encoders_of([backbone], domain), Others(few[1], 5)).prepared(
            "maml", backbone, RUNGS["maml"].prepared
        )
    )
    assert knowledge is not None and sum(knowledge.counts.values()) == len(few[0])
