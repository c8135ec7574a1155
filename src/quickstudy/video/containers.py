"""Video files: how many frames there are and when, and some of them decoded; what lies between is passed over.

PyAV reads them, by the FFmpeg that it brings: https://pyav.org
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quickstudy.errors import DataError, first_line, require

VIDEO_EXTENSIONS = frozenset(
    (
        *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".m2ts", ".ogv", ".flv", ".wmv"),
        *(".3gp", ".gif"),
    )
)
MAX_BYTES = 8 << 30
"""A file that has more is refused."""
_READ = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,ogg,flv,asf,gif"
"""Kinds of files that are read, as FFmpeg calls them: none of those that have other files fetched."""
_CUT_SHORT = 0.9
"""Of the frames, or of the seconds, that a file claims: with fewer it is refused."""
_SECONDS = 0.5
"""That the end of a file may lie before the one that it claims, whatever its length."""
_APART = 32
"""Frames between two that are wanted, from which on it is worth to look for one that needs no other."""
_IN_ORDER = frozenset(("avi", "mpeg", "mpegts", "mpegvideo"))
"""Kinds of files without a sure index: what is found in them at once lies behind, or has the stamp of another frame."""
_PICTURES = {b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
"""What pictures begin with."""


class Reel(NamedTuple):
    """The frames of a video file, before they are decoded."""

    file: BinaryIO
    name: str
    size: tuple[int, int]
    """Width and height in pixels, as they are claimed."""
    stamps: NDArray[np.int64]
    """Of each frame what the file knows it by, ascending."""
    whole: NDArray[np.int64]
    """The stamps of those that need no other to be decoded, ascending."""
    times: NDArray[np.float64]
    """Of each frame when it is shown, in seconds from the first."""
    seconds: float
    """When the last one ends."""
    lacks: str
    """What it claims and has not, in words; nothing where it is whole."""

    def frames(self, numbers: Sequence[int], most: int | None = None, seek: bool = True) -> Iterator[NDArray[np.uint8]]:
        """Yield some frames, ``[H, W, 3]``, upright and of square pixels.

        Args:
            numbers: which, ascending, each once.
            most: pixels of all frames that may be decoded to that end; None: any number.
            seek: whether those between are passed over, where there are many.

        Raises:
            DataError: one cannot be decoded, or it takes too many.
        """
        av: Any = require("av", extra="video")
        frame: Any = None
        at, pixels = -1, 0
        with _container(av, self.file, self.name) as container:
            stream = _stream_of(av, container)
            decoded = self._decoded(container, stream, 0)
            seek = seek and container.format.name not in _IN_ORDER
            for place, number in enumerate(numbers):
                try:
                    sought = seek and number - at > _APART and (start := self._start(number)) > at
                    if sought:
                        with suppress(av.FFmpegError):  # of a kind in which nothing is found: on it goes from there
                            container.seek(int(self.stamps[start]), stream=stream)
                            decoded, frame = self._decoded(container, stream, start), None
                    while frame is None or at < number:
                        coming = next(decoded, None)
                        if sought and (coming is None or coming[0] > number):  # what was looked for lies before
                            yield from self.frames(numbers[place:], most and max(most - pixels, 1), False)
                            return
                        if coming is None:
                            break
                        at, frame = coming
                        pixels += frame.width * frame.height
                        if most is not None and pixels > most:
                            raise DataError(
                                f"{self.name} is too long for its {frame.width}x{frame.height} pixels: more than "
                                f"{most:,} would be decoded. Make it shorter, or smaller"
                            )
                        if frame.is_corrupt:
                            raise DataError(
                                f"{self.name} is damaged near frame {at}: parts of it lack. Replace the file"
                            )
                        sought = False
                except av.FFmpegError as error:
                    raise DataError(
                        f"{self.name} is damaged near frame {number}: {_told(error)}. Replace the file"
                    ) from error
                if frame is None:
                    raise DataError(f"{self.name} has no frame that can be decoded: replace the file")
                yield _upright(frame, stream.sample_aspect_ratio)
            if len(self.stamps) - at <= _APART:  # the end of a file that was cut is a frame in part
                with suppress(av.FFmpegError):
                    if any(one.is_corrupt for _, one in decoded):
                        raise DataError(f"{self.name} is cut short: its last frame is there in part. Replace the file")

    def _decoded(self, container: Any, stream: Any, start: int) -> Iterator[tuple[int, Any]]:
        """Yield frames from one that needs no other on, each with its number."""
        counted = container.format.name == "avi"  # whose frames have the stamps of others
        for number, frame in enumerate(container.decode(stream), start):
            known = frame.pts is not None and not counted
            yield int(np.searchsorted(self.stamps, frame.pts)) if known else number, frame

    def _start(self, number: int) -> int:
        """Return the number of the last frame before, or at, another that needs no other; -1 where there is none."""
        place = int(np.searchsorted(self.whole, self.stamps[number], "right")) - 1
        return int(np.searchsorted(self.stamps, self.whole[place])) if place >= 0 else -1


@contextmanager
def reel_of(file: BinaryIO, name: str) -> Iterator[Reel]:
    """Go through a video file without decoding it.

    Args:
        file: open, and closed in the end.
        name: of it, for messages.

    Raises:
        DataError: it is no video that is read, or has no frames.
        MissingPackageError: PyAV is not installed.
    """
    av: Any = require("av", extra="video")
    with file:
        if not file.read(1):
            raise DataError(f"{name} is empty: replace the file")
        with _container(av, file, name) as container:
            stream = _stream_of(av, container)
            if stream is None:
                kinds = " and ".join(sorted({each.type for each in container.streams})) or "nothing"
                raise DataError(f"{name} has no video, but {kinds} alone: leave it out")
            stamps, whole, ends, broken = _packets(av, container, stream)
            if not len(stamps):
                raise DataError(f"{name} has no frames: it is empty, or cut short. Replace the file")
            times = (stamps - stamps[0]) * float(stream.time_base)
            gap = float(np.median(np.diff(times))) if len(times) > 1 else 1 / float(stream.average_rate or 25)
            lacks = _lacking(container, stream, len(stamps), ends) or broken
            if container.format.name == "gif" and not lacks:
                file.seek(-min(file.seek(0, 2), 1024), 2)
                lacks = "" if file.read().rstrip(b"\0\r\n").endswith(b";") else "its end mark is not there"
            size = stream.width, stream.height
        yield Reel(file, name, size, stamps, whole, times, float(times[-1]) + gap, lacks)


@contextmanager
def _container(av: Any, file: BinaryIO, name: str) -> Iterator[Any]:
    file.seek(0)
    try:
        container = av.open(file, options={"format_whitelist": _READ})
    except (av.FFmpegError, ValueError) as error:
        raise DataError(f"{name} {_instead(file, error)}") from error
    with container:
        yield container


def _stream_of(av: Any, container: Any) -> Any:
    """Return the first stream of frames that is no cover of a sound; None where there is none."""
    cover = require("av.stream", extra="video").Disposition.attached_pic
    found = next((each for each in container.streams.video if not each.disposition & cover), None)
    if found is not None:
        found.thread_count = 1  # several workers read at once
    return found


def _packets(av: Any, container: Any, stream: Any) -> tuple[NDArray[np.int64], NDArray[np.int64], float, str]:
    """Return the stamps of all frames, those of whole ones, when the last of anything ends, and why it breaks off."""
    stamps, whole, last, broken = list[int](), list[int](), 0.0, ""
    try:
        for packet in container.demux():
            stamp = packet.dts if packet.pts is None else packet.pts
            if stamp is None or not packet.size:
                continue
            last = max(last, float((stamp + (packet.duration or 0)) * packet.time_base))
            if packet.stream.index == stream.index and not packet.is_discard:
                stamps.append(stamp)
                if packet.is_keyframe:
                    whole.append(stamp)
    except av.FFmpegError as error:
        broken = f"it breaks off ({_told(error)})"
    return np.unique(np.array(stamps, np.int64)), np.unique(np.array(whole, np.int64)), last, broken


def _lacking(container: Any, stream: Any, frames: int, end: float) -> str:
    """Say what a file claims and has not, where that is more than a little."""
    if frames < _CUT_SHORT * stream.frames:
        return f"it claims {stream.frames:,} frames, and has {frames:,}"
    claimed, has = (container.duration or 0) / 1e6, end - (container.start_time or 0) / 1e6
    if has < _CUT_SHORT * claimed - _SECONDS:
        return f"it claims {claimed:.1f} s, and ends after {max(has, 0):.1f} s"
    return ""


def _upright(frame: Any, shape: Any) -> NDArray[np.uint8]:
    """Return a frame turned as its camera says, its pixels made square."""
    width = max(1, round(frame.width * float(shape))) if shape else frame.width
    pixels = frame.to_ndarray(format="rgb24", width=width, height=frame.height, interpolation="BICUBIC")
    turned: NDArray[np.uint8] = np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90) % 4))
    return turned


def _instead(file: BinaryIO, error: Exception) -> str:
    """Say what a file is that is no video, and what helps."""
    file.seek(0)
    begin = file.read(64)
    kind = next((kind for start, kind in _PICTURES.items() if begin.startswith(start)), "")
    if kind or begin[8:12] == b"WEBP":
        kind = kind or "WebP"
        return f"is a picture ({kind}), and no video: put the pictures of one into a folder of their own"
    if begin[4:8] == b"ftyp" or begin[:4] in (b"\x1aE\xdf\xa3", b"RIFF"):
        return f"is a damaged video, or one cut short: {_told(error)}. Replace the file"
    return "is no video, or none that is read: save it as mp4, webm, mkv or avi"


def _told(error: Exception) -> str:
    """Return what FFmpeg says of an error."""
    return str(getattr(error, "strerror", None) or first_line(error)).lower()
