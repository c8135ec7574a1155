"""Tasks of graphs, and their data: classification, regression, embedding."""

from __future__ import annotations

from typing import Any

from quickstudy.data.sources import listed_table
from quickstudy.data.stages import Stage, door
from quickstudy.data.table import Table
from quickstudy.errors import given
from quickstudy.graph.modality import Graphs
from quickstudy.kinds.embedding import Embedding
from quickstudy.kinds.regression import Regression
from quickstudy.training.datamodule import DataModule
from quickstudy.training.task import Classifier, Embedder, Regressor


class GraphData(DataModule):
    """Graphs; see ``DataModule`` for the doors and ``DataOptions`` for the other options.

    Args:
        train, val, test, predict: the examples of each stage; the ``from_*`` doors make them.
        directed: whether an edge goes one way. Default: as the model's training data, else both ways, see ``Graphs``.
        max_nodes: a graph that has more is refused. Default: 200,000.
        options: see ``DataOptions``.
    """

    modality = Graphs()

    def __init__(
        self,
        train: Table | None = None,
        val: Table | None = None,
        test: Table | None = None,
        predict: Table | None = None,
        directed: bool | None = None,
        max_nodes: int | None = None,
        **options: Any,
    ) -> None:
        options |= given(directed=directed, max_nodes=max_nodes)
        super().__init__(train, val, test, predict, **options)

    @door
    def from_lists(cls, stage: Stage, graphs: Any, targets: Any) -> Table:
        """Take graphs from memory: of networkx, of PyTorch Geometric, or as ``{"nodes": ..., "edges": ...}``.

        Args:
            graphs, targets: graphs, see ``Graphs``, and as many targets, per stage.
            options: see the class.

        Raises:
            DataError: a graph is none, a target is missing, or there are more of the one than of the other.
        """
        return listed_table(cls.modality.listed(graphs), targets, list, skip=stage.skip, encode=cls.answers.encode)


class GraphClassificationData(GraphData):
    """Graphs with labels; see ``GraphData``."""


class GraphEmbeddingData(GraphData):
    """Graphs, with labels or without; see ``GraphData``.

    Its doors need no targets, and its folders no class folders. Labels are for judging, and for the default strategy.
    """

    answers = Embedding


class GraphRegressionData(GraphData):
    """Graphs with numbers, such as the solubility of a molecule; see ``GraphData``."""

    answers = Regression


class GraphClassifier(Classifier):
    """Classifies graphs; see ``Classifier`` for the arguments.

    The default backbone, ``"gin"``, starts from nothing, and is made once the attributes of nodes are known. Others are
    ``"gcn"``, ``"sage"`` and ``"gat"``.
    """

    modality = Graphs()


class GraphEmbedder(Embedder):
    """Embeds graphs; see ``Embedder`` for the arguments, and ``GraphClassifier`` for backbones."""

    modality = Graphs()


class GraphRegressor(Regressor):
    """Tells a number of each graph; see ``Regressor``, and ``GraphClassifier`` for backbones."""

    modality = Graphs()
