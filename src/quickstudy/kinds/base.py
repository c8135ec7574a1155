"""What an answer is measured by."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Score(NamedTuple):
    """The one figure that a model is judged by: what chooses its checkpoint, ends its training, and is compared.

    >>> ACCURACY.text(0.6821), Score("rmse", "min").text(3.14159)
    ('68.21%', '3.142')
    """

    name: str
    """In the field's words, as it is logged behind ``train_``, ``val_`` and ``test_``: ``"accuracy"``, ``"rmse"``."""
    best: Literal["max", "min"] = "max"
    """Whether the largest is the best one, or the smallest."""
    share: bool = False
    """Whether it lies from 0 to 1; it is then told in percent."""
    root: bool = False
    """Whether it is the root of the mean of its figures, as an rmse is of squared errors; else it is their mean."""

    @property
    def called(self) -> str:
        """The name as a sentence has it."""
        return self.name.replace("_", " ")

    def better(self, one: float, other: float) -> bool:
        """Return whether one is better than another."""
        return one > other if self.best == "max" else one < other

    def text(self, value: float | None) -> str:
        """Return a value in words; None: it is not known."""
        if value is None:
            return "unknown"
        return f"{value:.2%}" if self.share else f"{value:.4g}"

    def change(self, by: float) -> str:
        """Return a difference of two values in words, with its sign."""
        return f"{by:+.2%}" if self.share else f"{by:+.4g}"


ACCURACY = Score("accuracy", share=True)
