"""Images: classification."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Any, ClassVar, Literal

import torch

from quickstudy.data.table import Table
from quickstudy.datamodule import DataModule
from quickstudy.errors import check_choice
from quickstudy.pictures import IMAGE_EXTENSIONS, IMAGE_SIZE, height_width, load_image
from quickstudy.task import Task

__all__ = ["ImageClassificationData", "ImageClassifier", "load_image"]


class ImageClassificationData(DataModule):
    """Pictures with labels; see ``DataModule`` for the doors and the other options.

    Args:
        train, val, test, predict: the examples of each stage; the ``from_*`` doors make them.
        image_size: pixels, one number for a square or (height, width): pictures are resized to cover it and cut to
            the centre. Default: as the model's training data, else 224. Tensors are fed as they are; pictures shown
            to a model that was trained on them are brought to their size.
        image_mode: ``"RGB"`` for three channels or ``"L"`` for one. Default: as the model's training data, else
            ``"RGB"``.
        options: see ``DataModule``.
    """

    load = staticmethod(load_image)
    extensions = IMAGE_EXTENSIONS
    default_load_options: ClassVar[Mapping[str, Any]] = {"image_size": IMAGE_SIZE, "image_mode": "RGB"}

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
        if image_size is not None:
            height, _ = height_width(image_size)
            image_size = height if isinstance(image_size, Integral) else image_size
        check_choice("image_mode", image_mode, "RGB", "L", None)
        inputs = next((table.inputs for table in (train, val, test, predict) if table is not None), None)
        if isinstance(inputs, torch.Tensor) and inputs.ndim == 4:
            channels, height, width = inputs.shape[1:]
            image_size, image_mode = image_size or (height, width), image_mode or ("L" if channels == 1 else "RGB")
        super().__init__(train, val, test, predict, {"image_size": image_size, "image_mode": image_mode}, **options)


class ImageClassifier(Task):
    """Classifies pictures; see ``Task`` for the arguments. The default backbone is timm's ``resnet18``."""

    load = staticmethod(load_image)
    default_backbone = "resnet18"
