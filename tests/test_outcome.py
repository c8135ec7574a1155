"""What a test keeps of each episode and example, and what follows from it: classes, confusions, paired differences."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from quickstudy import DataError, Episode, Trainer
from quickstudy.algorithms import STRATEGIES
from quickstudy.functional.intervals import mean_interval
from quickstudy.image import ImageClassificationData, ImageClassifier
from quickstudy.kinds.base import ACCURACY, Score
from quickstudy.runs.results import measured_on, of_an_episode, result_of, sentence
from quickstudy.training.outcome import NO_NUMBER, Answers, Outcome, difference

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}
NOTHING: dict[str, Any] = {**QUIET, "logger": False, "enable_checkpointing": False}
PLAN: dict[str, Any] = {"ways": 3, "shots": 2, "queries": 4, "meta_batch_size": 4, "test_epoch_length": 50}


def points(classes: int, each: int, first: int = 0) -> tuple[Tensor, list[str]]:
    generator = torch.Generator().manual_seed(first)
    centres = torch.randn(classes, 1, 1, 6, generator=generator).repeat_interleave(each, 0)
    noise = torch.randn(centres.shape, generator=generator)
    return centres + 0.8 * noise, [f"c{first + code}" for code in range(classes) for _ in range(each)]


def few_shot_data(classes: int = 8) -> ImageClassificationData:
    images, labels = points(classes, 12)
    return ImageClassificationData.from_tensors(test_data=images, test_targets=labels)


def few_shot(**plan: Any) -> ImageClassifier:
    return ImageClassifier(
        backbone=nn.Flatten(), training_strategy="nearest_centroid", training_strategy_kwargs={**PLAN, **plan}
    )


def test_what_is_kept_of_episodes_is_what_a_loop_finds() -> None:
    data, model, trainer = few_shot_data(), few_shot(), Trainer(**NOTHING)
    (found,) = trainer.test(model, datamodule=data, verbose=False)
    outcome, table, plan = trainer.outcome, data.table("test"), model.plan
    assert outcome is not None and table is not None and plan is not None
    accuracies: list[float] = []
    asked: dict[str, list[bool]] = {name: [] for name in table.classes}
    taken: dict[tuple[str, str], int] = {}
    truth_of = {tuple(row.flatten().tolist()): label for row, label in zip(*points(8, 12), strict=True)}
    for batch in data.episode_loader("test", plan):
        for support, targets, query in zip(batch.support, batch.support_targets, batch.query, strict=True):
            names = [truth_of[tuple(row.flatten().tolist())] for row in support]
            assert len(set(names)) == 3 and len(targets) == 6
            predictor = model.adapt(support, names)
            truth = [truth_of[tuple(row.flatten().tolist())] for row in query]
            answers = predictor.predict(query, may_be_unknown=False)
            right = [answer == name for answer, name in zip(answers, truth, strict=True)]
            accuracies.append(sum(right) / len(right))
            for name, answer in zip(truth, answers, strict=True):
                asked[name].append(name == answer)
                taken[name, answer] = taken.get((name, answer), 0) + 1
    assert outcome.accuracies == pytest.approx(np.array(accuracies)) and outcome.numbers.tolist() == list(range(50))
    assert found["test_accuracy"] == pytest.approx(outcome.accuracy)
    assert found["test_accuracy_ci95_classes"] == pytest.approx(outcome.classes_ci95())
    assert found["test_accuracy_ci95_classes"] > 1.5 * found["test_accuracy_ci95"]
    for name, figures in outcome.per_class().items():
        assert figures["accuracy"] == pytest.approx(np.mean(asked[name]))
        assert figures["examples"] == len(asked[name]) and 0 < figures["accuracy_ci95"] < 1
    matrix = outcome.confusion_matrix()
    assert {
        (outcome.classes[row], outcome.classes[column]): matrix[row, column] for row, column in np.argwhere(matrix)
    } == taken
    worst = outcome.largest_confusions(3)
    assert len(worst) == 3 and worst[0]["share"] >= worst[1]["share"] >= worst[2]["share"]
    assert worst[0]["count"] == taken[worst[0]["class"], worst[0]["answer"]]
    assert outcome.shape == ((3, 3), (2, 2), (4, 4))


def test_a_result_says_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    data, model, trainer = few_shot_data(), few_shot(), Trainer(**NOTHING)
    (found,) = trainer.test(model, datamodule=data)
    result = result_of(model, found, data)
    told = capsys.readouterr().out.strip()
    assert told == sentence(result)
    reach = ACCURACY.reach(result["accuracy"], result["accuracy_ci95_classes"])
    assert f"for these 8 classes, for others of their kind {reach} (95% interval) " in told
    assert len(result["per_class"]) == result["classes"] == 8 and result["notes"] == []
    assert result["data"] == data.table("test").fingerprint  # type: ignore[union-attr]
    json.dumps(result, allow_nan=False)
    assert str(trainer.outcome).splitlines()[0].split()[0] == min(
        result["per_class"], key=lambda name: result["per_class"][name]["accuracy"]
    )


@pytest.mark.parametrize(
    ("classes", "note"),
    [
        (
            3,
            "all 3 classes are in every episode, and none can be left out. With a smaller test_ways, such as 2,",
        ),
        (2, "2 say nothing of how"),
    ],
)
def test_where_nothing_can_be_said_of_other_classes_that_is_said(classes: int, note: str) -> None:
    data, model, trainer = few_shot_data(classes), few_shot(ways=min(3, classes)), Trainer(**NOTHING)
    (found,) = trainer.test(model, datamodule=data, verbose=False)
    result = result_of(model, found, data)
    assert "test_accuracy_ci95_classes" not in found and result["accuracy_ci95_classes"] is None
    assert len(result["notes"]) == 1 and note in result["notes"][0]
    assert "others of their kind" not in sentence(result)


def loader_of(*sizes: tuple[int, list[int]]) -> DataLoader[Any]:
    """Episodes of two ways each: shots of both classes, and queries of each of them."""
    made = []
    for shots, queries in sizes:
        codes = torch.arange(2).repeat_interleave(shots), torch.arange(2).repeat_interleave(torch.tensor(queries))
        support, query = (3.0 * each[None, :, None] + 0.1 * torch.rand(1, len(each), 6) for each in codes)
        made.append(Episode(support, codes[0][None], query, codes[1][None]))
    return DataLoader(made, batch_size=None)  # type: ignore[arg-type]


def test_a_loader_of_ones_own_is_told_by_what_it_had() -> None:
    model, trainer = few_shot(ways=2), Trainer(**NOTHING)
    (found,) = trainer.test(model, loader_of((3, [5, 5]), (3, [5, 5])), verbose=False)
    result = result_of(model, found)
    assert (result["ways"], result["shots"], result["queries"]) == (2, 3, 5)
    assert measured_on(result) == "over 2 episodes, 2-way 3-shot with 5 queries per class, inductive"
    assert "per_class" not in result, "nobody knows which classes they were"
    (found,) = trainer.test(model, loader_of((1, [5, 2]), (4, [3, 3])), verbose=False)
    result = result_of(model, found)
    assert (result["shots"], result["queries"]) == ([1, 4], [2, 5])
    assert "2-way 1 to 4-shot with 2 to 5 queries per class" in measured_on(result)
    (told,) = of_an_episode(result)
    assert "2 classes of the test, 1 to 4 examples of each to learn from, 2 to 5 further" in told
    assert told.endswith("Inductive: each is classified on its own.")
    assert "Transductive" in of_an_episode(result | {"transductive": True})[0]
    assert of_an_episode({"examples": 3, "classes": 2}) == []
    json.dumps(result, allow_nan=False)


def supervised(**options: Any) -> tuple[ImageClassifier, ImageClassificationData, Trainer]:
    images, labels = points(3, 20)
    others = images + 0.1
    data = ImageClassificationData.from_tensors(images, labels, test_data=others, test_targets=labels, batch_size=7)
    model = ImageClassifier(backbone=nn.Flatten(), learning_rate=0.05, **options)
    trainer = Trainer(max_epochs=1, **NOTHING)
    trainer.fit(model, data)
    return model, data, trainer


def test_what_is_kept_of_examples() -> None:
    model, data, trainer = supervised()
    (found,) = trainer.test(model, data, verbose=False)
    outcome = trainer.outcome
    assert outcome is not None and outcome.unit == "examples" and outcome.numbers.tolist() == list(range(60))
    with torch.no_grad():
        answers = model(points(3, 20)[0] + 0.1).argmax(1).numpy()
    truth = np.arange(3).repeat(20)
    assert outcome.accuracies.tolist() == (answers == truth).tolist()
    expected = np.zeros((3, 4), np.int64)
    np.add.at(expected, (truth, answers), 1)
    assert outcome.confusion_matrix().tolist() == expected.tolist()
    result = result_of(model, found, data)
    assert result["per_class"]["c0"]["accuracy"] == np.mean(answers[:20] == 0) and "accuracy_ci95_classes" not in result
    model.head.weight.data[0] = torch.nan  # type: ignore[union-attr, index, operator]
    trainer.test(model, data, verbose=False)
    assert trainer.outcome is not None and trainer.outcome.accuracy == 0
    assert {each["answer"] for each in trainer.outcome.largest_confusions()} == {NO_NUMBER}


def test_several_labels_have_figures_by_label() -> None:
    images, _ = points(4, 20)
    targets = [[["a"], ["b"], ["a", "b"], []][code] for code in range(4) for _ in range(20)]
    others = images + 0.1
    data = ImageClassificationData.from_tensors(images, targets, test_data=others, test_targets=targets, batch_size=9)
    model, trainer = ImageClassifier(backbone=nn.Flatten(), multi_label=True), Trainer(max_epochs=1, **NOTHING)
    trainer.fit(model, data)
    (found,) = trainer.test(model, data, verbose=False)
    result = result_of(model, found, data)
    with torch.no_grad():
        named = (model(others) > 0).numpy()
    there = np.array([["a" in labels, "b" in labels] for labels in targets])
    for column, name in enumerate("ab"):
        figures, hits = result["per_label"][name], int((named & there)[:, column].sum())
        assert figures["examples"] == 40 and figures["recall"] == hits / 40
        assert figures["precision"] == (hits / named[:, column].sum() if named[:, column].any() else None)
        assert figures["accuracy"] == np.mean(named[:, column] == there[:, column])
        assert figures["f1"] == pytest.approx(2 * hits / (named[:, column].sum() + 40))
    assert "per_class" not in result and result["accuracy"] == pytest.approx(np.mean(named == there))
    assert "f1 " in str(trainer.outcome) and difference(*2 * [trainer.outcome]).mean == 0  # type: ignore[list-item]


def test_a_column_of_figures_is_written_as_it_is_read(tmp_path: Path) -> None:
    figures = np.arange(8.0).reshape(4, 2)[:, 0]
    Outcome("examples", figures, np.arange(4), score=Score("f1")).write(tmp_path / "test.safetensors")
    assert Outcome.read(tmp_path / "test.safetensors").figures.tolist() == [0, 2, 4, 6]


def test_it_is_written_and_read_and_damage_is_told(tmp_path: Path) -> None:
    trainer = Trainer(**NOTHING)
    trainer.test(few_shot(), datamodule=few_shot_data(), verbose=False)
    assert trainer.outcome is not None
    path = tmp_path / "test.safetensors"
    trainer.outcome.write(path)
    again = Outcome.read(path)
    for name, value in vars(trainer.outcome).items():
        assert (
            np.array_equal(getattr(again, name), value)
            if isinstance(value, np.ndarray)
            else getattr(again, name) == value
        )
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"test.safetensors' is damaged .*remove it, and type quickstudy test again"):
        Outcome.read(path)


def test_processes_together_note_what_one_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three stand-ins for processes, of which one has no step, gather what they noted."""
    model, data = few_shot(), few_shot_data()
    assert model.plan is not None
    loader = data.episode_loader("test", model.plan)
    classifier = STRATEGIES["nearest_centroid"]()
    alone = Answers(loader, (), "episodes")
    shares = [Answers(loader, (), "episodes") for _ in range(3)]
    for step, batch in enumerate(loader):
        support, query = (each.flatten(2) for each in (batch.support, batch.query))
        logits = classifier.classify(support, batch.support_targets, query, 3)  # type: ignore[attr-defined]
        right = (logits.argmax(-1) == batch.query_targets).float()
        for answers in (alone, shares[2 * (step % 2)]):
            answers.add(step, 0, right, logits, batch.query_targets, batch)
    expected = alone.gathered()
    noted: list[dict[str, Any]] = []
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 3)
    monkeypatch.setattr(torch.distributed, "all_gather_object", lambda every, mine: noted.append(mine))
    for share in shares[:2]:
        with pytest.raises(TypeError):  # nobody answered
            share.gathered()

    def answered(every: list[Any], mine: Any) -> None:
        every[:] = [*noted, mine]

    monkeypatch.setattr(torch.distributed, "all_gather_object", answered)
    together = shares[2].gathered()
    for name, value in vars(expected).items():
        assert np.array_equal(getattr(together, name), value), name


# ---- paired differences


def made_up(accuracies: Any, **given: Any) -> Outcome:
    values = np.asarray(accuracies, np.float64)
    return Outcome(given.pop("unit", "examples"), values, np.arange(len(values)), **given)


def test_paired_differences_see_what_is_common() -> None:
    data, trainer = few_shot_data(), Trainer(**NOTHING)
    found = []
    for strategy in ("nearest_centroid", "nearest_neighbour"):
        model = ImageClassifier(backbone=nn.Flatten(), training_strategy=strategy, training_strategy_kwargs=PLAN)
        (figures,) = trainer.test(model, datamodule=data, verbose=False)
        assert trainer.outcome is not None
        found.append((trainer.outcome, figures))
    (one, first), (other, second) = found
    by = difference(one, other)
    values = other.accuracies - one.accuracies
    between = second["test_accuracy"] - first["test_accuracy"]
    assert by.mean == pytest.approx(between, abs=2**-23)  # of two numbers in float32, below 1
    assert by.ci95 == pytest.approx(2.009575 * values.std(ddof=1) / 50**0.5) and by.units == 50
    assert by.ci95 < math.hypot(first["test_accuracy_ci95"], second["test_accuracy_ci95"])
    assert by.ci95 <= by.ci95_classes < 1
    assert f"± {by.ci95:.2%}, for other classes of their kind ± " in str(by)
    same = difference(one, one)
    assert same.mean == 0 and 0 < same.ci95 < 0.01 and same.ci95 == same.ci95_classes
    renamed = dataclasses.replace(one, classes=tuple(f"other {name}" for name in one.classes))
    with pytest.raises(DataError, match="the classes of their episodes are not the same"):
        difference(one, renamed)


@pytest.mark.parametrize("accuracies", [[1.0] * 6, [0.9, 0.1, 0.5]])
def test_other_classes_are_no_surer_than_these(accuracies: list[float]) -> None:
    """Where all is right there is no spread to see, and of few episodes Student's t is that of their number."""
    count = len(accuracies)
    rows = [(place, (place + code) % 5, 10, round(10 * accuracies[place])) for place in range(count) for code in (0, 1)]
    numbers = np.arange(count)
    outcome = Outcome("episodes", np.array(accuracies), numbers, ("a", "b", "c", "d", "e"), np.array(rows))
    _, of_these = mean_interval(torch.tensor(accuracies, dtype=torch.float64), 20 * count)
    assert 0 < of_these <= outcome.classes_ci95() + 1e-12


@pytest.mark.parametrize(("rates", "count"), [((0.9, 0.9), 60), ((0.7, 0.8), 60), ((0.98, 0.99), 100)])
def test_the_interval_of_paired_examples_covers_what_it_promises(rates: tuple[float, float], count: int) -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(600):
        common = generator.random(count) < 0.6  # where one answers as the other
        draws = generator.random((2, count))
        draws[1, common] = draws[0, common]
        by = difference(*(made_up(draw < rate) for draw, rate in zip(draws, rates, strict=True)))
        covered += abs(by.mean - (rates[1] - rates[0])) <= by.ci95
    assert covered / 600 > 0.93


def test_what_cannot_be_paired_is_refused() -> None:
    one = made_up([1, 0, 1])
    with pytest.raises(DataError, match="tested on examples, the other on episodes"):
        difference(one, made_up([1, 0, 1], unit="episodes"))
    with pytest.raises(DataError, match="on 3 examples, the other on 2"):
        difference(one, made_up([1, 0]))
    tests = []
    for plan in ({}, {"shots": 1}, {"seed": 1}):
        trainer = Trainer(**NOTHING)
        trainer.test(few_shot(**plan), datamodule=few_shot_data(), verbose=False)
        assert trainer.outcome is not None
        tests.append(trainer.outcome)
    for other in tests[1:]:
        with pytest.raises(DataError, match="one was tested on 3-way 2-shot, 4 queries, 8 classes, -1 tasks"):
            difference(tests[0], other)


# ---- in words


def of_episodes(accuracy: float, half: float, ways: int = 3, **further: Any) -> dict[str, Any]:
    sizes = {"ways": ways, "shots": 1, "queries": 5, "episodes": 20, "transductive": False}
    return {"accuracy": accuracy, "accuracy_ci95": half, **sizes, **further}


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (of_episodes(0.7, 0.05), "accuracy 70.00% ± 5.00% (95% interval) over 20 epis.*; guessing: 33.33%"),
        (of_episodes(0.36, 0.04), ".*; guessing: 33.33%, which the interval includes: this may be no better"),
        (of_episodes(0.2, 0.1), ".*; guessing: 33.33%, which is better"),
        (of_episodes(0.95, 0.08), r"accuracy 95.00%, 87.00% to 100.00% \(95% interval\) over .*"),
        (
            of_episodes(0.9, 0.02, classes=9, accuracy_ci95_classes=0.2),
            r"accuracy 90.00% ± 2.00% for these 9 classes, for others of their kind 70.00% to 100.00% \(95% .*",
        ),
    ],
)
def test_a_sentence_stays_within_a_share_and_says_what_guessing_is(result: dict[str, Any], told: str) -> None:
    assert re.fullmatch(told.replace("(95% interval) over", r"\(95% interval\) over"), sentence(result))


@pytest.mark.parametrize(
    ("examples", "told"),
    [
        ([20, 20], "accuracy 55.00% ± 15.00% (95% interval) on 40 examples of 2 classes; guessing: 50.00%, which the"),
        ([30, 10], "accuracy 55.00% ± 15.00% (95% interval) on 40 examples of 2 classes; always answering 'a': 75.00%"),
    ],
)
def test_of_fixed_classes_the_most_frequent_is_what_a_figure_stands_against(examples: list[int], told: str) -> None:
    per_class = {name: {"examples": count} for name, count in zip("ab", examples, strict=True)}
    result = {"accuracy": 0.55, "accuracy_ci95": 0.15, "examples": 40, "classes": 2, "per_class": per_class}
    assert sentence(result).startswith(told)
    assert sentence({**result, "classes": 1}).endswith("of 1 class"), "of which no answer is wrong"


def test_of_numbers_the_error_of_always_answering_the_mean_stands_beside() -> None:
    targets, answers = np.array([1.0, 2.0, 4.0, 9.0]), np.array([2.0, 2.0, 5.0, 7.0])
    squared = float(((targets - answers) ** 2).mean())
    score = {"name": "rmse", "best": "min", "share": False, "root": True}
    result = {"rmse": math.sqrt(squared), "rmse_ci95": 0.1, "examples": 4, "r2": 1 - squared / targets.var()}
    told = f" on 4 examples; always answering the mean: {targets.std():.4g}"
    assert sentence({**result, "score": score}).endswith(told)
    told += ", which the interval includes: this may be no better"
    assert sentence({**result, "rmse_ci95": 5.0, "score": score}).endswith(told)


def test_a_class_is_told_within_a_share() -> None:
    parts = np.array([[place, place // 4, 1, place < 4] for place in range(8)])
    outcome = Outcome("examples", parts[:, 3].astype(float), np.arange(8), ("ant", "bee"), parts)
    assert str(outcome) == "bee  0.0% (0.0% to 49.0%) of 4\nant  100.0% (51.0% to 100.0%) of 4"
