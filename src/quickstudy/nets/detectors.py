"""Heads that find objects in feature maps, torchvision's: RetinaNet, FCOS, Faster, Mask and Keypoint R-CNN.

They stand on a feature pyramid (Lin et al. 2017, https://arxiv.org/abs/1612.03144) over whatever maps a backbone has.

Shapes: N pictures, M objects of one, K found ones, C classes, J keypoints, D channels, h w of a map.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from quickstudy.errors import ConfigError, check_choice, require
from quickstudy.nets.cosine import CosinePredictor, of_other_classes

DETECTORS = ("retinanet", "fcos", "faster_rcnn", "mask_rcnn", "keypoint_rcnn")
"""RetinaNet: Lin et al. 2017, https://arxiv.org/abs/1708.02002. FCOS: Tian et al. 2019, https://arxiv.org/abs/1904.01355.
Faster R-CNN: Ren et al. 2015, https://arxiv.org/abs/1506.01497. Mask R-CNN, also of keypoints: He et al. 2017,
https://arxiv.org/abs/1703.06870."""
BY_PICTURE = ("retinanet",)
"""Those whose loss of a batch is the mean over its pictures, so that it may be shared."""
_FINEST = {"retinanet": 8, "fcos": 8}
"""The finest map's stride, in pixels; 4 of the others."""
GROUPS = {"retinanet": 8, "fcos": 32, "faster_rcnn": 1, "mask_rcnn": 1, "keypoint_rcnn": 1, "rt_detr": 8}
"""What the channels of the pyramid are a multiple of, for GroupNorm; and RT-DETR's, for its heads of attention."""
Found = dict[str, Tensor]
Objects = Sequence[Mapping[str, Tensor]]


class Detector(nn.Module):
    """A feature pyramid, and what finds objects in it.

    Args:
        name: one of ``DETECTORS``.
        channels: D of each map that it is given, from the finest to the coarsest.
        strides: of each, in pixels.
        classes: C.
        width: channels of the pyramid.
        keypoints: J, of ``"keypoint_rcnn"``.
        most: objects that are found in a picture at most.
        classifier: ``"linear"``, or ``"cosine"`` for classes by directions and one box for all, of those by regions.

    Raises:
        ConfigError: the name is unknown, or a detector that looks at no regions has no such classifier.
        MissingPackageError: torchvision is not installed.
    """

    def __init__(
        self,
        name: str,
        channels: Sequence[int],
        strides: Sequence[int],
        classes: int,
        width: int = 64,
        keypoints: int = 0,
        most: int = 100,
        classifier: str = "linear",
    ) -> None:
        super().__init__()
        check_choice("detector", name, *DETECTORS)
        check_classifier(name, classifier)
        ops = require("torchvision.ops", extra="image")
        pyramid = require("torchvision.ops.feature_pyramid_network", extra="image")
        self.name, self.classes, self.most = name, classes, most
        self._made_with: dict[str, Any] = {"name": name, "channels": [*channels], "strides": [*strides], "width": width}
        self._made_with |= {"keypoints": keypoints, "most": most, "classifier": classifier}
        self.by_regions = name.endswith("rcnn")
        last = {stride: place for place, stride in enumerate(strides)}  # of several maps of one size the deepest
        coarse = [stride for stride in sorted(last) if stride >= _FINEST.get(name, 4)] or [max(last)]
        self.places = [last[stride] for stride in coarse]
        """Which of the maps the pyramid stands on."""
        further = pyramid.LastLevelMaxPool() if self.by_regions else pyramid.LastLevelP6P7(width, width)
        self.pyramid = ops.FeaturePyramidNetwork([channels[place] for place in self.places], width, further)
        levels = [*coarse]
        for _ in range(1 if self.by_regions else 2):
            levels.append(2 * levels[-1])
        made = _regions if self.by_regions else _dense
        self.network = made(name, width, levels, classes, keypoints, most)
        if classifier == "cosine":
            self.network.roi_heads.box_predictor = CosinePredictor(8 * width, classes + 1)

    @property
    def made_with(self) -> dict[str, Any]:
        """Its arguments as they are now, in plain values."""
        return {**self._made_with, "classes": self.classes}

    @property
    def last(self) -> nn.Module:
        """The last layers of boxes, which tell classes and move boxes, of a detector by regions."""
        found: nn.Module = self.network.roi_heads.box_predictor
        return found

    def become(self, classes: int, known: dict[int, int]) -> None:
        """Take other classes; what the last layers know of some stays, the rest is new.

        Args:
            classes: C.
            known: by code the one that it had before.
        """
        pairs = {new + 1: old + 1 for new, old in known.items()}
        self.network.roi_heads.box_predictor = of_other_classes(self.last, classes, pairs)
        self.classes = classes

    def forward(self, maps: Sequence[Tensor], size: Tensor, pixels: Tensor) -> list[Found]:
        """Return what is found in each picture: ``boxes`` ``[K, 4]``, ``scores``, ``labels`` ``[K]``, and more.

        Boxes are x and y of two corners in pixels of the canvas, labels from 0, the surest first. With masks there is
        ``masks`` ``[K, 1, 28, 28]``, of each box the share of its class; with keypoints ``keypoints`` ``[K, J, 3]`` and
        their ``keypoints_scores`` ``[K, J]``.

        Args:
            maps: of all of the backbone, ``[N, D, h, w]`` each.
            size: ``[N, 2]``, height and width of each picture on its canvas.
            pixels: ``[N, 3, H, W]``, of which the shape alone counts.
        """
        features, images = self.pyramid_of(maps), images_of(size, pixels)
        if not self.by_regions:
            outputs, anchors, counts = self._asked(features, images)
            split = {name: list(torch.split(leaf, counts, 1)) for name, leaf in outputs.items()}
            found: list[Found] = self.network.postprocess_detections(
                split, [list(torch.split(own, counts)) for own in anchors], images.image_sizes
            )
            return found
        proposals, _ = self.network.rpn(images, features)
        found, _ = self.network.roi_heads(features, proposals, images.image_sizes)
        return [{**own, "labels": own["labels"] - 1} for own in found]

    def losses(self, maps: Sequence[Tensor], size: Tensor, pixels: Tensor, objects: Objects) -> dict[str, Tensor]:
        """Return the parts of the loss, each a number.

        Args:
            maps, size, pixels: see ``forward``.
            objects: of each picture ``boxes`` ``[M, 4]``, ``labels`` ``[M]`` and, where they are asked about, ``masks``
                ``[M, H, W]`` and ``keypoints`` ``[M, J, 3]``.
        """
        features, images = self.pyramid_of(maps), images_of(size, pixels)
        if not self.by_regions:
            outputs, anchors, counts = self._asked(features, images)
            more = (counts,) if self.name == "fcos" else ()
            lost: dict[str, Tensor] = self._of_all(objects, outputs, anchors, *more)
            return lost
        apart = [{**own, "labels": own["labels"] + 1} for own in objects]  # 0 is the background there
        with _training(self.network):
            proposals, of_proposals = self.network.rpn(images, features, apart)
            _, of_regions = self.network.roi_heads(features, proposals, images.image_sizes, apart)
        return {**of_proposals, **of_regions}

    def _of_all(self, objects: Objects, outputs: Found, anchors: list[Tensor], *more: Any) -> dict[str, Tensor]:
        found: dict[str, Tensor]
        if self.name == "fcos":
            found = self.network.compute_loss(objects, outputs, anchors, *more)
            return found
        matcher, matched = self.network.proposal_matcher, []
        ops = require("torchvision.ops", extra="image")
        for own, boxes in zip(objects, anchors, strict=True):
            if len(own["boxes"]):
                matched.append(matcher(ops.box_iou(own["boxes"], boxes)))
            else:
                matched.append(torch.full((len(boxes),), -1, dtype=torch.int64, device=boxes.device))
        found = self.network.head.compute_loss(objects, outputs, anchors, matched)
        return found

    def pyramid_of(self, maps: Sequence[Tensor]) -> Found:
        """Return the levels of the feature pyramid over all maps of the backbone."""
        chosen = OrderedDict((str(level), maps[place]) for level, place in enumerate(self.places))
        found: Found = self.pyramid(chosen)
        return found

    def _asked(self, features: Found, images: Any) -> tuple[Found, list[Tensor], list[int]]:
        """Return what a dense head says of each place, the places' anchors, and how many each level has."""
        levels = list(features.values())
        outputs = self.network.head(levels)
        anchors = self.network.anchor_generator(images, levels)
        each = len(anchors[0]) // sum(own.shape[2] * own.shape[3] for own in levels)
        return outputs, anchors, [own.shape[2] * own.shape[3] * each for own in levels]


def check_classifier(detector: str, classifier: str) -> None:
    """Check that a detector can tell classes so.

    Raises:
        ConfigError: it cannot, or there is no such classifier.
    """
    check_choice("classifier", classifier, "linear", "cosine")
    if classifier == "cosine" and not detector.endswith("rcnn"):
        raise ConfigError(
            f"classifier='cosine' is of the regions of a detector, and {detector} has none: set detector='faster_rcnn'"
        )


@contextmanager
def _training(module: nn.Module) -> Iterator[None]:
    """Put a network into training mode, in which alone it tells its loss; what it draws changes no other draw."""
    before = module.training
    devices = {tensor.device for tensor in module.parameters() if tensor.device.type == "cuda"}
    if before:
        yield
        return
    module.train()
    try:
        with torch.random.fork_rng(list(devices)):
            torch.manual_seed(0)
            yield
    finally:
        module.train(before)


def images_of(size: Tensor, pixels: Tensor) -> Any:
    """Return pictures as torchvision takes them, of which their sizes count."""
    image_list = require("torchvision.models.detection.image_list", extra="image")
    return image_list.ImageList(pixels, [(height, width) for height, width in size.tolist()])


class _Given(nn.Module):
    """Stands where torchvision wants a backbone; the maps come from elsewhere."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out_channels = width


def _dense(name: str, width: int, levels: Sequence[int], classes: int, keypoints: int, most: int) -> Any:
    detection = require("torchvision.models.detection", extra="image")
    anchors = require("torchvision.models.detection.anchor_utils", extra="image")
    norm = partial(nn.GroupNorm, GROUPS[name])
    if name == "fcos":
        made = detection.FCOS(_Given(width), classes, detections_per_img=most, score_thresh=0.01)
        made.anchor_generator = anchors.AnchorGenerator(tuple((stride,) for stride in levels), ((1.0,),) * len(levels))
        return made
    heads = require("torchvision.models.detection.retinanet", extra="image")
    sizes = tuple(tuple(round(4 * stride * 2 ** (third / 3)) for third in range(3)) for stride in levels)
    generator = anchors.AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(levels))
    head = heads.RetinaNetHead(width, generator.num_anchors_per_location()[0], classes, norm_layer=norm)
    return detection.RetinaNet(
        _Given(width), classes, anchor_generator=generator, head=head, detections_per_img=most, score_thresh=0.01
    )


def _regions(name: str, width: int, levels: Sequence[int], classes: int, keypoints: int, most: int) -> Any:
    detection = require("torchvision.models.detection", extra="image")
    anchors = require("torchvision.models.detection.anchor_utils", extra="image")
    heads = require("torchvision.models.detection.faster_rcnn", extra="image")
    generator = anchors.AnchorGenerator(tuple((8 * stride,) for stride in levels), ((0.5, 1.0, 2.0),) * len(levels))
    finer = levels[:-1]
    pool = partial(_align(), strides=finer)
    hidden = 8 * width
    options: dict[str, Any] = {
        "rpn_anchor_generator": generator,
        "box_roi_pool": pool(output_size=7),
        "box_head": heads.TwoMLPHead(width * 49, hidden),
        "box_predictor": heads.FastRCNNPredictor(hidden, classes + 1),
        "box_detections_per_img": most,
        "box_score_thresh": 0.01,
    }
    if name == "mask_rcnn":
        masks = require("torchvision.models.detection.mask_rcnn", extra="image")
        options |= {
            "mask_roi_pool": pool(output_size=14),
            "mask_head": masks.MaskRCNNHeads(width, (width,) * 4, 1),
            "mask_predictor": masks.MaskRCNNPredictor(width, width, classes + 1),
        }
        return detection.MaskRCNN(_Given(width), **options)
    if name == "keypoint_rcnn":
        points = require("torchvision.models.detection.keypoint_rcnn", extra="image")
        options |= {
            "keypoint_roi_pool": pool(output_size=14),
            "keypoint_head": points.KeypointRCNNHeads(width, (4 * width,) * 4),
            "keypoint_predictor": points.KeypointRCNNPredictor(4 * width, keypoints),
        }
        return detection.KeypointRCNN(_Given(width), **options)
    return detection.FasterRCNN(_Given(width), **options)


def _align() -> Any:
    """Return torchvision's region pooling, which is told the maps' strides in place of guessing them by sizes."""
    ops = require("torchvision.ops", extra="image")

    class Align(ops.MultiScaleRoIAlign):  # type: ignore[name-defined,misc]
        def __init__(self, output_size: int, strides: Sequence[int]) -> None:
            super().__init__([str(level) for level in range(len(strides))], output_size, 2)
            self.strides = tuple(strides)

        def forward(self, features: Found, boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
            height, width = features["0"].shape[2:]
            canvas = (height * self.strides[0], width * self.strides[0])
            pooled: Tensor = super().forward(features, boxes, [canvas] * len(image_shapes))
            return pooled

    return Align
