"""Tasks of point clouds, and their data: classification, embedding, segmentation, boxes."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor

from quickstudy.data.annotations import Annotations, annotated
from quickstudy.data.sources import listed_table
from quickstudy.data.stages import Stage, door
from quickstudy.data.table import Table
from quickstudy.errors import given
from quickstudy.kinds.detection3d import Detection3d
from quickstudy.kinds.embedding import Embedding
from quickstudy.kinds.segmentation import Segmentation
from quickstudy.pointcloud.boxes import read_boxes, scenes_folder
from quickstudy.pointcloud.labels import labelled_folder, read_labels
from quickstudy.pointcloud.modality import Cloud
from quickstudy.training.datamodule import DataModule
from quickstudy.training.task import Classifier, Detector3d, Embedder, Segmenter, Task

_NO_TILES = "tiles are of tasks that answer each point, PointCloudSegmentationData: leave it out"
_ALL_POINTS = "points are read all, as each is answered; drawn= says how many a training step is shown"
_AS_MEASURED = "boxes are in the units of the points, which are read as they are: leave it out"


class PointCloudData(DataModule):
    """Point clouds; see ``DataModule`` for the doors and ``DataOptions`` for the other options.

    Args:
        train, val, test, predict: the examples of each stage; the ``from_*`` doors make them.
        points: of a cloud at most, and of a mesh's surface as many. Default: as the model's training data, else 1,024.
        drawn: of these, how many training is shown, others each time; default: all.
        channels: numbers of each point beside x, y, z; default: as the model's training data, else as the first cloud
            has.
        normalize: whether each cloud is moved to its centre and scaled to a ball of radius 1; default: yes.
        surface: whether points are drawn on the surface of a mesh, in place of its corners; default: yes.
        options: see ``DataOptions``.
    """

    modality = Cloud()
    fixed: ClassVar[Mapping[str, str]] = dict.fromkeys(Cloud.of_elements, _NO_TILES)

    def __init__(
        self,
        train: Table | None = None,
        val: Table | None = None,
        test: Table | None = None,
        predict: Table | None = None,
        points: int | None = None,
        drawn: int | None = None,
        channels: int | None = None,
        normalize: bool | None = None,
        surface: bool | None = None,
        **options: Any,
    ) -> None:
        options |= given(points=points, drawn=drawn, channels=channels, normalize=normalize, surface=surface)
        train, val, test, predict = map(_one_by_one, (train, val, test, predict))
        super().__init__(train, val, test, predict, **options)

    @door
    def from_arrays(cls, stage: Stage, arrays: Any, targets: Any) -> Table:
        """Take clouds from memory.

        Args:
            arrays, targets: points ``[P, 3 + F]`` each, of any number P, x, y, z first; or ``[N, P, 3 + F]``; and as
                many targets, per stage.
            options: see the class.

        Raises:
            DataError: a target is missing, or there are more of the one than of the other.
        """
        clouds = list(cls.modality.listed(arrays))
        return listed_table(clouds, targets, list, skip=stage.skip, encode=cls.encode)


def _one_by_one(table: Table | None) -> Table | None:
    """Return a table whose arrays ``[N, P, 3 + F]`` are clouds to be read."""
    if table is None or not isinstance(table.inputs, Tensor):
        return table
    return replace(table, inputs=list(table.inputs))


class PointCloudClassificationData(PointCloudData):
    """Point clouds with labels; see ``PointCloudData``."""


class PointCloudEmbeddingData(PointCloudData):
    """Point clouds, with labels or without; see ``PointCloudData``.

    Its doors need no targets, and its folders no class folders. Labels are for judging, and for the default strategy.
    """

    answers = Embedding


class PointCloudSegmentationData(PointCloudData):
    """Point clouds with a label of each point, such as the part it is of; see ``DataModule`` for the doors.

    Labels are whole numbers, in the order of the points: arrays; files, ``.label`` of SemanticKITTI (of whose numbers
    the lower 16 bits are the class), ``.npy``, ``.npz``, text; or a column of the clouds' own files, called ``label``,
    ``labels``, ``class``, ``classification``, ``segmentation`` or ``part`` in NPZ, PLY, PCD or text, and then no
    targets need be given. In folders ``scan.label`` is sought beside ``scan.bin``, or in ``labels/`` beside
    ``velodyne/``.

    All points are read, as all are answered; ``drawn`` says how many of them a training step is shown.

    Args:
        train, val, test, predict: the examples of each stage; the ``from_*`` doors make them.
        drawn: how many points of a cloud training is shown, others each time; default: all.
        channels: numbers of each point beside x, y, z; default: as the model's training data, else as the first cloud
            has.
        normalize: whether each cloud is moved to its centre and scaled to a ball of radius 1; default: yes.
        tile: the side of the tiles in which large scenes are shown, in their units; see ``Cloud``.
        tile_points: of a tile that are shown at once at most; default: 4,096.
        options: see ``DataOptions``.
    """

    modality = Cloud(points=None, surface=False)
    fixed: ClassVar[Mapping[str, str]] = {
        "points": _ALL_POINTS,
        "surface": "labels are of the points that a file has: leave it out",
    }
    answers = Segmentation
    holds_targets = True

    def __init__(
        self,
        train: Table | None = None,
        val: Table | None = None,
        test: Table | None = None,
        predict: Table | None = None,
        drawn: int | None = None,
        channels: int | None = None,
        normalize: bool | None = None,
        tile: float | None = None,
        tile_points: int | None = None,
        **options: Any,
    ) -> None:
        options |= given(drawn=drawn, channels=channels, normalize=normalize, tile=tile, tile_points=tile_points)
        train, val, test = map(self._with_labels, (train, val, test))
        super().__init__(train, val, test, predict, **options)

    @classmethod
    def encode(cls, targets: Any, names: Sequence[str] | None = None) -> Annotations:
        """Take labels from memory, or the files that hold them."""
        return annotated(targets, read_labels, names)

    @classmethod
    def annotated_folder(cls, path: str | os.PathLike[str], endings: Collection[str]) -> Table:
        """Return the clouds of a folder with the files of their labels, where there are such."""
        return labelled_folder(path, endings, cls.encode)

    @classmethod
    def _with_labels(cls, table: Table | None) -> Table | None:
        """Return a table without targets with those in the inputs' own files."""
        if table is None or table.annotations is not None or table.targets is not None:
            return table
        return replace(table, annotations=cls.encode(table.inputs))


class PointCloudObjectDetectionData(PointCloudData):
    """Scenes of points with boxes; see ``DataModule`` for the doors.

    Boxes are ``{"boxes": [M, 7], "labels": [M]}``, of x, y, z, length, width, height and yaw about z; or a list of
    ``{"center", "size", "yaw", "label"}``; or JSON files of these. A scene may have none. In folders
    ``scan.json`` is sought beside ``scan.ply``, or KITTI's ``label_2/`` and ``calib/`` beside ``velodyne/``.

    Args:
        train, val, test, predict: the examples of each stage; the ``from_*`` doors make them.
        drawn: how many points of a scene training is shown, others each time; default: all.
        channels: numbers of each point beside x, y, z; default: as the model's training data, else as the first cloud
            has.
        options: see ``DataOptions``.
    """

    modality = Cloud(points=None, normalize=False, surface=False)
    fixed: ClassVar[Mapping[str, str]] = {
        **PointCloudData.fixed,
        "points": _ALL_POINTS,
        "normalize": _AS_MEASURED,
        "surface": _AS_MEASURED,
    }
    answers = Detection3d

    def __init__(
        self,
        train: Table | None = None,
        val: Table | None = None,
        test: Table | None = None,
        predict: Table | None = None,
        drawn: int | None = None,
        channels: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(train, val, test, predict, drawn=drawn, channels=channels, **options)

    @classmethod
    def encode(cls, targets: Any, names: Sequence[str] | None = None) -> Annotations:
        """Take boxes from memory, or the files that hold them."""
        return replace(cls.answers.encode(targets, names), read=read_boxes)

    @classmethod
    def annotated_folder(cls, path: str | os.PathLike[str], endings: Collection[str]) -> Table:
        """Return the scenes of a folder with their boxes."""
        return scenes_folder(path, endings, cls.encode)


class PointCloudTask(Task):
    """A task of point clouds. The default backbone, ``"pointnet"``, starts from nothing."""

    modality = Cloud()


class PointCloudClassifier(Classifier, PointCloudTask):
    """Classifies point clouds; see ``Classifier`` for the arguments. The default backbone, ``"pointnet"``, starts anew.

    Further ones are ``"pointnet2"`` and ``"dgcnn"``, which look at the surroundings of points, and take longer.
    """


class PointCloudSegmentation(Segmenter, PointCloudTask):
    """Tells a class of each point, such as the part it is of; see ``Segmenter`` for the arguments.

    Backbones are those of ``PointCloudClassifier``. A scene that is too large is shown in tiles, ``tile`` of its data.
    """

    modality = Cloud(points=None, surface=False)


class PointCloudObjectDetector(Detector3d, PointCloudTask):
    """Finds boxes in scenes of points; see ``Detector3d`` for the arguments, ``PointCloudClassifier`` for backbones.

    The head gathers what the backbone tells of points in cells on the ground (PointPillars), and asks each cell.
    """

    modality = Cloud(points=None, normalize=False, surface=False)


class PointCloudEmbedder(Embedder, PointCloudTask):
    """Embeds point clouds; see ``Embedder`` for the arguments, and ``PointCloudClassifier`` for backbones."""
