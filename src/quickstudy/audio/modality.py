"""What a sound is: from a file, or samples in memory, to its spectrum or its wave.

Shapes: L samples, C channels, W windows, T frames, F bands.
"""

from __future__ import annotations

import io
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from quickstudy.audio.containers import completed, unreadable
from quickstudy.audio.spectrum import DECIBELS, FRAMES, WINDOW, frames_of, log_mel, resampled
from quickstudy.batches import Batch, each, in_windows, is_batch, stack, take, unfold, windows_of
from quickstudy.data.likeness import digest
from quickstudy.data.samples import Loaded, Sent, content_of, file_content, named
from quickstudy.data.table import Inputs
from quickstudy.errors import (
    ConfigError,
    DataError,
    DataWarning,
    brief,
    check_above_zero,
    check_choice,
    check_counts,
    given,
    require,
)
from quickstudy.modality import MODALITIES, Modality, Wire
from quickstudy.modality.thumbnails import TiledValues, heat_map
from quickstudy.modality.values import Sighted, Values

SOUND_EXTENSIONS = frozenset((".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au"))
SAMPLE_RATE = 16_000
"""Samples a second where nobody says otherwise."""
MAX_SECONDS = 600.0
"""A sound that lasts longer is refused before it is decoded."""
_LONGEST = 10.0
"""Seconds of the window that is learned at most."""
_SHARE = 0.95
"""Of the training sounds, how many fit into it at least, where that is no longer."""
_AT_ONCE, _SHARED = 30.0, 4.0
"""Seconds of a window where all of a sound is heard, and that it shares with the one before."""
_COUNTED = 1_000
"""Sounds whose length is asked for that."""
_SOUGHT = 60.0
"""Seconds of a sound that are decoded at most."""
_ENDLESS = 2**62  # samples, of which an older libsndfile tells more where it does not find a file's end
_LOUDEST = 100  # of floats, whose full scale is 1
_WHOLE = 2.0**31
"""What the whole numbers of sounds reach at most."""
_CANCELLED = 0.01
"""Of how loud the channels are: where their mean is quieter, by 40 dB, they cancel each other."""
_RATES = 1_000, 768_000
_CHANNELS = 64
_DECODED = 50_000_000
"""Samples of all channels that are decoded at most: 400 MB."""
_CUT_SHORT = 0.9
"""Of the samples that a sound claims: with fewer it is refused."""
_HEARD = 10 ** (-DECIBELS / 20)
"""Of the loudest sample: where none reaches so high, there is silence."""


class Clip(NamedTuple):
    """A sound before it is decoded."""

    name: str
    rate: int
    """Samples a second."""
    length: int
    """L, as it is claimed."""
    read: Callable[[int, int], NDArray[Any]]
    """``read(start, count)``: so many samples from there, ``[n, C]``, in float64 of -1..1; fewer where it ends."""

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.length / self.rate

    def sought(self, seconds: float) -> int:
        """Return how many samples of each channel are decoded to find a part that is so long."""
        return min(self.length, math.ceil(max(seconds, _SOUGHT) * self.rate))

    def loudest(self, seconds: float) -> NDArray[Any]:
        """Return the samples of its loudest part that is so long, ``[L]``, of one channel: the mean of all.

        Of a long one it is sought in the minute in the middle.

        Raises:
            DataError: it ends before it says, or a sample is no number.
        """
        count, sought = self._count(seconds), self.sought(seconds)
        mono = self._mono((self.length - sought) // 2, sought)
        step = max(self.rate // FRAMES, 1)
        if len(mono) < count + step:
            return mono[:count]
        sums = np.cumsum(np.append(0, np.add.reduceat(mono**2, np.arange(0, len(mono), step))))
        frames = -(-count // step)
        start = step * int((sums[frames:] - sums[:-frames]).argmax())
        return mono[start : start + count]

    def spread(self, seconds: float, windows: int) -> list[NDArray[Any]]:
        """Return so many parts of that length, ``[L]`` each, from its beginning to its end, as far as they are heard.

        Those in which nothing is heard, beside the others, are left out; it has fewer parts where it is short.

        Raises:
            DataError: as of ``loudest``.
        """
        count = self._count(seconds)
        starts = np.unique(np.linspace(0, self.length - count, windows).round().astype(int)).tolist()
        if self.length > self.sought(seconds * windows):
            parts = [self._mono(start, count) for start in starts]
        else:
            whole = self._mono(0, self.length)
            parts = [part for start in starts if len(part := whole[start : start + count]) == count] or [whole]
        peaks = [float(np.abs(part).max()) for part in parts]
        return [part for part, peak in zip(parts, peaks, strict=True) if peak >= _HEARD * max(peaks)]

    def all(self) -> NDArray[Any]:
        """Return all its samples, ``[L]``, the mean of its channels.

        Raises:
            DataError: as of ``loudest``.
        """
        return self._mono(0, self.length)

    def _count(self, seconds: float) -> int:
        return min(math.ceil(seconds * self.rate), self.length)

    def _mono(self, start: int, count: int) -> NDArray[Any]:
        """Return some samples, the mean of all channels."""
        samples = self.read(start, count)
        if len(samples) < _CUT_SHORT * count:
            raise DataError(
                f"{self.name} is cut short: it claims {self.seconds:.2f} s, and ends before. Replace the file"
            )
        peak = float(np.abs(samples).max(initial=0))  # nan where one is
        if not peak <= _LOUDEST:
            raise DataError(f"{self.name} has {_no_sound(samples, peak)}")
        mono: NDArray[Any] = samples.mean(1) if samples.shape[1] > 1 else samples[:, 0]
        if samples.shape[1] > 1 and np.square(mono).sum() < _CANCELLED**2 * np.square(samples).mean(1).sum():
            loudest = int(np.square(samples).sum(0).argmax())
            warnings.warn(
                f"{self.name} has {samples.shape[1]} channels whose mean is silent, as of one and its negative: "
                f"channel {loudest + 1} alone is heard. Save it so (ffmpeg -i IT -af 'pan=mono|c0=c{loudest}' it.wav)",
                DataWarning,
                4,
            )
            return samples[:, loudest]
        return mono


@MODALITIES.register("audio")
@dataclass(frozen=True)
class Sound(Modality):
    """A sound as its spectrum, uint8 ``[1, F, T]``; or as its wave, ``{"wave": float32 [L], "mask": bool [L]}``.

    With several windows it is ``{"windows": ...}``, W of these.

    It is read from wav, flac, ogg (Vorbis or Opus), mp3 or aiff, without FFmpeg; its channels become one. Of the
    spectrum 255 is where the sound is loudest, and 0 what is quieter by 80 dB or more, and silence, which fills up a
    sound that is shorter than the window. Of one that is longer the loudest part is taken. In memory a sound is an
    array ``[L]``, ``[C, L]`` or ``[L, C]`` of ``sample_rate`` samples a second, or a dict ``{"array",
    "sampling_rate"}``.

    Args:
        sample_rate: samples a second that all are brought to.
        seconds: of the window. None: learned from the training sounds, of which 19 of 20 fit into it, up to 10 s; into
            all windows together, where there are several.
        windows: with more than 1, so many parts of a longer sound are heard, from its beginning to its end, where there
            is something to hear, and its vector is the mean of theirs; in training one of them, by chance, each time.
        features: ``"log_mel"`` is the spectrum, 100 frames a second; ``"wave"`` the wave, of any length up to the
            window.
        bands: F, the height of the spectrum, spaced by pitch.
        max_seconds: a sound that lasts longer is refused before it is decoded.
        whole: whether all of a sound is heard, as its wave, in windows of ``seconds`` (30 where that is not told) that
            overlap by 4 s: ``{"windows": {"wave": [W, L], "mask": [W, L]}, "places": [W, 3], "rate": [1]}``. Places are
            in samples: from where to where a window tells what is heard, and where it begins in the sound.

    Raises:
        ConfigError: an option is out of range.
    """

    called = "sounds"
    on_hub = True
    extensions = SOUND_EXTENSIONS
    learned = ("seconds",)
    of_network = ("sample_rate", "features", "bands")
    of_elements = ("whole",)
    wire = Wire("sounds", ("audio/*",), {"type": "string", "contentEncoding": "base64", "contentMediaType": "audio/*"})
    shown_as = "image/png"
    backbone = "audio_conv4"
    views = "sound_views"
    advice = "Sounds of one window have one shape: give the data seconds=2, say"
    sample_rate: int = SAMPLE_RATE
    seconds: float | None = None
    features: Literal["log_mel", "wave"] = "log_mel"
    bands: int = 64
    max_seconds: float = MAX_SECONDS
    windows: int = 1
    whole: bool = False

    def __post_init__(self) -> None:
        check_counts(_RATES[0], sample_rate=self.sample_rate)
        check_counts(windows=self.windows)
        check_counts(8, bands=self.bands)
        check_choice("features", self.features, "log_mel", "wave")
        check_above_zero(max_seconds=self.max_seconds, **given(seconds=self.seconds))
        if self.seconds is not None and self.seconds < 4 * WINDOW:
            raise ConfigError(f"seconds={self.seconds}: a window has {4 * WINDOW} s at least")

    # ---- reading

    def load(self, item: Any) -> Batch:
        """Return the spectrum or the wave of a file, as a path, bytes, a file of an archive; or of what is in memory.

        Raises:
            DataError: it cannot be read, is too short to be heard, too long, or holds what is no number.
        """
        if self.whole:
            return self._all_of(item)
        window = self.seconds or _LONGEST
        with self._opened(item) as clip:
            parts = [clip.loudest(window)] if self.windows == 1 else clip.spread(window, self.windows)
        if not any(part.any() for part in parts):
            warnings.warn(f"{clip.name} is silent: all that is read of it is 0", DataWarning, 3)
        waves = [resampled(part, clip.rate, self.sample_rate)[: round(window * self.sample_rate)] for part in parts]
        read = self._as_fed(torch.from_numpy(np.stack(waves)))
        if self.windows == 1:
            return take(read, 0)
        evenly = torch.arange(self.windows) * len(parts) // self.windows
        return {"windows": take(read, evenly)}

    def _all_of(self, item: Any) -> Batch:
        """Return a sound as a whole, in windows that overlap."""
        with self._opened(item) as clip:
            samples = clip.all()
        if not samples.any():
            warnings.warn(f"{clip.name} is silent: all that is read of it is 0", DataWarning, 4)
        wave = torch.from_numpy(resampled(samples, clip.rate, self.sample_rate)).float()
        length = round((self.seconds or _AT_ONCE) * self.sample_rate)
        overlap = min(2 * round(_SHARED * self.sample_rate / 2), length // 2)
        starts = range(0, max(len(wave) - overlap, 1), length - overlap)
        parts = [wave[start : start + length] for start in starts]
        windows = stack([{"wave": part, "mask": torch.ones(len(part), dtype=torch.bool)} for part in parts])
        last = len(parts) - 1
        places = [
            [overlap // 2 if row else 0, length + 1 if row == last else length - overlap // 2, start]
            for row, start in enumerate(starts)
        ]
        return {"windows": windows, "places": torch.tensor(places), "rate": torch.tensor([self.sample_rate])}

    def _as_fed(self, waves_WL: Tensor) -> Batch:
        """Return the spectra ``[W, 1, F, T]`` of windows, or their waves."""
        if self.features == "wave":
            return {"wave": waves_WL.float(), "mask": torch.ones(waves_WL.shape, dtype=torch.bool)}
        levels = self._levels(waves_WL)
        return F.pad(levels, (0, self._frames - levels.shape[-1]))[:, None] if self.seconds else levels[:, None]

    @property
    def _frames(self) -> int:
        """T of the window."""
        return frames_of(round((self.seconds or _LONGEST) * self.sample_rate), self.sample_rate)

    def _levels(self, wave: Tensor) -> Tensor:
        """Return the spectrum of a wave ``[..., L]``, uint8 ``[..., F, T]``."""
        levels = log_mel(wave.double(), self.sample_rate, self.bands) * (255 / DECIBELS)
        return levels.round().to(torch.uint8)

    @contextmanager
    def _opened(self, item: Any) -> Iterator[Clip]:
        """Open a sound, of a length that can be heard, and not too long."""
        if isinstance(item, Mapping) and "array" not in item:
            item = item.get("bytes") or item.get("path") or item
        if isinstance(item, bytearray | memoryview) or hasattr(item, "read"):
            item = content_of(item)
        array, rate = _in_memory(item, self.sample_rate)
        if array is not None:
            yield self._checked(Clip(f"a sound of shape {tuple(array.shape)}", rate, *_channels_last(array)))
            return
        name = f"the sound of {len(item)} bytes" if isinstance(item, bytes) else named(item)
        content = file_content(item, name, "a sound: a path, bytes, samples, or {'array': ..., 'sampling_rate': ...}")
        content = completed(name, content)
        soundfile: Any = require("soundfile", extra="audio")
        try:
            with soundfile.SoundFile(io.BytesIO(content)) as file:

                def read(start: int, count: int) -> NDArray[Any]:
                    file.seek(start)
                    samples: NDArray[Any] = file.read(count, dtype="float64", always_2d=True)
                    return samples

                if file.channels > _CHANNELS:
                    raise DataError(f"{name} has {file.channels} channels; more than {_CHANNELS} are refused")
                clip = self._checked(Clip(name, file.samplerate, file.frames, read))
                sought = clip.length if self.whole else clip.sought(self.windows * (self.seconds or _LONGEST))
                if sought < clip.length and file.format == "FLAC":  # which does not say how many bytes it has
                    read(clip.length - 1, 1)
                if (decoded := sought * file.channels) > _DECODED:
                    raise DataError(_too_much(clip, file.channels, decoded, self.sample_rate))
                yield clip
        except soundfile.SoundFileError as error:
            raise DataError(unreadable(name, content)) from error

    def _checked(self, clip: Clip) -> Clip:
        name, rate = clip.name, clip.rate
        if not _RATES[0] <= rate <= _RATES[1]:
            raise DataError(f"{name} has {rate} samples a second: sounds have {_RATES[0]:,} to {_RATES[1]:,}")
        if clip.length >= _ENDLESS:
            raise DataError(f"{name} does not say how many samples it has: save it again (ffmpeg -i IT it.wav)")
        if clip.length <= 0:
            raise DataError(f"{name} has no samples: it is empty, or cut short. Replace the file")
        if clip.seconds < WINDOW:
            raise DataError(
                f"{name} has {clip.length} samples, {1000 * clip.seconds:.3g} ms: a sound has {1000 * WINDOW:.0f} ms "
                "at least. Leave it out"
            )
        if clip.seconds > self.max_seconds:
            raise DataError(
                f"{name} lasts {clip.seconds:,.0f} s; more than {self.max_seconds:,.0f} s are refused: cut it into "
                "clips",
                f", or set max_seconds={' if a minute in its middle is enough' * (not self.whole)}",
            )
        return clip

    def listed(self, inputs: Any) -> Any:
        """Return sounds as a list: a file, an array ``[L]`` or a dict alone is a list of one, ``[N, L]`` of N.

        Spectra ``[N, 1, F, T]`` and dicts of tensors are a batch, which is fed as it is. An array that does not say how
        many samples a second it has is taken for one of ``sample_rate``, and a warning tells.
        """
        found = self.separated(inputs)
        if isinstance(found, list) and any(isinstance(one, Tensor | np.ndarray) for one in found):
            self.tell_of_rate("if they have others, give {'array': ..., 'sampling_rate': ...}")
        return found

    def tell_of_rate(self, remedy: str) -> None:
        """Warn of sounds in memory that do not say how many samples a second they have."""
        warnings.warn(
            f"sounds in memory without a rate are taken for {self.sample_rate:,} samples a second; {remedy}",
            DataWarning,
            4,
        )

    def separated(self, inputs: Any) -> Any:
        """Return sounds as a list, or a batch, as ``listed`` does."""
        if isinstance(inputs, Mapping) and {"array", "bytes", "path"} & inputs.keys():
            return [inputs]
        if isinstance(inputs, Tensor | np.ndarray) and inputs.dtype != object and inputs.ndim < 4:
            return [inputs] if inputs.ndim == 1 else list(inputs)
        if hasattr(inputs, "get_all_samples"):
            return [inputs]
        return super().listed(inputs)

    def column(self, values: Sequence[Any], root: str | os.PathLike[str] | None = None, exist: bool = True) -> Inputs:
        """Return the files that cells name; or the cells, where they hold sounds themselves."""
        named = any(isinstance(value, str | os.PathLike) for value in values)
        return super().column(values, root, exist) if named else list(values)

    # ---- learning

    def fitted(self, inputs: Inputs) -> Self:
        """Return it with a window that most training sounds fit into, where it has none; and say what it cuts."""
        if self.whole:
            return self
        lengths = np.array(list(self._lengths(inputs)))
        made = self
        if self.seconds is None:
            fitting = float(np.quantile(lengths, _SHARE, method="inverted_cdf")) / self.windows
            tenths = math.ceil(10 * (max(fitting, 4 * WINDOW) - 1 / FRAMES))  # of a second
            made = self.with_options({"seconds": min(tenths / 10, _LONGEST)})
        window, several = made.seconds or _LONGEST, self.windows > 1
        cut = int((lengths > self.windows * window + 1 / FRAMES).sum())
        if cut > 2 * (1 - _SHARE) * len(lengths):
            warnings.warn(
                f"{cut} of {len(lengths)} sounds are longer than {f'{self.windows} windows of ' * several}{window:g} "
                f"s, and {'what lies between these is not' if several else 'only their loudest part is'} heard: set "
                f"seconds= (the longest has {lengths.max():.1f} s){' or' if several else ','} windows="
                f"{', to hear several parts of each' * (not several)}, or cut them into clips",
                DataWarning,
                4,
            )
        return made

    def _lengths(self, inputs: Inputs) -> Iterator[float]:
        """Yield how many seconds some sounds have, from the first to the last."""
        count = len(inputs)
        for row in dict.fromkeys(np.linspace(0, count - 1, min(count, _COUNTED)).astype(int).tolist()):
            item = inputs[row]
            with self._opened(item.item if isinstance(item, Loaded) else item) as clip:
                yield clip.seconds

    def draws(self) -> Callable[[Batch], Batch] | None:
        """Return what draws one of several windows."""
        return None if self.windows == 1 else _one_window

    # ---- showing, sending

    def show(self, item: Any, example: Batch) -> bytes:
        """Return its spectrum as a small PNG: time to the right, pitch upwards; one window after the other."""
        if self.whole:
            example = take(example["windows"], 0)
        parts = windows_of(example) if in_windows(example) else [example]
        levels = [self._shown(part) for part in parts]
        return heat_map(torch.cat(levels, 1)) if all(map(len, levels)) else b""

    def _shown(self, example: Batch) -> Tensor:
        """Return levels ``[F, T]`` up to the last that is heard; nothing of what is no sound."""
        if isinstance(example, dict):
            levels = self._levels(example["wave"][example["mask"]])
        elif example.ndim != 3 or example.dtype != torch.uint8:
            return torch.empty(0, 0)
        else:
            levels = example[0]
        heard = levels.any(0).nonzero()
        return levels[:, : int(heard[-1]) + 1] if len(heard) else levels

    def sketch(self, item: Any) -> bytes | Tensor:
        """Return its samples without the silence at its ends, whatever holds them without loss."""
        if (isinstance(item, Tensor) and item.ndim > 2) or is_batch(item):
            return super().sketch(item)
        with self._opened(item) as clip:
            levels = (clip.loudest(self.seconds or _LONGEST) * (1 << 15)).round().astype(np.int32)
        heard = np.flatnonzero(levels)
        return digest(str(clip.rate).encode(), levels[heard[0] : heard[-1] + 1].tobytes() if len(heard) else b"")

    def from_wire(self, content: Any, name: str = "") -> Any:
        """Return what reads like a file of that name."""
        return Sent(content, name)

    def raw(self) -> tuple[nn.Module, Self]:
        """Return the statistics of each band of its spectrum, of sounds as long as these are."""
        from quickstudy.audio.nets import BandStatistics

        return BandStatistics(), replace(self, features="log_mel", windows=1, seconds=None)

    def within(self, most: int) -> Self:
        """Return it with a limit on the samples of a sound, at the rate that it is brought to."""
        return replace(self, max_seconds=min(self.max_seconds, most / self.sample_rate))

    def made_up(self, count: int, generator: torch.Generator, like: Batch | None = None) -> Batch:
        """Return noise."""
        if self.whole:
            return self._made_up_whole(count, generator, like)
        if self.windows > 1:
            one = None if like is None else each(lambda leaf: leaf[:, 0], like["windows"])
            made = replace(self, windows=1).made_up(count * self.windows, generator, one)
            return {"windows": unfold(made, count, self.windows)}
        if self.features == "wave":
            length = round((self.seconds or 1) * self.sample_rate) if like is None else like["wave"].shape[1]
            wave = 2 * torch.rand(count, length, generator=generator) - 1
            return {"wave": wave, "mask": torch.ones(count, length, dtype=torch.bool)}
        if like is None and self.seconds:
            like = torch.empty(0, 1, self.bands, self._frames, dtype=torch.uint8)
        return super().made_up(count, generator, like)

    def _made_up_whole(self, count: int, generator: torch.Generator, like: Batch | None) -> Batch:
        windows, length = (1, self.sample_rate) if like is None else like["windows"]["wave"].shape[1:]
        wave = 2 * torch.rand(count, windows, length, generator=generator) - 1
        places = torch.tensor([0, length + 1, 0]).expand(count, windows, 3)
        return {
            "windows": {"wave": wave, "mask": torch.ones_like(wave, dtype=torch.bool)},
            "places": places,
            "rate": torch.full((count, 1), self.sample_rate),
        }

    def for_backbone(self) -> dict[str, Any]:
        """Return the rate, where a network makes the spectrum by itself."""
        return {"sample_rate": self.sample_rate} if self.whole else {}

    def free_axes(self) -> dict[str, dict[int, str]]:
        """Return that a wave has any length."""
        if self.features != "wave":
            return {}
        several = self.windows > 1
        return {"windows." * several + name: {1 + several: "L"} for name in ("wave", "mask")}

    def recipe(self) -> dict[str, Any]:
        """Return the rate and the window, and how the spectrum is made."""
        told: dict[str, Any] = {"sample_rate": self.sample_rate, "seconds": self.seconds, "features": self.features}
        told |= {"windows": self.windows} if self.windows > 1 else {}
        if self.features == "log_mel":
            told |= {"bands": self.bands, "mel": "htk", "window_seconds": WINDOW, "frames_per_second": FRAMES}
            told |= {"decibels": DECIBELS, "levels": "0..255, 255 is the loudest of the sound"}
        return told

    def values(self, encoder: Sighted) -> Values:
        """Return how they are taken: as they are."""
        return SoundValues(self, encoder)


class SoundValues(TiledValues):
    """Spectra and waves as they are, for a network that hears as many samples a second."""

    def __init__(self, modality: Sound, network: Sighted) -> None:
        super().__init__(modality, network)
        rate = getattr(getattr(network, "backbone", None), "sample_rate", None)
        if rate is not None and modality.sample_rate != rate:
            raise ConfigError(
                f"sample_rate={modality.sample_rate}: the backbone hears sounds of {rate} samples a second; set "
                f"sample_rate={rate} of the data"
            )


def _one_window(example: Batch) -> Batch:
    windows = windows_of(example)
    return {"windows": stack([windows[int(torch.randint(len(windows), ()))]])}


def _in_memory(item: Any, rate: int) -> tuple[NDArray[Any] | None, int]:
    """Return samples in memory as an array, and how many a second they are; None for all else."""
    if hasattr(item, "get_all_samples"):  # a decoder of torchcodec, as data sets of Hugging Face have them
        decoded = item.get_all_samples()
        item = {"array": decoded.data, "sampling_rate": decoded.sample_rate}
    if isinstance(item, Mapping) and "array" in item:
        given_rate = item.get("sampling_rate", item.get("sample_rate"))
        if not isinstance(given_rate, (Integral, float)) or given_rate % 1:
            raise DataError(
                f"a sound of the keys {', '.join(map(repr, item))} does not say how many samples a second it has: "
                "add 'sampling_rate': 16000"
            )
        item, rate = item["array"], int(given_rate)
        item = item if isinstance(item, Tensor) else np.asarray(item)
    if isinstance(item, Tensor):
        item = item.detach().cpu().numpy()
    return (item, rate) if isinstance(item, np.ndarray) else (None, rate)


def _no_sound(samples: NDArray[Any], peak: float) -> str:
    """Say what samples ``[n, C]`` a sound has that none can have: no numbers, whole ones, or damaged ones."""
    if not np.isfinite(peak):
        wrong = np.flatnonzero(~np.isfinite(samples).all(1))
        first = samples[wrong[0]][~np.isfinite(samples[wrong[0]])][0]
        return (
            f"{len(wrong)} samples that are no finite numbers, the first {first}: replace them, np.nan_to_num(samples)"
        )
    if peak <= _WHOLE:
        return (
            f"samples that reach {peak:,.0f}, and floats are to lie in -1..1: divide those of 16 bits by 32768, or "
            "give them as whole numbers, array.astype('int16')"
        )
    wrong = np.flatnonzero((np.abs(samples) > _LOUDEST).any(1))
    return (
        f"{len(wrong)} samples that no sound reaches, up to {peak:.3g}, where floats are to lie in -1..1: they are "
        "damaged. Replace them, np.where(abs(samples) > 1, 0, samples), or leave the sound out"
    )


def _too_much(clip: Clip, channels: int, decoded: int, sample_rate: int) -> str:
    """Say of a sound that too many samples of it were decoded, and what makes fewer of them."""
    told = (
        f"{clip.name} has {channels} channel{'s' * (channels != 1)} of {clip.rate:,} samples a second, of which "
        f"{decoded:,} samples were decoded; more than {_DECODED:,} are refused: "
    )
    fewer = min(sample_rate, clip.rate)
    if decoded * fewer <= _DECODED * channels * clip.rate:
        return f"{told}make it one channel of {fewer} (ffmpeg -i IT -ac 1 -ar {fewer} it.wav)"
    minutes = _DECODED // (60 * fewer)
    return (
        f"{told}cut it into parts of {minutes} minutes (ffmpeg -i IT -f segment -segment_time {60 * minutes} it%d.wav)"
    )


def _channels_last(array: NDArray[Any]) -> tuple[int, Callable[[int, int], NDArray[Any]]]:
    """Return how many samples an array has, and what reads some of them, ``[n, C]``.

    Raises:
        DataError: it is neither ``[L]`` nor one of a few channels, holds no numbers, or their full scale is not known.
    """
    if array.dtype.kind not in "iuf" or array.ndim not in (1, 2) or (array.ndim == 2 and min(array.shape) > _CHANNELS):
        raise DataError(
            f"expected the samples of a sound, [L] or [channels, L] of int16 or of floats of -1..1, not {brief(array)}"
        )
    bits = 8 * array.dtype.itemsize
    peak = 0.0 if array.dtype.kind == "f" else float(np.abs(array, dtype=np.float64).max(initial=0))
    if array.dtype.kind != "f" and (bits == 64 or (bits == 32 and 0 < peak <= 2**15)):
        raise DataError(
            f"whole numbers of {bits} bits reach {peak:,.0f}, which does not say what the loudest "
            "sample would be: give those of 16 bits as such, array.astype('int16'), or floats of -1..1"
        )
    samples = array[:, None] if array.ndim == 1 else array.T if array.shape[0] < array.shape[1] else array

    def read(start: int, count: int) -> NDArray[Any]:
        part: NDArray[Any] = samples[start : start + count].astype(np.float64)
        if array.dtype.kind != "f":
            half = 2 ** (8 * array.dtype.itemsize - 1)
            part = (part - half * (array.dtype.kind == "u")) / half
        return part

    return len(samples), read
