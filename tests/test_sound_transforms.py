"""Augmentations of sounds: by name, of spectra and of waves, the same for one seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from quickstudy.audio import Sound
from quickstudy.audio.transforms import _NAMED
from quickstudy.data.samples import TRANSFORMS, Samples


def spectrum() -> Tensor:
    return torch.randint(60, 256, (1, 20, 50), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def wave() -> dict[str, Tensor]:
    samples = torch.randn(4000, generator=torch.Generator().manual_seed(0)) + 3
    return {"wave": samples, "mask": torch.ones(4000, dtype=torch.bool)}


@pytest.mark.parametrize("name", _NAMED)
def test_each_keeps_the_form_and_follows_from_its_seed(name: str) -> None:
    transform = TRANSFORMS[name]
    batches = [
        Samples([spectrum()], torch.as_tensor, transform=transform).batch(np.array([0]), [(seed,)])
        for seed in (1, 1, 2, 3, 4)
    ]
    assert all(
        isinstance(batch, Tensor) and batch.dtype == torch.uint8 and batch.shape == (1, 1, 20, 50) for batch in batches
    )
    assert torch.equal(batches[0], batches[1])
    assert not all(torch.equal(batches[0], other) for other in batches[2:])
    given, before = wave(), wave()
    heard = [Samples([given], dict, transform=transform).batch(np.array([0]), [(seed,)]) for seed in (1, 1, 2, 3, 4)]
    assert all(one["mask"].all() and one["wave"].shape == (1, 4000) for one in heard)
    assert torch.equal(heard[0]["wave"], heard[1]["wave"])
    assert not all(torch.equal(heard[0]["wave"], other["wave"]) for other in heard[2:])
    assert torch.equal(given["wave"], before["wave"])
    floats = spectrum() / 255
    assert transform(floats).dtype == floats.dtype
    assert 0 <= float(transform(floats).min()) <= float(transform(floats).max()) <= 1


def test_what_is_moved_is_lost_and_silence_follows() -> None:
    for _ in range(20):
        found, given = TRANSFORMS["shift"](spectrum()), spectrum()
        gone = (found == 0).all(1).sum()
        assert gone <= 5
        kept = found[..., ~(found == 0).all(1)[0]]
        starts = [
            start
            for start in range(51 - kept.shape[-1])
            if torch.equal(given[..., start : start + kept.shape[-1]], kept)
        ]
        assert starts


def test_masks_silence_no_more_than_two_fifths_of_an_axis() -> None:
    for _ in range(20):
        silent = TRANSFORMS["specaugment"](spectrum())[0] == 0
        assert silent.all(1).sum() <= 8
        assert silent.all(0).sum() <= 20
        assert torch.equal(silent, silent.all(1)[:, None] | silent.all(0))


def test_noise_is_as_loud_as_it_says() -> None:
    torch.manual_seed(0)
    silence = torch.zeros(1, 64, 400, dtype=torch.uint8)
    power = 10 ** (TRANSFORMS["noise"](silence).double() * 80 / 2550)
    assert 10**5 * 0.9 < float(power.mean()) < 10**7 * 1.1  # 30 to 10 dB below the loudest, at 80
    given = wave()
    noise = TRANSFORMS["noise"](given)["wave"] - given["wave"]
    ratio = 10 * float((noise.square().mean() / given["wave"].square().mean()).log10())
    assert -30.5 < ratio < -9.5


def test_embedders_of_sounds_have_views() -> None:
    assert Sound.views in TRANSFORMS.names()
