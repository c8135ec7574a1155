"""Objects in pictures: average precision as COCO counts it, families of detectors, answers in the pixels of files."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quickstudy import ConfigError, DataError, Trainer
from quickstudy.batches import stack, take
from quickstudy.functional.detections import point_likeness
from quickstudy.image import ObjectDetectionData, ObjectDetector, Picture
from quickstudy.kinds.detection import Detection, objects_of
from quickstudy.kinds.instances import InstanceSegmentation, Keypoints
from quickstudy.nets import Encoder
from quickstudy.nets.detectors import DETECTORS, Detector
from quickstudy.testing import check_kind
from quickstudy.trained import TrainedModel

SIDE, NAMES = 64, ("square", "bar")


class Maps(nn.Module):
    """Feature maps of strides 8 and 16, of a few layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 16, 4, 4), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU())

    def forward(self, pixels: Tensor) -> list[Tensor]:
        fine = self.first(pixels)
        return [fine, self.second(fine)]


def scene(seed: int, height: int = SIDE, width: int = SIDE) -> tuple[Tensor, dict[str, Any]]:
    """A dark picture with bright squares and bars, and where they are."""
    generator = np.random.default_rng(seed)
    pixels = torch.full((3, height, width), 30, dtype=torch.uint8)
    boxes, labels = [], []
    for corner in range(int(generator.integers(0, 3))):
        label = NAMES[int(generator.integers(2))]
        wide, high = (20, 20) if label == "square" else (24, 10)
        x, y = int(generator.integers(0, width // 2 - wide + 1)), int(generator.integers(0, height - high + 1))
        x += corner * (width // 2)  # so that none hides another
        pixels[corner, y : y + high, x : x + wide] = 250
        boxes.append([x, y, x + wide, y + high])
        labels.append(label)
    return pixels, {"boxes": np.array(boxes, np.float64).reshape(-1, 4), "labels": labels}


def scenes(count: int, first: int = 0, **size: int) -> tuple[list[Tensor], list[dict[str, Any]]]:
    pictures, targets = zip(*(scene(first + seed, **size) for seed in range(count)), strict=True)
    return list(pictures), list(targets)


def batch_of(count: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    data = ObjectDetectionData.from_images(
        train_images=scenes(count)[0], train_targets=scenes(count)[1], batch_size=count, image_size=SIDE
    )
    model = ObjectDetector(backbone=Maps(), class_names=NAMES)
    model.kind = model.kind.meet(data, "fit")
    table = model.kind.fitting(data.table("train"))
    assert table.annotations is not None
    inputs = [data.modality(item) for item in table.inputs]
    targets = [table.annotations.target(row, example) for row, example in enumerate(inputs)]
    return stack(inputs), stack(targets)


KIND = Detection(classes=NAMES, ids=NAMES, codes=(0, 1), width=16, most=10)


def coco(pictures: int, seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Objects and findings of many kinds: crowds, nothing there, nothing found, equal scores."""
    generator = np.random.default_rng(seed)
    there: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for picture in range(pictures):
        for _ in range(int(generator.integers(0, 5))):
            box = [*generator.uniform(0, 60, 2), *generator.uniform(5, 40, 2)]
            crowd = int(generator.random() < 0.15)
            there.append(
                {
                    "id": len(there) + 1,
                    "image_id": picture,
                    "category_id": int(generator.integers(1, 4)),
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": crowd,
                }
            )
            for _ in range(int(generator.integers(0, 4))):
                moved = (np.array(box) + generator.normal(0, 3, 4)).clip(1)
                score = max(round(float(generator.random()), 1), 0.1)  # of 0 is what fills up, which no detector finds
                found.append(
                    {
                        "image_id": picture,
                        "category_id": int(generator.integers(1, 4))
                        if generator.random() < 0.2
                        else there[-1]["category_id"],
                        "bbox": moved.tolist(),
                        "score": score,
                    }
                )
    images = [{"id": number, "width": 100, "height": 100} for number in range(pictures)]
    categories = [{"id": number, "name": str(number)} for number in (1, 2, 3, 4)]
    return {"images": images, "annotations": there, "categories": categories}, found


def corners(rows: list[dict[str, Any]]) -> np.ndarray:
    boxes = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_that_of_pycocotools(seed: int) -> None:
    """Of all and of each class, with crowds, equal scores, pictures without objects and a class that is nowhere."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    count, names = 12, ("1", "2", "3", "4")
    dataset, found = coco(count, seed)
    with contextlib.redirect_stdout(io.StringIO()):
        whole = COCO()
        whole.dataset = dataset
        whole.createIndex()
        theirs = COCOeval(whole, whole.loadRes(found), "bbox")
        theirs.evaluate()
        theirs.accumulate()
        theirs.summarize()
    kind = Detection(classes=names, ids=names, codes=(0, 1, 2, 3), most=100)
    there = [[row for row in dataset["annotations"] if row["image_id"] == picture] for picture in range(count)]
    told = [[row for row in found if row["image_id"] == picture] for picture in range(count)]

    def leaves(rows: list[dict[str, Any]], **more: list[Any]) -> dict[str, Tensor]:
        codes = torch.tensor([row["category_id"] - 1 for row in rows], dtype=torch.int64)
        own = {name: torch.tensor(values, dtype=torch.float64) for name, values in more.items()}
        return {"boxes": torch.from_numpy(corners(rows)), "labels": codes, **own}

    outputs = stack([leaves(rows, scores=[row["score"] for row in rows]) for rows in told])
    targets = stack([leaves(rows, crowd=[row["iscrowd"] for row in rows], mask=[1] * len(rows)) for rows in there])
    filled = {name: filled_up(leaf, kind.most) for name, leaf in outputs.items()}  # type: ignore[union-attr]
    figures = kind.precisions(kind.figures(filled, targets).numpy())  # type: ignore[arg-type]
    for name, value in zip(("map", "map_50", "map_75"), theirs.stats, strict=False):
        assert figures[name] == pytest.approx(value, abs=1e-9)
    precision = theirs.eval["precision"][..., 0, 2]  # of thresholds, recalls and classes; -1 of a class that is nowhere
    for code, name in enumerate(names):
        if (precision[..., code] < 0).all():
            assert f"ap_{name}" not in figures
        else:
            assert figures[f"ap_{name}"] == pytest.approx(precision[..., code].mean(), abs=1e-9)


def filled_up(leaf: Tensor, most: int) -> Tensor:
    return nn.functional.pad(leaf, [0, 0] * (leaf.ndim - 2) + [0, most - leaf.shape[1]])


def test_the_kind_conforms() -> None:
    inputs, targets = batch_of(8)
    check_kind(KIND, Encoder(Maps()), inputs, targets)


def instances_of(count: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """As ``batch_of``, with the pixels of objects."""
    inputs, targets = batch_of(count)
    rows, columns = torch.arange(SIDE)[:, None], torch.arange(SIDE)
    left, top, right, bottom = (side[..., None, None] for side in targets["boxes"].unbind(-1))
    masks = (columns >= left) & (columns < right) & (rows >= top) & (rows < bottom)
    return inputs, {**targets, "masks": masks.to(torch.uint8)}


@pytest.mark.dear("image", "kinds", "testing", "nets")
def test_the_kind_of_masks_conforms() -> None:
    inputs, targets = instances_of(8)
    kind = InstanceSegmentation(classes=NAMES, ids=NAMES, codes=(0, 1), width=8, most=10)
    check_kind(kind, Encoder(Maps()), inputs, targets, steps=40, learning_rate=5e-3)


@pytest.mark.parametrize("name", DETECTORS)
def test_each_family_learns_and_answers(name: str) -> None:
    torch.manual_seed(0)
    pixels, size = torch.zeros(2, 3, SIDE, SIDE), torch.tensor([[SIDE, SIDE], [24, SIDE]])
    maps = Maps()(torch.rand(2, 3, SIDE, SIDE))
    detector = Detector(name, [16, 16], [8, 16], 2, width=32, keypoints=3 * name.startswith("keypoint"), most=7)
    objects: list[dict[str, Tensor]] = [
        {
            "boxes": torch.tensor([[4.0, 4, 30, 30]]),
            "labels": torch.tensor([1]),
            "masks": torch.ones(1, SIDE, SIDE, dtype=torch.uint8),
            "keypoints": torch.full((1, 3, 3), 10.0),
        }
    ]
    objects.append({part: leaf[:0] for part, leaf in objects[0].items()})  # a picture without objects
    sum(detector.losses(maps, size, pixels, objects).values()).backward()  # type: ignore[union-attr]
    reached = [parameter for parameter in detector.parameters() if parameter.grad is not None]
    assert len(reached) > 0.9 * len(list(detector.parameters()))
    detector.eval()
    with torch.no_grad():
        one, other = (detector.losses(maps, size, pixels, objects) for _ in range(2))
        assert all(bool(one[part] == other[part]) for part in one)  # what it draws is drawn alike
        found = detector(maps, size, pixels)
    assert len(found) == 2 and all(len(own["scores"]) <= 7 for own in found)
    assert bool((found[1]["boxes"][:, 3] <= 24).all())  # none reaches beyond the picture
    assert all(set(own["labels"].tolist()) <= {0, 1} for own in found)


def test_squares_and_bars_are_found_and_named_in_the_pixels_of_files(tmp_path: Path) -> None:
    train, test = scenes(32), scenes(8, 100)
    larger = [picture.repeat_interleave(2, 1).repeat_interleave(2, 2) for picture in test[0]]
    doubled = [{**target, "boxes": 2 * target["boxes"]} for target in test[1]]
    data = ObjectDetectionData.from_images(
        train_images=train[0],
        train_targets=train[1],
        test_images=larger,
        test_targets=doubled,
        batch_size=4,
        image_size=SIDE,
        transform="mirror",
    )
    torch.manual_seed(0)
    model = ObjectDetector(backbone=Maps(), width=32, learning_rate=4e-3)
    trainer = Trainer(max_epochs=40, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.finetune(model, datamodule=data)
    (figures,) = trainer.test(model, datamodule=data, verbose=False)
    assert figures["test_map_50"] > 0.8 and figures["test_map_ci95"] > 0
    assert model.classes == ("bar", "square")
    predictor = model.predictor()
    answers = predictor.predict(larger)
    assert sum(map(len, answers)) > 0
    for answer, target in zip(answers, doubled, strict=True):
        for one in answer[:1]:
            near = np.abs(target["boxes"] - np.array(one["box"])).max(1, initial=0)
            assert near.min() < 12
    predictor.save(tmp_path / "model")
    assert TrainedModel.load(tmp_path / "model", backbone=Maps()).predict(larger) == answers
    asked = ObjectDetectionData.from_images(predict_images=larger, image_size=SIDE)
    file, drawings = tmp_path / "found.json", tmp_path / "drawn"
    told = trainer.predict(model, datamodule=asked, output="coco", file=file, drawings=drawings)
    assert json.loads(file.read_text()) == told == predictor.predict(larger, "coco")
    assert [one["score"] for one in told["annotations"]] == [one["score"] for answer in answers for one in answer]
    assert told["images"][7] == {"id": 8, "file_name": "input 7", "height": 2 * SIDE, "width": 2 * SIDE}
    assert len([*drawings.iterdir()]) == 8


def test_a_batch_may_be_shared_by_processes_with_the_default() -> None:
    """The gradient of four pictures is the mean of those of two and two."""
    inputs, targets = batch_of(4)
    encoder = Encoder(Maps()).double()
    torch.manual_seed(0)
    head = KIND.head(encoder, {name: leaf[:1] for name, leaf in inputs.items()}).double()

    def gradient(rows: slice) -> Tensor:
        judged = KIND.judge(
            encoder,
            head,
            {name: leaf[rows] for name, leaf in inputs.items()},
            {name: leaf[rows].double() if leaf.is_floating_point() else leaf[rows] for name, leaf in targets.items()},
            KIND.loss(None),
        )
        found = torch.autograd.grad(judged.loss, [*encoder.parameters(), *head.parameters()], allow_unused=True)
        return torch.cat([one.flatten() for one in found if one is not None])

    whole, parts = gradient(slice(None)), (gradient(slice(2)) + gradient(slice(2, None))) / 2
    assert whole == pytest.approx(parts, abs=1e-9)
    assert KIND.shares and not Detection(classes=NAMES, detector="faster_rcnn").shares


def test_crowds_are_not_learned_and_found_by_any_number() -> None:
    outputs = {
        "boxes": torch.tensor([[[0.0, 0, 10, 10], [20, 20, 30, 30], [40, 40, 50, 50]]]),
        "scores": torch.tensor([[0.9, 0.8, 0.7]]),
        "labels": torch.tensor([[0, 0, 0]]),
    }
    kind = Detection(classes=NAMES, ids=NAMES, codes=(0, 1), most=3)
    targets = {
        "boxes": torch.tensor([[[0.0, 0, 10, 10], [15, 15, 60, 60]]]),
        "labels": torch.tensor([[0, 0]]),
        "mask": torch.tensor([[True, True]]),
        "crowd": torch.tensor([[False, True]]),
    }
    assert kind.precisions(kind.figures(outputs, targets).numpy())["map"] == pytest.approx(1.0)
    assert [len(own["boxes"]) for own in kind._objects(targets, torch.float32)] == [1]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ([1, 2], "objects are given as"),
        ({"boxes": [[1, 2, 3]], "labels": ["a"]}, "a box has 4 numbers"),
        ({"boxes": [[1, 2, 3, 4]], "labels": []}, "1 boxes and 0 labels"),
        ({"boxes": [[50, 60, 20, 30]], "labels": ["a"]}, "x, y, width, height add the first two"),
        ({"boxes": [[0, 0, float("nan"), 1]], "labels": ["a"]}, "box 0"),
    ],
)
def test_what_is_no_object_is_told(item: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        objects_of(item)


def with_more(targets: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add masks, the lower half of each box, and keypoints, its upper corners."""
    boxes = targets["boxes"].long()
    masks = torch.zeros(*boxes.shape[:2], SIDE, SIDE, dtype=torch.uint8)
    for row, own in enumerate(boxes):
        for place, (left, top, right, bottom) in enumerate(own.tolist()):
            masks[row, place, (top + bottom) // 2 : bottom, left:right] = 1
    ones = torch.ones(*boxes.shape[:2])
    left, top, right, _ = targets["boxes"].unbind(-1)
    points = torch.stack([torch.stack([left, top, ones], -1), torch.stack([right, top, ones], -1)], -2)
    return {**targets, "masks": masks, "keypoints": points * targets["mask"][..., None, None]}


@pytest.mark.parametrize(
    "kind",
    [
        InstanceSegmentation(classes=NAMES, ids=NAMES, codes=(0, 1), width=16, most=6, min_score=0.001),
        Keypoints(
            classes=NAMES,
            ids=NAMES,
            codes=(0, 1),
            width=16,
            most=6,
            min_score=0.001,
            points=("left", "right"),
        ),
    ],
    ids=["instances", "keypoints"],
)
def test_masks_and_keypoints_are_learned_judged_and_told(kind: Any) -> None:
    inputs, targets = batch_of(6)
    targets = with_more(targets)
    encoder = Encoder(Maps())
    torch.manual_seed(0)
    head = kind.head(encoder, {name: leaf[:1] for name, leaf in inputs.items()})
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], 5e-3)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        judged = kind.judge(encoder, head, inputs, targets, kind.loss(None))
        judged.loss.backward()
        optimizer.step()
        losses.append(float(judged.loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
    encoder.eval()
    head.eval()
    with torch.no_grad():
        judged = kind.judge(encoder, head, inputs, targets, kind.loss(None))
    assert judged.figures.shape == (6, 4 * 6 + 2)
    doubled = {**judged.outputs, "full": 2 * inputs["size"]}
    answers = kind.answers(doubled, "objects")
    one = next(answer[0] for answer in answers if answer)
    assert json.loads(json.dumps(one)) == one
    if "mask" in one:
        assert one["mask"]["size"] == [2 * SIDE, 2 * SIDE] and sum(one["mask"]["counts"]) == 4 * SIDE * SIDE
    else:
        assert set(one["keypoints"]) == {"left", "right"} and len(one["keypoints"]["left"]) == 3


def test_masks_and_keypoints_that_are_right_count_as_right() -> None:
    _, targets = batch_of(6)
    targets = with_more(targets)
    count = targets["boxes"].shape[1]
    both = {"boxes": targets["boxes"], "scores": targets["mask"] * 0.9, "labels": targets["labels"]}
    shown = {**both, "keypoints": targets["keypoints"].clone()}
    kind: Any = Keypoints(classes=NAMES, ids=NAMES, codes=(0, 1), most=count, points=("left", "right"))
    assert kind.precisions(kind.figures(shown, targets).numpy())["map"] == pytest.approx(1)
    shown["keypoints"][..., 0] += 6
    assert kind.precisions(kind.figures(shown, targets).numpy())["map"] < 0.2
    halves = torch.zeros(*targets["labels"].shape, 1, 28, 28)
    halves[..., 14:, :] = 1  # as the masks are
    kind = InstanceSegmentation(classes=NAMES, ids=NAMES, codes=(0, 1), most=count)
    assert kind.precisions(kind.figures({**both, "masks": halves}, targets).numpy())["map_75"] > 0.9
    assert kind.precisions(kind.figures({**both, "masks": halves.flip(-2)}, targets).numpy())["map_50"] == 0


def test_likeness_of_keypoints_is_that_of_pycocotools() -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    generator = np.random.default_rng(0)
    there, found = generator.uniform(0, 50, (3, 17, 3)), generator.uniform(0, 50, (4, 17, 3))
    there[..., 2] = generator.integers(0, 3, (3, 17))
    rows = [
        {"id": 1 + row, "image_id": 1, "category_id": 1, "keypoints": one.ravel().tolist(), "num_keypoints": 17}
        | {"area": 400.0 + row, "bbox": [0, 0, 20, 20], "iscrowd": 0}
        for row, one in enumerate(there)
    ]
    answers = [
        {"image_id": 1, "category_id": 1, "keypoints": one.ravel().tolist(), "score": 0.9 - row / 10}
        for row, one in enumerate(found)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        whole = COCO()
        whole.dataset = {"images": [{"id": 1}], "annotations": rows, "categories": [{"id": 1}]}
        whole.createIndex()
        theirs = COCOeval(whole, whole.loadRes(answers), "keypoints")
        theirs._prepare()
    spread = theirs.params.kpt_oks_sigmas
    own = point_likeness(found, there, np.array([400.0, 401, 402]), spread)
    assert own == pytest.approx(theirs.computeOks(1, 1), abs=1e-9)


def test_options_that_are_wrong_are_told() -> None:
    with pytest.raises(ConfigError, match="retinanet"):
        ObjectDetector(backbone=Maps(), detector="yolo")
    with pytest.raises(ConfigError, match="fcos takes a multiple of 32"):
        ObjectDetector(backbone=Maps(), detector="fcos", width=48)
    with pytest.raises(ConfigError, match="loss of its own"):
        ObjectDetector(backbone=Maps(), loss_fn="cross_entropy")
    with pytest.raises(ConfigError, match="as a whole"):
        ObjectDetector(backbone="conv4")
    assert ObjectDetector(backbone=Maps(), ignore="crowd").kind.ignored == ("crowd",)


@pytest.mark.dear("image", "kinds", "saved", "nets")
def test_retinanet_is_exported_before_it_chooses(tmp_path: Path) -> None:
    """What the graph says of all anchors comes to the model's own answers, by non-maximum suppression."""
    import onnxruntime
    from torchvision.ops import batched_nms

    inputs, _ = batch_of(3)
    torch.manual_seed(0)
    encoder = Encoder(Maps()).eval()
    head = KIND.head(encoder, take(inputs, slice(1))).eval()
    with torch.no_grad():
        for part in (head.network.head.classification_head, head.network.head.regression_head):
            for layer in (*part.modules(),):
                if isinstance(layer, nn.Conv2d):
                    layer.weight *= 4  # scores that differ
    model = TrainedModel(encoder, head, KIND, Picture(SIDE, resize="fit"), take(inputs, slice(1)))
    exported = model.export(tmp_path / "x.onnx")
    assert exported.flips == 0 and exported.difference < 1e-3
    session = onnxruntime.InferenceSession(exported.model)
    told = session.run(None, {one.name: inputs[one.name.split(".")[-1]].numpy() for one in session.get_inputs()})[0]
    with torch.no_grad():
        wanted = KIND.outputs(encoder, head, inputs)
    for row, own in enumerate(torch.from_numpy(told)):
        places, codes = (own[:, 4:] > 0.01).nonzero().unbind(1)
        boxes, scores = own[places, :4] * SIDE, own[places, 4 + codes]
        kept = batched_nms(boxes, scores, codes, 0.5)[: KIND.most]
        assert codes[kept].tolist() == wanted["labels"][row].tolist()
        torch.testing.assert_close(scores[kept], wanted["scores"][row], rtol=0, atol=1e-4)
        torch.testing.assert_close(boxes[kept], wanted["boxes"][row], rtol=0, atol=1e-2)


def test_detectors_that_choose_among_proposals_say_so(tmp_path: Path) -> None:
    inputs, _ = batch_of(2)
    kind = replace(KIND, detector="faster_rcnn")
    encoder = Encoder(Maps()).eval()
    model = TrainedModel(encoder, kind.head(encoder, inputs).eval(), kind, Picture(SIDE, resize="fit"), inputs)
    with pytest.raises(ConfigError, match="which no graph holds"):
        model.export(tmp_path / "x.onnx")
