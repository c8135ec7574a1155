"""What accuracy to expect of parts: inputs are left out whole, and count as one each, however many parts they have."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from quickstudy.algorithms import STRATEGIES
from quickstudy.errors import DataError
from quickstudy.functional.calibration import expected_calibration_error
from quickstudy.functional.intervals import mean_interval
from quickstudy.kinds.parts import from_json
from quickstudy.learning.confidence import (
    HeldOutAccuracy,
    HeldOutParts,
    accuracy_of_parts,
    parts_in_words,
    parts_left_out,
)

NAMES = ["ground", "cat", "dog"]


def rows(inputs: int = 6, each: int = 5, far: float = 2.0) -> list[tuple[torch.Tensor, list[int]]]:
    """Rows of three classes, alike within an input, in which the third class is not in the first inputs."""
    generator, found = np.random.default_rng(0), []
    for code in range(3):
        own, owners = [], []
        for number in range(inputs):
            if code < 2 or number >= inputs // 2:
                middle = 3 * np.eye(4)[code] + far * generator.normal(size=4)
                own.append(middle + 0.3 * generator.normal(size=(each, 4)))
                owners += [number + 7] * each
        found.append((torch.tensor(np.concatenate(own)), owners))
    return found


def held(parts: list[tuple[torch.Tensor, list[int]]]) -> HeldOutParts:
    return parts_left_out(STRATEGIES["nearest_centroid"](), *zip(*parts, strict=True))


def told(parts: list[tuple[torch.Tensor, list[int]]]) -> HeldOutAccuracy:
    return accuracy_of_parts(held(parts), NAMES[: len(parts)])


def naive(parts: list[tuple[torch.Tensor, list[int]]]) -> dict[tuple[int, int], float]:
    """The share of each class in each input that the same algorithm tells by all other inputs, one after another."""
    values = torch.cat([one for one, _ in parts])
    codes = np.concatenate([np.full(len(own), code) for code, (_, own) in enumerate(parts)])
    made = STRATEGIES["nearest_centroid"]()
    owners = np.concatenate([own for _, own in parts])
    told = {}
    for number in np.unique(owners):
        out = owners == number
        learned = made.fit(values[~out], torch.from_numpy(codes[~out]), 3)
        answers = made.logits(learned, values[out]).argmax(1).numpy()
        for code in np.unique(codes[out]):
            told[int(number), int(code)] = float((answers == code)[codes[out] == code].mean())
    return told


def test_inputs_are_left_out_whole() -> None:
    parts = rows()
    found = told(parts)
    shares = naive(parts)
    by_input = [np.mean([share for (own, _), share in shares.items() if own == number]) for number in range(7, 13)]
    mean, half = mean_interval(torch.tensor(by_input), 6)
    assert (found.accuracy, found.ci95) == pytest.approx((mean, half)) and found.examples == 6
    assert 0.5 < found.accuracy < 1
    for code, name in enumerate(NAMES):
        own = [share for (_, of), share in shares.items() if of == code]
        assert found.by_class[name].accuracy == pytest.approx(np.mean(own)) and found.by_class[name].examples == len(
            own
        )
    words = parts_in_words(found, "pictures")
    assert words[0].startswith(f"Held-out accuracy of parts, each class alike: {found.accuracy:.0%}")
    assert "6 pictures, each answered by what others teach" in words[0] and words[1].startswith("Weakest classes: ")


def test_parts_of_one_input_tell_no_more_than_one() -> None:
    few = rows(far=0.5)
    many = [(one.repeat_interleave(8, 0), np.repeat(own, 8).tolist()) for one, own in few]
    found, again = (told(parts) for parts in (few, many))
    assert found.accuracy == pytest.approx(again.accuracy) and found.ci95 == pytest.approx(again.ci95)


def test_rare_classes_are_spread_over_the_rounds() -> None:
    """Of 40 inputs, left out four at a time, two show the third class: each is asked while the other teaches."""
    parts = rows(40, 1, 0.1)
    parts[2] = (parts[2][0][:2], parts[2][1][:2])
    found = told(parts)
    assert found.by_class["dog"].examples == 2 and found.examples == 40


def test_a_class_of_one_input_is_not_asked() -> None:
    parts = rows()
    parts[2] = (parts[2][0][:5], parts[2][1][:5])
    found = told(parts)
    assert found.by_class["dog"].examples == 0 and math.isnan(found.by_class["dog"].accuracy)
    assert found.by_class["cat"].examples == 6
    assert parts_in_words(found, "texts")[-1] == "Of dog it says nothing, as no two texts show it"
    alone = [(one[:5], own[:5]) for one, own in rows()[:2]]
    none = told(alone)
    assert math.isnan(none.accuracy) and none.examples == 0
    assert parts_in_words(none, "pictures")[0].startswith("Held-out accuracy: not told, as it takes two pictures")


def test_probabilities_are_right_as_often_as_they_say() -> None:
    """By inputs that were left out; and where all of a few are right, no surer than that allows."""
    parts = rows(30, 5, 1.5)
    found = held(parts)
    temperature = found.temperature
    assert temperature != pytest.approx(1, abs=0.05)
    error, before = (
        expected_calibration_error((found.logits / by).softmax(1), found.targets) for by in (temperature, 1.0)
    )
    assert error < before
    easy = held(rows(3, 200, 0.01))
    assert (easy.logits.argmax(1) == easy.targets).all()
    shares = (easy.logits / easy.temperature).softmax(1).gather(1, easy.targets[:, None])
    assert shares.mean() < 0.95  # of 8 pairs of an input and a class one in 10 is doubted, and spread over 3 classes
    alone = [(one[:5], own[:5]) for one, own in rows()[:2]]
    assert held(alone).temperature == 1
    parts[2] = (parts[2][0][:5], parts[2][1][:5])  # one that no other input shows
    assert held(parts).logits.isinf().any() and 0.1 < held(parts).temperature < 10


def test_of_very_many_parts_an_even_share_is_learned_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quickstudy.learning.confidence._ROWS_IN_ALL", 1800)
    found = held(rows(6, 50))  # 300, 300 and 150 rows, of which 60 each are taken
    assert torch.bincount(found.targets).tolist() == [60, 60, 50]
    assert torch.bincount(found.owners[found.targets == 0]).tolist() == [10] * 6


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"5", "5.* is no JSON of boxes"),
        (b"\xff\xfe", "is no JSON of boxes"),
        (b"[" * 100_000, "is no JSON of boxes"),
        (b"[" + b"0," * 1000 + b"0]", "1,001 are too many"),
        (b" " * 2_000_000, "2,000,000 bytes are too many"),
    ],
)
def test_a_request_marks_few_parts_in_json(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        from_json(content, "boxes")
    assert from_json(b"[[4, 5, 20, 25]]", "boxes") == [[4, 5, 20, 25]]
