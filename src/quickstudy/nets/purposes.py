"""Pretrained encoders by what they are for: ``"fast"``, ``"balanced"`` and ``"best"``, of pictures and of texts.

Their weights are under licences that permit any use. https://arxiv.org/abs/2304.07193 (DINOv2),
https://arxiv.org/abs/2309.07597 (BGE), https://arxiv.org/abs/2002.10957 (MiniLM)
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, NamedTuple

from quickstudy.errors import ConfigError, require
from quickstudy.nets.weights import WHEELS, cached, check_hub_answers


class Choice(NamedTuple):
    """An encoder that serves a purpose."""

    backbone: str
    licence: str
    """Of its weights."""
    megabytes: int
    """Of its weights."""
    options: Mapping[str, Any] = {}
    """Of the backbone, where nobody says otherwise."""


_ANY_SIZE = {"dynamic_img_size": True, "dynamic_img_pad": True}
PURPOSES: Mapping[str, Mapping[str, tuple[Choice, ...]]] = {
    "image": {
        "fast": (
            Choice("efficientnet_lite0", "Apache-2.0", 19),
            Choice("efficientnet_lite0.ra_in1k", "Apache-2.0", 19),
        ),
        "balanced": (Choice("vit_small_patch14_dinov2.lvd142m", "Apache-2.0", 88, _ANY_SIZE),),
        "best": (Choice("vit_large_patch14_dinov2.lvd142m", "Apache-2.0", 1217, _ANY_SIZE),),
    },
    "text": {
        "fast": (
            Choice("minilm", "Apache-2.0", 91),
            Choice("sentence-transformers/all-MiniLM-L6-v2", "Apache-2.0", 91),
        ),
        "balanced": (Choice("BAAI/bge-small-en-v1.5", "MIT", 133),),
        "best": (Choice("BAAI/bge-large-en-v1.5", "MIT", 1341),),
    },
}
"""By domain and purpose, those of a purpose in the order in which they are taken."""
ORDER = ("fast", "balanced", "best")


def chosen(purpose: str, domain: str, pretrained: bool = True) -> Choice:
    """Return the encoder for a purpose, and say on standard error which it is and why.

    The first whose trained weights are at hand is taken, else the first that can be downloaded; where no network
    answers, the one of a lesser purpose that is at hand, with a warning.

    Args:
        purpose: one of ``ORDER``.
        domain: of the inputs.
        pretrained: whether trained weights are wanted; without, there is nothing to choose among.

    Raises:
        ConfigError: the domain has no purposes, or no weights can be had.
    """
    if domain not in PURPOSES:
        raise ConfigError(
            f"backbone='{purpose}' is of {' and '.join(PURPOSES)} alone, and these inputs are {domain or 'others'}: "
            "name a backbone (quickstudy list backbones)"
        )
    choices = PURPOSES[domain][purpose]
    if not pretrained:
        return choices[0]
    told = f"backbone '{purpose}' of {domain}s"
    if near := [choice for choice in choices if is_at_hand(choice.backbone)]:
        say(f"{told}: {near[0].backbone}, whose weights are at hand ({near[0].licence})")
        return near[0]
    wanted = next(choice for choice in choices if choice.backbone not in WHEELS)
    lesser = [choice for less in reversed(ORDER[: ORDER.index(purpose)]) for choice in PURPOSES[domain][less]]
    instead = next((choice for choice in lesser if is_at_hand(choice.backbone)), None)
    try:
        check_hub_answers()
    except OSError as error:
        there = f"{wanted.backbone} ({wanted.licence}, {wanted.megabytes:,} MB) cannot be downloaded: {error}"
        if instead is None:
            raise ConfigError(
                f"{told}: {there}. Without a network, type pip install 'quickstudy[{domain},offline]' and take "
                f"backbone='fast'; or give a backbone whose weights are here (quickstudy list backbones --offline)"
            ) from error
        warnings.warn(f"{told}: {there}; {instead.backbone} is taken instead, whose weights are at hand", stacklevel=4)
        return instead
    say(
        f"{told}: {wanted.backbone}, whose {wanted.megabytes:,} MB of weights are downloaded once; their licence: "
        f"{wanted.licence}"
    )
    return wanted


def is_at_hand(backbone: str) -> bool:
    """Whether a backbone's trained weights can be loaded without a network."""
    if backbone in WHEELS:
        return all(map(find_spec, (WHEELS[backbone].library, WHEELS[backbone].package)))
    if "/" in backbone:
        return bool(find_spec("transformers") and cached(backbone) and cached(backbone, "config.json"))
    if not find_spec("timm"):
        return False
    config = require("timm", extra="image").get_pretrained_cfg(backbone)
    return cached(config.hf_hub_id, config.hf_hub_filename) is not None


_SAID: set[str] = set()


def say(words: str) -> None:
    """Say it on standard error, once in a process."""
    if words not in _SAID:
        _SAID.add(words)
        print(words, file=sys.stderr, flush=True)
