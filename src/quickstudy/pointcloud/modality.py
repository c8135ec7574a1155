"""What a point cloud is: from a file, or points in memory, to as many points as a network is shown.

Shapes: P points, F features beside x, y, z.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quickstudy.batches import Batch, in_windows, is_batch, windows_of
from quickstudy.data.likeness import digest
from quickstudy.data.samples import Loaded, Sent, content_of, file_content, in_turn, named, of_samples
from quickstudy.data.table import Inputs
from quickstudy.errors import ConfigError, DataError, brief, check_above_zero, check_counts, given
from quickstudy.modality import MODALITIES, Modality, Wire
from quickstudy.modality.thumbnails import LARGE_TILE, strip_of
from quickstudy.modality.values import Sighted, Tile, Values
from quickstudy.pointcloud.drawing import three_views
from quickstudy.pointcloud.files import EXTENSIONS, FAR, Scan, check_count, of_rows, read
from quickstudy.pointcloud.tiles import in_tiles

POINTS = 1024
"""Of a cloud, where nobody says otherwise."""
MAX_POINTS = 5_000_000
"""A cloud of more is refused."""
_LEAST = 3
"""Points of a cloud."""
_MEDIA = ("model/obj", "model/stl", "model/ply", "model/off", "application/octet-stream", "text/plain")
_ROUNDED = 1e-4
"""Of a cloud's spread, what rounding may move its points by."""
_LOOKED_AT = 8
"""Clouds of a data set at most, from which it is learned whether points have features."""
_SKETCHED = 4
"""Decimals of what two clouds are compared by."""


@MODALITIES.register("pointcloud")
@dataclass(frozen=True)
class Cloud(Modality):
    """A point cloud as ``{"points": float32 [P, 3 + F], "mask": bool [P]}``, x, y, z first.

    It is read from PLY, PCD, XYZ and other text, NPZ, NPY and KITTI's .bin; and from meshes in OFF, OBJ, PLY and STL,
    by points that are drawn evenly on their surface. In memory a cloud is an array ``[P, 3 + F]``, rows of numbers, or
    a mesh of trimesh. What is drawn is the same each time.

    Args:
        points: of a cloud at most, and of a mesh's surface as many. None: all, and as many as 1,024 of a surface.
        drawn: of these, how many training is shown, others each time; in evaluation it is all of them. None: all.
        channels: F, numbers of each point beside x, y, z, which all clouds must have: of files that name them red,
            green and blue (0..1) and intensity, those that are there; else columns behind the third. A surface has
            none. 0: none is read. None: learned, as the first training cloud has.
        normalize: whether each cloud is moved so that its points' mean lies in 0, and scaled such that the farthest is
            1 from there. A scene, whose size tells something, is better read without.
        surface: whether points are drawn on the surface of a mesh, in place of its corners.
        max_points: a cloud of more is refused.
        tile: of a scene that is too large to be shown at once, the side of square tiles, in its own units: all of its
            points are read, in two grids of tiles that are half a tile apart. Training is shown one of them, others
            each time, and in evaluation the answers of all are joined. It is for tasks that answer each point.
        tile_points: of a tile that are shown at once at most; of one with more, some after others.

    Raises:
        ConfigError: an option is out of range.
    """

    called = "point clouds"
    extensions = EXTENSIONS
    learned = ("channels",)
    of_elements = ("tile", "tile_points")
    wire = Wire(
        "clouds",
        _MEDIA,
        {
            "oneOf": [
                {"type": "array", "items": {"type": "array", "items": {"type": "number"}, "minItems": 3}},
                {"type": "string", "contentEncoding": "base64"},
            ]
        },
    )
    shown_as = "image/png"
    backbone = "pointnet"
    views = "cloud_views"
    points: int | None = POINTS
    drawn: int | None = None
    channels: int | None = None
    normalize: bool = True
    surface: bool = True
    max_points: int = MAX_POINTS
    tile: float | None = None
    tile_points: int = 4096

    def __post_init__(self) -> None:
        check_counts(_LEAST, tile_points=self.tile_points)
        check_above_zero(**given(tile=self.tile))
        check_counts(_LEAST, max_points=self.max_points, **given(points=self.points, drawn=self.drawn))
        check_counts(0, **given(channels=self.channels))
        if self.drawn is not None and self.points is not None and self.drawn > self.points:
            raise ConfigError(f"drawn={self.drawn}: of the {self.points} points that are read so many cannot be drawn")

    # ---- reading

    def load(self, item: Any) -> Batch:
        """Return the points of a file, as a path, bytes, a file of an archive; or of what is in memory.

        Raises:
            DataError: it cannot be read, has too few points, too many, or some that are no numbers, or other features.
        """
        if self.tile is not None:
            scan = self.scan(item)
            whole = replace(self, normalize=False, surface=False, points=None, drawn=None)
            return in_tiles(scan.points, whole.sampled(scan)[0][:, 3:], self.tile, self.tile_points, scan.name)
        points, _ = self.sampled(self.scan(item))
        return {"points": torch.from_numpy(points), "mask": torch.ones(len(points), dtype=torch.bool)}

    def scan(self, item: Any) -> Scan:
        """Return all that a file, or what is in memory, says of a cloud, before points are drawn from it.

        Raises:
            DataError: it cannot be read, has too few points, too many, or some that are no numbers.
        """
        scan = self._opened(item)
        name, points = scan.name, scan.points
        check_count(len(points), name, self.max_points)
        if not np.isfinite(points).all():
            wrong = np.flatnonzero(~np.isfinite(points).all(1))
            raise DataError(
                f"{name} has {len(wrong)} points that are no finite numbers, the first in row {wrong[0]}: remove them, "
                "points[numpy.isfinite(points).all(1)]"
            )
        if len(points) < _LEAST:
            raise DataError(f"{name} has {len(points)} points; a cloud has {_LEAST} at least. Leave it out")
        if (largest := float(np.abs(points).max())) >= FAR:
            raise DataError(
                f"{name} has a coordinate of {largest:.3g}, where {FAR:.0e} is no place that was measured: remove such "
                "points, or leave it out"
            )
        if self.normalize and (points == points[0]).all():
            raise DataError(
                f"{name} has {len(points)} points, all in one place. Leave it out", ", or set normalize=False"
            )
        return scan

    def sampled(self, scan: Scan) -> tuple[NDArray[np.float32], NDArray[np.int64] | None]:
        """Return the points ``[P, 3 + F]`` that are shown of a scan, and which of its points they are.

        Args:
            scan: of ``scan``.

        Returns:
            The second, ``[P]``, is None where points were drawn on a surface.

        Raises:
            DataError: it has no surface, or not as many features as it must.
        """
        rows: NDArray[np.int64] | None = None
        if scan.faces is not None and self.surface:
            xyz = _on_surface(scan, self.points or POINTS)
            further = self._checked(scan.name, np.empty((len(xyz), 0)), ())
        else:
            rows = chosen(len(scan.points), self.points)
            xyz, names = scan.points[rows], scan.feature_names
            columns = [scan.columns[one][rows] for one in names]
            further = np.stack(columns, 1).astype(np.float64) if columns else np.empty((len(xyz), 0))
            further = self._checked(scan.name, further, names)
        if self.normalize:
            xyz = xyz - xyz.mean(0)
            if not (reach := np.sqrt(np.square(xyz).sum(1).max())) > 0:
                raise DataError(
                    f"{scan.name} has {len(scan.points)} points, and the {len(xyz)} that are read of them are all in "
                    "one place: leave out what was not measured, points[points.any(1)]",
                    ", or set points= higher",
                )
            xyz = xyz / reach
        elif self.tile is None:
            _check_told_apart(xyz, scan.name)
        return np.concatenate([xyz, further], 1).astype(np.float32), rows

    def _checked(self, name: str, further: NDArray[np.float64], names: Sequence[str]) -> NDArray[np.float64]:
        """Return as many features as there must be."""
        wanted, there = self.channels, len(names)
        if wanted is not None and wanted not in (0, there):
            told = f" ({', '.join(names)})" if there and not names[0].isdecimal() else ""
            raise DataError(
                f"{name} has {there} numbers of each point beside x, y, z{told}, and {wanted} are wanted: all clouds "
                "must have as many",
                ". Set channels=0 of the data to read x, y, z alone",
            )
        further = further[:, : there if wanted is None else wanted]
        if not np.isfinite(further).all():
            raise DataError(
                f"{name} has features that are no finite numbers: mend it", ", or set channels=0 of the data"
            )
        return further

    def _opened(self, item: Any) -> Scan:
        if isinstance(item, bytearray | memoryview) or (hasattr(item, "read") and not hasattr(item, "read_bytes")):
            item = content_of(item)
        if isinstance(item, Mapping):
            raise DataError(
                f"one cloud is its points alone, an array [P, 3] or rows of x, y, z, and not a mapping, {brief(item)}: "
                "give its 'points'"
            )
        if hasattr(item, "vertices"):  # of trimesh
            faces = np.asarray(getattr(item, "faces", np.empty((0, 3))), np.int64)
            scan = of_rows(np.asarray(item.vertices), f"a {type(item).__name__} in memory")
            return scan._replace(faces=faces if hasattr(item, "faces") else None)
        if isinstance(item, list | tuple):
            item = _array_of(item)
        if isinstance(item, Tensor):
            item = item.detach().cpu().numpy()
        if isinstance(item, np.ndarray):
            return of_rows(item, f"a cloud of shape {tuple(item.shape)}")
        name = f"the cloud of {len(item)} bytes" if isinstance(item, bytes) else named(item)
        content = file_content(item, name, "a point cloud: a path, bytes, or points [P, 3] and more columns")
        ending = "" if isinstance(item, bytes) else Path(str(item)).suffix.lower()
        return read(content, name, ending, self.max_points)

    def listed(self, inputs: Any) -> Any:
        """Return clouds as a list: a file, an array ``[P, 3 + F]`` or a mesh alone is one, ``[N, P, 3 + F]`` are N.

        Dicts of tensors are a batch, which is fed as it is.
        """
        if isinstance(inputs, Tensor | np.ndarray) and inputs.dtype != object:
            return [inputs] if inputs.ndim == 2 else list(inputs)
        if hasattr(inputs, "vertices") or (isinstance(inputs, Mapping) and not is_batch(inputs)):
            return [inputs]
        return super().listed(inputs)

    def column(self, values: Sequence[Any], root: str | os.PathLike[str] | None = None, exist: bool = True) -> Inputs:
        """Return the files that cells name; or the cells, where they hold clouds themselves."""
        names = any(isinstance(value, str | os.PathLike) for value in values)
        return super().column(values, root, exist) if names else list(values)

    # ---- learning

    def fitted(self, inputs: Inputs) -> Self:
        """Return it with the number of features that the first cloud has, where it is to be learned.

        Where that is none, a few others are read, too, as those of others would be left out from then on.

        Raises:
            DataError: the first has none, and another has some.
        """
        if self.channels is not None or not len(inputs):
            return self
        channels = self._features(inputs[0])
        for row in (
            np.unique(np.linspace(0, len(inputs) - 1, _LOOKED_AT).astype(int))[1:].tolist() if not channels else ()
        ):
            if there := self._features(inputs[row]):
                raise DataError(
                    f"the first cloud has no numbers beside x, y, z, and number {row + 1} has {there} of each point: "
                    "all must have as many. Set channels=0 of the data to read x, y, z alone"
                )
        return replace(self, channels=channels)

    def _features(self, item: Any) -> int:
        """Return how many numbers a cloud has of each point beside x, y, z."""
        read = item.example if isinstance(item, Loaded) else self.load(item)
        points = read["windows" if in_windows(read) else "points"]
        points = points["points"] if isinstance(points, dict) else points
        return int(points.shape[-1]) - 3

    def draws(self) -> Callable[[Batch], Batch] | None:
        """Return what draws a tile of a scene in tiles, and some of the points."""
        some = None if self.drawn is None else of_samples(partial(thinned, count=self.drawn))
        return in_turn(None if self.tile is None else of_samples(one_tile), some)

    def for_backbone(self) -> dict[str, Any]:
        """Return how many features a network is shown."""
        return {} if self.channels is None else {"channels": self.channels}

    # ---- showing, sending

    def show(self, item: Any, example: Batch) -> bytes:
        """Return it from three sides as a small PNG: from the front, from the right, from above; with its boxes."""
        if in_windows(example):  # of a scene in tiles the first
            example = windows_of(example)[0]
        there, labels = example["mask"], example.get("labels")
        return three_views(example["points"][there], None if labels is None else labels[there], example.get("boxes"))

    def sketch(self, item: Any) -> bytes | Tensor:
        """Return what a cloud has in common with copies that were moved or scaled, or have another order of points."""
        if is_batch(item):
            return super().sketch(item)
        points = self.scan(item).points
        off = points - points.mean(0)
        scale = np.sqrt(np.square(off).sum(1).max()) or 1.0
        far = np.sort(np.sqrt(np.square(off).sum(1)) / scale)
        axes = np.sort(off / scale, 0)
        told = np.concatenate([far[:, None], axes], 1)[:: max(len(points) // POINTS, 1)]
        return digest(str(len(points)).encode(), (told.round(_SKETCHED) + 0.0).tobytes())

    def from_wire(self, content: Any, name: str = "") -> Any:
        """Return what reads like a file of that name; or rows of numbers, as JSON has them; a text is no path."""
        return Sent(content, name) if isinstance(content, bytes | str) else content

    def raw(self) -> tuple[nn.Module, Self]:
        """Return the histogram of distances between points, Osada et al. 2002, of as many points as here."""
        from quickstudy.pointcloud.nets import DistanceHistogram

        return DistanceHistogram(), replace(self, channels=0)

    def within(self, most: int) -> Self:
        """Return it with a limit on the points of a cloud: a 25th of that, and less where a network is shown all."""
        most //= 250 if self.points is None else 25
        return replace(self, max_points=max(min(self.max_points, most), _LEAST))

    def made_up(self, count: int, generator: torch.Generator, like: Batch | None = None) -> Batch:
        """Return points that are spread evenly."""
        points = (self.points or POINTS) if like is None else like["points"].shape[1]
        wide = 3 + (self.channels or 0) if like is None else like["points"].shape[2]
        drawn = 2 * torch.rand(count, points, wide, generator=generator) - 1
        return {"points": drawn, "mask": torch.ones(count, points, dtype=torch.bool)}

    def free_axes(self) -> dict[str, dict[int, str]]:
        """Return that a cloud has any number of points."""
        return {"points": {1: "P"}, "mask": {1: "P"}}

    def recipe(self) -> dict[str, Any]:
        """Return how many points of what numbers there are, and how they are scaled."""
        return {"points": self.points, "numbers": 3 + (self.channels or 0), "normalize": self.normalize}

    def values(self, encoder: Sighted) -> Values:
        """Return how they are taken: as they are."""
        return CloudValues(self, encoder)


class CloudValues(Values):
    """Points as they are."""

    def beside(self, tiles: Sequence[Tile]) -> Any:
        """Return a strip of clouds with their captions."""
        return strip_of(tiles, LARGE_TILE)


def chosen(count: int, most: int | None, seed: int = 0) -> NDArray[np.int64]:
    """Return which of ``count`` points are read where at most so many are, the same each time.

    They come in an order of chance, so that the first of them are some of all of it.

    Args:
        count: P.
        most: None: all, in their own order.
        seed: of the choice.
    """
    return np.arange(count) if most is None else np.random.default_rng(seed).permutation(count)[:most]


def drawn_from(example: Batch, count: int) -> Batch:
    """Return so many of the points of an example by torch's generator, with all that is told of each.

    Args:
        example: a dict whose leaves are ``[P, ...]``; those that have another length stay as they are.
        count: of points; where there are fewer, all.
    """
    mask = example["mask"]
    there = mask.nonzero()[:, 0]
    if len(there) <= count:
        return example
    rows = there[torch.randperm(len(there))[:count]]
    return {name: leaf[rows] if len(leaf) == len(mask) else leaf for name, leaf in example.items()}


def thinned(sample: Batch, count: int) -> Batch:
    """Return a sample ``{"input": ..., "target": ...}`` with so many of its points, and what its target tells of them.

    Args:
        sample: with a target or without.
        count: of points; where there are fewer, all.
    """
    cloud = sample["input"]
    some = drawn_from({**cloud, "row": torch.arange(len(cloud["mask"]))}, count)
    return of_points(sample, some.pop("row"), some)


def of_points(sample: Batch, rows: Tensor, cloud: Batch) -> Batch:
    """Return a sample of some points.

    Args:
        sample: ``{"input": ..., "target": ...}``, or without a target.
        rows: which of its points these are.
        cloud: the input of them.
    """
    target, count = sample.get("target"), len(sample["input"]["mask"])
    if isinstance(target, Tensor):
        return {**sample, "input": cloud, "target": target[rows]}
    if target is None or "labels" not in target or "boxes" in target:
        return {**sample, "input": cloud}
    kept = {name: leaf[rows] if len(leaf) == count else leaf for name, leaf in target.items()}
    return {**sample, "input": cloud, "target": kept}


def one_tile(sample: Batch) -> Batch:
    """Return a sample of one tile of a scene in tiles, by torch's generator."""
    scene = sample["input"]
    tiles = scene["windows"]
    place = int(torch.randint(len(tiles["mask"]), ()))
    there = tiles["mask"][place]
    points = tiles["points"][place][there]
    mask = torch.ones(len(points), dtype=torch.bool)
    return of_points(sample, scene["places"][place][there], {"points": points, "mask": mask})


def _check_told_apart(xyz: NDArray[np.float64], name: str) -> None:
    """Raise an error where points lie so far from 0 that float32 moves them by more than a little of their spread."""
    step = float(np.spacing(np.float32(np.abs(xyz).max())))
    spread = float(np.ptp(xyz, axis=0).max())
    if step > _ROUNDED * spread > 0:
        raise DataError(
            f"{name} is {spread:.3g} wide, and so far from 0 that its points would be rounded to {step:.2g}: take one "
            "place away from all points, and from the middles of boxes, points - points.min(0).round()"
        )


def _array_of(rows: Sequence[Any]) -> NDArray[Any]:
    try:
        found = np.asarray(rows, np.float64)
    except (TypeError, ValueError):
        found = np.empty(0)
    if found.ndim != 2:
        raise DataError(f"expected points, rows of x, y, z and as many features each, not {brief(rows)}")
    return found


def _on_surface(scan: Scan, count: int) -> NDArray[np.float64]:
    """Return points that are spread evenly on the triangles of a mesh, ``[count, 3]``."""
    assert scan.faces is not None
    if not len(scan.faces):
        raise DataError(
            f"{scan.name} is a mesh without faces, which has no surface: leave it out, or save its corners as points, "
            "rows of x y z in a .xyz file",
            ", or set surface=False of the data to read them so",
        )
    first, second, third = (scan.points[scan.faces[:, corner]] for corner in range(3))
    side, other_side = second - first, third - first
    areas = np.sqrt(np.square(np.cross(side, other_side)).sum(1))
    if not areas.sum() > 0:
        raise DataError(
            f"{scan.name} is a mesh whose faces have no area: leave it out", ", or set surface=False of the data"
        )
    generator = np.random.default_rng(0)
    ends = np.cumsum(areas)
    drawn = np.searchsorted(ends, generator.random(count) * ends[-1], side="right").clip(max=len(areas) - 1)
    one, other = generator.random((2, count, 1))
    beyond = one + other > 1  # the other half of the parallelogram
    one, other = np.where(beyond, 1 - one, one), np.where(beyond, 1 - other, other)
    points: NDArray[np.float64] = first[drawn] + one * side[drawn] + other * other_side[drawn]
    return points
