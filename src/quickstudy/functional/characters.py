"""A text among tensors: the numbers of its characters, so that an answer can quote it.

Shapes: M characters.
"""

from __future__ import annotations

import unicodedata

import torch
from torch import Tensor

_JOINER = "\u200d"
_SKINS = ("\U0001f3fb", "\U0001f3ff")


def characters_of(text: str) -> Tensor:
    """Return a text as the numbers of its characters, ``[M]``."""
    return torch.tensor(list(map(ord, text)), dtype=torch.int32)


def text_of(characters: Tensor) -> str:
    """Return what ``characters_of`` was given; zeros fill it up.

    >>> text_of(characters_of("naïve"))
    'naïve'
    """
    return "".join(chr(one) for one in characters.tolist() if one)


def whole(text: str, start: int, end: int) -> tuple[int, int]:
    """Return a passage of a text with the marks on its last letter, and the letter of those that it begins with.

    >>> whole("cafe\\u0301 noir", 0, 4)
    (0, 5)
    """
    while _is_on_last(text, start):
        start -= 1
    while _is_on_last(text, end):
        end += 1
    return start, end


def _is_on_last(text: str, place: int) -> bool:
    """Whether a character and the one before it are one to readers."""
    if not 0 < place < len(text):
        return False
    own = text[place]
    return (
        unicodedata.category(own).startswith("M") or _JOINER in (own, text[place - 1]) or _SKINS[0] <= own <= _SKINS[1]
    )
