"""Made-up pictures of characters: boxes and masks are exact, and classes of the splits disjoint."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from quickstudy import ConfigError, DataError
from quickstudy.datasets.scenes import scenes


def test_boxes_lie_around_the_pixels_and_none_covers_another() -> None:
    pictures, targets = scenes(12, "test", classes=5, size=(96, 128), sides=(12, 24), objects=(0, 4), seed=3)
    assert {len(target["labels"]) for target in targets} > {1, 2}
    for picture, target in zip(pictures, targets, strict=True):
        assert picture.shape == (96, 128, 3) and picture.dtype == np.uint8
        assert target["masks"].shape == (len(target["labels"]), 96, 128) and target["masks"].sum(0).max(initial=0) <= 1
        for mask, box in zip(target["masks"], target["boxes"], strict=True):
            rows, columns = np.nonzero(mask)
            assert [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] == box.tolist()
            assert 10 <= max(box[2:] - box[:2]) <= 24


def test_a_character_stands_out_from_a_photograph() -> None:
    ground = np.full((40, 300, 3), 120, np.uint8)  # lower than the picture: it is enlarged
    (picture,), (target,) = scenes(1, classes=1, objects=(1, 1), size=(64, 64), grounds=[ground])
    grey = picture.astype(float) @ (0.3, 0.59, 0.11)
    (mask,) = target["masks"]
    left, top, right, bottom = target["boxes"][0].astype(int)
    beside = np.ones((64, 64), np.bool_)
    beside[max(top - 1, 0) : bottom + 1, max(left - 1, 0) : right + 1] = False  # where its soft edges are not
    assert np.ptp(grey[beside]) == 0 and np.abs(grey[mask] - 120).mean() > 40


def test_classes_come_equally_often_and_alike_for_one_seed() -> None:
    """Two objects of each class are what two-shot learning needs."""
    pictures, targets = scenes(10, "val", classes=5, objects=(1, 1), size=(64, 64), masks=False, seed=7)
    labels = [target["labels"][0] for target in targets]
    assert sorted(map(labels.count, set(labels))) == [2] * 5 and all(name.startswith("Cyrillic/") for name in labels)
    again, same = scenes(10, "val", classes=sorted(set(labels)), objects=(1, 1), size=(64, 64), seed=8)
    assert {target["labels"][0] for target in same} == set(labels) and (again[0] != pictures[0]).any()
    assert (scenes(1, "val", classes=5, objects=(1, 1), size=(64, 64), seed=7)[0][0] == pictures[0]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count=0"),
        ({"split": "training"}, "split='training'.*'train'"),
        ({"classes": 9999}, "there are 2689 characters"),
        ({"classes": ["Latin/LATIN SMALL LETER A"]}, "LETER A' is no character of this split.*LATIN SMALL LETTER A"),
        ({"objects": (3, 1)}, r"objects=\(3, 1\)"),
        ({"sides": (28, 56), "size": (48, 48)}, "a character is larger than a picture"),
    ],
)
def test_what_cannot_be_made_is_told(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        scenes(**{"count": 1, **options})


def test_a_grey_photograph_is_named() -> None:
    with pytest.raises(DataError, match=r"ground 1 has the shape \(9, 9\).*convert\('RGB'\)"):
        scenes(1, grounds=[np.zeros((9, 9, 3)), np.zeros((9, 9))])
