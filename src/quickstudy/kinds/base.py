"""What an answer is measured by."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Score(NamedTuple):
    """The one figure that a model is judged by: what chooses its checkpoint, ends its training, and is compared."""

    name: str
    """In the field's words, as it is logged behind ``train_``, ``val_`` and ``test_``: ``"accuracy"``, ``"rmse"``."""
    best: Literal["max", "min"] = "max"
    """Whether the largest is the best one, or the smallest."""
