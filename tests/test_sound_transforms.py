"""Augmentations of sounds: by name, of spectra and of waves, the same for one seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from quickstudy import Trainer
from quickstudy.audio import Sound, SpeechRecognition, SpeechRecognitionData
from quickstudy.audio.transforms import _NAMED
from quickstudy.batches import stack
from quickstudy.data.samples import TRANSFORMS, Samples
from quickstudy.kinds.generated_transcription import rejoined

RATE = 4000


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


@pytest.mark.parametrize("seconds", [1.0, 30.0])
def test_of_a_sound_as_a_whole_nothing_is_lost(seconds: float) -> None:
    reads = Sound(features="wave", whole=True, sample_rate=RATE, seconds=seconds)
    times = np.arange(RATE * 2) / RATE
    given = reads({"array": np.sin(2 * np.pi * (200 + 50 * times) * times), "sampling_rate": RATE})
    before = rejoined(stack([given]))
    for name in ("pitch", "shift", "noise", "shift_noise", "sound_views"):
        for _ in range(5):
            found = TRANSFORMS[name](given)
            assert found.keys() == given.keys()
            after = rejoined(stack([found]))
            length = int(after["mask"].sum())
            starts, counts = found["places"][:, 2], found["windows"]["mask"].sum(1)
            assert (starts[1:] < (starts + counts)[:-1]).all()  # they still overlap
            if name == "pitch":
                assert 2 * RATE / 1.11 <= length <= 2 * RATE / 0.89
                ends = [one["wave"][0][one["mask"][0]][-RATE // 20 :] for one in (before, after)]
                assert all(float(end.abs().max()) > 0.5 for end in ends)
            elif name == "shift":
                moved = after["wave"][0][after["mask"][0]]
                assert torch.equal(moved[-2 * RATE :], before["wave"][0])
                assert not moved[: -2 * RATE].any() and len(moved) <= 2.2 * RATE
            else:
                assert length >= 2 * RATE


def test_speech_is_learned_from_changed_sounds() -> None:
    noise = np.random.default_rng(0)
    sounds = [noise.standard_normal(RATE // 2) for _ in range(4)]
    data = SpeechRecognitionData.from_arrays(
        sampling_rate=RATE,
        train_arrays=sounds,
        train_targets=["a", "b", "ab", "b a"],
        sample_rate=RATE,
        batch_size=2,
        transform="shift_pitch_specaugment",
    )
    model = SpeechRecognition(backbone_kwargs={"bands": 8, "width": 8, "layers": 1, "heads": 2})
    Trainer(
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(model, datamodule=data)
    assert model.trained_on[0] == 4
