"""The pictures of a training batch mixed with each other, by name: ``mix="mixup"``. They are torchvision's v2."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from quickstudy.errors import ConfigError, brief, check_above_zero, check_options, require
from quickstudy.kinds.losses import Mix, MixSpec
from quickstudy.registry import name_and_options

_NAMED = {"mixup": ("MixUp",), "cutmix": ("CutMix",), "mixup_cutmix": ("MixUp", "CutMix")}
_ALPHA = {"MixUp": 0.2, "CutMix": 1.0}  # the papers', for ImageNet
_LEAST, _MOST = 0.05, 1000.0  # beyond, torch's draws of the beta distribution are off in float32


def build_mix(spec: MixSpec) -> Mix:
    """Return what mixes each picture of a batch with another one of it, and their targets likewise.

    One share, drawn from Beta(alpha, alpha), is for the whole batch. What is drawn follows from the run's seed, the
    step and the process, so that a run that goes on mixes as one that was not interrupted. A process mixes its part of
    a step with itself: another number of processes mixes other pictures.

    Args:
        spec: a name, or ``(name, {"alpha": 0.4})``. ``"mixup"`` adds two pictures up (Zhang et al. 2018,
            https://arxiv.org/abs/1710.09412; alpha 0.2), ``"cutmix"`` puts a rectangle of the one into the other (Yun
            et al. 2019, https://arxiv.org/abs/1905.04899; alpha 1), ``"mixup_cutmix"`` does either to each batch.

    Returns:
        A function of (floats ``[B, C, H, W]``, one-hot targets ``[B, K]`` of K classes).

    Raises:
        ConfigError: the name or an option is unknown, or alpha is out of range.
    """
    name, options = name_and_options("mix", spec, _NAMED)
    check_options(f"mix '{name}'", options, ["alpha"])
    check_above_zero(**options)
    if "alpha" in options and not _LEAST <= options["alpha"] <= _MOST:
        raise ConfigError(f"alpha={brief(options['alpha'])}: it must lie between {_LEAST} and {_MOST:.0f}")
    return partial(_mixed, {kind: float(options.get("alpha", _ALPHA[kind])) for kind in _NAMED[name]})


def _mixed(alphas: Mapping[str, float], pictures: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    if pictures.ndim != 4 or not pictures.is_floating_point():
        kind = str(pictures.dtype).removeprefix("torch.")
        raise ConfigError(
            f"mix takes pictures [B, C, H, W] of uint8 or floats, and the batch is {kind} of shape "
            f"{tuple(pictures.shape)}: leave mix out"
        )
    v2 = require("torchvision.transforms.v2", extra="image")  # predicting needs none of it
    mixes = [getattr(v2, kind)(alpha=alpha) for kind, alpha in alphas.items()]
    shares = targets.to(torch.promote_types(pictures.dtype, torch.float32))
    mixed: tuple[Tensor, Tensor] = v2.RandomChoice(mixes)(pictures, shares)
    return mixed
