"""What a report shows of a test: hits, misses and false alarms of objects, pixels that were taken for others."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from quickstudy.functional import detections
from quickstudy.functional.detections import matched, partners
from quickstudy.image.modality import Picture
from quickstudy.kinds import annotated
from quickstudy.kinds.detection import Detection
from quickstudy.kinds.instances import InstanceSegmentation, Keypoints
from quickstudy.kinds.semantic import SemanticSegmentation
from quickstudy.runs.folder import MISTAKES, write_measured
from quickstudy.training.mistakes import Mistake, Mistakes

SIDE = 64
NO_INTERVAL = {"recall_ci95": None, "precision_ci95": None}  # of a single picture
CLASSES: dict[str, Any] = {"classes": ("square", "bar"), "ids": ("square", "bar"), "codes": (0, 1), "most": 4}
SIZES = {"size": torch.tensor([[SIDE, SIDE]]), "full": torch.tensor([[2 * SIDE, 2 * SIDE]])}
# In a picture: a square that is found, a bar that is taken for a square, a crowd that is found, one found too unsurely.
BOXES = [[4.0, 4, 24, 24], [30, 30, 54, 40], [0, 48, 60, 60], [40, 2, 60, 22]]
TARGETS = {
    "boxes": torch.tensor([BOXES]),
    "labels": torch.tensor([[0, 1, 0, 0]]),
    "mask": torch.ones(1, 4, dtype=torch.bool),
    "crowd": torch.tensor([[False, False, True, False]]),
}
OUTPUTS = {
    "boxes": torch.tensor([BOXES]) + torch.tensor([1.0, 0, 1, 0]),
    "scores": torch.tensor([[0.9, 0.8, 0.7, 0.1]]),
    "labels": torch.tensor([[0, 0, 0, 0]]),
    **SIZES,
}


def test_partners_are_those_that_average_precision_counts() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        shared, crowd = generator.random((6, 4)).round(1), generator.random(4) < 0.25
        chosen = partners(shared, crowd, 0.5)
        right, spare = matched(shared, crowd, [0.5])
        single = np.append(~crowd, False)[chosen]
        assert (single == (right > 0)).all()
        assert (((chosen >= 0) & ~single) == (spare > 0)).all()


def test_hits_misses_and_false_alarms_are_told_of_a_picture_and_of_all() -> None:
    kind = Detection(**CLASSES)
    told = kind.mistakes(OUTPUTS, TARGETS, 0)
    assert told is not None
    states = [(one["state"], one["label"]) for one in told["objects"]]
    assert states == [("hit", "square"), ("false", "square"), ("miss", "bar"), ("miss", "square")]
    assert told["said"] == "1 of 3 found, 1 false alarm" and told["wrong"] == 3
    found = kind.found_per_class(kind.figures(OUTPUTS, TARGETS))
    square, bar = found["square"], found["bar"]
    assert [square[name] for name in ("objects", "hits", "misses", "false_alarms")] == [2, 1, 1, 1]
    assert square["recall"] == square["precision"] == 0.5 and square["recall_ci95"] > 0.3
    assert bar["recall"] == 0 and "precision" not in bar


def test_pixels_of_masks_and_points_that_are_off_are_told() -> None:
    masks = torch.zeros(1, 4, SIDE, SIDE, dtype=torch.uint8)
    masks[0, 0, 4:24, 4:24] = 1
    of_masks = InstanceSegmentation(**CLASSES)
    found = {**OUTPUTS, "masks": torch.ones(1, 4, 1, 28, 28)}
    told = of_masks.mistakes(found, {**TARGETS, "masks": masks}, 0)
    assert told is not None
    hit = told["objects"][0]
    assert hit["state"] == "hit" and hit["missing"][4:24, 4].all() and hit["surplus"][6:22, 24].all()
    assert not hit["missing"][:, 6:].any() and "missing" not in told["objects"][1]
    points = torch.tensor([[[[10.0, 10, 2], [20, 20, 0]]] * 4])
    of_points = Keypoints(**CLASSES, points=("nose", "tail"))
    told = of_points.mistakes({**OUTPUTS, "keypoints": points + 1}, {**TARGETS, "keypoints": points}, 0)
    assert told is not None
    assert told["objects"][0]["points"] == [([11, 11], [10, 10])]  # of the other it is not known where it is


def semantic() -> tuple[SemanticSegmentation, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    kind = SemanticSegmentation(classes=("ground", "square"), ids=(0, 1), codes=(0, 1))
    labels = torch.zeros(1, SIDE, SIDE, dtype=torch.int64)
    labels[0, :16, :16] = 1
    answers = torch.zeros(1, SIDE, SIDE, dtype=torch.int64)
    answers[0, :16, 8:24] = 1
    asked = torch.ones(1, SIDE, SIDE, dtype=torch.bool)
    asked[0, 60:] = False
    outputs = {"logits": torch.eye(2)[answers], "mask": torch.ones(1, SIDE, SIDE, dtype=torch.bool), **SIZES}
    return kind, outputs, {"labels": labels, "mask": asked}


def test_pixels_taken_for_others_are_told() -> None:
    kind, outputs, targets = semantic()
    told = kind.mistakes(outputs, targets, 0)
    assert told is not None
    assert told["wrong"] == pytest.approx(256 / (60 * 64)) and told["unasked"][60:].all()
    assert [words for words, _ in told["errors"]] == ["ground taken for square 3.3%", "square taken for ground 3.3%"]
    assert told["errors"][1][1][:16, :8].all() and told["errors"][1][1].sum() == 128
    found = kind.found_per_class(kind.figures(outputs, targets))
    assert found["square"] == {**dict.fromkeys(("recall", "precision"), 0.5), "pixels": 256, **NO_INTERVAL}
    several = kind.found_per_class(torch.cat([kind.figures(outputs, targets), torch.tensor([[9.0, 8, 9, 9, 9, 8]])]))
    assert several["square"]["recall"] == pytest.approx(136 / 264) and several["square"]["recall_ci95"] > 0


def test_the_worst_are_kept_drawn_and_lie_in_the_runs_folder(tmp_path: Path) -> None:
    kind, outputs, targets = semantic()
    pixels = torch.full((1, 3, SIDE, SIDE), 100, dtype=torch.uint8)
    mistakes = Mistakes(None, kind, Picture(SIDE, resize="fit"))
    for reach in [0, *range(1, 12)]:
        of_step = {**targets, "labels": targets["labels"].clone()}
        of_step["labels"][0, 40 : 40 + reach] = 1
        right = {**outputs, "logits": torch.eye(2)[of_step["labels"]]} if not reach else outputs
        mistakes.add(({"pixels": pixels, **SIZES}, None), right, of_step)
    worst = mistakes.worst
    assert [one.caption.split(":")[0] for one in worst] == [f"input {number}" for number in range(11, 3, -1)]
    drawn = np.asarray(Image.open(io.BytesIO(worst[0].drawing))).astype(int)
    scale = drawn.shape[1] // SIDE
    assert np.abs(drawn[45 * scale, 30 * scale] - 100).max() > 60  # a pixel that is wrong
    assert np.abs(drawn[30 * scale, 30 * scale] - 100).max() < 8
    write_measured(tmp_path, {"mean_iou": 0.5}, "best.ckpt", None, None, worst)
    assert len([*(tmp_path / MISTAKES).iterdir()]) == 8
    write_measured(tmp_path, {"mean_iou": 0.5}, "best.ckpt", None, None, [Mistake(b"x", "a")])
    assert [one.name for one in (tmp_path / MISTAKES).iterdir()] == ["1.jpg"]


def test_objects_are_drawn_by_their_state() -> None:
    told = Detection(**CLASSES).mistakes(OUTPUTS, TARGETS, 0)
    assert told is not None
    example = {"pixels": torch.full((3, SIDE, SIDE), 100, dtype=torch.uint8), "size": torch.tensor([SIDE, SIDE])}
    drawn = np.asarray(Image.open(io.BytesIO(Picture().draw_mistakes(example, told)))).astype(int)
    scale = 384 // SIDE
    for (x, y), colour in (((5, 14), (30, 142, 62)), ((31, 35), (217, 48, 37)), ((47, 22), (224, 134, 0))):
        near = drawn[y * scale - 12 : y * scale + 13, x * scale - 12 : x * scale + 13].reshape(-1, 3)
        assert np.abs(near - colour).max(1).min() < 40


def test_a_test_leaves_groups_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The score of each picture, and the intervals of all figures, follow from the same."""
    asked = []

    def counting(*arguments: Any) -> Any:
        asked.append(arguments)
        return detections.without_each(*arguments)

    monkeypatch.setattr(annotated, "without_each", counting)
    monkeypatch.setattr(annotated, "_LATEST", {})
    kind = Detection(**CLASSES)
    figures = kind.figures(OUTPUTS, TARGETS).repeat(3, 1)
    kind.settled(figures.double())
    measure = kind.measure(True)
    measure.update(figures)
    assert "map" in measure.estimates() and len(asked) == 1
