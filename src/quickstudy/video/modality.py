"""What a video is: from a file, a folder of frames or an array to some of its frames, of one size.

Shapes: N videos, W clips of one, C channels, T frames, H and W_ pixels.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quickstudy.batches import Batch, in_windows, is_batch, stack, unfold, windows_of
from quickstudy.data.archives import Member
from quickstudy.data.likeness import SIDE
from quickstudy.data.samples import Sent, content_of, named, opened_file, tensor_of
from quickstudy.errors import DataError, DataWarning, brief, check_above_zero, check_counts, given
from quickstudy.modality import MODALITIES, Modality, Wire
from quickstudy.modality.pixels import PixelValues, of_one_scale, whole_numbers
from quickstudy.modality.thumbnails import LARGE_TILE, film_strip
from quickstudy.modality.values import Sighted, Values, as_uint8
from quickstudy.video.containers import MAX_BYTES, VIDEO_EXTENSIONS, reel_of

FRAMES = 16
"""Of a clip where nobody says otherwise."""
IMAGE_SIZE = 112
"""Pixels of a side where neither the user nor a trained model says otherwise."""
MAX_PIXELS = 80_000_000
"""A video that claims more in a frame is refused before it is decoded."""
_PICTURES = MODALITIES["image"].extensions - VIDEO_EXTENSIONS
"""Of the frames in a folder."""
_FULL_FRAMES = 100
"""Of the largest size that a stranger may send: so many are decoded for him, or more that are smaller."""
_DRAWN = 4
"""Clips of a training video, of which one is shown each time."""
_RAW = {"frames": 8, "image_size": 16, "clips": 1}
"""How little of a video is compared as it is."""


class Film(NamedTuple):
    """The frames of a video, before they are read."""

    name: str
    length: int
    read: Callable[[Sequence[int]], Any]
    """``read(numbers)``: yields some of them, ascending, as what reads pictures takes them."""
    times: NDArray[np.float64] | None = None
    """Of each when it is shown, in seconds; None: nobody knows."""
    seconds: float = 0.0
    """When the last one ends."""


@MODALITIES.register("video")
@dataclass(frozen=True)
class Video(Modality):
    """A clip of a video, as a uint8 tensor ``[C, T, H, W]``; with several clips ``{"windows": [W, C, T, H, W]}``.

    It is read from mp4, mov, avi, mkv, webm, gif and others, or is a folder of pictures, which are its frames by the
    order of their names, ``9.jpg`` before ``10.jpg``. Frames are turned as the camera says, and come to their size as
    pictures do: so that they cover it, cut to the centre. An array ``[T, H, W, C]`` or ``[T, C, H, W]`` is a video,
    too, of whole numbers 0..255 or floats of 0..1 or 0..255; one ``[C, T, H, W]``, of one channel or three, is a clip
    that is fed as it is.

    A clip's frames are spread evenly over the whole video; with ``stride`` they follow each other at that distance, in
    the middle of it, and the last stands still where it ends before. In training each time another clip is shown, one
    of four that begin at other places, where a video has so many frames.

    Args:
        image_size: pixels, one number for a square or (height, width); None keeps the video's own.
        image_mode: ``"RGB"`` for three channels or ``"L"`` for one.
        frames: T, of a clip.
        fps: frames a second that all videos are brought to first, by leaving out or repeating some; None: their own.
            Folders and arrays, which do not say, count as of so many.
        stride: of a clip's frames; None: a clip is spread over the whole video.
        clips: with more than 1, so many clips of each video are seen, from its beginning to its end, and its vector is
            the mean of theirs.
        max_pixels: a video that claims more in a frame is refused before it is decoded.
        max_decoded: pixels of all frames that may be decoded to read one; one that takes more is refused. None: any.

    Raises:
        ConfigError: an option is out of range.
    """

    called = "videos"
    on_hub = True
    extensions = VIDEO_EXTENSIONS
    parts = _PICTURES
    wire = Wire("videos", ("video/*",), {"type": "string", "contentEncoding": "base64", "contentMediaType": "video/*"})
    shown_as = "image/jpeg"
    backbone = "c3d"
    views = "video_views"
    usual = MappingProxyType({"image_size": IMAGE_SIZE})
    of_network = ("image_size", "frames", "fps", "stride")
    advice = "Clips of one size have one shape: give the data image_size=112, say"
    makes_bytes = True

    image_size: int | tuple[int, int] | None = None
    image_mode: Literal["RGB", "L"] = "RGB"
    frames: int = FRAMES
    fps: float | None = None
    stride: int | None = None
    clips: int = 1
    max_pixels: int = MAX_PIXELS
    max_decoded: int | None = None

    def __post_init__(self) -> None:
        check_counts(frames=self.frames, clips=self.clips, **given(stride=self.stride, max_decoded=self.max_decoded))
        check_above_zero(**given(fps=self.fps))
        object.__setattr__(self, "image_size", self._pictures.settings["image_size"])

    @property
    def options(self) -> dict[str, Any]:
        """Its fields by name; those that nobody needs to know are left out where they are as by default."""
        return {"image_size": self.image_size, "frames": self.frames, **self._set}

    @property
    def _pictures(self) -> Modality:
        """What reads a frame."""
        names = "image_size", "image_mode", "max_pixels"
        return MODALITIES["image"]().with_options({name: getattr(self, name) for name in names})

    # ---- reading

    def load(self, item: Any) -> Batch:
        """Return a clip, or several, of a file, a folder of frames, bytes, a file of an archive, or an array.

        Raises:
            DataError: it cannot be read, or has no frames.
        """
        clips = self._loaded(item, self.clips)
        if clips.ndim == 4:
            return clips
        if self.clips == 1:
            return clips[0]
        return {"windows": clips[torch.arange(self.clips) * len(clips) // self.clips]}

    def to_draw_from(self) -> Callable[[Any], Batch]:
        """Return what loads several clips of a training video, as many as there are other ones."""
        return _ToDrawFrom(self)

    def _loaded(self, item: Any, most: int) -> Tensor:
        """Return clips ``[W, C, T, H, W]`` that differ, up to so many; or one ``[C, T, H, W]`` that is fed as it is."""
        if isinstance(item, np.ndarray | Tensor):
            film = _film_of(whole_numbers(item if isinstance(item, Tensor) else tensor_of(item)))
            if isinstance(film, Tensor):
                return film
            return self._clips(film, most)
        if (folder := _folder_of(item)) is not None:
            return self._clips(folder, most)
        if isinstance(item, bytearray | memoryview) or hasattr(item, "read"):
            item = content_of(item)
        name = f"the video of {len(item)} bytes" if isinstance(item, bytes) else named(item)
        file = opened_file(
            item, name, "a video: a path, bytes, a folder of frames, or an array [T, H, W, C]", MAX_BYTES
        )
        with reel_of(file, name) as reel:
            if reel.lacks:
                raise DataError(f"{name} is cut short: {reel.lacks}. Replace the file")
            width, height = reel.size
            if width * height > self.max_pixels:
                raise DataError(
                    f"{name} claims frames of {width}x{height} pixels; more than {self.max_pixels:,} are refused. Make "
                    "the video smaller first"
                )
            frames = partial(reel.frames, most=self.max_decoded)
            return self._clips(Film(name, len(reel.times), frames, reel.times, reel.seconds), most)

    def _clips(self, film: Film, most: int) -> Tensor:
        if film.length == 1 and self.frames > 1:
            warnings.warn(f"{film.name} has one frame, which is all that is seen of it", DataWarning, 4)
        numbers_WT = self._numbers(film, most)
        wanted = np.unique(numbers_WT)
        pictures = list(map(self._pictures.load, film.read(wanted.tolist())))
        if other := next((one.shape for one in pictures if one.shape != pictures[0].shape), None):
            raise DataError(
                f"{film.name} has frames of {other[2]}x{other[1]} and of {pictures[0].shape[2]}x{pictures[0].shape[1]} "
                "pixels: save it with frames of one size",
                f". {self.advice}",
            )
        places_WT = torch.from_numpy(np.searchsorted(wanted, numbers_WT))
        return torch.stack(pictures)[places_WT].transpose(1, 2).contiguous()

    def _numbers(self, film: Film, most: int) -> NDArray[np.int64]:
        """Return which frames clips have, ``[W, T]``, those of up to so many clips that differ."""
        length = film.length
        if self.fps is not None and film.times is not None:
            length = max(1, round(film.seconds * self.fps))
        order = np.arange(self.frames)
        if self.stride is None:
            shifts = (np.arange(most) + 0.5) / most
            at = (order + shifts[:, None]) * length / self.frames
        else:
            room = max(length - (self.frames - 1) * self.stride - 1, 0)
            starts = np.linspace(0, room, most) if most > 1 else np.array([room // 2])
            at = starts.round()[:, None] + self.stride * order
        numbers = at.astype(np.int64).clip(max=length - 1)
        if self.fps is not None and film.times is not None:  # they count moments, each of which some frame is shown at
            numbers = np.searchsorted(film.times, (numbers + 0.5) / self.fps, "right").clip(1) - 1
        found: NDArray[np.int64] = np.unique(numbers, axis=0)
        return found

    def listed(self, inputs: Any) -> Any:
        """Return videos as a list: an array of one is a list of one; clips ``[N, C, T, H, W]`` are a batch."""
        if isinstance(inputs, Tensor | np.ndarray) and inputs.dtype != object and inputs.ndim in (4, 5):
            if inputs.ndim == 4:
                return [inputs]
            if _channels_last(inputs.shape[1:]):
                return list(inputs)
        return super().listed(inputs)

    # ---- training

    def draws(self) -> Callable[[Batch], Batch]:
        """Return what draws one of several clips."""
        return partial(_one_clip, self.clips > 1)

    # ---- showing, sending

    def show(self, item: Any, example: Batch) -> bytes:
        """Return some frames in their order, side by side and below each other, as a small JPEG."""
        clip = windows_of(example)[0] if in_windows(example) else example
        if not isinstance(clip, Tensor) or clip.ndim != 4:
            return b""
        pixels = clip if clip.dtype == torch.uint8 else as_uint8(clip)
        return b"" if pixels is None else film_strip(pixels.transpose(0, 1))

    def sketch(self, item: Any) -> bytes | Tensor:
        """Return four of its frames at a few pixels, by which copies of other sizes and formats are found."""
        if is_batch(item):
            return super().sketch(item)
        few = replace(self, frames=4, image_size=SIDE // 2, image_mode="RGB", fps=None, stride=None)._loaded(item, 1)
        if few.ndim == 4:
            return super().sketch(item)
        first, second = few[0, :, :2], few[0, :, 2:]
        return torch.cat([torch.cat([two[:, 0], two[:, 1]], 2) for two in (first, second)], 1)

    def from_wire(self, content: Any, name: str = "") -> Any:
        """Return what reads like a file of that name."""
        return Sent(content, name)

    def raw(self) -> tuple[nn.Module, Self]:
        """Return the pixels of a few of its frames, of few."""
        return nn.Flatten(), self.with_options(_RAW)

    def within(self, most: int) -> Self:
        """Return it with a limit on the pixels that a file may claim in a frame, and on all that are decoded."""
        decoded = min(self.max_decoded or _FULL_FRAMES * most, _FULL_FRAMES * most)
        return replace(self, max_pixels=most, max_decoded=decoded)

    def made_up(self, count: int, generator: torch.Generator, like: Batch | None = None) -> Batch:
        """Return noise of all brightnesses, of the size that frames are brought to."""
        if self.clips > 1:
            one = None if like is None else like["windows"][:, 0]
            return {
                "windows": unfold(replace(self, clips=1).made_up(count * self.clips, generator, one), count, self.clips)
            }
        if like is None and self.image_size is not None:
            frame = self._pictures.made_up(0, generator)
            like = frame[:, :, None].expand(-1, -1, self.frames, -1, -1)
        return super().made_up(count, generator, like)

    def recipe(self) -> dict[str, Any]:
        """Return which frames are taken, and how their size comes about."""
        told = {name: getattr(self, name) for name in ("frames", "fps", "stride", "clips")}
        return {**told, **self._pictures.recipe(), "axes": "channels, frames, height, width"}

    def values(self, encoder: Sighted) -> Values:
        """Return how their numbers are taken: as those of pictures."""
        return VideoValues(self, encoder)


class VideoValues(PixelValues):
    """How the numbers of videos are taken: as those of pictures, with an axis of time."""

    bytes_are = "uint8 videos"
    axes = 4
    tile = LARGE_TILE

    def __init__(self, modality: Modality, network: Sighted) -> None:
        super().__init__(modality, network)
        self.called = modality.called

    def listed(self, inputs: Any) -> Any:
        """Return clips ``[N, C, T, H, W]`` or a list of videos."""
        return of_one_scale(self.modality.listed(inputs))

    def show(self, item: Any, example: Any) -> bytes:
        """Return some frames."""
        return self.modality.show(item, example)


@dataclass(frozen=True)
class _ToDrawFrom:
    """Loads several clips of a video, ``{"windows": [W, C, T, H, W]}``, of which ``Video.draws`` draws one."""

    video: Video

    @property
    def advice(self) -> str:
        """What helps where shapes differ."""
        return self.video.advice

    def __call__(self, item: Any) -> Batch:
        if is_batch(item):
            return item
        clips = self.video._loaded(item, max(_DRAWN, self.video.clips))
        return clips if clips.ndim == 4 else {"windows": clips}


def _one_clip(in_windows_of_one: bool, example: Batch) -> Batch:
    if not in_windows(example):
        return example
    windows = windows_of(example)
    drawn = windows[int(torch.randint(len(windows), ()))]
    return {"windows": stack([drawn])} if in_windows_of_one else drawn


def _channels_last(shape: Sequence[int]) -> bool:
    """Whether an array of this shape is a video ``[T, H, W, C]``."""
    return len(shape) == 4 and shape[3] in (1, 3) and min(shape[1:3]) > 4


def _film_of(pixels: Tensor) -> Film | Tensor:
    """Return the frames of an array; or itself, where it is a clip ``[C, T, H, W]`` that is fed as it is.

    Raises:
        DataError: it is neither, has no frames, or values that no pixels have.
    """
    shape = tuple(pixels.shape)
    if pixels.ndim != 4 or not (_channels_last(shape) or shape[0] in (1, 3) or shape[1] in (1, 3)):
        raise DataError(
            f"expected the frames of a video, [T, H, W, C] or [T, C, H, W], or a clip [C, T, H, W], of 1 or 3 "
            f"channels, not {brief(pixels)}"
        )
    if not _channels_last(shape) and shape[0] in (1, 3):
        if shape[1] in (1, 3):
            warnings.warn(
                f"an array of shape {shape} is a clip [C, T, H, W] or frames [T, C, H, W]: it is taken for a clip, and "
                "fed as it is. Give frames as [T, H, W, C]",
                DataWarning,
                4,
            )
        return pixels
    if not shape[0]:
        raise DataError(f"a video of shape {shape} has no frames: leave it out")
    drawn = pixels if pixels.dtype == torch.uint8 else as_uint8(pixels)
    if drawn is None:
        raise DataError(
            f"a video of shape {shape} is {str(pixels.dtype).removeprefix('torch.')} of {float(pixels.min()):.3g} to "
            f"{float(pixels.max()):.3g}: give uint8, or floats of 0..1 or 0..255"
        )
    frames = drawn if _channels_last(shape) else drawn.movedim(1, 3)
    return Film(f"a video of shape {shape}", shape[0], lambda numbers: (frames[number] for number in numbers))


def _folder_of(item: Any) -> Film | None:
    """Return the frames in a folder; None where it is none.

    Raises:
        DataError: no picture lies in it.
    """
    if isinstance(item, Member):
        files: list[Any] = [
            file for file in item.archive.below(item.name) if "/" not in file.name[len(item.name) + 1 :]
        ]
        if not files:
            return None
    elif isinstance(item, str | Path) and Path(item).is_dir():
        files = [file for file in Path(item).iterdir() if not file.name.startswith(".")]
    else:
        return None
    frames = sorted((file for file in files if str(file).lower().endswith(tuple(_PICTURES))), key=_by_number)
    if not frames:
        raise DataError(
            f"'{item}' is a folder without pictures ({', '.join(sorted(_PICTURES))}), the frames of a video"
        )
    return Film(f"'{item}'", len(frames), lambda numbers: (frames[number] for number in numbers))


def _by_number(file: Any) -> list[tuple[int, str]]:
    """Return what sorts names by the numbers in them."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", str(file))]
