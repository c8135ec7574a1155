"""Tasks of videos, and their data: classification, embedding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from torch import Tensor

from quickstudy.data.table import Table
from quickstudy.errors import given
from quickstudy.kinds.embedding import Embedding
from quickstudy.modality.pixels import whole_numbers
from quickstudy.training.datamodule import DataModule
from quickstudy.training.task import Classifier, Embedder, Task
from quickstudy.video.modality import Video


class VideoData(DataModule):
    """Videos; see ``DataModule`` for the doors and ``DataOptions`` for the other options.

    A video is a file, or a folder of pictures, its frames. Tensors ``[N, C, T, H, W]`` are fed as they are.

    Args:
        train, val, test, predict: the examples of each stage; the ``from_*`` doors make them.
        image_size: pixels of a frame, one number for a square or (height, width): frames are resized to cover it and
            cut to the centre. Default: as the model's training data, else 112.
        image_mode: ``"RGB"`` for three channels or ``"L"`` for one. Default: as the model's training data, else
            ``"RGB"``.
        frames: of a clip. Default: as the model's training data, else 16.
        fps: frames a second that all videos are brought to first; see ``Video``.
        stride: of the frames of a clip; without, a clip is spread over the whole video. In training another one is
            shown each time; see ``Video``.
        clips: with more than 1, so many clips of each video are seen but in training, and its vector is their mean.
        options: see ``DataOptions``.
    """

    modality = Video().with_options(Video.usual)

    def __init__(
        self,
        train: Table | None = None,
        val: Table | None = None,
        test: Table | None = None,
        predict: Table | None = None,
        image_size: int | tuple[int, int] | None = None,
        image_mode: Literal["RGB", "L"] | None = None,
        frames: int | None = None,
        fps: float | None = None,
        stride: int | None = None,
        clips: int | None = None,
        **options: Any,
    ) -> None:
        tables = [_as_clips(table) for table in (train, val, test, predict)]
        first = next((table.inputs for table in tables if table is not None), None)
        if isinstance(first, Tensor) and first.ndim == 5:
            channels, length, *size = first.shape[1:]
            image_size, frames = image_size or (size[0], size[1]), frames or length
            image_mode = image_mode or ("L" if channels == 1 else "RGB")
        options |= given(image_size=image_size, image_mode=image_mode, frames=frames, fps=fps)
        options |= given(stride=stride, clips=clips)
        train, val, test, predict = tables
        super().__init__(train, val, test, predict, **options)


class VideoClassificationData(VideoData):
    """Videos with labels; see ``VideoData``."""


class VideoEmbeddingData(VideoData):
    """Videos, with labels or without; see ``VideoData``.

    Its doors need no targets, and its folders no class folders. Labels are for judging, and for the default strategy.
    """

    answers = Embedding


def _as_clips(table: Table | None) -> Table | None:
    """Return a table whose whole numbers are uint8, and whose videos ``[N, T, H, W, C]`` are to be read."""
    if table is None or not isinstance(table.inputs, Tensor):
        return table
    inputs = Video().listed(whole_numbers(table.inputs))
    return table if inputs is table.inputs else replace(table, inputs=inputs)


class VideoTask(Task):
    """A task of videos. The default backbone, ``"c3d"``, starts from nothing."""

    modality = Video()


class VideoClassifier(Classifier, VideoTask):
    """Classifies videos; see ``Classifier`` for the arguments. The default backbone, ``"c3d"``, starts from nothing."""


class VideoEmbedder(Embedder, VideoTask):
    """Embeds videos; see ``Embedder`` for the arguments, and ``VideoClassifier`` for backbones."""
