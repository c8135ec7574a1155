"""The demo of videos."""

from __future__ import annotations

from torch import nn

from quickstudy.training.demonstration import Act
from quickstudy.video.tasks import VideoClassificationData, VideoClassifier

ACT = Act(
    dataset="motions",
    about="Motions: characters that move; which character it is, and where, tells nothing",
    classes="motions",
    examples="videos",
    unseen="motions",
    data=VideoClassificationData,
    task=VideoClassifier,
    backbone="c3d",
    options={"in_channels": 1},
    network="C3D of 16 to 64 filters",
    plan={"ways": 10, "queries": 2, "test_queries": 5},
    rate=2e-3,
    epochs=3,
    plain="pixels",
    baseline=nn.Flatten,
    five=lambda names: [0, 2, 4, 6, 8],
    asked=4,
)
