"""Pretrained encoders by what they are for: ``"fast"``, ``"balanced"`` and ``"best"``, which domains name.

Their weights are under licences that permit any use.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, NamedTuple

from quickstudy.domains import modules_of_domains
from quickstudy.errors import ConfigError, require
from quickstudy.nets.weights import WHEELS, cached, check_hub_answers
from quickstudy.registry import Registry


class Choice(NamedTuple):
    """An encoder that serves a purpose."""

    backbone: str
    licence: str
    """Of its weights."""
    megabytes: int
    """Of its weights."""
    options: Mapping[str, Any] = {}
    """Of the backbone, where nobody says otherwise."""


PURPOSES: Registry[Mapping[str, tuple[Choice, ...]]] = Registry(
    "domain of encoders by purpose", further=modules_of_domains("purposes")
)
"""By domain and purpose, those of a purpose in the order in which they are taken; their module ``purposes`` says."""
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
            f"backbone='{purpose}' is of {' and '.join(PURPOSES.names())} alone, and these inputs are "
            f"{domain or 'others'}: "
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
