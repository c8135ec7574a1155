"""Images: classification."""

from __future__ import annotations

from typing import Any, Literal

from quickstudy.data.table import Table
from quickstudy.datamodule import DataModule
from quickstudy.image.loading import IMAGE_EXTENSIONS, load_image
from quickstudy.task import Task

__all__ = ["ImageClassificationData", "ImageClassifier", "load_image"]


class ImageClassificationData(DataModule):
    """Pictures with labels; see ``DataModule`` for the doors and the other options.

    Args:
        train, val, test, predict: the examples of each stage; the ``from_*`` doors make them.
        image_size: pixels, one number for a square or (height, width): pictures are resized to cover it and cut to
            the centre. Tensors are fed as they are.
        image_mode: ``"RGB"`` for three channels or ``"L"`` for one.
        options: see ``DataModule``.
    """

    load = staticmethod(load_image)
    extensions = IMAGE_EXTENSIONS

    def __init__(
        self,
        train: Table | None = None,
        val: Table | None = None,
        test: Table | None = None,
        predict: Table | None = None,
        image_size: int | tuple[int, int] = 224,
        image_mode: Literal["RGB", "L"] = "RGB",
        **options: Any,
    ) -> None:
        super().__init__(train, val, test, predict, {"image_size": image_size, "image_mode": image_mode}, **options)


class ImageClassifier(Task):
    """Classifies pictures; see ``Task`` for the arguments. The default backbone is timm's ``resnet18``."""

    load = staticmethod(load_image)
    default_backbone = "resnet18"
