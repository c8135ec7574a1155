"""Classes of pixels learned from a few masks, without training: by algorithms on embeddings, cell by cell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from quickstudy import ConfigError, DataError, PartPredictor
from quickstudy.errors import TakenError
from quickstudy.image import SemanticSegmentation
from quickstudy.learning.parts import _Drawn
from quickstudy.predictor import Adapted

BACKBONE = "mobilenetv3_small_050"
SQUARE, BAR = (240, 240, 240), (240, 20, 20)


def scene(seed: int, *colors: tuple[int, int, int], height: int = 64, width: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """A dark picture with a patch of each colour, and which of them each pixel is of, from 1."""
    generator = np.random.default_rng(seed)
    pixels, labels = np.full((height, width, 3), 30, np.uint8), np.zeros((height, width), np.uint8)
    for code, color in enumerate(colors, 1):
        x, y = 40 * (code - 1) + int(generator.integers(0, 12)), int(generator.integers(0, height - 24))
        pixels[y : y + 24, x : x + 24], labels[y : y + 24, x : x + 24] = color, code
    return pixels, labels


def model() -> SemanticSegmentation:
    torch.manual_seed(0)
    made = SemanticSegmentation(backbone=BACKBONE, pretrained=False, strides=(4, 8), class_names=["ground", "square"])
    made.load_options = {"image_size": 64}
    return made


def overlap(found: torch.Tensor, true: np.ndarray) -> float:
    one = found.numpy() == 1
    return float((one & (true == 1)).sum() / (one | (true == 1)).sum())


@pytest.fixture(scope="module")
def learned() -> PartPredictor:
    pairs = [scene(seed, SQUARE) for seed in range(2)]
    predictor: PartPredictor = model().adapt([one for one, _ in pairs], [mask for _, mask in pairs])
    return predictor


def test_two_masks_teach_a_class_of_pixels(learned: PartPredictor) -> None:
    pixels, mask = scene(9, SQUARE)
    (found,) = learned.predict([pixels])
    assert found.shape == mask.shape and overlap(found, mask) > 0.5
    assert learned.classes_.tolist() == ["ground", "square"] and learned.counts_ == {"ground": 2, "square": 2}
    assert learned.score([pixels], [mask]) > 0.5
    (shares,) = learned.predict([pixels], "probabilities")
    assert torch.allclose(shares.sum(-1), torch.ones(mask.shape))
    with pytest.raises(ConfigError, match="output"):
        learned.predict([pixels], "boxes")


def test_a_class_is_added_by_one_mask_and_forgotten(learned: PartPredictor, tmp_path: Path) -> None:
    learned.save(tmp_path)
    predictor = PartPredictor.load(tmp_path)
    assert isinstance(Adapted.load(tmp_path), PartPredictor)
    pixels, mask = scene(5, SQUARE, BAR)
    predictor.add_class("bar", [pixels], [mask == 2])
    (found,) = predictor.predict([pixels])
    assert ((found == 2).numpy() & (mask == 2)).sum() > 0.7 * (mask == 2).sum()
    assert predictor.counts_ == {"ground": 2, "square": 2, "bar": 1}
    told = predictor.kind.in_json(predictor.rank([pixels])[0])
    assert {one["label"] for one in told["masks"]} == {"ground", "square", "bar"} and told["size"] == [*mask.shape]
    predictor.save(tmp_path)
    assert torch.equal(PartPredictor.load(tmp_path).predict([pixels])[0], found)
    with pytest.raises(TakenError, match="add_examples"):
        predictor.add_class("bar", [pixels], [mask == 2])
    other, where = scene(6, BAR)
    predictor.add_examples("bar", [other], [where]).rename_class("bar", "stripe")
    assert predictor.counts_["stripe"] == 2
    predictor.remove_class("stripe")
    assert torch.equal(predictor.predict([pixels])[0], learned.predict([pixels])[0])


def test_the_linear_probe_of_cells_is_that_of_scikit_learn(learned: PartPredictor) -> None:
    known = learned.knowledge
    rows = np.concatenate([kept.values.double().numpy() for kept in known.support.values()])
    codes = np.repeat([0, 1], [len(kept.values) for kept in known.support.values()])
    lengthened = np.hstack([rows / np.linalg.norm(rows, axis=1, keepdims=True), np.ones((len(rows), 1))])
    ours = torch.from_numpy(lengthened) @ known.learned.double()
    # Of two classes it has one vector of weights, the difference of ours, at twice the penalty.
    theirs = LogisticRegression(C=0.2, class_weight="balanced", fit_intercept=False, tol=1e-10, max_iter=10_000)
    chances = theirs.fit(lengthened, codes).predict_proba(lengthened)
    assert np.abs(ours.softmax(1).numpy() - chances).max() < 1e-4


def test_bad_masks_are_told(learned: PartPredictor, tmp_path: Path) -> None:
    pixels, mask = scene(0, SQUARE)
    wrong = {
        "the target of input 0: a mask has 40x30 pixels, and its picture 80x64": [mask[:30, :40]],
        "the label 7 is of none of the 2 classes": [np.where(mask == 1, 7, 0)],
        "no target shows the class 'square'": [np.zeros_like(mask)],
        "1 examples but 2 targets": [mask, mask],
    }
    for told, masks in wrong.items():
        with pytest.raises(DataError, match=told):
            model().adapt([pixels], masks)
    before = learned.counts_
    with pytest.raises(DataError, match="input 1 does not show 'bar' anywhere"):
        learned.add_class("bar", [pixels, pixels], [mask, 0 * mask])
    with pytest.raises(DataError, match=r"this has 1, 2: give \(mask == 1\)"):
        learned.add_class("bar", [pixels], [np.where(mask == 1, np.arange(mask.shape[1]) % 2 + 1, 0)])
    assert learned.counts_ == before
    with pytest.raises(ConfigError, match="MAML adapts the network"):
        model().adapt([pixels], [mask], strategy="maml")


def test_pixels_of_no_class_are_not_learned() -> None:
    pixels, mask = scene(0, SQUARE, BAR)
    torch.manual_seed(0)
    task = SemanticSegmentation(backbone=BACKBONE, pretrained=False, ignore_index=2, strides=[8], num_classes=2)
    predictor = task.adapt([pixels], [mask])
    rows = [len(kept.values) for kept in predictor.knowledge.support.values()]
    cells = predictor.knowledge.like["pixels"].shape[-1] // 8
    assert sum(rows) < cells * -(-64 * cells // 80) and predictor.classes_.tolist() == ["0", "1"]


def test_every_input_gives_as_many_rows_as_there_is_room_for_whatever_their_order() -> None:
    counts = [3, 50, 10, 400]
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        drawn = _Drawn(60, 1)
        for owner in order:
            rows = 1000.0 * owner + torch.arange(counts[owner])[:, None]
            drawn.add(rows, torch.zeros(counts[owner], dtype=torch.long), torch.full((counts[owner],), owner))
        rows, _, owners = drawn.all()
        found = {owner: sorted(rows[owners == owner].flatten().tolist()) for owner in range(4)}
        if order[0] == 0:
            first = found
    assert found == first and [len(found[owner]) for owner in range(4)] == [3, 23, 10, 23]
