"""Objects and pixels of pictures: boxes, masks, keypoints, by detectors over a network of ImageNet's weights.

python benchmarks/dense.py --root data

Networks and training were chosen on a fifth of the training pictures of Penn-Fudan and BCCD; test pictures are asked
once, but for those of masks, which were seen in one trial before, with the same settings.
Each trained figure stands beside one that looks at no picture: the places that objects had in training.
"""

from __future__ import annotations

import time
import zipfile
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import average_precision
import numpy as np
import shots_of_objects
import torch
from domains import InTurns, main
from embeddings import QUIET
from sklearn.cluster import KMeans
from torch import Tensor

from quickstudy import DataModule, Trainer
from quickstudy.batches import stack
from quickstudy.functional.intervals import mean_interval
from quickstudy.image import (
    InstanceSegmentation,
    InstanceSegmentationData,
    KeypointDetectionData,
    KeypointDetector,
    ObjectDetectionData,
    ObjectDetector,
    SemanticSegmentation,
    SemanticSegmentationData,
    StyleTransfer,
    StyleTransferData,
)
from quickstudy.kinds.detection import Detection
from quickstudy.nets.batch_norm import statistics_kept
from quickstudy.nets.detectors import Detector

BACKBONE, BATCH, RATE = "efficientnet_lite0", 2, 1e-3


@cache
def unpacked(archive: Path) -> Path:
    """Return a folder with what is in an archive."""
    folder = Path(mkdtemp())
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)
    return folder


def vision(root: Path, name: str, *parts: str) -> dict[str, Path]:
    """Return the folders of training and test pictures of one of the archives."""
    folder = unpacked(root / "vision" / name)
    return {"train_folder": folder.joinpath("train", *parts), "test_folder": folder.joinpath("test", *parts)}


def schedule(epochs: int, data: DataModule) -> dict[str, Any]:
    """Return the options of an optimizer whose rate rises and falls once."""
    table = data.table("train")
    assert table is not None
    options = {"max_lr": RATE, "total_steps": epochs * -(-len(table) // data.batch_size), "interval": "step"}
    optimizer = ("AdamW", {"weight_decay": 1e-2})
    return {"optimizer": optimizer, "learning_rate": RATE / 25, "lr_scheduler": ("OneCycleLR", options)}


def trained(data: DataModule, make: Any, epochs: int, strategy: str = "no_freeze", **options: Any) -> Any:
    """Return a model that was trained, and the seconds of a processor that it took."""
    torch.manual_seed(0)
    model = make(backbone=BACKBONE, **schedule(epochs, data), **options)
    began = time.process_time()
    Trainer(max_epochs=epochs, **QUIET).finetune(model, datamodule=data, strategy=strategy)
    return model, round(time.process_time() - began, 1)


def tested(model: Any, data: DataModule) -> dict[str, float]:
    """Return the figures of a test, in percent."""
    (found,) = Trainer(**QUIET).test(model, datamodule=data, verbose=False)
    told = {name.removeprefix("test_"): round(100 * float(value), 2) for name, value in found.items()}
    return {name: value for name, value in told.items() if name not in ("loss", "examples")}


def places(data: DataModule, kind: Any, count: int = 20) -> dict[str, float]:
    """Return the figures of who looks at no picture, and names the places where objects often were in training."""
    train, test = (kind.fitting(data.table(stage)) for stage in ("train", "test"))
    examples = [data.modality(item) for item in train.inputs]
    targets = [train.annotations.target(row, example) for row, example in enumerate(examples)]
    boxes = torch.cat(
        [target["boxes"] / example["size"].flip(0).repeat(2) for target, example in zip(targets, examples, strict=True)]
    )
    labels = torch.cat([target["labels"] for target in targets])
    places, scores, codes = [], [], []
    for code in labels.unique().tolist():
        own = boxes[labels == code].numpy()
        groups = KMeans(min(count, len(own)), n_init=1, random_state=0).fit(own)
        places.append(groups.cluster_centers_)
        scores.append(np.bincount(groups.labels_) / len(targets))
        codes.append(np.full(len(places[-1]), code))
    asked = [data.modality(item) for item in test.inputs]
    truth = stack([test.annotations.target(row, example) for row, example in enumerate(asked)])
    order = np.argsort(-np.concatenate(scores))[: kind.most]
    fill = kind.most - len(order)

    def filled(values: Any) -> Tensor:
        chosen = torch.as_tensor(np.concatenate(values)[order]).float()
        return torch.cat([chosen, chosen.new_zeros(fill, *chosen.shape[1:])])

    sides = torch.stack([example["size"] for example in asked]).flip(1).repeat(1, 2)
    outputs = {
        "boxes": filled(places) * sides[:, None],
        "scores": filled(scores).clamp(max=1).expand(len(asked), -1),
        "labels": filled(codes).long().expand(len(asked), -1),
    }
    measure = kind.measure(True)
    measure.update(kind.figures(outputs, truth))
    return {name: round(100 * one.mean, 2) for name, one in measure.estimates().items()}


def objects(data: DataModule, epochs: int, strategy: str = "no_freeze", **options: Any) -> dict[str, Any]:
    """Train a detector of boxes and test it, beside one that looks at no picture."""
    model, seconds = trained(data, ObjectDetector, epochs, strategy, **options)
    return {**tested(model, data), "train_cpu_seconds": seconds, "places alone": places(data, model.kind)}


def people(root: Path) -> dict[str, Any]:
    """Find the people of Penn-Fudan, 120 pictures to learn from and 50 to be asked of."""
    data = ObjectDetectionData.from_folders(
        **vision(root, "penn-fudan.zip"), image_size=320, batch_size=BATCH, transform="flip"
    )
    return {"faster_rcnn": objects(data, 3, detector="faster_rcnn"), "retinanet": objects(data, 7)}


def ten(root: Path) -> dict[str, Any]:
    """Find people by the first ten pictures of Penn-Fudan; the backbone stays as ImageNet made it."""
    whole = ObjectDetectionData.from_folders(
        **vision(root, "penn-fudan.zip"), image_size=320, batch_size=BATCH, transform="flip"
    )
    train = whole.table("train")
    assert train is not None
    data = ObjectDetectionData(
        train.select(np.arange(10)), test=whole.table("test"), image_size=320, batch_size=BATCH, transform="flip"
    )
    return objects(data, 50, "freeze", detector="faster_rcnn")


def cells(root: Path) -> dict[str, Any]:
    """Find three kinds of blood cells, of BCCD."""
    data = ObjectDetectionData.from_folders(
        **vision(root, "bccd.zip"), image_size=320, batch_size=BATCH, transform="flip"
    )
    return objects(data, 2, detector="faster_rcnn")


def instances(root: Path, size: int = 320, epochs: int = 3) -> dict[str, Any]:
    """Tell the pixels of each person of Penn-Fudan."""
    folders = vision(root, "penn-fudan.zip")
    options: dict[str, Any] = {"image_size": size, "batch_size": BATCH, "transform": "flip"}
    data = InstanceSegmentationData.from_folders(**folders, **options)
    model, seconds = trained(data, InstanceSegmentation, epochs)
    found = tested(model, data)
    boxes = Detection(detector="faster_rcnn").recalled(model.kind.memory())
    measure = boxes.measure(True)
    with torch.inference_mode():
        model.eval()
        table = model.kind.fitting(data.table("test"))
        for row in range(len(table)):
            example = data.modality(table.inputs[row])
            outputs = model.kind.outputs(model.encoder, model.head, stack([example]))
            measure.update(boxes.figures(outputs, stack([table.annotations.target(row, example)])))
    by_box = {name: round(100 * one.mean, 2) for name, one in measure.estimates().items()}
    return {"masks": found, "boxes": by_box, "train_cpu_seconds": seconds}


def ten_minutes(root: Path) -> dict[str, Any]:
    """Tell them after ten minutes of training, of larger pictures."""
    return instances(root, 400, 11)


def mouse(root: Path) -> dict[str, Any]:
    """Tell four points of a mouse; the baseline answers the mean place of each in training."""
    folders = vision(root, "mouse-keypoints.zip")
    data = KeypointDetectionData.from_folders(**folders, image_size=256, batch_size=BATCH, transform="flip")
    model, seconds = trained(data, KeypointDetector, 3)
    found = tested(model, data)
    tables = [data.table(stage) for stage in ("train", "test")]
    points = [
        np.array([table.annotations.items[row]["keypoints"] for row in range(len(table))], np.float64)
        for table in tables
    ]
    known, truth = (own.reshape(len(own), -1, 3)[..., :2] for own in points)
    answers = model.predictor().predict([tables[1].inputs[row] for row in range(len(truth))])
    far = np.full_like(truth, 1e4)
    told = np.stack(
        [
            np.array([place[:2] for place in answer[0]["keypoints"].values()]) if answer else own
            for answer, own in zip(answers, far, strict=True)
        ]
    )

    def off(places: Any) -> dict[str, float]:
        error = np.linalg.norm(places - truth, axis=-1)
        return {
            "median_pixels": round(float(np.median(error)), 2),
            "pck_10px": round(100 * float((error < 10).mean()), 1),
        }

    return {**found, **off(told), "train_cpu_seconds": seconds, "mean places": off(known.mean(0))}


def pixels(root: Path) -> dict[str, Any]:
    """Tell people from the ground of Penn-Fudan, pixel by pixel; the baseline says ground everywhere."""
    data = SemanticSegmentationData.from_folders(
        **vision(root, "penn-fudan.zip"), image_size=256, batch_size=8, transform="flip"
    )
    names = ["ground", "person"]
    model, seconds = trained(data, SemanticSegmentation, 6, decoder="fpn", dice=1.0, class_names=names)
    table = data.table("test")
    assert table is not None and table.annotations is not None
    shares = [float((table.annotations.target(row) == 0).float().mean()) for row in range(len(table))]  # type: ignore[arg-type]
    return {**tested(model, data), "train_cpu_seconds": seconds, "ground alone": round(50 * float(np.mean(shares)), 2)}


def tiles(root: Path) -> dict[str, Any]:
    """Tell people from the ground in the photographs' own pixels, in tiles, with the settings of ``pixels``."""
    data = SemanticSegmentationData.from_folders(
        **vision(root, "penn-fudan.zip"), tile=192, batch_size=8, transform="flip"
    )
    names = ["ground", "person"]
    model, seconds = trained(data, SemanticSegmentation, 6, decoder="fpn", dice=1.0, class_names=names)
    return {**tested(model, data), "train_cpu_seconds": seconds}


def labels(root: Path) -> dict[str, Any]:
    """Tell for each pixel of BCCD in which kinds of cells' boxes it lies, which overlap; the baseline says all of them.

    Settings are those of ``pixels``, with fewer epochs, as there are more pictures; a fifth of training chooses the
    thresholds.
    """
    folders, told = vision(root, "bccd.zip"), {}
    names = ("RBC", "WBC", "Platelets")
    for stage in ("train", "test"):
        table = ObjectDetectionData.from_folders(**{f"{stage}_folder": folders[f"{stage}_folder"]}).table(stage)
        assert table is not None and table.annotations is not None
        pictures, masks = [], []
        for row, item in enumerate(table.annotations.items):
            pictures.append(Path(str(table.inputs[row])).read_bytes())
            width, height = item["picture_size"]
            own = np.zeros((len(names), int(height), int(width)), np.uint8)
            for (left, top, right, bottom), label in zip(item["boxes"].astype(int), item["labels"], strict=True):
                own[names.index(label), top:bottom, left:right] = 1
            masks.append(own)
        told |= {f"{stage}_images": pictures, f"{stage}_targets": masks}
    data = SemanticSegmentationData.from_images(
        **told, val_split=0.2, image_size=256, batch_size=8, transform="flip", multi_label=True
    )
    model, seconds = trained(
        data, SemanticSegmentation, 4, decoder="fpn", dice=1.0, class_names=names, multi_label=True
    )
    there = np.stack([mask.mean((1, 2)) for mask in told["test_targets"]]).mean(0)
    everywhere = {f"iou_{name}": round(100 * float(share), 2) for name, share in zip(names, there, strict=True)}
    both = float(100 * np.mean([(mask.sum(0) > 1).mean() for mask in told["test_targets"]]))
    return {
        **tested(model, data),
        "train_cpu_seconds": seconds,
        "thresholds": list(model.kind.thresholds),
        "percent of pixels with several": round(both, 2),
        "everywhere all": {"mean_iou": round(100 * float(there.mean()), 2), **everywhere},
    }


def fewshot(root: Path) -> dict[str, Any]:
    """Tell people from the ground by the masks of 1, 5 or 20 pictures of Penn-Fudan, without training.

    The regularisation of the linear probe, and that its classes count the same, were chosen on the training pictures
    alone, 80 to learn from and 20 to be asked of. Intervals are over draws of the support; the baseline says ground
    everywhere.
    """
    data = SemanticSegmentationData.from_folders(**vision(root, "penn-fudan.zip"), image_size=256)
    train, test = data.table("train"), data.table("test")
    assert train is not None and train.annotations is not None and test is not None and test.annotations is not None
    torch.manual_seed(0)
    model = SemanticSegmentation(backbone=BACKBONE, class_names=["ground", "person"])
    forms: dict[str, tuple[str, dict[str, Any]]] = {
        "linear_probe": ("linear_probe", {}),
        "prototypes, 1 per class": ("prototypes", {"k": 1}),
        "prototypes, 5 per class": ("prototypes", {"k": 5}),
    }
    asked, masks = ([part[row] for row in range(len(test))] for part in (test.inputs, test.annotations.items))
    found: dict[str, Any] = {name: {} for name in forms}
    began = time.process_time()
    for count, draws in ((1, 10), (5, 10), (20, 5)):
        drawn = [np.random.default_rng([0, count, draw]).permutation(len(train))[:count] for draw in range(draws)]
        for name, (strategy, options) in forms.items():
            scores = []
            for rows in drawn:
                support = ([part[row] for row in rows] for part in (train.inputs, train.annotations.items))
                learned = model.adapt(*support, strategy=strategy, strategy_kwargs=options)
                scores.append(100 * learned.score(asked, masks))
            middle, half = mean_interval(torch.tensor(scores))
            found[name][f"{count} images"] = {
                "mean_iou": round(float(middle), 2),
                "ci95": round(float(half), 2),
                "draws": draws,
            }
    shares = [float((test.annotations.target(row) == 0).float().mean()) for row in range(len(test))]  # type: ignore[arg-type]
    return {
        **found,
        "ground alone": round(50 * float(np.mean(shares)), 2),
        "cpu_seconds": round(time.process_time() - began, 1),
    }


def transformer(root: Path) -> dict[str, Any]:
    """Find the people of Penn-Fudan by RT-DETR, whose transformer starts from random weights, in smaller pictures."""
    data = ObjectDetectionData.from_folders(
        **vision(root, "penn-fudan.zip"), image_size=224, batch_size=4, transform="flip"
    )
    return objects(data, 5, detector="rt_detr")


def strokes(side: int = 256, count: int = 900) -> Any:
    """Return a picture ``[side, side, 3]`` of blue and yellow strokes of a brush, a style that is nobody's."""
    generator = np.random.default_rng(0)
    picture, places = np.full((side, side, 3), (20, 40, 110), np.uint8), np.mgrid[:side, :side].transpose(1, 2, 0)
    for _ in range(count):
        middle, angle = generator.uniform(0, side, 2), generator.uniform(0, np.pi)
        along = (places - middle) @ [np.sin(angle), np.cos(angle)]
        across = (places - middle) @ [np.cos(angle), -np.sin(angle)]
        own = (np.abs(along) < generator.uniform(8, 20)) & (np.abs(across) < generator.uniform(1.5, 4))
        colour = np.array([(30, 60, 160), (70, 120, 200), (240, 200, 60), (200, 150, 30)][generator.integers(4)])
        picture[own] = np.clip(colour + generator.normal(0, 15, 3), 0, 255)
    return picture


def styles(root: Path) -> dict[str, Any]:
    """Paint the test photographs of Penn-Fudan in a style; the baselines leave them, or answer its mean colour."""
    data = StyleTransferData.from_folders(**vision(root, "penn-fudan.zip", "images"), image_size=128, batch_size=4)
    torch.manual_seed(0)
    model = StyleTransfer(style=strokes(), style_weight=4.0, learning_rate=1e-3)
    began = time.process_time()
    Trainer(max_epochs=10, **QUIET).fit(model, datamodule=data)
    seconds = round(time.process_time() - began, 1)
    (found,) = Trainer(**QUIET).test(model, datamodule=data, verbose=False)
    told = {name.removeprefix("test_"): round(float(value), 3) for name, value in found.items()}
    return {**told, "train_cpu_seconds": seconds}


def step(root: Path) -> dict[str, Any]:
    """Time steps of training against a plain loop of the same network, in turns, from decoded pictures."""
    folders = vision(root, "penn-fudan.zip")
    data = ObjectDetectionData.from_folders(**folders, image_size=320, batch_size=BATCH)
    table = (
        ObjectDetector(backbone=BACKBONE, class_names=["person"]).kind.meet(data, "fit").fitting(data.table("train"))
    )
    assert table.annotations is not None
    kept = [data.modality(table.inputs[row]) for row in range(len(table))]
    targets: list[Any] = [table.annotations.target(row, example) for row, example in enumerate(kept)]

    def plain() -> Iterator[None]:
        twin = ObjectDetector(backbone=BACKBONE, class_names=["person"])
        encoder = twin.encoder.train()
        inputs = stack(kept[:1])
        kind = twin.kind.recalled({"classes": ["person"], "ids": ["person"], "codes": [0]})
        head = kind.head(encoder, inputs).train()
        assert isinstance(head, Detector)
        optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=1e-4)
        while True:
            for rows in torch.randperm(len(kept)).split(BATCH):
                batch = stack([kept[row] for row in rows.tolist()])
                objects = [{"boxes": targets[row]["boxes"], "labels": targets[row]["labels"]} for row in rows.tolist()]
                optimizer.zero_grad()
                with statistics_kept(encoder):
                    maps = encoder.maps(batch)
                torch.stack(list(head.losses(maps, batch["size"], batch["pixels"], objects).values())).sum().backward()
                optimizer.step()
                yield

    ratios, ours = list[float](), list[float]()
    for seed in range(3):
        torch.manual_seed(seed)
        model = ObjectDetector(backbone=BACKBONE, optimizer="AdamW", learning_rate=1e-4, class_names=["person"])
        turns = InTurns(plain())
        Trainer(max_epochs=1, limit_train_batches=30, callbacks=[turns], **QUIET).finetune(model, datamodule=data)
        ratios.append(turns.ratio)
        ours.append(turns.step)
    middle, half = mean_interval(torch.tensor(ratios))
    return {
        "detector": "retinanet",
        "batch size": BATCH,
        "milliseconds of a step": round(1000 * float(np.median(ours)), 1),
        "time of quickstudy / plain torch": {"mean": round(float(middle), 3), "ci95": round(float(half), 3)},
    }


def precision_time(root: Path) -> dict[str, Any]:
    """Time the average precision of 5,000 pictures of made-up objects; see ``average_precision``."""
    return average_precision.measured()


def letters(root: Path, shots: int) -> dict[str, Any]:
    """Find letters on photographs whose classes are of few objects; see ``shots_of_objects``."""
    return shots_of_objects.measured(shots, vision(root, "penn-fudan.zip"), trained)


MEASUREMENTS = {
    "people": people,
    "ten": ten,
    "cells": cells,
    "instances": instances,
    "ten_minutes": ten_minutes,
    "mouse": mouse,
    "pixels": pixels,
    "tiles": tiles,
    "labels": labels,
    "fewshot": fewshot,
    "transformer": transformer,
    "styles": styles,
    "step": step,
    "precision_time": precision_time,
    "letters_1": partial(letters, shots=1),
    "letters_5": partial(letters, shots=5),
    "letters_10": partial(letters, shots=10),
}

if __name__ == "__main__":
    main("dense", __doc__, MEASUREMENTS)
