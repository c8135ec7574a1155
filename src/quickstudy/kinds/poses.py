"""An answer is points of a person, or of several by the boxes around them, by networks that are ready.

Shapes: N pictures, K persons of one, J points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from quickstudy.batches import Batch
from quickstudy.errors import ConfigError
from quickstudy.kinds.base import KINDS
from quickstudy.kinds.detection import padded_to
from quickstudy.kinds.instances import Keypoints
from quickstudy.kinds.ready import ReadyObjects
from quickstudy.nets import Encoder
from quickstudy.nets.poses import PoseFeatures, PoseHead


@KINDS.register("poses")
@dataclass(frozen=True)
class Poses(ReadyObjects, Keypoints):
    """Points of a person by ViTPose (https://arxiv.org/abs/2204.12484), whom the whole picture shows; or of each of
    several, where inputs have ``boxes``.

    Targets are those of ``Keypoints``; the score of a person is the mean of those of the points.

    Args:
        ignore: labels of objects that are no persons.
        min_score: of persons that an answer has; figures go through all.
        spread: see ``Keypoints``.
    """

    detectors: ClassVar[tuple[str, ...]] = ("vitpose",)
    of_backbone: ClassVar[Mapping[str, Any]] = {"features_only": True}
    untrainable: ClassVar[str] = (
        "PoseEstimator is ready, and is not trained here: test it, predict with it, or train a KeypointDetector on "
        "points of your own"
    )
    source: ClassVar[str] = "KeypointDetectionData.from_coco"

    detector: str = "vitpose"
    classes: tuple[str, ...] = field(default=("person",), kw_only=True)
    ids: tuple[Any, ...] = field(default=("person",), kw_only=True)
    codes: tuple[int, ...] = field(default=(0,), kw_only=True)

    @classmethod
    def asked(cls) -> list[str]:
        """Return the names of the options; see ``Kind.asked``."""
        return ["ignore", "min_score", "spread"]

    def ready(self, encoder: Encoder) -> tuple[Self, nn.Module] | None:
        """Return what makes maps of the points, and their names, where its weights are trained; see ``Kind.ready``."""
        own = _features(encoder)
        return (replace(self, points=own.names), PoseHead(own)) if own.ready else None

    def head(self, encoder: Encoder, example: Batch) -> nn.Module:
        """Return what makes maps of the points; see ``Kind.head``."""
        return PoseHead(_features(encoder))

    def head_of(self, weights: Mapping[str, Tensor], encoder: Encoder, like: Batch | None) -> nn.Module:
        """Return the same; see ``Kind.head_of``."""
        return PoseHead(_features(encoder))

    def outputs(self, encoder: Encoder, head: nn.Module, inputs: Batch) -> dict[str, Tensor]:
        """Return those of ``Keypoints``; scores of 0 fill up.

        Args:
            encoder, head: the network.
            inputs: pictures, maybe with ``boxes`` ``[N, K, 4]`` in pixels of the canvas; else the whole picture is one.
        """
        if torch.compiler.is_exporting():
            self.exported(None)
        found = []
        for row, (height, width) in enumerate(inputs["size"].tolist()):
            pixels = inputs["pixels"][row, :, :height, :width]
            whole = inputs["size"].new_tensor([[0, 0, width, height]]).float()
            boxes = inputs["boxes"][row].float() if "boxes" in inputs else whole
            told = head(_features(encoder), pixels, boxes)
            scores, labels = told["keypoints_scores"].mean(1), boxes.new_zeros(len(boxes), dtype=torch.int64)
            found.append({"boxes": boxes, "scores": scores.clamp(1e-6, 1), "labels": labels, **told})
        count = max(self.most, *(len(own["boxes"]) for own in found))
        every = {name: torch.stack([padded_to(own[name], count) for own in found]) for name in found[0]}
        return {**every, "size": inputs["size"], "full": inputs["full"]}


def _features(encoder: Encoder) -> PoseFeatures:
    if not isinstance(encoder.backbone, PoseFeatures):
        raise ConfigError(
            "PoseEstimator takes a ViTPose of transformers by its name or folder: "
            "backbone='usyd-community/vitpose-base-simple'"
        )
    return encoder.backbone
