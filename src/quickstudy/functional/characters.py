"""A text among tensors: the numbers of its characters, so that an answer can quote it.

Shapes: M characters.
"""

from __future__ import annotations

import torch
from torch import Tensor


def characters_of(text: str) -> Tensor:
    """Return a text as the numbers of its characters, ``[M]``."""
    return torch.tensor(list(map(ord, text)), dtype=torch.int32)


def text_of(characters: Tensor) -> str:
    """Return what ``characters_of`` was given; zeros fill it up.

    >>> text_of(characters_of("naïve"))
    'naïve'
    """
    return "".join(chr(one) for one in characters.tolist() if one)
