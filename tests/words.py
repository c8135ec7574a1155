"""Texts for the conformance suite of modalities, which another interpreter imports to read them too: so it is light."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from quickstudy.batches import Batch
from quickstudy.data.table import Inputs
from quickstudy.errors import DataError
from quickstudy.modality import Modality, Wire

TEXTS = ["the cat", "a cat that sat on the mat", "the dog", "dogs bark", "a mat", "the cat sat"]


@dataclass(frozen=True)
class Words(Modality):
    """Texts as the places of their words in those of training; 1 for others."""

    called = "texts"
    in_cells = True
    learned = ("vocabulary",)
    wire = Wire("texts", ("text/plain",), {"type": "string"})
    shown_as = "text/plain"
    vocabulary: tuple[str, ...] = ()

    def fitted(self, inputs: Inputs) -> Self:
        if self.vocabulary:
            return self
        return self.with_options({"vocabulary": sorted({word for text in list(inputs) for word in text.split()})})

    def load(self, item: Any) -> Any:
        if not isinstance(item, str):
            raise DataError(f"{item!r} is no text")
        known = {word: place for place, word in enumerate(self.vocabulary, 2)}
        ids = torch.tensor([known.get(word, 1) for word in item.split() if word.isalpha()])
        if not len(ids):
            raise DataError(f"{item!r} has no word")
        return {"ids": ids, "mask": torch.ones(len(ids))}

    def show(self, item: Any, example: Batch) -> bytes:
        return str(item)[:200].encode()

    def from_wire(self, content: Any, name: str = "") -> Any:
        return content

    def free_axes(self) -> dict[str, dict[int, str]]:
        return {"ids": {1: "L"}, "mask": {1: "L"}}

    def made_up(self, count: int, generator: torch.Generator, like: Batch | None = None) -> Batch:
        return {"ids": torch.randint(2, 9, (count, 4), generator=generator), "mask": torch.ones(count, 4)}


@dataclass(frozen=True)
class InTheOrderOfASet(Words):
    """Learns its words in an order that is another in every interpreter."""

    def fitted(self, inputs: Inputs) -> Self:
        words = {word for text in list(inputs) for word in text.split()}
        return self if self.vocabulary else self.with_options({"vocabulary": list(words)})


@dataclass(frozen=True)
class Hashed(Words):
    """Needs no vocabulary: the place of a word follows from its hash, which is another in every interpreter."""

    def load(self, item: Any) -> Any:
        read = super().load(item)
        return {**read, "ids": torch.tensor([2 + hash(word) % 16 for word in item.split() if word.isalpha()])}


KNOWN: list[str] = []
"""What a test tells this process alone."""


@dataclass(frozen=True)
class KnowsByHeart(Words):
    """Reads where somebody told it of its words."""

    def load(self, item: Any) -> Any:
        read = super().load(item)
        return {**read, "ids": read["ids"] * (KNOWN.index("the cat") + 1)}


class Mean(nn.Module):
    """The mean of the embeddings of a text's words."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 3)

    def forward(self, batch: Batch) -> Tensor:
        return (self.embed(batch["ids"]) * batch["mask"][..., None]).sum(1) / batch["mask"].sum(1, keepdim=True)
