"""Batches of inputs: a tensor ``[N, ...]``, or a dict (of dicts) of them; the first axis counts the examples.

A bare tensor has one shape. The leaves of a dict may be longer or shorter from example to example: zeros fill them, and
a mask or a count among the leaves says where.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from quickstudy.errors import DataError
from quickstudy.torch_internals import tree_flatten, tree_leaves, tree_map, tree_unflatten

Batch = Any
"""``Tensor | dict[str, Batch]``"""


def is_batch(value: Any) -> bool:
    """Whether a value is a dict (of dicts) of tensors: inputs that were read, of whatever they are.

    >>> is_batch({"ids": torch.zeros(3, 7)}), is_batch({"age": 7}), is_batch({"nodes": []})
    (True, False, False)
    """
    leaves = tree_leaves(value) if isinstance(value, dict) else []
    return bool(leaves) and all(isinstance(leaf, Tensor) for leaf in leaves)


def size(batch: Batch) -> int:
    """Return how many examples there are.

    >>> size({"ids": torch.zeros(3, 7), "mask": torch.zeros(3, 7)})
    3
    """
    return len(tree_leaves(batch)[0])


def form_of(batch: Batch) -> dict[str, Any]:
    """Return in plain values the shape and the type of one example.

    >>> form_of({"ids": torch.zeros(3, 7)})
    {'parts': {'ids': {'shape': [7], 'dtype': 'torch.float32'}}}
    """
    if isinstance(batch, Tensor):
        return {"shape": list(batch.shape[1:]), "dtype": str(batch.dtype)}
    return {"parts": {name: form_of(part) for name, part in batch.items()}}


def of_form(form: Mapping[str, Any], count: int = 0) -> Batch:
    """Return examples of zeros of such a form.

    >>> of_form({"shape": [2], "dtype": "torch.uint8"}, 1)
    tensor([[0, 0]], dtype=torch.uint8)
    """
    if "parts" in form:
        return {name: of_form(part, count) for name, part in form["parts"].items()}
    return torch.zeros(count, *form["shape"], dtype=getattr(torch, form["dtype"].removeprefix("torch.")))


def group_of(example: Batch) -> Hashable:
    """Return what single examples have in common of which ``stack`` makes a batch.

    That is the shape of a tensor, and of a dict the names of its leaves and how many axes each has; and their types.

    >>> short, long = ({"ids": torch.zeros(length)} for length in (3, 7))
    >>> group_of(short) == group_of(long), group_of(short["ids"]) == group_of(long["ids"])
    (True, False)
    """
    if isinstance(example, Tensor):
        return example.shape, example.dtype
    return tuple(
        (name, group_of(part) if isinstance(part, dict) else (part.ndim, part.dtype)) for name, part in example.items()
    )


def device_of(batch: Batch) -> torch.device:
    """Return the device of the leaves."""
    device: torch.device = tree_leaves(batch)[0].device
    return device


def each(function: Callable[[Tensor], Any], batch: Batch) -> Batch:
    """Apply a function to every leaf."""
    return tree_map(function, batch)


def take(batch: Batch, rows: Any) -> Batch:
    """Return some examples: ``rows`` is what a tensor is indexed by, one number (one example, without its axis) too."""
    return tree_map(lambda leaf: leaf[rows], batch)


def fold(batch: Batch) -> Batch:
    """From ``[T, S, ...]`` to ``[T * S, ...]``."""
    return tree_map(lambda leaf: leaf.flatten(0, 1), batch)


def unfold(batch: Batch, *sizes: int) -> Batch:
    """From ``[T * S, ...]`` to ``[T, S, ...]``."""
    return tree_map(lambda leaf: leaf.view(*sizes, *leaf.shape[1:]), batch)


def in_windows(batch: Batch) -> bool:
    """Whether examples are in several windows each: ``{"windows": [N, W, ...]}``, and each window as one alone is."""
    return isinstance(batch, dict) and "windows" in batch


def windows_of(example: Batch) -> list[Batch]:
    """Return the windows of one example ``{"windows": [W, ...]}``."""
    windows = example["windows"]
    return [take(windows, place) for place in range(size(windows))]


def over_windows(embed: Callable[[Batch], Tensor], batch: Batch) -> Tensor:
    """Return what ``embed`` makes of examples ``[N, ...]``; of those in windows the mean over their windows.

    A window whose ``mask`` is all false fills up an example of fewer, and does not count.

    >>> over_windows(lambda batch: batch.float(), {"windows": torch.tensor([[[1], [3]]])})
    tensor([[2.]])
    """
    if not in_windows(batch):
        return embed(batch)
    windows = batch["windows"]
    sizes = tree_leaves(windows)[0].shape[:2]  # whose first may be any in a graph, where len() is a constant
    features: Tensor = unfold(embed(fold(windows)), *sizes)
    if not (isinstance(windows, dict) and "mask" in windows):
        return features.mean(1)
    there: Tensor = windows["mask"].flatten(2).any(2).view(*sizes, *(1,) * (features.ndim - 2))  # others fill up
    return features.where(there, 0).sum(1) / there.sum(1).clamp(min=1)


def join(batches: Iterable[Batch], axis: int = 0) -> Batch:
    """Put batches one after the other along an axis; those of dicts are filled up with zeros to the longest.

    >>> join([{"ids": torch.ones(1, 3)}, {"ids": torch.ones(1, 1)}])
    {'ids': tensor([[1., 1., 1.],
            [1., 0., 0.]])}

    Raises:
        DataError: they have other leaves.
    """
    return _combined(list(batches), partial(torch.cat, dim=axis), axis)


def stack(samples: Sequence[Batch]) -> Batch:
    """Make a batch of single examples, filled up likewise.

    Raises:
        DataError: they have other leaves, or leaves of another type or number of axes.
    """
    first, *others = [[(leaf.dtype, leaf.ndim) for leaf in tree_leaves(sample)] for sample in samples]
    for place, other in enumerate(others, 1):
        for (dtype, axes), (own, own_axes) in zip(first, other, strict=False):
            if (dtype, axes) != (own, own_axes):
                raise DataError(
                    f"example {place} has a part of {own_axes} axes ({own}) where the first has {axes} ({dtype}): "
                    "types and numbers of axes must agree, lengths need not"
                )
    return _combined(list(samples), torch.stack, None)


def _combined(trees: list[Batch], combine: Callable[[list[Tensor]], Tensor], along: int | None) -> Batch:
    if isinstance(trees[0], Tensor):
        return combine(trees)
    flat = [tree_flatten(tree) for tree in trees]
    spec = flat[0][1]
    for place, (_, other) in enumerate(flat):
        if other != spec:
            raise DataError(f"example {place} has the parts {other}, and the first {spec}: all must agree")
    columns = zip(*(leaves for leaves, _ in flat), strict=True)
    return tree_unflatten([combine(_padded(list(column), along)) for column in columns], spec)


def _padded(leaves: list[Tensor], along: int | None) -> list[Tensor]:
    """Return tensors filled up with zeros to one shape, but for the axis that they are joined along."""
    shapes = [list(leaf.shape) for leaf in leaves]
    if along is not None:
        for shape in shapes:
            shape[along] = 0
    most = [max(lengths) for lengths in zip(*shapes, strict=True)]
    if all(shape == most for shape in shapes):
        return leaves
    return [
        F.pad(leaf, [end for has, wants in zip(shape[::-1], most[::-1], strict=True) for end in (0, wants - has)])
        for leaf, shape in zip(leaves, shapes, strict=True)
    ]
