"""miniImageNet: 100 classes of ImageNet with 600 colour images each."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from quickstudy.data.scan import class_folders
from quickstudy.data.table import Splits, Table
from quickstudy.datasets.download import Published, published_files
from quickstudy.datasets.registry import DATASETS
from quickstudy.errors import DataError

NUM_CLASSES = {"train": 64, "val": 16, "test": 20}
_EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp")
_FILES = [
    Published(f"mini-imagenet-{split}.zip", f"{split}/n01234567/0001.jpg: {count} classes of 600 images")
    for split, count in NUM_CLASSES.items()
]


@DATASETS.register("mini_imagenet")
def mini_imagenet(root: str | os.PathLike[str] | None = None) -> Splits:
    """Return miniImageNet, read in place from ``mini-imagenet-train.zip``, ``-val.zip`` and ``-test.zip``.

    The data set is that of Vinyals et al., Matching networks for one shot learning, 2016,
    https://arxiv.org/abs/1606.04080; the division into 64, 16 and 20 classes that of Ravi and Larochelle, Optimization
    as a model for few-shot learning, 2017, https://openreview.net/forum?id=rJY0-Kcll, which lists its images in
    https://github.com/twitter-research/meta-learning-lstm (``data/miniImagenet``).

    Its images are ImageNet's and under ImageNet's terms: non-commercial research and education. They have no lasting
    public address, so you bring the archives. Each holds one folder per class, named after the WordNet id; the usual
    images have 84x84 pixels. A result depends on how they were scaled and coded: say it beside the number.

    Args:
        root: folder of the archives; default: ``QUICKSTUDY_DATA``, else quickstudy's cache folder.

    Returns:
        Tables of 38,400, 9,600 and 12,000 image files, sorted by class; nothing is decoded here.

    Raises:
        DataError: an archive is missing, damaged, or has another number of classes.
    """
    archives = published_files("miniImageNet", _FILES, root)
    return split_folders(archive / split for archive, split in zip(archives, NUM_CLASSES, strict=True))


def split_folders(folders: Iterable[Path]) -> Splits:
    """Read the folders (inside archives) of 64 training, 16 validation and 20 test classes; CIFAR-FS has as many.

    Raises:
        DataError: one is missing, or has another number of classes.
    """
    tables: list[Table] = []
    for folder, (split, count) in zip(folders, NUM_CLASSES.items(), strict=True):
        table = class_folders(folder, _EXTENSIONS)
        if len(table.classes) != count:
            raise DataError(
                f"'{folder}' has {len(table.classes)} class folders; the {split} classes are {count}. "
                "Is the archive complete, and is it the published division?"
            )
        tables.append(table)
    return Splits(*tables)
