"""A head that finds objects in feature maps without anchors: RT-DETR, of transformers.

Zhao et al. 2023, https://arxiv.org/abs/2304.08069. The maps are those of whichever backbone the encoder has; all else
of the network, and its loss, is the package's.

Shapes: N pictures, M objects of one, K found ones, C classes, D channels, h w of a map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.errors import require
from quickstudy.nets.ready_detectors import DetectorMaps, GivenMaps

_STRIDES = 8, 16, 32
_SMALLEST_BACKBONE = {
    "model_type": "rt_detr_resnet",
    "embedding_size": 4,
    "hidden_sizes": [4, 4, 4, 4],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
    "out_indices": [2, 3, 4],
}
"""Made by the package, and then left out for the encoder's maps."""


class RtDetr(nn.Module):
    """A transformer that answers with a box and a class for each of its queries.

    Args:
        channels: D of each map that it is given, from the finest to the coarsest.
        strides: of each, in pixels; three levels stand on those nearest to 8, 16 and 32.
        classes: C.
        width: of its features; a multiple of 8.
        most: queries, and objects that are found in a picture at most.

    Raises:
        MissingPackageError: transformers, or scipy, is not installed.
    """

    def __init__(
        self, channels: Sequence[int], strides: Sequence[int], classes: int, width: int = 64, most: int = 100
    ) -> None:
        super().__init__()
        require("scipy.optimize", extra="rt_detr")  # which matches answers with objects
        transformers = require("transformers", extra="rt_detr")
        self.classes, self.most = classes, most
        last = {stride: place for place, stride in enumerate(strides)}  # of several maps of one size the deepest
        self.strides = [stride for stride in sorted(last) if stride >= _STRIDES[0]][:3] or [max(last)]
        self.places = [last[stride] for stride in self.strides]
        """Which of the maps it stands on."""
        levels = len(self.places)
        config = transformers.RTDetrConfig(
            backbone_config=transformers.AutoConfig.for_model(**_SMALLEST_BACKBONE),
            freeze_backbone_batch_norms=False,
            encoder_hidden_dim=width,
            encoder_in_channels=[channels[place] for place in self.places],
            feat_strides=self.strides,
            encoder_ffn_dim=4 * width,
            encode_proj_layers=[levels - 1],
            d_model=width,
            decoder_in_channels=[width] * levels,
            decoder_ffn_dim=4 * width,
            num_feature_levels=levels,
            decoder_layers=3,
            num_queries=most,
            num_labels=classes,
        )
        self.network = transformers.RTDetrForObjectDetection(config)
        self.network.model.backbone = GivenMaps("rt_detr")
        self.fewer = True
        """Whether it asks fewer queries where there are fewer places."""
        self.network.model.encoder_input_proj = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels[place], width, 1, bias=False), nn.BatchNorm2d(width))
            for place in self.places
        )

    @classmethod
    def of_ready(cls, maps: DetectorMaps, classes: Sequence[str], most: int = 100) -> Self:
        """Return the head of a detector that has its own maps, RT-DETR's or RF-DETR's.

        Args:
            maps: what sees of it.
            classes: C names; what it knows of some by name stays.
            most: objects that are found in a picture at most.
        """
        require("scipy.optimize", extra="rt_detr")
        made = cls.__new__(cls)
        nn.Module.__init__(made)
        made.classes, made.most, made.fewer = len(classes), most, False
        made.strides, made.places = maps.strides, [*range(len(maps.strides))]
        made.network = maps.rest(classes)
        return made

    def forward(self, maps: Sequence[Tensor], size: Tensor, pixels: Tensor) -> list[dict[str, Tensor]]:
        """Return what is found in each picture, as ``detectors.Detector`` does; see there for the arguments."""
        outputs, extent = self._asked(maps, None)
        chances, best = outputs.logits.sigmoid().flatten(1).topk(min(self.most, outputs.logits[0].numel()), 1)
        boxes = _corners(outputs.pred_boxes) * extent
        found = []
        for own, told, place, (height, width) in zip(boxes, chances, best, size.tolist(), strict=True):
            limit = own.new_tensor([width, height, width, height])
            chosen = own[place // self.classes].clamp(min=0).minimum(limit)
            found.append({"boxes": chosen, "scores": told, "labels": place % self.classes})
        return found

    def losses(
        self, maps: Sequence[Tensor], size: Tensor, pixels: Tensor, objects: Sequence[Mapping[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Return the loss, as ``detectors.Detector`` does; see there for the arguments."""
        _, extent = self._levels(maps)
        labels = [
            {"class_labels": own["labels"], "boxes": _centres(own["boxes"] / extent.to(own["boxes"]))}
            for own in objects
        ]
        return {"loss": self._asked(maps, labels)[0].loss}

    def _levels(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Return the maps that it stands on, each twice as large as the next, and the pixels that they are of."""
        chosen = [maps[place] for place in self.places]
        height, width = chosen[-1].shape[2:]
        levels = []
        for level, one in enumerate(chosen):
            times = self.strides[-1] // self.strides[level]
            levels.append(F.pad(one, (0, times * width - one.shape[3], 0, times * height - one.shape[2])))
        extent = chosen[-1].new_tensor([width, height, width, height]) * self.strides[-1]
        return levels, extent

    def _asked(self, maps: Sequence[Tensor], labels: Any) -> tuple[Any, Tensor]:
        levels, extent = self._levels(maps)
        if self.fewer:
            places = sum(one.shape[2] * one.shape[3] for one in levels)
            self.network.config.num_queries = min(self.most, places)
        backbone: Any = self.network.model.backbone
        backbone.levels = levels
        try:
            return self.network(levels[0], labels=labels), extent
        finally:
            backbone.levels = []


def _corners(boxes: Tensor) -> Tensor:
    """Return x and y of two corners of boxes that are told by middle and size."""
    middle, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([middle - half, middle + half], -1)


def _centres(boxes: Tensor) -> Tensor:
    """Return middle and size of boxes that are told by x and y of two corners."""
    return torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1)
