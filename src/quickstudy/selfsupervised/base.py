"""The contract of a self-supervised method: what an encoder learns from examples without labels, and by which loss.

Shapes: B examples of a step, V views of each, D features, P projected features, ``...`` the shape of one input.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from quickstudy.batches import Batch, unfold
from quickstudy.errors import ConfigError, brief, check_counts, require
from quickstudy.nets import Encoder
from quickstudy.registry import OWN, Registry


class Method(nn.Module, ABC):
    """Trains an encoder by several views of each example: they are projected, and a loss compares the projections.

    Its keyword arguments become ``training_strategy_kwargs``. What it trains beside the encoder is a part of it, lies
    in checkpoints, and is left behind when the encoder is used.
    """

    paper: ClassVar[str]
    """Authors, year, title and link."""
    views: ClassVar[int] = 2
    """V, how often each example is transformed."""
    projector: nn.Module | None
    """What ``heads`` made; None before."""

    def __init__(self) -> None:
        super().__init__()
        self.projector = None

    def meet(self, encoder: Encoder, features: int) -> None:
        """Make what depends on the encoder, such as a teacher that is a copy of it; here the projector alone.

        Args:
            encoder: what is trained.
            features: D.
        """
        self.projector = self.heads(features)

    @abstractmethod
    def heads(self, features: int) -> nn.Module:
        """Make what projects features, ``[N, D]``; called once, when the data is known."""

    def outputs(self, features_BVD: Tensor, views: Batch) -> Batch:
        """Return what the loss compares, with a first axis of B examples: here the projections ``[B, V, P]``.

        Args:
            features_BVD: of the encoder, which all views have passed together.
            views: ``[B, V, ...]``, for who passes them through a network of its own.
        """
        assert self.projector is not None
        return unfold(self.projector(features_BVD.flatten(0, 1)), *features_BVD.shape[:2])

    @abstractmethod
    def loss(self, outputs: Any) -> Tensor:
        """Return one number of the outputs of a step's examples, those of all processes; in float32 or better."""

    def after_step(self, encoder: Encoder) -> None:
        """Follow a step of the optimizer: where there is a teacher, its weights move here."""


METHODS: Registry[type[Method]] = Registry(
    "self-supervised method",
    "quickstudy.selfsupervised",
    OWN,
)
"""By name; packages offer further ones by entry points of the group ``quickstudy.selfsupervised``."""


def available_methods() -> list[str]:
    """Return the names of self-supervised methods, which ``training_strategy=`` of an embedder takes."""
    return METHODS.names()


def mlp(features: int, widths: Sequence[int]) -> nn.Module:
    """Make a projector: linear layers, with BatchNorm and ReLU between them.

    Args:
        features: D.
        widths: of the layers' outputs.

    Raises:
        ConfigError: they are no whole numbers above 0.
    """
    if isinstance(widths, str) or not isinstance(widths, Sequence) or not widths:
        raise ConfigError(f"projection={brief(widths)}: give the widths of its layers, for instance (256, 128)")
    for width in widths:
        check_counts(projection=width)
    layers: list[nn.Module] = []
    for before, width in zip((features, *widths), widths, strict=False):
        layers += [nn.Linear(before, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()]
    layers[-3:] = [nn.Linear((features, *widths)[-2], widths[-1])]
    return nn.Sequential(*layers)


class OfTwoViews(Method):
    """A method that projects two views by a few linear layers, and compares them by a loss of the library lightly.

    Args:
        loss: its name in ``lightly.loss``.
        projection: widths of the projector's layers.
        options: of the loss.

    Raises:
        ConfigError: an option is out of range.
        MissingPackageError: lightly is not installed.
    """

    def __init__(self, loss: str, projection: Sequence[int], **options: float) -> None:
        super().__init__()
        mlp(1, projection)  # a wrong one is told before any data is read
        self._projection = projection
        # A function, for the modules have buffers that no checkpoint needs. What all processes have is put together
        # before: lightly's own gathering takes as many examples from each, and Barlow Twins' normalises them apart.
        self._compared = getattr(require("lightly.loss", extra="selfsupervised"), loss)(**options).forward

    def heads(self, features: int) -> nn.Module:
        """Make the projector."""
        return mlp(features, self._projection)

    def loss(self, outputs: Tensor) -> Tensor:
        """Return the loss of projections ``[B, 2, P]``."""
        lost: Tensor = self._compared(*outputs.unbind(1))
        return lost
