"""From a backbone's name to an encoder: raw inputs in, one feature vector each out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from quickstudy.batches import Batch, device_of, each, fold, in_windows, join, over_windows, size, take, unfold
from quickstudy.errors import ConfigError, brief, check_options
from quickstudy.nets import open_clip_bridge, purposes, ready_detectors, seq2seq, timm_bridge, transformers_bridge
from quickstudy.nets.batch_norm import FoldedRows, layouts_of
from quickstudy.nets.frames import OverFrames
from quickstudy.nets.layers import AtLayer
from quickstudy.nets.registry import BACKBONES
from quickstudy.nets.static_embeddings import StaticEmbeddings
from quickstudy.nets.video_bridge import VIDEOS
from quickstudy.nets.weights import WHEELS, load_strictly, read_weights
from quickstudy.torch_internals import BatchNorm, Convolution, tree_leaves

_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
"""By how many axes a tensor has, the layout in which convolutions take it."""
_AT_ONCE = 1 << 16  # elements of windows that pass together


class Encoder(nn.Module):
    """A backbone together with what its inputs must go through; of inputs in windows it is the mean over these.

    uint8 inputs are scaled to 0..1 and, where the backbone was trained on normalised images, normalised likewise;
    all other inputs are fed as they are. The output is flattened to ``[N, D]``.

    Args:
        backbone: any module from ``[N, C, ...]`` to ``[N, ...]``.
        mean, std: per channel, in units of 0..1; default: as the backbone says, if it does.
    """

    def __init__(
        self, backbone: nn.Module, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        self.made_by: tuple[str, dict[str, Any]] | None = None
        """The name and the options of its backbone; None where that was given as a module."""
        self.trained = False
        """Whether it began with trained weights."""
        self.backbone = _channels_last(backbone)
        if mean is None and (normalized_by := getattr(backbone, "normalized_by", None)) is not None:
            mean, std = normalized_by
        # A convolution's channels; a backbone without one takes what comes.
        first = next((m for m in backbone.modules() if isinstance(m, Convolution)), None)
        self.in_channels = None if first is None else first.in_channels
        self.planar = isinstance(first, nn.Conv2d)
        """Whether it begins with a 2-D convolution, so that its inputs are pictures ``[C, H, W]``."""
        self.volumetric = any(isinstance(m, nn.Conv3d) for m in backbone.modules())
        """Whether it has 3-D convolutions, of which several tasks side by side take much memory."""
        self.reads: Mapping[str, Any] | None = getattr(backbone, "reads", None)
        """What reads its inputs, as ``Modality.described`` says it, where the backbone tells."""
        self.reads_words: Mapping[str, Any] | None = getattr(backbone, "reads_words", None)
        """What reads the names of classes, likewise, where it has a side of words."""
        self.fed = ""
        """The scale of the inputs that it was trained on, one of ``values.Scale``."""
        self._layouts: frozenset[str] | None = None
        self.mean: Tensor | None
        self.std: Tensor | None
        self.register_buffer("mean", None if mean is None else torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", None if std is None else torch.tensor(std).view(-1, 1, 1))

    def forward(self, inputs: Batch) -> Tensor:
        """Embed inputs: ``[N, C, ...]`` to ``[N, D]``."""
        return over_windows(self.backbone, self.prepared(inputs)).flatten(1)

    @property
    def device(self) -> torch.device:
        """Where its weights are; the CPU where it has none."""
        return next((tensor.device for tensor in self.state_dict().values()), torch.device("cpu"))

    def feature_shape(self, example: Batch) -> tuple[int, ...]:
        """Return the shape of what the backbone makes of one input, not flattened.

        Args:
            example: ``[1, C, ...]``, on the encoder's device.

        Raises:
            ConfigError: the backbone does not take such inputs, or makes no tensor of them.
        """
        inputs = self.prepared(join([example, example]))  # batch statistics need more than one
        name, shape = type(self.backbone).__name__, each(lambda leaf: tuple(leaf.shape[1:]), example)
        try:
            with torch.no_grad(), self.evaluating():
                features = over_windows(self.backbone, inputs)
        except (RuntimeError, AssertionError, TypeError, ValueError, IndexError) as error:
            raise ConfigError(
                f"the backbone {name} cannot take inputs of shape {shape}: {error}. Load them as it wants them "
                "(images: image_size=), or choose another backbone"
            ) from error
        if not isinstance(features, Tensor):
            raise ConfigError(
                f"the backbone {name} returns a {type(features).__name__}, not a tensor [N, ...]: wrap it in a module "
                "that returns the features alone"
            )
        return tuple(features.shape[1:])

    def elements(self, inputs: Batch, then: Callable[[Tensor], Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Return the features of each point, token or place of inputs, ``[N, ..., D]``, and which of them there are.

        The backbone has a method ``elements(inputs)`` that returns the features; or these and a mask ``[N, ...]``,
        where the inputs have no leaf ``mask`` that says it.

        Inputs that are too large are in windows that may overlap: ``{"windows": [N, W, ...], "places": [N, W, M],
        "mask": [N, P]}``, where ``places`` says which of P elements is where in a window. Those in several windows get
        the mean.

        Args:
            inputs: ``[N, ...]``
            then: makes answers of the features, window by window.

        Raises:
            ConfigError: the backbone has no such method.
        """
        if in_windows(inputs):
            return self._voted(inputs, then)
        features, mask = self._each(self.prepared(inputs))
        return features if then is None else then(features), mask

    def _each(self, inputs: Batch) -> tuple[Tensor, Tensor]:
        each_of = getattr(self.backbone, "elements", None)
        if each_of is None:
            raise ConfigError(
                f"the backbone {type(self.backbone).__name__} tells of an input as a whole, and here each of its parts "
                "is asked about: choose one that has a method elements(inputs)"
            )
        found = each_of(inputs)
        if not isinstance(found, Tensor):
            features, mask = found
        elif isinstance(inputs, dict) and "mask" in inputs:
            features, mask = found, inputs["mask"]
        else:
            features, mask = found, torch.ones(found.shape[:-1], dtype=torch.bool, device=found.device)
        return features, mask.bool()

    def _voted(self, inputs: Batch, then: Callable[[Tensor], Tensor] | None) -> tuple[Tensor, Tensor]:
        windows, mask = fold(self.prepared(inputs)["windows"]), inputs["mask"].bool()
        count, most = mask.shape
        places = inputs["places"].flatten(0, 1)
        places = (
            places + most * torch.arange(count, device=mask.device).repeat_interleave(len(places) // count)[:, None]
        )
        there = windows["mask"].any(1).nonzero().flatten()  # the others fill up
        sums, votes = None, mask.new_zeros(count * most, dtype=torch.float32)
        for rows in there.split(max(1, _AT_ONCE // places.shape[1])):
            features, own = self._each(take(windows, rows))
            answers = (features if then is None else then(features))[own]
            sums = answers.new_zeros(count * most, answers.shape[-1]) if sums is None else sums
            sums = sums.index_add(0, places[rows][own], answers)
            votes = votes.index_add(0, places[rows][own], votes.new_ones(len(answers)))
        if sums is None:
            raise ConfigError("there is no window of any input")
        return (sums / votes.clamp(min=1).to(sums.dtype)[:, None]).view(count, most, -1), mask

    def maps(self, inputs: Batch) -> list[Tensor]:
        """Return feature maps of whole pictures, ``[N, D, h, w]`` each, from the finest to the coarsest.

        The backbone returns several, as those of timm do that were made with ``features_only=True``. What lies beside a
        picture on its canvas is nothing to it: as dark as the mean.

        Args:
            inputs: ``{"pixels": [N, C, H, W], "size": [N, 2]}``, the latter the height and width of each picture.

        Raises:
            ConfigError: it makes one vector of each picture.
        """
        pixels = self.prepared(inputs["pixels"])
        height, width = (
            torch.arange(length, device=pixels.device) < inputs["size"][:, axis, None]
            for axis, length in enumerate(pixels.shape[2:])
        )
        found = self.backbone(pixels * (height[:, None, :, None] & width[:, None, None, :]))
        found = list(found.values()) if isinstance(found, dict) else found
        if not isinstance(found, (list, tuple)) or any(one.ndim != 4 for one in found):
            raise ConfigError(
                f"the backbone {type(self.backbone).__name__} tells of a picture as a whole, and here places are asked "
                "about: choose one of timm's by its name, or a module that returns a list of feature maps [N, D, h, w]"
            )
        last = getattr(self.backbone, "output_fmt", "NCHW") == "NHWC"  # of timm's
        return [one.permute(0, 3, 1, 2) if last else one for one in found]

    def element_width(self, example: Batch) -> int:
        """Return how many features an element has, D.

        Args:
            example: ``[1, ...]``, on the encoder's device.
        """
        with torch.no_grad(), self.evaluating():
            return self.elements(example)[0].shape[-1]

    def find_rows(self, inputs: Batch) -> None:
        """Find out once how the backbone lays out the rows that its BatchNorms see, by passing three of the inputs.

        Args:
            inputs: ``[N, ...]``, on the encoder's device.
        """
        if self._layouts is None and size(inputs) > 1 and any(isinstance(m, BatchNorm) for m in self.modules()):
            with self.evaluating(), torch.autocast(device_of(inputs).type, enabled=False):
                self._layouts = layouts_of(self, inputs)

    def rows_of(self, inputs: Batch) -> FoldedRows:
        """Return which rows of a BatchNorm are whose as inputs pass; ``find_rows`` must have seen some before."""
        return FoldedRows(inputs, self._layouts or ())

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Be in evaluation mode for a while."""
        training = [module for module in self.modules() if module.training]
        self.eval()
        try:
            yield
        finally:
            for module in training:
                module.training = True

    def prepared(self, inputs: Batch) -> Batch:
        """Return inputs ``[N, C, ...]`` as the backbone takes them: scaled, normalised, in its memory format.

        Grey pictures may be given as ``[N, H, W]``. Of a dict, numbers with fractions come in the backbone's precision;
        windows are prepared as inputs are.

        Raises:
            ConfigError: they have another number of channels.
        """
        if in_windows(inputs):
            windows = inputs["windows"]
            sizes = tree_leaves(windows)[0].shape[:2]
            return {"windows": unfold(self.prepared(fold(windows)), *sizes)}
        if not isinstance(inputs, Tensor):
            return each(lambda leaf: leaf.to(self._dtype(leaf.dtype)) if leaf.is_floating_point() else leaf, inputs)
        if self.planar and inputs.ndim == 3:
            inputs = inputs[:, None]
        if self.in_channels is not None and inputs.ndim > 1 and inputs.shape[1] != self.in_channels:
            raise ConfigError(
                f"the backbone {type(self.backbone).__name__} takes {self.in_channels} channels, and the data has "
                f"{inputs.shape[1]} (inputs of shape {tuple(inputs.shape[1:])}{self._remedy(inputs)}"
            )
        if inputs.dtype == torch.uint8:
            inputs = inputs.to(self._dtype(torch.get_default_dtype())) / 255
            if self.mean is not None and self.std is not None:
                inputs = (inputs - _per_channel(self.mean, inputs)) / _per_channel(self.std, inputs)
        elif inputs.is_floating_point():
            inputs = inputs.to(self._dtype(inputs.dtype))
        return inputs.contiguous(memory_format=_LAST[inputs.ndim]) if inputs.ndim in _LAST else inputs

    def _remedy(self, inputs: Tensor) -> str:
        channels, *sides = inputs.shape[1:]
        if len(sides) == 2 and channels > max(4, min(sides)):
            last = "they stand last here" if sides[1] == self.in_channels else "if they stand last"
            return (
                ", taken for channels, height, width). Channels must stand first: "
                f"{last}, turn each picture, permute(2, 0, 1) of a tensor or transpose(2, 0, 1) of an array"
            )
        alpha = " Leave transparency out, pictures[:, :3]." if (channels, self.in_channels) == (4, 3) else ""
        return (
            f").{alpha} Set backbone_kwargs={{'{_channels_argument(self.backbone)}': {channels}}}, or load images "
            f"with image_mode={'RGB' if self.in_channels == 3 else 'L'!r}"
        )

    def _dtype(self, otherwise: torch.dtype) -> torch.dtype:
        return next((p.dtype for p in self.backbone.parameters() if p.is_floating_point()), otherwise)


def _channels_last(module: nn.Module) -> nn.Module:
    """Bring a network's weights and buffers to the layout of their convolutions, 2-D or 3-D."""
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.ndim in _LAST:
                tensor.data = tensor.data.to(memory_format=_LAST[tensor.ndim])
    return module


def _per_channel(values: Tensor, inputs: Tensor) -> Tensor:
    """Return a value of each channel such that it meets those of inputs ``[N, C, ...]``."""
    return values.view(-1, *(1 for _ in inputs.shape[2:]))


def build_encoder(
    backbone: str | nn.Module,
    backbone_kwargs: Mapping[str, Any] | None = None,
    pretrained: bool = True,
    domain: str = "image",
) -> Encoder:
    """Make an encoder.

    Args:
        backbone: ``"conv4"``, ``"resnet12"``, any name of timm, or a module. ``"efficientnet_lite0"`` with trained
            weights is that of ``quickstudy[offline]`` (timm's own is ``"efficientnet_lite0.ra_in1k"``). Of texts:
            ``"small_transformer"``, ``"minilm"`` (of ``quickstudy[text,offline]``), and any encoder of transformers by
            its name on the Hugging Face Hub, ``owner/model``, or its folder; CLIP and SigLIP likewise, of videos
            VideoMAE, TimeSformer, ViViT and V-JEPA 2, and those of open_clip, ``open_clip/ARCHITECTURE/WEIGHTS`` or
            ``hf-hub:owner/model``. Of pictures and texts, what it is for: ``"fast"``, ``"balanced"`` or ``"best"``; see
            ``purposes``.
        backbone_kwargs: the backbone's own options; ``checkpoint_path``, a file of weights for it; and ``layer``, the
            name of one of its layers, whose features are taken in place of its last.
        pretrained: load trained weights where there are any.
        domain: of the inputs, which what it is for depends on.

    Raises:
        ConfigError: the name or an option is unknown, or the weights cannot be had.
        MissingPackageError: timm, or the package with the weights, is not installed.
    """
    kwargs = dict(backbone_kwargs or {})
    if isinstance(backbone, nn.Module):
        if kwargs:
            raise ConfigError(f"backbone_kwargs={kwargs} belong to a backbone given by name, not to a module")
        return backbone if isinstance(backbone, Encoder) else Encoder(backbone)
    if not isinstance(backbone, str):
        raise ConfigError(f"backbone must be a name or an nn.Module, not {brief(backbone)}")
    if kwargs.pop("decoder", False):
        return _with_decoder(backbone, kwargs, pretrained, domain)
    path = kwargs.get("checkpoint_path")
    if (layer := kwargs.pop("layer", None)) is not None:
        return at_layer(build_encoder(backbone, kwargs, pretrained, domain), layer)
    if domain == "video" and not _reads_videos(backbone, kwargs, pretrained):
        pooling = {name: kwargs.pop(name) for name in ("pooling",) if name in kwargs}
        return build_encoder("frames", {"of": backbone, "options": kwargs, **pooling}, pretrained)
    if backbone in purposes.ORDER:
        choice = purposes.chosen(backbone, domain, pretrained and path is None)
        backbone, kwargs = choice.backbone, {**choice.options, **kwargs}
    if backbone in BACKBONES:
        build = BACKBONES[backbone]
        if "features_only" in kwargs and "features_only" not in inspect.signature(build).parameters:
            raise ConfigError(
                f"the backbone '{backbone}' tells of a picture as a whole, and here places in it are asked about: "
                "choose one of timm's, such as 'resnet18' or 'efficientnet_lite0' (type: quickstudy list backbones)"
            )
        own = {name: value for name, value in kwargs.items() if name != "checkpoint_path"}
        known = [name for name in inspect.signature(build).parameters if name != "pretrained"]
        check_options(backbone, own, known)
        trained = {"pretrained": pretrained and path is None} if _may_be_trained(backbone) else {}
        try:
            encoder = Encoder(build(**own, **trained))
        except (TypeError, ValueError, RuntimeError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"{backbone} cannot be made with backbone_kwargs={kwargs}: {error}") from error
        if path is not None:
            load_strictly(encoder.backbone, read_weights(path), path, backbone)
    elif backbone in WHEELS and pretrained and path is None:
        encoder = Encoder(*timm_bridge.create_from_wheel(backbone, kwargs))
        backbone = WHEELS[backbone].network  # a saved model is of that, and not of timm's network of the same name
    elif open_clip_bridge.is_name(backbone):
        check_options(backbone, kwargs, ("prompts",))
        towers, kwargs = open_clip_bridge.create(backbone, kwargs, pretrained)
        encoder, backbone = Encoder(towers), "open_clip"
    elif transformers_bridge.is_name(backbone) and "features_only" in kwargs:
        check_options(backbone, kwargs, ("features_only",))
        maps, backbone, kwargs = ready_detectors.create(backbone, pretrained)
        encoder = Encoder(maps)  # a saved model needs neither the hub nor the folder
    elif transformers_bridge.is_name(backbone):
        check_options(backbone, kwargs, ("pooling", "normalize", "prompts"))
        module, kwargs = transformers_bridge.create(backbone, kwargs, pretrained)
        encoder = Encoder(module)  # a saved model needs neither the hub nor the folder
        backbone = "static_embeddings" if isinstance(module, StaticEmbeddings) else "transformers"
    else:
        encoder = Encoder(*timm_bridge.create(backbone, kwargs, pretrained, BACKBONES.names()))
    encoder.made_by = backbone, {name: value for name, value in kwargs.items() if name != "checkpoint_path"}
    encoder.trained = path is not None or (pretrained and not starts_from_nothing(backbone))
    if isinstance(encoder.backbone, OverFrames):
        encoder.made_by, encoder.trained = (backbone, encoder.backbone.made_by), encoder.backbone.trained
    return encoder


def _with_decoder(backbone: str, kwargs: Mapping[str, Any], pretrained: bool, domain: str) -> Encoder:
    """Return an encoder whose backbone makes what writes by its states, by a method ``decoder``."""
    if backbone not in BACKBONES and transformers_bridge.is_name(backbone):
        check_options(backbone, kwargs, ())
        made = seq2seq.create(backbone, pretrained)
        encoder = Encoder(made)
        encoder.made_by, encoder.trained = ("seq2seq", made.options), pretrained  # it needs neither the hub nor files
        return encoder
    encoder = build_encoder(backbone, kwargs, pretrained, domain)
    if not hasattr(encoder.backbone, "decoder"):
        raise seq2seq.without_decoder(backbone)
    return encoder


@BACKBONES.register("frames")
def over_frames(
    of: str,
    options: Mapping[str, Any] | None = None,
    pooling: Literal["mean", "attention"] = "mean",
    pretrained: bool = True,
) -> OverFrames:
    """Make a network of videos of one of pictures.

    Args:
        of: the name of a backbone of pictures.
        options: of that.
        pooling: over the frames; see ``OverFrames``.
        pretrained: load its trained weights where there are any.

    Raises:
        ConfigError: as of ``build_encoder``.
    """
    inner = build_encoder(of, options, pretrained)
    assert inner.made_by is not None
    if inner.reads is not None and inner.reads["name"] != "image":
        raise ConfigError(
            f"the backbone '{of}' is one of the domain '{inner.reads['name']}', and frames of videos are pictures: "
            "choose one of pictures, or of videos (type: quickstudy list backbones)"
        )
    made = OverFrames(inner.backbone, inner.made_by, pooling, inner.trained)
    if inner.mean is not None and inner.std is not None:
        made.normalized_by = inner.mean.flatten().tolist(), inner.std.flatten().tolist()
    return made


over_frames.reads = {"name": "video", "options": {}}  # type: ignore[attr-defined]


def _reads_videos(backbone: str, kwargs: Mapping[str, Any], pretrained: bool) -> bool:
    """Whether a backbone takes videos as they are: those that say what they read, and it is not pictures."""
    if backbone not in BACKBONES:
        return transformers_bridge.is_name(backbone) and transformers_bridge.reads_videos(backbone, pretrained)
    if backbone == "transformers":
        return dict(kwargs.get("config", {})).get("model_type") in VIDEOS
    reads: Mapping[str, Any] = getattr(BACKBONES[backbone], "reads", {})
    return bool(reads.get("name", "image") != "image")


def _may_be_trained(backbone: str) -> bool:
    return "pretrained" in inspect.signature(BACKBONES[backbone]).parameters


def at_layer(encoder: Encoder, layer: str) -> Encoder:
    """Return an encoder of the same backbone, whose features are those of one of its layers; see ``AtLayer``.

    Raises:
        ConfigError: it has no such layer.
    """
    whole = encoder.backbone.network if isinstance(encoder.backbone, AtLayer) else encoder.backbone
    made = Encoder(AtLayer(whole, layer))
    made.mean, made.std, made.fed, made.trained = encoder.mean, encoder.std, encoder.fed, encoder.trained
    if encoder.made_by is not None:
        made.made_by = encoder.made_by[0], {**encoder.made_by[1], "layer": layer}
    return made


def sized(encoder: Encoder, options: Mapping[str, Any]) -> Encoder:
    """Return an encoder whose backbone is made with what its inputs have told, where it takes such; else itself.

    Args:
        encoder: made by the name of its backbone; one that has such options, or trained weights, keeps its own.
        options: those of ``Modality.for_backbone``.
    """
    if encoder.made_by is None or encoder.trained or encoder.made_by[0] not in BACKBONES:
        return encoder
    name, given = encoder.made_by
    known = inspect.signature(BACKBONES[name]).parameters
    told = {option: value for option, value in options.items() if option in known and option not in given}
    return build_encoder(name, {**given, **told}, pretrained=False).to(encoder.device) if told else encoder


def starts_from_nothing(backbone: str) -> bool:
    """Whether a backbone of this name begins with random weights, as there are no trained ones of it."""
    apart = "transformers", "open_clip", "static_embeddings", "seq2seq", "detection_transformer", "vitpose"
    return backbone in BACKBONES and backbone not in apart and not _may_be_trained(backbone)


def available_backbones() -> list[str]:
    """Return every backbone's name: quickstudy's own and, where timm is installed, timm's."""
    return [*BACKBONES.names(), *timm_bridge.names()]


def _channels_argument(backbone: nn.Module) -> str:
    return "in_channels" if type(backbone).__module__.startswith("quickstudy.") else "in_chans"
