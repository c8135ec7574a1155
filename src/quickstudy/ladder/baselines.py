"""What examples have in common without any training: the trivial networks that every domain is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from quickstudy.batches import Batch
from quickstudy.modality import Modality
from quickstudy.nets import Encoder, build_encoder

_WORDS = 8192
"""Tokens of a vocabulary that is learned from the examples."""


class Counts(nn.Module):
    """How often each token stands in a text, of length 1: what texts have in common.

    Args:
        known: how many tokens there are.
    """

    def __init__(self, known: int = _WORDS) -> None:
        super().__init__()
        self.known = known

    def forward(self, texts: Batch) -> Tensor:
        """Return ``[N, known]``."""
        ids_NL, mask_NL = texts["ids"], texts["mask"]
        counts = torch.zeros(len(ids_NL), self.known).scatter_add_(1, ids_NL, mask_NL.float())
        return nn.functional.normalize(counts)


class Statistics(nn.Module):
    """How loud each band of a spectrum is, by how much it varies, and how fast."""

    def forward(self, spectra: Tensor) -> Tensor:
        """Return ``[N, 3 * bands]``."""
        bands_NFT = spectra.flatten(1, 2)
        return torch.cat([bands_NFT.mean(2), bands_NFT.std(2), bands_NFT.diff(dim=2).abs().mean(2)], 1)


RAW: Mapping[str, tuple[str, Callable[[], nn.Module | str], Mapping[str, Any]]] = {
    "image": ("pixels", nn.Flatten, {"image_size": 32}),
    "text": ("words in common", Counts, {}),
    "tabular": ("columns", lambda: "one_hot", {}),
    "audio": ("statistics of their spectra", Statistics, {}),
}
"""By domain what is compared, in words, the network without weights that makes it, and how it reads inputs."""


def raw(domain: str, modality: Modality) -> tuple[Encoder, Modality]:
    """Return the encoder of what is compared without any training, and how it reads inputs.

    Args:
        domain: the examples'; of others than quickstudy's own the inputs' numbers are taken.
        modality: how inputs are read otherwise; what it learned of examples for a network of its own is forgotten.
    """
    _, network, options = RAW.get(domain, ("numbers", nn.Flatten, {}))
    forgotten = {name: type(modality)().settings[name] for name in modality.learned}
    reading = modality.with_options({**forgotten, **options}) if forgotten or options else modality
    return build_encoder(network(), pretrained=False), reading
