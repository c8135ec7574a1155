"""What every model that is used says of itself, whether it learns or not; and a saved one, whichever it is."""

from __future__ import annotations

import os
from typing import Any, Protocol

import torch

from quickstudy.data.targets import Label
from quickstudy.kinds.base import Kind
from quickstudy.modality import Modality
from quickstudy.predictor import Adapted
from quickstudy.saved.model_folder import is_trained
from quickstudy.trained import TrainedModel


class Model(Protocol):
    """A model to use, of which a service and the commands ask no more than this; one that ``learns`` has more."""

    @property
    def learns(self) -> bool:
        """Whether it can be shown further classes."""

    @property
    def transductive(self) -> bool:
        """Whether an answer depends on the other inputs of the call."""

    @property
    def modality(self) -> Modality:
        """What an input is."""

    @property
    def kind(self) -> Kind:
        """What an answer is: its labels, how it is written in a row and told in JSON."""

    @property
    def counts_(self) -> dict[Label, int]:
        """How many examples of each class it has; none where answers are no classes."""

    @property
    def change_number(self) -> int:
        """Of the last change that a service made of it; 0 without one."""

    def rank(self, inputs: Any, count: int = 5, *, nearest: int = 0) -> list[Any]:
        """Return the answer to each of N inputs, as its ``kind`` takes them.

        Args:
            inputs: N of them.
            count: how many of the likeliest to name, where there is something to choose among.
            nearest: how many of the nearest examples to name, where it kept any.
        """

    def about(self) -> dict[str, Any]:
        """Return what it is, in values that JSON has: ``backbone``, ``classes`` (how many), and more."""

    def expected(self) -> list[str]:
        """Return in words what accuracy to expect; nothing where that is not known."""


def saved_model(folder: str | os.PathLike[str], device: str | torch.device = "cpu") -> Model:
    """Read a saved model, whichever it is; no code is run from its files.

    Args:
        folder: of the model.
        device: where it is to run.

    Raises:
        DataError: there is none, or it is damaged, or of a newer version.
        ConfigError: it was made with code, which no file holds.
    """
    reader: Any = TrainedModel if is_trained(folder) else Adapted
    found: Model = reader.load(folder, device)
    return found
