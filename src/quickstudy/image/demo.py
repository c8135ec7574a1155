"""The demo of pictures."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from torch import nn

from quickstudy.image.tasks import ImageClassificationData, ImageClassifier
from quickstudy.training.demonstration import Act


def _georgian(names: Sequence[str]) -> list[int]:
    return [code for code, name in enumerate(names) if name.startswith("Georgian")][:40:8]


ACT = Act(
    dataset="glyphs",
    about="Glyphs: characters drawn in the typefaces that come with matplotlib",
    classes="characters",
    examples="images",
    unseen="scripts",
    data=ImageClassificationData,
    task=ImageClassifier,
    backbone="conv4",
    options={"in_channels": 1},
    network="Conv4 of 64 filters",
    plan={"ways": 30, "queries": 4, "test_queries": 3},
    rate=2e-3,
    epochs=8,
    plain="pixels",
    baseline=nn.Flatten,
    five=_georgian,
    label=lambda name: unicodedata.lookup(name.split("/", 1)[1]),
)
