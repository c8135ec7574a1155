"""The demo of texts."""

from __future__ import annotations

from quickstudy.text.nets import TokenCounts
from quickstudy.text.tasks import TextClassificationData, TextClassifier
from quickstudy.training.demonstration import Act

ACT = Act(
    dataset="wishes",
    about="Wishes: what people ask of a help desk, by a grammar of 15 actions and 16 things in many words each",
    classes="kinds of wishes",
    examples="texts",
    unseen="pairs of an action and a thing",
    data=TextClassificationData,
    task=TextClassifier,
    backbone="small_transformer",
    options={"width": 64},
    network="a transformer of 2 layers, 64 wide",
    plan={"ways": 20, "queries": 4, "test_queries": 5},
    rate=2e-3,
    epochs=4,
    plain="words in common",
    baseline=TokenCounts,
    asked=3,
)
