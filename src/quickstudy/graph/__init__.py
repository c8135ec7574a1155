"""Graphs: classification, regression, embedding. Importing it loads nothing until a name is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quickstudy.domains import lazily

if TYPE_CHECKING:
    from quickstudy.graph.modality import Graphs as Graphs
    from quickstudy.graph.nets import MessagePassing as MessagePassing
    from quickstudy.graph.nets import packed as packed
    from quickstudy.graph.tasks import GraphClassificationData as GraphClassificationData
    from quickstudy.graph.tasks import GraphClassifier as GraphClassifier
    from quickstudy.graph.tasks import GraphEmbedder as GraphEmbedder
    from quickstudy.graph.tasks import GraphEmbeddingData as GraphEmbeddingData
    from quickstudy.graph.tasks import GraphRegressionData as GraphRegressionData
    from quickstudy.graph.tasks import GraphRegressor as GraphRegressor

__getattr__, __dir__, __all__ = lazily(
    __name__,
    {
        "GraphClassificationData": "tasks",
        "GraphClassifier": "tasks",
        "GraphEmbedder": "tasks",
        "GraphEmbeddingData": "tasks",
        "GraphRegressionData": "tasks",
        "GraphRegressor": "tasks",
        "Graphs": "modality",
        "MessagePassing": "nets",
        "packed": "nets",
    },
)

TASKS = {
    "graph_classification": ("GraphClassifier", "GraphClassificationData"),
    "graph_embedding": ("GraphEmbedder", "GraphEmbeddingData"),
    "graph_regression": ("GraphRegressor", "GraphRegressionData"),
}
"""By name as commands know it, the class of a task and that of its data."""
