"""Every backbone of timm, by its name there. https://github.com/huggingface/pytorch-image-models"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from quickstudy.errors import ConfigError, closest, first_line, one_line, require
from quickstudy.nets.weights import (
    WHEELS,
    Weights,
    cached,
    cached_repositories,
    check_hub_answers,
    load_strictly,
    other_network,
    read_weights,
    wheel_file,
)

Made = tuple[nn.Module, Sequence[float] | None, Sequence[float] | None]
"""A module, and the mean and standard deviation that its images are normalised by, in units of 0..1."""


def names() -> list[str]:
    """Return the names of timm's models; empty where timm is not installed."""
    return list(require("timm", extra="image").list_models()) if find_spec("timm") else []


def at_hand() -> set[str]:
    """Return the names of the models whose trained weights can be loaded without a network."""
    found = {name for name, wheel in WHEELS.items() if find_spec(wheel.library) and find_spec(wheel.package)}
    there = cached_repositories() if find_spec("timm") else set()
    if there:
        timm = require("timm", extra="image")
        configs = {name: timm.get_pretrained_cfg(name) for name in names() if timm.is_model_pretrained(name)}
        near = {name: config for name, config in configs.items() if (config.hf_hub_id or "").split("@")[0] in there}
        found |= {name for name, config in near.items() if cached(config.hf_hub_id, config.hf_hub_filename)}
    return found


def create(name: str, kwargs: Mapping[str, Any], pretrained: bool, others: Sequence[str]) -> Made:
    """Make a timm model without its classifier.

    Args:
        name: its name in timm.
        kwargs: timm's own options, such as ``in_chans``, ``img_size`` or ``checkpoint_path``.
        pretrained: load trained weights where there are any.
        others: further names that exist, for the message.

    Raises:
        ConfigError: there is no such model, an option does not fit, or the weights cannot be had.
    """
    timm = require("timm", extra="image")
    if not timm.is_model(name):
        known = [*others, *timm.list_models()]
        raise ConfigError(
            f"unknown backbone '{one_line(name)}'{closest(name, known)} Known: {', '.join(others)} and "
            f"{len(known) - len(others)} models of timm (type: quickstudy list backbones)"
        )
    options = {"num_classes": 0, **kwargs}
    path = options.pop("checkpoint_path", None)
    if path is not None:
        model = _with_weights_of(name, options, path)
    elif pretrained and not timm.is_model_pretrained(name):
        warnings.warn(f"there are no pretrained weights for '{name}': it starts from scratch", stacklevel=4)
        model = _made(name, options)
    elif pretrained:
        model = _downloaded(name, options)
    else:
        model = _made(name, options)
    config = getattr(model, "pretrained_cfg", {}) or {}
    channels = getattr(model, "in_chans", None) or config.get("input_size", (3,))[0]
    mean, std = config.get("mean"), config.get("std")
    if mean is not None and len(mean) != kwargs.get("in_chans", channels):
        mean = std = None
    return model, mean, std


def create_from_wheel(name: str, kwargs: Mapping[str, Any]) -> Made:
    """Make a model with the weights of a Python package; see ``WHEELS``.

    Raises:
        MissingPackageError: the package, or timm, is not installed.
        ConfigError: an option does not fit.
    """
    wheel, timm = WHEELS[name], require("timm", extra="image")
    tensors = read_weights(wheel_file(wheel))
    weights = timm.models.remap_state_dict(tensors, timm.create_model(wheel.network))
    model = _filled(wheel.network, {"num_classes": 0, **kwargs}, weights, wheel.package)
    if kwargs.get("in_chans", 3) != 3:
        return model, None, None
    return model, (wheel.mean,) * 3, (wheel.std,) * 3


def _made(name: str, options: Mapping[str, Any], **weights: Any) -> nn.Module:
    try:
        model: nn.Module = require("timm", extra="image").create_model(name, **options, **weights)
    except TypeError as error:
        raise ConfigError(f"backbone '{name}' does not take backbone_kwargs={dict(options)}: {error}") from error
    return model


def _downloaded(name: str, options: Mapping[str, Any]) -> nn.Module:
    """Make a model with timm's weights: those downloaded before, or else from the network."""
    config, overlay = _config(name, options), dict(options.get("pretrained_cfg_overlay") or {})
    try:
        if config.hf_hub_id and not (config.file or config.state_dict or options.get("cache_dir")):
            local = cached(config.hf_hub_id, config.hf_hub_filename)
            if local is None:
                check_hub_answers()
            else:
                overlay["file"] = str(local)
        return _made(name, {**options, "pretrained_cfg_overlay": overlay}, pretrained=True)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"the pretrained weights of '{name}' could not be loaded: {first_line(error)}. Without a network, take "
            f"backbone='{next(iter(WHEELS))}' (pip install 'quickstudy[offline]'), start from scratch, "
            "pretrained=False (--pretrained false on the command line), or from weights in a file, "
            "backbone_kwargs={'checkpoint_path': 'weights.safetensors'} (--backbone_kwargs.checkpoint_path "
            "weights.safetensors)"
        ) from error


def _with_weights_of(name: str, options: Mapping[str, Any], path: Any) -> nn.Module:
    if Path(path).suffix in (".npz", ".npy"):  # of JAX, which some models read by code of their own
        model = _made(name, options)
        try:
            require("timm", extra="image").models.load_checkpoint(model, str(path))
        except Exception as error:
            raise ConfigError(f"'{path}' does not hold the weights of '{name}': {first_line(error)}") from error
        return model
    return _filled(name, options, read_weights(path), path)


def _filled(name: str, options: Mapping[str, Any], weights: Weights, path: Any) -> nn.Module:
    """Make a model with weights that timm adapts to its options.

    timm checks all of them in a network that has the classifier of the file, which is left out afterwards.
    """
    model, whole = _made(name, options), _whole(name, options, weights)
    if whole is None:
        raise other_network(path, name, weights, model.state_dict())
    own, theirs = model.state_dict(), whole.state_dict()
    heads = tuple(f"{head}." for head in _classifiers(_config(name, options)))
    kept = {key: value for key, value in own.items() if key.startswith(heads)}  # one that the user asks for
    fitting = {key: theirs[key] for key in own if key in theirs and theirs[key].shape == own[key].shape}
    load_strictly(model, kept | fitting, path, name)
    return model


def _whole(name: str, options: Mapping[str, Any], weights: Weights) -> nn.Module | None:
    """Return the model with the classifier that the weights have, whatever they call it; None if they are others'."""
    config = _config(name, options)
    found = [len(weights[f"{head}.weight"]) for head in _classifiers(config) if f"{head}.weight" in weights]
    for count in found[:1] or (0, config.num_classes):
        overlay = {
            **(options.get("pretrained_cfg_overlay") or {}),
            "state_dict": dict(weights),
            "num_classes": count,
            "label_offset": None,
        }
        changed = {"num_classes": count, "pretrained_cfg_overlay": overlay}
        unpooled = options.get("global_pool") == "" and count  # which no classifier takes
        left = ("features_only", "out_indices", *("global_pool",) * bool(unpooled))  # feature maps are of part of it
        given = {key: value for key, value in options.items() if key not in left}
        try:
            made = _made(name, {**given, **changed}, pretrained=True)
        except (RuntimeError, KeyError, AttributeError, IndexError, ValueError, AssertionError):
            continue
        if _of_these(made, weights):
            return made
    return None


def _of_these(model: nn.Module, weights: Weights) -> bool:
    """Whether a network has weights of a file at all: a few models of timm do not say what they miss."""
    by_shape: dict[torch.Size, list[torch.Tensor]] = {}
    for value in weights.values():
        by_shape.setdefault(value.shape, []).append(value)
    return any(
        torch.equal(value, other.to(value.dtype))
        for value in model.state_dict().values()
        if value.numel() and value.min() < value.max()
        for other in by_shape.get(value.shape, ())
    )


def _config(name: str, options: Mapping[str, Any]) -> Any:
    """Return what timm knows of a model's weights."""
    variant, _, tag = name.partition(".")
    chosen = options.get("pretrained_cfg") or tag or None
    resolve = require("timm", extra="image").models.resolve_pretrained_cfg
    return resolve(variant, chosen, options.get("pretrained_cfg_overlay"))


def _classifiers(config: Any) -> tuple[str, ...]:
    return (config.classifier,) if isinstance(config.classifier, str) else tuple(config.classifier or ())
