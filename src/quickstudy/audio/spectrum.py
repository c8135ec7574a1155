"""From a wave to its spectrum, and from one rate of samples to another. All is in float64: the same on every machine.

Shapes: L samples, W windows, T frames, F bands.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

FRAMES = 100
"""A second, or as many as whole samples allow."""
WINDOW = 0.025
"""Seconds that a frame looks at."""
DECIBELS = 80.0
"""What is quieter than the loudest by more counts as silence."""


def resampled(samples_L: NDArray[Any], rate: int, wanted: int) -> NDArray[Any]:
    """Return samples at another rate, without what it cannot hold: by their Fourier transform, silence around them.

    >>> resampled(np.ones(441), 44_100, 16_000).shape
    (160,)
    """
    if rate == wanted:
        return samples_L
    common = math.gcd(rate, wanted)
    before, after = rate // common, wanted // common
    blocks = -(-(len(samples_L) + 2 * rate // FRAMES) // before)  # whole ones, so that the rates are exact
    spectrum = np.fft.rfft(samples_L, blocks * before)
    length = -(-len(samples_L) * after // before)
    found: NDArray[Any] = np.fft.irfft(spectrum, blocks * after)[:length] * (after / before)
    return found


def log_mel(wave: Tensor, rate: int, bands: int) -> Tensor:
    """Return decibels ``[F, T]`` above silence, 0 to ``DECIBELS``, which is where the clip is loudest.

    Each clip is compared with itself, so that neither its volume nor what fills it up matters.

    Args:
        wave: samples ``[L]``, float64; or those of windows of one clip, ``[W, L]``, of which ``[W, F, T]`` is made.
        rate: of them, a second.
        bands: F, spaced by pitch (mel) up to half the rate.
    """
    window, hop = round(WINDOW * rate), _hop(rate)
    size = _size(window)
    spectrum = torch.stft(
        wave,
        size,
        hop,
        window,
        _hann(window, wave.dtype),
        pad_mode="constant",
        return_complex=True,
    )
    power = filters(rate, size, bands) @ spectrum[..., : frames_of(wave.shape[-1], rate)].abs().square()
    loudest = power.max().clamp_min(torch.finfo(wave.dtype).tiny)
    return DECIBELS + 10 * (power / loudest).clamp_min(10 ** (-DECIBELS / 10)).log10()


def band_levels(wave_NL: Tensor, mask_NL: Tensor, rate: int, bands: int) -> tuple[Tensor, Tensor]:
    """Return the logarithms of the bands of waves ``[N, F, T]``, each less its mean over a wave, and which frames are.

    Args:
        wave_NL: samples.
        mask_NL: which of them there are.
        rate: of them, a second.
        bands: F.
    """
    window, hop = round(WINDOW * rate), _hop(rate)
    size = _size(window)
    wave_NL = wave_NL.to(torch.promote_types(wave_NL.dtype, torch.float32)) * mask_NL
    hann = _hann(window, wave_NL.dtype).to(wave_NL.device)
    spectrum = torch.stft(wave_NL, size, hop, window, hann, pad_mode="constant", return_complex=True)
    power = spectrum[..., : frames_of(wave_NL.shape[-1], rate)].abs().square()
    levels_NFT = (filters(rate, size, bands).to(power) @ power).clamp_min(1e-10).log()
    there_NT = mask_NL[:, ::hop].bool()
    weights_N1T = there_NT[:, None].to(levels_NFT)
    count_N11 = weights_N1T.sum(2, keepdim=True).clamp(min=1)
    levels_NFT = (levels_NFT - (levels_NFT * weights_N1T).sum(2, keepdim=True) / count_N11) * weights_N1T
    spread_N11 = (levels_NFT.square().sum((1, 2), keepdim=True) / (count_N11 * bands)).clamp_min(1e-6).sqrt()
    return levels_NFT / spread_N11, there_NT


@lru_cache(maxsize=8)
def _hann(window: int, dtype: torch.dtype) -> Tensor:
    return torch.hann_window(window, dtype=dtype)


def frames_of(length: int, rate: int) -> int:
    """Return T of so many samples.

    >>> frames_of(16_000, 16_000), frames_of(22_051, 22_050)
    (100, 101)
    """
    return -(-length // _hop(rate))


def _hop(rate: int) -> int:
    return round(rate / FRAMES)


def _size(window: int) -> int:
    """Return the length of the transform: fine enough for the lowest bands."""
    return int(2 ** math.ceil(math.log2(2 * window)))


@lru_cache(maxsize=8)
def filters(rate: int, size: int, bands: int) -> Tensor:
    """Return the weights ``[F, size // 2 + 1]`` of frequencies in bands: triangles of equal width in mel.

    Args:
        rate: samples a second.
        size: of the Fourier transform.
        bands: F.
    """
    highest = 2595 * math.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, highest, bands + 2, dtype=torch.float64) / 2595) - 1)
    frequencies = torch.linspace(0, rate / 2, size // 2 + 1, dtype=torch.float64)
    low, middle, high = (edges[start : start + bands, None] for start in (0, 1, 2))
    rising, falling = (frequencies - low) / (middle - low), (high - frequencies) / (high - middle)
    return F.relu(torch.minimum(rising, falling))
