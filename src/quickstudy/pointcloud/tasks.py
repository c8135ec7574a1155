"""Tasks of point clouds, and their data: classification, embedding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from quickstudy.data.sources import listed_table
from quickstudy.data.stages import Stage, door
from quickstudy.data.table import Table
from quickstudy.errors import given
from quickstudy.kinds.embedding import Embedding
from quickstudy.pointcloud.modality import Cloud
from quickstudy.training.datamodule import DataModule
from quickstudy.training.task import Classifier, Embedder, Task


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
        return listed_table(clouds, targets, list, skip=stage.skip, encode=cls.answers.encode)


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


class PointCloudTask(Task):
    """A task of point clouds. The default backbone, ``"pointnet"``, starts from nothing."""

    modality = Cloud()


class PointCloudClassifier(Classifier, PointCloudTask):
    """Classifies point clouds; see ``Classifier`` for the arguments. The default backbone, ``"pointnet"``, starts anew.

    Further ones are ``"pointnet2"`` and ``"dgcnn"``, which look at the surroundings of points, and take longer.
    """


class PointCloudEmbedder(Embedder, PointCloudTask):
    """Embeds point clouds; see ``Embedder`` for the arguments, and ``PointCloudClassifier`` for backbones."""
