"""Point clouds: classification, embedding. Importing it loads nothing until a name is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quickstudy.domains import lazily

if TYPE_CHECKING:
    from quickstudy.pointcloud.modality import Cloud as Cloud
    from quickstudy.pointcloud.tasks import PointCloudClassificationData as PointCloudClassificationData
    from quickstudy.pointcloud.tasks import PointCloudClassifier as PointCloudClassifier
    from quickstudy.pointcloud.tasks import PointCloudEmbedder as PointCloudEmbedder
    from quickstudy.pointcloud.tasks import PointCloudEmbeddingData as PointCloudEmbeddingData
    from quickstudy.pointcloud.tasks import PointCloudObjectDetectionData as PointCloudObjectDetectionData
    from quickstudy.pointcloud.tasks import PointCloudObjectDetector as PointCloudObjectDetector
    from quickstudy.pointcloud.tasks import PointCloudSegmentation as PointCloudSegmentation
    from quickstudy.pointcloud.tasks import PointCloudSegmentationData as PointCloudSegmentationData

__getattr__, __dir__, __all__ = lazily(
    __name__,
    {
        "Cloud": "modality",
        "PointCloudClassificationData": "tasks",
        "PointCloudClassifier": "tasks",
        "PointCloudEmbedder": "tasks",
        "PointCloudEmbeddingData": "tasks",
        "PointCloudObjectDetectionData": "tasks",
        "PointCloudObjectDetector": "tasks",
        "PointCloudSegmentation": "tasks",
        "PointCloudSegmentationData": "tasks",
    },
)

TASKS = {
    "pointcloud_classification": ("PointCloudClassifier", "PointCloudClassificationData"),
    "pointcloud_embedding": ("PointCloudEmbedder", "PointCloudEmbeddingData"),
    "pointcloud_object_detection": ("PointCloudObjectDetector", "PointCloudObjectDetectionData"),
    "pointcloud_segmentation": ("PointCloudSegmentation", "PointCloudSegmentationData"),
}
"""By name as commands know it, the class of a task and that of its data."""
