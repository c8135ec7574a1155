"""What a predictor knows is a value: it stays as it is whatever is learned later, and is whole at any moment."""

from __future__ import annotations

import dataclasses
import random
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quickstudy import DataError, Predictor
from quickstudy.algorithms import STRATEGIES
from quickstudy.algorithms import rows as rows_module
from quickstudy.algorithms.rows import Rows
from quickstudy.errors import DataWarning
from quickstudy.learning.answering import answered
from quickstudy.learning.knowledge import Knowledge
from quickstudy.nets import Encoder
from test_changes import EMBEDDING, vectors


class Told(nn.Module):
    """Hands its inputs on, and calls a function first."""

    def __init__(self) -> None:
        super().__init__()
        self.call: Callable[[], Any] = lambda: None

    def forward(self, inputs: Tensor) -> Tensor:
        self.call()
        return inputs


@pytest.mark.parametrize(("name", "options"), [*EMBEDDING, ("protomaml", {"adaptation_steps": 1})])
def test_what_was_known_stays_as_it_was(name: str, options: dict[str, Any]) -> None:
    algorithm, encoder = STRATEGIES[name](**options), Encoder(nn.Linear(12, 12)).double()
    algorithm.meet(encoder, (12,), 3)
    predictor = Predictor(encoder, algorithm.double())
    predictor.fit(
        torch.cat([vectors(7, code) for code in range(3)]), [f"c{code}" for code in range(21 // 7) for _ in range(7)]
    )
    queries, then = vectors(5, 99), list[tuple[Knowledge, Tensor]]()

    def note() -> None:
        then.append((predictor.knowledge, answered(predictor.knowledge, queries).logits.clone()))

    note()
    for change in (
        lambda: predictor.add_class("d", vectors(2, 4)),
        lambda: predictor.add_class("e", vectors(2, 5)),
        lambda: predictor.add_examples("d", vectors(1, 6)),
        lambda: predictor.remove_class("c1"),
        lambda: predictor.add_class("f", vectors(3, 7)),
        lambda: predictor.rename_class("f", "g"),
    ):
        change()
        note()
    # Another future of the same past: what the first added to it is none of its business.
    predictor._knowledge = then[1][0]
    predictor.add_class("h", vectors(3, 8)).add_examples("c0", vectors(3, 9))
    note()
    for known, expected in then:
        assert torch.equal(answered(known, queries).logits, expected)
    assert [len(known.support) for known, _ in then] == [3, 4, 5, 5, 4, 5, 5, 5]
    with pytest.raises(dataclasses.FrozenInstanceError):
        then[0][0].support = {}  # type: ignore[misc]


def test_who_asks_while_it_learns_is_answered_by_what_was_known() -> None:
    backbone = Told()
    predictor = Predictor(Encoder(backbone), STRATEGIES["prototypicalnetworks"]())
    predictor.fit(torch.eye(4).repeat_interleave(2, 0), [0, 0, 1, 1, 2, 2, 3, 3])
    asked: dict[str, Callable[[], Any]] = {
        "predict": lambda: predictor.predict(torch.eye(4)),
        "rank": lambda: predictor.rank(torch.eye(4), 4, nearest=3),
        "predict_proba": lambda: predictor.predict_proba(torch.eye(4)).tolist(),
        "nearest": lambda: predictor.nearest(torch.eye(4), 3),
        "score": lambda: predictor.calibrate(torch.eye(4) + 0.1, [3, 2, 1, 0]).score(torch.eye(4) + 0.1, [0, 1, 2, 0]),
    }
    for name, ask in asked.items():
        known = predictor.knowledge
        expected = ask()
        for change in (lambda: predictor.remove_class(0), lambda: predictor.add_class(9, torch.ones(1, 4))):
            predictor._knowledge = known

            def meanwhile(change: Callable[[], Any] = change) -> None:
                backbone.call = lambda: None
                change()

            backbone.call = meanwhile
            assert ask() == expected, name
        predictor._knowledge = known


def test_what_is_refused_leaves_no_trace() -> None:
    predictor = Predictor(Encoder(nn.Flatten()), STRATEGIES["nearest_centroid"]()).fit(torch.eye(4), list("aabb"))
    known = predictor.knowledge
    predictor.before_change = lambda change: 1 / 0  # type: ignore[return-value]
    for change in (
        lambda: predictor.add_class("c", torch.ones(1, 4)),
        lambda: predictor.add_examples("a", torch.full((1, 4), torch.nan)),
        lambda: predictor.fit(torch.eye(3), ["a"]),
        lambda: predictor.calibrate(torch.eye(4) + 0.1, ["x"] * 4),
        lambda: predictor.calibrate(false_accept=2),
    ):
        with pytest.raises((DataError, ZeroDivisionError, ValueError)):
            change()
        assert predictor.knowledge is known


def test_a_change_has_the_number_that_it_was_written_down_by() -> None:
    predictor = Predictor(Encoder(nn.Flatten()), STRATEGIES["nearest_centroid"]()).fit(torch.eye(4), list("aabb"))
    assert predictor.rename_class("a", "c").change_number == 0
    predictor.before_change = lambda change: 7
    assert predictor.remove_class("b").change_number == 7
    assert predictor.set_params(algorithm=STRATEGIES["prototypicalnetworks"]()).classes_.tolist() == []


def test_rows_share_memory_and_nothing_else() -> None:
    rows = Rows(torch.arange(3.0)[:, None]).added(torch.tensor([[3.0]]))
    more, other = rows.added(torch.tensor([[4.0]])), rows.added(torch.tensor([[5.0]]))
    less = more.changed(4, None)
    again = less.added(torch.tensor([[6.0]]))
    assert more.used.data_ptr() == rows.used.data_ptr()  # the first takes the room behind
    for found, expected in ((rows, 3), (more, 4), (other, 5), (less, 3), (again, 6)):
        assert found.used[-1] == expected
    assert rows.changed(1, torch.tensor([[9.0]])).used.flatten().tolist() == [0, 9, 2, 3]
    assert rows.used.flatten().tolist() == [0, 1, 2, 3]


def test_rows_are_as_if_each_change_had_been_made_at_once() -> None:
    chance, rows, expected = random.Random(0), Rows(torch.arange(4.0)[:, None]), [0.0, 1.0, 2.0, 3.0]
    then = [(rows, expected)]
    for step in range(4, 200):
        new, place = torch.full((1, 1), float(step)), chance.randrange(len(expected)) if expected else None
        kind = chance.choice(["add", "put", "take"]) if expected else "add"
        if kind == "add":
            rows, expected = rows.changed(None, new), [*expected, float(step)]
        else:
            assert place is not None
            rows = rows.changed(place, new if kind == "put" else None)
            expected = [*expected[:place], *[float(step)] * (kind == "put"), *expected[place + 1 :]]
        then.append((rows, expected))
        if chance.random() < 0.2:  # else several changes wait
            assert rows.used.flatten().tolist() == expected
    for each, wanted in chance.sample(then, len(then)):
        assert each.used.flatten().tolist() == wanted


@pytest.mark.parametrize("strategy", ["prototypicalnetworks", "nearest_neighbour"])
def test_changes_copy_what_is_known_once_and_when_it_is_asked(strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = list[int]()

    def counted(rows: Tensor, edits: Any) -> Tensor:
        copied.append(len(edits))
        return edited(rows, edits)

    edited = rows_module._edited
    monkeypatch.setattr(rows_module, "_edited", counted)
    predictor = Predictor(Encoder(nn.Flatten()), STRATEGIES[strategy]()).fit(torch.eye(20), list(range(20)))
    predictor.add_class(20, torch.ones(1, 20))
    copied.clear()
    for number in range(15):
        predictor.add_examples(number, 3 * torch.eye(20)[number : number + 1])
    assert copied.count(1) <= 15 * (strategy == "nearest_neighbour")  # of how many examples each class has
    copied.clear()
    assert predictor.predict(torch.eye(20)[:3], may_be_unknown=False) == [0, 1, 2]
    assert copied.count(15) == (2 if strategy == "prototypicalnetworks" else 1)


def copies(of: Tensor, seed: int) -> Tensor:
    """Return 40 rows, the first 15 those of another tensor, then some that only look like them, and zeros."""
    generator = torch.Generator().manual_seed(seed)
    turned = of[:10].flip(1)  # as long, and another
    return torch.cat([of[:15], turned, torch.zeros(1, of.shape[1]), torch.randn(14, of.shape[1], generator=generator)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_what_it_learned_from_is_found_by_its_length(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    learned = torch.cat([torch.randn(300, 12, generator=generator), torch.zeros(1, 12)])
    encoder = Encoder(nn.Linear(12, 12, bias=False)).to(dtype)
    predictor = Predictor(encoder, STRATEGIES["nearest_centroid"]()).fit(learned, [row % 7 for row in range(301)])
    asked = copies(learned, 1)
    same = sum(near[0].same for near in predictor.nearest(asked, 1))
    assert same >= 15
    if dtype != torch.bfloat16:  # where many lengths are alike

        def fail(*_: Any) -> Any:
            raise AssertionError("it looked at all distances")

        monkeypatch.setattr("quickstudy.learning.judging.neighbours", fail)
    with pytest.warns(DataWarning, match=f"learned from {same} of these 40 examples"):
        predictor.score(asked, [row % 7 for row in range(40)])
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        predictor.score(asked[-14:], [0] * 14)


def test_what_maml_learned_from_is_found_without_the_network() -> None:
    backbone, passes = Told(), list[int]()
    algorithm = STRATEGIES["protomaml"](adaptation_steps=1)
    predictor = Predictor(Encoder(nn.Sequential(backbone, nn.Linear(12, 4))), algorithm)
    learned = torch.randn(30, 12, generator=torch.Generator().manual_seed(0))
    predictor.fit(learned, [row % 3 for row in range(30)])
    backbone = next(part for part in predictor.knowledge.encoder.modules() if isinstance(part, Told))
    backbone.call = lambda: passes.append(1)
    asked = copies(learned, 1)
    predictor.predict(asked, may_be_unknown=False)
    once = len(passes)
    with pytest.warns(DataWarning, match="learned from 15 of these 40 examples"):
        predictor.score(asked, [row % 3 for row in range(40)])
    assert len(passes) == 2 * once > 0


def test_further_examples_have_groups() -> None:
    first = Predictor(Encoder(nn.Flatten()), STRATEGIES["nearest_centroid"]())
    first.fit(torch.eye(4), list("aabb"), group_by=list("xyzz"))
    more = first.add_examples("a", torch.tensor([[1.0, 1, 1, 1], [2, 2, 2, 2]]), group_by=["y", "w"])
    (_, second, third, fourth), (of_z, _) = (more.knowledge.support[name].origins for name in "ab")
    assert second == third and len({third, fourth, of_z}) == 3
    added = first.add_class("c", torch.full((1, 4), 3.0), group_by=["z"])
    assert added.knowledge.support["c"].origins == (of_z,)
    with pytest.raises(DataError, match="group"):
        first.add_examples("b", torch.full((2, 4), 3.0), group_by=["z"])
