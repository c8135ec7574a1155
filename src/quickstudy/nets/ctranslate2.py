"""Weights from files of CTranslate2, and whose they are: https://github.com/OpenNMT/CTranslate2."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch

from quickstudy.errors import ConfigError
from quickstudy.nets.weights import Weights


def read_ctranslate2(path: Path) -> Weights:
    """Read a file of weights, of numbers as they are, which none scales.

    Raises:
        ConfigError: it is none of a known version, or holds other numbers.
    """
    types = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
    content = memoryview(path.read_bytes())
    place = 0

    def numbers(form: str) -> Any:
        nonlocal place
        found = struct.unpack_from(f"<{form}", content, place)
        place += struct.calcsize(f"<{form}")
        return found if len(found) > 1 else found[0]

    def text() -> str:
        nonlocal place
        length = numbers("H")
        place += length
        return bytes(content[place - length : place - 1]).decode()

    try:
        if (version := numbers("I")) != 6:
            raise ConfigError(f"'{path}' is a file of version {version} of CTranslate2, and 6 is read")
        text(), numbers("I")  # the kind of model, and its revision
        found: Weights = {}
        for _ in range(numbers("I")):
            name, rank = text(), numbers("B")
            shape = [numbers("I") for _ in range(rank)]
            kind, size = numbers("BI")
            values = np.frombuffer(content[place : place + size], types[kind]).reshape(shape)
            found[name] = torch.from_numpy(values.astype(np.float32))
            place += size
    except (struct.error, KeyError, ValueError, UnicodeDecodeError) as error:
        raise ConfigError(f"'{path}' is no file of weights of CTranslate2, or is damaged: {error}") from error
    return found


def whisper_encoder(found: Weights, layers: int) -> Weights:
    """Return the weights of transformers' encoder of Whisper.

    Args:
        found: of CTranslate2.
        layers: that it has.
    """
    weights = {"embed_positions.weight": found["encoder/position_encodings/encodings"]}
    for name in ("conv1", "conv2", "layer_norm"):
        _put(weights, name, found, f"encoder/{name}")
    for number in range(layers):
        _put_layer(weights, f"layers.{number}", found, f"encoder/layer_{number}")
    return weights


def whisper_decoder(found: Weights, layers: int) -> Weights:
    """Return the weights of transformers' decoder of Whisper; see ``whisper_encoder``."""
    weights = {
        "embed_tokens.weight": found["decoder/embeddings/weight"],
        "embed_positions.weight": found["decoder/position_encodings/encodings"],
    }
    _put(weights, "layer_norm", found, "decoder/layer_norm")
    for number in range(layers):
        ours, theirs = f"layers.{number}", f"decoder/layer_{number}"
        _put_layer(weights, ours, found, theirs)
        _put(weights, f"{ours}.encoder_attn_layer_norm", found, f"{theirs}/attention/layer_norm")
        _put(weights, f"{ours}.encoder_attn.q_proj", found, f"{theirs}/attention/linear_0")
        _put_parts(weights, f"{ours}.encoder_attn", found, f"{theirs}/attention/linear_1", "kv")
        _put(weights, f"{ours}.encoder_attn.out_proj", found, f"{theirs}/attention/linear_2")
    return weights


def _put_layer(weights: Weights, ours: str, found: Weights, theirs: str) -> None:
    _put(weights, f"{ours}.self_attn_layer_norm", found, f"{theirs}/self_attention/layer_norm")
    _put_parts(weights, f"{ours}.self_attn", found, f"{theirs}/self_attention/linear_0", "qkv")
    _put(weights, f"{ours}.self_attn.out_proj", found, f"{theirs}/self_attention/linear_1")
    _put(weights, f"{ours}.final_layer_norm", found, f"{theirs}/ffn/layer_norm")
    _put(weights, f"{ours}.fc1", found, f"{theirs}/ffn/linear_0")
    _put(weights, f"{ours}.fc2", found, f"{theirs}/ffn/linear_1")


def _put(weights: Weights, ours: str, found: Weights, theirs: str) -> None:
    first, second = ("gamma", "beta") if theirs.endswith("norm") else ("weight", "bias")
    weights[f"{ours}.weight"], weights[f"{ours}.bias"] = found[f"{theirs}/{first}"], found[f"{theirs}/{second}"]


def _put_parts(weights: Weights, ours: str, found: Weights, theirs: str, parts: str) -> None:
    """Put the parts of a joined projection: queries, keys, values."""
    each = (found[f"{theirs}/{name}"].chunk(len(parts)) for name in ("weight", "bias"))
    for part, weight, bias in zip(parts, *each, strict=True):
        weights[f"{ours}.{part}_proj.weight"] = weight
        if part != "k":  # which has none
            weights[f"{ours}.{part}_proj.bias"] = bias
