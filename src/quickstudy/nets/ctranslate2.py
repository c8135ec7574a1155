"""Weights from files of CTranslate2: https://github.com/OpenNMT/CTranslate2."""

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
