"""The demo of sounds."""

from __future__ import annotations

from quickstudy.audio.nets import BandStatistics
from quickstudy.audio.tasks import AudioClassificationData, AudioClassifier
from quickstudy.training.demonstration import Act

ACT = Act(
    dataset="timbres",
    about="Timbres: notes of instruments that do not exist, of any pitch and loudness",
    classes="instruments",
    examples="sounds",
    unseen="instruments",
    data=AudioClassificationData,
    task=AudioClassifier,
    backbone="audio_conv4",
    options={"hidden": 32},
    network="Conv4 of 32 filters on spectra",
    plan={"ways": 10, "queries": 3, "test_queries": 5},
    rate=2e-3,
    epochs=3,
    plain="statistics of their spectra",
    baseline=BandStatistics,
    label=lambda name: name.split()[-1],
)
