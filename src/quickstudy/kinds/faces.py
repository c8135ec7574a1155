"""An answer is the faces in a picture, with five points of each, by networks that are ready.

Shapes: N pictures, K faces that are found at most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from quickstudy.batches import Batch
from quickstudy.errors import check_counts
from quickstudy.kinds.base import KINDS
from quickstudy.kinds.detection import padded_to
from quickstudy.kinds.ready import ReadyObjects
from quickstudy.nets import Encoder
from quickstudy.nets.mtcnn import POINTS, Cascade


@KINDS.register("faces")
@dataclass(frozen=True)
class Faces(ReadyObjects):
    """Faces, each with its box and five points, by MTCNN (https://arxiv.org/abs/1604.02878), which is not trained here.

    Targets are those of ``Detection``; all objects of the data are taken for faces. Average precision is that of boxes.

    Args:
        ignore: labels of objects that are no faces.
        most: faces that are found in a picture at most.
        min_score: of faces that an answer has; figures go through all.
        min_face: pixels of the smallest that are looked for, in the picture as the networks see it.
    """

    detectors: ClassVar[tuple[str, ...]] = ("mtcnn",)
    untrainable: ClassVar[str] = (
        "FaceDetector is ready, and its three networks are not trained here, as each would learn from parts of "
        "pictures that the one before leaves: test it, predict with it, or train an ObjectDetector, or a "
        "KeypointDetector for points, on faces of your own"
    )
    source: ClassVar[str] = "FaceDetectionData.from_coco"

    detector: str = "mtcnn"
    min_score: float = 0.7
    classes: tuple[str, ...] = field(default=("face",), kw_only=True)
    ids: tuple[Any, ...] = field(default=("face",), kw_only=True)
    codes: tuple[int, ...] = field(default=(0,), kw_only=True)
    min_face: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(min_face=self.min_face)

    @classmethod
    def asked(cls) -> list[str]:
        """Return the names of the options; see ``Kind.asked``."""
        return ["ignore", "most", "min_score", "min_face"]

    def first_head(self, encoder: Encoder) -> nn.Module:
        """Return the second network and the third."""
        return Cascade()

    def head(self, encoder: Encoder, example: Batch) -> nn.Module:
        """Return the same; see ``Kind.head``."""
        return Cascade()

    def head_of(self, weights: Mapping[str, Tensor], encoder: Encoder, like: Batch | None) -> nn.Module:
        """Return the same; see ``Kind.head_of``."""
        return Cascade()

    def outputs(self, encoder: Encoder, head: nn.Module, inputs: Batch) -> dict[str, Tensor]:
        """Return those of ``Detection``, with ``keypoints`` ``[N, K, 5, 2]``; scores of 0 fill up."""
        if torch.compiler.is_exporting():
            self.exported(None)
        found = []
        for pixels, (height, width) in zip(inputs["pixels"], inputs["size"].tolist(), strict=True):
            picture = encoder.prepared(pixels[None, :, :height, :width])
            found.append(head(encoder.backbone, picture, self.min_face, self.most))
        every = {name: torch.stack([padded_to(own[name], self.most) for own in found]) for name in found[0]}
        return {**every, "size": inputs["size"], "full": inputs["full"]}

    def _told(self, found: Mapping[str, Tensor], factor: Tensor, full: Sequence[int]) -> dict[str, Any]:
        told = super()._told(found, factor, full)
        places = (found["keypoints"] * factor).tolist()
        points = {name: [*place, told["score"]] for name, place in zip(POINTS, places, strict=True)}
        return {**told, "keypoints": points}
