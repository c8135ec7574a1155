"""Sounds as a domain: how they are read, the doors of their data, tasks, and the predictor."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quickstudy import Predictor
from quickstudy.audio import AudioClassificationData, AudioClassifier, Sound
from quickstudy.audio.modality import Clip
from quickstudy.audio.nets import AudioConv4
from quickstudy.audio.spectrum import resampled
from quickstudy.batches import Batch, stack
from quickstudy.errors import ConfigError, DataError, DataWarning
from quickstudy.nets import Encoder
from quickstudy.testing import check_domain, check_modality
from quickstudy.testing.demands import quiet_trainer
from serving import running

PITCHES = {"low": 300, "middle": 900, "high": 2700}
RATE = 8000


def tone(pitch: float, seconds: float = 0.3, seed: int = 0, rate: int = RATE) -> NDArray[Any]:
    """Return a tone with some noise that swells and fades."""
    times = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(0, 0.02, len(times))
    return 0.4 * np.sin(2 * np.pi * pitch * times) * np.sin(np.pi * times / seconds) + noise


def sounds(folder: Path, each: int = 6) -> tuple[list[str], list[str]]:
    """Write files of several lengths and endings; return them and what they are."""
    files, labels = [], []
    for name, pitch in PITCHES.items():
        for number in range(each):
            file = folder / name / f"{number}.{('wav', 'flac', 'ogg')[number % 3]}"
            file.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(file, tone(pitch * 1.02**number, 0.2 + 0.02 * number, number), RATE)
            files.append(str(file))
            labels.append(name)
    return files, labels


def test_importing_it_brings_no_library() -> None:
    code = (
        "import sys, quickstudy.audio.modality, quickstudy.audio.nets, quickstudy.predictor\n"
        "assert not {'soundfile', 'torchaudio', 'scipy', 'transformers'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.dear("audio", "modality", "testing")
def test_sounds_conform(tmp_path: Path) -> None:
    files, labels = sounds(tmp_path)
    check_domain(AudioClassificationData, AudioClassifier, files, labels, backbone=AudioConv4(hidden=8), bands=16)


class Loudness(nn.Module):
    """The mean square of waves, which padding must not change."""

    def forward(self, sounds: Batch) -> Tensor:
        mask = sounds["mask"].to(sounds["wave"].dtype)
        return (sounds["wave"].square() * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)


@pytest.mark.dear("audio", "modality", "testing")
@pytest.mark.parametrize(("features", "network"), [("log_mel", AudioConv4(hidden=8)), ("wave", Loudness())])
def test_reading_conforms(features: Any, network: nn.Module, tmp_path: Path) -> None:
    files, _ = sounds(tmp_path, 3)
    bad = [b"RIFF", np.full(4000, np.nan), np.zeros((3, 3, 3)), np.array(["a"])]
    check_modality(Sound(features=features, bands=16), files, bad=bad, backbone=network, exports=features == "wave")


def level(sound: Tensor) -> float:
    """Return the band that is loudest on the whole."""
    return float(sound.float().sum((0, 2)).argmax())


def test_a_sound_is_the_same_in_any_form(tmp_path: Path) -> None:
    wave = tone(900)
    soundfile.write(tmp_path / "a.wav", wave, RATE, "FLOAT")
    one, read = Sound(seconds=0.3), Sound(seconds=0.3).load
    wanted = read(tmp_path / "a.wav")
    assert wanted.shape == (1, 64, 30) and wanted.dtype == torch.uint8 and wanted.max() == 255
    alike = {
        "bytes": (tmp_path / "a.wav").read_bytes(),
        "a dict": {"array": wave.astype(np.float32), "sampling_rate": RATE},
        "a dict of a file": {"bytes": None, "path": str(tmp_path / "a.wav")},
        "stereo": {"array": torch.tensor(wave).float().expand(2, -1), "sampling_rate": RATE},
        "twice as loud": {"array": 2 * wave.astype(np.float32), "sampling_rate": RATE},
        "samples": resampled(wave.astype(np.float32).astype(np.float64), RATE, 16_000),
    }
    for what, item in alike.items():
        assert torch.equal(read(item), wanted), what
        assert len(one.separated(item)) == 1, what
    assert Sound(sample_rate=22_050, seconds=0.3).load(alike["stereo"]).shape == (1, 64, 31)
    # The same tone of other rates and codecs has its band; 4 kHz holds it, too.
    for rate in (4000, 11_025, 44_100):
        assert level(read({"array": tone(900, rate=rate), "sampling_rate": rate})) == level(wanted), rate
    soundfile.write(tmp_path / "a.mp3", tone(900, rate=16_000), 16_000)
    whole = (np.iinfo(np.int16).max * tone(900, rate=16_000)).astype(np.int16)
    assert level(read(tmp_path / "a.mp3")) == level(read(whole)) == level(wanted)


def test_the_window_is_learned_and_of_what_is_longer_the_loudest_part_is_heard() -> None:
    clips = [np.concatenate([0.1 * tone(300, 0.1), tone(2700, 0.4), 0.1 * tone(300, 0.7)]) for _ in range(2)]
    lengths = [0.1] + [0.5] * 18 + [1.2]
    made = Sound(sample_rate=RATE).fitted([tone(300, seconds) for seconds in lengths])
    assert made == Sound(sample_rate=RATE, seconds=0.5)
    assert level(made.load(clips[0])) == level(made.load(tone(2700)))
    found = Clip("a", RATE, 9600, lambda start, count: clips[0][start : start + count, None]).loudest(0.4)
    assert abs(np.correlate(clips[0], found, "valid").argmax() - 800) <= 80  # a hundredth of a second
    assert made.load(tone(300))[..., 30:].max() == 0  # silence follows
    with pytest.warns(DataWarning, match=r"2 of 2 sounds are longer than 0.5 s, .* \(the longest has 1.2 s\)"):
        made.fitted(clips)
    assert Sound(features="wave", sample_rate=RATE, seconds=0.5).load(clips[0])["wave"].shape == (4000,)


def test_several_windows_of_a_long_sound_are_heard_and_their_embeddings_averaged() -> None:
    long = np.concatenate([tone(300, 0.4), np.zeros(3200), 0.1 * tone(2700, 0.4)])
    sound = Sound(sample_rate=RATE, bands=16, windows=3)
    made = sound.fitted([long])
    assert made.seconds == 0.4  # three of which are as long as it is
    windows = made.load(long)["windows"]
    assert windows.shape == (3, 1, 16, 40) and windows.dtype == torch.uint8
    assert [level(part) for part in windows] == [level(windows[0]), level(windows[0]), level(windows[2])]
    assert level(windows[0]) < level(windows[2])  # in between nothing is heard
    assert windows[0].max() == 255 and 100 < windows[2].max() < 230  # quieter by 20 of 80 dB: of one scale
    draw, again = made.draws(), Sound(windows=1).draws()
    assert draw is not None and again is None
    drawn = {int(draw({"windows": windows})["windows"].sum()) for _ in range(32)}
    assert drawn == {int(part.sum()) for part in windows}
    torch.manual_seed(0)
    encoder = Encoder(AudioConv4(hidden=8)).double().eval()
    alone = torch.stack([encoder(part[None])[0] for part in windows]).mean(0)
    torch.testing.assert_close(encoder({"windows": windows[None]})[0], alone)
    assert made.show(long, {"windows": windows}).startswith(b"\x89PNG")
    waves = Sound(sample_rate=RATE, features="wave", windows=3, seconds=0.4)
    assert Encoder(Loudness())(stack([waves.load(long)])).shape == (1, 1)
    one = waves.load(tone(300))  # shorter: whole, as often
    assert torch.equal(one["windows"]["wave"][0], one["windows"]["wave"][2])
    assert one["windows"]["wave"].shape == (3, 2400)
    with pytest.warns(DataWarning, match="1 of 1 sounds are longer than 3 windows of 0.2 s, .* between these is not"):
        Sound(sample_rate=RATE, seconds=0.2, windows=3).fitted([long])


def test_training_is_shown_one_window_and_all_else_the_mean() -> None:
    waves = [np.concatenate([tone(pitch, 0.3, seed), tone(pitch, 0.3)]) for pitch in (300, 2700) for seed in range(3)]
    labels, options = ["a"] * 3 + ["b"] * 3, {"windows": 2, "bands": 16, "transform": "shift_noise_specaugment"}
    others = [wave[::-1].copy() for wave in waves]
    data = AudioClassificationData.from_arrays(RATE, waves, labels, others, labels, sample_rate=RATE, **options)
    shapes = [next(iter(data.batch_loader(stage)))[0]["windows"].shape[1:] for stage in ("train", "val")]
    assert shapes == [(1, 1, 16, 30), (2, 1, 16, 30)]
    model = AudioClassifier(backbone=AudioConv4(hidden=8))
    quiet_trainer(fast_dev_run=True).fit(model, datamodule=data)
    with torch.no_grad():
        first = stack([data.modality.load(wave) for wave in waves[:1]])
        parts = torch.cat([model(first["windows"][:, place]) for place in range(2)])
        torch.testing.assert_close(model(first)[0], parts.mean(0), atol=1e-5, rtol=1e-5)  # of the logits, too
    assert len(model.predictor().predict([{"array": waves[0], "sampling_rate": RATE}])) == 1


def wav(samples: NDArray[Any], rate: int = RATE, form: str = "WAV", subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form, subtype=subtype)
    return file.getvalue()


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def resized(content: bytes, chunk: bytes, size: int) -> bytes:
    """Return a wav file that claims so many bytes of a chunk."""
    at = content.index(chunk) + 4
    return content[:at] + size.to_bytes(4, "little") + content[at + 4 :]


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        ((32767 * tone(300, 1)).astype(np.int64), "whole numbers of 64 bits reach .*does not say what the loudest"),
        ((32767 * tone(300, 1)).astype(np.int32), r"whole numbers of 32 bits reach .*array.astype\('int16'\)"),
        ((32767 * tone(300, 1)).astype(np.int16).astype(float), "that reach .*divide those of 16 bits by 32768"),
    ],
)
def test_samples_whose_full_scale_is_not_known_are_refused(samples: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        Sound()({"array": samples, "sampling_rate": RATE})
    as_given = Sound()({"array": samples.astype(np.int16), "sampling_rate": float(RATE)})
    assert torch.equal(as_given, Sound()({"array": samples.astype(np.int16) / 32768, "sampling_rate": RATE}))


CUT = r"is cut short: it claims [\d,]+ bytes of sound, and has [\d,]+. Replace the file"
BAD = {
    "empty.wav": (b"", "is empty: replace the file"),
    "text.wav": (b"hello, this is a text" * 9, "is no sound, or none that is read: save it as wav, flac, ogg or mp3"),
    "cut.mp3": (half(wav(tone(300, 2), form="MP3")), CUT),
    "tagged.mp3": (b"ID3\x04\0\0\0\0\x01\x48" + bytes(200) + half(wav(tone(300, 2), form="MP3")), CUT),
    "cut.wav": (half(wav(tone(300, 2))), "is cut short: it claims 32,000 bytes of sound, and has 15,978. Replace the"),
    "cut.aiff": (half(wav(tone(300, 2), form="AIFF")), CUT),
    "cut.au": (half(wav(tone(300, 2), form="AU")), CUT),
    "head.au": (b".snd\0\0\x10\0" + bytes(16), "is a damaged au file, or one cut short: replace it"),
    "large.wav": (half(wav(tone(300, 2), form="RF64")), CUT),
    "more.wav": (resized(wav(tone(300, 2)), b"data", 64_000), CUT),
    "cut.flac": (half(wav(tone(300, 2), form="FLAC")), "is a damaged flac file, or one cut short: replace it"),
    "cut.ogg": (half(wav(tone(300, 5), form="OGG")), "is cut short: it ends within a page. Replace the file"),
    "spike.wav": (
        wav(np.where(np.arange(2400) == 7, 1e30, tone(300)), subtype="DOUBLE"),
        r"has 1 samples that no sound reaches, up to 1e\+30, .*Replace them, .* or leave the sound out",
    ),
    "film.wav": (b"\0\0\0\x20ftypM4A " + bytes(100), r"is MPEG-4 \(m4a, aac\), which is not read.*ffmpeg -i"),
    "one.wav": (wav(np.ones(1)), "has 1 samples, 0.125 ms: a sound has 25 ms at least"),
    "long.wav": (
        wav(np.zeros(3 * 3600 * 1000), 1000),
        "lasts 10,800 s; more than 600 s are refused: cut it into clips",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_sound_is_named_with_what_to_do(name: str, tmp_path: Path) -> None:
    content, told = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}' ({told})"):
        Sound().load(tmp_path / name)


@pytest.mark.parametrize(("form", "data"), [(0, 0), (36, 0), (2**32 - 1, 0), (0, 2**32 - 1), (2**31, 2**31 - 36)])
def test_a_file_whose_writer_did_not_know_its_length_is_read(form: int, data: int) -> None:
    """As programs write into a pipe, and recorders that are stopped."""
    content = wav(tone(300))
    streamed = resized(resized(content, b"RIFF", form), b"data", data)
    assert torch.equal(Sound(seconds=0.3).load(streamed), Sound(seconds=0.3).load(content))
    au, aiff = wav(tone(300), form="AU"), wav(tone(300), form="AIFF")
    assert torch.equal(Sound(seconds=0.3).load(au[:8] + bytes(4) + au[12:]), Sound(seconds=0.3).load(au))
    assert torch.equal(Sound(seconds=0.3).load(aiff[:4] + bytes(4) + aiff[8:]), Sound(seconds=0.3).load(aiff))


def test_a_file_that_lacks_a_little_is_told_of_and_heard() -> None:
    content, sound = wav(tone(300)), Sound(seconds=0.3)
    with pytest.warns(
        DataWarning, match="is cut short: it claims 4,800 bytes of sound, and has 4,700, which are heard"
    ):
        assert torch.equal(sound.load(content[:-100]), sound.load(wav(tone(300)[:-50])))
    tagged = content + b"LIST\x04\0\0\0INFO"
    assert torch.equal(sound.load(tagged[:-6]), sound.load(content))  # what is cut is no sound
    with pytest.raises(DataError, match="has no samples"):
        sound.load(resized(wav(np.zeros(0)), b"RIFF", 48) + b"LIST\x04\0\0\0INFO")


def test_of_a_long_flac_that_is_cut_behind_what_is_heard_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quickstudy.audio.modality._SOUGHT", 1.0)
    content = wav(tone(300, 8), form="FLAC")
    assert Sound(seconds=0.3).load(content).shape == (1, 64, 30)
    with pytest.raises(DataError, match="is a damaged flac file, or one cut short"):
        Sound(seconds=0.3).load(content[: len(content) * 3 // 4])


def test_channels_that_cancel_each_other_are_told_of_and_one_is_heard() -> None:
    wave, sound = tone(300), Sound(seconds=0.3)
    with pytest.warns(DataWarning, match=r"has 2 channels whose mean is silent.*: channel 2 alone .*pan=mono\|c0=c1'"):
        heard = sound.load(wav(np.stack([-0.999 * wave, wave], 1)))
    assert torch.equal(heard, sound.load(wav(wave)))
    assert sound.load(wav(np.stack([0 * wave, wave], 1))).any()  # and one that is silent is no matter


def test_a_sound_of_many_channels_and_samples_is_refused_before_it_is_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a minute at most is decoded, whatever comes behind it."""
    channels = np.stack([tone(300, 4)] * 3, 1)
    monkeypatch.setattr("quickstudy.audio.modality._SOUGHT", 2.0)
    monkeypatch.setattr("quickstudy.audio.modality._DECODED", 3 * 2 * RATE)
    assert Sound(seconds=1).load(wav(channels)).shape == (1, 64, 100)
    told = "has 3 channels of 8,000 samples a second, of which 72,000 .*; more than 48,000 are refused: make it one"
    with pytest.raises(DataError, match=told):
        Sound(seconds=3).load(wav(channels))
    monkeypatch.setattr("quickstudy.audio.modality._DECODED", 3 * 2 * RATE - 1)
    with pytest.raises(DataError, match="make it one channel of 8000"):
        Sound(seconds=1).load(wav(channels))
    whole = Sound(features="wave", whole=True, sample_rate=RATE, max_seconds=20_000)
    monkeypatch.setattr("quickstudy.audio.modality._DECODED", 120 * RATE)
    with pytest.raises(
        DataError, match=r"has 1 channel of 8,000 .*: cut it into parts of 2 minutes \(ffmpeg .* 120 it"
    ):
        whole.load(wav(tone(300, 121)))


def test_samples_that_are_none_are_told() -> None:
    read = Sound(seconds=1).load
    with pytest.raises(DataError, match=r"shape \(2400,\) has 1 samples that are no finite numbers.*np.nan_to_num"):
        read(np.where(np.arange(2400) == 7, np.nan, tone(300)))
    with pytest.raises(DataError, match=r"does not say how many samples a second.*'sampling_rate': 16000"):
        read({"array": tone(300)})
    with pytest.raises(DataError, match="has 100 samples a second: sounds have 1,000 to 768,000"):
        read({"array": tone(300), "sampling_rate": 100})
    with pytest.warns(DataWarning, match="is silent: all that is read of it is 0"):
        assert read(np.zeros(8000)).max() == 0
    with pytest.raises(ConfigError, match="sample_rate=16: it must be a whole number of at least 1000"):
        Sound(sample_rate=16)


def test_every_door_reads_the_same(tmp_path: Path) -> None:
    files, labels = sounds(tmp_path / "train", 2)
    with zipfile.ZipFile(tmp_path / "train.zip", "w") as archive:
        for file in files:
            archive.write(file, Path(file).relative_to(tmp_path))
    arrays = [{"array": soundfile.read(file)[0], "sampling_rate": RATE} for file in files]
    frame = pd.DataFrame({"file": [str(Path(file).relative_to(tmp_path)) for file in files], "kind": labels})
    frame.to_csv(tmp_path / "t.csv", index=False)
    rows = [{"input": array, "target": label} for array, label in zip(arrays, labels, strict=True)]
    bare = [array["array"] for array in arrays]
    found = {
        "folders": AudioClassificationData.from_folders(tmp_path / "train"),
        "zip": AudioClassificationData.from_folders(tmp_path / "train.zip"),
        "files": AudioClassificationData.from_files(files, labels),
        "csv": AudioClassificationData.from_csv("file", "kind", train_file=tmp_path / "t.csv"),
        "dicts": AudioClassificationData.from_arrays(train_arrays=arrays, train_targets=labels),
        "arrays": AudioClassificationData.from_arrays(RATE, bare, labels),
        "a column": AudioClassificationData.from_data_frame(
            "sound", "kind", train_data_frame=pd.DataFrame({"sound": arrays, "kind": labels})
        ),
        "rows": AudioClassificationData.from_datasets(rows),
    }
    first = next(iter(found.values()))
    wanted = first.example()
    for name, data in found.items():
        assert set(data.classes) == set(PITCHES), name
        batch, _ = next(iter(data.batch_loader("train")))
        assert batch.shape[1:] == wanted.shape[1:], name
        assert data.load_options == {"seconds": 0.3}, name
    with pytest.raises(DataError, match=r"in the train data, sound 0 does not say .* type sampling_rate=16000"):
        AudioClassificationData.from_arrays(train_arrays=bare, train_targets=labels)
    waves = torch.from_numpy(np.stack([tone(300), tone(900)]))
    for tensor in (waves, waves[:, None].expand(-1, 2, -1)):  # of one channel, and of two
        data = AudioClassificationData.from_tensors(tensor, ["a", "b"], sample_rate=RATE)
        assert data.example().shape == (1, 1, 64, 30)
    with pytest.warns(DataWarning, match="without a rate are taken for 16,000 samples a second; set sample_rate="):
        AudioClassificationData.from_tensors(waves, ["a", "b"])
    with pytest.warns(DataWarning, match="without a rate are taken for 8,000 samples a second; if they have others"):
        assert len(Sound(sample_rate=RATE).listed(tone(300))) == 1


def test_a_network_of_waves_is_trained_on_waves_of_its_rate() -> None:
    class Waves(Loudness):
        reads: ClassVar = {"name": "audio", "options": {"features": "wave", "sample_rate": 4000}}

    model = AudioClassifier(backbone=Waves())
    waves = [tone(pitch, 0.2, seed) for pitch in (300, 900) for seed in range(4)]
    data = AudioClassificationData.from_arrays(RATE, waves, ["a"] * 4 + ["b"] * 4)
    quiet_trainer(fast_dev_run=True).fit(model, datamodule=data)
    assert data.load_options == model.load_options == {"features": "wave", "sample_rate": 4000, "seconds": 0.2}
    assert data.example()["wave"].shape == (1, 800)
    other = AudioClassificationData.from_arrays(RATE, waves, ["a"] * 4 + ["b"] * 4, sample_rate=RATE)
    with pytest.warns(DataWarning, match=r"loaded with \{'sample_rate': 4000\}, and this has \{'sample_rate': 8000\}"):
        quiet_trainer(fast_dev_run=True).fit(AudioClassifier(backbone=Waves()), datamodule=other)


def test_a_rate_that_a_network_does_not_hear_is_refused() -> None:
    class Hears(Loudness):
        sample_rate = 16_000

    told = "sample_rate=8000: the backbone hears sounds of 16000 samples a second; set sample_rate=16000 of the data"
    with pytest.raises(ConfigError, match=told):
        Sound(features="wave", sample_rate=8000).values(Encoder(Hears()))
    Sound(features="wave").values(Encoder(Hears()))


@pytest.mark.dear("audio", "serve")
def test_the_page_records_what_it_is_taught(tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no browser: install chromium, chromium-browser or google-chrome")
    files, labels = sounds(tmp_path / "train", 3)
    predictor = Predictor.from_backbone("audio_conv4", files, labels, backbone_kwargs={"hidden": 8})
    predictor.save(tmp_path / "model")
    playwright = pytest.importorskip("playwright.sync_api")
    microphone = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]  # which beeps each second
    with running(tmp_path / "model") as server, playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=browser, args=["--no-sandbox", *microphone])
        page = opened.new_context(permissions=["microphone"]).new_page()
        page.set_default_timeout(120_000)
        page.goto(server.url)
        page.wait_for_selector("#classes li")
        page.set_input_files("#input input[type=file]", files[0])
        page.wait_for_selector("#answer .says")
        assert page.locator("#nearest img[src^='data:image/png']").count() == 6
        page.fill("#name textarea", "beep")
        page.click("#recorded .record-button")
        page.wait_for_timeout(1500)
        page.click("#recorded .stop-button")
        page.wait_for_selector("#recorded .play-pause-button")
        page.click("#teach")
        page.wait_for_selector("#taught .says:has-text('beep has 1 example now')")
        opened.close()
