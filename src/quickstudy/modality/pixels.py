"""Pixels in memory: which arrays are pictures, of which scale, and how a network that takes pictures takes them.

Shapes: N pictures, C channels, H and W pixels.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from quickstudy.data.samples import tensor_of
from quickstudy.errors import DataError, DataWarning, few
from quickstudy.modality.thumbnails import TiledValues, thumbnail_of
from quickstudy.modality.values import Scale, Sighted, Values, as_uint8, scale_of, widest

if TYPE_CHECKING:
    from quickstudy.modality import Modality


def channels_last(shape: Sequence[int]) -> bool:
    """Whether an array of this shape is a picture ``[H, W, C]``, and not one ``[C, H, W]``."""
    if len(shape) != 3:
        return False
    height, width, channels = shape
    return height not in (1, 3) if channels == 3 else channels in (1, 2, 4) and min(height, width) > 4


def separated(stack: Tensor, channels: int) -> Tensor | list[Tensor]:
    """Return pictures ``[N, C, H, W]`` as they are, and of other arrays one item per picture, for ``load_image``.

    Args:
        stack: one picture or N of them.
        channels: of the network that is asked, which tell one picture ``[C, H, W]`` from a stack of grey ones.

    Raises:
        DataError: it could be one picture or several.
    """
    shape = tuple(stack.shape)
    if stack.ndim == 2 or channels_last(shape):
        return [stack]
    if stack.ndim == 4 and channels_last(shape[1:]):
        return list(stack)
    if stack.ndim != 3:
        return stack
    if shape[0] == channels:
        return stack[None]
    if shape[0] in (2, 3, 4) and channels != 1:
        raise DataError(
            f"pixels of shape {shape} could be one picture of {shape[0]} channels, or {shape[0]} grey ones, and the "
            f"network takes {channels} channels: give a list, [picture] or list(pictures)"
        )
    return list(stack)


def whole_numbers(pixels: Tensor) -> Tensor:
    """Return whole numbers of 0..255 as uint8, truth values as black and white, and all else as it is.

    Raises:
        DataError: pictures of whole numbers are beyond 0..255.
    """
    if pixels.dtype == torch.uint8 or pixels.is_floating_point() or pixels.is_complex() or pixels.ndim < 2:
        return pixels
    if pixels.dtype == torch.bool:
        return pixels.to(torch.uint8) * 255
    values = pixels.to(torch.int64)
    low, high = (int(value) for value in values.aminmax()) if values.numel() else (0, 0)
    if low < 0 or high > 255:
        raise DataError(
            f"pixels of {str(pixels.dtype).removeprefix('torch.')} from {low} to {high}: whole numbers of a picture "
            "are 0..255. Of pictures of more bits, keep the upper 8: (pixels >> 8) of 16 bits, (pixels >> 4) of 12"
        )
    return pixels.to(torch.uint8)


def scale_together(pictures: Tensor | list[Any]) -> Scale:
    """Return the scale of all floats in memory among pictures together; nothing where there are none."""
    if isinstance(pictures, Tensor):
        return scale_of(pictures) if pictures.is_floating_point() and pictures.numel() else ""
    return widest(scale_of(pixels) for pixels in _floats(pictures).values())


def of_one_scale(pictures: Tensor | list[Any]) -> Any:
    """Return pictures of which ``load_image`` takes none for one of 0..1 where all together are of 0..255.

    Those that have fractions and end at 1 may be of another scale than the others: a warning names them.
    """
    if scale_together(pictures) != "0..255":
        return pictures
    dark = {row: pixels for row, pixels in _floats(pictures).items() if scale_of(pixels) == "0..1"}
    doubtful = [row for row, pixels in dark.items() if bool((pixels != pixels.round()).any())]
    if doubtful:
        warnings.warn(
            f"{len(doubtful)} of the {len(pictures)} pictures are floats of 0..1, and others of 0..255: one call has "
            f"one scale, so that these are taken for almost black ones: {few(map(str, doubtful))}. Multiply them by "
            "255, or give them in a call of their own",
            DataWarning,
            4,
        )
    if isinstance(pictures, Tensor):
        return pictures
    drawn = {row: pixels for row, pixels in dark.items() if pixels.ndim == 2 or channels_last(pixels.shape)}
    return [as_uint8(drawn[row], "0..255") if row in drawn else item for row, item in enumerate(pictures)]


def _floats(pictures: Tensor | list[Any]) -> dict[int, Tensor]:
    """Return those pictures that are floats in memory, by row."""
    if isinstance(pictures, Tensor):
        return dict(enumerate(pictures))
    found = {
        row: item if isinstance(item, Tensor) else tensor_of(item)
        for row, item in enumerate(pictures)
        if isinstance(item, Tensor) or (isinstance(item, np.ndarray) and item.dtype.kind == "f")
    }
    return {row: pixels for row, pixels in found.items() if pixels.is_floating_point() and pixels.numel()}


class PixelValues(TiledValues):
    """How the numbers of pictures are taken, in memory or loaded, by a network that begins with a 2-D convolution.

    Floats of one call have one scale, 0..1 or 0..255; whole numbers and truth values are bytes.
    """

    bytes_are = "uint8 pictures"
    ranged = True
    axes = 3

    def __init__(self, modality: Modality, network: Sighted) -> None:
        super().__init__(modality, network)
        self.called = "pictures"
        self._by_value = modality.by_value

    def listed(self, inputs: Any) -> Any:
        """Return a tensor ``[N, C, H, W]`` or a list of pictures, whatever their axes were."""
        found, channels = super().listed(inputs), self.network.in_channels
        if isinstance(found, Tensor) and channels is not None:
            found = separated(found, channels)
        return of_one_scale(found) if isinstance(found, Tensor) or self._by_value else found

    def loaded(self, part: Any) -> Any:
        """Return pictures with whole numbers as bytes."""
        return whole_numbers(part) if isinstance(part, Tensor) else part

    def scale(self, inputs: Any, some: Any) -> Scale:
        """Return the scale of examples that a model is to learn from; see ``Modality.makes_bytes``."""
        scale = super().scale(inputs, self.loaded(some))
        scale = scale if scale == "uint8" else widest((scale, scale_together(inputs) if self._by_value else ""))
        return "uint8" if self.modality.makes_bytes and scale in ("0..1", "0..255") else scale

    def scale_of_call(self, inputs: Any, parts: Sequence[Callable[[], Any]], taught: str) -> Scale:
        """Return the scale of all floats of a call together; nothing where none can differ from the others."""
        if isinstance(inputs, Tensor) or self._by_value:
            return scale_together(inputs)
        if len(parts) == 1 or taught not in ("uint8", "0..255"):
            return ""
        return widest(super(PixelValues, self).scale(inputs, part()) for part in parts)  # which are read twice

    def caution(self, train: Tensor) -> str:
        """Say of floats that skip a normalisation, or are of 0..255, what they are, and what helps."""
        made_by, mean = self.network.made_by, self.network.mean
        if train.ndim not in (4, 5) or made_by is None or train.shape[1] not in (1, 3):
            return ""
        scale = scale_of(train)
        if scale == "0..1" and mean is not None:
            rounded = [round(value, 3) for value in mean.flatten().tolist()]
            return (
                f"{self.called} are floats of 0..1, which are fed as they are, and the backbone '{made_by[0]}' was "
                f"made for normalised ones: give uint8 {self.called}, which it normalises, or normalise these by its "
                f"mean {rounded} and deviation"
            )
        if scale == "0..255":
            return (
                f"{self.called} are floats up to {float(train.max()):.4g}, which are fed as they are: give uint8 "
                f"{self.called}, which are scaled, or divide by 255"
            )
        return ""

    def show(self, item: Any, example: Any) -> bytes:
        """Return a small JPEG, also of pictures that were handed over as tensors."""
        return thumbnail_of(example)


def by_network(modality: Modality, encoder: Sighted) -> Values:
    """Return how numbers are taken by a network: as those of pictures where it begins with a 2-D convolution."""
    return (PixelValues if encoder.planar else Values)(modality, encoder)
