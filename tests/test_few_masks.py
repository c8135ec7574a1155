"""Classes of pixels learned from a few masks, without training: by algorithms on embeddings, cell by cell."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from torch import nn

from quickstudy import ConfigError, DataError, PartPredictor, Trainer
from quickstudy.cli import main
from quickstudy.errors import TakenError
from quickstudy.image import SemanticSegmentation, SemanticSegmentationData
from quickstudy.image.modality import Picture
from quickstudy.kinds.semantic import SemanticSegmentation as Pixels
from quickstudy.learning.parts import _Drawn
from quickstudy.nets import Encoder
from quickstudy.predictor import Adapted
from quickstudy.serve.app import build
from quickstudy.serve.service import Service
from quickstudy.trained import TrainedModel

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


def test_no_answer_depends_on_the_pictures_beside_it(learned: PartPredictor) -> None:
    shapes = [(64, 80), (30, 80), (64, 20), (128, 160)]
    pictures = [scene(seed, SQUARE)[0][:height, :width] for seed, (height, width) in enumerate(shapes)]
    together = learned.predict(pictures, "probabilities")
    for one, pixels in zip(together, pictures, strict=True):
        assert torch.allclose(one, learned.predict([pixels], "probabilities")[0], atol=1e-5)


class Colours(nn.Module):
    """One feature map, of the mean colour of each cell."""

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        return [nn.functional.avg_pool2d(pixels, 4)]


def test_what_is_like_nothing_shown_is_unknown_where_that_is_asked() -> None:
    kind = Pixels(strides=(4,), class_names=("ground", "square"))
    predictor = PartPredictor(Encoder(Colours()), kind.algorithm(), Picture(80, resize="fit"), kind)
    pairs = [scene(seed, SQUARE) for seed in range(3)]
    predictor.fit([one for one, _ in pairs], [mask for _, mask in pairs])
    pixels, _ = scene(9, SQUARE)
    pixels[:, 44:] = (0, 255, 0)
    assert (predictor.predict([pixels])[0] >= 0).all()
    (found,) = predictor.predict([pixels], may_be_unknown=True)
    assert (found[:, 48:] == -1).all() and (found[:, :40] == -1).float().mean() < 0.1
    told = predictor.kind.in_json(predictor.rank([pixels])[0]._replace(ids=found))
    assert "unknown" in {one["label"] for one in told["masks"]}


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
    for refused in (learned.embed, learned.export):
        with pytest.raises(ConfigError, match="parts of inputs"):
            refused([pixels])
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


@pytest.mark.parametrize("strategy", ["linear_probe", "prototypes", "finetune"])
def test_the_three_steps_of_few_shot_forms(strategy: str, tmp_path: Path) -> None:
    pairs = [scene(seed, SQUARE) for seed in range(8)]
    images, masks = [one for one, _ in pairs], [mask for _, mask in pairs]
    data = SemanticSegmentationData.from_images(
        train_images=images[:6], train_targets=masks[:6], val_images=images[6:], val_targets=masks[6:], image_size=64
    )
    torch.manual_seed(0)
    options = {"decoder": "fpn", "width": 32, "learning_rate": 1e-2} if strategy == "finetune" else {"strides": [4, 8]}
    task = SemanticSegmentation(
        backbone=BACKBONE, pretrained=False, class_names=["ground", "square"], training_strategy=strategy, **options
    )
    before = {name: value.clone() for name, value in task.encoder.state_dict().items()}
    trainer = Trainer(max_epochs=2, default_root_dir=tmp_path, enable_progress_bar=False, logger=False)
    trainer.finetune(task, datamodule=data)
    (figures,) = trainer.validate(task, datamodule=data, verbose=False)
    assert all(torch.equal(value, before[name]) for name, value in task.encoder.state_dict().items())
    predictor = task.predictor()
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    again = SemanticSegmentation.load_from_checkpoint(tmp_path / "model.ckpt")
    assert torch.equal(again.predictor().predict(images[:1])[0], predictor.predict(images[:1])[0])
    if strategy == "finetune":
        assert isinstance(predictor, TrainedModel) and isinstance(task.adapt(images[:1], masks[:1]), PartPredictor)
        return
    assert figures["val_mean_iou"] > 0.7
    assert isinstance(predictor, PartPredictor) and predictor.counts_ == {"ground": 6, "square": 6}
    learned = task.adapt(images[:6], masks[:6])
    assert torch.allclose(learned.knowledge.learned, predictor.knowledge.learned, atol=1e-6)
    assert figures["val_mean_iou"] == pytest.approx(predictor.score(images[6:], masks[6:]), abs=1e-6)


def in_bytes(pixels: np.ndarray) -> bytes:
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, "PNG")
    return held.getvalue()


def test_a_service_answers_masks_and_learns_a_class_from_one(learned: PartPredictor, tmp_path: Path) -> None:
    learned.save(tmp_path)
    pixels, mask = scene(5, SQUARE, BAR)
    pairs = [("images", ("a.png", in_bytes(pixels))), ("masks", ("a.png", in_bytes(np.uint8(255 * (mask == 2)))))]

    async def ask() -> list[Any]:
        with Service(tmp_path) as service:
            transport = httpx.ASGITransport(build(service))
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return [
                    await client.post("/classes/bar/examples", files=pairs[:1]),
                    await client.post("/classes/bar/examples", files=pairs),
                    await client.post("/predict", files=pairs[:1]),
                    await client.get("/classes"),
                    await client.post("/classes/bar/examples", files=[pairs[0], ("masks", ("a.png", b"none"))]),
                ]

    refused, taught, answers, classes, damaged = asyncio.run(ask())
    assert refused.status_code == 422 and "1 images and 0 masks: each needs one, curl -F" in refused.text
    assert taught.json() == {"name": "bar", "examples": 1}
    (told,) = answers.json()["predictions"]
    assert {one["label"] for one in told["masks"]} == {"ground", "square", "bar"} and told["size"] == [*mask.shape]
    assert [one["examples"] for one in classes.json()["classes"]] == [2, 2, 1]
    assert damaged.status_code == 422 and "a mask is no image that can be read" in damaged.text
    assert PartPredictor.load(tmp_path).classes_.tolist() == ["ground", "square", "bar"]


def test_the_command_line_learns_from_a_folder_of_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(2):
        for name, array in zip(("images", "masks"), scene(seed, SQUARE), strict=True):
            (tmp_path / "few" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(tmp_path / "few" / name / f"{seed}.png")
    out, classes = str(tmp_path / "made"), ["--classes", "ground", "square", "--image_size", "64"]
    support = ["--support", str(tmp_path / "few"), "--task", "semantic_segmentation"]
    main(["adapt", BACKBONE, *support, "--pretrained", "false", *classes, "--out", out])
    told = capsys.readouterr().out
    assert "Learned 2 classes of parts of 2 pictures with linear_probe" in told and "ground 2, square 2" in told
    main(["predict", out, str(tmp_path / "few" / "images"), "--output", str(tmp_path / "found.csv")])
    assert "square" in (tmp_path / "found.csv").read_text()
    again = str(tmp_path / "again")
    main(["adapt", out, "--support", str(tmp_path / "few"), "--strategy", "prototypes", "--out", again])
    assert PartPredictor.load(again).about()["strategy"] == "prototypes"
