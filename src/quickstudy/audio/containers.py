"""What the bytes of a file of sound say of it: its kind, and whether all of it is there.

libsndfile reads what is left of a file that was cut as if it were all, and nothing of one whose recorder was stopped
before it wrote how long the sound is.
"""

from __future__ import annotations

import warnings
from typing import Literal, NamedTuple

from quickstudy.errors import DataError, DataWarning

_CUT_SHORT = 0.9
"""Of what a file claims: with less it is refused."""
_UNTOLD = 2**30
"""Bytes: who writes a file of sound before its length is known says that it has as many as can be said."""
_PAGE, _FRAME = 27, 64
"""Bytes before the table of a page of ogg; of the first frame of an mp3, in which it says its length if anywhere."""
_READ = {b"RIFF": "wav", b"fLaC": "flac", b"OggS": "ogg", b"ID3": "mp3", b"\xff\xfb": "mp3", b"FORM": "aiff"}
_READ |= {b"RF64": "wav", b".snd": "au"}
"""How files of sound begin that are read."""
_OTHERS = {b"ftyp": "MPEG-4 (m4a, aac)", b"\x1aE\xdf\xa3": "Matroska or WebM", b"0&\xb2u": "WMA"}
"""What stands within the first bytes of those that are not."""
_CONVERT = "save it as wav, flac, ogg or mp3 (ffmpeg -i IT it.wav)"


class _Field(NamedTuple):
    """Where a file of wav, aiff or au says how many bytes its samples take."""

    at: int
    width: int
    order: Literal["little", "big"]
    start: int
    """Of the samples."""
    end: int
    """Of the file, by what it says first; 0: it does not say."""


def completed(name: str, content: bytes) -> bytes:
    """Return a file with its length, where a recorder was stopped before it wrote that; and tell of one that is cut.

    Args:
        name: of the file, for messages.
        content: of the file.

    Raises:
        DataError: more than a tenth of what it claims is missing; or of an ogg, which does not say how much, anything.
    """
    if content.startswith(b"OggS") and _ends_within_a_page(content):
        raise DataError(f"{name} is cut short: it ends within a page. Replace the file")
    if (field := _field(content)) is not None:
        at, width, order, start, end = field
        claimed, present = int.from_bytes(content[at : at + width], order), max(len(content) - start, 0)
        if not claimed and present and not start < end < _UNTOLD:
            return content[:at] + present.to_bytes(width, order) + content[at + width :]
        _tell_of_cut(name, claimed, present)
    elif (told := _told_by_mp3(content)) is not None:
        _tell_of_cut(name, *told)
    return content


def _tell_of_cut(name: str, claimed: int, present: int) -> None:
    if not present < claimed < _UNTOLD:
        return
    told = f"{name} is cut short: it claims {claimed:,} bytes of sound, and has {present:,}"
    if present < _CUT_SHORT * claimed:
        raise DataError(f"{told}. Replace the file")
    warnings.warn(f"{told}, which are heard", DataWarning, 5)


def _ends_within_a_page(content: bytes) -> bool:
    page = content[content.rfind(b"OggS") :]
    return len(page) < _PAGE or len(page) < _PAGE + page[_PAGE - 1] + sum(page[_PAGE : _PAGE + page[_PAGE - 1]])


def _field(content: bytes) -> _Field | None:
    """Find where a file says how long its samples are; None: it is of another kind, or says it nowhere."""
    kind = content[:4]
    if kind in (b".snd", b"dns."):
        order: Literal["little", "big"] = "big" if kind == b".snd" else "little"
        return _Field(8, 4, order, int.from_bytes(content[4:8], order), 0)
    if kind not in (b"RIFF", b"RF64", b"RIFX", b"FORM"):
        return None
    order = "little" if kind in (b"RIFF", b"RF64") else "big"
    end, at, wide = 8 + int.from_bytes(content[4:8], order), 12, 0
    while at + 8 <= len(content):
        size = int.from_bytes(content[at + 4 : at + 8], order)
        chunk = content[at : at + 4]
        if chunk == (b"SSND" if kind == b"FORM" else b"data"):
            return _Field(*((wide, 8) if wide else (at + 4, 4)), order, at + 8, end)
        if chunk == b"ds64":
            wide = at + 16
        at += 8 + size + size % 2
    return None


def _told_by_mp3(content: bytes) -> tuple[int, int] | None:
    """Return how many bytes an mp3 has by its first frame, and how many; None: it is none, or does not say."""
    start = 0
    if content.startswith(b"ID3"):  # whose length is of 7 bits in each of 4 bytes
        start = 10 + sum((byte & 127) << 7 * place for place, byte in enumerate(reversed(content[6:10])))
    frame = content[start : start + _FRAME]
    tag = max(frame.find(b"Xing"), frame.find(b"Info"))
    told = frame[tag + 4 :]
    if not frame.startswith(b"\xff") or tag < 0 or len(told) < 12 or not told[3] & 2:
        return None
    place = 8 if told[3] & 1 else 4  # behind the flags, and the number of frames
    return int.from_bytes(told[place : place + 4]), len(content) - start


def unreadable(name: str, content: bytes) -> str:
    """Say why a file is not read: by how it begins, as what libsndfile says of it means little."""
    if not content:
        return f"{name} is empty: replace the file, or leave it out"
    for begins, kind in _READ.items():
        if content.startswith(begins):
            return f"{name} is a damaged {kind} file, or one cut short: replace it"
    for part, kind in _OTHERS.items():
        if part in content[:12]:
            return f"{name} is {kind}, which is not read: {_CONVERT}"
    return f"{name} is no sound, or none that is read: {_CONVERT}"
