"""Images: classification, regression, embedding, objects, pixels. Importing it loads nothing until a name is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quickstudy.domains import lazily

if TYPE_CHECKING:
    from quickstudy.image.modality import Picture as Picture
    from quickstudy.image.modality import load_image as load_image
    from quickstudy.image.tasks import FaceDetectionData as FaceDetectionData
    from quickstudy.image.tasks import FaceDetector as FaceDetector
    from quickstudy.image.tasks import ImageClassificationData as ImageClassificationData
    from quickstudy.image.tasks import ImageClassifier as ImageClassifier
    from quickstudy.image.tasks import ImageEmbedder as ImageEmbedder
    from quickstudy.image.tasks import ImageEmbeddingData as ImageEmbeddingData
    from quickstudy.image.tasks import ImageRegressionData as ImageRegressionData
    from quickstudy.image.tasks import ImageRegressor as ImageRegressor
    from quickstudy.image.tasks import InstanceSegmentation as InstanceSegmentation
    from quickstudy.image.tasks import InstanceSegmentationData as InstanceSegmentationData
    from quickstudy.image.tasks import KeypointDetectionData as KeypointDetectionData
    from quickstudy.image.tasks import KeypointDetector as KeypointDetector
    from quickstudy.image.tasks import ObjectDetectionData as ObjectDetectionData
    from quickstudy.image.tasks import ObjectDetector as ObjectDetector
    from quickstudy.image.tasks import PoseEstimator as PoseEstimator
    from quickstudy.image.tasks import SemanticSegmentation as SemanticSegmentation
    from quickstudy.image.tasks import SemanticSegmentationData as SemanticSegmentationData
    from quickstudy.image.tasks import StyleTransfer as StyleTransfer
    from quickstudy.image.tasks import StyleTransferData as StyleTransferData
    from quickstudy.image.transforms import available_transforms as available_transforms

__getattr__, __dir__, __all__ = lazily(
    __name__,
    {
        "FaceDetectionData": "tasks",
        "FaceDetector": "tasks",
        "ImageClassificationData": "tasks",
        "ImageClassifier": "tasks",
        "ImageEmbedder": "tasks",
        "ImageEmbeddingData": "tasks",
        "ImageRegressionData": "tasks",
        "ImageRegressor": "tasks",
        "InstanceSegmentation": "tasks",
        "InstanceSegmentationData": "tasks",
        "KeypointDetectionData": "tasks",
        "KeypointDetector": "tasks",
        "ObjectDetectionData": "tasks",
        "ObjectDetector": "tasks",
        "Picture": "modality",
        "PoseEstimator": "tasks",
        "SemanticSegmentation": "tasks",
        "SemanticSegmentationData": "tasks",
        "StyleTransfer": "tasks",
        "StyleTransferData": "tasks",
        "available_transforms": "transforms",
        "load_image": "modality",
    },
)

TASKS = {
    "image_classification": ("ImageClassifier", "ImageClassificationData"),
    "image_embedding": ("ImageEmbedder", "ImageEmbeddingData"),
    "image_regression": ("ImageRegressor", "ImageRegressionData"),
    "semantic_segmentation": ("SemanticSegmentation", "SemanticSegmentationData"),
    "instance_segmentation": ("InstanceSegmentation", "InstanceSegmentationData"),
    "keypoint_detection": ("KeypointDetector", "KeypointDetectionData"),
    "style_transfer": ("StyleTransfer", "StyleTransferData"),
    "face_detection": ("FaceDetector", "FaceDetectionData"),
    "pose_estimation": ("PoseEstimator", "KeypointDetectionData"),
    "object_detection": ("ObjectDetector", "ObjectDetectionData"),
}
"""By name as commands know it, the class of a task and that of its data."""
