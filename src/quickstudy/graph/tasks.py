"""Tasks of graphs, and their data: classification, regression, embedding."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any, Self

from quickstudy.data.places import Source
from quickstudy.data.sources import listed_table
from quickstudy.data.stages import STAGES, Stage, door
from quickstudy.data.table import Table
from quickstudy.errors import DataError, few, given, shown
from quickstudy.graph.modality import Graphs
from quickstudy.graph.reading import graph_of
from quickstudy.graph.tables import column_in, columns, graphs_of_tables
from quickstudy.graph.tu import tu_folders, tu_graphs, tu_source
from quickstudy.kinds.embedding import Embedding
from quickstudy.kinds.regression import Regression
from quickstudy.training.datamodule import DataModule
from quickstudy.training.task import Classifier, Embedder, Regressor

Path = str | os.PathLike[str]


class GraphData(DataModule):
    """Graphs; see ``DataModule`` for the doors and ``DataOptions`` for the other options.

    Args:
        train, val, test, predict: the examples of each stage; the ``from_*`` doors make them.
        directed: whether an edge goes one way. Default: as the model's training data, else both ways, see ``Graphs``.
        max_nodes: a graph that has more is refused. Default: 200,000.
        walks: how long the random walks are whose chances to come back nodes are told, see ``Graphs``. Default: as the
            model's training data, else 0, none.
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
        walks: int | None = None,
        **options: Any,
    ) -> None:
        options |= given(directed=directed, max_nodes=max_nodes, walks=walks)
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
        return listed_table(cls.modality.listed(graphs), targets, list, skip=stage.skip, encode=cls.encode)

    @door
    def from_tu(cls, stage: Stage, folder: Path, classes: Sequence[Any] | None = None) -> Table:
        """Read folders of the TU collection, ``NAME_A.txt`` and what stands beside it, or zip or tar archives of them.

        ``from_folders`` reads them, too; here a stage may have some of the classes alone, of one folder.

        Args:
            folder, classes: ``MUTAG/`` or ``data.zip/MUTAG``, and the labels that are read, default: all; per stage.
            options: see the class.

        Raises:
            DataError: it is no such folder, a file of it is malformed, or there is no graph of a class.
        """
        source = tu_source(folder)
        if source is None:
            raise DataError(
                f"'{folder}' is no folder of the TU collection: it has no file, or several, like MUTAG_A.txt"
            )
        return cls._of_tu(source, stage.name != "predict", classes)

    @classmethod
    def folder_table(cls, path: Path, labelled: bool) -> Table:
        """Return the examples in a folder: in class folders; or in one of the TU collection."""
        source = tu_source(path)
        if source is not None:
            return cls._of_tu(source, labelled)
        if found := tu_folders(path):
            raise DataError(
                f"'{path}' holds folders of the TU collection, {shown(found)}, and no classes: give one of them, "
                f"'{path}/{found[0]}'"
            )
        return super().folder_table(path, labelled)

    @classmethod
    def _of_tu(cls, source: Source, labelled: bool, classes: Sequence[Any] | None = None) -> Table:
        graphs, targets = tu_graphs(source, labelled and issubclass(cls.answers, Regression))
        if classes is not None:
            wanted = set(map(str, classes))
            if lacking := wanted - set(map(str, targets)):
                raise DataError(
                    f"'{source}' has no graph of class {few(sorted(lacking))}; it has {shown(sorted(set(targets)))}"
                )
            pairs = [pair for pair in zip(graphs, targets, strict=True) if str(pair[1]) in wanted]
            graphs, targets = [graph for graph, _ in pairs], [target for _, target in pairs]
        return listed_table(graphs, targets if labelled else None, list, encode=cls.encode)

    @classmethod
    def from_datasets(cls, *datasets: Any, **options: Any) -> Self:
        """Use torch data sets; of PyTorch Geometric's, whose graphs have their labels in ``y``, too.

        See ``DataModule.from_datasets`` for the arguments.
        """
        stages = {f"{stage}_dataset" for stage in STAGES}
        options = {key: _with_targets(value) if key in stages else value for key, value in options.items()}
        return super().from_datasets(*map(_with_targets, datasets), **options)

    @partial(door, shared_last=True)
    def from_tables(
        cls,  # noqa: N805
        stage: Stage,
        edges: Any,
        graphs: Any,
        nodes: Any = None,
        *,
        target_fields: str = "label",
        graph_field: str = "graph",
        node_field: str = "node",
        source_field: str = "source",
        destination_field: str = "target",
    ) -> Table:
        """Read tables of edges, of graphs and of nodes: frames of pandas, or files, CSV, JSON or Parquet.

        Further columns of edges and of nodes are their attributes, of numbers or of words.

        Args:
            edges, graphs: per stage, a row for each edge: its graph, and the two nodes that it joins; and a row for
                each graph: its name, and its label. Those to predict have no table of graphs.
            nodes: per stage, a row for each node: its graph, and its name in the table of edges, which may be the same
                in two graphs. Without it, nodes are those that edges join.
            target_fields: the column of the labels.
            graph_field: the column of graphs, in all tables.
            node_field: that of nodes.
            source_field, destination_field: those of the two nodes of an edge.
            options: see the class.

        Raises:
            DataError: a column is missing, an edge or a node is of no graph that has a label, or see ``Graphs``.
        """
        fields = graph_field, node_field, source_field, destination_field
        read = graphs_of_tables(columns(edges), None if nodes is None else columns(nodes), *fields)
        if graphs is None:
            return Table(list(read.values()))
        labels = columns(graphs, target_fields)
        names, targets = (column_in(labels, field, "graphs").tolist() for field in (graph_field, target_fields))
        if lacking := [name for name in read if name not in set(map(str, names))]:
            raise DataError(f"the table of graphs has no row of {few(lacking)}, which other tables have")
        found = [read.get(str(name)) or graph_of({"nodes": 0, "edges": []}, f"graph '{name}'") for name in names]
        return listed_table(found, targets, list, skip=stage.skip, encode=cls.encode)


class _WithTargets:
    """A data set of PyTorch Geometric as one of pairs."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> tuple[Any, Any]:
        graph = self.dataset[row]
        target = getattr(graph, "y", None)
        if target is None:
            return graph, None
        return graph, target.item() if target.numel() == 1 else target.flatten().tolist()


def _with_targets(dataset: Any) -> Any:
    """Return a data set as one of pairs, where its items are graphs of PyTorch Geometric."""
    one = hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__") and len(dataset)
    return _WithTargets(dataset) if one and hasattr(dataset[0], "edge_index") else dataset


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
