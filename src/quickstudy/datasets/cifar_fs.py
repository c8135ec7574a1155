"""CIFAR-FS: the 100 classes of CIFAR-100 with 600 colour images each, divided for few-shot learning."""

from __future__ import annotations

import os

from quickstudy.data.table import Splits
from quickstudy.datasets.download import Published, published_files
from quickstudy.datasets.mini_imagenet import NUM_CLASSES, split_folders
from quickstudy.datasets.registry import DATASETS

_LAYOUT = ", ".join(f"{split} with {count}" for split, count in NUM_CLASSES.items())
_FILE = Published("cifar-fs.zip", f"train/apple/001.png and so on, or .webp or .jpg: {_LAYOUT} classes of 600 images")


@DATASETS.register("cifar_fs")
def cifar_fs(root: str | os.PathLike[str] | None = None) -> Splits:
    """Return CIFAR-FS, read in place from ``cifar-fs.zip``.

    The division into 64, 16 and 20 classes is that of Bertinetto, Henriques, Torr and Vedaldi, Meta-learning with
    differentiable closed-form solvers, 2019, https://arxiv.org/abs/1805.08136, https://github.com/bertinetto/r2d2; the
    images are those of CIFAR-100, Krizhevsky, Learning multiple layers of features from tiny images, 2009, which was
    published for research and names no licence.

    The division has no lasting public address, so you bring the archive: ``train``, ``val`` and ``test``, in each one
    folder per class, of images of 32x32 pixels. If they were coded with loss, say it beside the number.

    Args:
        root: folder of the archive; default: ``QUICKSTUDY_DATA``, else quickstudy's cache folder.

    Returns:
        Tables of 38,400, 9,600 and 12,000 image files, sorted by class; nothing is decoded here.

    Raises:
        DataError: the archive is missing, damaged, or has another number of classes.
    """
    (archive,) = published_files("CIFAR-FS", [_FILE], root)
    return split_folders(archive / split for split in NUM_CLASSES)
