"""Texts of letters, as a domain of one's own: ``--import tests/letters.py`` makes it known to a command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from quickstudy.batches import Batch
from quickstudy.errors import DataError
from quickstudy.modality import MODALITIES, Modality, Wire
from quickstudy.nets.registry import BACKBONES


@MODALITIES.register("letters")
@dataclass(frozen=True)
class Letters(Modality):
    """A text in a file, in the bytes of one, or as it is: what it loads it does not load again."""

    called = "texts"
    wire = Wire("texts", ("text/plain",), {"type": "string"})
    shown_as = "text/plain"

    def load(self, item: Any) -> Batch:
        text = item.read_text() if isinstance(item, Path) else item.decode() if isinstance(item, bytes) else item
        if not text.isalpha():
            raise DataError(f"{text!r} is no text of letters")
        ids = torch.tensor([ord(letter) % 32 for letter in text])
        return {"ids": ids, "mask": torch.ones(len(ids), dtype=torch.bool)}

    def show(self, item: Any, example: Batch) -> bytes:
        return item if isinstance(item, bytes) else str(item).encode()


@BACKBONES.register("share")
class Share(nn.Module):
    """How often each letter comes."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, tokens: Batch) -> Tensor:
        found = nn.functional.one_hot(tokens["ids"], 32) * tokens["mask"][..., None]
        shares: Tensor = self.scale * found.sum(1) / tokens["mask"].sum(1, keepdim=True)
        return shares
