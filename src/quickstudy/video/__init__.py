"""Videos: classification, embedding. Importing it loads nothing until a name is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quickstudy.domains import lazily

if TYPE_CHECKING:
    from quickstudy.video.modality import Video as Video
    from quickstudy.video.tasks import VideoClassificationData as VideoClassificationData
    from quickstudy.video.tasks import VideoClassifier as VideoClassifier
    from quickstudy.video.tasks import VideoEmbedder as VideoEmbedder
    from quickstudy.video.tasks import VideoEmbeddingData as VideoEmbeddingData

__getattr__, __dir__, __all__ = lazily(
    __name__,
    {
        "Video": "modality",
        "VideoClassificationData": "tasks",
        "VideoClassifier": "tasks",
        "VideoEmbedder": "tasks",
        "VideoEmbeddingData": "tasks",
    },
)

TASKS = {
    "video_classification": ("VideoClassifier", "VideoClassificationData"),
    "video_embedding": ("VideoEmbedder", "VideoEmbeddingData"),
}
"""By name as commands know it, the class of a task and that of its data."""
