"""ViTPose of transformers with its trained weights: points of each object of a picture, by the box around it.

Xu et al. 2022, https://arxiv.org/abs/2204.12484. What sees a part of a picture is the encoder, and what makes a map of
each point is the head. The package's own processor cuts the parts out, and finds points in the maps.

Shapes: n boxes, J points, D features, h w of a part as the network is shown it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from quickstudy.errors import require
from quickstudy.nets.registry import BACKBONES

_PROCESSOR = ("size", "do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std", "normalize_factor")
"""Options of the processor."""


class PoseFeatures(nn.Module):
    """What sees a part of a picture.

    Args:
        whole: the network of the package; what sees is taken out of it.
        processor: options of what cuts parts out.
        trained: whether its weights are.
    """

    def __init__(self, whole: Any, processor: Mapping[str, Any], trained: bool = True) -> None:
        super().__init__()
        self.network: nn.Module = whole.backbone
        self.config: Any = whole.config
        self.processor: dict[str, Any] = {name: value for name, value in processor.items() if name in _PROCESSOR}
        own = whole.config.backbone_config
        self._shape = tuple(side // patch for side, patch in zip(own.image_size, own.patch_size, strict=True))
        self._experts = getattr(own, "num_experts", 1) > 1
        # No part of it: who makes a head takes a copy.
        self._rest: tuple[nn.Module, ...] = (whole.head,) if trained else ()

    @property
    def ready(self) -> bool:
        """Whether it came with trained weights, those of what stands on it, too."""
        return bool(self._rest)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its J points."""
        told = {int(code): str(name) for code, name in (self.config.id2label or {}).items()}
        return tuple(told.get(code, str(code)) for code in range(self.config.num_labels))

    def forward(self, parts: Tensor) -> Tensor:
        """Return the features ``[n, D, h / p, w / p]`` of parts ``[n, 3, h, w]``, for patches of p pixels."""
        first = {"dataset_index": torch.zeros(len(parts), dtype=torch.long, device=parts.device)}
        found = self.network.forward_with_filtered_kwargs(parts, **(first if self._experts else {}))  # type: ignore[operator]
        features: Tensor = found.feature_maps[-1]
        return features.permute(0, 2, 1).reshape(len(parts), -1, *self._shape).contiguous()

    def rest(self) -> nn.Module:
        """Return a copy of what makes a map of each point."""
        if self._rest:
            return copy.deepcopy(self._rest[0])
        made: nn.Module = _whole(self.config).head
        return made

    def cutter(self) -> Any:
        """Return what cuts parts out of pictures, and finds points in maps."""
        return require("transformers", extra="rt_detr").VitPoseImageProcessor(**self.processor)


class PoseHead(nn.Module):
    """Makes a map of each point."""

    def __init__(self, features: PoseFeatures) -> None:
        super().__init__()
        require("scipy.ndimage", extra="rt_detr")  # which cuts the parts out
        self.maps = features.rest()

    def forward(self, features: PoseFeatures, pixels: Tensor, boxes: Tensor) -> dict[str, Tensor]:
        """Return ``keypoints`` ``[n, J, 3]``, x and y in pixels of the picture and 1, and ``keypoints_scores``.

        Args:
            features: what sees.
            pixels: ``[3, H, W]``, uint8, or shares.
            boxes: ``[n, 4]``, x and y of two corners.
        """
        count = features.config.num_labels
        if not len(boxes):
            return {"keypoints": boxes.new_zeros(0, count, 3), "keypoints_scores": boxes.new_zeros(0, count)}
        shown = (255 * pixels).round().to(torch.uint8) if pixels.is_floating_point() else pixels
        cutter, weights = features.cutter(), next(features.parameters())
        sized = [torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1).cpu().tolist()]
        parts = cutter(images=[shown.cpu()], boxes=sized, return_tensors="pt", input_data_format="channels_first")
        maps = self.maps(features(parts["pixel_values"].to(weights)))
        (found,) = cutter.post_process_pose_estimation(SimpleNamespace(heatmaps=maps.detach().float()), boxes=sized)
        points = torch.stack([one["keypoints"] for one in found]).to(boxes)
        scores = torch.stack([one["scores"] for one in found]).to(boxes)
        return {"keypoints": torch.cat([points, torch.ones_like(points[..., :1])], -1), "keypoints_scores": scores}


@BACKBONES.register("vitpose")
def from_config(
    config: Mapping[str, Any], processor: Mapping[str, Any] | None = None, features_only: bool = True
) -> PoseFeatures:
    """Make what sees with random weights, such as a saved model fills.

    Args:
        config: as its ``config.json`` has it.
        processor: as its ``preprocessor_config.json`` has it.
        features_only: it always is.

    Raises:
        MissingPackageError: transformers is not installed.
    """
    transformers = require("transformers", extra="rt_detr")
    return PoseFeatures(_whole(transformers.AutoConfig.for_model(**config)), processor or {}, trained=False)


def _whole(config: Any) -> Any:
    return require("transformers", extra="rt_detr").VitPoseForPoseEstimation(copy.deepcopy(config))
