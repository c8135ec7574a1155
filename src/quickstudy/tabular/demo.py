"""The demo of rows of tables."""

from __future__ import annotations

from quickstudy.tabular.tasks import TabularClassificationData, TabularClassifier
from quickstudy.training.demonstration import Act

ACT = Act(
    dataset="herbarium",
    about="Herbarium: plants that nobody has seen, by 13 columns of numbers, words and dates",
    classes="species",
    examples="plants",
    unseen="genera",
    data=TabularClassificationData,
    task=TabularClassifier,
    backbone="mlp",
    options={},
    network="a perceptron",
    plan={"ways": 20, "queries": 4, "test_queries": 5},
    rate=2e-3,
    epochs=4,
    plain="columns",
    baseline=lambda: "one_hot",
    asked=3,
)
