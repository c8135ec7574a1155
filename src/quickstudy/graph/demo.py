"""The demo of graphs."""

from __future__ import annotations

from quickstudy.graph.nets import DegreeHistogram
from quickstudy.graph.tasks import GraphClassificationData, GraphClassifier
from quickstudy.training.demonstration import Act

ACT = Act(
    dataset="families",
    about="Families: graphs of small parts, such as rings and stars, strung together by a rule",
    classes="rules",
    examples="graphs",
    unseen="rules",
    data=GraphClassificationData,
    task=GraphClassifier,
    backbone="gin",
    options={},
    network="a graph isomorphism network of 4 layers",
    plan={"ways": 15, "queries": 4, "test_queries": 5},
    rate=2e-3,
    epochs=4,
    plain="how many nodes have which degree",
    baseline=DegreeHistogram,
    asked=4,
)
