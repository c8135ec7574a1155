"""The ladder: the same draws for every rung, intervals that cover new examples, a record to go on with, a model."""

from __future__ import annotations

import copy
import errno
import signal
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import quickstudy
from quickstudy import ConfigError, DataError, Predictor
from quickstudy.algorithms.linear_probe import LinearProbe
from quickstudy.algorithms.nearest_neighbour import NearestNeighbour
from quickstudy.audio.modality import Sound
from quickstudy.cli import main
from quickstudy.data.origins import Origins
from quickstudy.data.table import Table
from quickstudy.functional.intervals import draws_interval, teaching_variance
from quickstudy.image.modality import Picture
from quickstudy.ladder import RUNGS, Ladder, Record, available_rungs
from quickstudy.ladder.climbing import _names, of_other_classes
from quickstudy.ladder.comparing import (
    _levels,
    accuracy,
    accuracy_of_classes,
    bought,
    chosen,
    difference,
    named,
    per_class,
)
from quickstudy.ladder.draws import draws, reached
from quickstudy.ladder.opening import examples_of, opened
from quickstudy.ladder.record import ALL, RECORD, Key, owned
from quickstudy.learning.adapting import acquainted
from quickstudy.learning.checks import twice_named
from quickstudy.learning.embeddings import embeddings
from quickstudy.modality import Modality, Tensors
from quickstudy.nets import build_encoder
from quickstudy.tabular.modality import Row
from quickstudy.text.modality import Text
from quickstudy.trained import TrainedModel
from quickstudy.training.datamodule import DataModule

QUICK: dict[str, Any] = {
    "shots": (1, 2, 5),
    "draws": 4,
    "episodes": 10,
    "rungs": ["commonest", "nearest_centroid", "tim"],
}


class Same(nn.Module):
    """Embeds numbers as they are."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs


def numbers(classes: int = 10, each: int = 10, seed: int = 0) -> DataModule:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.arange(classes).repeat_interleave(each)
    inputs = torch.eye(classes)[codes] * 2 + torch.randn(len(codes), classes, generator=generator)
    return DataModule.from_tensors(train_data=inputs, train_targets=[f"class {code}" for code in codes.tolist()])


def climbed(folder: Path | None = None, **options: Any) -> Ladder:
    found: Ladder = quickstudy.ladder(numbers(), backbones=[Same()], out=folder, **{**QUICK, **options})
    return found


# ---- draws


def test_draws_contain_each_other_ask_others_and_come_round() -> None:
    table = Table.build(list(range(70)), [name for name in "abcdefg" for _ in range(10)])
    shots = reached(table.index.counts, (1, 2, 5, 10, 20))
    assert shots == (1, 2, 5, ALL)
    found = {(draw.shots, draw.number): draw for draw in draws(table, shots, 5, 0)}
    assert found == {(draw.shots, draw.number): draw for draw in draws(table, shots, 5, 0)}
    for number in range(5):
        one, two, five = (found[few, number] for few in (1, 2, 5))
        assert set(one.support) < set(two.support) < set(five.support) and len(five.support) == 35
        assert one.queries == two.queries == five.queries and not set(five.support) & set(five.queries)
    asked = np.bincount(np.concatenate([found[1, number].queries for number in range(5)]), minlength=70)
    assert asked.min() >= 2 and asked.max() <= 3
    whole = [found[ALL, number] for number in range(5)]
    assert sorted(row for draw in whole for row in draw.queries) == list(range(70))
    assert all(sorted({*draw.support, *draw.queries}) == list(range(70)) for draw in whole)


def test_groups_never_straddle() -> None:
    labels = [name for name in "abc" for _ in range(12)]
    groups = [f"patient {row // 3}" for row in range(36)]
    table = Table.build(list(range(36)), labels, origins=groups)
    for draw in draws(table, (1, 2, ALL), 4, 0):
        assert not {groups[row] for row in draw.support} & {groups[row] for row in draw.queries}
        assert {labels[row] for row in draw.support} == set("abc")


def test_in_the_column_of_all_each_example_is_asked_as_often_as_any_other() -> None:
    table = Table.build(list(range(30)), [name for name in "abc" for _ in range(10)])
    for count in (2, 7):
        asked = [row for draw in draws(table, (ALL,), count, 0) for row in draw.queries]
        assert np.bincount(asked, minlength=30).tolist() == [-(-count // 5)] * 30
    few = Table.build([0, 1, 2, 3], list("aabb"))
    assert [len(draw.queries) for draw in draws(few, (ALL,), 2, 0)] == [1] * 4


def test_groups_that_are_classes_are_told_and_not_tried_for_ever() -> None:
    table = Table.build(list(range(30)), [name for name in "abc" for _ in range(10)], origins=["a", "b", "c"] * 10)
    assert len(list(draws(table, (ALL,), 2, 0))) == 3
    apart = replace(table, origins=Origins.of([name for name in "abc" for _ in range(10)]))
    with pytest.raises(DataError, match="the groups cannot be divided"):
        list(draws(apart, (ALL,), 2, 0))


def test_a_class_that_is_never_asked_is_told() -> None:
    """Of 24 examples of three classes, one of which has a single group, 16 are asked."""
    groups = [f"g{row % 4}" if name != "c" else "alone" for name in "abc" for row in range(8)]
    data = DataModule.from_tensors(
        train_data=torch.randn(24, 4, generator=torch.Generator().manual_seed(0)),
        train_targets=[name for name in "abc" for _ in range(8)],
        group_by={"train": groups},
    )
    options: dict[str, Any] = {"rungs": ["nearest_centroid"], "shots": (1,), "draws": 5, "episodes": 0}
    found = quickstudy.ladder(data, backbones=[Same()], **options).record
    told = {finding.check: finding.told for finding in found.findings.values()}
    assert told["unasked"].startswith("no example of 'c' is asked") and told["few"].startswith("16 examples")


def test_episodes_that_are_all_right_promise_no_certainty() -> None:
    """Of 12 classes far apart every query is right; the interval for other classes is no narrower than for these."""
    inputs = 50 * torch.eye(12).repeat_interleave(12, 0) + torch.randn(
        144, 12, generator=torch.Generator().manual_seed(0)
    )
    far = DataModule.from_tensors(train_data=inputs, train_targets=[f"class {row // 12}" for row in range(144)])
    options: dict[str, Any] = {"rungs": ["nearest_centroid"], "shots": (1,), "draws": 2, "episodes": 40, "ways": 3}
    found = quickstudy.ladder(far, backbones=[Same()], **options).record
    told = accuracy_of_classes(found, Key("nearest_centroid", "Same"), 1)
    assert told is not None and told.mean == 1 and 0.01 < told.ci95 <= told.ci95_classes


def test_of_many_examples_the_same_are_asked_in_all_draws() -> None:
    table = Table.build(list(range(6000)), [f"class {row % 40}" for row in range(6000)])
    found = list(draws(table, (1, 5), 3, 0))
    assert len({draw.queries for draw in found}) == 1 and 1900 < len(found[0].queries) < 2100
    supports = [set(draw.support) for draw in found if draw.shots == 5]
    assert not set.intersection(*supports) and not any(own & set(found[0].queries) for own in supports)


def test_classes_of_few_examples_give_what_they_have() -> None:
    labels = ["rare"] * 3 + [name for name in "abc" for _ in range(12)]
    few = {draw.number: draw for draw in draws(Table.build(list(range(39)), labels), (5,), 2, 0)}
    assert [sum(labels[row] == "rare" for row in few[0].support), len(few[0].support)] == [2, 17]


# ---- intervals


def test_an_interval_covers_new_examples_though_draws_share_them() -> None:
    """Of 50 examples in 10 draws: each has its own difficulty, so that there are 50 of them, and not 500."""
    generator, covered, naive = np.random.default_rng(0), 0, 0
    for _ in range(200):
        easy = generator.beta(2, 1, 50)  # the share of draws that answer it rightly, 2 of 3 in the mean
        teaches = generator.normal(0, 0.05, 10)
        right = generator.random((10, 50)) < np.clip(easy + teaches[:, None], 0, 1)
        values, rows = torch.from_numpy(right).double().flatten(), torch.arange(50).repeat(10)
        numbers = torch.arange(10).repeat_interleave(50)
        mean, half = draws_interval(values, numbers, rows, 0 * rows, 0.1)
        covered += abs(mean - 2 / 3) <= half
        naive += abs(mean - 2 / 3) <= 1.96 * np.sqrt(mean * (1 - mean) / 500)
    assert 180 <= covered <= 198 and naive < 160


@pytest.mark.parametrize("teaching", [None, 1e-6])
def test_answers_that_are_all_right_promise_no_certainty(teaching: float | None) -> None:
    """Of 40 that were rightly answered, 7% of those to come may be wrong, by the rule of three."""
    rows, draws = torch.arange(40).repeat(3), torch.arange(3).repeat_interleave(40)
    mean, half = draws_interval(torch.ones(120), draws, rows, rows % 2, 0.8, teaching=teaching)
    assert mean == 1 and 0.07 < half < 0.12
    apart = draws_interval(torch.zeros(120), draws, rows, rows % 2, 0.8, teaching=teaching, shares=False)
    assert apart[0] == 0 and 0.03 < apart[1] < 0.1


def test_two_draws_tell_no_interval() -> None:
    rows, draws = torch.arange(40).repeat(2), torch.arange(2).repeat_interleave(40)
    mean, half = draws_interval((rows % 3 > 0).double(), draws, rows, 0 * rows, 0.2)
    assert 0.6 < mean < 0.7 and np.isnan(half)
    found = climbed(draws=2, shots=(1,), episodes=0, rungs=["nearest_centroid"])
    key = Key("nearest_centroid", "Same")
    assert np.isnan(accuracy(found.record, key, 1).ci95) and 0 < accuracy(found.record, key, ALL).ci95 < 0.3
    assert any("2 draws tell nothing" in told for told in found.record.findings)


def test_examples_of_one_origin_count_once() -> None:
    values = torch.tensor([1.0, 1, 1, 0, 0, 0] * 4)
    rows, numbers = torch.arange(6).repeat(4), torch.arange(4).repeat_interleave(6)
    apart = draws_interval(values, numbers, rows, 0 * rows, 0.2)
    together = draws_interval(values, numbers, rows, 0 * rows, 0.2, rows // 3)
    assert apart[0] == together[0] == 0.5 and together[1] > 3 * apart[1]


def test_what_teaches_otherwise_is_told_from_chance() -> None:
    generator = np.random.default_rng(0)
    rows, numbers = torch.arange(400).repeat(8), torch.arange(8).repeat_interleave(400)
    chance = torch.from_numpy(generator.random((8, 400)) < 0.6).double()
    levels = torch.linspace(0.3, 0.9, 8, dtype=torch.float64)
    apart = torch.from_numpy(generator.random((8, 400))) < levels[:, None]
    assert teaching_variance(chance.flatten(), numbers, rows, 0.0) < 3e-4
    found = teaching_variance(apart.double().flatten(), numbers, rows, 0.0)
    np.testing.assert_allclose(found, float(levels.var()), rtol=0.25)


# ---- neighbours


@pytest.mark.parametrize("projection", ["none", "pca", "ica"])
def test_neighbours_vote_as_by_hand(projection: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    support, query = (torch.randn(count, 6, generator=generator, dtype=torch.float64) for count in (20, 30))
    targets = torch.arange(4).repeat(5)
    head = NearestNeighbour(neighbours=3, projection=projection)
    found = head.logits(head.fit(support, targets, 4), query).softmax(1)
    if projection != "none":
        support, query = (each / each.norm(dim=1, keepdim=True) for each in (support, query))
        centre = support.mean(0)
        values, vectors = torch.linalg.eigh((support - centre).mT @ (support - centre))
        values, vectors = values.flip(0), vectors.flip(1)
        kept = values.cumsum(0) - values < 0.9 * values.sum()
        assert 1 < kept.sum() < 6
        turned = vectors[:, kept] / (values[kept].sqrt() if projection == "ica" else 1)
        support, query = ((each - centre) @ turned for each in (support, query))
    for row, chances in zip(query, found, strict=True):
        away = (support - row).square().sum(1)
        near = away.argsort()[:3]
        votes = torch.zeros(4, dtype=torch.float64).index_add_(
            0, targets[near], 1 / (away[near] + 1e-3 * away[near].mean())
        )
        wanted = votes / votes.sum() + 1e-3
        torch.testing.assert_close(chances, wanted / wanted.sum())


def test_of_very_many_examples_some_tell_the_strength(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quickstudy.ladder.on_embeddings._MANY", 50)
    told: list[int] = []
    settled = LinearProbe.settled

    def noted(self: LinearProbe, support: torch.Tensor, targets: torch.Tensor, ways: int) -> LinearProbe:
        told.append(len(support))
        return settled(self, support, targets, ways)

    monkeypatch.setattr(LinearProbe, "settled", noted)
    found = climbed(rungs=["linear_probe"], shots=(1,), draws=2, episodes=0)
    assert told == [50] and isinstance(found.predictor, Predictor)
    assert isinstance(found.predictor.knowledge.algorithm.options["regularization"], float)
    assert sum(found.predictor.counts_.values()) == 100


# ---- climbing


@pytest.mark.parametrize(
    ("modality", "items", "width"),
    [
        (Picture(), [np.zeros((50, 40, 3), np.uint8)], 3 * 32 * 32),
        (Text(windows=2), ["where is it", "so"], 8192),
        (Sound(windows=2, features="wave"), [{"array": np.ones(16_000) / 2, "sampling_rate": 16_000}], 3 * 64),
        (Row(), [{"height": 1.0, "width": 2.0}, {"height": 2.0, "width": None}], 4),
        (Tensors(), [torch.zeros(2, 3)], 6),
    ],
)
def test_of_every_domain_inputs_are_compared_as_they_are(modality: Modality, items: list[Any], width: int) -> None:
    network, reading = modality.raw()
    encoder, reading, items = acquainted(build_encoder(network), reading, items)
    values = embeddings(encoder.eval(), reading, items, keep=False)
    assert values.shape == (len(items), width)


def test_it_ends_in_a_sentence_and_a_model(tmp_path: Path) -> None:
    found = climbed(tmp_path)
    assert found.finished and found.choice is not None and found.choice.key == Key("nearest_centroid", "Same")
    assert found.sentence.startswith("nearest_centroid at 8 examples per class (all but a fifth): ")
    assert "; trained on all 10, as saved, about " in found.sentence
    assert "would buy about" in found.sentence and str(found).endswith(found.sentence)
    first, centroid = Key("commonest", ""), found.choice.key
    over = difference(found.record, centroid, first, ALL)
    accuracies = [accuracy(found.record, key, ALL) for key in (centroid, first)]
    np.testing.assert_allclose(over.mean, accuracies[0].mean - accuracies[1].mean)
    assert over.mean > over.ci95 > 0 and accuracies[1].mean < 0.2
    by_class = per_class(found.record, centroid, 5)
    np.testing.assert_allclose(np.mean([each.mean for each in by_class]), accuracy(found.record, centroid, 5).mean)
    assert all(each.ci95 > accuracy(found.record, centroid, 5).ci95 for each in per_class(found.record, centroid, ALL))
    assert 0 <= (bought(found.record, centroid) or -1) < 0.2
    levels = [accuracy(found.record, centroid, few).mean for few in (2, 5, ALL)]
    slope = np.polyfit(np.log([2, 5, 8]), np.log(1 - np.array(levels)), 1)[0]
    assert found.choice.saved is not None and slope < 0
    np.testing.assert_allclose(1 - found.choice.saved.mean, (1 - found.choice.accuracy) * (10 / 8) ** slope)
    assert found.choice.saved.ci95 > found.choice.ci95
    classes = accuracy_of_classes(found.record, centroid, 1)
    assert classes is not None and classes.mean > 0.4 and classes.ci95_classes >= classes.ci95
    assert found.predictor is not None and found.predictor.counts_ == dict.fromkeys(found.record.asked.classes, 10)
    asked = numbers(seed=1).table("train").inputs  # type: ignore[union-attr]
    read = Predictor.load(tmp_path / "model", backbone=Same())
    assert read.predict(asked) == found.predictor.predict(asked)
    (line,) = of_other_classes(found.record, found.choice)
    assert line.startswith("episodes of 5 classes as if they were new, nearest_centroid, 95% intervals: 1 shot ")
    assert line.count("for other draws of these classes and ± ") == line.count("for classes never seen") == 3
    assert found.record.steps[Key("tim", "Same")].transductive and "tim *" in str(found)
    conclusion = Record.read(tmp_path).conclusion
    assert conclusion is not None and conclusion.sentence == found.sentence


@pytest.mark.parametrize("seen", [0, 3, 10])
def test_what_is_no_better_than_inputs_themselves_is_never_recommended_without_saying_so(seen: int) -> None:
    part = nn.Linear(10, 10, bias=False)
    part.weight.data = torch.diag((torch.arange(10) < seen).float())
    found = quickstudy.ladder(
        numbers(), backbones=[part], shots=(5,), draws=4, episodes=0, rungs=["raw_neighbour", "nearest_centroid"]
    )
    keys = Key("nearest_centroid", "Linear"), Key("raw_neighbour", "")
    over = difference(found.record, *keys, found.choice.shots)  # type: ignore[union-attr]
    told = f"raw_neighbour, {100 * accuracy(found.record, keys[1], found.choice.shots).mean:.1f}"  # type: ignore[union-attr]
    assert found.choice is not None and found.choice.key == keys[0]
    first = f"Nothing that can be saved is better than {told}"
    assert found.sentence.startswith(first) is (over.mean < 0) is (seen < 10)
    assert (f"; not clearly better than {told}" in found.sentence) is (0 <= over.mean <= over.ci95)


def test_what_was_climbed_is_not_climbed_again(tmp_path: Path) -> None:
    whole = climbed(tmp_path / "whole")

    def stops(record: Record, key: Key, shots: int) -> None:
        if (key.rung, shots) == ("nearest_centroid", 2):
            raise KeyboardInterrupt

    parted = climbed(tmp_path / "parted", told=stops)
    assert not parted.finished and (Key("tim", "Same"), 1, 0) not in parted.record.results
    file = tmp_path / "parted" / RECORD
    file.write_bytes(file.read_bytes() + b'{"kind":"result","rung":"tim"')  # died within a line
    before = len(Record.read(tmp_path / "parted").results)
    again = climbed(tmp_path / "parted")
    lines = file.read_text(encoding="utf-8").splitlines()
    assert len(again.record.results) == sum('"kind":"result"' in line for line in lines) > before
    answers = [{key: result.answers for key, result in each.record.results.items()} for each in (whole, again)]
    assert answers[0] == answers[1] and again.sentence == whole.sentence

    with pytest.raises(ConfigError, match=r"draws was 4.*--fresh true"):
        climbed(tmp_path / "parted", draws=3)
    assert climbed(tmp_path / "parted", draws=3, fresh=True).record.asked.draws == 3


def test_one_climbs_at_a_time_where_a_record_can_be_written(tmp_path: Path) -> None:
    out = tmp_path / "ladder"
    with owned(out), pytest.raises(ConfigError, match=r"another process climbs a ladder in '.*ladder': wait until"):
        climbed(out)
    assert not out.exists()
    file = tmp_path / "file"
    file.write_bytes(b"")
    for place in (file, file / "below"):
        with pytest.raises(ConfigError, match=r"nothing can be written in '.*name another folder: out= \(--out\)"):
            climbed(place)
    with pytest.raises(DataError):
        quickstudy.ladder(tmp_path / "nothing", out=out)
    assert not out.exists()


def test_what_embeds_is_a_part_of_what_was_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick: dict[str, Any] = {**QUICK, "rungs": ["nearest_centroid"], "shots": (1,), "episodes": 0, "draws": 5}
    heads: list[str] = []

    def told(record: Record, key: Key, shots: int) -> None:
        heads.append(named(record, key))

    both = [Same(), nn.Linear(10, 4)]
    quickstudy.ladder(numbers(), backbones=both, out=tmp_path, told=told, **quick)
    assert heads[0] == "nearest_centroid on Same" and list(Record.read(tmp_path).asked.backbones) == ["Same", "Linear"]
    with pytest.raises(ConfigError, match="has rungs on Linear: name it too"):
        quickstudy.ladder(numbers(), backbones=[Same()], out=tmp_path, **quick)
    with pytest.raises(ConfigError, match="the weights of 'Linear' were others"):
        quickstudy.ladder(numbers(), backbones=[Same(), nn.Linear(10, 4)], out=tmp_path, **quick)
    more = quickstudy.ladder(numbers(), backbones=[*both, Same()], out=tmp_path, **quick)
    assert {key.backbone for key in more.record.steps} == {"Same", "Linear", "Same'"}
    file = tmp_path / RECORD
    file.write_text(file.read_text().replace('"number":0,"support":[', '"number":0,"support":[1,'))
    with pytest.raises(ConfigError, match="other draws of the same data, by another version"):
        quickstudy.ladder(numbers(), backbones=[*both, Same()], out=tmp_path, **quick)
    monkeypatch.delattr("quickstudy.ladder.climbing._checked")  # before which an encoder is made
    with pytest.raises(ConfigError, match="no_such_backbone"):
        quickstudy.ladder(numbers(), backbones=["no_such_backbone"])


def test_ctrl_c_before_a_figure_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stops(data: Any, **named: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("quickstudy.ladder.climbing.looked_at", stops)
    assert main(["ladder", "photos/", "--out", str(tmp_path / "out")]) == 130
    assert "the same command goes on" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("place", "error", "code", "told"),
    [
        ("quickstudy.ladder.examples.embeddings", KeyboardInterrupt(), 130, "the same command goes on"),
        ("quickstudy.ladder.climbing._result", KeyboardInterrupt(), 130, "the same command goes on"),
        ("quickstudy.ladder.climbing.write_report", KeyboardInterrupt(), 130, "the same command goes on"),
        (
            "quickstudy.predictor.Predictor.save",
            OSError(errno.ENOSPC, "No space left on device"),
            2,
            "(No space left on device): make room, and the same command goes on where it stopped",
        ),
    ],
    ids=["embedding", "rung", "page", "full disk"],
)
def test_what_ends_it_anywhere_is_told_and_the_same_command_goes_on(
    place: str,
    error: BaseException,
    code: int,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "x.csv").write_text(
        "\n".join(["size,label", *(f"{row % 2}.{row:02d},{'ab'[row % 2]}" for row in range(12))])
    )
    out = tmp_path / "out"
    words = ["ladder", str(tmp_path / "x.csv"), "--out", str(out), "--draws", "5", "--shots", "1"]
    words += ["--rungs", "nearest_centroid"]

    def ends(*arguments: Any, **named: Any) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(place, ends)
        assert main(words) == code
    said = capsys.readouterr()
    assert told in said.out + said.err
    assert main(words) == 0
    assert "Saved in" in capsys.readouterr().out
    assert sorted(each.name for each in out.iterdir()) == ["ladder.html", "model", "record.jsonl"]


# ---- rungs that train the backbone


@pytest.mark.parametrize(
    ("name", "stay"),
    [("finetune_last", [True] * 2 + [False] * 4), ("finetune", [False] * 6), ("lora", [False, True] * 3)],
)
def test_a_backbone_is_trained_for_each_of_few_draws(
    name: str, stay: list[bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quickstudy.ladder.finetuning.STEPS", 4)
    monkeypatch.setattr("quickstudy.ladder.rung.FEW", 3)
    backbone = nn.Sequential(nn.Linear(10, 8), nn.Linear(8, 8), nn.Linear(8, 6))
    before = [weights.clone() for weights in backbone.parameters()]
    options: dict[str, Any] = {"rungs": [name], "shots": (1,), "draws": 4, "episodes": 0}
    found = quickstudy.ladder(numbers(), backbones=[backbone], out=tmp_path, **options)
    assert all(map(torch.equal, before, backbone.parameters()))
    assert sorted(number for _, _, number in found.record.results) == [0, 0, 1, 1, 2, 2]
    assert found.choice is not None and isinstance(found.predictor, TrainedModel)
    trained = [weights.clone() for weights in found.predictor.encoder.backbone.parameters()]
    same = [torch.equal(one, other) for one, other in zip(before, trained, strict=True)]
    assert same == stay
    asked = numbers(seed=1).table("train").inputs  # type: ignore[union-attr]
    read = TrainedModel.load(tmp_path / "model", backbone=copy.deepcopy(backbone))
    assert read.predict(asked) == found.predictor.predict(asked)
    again = quickstudy.ladder(numbers(), backbones=[backbone], out=tmp_path, **options)
    assert again.record.results == Record.read(tmp_path).results and again.sentence == found.sentence


def test_ctrl_c_while_a_backbone_trains_keeps_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    def stops(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("quickstudy.training.task.Task.training_step", stops)
    handler, rungs = signal.getsignal(signal.SIGINT), ["nearest_centroid", "finetune"]
    found = quickstudy.ladder(numbers(), backbones=[nn.Linear(10, 8)], **{**QUICK, "rungs": rungs, "episodes": 0})
    assert not found.finished and {key.rung for key, _, _ in found.record.results} == {"nearest_centroid"}
    assert signal.getsignal(signal.SIGINT) is handler


def test_what_was_climbed_on_few_draws_is_compared_on_these() -> None:
    record = climbed(rungs=["nearest_centroid", "linear_probe"], episodes=0).record
    centroid, probe = (Key(name, "Same") for name in ("nearest_centroid", "linear_probe"))
    record.steps[probe] = replace(record.steps[probe], draws=2)
    for shots in record.asked.shots:
        for number in [number for of, number in record.draws if of == shots and number > 1]:
            del record.results[probe, shots, number]
    keys, found = [centroid, probe], [accuracy(record, key, ALL) for key in (centroid, probe)]
    levels = _levels(record, keys, ALL, found)
    assert levels[0] == found[0].mean != found[1].mean
    np.testing.assert_allclose(levels[1] - levels[0], difference(record, probe, centroid, ALL).mean)
    choice = chosen(record)
    assert choice is not None and choice.shots == ALL and {choice.key, choice.best} <= {centroid, probe}


def test_how_much_longer_a_rung_takes_counts_the_embedding() -> None:
    record = climbed(rungs=["nearest_centroid", "linear_probe"], episodes=0).record
    centroid, probe = (Key(name, "Same") for name in ("nearest_centroid", "linear_probe"))
    for key, seconds in ((centroid, 1.0), (probe, 5.0)):
        record.steps[key] = replace(record.steps[key], embedding_seconds=1.0, cost=round(seconds))
        for shots, number in record.draws:
            found = record.results[key, shots, number]
            target = np.array(record.examples.targets)[list(record.draws[shots, number].queries)]
            right = target if key == probe else np.where(np.arange(len(target)) % 9, target, -1)
            record.results[key, shots, number] = replace(found, seconds=seconds, answers=tuple(right.tolist()))
    choice = chosen(record, worth=0.9)
    assert choice is not None and (choice.key, choice.best, choice.times) == (centroid, probe, 3.0)


def test_slow_rungs_are_asked_for() -> None:
    slow = {"finetune_last", "finetune", "lora", "contrastive"}
    assert slow < set(available_rungs()) - set(available_rungs(slow=False))
    found = climbed(rungs=["commonest", *slow], episodes=0)
    assert found.skipped == dict.fromkeys(slow, "the backbone has nothing to train")
    assert RUNGS["names"].saves and RUNGS["names_too"].saves


def test_what_a_ladder_cannot_do_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown rung 'linear'; did you mean 'linear_probe'"):
        climbed(rungs=["linear"])
    with pytest.raises(DataError, match="1 of 2 classes have two examples or more"):
        data = DataModule.from_tensors(train_data=torch.zeros(3, 2), train_targets=["a", "a", "b"])
        quickstudy.ladder(data, backbones=[Same()])
    with pytest.raises(DataError, match=r"say which of them has the classes.*--target_field"):
        (tmp_path / "x.csv").write_text("one,two\n1,2\n")
        opened(tmp_path / "x.csv")
    assert main(["ladder", str(tmp_path / "nothing")]) == 2
    with pytest.raises(ConfigError, match="a ladder has no option 'backbone'; did you mean 'backbones'"):
        quickstudy.ladder("photos/", backbone="minilm")
    with pytest.raises(ConfigError, match="input_field is of a table"):
        opened(tmp_path, input_field="one", domain=None)
    with pytest.raises(ConfigError, match="shots=0: it must be a whole number of at least 1"):
        climbed(shots=(0, 1))


def test_an_interval_is_no_wider_than_what_it_is_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two draws that differ tell next to nothing of others, and no accuracy lies above 1."""
    monkeypatch.setattr("quickstudy.ladder.comparing.draws_interval", lambda *given: (float(given[0].mean()), 2.6))
    found = climbed(rungs=["commonest", "nearest_centroid"], shots=(1,), draws=2, episodes=0).record
    one, other = (Key("nearest_centroid", "Same"), Key("commonest", ""))
    alone, apart = accuracy(found, one, 1), difference(found, one, other, 1)
    assert alone.ci95 == max(alone.mean, 1 - alone.mean) and apart.ci95 == 1 + abs(apart.mean)


def test_a_class_of_two_names_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("height,width,label\n" + "1,2,Cat\n2,1,cat\n3,1,dog\n" * 3)
    table = examples_of(opened(tmp_path / "x.csv"))  # where a warning is an error
    assert len(twice_named(table.classes)) == 1
    alone = DataModule.from_tensors(train_data=torch.zeros(3, 2), train_targets=["a", "b", "c"])
    with pytest.raises(DataError, match="0 of 3 classes have two examples or more: add some"):
        examples_of(alone)


def test_examples_are_called_by_what_tells_them_apart() -> None:
    files = [Path("some") / "photos" / name for name in ("cat/1.jpg", "dog/1.jpg")]
    assert _names(Table.build(list(map(str, files)), ["a", "b"]), None)[0] == str(files[0])  # a text is kept whole
    assert _names(Table.build(files, ["a", "b"]), None) == ("cat/1.jpg", "dog/1.jpg")


@pytest.mark.parametrize(
    ("text", "called"), [("a b,c,label\n1,2,x\n", "rows"), ("text,intent\nwhere is it,x\n", "texts")]
)
def test_what_lies_there_tells_the_domain(text: str, called: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(text)
    assert opened(tmp_path / "x.csv").modality.called == called
    (tmp_path / "folder" / "cat").mkdir(parents=True)
    (tmp_path / "folder" / "cat" / "1.wav").write_bytes(b"")
    assert opened(tmp_path / "folder").modality.called == "sounds"


def test_a_table_in_one_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    rows = [
        f"{generator.normal(place):.2f},{generator.normal():.2f},{'xyz'[place]}" for place in range(3) for _ in range(9)
    ]
    rows = [f"{row},{number % 28}/2/{1960 + number}" for number, row in enumerate(rows)]
    (tmp_path / "plants.csv").write_text("\n".join(["height,width,species,seen", *rows]))
    words = ["ladder", str(tmp_path / "plants.csv"), "--out", str(tmp_path / "l"), "--draws", "2", "--shots", "2"]
    assert main([*words, "--rungs", "commonest", "linear_probe", "names", "names_too"]) == 0
    shown = capsys.readouterr().out
    assert "linear_probe, 2: " in shown and "linear_probe at 7 examples per class" in shown
    assert "not climbed: names, names_too (names of classes tell nothing of rows)" in shown
    assert "look: 1 column is not used: 'seen' (another text" in shown
    assert "look: column 'seen': '0/2/1960' and the others are taken for names: write dates as" in shown
    assert "The saved model tells of itself a held-out accuracy of " in shown
    assert shown.count("Accuracy in %") == 1 and "linear_probe: logistic regression on embeddings\n" in shown
    assert " % of new examples right" in shown
    assert f"quickstudy predict {tmp_path / 'l' / 'model'} new.csv" in shown
    assert len(Predictor.load(tmp_path / "l" / "model").classes_) == 3


class OfTables:
    """Stands for TabICL's classifier: it takes the options that the rung gives, and answers by what they are."""

    def __init__(
        self,
        model_path: Path | None = None,
        allow_auto_download: bool = True,
        checkpoint_version: str = "some-v2.ckpt",
        device: str | None = None,
        random_state: int = 42,
    ) -> None:
        assert model_path is not None and not allow_auto_download and device == "cpu" and random_state == 0

    def fit(self, values: Any, targets: Any) -> OfTables:
        self.classes_ = np.unique(targets)
        return self

    def predict_proba(self, values: Any) -> Any:
        return np.full((len(values), len(self.classes_)), 1 / len(self.classes_))


def test_tabicl_says_what_it_lacks_and_downloads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rung, columns = RUNGS["tabicl"], SimpleNamespace(column_names=("a",))
    table: Any = SimpleNamespace(
        knowledge=SimpleNamespace(modality=columns),
        encoder=SimpleNamespace(device=torch.device("cpu")),
        table=SimpleNamespace(classes=("x", "y", "z")),
        values=torch.zeros(4, 1),
        targets=torch.tensor([0, 2, 0, 2]),
    )
    monkeypatch.delenv("QUICKSTUDY_TABICL", raising=False)
    monkeypatch.setattr("quickstudy.ladder.estimators.find_spec", lambda name: None)
    assert rung.lacks(table, "tabular") == "the package 'tabicl' is not installed: pip install 'quickstudy[tabicl]'"
    assert "tabicl" not in available_rungs(slow=False) and "tabicl" in available_rungs()
    module: Any = ModuleType("tabicl")
    module.TabICLClassifier = OfTables
    monkeypatch.setitem(sys.modules, "tabicl", module)
    monkeypatch.setattr("quickstudy.ladder.estimators.find_spec", lambda name: name)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda repo, file: None)
    assert "type hf download jingang/TabICL some-v2.ckpt, or copy that file and set" in rung.lacks(table, "tabular")
    monkeypatch.setenv("QUICKSTUDY_TABICL", str(tmp_path / "w.ckpt"))
    assert "there is no file '" in rung.lacks(table, "tabular")
    (tmp_path / "w.ckpt").write_bytes(b"weights")
    assert rung.lacks(table, "tabular") == ""
    chances = rung.logits(table, torch.arange(2), torch.arange(2, 4)).exp()
    assert torch.allclose(chances, torch.tensor([[0.5, 1e-6, 0.5]], dtype=torch.float64), rtol=1e-9)
    columns.column_names = None
    assert rung.lacks(table, "image") == "it is for rows of tables"
