"""What a predictor knows after any changes, in memory, on the disk and in another process."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from quickstudy import ConfigError, DataError, Predictor
from quickstudy.algorithms import STRATEGIES, EmbeddingAlgorithm
from quickstudy.algorithms.held import HeldByExample
from quickstudy.image import load_image
from quickstudy.learning.adapting import unshown
from quickstudy.learning.answering import answered
from quickstudy.learning.changes import Change
from quickstudy.nets import Encoder, build_encoder
from quickstudy.saved.journal import Journal
from serving import picture

OPTIONS: dict[str, list[dict[str, Any]]] = {"anil": [{"head": "shared"}], "metaoptnet": [{}, {"head": "ridge"}]}
EMBEDDING = [
    (name, options)
    for name in sorted(STRATEGIES.names())
    if issubclass(STRATEGIES[name], EmbeddingAlgorithm)
    for options in OPTIONS.get(name, [{}])
]


def vectors(count: int, seed: int, width: int = 12) -> torch.Tensor:
    """Return ``[count, width]`` numbers in float64, about a point of their own."""
    generator = torch.Generator().manual_seed(seed)
    centre = 2 * torch.randn(1, width, generator=generator, dtype=torch.float64)
    return centre + torch.randn(count, width, generator=generator, dtype=torch.float64)


def test_a_class_that_is_forgotten_copies_no_example_until_somebody_looks() -> None:
    algorithm, examples, targets = STRATEGIES["nearest_neighbour"](), vectors(6, 0), torch.tensor([0, 1, 1, 2, 0, 2])
    held: Any = HeldByExample(algorithm.fit, algorithm.fit(examples, targets, 3))  # type: ignore[attr-defined]
    fewer: Any = held.changed(1, examples[1:3], None)
    assert fewer._rows._held[0] is held._rows._held[0]
    more = fewer.changed(None, None, vectors(1, 1))
    rows, codes, counts = more.state
    assert torch.equal(rows, torch.cat([examples[[0, 3, 4, 5]], vectors(1, 1)]))
    assert codes.tolist() == [0, 1, 0, 1, 2] and counts.tolist() == [2, 2, 1] and torch.equal(held.state[0], examples)


@pytest.mark.parametrize(("name", "options"), EMBEDDING)
def test_any_changes_end_where_learning_at_once_does(name: str, options: dict[str, Any]) -> None:
    chance = random.Random(0)
    algorithm, encoder = STRATEGIES[name](**options), Encoder(nn.Flatten()).double()
    algorithm.meet(encoder, (12,), 3)
    predictor = Predictor(encoder, algorithm.double())
    known: dict[str, list[torch.Tensor]] = {}
    sizes = set[int]()
    for step in range(40):  # more examples than features come to be, and go
        kind = chance.choice(["class", "class", "examples", "examples", "remove", "rename"])
        old = chance.choice(list(known)) if known else ""
        if kind == "class" or not known:
            known[f"c{step}"] = [vectors(chance.randint(1, 4), step)]
            predictor.add_class(f"c{step}", known[f"c{step}"][0])
        elif kind == "examples":
            known[old].append(vectors(chance.randint(1, 3), int(old.strip("cr"))))
            predictor.add_examples(old, known[old][-1])
        elif kind == "remove" and len(known) > 2:
            del known[old]
            predictor.remove_class(old)
        elif kind == "rename":
            known = {f"{old}r" if each == old else each: parts for each, parts in known.items()}
            predictor.rename_class(old, f"{old}r")
        support = torch.cat([part for parts in known.values() for part in parts])
        labels = [each for each, parts in known.items() for part in parts for _ in part]
        anew = Predictor(encoder, algorithm).fit(support, labels)
        sizes.add(len(support))
        assert predictor.counts_ == anew.counts_
        queries = vectors(7, 99)
        logits, expected = (answered(each.knowledge, queries).logits for each in (predictor, anew))
        columns = [list(anew.classes_).index(each) for each in predictor.classes_]
        torch.testing.assert_close(logits, expected[:, columns], rtol=1e-6, atol=1e-6)
    assert min(sizes) <= 4 and max(sizes) > 20


def test_changes_made_elsewhere_are_taken_up_together() -> None:
    predictor = Predictor(Encoder(nn.Flatten()).double(), STRATEGIES["linear_probe"]())
    predictor.fit(vectors(4, 0), ["a", "a", "b", "b"])
    changes = [
        Change("add", "c", "", vectors(2, 1)),
        Change("rename", "c", "d"),
        Change("add", "d", "", vectors(1, 2), (b"x",)),
        Change("remove", "a"),
    ]
    one_by_one = Predictor(**predictor.get_params()).fit(vectors(4, 0), ["a", "a", "b", "b"])
    for change in changes:
        one_by_one.apply(change)
    with pytest.raises(DataError, match="of the class 'gone', which there is not"):
        predictor.take_up([*changes, Change("remove", "gone")])
    assert predictor.counts_ == {"a": 2, "b": 2}
    predictor.take_up(changes)
    assert predictor.counts_ == one_by_one.counts_ == {"b": 2, "d": 3}
    assert predictor.thumbnails("b") == (b"", b"") and predictor.thumbnails("d") == (b"", b"", b"x")
    np.testing.assert_allclose(predictor.predict_proba(vectors(5, 3)), one_by_one.predict_proba(vectors(5, 3)), 1e-5)


@pytest.mark.parametrize("name", sorted(STRATEGIES.names()))
def test_files_hold_what_was_learned_to_the_bit(name: str, tmp_path: Path) -> None:
    for number, options in enumerate(({}, {"head": "shared"})):
        try:
            algorithm = STRATEGIES[name](**options)
        except (TypeError, ConfigError):  # it has no such head
            continue
        torch.manual_seed(0)
        support, labels, asked = torch.randn(6, 12), ["a", "a", "b", "b", "c", "c"], torch.randn(13, 12)
        predictor = Predictor(Encoder(nn.Sequential(nn.Linear(12, 5), nn.ReLU())), algorithm).fit(support, labels)
        predictor.save(tmp_path / f"{number}")
        again = Predictor.load(tmp_path / f"{number}", backbone=nn.Sequential(nn.Linear(12, 5), nn.ReLU()))
        one, other = (answered(each.knowledge, asked).logits for each in (predictor, again))
        assert torch.equal(one, other)


def learned() -> Predictor:
    """Return a predictor of one-colour pictures, two of each class."""
    shown = [picture(colour, number) for colour in ("red", "green") for number in (0, 1)]
    return Predictor(build_encoder("conv4"), STRATEGIES["prototypicalnetworks"](), load_image).fit(
        shown, ["red", "red", "green", "green"]
    )


def test_pictures_stay_with_their_examples_where_the_first_have_none(tmp_path: Path) -> None:
    predictor = learned()
    predictor._knowledge = unshown(predictor.knowledge)
    predictor.save(tmp_path / "bare")
    description = json.loads((tmp_path / "bare" / "predictor.json").read_text())
    assert description["examples"] == [2, 2]
    bare = Predictor.load(tmp_path / "bare")
    bare.add_examples("red", [picture("red", 2)]).add_class("blue", [picture("blue", 0)])
    bare.save(tmp_path / "more")
    for each in (bare, Predictor.load(tmp_path / "more")):
        found = {(near.name, near.number): near.thumbnail for near in each.nearest([picture("red", 2)], 6)[0]}
        assert [name for name, thumbnail in found.items() if thumbnail] == [("red", 2), ("blue", 0)]
        assert each.rank([picture("blue", 0)], 1, nearest=1)[0].nearest[0].thumbnail == found["blue", 0]
    assert predictor.nearest([], 3) == []
    for count in (0, -1):
        with pytest.raises(ConfigError, match=f"count={count}: it must be a whole number of at least 1"):
            predictor.nearest([picture("red", 2)], count)


def test_what_is_learned_may_have_another_size_than_what_was() -> None:
    pooling = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    predictor = Predictor(Encoder(pooling), STRATEGIES["maml"](adaptation_steps=1))
    predictor.fit(torch.rand(4, 3, 8, 8), ["a", "a", "b", "b"])
    with pytest.raises(DataError, match=r"shape \(3, 10, 10\), and of the examples so far \(3, 8, 8\)"):
        predictor.add_examples("a", torch.rand(1, 3, 10, 10))
    assert predictor.fit(torch.rand(2, 3, 10, 10), ["a", "b"]).counts_ == {"a": 1, "b": 1}


def test_a_damaged_model_is_named_and_can_be_saved_again(tmp_path: Path) -> None:
    predictor = learned()
    predictor.save(tmp_path)
    (encoder,) = tmp_path.glob("encoder-*")
    whole = encoder.read_bytes()
    encoder.write_bytes(whole[:-8] + bytes(8))
    with pytest.raises(DataError, match="is damaged: its checksum"):
        Predictor.load(tmp_path)
    predictor.save(tmp_path)
    assert Predictor.load(tmp_path).counts_ == predictor.counts_
    description = json.loads((tmp_path / "predictor.json").read_text())
    damaged = [
        {**description, "files": {}},
        {**description, "files": {**description["files"], "encoder": {"name": "..", "sha256": ""}}},
        {**description, "classes": ["red"]},
        {**description, "classes": ["red", "red"]},
        {**description, "classes": ["red", "unknown"]},
        {**description, "state": "gone"},
        {**description, "state": None},
        {**description, "rates": {"reject_rate": "x"}},
    ]
    for content in [*(json.dumps(each).encode() for each in damaged), b"\xff\xfe", b"{}", b"[1]"]:
        (tmp_path / "predictor.json").write_bytes(content)
        with pytest.raises(DataError, match=r"damaged|describes no model|lacks the file|a class needs a name"):
            Predictor.load(tmp_path)


def test_a_damaged_change_is_named(tmp_path: Path) -> None:
    learned().save(tmp_path)
    Journal.create(tmp_path, (tmp_path / "predictor.json").read_text())
    for kind, name, examples, message in (
        ("add", "red", b"rubbish", "the examples of a change of 'red' are damaged"),
        ("repaint", "red", b"", "of the kind 'repaint'"),
        ("remove", "gone", b"", "of the class 'gone'"),
        ("rename", "red", b"", "a class needs a name"),
    ):
        with Journal(tmp_path) as journal:
            journal._db.execute("DELETE FROM changes")
            journal._db.execute("INSERT INTO changes VALUES (1, ?, ?, '', ?)", (kind, name, examples))
            journal._db.execute("UPDATE model SET last = 1")
        with pytest.raises(DataError, match=message):
            Predictor.load(tmp_path)
    for last, number in ((1, 2), (99, 1), ("x", 1)):
        with Journal(tmp_path) as journal:
            journal._db.execute("DELETE FROM changes")
            journal._db.execute("INSERT INTO changes VALUES (?, 'remove', 'red', '', '')", (number,))
            journal._db.execute("UPDATE model SET last = ?", (last,))
        with pytest.raises(DataError, match="is damaged"):
            Predictor.load(tmp_path)
    with Journal(tmp_path) as journal:
        journal._db.execute("PRAGMA user_version = 99")
    with pytest.raises(DataError, match="newer quickstudy"):
        Predictor.load(tmp_path)
