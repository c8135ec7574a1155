"""A network that proposes regions in which there is something, and makes features of them; nothing trains it further.

It is a detector by regions without its classes: which boxes it proposes, how sure it is that something is there, and
the features that its last layers would tell classes by.

Shapes: N pictures, R regions of one, D features, H W pixels of the canvas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.errors import require
from quickstudy.nets.detectors import Detector, Found, images_of
from quickstudy.nets.encoder import Encoder, build_encoder
from quickstudy.nets.registry import BACKBONES


class Proposed(NamedTuple):
    """What is proposed in N pictures, those of each by falling sureness."""

    boxes: list[Tensor]
    """``[R, 4]`` each, x and y of two corners in pixels of the canvas."""
    sureness: list[Tensor]
    """``[R]`` each, that something is there, whatever it is: 0..1."""


class Regions(nn.Module):
    """A network of feature maps with the detector that stands on it.

    Args:
        network: makes the maps.
        detector: one by regions.
        made_of: what ``regions`` made the network and the detector of.
    """

    def __init__(self, network: nn.Module, detector: Detector, made_of: Mapping[str, Any]) -> None:
        super().__init__()
        self.network, self.detector, self.made_of = network, detector, dict(made_of)
        self.output_fmt = getattr(network, "output_fmt", "NCHW")

    def forward(self, pixels: Tensor) -> Any:
        """Return the feature maps of pictures ``[N, C, H, W]``."""
        return self.network(pixels)

    def pyramid(self, maps: Sequence[Tensor]) -> Found:
        """Return the levels of the feature pyramid over all of the network's maps."""
        return self.detector.pyramid_of(maps)

    def features(self, levels: Found, boxes: Sequence[Tensor], size: Tensor) -> Tensor:
        """Return features of boxes of all pictures, one after another, ``[sum R, D]``, all of length 1.

        Args:
            levels: of the pyramid.
            boxes: ``[R, 4]`` of each picture.
            size: ``[N, 2]``, height and width of each picture on its canvas.
        """
        return F.normalize(self._pooled(levels, boxes, size), dim=1)

    def proposed(self, levels: Found, size: Tensor, pixels: Tensor, most: int, overlap: float = 0.5) -> Proposed:
        """Return boxes that the detector's first stage proposes and its second moves, whatever is in them.

        Args:
            levels, size: see ``features``.
            pixels: ``[N, 3, H, W]``, of which the shape alone counts.
            most: R at most.
            overlap: intersection over union, from which on of two boxes the less sure one is left out.
        """
        ops = require("torchvision.ops", extra="image")
        images, heads = images_of(size, pixels), self.detector.network.roi_heads
        proposals, _ = self.detector.network.rpn(images, levels)
        counts = [len(own) for own in proposals]
        logits, moves = self.detector.last(self._pooled(levels, proposals, size))
        moved = heads.box_coder.decode(moves, proposals)  # [R, C + 1, 4]
        sure = 1 - logits.softmax(1)[:, 0]
        likeliest = logits[:, 1:].argmax(1) + 1
        own = moved[torch.arange(len(moved), device=moved.device), likeliest]
        boxes, sureness = list[Tensor](), list[Tensor]()
        for one, scores, image in zip(own.split(counts), sure.split(counts), images.image_sizes, strict=True):
            clipped = ops.clip_boxes_to_image(one, image)
            large = ops.remove_small_boxes(clipped, 1.0)
            kept = large[ops.nms(clipped[large], scores[large], overlap)[:most]]
            boxes.append(clipped[kept])
            sureness.append(scores[kept])
        return Proposed(boxes, sureness)

    def _pooled(self, levels: Found, boxes: Sequence[Tensor], size: Tensor) -> Tensor:
        heads = self.detector.network.roi_heads
        sizes = [(height, width) for height, width in size.tolist()]
        found: Tensor = heads.box_head(heads.box_roi_pool(levels, list(boxes), sizes))
        return found


@BACKBONES.register("regions")
def regions(of: str, options: Mapping[str, Any], detector: Mapping[str, Any]) -> Regions:
    """Make a network of regions without its weights, which a saved model has.

    Args:
        of: the name of a backbone of feature maps.
        options: of that.
        detector: the arguments of a ``Detector``.
    """
    made_of = {"of": of, "options": dict(options), "detector": dict(detector)}
    return Regions(build_encoder(of, options, pretrained=False).backbone, Detector(**detector), made_of)


def of_regions(encoder: Encoder, detector: Detector) -> Encoder:
    """Return an encoder of the same network with the detector that stands on it, from which nothing learns."""
    name, options = encoder.made_by or ("", {})
    made_of = {"of": name, "options": dict(options), "detector": dict(detector.made_with)}
    made = Encoder(Regions(encoder.backbone, detector, made_of))
    made.mean, made.std, made.fed, made.trained = encoder.mean, encoder.std, encoder.fed, True
    made.made_by = None if encoder.made_by is None else ("regions", made_of)
    return made.eval().requires_grad_(False)
