"""The class of each pixel, as people have it: mask files beside pictures, arrays, colours with a table.

Shapes: H W pixels of a file, h w of its picture as it is shown.
"""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from quickstudy.batches import Batch
from quickstudy.data.annotations import Annotations
from quickstudy.data.samples import content_of, file_content, named
from quickstudy.data.scan import files_in
from quickstudy.data.table import Table
from quickstudy.errors import DataError, few, one_line
from quickstudy.image.modality import MAX_PIXELS
from quickstudy.image.pairs import by_key
from quickstudy.kinds.segmentation import ids_of

Colors = Mapping[str, Sequence[int]]
"""Red, green and blue of each class, 0 to 255, by its name."""
_PICTURES = ("images", "image", "img", "imgs", "jpegimages", "photos", "pictures", "pngimages")
_MASKS = ("masks", "mask", "labels", "label", "annotations", "segmentationclass", "gt", "groundtruth", "segmentation")
INSTANCES = ("instances", "instance", "instance_masks", "instance_labels", "segmentationobject", "pedmasks")
"""Folders of masks whose numbers tell the objects of a picture apart, which come before others."""
_ENDING = re.compile(r"(_masks?|_labels?|_gt|_seg|-mask)$", re.IGNORECASE)


def read_mask(item: Any, example: Batch | None = None, colors: Colors | None = None) -> Tensor:
    """Return the ids of the pixels of one picture, ``[h, w]``, or ``[H, W]`` without it.

    Args:
        item: an array ``[H, W]`` of ids, or ``[H, W, 3]`` of colours; or a mask file, as a path, bytes, a file of an
            archive or a PIL image: of grey levels or a palette, whose numbers are ids, or in colours.
        example: the picture, of which it must have the size.
        colors: of the classes, whose ids then are 0, 1, ... in their order, and 255 what is of none of the colours.

    Raises:
        DataError: it cannot be read, is in colours that no table explains, or of another size.
    """
    array, name = _array_of(item)
    if array.ndim == 3 and array.shape[2] in (3, 4):
        array = _by_colour(array[..., :3], colors, name)
    elif array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    ids = ids_of(array)
    if ids.ndim != 2:
        raise DataError(f"{name} has the shape {tuple(ids.shape)}: a mask is [H, W] of ids, or [H, W, 3] of colours")
    return _shown(ids, example, name)


def read_masks(item: Any, example: Batch | None = None, names: Sequence[str] = ()) -> Tensor:
    """Return several labels of the pixels of one picture, ``[h, w, C]``, or ``[H, W, C]`` without it.

    Args:
        item: an array ``[C, H, W]``, which is above 0 where a label is; a list of C masks ``[H, W]``, arrays or files;
            a dict of them by name, where a label that lacks is nowhere; or a file, an array ``[C, H, W]``, or an image
            whose channels or pages are the labels.
        example: the picture, of which they must have the size.
        names: C of them, in whose order labels come that have names.

    Raises:
        DataError: one cannot be read, is of another size, or has a name that is none.
    """
    if isinstance(item, Mapping):
        if strange := [name for name in item if name not in names]:
            raise DataError(f"a mask is called '{strange[0]}', and labels are {few(names) or 'none'}: set class_names")
        found = {name: read_mask(own) for name, own in item.items()}
        full = next((tuple(one.shape) for one in found.values()), (0, 0))
        full = full if example is None else tuple(example["full"].tolist())
        parts = [_shown(found.get(name, torch.zeros(full, dtype=torch.int64)), example, name) for name in names]
        return torch.stack(parts, -1)
    if isinstance(item, (list, tuple)):
        return torch.stack([read_mask(one, example) for one in item], -1)
    array, name = _array_of(item, pages=True)
    if array.ndim == 3 and not (_is_array(item) or name.rstrip("'").lower().endswith(".npy")):
        array = array.transpose(2, 0, 1)
    labels = ids_of(array[None] if array.ndim == 2 else array)
    if labels.ndim != 3:
        raise DataError(f"{name} has the shape {tuple(labels.shape)}: several labels of each pixel are [C, H, W]")
    return _shown(labels.permute(1, 2, 0), example, name)


def _is_array(item: Any) -> bool:
    content = item if isinstance(item, bytes) else b""
    return isinstance(item, (np.ndarray, Tensor)) or content.startswith(b"\x93NUMPY")


def _shown(ids: Tensor, example: Batch | None, name: str) -> Tensor:
    """Return what pixels of a file ``[H, W, ...]`` have as its picture is shown, ``[h, w, ...]``.

    Raises:
        DataError: the picture is of another size.
    """
    if example is None:
        return ids
    full, size = example["full"].tolist(), example["size"].tolist()
    if list(ids.shape[:2]) != full:
        high, wide = ids.shape[:2]
        turned = " Was it drawn before the picture was turned, as its camera says (EXIF)?" * ([wide, high] == full)
        raise DataError(
            f"{name} has {wide}x{high} pixels, and its picture {full[1]}x{full[0]}: each pixel needs an id.{turned} "
            "Make the mask anew from the picture, without resizing either"
        )
    rows, columns = (
        ((torch.arange(shown) + 0.5) * (whole / shown)).long() for shown, whole in zip(size, full, strict=True)
    )
    return ids[rows][:, columns]


def _array_of(item: Any, pages: bool = False) -> tuple[NDArray[Any], str]:
    """Return the array that something holds, of an image ``[H, W]`` or ``[H, W, C]``, and what it is called.

    Args:
        item: see ``read_mask``.
        pages: whether the pages of an image are its channels.
    """
    if isinstance(item, Tensor):
        item = item.detach().cpu().numpy()
    if isinstance(item, np.ndarray | list | tuple):
        return np.asarray(item), "a mask"
    if isinstance(item, bytearray | memoryview) or (hasattr(item, "read") and not hasattr(item, "read_bytes")):
        item = content_of(item)
    name = "a mask" if isinstance(item, bytes | Image.Image) else named(item)
    if not isinstance(item, Image.Image):
        content = file_content(item, name, "a mask: a path, bytes, a PIL image or an array")
        if content.startswith(b"\x93NUMPY"):
            try:
                _check_array(content)
                return np.load(io.BytesIO(content), allow_pickle=False), name
            except (ValueError, MemoryError, EOFError) as error:
                raise DataError(f"{name} is a damaged array: {one_line(str(error))}. Replace it") from error
        try:
            item = Image.open(io.BytesIO(content))
            _check_pixels(item.height, item.width)
            item.load()
        except UnidentifiedImageError as error:
            raise DataError(f"{name} is no image that can be read (or its beginning is damaged)") from error
        except Exception as error:  # damage makes decoders raise almost anything
            raise DataError(f"{name} is a damaged image: {one_line(str(error))}. Replace it") from error
        if item.format == "JPEG":
            raise DataError(f"{name} is a JPEG, which blurs the borders of classes: save masks as PNG")
    if pages and (count := getattr(item, "n_frames", 1)) > 1:
        return _of_pages(item, count, name), name
    item = ImageOps.exif_transpose(item)  # as its picture is
    return np.asarray(item if item.mode not in ("LA", "PA", "CMYK", "YCbCr") else item.convert("RGB")), name


def _of_pages(image: Image.Image, count: int, name: str) -> NDArray[Any]:
    try:
        _check_pixels(image.height * count, image.width)
        found = []
        for place in range(count):
            image.seek(place)
            found.append(np.asarray(ImageOps.exif_transpose(image).convert("I")))
        return np.stack(found, -1)
    except Exception as error:  # damage makes decoders raise almost anything
        raise DataError(f"{name} is a damaged image: {one_line(str(error))}. Replace it") from error


def _check_array(content: bytes) -> None:
    """Check what the beginning of an array's file claims, before there is memory for it.

    Raises:
        ValueError: it has more pixels than a picture may have, or more than the file.
    """
    file = io.BytesIO(content)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(file)
    if version not in read:
        raise ValueError(f"it is of version {version} of the format, which arrays of numbers do not need")
    shape, _, dtype = read[version](file)
    _check_pixels(*sorted((1, 1, *shape))[-2:])
    claimed = math.prod(shape) * dtype.itemsize
    if claimed > len(content):
        raise ValueError(f"it claims {claimed:,} bytes, and the file has {len(content):,}")


def _check_pixels(height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise ValueError(f"it claims {width}x{height} pixels, more than {MAX_PIXELS:,}")


def _by_colour(pixels: NDArray[Any], colors: Colors | None, name: str) -> NDArray[Any]:
    codes = pixels.astype(np.int64) @ np.array([65536, 256, 1])
    there, places = np.unique(codes, return_inverse=True)
    if colors is None:
        if (pixels == pixels[..., :1]).all():
            return pixels[..., 0]
        shown = [f"({code >> 16}, {code >> 8 & 255}, {code & 255})" for code in there.tolist()]
        raise DataError(
            f"{name} is in colours, {few(shown)}: say which class each is of, colors={{'road': (128, 64, 128), ...}} "
            "of the data"
        )
    known = {int(np.array(color) @ np.array([65536, 256, 1])): number for number, color in enumerate(colors.values())}
    return np.array([known.get(code, 255) for code in there.tolist()])[places].reshape(codes.shape)


def masked_folder(
    path: str | os.PathLike[str],
    endings: Collection[str],
    encode: Callable[[Any], Annotations],
    first: Collection[str] = (),
    by_label: bool = False,
) -> Table:
    """Return the pictures of a folder or archive with their masks.

    They lie in ``images/`` and ``masks/`` (or folders called likewise), or beside each other, ``a.jpg`` and
    ``a_mask.png``. Or each label has masks of its own, ``masks/cat/a.png`` and ``masks/dog/a.png``.

    Args:
        path: of the folder.
        endings: of pictures.
        encode: makes annotations of files.
        first: names of folders of masks that are taken where there are such, and no other then.
        by_label: whether labels may have masks of their own.

    Raises:
        DataError: there is no picture, or one without a mask.
    """
    files = files_in(path, (*endings, ".npy"))
    names: list[str] = files.names.tolist()
    chosen_first = any(_folder_in(name, first) for name in names)
    of_masks = [name for name in names if (_folder_in(name, first) if chosen_first else _is_mask(name))]
    aside = any(_folder_in(name, _PICTURES) for name in names)
    pictures = [
        row
        for row, name in enumerate(names)
        if not _is_mask(name) and not _folder_in(name, first) and (not aside or _folder_in(name, _PICTURES))
    ]
    if not pictures or not of_masks:
        what = "pictures" if not pictures else "masks"
        raise DataError(
            f"'{path}' holds no {what}: put pictures into images/ and masks of the same names into masks/, or name a "
            "mask a_mask.png beside a.jpg"
        )
    shown = by_key((names[row] for row in pictures), partial(_key, masks=first), "picture")
    row_of = {name: row for row, name in enumerate(names)}
    masks = by_key(of_masks, partial(_key, masks=first), "mask", shown)
    if by_label and not masks and (labelled := _by_label(of_masks, shown)):
        labels = tuple(labelled)
        items = [{label: files[row_of[own[key]]] for label, own in labelled.items() if key in own} for key in shown]
        annotations = replace(encode(items), read=partial(read_masks, names=labels), names=labels)
        return Table(files.select(np.array(pictures, np.int64)), annotations=annotations)
    lacking = [name for key, name in shown.items() if key not in masks]
    if lacking:
        told = few([Path(one).name for one in lacking])
        raise DataError(
            f"{len(lacking)} of {len(pictures)} pictures have no mask: {told}. Name each as its picture, or remove the "
            "picture"
        )
    rows = [row_of[masks[key]] for key in shown]
    chosen, of_each = (files.select(np.array(some, np.int64)) for some in (pictures, rows))
    return Table(chosen, annotations=encode(of_each))


def _by_label(masks: Sequence[str], shown: Collection[str]) -> dict[str, dict[str, str]]:
    """Return of each label, the name of a folder in that of the masks, the mask of each picture by its key.

    Args:
        masks: paths of mask files.
        shown: keys of pictures.

    Raises:
        DataError: a mask is of no picture, though others are.
    """
    found: dict[str, dict[str, str]] = {}
    alone = []
    for name in masks:
        parts = name.split("/")
        places = [place for place, part in enumerate(parts[:-2]) if part.lower() in _MASKS]
        if not places:
            continue
        label = parts[places[-1] + 1]
        key = _key("/".join(part for place, part in enumerate(parts) if place != places[-1] + 1))
        if key in shown:
            found.setdefault(label, {})[key] = name
        else:
            alone.append(name)
    if found and alone:
        raise DataError(
            f"{len(alone)} masks are of no picture, such as '{alone[0]}': call each as its picture, or remove it"
        )
    return dict(sorted(found.items()))


def _folder_in(name: str, folders: Collection[str]) -> bool:
    return any(part.lower() in folders for part in name.split("/")[:-1])


def _is_mask(name: str) -> bool:
    return bool(_ENDING.search(Path(name).stem)) or (_folder_in(name, _MASKS) and not _folder_in(name, _PICTURES))


def _key(name: str, masks: Collection[str] = ()) -> str:
    """Return a path without its ending, and without what tells pictures from masks.

    >>> _key("train/images/a.jpg") == _key("train/masks/a.png") == _key("train/a_mask.png")
    True
    """
    *folders, last = name.split("/")
    kept = [part for part in folders if part.lower() not in (*_PICTURES, *_MASKS, *masks)]
    return "/".join([*kept, _ENDING.sub("", Path(last).stem)])
