"""Sounds: classification, regression, embedding, what is said. Importing it loads nothing until a name is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quickstudy.domains import lazily

if TYPE_CHECKING:
    from quickstudy.audio.modality import Sound as Sound
    from quickstudy.audio.tasks import AudioClassificationData as AudioClassificationData
    from quickstudy.audio.tasks import AudioClassifier as AudioClassifier
    from quickstudy.audio.tasks import AudioEmbedder as AudioEmbedder
    from quickstudy.audio.tasks import AudioEmbeddingData as AudioEmbeddingData
    from quickstudy.audio.tasks import AudioRegressionData as AudioRegressionData
    from quickstudy.audio.tasks import AudioRegressor as AudioRegressor
    from quickstudy.audio.tasks import SpeechRecognition as SpeechRecognition
    from quickstudy.audio.tasks import SpeechRecognitionData as SpeechRecognitionData

__getattr__, __dir__, __all__ = lazily(
    __name__,
    {
        "AudioClassificationData": "tasks",
        "AudioClassifier": "tasks",
        "AudioEmbedder": "tasks",
        "AudioEmbeddingData": "tasks",
        "AudioRegressionData": "tasks",
        "AudioRegressor": "tasks",
        "Sound": "modality",
        "SpeechRecognition": "tasks",
        "SpeechRecognitionData": "tasks",
    },
)

TASKS = {
    "audio_classification": ("AudioClassifier", "AudioClassificationData"),
    "audio_embedding": ("AudioEmbedder", "AudioEmbeddingData"),
    "audio_regression": ("AudioRegressor", "AudioRegressionData"),
    "speech_recognition": ("SpeechRecognition", "SpeechRecognitionData"),
}
"""By name as commands know it, the class of a task and that of its data."""
