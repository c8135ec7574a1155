"""Omniglot: 1,623 handwritten characters of 50 alphabets, each drawn by 20 people.

Shapes: N images, K characters, S pixels on a side.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from quickstudy.data.places import Item, open_source
from quickstudy.data.table import Splits, Table
from quickstudy.datasets.cached import cached_tables
from quickstudy.datasets.download import Published, published_files
from quickstudy.datasets.registry import DATASETS
from quickstudy.errors import ConfigError, DataError, unknown
from quickstudy.files import cache_folder

_FORMAT = 1  # count up when the same archives give another table
_BACKGROUND, _EVALUATION = 964, 659  # characters

_ADDRESS = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python"
_FILES = (
    Published(
        "images_background.zip",
        f"images_background/ALPHABET/characterNN/NNNN_DD.png: {_BACKGROUND} characters by 20 people",
        f"{_ADDRESS}/images_background.zip",
        "md5:68d2efa1b9178cc56df9314c21c6e718",
    ),
    Published(
        "images_evaluation.zip",
        f"images_evaluation/ALPHABET/characterNN/NNNN_DD.png: {_EVALUATION} characters by 20 people",
        f"{_ADDRESS}/images_evaluation.zip",
        "md5:6b91aef0f799c5bb55b94e3f2daec811",
    ),
)


@DATASETS.register("omniglot")
def omniglot(
    root: str | os.PathLike[str] | None = None,
    *,
    image_size: int = 28,
    rotations: bool = False,
    split: Literal["vinyals", "original"] = "vinyals",
) -> Splits:
    """Return Omniglot, downloaded where it is missing (16 MB), decoded on the first call and cached.

    Lake, Salakhutdinov and Tenenbaum, Human-level concept learning through probabilistic program induction, Science
    2015, https://github.com/brendenlake/omniglot. MIT licence.

    Classes are named ``Alphabet/characterNN``. There are two ways to divide them:

    - ``"vinyals"``: 1,200 characters to train on, 100 to validate, 323 to test, whatever their alphabet, as in Vinyals
      et al., Matching networks for one shot learning, 2016, https://arxiv.org/abs/1606.04080. They did not publish
      which, so papers differ. Here it is one fixed shuffle, the same as in the plain torch script that benchmarks
      compare with: two methods tested on the same classes differ by their difference alone, not by the luck of the
      division.
    - ``"original"``: the authors' background and evaluation sets, which share no alphabet: harder. Every sixth of the
      30 background alphabets by name (Alphabet_of_the_Magi, Bengali, Futurama, Japanese_(hiragana), N_Ko) validates,
      the others train, and the 20 evaluation alphabets test: 787, 177 and 659 characters.

    Args:
        root: folder of ``images_background.zip`` and ``images_evaluation.zip``; default: ``QUICKSTUDY_DATA``, else
            quickstudy's cache folder.
        image_size: S, pixels on a side; the drawings have 105, and each pixel is the mean of those it covers.
        rotations: whether each training character turned left by 90, 180 and 270 degrees is a class more, named
            ``Alphabet/characterNN/rot90`` and so on, as most papers do; four times the memory.
        split: how classes are divided.

    Returns:
        Tables of grey images uint8 ``[N, 1, S, S]``, bright strokes on black, sorted by class. ``"vinyals"`` has its
        classes in their shuffled order, ``"original"`` by name; rotated ones follow, by angle.

    Raises:
        ConfigError: ``image_size`` or ``split`` is none that there is.
        DataError: a file is missing and cannot be downloaded, or damaged, or holds other characters.
    """
    if split not in _DIVISIONS:
        raise unknown("split of Omniglot", split, _DIVISIONS)
    if image_size < 1:
        raise ConfigError(f"image_size={image_size} must be a number of pixels: 28 is usual")
    # The folder may hold archives that were packed anew: published_files checks only what it downloads itself.
    archives = published_files("Omniglot", _FILES, root)
    path = cache_folder() / f"omniglot-{_FORMAT}-{image_size}-{_digest(archives)}.npz"
    (everything,) = cached_tables(path, "the images of Omniglot", ["all"], lambda: [_decode(archives, image_size)])
    train, val, test = (everything.only(codes) for codes in _DIVISIONS[split](everything.classes))
    return Splits(_with_rotations(train) if rotations else train, val, test)


# ---- which characters


def _vinyals(classes: Sequence[str]) -> tuple[list[int], list[int], list[int]]:
    order = torch.randperm(len(classes), generator=torch.Generator().manual_seed(1)).tolist()
    return order[:1200], order[1200:1300], order[1300:]


def _original(classes: Sequence[str]) -> tuple[list[int], list[int], list[int]]:
    alphabets = [name.split("/")[0] for name in classes]
    held_out = set(sorted(set(alphabets[:_BACKGROUND]))[::6])
    background = range(_BACKGROUND)
    train = [code for code in background if alphabets[code] not in held_out]
    val = [code for code in background if alphabets[code] in held_out]
    return train, val, list(range(_BACKGROUND, len(classes)))


_DIVISIONS: dict[str, Callable[[Sequence[str]], tuple[list[int], list[int], list[int]]]] = {
    "vinyals": _vinyals,
    "original": _original,
}


def _with_rotations(table: Table) -> Table:
    assert isinstance(table.inputs, torch.Tensor) and table.targets is not None
    return Table(
        torch.cat([torch.rot90(table.inputs, turns, (2, 3)) for turns in range(4)]),
        np.concatenate([table.targets + turns * len(table.classes) for turns in range(4)]),
        tuple(name + suffix for suffix in ("", "/rot90", "/rot180", "/rot270") for name in table.classes),
    )


# ---- from archives to a table


def _digest(archives: Sequence[Path]) -> str:
    """Return a digest of the archives' content and of the library that decodes them."""
    digest = hashlib.blake2b(PIL.__version__.encode(), digest_size=8)
    for archive in archives:
        with archive.open("rb") as file:
            digest.update(hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()


def _decode(archives: Sequence[Path], image_size: int) -> Table:
    """Return all images, sorted by class: the background's by name, then the evaluation's.

    About 4 seconds; threads only make it slower, as the images are too small to leave the interpreter for long.
    """
    items: list[Item] = []
    targets: list[int] = []
    codes: dict[str, int] = {}
    for archive, expected in zip(archives, (_BACKGROUND, _EVALUATION), strict=True):
        source = open_source(archive / archive.stem)
        before = len(codes)
        for name in source.files():
            if name.endswith(".png"):
                items.append(source.item(name))
                targets.append(codes.setdefault(name.rpartition("/")[0], len(codes)))
        if len(codes) - before != expected:
            raise DataError(
                f"'{archive}' has {len(codes) - before} characters (ALPHABET/characterNN) instead of {expected}: it is "
                "another archive or only a part. Delete it, and it will be downloaded"
            )
    images = np.stack([_image(item, image_size) for item in items])
    return Table(torch.from_numpy(images[:, None]), np.array(targets, np.int32), tuple(codes))


def _image(item: Item, image_size: int) -> NDArray[np.uint8]:
    content = item.read_bytes()
    try:
        with Image.open(io.BytesIO(content)) as image:
            ink = ImageOps.invert(image.convert("L"))
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"'{item}' is a damaged image: {error}") from error
    return np.asarray(ink.resize((image_size, image_size), Image.Resampling.BOX))
