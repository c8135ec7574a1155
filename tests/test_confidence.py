"""What a predictor says of its own answers: unknown, probabilities that fit, sets that hold the class."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from quickstudy import ConfigError, DataError, Predictor
from quickstudy.algorithms import STRATEGIES
from quickstudy.errors import DataWarning
from quickstudy.functional.calibration import area_under_roc, best_temperature, expected_calibration_error
from quickstudy.functional.intervals import proportion_interval
from quickstudy.learning.adapting import unshown
from quickstudy.learning.answering import answered
from quickstudy.learning.changes import Change
from quickstudy.learning.confidence import (
    _shuffled,
    accuracy_in_words,
    in_plain_words,
    in_words,
    strangers_caught,
)
from quickstudy.nets import Encoder, build_encoder
from quickstudy.saved.examples import change_of, examples_to_bytes

# Most tests ask about the very examples that were learned, which is told.
pytestmark = pytest.mark.filterwarnings("ignore:the model learned from:quickstudy.errors.DataWarning")


def points(classes: int, each: int, first: int = 0, spread: float = 0.5) -> tuple[Tensor, list[str]]:
    """Points ``[N, 8]`` around a centre for each class."""
    centres = 2 * torch.randn(classes, 8, generator=torch.Generator().manual_seed(first))
    noise = torch.randn(classes * each, 8, generator=torch.Generator().manual_seed(first + 1))
    labels = [f"class {first + code}" for code in range(classes) for _ in range(each)]
    return centres.repeat_interleave(each, 0) + spread * noise, labels


def learned(strategy: str = "prototypicalnetworks", classes: int = 6, each: int = 8, spread: float = 0.5) -> Predictor:
    predictor = Predictor(Encoder(nn.Flatten()), STRATEGIES[strategy]())
    return predictor.fit(*points(classes, each, spread=spread))


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("strategy", ["prototypicalnetworks", "nearest_centroid", "linear_probe", "nearest_neighbour"])
def test_examples_are_left_out_as_by_hand(strategy: str) -> None:
    inputs, labels = points(4, 3)
    inputs, labels = inputs[:-2], labels[:-2]  # the last class has one example
    codes, counts = torch.tensor([int(label[-1]) for label in labels]), torch.tensor([3, 3, 3, 1])
    inputs = inputs[_shuffled(inputs, codes, counts)]  # the order it goes by
    predictor = Predictor(Encoder(nn.Flatten()), STRATEGIES[strategy]()).fit(inputs, labels)
    held = predictor.knowledge.held_out()
    assert held.targets.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    for row in range(9):
        others = [place for place in range(10) if place != row]
        by_hand = Predictor(Encoder(nn.Flatten()), STRATEGIES[strategy]())
        by_hand.fit(inputs[others], [labels[place] for place in others])
        torch.testing.assert_close(held.familiar[row], answered(by_hand.knowledge, inputs[row : row + 1]).familiar[0])
        of_each = [place for place in range(10) if place == 9 or place % 3 != row % 3]
        by_hand.fit(inputs[of_each], [labels[place] for place in of_each])
        torch.testing.assert_close(held.logits[row], answered(by_hand.knowledge, inputs[row : row + 1]).logits[0])
    strangers = []
    for row in range(10):
        others = [place for place in range(10) if labels[place] != labels[row]]
        by_hand = Predictor(Encoder(nn.Flatten()), STRATEGIES[strategy]())
        by_hand.fit(inputs[others], [labels[place] for place in others])
        strangers.append(answered(by_hand.knowledge, inputs[row : row + 1]).familiar)
    torch.testing.assert_close(held.strangers, torch.cat(strangers))


@pytest.mark.parametrize("strategy", ["prototypicalnetworks", "metaoptnet", "nearest_centroid", "linear_probe"])
def test_what_is_like_no_example_is_unknown(strategy: str) -> None:
    predictor = learned(strategy)
    known, labels = points(6, 58)
    strangers, _ = points(20, 20, first=500)
    answers = predictor.predict(known[8:])
    assert 0 < answers.count("unknown") < 0.1 * len(answers)
    assert predictor.predict(strangers).count("unknown") > 0.5 * len(strangers)
    assert "unknown" not in predictor.predict(strangers, may_be_unknown=False)
    assert predictor.score(known, labels) > 0.95  # which does not know the unknown


def test_rates_are_kept() -> None:
    predictor, (known, labels), (strangers, _) = learned(each=40), points(6, 640), points(60, 20, first=500)
    given = torch.cat([known[40::2], strangers[::2]]), labels[40::2] + ["other"] * len(strangers[::2])
    for rate in (0.05, 0.2):
        shares = predictor.calibrate(reject_rate=rate).predict(known[40:]).count("unknown") / len(known[40:])
        assert shares == pytest.approx(rate, abs=0.05)
        predictor.calibrate(*given, reject_rate=rate)
        assert predictor.predict(known[41::2]).count("unknown") / len(known[41::2]) == pytest.approx(rate, abs=0.03)
        predictor.calibrate(*given, false_accept=rate)
        accepted = 1 - predictor.predict(strangers[1::2]).count("unknown") / len(strangers[1::2])
        assert accepted == pytest.approx(rate, abs=0.04)
    assert predictor.confidence_.source == f"{len(given[1])} examples given to calibrate"


@pytest.mark.parametrize("strategy", ["prototypicalnetworks", "nearest_centroid", "linear_probe", "maml"])
@pytest.mark.parametrize(
    ("weights", "learning", "asking"),
    [
        (torch.float32, False, False),
        (torch.float32, False, True),
        (torch.float32, True, False),
        (torch.float32, True, True),
        (torch.bfloat16, False, False),
        (torch.float16, False, False),
    ],
)
def test_a_copy_of_an_example_is_not_unknown_by_rounding(
    strategy: str, weights: torch.dtype, learning: bool, asking: bool, tmp_path: Path
) -> None:
    # Where the examples of each class are alike the threshold is 0 but for rounding, and each is an edge case.
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (4, 3, 20, 20), generator=generator, dtype=torch.uint8)
    others = torch.randint(0, 256, (61, 3, 20, 20), generator=generator, dtype=torch.uint8)
    encoder = build_encoder("conv4", {"hidden": 8})
    encoder(others)  # running statistics of its own
    algorithm = STRATEGIES[strategy](**{"adaptation_steps": 1} if strategy == "maml" else {})
    shown, labels = images.repeat_interleave(3, 0), [name for name in "abcd" for _ in range(3)]
    with torch.autocast("cpu", torch.bfloat16, enabled=learning):
        made = Predictor(encoder.to(weights), algorithm).fit(shown, labels)
        if strategy == "maml":
            made.calibrate(shown, labels)
    made.save(tmp_path)
    loaded = Predictor.load(tmp_path)
    assert {each.dtype for each in loaded.knowledge.encoder.parameters()} == {weights}
    for predictor in (made, loaded):
        with torch.autocast("cpu", torch.bfloat16, enabled=asking):
            alone = [predictor.predict(image[None])[0] for image in images]
            among = predictor.predict(torch.cat([images, others]))[:4]
            ranked = [answer.label for answer in predictor.rank(images, 1)]
        assert "unknown" not in [*alone, *among, *ranked]


def test_no_input_is_unknown_where_none_may_be() -> None:
    for predictor in (learned(), learned(each=3)):
        assert "unknown" not in predictor.calibrate(reject_rate=0).predict(points(20, 20, first=500)[0])


def test_few_examples_have_a_limit_too() -> None:
    few = learned(classes=3, each=3)
    assert np.isfinite(few.confidence_.threshold)
    assert few.predict(points(3, 40)[0]).count("unknown") < 0.2 * 120
    single = learned(classes=3, each=1)
    assert single.confidence_.threshold == -np.inf and single.confidence_.examples == 0
    assert single.confidence_.source == "nothing: no class has two examples"
    assert "unknown" not in single.predict(points(20, 20, first=500)[0])
    one = learned(classes=1, each=30)
    assert one.predict(points(20, 20, first=500)[0]).count("unknown") > 200


def test_probabilities_fit() -> None:
    predictor, (inputs, labels) = learned(each=20, spread=2.5), points(6, 220, spread=2.5)
    codes = torch.tensor([int(label.split()[1]) for label in labels])
    fitted = expected_calibration_error(torch.from_numpy(predictor.predict_proba(inputs)), codes)
    raw = expected_calibration_error(answered(predictor.knowledge, inputs).logits.softmax(1), codes)
    assert fitted < raw / 2
    assert predictor.confidence_.calibration_error < 0.15 and predictor.confidence_.examples == 120


def test_what_is_left_out_does_not_tell_its_class() -> None:
    # A class with an example fewer than the others has a lower bias: left out alone, its examples all look wrong.
    predictor = Predictor(Encoder(nn.Flatten()), STRATEGIES["linear_probe"](regularization=1.0))
    assert predictor.fit(*points(6, 3, spread=2.5)).confidence_.temperature < 0.5


def test_few_right_answers_leave_the_temperature() -> None:
    assert learned(each=5, spread=0.1).confidence_.temperature == 1
    assert learned("nearest_centroid", each=5, spread=0.1).confidence_.temperature < 0.5  # squares are 4 at most


def test_as_many_are_left_out_as_there_is_work_for() -> None:
    inputs, labels = points(3, 60)
    kept = [row for row in range(180) if row < 60 or row % 30 == 0]  # 60, 2 and 2
    uneven = Predictor(Encoder(nn.Flatten()), STRATEGIES["linear_probe"]()).fit(
        inputs[kept], [labels[row] for row in kept]
    )
    assert uneven.knowledge.held_out().targets.bincount().tolist() == [60, 2, 2]
    many = learned("nearest_centroid", classes=300, each=40)
    assert len(many.knowledge.held_out().targets) == 200 and len(many.knowledge.held_out(0).targets) == 0


def test_few_that_are_left_out_of_many_are_usual_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(100, 16, generator=generator)
    draw = lambda each: (centres.repeat_interleave(each, 0) + torch.randn(100 * each, 16, generator=generator)).relu()  # noqa: E731
    names = [f"{code:03}" for code in range(100)]
    support, queries = draw(120), draw(10)
    predictor = Predictor(Encoder(nn.Flatten()), STRATEGIES["nearest_centroid"]())
    predictor.fit(support, [name for name in names for _ in range(120)])
    held = predictor.knowledge.held_out()
    assert len(held.targets) == 100
    right = float((held.logits.argmax(1) == held.targets).float().mean())
    assert right == pytest.approx(predictor.score(queries, [name for name in names for _ in range(10)]), abs=0.12)
    order = torch.randperm(len(support), generator=generator)
    other = Predictor(**predictor.get_params()).fit(support[order], [names[row // 120] for row in order.tolist()])
    assert other.confidence_ == pytest.approx(predictor.confidence_)


def test_sets_hold_the_class() -> None:
    predictor, (inputs, labels) = learned(each=30, spread=2.0), points(6, 200, spread=2.0)
    for alpha in (0.05, 0.2):
        sets = predictor.predict_set(inputs[30:], alpha)
        held = []
        for code in range(6):  # each class by itself
            inside = [
                label in names for label, names in zip(labels[30:], sets, strict=True) if label == f"class {code}"
            ]
            held.append(np.mean(inside))
        assert np.mean(held) > 1 - alpha - 0.02
        assert min(held) > 1 - alpha - 0.15  # each class's threshold comes from 30 examples
    chances = predictor.predict_proba(inputs[30:])
    for names, chances_W in zip(sets, chances, strict=True):
        columns = [list(predictor.classes_).index(name) for name in names]
        assert columns == sorted(columns, key=lambda column: -chances_W[column])
    with pytest.raises(
        DataError, match=r"alpha=0.1 needs 9 held-out .* 'class 0' has 3, .* smallest reachable .* is 25%"
    ):
        learned(each=3).predict_set(inputs, 0.1)
    with pytest.raises(ConfigError, match="alpha=1"):
        predictor.predict_set(inputs, 1)


def test_sets_need_no_fewer_examples_where_there_are_many_or_many_classes() -> None:
    for each, classes in ((1500, 2), (10, 230)):
        predictor = learned("nearest_centroid", classes=classes, each=each)
        inputs, labels = points(classes, 1)
        sets = predictor.predict_set(inputs, 0.1)
        assert np.mean([label in names for label, names in zip(labels, sets, strict=True)]) > 0.8
        before = predictor.confidence_.temperature
        assert Predictor(**predictor.get_params()).fit(*points(classes, each)).confidence_.temperature == before


def test_a_class_of_many_examples_does_not_make_others_unknown() -> None:
    generator = torch.Generator().manual_seed(0)
    tight = 0.01 * torch.randn(200, 8, generator=generator)
    wide = 6 + torch.randn(8, 8, generator=generator)
    predictor = Predictor(Encoder(nn.Flatten()), STRATEGIES["prototypicalnetworks"]())
    predictor.fit(torch.cat([tight, wide]), ["tight"] * 200 + ["wide"] * 8)
    further = 6 + torch.randn(100, 8, generator=generator)
    assert predictor.predict(further).count("wide") > 80


def test_no_stranger_is_let_in_where_none_may_be() -> None:
    predictor, (inputs, labels) = learned(), points(6, 12)
    strangers = [label.replace("class 5", "stranger") for label in labels]
    predictor.remove_class("class 5").calibrate(inputs, strangers, false_accept=0.0)
    answers = predictor.predict(inputs)
    assert all(answer == "unknown" for answer, label in zip(answers, strangers, strict=True) if label == "stranger")
    predictor.calibrate(inputs, strangers, false_accept=0.99)
    assert predictor.confidence_.threshold == -np.inf


def test_what_calibrate_refuses() -> None:
    predictor, (inputs, labels) = learned(), points(6, 2)
    with pytest.raises(ConfigError, match="give one of them"):
        predictor.calibrate(reject_rate=0.1, false_accept=0.1)
    with pytest.raises(ConfigError, match="reject_rate=2"):
        predictor.calibrate(reject_rate=2)
    with pytest.raises(DataError, match="no held-out examples of strangers"):
        predictor.calibrate(inputs, labels, false_accept=0.1)
    with pytest.raises(DataError, match="no held-out examples of known classes"):
        predictor.calibrate(inputs, ["x"] * 12)
    with pytest.raises(DataError, match="12 examples but 3 labels"):
        predictor.calibrate(inputs, ["x"] * 3)
    for change in (lambda: predictor.add_class("unknown", inputs), lambda: predictor.fit(inputs, ["unknown"] * 12)):
        with pytest.raises(DataError, match="not 'unknown'"):
            change()


def test_calibration_is_saved_and_ends_with_a_change(tmp_path: Path) -> None:
    predictor, (inputs, labels) = learned(), points(6, 12)
    predictor.calibrate(inputs, labels, reject_rate=0.2)
    predictor.save(tmp_path)
    again = Predictor.load(tmp_path, backbone=nn.Flatten())
    assert again.confidence_ == predictor.confidence_
    assert again.predict_set(inputs, 0.3) == predictor.predict_set(inputs, 0.3)
    again.add_class("new", -inputs[:3])
    assert again.confidence_.source.startswith("the support set")
    assert again.knowledge.rates == {"reject_rate": 0.2}


def test_those_that_are_not_calibrated_say_so() -> None:
    for strategy in ("tim", "protomaml"):
        predictor = Predictor(Encoder(nn.Linear(8, 8)), STRATEGIES[strategy]()).fit(*points(3, 4))
        assert predictor.confidence_.source == "nothing: calibrate(images, labels) was not called"
        assert predictor.confidence_.temperature == 1


def test_the_mathematics() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(4000, 5, generator=generator)
    targets = torch.multinomial((logits / 2).softmax(1), 1, generator=generator)[:, 0]
    assert best_temperature(logits, targets) == pytest.approx(2, abs=0.1)
    assert expected_calibration_error((logits / 2).softmax(1), targets) < 0.03
    assert expected_calibration_error(logits.softmax(1), targets) > 0.05
    assert area_under_roc(torch.arange(4), torch.arange(4)) == 0.5
    assert area_under_roc(torch.tensor([2.0]), torch.tensor([1.0, 3.0, 0.0, 1.0])) == 0.75


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("strategy", ["prototypicalnetworks", "linear_probe"])
def test_what_is_of_one_origin_is_left_out_together(strategy: str, tmp_path: Path) -> None:
    def made(*examples: Any, **options: Any) -> Predictor:
        return Predictor(Encoder(nn.Flatten()), STRATEGIES[strategy]()).fit(*examples, **options)

    inputs, labels = points(4, 10, spread=2.5)
    alone, copied = made(inputs, labels), made(torch.cat([inputs] * 3), labels * 3)
    copied.save(tmp_path)
    read = Predictor.load(tmp_path, backbone=nn.Flatten())
    read.add_examples("class 0", inputs[[label == "class 0" for label in labels]])  # which are known again
    for predictor in (copied, read):
        found = predictor.held_out_accuracy_
        assert found.examples == 40 and found.source.endswith("left out, with all of its origin")
        assert "40 examples of the 120, one of each group or set of copies" in accuracy_in_words(found, learned=120)[0]
        assert abs(found.accuracy - alone.held_out_accuracy_.accuracy) < 0.08, "a probe weighs three copies otherwise"
    if strategy != "prototypicalnetworks":
        return
    # To which three times the same is the same.
    assert copied.held_out_accuracy_[:3] == alone.held_out_accuracy_[:3]
    assert copied.confidence_.threshold == pytest.approx(alone.confidence_.threshold)
    groups = [row % 10 // 3 for row in range(40)]  # each has examples of every class
    held = made(inputs, labels, group_by=groups).knowledge.held_out()
    assert held.targets.tolist() == list(range(4)) * 4, "of each group an example of each class"
    by_hand = torch.cat(
        [
            answered(made(inputs[others], [labels[row] for row in others]).knowledge, inputs).logits
            for others in ([row for row in range(40) if groups[row] != group] for group in range(4))
        ]
    )  # [4 * 40, W]
    away = (held.logits[:, None] - by_hand).norm(dim=2).min(1)
    assert away.values.max() < 1e-4 * by_hand.abs().max()
    assert len({(place // 40, int(held.targets[row])) for row, place in enumerate(away.indices.tolist())}) == 16
    assert all(groups[place % 40] == place // 40 for place in away.indices.tolist()), "by those of other groups"
    same = made(inputs, labels, group_by=["one"] * 40).held_out_accuracy_
    assert same.examples == 0 and same.source == "nothing: no class has examples of two origins"


def test_a_near_copy_that_is_added_later_is_left_out_with_what_it_is_of(tmp_path: Path) -> None:
    def encoded(picture: Image.Image, quality: int) -> bytes:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality)
        return file.getvalue()

    noise = np.random.default_rng(0).integers(0, 255, (12, 8, 8, 3), dtype=np.uint8)
    pictures = [Image.fromarray(each).resize((64, 64), Image.Resampling.BICUBIC) for each in noise]
    net, names = nn.Sequential(nn.AdaptiveAvgPool2d(8), nn.Flatten()), ["a", "b"]
    Predictor.from_backbone(net, pictures[:8], names * 4, strategy="nearest_neighbour").save(tmp_path / "known")
    predictor, other, unseen = (Predictor.load(tmp_path / "known", backbone=net) for _ in range(3))
    unseen._knowledge = unshown(unseen.knowledge)  # as an older quickstudy kept them
    unseen.save(tmp_path / "older")
    older = Predictor.load(tmp_path / "older", backbone=net)
    sent: list[Change] = []
    predictor.before_change = lambda change: sent.append(change) or len(sent)  # type: ignore[func-returns-value]
    predictor.add_class("c", pictures[8:10])
    other.take_up([change_of(one.kind, one.name, "", examples_to_bytes(one), "cpu") for one in sent])
    for known in (predictor, other):
        for place, name in enumerate(names):
            known.add_examples(name, [encoded(each, 60) for each in pictures[place:8:2]])
        known.add_examples("c", [encoded(each, 50) for each in pictures[8:]])
        found = known.held_out_accuracy_
        assert found.examples == 12 and found.source.endswith("left out, with all of its origin")
        assert found.accuracy < 0.7, "of noise nothing is known"
    older.add_examples("a", [encoded(pictures[0], 60)])
    assert older.held_out_accuracy_.examples == 9, "nothing is left to compare it with"


@pytest.mark.parametrize("strategy", ["prototypicalnetworks", "linear_probe"])
def test_the_accuracy_to_expect_is_that_of_held_out_answers(strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor, (inputs, labels) = learned(strategy, each=20, spread=2.5), points(6, 220, spread=2.5)
    learning: list[int] = []
    classify = type(predictor.knowledge.algorithm).classify
    monkeypatch.setattr(
        type(predictor.knowledge.algorithm), "classify", lambda *given: learning.append(1) or classify(*given)
    )
    found = predictor.held_out_accuracy_
    once = len(learning)
    assert predictor.confidence_.examples == found.examples == 120
    assert predictor.held_out_accuracy_ == found and len(learning) == once  # the same answers served for both
    held = predictor.knowledge.held_out()
    right = held.logits.argmax(1) == held.targets
    assert found.accuracy == float(right.double().mean())
    assert (found.accuracy, found.ci95) == proportion_interval(int(right.sum()), 120)
    assert abs(found.accuracy - predictor.score(inputs, labels)) < found.ci95
    assert list(found.by_class) == predictor.classes_.tolist()
    for code, share in enumerate(found.by_class.values()):
        own = right[held.targets == code]
        assert share == (*proportion_interval(int(own.sum()), 20), 20)
    weakest = min(found.by_class.items(), key=lambda each: each[1].accuracy)
    head, accuracy, weak = str(predictor).splitlines()
    assert head == repr(predictor)
    assert accuracy.startswith(
        f"Held-out accuracy {found.accuracy:.0%} ± {found.ci95:.0%} (95% interval; 120 examples, each"
    )
    assert weak.startswith(f"Weakest classes: {weakest[0]} {round(20 * weakest[1].accuracy)} of 20")


def test_the_accuracy_to_expect_follows_changes_and_files(tmp_path: Path) -> None:
    predictor, (inputs, labels) = learned(each=4, spread=2.0), points(6, 12, spread=2.0)
    before = predictor.held_out_accuracy_
    after = predictor.rename_class("class 2", "z").held_out_accuracy_
    assert after.by_class["z"] == before.by_class["class 2"] and after[:3] == before[:3]
    predictor.rename_class("z", "class 2").calibrate(inputs, labels)
    given = predictor.held_out_accuracy_
    assert given.accuracy == pytest.approx(predictor.score(inputs, labels)) and given.examples == 72
    assert given.source == "72 examples given to calibrate"
    predictor.save(tmp_path)
    assert Predictor.load(tmp_path, backbone=nn.Flatten()).held_out_accuracy_ == given
    alone = predictor.add_class("new", -inputs[:1]).held_out_accuracy_
    assert alone.by_class["new"].examples == 0 and alone.examples == 24
    assert str(predictor).endswith("Of 1 class it says nothing, as none of their examples was held out")


def test_where_no_accuracy_can_be_told_it_is_none() -> None:
    for predictor, why in (
        (learned(each=1), "it takes two or more of a class"),
        (learned(classes=1, each=5), "there are no two classes to confuse"),
        (learned("tim", classes=3, each=4), "this strategy holds out none: in Python, predictor.calibrate"),
    ):
        found = predictor.held_out_accuracy_
        assert np.isnan(found.accuracy) and np.isnan(found.ci95)
        assert why in str(predictor)
    perfect = learned(each=3, spread=0.01).held_out_accuracy_
    assert perfect.accuracy == 1 and 0.1 < perfect.ci95 < 0.2  # 18 right answers prove no more
    assert "Weakest" not in "".join(accuracy_in_words(perfect))
    assert str(Predictor(Encoder(nn.Flatten()), STRATEGIES["tim"]())) == "Predictor(TIM, 0 classes)"


def test_few_examples_are_not_told_as_a_figure() -> None:
    assert learned(each=3).confidence_.examples == 18
    _, error, unknown, source, advice = in_words(learned(each=3).confidence_)
    told = "off by how much is not told: 18 held-out examples say too little"
    assert error == f"Against how often its answers are right they are {told}"
    assert "less like every class than" in unknown and "one of each class left out" in source
    assert advice.startswith(
        "Its probabilities may be far too sure. What helps: more examples of each class; or, in Py"
    )
    lines = in_words(learned(each=4).confidence_)
    assert len(lines) == 4 and "% on average (expected calibration error, 24 held-out examples)" in lines[1]
    for temperature, made in (
        (0.5, "made surer"),
        (2.0, "made less sure"),
        (1.0, "the classifier's own (temperature 1)"),
    ):
        sure = learned(each=4).confidence_._replace(temperature=temperature)
        assert f"Its probabilities are {made}" in in_words(sure)[0]
    _, error, unknown, source, advice = in_words(learned(each=1).confidence_)
    assert ": 0 held-out examples" in error and "nothing: no class has two examples" in source
    too_few = "nothing: too few examples were held out for its rate (5%, the default, takes three)"
    assert unknown == f"Called unknown, and given no class: {too_few}"
    assert "more examples" in advice


def test_maml_and_transductive_strategies_ask_for_calibrate() -> None:
    images, labels = torch.rand(30, 3, 16, 16), ["a", "b", "c"] * 10
    for strategy, options in (("maml", {"adaptation_steps": 1}), ("tim", {"iterations": 1})):
        predictor = Predictor(build_encoder("conv4", {"hidden": 4}), STRATEGIES[strategy](**options))
        *_, unknown, _, advice = in_words(predictor.fit(images, labels).confidence_)
        assert "nothing: with this strategy that takes, in Python, predictor.calibrate(images, labels)" in unknown
        assert "more examples" not in advice and "predictor.calibrate(images, labels)" in advice
        with pytest.warns(DataWarning, match="learned from 30 of these 30 examples"):
            predictor.calibrate(images, labels)
        assert "less like every class" in in_words(predictor.confidence_)[2]


def test_how_often_others_are_caught_is_told_and_found_again() -> None:
    near, far = (learned(classes=8, each=10, spread=spread) for spread in (2.0, 0.05))
    for predictor, relied in ((near, False), (far, True)):
        held, sure = predictor.knowledge.held_out(), predictor.confidence_
        found = strangers_caught(held, sure.threshold)
        assert found.accuracy == float((held.strangers < sure.threshold).double().mean())
        _, unknown = in_plain_words(sure, found, "pictures")
        assert f"of pictures of other classes about {found.accuracy:.0%}" in unknown
        assert ("Do not rely on it" in unknown) == (found.accuracy < 0.5) == (not relied)
    nothing = sure._replace(threshold=-np.inf)
    assert in_plain_words(nothing, found, "pictures")[1].startswith("Nothing is called unknown: ")
    assert "80 examples of the 99, enough to tell" in accuracy_in_words(far.held_out_accuracy_, learned=99)[0]
