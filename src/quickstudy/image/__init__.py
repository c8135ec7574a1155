"""Images: classification."""

from __future__ import annotations

from typing import Any, Literal

import torch

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
            the centre. Default: 224; where the data are tensors, which are fed as they are, their own size, so that
            pictures shown to the model later match them.
        image_mode: ``"RGB"`` for three channels or ``"L"`` for one. Default: ``"RGB"``, or as the tensors are.
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
        image_size: int | tuple[int, int] | None = None,
        image_mode: Literal["RGB", "L"] | None = None,
        **options: Any,
    ) -> None:
        given = next((table.inputs for table in (train, val, test, predict) if table is not None), None)
        channels, height, width = (
            given.shape[1:] if isinstance(given, torch.Tensor) and given.ndim == 4 else (3, 224, 224)
        )
        load_options = {
            "image_size": image_size or (height, width),
            "image_mode": image_mode or ("L" if channels == 1 else "RGB"),
        }
        super().__init__(train, val, test, predict, load_options, **options)


class ImageClassifier(Task):
    """Classifies pictures; see ``Task`` for the arguments. The default backbone is timm's ``resnet18``."""

    load = staticmethod(load_image)
    default_backbone = "resnet18"
