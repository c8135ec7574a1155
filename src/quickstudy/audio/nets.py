"""Networks of sounds.

Shapes: N sounds, F bands, T frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.audio.modality import SAMPLE_RATE
from quickstudy.audio.spectrum import band_levels
from quickstudy.batches import Batch
from quickstudy.errors import ConfigError, check_choice, check_counts
from quickstudy.nets.conv4 import Conv4
from quickstudy.nets.registry import BACKBONES
from quickstudy.nets.sequences import AttentionLayer, attention_bias, pooled


@BACKBONES.register("audio_conv4")
class AudioConv4(Conv4):
    """``conv4`` on spectra ``[N, 1, F, T]``; see ``Conv4`` for the other options.

    Args:
        pooling: ``"mean_max"`` makes of each feature's values over time their mean and the largest, so that when
            something is heard does not matter (Kong et al. 2020, https://arxiv.org/abs/1912.10211); ``"none"`` keeps
            them all.
    """

    reads: Mapping[str, Any] = {"name": "audio", "options": {"features": "log_mel"}}

    def __init__(
        self,
        hidden: int = 64,
        norm: Literal["batch", "group"] = "batch",
        pools: int = 4,
        pooling: Literal["none", "mean_max"] = "none",
    ) -> None:
        super().__init__(in_channels=1, hidden=hidden, norm=norm, pools=pools)
        check_choice("pooling", pooling, "none", "mean_max")
        self._pooling = pooling

    def forward(self, inputs: Tensor) -> Tensor:
        """Embed spectra."""
        features_NCFT = super().forward(inputs)
        if self._pooling == "none":
            return features_NCFT
        return torch.cat([features_NCFT.mean(3), features_NCFT.amax(3)], 1)


@BACKBONES.register("small_speech")
class SmallSpeech(nn.Module):
    """Tells of the moments of speech by convolutions over its spectrum and a few layers of attention.

    It makes the spectrum by itself, 100 frames a second, each band less its mean over the sound. What fills up a batch
    changes nothing.

    Args:
        sample_rate: samples a second.
        bands: of the spectrum.
        width: D.
        layers: of attention, each with a perceptron behind it.
        heads: of each layer.
        frames: how many make a moment, a power of 2: with 4, at most 25 letters are told a second.
        dropout: share of the numbers that a layer adds that is dropped in training.

    Raises:
        ConfigError: an option is out of range.
    """

    def __init__(
        self,
        sample_rate: int = SAMPLE_RATE,
        bands: int = 40,
        width: int = 96,
        layers: int = 2,
        heads: int = 4,
        frames: int = 4,
        dropout: float = 0.1,
    ) -> None:
        check_choice("frames", frames, 1, 2, 4, 8)
        check_counts(sample_rate=sample_rate, bands=bands, width=width, layers=layers, heads=heads)
        if width % heads:
            raise ConfigError(
                f"width={width} is no multiple of heads={heads}: type width={heads * (width // heads + 1)}"
            )
        super().__init__()
        self.sample_rate = sample_rate
        self.reads: Mapping[str, Any] = {"name": "audio", "options": {"features": "wave", "sample_rate": sample_rate}}
        self._bands = bands
        self.spectrum = nn.Conv1d(bands, width, 5, padding=2)
        self.halves = nn.ModuleList(nn.Conv1d(width, width, 3, 2, 1) for _ in range(frames.bit_length() - 1))
        self.around = nn.Conv1d(width, width, 15, padding=7, groups=width)
        self.layers = nn.ModuleList(AttentionLayer(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    @property
    def blocks_of_layers(self) -> nn.ModuleList:
        """Its layers of attention, from the bottom to the top."""
        return self.layers

    def forward(self, sounds: Batch) -> Tensor:
        """Return ``[N, D]`` of ``{"wave": [N, L], "mask": [N, L]}``: the mean over the moments."""
        states_NTD, mask_NT = self.elements(sounds)
        return pooled(states_NTD, mask_NT, "mean")

    def elements(self, sounds: Batch) -> tuple[Tensor, Tensor]:
        """Return the states of moments, ``[N, T, D]``, and which of them there are."""
        levels_NFT, there_NT = band_levels(sounds["wave"], sounds["mask"], self.sample_rate, self._bands)
        states_NDT = F.gelu(self.spectrum(levels_NFT.to(self.spectrum.weight.dtype))) * there_NT[:, None]
        for half in self.halves:
            there_NT = there_NT[:, ::2]
            states_NDT = F.gelu(half(states_NDT)) * there_NT[:, None]
        states_NDT = (states_NDT + F.gelu(self.around(states_NDT))) * there_NT[:, None]
        states_NTD = states_NDT.transpose(1, 2)
        bias = attention_bias(there_NT, states_NTD.dtype)
        for layer in self.layers:
            states_NTD = layer(states_NTD, bias)
        return self.norm(states_NTD), there_NT


class BandStatistics(nn.Module):
    """How loud each band of a spectrum is, by how much it varies, and how fast."""

    def forward(self, spectra: Tensor) -> Tensor:
        """Return ``[N, 3 * bands]``."""
        bands_NFT = spectra.flatten(1, 2)
        return torch.cat([bands_NFT.mean(2), bands_NFT.std(2), bands_NFT.diff(dim=2).abs().mean(2)], 1)
