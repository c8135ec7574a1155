"""Ready-made augmentation of sounds, by name: ``transform="shift_noise"``.

Each takes and returns a spectrum ``[1, F, T]`` of decibels above silence, uint8 or floats of 0..1, or a wave,
``{"wave": [L], "mask": [L]}``; or windows of these. What is moved beyond an end is lost, and silence follows it in.
Of a sound that is heard as a whole, for what is said in it, nothing is lost: it becomes longer or shorter.

Shapes: F bands, T frames, L samples, W windows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from quickstudy.audio.spectrum import DECIBELS
from quickstudy.batches import Batch, in_windows, stack, windows_of
from quickstudy.data.samples import TRANSFORMS

_NAMED = {
    "shift": ("shift",),
    "noise": ("noise",),
    "pitch": ("pitch",),
    "specaugment": ("masks",),
    "shift_noise": ("shift", "noise"),
    "shift_specaugment": ("shift", "masks"),
    "shift_noise_specaugment": ("shift", "noise", "masks"),
    "shift_pitch_specaugment": ("shift", "pitch", "masks"),
    "sound_views": ("far_shift", "noise", "masks"),
}
_QUIETEST, _LOUDEST = 30.0, 10.0
"""Decibels that noise is below the sound; below its loudest place, of a spectrum."""


def _in_turn(parts: tuple[str, ...], sound: Batch) -> Batch:
    if in_windows(sound) and "places" in sound:
        for part in parts:
            sound = _WHOLE.get(part, partial(_each_window, part))(sound)
        return sound
    if in_windows(sound):
        return {"windows": stack([_in_turn(parts, window) for window in windows_of(sound)])}
    for part in parts:
        wave = isinstance(sound, dict)
        sound = {**sound, "wave": _WAVES[part](sound["wave"])} if wave else _SPECTRA[part](sound)
    return sound


def _moved(most: float, values: Tensor) -> Tensor:
    """Move values along their last axis, by up to a share of it in either direction; zeros follow."""
    length = values.shape[-1]
    steps = int(torch.randint(-int(most * length), int(most * length) + 1, ()))
    moved = values.roll(steps, -1)
    moved[..., : max(steps, 0)] = 0
    moved[..., length + min(steps, 0) :] = 0
    return moved


def _masked(axes: tuple[int, ...], values: Tensor) -> Tensor:
    """Silence two stretches of each axis, of up to a fifth of it: Park et al. 2019, https://arxiv.org/abs/1904.08779."""
    values = values.clone()
    for axis in axes:
        length = values.shape[axis]
        for _ in range(2):
            size = int(torch.randint(0, length // 5 + 1, ()))
            start = int(torch.randint(0, length - size + 1, ()))
            values.narrow(axis, start, size).zero_()
    return values


def _strength() -> float:
    """Return by how many decibels noise is below the sound."""
    return _LOUDEST + (_QUIETEST - _LOUDEST) * float(torch.rand(()))


def _noisy_spectrum(levels: Tensor) -> Tensor:
    """Add white noise, whose power in a place of a spectrum is spread exponentially."""
    whole = levels.dtype == torch.uint8
    scale = DECIBELS / 255 if whole else DECIBELS
    noise = torch.empty(levels.shape).exponential_() * 10 ** ((DECIBELS - _strength()) / 10)
    power = 10 ** (levels.float() * (scale / 10)) + noise
    louder = (10 * power.log10()).clamp(0, DECIBELS) / scale
    return louder.round().to(torch.uint8) if whole else louder.to(levels.dtype)


def _noisy_wave(wave: Tensor) -> Tensor:
    """Add white noise."""
    power = wave.square().mean() * 10 ** (-_strength() / 10)
    return wave + torch.randn(wave.shape, dtype=wave.dtype) * power.sqrt()


def _other_pitch(levels: Tensor) -> Tensor:
    """Move all bands up or down, by up to a tenth of them."""
    return _moved(0.1, levels.transpose(-2, -1)).transpose(-2, -1)


def _other_speed(wave: Tensor) -> Tensor:
    """Play it faster and higher or slower and lower, by up to a tenth: Ko et al. 2015, Audio Augmentation for ASR."""
    speed = 0.9 + 0.2 * float(torch.rand(()))
    played = F.interpolate(wave[None, None], size=max(round(len(wave) / speed), 1), mode="linear")[0, 0, : len(wave)]
    return F.pad(played, (0, len(wave) - len(played)))


def _each_window(part: str, sound: Batch) -> Batch:
    """Change the windows of a whole sound, each by chance."""
    return {**sound, "windows": stack([_in_turn((part,), window) for window in windows_of(sound)])}


def _whole_at_other_speed(sound: Batch) -> Batch:
    """Play a whole sound faster and higher or slower and lower, by up to a tenth."""
    speed = 0.9 + 0.2 * float(torch.rand(()))
    wave_WL, mask_WL = sound["windows"]["wave"], sound["windows"]["mask"]
    length = max(round(wave_WL.shape[1] / speed), 1)
    played_WL = F.interpolate(wave_WL[:, None], size=length, mode="linear")[:, 0]
    counts_W = (mask_WL.sum(1) / speed).round().clamp(1, length)
    there_WL = torch.arange(length) < counts_W[:, None]
    places = (sound["places"] / speed).round().to(sound["places"].dtype)
    return {**sound, "windows": {"wave": played_WL * there_WL, "mask": there_WL}, "places": places}


def _whole_behind_silence(sound: Batch) -> Batch:
    """Put silence before a whole sound, up to a tenth of its first window."""
    wave_WL = sound["windows"]["wave"]
    if len(wave_WL) > 1:  # whose windows would no longer fit together
        return sound
    steps = int(torch.randint(0, wave_WL.shape[1] // 10 + 1, ()))
    moved = {name: F.pad(leaf, (steps, 0)) for name, leaf in sound["windows"].items()}
    moved["mask"][:, :steps] = True
    places = sound["places"] + torch.tensor([0, steps, 0])
    return {**sound, "windows": moved, "places": places}


_SPECTRA: dict[str, Callable[[Any], Any]] = {
    "shift": partial(_moved, 0.1),
    "far_shift": partial(_moved, 0.25),
    "noise": _noisy_spectrum,
    "pitch": _other_pitch,
    "masks": partial(_masked, (-2, -1)),
}
_WAVES: dict[str, Callable[[Any], Any]] = {
    **_SPECTRA,
    "noise": _noisy_wave,
    "pitch": _other_speed,
    "masks": partial(_masked, (-1,)),
}

_WHOLE: dict[str, Callable[[Any], Any]] = {
    "shift": _whole_behind_silence,
    "far_shift": _whole_behind_silence,
    "pitch": _whole_at_other_speed,
}

for _name, _parts in _NAMED.items():
    TRANSFORMS.register(_name)(partial(_in_turn, _parts))
